"""The pool as rows: class → ref → record, with the history that event.from tells of.

Every row is a Record, replaced as a whole when a field changes, so a reader needs no lock once it has it.
"""

import threading
import uuid
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

from ovsxen.sandbox.xapi import classes
from ovsxen.sandbox.xapi.wire import ApiFailure, Record


class Row(NamedTuple):
    """What is to be a row: any field that is not named holds its default."""

    class_name: str
    ref: str
    fields: Dict[str, Any]


class Change(NamedTuple):
    """What became of a row since some generation: "add", "mod" or "del", at `generation`."""

    operation: str
    class_name: str
    ref: str
    generation: int


class _Deleted(NamedTuple):
    class_name: str
    ref: str
    created: int
    deleted: int


class Database:
    """Rows and their history. `changed` is notified after every change; every method may be called from any thread."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.generation = 0
        self._tables: Dict[str, Dict[str, Record]] = {name: {} for name in classes.CLASSES}
        self._seen: Dict[str, Record] = {}
        self._stamps: Dict[str, Tuple[int, int]] = {}
        self._deleted: List[_Deleted] = []
        for row in rows:
            self.add(row.class_name, ref=row.ref, **row.fields)

    def add(self, class_name: str, *, ref: str = "", **fields: Any) -> str:
        """Make a row, and give its ref. Without a uuid it gets one. Raises KeyError for a field that is not there."""
        row = dict(classes.defaults(class_name), **_known(class_name, fields))
        row["uuid"] = row["uuid"] or str(uuid.uuid4())
        ref = ref or "OpaqueRef:%s" % uuid.uuid4()
        with self.changed:
            self._tables[class_name][ref] = Record(row)
            self._stamps[ref] = (self.generation + 1, self.generation + 1)
            self._has_changed(class_name)
        return ref

    def set(self, class_name: str, ref: str, **fields: Any) -> None:
        """Change fields of a row. Raises ApiFailure for a row, KeyError for a field that is not there."""
        with self.changed:
            row = dict(self.get(class_name, ref), **_known(class_name, fields))
            self._tables[class_name][ref] = Record(row)
            self._stamps[ref] = (self._stamps[ref][0], self.generation + 1)
            self._has_changed(class_name)

    def remove(self, class_name: str, ref: str) -> None:
        """Raises ApiFailure where the row is not there."""
        with self.changed:
            self.get(class_name, ref)
            del self._tables[class_name][ref]
            self._deleted.append(_Deleted(class_name, ref, self._stamps.pop(ref)[0], self.generation + 1))
            self._has_changed(class_name)

    def _has_changed(self, class_name: str) -> None:
        self.generation += 1
        self._seen.pop(class_name, None)
        self.changed.notify_all()

    def get(self, class_name: str, ref: str) -> Record:
        """A row. Raises ApiFailure (HANDLE_INVALID)."""
        try:
            return self._tables[class_name][ref]
        except KeyError:
            raise ApiFailure("HANDLE_INVALID", class_name, ref) from None

    def has(self, class_name: str, ref: str) -> bool:
        return ref in self._tables[class_name]

    def rows(self, class_name: str) -> Dict[str, Record]:
        """All rows of a class, by ref, as they are now: one Record, so that its XML too is made once a change."""
        with self.changed:
            if class_name not in self._seen:
                self._seen[class_name] = Record(self._tables[class_name])
            return self._seen[class_name]

    def find(self, class_name: str, **fields: Any) -> str:
        """The ref of the first row in which all these fields hold these values. Raises LookupError."""
        for ref, row in self.rows(class_name).items():
            if all(row[name] == value for name, value in fields.items()):
                return ref
        raise LookupError("no %s with %s" % (class_name, fields))

    def changes_since(self, generation: int) -> List[Change]:
        """What is new, as XAPI tells it: a row that came and went since is not told of at all."""
        with self.changed:
            found = [Change("add" if created > generation else "mod", name, ref, modified)
                     for name, table in self._tables.items() for ref in table
                     for created, modified in [self._stamps[ref]] if modified > generation]
            found += [Change("del", gone.class_name, gone.ref, gone.deleted) for gone in self._deleted
                      if gone.deleted > generation >= gone.created]
        return sorted(found, key=lambda change: ("add mod del".index(change.operation), change.generation))


def _known(class_name: str, fields: Dict[str, Any]) -> Dict[str, Any]:
    for name in fields:
        if not classes.kind_of(class_name, name):
            raise KeyError("%s has no field %s" % (class_name, name))
    return fields
