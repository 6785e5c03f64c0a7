"""A container with a real systemd: this machine's programs, and the /etc, /var and /run of a host.

The kernel is this machine's, and the container cannot load a module, so the datapath is a dummy, as in a sandbox.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

import pytest

from ovsxen.host.clock import Deadline
from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.sandbox import sandbox
from tests.conftest import LIMIT_S, REPOSITORY, Finished

DAEMONS = (OVSDB_SERVER, VSWITCHD)
DROP_IN = "run/systemd/system/%s.d/test.conf"
POWER_OFF = signal.SIGRTMIN + 4  # systemd(1)
WORLD = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL": "C"}


class Container:
    """A booted container, and one of its units. `root` is its file system as it is seen from outside; process ids are
    its own.
    """

    def __init__(self, leader: int, unit: str = SWITCH_UNIT) -> None:
        self.leader = leader
        self.unit = unit
        self.root = Path("/proc/%d/root" % leader)

    def run(self, *argv: str) -> Finished:
        enter = ("nsenter", "--target=%d" % self.leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--root")
        return Finished(subprocess.run(enter + argv, env=WORLD, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, universal_newlines=True, timeout=LIMIT_S))

    def tell(self, *argv: str) -> str:
        """A command that must succeed; gives what it says."""
        done = self.run(*argv)
        assert done.code == 0, "%s: %r\n%s" % (argv, done, self.journal())
        return done.out.strip()

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "--unit", SWITCH_UNIT, "--unit", SYNC_UNIT).out

    def systemctl(self, verb: str, *options: str) -> str:
        return self.tell("systemctl", verb, self.unit, *options)

    def property(self, name: str) -> str:
        return self.systemctl("show", "--property", name, "--value")

    def daemons(self) -> Tuple[List[str], ...]:
        """Process ids of the switch itself, by pidfile; Open vSwitch's monitors are not among them."""
        return tuple(self.tell("cat", "/run/openvswitch/%s.pid" % name).split() for name in DAEMONS)

    def switch_pids(self) -> Tuple[List[str], ...]:
        """The same by name, monitors included."""
        return tuple(self.run("pidof", name).out.split() for name in DAEMONS)

    def vsctl(self, *arguments: str) -> str:
        return self.tell("ovs-vsctl", "--timeout=20", "--no-wait", *arguments)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        write(self.root / path, text, mode)

    def change_unit(self, *lines: str) -> None:
        """Add lines to the unit's [Service] section, in the place of those that were added before.

        The daemon is started again sooner than after the unit's own two seconds, unless they say otherwise.
        """
        self.write(DROP_IN % self.unit, "[Service]\nRestartSec=100ms\n%s\n" % "\n".join(lines))
        self.tell("systemctl", "daemon-reload")

    def wait_until(self, holds: Callable[[], bool]) -> None:
        assert Deadline(LIMIT_S).wait_until(holds, every_s=0.05), self.journal()

    def wait_booted(self) -> str:
        """Until its systemd has no job left: "running" or "degraded", or "" past the limit."""
        def look() -> Optional[str]:
            state = self.run("systemctl", "is-system-running").out.strip()
            return state if state in ("running", "degraded") else None

        return Deadline(LIMIT_S).wait_for(look, every_s=0.05) or ""

    def wait_for_another(self, pid: str) -> None:
        """Wait until systemd has started another daemon than `pid`, and has heard that it is ready."""
        self.wait_until(lambda: self.property("MainPID") not in (pid, "0") and self.property("ActiveState") == "active")


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def make_root(root: Path) -> None:
    """The file system of a host that was up before, with the units installed; /usr is mounted later."""
    sandbox.make(root, stale_bridges=3)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to("usr/" + name)
    (root / "usr").mkdir()
    shutil.copy("/etc/os-release", str(root / "etc/os-release"))
    for unit in (SWITCH_UNIT, SYNC_UNIT):
        write(root / "etc/systemd/system" / unit, (REPOSITORY / "initscripts" / unit).read_text())


def make_layer(layer: Path) -> None:
    """What is put over this machine's /usr: the command, and a kernel that has Open vSwitch built in."""
    command = '#!/bin/sh\nPYTHONPATH=%s exec %s -m ovsxen "$@"\n' % (REPOSITORY, sys.executable)
    write(layer / "bin/ovsxen", command, 0o755)
    build_module_in(layer)


def build_module_in(usr: Path) -> None:
    """Have the kernel's own list in a /usr say that this machine's kernel has Open vSwitch."""
    write(usr / "lib/modules" / platform.release() / "modules.builtin", "kernel/net/openvswitch/openvswitch.ko\n")


def make_cgroups(name: str) -> Tuple[Path, ...]:
    """A group in every hierarchy that a systemd uses. Two systemds in one group would end each other's services."""
    made = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        where, _, what = line.partition(" - ")
        kind, _, options = what.split(" ", 2)
        if kind == "cgroup2" or "name=systemd" in options.split(","):
            made.append(Path(where.split()[4]) / name)
            made[-1].mkdir()
    return tuple(made)


def remove_cgroups(groups: Tuple[Path, ...]) -> None:
    for group in groups:
        for directory, _, _ in os.walk(str(group), topdown=False):
            os.rmdir(directory)


def nspawn_argv(root: Path, name: str, *options: str) -> List[str]:
    """What `options` leave open is as in any container of ours; what its systemd is to know of comes after "--"."""
    return ["systemd-nspawn", "--quiet", "--directory=%s" % root, "--machine=%s" % name, "--boot", "--register=no",
            "--keep-unit", "--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no"
            ] + list(options)


def container_argv(root: Path, usr: str) -> List[str]:
    """`usr`: the option that lays something over this machine's /usr. /etc/alternatives, because Debian's ovs-vswitchd
    is a link to there.
    """
    needed = {"/etc/alternatives", str(REPOSITORY), sys.prefix, sys.base_prefix}
    binds = ["--bind-ro=%s" % path for path in sorted(needed) if not (path + "/").startswith("/usr/")]
    return nspawn_argv(root, own_name(), "--console=pipe", usr, *(binds + ["--", "systemd.unit=basic.target"]))


def own_name() -> str:
    return "oxc-%d" % os.getpid()


def find_leader(nspawn: int) -> int:
    """The process id of the container's systemd; 0 while there is none."""
    try:
        children = Path("/proc/%d/task/%d/children" % (nspawn, nspawn)).read_text().split()
        return next((int(pid) for pid in children if Path("/proc/%s/comm" % pid).read_text() == "systemd\n"), 0)
    except OSError:
        return 0


def wait_for_leader(nspawn: "subprocess.Popen[bytes]", said: Path) -> Container:
    """The container, as soon as its systemd runs."""
    Deadline(LIMIT_S).wait_until(lambda: find_leader(nspawn.pid) != 0 or nspawn.poll() is not None)
    leader = find_leader(nspawn.pid)
    assert leader, said.read_text(errors="replace")
    return Container(leader)


def start_container(argv: List[str], said: Path, groups: Tuple[Path, ...]) -> "subprocess.Popen[bytes]":
    def join() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text("0")

    environment = dict(WORLD, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1")
    with said.open("wb") as output:
        return subprocess.Popen(argv, preexec_fn=join, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=output)


def end_container(nspawn: "subprocess.Popen[bytes]") -> None:
    """Power it off; past the limit all that is in it is killed with its systemd, and so it is before that runs."""
    leader = find_leader(nspawn.pid)
    if leader:
        os.kill(leader, POWER_OFF)
    else:
        nspawn.kill()
    try:
        nspawn.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        kill_container(nspawn)


def kill_container(nspawn: "subprocess.Popen[bytes]") -> None:
    """With its systemd all that is in it is killed, at once."""
    leader = find_leader(nspawn.pid)
    if leader:
        os.kill(leader, signal.SIGKILL)
    else:
        nspawn.kill()
    nspawn.wait()


@contextmanager
def running(argv: List[str], said: Path) -> Iterator[Container]:
    """A container that is up until the end of the block; what it says on its console goes to `said`."""
    groups = make_cgroups(own_name())
    nspawn = start_container(argv, said, groups)
    try:
        made = wait_for_leader(nspawn, said)
        assert made.wait_booted(), said.read_text()
        yield made
    finally:
        end_container(nspawn)
        remove_cgroups(groups)


@contextmanager
def booted() -> Iterator[Container]:
    """One with a host of the sandbox's; nothing of it is left at the end of the block."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a container")
    base = Path(tempfile.mkdtemp(prefix="oxc-", dir="/tmp"))
    try:
        make_root(base / "root")
        make_layer(base / "layer")
        argv = container_argv(base / "root", "--overlay-ro=/usr:%s:/usr" % (base / "layer"))
        with running(argv, base / "said") as container:
            yield container
    finally:
        shutil.rmtree(str(base))
