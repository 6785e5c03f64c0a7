"""A bridge that turns secure keeps this host's management traffic: its flows are in place before, and seen after.

A secure bridge forwards nothing by itself, and a host whose management interface is on it would be cut off until a
controller comes (openvswitch da7198b41). ovs-vswitchd throws flows away when a bridge turns secure (ovs/flows.py says
when), so they are added before, which proves that they can be, and again after.
"""

from typing import NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, Refused
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.ovs import flows
from ovsxen.ovs.flows import FlowRefused
from ovsxen.ovs.guard import Guard, forget_guard, read_guard, write_guard
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.management import LOCAL, ManagementPath, flows_for
from ovsxen.ovs.tables import Configuration, Interface, read_interfaces, read_owners
from ovsxen.plan_reset import HWADDR
from ovsxen.xapi.records import Devices, Network

ANSWER_WITHIN_S = 5.0
PORTS_WITHIN_S = 10.0  # ovs-vswitchd waits up to 8 s before it connects again
NO_IPV6 = "None"


class ManagementInterface(NamedTuple):
    """Which interface has this host's management address, on which devices it lies, and whether it speaks IPv6.

    `below` is the bridge of the network that those devices are on: its own, save for a VLAN.
    """

    name: str
    below: str
    devices: Tuple[str, ...]
    ipv6: bool


def find_management(networks: Tuple[Network, ...], devices: Devices) -> Optional[ManagementInterface]:
    """Pure: this host's management PIF, down to the NICs below it, through a VLAN and a bond; None without one.

    Raises Refused for one without a bridge, and for several.
    """
    found = [one for one in devices.pifs if one.management and one.host == devices.host_ref]
    if not found:
        return None
    pif = found[0]
    bridges = {network.ref: network.bridge for network in networks}
    if len(found) > 1 or not bridges.get(pif.network):
        raise Refused("XAPI does not say which bridge this host's management interface %s is on" % " or ".join(
            one.device for one in found),
                      "look at it with `xe pif-list management=true`, then run `ovsxen update`")
    by_ref = {one.ref: one for one in devices.pifs}
    below = next((by_ref.get(vlan.tagged_pif, pif) for vlan in devices.vlans if vlan.untagged_pif == pif.ref), pif)
    slaves = next((bond.slaves for bond in devices.bonds if bond.master == below.ref), (below.ref,))
    names = tuple(by_ref[ref].device for ref in slaves if ref in by_ref)
    return ManagementInterface(bridges[pif.network], bridges.get(below.network, ""), names,
                               ipv6=pif.ipv6_configuration_mode not in ("", NO_IPV6))


def bridge_of(management: ManagementInterface, switch: Configuration) -> str:
    """The real bridge that the interface is on, by the switch's own word; where it has none such, the one below."""
    return switch.real_bridges().get(management.name, management.below)


def wait_for_guard(connection: Connection, management: ManagementInterface, switch: Configuration,
               deadline: Deadline) -> Guard:
    """The flows that the management traffic needs, as soon as all its ports are known. Raises Refused, NoAnswer."""
    interfaces = _wait_for_ports(connection, management, deadline)
    if not interfaces:
        raise Refused("the OpenFlow ports of its management interface %s (on %s) are not known" % (
            management.name, ", ".join(management.devices) or "no device"),
                      "look at `ovs-vsctl show`, and run `ovsxen update` when they are there")
    bridge = bridge_of(management, switch)
    _require_on_bridge(connection, interfaces, bridge, switch, deadline)
    local = LOCAL if bridge == management.name else interfaces[0].ofport
    members = tuple(one.ofport for one in interfaces[1:])
    mac = _mac_of(interfaces[0], bridge, switch)
    tag = next((vlan.tag for vlan in switch.vlan_bridges if vlan.name == management.name), 0)
    return Guard(bridge, flows_for(ManagementPath(bridge, mac, local, members, tag, management.ipv6)),
                 tuple((one.name, one.ofport) for one in interfaces))


def _wait_for_ports(connection: Connection, management: ManagementInterface,
                    deadline: Deadline) -> Tuple[Interface, ...]:
    """The interface and its devices, as soon as all have ports; none where one is not even in the database."""
    names = (management.name,) + management.devices

    def look() -> Optional[Tuple[Interface, ...]]:
        found = {one.name: one for one in read_interfaces(connection, names, deadline.at_most_s(ANSWER_WITHIN_S))}
        if not management.devices or len(found) < len(names):
            return ()
        known = tuple(found[name] for name in names if found[name].ofport > 0)
        return known if len(known) == len(names) and known[0].mac_in_use else None

    return Deadline(deadline.at_most_s(PORTS_WITHIN_S), deadline.clock).wait_for(look, every_s=0.1) or ()


def _require_on_bridge(connection: Connection, interfaces: Tuple[Interface, ...], bridge: str, switch: Configuration,
                       deadline: Deadline) -> None:
    """Ports of another bridge have the same numbers. Raises Refused."""
    ports = {port for one in switch.bridges if one.name == bridge for port in one.ports.uuids}
    owners = read_owners(connection, interfaces, deadline.at_most_s(ANSWER_WITHIN_S))
    strangers = [interface.name for interface, owner in zip(interfaces, owners) if owner not in ports]
    if strangers:
        raise Refused("its management interface is said to be on bridge %s, and %s is not" % (
            bridge, ", ".join(strangers)), "look at `ovs-vsctl show` and at the PIFs in XAPI, then run `ovsxen update`")


def _mac_of(interface: Interface, bridge: str, switch: Configuration) -> str:
    """The MAC that it shall have, where that is said: after its start ovs-vswitchd may tell another in mac_in_use."""
    hwaddr = next((one.other_config.get(HWADDR, "") for one in switch.bridges if one.name == bridge), "")
    return (hwaddr if interface.name == bridge else interface.mac) or interface.mac_in_use


def put_in_place(paths: Paths, guard: Guard, deadline: Deadline) -> None:
    """Add the flows, see them, and remember them. Repeating it changes nothing. Raises FlowRefused, NoAnswer."""
    flows.add_flows(paths, guard.bridge, guard.flows, deadline.at_most_s(ANSWER_WITHIN_S))
    if not flows.has_flows(paths, guard.bridge, guard.flows, deadline.at_most_s(ANSWER_WITHIN_S)):
        raise FlowRefused("flows that were added to bridge %s are not there" % guard.bridge, 0, guard.bridge,
                          "; ".join("%s,actions=%s" % flow for flow in guard.flows))
    _remember(paths, guard)


def _remember(paths: Paths, guard: Guard) -> None:
    try:
        write_guard(paths, guard)
    except OSError as error:
        raise AdministratorError(
            "%s cannot be written (%s), so bridge %s would be cut off by a restart of ovs-vswitchd" % (
                paths.guard, error.strerror, guard.bridge), "make room in %s" % paths.guard.parent) from error


def is_in_place(paths: Paths, guard: Guard, deadline: Deadline) -> bool:
    """Whether the flows are there, and remembered. Raises FlowRefused, NoAnswer."""
    there = flows.has_flows(paths, guard.bridge, guard.flows, deadline.at_most_s(ANSWER_WITHIN_S))
    return there and _is_remembered(paths, guard)


def _is_remembered(paths: Paths, guard: Guard) -> bool:
    try:
        return read_guard(paths) == guard
    except AdministratorError:
        return False


def take_away(paths: Paths, bridge: str, deadline: Deadline) -> None:
    """Remove our flows: on a bridge that stays standalone they are in the way. Raises FlowRefused, NoAnswer."""
    flows.remove_flows(paths, bridge, deadline.at_most_s(ANSWER_WITHIN_S))
    forget_guard(paths, bridge)
