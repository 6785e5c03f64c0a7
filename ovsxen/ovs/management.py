"""Pure: which flows keep the management traffic of a host alive on a bridge that is secure and has no controller.

A secure bridge forwards only what its flows let pass. The four flows for a NIC are those that the plugin and
interface-reconfigure have always added (openvswitch da7198b41); the plugin's were never right for a bond or a VLAN.
Controllers replace them: their priority is the lowest. flows.py puts them into the switch.
"""

import re
from typing import NamedTuple, Tuple, Union

from ovsxen.errors import Refused

LOCAL = "LOCAL"
MAC = re.compile(r"(?!00:00:00:00:00:00)[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
LAST_PORT = 0xfeff
"""OpenFlow's port numbers end before OFPP_MAX, 0xff00 (OpenFlow 1.0 §5.2.1)."""

LAST_TAG = 4094
IPV6_MULTICAST = "ipv6,dl_dst=33:33:00:00:00:00/ff:ff:00:00:00:00"
"""Neighbour and router discovery, and the queries that make a switch in between pass them on.

Not by ICMPv6 type: OpenFlow 1.1 cannot say that, and a bridge may allow nothing else.
"""


class Flow(NamedTuple):
    """A flow as ovs-ofctl spells it. Its priority is 0, and it never expires."""

    match: str
    actions: str


class ManagementPath(NamedTuple):
    """How the management traffic of this host gets through a real bridge.

    `mac`: the address that it is sent from. `local_port`: the OpenFlow port of the interface that has it: LOCAL for the
    bridge's own, a number for the internal interface of a VLAN's fake bridge. `members`: the OpenFlow ports of the NIC,
    or of every slave of the bond. `tag`: the VLAN on the wire; 0 without one.
    """

    bridge: str
    mac: str
    local_port: Union[str, int]
    members: Tuple[int, ...]
    tag: int = 0
    ipv6: bool = False


def flows_for(path: ManagementPath) -> Tuple[Flow, ...]:
    """The flows, inbound for every member and outbound. Raises Refused for a path that is not fully known.

    An OpenFlow port that is unset, -1 or 0 must never become part of a flow: the historic plugin wrote `in_port=[]`.
    """
    local, mac = _port(path, path.local_port), _mac(path)
    members = tuple(_port(path, member) for member in path.members)
    if not members or LOCAL in members or len(set(members + (local,))) != len(members) + 1:
        raise _refused(path, "its ports, %s, are not different ones of a NIC or a bond" % (path.members,))
    if not 0 <= path.tag <= LAST_TAG:
        raise _refused(path, "%s is not a VLAN" % path.tag)
    inbound = tuple(flow for member in members for flow in _inbound(path, member, local, mac))
    return inbound + _outbound(path, members, local, mac)


def _inbound(path: ManagementPath, member: str, local: str, mac: str) -> Tuple[Flow, ...]:
    """To the interface that has the address, untagged.

    From a bond, what is sent to the address goes with NORMAL: that is how the bridge learns where the senders are.
    Else it would send everything that the host answers, which leaves with NORMAL too, to every VIF as well.
    """
    where = "in_port=%s" % member + (",dl_vlan=%d" % path.tag if path.tag else "")
    deliver = ("strip_vlan," if path.tag else "") + _output(local)
    known = Flow("%s,dl_dst=%s" % (where, mac), "NORMAL" if len(path.members) > 1 else deliver)
    asked = ("arp,arp_op=1",) + ((IPV6_MULTICAST,) if path.ipv6 else ())
    return tuple(Flow("%s,%s" % (where, match), deliver) for match in asked) + (known,)


def _outbound(path: ManagementPath, members: Tuple[str, ...], local: str, mac: str) -> Tuple[Flow, ...]:
    """Out of the NIC, tagged for a VLAN. Out of a bond with NORMAL, which tags too: only the bond knows its member."""
    if len(members) > 1:
        actions = "NORMAL"
    else:
        actions = ("mod_vlan_vid:%d," % path.tag if path.tag else "") + _output(members[0])
    where = "in_port=%s" % local
    return (Flow("%s,arp,dl_src=%s" % (where, mac), actions), Flow("%s,dl_src=%s" % (where, mac), actions))


def _output(port: str) -> str:
    return port if port == LOCAL else "output:%s" % port


def _mac(path: ManagementPath) -> str:
    mac = path.mac.strip().lower()
    if not MAC.fullmatch(mac):
        raise _refused(path, "%s is not the MAC of an interface" % ascii(path.mac))
    return mac


def _port(path: ManagementPath, port: Union[str, int]) -> str:
    if isinstance(port, str) and port.upper() == LOCAL:
        return LOCAL
    if isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= LAST_PORT:
        return str(port)
    raise _refused(path, "%s is not an OpenFlow port" % ascii(port))


def _refused(path: ManagementPath, why: str) -> Refused:
    return Refused("no flows can be made for the management traffic on %s: %s" % (path.bridge, why),
                   "see its interfaces with `ovs-vsctl list Interface`, then run the update again")
