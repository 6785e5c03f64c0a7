"""What the daemon tells: only what is new, to whom it may concern, and whatever becomes of the disk."""

import os
import shutil
from pathlib import Path
from typing import List

import pytest

from ovsxen.host import process
from ovsxen.host.clock import Clock
from ovsxen.host.notify import LONGEST_BEAT_S, Notifier
from ovsxen.host.paths import Paths
from ovsxen.log import Log
from ovsxen.news import WELL, News
from ovsxen.report import Outcome, Phase
from ovsxen.watch_report import (
    BUSY,
    ENDED,
    EVENTS,
    WATCHING,
    WRITTEN_EVERY_S,
    Attempts,
    WatchReport,
    read_watch_report,
)

BOOT = "this-boot"
ATTEMPTS = Attempts((1.5,), (2.5, 3.5))


class Hearers:
    """Whoever is told: systemd, the log, and who reads the report. The clock is the test's."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root, root)
        self.paths.rundir.mkdir(parents=True)
        self.now_s = 1000.0
        self.systemd: List[str] = []
        self.said: List[str] = []
        self.warned: List[str] = []

    def news(self, boot_id: str = BOOT) -> News:
        """Those of a daemon that begins."""
        log = Log(lambda phase: self.said.append(phase.name), self.said.append, self.warned.append)
        return News(self.paths, boot_id, Notifier(self.systemd.append), log, Clock(lambda: self.now_s))

    def report(self, boot_id: str = BOOT) -> WatchReport:
        report = read_watch_report(self.paths.watch_report, boot_id)
        assert report is not None
        return report

    def events(self, boot_id: str = BOOT) -> List[str]:
        return [event.text for event in self.report(boot_id).events]


@pytest.fixture
def hearers(tmp_path: Path) -> Hearers:
    return Hearers(tmp_path)


def test_the_report_tells_who_watches_and_how_often_daemons_were_started_again(hearers: Hearers) -> None:
    hearers.news().watching(("a bridge is lost",), ATTEMPTS)
    me = process.read_process(os.getpid())
    assert me is not None
    assert hearers.report() == WatchReport(BOOT, me.pid, me.start_ticks, 1000.0, WATCHING, ("a bridge is lost",),
                                           ATTEMPTS, ())


def test_only_what_is_new_is_said(hearers: Hearers) -> None:
    news = hearers.news()
    for problems in ((), (), ("a",), ("a",), ("a", "b"), ("b",), (), (), ("a",)):
        news.watching(problems, ATTEMPTS)
        assert hearers.report().problems == problems
    assert hearers.warned == ["a", "b", "a"]
    assert hearers.systemd == ["STATUS=" + text for text in (WELL, "a", "a; b", "b", WELL, "a")]


def test_what_is_as_it_was_is_written_again_only_to_show_that_its_writer_lives(hearers: Hearers) -> None:
    news = hearers.news()
    news.watching((), ATTEMPTS)
    hearers.now_s += WRITTEN_EVERY_S - 0.5
    news.watching((), ATTEMPTS)
    assert hearers.report().written_s == 1000.0
    hearers.now_s += 0.5
    news.watching((), ATTEMPTS)
    assert hearers.report().written_s == 1000.0 + WRITTEN_EVERY_S


def test_the_end_of_what_it_was_busy_with_is_told_at_once(hearers: Hearers) -> None:
    news = hearers.news()
    news.watching((), Attempts())
    news.write(BUSY, ATTEMPTS)
    assert (hearers.report().doing, hearers.report().attempts) == (BUSY, ATTEMPTS)
    news.note("ovs-vswitchd done")
    assert hearers.report().doing == BUSY
    news.watching((), ATTEMPTS)
    assert hearers.report().doing == WATCHING
    assert hearers.systemd[-1] == "STATUS=%s; last, at %s: ovs-vswitchd done" % (WELL, hearers.report().events[0].when)


def test_what_was_done_is_in_the_report_at_once_and_the_last_of_it_stays_there(hearers: Hearers) -> None:
    news = hearers.news()
    news.watching((), ATTEMPTS)
    done = ["event %d" % number for number in range(EVENTS + 3)]
    for number, text in enumerate(done, start=1):
        news.note(text)
        assert hearers.events() == done[:number][-EVENTS:]
    assert hearers.said == done and hearers.report().attempts == ATTEMPTS


def test_what_a_predecessor_did_in_this_boot_is_told_on_and_counts(hearers: Hearers) -> None:
    before = hearers.news()
    for number in range(EVENTS):
        before.note("event %d" % number)
    before.watching(("a",), ATTEMPTS)
    after = hearers.news()
    after.note("the next one's")
    after.watching((), ATTEMPTS)
    assert after.predecessor is not None and after.predecessor.attempts == ATTEMPTS
    assert hearers.events() == ["event %d" % number for number in range(1, EVENTS)] + ["the next one's"]


def test_what_was_done_in_another_boot_is_forgotten(hearers: Hearers) -> None:
    before = hearers.news()
    before.note("long ago")
    before.watching((), ATTEMPTS)
    after = hearers.news("the-next-boot")
    after.watching((), Attempts())
    assert after.predecessor is None
    assert hearers.events("the-next-boot") == [] and hearers.systemd[-1] == "STATUS=" + WELL


def test_a_report_that_is_refused_is_said_once_until_it_was_possible_in_between(hearers: Hearers) -> None:
    news = hearers.news()
    for _ in range(2):
        shutil.rmtree(str(hearers.paths.rundir))
        for _ in range(3):
            news.write(WATCHING, ATTEMPTS)
        hearers.paths.rundir.mkdir()
        news.write(WATCHING, ATTEMPTS)
        assert hearers.report().doing == WATCHING
    assert len(hearers.warned) == 2 and hearers.warned[0] == hearers.warned[1]
    assert hearers.warned[0].startswith("`ovsxen status` will not know how the switch is watched: the report was "
                                        "refused (No such file or directory")


def test_the_first_phase_that_failed_is_the_failure(hearers: Hearers) -> None:
    news = hearers.news()
    news.phase(Phase("host", Outcome.DONE, "all is there"))
    assert news.failure == ""
    news.phase(Phase("ovs-vswitchd", Outcome.FAILED, "it died"))
    news.phase(Phase("managers", Outcome.FAILED, "none"))
    assert news.failure == "ovs-vswitchd failed: it died"
    assert hearers.said == ["host", "ovs-vswitchd", "managers"]
    assert hearers.systemd == ["STATUS=host done", "STATUS=ovs-vswitchd failed: it died",
                               "STATUS=managers failed: none"]


def test_a_daemon_that_ended_in_order_leaves_no_problem_behind(hearers: Hearers) -> None:
    news = hearers.news()
    news.watching(("a",), ATTEMPTS)
    news.ended(Attempts())
    assert (hearers.report().doing, hearers.report().problems, hearers.report().attempts) == (ENDED, (), Attempts())


@pytest.mark.parametrize("watchdog_usec, beat_s", [("2000000", 0.5), ("180000000", LONGEST_BEAT_S),
                                                   ("", LONGEST_BEAT_S)])
def test_the_watchdog_is_fed_with_each_beat_and_no_more_often(
        hearers: Hearers, monkeypatch: pytest.MonkeyPatch, watchdog_usec: str, beat_s: float) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", watchdog_usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    news, fed_at_s = hearers.news(), []
    for _ in range(int(4 * beat_s / 0.125)):
        hearers.systemd.clear()
        news.all_answer()
        fed_at_s += [hearers.now_s for said in hearers.systemd if said == "WATCHDOG=1"]
        hearers.now_s += 0.125
    assert fed_at_s == [1000.0 + beat * beat_s for beat in range(4)]


def test_a_watchdog_that_was_not_fed_for_long_is_fed_once(hearers: Hearers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    news = hearers.news()
    news.all_answer()
    hearers.now_s += 60.0
    news.all_answer()
    news.all_answer()
    assert hearers.systemd == ["WATCHDOG=1", "WATCHDOG=1"]
