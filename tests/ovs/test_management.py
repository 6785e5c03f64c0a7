"""Which flows keep management traffic alive: as a table, and by frames through a real switch.

The frames pass a userspace datapath in a network namespace of the test's own; a veth pair is a NIC and its cable.
"""

import json
import os
import re
import sys
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.errors import Refused
from ovsxen.host.clock import Deadline
from ovsxen.ovs import flows, management
from ovsxen.ovs.management import IPV6_MULTICAST, Flow, ManagementPath, flows_for
from tests.conftest import MakeHost, SandboxHost

MAC = "00:16:3e:0a:0b:0c"
LAN_MAC = "00:16:3e:99:99:99"
GUEST_MAC = "00:16:3e:77:77:77"
BROADCAST = "ff:ff:ff:ff:ff:ff"
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


# What follows runs inside the namespace: one frame is sent, and what arrives with its payload is said, tags in place.
PROBE = r"""
import json, select, socket, struct, sys, time
ask = json.loads(sys.argv[1])
ALL = socket.htons(3)
def listen(device):
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ALL)
    heard.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: the kernel takes a tag off the frame and says it there
    heard.bind((device, 3))
    return heard
ears = {listen(device): device for device in ask["listen"]}
mouth = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
mouth.bind((ask["send"], 0))
mouth.send(bytes.fromhex(ask["frame"]))
marker, found, end = bytes.fromhex(ask["marker"]), [], time.monotonic() + ask["wait"]
while time.monotonic() < end:
    for ear in select.select(list(ears), [], [], max(0, end - time.monotonic()))[0]:
        frame, extra, _, (_, _, kind, _, _) = ear.recvmsg(2048, 256)
        if kind == 4 or marker not in frame:  # PACKET_OUTGOING: what is sent here, not what arrives
            continue
        for level, what, data in extra:
            status, tci = struct.unpack("I12xH", data[:18]) if (level, what) == (263, 8) else (0, 0)
            if status & 16:  # TP_STATUS_VLAN_VALID
                frame = frame[:12] + struct.pack(">HH", 0x8100, tci) + frame[12:]
        found.append([ears[ear], frame.hex()])
        if ears[ear] == ask["until"]:
            end = min(end, time.monotonic() + 0.1)
print(json.dumps(found))
"""


class Heard(NamedTuple):
    """Where a frame arrived, and with which VLAN (0: untagged)."""

    device: str
    tag: int


class Wire:
    """A host in a network namespace, whose bridge xenbr0 is secure: eth0, eth1 are NICs, lan0, lan1 what they are
    plugged into, guest is the other end of a VIF.
    """

    def __init__(self, host: SandboxHost, name: str) -> None:
        self.host = host
        self.name = name
        self.frames = 0

    def inside(self, *argv: str) -> str:
        """A program in the namespace, which must succeed."""
        return self.host.tool("ip", "netns", "exec", self.name, *argv)

    def start(self) -> None:
        self.host.write(self.host.paths.sysconfig, "VSWITCHD_MLOCKALL=no\n")  # no dummy: real devices
        self.inside("ip", "link", "set", "lo", "up")
        self.inside(sys.executable, "-m", "ovsxen", "start")
        for near, far in (("eth0", "lan0"), ("eth1", "lan1"), ("vif1.0", "guest")):
            self.inside("ip", "link", "add", near, "type", "veth", "peer", "name", far)
            self.inside("ip", "link", "set", near, "up")
            self.inside("ip", "link", "set", far, "up")
        self.host.vsctl("del-manager")  # in-band control would let ARP pass for it
        self.host.vsctl("add-br", "xenbr0", "--", "set", "Bridge", "xenbr0", "datapath_type=netdev",
                        "fail_mode=secure", "other_config:hwaddr=\"%s\"" % MAC)
        self.host.vsctl("add-port", "xenbr0", "vif1.0")
        self.inside("ip", "link", "set", "xenbr0", "up")

    def ofport(self, device: str) -> int:
        return int(self.host.vsctl("get", "Interface", device, "ofport"))

    def add(self, path: ManagementPath) -> None:
        wanted = flows_for(path)
        flows.add_flows(self.host.paths, "xenbr0", wanted, WITHIN_S)
        assert flows.has_flows(self.host.paths, "xenbr0", wanted, WITHIN_S)

    def send(self, device: str, frame: str, listen: Tuple[str, ...], until: str = "",
             wait_s: float = 5.0) -> Set[Heard]:
        """Send a frame with a payload of its own; who hears it until it arrives at `until`, or in `wait_s`."""
        self.frames += 1
        marker = "%08x%08x" % (os.getpid(), self.frames)
        ask = {"send": device, "frame": frame + marker + "00" * 40, "marker": marker, "listen": listen,
               "until": until, "wait": wait_s}
        heard = json.loads(self.inside(sys.executable, "-c", PROBE, json.dumps(ask)))
        return {Heard(device, int(frame[28:32], 16) & 0xfff if frame[24:28] == "8100" else 0)
                for device, frame in heard}


def frame(source: str, target: str, ethertype: str, start: str, tag: int = 0) -> str:
    """The start of a frame as hexadecimal digits."""
    return (target + source).replace(":", "") + ("8100%04x" % tag if tag else "") + ethertype + start


def arp_request(source: str, tag: int = 0) -> str:
    return frame(source, BROADCAST, "0806", "0001080006040001" + source.replace(":", "") + "c0000201"
                 + "000000000000" + "c0000202", tag)


def unicast(source: str, target: str, tag: int = 0) -> str:
    """A frame of IPv4 (UDP); nobody looks into it."""
    return frame(source, target, "0800", "4500003c00000000401100000a0000010a000002" + "0001000200280000", tag)


def solicitation(source: str) -> str:
    """Neighbour discovery: who has this IPv6 address? Sent to the addresses that end as it does."""
    return frame(source, "33:33:ff:00:00:01", "86dd", "6000000000283aff" + "fe80" + "00" * 13 + "02"
                 + "ff02" + "00" * 9 + "01ff000001" + "8700000000000000")


@pytest.fixture
def wire(make_host: MakeHost) -> Iterator[Wire]:
    made = Wire(make_host(stale_bridges=0), "ovsxen-%d" % os.getpid())
    made.host.tool("ip", "netns", "add", made.name)
    try:
        made.start()
        yield made
    finally:
        try:
            made.host.kill_daemons()
        finally:
            made.host.tool("ip", "netns", "delete", made.name)  # its devices go with it


EVERYWHERE = ("xenbr0", "lan0", "lan1", "guest")
SILENCE_S = 0.4


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
    wire.add(path)
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
    wire.add(path)
    wire.host.vsctl("set", "Bridge", "xenbr0", "fail_mode=secure")
    wire.add(path)
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


def pass_bond(wire: Wire, local: str, tag: int, cables: Tuple[str, ...]) -> None:
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
    wire.add(BOND._replace(members=members))
    pass_bond(wire, "xenbr0", 0, ("lan0", "lan1"))
    pass_bond(wire, "xenbr0", 0, (fail_over(wire),))


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
    wire.add(path)
    for one in (arp_request(LAN_MAC, 7), unicast(LAN_MAC, MAC, 7)):
        assert wire.send("lan0", one, ears, until="xapi5") == {Heard("xapi5", 0)}
    for one in (arp_request(MAC), unicast(MAC, LAN_MAC)):
        assert wire.send("xapi5", one, ears, until="lan0") == {Heard("lan0", 7)}
    for tag in (0, 8):
        assert wire.send("lan0", unicast(LAN_MAC, MAC, tag), ears, wait_s=SILENCE_S) == set()


def test_frames_of_a_vlan_pass_a_bond(wire: Wire) -> None:
    wire.host.vsctl("add-bond", "xenbr0", "bond0", "eth0", "eth1", "bond_mode=active-backup")
    path = with_vlan(wire)._replace(members=(wire.ofport("eth0"), wire.ofport("eth1")))
    wire.add(path)
    wire.host.vsctl("set", "Port", "vif1.0", "tag=7")  # a VIF in that very network
    pass_bond(wire, "xapi5", 7, ("lan0", "lan1"))
