"""Looks all the time for what must never be: two daemons of a kind, and a stranger that was signalled."""

import subprocess
import threading
import time
from pathlib import Path
from typing import Callable, Dict, FrozenSet, Iterator, List, Set, Tuple

from ovsxen.host import process
from ovsxen.host.clock import Deadline
from ovsxen.host.process import Process
from tests.soak.story import Violation
from tests.watching import BOTH, regardless_of_state

EVERY_S = 0.02
TWO_AT_ONCE_S = 0.1
PF_EXITING = 4


class Sentry:
    """Stands from its making to close(). `rundir` is how a daemon of our host is told from others' by its arguments."""

    def __init__(self, rundir: Path, strangers: "Tuple[subprocess.Popen[bytes], ...]") -> None:
        self._rundir, self._strangers = str(rundir), strangers
        self.longest_overlap_s = 0.0
        self._found = ""
        self._since_s: Dict[FrozenSet[Process], float] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._stand)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def wait_until(self, what: str, holds: Callable[[], bool], within_s: float) -> None:
        """Raises Violation: it did not come to that, or meanwhile to what must never be."""
        def look() -> bool:
            if self._found:
                raise Violation(self._found)
            return holds()

        if not Deadline(within_s).wait_until(look, every_s=EVERY_S):
            raise Violation("%s: not within %g s" % (what, within_s))

    def _stand(self) -> None:
        while not self._closed.wait(EVERY_S):
            self._note_overlaps({couple for name in BOTH for couple in self._couples(name)})
            for stranger in self._strangers:
                seen = process.read_process(stranger.pid)
                if seen is None or seen.is_halted:
                    self._found = self._found or "a stranger was signalled: pid %d" % stranger.pid

    def _couples(self, name: str) -> Iterator[FrozenSet[Process]]:
        """Two of this host that are not one that starts and the parent that waits for it."""
        alive = {one.pid: regardless_of_state(one) for one in process.find_processes(name)
                 if self._rundir in " ".join(process.read_command_line(one.pid)) and not is_ending(one.pid)}
        parents = {parent_of(pid) for pid in alive}
        apart = [one for pid, one in alive.items() if pid not in parents]
        for number, one in enumerate(apart):
            for other in apart[number + 1:]:
                yield frozenset((one, other))

    def _note_overlaps(self, couples: Set[FrozenSet[Process]]) -> None:
        now_s = time.monotonic()
        self._since_s = {couple: self._since_s.get(couple, now_s) for couple in couples}
        for couple, since_s in self._since_s.items():
            self.longest_overlap_s = max(self.longest_overlap_s, now_s - since_s)
            if now_s - since_s >= TWO_AT_ONCE_S:
                self._found = self._found or "two at once: %s" % " and ".join(sorted(one.label for one in couple))


def parent_of(pid: int) -> int:
    try:
        return int(_fields(Path("/proc/%d/stat" % pid))[1])
    except OSError:
        return 0


def is_ending(pid: int) -> bool:
    """Every thread is in the kernel's do_exit: it does nothing any more."""
    try:
        return all(int(_fields(task / "stat")[6]) & PF_EXITING for task in Path("/proc/%d/task" % pid).iterdir())
    except OSError:
        return True


def _fields(stat: Path) -> List[str]:
    """proc(5), /proc/PID/stat, from the state on."""
    return stat.read_text(errors="replace").rpartition(")")[2].split()
