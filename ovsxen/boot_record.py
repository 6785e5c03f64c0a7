"""What the daemon keeps of this boot for `ovsxen boot-chart`: the starts of the switch, and when systemd did what.

It begins when systemd has been told that the switch is up, so that no boot is later for it, and waits for nobody but
the disk. What it cannot keep is a warning and no more.
"""

import math
from typing import Optional, Tuple

from ovsxen import __version__
from ovsxen.boots import Boot, read_history, start_in, write_history
from ovsxen.errors import OvsxenError
from ovsxen.host import boot_times, clock, files
from ovsxen.host.boot_times import BootTimes, Question
from ovsxen.host.clock import MACHINE_CLOCK
from ovsxen.host.files import Identity
from ovsxen.news import News
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import VSWITCHD
from ovsxen.report import Report, read_report
from ovsxen.sequence import explain

EVERY_S = 10.0
"""Longer than systemd has for an answer, so that none is waited for."""

FINISHED_WITHIN_S = 900.0
"""A boot of which systemd does not say the end so long after the switch is up is kept as far as it came."""


class BootRecord:
    """Keeps this boot, a step at a time; over once the switch is up and systemd has finished the boot.

    `before`: the start of this boot that came before this daemon, which may have been killed at it.
    """

    def __init__(self, news: News, before: Optional[Report]) -> None:
        self._news = news
        self._before = before
        self._due_s = 0.0
        self._ask_at_s = MACHINE_CLOCK.monotonic() + EVERY_S
        self._ask_until_s = MACHINE_CLOCK.monotonic() + FINISHED_WITHIN_S
        self._question: Optional[Question] = None
        self._asks = boot_times.is_there(news.paths)
        self._seen: Optional[Identity] = None
        self._warned: Tuple[str, ...] = ()

    def __enter__(self) -> "BootRecord":
        return self

    def __exit__(self, *_: object) -> None:
        if self._question is not None:
            self._question.drop()

    def tend(self) -> None:
        """Do what is due, to be called again and again."""
        now_s = MACHINE_CLOCK.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + EVERY_S
        try:
            if self._step(now_s):
                self._due_s = math.inf
        except Exception as raised:
            self._seen = None
            self._warn("`ovsxen boot-chart` will not know all of this boot: %s" % explain(
                raised, "the history of boots was refused"))

    def _warn(self, problem: str) -> None:
        """Once: it is met again and again."""
        if problem not in self._warned:
            self._warned += (problem,)
            self._news.log.warn(problem)

    def _step(self, now_s: float) -> bool:
        """Keep what is new, and ask for what is not known; tells whether all is. Raises OSError."""
        system = self._take_answer()
        paths = self._news.paths
        found = files.identify(paths.boot_report)
        if system is None and found == self._seen and self._asks_later(now_s):
            return False
        history = read_history(paths.boot_history)
        if history.problem:
            self._warn("%s: what `ovsxen boot-chart` shows begins anew with this boot" % history.problem)
        known = history.find(self._news.boot_id)
        boot = self._look(known or self._begin())
        if system is not None and system != boot.system:
            boot = boot._replace(system=system, date=clock.date_of_boot())
        if boot.starts and boot != known:
            write_history(paths.boot_history, history.with_boot(boot))
        self._seen = found
        if self._is_complete(boot, now_s):
            return True
        if boot.is_up and not self._asks_later(now_s):
            self._question = Question()
            self._ask_at_s = now_s + EVERY_S
        return False

    def _asks_later(self, now_s: float) -> bool:
        return not self._asks or now_s < self._ask_at_s

    def _take_answer(self) -> Optional[BootTimes]:
        question, self._question = self._question, None
        if question is None:
            return None
        try:
            return question.answer()
        except OvsxenError:
            return None  # a systemd that is busy with the boot; it is asked again

    def _begin(self) -> Boot:
        try:
            openvswitch = daemons.read_installed_version(VSWITCHD)
        except OvsxenError:
            openvswitch = ""
        return Boot(self._news.boot_id, clock.date_of_boot(), __version__, openvswitch, 0, 0, ())

    def _look(self, boot: Boot) -> Boot:
        """With the starts that the reports tell of, oldest first."""
        now = read_report(self._news.paths.boot_report, self._news.boot_id)
        for report in (self._before, now):
            boot = boot.with_start(start_in(report))
        return boot._replace(purged=len(now.purged)) if now and boot.starts else boot

    def _is_complete(self, boot: Boot, now_s: float) -> bool:
        """Nothing will be added."""
        if not boot.is_up or not self._asks:
            return boot.is_up
        return boot.system is not None and (boot.system.finished_s > 0.0 or now_s >= self._ask_until_s)
