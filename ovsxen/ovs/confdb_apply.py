"""Do what was planned about conf.db, in copies: one is staged beside it, synced and renamed over it.

So a start that is killed at any point leaves either the old file or the new one.
"""

import os
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.host import clock, files
from ovsxen.ovs import confdb, dblog, dbtool, generations
from ovsxen.ovs.confdb import Found, Source
from ovsxen.ovs.confdb_plan import Plan, Repair
from ovsxen.ovs.dblog import Kind
from ovsxen.ovs.generations import Recovery

MODE = 0o640

Give = Callable[[Path], None]
"""Hands a new file to the user that the daemons run as."""


class Applied(NamedTuple):
    """The recovery as it was written down, and what could not be done though the host can go on without it."""

    recovery: Optional[Recovery]
    trouble: str


def apply(found: Found, planned: Plan, schema: Path, give: Give) -> Applied:
    """Do what was planned. Raises OSError and AdministratorError: then conf.db is as it was, or already recovered, and
    the next start goes on from there.
    """
    path, staged = found.path, files.staged_name(found.path)
    confdb.remove_leftovers(found.leftovers)
    recovery = planned.recovery
    try:
        if recovery is not None:
            recovery = _recover(path, recovery, planned.source, staged, give)
        if Repair.CREATE in planned.steps:
            dbtool.create(staged, schema)
            _put_in_place(staged, path, give)
        return Applied(recovery, _convert(path, schema, staged, give) if Repair.CONVERT in planned.steps else "")
    finally:
        if planned.steps:
            confdb.remove_leftovers(confdb.find_leftovers(path))


def _recover(path: Path, recovery: Recovery, source: Optional[Source], staged: Path, give: Give) -> Recovery:
    """Stage the replacement before anything is touched; then the note and the second name, then the replacement."""
    if source is not None:
        with open(str(source.path), "rb") as stream:
            files.write_file(staged, files.read_start(stream.fileno(), source.size_bytes), MODE)
    written = generations.set_aside(path, recovery._replace(when=clock.wall_clock_text()), copy=False)
    if source is not None:
        _put_in_place(staged, path, give)
    return written


def _convert(path: Path, schema: Path, staged: Path, give: Give) -> str:
    """Convert a compacted copy and put it in place; the original is a generation by then, and stays if this fails.

    Compacting first matters where the new schema drops unreferenced rows and the old did not (ovs-lib.in, 2.17).
    """
    try:
        with open(str(path), "rb") as stream:
            log = dblog.check_stream(stream, dbtool.DATABASE)
            generations.keep(path, stream.fileno(), log)
        source = _compact(path, staged.parent / (staged.name + "-compacted"), log.size_bytes)
        dbtool.convert(source, schema, staged, log.size_bytes)
        converted = dblog.check(staged, dbtool.DATABASE)
        if converted.kind is not Kind.GOOD:
            raise AdministratorError("what ovsdb-tool converted is %s" % converted.problem, "reinstall Open vSwitch")
    except (AdministratorError, NoAnswer, OSError) as error:
        return "NOT converted, and used with its own schema, because %s" % (getattr(error, "strerror", None) or error)
    _put_in_place(staged, path, give)
    return ""


def _compact(path: Path, compacted: Path, size_bytes: int) -> Path:
    """The compacted copy, or the file itself where ovsdb-tool cannot compact it (a downgrade may bring what it does not
    know)."""
    try:
        dbtool.compact(path, compacted, size_bytes)
    except AdministratorError:
        return path
    return compacted


def _put_in_place(staged: Path, path: Path, give: Give) -> None:
    os.chmod(str(staged), MODE)
    give(staged)
    files.sync_file(staged)
    os.rename(str(staged), str(path))
    files.sync_directory(path.parent)


def keep_refused(conf_db: Path, said: str) -> Recovery:
    """Keep the file that the server has just opened and, as it `said`, not taken whole. Raises OSError.

    Its next write cuts off what it did not take, so the bytes are copied.
    """
    path = confdb.real_path(conf_db)
    recovery = Recovery(clock.wall_clock_text(), "ovsdb-server does not take all of %s (%s)" % (path, said),
                        "what it has taken", str(path),
                        "that record, and with some versions of Open vSwitch every later one")
    return generations.set_aside(path, recovery, copy=True)
