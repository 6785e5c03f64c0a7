"""conf.db under a server that runs, looked at from moment to moment: is it there and whole, and is a new copy due?

The server would not notice before it is started again, and then it is too late for what only its memory has. A copy is
taken when ovs-vswitchd starts, which is before the host has made its bridges: so another one from time to time.
"""

import os
from typing import NamedTuple, Optional, Tuple

from ovsxen.host.paths import Paths
from ovsxen.ovs import dblog, dbtool
from ovsxen.ovs.confdb import real_path
from ovsxen.ovs.dblog import Kind

CHECK_EVERY_S = 60.0
COPY_EVERY_S = 600.0

Signature = Tuple[int, int, int]


class OnDisk(NamedTuple):
    """What there is to see of conf.db. `problem`: why its server has to write it anew, or ""."""

    problem: str = ""
    copy_is_due: bool = False


class ConfDbWatch:
    """Reads the file only when it has changed, and then once in a while; at once where it became smaller."""

    def __init__(self, paths: Paths, now_s: float) -> None:
        self._path = real_path(paths.conf_db)
        self._checked: Optional[Signature] = None
        self._copied: Optional[Signature] = None
        self._check_due_s = now_s
        self._copy_due_s = now_s + COPY_EVERY_S
        self._suspect: Optional[Signature] = None

    def look(self, now_s: float) -> OnDisk:
        """What is so now. One that is bad twice in a row is: the server may have been in the midst of a record."""
        try:
            found = os.stat(str(self._path))
        except FileNotFoundError:
            return OnDisk("%s is gone" % self._path)
        except OSError:
            return OnDisk()
        signature = (found.st_ino, found.st_size, found.st_mtime_ns)
        if signature != self._checked and (now_s >= self._check_due_s or self._shrank(signature)):
            problem = self._find_problem()
            if problem:
                return OnDisk(problem if self._was_suspect(signature) else "")
            self._checked, self._check_due_s = signature, now_s + CHECK_EVERY_S
        return OnDisk(copy_is_due=self._is_copy_due(signature, now_s))

    def _shrank(self, signature: Signature) -> bool:
        return self._checked is not None and signature[0] == self._checked[0] and signature[1] < self._checked[1]

    def _find_problem(self) -> str:
        try:
            log = dblog.check(self._path, dbtool.DATABASE)
        except PermissionError:
            return ""
        return "" if log.kind in (Kind.GOOD, Kind.ABSENT) else "%s is %s (%s)" % (
            self._path, log.kind.value, log.problem)

    def _was_suspect(self, signature: Signature) -> bool:
        before, self._suspect = self._suspect, signature
        return before == signature

    def _is_copy_due(self, signature: Signature, now_s: float) -> bool:
        if now_s < self._copy_due_s or signature != self._checked or signature == self._copied:
            return False
        self._copied, self._copy_due_s = signature, now_s + COPY_EVERY_S
        return True
