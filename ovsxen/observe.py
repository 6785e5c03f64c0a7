"""What the daemon sees of the switch from moment to moment, without ever waiting: whoever waits misses a death.

Whether a daemon is there is looked up each time; whether it answers is asked every few seconds, and the answer is taken
when it has come. plan_watch.py decides what it means.
"""

import os
from typing import Any, Callable, Iterator, Optional, Tuple

from ovsxen.errors import OvsxenError
from ovsxen.gate import why_disabled
from ovsxen.host import identity, process
from ovsxen.host.clock import MACHINE_CLOCK, Clock
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.ovs.confdb_watch import ConfDbWatch, OnDisk
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, State
from ovsxen.ovs.probe import Probe, Told, ask_configuration, ask_version, parse_told
from ovsxen.plan_watch import NOBODY, Look, Sign
from ovsxen.report import Outcome, read_report
from ovsxen.sequence import Host

ASK_EVERY_S = 5.0
WRITE_EVERY_S = 10.0
TICK_S = 1.0
TICK_WITHOUT_PIDFD_S = 0.25
OUT_OF_SIGHT = (-1, 0)


class Channel:
    """One way to reach a daemon: a question, its answer, a while later the next. To be closed.

    `ask` raises OSError, `take` ValueError for an answer that makes no sense.
    """

    def __init__(self, ask: Callable[[float], Probe], take: Optional[Callable[[Any], None]] = None) -> None:
        self._ask = ask
        self._take = take
        self.probe: Optional[Probe] = None
        self.is_lost = False
        self._next_s = 0.0
        self._failing_since_s: Optional[float] = None

    def close(self) -> None:
        if self.probe is not None:
            self.probe.close()
            self.probe = None

    def ask_soon(self) -> None:
        self._next_s = 0.0

    def look(self, now_s: float) -> None:
        """Take the answer where it has come; ask where it is time to."""
        if self.probe is not None:
            self._take_answer(self.probe, now_s)
        if self.probe is None and now_s >= self._next_s:
            self._next_s = now_s + ASK_EVERY_S
            try:
                self.probe = self._ask(now_s)
                self.is_lost = False
            except OSError as error:  # a daemon that begins has a pidfile before it has a socket
                self.is_lost = isinstance(error, FileNotFoundError) and self._failing_since_s is not None
                self._failed(now_s)

    def _take_answer(self, probe: Probe, now_s: float) -> None:
        try:
            answer = probe.take_answer()
            if answer is None:
                return
            if self._take is not None:
                self._take(answer)
            self._failing_since_s = None
        except (OSError, ValueError):
            self._failed(now_s)
        self.close()

    def _failed(self, now_s: float) -> None:
        self._next_s = now_s + TICK_S
        if self._failing_since_s is None:
            self._failing_since_s = now_s

    def silent_since_s(self, now_s: float, patience_s: float) -> Optional[float]:
        """Since when an answer is missing, where that is longer than it may take, or nobody can be asked."""
        if self.is_lost:
            return self._failing_since_s
        return min((at_s for at_s in (self._failing_since_s, self.probe.asked_s if self.probe else None)
                    if at_s is not None and now_s - at_s > patience_s), default=None)


class Followed:
    """A process that is looked at again and again: who it is, and the ways to reach it. To be closed."""

    def __init__(self, key: Tuple[int, int] = NOBODY, pidfd: int = -1, channels: Tuple[Channel, ...] = ()) -> None:
        self.key = key
        self.pidfd = pidfd
        self.channels = channels

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)

    def silent_since_s(self, now_s: float, patience_s: float) -> Optional[float]:
        """Since when it owes an answer on any of them."""
        since = (channel.silent_since_s(now_s, patience_s) for channel in self.channels)
        return min((at_s for at_s in since if at_s is not None), default=None)


class Observer:
    """Looks at the daemons of a host. To be closed."""

    def __init__(self, host: Host, clock: Clock = MACHINE_CLOCK) -> None:
        self.host = host
        self.clock = clock
        self.told = Told()
        self._followed = {OVSDB_SERVER: Followed(), VSWITCHD: Followed()}
        self._boot_id = identity.read_boot_id(host.paths)
        self._report_due_s = 0.0
        self._hands_were_off = False
        self._written_s = 0.0
        self._conf_db = ConfDbWatch(host.paths, clock.monotonic())
        self._round_trip_due_s = clock.monotonic() + host.settings.round_trip_s

    def __enter__(self) -> "Observer":
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()

    def forget(self) -> None:
        """Ask anew: the switch was worked on."""
        for name in self._followed:
            self._follow(name, Followed())
        self.told = Told()

    def _ask_anew(self) -> None:
        """Somebody has worked on the switch and ended: what was told before is not so any more."""
        self.told = Told()
        self._report_due_s = 0.0
        for channel in self._channels():
            channel.ask_soon()

    def _follow(self, name: str, followed: Followed) -> Followed:
        self._followed[name].close()
        self._followed[name] = followed
        return followed

    def _channels(self) -> Iterator[Channel]:
        return (channel for followed in self._followed.values() for channel in followed.channels)

    def descriptors(self) -> Tuple[int, ...]:
        """What becomes readable when a daemon ends, or answers."""
        ends = [followed.pidfd for followed in self._followed.values() if followed.pidfd >= 0]
        return tuple(ends + [channel.probe.fileno() for channel in self._channels() if channel.probe])

    @property
    def tick_s(self) -> float:
        """How long one may wait before the next look: short where the kernel does not tell of a death."""
        without = any(followed.key != NOBODY and followed.pidfd < 0 for followed in self._followed.values())
        return TICK_WITHOUT_PIDFD_S if without else TICK_S

    def look(self, late_s: float = 0.0) -> Look:
        """What there is to see now."""
        try:
            hands_off = self._why_hands_off()
            if self._hands_were_off and not hands_off:
                self._ask_anew()
            found = {name: daemons.find(self.host.paths, name) for name in self._followed}
            server, vswitchd = (self._look_at(found[name]) for name in (OVSDB_SERVER, VSWITCHD))
            if not (server.answers and vswitchd.answers):  # that may be of somebody's work which has just begun
                hands_off = hands_off or self._who_works()
            self._hands_were_off = bool(hands_off)
        except (OvsxenError, OSError) as error:
            return Look(self.clock.monotonic(), Sign(OVSDB_SERVER), Sign(VSWITCHD), trouble=str(error))
        on_disk = self._conf_db.look(self.clock.monotonic()) if server.answers and not hands_off else OnDisk()
        return Look(self.clock.monotonic(), server, vswitchd, hands_off=hands_off, late_s=late_s,
                    unfinished=not hands_off and self._is_unfinished(), configured=self.told.configured,
                    lease=self.told.lease, refused=self.told.refused, conf_db=on_disk.problem,
                    copy_is_due=on_disk.copy_is_due)

    def _is_unfinished(self) -> bool:
        """The last start or restart was killed, or failed; looked up now and then, and after every one."""
        now_s = self.clock.monotonic()
        if now_s < self._report_due_s:
            return False
        self._report_due_s = now_s + ASK_EVERY_S
        report = read_report(self.host.paths.boot_report, self._boot_id)
        return report is not None and not (report.finished and all(
            phase.outcome is not Outcome.FAILED for phase in report.phases))

    def _who_works(self) -> str:
        return "another ovsxen works on the switch" if process.is_locked(self.host.paths.turn) else ""

    def _why_hands_off(self) -> str:
        works = self._who_works()
        if works:
            return works
        conf = why_disabled(self.host.paths)
        return "" if conf is None else conf.problem or "network.conf says bridge"

    def _look_at(self, daemon: Daemon) -> Sign:
        followed, now_s = self._followed[daemon.name], self.clock.monotonic()
        if daemon.state is not State.RUNNING:
            stray = daemons.find_anywhere(self.host.paths, daemon.name).process
            self._follow(daemon.name, Followed())
            if stray is None:
                return Sign(daemon.name)
            return Sign(daemon.name, _key(stray), is_stopped=stray.is_stopped, is_traced=stray.is_traced, is_lost=True)
        target = daemon.process
        if target is None:
            return Sign(daemon.name, OUT_OF_SIGHT, is_lost=True)
        if followed.key != _key(target):
            followed = self._follow(daemon.name, Followed(_key(target), process.open_pidfd(target.pid),
                                                          self._open_channels(daemon.name, target.pid)))
        for channel in followed.channels:
            channel.look(now_s)
        silent_since_s = followed.silent_since_s(now_s, self.host.settings.answer_timeout_s)
        return Sign(daemon.name, _key(target), silent_since_s,
                    0.0 if silent_since_s is None else process.read_cpu_s(target.pid),
                    is_stopped=target.is_stopped, is_traced=target.is_traced,
                    is_lost=any(channel.is_lost for channel in followed.channels))

    def _open_channels(self, name: str, pid: int) -> Tuple[Channel, ...]:
        """Both have a control socket; the server is asked for the configuration too, which stands for an echo."""
        paths = self.host.paths
        control = Channel(lambda now_s: ask_version(paths.control_socket(name, pid), now_s))
        if name != OVSDB_SERVER:
            return (control,)
        return control, Channel(
            lambda now_s: ask_configuration(paths.db_sock, now_s, write=self._is_write_due(now_s)), self._take_told)

    def _take_told(self, answer: Any) -> None:
        self.told = parse_told(answer, self.told)

    def _is_write_due(self, now_s: float) -> bool:
        """Now and then the configuration is to go the whole way round; sooner where ovs-vswitchd is behind: on a full
        disk it cannot write how far it is, which only a write of our own shows, and so does its end.
        """
        is_pressing = self.told.is_behind or self.told.refused
        if now_s < self._round_trip_due_s and not (is_pressing and now_s >= self._written_s + WRITE_EVERY_S):
            return False
        self._written_s = now_s
        self._round_trip_due_s = now_s + self.host.settings.round_trip_s
        return True


def _key(target: Optional[Process]) -> Tuple[int, int]:
    return (target.pid, target.start_ticks) if target else NOBODY
