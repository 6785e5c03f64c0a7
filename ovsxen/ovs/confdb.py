"""conf.db as it lies there before the server opens it, and what there is to go back to. Nothing here changes anything.

confdb_plan.py decides what to do about it, confdb_apply.py does it.
"""

import itertools
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, NotInstalled, NotPermitted
from ovsxen.host import files, process
from ovsxen.ovs import dblog, dbtool, generations
from ovsxen.ovs.dblog import Kind, Log, Schema


class Source(NamedTuple):
    """A good log to go back to: the first `size_bytes` of `path`."""

    path: Path
    size_bytes: int
    records: int
    last_date_ms: int

    @classmethod
    def of(cls, path: Path, log: Log) -> "Source":
        """The good part of a checked file."""
        return cls(path, log.good_bytes, log.records, log.last_date_ms)


class Assessed(NamedTuple):
    """What conf.db holds, and where that is not good, what there is to go back to, best first."""

    path: Path
    log: Log
    fallbacks: Tuple[Source, ...]


class Found(NamedTuple):
    """conf.db as it lies there, what there is to go back to where it is not good, and what the tool says of it.

    `conversion` is ovsdb-tool's answer ("yes", "no", or what it complained about) for the file that will be used; "no"
    without asking where that has the installed schema, by name, version and checksum.
    """

    path: Path
    log: Log
    installed: Schema
    fallbacks: Tuple[Source, ...]
    had_history: bool
    conversion: str
    free_bytes: int
    leftovers: Tuple[Path, ...]

    @property
    def assessed(self) -> Assessed:
        """The part of it that reading the files gives."""
        return Assessed(self.path, self.log, self.fallbacks)


def real_path(conf_db: Path) -> Path:
    """The file itself: conf.db may be a link to another file system (openvswitch a35ae81c6), and stays one."""
    return Path(os.path.realpath(str(conf_db))) if os.path.exists(str(conf_db)) else conf_db


def find_holder(conf_db: Path) -> Optional[process.Lock]:
    """Who has the database open for writing (ovsdb/file.c locks `.NAME.~lock~` beside it)."""
    return process.find_lock(lock_beside(real_path(conf_db)))


def lock_beside(path: Path) -> Path:
    """The file that a server locks while it has the database of that name open."""
    return path.parent / (".%s.~lock~" % path.name)


def require_free(path: Path) -> None:
    """No server has the database of that name open. Raises NotPermitted, AdministratorError."""
    holder = process.find_lock(lock_beside(path))
    if holder is not None:
        raise AdministratorError("%s is locked by %s, which has no pidfile of ovsdb-server" % (path, holder.holder),
                                 "run `ovsxen restart` if it is this host's server, else stop that process first")


def assess(conf_db: Path) -> Assessed:
    """Read conf.db, and its copies as far as they are needed. Raises NotPermitted."""
    path = real_path(conf_db)
    try:
        log = _compare_with_newest(path, dblog.check(path, dbtool.DATABASE))
    except PermissionError as error:
        raise NotPermitted("cannot read %s" % path, "run ovsxen as root") from error
    return Assessed(path, log, () if log.kind is Kind.GOOD else find_fallbacks(path, log))


def observe(conf_db: Path, schema: Path) -> Found:
    """Look at conf.db and beside it, without changing anything; `schema` is the installed one's file.

    Raises NotPermitted, AdministratorError (somebody has it open), NotInstalled (no schema, no ovsdb-tool).
    """
    path = real_path(conf_db)
    require_free(path)
    path, log, fallbacks = assess(path)
    installed = read_installed_schema(schema)
    conversion = "no"
    if log.kind is not Kind.GOOD and fallbacks:
        conversion = dbtool.ask_conversion(fallbacks[0].path, schema)
    elif log.kind is Kind.GOOD and not (installed.cksum and log.schema == installed):
        conversion = dbtool.ask_conversion(path, schema)
    space = os.statvfs(str(path.parent)) if path.parent.is_dir() else None
    had_history = any(generations.list_beside(path, kind) for kind in ("good", "aside", "recovery"))
    return Found(path, log, installed, fallbacks, had_history, conversion,
                 space.f_bavail * space.f_frsize if space else 0, find_leftovers(path))


def read_installed_schema(schema: Path) -> Schema:
    """The schema that the installed Open vSwitch brings. Raises NotInstalled."""
    try:
        return dblog.read_schema_file(schema)
    except (OSError, ValueError) as error:
        raise NotInstalled("the schema %s cannot be read (%s)" % (schema, error),
                           "install Open vSwitch, or set OVS_PKGDATADIR") from error


def _compare_with_newest(path: Path, log: Log) -> Log:
    """A log that is good in itself may hold less than its newest good copy, or something else: it was cut, made anew or
    put together by somebody.

    Logs only grow, or are compacted into another beginning. So it holds less where it is the beginning of the copy, or
    has nothing but a schema where the copy has more; and something else where both began alike and parted. What parted
    cannot be trusted: its later records tell differences to what they followed.
    """
    newest = next(_copies(path, "good"), None) if log.kind is Kind.GOOD else None
    if newest is None or newest[1].records <= 1:
        return log
    copy, kept = newest
    if log.records > 1:
        if log.origin != kept.origin:
            return log
        if not _begin_alike(copy, path, min(log.size_bytes, kept.good_bytes)):
            return log._replace(kind=Kind.DIVERGED, problem="it begins like %s, and then lacks or repeats records of it"
                                % copy.name)
        if log.size_bytes >= kept.good_bytes:
            return log
    return log._replace(kind=Kind.SHORTER, problem="%d records where %s has %d" % (
        log.records, copy.name, kept.records))


def find_fallbacks(conf_db: Path, log: Log) -> Tuple[Source, ...]:
    """Good logs to go back to, best first: what precedes the damage, then the copies that pass a check, newest first,
    then the good parts of those that do not.

    conf.db is younger than its copies, unless the damage is in the part that the newest copy has whole. Time stamps do
    not count: a clock may have run backwards.
    """
    copies = sorted(itertools.chain(_copies(conf_db, "live"), _copies(conf_db, "good")),
                    key=lambda copy: copy[1].kind is not Kind.GOOD)
    kept = tuple(Source.of(path, good) for path, good in copies)
    if log.kind is not Kind.DAMAGED or log.records <= 1:
        return kept
    start = Source.of(conf_db, log)
    if kept and start.size_bytes < kept[0].size_bytes and _begin_alike(kept[0].path, conf_db, start.size_bytes):
        return kept + (start,)
    return (start,) + kept


def _copies(conf_db: Path, kind: str) -> Iterator[Tuple[Path, Log]]:
    """The copies of a kind that hold something, newest first; each is checked when it is asked for. One that was good
    when it was kept may be damaged by now, and still has its good part.
    """
    for generation in generations.list_beside(conf_db, kind):
        try:
            log = dblog.check(generation.path, dbtool.DATABASE)
        except PermissionError:
            continue
        if log.kind is Kind.GOOD or (log.kind is Kind.DAMAGED and log.records > 1):
            yield generation.path, log


def _begin_alike(first: Path, second: Path, size_bytes: int) -> bool:
    """The first `size_bytes` of both files are the same."""
    with files.open_regular(first) as one, files.open_regular(second) as other:
        blocks = zip(files.read_start(one.fileno(), size_bytes), files.read_start(other.fileno(), size_bytes))
        return all(left == right for left, right in blocks)


@contextmanager
def preview(found: Assessed) -> Iterator[Optional[Path]]:
    """The file to read for what the server will have: conf.db, or what it goes back to; None when that is nothing.

    Where it is a part of a damaged file, the part is copied to a temporary one.
    """
    source = found.fallbacks[0] if found.fallbacks else None
    if found.log.kind is Kind.GOOD:
        yield found.path
    elif source is None or source.path != found.path:
        yield source.path if source else None
    else:
        import tempfile  # only a dry run over a damaged file pays for it

        with tempfile.NamedTemporaryFile(prefix="ovsxen-preview-") as copy, open(str(source.path), "rb") as stream:
            for block in files.read_start(stream.fileno(), source.size_bytes):
                copy.write(block)
            copy.flush()
            yield Path(copy.name)


def find_leftovers(conf_db: Path, *, in_use: bool = False) -> Tuple[Path, ...]:
    """What a killed run left behind: staged files with what ovsdb-tool made beside them, and its own half copy.

    Nobody else makes the staged names, and only files count. A half copy beside a file that is `in_use` may be its
    server's, at work.
    """
    ours = re.compile(r"\.{1,2}%s(\.[\w-]+)*\.\d+%s(-compacted)?(\.~lock~|\.tmp)?" % (
        re.escape(conf_db.name), re.escape(files.STAGED_SUFFIX)))
    half_copy = None if in_use else conf_db.name + ".tmp"
    try:
        names = os.listdir(str(conf_db.parent))
    except OSError:
        return ()
    paths = (conf_db.parent / name for name in sorted(names) if ours.fullmatch(name) or name == half_copy)
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def remove_leftovers(paths: Tuple[Path, ...]) -> None:
    """One that cannot be removed harms nobody."""
    for path in paths:
        try:
            files.remove_if_there(path)
        except OSError:
            continue
