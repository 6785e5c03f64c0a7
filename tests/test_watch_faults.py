"""A sick host while `ovsxen daemon` watches: what can come back does, what is no fault of the switch kills nothing, and
`ovsxen status` says what is wrong.
"""

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

import pytest

from ovsxen.host import process
from ovsxen.host.clock import Deadline
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from tests.conftest import LIMIT_S, SandboxHost
from tests.test_faults import fill, mount
from tests.watching import BOTH, IMPATIENT, eventually, is_still_watched, is_well, regardless_of_state, runs, watch

RESTLESS = ("OVSXEN_RESTART_LIMIT=2", "OVSXEN_REST=1")
A_TICK_S = 1.2
"""Within it, the daemon looks: then it sees that another works on the switch, and when that ends asks both at once."""

A_LOOK_S = 2.5
"""Longer than it needs to see a death and to act."""

HUNG_S = 3.5
"""Longer than it needs to ask, to miss the answer, to take that for a hang, and to act."""


def never(holds: Callable[[], bool], within_s: float = A_LOOK_S) -> bool:
    """It does not come to that, for as long as the daemon would need."""
    return not eventually(holds, within_s)


def nobody_else(host: SandboxHost) -> process.HeldLock:
    """The turn, so that the daemon keeps its hands off."""
    turn = Deadline(30).wait_for(lambda: process.try_lock(host.paths.turn), every_s=0.02)
    assert turn is not None
    return turn


def watch_restlessly(host: SandboxHost, *settings: str) -> Process:
    """Have the host watched, with one bridge; gives the daemon that does."""
    watching = watch(host, *RESTLESS + settings)
    host.vsctl("del-manager", "--", "add-br", "xenbr7")
    return watching


def running(host: SandboxHost) -> Dict[str, Process]:
    """Both daemons of Open vSwitch."""
    found = {name: daemons.find(host.paths, name).process for name in BOTH}
    assert all(found.values()), found
    return {name: regardless_of_state(one) for name, one in found.items() if one}


def says(host: SandboxHost, text: str) -> bool:
    """`ovsxen status` has it among what is wrong."""
    return any(text in problem for problem in host.status()["problems"])


# No room


@pytest.fixture
def mounts(host: SandboxHost) -> Iterator[List[Path]]:
    """Mounts to be taken away at the end, after the processes that use them."""
    mounted: List[Path] = []
    yield mounted
    host.kill_daemons()
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_on_full_disks_both_come_back_and_all_is_well_when_there_is_room(host: SandboxHost, mounts: List[Path]) -> None:
    """A dead daemon's remains leave room for a pidfile, and a good conf.db needs none."""
    places = (host.paths.rundir, host.paths.logdir, host.paths.dbdir)
    for place in places:
        mount(place, mounts, 512)
    watching = watch_restlessly(host)
    fillers = [fill(place) for place in places]
    for name in reversed(BOTH):
        host.signal(name, signal.SIGKILL)
        assert eventually(lambda name=name: runs(host, name)), host.status()  # type: ignore[misc]
        assert host.vsctl("list-br") == "xenbr7"  # waits for ovs-vswitchd
    for filler in fillers:
        filler.unlink()
    assert eventually(lambda: is_well(host)), host.status()
    assert is_still_watched(host, watching)


def test_without_room_for_pidfiles_the_switch_is_down_until_there_is_some(
        host: SandboxHost, mounts: List[Path]) -> None:
    mount(host.paths.rundir, mounts, 512)
    watching = watch_restlessly(host)
    with nobody_else(host):
        for name in BOTH:
            host.signal(name, signal.SIGKILL)
            host.paths.pidfile(name).unlink()
        filler = fill(host.paths.rundir)
    assert never(lambda: any(runs(host, name) for name in BOTH))
    assert host.status()["verdict"] in ("dead", "stopped") and not process.has_ended(watching)
    filler.unlink()
    assert eventually(lambda: is_well(host)), host.status()
    assert host.bridges() == ["xenbr7"] and is_still_watched(host, watching)


def test_a_report_that_cannot_be_written_is_no_daemon_that_hangs(host: SandboxHost, mounts: List[Path]) -> None:
    mount(host.paths.rundir, mounts, 512)
    watch_restlessly(host)
    fill(host.paths.rundir)
    path = host.paths.watch_report
    written_s = host.status()["watch"]["written_s"]
    with open(str(path), "r+") as report:  # in its place: as old as it would be after a minute
        text = report.read().replace('"written_s": %s' % written_s, '"written_s": 1')
        report.seek(0)
        report.write(text.ljust(path.stat().st_size))
    assert host.status()["watch"]["stale"]
    assert not says(host, "hangs") and says(host, "make room"), host.status()["problems"]


def test_under_a_read_only_etc_the_switch_comes_back_and_its_database_when_it_can(
        host: SandboxHost, mounts: List[Path]) -> None:
    watching, dbdir = watch_restlessly(host), str(host.paths.dbdir)
    subprocess.run(["mount", "--bind", dbdir, dbdir], check=True)
    mounts.append(host.paths.dbdir)
    subprocess.run(["mount", "-o", "remount,bind,ro", dbdir], check=True)
    host.signal(VSWITCHD, signal.SIGKILL)
    assert eventually(lambda: runs(host, VSWITCHD)), host.status()
    keeps = host.pid(VSWITCHD)
    host.signal(OVSDB_SERVER, signal.SIGKILL)
    assert eventually(lambda: says(host, "ead-only")), host.status()
    assert host.pid(VSWITCHD) == keeps and not process.has_ended(watching)
    subprocess.run(["mount", "-o", "remount,bind,rw", dbdir], check=True)
    assert eventually(lambda: is_well(host)), host.status()
    assert host.pid(VSWITCHD) == keeps and host.bridges() == ["xenbr7"]


# What others wrote


def test_in_bridge_mode_nothing_is_mended_until_it_ends(host: SandboxHost) -> None:
    watching = watch_restlessly(host)
    host.write(host.paths.network_conf, "bridge\n")
    host.signal(VSWITCHD, signal.SIGKILL)
    assert never(lambda: runs(host, VSWITCHD))
    assert runs(host, OVSDB_SERVER) and is_still_watched(host, watching)
    host.write(host.paths.network_conf, "vswitch\n")
    assert eventually(lambda: is_well(host)), host.status()
    assert host.bridges() == ["xenbr7"]


@pytest.mark.parametrize("nonsense", [b"OVSXEN_HANG_TIMEOUT=soon\nOVSXEN_RESTART_LIMIT=-3\n", b"\xff\0'\"\n", None],
                         ids=["values", "bytes", "a directory"])
def test_settings_that_make_no_sense_are_the_defaults(host: SandboxHost, nonsense: Optional[bytes]) -> None:
    watching, before = watch_restlessly(host), running(host)
    host.paths.sysconfig.unlink()
    if nonsense is None:
        host.paths.sysconfig.mkdir()
    else:
        host.paths.sysconfig.write_bytes(nonsense)
    written_s = host.status()["watch"]["written_s"]
    assert process.send_signal(watching, signal.SIGHUP)
    assert eventually(lambda: host.status()["watch"]["written_s"] != written_s)
    assert eventually(lambda: host.status()["watch"]["doing"] == "watching")
    assert is_still_watched(host, watching) and running(host) == before
    host.signal(OVSDB_SERVER, signal.SIGKILL)
    assert eventually(lambda: runs(host, OVSDB_SERVER)), host.status()
    assert running(host)[VSWITCHD] == before[VSWITCHD]


LOCK = """
import fcntl, sys
stream = open(sys.argv[1], "r+")
fcntl.lockf(stream, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_stranger_that_holds_the_lock_of_a_pidfile_is_left_alone(host: SandboxHost) -> None:
    watching, server = watch_restlessly(host), host.pid(OVSDB_SERVER)
    turn = nobody_else(host)
    host.signal(VSWITCHD, signal.SIGKILL)
    with speaker(LOCK, str(host.paths.pidfile(VSWITCHD))) as stranger:
        with turn:
            pass
        assert never(lambda: stranger.poll() is not None)
        status = host.ovsxen("status")
        assert status.code == 4 and "pid %d), which is not ovs-vswitchd" % stranger.pid in status.out + status.err
        assert host.pid(OVSDB_SERVER) == server
    assert eventually(lambda: is_well(host)), host.status()
    assert is_still_watched(host, watching)


@contextmanager
def speaker(code: str, argument: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A program that says a line when it has done what it is for, and then waits for the end of its input."""
    started = subprocess.Popen([sys.executable, "-c", code, argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdout is not None
    try:
        assert started.stdout.readline()
        yield started
    finally:
        started.communicate(b"", timeout=LIMIT_S)


def test_what_cannot_be_reached_any_more_is_said_and_not_killed(host: SandboxHost) -> None:
    watching, before = watch_restlessly(host), running(host)
    with nobody_else(host):
        host.paths.control_socket(VSWITCHD, host.pid(VSWITCHD)).unlink()
        host.paths.pidfile(OVSDB_SERVER).unlink()
        assert never(lambda: says(host, "ovs-vswitchd runs, but"), A_TICK_S)  # which is asked when the turn ends
    for name in BOTH:
        assert eventually(lambda name=name: says(  # type: ignore[misc]
            host, "%s runs, but its pidfile or control socket is gone" % name)), host.status()
    assert not any(process.has_ended(one) for one in before.values())
    assert host.ovsxen("restart").code == 0
    assert eventually(lambda: is_well(host)), host.status()
    assert all(process.has_ended(one) for one in before.values()) and is_still_watched(host, watching)
    assert host.status()["watch"]["events"] == []


def test_another_program_s_lease_is_said_and_then_ended(host: SandboxHost) -> None:
    watch_restlessly(host, "OVSXEN_FLOW_RESTORE_TIMEOUT=2")
    before = running(host)
    with nobody_else(host):
        host.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true")
        assert never(lambda: host.column("other_config") == "{}", A_TICK_S)
    assert eventually(lambda: says(host, "another program has set other_config:flow-restore-wait"))
    assert eventually(lambda: host.column("other_config") == "{}")
    assert eventually(lambda: is_well(host)), host.status()
    assert running(host) == before


# Busy, not hung

ATTACH = """
import ctypes, os, sys
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
if libc.ptrace(16, pid, None, None):  # PTRACE_ATTACH
    sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(pid, 0x40000000)  # __WALL
print("attached", flush=True)
sys.stdin.read()
libc.ptrace(17, pid, None, None)  # PTRACE_DETACH
"""


def test_daemons_that_are_held_by_debuggers_are_left_alone(host: SandboxHost) -> None:
    watching, before = watch_restlessly(host, *IMPATIENT), running(host)
    turn = nobody_else(host)
    with speaker(ATTACH, str(before[OVSDB_SERVER].pid)), speaker(ATTACH, str(before[VSWITCHD].pid)):
        with turn:
            for name in BOTH:
                assert eventually(lambda name=name: says(host, "%s is held by a debugger" % name))  # type: ignore[misc]
        assert never(lambda: any(process.has_ended(one) for one in before.values()), HUNG_S)
    assert eventually(lambda: is_well(host)), host.status()
    assert running(host) == before and is_still_watched(host, watching)


# Asks ovs-vswitchd for what it works on long, on many connections at once: whoever else asks waits for all of them.
FLOOD = """
import json, selectors, socket, sys
ask = json.dumps({"id": 0, "method": "ofproto/trace", "params": ["xenbr7", "in_port=1"]}).encode()
ready = selectors.DefaultSelector()
for _ in range(500):
    asking = socket.socket(socket.AF_UNIX)
    asking.connect(sys.argv[1])
    ready.register(asking, selectors.EVENT_READ)
for asking in [key.fileobj for key in ready.get_map().values()]:
    asking.sendall(ask)
print("asked", flush=True)
ready.register(sys.stdin, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        if key.fileobj is sys.stdin:
            sys.exit()
        key.fileobj.recv(1 << 20)
"""


def test_a_switch_that_has_more_to_do_than_it_can_is_busy_and_not_hung(host: SandboxHost) -> None:
    watching, before = watch_restlessly(host, *IMPATIENT), running(host)
    flows = "".join("table=%d,actions=resubmit(,%d),resubmit(,%d)\n" % (table, table + 1, table + 1)
                    for table in range(60))
    host.write(host.paths.root / "flows", flows)  # 2^60 ways, of which a packet may take 4096
    host.tool("ovs-ofctl", "add-flows", "unix:%s" % host.paths.bridge_socket("xenbr7"), str(host.paths.root / "flows"))
    turn = nobody_else(host)
    with speaker(FLOOD, str(host.paths.control_socket(VSWITCHD, before[VSWITCHD].pid))):
        with turn:
            assert host.status()["daemons"][VSWITCHD]["state"] == "hung"  # as it looks from outside: it answers nobody
            assert never(lambda: process.has_ended(before[VSWITCHD]), A_TICK_S)
        assert never(lambda: process.has_ended(before[VSWITCHD]), HUNG_S)
    assert eventually(lambda: is_well(host)), host.status()
    assert running(host) == before and is_still_watched(host, watching)
    assert host.status()["watch"]["events"] == []


# One thing after the other


def test_a_daemon_that_begins_anew_while_the_switch_is_sick_goes_on_watching(host: SandboxHost) -> None:
    watching = watch_restlessly(host)
    host.signal(VSWITCHD, signal.SIGSTOP)
    assert process.send_signal(watching, signal.SIGHUP)
    assert never(lambda: process.has_ended(watching))
    assert eventually(lambda: is_well(host)), host.status()
    assert is_still_watched(host, watching)


def test_a_switch_that_dies_while_its_database_server_is_mended_is_back_in_seconds(host: SandboxHost) -> None:
    watch_restlessly(host)
    before = running(host)
    host.signal(OVSDB_SERVER, signal.SIGKILL)
    assert eventually(lambda: runs(host, OVSDB_SERVER))
    host.signal(VSWITCHD, signal.SIGKILL)
    assert eventually(lambda: runs(host, VSWITCHD), 5.0), host.status()
    assert eventually(lambda: is_well(host)), host.status()
    assert not set(before.values()) & set(running(host).values())
