"""The rows of the database that an update decides about, as values; and edits of them, column by column.

An edit says of every column what it was and what it becomes. It is one transaction, which fails as a whole when any of
those columns is no longer what it was; so what is written down of an edit is what was really there.
"""

from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, TypeVar, Union

from ovsxen.errors import Refused
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.ovsdb import as_map, commit, transact

T = TypeVar("T")
ROOT = "Open_vSwitch"
KEPT_KEY = "ovsxen-keep"
"""A Manager with external_ids:ovsxen-keep=true is the administrator's: an update neither removes nor counts it."""

EPHEMERAL = ("_uuid", "_version", "status", "statistics", "is_connected", "role")
RESETTABLE_TABLES = ("Controller", "Mirror", "NetFlow", "sFlow", "IPFIX", "Manager", "SSL")

INTERFACE_COLUMNS = ["name", "ingress_policing_rate", "ingress_policing_burst", "ofport", "mac", "mac_in_use"]


class Refs(NamedTuple):
    """A set of references: uuids, or the names of rows that the same edit makes."""

    uuids: Tuple[str, ...] = ()


class Numbers(NamedTuple):
    """A set of integers."""

    numbers: Tuple[int, ...] = ()


Value = Union[str, int, bool, Dict[str, str], Refs, Numbers]
"""A column. A text that may be unset is "" when it is."""


class Manager(NamedTuple):
    """A manager's row."""

    uuid: str
    target: str
    external_ids: Dict[str, str]

    @property
    def is_kept(self) -> bool:
        """The administrator marked it as his."""
        return self.external_ids.get(KEPT_KEY) == "true"


class Ssl(NamedTuple):
    """What the switch shows of itself and whom it trusts: files, and whether it trusts the first that it sees."""

    private_key: str
    certificate: str
    ca_cert: str
    bootstrap_ca_cert: bool


class Bridge(NamedTuple):
    """A real bridge. Field names are column names."""

    uuid: str
    name: str
    ports: Refs
    external_ids: Dict[str, str]
    fail_mode: str
    other_config: Dict[str, str]
    controller: Refs
    mirrors: Refs
    netflow: Refs
    sflow: Refs
    ipfix: Refs
    flood_vlans: Numbers


class VlanBridge(NamedTuple):
    """What ovs-vsctl calls a fake bridge: a port with a tag, that other programs see as a bridge of that name."""

    name: str
    parent: str
    tag: int


class Configuration(NamedTuple):
    """What an update decides about, except what a reset finds (Resettable)."""

    root: str
    bridge_refs: Refs
    manager_refs: Refs
    ssl_ref: Refs
    managers: Tuple[Manager, ...]
    ssl: Optional[Ssl]
    bridges: Tuple[Bridge, ...]
    vlan_bridges: Tuple[VlanBridge, ...]

    def real_bridges(self) -> Dict[str, str]:
        """By the name that other programs see as a bridge's, the real one: a VLAN's parent, a real bridge itself."""
        names = {vlan.name: vlan.parent for vlan in self.vlan_bridges}
        names.update({bridge.name: bridge.name for bridge in self.bridges})
        return names


class Port(NamedTuple):
    """A port. Field names are column names."""

    uuid: str
    name: str
    interfaces: Refs
    other_config: Dict[str, str]


class Interface(NamedTuple):
    """An interface. Field names are column names. `ofport` is 0 while it has none, and where it failed."""

    uuid: str
    name: str
    ingress_policing_rate: int
    ingress_policing_burst: int
    ofport: int = 0
    mac: str = ""
    mac_in_use: str = ""


class Row(NamedTuple):
    """A row that goes when nothing refers to it any more: its columns as the database gave them, save mere state."""

    table: str
    uuid: str
    columns: Dict[str, Any]


class Resettable(NamedTuple):
    """What only a reset looks at: every port and interface, and the rows of the tables that it empties."""

    ports: Tuple[Port, ...] = ()
    interfaces: Tuple[Interface, ...] = ()
    rows: Tuple[Row, ...] = ()


class Change(NamedTuple):
    """One column of one row. `label` names the row for people: a bridge's or a port's name."""

    table: str
    uuid: str
    label: str
    column: str
    was: Value
    becomes: Value

    @property
    def loses_something(self) -> bool:
        """Keys of a map, or the whole value, are not there any more."""
        if isinstance(self.was, dict) and isinstance(self.becomes, dict):
            return not set(self.was) <= set(self.becomes)
        return self.becomes in ("", 0, Refs(), Numbers())

    def __str__(self) -> str:
        where = "%s %s" % (self.table, self.label) if self.label else self.table
        return "%s %s: %s → %s" % (where, self.column, as_text(self.was), as_text(self.becomes))


class NewRow(NamedTuple):
    """A row to make. References to it are written as its `name`, which begins with @."""

    table: str
    name: str
    columns: Tuple[Tuple[str, Any], ...]
    """Values, or columns as the database gave them."""

    def __str__(self) -> str:
        shown = dict(self.columns)
        name = shown.get("target") or shown.get("ca_cert") or shown.get("name")
        return "new %s %s" % (self.table, name) if name else "new %s" % self.table


class Edit(NamedTuple):
    """One transaction. `expected` are columns that must be as they were though nothing is written to them."""

    changes: Tuple[Change, ...] = ()
    new_rows: Tuple[NewRow, ...] = ()
    expected: Tuple[Change, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.changes or self.new_rows)

    def as_lines(self) -> Tuple[str, ...]:
        """What it does, for people."""
        return tuple(str(change) for change in self.new_rows + self.changes)


class Snapshot(NamedTuple):
    """What a reset cleared: the columns with what they held, and the rows that went."""

    changes: Tuple[Change, ...]
    rows: Tuple[Row, ...]


def as_text(value: Value) -> str:
    """A value for people."""
    if isinstance(value, dict):
        return "{%s}" % ", ".join("%s=%s" % pair for pair in sorted(value.items()))
    if isinstance(value, Refs):
        return "%d row(s)" % len(value.uuids) if value.uuids else "none"
    if isinstance(value, Numbers):
        return ",".join(map(str, value.numbers)) or "none"
    return "unset" if value == "" else str(value)


def differences(table: str, before: NamedTuple, after: NamedTuple) -> Iterator[Change]:
    """The columns in which two values of one row differ."""
    for column, was, becomes in zip(before._fields, before, after):
        if was != becomes:
            yield Change(table, before[0], before[1], column, was, becomes)


def read_configuration(connection: Connection, within_s: float) -> Configuration:
    """A snapshot. It grows with the bridges, not with their ports. Raises NoAnswer, Refused, AdministratorError."""
    bridge_columns = [name for name in Bridge._fields if name != "uuid"]
    results = transact(connection, [
        _select(ROOT, ["bridges", "manager_options", "ssl"]),
        _select("Manager", ["target", "external_ids"]),
        _select("SSL", list(Ssl._fields)),
        _select("Bridge", bridge_columns),
        _select("Port", ["name", "tag"], where=[["fake_bridge", "==", True]])], within_s)
    return _parsed(_configuration_from, results)


def read_resettable(connection: Connection, within_s: float) -> Resettable:
    """What a reset looks at. It grows with the ports. Raises NoAnswer, Refused, AdministratorError."""
    results = transact(connection, [
        _select("Port", ["name", "interfaces", "other_config"]),
        _select("Interface", INTERFACE_COLUMNS),
    ] + [{"op": "select", "table": table, "where": []} for table in RESETTABLE_TABLES], within_s)
    return _parsed(_resettable_from, results)


def read_interfaces(connection: Connection, names: Tuple[str, ...], within_s: float) -> Tuple[Interface, ...]:
    """Those of these interfaces that are there. Raises NoAnswer, Refused, AdministratorError."""
    results = transact(connection, [_select("Interface", INTERFACE_COLUMNS, [["name", "==", name]]) for name in names],
                       within_s)
    return _parsed(lambda tables: tuple(_interface_from(row) for table in tables for row in table), results)


def read_owners(connection: Connection, interfaces: Tuple[Interface, ...], within_s: float) -> Tuple[str, ...]:
    """The port of each interface, by its uuid; "" for one without. Raises NoAnswer, Refused, AdministratorError."""
    results = transact(connection, [_select("Port", [], [["interfaces", "includes", ["uuid", one.uuid]]])
                                    for one in interfaces], within_s)
    return _parsed(lambda tables: tuple(rows[0]["_uuid"][1] if rows else "" for rows in tables), results)


def apply(connection: Connection, edit: Edit, within_s: float) -> int:
    """Write an edit in one transaction that has reached the disk; gives next_cfg as it is then.

    Raises Changed, NoAnswer (it may have been written or not), Refused, AdministratorError (the disk).
    """
    return commit(connection, _operations(edit), within_s)


def _operations(edit: Edit) -> List[Dict[str, Any]]:
    rows: Dict[Tuple[str, str], List[Change]] = {}
    for change in edit.expected + edit.changes:
        rows.setdefault((change.table, change.uuid), []).append(change)
    operations = [_wait(table, uuid, changes) for (table, uuid), changes in rows.items()]
    operations += [{"op": "insert", "table": row.table, "uuid-name": _wire_name(row.name),
                    "row": {column: value if isinstance(value, str) else _wire(value) for column, value in row.columns}}
                   for row in edit.new_rows]
    for (table, uuid), changes in rows.items():
        written = {change.column: _wire(change.becomes) for change in changes if change.was != change.becomes}
        if written:
            operations.append({"op": "update", "table": table, "where": _is(uuid), "row": written})
    return operations + [{"op": "mutate", "table": ROOT, "where": [], "mutations": [["next_cfg", "+=", 1]]}]


def _wait(table: str, uuid: str, changes: List[Change]) -> Dict[str, Any]:
    row = {change.column: _wire(change.was) for change in changes}
    return {"op": "wait", "table": table, "where": _is(uuid), "until": "==", "timeout": 0, "columns": list(row),
            "rows": [row]}


def _select(table: str, columns: List[str], where: Optional[List[Any]] = None) -> Dict[str, Any]:
    return {"op": "select", "table": table, "where": where or [], "columns": ["_uuid"] + columns}


def _is(uuid: str) -> List[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]


def _wire_name(name: str) -> str:
    return "row" + name[1:]


def _wire(value: Any) -> Any:
    """A value as RFC 7047 §5.1 writes it; what is already written so stays."""
    if isinstance(value, dict):
        return as_map(value)
    if isinstance(value, Refs):
        return ["set", [["named-uuid", _wire_name(uuid)] if uuid.startswith("@") else ["uuid", uuid]
                        for uuid in value.uuids]]
    if isinstance(value, Numbers):
        return ["set", list(value.numbers)]
    return ["set", []] if value == "" else value


def _parsed(parse: Callable[[List[Any]], T], results: List[Any]) -> T:
    try:
        return parse([result["rows"] for result in results])
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise Refused("the database's answer makes no sense (%s: %s)" % (type(error).__name__, error)) from error


def _configuration_from(tables: List[List[Dict[str, Any]]]) -> Configuration:
    if not tables[0]:
        raise Refused("the database has no Open_vSwitch row: the switch was never started",
                      "run `ovsxen start`")
    root, managers, ssl, bridges, fake = tables[0][0], tables[1], tables[2], tables[3], tables[4]
    parents = {port: row["name"] for row in bridges for port in _refs(row["ports"]).uuids}
    return Configuration(
        root=root["_uuid"][1], bridge_refs=_refs(root["bridges"]),
        manager_refs=_refs(root["manager_options"]), ssl_ref=_refs(root["ssl"]),
        managers=tuple(sorted(Manager(row["_uuid"][1], row["target"], dict(row["external_ids"][1]))
                              for row in managers)),
        ssl=Ssl(*[ssl[0][column] for column in Ssl._fields]) if ssl else None,
        bridges=tuple(sorted((_bridge_from(row) for row in bridges), key=lambda bridge: bridge.name)),
        vlan_bridges=tuple(sorted(VlanBridge(row["name"], parents[row["_uuid"][1]], _number(row["tag"]))
                                  for row in fake if row["_uuid"][1] in parents)))


def _bridge_from(row: Dict[str, Any]) -> Bridge:
    return Bridge(
        uuid=row["_uuid"][1], name=row["name"], ports=_refs(row["ports"]), external_ids=dict(row["external_ids"][1]),
        fail_mode=_text(row["fail_mode"]),
        other_config=dict(row["other_config"][1]), controller=_refs(row["controller"]), mirrors=_refs(row["mirrors"]),
        netflow=_refs(row["netflow"]), sflow=_refs(row["sflow"]), ipfix=_refs(row["ipfix"]),
        flood_vlans=Numbers(tuple(sorted(_atoms(row["flood_vlans"])))))


def _interface_from(row: Dict[str, Any]) -> Interface:
    return Interface(row["_uuid"][1], row["name"], row["ingress_policing_rate"], row["ingress_policing_burst"],
                     max(0, _number(row["ofport"])), _text(row["mac"]), _text(row["mac_in_use"]))


def _resettable_from(tables: List[List[Dict[str, Any]]]) -> Resettable:
    ports = tuple(sorted((Port(row["_uuid"][1], row["name"], _refs(row["interfaces"]), dict(row["other_config"][1]))
                          for row in tables[0]), key=lambda port: port.name))
    interfaces = tuple(sorted(map(_interface_from, tables[1])))
    rows = tuple(Row(table, row["_uuid"][1], {name: value for name, value in row.items() if name not in EPHEMERAL})
                 for table, found in zip(RESETTABLE_TABLES, tables[2:]) for row in found)
    return Resettable(ports, interfaces, rows)


def _refs(value: Any) -> Refs:
    return Refs(tuple(sorted(atom[1] for atom in _atoms(value))))


def _text(value: Any) -> str:
    """A text that may be unset, which is ""."""
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    """An integer that may be unset, which is 0."""
    return int(next(iter(_atoms(value)), 0))


def _atoms(value: Any) -> Iterable[Any]:
    """The elements of a set, which is written without brackets when it has one (RFC 7047 §5.1)."""
    if isinstance(value, list) and len(value) == 2 and value[0] == "set":
        return list(value[1])
    return [value]
