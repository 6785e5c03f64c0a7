"""Pure: what an emergency reset clears, and how what it cleared comes back.

The effect is that of `ovs-vsctl emer-reset` (utilities/ovs-vsctl.c, 2.17 to 4.0); its manual promises more. It clears
what a controller, or the manager that brought it, may have set up. Bridges, ports, interfaces, bonds, tags, tunnels,
QoS and all external_ids stay; so do the rows of Flow_Sample_Collector_Set, which the tool means to delete and never
reads (3.1, tried).
"""

from typing import Any, Callable, Collection, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ovsxen.ovs.labels import SECURE
from ovsxen.ovs.tables import (
    KEPT_KEY,
    ROOT,
    Bridge,
    Change,
    Configuration,
    Edit,
    Interface,
    NewRow,
    Numbers,
    Port,
    Refs,
    Resettable,
    Row,
    Snapshot,
    differences,
)

HWADDR = "hwaddr"


class Undo(NamedTuple):
    """The edit that brings a snapshot back, and what of it cannot come back, for people."""

    edit: Edit
    lost: Tuple[str, ...]


def emptied_bridge(bridge: Bridge) -> Bridge:
    """A bridge after a reset: no controllers, mirrors, flow exports or fail mode; of other_config only its MAC."""
    return bridge._replace(
        fail_mode="", other_config={key: value for key, value in bridge.other_config.items() if key == HWADDR},
        controller=Refs(), mirrors=Refs(), netflow=Refs(), sflow=Refs(), ipfix=Refs(), flood_vlans=Numbers())


def emptied_port(port: Port) -> Port:
    return port._replace(other_config={})


def emptied_interface(interface: Interface) -> Interface:
    return interface._replace(ingress_policing_rate=0, ingress_policing_burst=0)


def plan_emergency_reset(switch: Configuration, resettable: Resettable) -> Edit:
    """The whole reset, as the tool does it: managers and SSL go too, also those that the administrator marked."""
    changes = [Change(ROOT, switch.root, "", column, was, Refs()) for column, was in (
        ("manager_options", switch.manager_refs), ("ssl", switch.ssl_ref)) if was.uuids]
    for bridge in switch.bridges:
        changes += differences("Bridge", bridge, emptied_bridge(bridge))
    changes += resettable_changes(resettable, ())
    return Edit(changes=tuple(changes))


def resettable_changes(resettable: Resettable, spared: Collection[Bridge]) -> Iterator[Change]:
    """What a reset clears of ports and interfaces, except those of the spared bridges."""
    spared_ports = {uuid for bridge in spared for uuid in bridge.ports.uuids}
    spared_interfaces = {uuid for port in resettable.ports if port.uuid in spared_ports
                         for uuid in port.interfaces.uuids}
    for port in resettable.ports:
        if port.uuid not in spared_ports:
            yield from differences("Port", port, emptied_port(port))
    for interface in resettable.interfaces:
        if interface.uuid not in spared_interfaces:
            yield from differences("Interface", interface, emptied_interface(interface))


def plan_undo(snapshot: Snapshot, switch: Configuration, resettable: Resettable, management_bridge: str = "") -> Undo:
    """Bring back what is still as the changes left it. What somebody has set since stays; what is gone is named.

    The management bridge does not turn secure: here is nobody to see to its flows.
    """
    undoing = _Undoing(snapshot, switch, resettable, merges=True)
    undoing.open_bridge = management_bridge
    return undoing.plan()


def plan_put_back(written: Snapshot, switch: Configuration, resettable: Resettable) -> Edit:
    """Take back what was just written: each column that still is as it was written becomes what it was before."""
    return _Undoing(written, switch, resettable, merges=False).plan().edit


class _Undoing:
    """The rows as they are now, and those of the snapshot that must be made again because somebody refers to them."""

    def __init__(self, snapshot: Snapshot, switch: Configuration, resettable: Resettable, *, merges: bool) -> None:
        self.snapshot = snapshot
        self.merges = merges  # a map gets back the keys that it lacks, whatever else is in it now
        self.saved = {row.uuid: row for row in snapshot.rows}
        self.open_bridge = ""
        self.made: Dict[str, NewRow] = {}
        self.lost: List[str] = []
        self.present = {row.uuid for row in resettable.rows} | {port.uuid for port in resettable.ports}
        self.rows: Dict[Tuple[str, str], NamedTuple] = {}
        tables = (("Bridge", switch.bridges), ("Port", resettable.ports), ("Interface", resettable.interfaces))
        for table, rows in tables:
            for row in rows:
                self.rows[table, row.uuid] = row
                self.rows.setdefault((table, row.name), row)
        self.targets = {manager.target for manager in switch.managers}
        self.root = {"manager_options": switch.manager_refs, "ssl": switch.ssl_ref}
        self.root_uuid = switch.root

    def plan(self) -> Undo:
        changes: List[Change] = []
        for change in self.snapshot.changes:
            current = self._current(change)
            if current is None:
                self.lost.append("%s %s is gone" % (change.table, change.label))
                continue
            if current.label == self.open_bridge and (change.column, change.was) == ("fail_mode", SECURE):
                self.lost.append("bridge %s was secure and stays open, because this host is managed over it: `ovsxen "
                                 "update` makes it secure, with the flows that this needs" % self.open_bridge)
                continue
            becomes = self._restored(change, current.was)
            if becomes != current.was:
                changes.append(current._replace(becomes=becomes))
        self.lost += self._managers_that_stay_away()
        return Undo(Edit(tuple(changes), tuple(self.made.values())), tuple(dict.fromkeys(self.lost)))

    def _managers_that_stay_away(self) -> Iterator[str]:
        """Those that an update removed, by XAPI's word: it would remove them again."""
        if any(change.table == ROOT for change in self.snapshot.changes):
            return
        for row in self.snapshot.rows:
            if row.table == "Manager" and row.columns.get("target") not in self.targets:
                yield "manager %s was removed because XAPI has no such controller, and stays away: set it with " \
                      "`ovs-vsctl set-manager`, and mark it with external_ids:%s=true" % (
                          row.columns.get("target"), KEPT_KEY)

    def _current(self, change: Change) -> Optional[Change]:
        """The same column of the same row now: found by uuid, else by name, because bridges are made anew."""
        if change.table == ROOT:
            return change._replace(uuid=self.root_uuid, was=self.root[change.column])
        row = self.rows.get((change.table, change.uuid)) or self.rows.get((change.table, change.label))
        if row is None:
            return None
        return change._replace(uuid=row[0], was=getattr(row, change.column))

    def _restored(self, change: Change, now: Any) -> Any:
        if self.merges and isinstance(now, dict) and isinstance(change.was, dict):
            return dict(change.was, **now)
        if now != change.becomes:
            return now
        if isinstance(change.was, Refs):
            return Refs(tuple(sorted(filter(None, map(self._refer, change.was.uuids)))))
        return change.was

    def _refer(self, uuid: str) -> str:
        """A reference to a row as it was: to itself where it is still there, else to one made like it, else none."""
        if uuid in self.present:
            return uuid
        if uuid in self.saved:
            return self._make(self.saved[uuid])
        self.lost.append("what referred to row %s, which is gone, does without it" % uuid)
        return ""

    def _make(self, row: Row) -> str:
        if row.uuid not in self.made:
            name = "@%d" % len(self.made)
            self.made[row.uuid] = NewRow(row.table, name, ())
            columns = tuple(sorted((column, _rewritten(value, self._refer)) for column, value in row.columns.items()))
            self.made[row.uuid] = NewRow(row.table, name, columns)
        return self.made[row.uuid].name


def _rewritten(value: Any, refer: Callable[[str], str]) -> Any:
    """A column as the database gave it, with each reference in it as `refer` gives it."""
    atoms = value[1] if isinstance(value, list) and len(value) == 2 and value[0] == "set" else [value]
    if not any(isinstance(atom, list) and len(atom) == 2 and atom[0] == "uuid" for atom in atoms):
        return value
    return Refs(tuple(filter(None, (refer(atom[1]) for atom in atoms))))
