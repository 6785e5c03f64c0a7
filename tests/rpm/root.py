"""An RPM root in a directory: a host's own /etc and /var, and this machine's /usr without its Open vSwitch, for rpm.

/usr is an overlay, so what rpm does to it lands in a directory of the root's own. It is mounted only within the mount
namespace of one command, which also has its own processes and network: when the command ends, whatever it has started
is killed, and a test that is killed leaves no mount. Commands on one root therefore take turns.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import List, Mapping, Tuple

from tests.conftest import Finished

LIMIT_S = 60
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL": "C", "HOME": "/root"}
TOP = ("boot", "dev", "etc", "opt", "proc", "root", "run", "tmp", "usr", "var")
FROM_USR = ("bin", "sbin", "lib", "lib64")
PYTHONS = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")) / "versions"
OF_OPEN_VSWITCH = ("/usr/bin/ov[ns]* /usr/sbin/ov[ns]* /usr/bin/vtep-ctl /usr/local/*bin/ov[ns]* "
                   "/usr/share/openvswitch /usr/lib/systemd/system/ov[ns]* /usr/lib/python3/dist-packages/ovs*")
MACROS = Path(__file__).with_name("macros")

ENTER = """set -e
root=$1 layer=$2 work=$3 pythons=$4; shift 4
mount -t overlay overlay -o "lowerdir=/usr,upperdir=$layer,workdir=$work" "$root/usr"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
over() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}
[ ! -d "$pythons" ] || over "$pythons" "$root$pythons"
while [ "$1" != -- ]; do over "$1" "$root$2"; shift 2; done
shift
ip link set lo up
code=0
"$@" || code=$?
exit $code
"""
"""It stays the first process of its namespace and takes in what others leave behind, as init does."""

Over = Mapping[str, Path]
"""What lies over a path of the root while a command runs, read-only."""


class Root:
    """A host's file system. `path` is its / as it is seen from outside, where /usr is empty; `layer` holds what its
    /usr has beside, or instead of, this machine's.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "root"
        self.layer = directory / "usr"

    def copy(self, directory: Path) -> "Root":
        """One of its own, that shares the files below /usr: rpm and Python only ever put another in a file's place."""
        directory.mkdir()
        subprocess.run(["cp", "-a", "--", str(self.path), str(directory)], check=True)
        subprocess.run(["cp", "-al", "--", str(self.layer), str(directory)], check=True)
        return Root(directory)

    def run(self, *argv: str, over: Over = {}, limit_s: float = LIMIT_S) -> Finished:  # noqa: B006
        """A command, chrooted."""
        return self._enter(("chroot", str(self.path)) + argv, over, limit_s)

    def tell(self, *argv: str) -> str:
        """A command, chrooted, that must succeed; gives what it says."""
        done = self.run(*argv)
        assert done.code == 0, "%s: %r" % (argv, done)
        return done.out.strip()

    def rpm(self, *arguments: str, over: Over = {}, limit_s: float = LIMIT_S) -> Finished:  # noqa: B006
        """This machine's rpm on the root. It chroots its scriptlets."""
        argv = ("rpm", "--load", str(MACROS), "--root", str(self.path)) + arguments
        return self._enter(argv, over, limit_s)

    def transact(self, *arguments: str) -> str:
        """A transaction that must succeed, with no scriptlet failing; gives what was said on the way."""
        done = self.rpm(*arguments)
        assert done.code == 0 and "scriptlet failed" not in done.err, "rpm %s: %r" % (arguments, done)
        return done.out + done.err

    def installed(self) -> List[str]:
        return sorted(self.rpm("-qa").out.split())

    def changed_files(self, package: str) -> List[str]:
        """What rpm finds changed of a package's files, as `rpm -V` says it."""
        return self.rpm("-V", package).out.splitlines()

    def has(self, path: str) -> bool:
        """Whether there is something at a path, be it a link that leads nowhere."""
        return self.run("test", "-e", path, "-o", "-L", path).code == 0

    def read(self, path: str) -> str:
        return self.tell("cat", path)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file outside /usr."""
        assert not path.startswith("/usr/"), path
        there = self.path / path[1:]
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text)
        there.chmod(mode)

    def _enter(self, argv: Tuple[str, ...], over: Over, limit_s: float) -> Finished:
        work = self.directory / "work"
        work.mkdir(exist_ok=True)
        alone = ("unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "--", "sh", "-c", ENTER,
                 "sh", str(self.path), str(self.layer), str(work), str(PYTHONS))
        binds = tuple(word for path, source in over.items() for word in (str(source), path))
        return Finished(subprocess.run(
            alone + binds + ("--",) + argv, env=ENVIRONMENT, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, universal_newlines=True, errors="replace", timeout=limit_s))


def make_root(directory: Path) -> Root:
    """A root with nothing installed."""
    root = Root(directory)
    for name in TOP:
        (root.path / name).mkdir(parents=True)
    root.layer.mkdir()
    for name in FROM_USR:
        (root.path / name).symlink_to("usr/" + name)
    (root.path / "tmp").chmod(0o1777)
    (root.path / str(PYTHONS)[1:]).mkdir(parents=True)
    _make_var(root.path / "var")
    _make_etc(root.path / "etc")
    _leave_out_open_vswitch(root)
    assert root.rpm("--initdb").code == 0
    return root


def _make_var(var: Path) -> None:
    for name in ("lib/rpm", "lib/xcp", "log", "tmp", "cache", "spool"):
        (var / name).mkdir(parents=True)
    (var / "tmp").chmod(0o1777)
    (var / "run").symlink_to("../run")
    (var / "lock").symlink_to("../run/lock")


def _make_etc(etc: Path) -> None:
    """What programs of this machine want, and no more."""
    texts = {"passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
             "group": "root:x:0:\nnogroup:x:65534:\n", "hosts": "127.0.0.1 localhost\n",
             "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n", "machine-id": "%032x\n" % 0x5eed,
             "hostname": "xs\n"}
    for name, text in texts.items():
        (etc / name).write_text(text)
    shutil.copy("/etc/ld.so.cache", str(etc / "ld.so.cache"))
    (etc / "ssl").mkdir()
    shutil.copy("/etc/ssl/openssl.cnf", str(etc / "ssl"))
    (etc / "alternatives").mkdir()
    for name in ("awk", "which"):
        shutil.copy("/etc/alternatives/" + name, str(etc / "alternatives"), follow_symlinks=False)


def _leave_out_open_vswitch(root: Root) -> None:
    """Nothing of this machine's Open vSwitch may stand in for what a package brings."""
    said = subprocess.run(["dpkg-query", "-W", "-f", "${Package}\n", "*openvswitch*"], stdout=subprocess.PIPE,
                          universal_newlines=True, check=True).stdout
    listed = subprocess.run(["dpkg", "-L"] + said.split(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            universal_newlines=True).stdout.split("\n")
    files = sorted({os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path) for path in listed
                    if path.startswith("/") and not os.path.isdir(path) and os.path.lexists(path)})
    doomed = [path for path in files if path.startswith("/usr/") and not path.startswith("/usr/src/")]
    root.tell("sh", "-c", 'rm -rf -- "$@"; rm -rf %s' % OF_OPEN_VSWITCH, "sh", *doomed)
    left = root.tell("sh", "-c", "ls -d %s 2>/dev/null || :" % OF_OPEN_VSWITCH)
    assert left == ""
