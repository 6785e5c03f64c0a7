"""The log format of a standalone OVSDB file: records of JSON, each with its length and SHA-1, the schema first.

ovsdb-server reads up to the first bad record, drops all that follows, and says so only in its log (ovsdb/log.c; since
openvswitch 43675e260). So the file is checked here before the server opens it. Nothing in this module writes.
"""

import os
import re
from enum import Enum
from pathlib import Path
from typing import BinaryIO, NamedTuple, Optional

from ovsxen.host import files

try:
    # What hashlib has within it: hashlib itself brings OpenSSL in, which takes each boot 2 ms.
    from _sha1 import sha1  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from hashlib import sha1

HEADER = re.compile(rb"OVSDB ([A-Z]+) (\d{1,18}) ([0-9a-f]{40})\n")
HEADER_LIMIT_BYTES = 80
OBJECT = object()
DATE = re.compile(rb'"_date":\s*(\d+)')


class Kind(Enum):
    """What a database file is."""

    GOOD = "good"
    ABSENT = "absent"
    EMPTY = "an empty file"
    DAMAGED = "damaged"
    SHORTER = "shorter than its last good copy"
    DIVERGED = "no continuation of its last good copy"
    CLUSTERED = "clustered"
    FOREIGN = "foreign"
    UNREADABLE = "unreadable"


class Schema(NamedTuple):
    """A schema's name, version (x.y.z) and checksum ("cksum size" of its file); the last is empty where it has none."""

    name: str
    version: str
    cksum: str


class Log(NamedTuple):
    """A checked file. The first `good_bytes` hold `records` good records, the schema's included.

    `problem` says what is wrong where `kind` is not GOOD; `last_date_ms` is the newest time stamp in the good part.
    `origin` is the SHA-1 of the first transaction: logs that share it are the same log at two times, since a compaction
    or conversion writes another one.
    """

    kind: Kind
    problem: str = ""
    size_bytes: int = 0
    good_bytes: int = 0
    records: int = 0
    schema: Optional[Schema] = None
    last_date_ms: int = 0
    origin: str = ""


class _BadRecord(Exception):
    """A record that ovsdb-server would not take; the text says why."""


def check(path: Path, database: str) -> Log:
    """Read the whole file at `path`, which should hold `database`. Raises PermissionError only."""
    try:
        with files.open_regular(path) as stream:
            return check_stream(stream, database)
    except FileNotFoundError:
        gone = os.readlink(str(path)) if path.is_symlink() else ""
        return Log(Kind.UNREADABLE, "a link to %s, which is not there" % gone) if gone else Log(Kind.ABSENT)
    except PermissionError:
        raise
    except OSError as error:
        return Log(Kind.UNREADABLE, error.strerror or str(error))


def check_stream(stream: BinaryIO, database: str) -> Log:
    """Like `check`, for an open file. Raises OSError."""
    size = os.fstat(stream.fileno()).st_size
    if size == 0:
        return Log(Kind.EMPTY, "it has no bytes")
    log = Log(Kind.GOOD, size_bytes=size)
    while log.good_bytes < size:
        try:
            log = _read_record(stream, log)
        except _BadRecord as bad:
            return log._replace(kind=Kind.DAMAGED, problem="record %d at byte %d %s" % (
                log.records, log.good_bytes, bad))
        if log.kind is not Kind.GOOD:
            return log
        if log.schema is not None and log.schema.name != database:
            return log._replace(kind=Kind.FOREIGN, problem="it holds the database %s" % ascii(log.schema.name))
    return log


def _read_record(stream: BinaryIO, log: Log) -> Log:
    """The log with one more good record. Raises _BadRecord."""
    header = stream.readline(HEADER_LIMIT_BYTES)
    found = HEADER.fullmatch(header)
    if found is None:
        raise _BadRecord("has no OVSDB header")
    if found.group(1) == b"CLUSTER":
        return log._replace(kind=Kind.CLUSTERED, problem="it belongs to a cluster of database servers")
    length = int(found.group(2))
    if log.good_bytes + len(header) + length > log.size_bytes:
        raise _BadRecord("ends after %d of its %d bytes" % (log.size_bytes - log.good_bytes - len(header), length))
    data = stream.read(length)
    if found.group(1) != b"JSON" or sha1(data).hexdigest().encode() != found.group(3):
        raise _BadRecord("does not match its SHA-1")
    schema = log.schema or parse_schema(data)
    if log.records:
        _check_transaction(data)
    date = DATE.search(data)
    return log._replace(good_bytes=log.good_bytes + len(header) + length, records=log.records + 1, schema=schema,
                        last_date_ms=max(log.last_date_ms, int(date.group(1))) if date else log.last_date_ms,
                        origin=found.group(3).decode() if log.records == 1 else log.origin)


def _check_transaction(data: bytes) -> None:
    """A transaction is one JSON object. Its contents are thrown away while they are parsed: they may be large."""
    import json

    def refuse(constant: str) -> None:
        raise ValueError("it holds %s" % constant)

    try:
        if json.loads(data.decode("utf-8"), object_pairs_hook=lambda _: OBJECT, parse_constant=refuse) is not OBJECT:
            raise _BadRecord("is not a JSON object")
    except (ValueError, RecursionError) as error:
        raise _BadRecord("is not JSON (%s)" % error) from error


def parse_schema(data: bytes) -> Schema:
    """The schema in the first record of a log, or in a schema file. Raises _BadRecord."""
    import json

    try:
        text = json.loads(data.decode("utf-8"))
        return Schema(text["name"], text.get("version", ""), text.get("cksum", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _BadRecord("is not a schema (%s)" % error) from error


def read_schema_file(path: Path) -> Schema:
    """The schema in a `.ovsschema` file. Raises OSError, or ValueError when it is not one."""
    try:
        return parse_schema(files.read_small(path))
    except _BadRecord as bad:
        raise ValueError("%s %s" % (path, bad)) from bad
