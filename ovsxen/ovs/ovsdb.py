"""The switch's database as values: the Open_vSwitch row and the names of the bridges, read and changed.

A snapshot is read by one transaction of selects, from the server, or from the file while no server runs; changes are
applied by another, which fails when the row is no longer as it was read.
"""

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, TypeVar

from ovsxen.errors import AdministratorError, NoAnswer, Refused
from ovsxen.ovs import dbtool
from ovsxen.ovs.jsonrpc import Connection

SCALARS = ("ovs_version", "db_version", "system_type", "system_version")
MAPS = ("external_ids", "other_config")
COUNTERS = ("next_cfg",)
TIMED_OUT = "timed out"
ATTEMPTS = 5
T = TypeVar("T")


class SwitchRow(NamedTuple):
    """The columns of the one Open_vSwitch row that ovsxen reads. An empty text is an unset column."""

    ovs_version: str
    db_version: str
    system_type: str
    system_version: str
    external_ids: Dict[str, str]
    other_config: Dict[str, str]
    next_cfg: int


class Switch(NamedTuple):
    """A snapshot: the row (None before it was ever made), bridge names and manager targets, both sorted."""

    row: Optional[SwitchRow]
    bridges: Tuple[str, ...]
    managers: Tuple[str, ...]


class Changes(NamedTuple):
    """What to write to the Open_vSwitch row; an empty value changes nothing.

    `columns`: text columns to set. `external_ids`, `other_config`: keys to set. `drop_other_config`: keys to remove.
    `purge`: forget every bridge. `acknowledge`: count next_cfg up, so that vswitchd says when it has configured this.
    """

    columns: Tuple[Tuple[str, str], ...] = ()
    external_ids: Tuple[Tuple[str, str], ...] = ()
    other_config: Tuple[Tuple[str, str], ...] = ()
    drop_other_config: Tuple[str, ...] = ()
    purge: bool = False
    acknowledge: bool = False


class TransactionRefused(Refused):
    """The server refused a transaction; `error` is OVSDB's word for why (RFC 7047 §3.1)."""

    def __init__(self, problem: str, error: str) -> None:
        super().__init__(problem)
        self.error = error


class Changed(NoAnswer):
    """Somebody else changed the row between read and write: read and plan again."""


def _selects() -> List[Dict[str, Any]]:
    return [{"op": "select", "table": "Open_vSwitch", "where": [], "columns": list(SCALARS + MAPS + COUNTERS)},
            {"op": "select", "table": "Bridge", "where": [], "columns": ["name"]},
            {"op": "select", "table": "Manager", "where": [], "columns": ["target"]}]


def read_switch(connection: Connection, within_s: float) -> Switch:
    """The snapshot that the server has. Raises NoAnswer, Refused."""
    return _switch_from(transact(connection, _selects(), within_s))


def query_file(path: Path, size_bytes: int) -> Switch:
    """The snapshot that a database file holds, while no server has it. Raises AdministratorError, NoAnswer."""
    return _switch_from(json.loads(dbtool.query(path, json.dumps([dbtool.DATABASE] + _selects()), size_bytes)))


def apply(connection: Connection, switch: Switch, changes: Changes, within_s: float) -> int:
    """Write the changes in one transaction that has reached the disk; gives next_cfg as it is then.

    Raises Changed, NoAnswer (it may have been written or not), Refused, AdministratorError (the disk).
    """
    return commit(connection, _operations(switch, changes), within_s)


def until_unchanged(attempt: Callable[[], T]) -> T:
    """Read, decide and write again while somebody else writes in between, as XAPI does at boot. Raises NoAnswer."""
    for _ in range(ATTEMPTS):
        try:
            return attempt()
        except Changed:
            continue
    raise NoAnswer("somebody else changed the database each of the %d times that it was to be written" % ATTEMPTS,
                   "do it again")


def commit(connection: Connection, operations: List[Dict[str, Any]], within_s: float) -> int:
    """Do the operations, as one transaction that has reached the disk; gives next_cfg as it is then.

    A `wait` in it that finds something else fails the whole. Raises as `apply` does.
    """
    ends = [_operation("select", columns=["next_cfg"]), {"op": "commit", "durable": True}]
    try:
        results = transact(connection, operations + ends, within_s)
    except TransactionRefused as refused:
        if refused.error == TIMED_OUT:
            raise Changed(refused.problem) from refused
        raise
    return int(results[-2]["rows"][0]["next_cfg"])


def touch(connection: Connection, within_s: float) -> None:
    """Write something durably that changes nothing but next_cfg. Raises AdministratorError where the disk refuses."""
    commit(connection, [_operation("mutate", mutations=[["next_cfg", "+=", 1]])], within_s)


def wait_configured(connection: Connection, next_cfg: int, within_s: float, answer_within_s: float = 1.0) -> bool:
    """Wait, in the server, until vswitchd says that it has configured generation `next_cfg`; tells whether it did.

    The server has `answer_within_s` more to say so.
    """
    wait = _wait(int(within_s * 1000), [], [], where=[["cur_cfg", "<", next_cfg]])
    try:
        transact(connection, [wait], within_s + answer_within_s)
    except TransactionRefused as refused:
        if refused.error == TIMED_OUT:
            return False
        raise
    return True


def _operations(switch: Switch, changes: Changes) -> List[Dict[str, Any]]:
    """Unchanged since the read, then the changes."""
    operations: List[Dict[str, Any]] = []
    if switch.row is None:
        operations.append(_wait(0, [], []))
        operations.append({"op": "insert", "table": "Open_vSwitch", "row": {}})
    else:
        operations.append(_wait(0, ["external_ids"], [{"external_ids": as_map(switch.row.external_ids)}]))
    row: Dict[str, Any] = dict(changes.columns)
    if changes.purge:
        row["bridges"] = ["set", []]  # Bridge is no root table: rows that nothing refers to go with it
    if row:
        operations.append(_operation("update", row=row))
    mutations: List[List[Any]] = []
    for column, values in (("external_ids", changes.external_ids), ("other_config", changes.other_config)):
        if values:
            mutations += [[column, "delete", ["set", [key for key, _ in values]]],
                          [column, "insert", as_map(dict(values))]]
    if changes.drop_other_config:
        mutations.append(["other_config", "delete", ["set", list(changes.drop_other_config)]])
    if changes.acknowledge:
        mutations.append(["next_cfg", "+=", 1])
    if mutations:
        operations.append(_operation("mutate", mutations=mutations))
    return operations


def _operation(kind: str, **members: Any) -> Dict[str, Any]:
    """An operation on the one row of Open_vSwitch."""
    return dict({"where": []}, op=kind, table="Open_vSwitch", **members)


def _wait(timeout_ms: int, columns: List[str], rows: List[Dict[str, Any]], **where: Any) -> Dict[str, Any]:
    """Fails, with "timed out", unless these columns become these rows in that time."""
    return _operation("wait", timeout=timeout_ms, columns=columns, rows=rows, until="==", **where)


def transact(connection: Connection, operations: List[Dict[str, Any]], within_s: float) -> List[Any]:
    """The results of all operations. Raises Refused for the first that failed, NoAnswer past the deadline."""
    results = connection.call("transact", [dbtool.DATABASE] + operations, within_s)
    if not isinstance(results, list) or len(results) < len(operations):
        raise Refused("%s does not answer as a database server does (%s)" % (connection.peer, str(results)[:80]))
    for result in results:
        if isinstance(result, dict) and "error" in result:
            text = "%s refused the transaction (%s: %s)" % (connection.peer, result["error"], result.get("details", ""))
            if result["error"] in ("I/O error", "resources exhausted"):
                raise AdministratorError(text, "make room on the disk that conf.db is on, then do it again")
            raise TransactionRefused(text, result["error"])
    return list(results)


def _switch_from(results: List[Any]) -> Switch:
    for result in results:
        if isinstance(result, dict) and "error" in result:
            raise AdministratorError("the database lacks what every Open_vSwitch database has (%s)" % result["error"],
                                     "look at whose database it is, and put Open vSwitch's own in its place")
    try:
        rows, bridges, managers = (result["rows"] for result in results)
        return Switch(_row_from(rows[0]) if rows else None, tuple(sorted(bridge["name"] for bridge in bridges)),
                      tuple(sorted(manager["target"] for manager in managers)))
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise Refused("the database's answer makes no sense (%s)" % error) from error


def _row_from(row: Dict[str, Any]) -> SwitchRow:
    texts = [row[column] if isinstance(row[column], str) else "" for column in SCALARS]
    maps = [dict(row[column][1]) for column in MAPS]
    return SwitchRow(texts[0], texts[1], texts[2], texts[3], maps[0], maps[1], row["next_cfg"])


def as_map(values: Dict[str, str]) -> List[Any]:
    return ["map", [[key, value] for key, value in sorted(values.items())]]

