"""The units under a real systemd: a container that has this machine's programs, and the /etc, /var and /run of a host.

The kernel is this machine's, and the container cannot load a module, so the datapath is a dummy, as in a sandbox.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Iterator, List, Tuple

import pytest

from ovsxen.host.clock import Deadline
from ovsxen.host.proc import OF_THE_SERVICE
from ovsxen.host.systemd import SYNC_UNIT
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, XAPI_SYNC
from ovsxen.sandbox import contents, sandbox
from tests.conftest import LIMIT_S, REPOSITORY, Finished

UNIT = "openvswitch.service"
DAEMONS = (OVSDB_SERVER, VSWITCHD)
DROP_IN = "run/systemd/system/%s.d/test.conf"
POWER_OFF = signal.SIGRTMIN + 4  # systemd(1)
WORLD = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL": "C"}


class Container:
    """A booted container, and one of its units. `root` is its file system as it is seen from outside; process ids are
    its own.
    """

    def __init__(self, leader: int, unit: str = UNIT) -> None:
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
        return self.run("journalctl", "--no-pager", "--unit", UNIT, "--unit", SYNC_UNIT).out

    def systemctl(self, verb: str, *options: str) -> str:
        return self.tell("systemctl", verb, self.unit, *options)

    def property(self, name: str) -> str:
        return self.systemctl("show", "--property", name, "--value")

    def switch_pids(self) -> Tuple[List[str], ...]:
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
    for unit in (UNIT, SYNC_UNIT):
        write(root / "etc/systemd/system" / unit, (REPOSITORY / "initscripts" / unit).read_text())


def make_layer(layer: Path) -> None:
    """What is put over this machine's /usr: the command, and a kernel that has Open vSwitch built in."""
    command = '#!/bin/sh\nPYTHONPATH=%s exec %s -m ovsxen "$@"\n' % (REPOSITORY, sys.executable)
    write(layer / "bin/ovsxen", command, 0o755)
    write(layer / "lib/modules" / platform.release() / "modules.builtin", "kernel/net/openvswitch/openvswitch.ko\n")


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


def container_argv(root: Path, layer: Path) -> List[str]:
    """/etc/alternatives, because Debian's ovs-vswitchd is a link to there."""
    needed = {"/etc/alternatives", str(REPOSITORY), sys.prefix, sys.base_prefix}
    binds = ["--bind-ro=%s" % path for path in sorted(needed) if not (path + "/").startswith("/usr/")]
    return ["systemd-nspawn", "--quiet", "--directory=%s" % root, "--machine=oxc-%d" % os.getpid(), "--boot",
            "--register=no", "--keep-unit", "--private-network", "--resolv-conf=off", "--timezone=off",
            "--link-journal=no", "--console=pipe", "--overlay-ro=/usr:%s:/usr" % layer] + binds + [
                "--", "systemd.unit=basic.target"]


def find_leader(nspawn: int) -> int:
    """The process id of the container's systemd; 0 while there is none."""
    try:
        children = Path("/proc/%d/task/%d/children" % (nspawn, nspawn)).read_text().split()
        return next((int(pid) for pid in children if Path("/proc/%s/comm" % pid).read_text() == "systemd\n"), 0)
    except OSError:
        return 0


def start_container(base: Path, groups: Tuple[Path, ...]) -> "subprocess.Popen[bytes]":
    def join() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text("0")

    environment = dict(WORLD, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1")
    with (base / "said").open("wb") as said:
        return subprocess.Popen(container_argv(base / "root", base / "layer"), preexec_fn=join, env=environment,
                                stdin=subprocess.DEVNULL, stdout=said, stderr=said)


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
        os.kill(leader, signal.SIGKILL)
        nspawn.wait()


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    if os.geteuid() != 0:
        pytest.skip("only root can run a container")
    base = Path(tempfile.mkdtemp(prefix="oxc-", dir="/tmp"))
    make_root(base / "root")
    make_layer(base / "layer")
    groups = make_cgroups(base.name)
    nspawn = start_container(base, groups)
    try:
        deadline = Deadline(LIMIT_S)
        deadline.wait_until(lambda: find_leader(nspawn.pid) != 0 or nspawn.poll() is not None)
        booted = Container(find_leader(nspawn.pid))
        assert booted.leader and deadline.wait_until(
            lambda: booted.run("systemctl", "is-system-running").out in ("running\n", "degraded\n"), every_s=0.05), (
                (base / "said").read_text())
        yield booted
    finally:
        end_container(nspawn)
        remove_cgroups(groups)
        shutil.rmtree(str(base))


@pytest.fixture
def unit(container: Container) -> Iterator[Container]:
    """The container with the unit as it is installed, stopped; what a test changes of it is gone afterwards."""
    container.change_unit()
    yield container
    container.write("etc/xensource/network.conf", "vswitch\n")
    container.write("etc/sysconfig/openvswitch", contents.SYSCONFIG)
    container.change_unit()
    container.run("systemctl", "stop", UNIT)
    container.tell("ovsxen", "stop")  # what a failed start has left up is not systemd's to stop
    container.run("systemctl", "reset-failed", UNIT)
    assert container.switch_pids() == ([], [])


@pytest.fixture
def started(unit: Container) -> Container:
    unit.systemctl("start")
    return unit


def test_the_unit_is_active_when_the_switch_is_configured_and_not_before(unit: Container) -> None:
    unit.write("run/held/ovs-vswitchd", "#!/bin/sh\n: >/run/held/asked\n"
               'while [ ! -e /run/held/go ]; do sleep 0.05; done\nexec /usr/sbin/ovs-vswitchd "$@"\n', 0o755)
    unit.change_unit("Environment=PATH=/run/held:%s" % WORLD["PATH"])
    unit.systemctl("start", "--no-block")
    unit.wait_until((unit.root / "run/held/asked").exists)
    assert unit.property("ActiveState") == "activating"

    unit.write("run/held/go", "")
    unit.wait_until(lambda: unit.property("ActiveState") == "active")
    row = ("get", "Open_vSwitch", ".")
    assert unit.vsctl(*row, "cur_cfg") == unit.vsctl(*row, "next_cfg")
    boot_id = unit.tell("cat", "/proc/sys/kernel/random/boot_id")
    assert unit.vsctl(*row, "external_ids:ovsxen-boot-id").strip('"') == boot_id
    assert unit.vsctl("list-br") == ""


def test_the_units_process_is_the_daemon_and_says_how_the_switch_is(started: Container) -> None:
    main = started.property("MainPID")
    assert started.tell("cat", "/proc/%s/cmdline" % main).split("\0")[-2:] == ["daemon", ""]
    assert started.property("StatusText")
    assert started.run("ovsxen", "status").code == 0


def test_only_the_daemon_itself_can_speak_to_systemd(started: Container) -> None:
    for pid in [pid for pids in started.switch_pids() for pid in pids]:
        inherited = {word.partition("=")[0] for word in started.tell("cat", "/proc/%s/environ" % pid).split("\0")}
        assert "PATH" in inherited
        assert not inherited & set(OF_THE_SERVICE)


def test_a_daemon_that_is_killed_is_followed_by_one_that_adopts_the_switch(started: Container) -> None:
    main, switch = started.property("MainPID"), started.switch_pids()
    started.systemctl("kill", "--kill-who=main", "--signal=KILL")
    started.wait_for_another(main)
    assert started.switch_pids() == switch


def test_a_daemon_that_hangs_is_killed_and_the_next_one_adopts_the_switch(unit: Container) -> None:
    unit.change_unit("WatchdogSec=2")
    unit.systemctl("start")
    main, switch = unit.property("MainPID"), unit.switch_pids()
    unit.systemctl("kill", "--kill-who=main", "--signal=STOP")
    unit.wait_for_another(main)
    assert "Watchdog timeout" in unit.journal()
    assert unit.switch_pids() == switch


def test_a_reload_reads_the_settings_and_interrupts_nothing(started: Container) -> None:
    before = started.property("MainPID"), started.switch_pids()
    settings = contents.SYSCONFIG.replace("=override", "=override --external-id=rack=7")
    started.write("etc/sysconfig/openvswitch", settings)
    started.systemctl("reload")
    assert started.vsctl("get", "Open_vSwitch", ".", "external_ids:rack") == '"7"'
    started.wait_until(lambda: started.property("ActiveState") == "active")
    assert (started.property("MainPID"), started.switch_pids()) == before


def test_a_stop_ends_the_switch_before_its_database_and_then_the_daemon(started: Container) -> None:
    log = started.root / "var/log/openvswitch/ovs-vswitchd.log"
    before = log.read_text()
    started.systemctl("stop")
    assert started.switch_pids() == ([], [])
    assert started.property("MainPID") == "0"
    assert (started.property("ActiveState"), started.property("Result")) == ("inactive", "success")
    assert "connection closed" not in log.read_text()[len(before):]  # its database went after it


def test_what_ovsxen_stops_systemd_does_not_start_again(started: Container) -> None:
    started.tell("ovsxen", "stop")
    started.wait_until(lambda: started.property("ActiveState") == "inactive")
    assert (started.property("Result"), started.property("NRestarts")) == ("success", "0")
    assert started.switch_pids() == ([], [])


def test_a_start_that_fails_says_why_and_is_tried_again(unit: Container) -> None:
    unit.change_unit("RestartSec=2", "Environment=OVS_PKGDATADIR=/nowhere")
    assert unit.run("systemctl", "start", UNIT).code != 0
    assert unit.property("Result") == "exit-code"
    assert "/nowhere/vswitch.ovsschema" in unit.run("systemctl", "status", UNIT).out
    unit.change_unit()
    unit.wait_until(lambda: unit.property("ActiveState") == "active")


def test_in_bridge_mode_a_start_succeeds_and_nothing_runs(unit: Container) -> None:
    unit.write("etc/xensource/network.conf", "bridge\n")
    unit.systemctl("start")
    unit.wait_until(lambda: unit.property("ActiveState") == "inactive")
    assert (unit.property("Result"), unit.property("NRestarts")) == ("success", "0")
    assert unit.switch_pids() == ([], [])


@pytest.fixture
def deaf(unit: Container) -> Container:
    """The unit with a program that takes no signal, as the daemon when it begins, and when it hangs."""
    unit.change_unit("Type=simple", "ExecStart=", "ExecStart=/usr/bin/sleep 1000", "IgnoreSIGPIPE=no")
    unit.systemctl("start")
    return unit


@pytest.mark.parametrize("name", ["HUP", "INT", "PIPE", "ABRT", "SEGV"])
def test_a_daemon_that_a_signal_ends_is_followed_by_another(deaf: Container, name: str) -> None:
    main = deaf.property("MainPID")
    deaf.systemctl("kill", "--kill-who=main", "--signal=%s" % name)
    deaf.wait_for_another(main)
    assert deaf.property("NRestarts") == "1"


def test_the_signal_for_a_daemon_that_hangs_ends_it_for_good(deaf: Container) -> None:
    deaf.systemctl("kill", "--kill-who=main", "--signal=USR2")
    deaf.wait_until(lambda: deaf.property("ActiveState") == "inactive")
    assert (deaf.property("Result"), deaf.property("NRestarts")) == ("success", "0")


def test_ovsxen_stops_a_daemon_that_hangs_and_systemd_starts_no_other(started: Container) -> None:
    started.systemctl("kill", "--kill-who=main", "--signal=STOP")
    started.tell("ovsxen", "stop")
    started.wait_until(lambda: started.property("ActiveState") == "inactive")
    assert (started.property("Result"), started.property("NRestarts")) == ("success", "0")
    assert started.switch_pids() == ([], [])


def test_a_storm_of_reloads_costs_no_daemon(started: Container) -> None:
    before = started.property("MainPID"), started.switch_pids()
    started.tell("sh", "-c", "for _ in $(seq 500); do kill -HUP %s; sleep 0.001; done" % before[0])
    started.wait_until(lambda: started.property("ActiveState") == "active")
    assert (started.property("MainPID"), started.switch_pids()) == before
    assert started.property("NRestarts") == "0"


# The sync


@pytest.fixture
def sync(unit: Container) -> Iterator[Container]:
    """The unit of the sync, as it is installed, stopped."""
    made = Container(unit.leader, SYNC_UNIT)
    made.change_unit()
    yield made
    made.change_unit()
    made.run("systemctl", "stop", SYNC_UNIT)
    made.run("systemctl", "reset-failed", SYNC_UNIT)
    assert sync_pids(made) == []


@pytest.fixture
def syncing(sync: Container) -> Container:
    """With a switch that runs."""
    Container(sync.leader).systemctl("start")
    sync.systemctl("start")
    return sync


def sync_pids(container: Container) -> List[str]:
    """As the kernel has their names; pidof(8) looks at command lines."""
    found = []
    for comm in (container.root / "proc").glob("[0-9]*/comm"):
        try:
            found += [comm.parent.name] if comm.read_text() == XAPI_SYNC + "\n" else []
        except OSError:
            pass  # it has ended
    return found


def listed(container: Container) -> List[str]:
    """What the sync keeps, by its own word."""
    return container.tell("ovs-appctl", "--target=%s" % XAPI_SYNC, "list").splitlines()


def test_a_sync_is_active_when_it_answers(syncing: Container) -> None:
    assert syncing.property("ActiveState") == "active"
    assert listed(syncing) == []
    assert sync_pids(syncing) == [syncing.property("MainPID")]
    assert syncing.property("StatusText")


def test_a_reload_of_a_sync_flushes_what_it_knows(syncing: Container) -> None:
    before = syncing.property("MainPID")
    syncing.systemctl("reload")
    assert "what was known of XAPI is read anew" in syncing.journal()
    assert (syncing.property("ActiveState"), syncing.property("MainPID")) == ("active", before)


def test_a_sync_stops_in_order(syncing: Container) -> None:
    syncing.systemctl("stop")
    assert (syncing.property("ActiveState"), syncing.property("Result")) == ("inactive", "success")
    assert not list((syncing.root / "run/openvswitch").glob("%s*" % XAPI_SYNC))
    assert Container(syncing.leader).property("ActiveState") == "active"


def test_a_sync_that_ovsxen_or_its_control_socket_ends_is_not_started_again(syncing: Container) -> None:
    for argv in (("ovsxen", "sync", "--stop"), ("ovs-appctl", "--target=%s" % XAPI_SYNC, "exit")):
        syncing.tell(*argv)
        syncing.wait_until(lambda: syncing.property("ActiveState") == "inactive")
        assert (syncing.property("Result"), syncing.property("NRestarts")) == ("success", "0")
        syncing.systemctl("start")


def test_a_sync_that_is_killed_is_followed_by_another_and_by_no_switch(sync: Container) -> None:
    sync.systemctl("start")
    main = sync.property("MainPID")
    sync.systemctl("kill", "--kill-who=main", "--signal=KILL")
    sync.wait_for_another(main)
    assert listed(sync) == []
    assert Container(sync.leader).property("ActiveState") == "inactive"


def test_a_sync_that_hangs_is_followed_by_another(sync: Container) -> None:
    sync.change_unit("WatchdogSec=2")
    sync.systemctl("start")
    main = sync.property("MainPID")
    sync.systemctl("kill", "--kill-who=main", "--signal=STOP")
    sync.wait_for_another(main)
    assert "Watchdog timeout" in sync.journal()


def test_a_sync_without_xapi_and_without_a_database_tells_the_watchdog_that_it_goes_on(sync: Container) -> None:
    sync.change_unit("WatchdogSec=4")
    sync.systemctl("start")
    main, beats = sync.property("MainPID"), set()

    def has_beaten() -> bool:
        beats.add(sync.property("WatchdogTimestampMonotonic"))
        return len(beats) > 3

    sync.wait_until(has_beaten)
    assert (sync.property("MainPID"), sync.property("NRestarts")) == (main, "0")


def test_a_sync_outlives_the_switch_and_takes_it_up_again(syncing: Container) -> None:
    main, switch = syncing.property("MainPID"), Container(syncing.leader)
    switch.systemctl("stop")
    assert (syncing.property("ActiveState"), syncing.property("MainPID")) == ("active", main)
    switch.systemctl("start")
    switch.vsctl("add-br", "xenbr0", "--", "br-set-external-id", "xenbr0", "xs-network-uuids", "a-uuid")
    try:
        syncing.wait_until(lambda: listed(syncing) == ["Bridge xenbr0 bridge-id=a-uuid", "Interface xenbr0 -"])
        assert syncing.property("MainPID") == main
    finally:
        switch.vsctl("del-br", "xenbr0")


def test_a_sync_ends_in_bridge_mode_and_that_is_success(sync: Container) -> None:
    sync.write("etc/xensource/network.conf", "bridge\n")
    sync.systemctl("start")
    sync.wait_until(lambda: sync.property("ActiveState") == "inactive")
    assert (sync.property("Result"), sync.property("NRestarts")) == ("success", "0")
