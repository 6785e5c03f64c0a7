"""What lies beside conf.db: good generations to go back to, and what was set aside when conf.db was not good.

conf.db.good-NNNNNN-CKSUM-SIZE     a copy that passed its check, with the checksum of its schema; one of each start
conf.db.live-000001-CKSUM-SIZE     the same, taken after the last start; it has what the host has made since
conf.db.aside-NNNNNN               a file that could not be used, or was replaced, kept for the administrator
conf.db.recovery-NNNNNN.json       why it could not, and what is used instead; `status` is degraded while it lies there

Numbers count up, since the wall clock may run backwards between boots.
"""

import os
import re
from pathlib import Path
from typing import List, NamedTuple, Tuple

from ovsxen.host import files
from ovsxen.ovs import dblog

NAME = re.compile(r"\.(good|live|aside|recovery)-(\d{6})(?:-(\d+-\d+|unknown))?(?:\.json)?")
KEPT_NEWEST = 2
KEPT_OF_OTHER_SCHEMAS = 2
KEPT_ASIDE = 8
MODE = 0o640


class Beside(NamedTuple):
    """A file beside conf.db. `cksum` is the schema's, "" where its kind has none."""

    path: Path
    kind: str
    number: int
    cksum: str


class Recovery(NamedTuple):
    """Why conf.db was not used as it was found, and what is used instead. All for people to read."""

    when: str
    problem: str
    used: str
    kept: str
    lost: str

    def __str__(self) -> str:
        return "%s; used instead: %s; lost: %s; kept: %s" % (self.problem, self.used, self.lost, self.kept)


def list_beside(conf_db: Path, kind: str) -> List[Beside]:
    """The files of one kind ("good", "live", "aside", "recovery"), newest first."""
    found = []
    try:
        names = os.listdir(str(conf_db.parent))
    except FileNotFoundError:
        return []
    for name in names:
        match = NAME.fullmatch(name[len(conf_db.name):]) if name.startswith(conf_db.name + ".") else None
        if match and match.group(1) == kind:
            found.append(Beside(conf_db.parent / name, kind, int(match.group(2)), match.group(3) or ""))
    return sorted(found, key=lambda beside: beside.number, reverse=True)


def keep(conf_db: Path, fd: int, log: dblog.Log) -> str:
    """Copy the good part of an open conf.db to a new generation, unless the newest one is the same; says which.

    The server may append to the file meanwhile: what was checked does not change. Raises OSError.
    """
    generations = list_beside(conf_db, "good")
    if generations and _is_copy(generations[0].path, fd, log.good_bytes):
        return generations[0].path.name
    number = generations[0].number + 1 if generations else 1
    made = _make(conf_db, "good", number, fd, log)
    for old in surplus([made] + generations) + list_beside(conf_db, "live"):
        files.remove_if_there(old.path)
    return made.path.name


def keep_live(conf_db: Path, fd: int, log: dblog.Log) -> None:
    """The same while the switch is up. A conf.db that an administrator puts back is not held against such a copy.

    Raises OSError.
    """
    there = list_beside(conf_db, "live")
    if any(_is_copy(beside.path, fd, log.good_bytes) for beside in there + list_beside(conf_db, "good")[:1]):
        return
    made = _make(conf_db, "live", 1, fd, log)
    for old in there:
        if old.path != made.path:
            files.remove_if_there(old.path)


def _make(conf_db: Path, kind: str, number: int, fd: int, log: dblog.Log) -> Beside:
    cksum = log.schema.cksum.replace(" ", "-") if log.schema else ""
    cksum = cksum if re.fullmatch(r"\d+-\d+", cksum) else "unknown"
    target = conf_db.parent / ("%s.%s-%06d-%s" % (conf_db.name, kind, number, cksum))
    files.write_file(target, files.read_start(fd, log.good_bytes), MODE)
    return Beside(target, kind, number, cksum)


def _is_copy(path: Path, fd: int, size_bytes: int) -> bool:
    """`path` has exactly the first `size_bytes` of the open file."""
    try:
        with files.open_regular(path) as stream:
            if os.fstat(stream.fileno()).st_size != size_bytes:
                return False
            return all(stream.read(len(block)) == block for block in files.read_start(fd, size_bytes))
    except OSError:
        return False


def surplus(generations: List[Beside]) -> List[Beside]:
    """Generations (newest first) that may go: all but the newest two, and the newest two of other schemas than theirs.

    The latter are the way back after a downgrade of the schema, however often the host was booted since.
    """
    kept, rest = generations[:KEPT_NEWEST], generations[KEPT_NEWEST:]
    newest_schemas = {generation.cksum for generation in kept[:1]}
    others = [generation for generation in rest if generation.cksum not in newest_schemas]
    return [generation for generation in rest if generation not in others[:KEPT_OF_OTHER_SCHEMAS]]


def set_aside(conf_db: Path, recovery: Recovery, *, copy: bool) -> Recovery:
    """Give conf.db's file a second name and write down why; gives the recovery as written.

    conf.db itself stays until its replacement is renamed over it, so a kill in between loses nothing: the next start
    finds the same file again, and the same name for it. With `copy` the file's bytes are copied, because its owner goes
    on writing to it. Raises OSError.
    """
    known = list_beside(conf_db, "aside") + list_beside(conf_db, "recovery")
    aside = next((beside for beside in known if beside.kind == "aside" and files.same_file(beside.path, conf_db)), None)
    number = aside.number if aside else max((beside.number for beside in known), default=0) + 1
    path = conf_db.parent / ("%s.aside-%06d" % (conf_db.name, number))
    if aside is None and os.path.lexists(str(conf_db)):
        _second_name(conf_db, path, copy=copy)
    note = conf_db.parent / ("%s.recovery-%06d.json" % (conf_db.name, number))
    recovery = recovery._replace(kept=str(path) if os.path.lexists(str(path)) else "nothing, there was no file")
    import json  # only a recovery pays for it

    files.write_file(note, [json.dumps(recovery._asdict(), indent=1).encode() + b"\n"], MODE)
    for old in list_beside(conf_db, "aside")[KEPT_ASIDE:]:
        files.remove_if_there(old.path)
    return recovery


def keep_aside(conf_db: Path) -> Path:
    """Give conf.db's file a second name, as one that is whole and that another one is about to replace; says which.

    No note is written: nothing is wrong. Raises OSError.
    """
    known = list_beside(conf_db, "aside") + list_beside(conf_db, "recovery")
    number = max((beside.number for beside in known), default=0) + 1
    path = conf_db.parent / ("%s.aside-%06d" % (conf_db.name, number))
    _second_name(conf_db, path, copy=False)
    for old in list_beside(conf_db, "aside")[KEPT_ASIDE:]:
        files.remove_if_there(old.path)
    return path


def _second_name(conf_db: Path, path: Path, *, copy: bool) -> None:
    if copy:
        with files.open_regular(conf_db) as stream:
            files.write_file(path, files.read_start(stream.fileno(), os.fstat(stream.fileno()).st_size), MODE)
        return
    if conf_db.is_dir():
        os.rename(str(conf_db), str(path))
    else:
        os.link(str(conf_db), str(path), follow_symlinks=False)
    files.sync_directory(conf_db.parent)


def read_recoveries(conf_db: Path) -> Tuple[Tuple[Path, Recovery], ...]:
    """Every recovery that the administrator has not dealt with yet (by removing its note), newest first."""
    import json

    found = []
    for beside in list_beside(conf_db, "recovery"):
        try:
            text = json.loads(files.read_small(beside.path).decode())
            found.append((beside.path, Recovery(**text)))
        except (OSError,) + files.NONSENSE as error:
            found.append((beside.path, Recovery("", "the note cannot be read (%s)" % error, "", "", "")))
    return tuple(found)
