"""What XAPI and the host can do wrong to an update: it ends in time, says why, and the switch is as it was or agrees.

Every fault of the sandbox's XAPI comes by itself, by its name in the table. Those that last until a deadline run beside
the other tests, each on a host of its own; all others share one host, which every test leaves as it found it.
"""

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xmlrpc.client
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import pytest

from ovsxen import update as updating
from ovsxen.answer import Failed, read_update_report
from ovsxen.host import files
from ovsxen.host.clock import Deadline
from ovsxen.host.settings import read_settings
from ovsxen.ovs import daemons, launch, tables
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.sandbox import certificates, sandbox
from ovsxen.sandbox.xapi import wire
from ovsxen.sandbox.xapi.faults import FAULTS, Place
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.views import ODD
from ovsxen.sandbox.xapi.world import make_world
from ovsxen.sequence import Host
from ovsxen.xapi.session import connect
from tests.busy import Busy
from tests.conftest import Finished, MakeHost, SandboxHost, processes_of
from tests.test_update import FAIL_MODE, database, fail_mode, flows, introduce, other_config, update

NO_CHANGE = "No change to configuration"
TARGET = "ssl:127.0.0.1:6632"
WITHIN_S = 15.0  # what does not wait for anything takes a third of a second; machines are busy
WAITED_WITHIN_S = 40.0  # 30 s over all, and what is in hand then may be finished

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "absent": {"seconds": 100.0}, "refuse": {"seconds": 100.0}, "slow": {"seconds": 0.3}, "drip": {"every_s": 0.5}}
BY_PLUGIN, BY_COMMAND = "plugin", "command"
WAITING: Dict[str, Tuple[str, ...]] = {
    "absent": (BY_PLUGIN,), "refuse": (BY_COMMAND,), "html_500": (BY_PLUGIN,), "master_away": (BY_COMMAND,),
    "emergency": (BY_PLUGIN,), "silence": (BY_PLUGIN, BY_COMMAND), "headers_then_silence": (BY_COMMAND,),
    "drip": (BY_PLUGIN,)}
"""The faults whose runs end by a deadline, 30 s for what may pass and 10 s for a call that was taken; and whose."""

PASSES = "^(Successfully|Updated)"
MAKES_NO_SENSE = "neither a Success with a Value nor a Failure"
ENDS = {
    "absent": "does not listen", "refuse": "does not listen", "html_500": "error page", "master_away": "error page",
    "emergency": "HOST_STILL_BOOTING", "silence": "did not answer within 10 s",
    "headers_then_silence": "did not answer within 10 s", "drip": "did not answer within 10 s", "slow": PASSES,
    "close_after_request": "closed the connection before it answered", "close_kept_alive": PASSES,
    "empty_body": "not XML-RPC", "truncated": "not XML-RPC", "length_too_long": "in the middle of its answer",
    "length_too_short": "not XML-RPC", "wrong_content_type": "instead of XML", "entity_bomb": "document type",
    "unknown_status": MAKES_NO_SENSE, "missing_status": "XAPI's answer is", "missing_value": MAKES_NO_SENSE,
    "empty_error_description": MAKES_NO_SENSE, "typed": PASSES, "failure": "TOO_MANY_PENDING_TASKS",
    "session_invalid": "SESSION_INVALID", "host_is_slave": "HOST_IS_SLAVE", "vanishing_record": PASSES,
    "no_sdn_controller_class": PASSES, "no_pool": "NO_POOL_FOR_HOST|no pool",
    "two_pools": "MORE_THAN_ONE_POOL_FOR_HOST|2 pools", "huge": PASSES, "odd_text": PASSES,
    "network_without_bridge": PASSES, "two_networks_one_bridge": PASSES, "sessions_vanish": PASSES,
}
"""A pattern in the answer, or that the run succeeds. A fault that is not here only has to keep to the rules of all."""

NAMED = ("XENAPI_PLUGIN_FAILURE", "TOO_MANY_PENDING_TASKS", "SESSION_INVALID", "HOST_IS_SLAVE", "HOST_STILL_BOOTING",
         "NO_POOL_FOR_HOST", "MORE_THAN_ONE_POOL_FOR_HOST")


class World:
    """A host whose switch agrees with XAPI, without a controller: xenbr0 has the management interface, xenbr1 has not.
    """

    def __init__(self, host: SandboxHost, xapi: FakeXapi, pem: bytes) -> None:
        self.host = host
        self.xapi = xapi
        self._pem = pem

    def bring_up(self) -> "World":
        self.host.start()
        self.host.write(self.host.paths.networkd_db, "{}")
        self.restore_pem()
        self.host.vsctl("add-br", "xenbr0", "--", "add-port", "xenbr0", "eth0", "--", "set", "Bridge", "xenbr0",
                        "other_config:hwaddr=00:16:3e:00:00:00", "--", "add-br", "xenbr1")
        update(self.host)
        return self

    def restore_pem(self) -> None:
        files.write_file(self.host.paths.xapi_ssl_pem, [self._pem], 0o400, durable=False)

    def want(self) -> None:
        """XAPI gets a controller, and the pool turns secure: there is everything to do."""
        introduce(self.xapi)
        other_config(self.xapi, "pool", {FAIL_MODE: "secure"})

    def want_nothing(self) -> None:
        for ref in list(self.xapi.database.rows("SDN_controller")):
            self.xapi.database.remove("SDN_controller", ref)
        other_config(self.xapi, "pool", {})

    def set_fault(self, name: str, **where: Any) -> None:
        self.xapi.faults.set(name, **dict(ARGUMENTS.get(name, {}), **where))

    def run_plugin(self) -> str:
        """The plugin as XAPI runs it, with a session of XAPI's; gives its text, or its code with the parameters."""
        self.xapi.start_toolstack()
        return str(self.xapi.plugin_runs[-1].outcome)

    def run_command(self, **env: str) -> Finished:
        return self.host.ovsxen("update", "--json", limit_s=WAITED_WITHIN_S, **env)

    def agree(self) -> None:
        """The switch is as XAPI wants it, and a further run finds nothing to do."""
        answer = update(self.host)
        assert answer["notes"] == [] or "--undo" in " ".join(answer["notes"]), answer
        assert self.host.vsctl("--no-wait", "get-manager") == TARGET
        assert (fail_mode(self.host, "xenbr0"), fail_mode(self.host, "xenbr1")) == ("secure", "secure")
        assert len(flows(self.host, "xenbr0")) == 4
        assert update(self.host)["text"] == NO_CHANGE

    def untouched(self, before: str) -> None:
        """The database is what it was, and nothing is left in the switch, in XAPI or among the processes."""
        assert database(self.host) == before
        assert flows(self.host, "xenbr0") == []
        self.tidy()

    def tidy(self) -> None:
        """Only the daemons run, nobody is logged in, and no half file lies about."""
        assert len(processes_of(self.host.paths.root)) == 2, processes_of(self.host.paths.root)
        assert self.xapi.sessions == []
        assert list(self.host.paths.rundir.glob(".*")) + list(self.host.paths.rundir.glob("ovsxen-flows*")) == []

    def restore(self) -> None:
        """As it was at first."""
        self.xapi.faults.clear()
        self.want_nothing()
        self.restore_pem()
        update(self.host)
        for path in self.host.paths.dbdir.glob("reset-*"):
            path.unlink()


@pytest.fixture(scope="module")
def pem() -> Iterator[bytes]:
    """The certificate of all hosts here: making one takes as long as all else of a host."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "host.pem"
        certificates.make_host_pem(path)
        yield path.read_bytes()


@contextmanager
def a_world(pem: bytes) -> Iterator[World]:
    """A host of its own, also outside of a test's own thread and time. What is left of it in the end is a failure."""
    base = Path(tempfile.mkdtemp(prefix="ox-", dir="/tmp"))
    host = SandboxHost(sandbox.make(base / "h", 0))
    try:
        with FakeXapi(host.paths, make_world(networks=2)) as xapi:
            yield World(host, xapi, pem).bring_up()
    finally:
        host.kill_daemons()
        left = processes_of(base)
        for line in left:
            os.kill(int(line.split(":")[0]), signal.SIGKILL)
        shutil.rmtree(str(base), ignore_errors=True)
        assert not left, "left behind: %s" % left


# What lasts until a deadline, beside everything else

class Ended(NamedTuple):
    """What a run that waited came to, and how long it took."""

    outcome: str
    seconds: float


Lane = Dict[str, "Future[Ended]"]
STARTING = threading.Lock()  # hosts that all start at once are all late


@pytest.fixture(scope="module")
def lane(pem: bytes) -> Iterator[Lane]:
    """The runs that wait, under way, each on a host of its own."""
    jobs: Dict[str, Callable[[World], Ended]] = {
        "%s by %s" % (name, by): functools.partial(_try_fault, name, by)
        for name, ways in WAITING.items() for by in ways}
    jobs.update({"stopped": _change_while_vswitchd_is_stopped, "no db.sock": _change_without_db_sock,
                 "restarted": _change_while_the_server_is_restarted})
    with ThreadPoolExecutor(len(jobs)) as pool:
        yield {name: pool.submit(_in_a_world, pem, job) for name, job in jobs.items()}


def _in_a_world(pem: bytes, job: Callable[[World], Ended]) -> Ended:
    with ExitStack() as stack:
        with STARTING:
            world = stack.enter_context(a_world(pem))
        world.want()
        return job(world)


def run(world: World, by: str) -> Ended:
    """An update by XAPI's plugin or by the command, however it ends; what it tells is kept for `ovsxen status`."""
    began_s = time.monotonic()
    if by == BY_PLUGIN:
        outcome = world.run_plugin()
        failed = outcome.partition(" ")[0] in NAMED
        assert failed or outcome.startswith(("Successfully", "Updated", NO_CHANGE)), outcome
    else:
        done = world.run_command()
        failed = done.code != 0
        outcome = str(done.json["error"] if failed else done.json["text"])
    took_s = time.monotonic() - began_s
    report = read_update_report(world.host.paths.update_report)
    assert report is not None and bool(report.error) == failed
    return Ended(outcome, took_s)


def suffer(world: World, name: str, by: str) -> Ended:
    """A run with the fault, and the rules for it."""
    before = database(world.host)
    world.set_fault(name, **(_spare_logout(name) if by == BY_COMMAND else {}))
    ended = run(world, by)
    world.xapi.faults.clear()
    if name in ENDS:
        assert re.search(ENDS[name], ended.outcome), ended
    if not re.search(PASSES, ended.outcome):
        world.untouched(before)
    world.tidy()
    return ended


def _try_fault(name: str, by: str, world: World) -> Ended:
    """A run with the fault; then, without it, one that does everything."""
    ended = suffer(world, name, by)
    world.agree()
    world.tidy()
    return ended


def _spare_logout(name: str) -> Dict[str, Any]:
    """Where a fault hits the command, so that it can still log out; then it must have."""
    everywhere = FAULTS[name].place in (Place.BEFORE, Place.REPLY)
    if everywhere or name in ("failure", "emergency", "host_is_slave", "session_invalid"):
        return {"method": "pool."}
    return {}


def _change_while_vswitchd_is_stopped(world: World) -> Ended:
    world.host.signal(VSWITCHD, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        done = world.run_command()
        ended = Ended(" ".join(done.json["notes"]), time.monotonic() - began_s)
        assert done.code == 0, done
        assert world.host.vsctl("--no-wait", "get-manager") == TARGET
        assert (fail_mode(world.host, "xenbr0"), fail_mode(world.host, "xenbr1")) == ("standalone", "secure")
    finally:
        world.host.signal(VSWITCHD, signal.SIGCONT)
    world.agree()
    return ended


def _change_without_db_sock(world: World) -> Ended:
    before = database(world.host)
    aside = world.host.paths.db_sock.with_suffix(".aside")
    world.host.paths.db_sock.rename(aside)
    ended = run(world, BY_PLUGIN)
    aside.rename(world.host.paths.db_sock)
    world.untouched(before)
    world.agree()
    return ended


def start_server(host: SandboxHost) -> None:
    """ovsdb-server alone, as an administrator may: nobody waits for ovs-vswitchd to connect."""
    daemons.start(host.paths, launch.ovsdb_server_argv(host.paths, read_settings(host.paths), ()), 0, WITHIN_S)


def settled(host: SandboxHost) -> bool:
    """ovs-vswitchd is connected again, which it tries every 8 s at worst, and has followed: the server had forgotten
    the MACs in use, so they were told anew.
    """
    counters = [host.vsctl("--no-wait", "get", "Open_vSwitch", ".", column) for column in ("cur_cfg", "next_cfg")]
    return counters[0] == counters[1] and host.vsctl("--no-wait", "get", "Interface", "xenbr0", "mac_in_use") != "[]"


def _change_while_the_server_is_restarted(world: World) -> Ended:
    """Again and again, each time a little later in the run."""
    errors = []
    for number in range(5):
        introduce(world.xapi, address="127.0.0.%d" % (number + 2))
        child = world.host.spawn("update")
        time.sleep(0.06 + 0.06 * number)
        world.host.signal(OVSDB_SERVER, signal.SIGKILL)
        start_server(world.host)
        assert child.wait(WAITED_WITHIN_S) in (0, 1)
        report = read_update_report(world.host.paths.update_report)
        assert report is not None
        errors.append(report.error)
        assert Deadline(WITHIN_S).wait_until(lambda: settled(world.host), every_s=0.1)
        if not report.error:
            assert world.host.vsctl("--no-wait", "get-manager") == "ssl:127.0.0.%d:6632" % (number + 2)
        if not report.error and not any("xenbr0" in note for note in report.answer.notes):
            assert (fail_mode(world.host, "xenbr0"), len(flows(world.host, "xenbr0"))) == ("secure", 4)
    introduce(world.xapi)
    world.agree()
    world.tidy()
    return Ended("%d runs; %s" % (len(errors), world.host.vsctl("--no-wait", "get-manager")), 0.0)


# What XAPI does wrong

@pytest.fixture(scope="module")
def shared(lane: Lane, pem: bytes) -> Iterator[World]:
    """The host that the tests share; the runs that wait begin with it."""
    with STARTING:
        stack = ExitStack()
        shared = stack.enter_context(a_world(pem))
    with stack:
        yield shared


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """The shared host, with everything to do; it is restored behind the test."""
    shared.want()
    yield shared
    shared.restore()


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in WAITING])
def test_a_fault_leaves_the_switch_as_it_was_or_as_wanted(world: World, name: str) -> None:
    ended = suffer(world, name, BY_PLUGIN)
    assert ended.seconds < WITHIN_S
    if re.search(PASSES, ended.outcome):
        world.restore()
        world.want()
    assert suffer(world, name, BY_COMMAND).seconds < WITHIN_S
    world.agree()


def test_whatever_it_asks_when_xapi_fails_nothing_is_half_done(world: World) -> None:
    before = database(world.host)
    asked = calls_of_a_run(world)
    assert "PIF.get_all_records" in asked and "host.get_by_uuid" in asked
    for method in asked[1:-1]:
        world.restore()
        world.want()
        before = database(world.host)
        world.xapi.faults.set("failure", method=method, code="INTERNAL_ERROR", params="in the middle")
        done = world.run_command()
        assert done.code == 1 and "INTERNAL_ERROR" in done.json["error"], (method, done)
        world.untouched(before)
        world.xapi.faults.set("session_invalid", method=method, times=1)  # the client logs in once more
        world.xapi.faults.clear("failure")
        assert update(world.host)["text"].startswith("Successfully set"), method
        world.tidy()


def calls_of_a_run(world: World) -> List[str]:
    """The methods that a run with everything to do asks for, in order."""
    before = len(world.xapi.calls)
    update(world.host)
    return list(world.xapi.calls[before:])


def test_a_session_that_was_passed_in_is_used_and_never_ended(world: World) -> None:
    before = len(world.xapi.calls)
    with connect(world.host.paths.xapi_socket, Deadline(60), call_within_s=60) as session:
        session.call("host.call_plugin", world.xapi.database.find("host"), "openvswitch-cfg-update", "update", {})
        calls = world.xapi.calls[before:]
        assert calls.count("session.login_with_password") == 1 and "session.logout" not in calls
        assert len(session.read_all("pool")) == 1
    world.tidy()


def test_sessions_that_all_vanish_in_the_middle(world: World) -> None:
    """The master restarted: the command logs in again; XAPI's own session is XAPI's to renew."""
    for by, begins in ((BY_PLUGIN, "SESSION_INVALID"), (BY_COMMAND, "Successfully set")):
        before = database(world.host)
        asked = len(world.xapi.calls)
        world.xapi.faults.set("slow", seconds=0.5, times=1, method="network.get_all_records")
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(run, world, by)
            assert Deadline(WITHIN_S).wait_until(
                lambda asked=asked: "network.get_all_records" in world.xapi.calls[asked:])  # type: ignore[misc]
            world.xapi.faults.set("sessions_vanish")
            assert ended.result(WITHIN_S).outcome.startswith(begins)
        if by == BY_PLUGIN:
            world.untouched(before)
    world.tidy()


@pytest.mark.parametrize("name, where", [
    ("failure", {"times": 2, "code": "HOST_STILL_BOOTING"}),
    ("failure", {"times": 2, "code": "HOST_STILL_BOOTING", "method": "network."}),
    ("master_away", {"times": 3}), ("html_500", {"times": 2}), ("absent", {"seconds": 1.0}),
    ("refuse", {"seconds": 1.0}), ("emergency", {"times": 2}),
])
def test_what_passes_in_time_is_waited_for(world: World, name: str, where: Dict[str, Any]) -> None:
    world.set_fault(name, **where)
    assert world.run_plugin().startswith("Successfully set controller to %s.  " % TARGET)
    world.agree()
    world.tidy()


def test_a_slave_whose_master_comes_back_within_the_budget_agrees(pem: bytes, make_host: MakeHost) -> None:
    host = make_host(0)
    with FakeXapi(host.paths, make_world(networks=2, hosts=2, master=1), slave=True) as xapi:
        world = World(host, xapi, pem).bring_up()
        world.want()
        xapi.faults.set("master_away")
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(run, world, BY_PLUGIN)
            assert Deadline(WITHIN_S).wait_until(lambda: xapi.calls.count("pool.get_all_records") > 2)
            xapi.faults.clear()
            assert ended.result(WITHIN_S).outcome.startswith("Successfully set controller to %s.  " % TARGET)
        world.agree()
        world.tidy()


def test_odd_text_comes_through_as_one_line_of_ascii(world: World) -> None:
    other_config(world.xapi, "network", {FAIL_MODE: ODD + "\r\n</value>" + "x" * 5000}, bridge="xenbr1")
    other_config(world.xapi, "pool", {FAIL_MODE: ODD, "\u0085": "\u2028"})
    world.xapi.faults.set("odd_text")
    document = raw_answer(world)
    assert document.decode("ascii").isprintable() or document.count(b"\n") == 1
    answer = xmlrpc.client.loads(document)[0][0]
    assert isinstance(answer, dict) and answer["Status"] == "Success"
    assert answer["Value"].startswith("Successfully set") and "invalid value" in answer["Value"]
    assert len(answer["Value"].splitlines()) == 1 and all(" " <= one <= "~" for one in answer["Value"])
    assert len(answer["Value"]) < 4000
    assert world.run_command().json["text"] == NO_CHANGE
    other_config(world.xapi, "network", {}, bridge="xenbr1")


def raw_answer(world: World) -> bytes:
    """What the plugin writes to its stdout."""
    argv = [str(world.host.paths.plugins / "openvswitch-cfg-update"), wire.plugin_call("update", "", {})]
    done = subprocess.run(argv, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=WAITED_WITHIN_S)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize("of, records", [("network", 10000), ("PIF", 3000), ("VLAN", 5000)])
def test_a_huge_pool_costs_no_more_memory_than_dom0_has(world: World, of: str, records: int) -> None:
    world.xapi.faults.set("huge", of=of, records=records)
    done = subprocess.run(
        [sys.executable, "-c", WEIGHED, sys.executable, "-m", "ovsxen", "update"], env=world.host.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, universal_newlines=True, timeout=WAITED_WITHIN_S)
    assert done.returncode == 0
    assert int(done.stdout.splitlines()[-1]) < 300 * 1024  # KiB; 10,000 networks are an answer of 14 MB
    world.xapi.faults.clear()
    world.agree()


WEIGHED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""Run a command and print its peak in KiB. By a small process: a peak begins at the parent's, and tests are large."""


def test_two_plugins_at_once_do_the_work_once(world: World) -> None:
    runs = len(world.xapi.plugin_runs)
    with ThreadPoolExecutor(2) as pool:
        for ended in [pool.submit(world.xapi.start_toolstack) for _ in range(2)]:
            ended.result(WAITED_WITHIN_S)
    outcomes = sorted(str(one.outcome) for one in world.xapi.plugin_runs[runs:])
    assert outcomes[0] == NO_CHANGE and outcomes[1].startswith("Successfully set")
    world.agree()
    world.tidy()


class XapiProcess:
    """A XAPI that can be killed."""

    def __init__(self, host: SandboxHost) -> None:
        self.host = host
        self.child = subprocess.Popen(
            [sys.executable, "-m", "ovsxen.sandbox.xapi", str(host.paths.root), "--networks", "2"],
            env=host.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> "XapiProcess":
        assert Deadline(WITHIN_S).wait_until(lambda: self.xe("fault-list") == 0, every_s=0.05), self.child.poll()
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()

    def xe(self, *words: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "ovsxen.sandbox.xapi.xe", str(self.host.paths.xapi_socket)] + list(words),
            env=self.host.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=60).returncode


def test_a_xapi_that_is_killed_in_the_middle_takes_its_plugin_along_soon(pem: bytes, make_host: MakeHost) -> None:
    host = make_host(0)
    with FakeXapi(host.paths, make_world(networks=2)) as first:
        World(host, first, pem).bring_up()
    with XapiProcess(host) as xapi:
        assert xapi.xe("sdn-controller-introduce", "address=127.0.0.1") == 0
        host.vsctl("--no-wait", "del-manager")
        before = database(host)
        assert xapi.xe("fault", "slow", "method=network.", "seconds=60") == 0
        with ThreadPoolExecutor(1) as pool:
            restart = pool.submit(xapi.xe, "toolstack-restart")
            assert Deadline(WITHIN_S).wait_until(lambda: plugins_of(host) != [], every_s=0.02)
            time.sleep(0.7)  # by now it asks for the networks; before that it would wait for another XAPI for 30 s
            xapi.child.kill()
            xapi.child.wait()
            assert restart.result(WITHIN_S) != 0
        assert Deadline(WAITED_WITHIN_S).wait_until(lambda: plugins_of(host) == [], every_s=0.05)
        assert database(host) == before
        report = read_update_report(host.paths.update_report)
        assert report is not None and "XAPI" in report.error
    with XapiProcess(host) as xapi:
        assert xapi.xe("sdn-controller-introduce", "address=127.0.0.1") == 0
        assert host.vsctl("--no-wait", "get-manager") == TARGET
        assert update(host)["text"] == NO_CHANGE


def plugins_of(host: SandboxHost) -> List[str]:
    return [line for line in processes_of(host.paths.root) if "xapi.d/plugins" in line]


# What the host does wrong

def count_on_xenbr1(writes: int) -> Dict[str, Any]:
    row = {"other_config": ["map", [["writes", str(writes)]]]}
    return {"op": "update", "table": "Bridge", "where": [["name", "==", "xenbr1"]], "row": row}


def test_somebody_who_writes_all_the_time_makes_it_end_not_hang(world: World) -> None:
    with Busy(world.host, count_on_xenbr1, 0.001) as writer:
        ended = run(world, BY_COMMAND)
        reached = writer.writes
        assert Deadline(WITHIN_S).wait_until(lambda: writer.writes > reached)
    assert ended.seconds < WITHIN_S
    if not ended.outcome.startswith("Successfully set"):
        nothing_was_reset(world, ended.outcome)
    else:
        assert len(resets_of(world)) == 1
    world.agree()


def resets_of(world: World) -> List[Path]:
    return list(world.host.paths.dbdir.glob("reset-*"))


def nothing_was_reset(world: World, outcome: str) -> None:
    assert "never seen as XAPI wants it: somebody else writes" in outcome
    assert resets_of(world) == []
    assert world.host.vsctl("--no-wait", "get-manager") == ""
    assert (fail_mode(world.host, "xenbr0"), flows(world.host, "xenbr0")) == ("standalone", [])


@pytest.mark.parametrize("crossed, ends_well", [(updating.PASSES - 1, True), (updating.PASSES, False)])
def test_a_write_that_got_in_at_the_last_try_is_told_as_written(world: World, monkeypatch: pytest.MonkeyPatch,
                                                                crossed: int, ends_well: bool) -> None:
    """Somebody writes to xenbr1 between each of the first reads and what is to be written after it."""
    world.host.vsctl("--no-wait", "set", "Bridge", "xenbr1", "other_config:writes=0")  # what a reset clears
    others = iter(range(1, crossed + 1))
    apply = tables.apply

    def crossed_by_others(connection: Connection, edit: tables.Edit, within_s: float) -> int:
        for number in others:
            connection.call("transact", ["Open_vSwitch", count_on_xenbr1(number)], WITHIN_S)
            break
        return apply(connection, edit, within_s)

    monkeypatch.setattr(tables, "apply", crossed_by_others)
    host = Host(world.host.paths, read_settings(world.host.paths))
    if ends_well:
        answer = updating.update(host)
        assert answer.text.startswith("Successfully set") and len(resets_of(world)) == 1
    else:
        with pytest.raises(Failed) as failed:
            updating.update(host)
        nothing_was_reset(world, str(failed.value))
    monkeypatch.undo()
    world.agree()


def test_vswitchd_that_is_dead_is_told_and_management_is_not_risked(pem: bytes) -> None:
    with a_world(pem) as world:
        world.want()
        world.host.signal(VSWITCHD, signal.SIGKILL)
        done = world.run_command()
        assert done.code == 0, done
        notes = " ".join(done.json["notes"])
        assert "ovs-vswitchd does not run" in notes and "bridge xenbr0 was left as it is" in notes
        assert world.host.vsctl("--no-wait", "get-manager") == TARGET
        assert (fail_mode(world.host, "xenbr0"), fail_mode(world.host, "xenbr1")) == ("standalone", "secure")
        world.host.start()
        world.agree()


def test_flows_have_the_mac_of_the_bridge_after_a_crash_of_vswitchd(world: World) -> None:
    """Right after its start it tells, in mac_in_use, a MAC from before it has set other_config:hwaddr."""
    update(world.host)
    world.host.signal(VSWITCHD, signal.SIGKILL)
    world.host.start()
    assert update(world.host)["text"] == "No change to configuration"
    world.agree()
    assert sum("dl_dst=00:16:3e:00:00:00" in flow for flow in flows(world.host, "xenbr0")) == 1


def on_mounts(world: World, script: str) -> Finished:
    """`ovsxen update --json` where a shell script has changed what is mounted, for it alone."""
    argv = ["unshare", "--mount", "--propagation=private", "sh", "-ec", script + '\nexec "$@"', "sh",
            sys.executable, "-m", "ovsxen", "update", "--json"]
    return Finished(subprocess.run(
        argv, env=world.host.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True, timeout=WAITED_WITHIN_S))


@pytest.mark.parametrize("script, reason", [
    ("mount -t tmpfs -o size=16k none {dbdir}; dd if=/dev/zero of={dbdir}/full bs=16k count=1 2>/dev/null", "No space"),
    ("mount --bind {dbdir} {dbdir}; mount -o remount,bind,ro {dbdir}", "Read-only"),
    ("ulimit -f 0", "File too large"),
])
def test_what_a_reset_clears_must_be_written_down_first(world: World, script: str, reason: str) -> None:
    world.host.vsctl("--no-wait", "set", "Bridge", "xenbr1", "other_config:datapath-id=00000000000000ff")
    before = database(world.host)
    done = on_mounts(world, script.format(dbdir=world.host.paths.dbdir))
    assert done.code == 1 and done.json["changes"] == [], done
    assert reason in done.json["error"] and "nothing was reset" in done.json["error"]
    world.untouched(before)
    world.agree()


def test_only_the_end_of_a_certificate_counts_because_a_clock_may_be_far_behind(world: World) -> None:
    certificates.make_host_pem(world.host.paths.xapi_ssl_pem, certificates.EXPIRED)
    before = database(world.host)
    assert "expired" in run(world, BY_COMMAND).outcome
    world.untouched(before)
    certificates.make_host_pem(world.host.paths.xapi_ssl_pem, ("20900101000000Z", "20991231235959Z"))
    world.agree()


# What lasted until a deadline: last, because it went on beside all that is above

@pytest.mark.parametrize("name, by", [(name, by) for name, ways in WAITING.items() for by in ways])
def test_a_fault_that_lasts_ends_with_the_deadline(lane: Lane, world: World, name: str, by: str) -> None:
    ended = lane["%s by %s" % (name, by)].result(2 * WAITED_WITHIN_S)
    assert ended.seconds < WAITED_WITHIN_S


def test_a_manager_is_set_though_vswitchd_is_stopped_and_management_is_not_risked(lane: Lane, world: World) -> None:
    ended = lane["stopped"].result(2 * WAITED_WITHIN_S)
    assert re.search("ovs-vswitchd .*followed", ended.outcome)
    assert "bridge xenbr0 was left as it is" in ended.outcome
    assert ended.seconds < WAITED_WITHIN_S


def test_a_database_socket_that_is_missing_is_told(lane: Lane, world: World) -> None:
    ended = lane["no db.sock"].result(2 * WAITED_WITHIN_S)
    assert "db.sock" in ended.outcome and ended.seconds < WAITED_WITHIN_S


def test_a_database_server_that_is_restarted_in_the_middle_again_and_again(lane: Lane, world: World) -> None:
    ended = lane["restarted"].result(3 * WAITED_WITHIN_S)
    assert ended.outcome == "5 runs; %s" % TARGET
