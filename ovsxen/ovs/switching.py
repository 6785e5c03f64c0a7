"""What the database says of how ovs-vswitchd forwards, beside flows: bridges, OpenFlow ports, internal ports.

ovs-vswitchd gives an interface the port that Interface.ofport says, so that flows and controllers find it again
(vswitchd/bridge.c, iface_pick_ofport). But the column is ephemeral: a server that was started anew has forgotten it,
and ovs-vswitchd writes it again only while it lives. So who restarts both carries the ports over.
"""

from typing import Any, Dict, FrozenSet, List, NamedTuple, Tuple

from ovsxen.host.paths import Paths
from ovsxen.ovs import daemons, ovsdb
from ovsxen.ovs.daemons import Daemon
from ovsxen.ovs.jsonrpc import Connection


class InterfacePort(NamedTuple):
    """An interface's row, and its OpenFlow port."""

    interface_uuid: str
    ofport: int


class Bridge(NamedTuple):
    """A bridge, as far as what it forwards after a start of ovs-vswitchd depends on it.

    `controllers` counts those that are primary, `answering` those of them that are connected. `in_userspace`:
    ovs-vswitchd itself is its datapath.
    """

    name: str
    fail_mode: str
    controllers: int
    answering: int
    in_userspace: bool

    @property
    def is_secure(self) -> bool:
        """Without flows it forwards nothing."""
        return self.fail_mode == "secure"

    @property
    def fails_open(self) -> bool:
        """It has to do without its controllers. After a while it throws its flows away and switches by itself, by a
        flow that Open vSwitch hides. A fresh ovs-vswitchd has yet to wait for that while, three times the inactivity
        probe, and until then has no such flow (ofproto/fail-open.c, 3.1).
        """
        return self.controllers > 0 and self.answering == 0 and not self.is_secure


class Switching(NamedTuple):
    """What ovs-vswitchd forwards by, beside flows. Both sorted."""

    bridges: Tuple[Bridge, ...]
    ports: Tuple[InterfacePort, ...]


def read_switching(connection: Connection, within_s: float) -> Switching:
    """All bridges, and all interfaces that have an OpenFlow port. Raises NoAnswer, Refused."""
    bridges, controllers, interfaces = ovsdb.transact(connection, [
        {"op": "select", "table": "Bridge", "where": [],
         "columns": ["name", "fail_mode", "controller", "datapath_type"]},
        {"op": "select", "table": "Controller", "where": [], "columns": ["_uuid", "target", "type", "is_connected"]},
        {"op": "select", "table": "Interface", "where": [], "columns": ["_uuid", "ofport"]}], within_s)
    primary = {row["_uuid"][1]: bool(row["is_connected"]) for row in controllers["rows"]
               if is_primary(row["target"], row["type"] if isinstance(row["type"], str) else "")}
    return Switching(tuple(sorted(_bridge_from(row, primary) for row in bridges["rows"])),
                     tuple(sorted(InterfacePort(row["_uuid"][1], row["ofport"]) for row in interfaces["rows"]
                                  if isinstance(row["ofport"], int) and row["ofport"] > 0)))


def is_primary(target: str, kind: str) -> bool:
    """A Controller with this target and type ("" where that is unset) is one that decides what the bridge forwards.

    One that waits to be connected to, such as XO's `pssl:`, is none (vswitchd/bridge.c, get_controller_ofconn_type).
    """
    return kind == "primary" if kind else not target.startswith("p")


def _bridge_from(row: Dict[str, Any], primary: Dict[str, bool]) -> Bridge:
    """`primary`: every primary controller's row, and whether it is connected."""
    kind, value = row["controller"]
    answers = [primary[uuid] for uuid in ([uuid for _, uuid in value] if kind == "set" else [value]) if uuid in primary]
    fail_mode = row["fail_mode"] if isinstance(row["fail_mode"], str) else ""
    return Bridge(row["name"], fail_mode, len(answers), sum(answers), row["datapath_type"] not in ("", "system"))


def find_made(paths: Paths, vswitchd: Daemon, within_s: float) -> FrozenSet[str]:
    """The bridges that ovs-vswitchd has, by its own word. Raises NoAnswer, Refused."""
    return frozenset(daemons.ask(paths, vswitchd, "ofproto/list", (), within_s).splitlines())


def read_internal_ports(connection: Connection, within_s: float) -> Tuple[str, ...]:
    """Every interface that a datapath has of its own: those of the bridges, and those of type internal.

    Raises NoAnswer, Refused.
    """
    results = ovsdb.transact(connection, [
        {"op": "select", "table": "Bridge", "where": [], "columns": ["name"]},
        {"op": "select", "table": "Interface", "where": [["type", "==", "internal"]], "columns": ["name"]}], within_s)
    return tuple(sorted({str(row["name"]) for result in results for row in result["rows"]}))


def write_ports(connection: Connection, ports: Tuple[InterfacePort, ...], within_s: float) -> None:
    """Tell a server that was started anew; an interface that is gone is left out. Raises NoAnswer, Refused."""
    operations: List[Dict[str, Any]] = [
        {"op": "update", "table": "Interface", "where": [["_uuid", "==", ["uuid", port.interface_uuid]]],
         "row": {"ofport": port.ofport}} for port in ports]
    if operations:
        ovsdb.transact(connection, operations, within_s)
