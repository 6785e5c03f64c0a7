"""What the daemon sees of the switch from moment to moment, without ever waiting: whoever waits misses a death.

Whether a daemon is there is looked up each time; whether it answers is asked every few seconds, and the answer is taken
when it has come. plan_watch.py decides what it means.
"""

import os
from typing import Dict, Optional, Tuple

from ovsxen.errors import OvsxenError
from ovsxen.gate import why_disabled
from ovsxen.host import identity, process
from ovsxen.host.clock import MACHINE_CLOCK, Clock
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, State
from ovsxen.ovs.probe import Probe, Told, ask_configuration, ask_version, parse_told
from ovsxen.plan_watch import Look, Sign
from ovsxen.report import Outcome, read_report
from ovsxen.sequence import Host

ASK_EVERY_S = 5.0
WRITE_EVERY_S = 10.0
TICK_S = 1.0
TICK_WITHOUT_PIDFD_S = 0.25
OUT_OF_SIGHT = (-1, 0)


class Questions:
    """The questions to one daemon, one after the other."""

    def __init__(self) -> None:
        self.key = (0, 0)
        self.probe: Optional[Probe] = None
        self.next_s = 0.0
        self.failing_since_s: Optional[float] = None
        self.is_lost = False
        self.pidfd = -1

    def close(self) -> None:
        if self.probe is not None:
            self.probe.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)

    def silent_since_s(self, now_s: float, patience_s: float) -> Optional[float]:
        """Since when an answer is missing, where that is longer than it may take."""
        since = [at_s for at_s in (self.failing_since_s, self.probe.asked_s if self.probe else None)
                 if at_s is not None and now_s - at_s > patience_s]
        return min(since) if since else None


class Observer:
    """Looks at the daemons of a host. To be closed."""

    def __init__(self, host: Host, clock: Clock = MACHINE_CLOCK) -> None:
        self.host = host
        self.clock = clock
        self.told = Told()
        self._asked: Dict[str, Questions] = {OVSDB_SERVER: Questions(), VSWITCHD: Questions()}
        self._boot_id = identity.read_boot_id(host.paths)
        self._report_due_s = 0.0
        self._hands_were_off = False
        self._written_s = 0.0
        self._round_trip_s = clock.monotonic() + host.settings.round_trip_s

    def __enter__(self) -> "Observer":
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()

    def forget(self) -> None:
        """Ask anew: the switch was worked on."""
        for name in self._asked:
            self._begin_anew(name)
        self.told = Told()

    def _ask_anew(self) -> None:
        """Somebody has worked on the switch and ended: what was told before is not so any more."""
        self.told = Told()
        self._report_due_s = 0.0
        for questions in self._asked.values():
            questions.next_s = 0.0

    def _begin_anew(self, name: str) -> Questions:
        self._asked[name].close()
        self._asked[name] = Questions()
        return self._asked[name]

    def descriptors(self) -> Tuple[int, ...]:
        """What becomes readable when a daemon ends, or answers."""
        return tuple(fd for questions in self._asked.values()
                     for fd in (questions.pidfd, questions.probe.fileno() if questions.probe else -1) if fd >= 0)

    @property
    def tick_s(self) -> float:
        """How long one may wait before the next look: short where the kernel does not tell of a death."""
        without = any(questions.key != (0, 0) and questions.pidfd < 0 for questions in self._asked.values())
        return TICK_WITHOUT_PIDFD_S if without else TICK_S

    def look(self, late_s: float = 0.0) -> Look:
        """What there is to see now."""
        try:
            hands_off = self._why_hands_off()
            if self._hands_were_off and not hands_off:
                self._ask_anew()
            self._hands_were_off = bool(hands_off)
            found = {name: daemons.find(self.host.paths, name) for name in self._asked}
            server, vswitchd = (self._look_at(found[name]) for name in (OVSDB_SERVER, VSWITCHD))
        except (OvsxenError, OSError) as error:
            return Look(self.clock.monotonic(), Sign(OVSDB_SERVER), Sign(VSWITCHD), trouble=str(error))
        return Look(self.clock.monotonic(), server, vswitchd, hands_off=hands_off, late_s=late_s,
                    unfinished=not hands_off and self._is_unfinished(), configured=self.told.configured,
                    lease=self.told.lease, refused=self.told.refused)

    def _is_unfinished(self) -> bool:
        """The last start or restart was killed, or failed; looked up now and then, and after every one."""
        now_s = self.clock.monotonic()
        if now_s < self._report_due_s:
            return False
        self._report_due_s = now_s + ASK_EVERY_S
        report = read_report(self.host.paths.boot_report, self._boot_id)
        return report is not None and not (report.finished and all(
            phase.outcome is not Outcome.FAILED for phase in report.phases))

    def _why_hands_off(self) -> str:
        if process.is_locked(self.host.paths.turn):
            return "another ovsxen works on the switch"
        conf = why_disabled(self.host.paths)
        return "" if conf is None else conf.problem or "network.conf says bridge"

    def _look_at(self, daemon: Daemon) -> Sign:
        questions, now_s = self._asked[daemon.name], self.clock.monotonic()
        if daemon.state is not State.RUNNING:
            stray = daemons.find_anywhere(self.host.paths, daemon.name).process
            self._begin_anew(daemon.name)
            return Sign(daemon.name, _key(stray), is_lost=True) if stray else Sign(daemon.name)
        target = daemon.process
        if target is None:
            return Sign(daemon.name, OUT_OF_SIGHT, is_lost=True)
        if questions.key != _key(target):
            questions = self._begin_anew(daemon.name)
            questions.key, questions.pidfd = _key(target), process.open_pidfd(target.pid)
        if questions.probe is not None:
            self._take_answer(daemon.name, questions, now_s)
        if questions.probe is None and now_s >= questions.next_s:
            self._ask(daemon.name, target, questions, now_s)
        silent_since_s = questions.silent_since_s(now_s, self.host.settings.answer_timeout_s)
        return Sign(daemon.name, _key(target), silent_since_s,
                    0.0 if silent_since_s is None else process.read_cpu_s(target.pid),
                    is_stopped=target.is_stopped and not target.is_traced, is_traced=target.is_traced,
                    is_lost=questions.is_lost)

    def _ask(self, name: str, target: Process, questions: Questions, now_s: float) -> None:
        paths = self.host.paths
        questions.next_s = now_s + ASK_EVERY_S
        try:
            if name == VSWITCHD:
                questions.probe = ask_version(paths.control_socket(name, target.pid), now_s)
            else:
                questions.probe = ask_configuration(paths.db_sock, now_s, write=self._is_write_due(now_s))
            questions.is_lost = False
        except FileNotFoundError:
            questions.is_lost = True
        except OSError:
            self._failed(questions, now_s)

    def _is_write_due(self, now_s: float) -> bool:
        """Now and then the configuration is to go the whole way round; sooner where ovs-vswitchd is behind: on a full
        disk it cannot write how far it is, which only a write of our own shows.
        """
        if now_s < self._round_trip_s and not (self.told.is_behind and now_s >= self._written_s + WRITE_EVERY_S):
            return False
        self._written_s = now_s
        self._round_trip_s = now_s + self.host.settings.round_trip_s
        return True

    def _take_answer(self, name: str, questions: Questions, now_s: float) -> None:
        assert questions.probe is not None
        try:
            answer = questions.probe.take_answer()
            if answer is None:
                return
            if name == OVSDB_SERVER:
                self.told = parse_told(answer, self.told)
            questions.failing_since_s = None
        except (OSError, ValueError):
            self._failed(questions, now_s)
        questions.probe.close()
        questions.probe = None

    def _failed(self, questions: Questions, now_s: float) -> None:
        questions.next_s = now_s + TICK_S
        if questions.failing_since_s is None:
            questions.failing_since_s = now_s


def _key(target: Optional[Process]) -> Tuple[int, int]:
    return (target.pid, target.start_ticks) if target else (0, 0)
