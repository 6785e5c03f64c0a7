"""Standalone bridges whose controllers are silent. Once a bridge had to do without for a while, it fails open: it
throws its flows away and switches by itself, by a flow that Open vSwitch hides. A fresh ovs-vswitchd has yet to wait
for that while, three times the inactivity probe, and until then it has no such flow (ofproto/fail-open.c, 3.1).
"""

from typing import Any, Dict, FrozenSet

from ovsxen.ovs import ovsdb
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.switching import is_primary


def read_silent(connection: Connection, within_s: float) -> FrozenSet[str]:
    """The bridges that fail open, or will: they have primary controllers, and none of these is connected.

    Raises NoAnswer, Refused.
    """
    bridges, controllers = ovsdb.transact(connection, [
        {"op": "select", "table": "Bridge", "where": [], "columns": ["name", "fail_mode", "controller"]},
        {"op": "select", "table": "Controller", "where": [], "columns": ["_uuid", "target", "type", "is_connected"]}],
        within_s)
    is_connected = {row["_uuid"][1]: bool(row["is_connected"]) for row in controllers["rows"]
                    if is_primary(row["target"], row["type"] if isinstance(row["type"], str) else "")}
    return frozenset(str(row["name"]) for row in bridges["rows"]
                     if row["fail_mode"] != "secure" and _are_silent(row, is_connected))


def _are_silent(bridge: Dict[str, Any], is_connected: Dict[str, bool]) -> bool:
    kind, value = bridge["controller"]
    primary = [uuid for uuid in ([uuid for _, uuid in value] if kind == "set" else [value]) if uuid in is_connected]
    return bool(primary) and not any(is_connected[uuid] for uuid in primary)
