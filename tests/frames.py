"""A host in a network namespace, with a userspace datapath, and frames that pass its bridge."""

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, NamedTuple, Set, Tuple

from bench import namespaces

if TYPE_CHECKING:
    from tests.conftest import SandboxHost

MAC = "00:16:3e:0a:0b:0c"
LAN_MAC = "00:16:3e:99:99:99"
GUEST_MAC = "00:16:3e:77:77:77"
BROADCAST = "ff:ff:ff:ff:ff:ff"
EVERYWHERE = ("xenbr0", "lan0", "lan1", "guest")
SILENCE_S = 0.4

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

    def __init__(self, host: "SandboxHost", name: str) -> None:
        self.host = host
        self.name = name
        self.frames = 0

    def inside(self, *argv: str) -> str:
        """A program in the namespace, which must succeed."""
        return self.host.tool(*namespaces.inside(self.name, *argv))

    def ovsxen_argv(self, *arguments: str) -> Tuple[str, ...]:
        """ovsxen in the namespace, saying at once what it does."""
        return namespaces.inside(self.name, sys.executable, "-u", "-m", "ovsxen", *arguments)

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


@contextmanager
def plugged_in(host: "SandboxHost") -> Iterator[Wire]:
    """The host in a namespace of its own, which is gone afterwards with all that was in it."""
    made = Wire(host, "ovsxen-%d" % os.getpid())
    with namespaces.making_namespace(made.name):
        try:
            made.start()
            yield made
        finally:
            host.kill_daemons()
