"""`ovsxen daemon`: boot the switch, say so, then watch and mend. watch() is the loop; plan_watch.py decides.

It owns the restarts, and nothing else depends on it: when it dies, the switch goes on, and the next instance takes over
what runs without touching it. XAPI is unknown here.
"""

import signal
from enum import Enum
from typing import Dict, NamedTuple, Tuple

from ovsxen import boot, lifecycle, mend
from ovsxen.errors import EXIT_FAILED, EXIT_OK, AdministratorError
from ovsxen.gate import why_disabled
from ovsxen.host import detach, identity, process
from ovsxen.host.clock import MACHINE_CLOCK, Deadline
from ovsxen.host.paths import Paths
from ovsxen.host.systemd import Notifier
from ovsxen.host.wakeup import Wakeup
from ovsxen.news import Log, News, log_to_syslog
from ovsxen.observe import Observer
from ovsxen.ovs import daemons, dbtool
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, State
from ovsxen.plan_watch import Act, Course, Decision, Limits, Memory, count_attempt, decide, may_start_at_s
from ovsxen.report import BAD, Outcome
from ovsxen.sequence import Host, explain, refused_by_system
from ovsxen.watch_report import BUSY

STOPS = frozenset((signal.SIGTERM, signal.SIGINT))
CONVERSION_STEPS = 3


class End(Enum):
    """Why the watch is over."""

    STOP = "stop"
    ANEW = "anew"


class Supervisor:
    """The daemon of a host, from its boot to its end."""

    def __init__(self, host: Host, news: News, wakeup: Wakeup) -> None:
        self.host = host
        self.news = news
        self.wakeup = wakeup
        self.memory = _remembered(news)

    def rest(self) -> None:
        """Wait as long as a predecessor would have: the limit on starts holds for all instances of a boot together."""
        course, limits = self.memory.vswitchd, _limits(self.host)
        deadline = Deadline(may_start_at_s(course, limits) - MACHINE_CLOCK.monotonic())
        while not deadline.has_passed() and not self.wakeup.came() \
                and daemons.find(self.host.paths, VSWITCHD).state is not State.RUNNING:
            self.news.notifier.extend(deadline.remaining_s() + self.host.settings.start_timeout_s)
            self.news.notifier.status("ovs-vswitchd failed %d times and rests for %.0f s; `ovsxen start` tries at once"
                                      % (len(course.attempts), deadline.remaining_s()))
            self.wakeup.wait((), deadline.at_most_s(1.0))

    def boot(self) -> int:
        """Bring the switch up, or find that it is; gives the exit code. A signal ends it between two phases."""
        code = EXIT_OK
        # Where an instance of this boot was watching, the bridges have guests on them.
        host = mend.never_purging(self.host) if self.news.predecessor else self.host
        self._allow_time()
        for phase in boot.start(host, self.news.log.warn):
            self.news.phase(phase)
            self._allow_time()
            if phase.outcome is Outcome.FAILED:
                code = code or phase.exit_code
                self.memory = count_attempt(self.memory, phase.name, MACHINE_CLOCK.monotonic())
            if self.wakeup.came() & STOPS:
                break
        return code

    def _allow_time(self) -> None:
        """Ask systemd for what a phase may take: a large database is checked, copied, compacted, converted and read."""
        try:
            size_bytes = self.host.paths.conf_db.stat().st_size
        except OSError:
            size_bytes = 0
        self.news.notifier.extend(2 * self.host.settings.start_timeout_s
                                  + CONVERSION_STEPS * dbtool.allowance_s(size_bytes))

    def watch(self) -> End:
        """Look, decide, act, wait; until a signal says otherwise."""
        limits = _limits(self.host)
        with Observer(self.host) as observer:
            due_s = MACHINE_CLOCK.monotonic()
            while not self.wakeup.came():
                look = observer.look(late_s=max(0.0, MACHINE_CLOCK.monotonic() - due_s))
                decision = decide(self.memory, look, limits)
                self.memory = decision.memory
                self.news.watching(decision.problems, self.attempts())
                if look.server.answers and look.vswitchd.answers:
                    self.news.all_answer()
                if decision.act is not Act.WAIT:
                    self._act(decision)
                    observer.forget()
                wait_s = observer.tick_s
                due_s = MACHINE_CLOCK.monotonic() + wait_s
                self.wakeup.wait(observer.descriptors(), wait_s)
        return End.STOP if self.wakeup.came() & STOPS else End.ANEW

    def attempts(self) -> Dict[str, Tuple[float, ...]]:
        return {OVSDB_SERVER: self.memory.server.attempts, VSWITCHD: self.memory.vswitchd.attempts}

    def stop(self) -> int:
        """Stop ovs-vswitchd, then ovsdb-server; gives the exit code."""
        self.news.notifier.stopping("stopping ovs-vswitchd, then ovsdb-server")
        self.news.write(BUSY, self.attempts())
        code = EXIT_OK
        for phase in lifecycle.stop_daemons(self.host, self.news.log.warn):
            self.news.phase(phase)
            code = code or phase.exit_code
        self.news.ended({})
        return code

    def _act(self, decision: Decision) -> None:
        """Do it, with the turn taken; where another ovsxen has it by now, it is looked and decided again."""
        self.news.write(BUSY, self.attempts())
        try:
            if decision.act is Act.END_LEASE:  # also one that is held by whoever has the turn
                self._end_lease(decision.why)
                return
            turn = process.try_lock(self.host.paths.turn)
            if turn is not None:
                with turn:
                    self._mend(decision)
        except Exception as raised:
            self.news.note("%s %s: %s" % (decision.act.value, " and ".join(decision.names),
                                          explain(raised, "the system refused")))

    def _end_lease(self, why: str) -> None:
        mend.end_lease(self.host)
        self.news.note("other_config:flow-restore-wait cleared: %s" % why)

    def _mend(self, decision: Decision) -> None:
        if decision.act is Act.WAKE:
            for name in decision.names:
                mend.wake(self.host, name)
                self.news.note("%s continued: %s" % (name, decision.why))
            return
        self.news.note("%s: %s" % (" and ".join(decision.names) or "asserting all of the switch", decision.why))
        if decision.act is Act.REPLACE:
            for name in decision.names:
                self._keep_evidence(daemons.find(self.host.paths, name), decision.why)
                daemons.stop(self.host.paths, name, ask_first=False)
        for phase in mend.start(self.host, self.news.log.warn, decision.names):
            if phase.outcome is not Outcome.UNCHANGED:
                self.news.phase(phase)
            if phase.name in decision.names or phase.outcome in BAD:
                self.news.note("%s %s: %s" % (phase.name, phase.outcome.value, phase.reason))
        if decision.act is Act.START:  # the network first
            for name in decision.names:
                self._keep_evidence(Daemon(name, State.DEAD, None), decision.why)

    def _keep_evidence(self, daemon: Daemon, why: str) -> None:
        from ovsxen.ovs import evidence  # a daemon that never needs it stays small

        kept = evidence.collect(self.host.paths, daemon, why)
        if kept.directory is not None:
            self.news.note("what tells of it is kept in %s" % kept.directory)
        for problem in kept.problems:
            self.news.log.warn(problem)


def _limits(host: Host) -> Limits:
    chosen = host.settings
    return Limits(chosen.hang_timeout_s, chosen.busy_timeout_s, chosen.flow_restore_timeout_s, chosen.restart_limit,
                  chosen.rest_s, chosen.restart_window_s)


def _remembered(news: News) -> Memory:
    """A limit holds for the next instance too."""
    attempts = news.predecessor.attempts if news.predecessor else {}
    return Memory(Course(attempts=attempts.get(OVSDB_SERVER, ())), Course(attempts=attempts.get(VSWITCHD, ())))



class Ended(NamedTuple):
    """How it ended: the exit code, or that this program is to be run anew in the same process."""

    code: int
    anew: bool = False


def supervise(host: Host, notifier: Notifier, log: Log, *, in_background: bool) -> Ended:
    """Be the daemon of this host until the switch is stopped; or, in the background, until it watches.

    Raises AdministratorError where another one is.
    """
    paths = host.paths
    try:
        pidfile = detach.take_pidfile(paths.daemon_pidfile)
    except OSError as error:
        raise refused_by_system("the daemon cannot lock its pidfile", error) from error
    if pidfile is None:
        return _leave_it_to_the_other(paths, log, in_background=in_background)
    with pidfile, Wakeup() as wakeup:
        pidfile.write()
        news = News(paths, identity.read_boot_id(paths), notifier, log)
        supervisor = Supervisor(host, news, wakeup)
        if not in_background:
            supervisor.rest()
        code = supervisor.boot()
        if why_disabled(paths) is not None:
            pidfile.remove()
            notifier.ready("Open vSwitch is disabled by network.conf: nothing to watch")
            return Ended(code)
        if code not in (EXIT_OK, EXIT_FAILED) or code and not in_background:  # systemd tries again by itself
            news.ended(supervisor.attempts())
            notifier.status(news.failure)
            pidfile.remove()
            return Ended(code)
        if in_background:
            if not detach.fork_away():
                return Ended(code)
            news.log = log_to_syslog()
            pidfile.write()
        ended = _watch(supervisor)
        if not ended.anew:
            pidfile.remove()
        return ended


def _watch(supervisor: Supervisor) -> Ended:
    supervisor.news.notifier.ready("watching the switch")
    if supervisor.watch() is End.ANEW:
        supervisor.wakeup.keep()
        supervisor.news.notifier.reloading()
        return Ended(EXIT_OK, anew=True)
    return Ended(supervisor.stop())


def _leave_it_to_the_other(paths: Paths, log: Log, *, in_background: bool) -> Ended:
    """One is enough. systemd, whose own the other is not, is told so."""
    other = detach.find_holder(paths.daemon_pidfile)
    text = "the switch is watched already, by %s" % (other.label if other else "another ovsxen daemon")
    if not in_background:
        raise AdministratorError(text, "`ovsxen stop` ends it and the switch; SIGKILL ends it alone")
    log.say(text)
    return Ended(EXIT_OK)
