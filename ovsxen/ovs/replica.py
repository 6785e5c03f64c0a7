"""The door to Open vSwitch's IDL: bridges and interfaces as they are now, and one transaction at a time to label them.

The IDL keeps a copy of the few columns that are asked for, and connects again by itself. Nothing here waits: block()
is the one place that does, for everything at once. Source: ovs.db.idl of python-ovs, 2.17 to 4.0.
"""

import json
import math
import uuid
from enum import Enum
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Set, Tuple, Union

import ovs.db.idl
import ovs.json
import ovs.poller
import ovs.stream

from ovsxen.ovs.labels import (
    BRIDGE,
    INTERFACE,
    SECURE,
    STANDALONE,
    LabelledBridge,
    LabelledInterface,
    Labels,
    Relabelling,
)

COMMENT = "ovsxen sync: external_ids from XAPI"
RECONNECT_MS = (1000, 1000)  # less than a second python-ovs does not take
READ_AT_MOST = 100
DECODER = json.JSONDecoder()
KEYS_AT_MOST = 256
TEXT = {"type": "string"}
MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
FAIL_MODE = {"type": {"key": {"type": "string", "enum": ["set", [SECURE, STANDALONE]]}, "min": 0, "max": 1}}
SCHEMA: Dict[str, Any] = {"name": "Open_vSwitch", "version": "1.0.0", "tables": {
    BRIDGE: {"columns": {"name": TEXT, "external_ids": MAP, "fail_mode": FAIL_MODE, "other_config": MAP}},
    INTERFACE: {"columns": {"name": TEXT, "external_ids": MAP}}}}
"""As every Open vSwitch since 1.0 has these columns (vswitch.ovsschema). The whole schema would be a megabyte."""


class Outcome(Enum):
    """What came of a transaction."""

    DONE = "written"
    AGAIN = "somebody else wrote in between, or the connection was lost: look again"
    REFUSED = "refused"


class Replica:
    """The copy; `labels` are the tables as they were at the last run(). Make another one after an exception that is
    none of ovsxen's: the IDL is then in no known state.
    """

    def __init__(self, db_sock: Path) -> None:
        _parse_by_python()
        helper = ovs.db.idl.SchemaHelper(schema_json=SCHEMA)
        for table in (BRIDGE, INTERFACE):
            helper.register_columns(table, list(SCHEMA["tables"][table]["columns"]))
        self._idl = _Idl("unix:%s" % db_sock, helper)
        self._idl._session.reconnect.set_backoff(*RECONNECT_MS)
        self._transaction: Optional[Any] = None
        self._bridges: Dict[uuid.UUID, LabelledBridge] = {}
        self._interfaces: Dict[uuid.UUID, LabelledInterface] = {}
        self.labels = Labels()
        self.transactions = 0

    def close(self) -> None:
        self._idl.close()

    @property
    def is_ready(self) -> bool:
        """The server is connected and has told of its tables: it can be written to."""
        return bool(self._idl._session.is_connected() and self._idl.state == self._idl.IDL_S_MONITORING)

    @property
    def has_been_read(self) -> bool:
        """The tables are there, as they were last seen."""
        return bool(self._idl.has_ever_connected())

    @property
    def is_writing(self) -> bool:
        return self._transaction is not None

    def run(self) -> int:
        """Take what has come; gives how many rows are other than they were, or new, or gone: 0 for none."""
        changed = 0
        for _ in range(READ_AT_MOST):
            seqno = self._idl.change_seqno
            self._idl.run()
            if self._idl.change_seqno == seqno:
                break
            changed = 1  # at least: the first of it may be that there is nothing
        if changed:
            changed += self._take_over(BRIDGE, self._bridges, _bridge_from)
            changed += self._take_over(INTERFACE, self._interfaces, _interface_from)
            self._idl.settle()
            self.labels = Labels(tuple(sorted(self._bridges.values(), key=lambda row: row.name)),
                                 tuple(sorted(self._interfaces.values(), key=lambda row: row.name)))
        return changed

    def _take_over(self, table: str, values: Dict[uuid.UUID, Any], read: Any) -> int:
        rows = self._idl.tables[table].rows
        gone = [key for key in values if key not in rows]
        fresh = [key for key in rows if key not in values or (table, key) in self._idl.fresh]
        for key in gone:
            del values[key]
        for key in fresh:
            values[key] = read(rows[key], values.get(key))
        return len(gone) + len(fresh)

    def write(self, edits: Iterable[Relabelling]) -> None:
        """Begin a transaction, which fails as a whole where a row of it is not as it was read; poll() tells of its end.
        """
        self._transaction = ovs.db.idl.Transaction(self._idl)
        self._transaction.add_comment(COMMENT)
        for edit in edits:
            row = self._idl.tables[edit.table].rows.get(uuid.UUID(edit.uuid))
            if row is None:
                continue
            row.verify("external_ids")
            for key, value in edit.sets:
                row.setkey("external_ids", key, value)
            for key in edit.drops:
                row.delkey("external_ids", key)
        self.transactions += 1
        self._transaction.commit()

    def poll(self) -> Optional[Tuple[Outcome, str]]:
        """What came of the transaction, and why; None while it is under way."""
        transaction = self._transaction
        if transaction is None:
            return None
        status = transaction.commit()
        if status == transaction.INCOMPLETE:
            return None
        self._transaction = None
        if status in (transaction.SUCCESS, transaction.UNCHANGED):
            return Outcome.DONE, ""
        if status == transaction.TRY_AGAIN or status == transaction.ABORTED:
            return Outcome.AGAIN, ""
        return Outcome.REFUSED, str(transaction.get_error() or transaction.status_to_string(status))

    def wait(self, poller: Any) -> None:
        self._idl.wait(poller)
        if self._transaction is not None:
            self._transaction.wait(poller)


def _parse_by_python() -> None:
    """Have the library, where its own parser is in plain Python, use Python's decoder: for this whole process. It takes
    half of the time in which a thousand interfaces get their ids.
    """
    if ovs.json.PARSER == ovs.json.PARSER_PY:
        ovs.json.Parser = _Parser


class _Parser:
    """What ovs.json.Parser is. An object is tried when its end may have come."""

    def __init__(self, check_trailer: bool = False) -> None:  # noqa: ARG002  # as the library's
        self._text = ""
        self._value: Any = None
        self._is_done = False

    def feed(self, text: str) -> int:
        """Gives how much of the text belongs to the object."""
        before = len(self._text)
        self._text += text
        begin = len(self._text) - len(self._text.lstrip())
        if begin == len(self._text):
            return len(text)
        if self._text[begin] != "{":
            self._value, self._is_done = "no object", True
            return len(text)
        if not text.rstrip().endswith("}") and "}{" not in text:
            return len(text)
        try:
            self._value, end = DECODER.raw_decode(self._text, begin)
        except json.JSONDecodeError:
            return len(text)  # it is not whole yet
        except (RecursionError, ValueError) as error:
            self._value, end = "it makes no sense (%s)" % error, len(self._text)
        self._is_done = True
        return end - before

    def is_done(self) -> bool:
        return self._is_done

    def finish(self) -> Any:
        """The object, or a text that says what is wrong."""
        return self._value if self._is_done else "it ends early"


class _Idl(ovs.db.idl.Idl):  # type: ignore[misc, unused-ignore]
    """The IDL, with a note of which rows are other than they were; and one object for texts that are the same."""

    def __init__(self, remote: str, helper: Any) -> None:
        self.fresh: Set[Tuple[str, uuid.UUID]] = set()
        self._shared: Dict[str, Any] = {}
        self._keys: Dict[str, Any] = {}
        super().__init__(remote, helper)

    def notify(self, _event: Any, row: Any, _updates: Any = None) -> None:
        self.fresh.add((row._table.name, row.uuid))
        data = row._data.get("external_ids") if row._data else None
        if data is not None:
            data.values = {self._same_key(key): self._same(self._shared, value)
                           for key, value in data.values.items()}

    def _same_key(self, atom: Any) -> Any:
        """They are few, and so are kept from one batch to the next."""
        is_kept = atom.value in self._keys or len(self._keys) < KEYS_AT_MOST
        return self._same(self._keys if is_kept else self._shared, atom)

    @staticmethod
    def _same(known: Dict[str, Any], atom: Any) -> Any:
        """A vif, its tap and their ids have the same uuids: as objects of their own they would be half of the memory.
        """
        return known.setdefault(atom.value, atom)

    def settle(self) -> None:
        """All that came has been taken over."""
        self.fresh.clear()
        self._shared.clear()


def block(waiters: Iterable[Any], fds: Iterable[int], within_s: float) -> None:
    """Until one of them has something to do (by its `wait(poller)`), a descriptor can be read, or the time is over."""
    poller = ovs.poller.Poller()
    for waiter in waiters:
        waiter.wait(poller)
    for fd in fds:
        poller.fd_wait(fd, ovs.poller.POLLIN)
    poller.timer_wait(math.ceil(within_s * 1000))
    poller.block()


def _bridge_from(row: Any, before: Optional[LabelledBridge]) -> LabelledBridge:
    return LabelledBridge(str(row.uuid), _name_of(row, before), _map_of(row, "external_ids"), "".join(row.fail_mode),
                          _map_of(row, "other_config"))


def _interface_from(row: Any, before: Optional[LabelledInterface]) -> LabelledInterface:
    return LabelledInterface(str(row.uuid), _name_of(row, before), _map_of(row, "external_ids"))


def _name_of(row: Any, before: Union[LabelledBridge, LabelledInterface, None]) -> str:
    """No row changes its name, so that the IDL need not keep it."""
    name = row._data.pop("name", None)
    if name is None and before is not None:
        return before.name
    return next(iter(name.values)).value if name is not None else ""


def _map_of(row: Any, column: str) -> Dict[str, str]:
    """As the row's own attribute is, in a tenth of its time."""
    data = row._data.get(column)
    return {key.value: value.value for key, value in data.values.items()} if data is not None else {}
