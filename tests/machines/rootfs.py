"""Debian's userland and kernel as a directory, made once and kept: what every machine of these tests starts from.

It is as mmdebstrap makes it, less what only makes a boot slower, and with Debian's own units for Open vSwitch masked.
Nothing of ovsxen is in it.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

from tests.conftest import REPOSITORY

CACHE = Path(os.environ.get("MACHINES_CACHE", str(REPOSITORY / "build/cache/machines")))
HERE = Path(__file__).resolve().parent
MADE_WITHIN_S = 900
PACKAGES = (
    "systemd", "systemd-sysv", "udev", "kmod", "iproute2", "iputils-ping", "dbus", "procps", "openssl", "python3",
    "openvswitch-switch", "openvswitch-common")
MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
WITHOUT_WORD = {"bullseye": "--setup-hook=%s/setup00.sh" % MERGED_USR}
"""Suites without a package that says that /usr is merged, which is what the second part of that hook puts in."""

LEFT_OUT = ("man", "doc", "locale", "info")
OWN_UNITS = tuple(name + ".service" for name in (
    "openvswitch-switch", "ovsdb-server", "ovs-vswitchd", "ovs-record-hostname"))
"""Debian's, for Open vSwitch: only the bench ever starts them."""

SLOW_UNITS = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
    "fstrim.timer", "getty@tty1.service", "modprobe@configfs.service", "modprobe@dm_mod.service",
    "modprobe@drm.service", "modprobe@efi_pstore.service", "modprobe@fuse.service", "modprobe@loop.service",
    "proc-sys-fs-binfmt_misc.automount", "proc-sys-fs-binfmt_misc.mount", "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "systemd-binfmt.service", "systemd-firstboot.service",
    "systemd-pstore.service", "systemd-random-seed.service", "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service")
"""systemd-random-seed waits for entropy. systemd-logind stays: `systemctl reboot` asks it."""

GENERATORS = (
    "cryptsetup", "gpt-auto", "hibernate-resume", "integritysetup", "rc-local", "system-update", "veritysetup")
JOURNAL = "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n"


class Rootfs(NamedTuple):
    """A suite's tree; the release of its kernel, which is in the tree too."""

    suite: str
    tree: Path
    release: str

    @property
    def kernel(self) -> Path:
        return self.tree.parent / "vmlinuz"


def make(suite: str) -> Rootfs:
    """The suite's, from the cache where it is there."""
    made = CACHE / ("%s-%s" % (suite, _recipe()[:12]))
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="making-", dir=str(CACHE)) as directory:
            _make(suite, Path(directory) / "made")
            put_in_place(Path(directory) / "made", made)
    return Rootfs(suite, made / "tree", next((made / "tree/lib/modules").iterdir()).name)


def put_in_place(made: Path, where: Path) -> None:
    """Where another has made the same meanwhile, that one stays."""
    try:
        made.rename(where)
    except OSError:
        if not where.exists():
            raise


def _recipe() -> str:
    """Of all that a tree is made by."""
    return hashlib.sha256(Path(__file__).read_bytes() + (HERE / "add-kernel").read_bytes()).hexdigest()


def _make(suite: str, made: Path) -> None:
    made.mkdir()
    tree = made / "tree"
    run(*_mmdebstrap_argv(suite, tree))
    image = next(path for pattern in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz") for path in tree.glob(pattern))
    shutil.copy(str(image), str(made / "vmlinuz"))
    shutil.rmtree(str(tree / "boot"))
    (tree / "boot").mkdir()
    _tailor(tree)


def run(*argv: str) -> None:
    """A command that must succeed."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=MADE_WITHIN_S)
    assert done.returncode == 0, "%s failed with %d:\n%s" % (" ".join(argv), done.returncode, done.stdout[-4000:])


def _mmdebstrap_argv(suite: str, tree: Path) -> List[str]:
    site, keyring = _mirror()
    source = "deb [%s] %s %s main" % ("signed-by=" + keyring if keyring else "", site, suite)
    return ["mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase",
            WITHOUT_WORD.get(suite, "--hook-dir=" + MERGED_USR), "--include=" + ",".join(PACKAGES)] + [
            "--dpkgopt=path-exclude=/usr/share/%s/*" % name for name in LEFT_OUT] + [
            '--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=APT::Install-Recommends "false"',
            "--customize-hook=%s" % (HERE / "add-kernel"), suite, str(tree), source.replace("[] ", "")]


def _mirror() -> Tuple[str, str]:
    """The mirror that this machine is set up for, and its keyring, where it names one."""
    asked = ["apt-get", "indextargets", "--format", "$(SITE)|$(SIGNED_BY)", "Created-By: Packages"]
    sites = subprocess.check_output(asked, universal_newlines=True).splitlines()
    site = next((line for line in sites if "security" not in line), None)
    assert site is not None, "apt knows no mirror of Debian's: look at /etc/apt/sources.list.d"
    uri, _, keyring = site.partition("|")
    return uri, keyring if keyring.startswith("/") else ""


def _tailor(tree: Path) -> None:
    units = tree / "etc/systemd/system"
    for name in OWN_UNITS + SLOW_UNITS:
        link(units / name, "/dev/null")
    for name in GENERATORS:
        link(tree / ("etc/systemd/system-generators/systemd-%s-generator" % name), "/dev/null")
    link(units / "default.target", "/usr/lib/systemd/system/multi-user.target")
    for path, text in _settings().items():
        write(tree / path, text)
    # In Debian's package it is a link into /var; a dom0's is a file.
    for left in (tree / "etc/openvswitch").iterdir():
        left.unlink()


def _settings() -> Dict[str, str]:
    return {"etc/systemd/journald.conf.d/test.conf": JOURNAL, "etc/machine-id": "%032x\n" % 0x0123456789abcdef,
            "etc/hostname": "host\n", "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 host.example host\n",
            "etc/fstab": ""}


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.exists():
        path.unlink()
    path.symlink_to(target)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
