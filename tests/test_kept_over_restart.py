"""Flows over a whole `ovsxen restart --save-flows`: one that fails or is killed, and what it says of bridges."""

from typing import Dict, List, Tuple

import pytest

from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from tests.conftest import SandboxHost, StandIn
from tests.watching import eventually, is_still_watched, is_well, pids, watch

SAVE = ("restart", "--json", "--save-flows")
NOBODY = "tcp:127.0.0.1:9"
BRIDGES = ("alone", "led", "shut")


@pytest.fixture
def switch(host: SandboxHost) -> SandboxHost:
    """A switch that is up, with a bridge of each kind, of which each has flows and a group: one is standalone, without
    the NORMAL flow, one has a controller, one is secure.
    """
    host.start()
    host.vsctl("del-manager", *(word for bridge in BRIDGES for word in ("--", "add-br", bridge)))
    host.vsctl("set-fail-mode", "shut", "secure", "--", "set-fail-mode", "led", "secure", "--",
               "set-controller", "led", NOBODY)
    for bridge in BRIDGES:
        ofctl(host, "del-flows", bridge)
        ofctl(host, "add-group", bridge, "group_id=9,type=all,bucket=actions=LOCAL")
        ofctl(host, "add-flow", bridge, "table=3,cookie=0x5,priority=7,arp,actions=group:9")
    return host


def ofctl(host: SandboxHost, command: str, bridge: str, *arguments: str) -> str:
    socket_path = "unix:%s" % host.paths.bridge_socket(bridge)
    return host.tool("ovs-ofctl", "-O", "OpenFlow15", "--no-stats", command, socket_path, *arguments)


def state(host: SandboxHost) -> Dict[str, List[str]]:
    """Flows and groups of all bridges."""
    return {bridge: sorted(line for dump in ("dump-flows", "dump-groups")
                           for line in ofctl(host, dump, bridge).splitlines() if "OFPST" not in line)
            for bridge in host.bridges()}


def assert_lost(host: SandboxHost, *bridges: str) -> None:
    """The verdict is not good, and a problem says of which bridges flows are lost and where they are."""
    status = host.status()
    assert status["exit_code"] != 0
    assert any("flows that a restart kept of %s are not" % ", ".join(bridges) in problem
               and str(host.paths.kept_flows) in problem and "`ovsxen start`" in problem
               for problem in status["problems"]), status["problems"]


def assert_all_back(host: SandboxHost, before: Dict[str, List[str]]) -> None:
    assert state(host) == before and is_well(host)
    assert not host.paths.kept_flows.exists()


# What a restart that fails or is killed loses comes back

CUT_SHORT = pytest.mark.parametrize("script", [
    "kill -9 $PPID; exit 1", '$real "$@"; kill -9 $PPID',
    'kill -9 $(cat "$OVS_RUNDIR/ovsdb-server.pid"); exec $real "$@"'],
    ids=["killed without an ovs-vswitchd", "killed before it had flows", "without its ovsdb-server"])
ONCE = 'rm "$0"; '


@CUT_SHORT
def test_flows_that_a_restart_has_lost_are_said_to_be_and_come_back_with_a_start(
        switch: SandboxHost, stand_in: StandIn, script: str) -> None:
    before = state(switch)
    stand_in(VSWITCHD, ONCE + script)
    assert switch.ovsxen(*SAVE).code != 0
    assert_lost(switch, *BRIDGES)
    # An ovs-vswitchd whose starter has given up waiting ends once it is ready (lib/daemon-unix.c, 3.1).
    assert eventually(lambda: switch.ovsxen("start").code == 0 and is_well(switch))
    assert_all_back(switch, before)


@CUT_SHORT
def test_they_come_back_by_themselves_where_the_switch_is_watched(
        switch: SandboxHost, stand_in: StandIn, script: str) -> None:
    watching = watch(switch)
    before = state(switch)
    stand_in(VSWITCHD, ONCE + script)
    assert switch.ovsxen(*SAVE).code != 0
    assert eventually(lambda: not switch.paths.kept_flows.exists() and is_well(switch), 60), switch.status()
    assert_all_back(switch, before)
    assert is_still_watched(switch, watching)


def test_what_a_bridge_refuses_stays_said_until_it_takes_it_back(switch: SandboxHost, stand_in: StandIn) -> None:
    before = state(switch)
    stand_in(VSWITCHD, '$real "$@"\novs-vsctl --no-wait set Bridge shut protocols=OpenFlow10; ovs-vsctl add Bridge '
                       'shut other_config x=y')
    done = switch.ovsxen(*SAVE)
    assert done.code == 1 and "bridge shut" in done.phase("flows")["reason"]
    for _ in range(2):
        assert_lost(switch, "shut")
        assert switch.start().phase("interfaces")["outcome"] == "degraded"
    switch.vsctl("clear", "Bridge", "shut", "protocols")
    assert {name: its for name, its in state(switch).items() if name != "shut"} == {
        name: its for name, its in before.items() if name != "shut"}
    switch.start()
    assert_all_back(switch, before)


def test_it_stays_said_after_the_watch_has_tried_again_and_can_be_given_up(
        switch: SandboxHost, stand_in: StandIn) -> None:
    watch(switch)
    stand_in(VSWITCHD, '$real "$@"\novs-vsctl --no-wait set Bridge shut protocols=OpenFlow10; ovs-vsctl add Bridge '
                       'shut other_config x=y')
    assert switch.ovsxen(*SAVE).code == 1
    assert eventually(lambda: "interfaces degraded" in str(switch.status()["watch"]["events"]))
    assert_lost(switch, "shut")
    switch.paths.kept_flows.unlink()
    switch.start()
    assert is_well(switch)


def test_what_a_controller_has_set_since_is_not_taken_back(switch: SandboxHost, stand_in: StandIn) -> None:
    before = state(switch)
    stand_in(VSWITCHD, '$real "$@"; kill -9 $PPID')
    switch.ovsxen(*SAVE)
    switch.vsctl("--no-wait", "remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait")
    switch.vsctl("add", "Bridge", "led", "other_config", "x=y")
    ofctl(switch, "add-flow", "led", "table=3,priority=7,arp,actions=drop")
    ofctl(switch, "add-flow", "led", "table=4,actions=drop")
    switch.start()
    now = state(switch)
    assert {line.strip() for line in now["led"] if "actions=drop" in line} == {
        "table=3, priority=7,arp actions=drop", "table=4, actions=drop"}
    assert len(now["led"]) == len(before["led"]) + 1
    assert {**now, "led": before["led"]} == before and not switch.paths.kept_flows.exists()


def test_of_bridges_that_are_gone_nothing_is_left(switch: SandboxHost, stand_in: StandIn) -> None:
    before = state(switch)
    stand_in(VSWITCHD, "kill -9 $PPID; exit 1")
    switch.ovsxen(*SAVE)
    stand_in(VSWITCHD, 'exec $real "$@"')
    switch.vsctl("--no-wait", "del-br", "led")
    switch.start()
    del before["led"]
    assert_all_back(switch, before)


def test_another_restart_takes_along_what_the_one_before_has_lost(switch: SandboxHost, stand_in: StandIn) -> None:
    before = state(switch)
    stand_in(VSWITCHD, '$real "$@"; kill -9 $PPID')
    switch.ovsxen(*SAVE)
    stand_in(VSWITCHD, 'exec $real "$@"')
    assert switch.ovsxen(*SAVE).code == 0
    assert_all_back(switch, before)


def test_where_ovs_vswitchd_was_not_stopped_nothing_is_kept_for_later(switch: SandboxHost, stand_in: StandIn) -> None:
    before, old = state(switch), pids(switch)
    stand_in(OVSDB_SERVER, "exit 1")
    assert switch.ovsxen(*SAVE).code == 1
    assert not switch.paths.kept_flows.exists()
    stand_in(OVSDB_SERVER, "kill -9 $PPID; exit 1")
    assert switch.ovsxen(*SAVE).code != 0
    stand_in(OVSDB_SERVER, 'exec $real "$@"')
    assert switch.pid(VSWITCHD) == old[VSWITCHD] and "flows that" not in str(switch.status()["problems"])
    switch.start()
    assert_all_back(switch, before)


def test_flows_that_went_over_well_are_kept_no_longer(switch: SandboxHost) -> None:
    before = state(switch)
    assert switch.ovsxen(*SAVE).code == 0
    assert_all_back(switch, before)


# What is said of bridges


@pytest.fixture
def failing_open(host: SandboxHost) -> SandboxHost:
    """A switch with standalone bridges whose controllers are silent, of which one has a flow of its own."""
    host.start()
    host.vsctl("del-manager", *(word for bridge in ("bare", "flowing") for word in (
        "--", "add-br", bridge, "--", "set-controller", bridge, NOBODY, "--", "set", "Controller", bridge,
        "inactivity_probe=1000")))
    assert eventually(lambda: fails_open(host, "bare") and fails_open(host, "flowing"))
    ofctl(host, "add-flow", "flowing", "table=3,arp,actions=LOCAL")
    return host


def fails_open(host: SandboxHost, bridge: str) -> bool:
    """It has the flow, hidden by its priority, by which it switches by itself."""
    said = daemons.ask(host.paths, daemons.find(host.paths, VSWITCHD), "bridge/dump-flows", (bridge,), 10.0)
    return "priority=15790320" in said


@pytest.mark.parametrize("option, said", [
    (("--save-flows",), "nothing is forwarded by bare and only what saved flows say by flowing, which loses them when "
                        "it fails open"),
    ((), "nothing is forwarded by bare, flowing")], ids=["--save-flows", "alone"])
def test_bridges_that_forward_nothing_until_they_fail_open_are_named(
        failing_open: SandboxHost, option: Tuple[str, ...], said: str) -> None:
    done = failing_open.ovsxen("restart", "--json", *option)
    assert done.code == 0
    assert not fails_open(failing_open, "bare")
    for name in ("save", "forwarding"):
        assert done.phase(name)["reason"].endswith(
            "; until a controller answers or the bridge fails open (15 s by default), " + said)


def test_nothing_of_the_kind_is_said_of_other_bridges(switch: SandboxHost) -> None:
    switch.vsctl("set-controller", "alone", "ptcp:0:127.0.0.1")
    done = switch.ovsxen(*SAVE)
    assert done.code == 0 and "fails open" not in done.out


@pytest.mark.parametrize("settings", [("odd", "datapath_type=nonsense"), ("br/0", "other_config:x=y")],
                         ids=["datapath_type", "name"])
def test_a_bridge_that_ovs_vswitchd_could_not_make_has_no_flows_to_keep(
        switch: SandboxHost, settings: Tuple[str, str]) -> None:
    before, (name, setting) = state(switch), settings
    switch.vsctl("--no-wait", "add-br", name, "--", "set", "Bridge", name, setting)
    done = switch.ovsxen(*SAVE)
    assert done.code == 0, done
    assert any("bridge %s" % name in warning for warning in done.json["warnings"])
    switch.vsctl("del-br", name)
    assert_all_back(switch, before)
