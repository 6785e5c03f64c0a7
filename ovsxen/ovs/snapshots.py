"""What a reset cleared, kept beside conf.db as reset-NNNNNN.json until it is brought back or five newer ones exist.

A snapshot is written before the transaction that clears. One whose transaction never happened brings nothing back,
since nothing is missing; so whoever is killed in between leaves nothing wrong.
"""

import json
import re
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import clock, files
from ovsxen.ovs.tables import Change, Numbers, Refs, Row, Snapshot, Value

SCHEMA = 1
NAME = re.compile(r"reset-([0-9]{6})\.json")
KEPT = 5
LARGEST_BYTES = 64 << 20


class Saved(NamedTuple):
    """A snapshot on disk."""

    path: Path
    when: str
    snapshot: Snapshot


def save(directory: Path, snapshot: Snapshot) -> Path:
    """Write a snapshot as the newest, and remove the oldest beyond those kept. Raises OSError."""
    there = _there(directory)
    path = directory / ("reset-%06d.json" % (there[0][0] + 1 if there else 1))
    content = {"schema": SCHEMA, "when": clock.wall_clock_text(),
               "changes": [dict(change._asdict(), was=_as_json(change.was), becomes=_as_json(change.becomes))
                           for change in snapshot.changes],
               "rows": [row._asdict() for row in snapshot.rows]}
    files.write_file(path, [json.dumps(content, indent=1).encode() + b"\n"], 0o600)
    for _, old in there[KEPT - 1:]:
        files.remove_if_there(old)
    return path


def read_newest(directory: Path) -> Optional[Saved]:
    """The newest snapshot; None without any. Raises AdministratorError for one that cannot be read."""
    there = _there(directory)
    if not there:
        return None
    path = there[0][1]
    try:
        content = json.loads(files.read_small(path, LARGEST_BYTES).decode())
        if content["schema"] != SCHEMA:
            raise ValueError("schema %s" % content["schema"])
        changes = tuple(Change(str(one["table"]), str(one["uuid"]), str(one["label"]), str(one["column"]),
                               _from_json(one["was"]), _from_json(one["becomes"])) for one in content["changes"])
        rows = tuple(Row(str(row["table"]), str(row["uuid"]), dict(row["columns"])) for row in content["rows"])
        return Saved(path, str(content["when"]), Snapshot(changes, rows))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdministratorError("the snapshot %s cannot be read (%s)" % (path, error),
                                 "move it away; the next older one is used then") from error


def forget(saved: Saved) -> None:
    """Take a snapshot that was brought back out of the row; its content stays, under another name."""
    saved.path.rename(saved.path.with_suffix(".undone"))
    files.sync_directory(saved.path.parent)


def _there(directory: Path) -> Tuple[Tuple[int, Path], ...]:
    """Numbers and paths, the newest first."""
    found = ((NAME.fullmatch(path.name), path) for path in directory.glob("reset-*.json"))
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
