"""Which OpenFlow port each interface has, over a restart of ovsdb-server.

ovs-vswitchd gives an interface the port that Interface.ofport says, so that flows and controllers find it again
(vswitchd/bridge.c, iface_pick_ofport). But the column is ephemeral: a server that was started anew has forgotten it,
and ovs-vswitchd writes it again only while it lives. So who restarts both carries the ports over.
"""

from typing import Any, Dict, List, NamedTuple, Tuple

from ovsxen.ovs import ovsdb
from ovsxen.ovs.jsonrpc import Connection


class Port(NamedTuple):
    """An interface's row, and its OpenFlow port."""

    interface_uuid: str
    ofport: int


class Bridge(NamedTuple):
    """A bridge as far as its flows after a start of ovs-vswitchd depend on it."""

    name: str
    fail_mode: str
    controllers: int


class Switching(NamedTuple):
    """What ovs-vswitchd forwards by, beside flows. Both sorted."""

    bridges: Tuple[Bridge, ...]
    ports: Tuple[Port, ...]


def read_switching(connection: Connection, within_s: float) -> Switching:
    """All bridges, and all interfaces that have an OpenFlow port. Raises NoAnswer, Refused."""
    bridges, interfaces = ovsdb.transact(connection, [
        {"op": "select", "table": "Bridge", "where": [], "columns": ["name", "fail_mode", "controller"]},
        {"op": "select", "table": "Interface", "where": [], "columns": ["_uuid", "ofport"]}], within_s)
    return Switching(tuple(sorted(_bridge_from(row) for row in bridges["rows"])),
                     tuple(sorted(Port(row["_uuid"][1], row["ofport"]) for row in interfaces["rows"]
                                  if isinstance(row["ofport"], int) and row["ofport"] > 0)))


def _bridge_from(row: Dict[str, Any]) -> Bridge:
    kind, controllers = row["controller"]
    fail_mode = row["fail_mode"] if isinstance(row["fail_mode"], str) else ""
    return Bridge(row["name"], fail_mode, len(controllers) if kind == "set" else 1)


def write_ports(connection: Connection, ports: Tuple[Port, ...], within_s: float) -> None:
    """Tell a server that was started anew; an interface that is gone is left out. Raises NoAnswer, Refused."""
    operations: List[Dict[str, Any]] = [
        {"op": "update", "table": "Interface", "where": [["_uuid", "==", ["uuid", port.interface_uuid]]],
         "row": {"ofport": port.ofport}} for port in ports]
    if operations:
        ovsdb.transact(connection, operations, within_s)
