"""What the daemon tells, and to whom: systemd, the log, and the report that `ovsxen status` reads.

Telling never fails and never keeps the switch waiting.
"""

import os
from typing import Optional, Tuple

from ovsxen.host import notify, process
from ovsxen.host.clock import MACHINE_CLOCK, Clock, wall_clock_text
from ovsxen.host.notify import Notifier
from ovsxen.host.paths import Paths
from ovsxen.log import Log
from ovsxen.report import Outcome, Phase
from ovsxen.sequence import refused_by_system
from ovsxen.watch_report import (
    ENDED,
    EVENTS,
    WATCHING,
    WRITTEN_EVERY_S,
    Attempts,
    Event,
    WatchReport,
    read_watch_report,
    write_watch_report,
)

WELL = "watching the switch"


class News:
    """All that is told of one daemon, from its start to its end."""

    def __init__(self, paths: Paths, boot_id: str, notifier: Notifier, log: Log, clock: Clock = MACHINE_CLOCK) -> None:
        self.paths = paths
        self.boot_id = boot_id
        self.notifier = notifier
        self.log = log
        self.clock = clock
        self.predecessor = read_watch_report(paths.watch_report, boot_id)
        self.problems: Tuple[str, ...] = ()
        self.failure = ""
        self.events = self.predecessor.events if self.predecessor else ()
        self._written: Optional[WatchReport] = None
        self._refused = ""
        self._watchdog_due_s = 0.0

    def phase(self, phase: Phase) -> None:
        """A phase of a start or a stop has ended."""
        self.log.phase(phase)
        if phase.outcome is Outcome.FAILED and not self.failure:
            self.failure = "%s failed: %s" % (phase.name, phase.reason)
        self.notifier.status("%s %s%s" % (phase.name, phase.outcome.value,
                                          ": " + phase.reason if phase.outcome is Outcome.FAILED else ""))

    def note(self, text: str) -> None:
        """Something was done to the switch, or could not be."""
        self.log.say(text)
        self.events = (self.events + (Event(wall_clock_text(), text),))[-EVENTS:]
        if self._written is not None:
            self.write(self._written.doing, self._written.attempts)

    def watching(self, problems: Tuple[str, ...], attempts: Attempts) -> None:
        """All is as it was, or not: said where it changed, and written from time to time in any case."""
        for problem in problems:
            if problem not in self.problems:
                self.log.warn(problem)
        changed = problems != self.problems
        self.problems = problems
        before = self._written
        if before is None or changed or before.doing != WATCHING \
                or self.clock.monotonic() - before.written_s >= WRITTEN_EVERY_S:
            self.write(WATCHING, attempts)
            last = "; last, at %s: %s" % self.events[-1] if self.events else ""
            self.notifier.status("; ".join(problems) or WELL + last)

    def write(self, doing: str, attempts: Attempts) -> None:
        """Keep what `ovsxen status` is to know. A full disk is said once."""
        me = process.myself()
        self._written = WatchReport(self.boot_id, me.pid, me.start_ticks, self.clock.monotonic(),
                                    doing, self.problems, attempts, self.events)
        try:
            write_watch_report(self.paths.watch_report, self._written)
            self._refused = ""
        except OSError as error:
            if self._refused != str(error):
                self.log.warn("`ovsxen status` will not know how the switch is watched: %s" % refused_by_system(
                    "the report was refused", error))
            self._refused = str(error)

    def ended(self, attempts: Attempts) -> None:
        """The daemon is about to end in order."""
        self.problems = ()
        self.write(ENDED, attempts)

    def all_answer(self) -> None:
        """Both daemons answer, and so does this one: the only case in which systemd's watchdog hears of it."""
        now_s = self.clock.monotonic()
        if now_s >= self._watchdog_due_s:
            self._watchdog_due_s = now_s + (notify.beat_s(os.environ, os.getpid()) or notify.LONGEST_BEAT_S)
            self.notifier.watchdog()
