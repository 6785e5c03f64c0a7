"""Debian's kernel, fetched and never installed, and its modules beside those of the RPM."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Iterable, List

from tests.conftest import LIMIT_S, REPOSITORY

CACHE = Path(os.environ.get("RPM_CACHE", str(REPOSITORY / "build/cache")))
PARTS = ("./boot/vmlinuz-*", "./lib/modules/*/modules.*") + tuple("./lib/modules/*/kernel/" + path for path in (
    "net/*", "lib/*", "crypto/*", "arch/*", "drivers/net/vxlan/*", "drivers/net/geneve.ko*", "drivers/net/veth.ko*",
    "drivers/virtio/*", "drivers/block/virtio_blk.ko*", "fs/ext4/*", "fs/jbd2/*", "fs/mbcache.ko*"))
DOWNLOAD = """
apt-cache show "$1" >/dev/null 2>&1 || apt-get -qq update
apt-get -qq -o APT::Sandbox::User=root download "$1" || {
    echo "Debian has gone on to another kernel than the one that was built for: remove %s/kernel, run make rpm" >&2
    exit 1
}""" % CACHE
LISTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
OWN = "kernel/net/openvswitch"
BUILD_ID = ".note.gnu.build-id"
VERSIONS = "__versions"
VERSION_BYTES = 64
"""The kernel's struct modversion_info: a checksum of eight bytes, and the name of the symbol that it is of."""


def run(*argv: str, cwd: Path = REPOSITORY) -> str:
    """A command that must succeed; gives what it says."""
    done = subprocess.run(argv, cwd=str(cwd), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=LIMIT_S)
    assert done.returncode == 0, "%s: %s%s" % (argv, done.stdout, done.stderr)
    return done.stdout


def shell(command: str, *arguments: str, cwd: Path) -> None:
    """Lines for a shell in which no command may fail; $1 and so on are the arguments."""
    run("bash", "-c", "set -e -o pipefail; " + command, "bash", *arguments, cwd=cwd)


def fetch(release: str) -> Path:
    """The kernel, the modules that Open vSwitch's may need, and those of a virtual disk and its file system; kept
    beside the headers that the first were built with.
    """
    kernel = CACHE / ("image-%s-%s" % (release, hashlib.sha256(" ".join(PARTS).encode()).hexdigest()[:12]))
    if not kernel.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=str(CACHE)) as made:
            download(Path(made), release)
            os.rename(made + "/image", str(kernel))
    return kernel


def download(made: Path, release: str) -> None:
    """Into its directory `image`, with an index of the modules, none of which is packed."""
    (made / "image").mkdir()
    shell(DOWNLOAD, "linux-image-" + release, cwd=made)
    shell('dpkg-deb --fsys-tarfile ../*.deb | tar --extract --wildcards "$@"; find . -name "*.ko.xz" -exec xz -d {} +',
         *PARTS, cwd=made / "image")
    run("depmod", "--basedir", str(made / "image"), release)


def copy_modules(kernel: Path, release: str, ours: Iterable[Path], to: Path) -> None:
    """The kernel's own modules of Open vSwitch, veth, and what any of these or `ours` needs, to a /lib/modules.

    Without an index: to make it is depmod's part.
    """
    modules = kernel / "lib/modules" / release
    own = [path.stem for path in sorted((modules / OWN).glob("*.ko"))]
    needed = re.split(r"[,\n]", "".join(run("modinfo", "--field", "depends", str(path)) for path in ours))
    listed = run("modprobe", "--dirname", str(kernel), "--set-version", release, "--show-depends", "--all", "veth",
                 *own + [name for name in needed if name])
    for path in read_paths(listed) + [modules / name for name in LISTS]:
        copy = to / release / path.relative_to(modules)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(path), str(copy))


def read_paths(listed: str) -> List[Path]:
    """The files in the answer of `modprobe --show-depends`; what is built in has none."""
    return [Path(path) for path in re.findall(r"^insmod (\S+)", listed, re.MULTILINE)]


def read_build_id(module: Path) -> str:
    """The whole note, as the kernel shows it in /sys, in hexadecimal."""
    with tempfile.NamedTemporaryFile() as note:
        run("objcopy", "--output-target=binary", "--only-section=" + BUILD_ID, str(module), note.name)
        return Path(note.name).read_bytes().hex()


def make_foreign(module: Path, foreign: Path) -> None:
    """The module as another kernel's headers would have made it: with another checksum of what a module is.

    Where modules have checksums, the kernel's release in the module does not count.
    """
    with tempfile.NamedTemporaryFile() as section:
        run("objcopy", "--dump-section=%s=%s" % (VERSIONS, section.name), str(module), "/dev/null")
        versions = bytearray(Path(section.name).read_bytes())
        versions[versions.index(b"module_layout\0") // VERSION_BYTES * VERSION_BYTES] ^= 1
        Path(section.name).write_bytes(versions)
        run("objcopy", "--update-section=%s=%s" % (VERSIONS, section.name), str(module), str(foreign))
