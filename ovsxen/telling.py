"""What a sync tells, and to whom: the log, and systemd. Nobody is waited for."""

import os
from typing import Tuple

from ovsxen.host import notify
from ovsxen.host.clock import MACHINE_CLOCK
from ovsxen.host.notify import Notifier
from ovsxen.log import Log
from ovsxen.ovs.labels import Relabelling
from ovsxen.report import printable
from ovsxen.sync_report import SyncReport

LONGEST_SLEEP_S = 30.0
SHOWN_LINES = 8


class Telling:
    """All that is told of one sync."""

    def __init__(self, notifier: Notifier, log: Log) -> None:
        self.notifier = notifier
        self.log = log
        self._said: Tuple[str, ...] = ()
        self._beat_s = 0.0

    def written(self, edits: Tuple[Relabelling, ...]) -> None:
        """A transaction has reached the database."""
        for edit in edits[:SHOWN_LINES]:
            self.log.say(printable(str(edit)))
        if len(edits) > SHOWN_LINES:
            self.log.say("... and %d rows more" % (len(edits) - SHOWN_LINES))

    def state(self, report: SyncReport) -> None:
        """What is wrong, where that is other than before."""
        said = report.problems + report.warnings
        if said == self._said:
            return
        for text in said:
            if text not in self._said:
                self.log.warn(text)
        self._said = said
        self.notifier.status("; ".join(said) or report.summary)
        if not said:
            self.log.say("all is well again")

    @staticmethod
    def beat_every_s() -> float:
        """How often the watchdog is to hear that this goes on."""
        return notify.beat_s(os.environ, os.getpid()) or LONGEST_SLEEP_S

    def beat(self) -> bool:
        """Have the watchdog hear that this goes on, where that is due; tells whether it was."""
        now_s = MACHINE_CLOCK.monotonic()
        if now_s < self._beat_s:
            return False
        self._beat_s = now_s + self.beat_every_s()
        self.notifier.watchdog()
        return True
