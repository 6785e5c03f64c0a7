"""What a reset cleared, kept beside conf.db as reset-NNNNNN.json, once brought back as .undone; the newest five stay.

A snapshot is written before the transaction that clears. Who is killed in between leaves one that brings nothing back,
since nothing is missing.
"""

import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError
from ovsxen.host import clock, files
from ovsxen.ovs.ovsdb import Changed
from ovsxen.ovs.tables import Change, Numbers, Refs, Row, Snapshot, Value

SCHEMA = 1
PREFIX = "reset-"
NAME = re.compile(PREFIX + r"([0-9]{6})\.(json|undone)")
KEPT = 5
LARGEST_BYTES = 64 << 20


class Saved(NamedTuple):
    """A snapshot on disk."""

    path: Path
    when: str
    snapshot: Snapshot


@contextmanager
def saved(directory: Path, snapshot: Snapshot) -> Iterator[Optional[Path]]:
    """Write a snapshot as the newest, do what clears, and remove the oldest beyond those kept; gives its path, or None
    where there is nothing in it. Where what clears is known not to have happened, the snapshot goes again.

    Raises AdministratorError where it cannot be written.
    """
    if not snapshot.changes:
        yield None
        return
    there = _there(directory)
    path = directory / (PREFIX + "%06d.json" % (there[0][0] + 1 if there else 1))
    try:
        files.write_file(path, [json.dumps(_content(snapshot), indent=1).encode() + b"\n"], 0o600)
    except OSError as error:
        raise AdministratorError("what the reset would clear could not be written to %s (%s), so nothing was reset" % (
            path, error.strerror), "make room there, or have it writable, and do it again") from error
    try:
        yield path
    except OvsxenError as error:
        if isinstance(error, Changed) or not isinstance(error, NoAnswer):
            files.remove_if_there(path)
        raise
    for _, old in there[KEPT - 1:]:
        files.remove_if_there(old)


def _content(snapshot: Snapshot) -> Dict[str, Any]:
    return {"schema": SCHEMA, "when": clock.wall_clock_text(),
            "changes": [dict(change._asdict(), was=_as_json(change.was), becomes=_as_json(change.becomes))
                        for change in snapshot.changes],
            "rows": [row._asdict() for row in snapshot.rows]}


def read_newest(directory: Path) -> Optional[Saved]:
    """The newest snapshot; None without any, and where it was brought back: older ones are of other times.

    Raises AdministratorError for one that cannot be read.
    """
    path = next((path for _, path in _there(directory)), None)
    if path is None or path.suffix != ".json":
        return None
    try:
        content = json.loads(files.read_small(path, LARGEST_BYTES).decode())
        if content["schema"] != SCHEMA:
            raise ValueError("schema %s" % content["schema"])
        changes = tuple(Change(str(one["table"]), str(one["uuid"]), str(one["label"]), str(one["column"]),
                               _from_json(one["was"]), _from_json(one["becomes"])) for one in content["changes"])
        rows = tuple(Row(str(row["table"]), str(row["uuid"]), dict(row["columns"])) for row in content["rows"])
        return Saved(path, str(content["when"]), Snapshot(changes, rows))
    except (OSError,) + files.NONSENSE as error:
        raise AdministratorError("the snapshot %s cannot be read (%s)" % (path, error),
                                 "move it away; the next older one is used then") from error


def forget(saved: Saved) -> None:
    """Take a snapshot that was brought back out of the row; its content stays, under another name. Raises OSError."""
    saved.path.rename(saved.path.with_suffix(".undone"))
    files.sync_directory(saved.path.parent)


def _there(directory: Path) -> Tuple[Tuple[int, Path], ...]:
    """Numbers and paths of all snapshots, also of those that were brought back, the newest first."""
    found = ((NAME.fullmatch(path.name), path) for path in directory.glob(PREFIX + "*"))
    return tuple(sorted(((int(match.group(1)), path) for match, path in found if match), reverse=True))


def _as_json(value: Value) -> Any:
    if isinstance(value, Refs):
        return {"refs": list(value.uuids)}
    if isinstance(value, Numbers):
        return {"numbers": list(value.numbers)}
    return {"map": value} if isinstance(value, dict) else value


def _from_json(value: Any) -> Value:
    if not isinstance(value, dict):
        if isinstance(value, (str, int)):
            return value
        raise ValueError("%s is not a column" % ascii(value)[:80])
    kinds: Dict[str, Any] = {"refs": lambda inner: Refs(tuple(map(str, inner))),
                             "numbers": lambda inner: Numbers(tuple(map(int, inner))), "map": dict}
    (kind, inner), = value.items()
    read: Value = kinds[kind](inner)
    return read
