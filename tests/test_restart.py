"""`ovsxen restart` on real daemons: what is kept over it, what ends it before anything was stopped, and what cannot."""

import itertools
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Set, Tuple

import pytest

from ovsxen.host import proc, process
from ovsxen.host.clock import Deadline, stopwatch
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from tests.conftest import LIMIT_S, Finished, SandboxHost, StandIn
from tests.watching import BOTH, eventually, is_still_watched, is_well, pids, watch

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NORMAL = "priority=0 actions=NORMAL"
SAVE = "--save-flows"


@pytest.fixture
def switch(host: SandboxHost) -> SandboxHost:
    """A switch that is up, with two bridges: k has flows, a group and a meter of its own, plain has NORMAL alone."""
    host.start()
    host.vsctl("del-manager", "--", "add-br", "plain", "--", "add-br", "k", "--", "add-port", "k", "kp1")
    set_up(host, "k")
    return host


def set_up(host: SandboxHost, bridge: str) -> None:
    ofctl(host, "add-meter", bridge, "meter=7,kbps,band=type=drop,rate=5")
    ofctl(host, "add-group", bridge, "group_id=9,type=select,bucket=weight:5,actions=LOCAL")
    ofctl(host, "add-flow", bridge, "table=3,cookie=0x5,priority=7,arp,actions=meter:7,group:9")


def ofctl(host: SandboxHost, command: str, bridge: str, *arguments: str) -> str:
    socket_path = "unix:%s" % host.paths.bridge_socket(bridge)
    return host.tool("ovs-ofctl", "-O", "OpenFlow15", "--no-stats", command, socket_path, *arguments)


def state(host: SandboxHost, bridge: str) -> Dict[str, Set[str]]:
    """Flows, groups and meters, without what heads the answers."""
    return {dump: {line.strip() for line in ofctl(host, dump, bridge).splitlines()
                   if "reply" not in line and "REPLY" not in line}
            for dump in ("dump-flows", "dump-groups", "dump-meters")}


def ofports(host: SandboxHost) -> Set[str]:
    return set(host.vsctl("--format=csv", "--no-headings", "--columns=name,ofport", "list", "Interface").splitlines())


def phases(done: Finished) -> Dict[str, str]:
    return {phase["name"]: phase["outcome"] for phase in done.json["phases"]}


# What is kept


def test_flows_groups_and_meters_are_kept_where_that_is_asked_for(switch: SandboxHost) -> None:
    before, old = {bridge: state(switch, bridge) for bridge in ("k", "plain")}, pids(switch)
    assert all(before["k"].values())
    done = switch.ovsxen("restart", "--json", SAVE)
    assert done.code == 0 and done.phase("save")["names"] == ["k"]
    assert {bridge: state(switch, bridge) for bridge in ("k", "plain")} == before
    assert not set(old.values()) & set(pids(switch).values())
    assert is_well(switch)


def test_without_being_asked_for_they_are_gone(switch: SandboxHost) -> None:
    assert switch.ovsxen("restart").code == 0
    assert state(switch, "k") == {"dump-flows": {NORMAL}, "dump-groups": set(), "dump-meters": set()}


@pytest.mark.parametrize("option", [(), (SAVE,)], ids=["alone", SAVE])
def test_openflow_ports_stay_however_they_came_about(switch: SandboxHost, option: Tuple[str, ...]) -> None:
    """Ports that were added and deleted in another order than that of their names, so that nobody would guess them."""
    names = ["p%d" % number for number in range(300)]
    switch.vsctl(*spread("add-port", reversed(names)))
    switch.vsctl(*spread("del-port", names[::3]))
    switch.vsctl(*spread("add-port", names[::3]))
    before = ofports(switch)
    assert len(before) > 300
    assert switch.ovsxen("restart", *option).code == 0
    assert ofports(switch) == before


def spread(command: str, ports: "Iterator[str] | List[str]") -> List[str]:
    """One transaction of ovs-vsctl for many ports of bridge k."""
    return list(itertools.chain.from_iterable(("--", command, "k", port) for port in ports))[1:]


@contextmanager
def controller(*, listens: bool) -> Iterator[Tuple[str, List[int]]]:
    """A port of the loopback as an OpenFlow target, and an item for each connection: a controller that only says hello
    and answers echo requests, or one that refuses connections.
    """
    came: List[int] = []

    def serve() -> None:
        conversations: List[socket.socket] = []
        while True:
            for readable in select.select([listener] + conversations, [], [])[0]:
                if readable is not listener:
                    answer(readable, conversations)
                    continue
                try:
                    conversations.append(listener.accept()[0])
                except OSError:
                    return
                conversations[-1].sendall(bytes([1, 0, 0, 8, 0, 0, 0, 1]))
                came.append(1)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        target = "tcp:127.0.0.1:%d" % listener.getsockname()[1]
        if not listens:
            yield target, came
            return
        listener.listen(8)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield target, came
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def answer(conversation: socket.socket, conversations: List[socket.socket]) -> None:
    """Echo requests (type 2) become replies (type 3); all else is heard and forgotten."""
    try:
        said = conversation.recv(8)
    except OSError:
        said = b""
    if not said:
        conversations.remove(conversation)
        conversation.close()
        return
    length = int.from_bytes(said[2:4], "big")
    body = conversation.recv(length - 8, socket.MSG_WAITALL) if length > 8 else b""
    if said[1] == 2:
        conversation.sendall(said[:1] + b"\3" + said[2:] + body)


@pytest.mark.parametrize("listens", [True, False], ids=["answers", "refuses connections"])
def test_a_bridge_with_a_controller_keeps_its_flows(switch: SandboxHost, listens: bool) -> None:
    with controller(listens=listens) as (target, came):
        switch.vsctl("set", "Bridge", "k", "other_config:disable-in-band=true", "fail_mode=secure", "--",
                     "set-controller", "k", target)
        assert not listens or Deadline(20).wait_until(lambda: bool(came), every_s=0.02)
        set_up(switch, "k")
        before = state(switch, "k")
        came.clear()
        assert switch.ovsxen("restart", SAVE).code == 0
        assert not listens or Deadline(20).wait_until(lambda: bool(came), every_s=0.02)
        assert state(switch, "k") == before
        assert is_well(switch)


@pytest.mark.parametrize("datapath, since, paused", [
    ("netdev", "stop ovsdb-server", ("stop ovsdb-server", "database", "ovsdb-server", "configuration", "ports",
                                     "stop ovs-vswitchd", "ovs-vswitchd")),
    ("", "stop ovs-vswitchd", ("ovs-vswitchd",))])
def test_the_interruption_is_measured_and_said(
        switch: SandboxHost, datapath: str, since: str, paused: Tuple[str, ...]) -> None:
    """With its own datapath, ovs-vswitchd pauses from the end of its database server on; else from a moment within
    the phase that stops it.
    """
    for bridge in switch.bridges():
        switch.vsctl("set", "Bridge", bridge, 'datapath_type="%s"' % datapath)
    taken_ms = stopwatch()
    done = switch.ovsxen("restart", "--json", SAVE)
    whole_ms = taken_ms()
    ms = {phase["name"]: phase["ms"] for phase in done.json["phases"]}
    said, unit = done.phase("forwarding")["reason"].replace("interrupted for at most ", "").split()
    assert unit == "ms"
    before = itertools.takewhile(lambda name: name != since, ms)
    rounded = 1
    assert sum(ms[name] for name in paused) - rounded <= int(said)
    assert int(said) <= whole_ms - sum(ms[name] for name in before) + rounded


# What ends it before anything was stopped


def assert_refused(host: SandboxHost, *said: str) -> Finished:
    """`restart --save-flows` says why it fails, and both daemons go on as they are."""
    before = pids(host)
    done = host.ovsxen("restart", SAVE)
    assert done.code == 1 and all(text in done.out + done.err for text in said), done
    assert pids(host) == before and host.column("other_config") == "{}"
    return done


def test_a_bridge_whose_control_socket_is_gone_ends_it(switch: SandboxHost) -> None:
    before = state(switch, "k")
    path = switch.paths.bridge_socket("k")
    path.rename(path.parent / "moved")
    assert_refused(switch, "bridge k", "nothing was stopped")
    (path.parent / "moved").rename(path)
    assert state(switch, "k") == before


def test_an_ovs_vswitchd_that_was_stopped_by_a_signal_ends_it_in_seconds(switch: SandboxHost) -> None:
    switch.settings("OVSXEN_ANSWER_TIMEOUT=0.5")
    before = state(switch, "k")
    switch.signal(VSWITCHD, signal.SIGSTOP)
    elapsed = Deadline(10)
    assert_refused(switch, "ovs-vswitchd", "nothing was stopped")
    assert not elapsed.has_passed()
    switch.signal(VSWITCHD, signal.SIGCONT)
    assert state(switch, "k") == before


def test_flows_are_not_kept_where_bridges_are_to_be_deleted(switch: SandboxHost) -> None:
    switch.settings('OVS_CTL_OPTS="--delete-bridges --ovs-vswitchd-options=--enable-dummy=override"')
    assert_refused(switch, "--delete-bridges")
    assert "k" in switch.bridges()
    assert switch.ovsxen("restart").code == 0
    assert switch.bridges() == [] and is_well(switch)


@pytest.mark.parametrize("gone", [(OVSDB_SERVER,), (VSWITCHD,), BOTH], ids="+".join)
@pytest.mark.parametrize("option", [(), (SAVE,)], ids=["alone", SAVE])
def test_where_not_both_run_both_do_afterwards_or_nothing_is_stopped(
        switch: SandboxHost, gone: Tuple[str, ...], option: Tuple[str, ...]) -> None:
    before = pids(switch)
    for name in gone:
        switch.signal(name, signal.SIGKILL)
    done = switch.ovsxen("restart", *option)
    if option and gone == (OVSDB_SERVER,):
        assert done.code == 1 and "run `ovsxen start`" in done.out
        assert switch.pid(VSWITCHD) == before[VSWITCHD]
        return
    assert done.code == 0 and is_well(switch), done
    assert switch.bridges() == ["k", "plain"]
    assert not set(before.values()) & set(pids(switch).values())


# What cannot end it


def spawn(host: SandboxHost, *arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    """A restart that says at once what it does, with a session and so a process group of its own."""
    return subprocess.Popen([sys.executable, "-u", "-m", "ovsxen", "restart"] + list(arguments),
                            env=host.environment(), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.STDOUT,
                            universal_newlines=True, start_new_session=True)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_to_all_of_a_terminal_does_not_end_it_and_the_daemons_heed_theirs(
        switch: SandboxHost, number: signal.Signals) -> None:
    before, old = state(switch, "k"), pids(switch)
    restart = spawn(switch, SAVE)
    assert restart.stdout is not None
    with restart.stdout as lines:
        said: List[str] = []
        for line in lines:
            if not any(one.startswith("stop ovs-vswitchd") for one in said):  # at its very end it may be ended again
                os.killpg(restart.pid, number)
            said.append(line)
    assert restart.wait(LIMIT_S) == 0, "".join(said)
    assert state(switch, "k") == before and is_well(switch)
    assert not set(old.values()) & set(pids(switch).values())
    for name in BOTH:
        assert not ignored(switch.pid(name)) & set(SIGNALS)
        daemon = process.read_process(switch.pid(name))
        switch.signal(name, signal.SIGTERM)
        assert daemon is not None and Deadline(20).wait_until(lambda one=daemon: process.has_ended(one))  # type: ignore[misc]


def ignored(pid: int) -> Set[int]:
    """The signals that a process ignores, or keeps waiting, as proc(5) has them."""
    lines = Path("/proc/%d/status" % pid).read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn:", "SigBlk:"))]
    return {number for number in range(1, 65) for mask in masks if mask >> number - 1 & 1}


def test_a_terminal_that_is_lost_does_not_end_it(switch: SandboxHost) -> None:
    before, old = state(switch, "k"), pids(switch)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-u", "-m", "ovsxen", "restart", SAVE], switch.environment())
    said = b""
    while b"stop ovsdb-server" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)  # the kernel sends SIGHUP to who leads the session
    assert os.waitpid(pid, 0)[1] == 0
    assert state(switch, "k") == before and is_well(switch)
    assert not set(old.values()) & set(pids(switch).values())


def test_an_output_that_is_closed_does_not_end_it(switch: SandboxHost) -> None:
    before, old = state(switch, "k"), pids(switch)
    restart = spawn(switch, SAVE)
    assert restart.stdout is not None
    restart.stdout.close()
    assert restart.wait(LIMIT_S) == 0
    assert state(switch, "k") == before and is_well(switch)
    assert not set(old.values()) & set(pids(switch).values())


# Programs that are others than before


def test_the_new_ovs_vswitchd_waits_for_its_flows_and_no_longer(switch: SandboxHost, stand_in: StandIn) -> None:
    seen = switch.paths.root / "seen"
    stand_in(VSWITCHD, 'ovs-vsctl --no-wait get Open_vSwitch . other_config > %s\nexec $real "$@"' % seen)
    assert switch.ovsxen("restart", SAVE).code == 0
    assert 'flow-restore-wait="true"' in seen.read_text() and "ovsxen-flow-restore-until" in seen.read_text()
    assert is_well(switch)
    ofctl(switch, "del-flows", "k")
    ofctl(switch, "del-groups", "k")
    ofctl(switch, "del-meters", "k")
    ofctl(switch, "add-flow", "k", "priority=0,actions=NORMAL")
    assert switch.ovsxen("restart", SAVE).code == 0
    assert "flow-restore" not in seen.read_text()  # nothing to wait for


def test_an_ovs_vswitchd_that_cannot_start_leaves_no_lease(switch: SandboxHost, stand_in: StandIn) -> None:
    stand_in(VSWITCHD, "exit 1")
    done = switch.ovsxen("restart", "--json", SAVE)
    assert done.code == 1 and phases(done)["ovs-vswitchd"] == "failed"
    assert phases(done)["managers"] == "done"
    assert switch.column("other_config") == "{}"
    stand_in(VSWITCHD, 'exec $real "$@"')
    assert switch.start() and is_well(switch)


@pytest.mark.parametrize("spoil", [
    "ovs-vsctl --no-wait set Bridge k protocols=OpenFlow10; ovs-vsctl set Bridge k other_config:x=y",
    "rm $OVS_RUNDIR/k.mgmt"], ids=["refused", "not heard"])
def test_a_restore_that_fails_leaves_no_lease_and_is_said(switch: SandboxHost, stand_in: StandIn, spoil: str) -> None:
    stand_in(VSWITCHD, '$real "$@"\n' + spoil)
    done = switch.ovsxen("restart", "--json", SAVE)
    assert done.code == 1 and "bridge k" in done.phase("flows")["reason"]
    assert phases(done)["forwarding"] == "done"
    assert switch.column("other_config") == "{}"
    assert "bridge k" in switch.ovsxen("status").out


def test_a_lease_that_cannot_be_ended_is_said_and_ends_with_the_next_start(
        switch: SandboxHost, stand_in: StandIn) -> None:
    switch.settings("OVSXEN_ANSWER_TIMEOUT=0.5")
    stand_in(VSWITCHD, 'kill -9 $(cat "$OVS_RUNDIR/ovsdb-server.pid")\nexit 1')
    done = switch.ovsxen("restart", SAVE)
    assert done.code == 1 and "flow-restore-wait may still be set" in done.err
    stand_in(VSWITCHD, 'exec $real "$@"')
    assert switch.start() and is_well(switch)


def test_an_ovsdb_server_that_cannot_start_leaves_the_switch_as_it_is(switch: SandboxHost, stand_in: StandIn) -> None:
    stand_in(OVSDB_SERVER, "exit 1")
    before, old = state(switch, "k"), pids(switch)
    done = switch.ovsxen("restart", "--json", SAVE)
    assert done.code == 1 and phases(done)["stop ovs-vswitchd"] == "skipped"
    assert switch.pid(VSWITCHD) == old[VSWITCHD]  # OpenFlow is silent: it waits for a database (bridge_run)
    stand_in(OVSDB_SERVER, 'exec $real "$@"')
    switch.start()
    assert switch.pid(VSWITCHD) == old[VSWITCHD] and state(switch, "k") == before and is_well(switch)


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-99] + b"\0" * 64), Path.unlink],
                         ids=["damaged", "gone"])
def test_what_the_server_still_has_in_memory_outlives_a_database_that_is(
        switch: SandboxHost, damage: Callable[[Path], None]) -> None:
    before = state(switch, "k")
    damage(switch.paths.conf_db)
    done = switch.ovsxen("restart", "--json", SAVE)
    assert switch.bridges() == ["k", "plain"] and state(switch, "k") == before, done
    assert done.code == 0 and is_well(switch)


@pytest.mark.parametrize("version, is_newer", [("99.9", True), ("3.1.0", False), ("3.0.99", False), ("3.1.0-2", False)])
def test_reload_restarts_a_switch_of_which_a_newer_version_is_installed_and_keeps_flows(
        switch: SandboxHost, tmp_path: Path, version: str, is_newer: bool) -> None:
    program = tmp_path / VSWITCHD
    program.write_text('#!/bin/sh\n[ "$*" = --version ] && echo "x (Open vSwitch) %s" && exit\nexec %s "$@"\n' % (
        version, proc.find_program(VSWITCHD)))
    program.chmod(0o755)
    switch.env["PATH"] = os.pathsep.join([str(tmp_path)] + proc.search_path())
    watching = watch(switch)
    before, old = state(switch, "k"), pids(switch)
    done = switch.ovsxen("reload", "--json")
    assert done.code == 0 and "pid %d" % watching.pid in done.phase("watch")["reason"]
    assert (not set(old.values()) & set(pids(switch).values())) is is_newer
    assert is_newer or pids(switch) == old
    assert state(switch, "k") == before
    assert eventually(lambda: is_well(switch), 20), switch.status()
    assert is_still_watched(switch, watching)
    assert switch.status()["watch"]["events"] == []
