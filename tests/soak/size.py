"""Nothing grows without end: what the daemon has open and in memory, its children, files, evidence."""

import os
import resource
from pathlib import Path

from ovsxen.host import process
from ovsxen.host.process import Process
from tests.soak.draw import DAEMON
from tests.soak.site import Site
from tests.soak.story import Violation

DESCRIPTORS = 32
FILES = 80
EVIDENCE_BYTES = 17 << 20
CHILDLESS_WITHIN_S = 20.0


class Size:
    """The most that was seen."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.most_descriptors = self.most_resident_kib = 0

    def measure(self) -> None:
        """Raises Violation."""
        daemon = self._site.find(DAEMON)
        if daemon is not None:
            self._measure_daemon(daemon)
        paths = self._site.host.paths
        for directory in (paths.rundir, paths.dbdir, paths.root / "run"):
            names = sorted(path.name for path in directory.iterdir())
            if len(names) > FILES:
                raise Violation("%d files in %s: %s" % (len(names), directory, " ".join(names)))
        kept = sum(path.stat().st_size for path in paths.evidence.rglob("*")) if paths.evidence.exists() else 0
        if kept > EVIDENCE_BYTES:
            raise Violation("%d bytes of evidence" % kept)

    def _measure_daemon(self, daemon: Process) -> None:
        try:
            descriptors = len(os.listdir("/proc/%d/fd" % daemon.pid))
            pages = int(Path("/proc/%d/statm" % daemon.pid).read_text().split()[1])
        except OSError:
            return  # it runs itself anew, or was ended meanwhile
        self.most_descriptors = max(self.most_descriptors, descriptors)
        self.most_resident_kib = max(self.most_resident_kib, pages * resource.getpagesize() // 1024)
        if descriptors > DESCRIPTORS:
            raise Violation("%d descriptors: %s" % (descriptors, sorted(process.open_files(daemon.pid))))
        self._site.sentry.wait_until("the daemon has no children", lambda: not children_of(daemon.pid),
                                     CHILDLESS_WITHIN_S)


def children_of(pid: int) -> str:
    try:
        return Path("/proc/%d/task/%d/children" % (pid, pid)).read_text()
    except OSError:
        return ""
