"""Which flows keep management traffic alive: as a table, and by frames through a real switch.

The frames pass a userspace datapath in a network namespace of the test's own; a veth pair is a NIC and its cable.
"""

import re
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.errors import Refused
from ovsxen.host.clock import Deadline
from ovsxen.ovs import flows, management
from ovsxen.ovs.management import IPV6_MULTICAST, Flow, ManagementPath, flows_for
from tests.frames import (
    BROADCAST,
    EVERYWHERE,
    GUEST_MAC,
    LAN_MAC,
    MAC,
    SILENCE_S,
    Heard,
    Wire,
    arp_request,
    solicitation,
    unicast,
)

NIC = ManagementPath("xenbr0", MAC, "LOCAL", (1,))
BOND = NIC._replace(members=(1, 2))
VLAN = ManagementPath("xenbr0", MAC, 3, (1,), tag=7)
WITHIN_S = 10.0


def test_a_nic_gets_the_four_flows_that_it_always_got() -> None:
    assert flows_for(NIC) == (
        Flow("in_port=1,arp,arp_op=1", "LOCAL"),
        Flow("in_port=1,dl_dst=" + MAC, "LOCAL"),
        Flow("in_port=LOCAL,arp,dl_src=" + MAC, "output:1"),
        Flow("in_port=LOCAL,dl_src=" + MAC, "output:1"))


def test_a_bond_gets_inbound_flows_for_every_member_and_chooses_the_member_itself() -> None:
    assert flows_for(BOND) == (
        Flow("in_port=1,arp,arp_op=1", "LOCAL"),
        Flow("in_port=1,dl_dst=" + MAC, "NORMAL"),
        Flow("in_port=2,arp,arp_op=1", "LOCAL"),
        Flow("in_port=2,dl_dst=" + MAC, "NORMAL"),
        Flow("in_port=LOCAL,arp,dl_src=" + MAC, "NORMAL"),
        Flow("in_port=LOCAL,dl_src=" + MAC, "NORMAL"))


def test_a_vlan_is_taken_off_inbound_and_put_on_outbound() -> None:
    assert flows_for(VLAN) == (
        Flow("in_port=1,dl_vlan=7,arp,arp_op=1", "strip_vlan,output:3"),
        Flow("in_port=1,dl_vlan=7,dl_dst=" + MAC, "strip_vlan,output:3"),
        Flow("in_port=3,arp,dl_src=" + MAC, "mod_vlan_vid:7,output:1"),
        Flow("in_port=3,dl_src=" + MAC, "mod_vlan_vid:7,output:1"))


def test_ipv6_adds_its_multicast_inbound_for_every_member() -> None:
    added = set(flows_for(BOND._replace(ipv6=True))) - set(flows_for(BOND))
    assert added == {Flow("in_port=%d,%s" % (member, IPV6_MULTICAST), "LOCAL") for member in (1, 2)}


@pytest.mark.parametrize("spelling", ["00:16:3E:0A:0B:0C", " 00:16:3e:0a:0b:0c\n"])
def test_a_mac_is_the_same_in_every_spelling(spelling: str) -> None:
    assert flows_for(NIC._replace(mac=spelling)) == flows_for(NIC)


@pytest.mark.parametrize("mac", [
    "", "[]", "00:16:3e:0a:0b", "00:16:3e:0a:0b:0c:0d", "00-16-3e-0a-0b-0c", BROADCAST, "01:00:5e:00:00:01",
    "00:00:00:00:00:00", MAC + ",actions=drop", "0x:16:3e:0a:0b:0c"])
def test_what_is_no_mac_of_an_interface_is_refused(mac: str) -> None:
    with pytest.raises(Refused, match="xenbr0.*MAC"):
        flows_for(NIC._replace(mac=mac))


@pytest.mark.parametrize("changed", [
    {"members": ()}, {"members": (0,)}, {"members": (-1,)}, {"members": (1, 65280)}, {"members": ("[]",)},
    {"members": (1, 1)}, {"members": ("LOCAL",)}, {"members": (True,)}, {"members": (None,)}, {"members": ("1",)},
    {"local_port": ""}, {"local_port": "[]"}, {"local_port": 0}, {"local_port": -1}, {"local_port": 1},
    {"tag": -1}, {"tag": 4095}])
def test_a_path_that_is_not_fully_known_is_refused(changed: Dict[str, Any]) -> None:
    with pytest.raises(Refused, match="xenbr0"):
        flows_for(NIC._replace(**changed))


PORTS = st.integers(1, management.LAST_PORT)


@given(st.lists(PORTS, min_size=1, max_size=4, unique=True), st.integers(0, 4094), st.booleans())
def test_no_two_flows_have_one_match_and_none_is_for_all_frames(members: List[int], tag: int, ipv6: bool) -> None:
    made = flows_for(ManagementPath("xenbr0", MAC, "LOCAL", tuple(members), tag, ipv6))
    assert len({flow.match for flow in made}) == len(made) == len(members) * (3 if ipv6 else 2) + 2
    assert all(flow.match.startswith("in_port=") and "," in flow.match for flow in made)


def add(wire: Wire, path: ManagementPath) -> None:
    wanted = flows_for(path)
    flows.add_flows(wire.host.paths, "xenbr0", wanted, WITHIN_S)
    assert flows.has_flows(wire.host.paths, "xenbr0", wanted, WITHIN_S)


def test_frames_pass_a_secure_bridge_with_a_nic_by_its_flows_and_only_by_them(wire: Wire) -> None:
    wire.host.vsctl("add-port", "xenbr0", "eth0")
    path = NIC._replace(members=(wire.ofport("eth0"),), ipv6=True)
    inbound = (arp_request(LAN_MAC), unicast(LAN_MAC, MAC), solicitation(LAN_MAC))
    outbound = (arp_request(MAC), unicast(MAC, LAN_MAC), solicitation(MAC))
    strange = (("lan0", unicast(LAN_MAC, GUEST_MAC)), ("xenbr0", unicast(GUEST_MAC, LAN_MAC)),
               ("guest", arp_request(GUEST_MAC)), ("guest", unicast(GUEST_MAC, MAC)), ("guest", unicast(MAC, LAN_MAC)))
    ours = tuple(("lan0", one) for one in inbound) + tuple(("xenbr0", one) for one in outbound)
    for device, one in ours[:1] + ours[4:5]:
        assert wire.send(device, one, EVERYWHERE, wait_s=SILENCE_S) == set()
    add(wire, path)
    for one in inbound:
        assert wire.send("lan0", one, EVERYWHERE, until="xenbr0") == {Heard("xenbr0", 0)}
    for one in outbound:
        assert wire.send("xenbr0", one, EVERYWHERE, until="lan0") == {Heard("lan0", 0)}
    for device, one in strange:
        assert wire.send(device, one, EVERYWHERE, wait_s=SILENCE_S) == set()
    flows.remove_flows(wire.host.paths, "xenbr0", WITHIN_S)
    for device, one in ours[1:2] + ours[3:4]:
        assert wire.send(device, one, EVERYWHERE, wait_s=SILENCE_S) == set()


def test_management_goes_on_over_a_bridge_that_turns_secure(wire: Wire) -> None:
    wire.host.vsctl("set", "Bridge", "xenbr0", "fail_mode=standalone", "--", "add-port", "xenbr0", "eth0")
    path = NIC._replace(members=(wire.ofport("eth0"),))
    assert Heard("xenbr0", 0) in wire.send("lan0", arp_request(LAN_MAC), EVERYWHERE, until="xenbr0")
    add(wire, path)
    wire.host.vsctl("set", "Bridge", "xenbr0", "fail_mode=secure")
    add(wire, path)
    assert wire.send("lan0", arp_request(LAN_MAC), EVERYWHERE, until="xenbr0") == {Heard("xenbr0", 0)}
    assert wire.send("xenbr0", unicast(MAC, LAN_MAC), EVERYWHERE, until="lan0") == {Heard("lan0", 0)}


def fail_over(wire: Wire) -> str:
    """Pull the cable of the bond's active member; gives the far end of the other one."""
    def active() -> str:
        found = re.search(r"^active member mac: .*\(eth(\d)\)", wire.host.tool("ovs-appctl", "bond/show"), re.MULTILINE)
        return "lan" + found.group(1) if found else ""
    was = active()
    wire.inside("ip", "link", "set", was, "down")
    assert Deadline(10).wait_until(lambda: active() not in (was, ""), every_s=0.05)
    return active()


def assert_passes_bond(wire: Wire, local: str, tag: int, cables: Tuple[str, ...]) -> None:
    """Frames pass the bond inbound and outbound, by its active member, and no VIF hears what is for the host alone."""
    ears = cables + (local, "guest")
    for cable in cables:
        assert wire.send(cable, arp_request(LAN_MAC, tag), ears, until=local) == {Heard(local, 0)}
    asked = wire.send(local, arp_request(MAC), ears, wait_s=SILENCE_S)
    assert [heard.tag for heard in asked if heard.device in cables] == [tag]
    active = next(heard.device for heard in asked if heard.device in cables)
    assert wire.send(active, unicast(LAN_MAC, MAC, tag), ears, until=local) == {Heard(local, 0)}
    assert wire.send(local, unicast(MAC, LAN_MAC), ears, until=active) == {Heard(active, tag)}


@pytest.mark.parametrize("mode", ["active-backup", "balance-slb"])
def test_frames_pass_a_secure_bridge_with_a_bond_and_go_on_when_it_fails_over(wire: Wire, mode: str) -> None:
    wire.host.vsctl("add-bond", "xenbr0", "bond0", "eth0", "eth1", "bond_mode=" + mode)
    members = (wire.ofport("eth0"), wire.ofport("eth1"))
    for device, one in (("lan0", arp_request(LAN_MAC)), ("lan1", unicast(LAN_MAC, MAC)), ("xenbr0", arp_request(MAC))):
        assert wire.send(device, one, EVERYWHERE, wait_s=SILENCE_S) == set()
    add(wire, BOND._replace(members=members))
    assert_passes_bond(wire, "xenbr0", 0, ("lan0", "lan1"))
    assert_passes_bond(wire, "xenbr0", 0, (fail_over(wire),))


def with_vlan(wire: Wire) -> ManagementPath:
    """Management on xapi5, the fake bridge of VLAN 7."""
    wire.host.vsctl("add-br", "xapi5", "xenbr0", "7", "--", "set", "Interface", "xapi5", "mac=\"%s\"" % MAC)
    wire.inside("ip", "link", "set", "xapi5", "up")
    return VLAN._replace(local_port=wire.ofport("xapi5"))


def test_frames_of_a_vlan_arrive_untagged_and_leave_tagged(wire: Wire) -> None:
    wire.host.vsctl("add-port", "xenbr0", "eth0")
    path = with_vlan(wire)._replace(members=(wire.ofport("eth0"),))
    ears = EVERYWHERE + ("xapi5",)
    assert wire.send("lan0", arp_request(LAN_MAC, 7), ears, wait_s=SILENCE_S) == set()
    assert wire.send("xapi5", arp_request(MAC), ears, wait_s=SILENCE_S) == set()
    add(wire, path)
    for one in (arp_request(LAN_MAC, 7), unicast(LAN_MAC, MAC, 7)):
        assert wire.send("lan0", one, ears, until="xapi5") == {Heard("xapi5", 0)}
    for one in (arp_request(MAC), unicast(MAC, LAN_MAC)):
        assert wire.send("xapi5", one, ears, until="lan0") == {Heard("lan0", 7)}
    for tag in (0, 8):
        assert wire.send("lan0", unicast(LAN_MAC, MAC, tag), ears, wait_s=SILENCE_S) == set()


def test_frames_of_a_vlan_pass_a_bond(wire: Wire) -> None:
    wire.host.vsctl("add-bond", "xenbr0", "bond0", "eth0", "eth1", "bond_mode=active-backup")
    path = with_vlan(wire)._replace(members=(wire.ofport("eth0"), wire.ofport("eth1")))
    add(wire, path)
    wire.host.vsctl("set", "Port", "vif1.0", "tag=7")  # a VIF in that very network
    assert_passes_bond(wire, "xapi5", 7, ("lan0", "lan1"))
