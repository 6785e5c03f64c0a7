"""The door to OpenFlow with a real ovs-vswitchd (dummy datapath): flows added, seen, removed, and flushed by others."""

import os
import re
import signal
from typing import Callable, Tuple

import pytest

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.ovs import flows
from ovsxen.ovs.daemons import VSWITCHD
from ovsxen.ovs.flows import COOKIE, FlowRefused, add_flows, has_flows, remove_flows
from ovsxen.ovs.management import Flow, ManagementPath, flows_for
from tests.conftest import SandboxHost

WITHIN_S = 10.0
NIC = ManagementPath("xenbr0", "00:16:3e:0a:0b:0c", "LOCAL", (1,), ipv6=True)
EVERY_KIND = flows_for(NIC) + flows_for(NIC._replace(local_port=5, members=(3,), tag=4094)) + flows_for(
    NIC._replace(local_port=9, members=(7, 8), tag=1))
FOUR = flows_for(NIC._replace(ipv6=False))
ALL_VERSIONS = "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15"


@pytest.fixture
def host(host: SandboxHost) -> SandboxHost:
    """A started host with one bridge, xenbr0, that is secure."""
    host.start()
    host.vsctl("del-manager")
    host.vsctl("add-br", "xenbr0", "--", "set", "Bridge", "xenbr0", "fail_mode=secure")
    return host


def ofctl(host: SandboxHost, *arguments: str) -> str:
    """ovs-ofctl for xenbr0; `arguments` are an option, the command and what goes with it."""
    socket = "unix:%s" % host.paths.bridge_socket("xenbr0")
    return host.tool("ovs-ofctl", "-O", ALL_VERSIONS, *arguments[:2], socket, *arguments[2:])


def cookies(host: SandboxHost) -> Tuple[int, int]:
    """How many flows are ours, and how many are of others."""
    lines = [line for line in ofctl(host, "--no-stats", "dump-flows").splitlines() if "actions=" in line]
    ours = [line for line in lines if "cookie=%#x," % COOKIE in line]
    return len(ours), len(lines) - len(ours)


def add(host: SandboxHost, wanted: Tuple[Flow, ...] = FOUR) -> None:
    add_flows(host.paths, "xenbr0", wanted, WITHIN_S)


def are_there(host: SandboxHost, wanted: Tuple[Flow, ...] = FOUR) -> bool:
    return has_flows(host.paths, "xenbr0", wanted, WITHIN_S)


def leftovers(host: SandboxHost) -> bool:
    return any("flows" in path.name for path in host.paths.rundir.iterdir())


@pytest.mark.parametrize("version", ALL_VERSIONS.split(","))
def test_flows_are_added_and_seen_whichever_openflow_version_a_controller_left_allowed(
        host: SandboxHost, version: str) -> None:
    host.vsctl("set", "Bridge", "xenbr0", "protocols=" + version)
    assert not are_there(host, EVERY_KIND)
    for _ in range(2):
        add(host, EVERY_KIND)
        assert are_there(host, EVERY_KIND)
        assert cookies(host) == (len(EVERY_KIND), 0)
    remove_flows(host.paths, "xenbr0", WITHIN_S)
    assert cookies(host) == (0, 0)
    assert not leftovers(host)


@pytest.mark.parametrize("damage", [
    ("--strict", "del-flows", "priority=0,in_port=1,arp,arp_op=1"),
    ("--strict", "mod-flows", "priority=0,in_port=1,arp,arp_op=1,actions=output:9"),
    ("--strict", "add-flow", "cookie=0x77,priority=0,in_port=1,arp,arp_op=1,actions=LOCAL"),
    ("--strict", "del-flows", "priority=0,in_port=LOCAL,dl_src=00:16:3e:0a:0b:0c"),
])
def test_a_flow_that_is_gone_or_changed_or_another_ones_is_not_there(
        host: SandboxHost, damage: Tuple[str, ...]) -> None:
    add(host)
    assert are_there(host)
    ofctl(host, *damage)
    assert not are_there(host)
    add(host)
    assert are_there(host)


def test_flows_of_ours_that_nobody_asked_for_are_noticed(host: SandboxHost) -> None:
    add(host, EVERY_KIND)
    assert are_there(host, EVERY_KIND) and not are_there(host, FOUR) and not are_there(host, ())


def test_only_our_own_flows_are_removed(host: SandboxHost) -> None:
    host.vsctl("set", "Bridge", "xenbr0", "fail_mode=standalone")
    ofctl(host, "--strict", "add-flow", "cookie=0x77,priority=9,in_port=4,actions=LOCAL")
    ofctl(host, "--strict", "add-flow", "cookie=%#x,priority=9,in_port=6,actions=LOCAL" % (COOKIE + 1))
    add(host)
    assert cookies(host) == (4, 3)
    for _ in range(2):
        remove_flows(host.paths, "xenbr0", WITHIN_S)
        assert cookies(host) == (0, 3)


Call = Callable[[Paths, str], object]
CALLS = pytest.mark.parametrize("call", [
    lambda paths, bridge: add_flows(paths, bridge, FOUR, 1.0),
    lambda paths, bridge: has_flows(paths, bridge, FOUR, 1.0),
    lambda paths, bridge: remove_flows(paths, bridge, 1.0),
], ids=["add", "look", "remove"])


@CALLS
def test_a_bridge_that_is_not_there_is_named(host: SandboxHost, call: Call) -> None:
    with pytest.raises(FlowRefused, match="xenbr7.*No such file") as caught:
        call(host.paths, "xenbr7")
    assert (caught.value.bridge, caught.value.returncode) == ("xenbr7", 1)
    assert not leftovers(host)


@CALLS
@pytest.mark.parametrize("name", ["", "../xenbr0", "/tmp/x"])
def test_what_is_no_name_of_a_bridge_is_never_looked_for(host: SandboxHost, call: Call, name: str) -> None:
    with pytest.raises(Refused, match="name of a bridge"):
        call(host.paths, name)


@CALLS
def test_a_switch_that_hangs_ends_with_the_deadline(host: SandboxHost, call: Call) -> None:
    began = Deadline(5.0)
    host.signal(VSWITCHD, signal.SIGSTOP)
    try:
        with pytest.raises(NoAnswer, match="xenbr0"):
            call(host.paths, "xenbr0")
    finally:
        host.signal(VSWITCHD, signal.SIGCONT)
    assert not began.has_passed()
    assert not leftovers(host)


@CALLS
def test_a_switch_that_died_is_an_error_at_once(host: SandboxHost, call: Call) -> None:
    host.signal(VSWITCHD, signal.SIGKILL)
    with pytest.raises(FlowRefused, match="xenbr0"):
        call(host.paths, "xenbr0")


def test_the_refused_flow_is_named_where_it_is_known(host: SandboxHost) -> None:
    with pytest.raises(FlowRefused, match="unknown keyword") as caught:
        add(host, FOUR + (Flow("in_port=1,spam=2", "LOCAL"),))
    assert caught.value.flow == "idle_timeout=0,priority=0,in_port=1,spam=2,actions=LOCAL"
    assert not leftovers(host)


def test_a_refusal_by_the_switch_says_its_reason(host: SandboxHost) -> None:
    with pytest.raises(FlowRefused, match="OFPBAC_BAD_OUT_GROUP") as caught:
        add(host, FOUR[:1] + (Flow("in_port=1", "group:77"),))
    assert re.search("arp_op=1,actions=LOCAL; .*actions=group:77", caught.value.flow)
    assert not are_there(host)


def test_a_run_directory_that_cannot_be_written_is_an_error_that_names_it(host: SandboxHost) -> None:
    os.rename(str(host.paths.rundir), str(host.paths.rundir) + "-away")
    try:
        with pytest.raises(AdministratorError, match="ovsxen-flows"):
            add(host)
    finally:
        os.rename(str(host.paths.rundir) + "-away", str(host.paths.rundir))


CONTROLLER = "tcp:127.0.0.1:1"  # nobody listens there
SET_CONTROLLER = ("set-controller", "xenbr0", CONTROLLER)
SECURE = ("set", "Bridge", "xenbr0", "fail_mode=secure")
STANDALONE = ("set", "Bridge", "xenbr0", "fail_mode=standalone")


@pytest.mark.parametrize("before, change", [
    (STANDALONE, SECURE), (SECURE, STANDALONE), (SECURE, SET_CONTROLLER), (STANDALONE, SET_CONTROLLER),
    (SET_CONTROLLER, ("del-controller", "xenbr0")),
    (SET_CONTROLLER + ("--",) + STANDALONE, ("del-controller", "xenbr0", "--") + SECURE),
    (SET_CONTROLLER, ("emer-reset", "--") + SECURE),
], ids=" ".join)
def test_the_switch_flushes_before_it_says_that_it_is_configured_and_not_after(
        host: SandboxHost, before: Tuple[str, ...], change: Tuple[str, ...]) -> None:
    host.vsctl(*before)
    add(host)
    assert are_there(host)
    host.vsctl(*change)  # returns when cur_cfg says so
    assert cookies(host)[0] == 0
    add(host)
    host.vsctl("set", "Bridge", "xenbr0", "other_config:mac-aging-time=300")  # one more configuration
    assert are_there(host)


@pytest.mark.parametrize("before, change", [
    (SET_CONTROLLER + ("--",) + STANDALONE, SECURE), (SET_CONTROLLER, STANDALONE),
    (SET_CONTROLLER, ("set-controller", "xenbr0", "tcp:127.0.0.1:2")),
    (SECURE, ("set", "Bridge", "xenbr0", "protocols=OpenFlow11")),
    (SECURE, ("add-port", "xenbr0", "vif1.0")),
    (SECURE, ("set", "Bridge", "xenbr0", "other_config:disable-in-band=true")),
    (("clear", "Bridge", "xenbr0", "fail_mode"), STANDALONE),
], ids=" ".join)
def test_what_else_is_configured_leaves_the_flows(
        host: SandboxHost, before: Tuple[str, ...], change: Tuple[str, ...]) -> None:
    host.vsctl(*before)
    add(host)
    host.vsctl(*change)
    assert are_there(host)


def test_the_error_is_one_of_ours_and_keeps_what_the_plugin_answers() -> None:
    error = FlowRefused("problem", 1, "xenbr0", "flow")
    assert isinstance(error, OvsxenError)
    assert (error.returncode, error.bridge, error.flow) == (1, "xenbr0", "flow")
    assert "ovs-ofctl show xenbr0" in str(error)
    assert flows.OURS == "cookie=0x6f767378656e/-1"
