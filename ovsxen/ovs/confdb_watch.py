"""conf.db under a server that runs, looked at from moment to moment: is it there and whole, and is a new copy due?

The server would not notice before it is started again, and then it is too late for what only its memory has. A copy is
taken when ovs-vswitchd starts, which is before the host has made its bridges: so another one from time to time.
"""

import os
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from ovsxen.host.clock import stopwatch
from ovsxen.host.paths import Paths
from ovsxen.ovs import dblog, dbtool
from ovsxen.ovs.confdb import real_path
from ovsxen.ovs.dblog import Kind

CHECK_EVERY_S = 5.0
CHECK_SHARE = 1 / 500.0
"""Of the time, that reading a file may take which changes and changes."""

COPY_EVERY_S = 600.0

Signature = Tuple[int, int, int]


class OnDisk(NamedTuple):
    """What there is to see of conf.db. `problem`: why its server has to write it anew, or ""."""

    problem: str = ""
    copy_is_due: bool = False


class ConfDbWatch:
    """Reads the file only when it has changed, and then once in a while; at once where it became smaller."""

    def __init__(self, paths: Paths, now_s: float) -> None:
        self._conf_db = str(paths.conf_db)
        self._seen: Optional[Signature] = None
        self._checked: Optional[Signature] = None
        self._suspect: Optional[Signature] = None
        self._problem = ""
        self._check_due_s = now_s
        self._copy_due_s = now_s + COPY_EVERY_S

    def look(self, now_s: float) -> OnDisk:
        """What is so now. One that is bad twice in a row is: the server may have been in the midst of a record."""
        try:
            found = os.stat(self._conf_db)
        except FileNotFoundError:
            return OnDisk("%s is gone" % self._conf_db)
        except OSError:
            return OnDisk()
        signature = (found.st_ino, found.st_size, found.st_mtime_ns)
        before, self._seen = self._seen, signature
        shrank = before is not None and signature[0] == before[0] and signature[1] < before[1]
        if signature != self._checked and (now_s >= self._check_due_s or shrank or self._suspect is not None):
            self._check(signature, now_s)
        if self._problem and signature == self._checked:
            return OnDisk(self._problem)
        return OnDisk(copy_is_due=signature == self._checked and self._is_copy_due(now_s))

    def _check(self, signature: Signature, now_s: float) -> None:
        path, took_ms = real_path(Path(self._conf_db)), stopwatch()
        try:
            log = dblog.check(path, dbtool.DATABASE)
        except PermissionError:
            return
        self._check_due_s = now_s + max(CHECK_EVERY_S, took_ms() / 1000.0 / CHECK_SHARE)
        is_bad = log.kind not in (Kind.GOOD, Kind.ABSENT)
        if is_bad and self._suspect != signature:
            self._suspect = signature
            return
        self._problem = "%s is %s (%s)" % (path, log.kind.value, log.problem) if is_bad else ""
        self._suspect, self._checked = None, signature

    def _is_copy_due(self, now_s: float) -> bool:
        """Once in so many seconds, whether or not something comes of it."""
        if now_s < self._copy_due_s:
            return False
        self._copy_due_s = now_s + COPY_EVERY_S
        return True
