"""What there is in an RPM root: files by type, owner, mode, content and link target, and services by whether
they start. Of /usr only what differs from this machine's.
"""

import fnmatch
import grp
import hashlib
import os
import pwd
import stat
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from tests.rpm.root import PYTHONS, Root
from tests.rpm.stand_ins import IPSEC_UNIT, SYNC_UNIT, UNIT

SCANNED = ("boot", "etc", "opt", "root", "run", "tmp", "var")
UNITS = (UNIT, SYNC_UNIT, IPSEC_UNIT)
NOT_COMPARED = (
    ("/var/lib/rpm", "rpm's own database: rpm is asked instead"),
    (str(PYTHONS.parent), "where Python interpreters of this machine are mounted"),
    ("/var/tmp/rpm-tmp.*", "a scriptlet of an rpm that was killed in it"),
    ("/run/ovsxen*.lock", "locks that nobody holds; they are made anew after a boot"),
)
"""What may differ between states that are the same, and why."""

REMOVED, FILE, LINK, DIRECTORY, SERVICE = "removed", "file", "link", "directory", "service"


class Entry(NamedTuple):
    """What there is at a path. REMOVED is in this machine's /usr and not in the root's."""

    kind: str
    owner: str = ""
    mode: int = 0
    content: str = ""

    def __str__(self) -> str:
        said = "%s %s %04o %s" % (self.kind, self.owner, self.mode, self.content[:80])
        return {REMOVED: REMOVED, SERVICE: self.content}.get(self.kind, said.strip())


Snapshot = Mapping[str, Entry]


def take(root: Root) -> Snapshot:
    """The root as it is between two commands."""
    found: Dict[str, Entry] = {}
    for name in SCANNED:
        found.update(_below(root.path / name, "/" + name))
    for path, entry in _below(root.layer, "/usr"):
        if entry != _at(Path(path)):
            found[path] = entry
    for unit in UNITS:
        found["unit " + unit] = Entry(SERVICE, content=enabled(root, unit))
    return found


def enabled(root: Root, unit: str) -> str:
    """What systemctl(1) says of a unit: enabled, disabled, not-found, ..."""
    return root.run("systemctl", "is-enabled", unit).out.strip() or "not-found"


def changes(before: Snapshot, after: Snapshot) -> List[str]:
    """What is other than before, one line each: "+ path: what", "- path: what" or "! path: what -> what"."""
    said = []
    for path in sorted(set(before) | set(after)):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        said.append("+ %s: %s" % (path, new) if old is None else "- %s: %s" % (path, old) if new is None else
                    "! %s: %s -> %s" % (path, old, new))
    return said


def _below(directory: Path, name: str) -> Iterator[Tuple[str, Entry]]:
    for parent, directories, files in os.walk(str(directory)):
        inside = name + parent[len(str(directory)):]
        directories[:] = [each for each in directories if not _is_left_out("%s/%s" % (inside, each))]
        for each in directories + files:
            path = "%s/%s" % (inside, each)
            entry = _at(Path(parent) / each)
            if entry is not None and not _is_left_out(path):
                yield path, entry


def _is_left_out(path: str) -> bool:
    return any(fnmatch.fnmatch(path, each) for each, _ in NOT_COMPARED)


def _at(path: Path) -> Optional[Entry]:
    try:
        status = path.lstat()
    except OSError:
        return None
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:  # how overlayfs writes down that a lower file is gone
        return Entry(REMOVED)
    owner = "%s:%s" % (_name(pwd.getpwuid, status.st_uid), _name(grp.getgrgid, status.st_gid))
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return Entry(LINK, owner, 0o777, os.readlink(str(path)))
    if stat.S_ISDIR(status.st_mode):
        return Entry(DIRECTORY, owner, mode)
    if stat.S_ISREG(status.st_mode):
        return Entry(FILE, owner, mode, hashlib.sha256(path.read_bytes()).hexdigest()[:16])
    return Entry("something else (%o)" % stat.S_IFMT(status.st_mode), owner, mode)


def _name(look_up: Callable[[int], Tuple[object, ...]], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)
