"""`ovsxen daemon`: boot the switch, say so, then watch and mend. watch() is the loop; plan_watch.py decides.

It owns the restarts, and nothing else depends on it: when it dies, the switch goes on, and the next instance takes over
what runs without touching it. XAPI is unknown here.
"""

import signal
from enum import Enum
from typing import NamedTuple, Tuple

from ovsxen import boot, lifecycle, mend
from ovsxen.errors import EXIT_FAILED, EXIT_OK, AdministratorError, OvsxenError
from ovsxen.gate import why_disabled
from ovsxen.host import detach, identity, process
from ovsxen.host.clock import MACHINE_CLOCK, Deadline
from ovsxen.host.detach import Pidfile
from ovsxen.host.notify import Notifier
from ovsxen.host.wakeup import Wakeup
from ovsxen.log import Log, log_to_syslog
from ovsxen.news import WELL, News
from ovsxen.observe import TICK_S, Observer
from ovsxen.ovs import daemons, dbtool
from ovsxen.ovs.daemons import VSWITCHD, State
from ovsxen.plan_watch import (
    Act,
    Course,
    Decision,
    Limits,
    Memory,
    count_attempt,
    decide,
    describe_rest,
    is_resting,
    may_start_at_s,
)
from ovsxen.report import Outcome, read_report
from ovsxen.sequence import Host, explain, refused_by_system
from ovsxen.watch_report import BUSY, WATCHING, Attempts

STOPS = frozenset((signal.SIGTERM, signal.SIGINT))
DATABASE_STEPS = 5
"""A large database is checked, copied, compacted, converted and read."""


class Ended(NamedTuple):
    """How it ended: the exit code, or that this program is to be run anew in the same process."""

    code: int
    anew: bool = False


class BootFailure(Enum):
    """Why a boot over daemons that run has failed."""

    SILENT = "one did not answer, and was mended"
    FORWARDING = "the switch goes on all the same, as before"
    OTHER = "something that no watch mends"


class Supervisor:
    """The daemon of a host, from its boot to its end."""

    def __init__(self, host: Host, news: News, wakeup: Wakeup, pidfile: Pidfile) -> None:
        self.host = host
        self.pidfile = pidfile
        self.news = news
        self.wakeup = wakeup
        self.memory = _remembered(news)
        self.failure = ""
        self.before = read_report(host.paths.boot_report, news.boot_id)

    def wait_for_back_off(self) -> None:
        """Wait as long as a predecessor would have: the limit on starts holds for all instances of a boot together."""
        course, limits = self.memory.vswitchd, _limits(self.host)
        if is_resting(course, MACHINE_CLOCK.monotonic(), limits):
            self.news.problems = (describe_rest(VSWITCHD, course, limits),)
        deadline = Deadline(may_start_at_s(course, limits) - MACHINE_CLOCK.monotonic())
        while not deadline.has_passed() and not self.wakeup.came() \
                and daemons.find(self.host.paths, VSWITCHD).state is not State.RUNNING:
            self.news.write(BUSY, self.attempts())
            self.news.notifier.extend(deadline.remaining_s() + self.host.settings.start_timeout_s)
            self.news.notifier.status(
                "ovs-vswitchd was started %d times and is not started again for %.0f s; `ovsxen start` tries at once"
                % (len(course.attempts), deadline.remaining_s()))
            self.wakeup.wait((), deadline.at_most_s(1.0))
        self.news.problems = ()

    def boot(self) -> int:
        """Bring the switch up, or find that it is; gives the exit code. A signal ends it between two phases."""
        code = EXIT_OK
        # Where an instance of this boot was watching, the bridges have guests on them.
        host = self.host.unasked() if self.news.predecessor else self.host._replace(guards_bridges=True)
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

    def boot_anew(self) -> None:
        """Boot as the program that follows another one in the process, which goes on watching whatever comes of it."""
        try:
            self.boot()
        except Exception as raised:
            self.news.note("begun anew; the switch was not gone through: %s" % explain(raised, "the system refused"))

    def bring_up(self, *, in_background: bool) -> Tuple[int, bool]:
        """Boot, and boot again where what failed could be mended; gives the exit code, and whether it is to be watched.

        In the background, where nobody starts the daemon again, also what failed is.
        """
        code = self.boot()
        if in_background or why_disabled(self.host.paths) is not None:
            return code, code in (EXIT_OK, EXIT_FAILED)
        while code == EXIT_FAILED:
            failure = self.mend_silent()
            if failure is not BootFailure.SILENT:
                return code, failure is BootFailure.FORWARDING
            code = self.boot()  # as often as the limits on mending allow
        return code, code == EXIT_OK

    def adopts(self) -> bool:
        """An ovs-vswitchd goes on that was there before this process: one that this has started is younger by many
        ticks of the clock, so that one of the same tick was there, too.
        """
        found = daemons.find_anywhere(self.host.paths, VSWITCHD).process
        return found is not None and found.start_ticks <= process.myself().start_ticks

    def mend_silent(self) -> BootFailure:
        """Mend, as the watch would, what runs and does not answer: a boot fails over it.

        Else each instance would fail like the one before it, and nobody would mend anything.
        """
        limits = _limits(self.host)
        certain, end = Deadline(self.host.settings.answer_timeout_s + TICK_S), Deadline(limits.hang_s + limits.busy_s)
        with Observer(self.host) as observer:
            while not (end.has_passed() or self.wakeup.came()):
                look = observer.look()
                decision = decide(self.memory, look, limits)
                if decision.act in (Act.WAKE, Act.REPLACE):
                    self.memory = decision.memory
                    self._act(decision)
                    return BootFailure.SILENT
                if not decision.names:
                    self.memory = decision.memory
                running = [sign for sign in (look.server, look.vswitchd) if sign.runs]
                if certain.has_passed() and all(sign.answers or sign.is_lost for sign in running):
                    return BootFailure.FORWARDING if self.adopts() else BootFailure.OTHER
                self.wakeup.wait(observer.descriptors(), observer.tick_s)
        return BootFailure.OTHER

    def _allow_time(self) -> None:
        """Ask systemd for what a phase may take."""
        try:
            size_bytes = self.host.paths.conf_db.stat().st_size
        except OSError:
            size_bytes = 0
        self.news.notifier.extend(2 * self.host.settings.start_timeout_s
                                  + DATABASE_STEPS * dbtool.allowance_s(size_bytes))

    def stand_by(self) -> None:
        """Be known as the one who watches, before anybody is told so: who is killed right after that is missed."""
        self.pidfile.write()
        self.news.write(WATCHING, self.attempts())

    def watch(self) -> bool:
        """Look, decide, act, wait; until a signal says otherwise. False where another one is the daemon by now."""
        from ovsxen.boot_record import BootRecord  # a boot does without

        limits = _limits(self.host)
        with Observer(self.host) as observer, BootRecord(self.news, self.before) as record:
            due_s = MACHINE_CLOCK.monotonic()
            while not self.wakeup.came():
                if not self._is_the_daemon():
                    return False
                look = observer.look(late_s=max(0.0, MACHINE_CLOCK.monotonic() - due_s))
                decision = decide(self.memory, look, limits)
                if look.server.answers and look.vswitchd.answers:
                    self.failure = ""
                    self.news.all_answer()
                self.news.watching(decision.problems + ((self.failure,) if self.failure else ()), self.attempts())
                if decision.act is Act.WAIT or self._act(decision):
                    self.memory = decision.memory
                if decision.act is not Act.WAIT:
                    observer.forget()
                record.tend()
                wait_s = observer.tick_s
                due_s = MACHINE_CLOCK.monotonic() + wait_s
                self.wakeup.wait(observer.descriptors(), wait_s)
        return True

    def _is_the_daemon(self) -> bool:
        try:
            return self.pidfile.keep()
        except OSError:
            return True  # its file cannot be made again: nobody else's can

    def make_up(self) -> None:
        """See to who did not wait for a switch that is up only now."""
        if self.before is None:
            return
        from ovsxen import late  # the first start of a boot does without

        try:
            said = late.make_up(self.host, self.before)
        except OvsxenError as error:
            said = "what comes after the switch may have begun too early: %s" % error
        if said:
            self.news.log.warn(said)

    def keep_failure(self) -> None:
        """Keep for `ovsxen boot-chart` what this start was like, for nobody will watch and do it."""
        from ovsxen.boot_record import BootRecord

        with BootRecord(self.news, self.before) as record:
            record.tend()

    def attempts(self) -> Attempts:
        return attempts_in(self.memory)

    def stop(self) -> int:
        """Stop ovs-vswitchd, then ovsdb-server; gives the exit code."""
        self.news.notifier.stopping("stopping ovs-vswitchd, then ovsdb-server")
        self.news.write(BUSY, self.attempts())
        code = EXIT_OK
        for phase in lifecycle.stop_daemons(self.host, self.news.log.warn, lifecycle.WATCH_TURN_WITHIN_S):
            self.news.phase(phase)
            code = code or phase.exit_code
        self.news.ended(Attempts())
        return code

    def _act(self, decision: Decision) -> bool:
        """Do it, with the turn taken; false where another ovsxen has it by now: then it is looked and decided again.

        Whatever goes wrong is told, a defect too: the watch goes on, and the limits hold for what is tried again.
        """
        try:
            if decision.act is Act.END_LEASE:
                mend.carry_out(self.host, decision, self.news)
                return True
            turn = process.try_lock(self.host.paths.turn)
            if turn is None:
                return False
            with turn:
                self.news.write(BUSY, attempts_in(decision.memory))
                mend.carry_out(self.host, decision, self.news)
                self.failure = ""
        except Exception as raised:
            self.failure = "%s: %s failed: %s" % (decision.subject, decision.act.value,
                                                  explain(raised, "the system refused"))
            self.news.note(self.failure)
        return True


def attempts_in(memory: Memory) -> Attempts:
    """When each daemon was started again, as the report has it."""
    return Attempts(memory.server.attempts, memory.vswitchd.attempts)


def _limits(host: Host) -> Limits:
    chosen = host.settings
    return Limits(hang_s=chosen.hang_timeout_s, busy_s=chosen.busy_timeout_s,
                  foreign_lease_s=chosen.flow_restore_timeout_s, attempts=chosen.restart_limit, rest_s=chosen.rest_s,
                  window_s=chosen.restart_window_s)


def _remembered(news: News) -> Memory:
    """A limit holds for the next instance too. What is said to lie ahead is no memory."""
    attempts, now_s = news.predecessor.attempts if news.predecessor else Attempts(), MACHINE_CLOCK.monotonic()
    server, vswitchd = (tuple(at_s for at_s in times if 0.0 <= at_s <= now_s) for times in attempts)
    return Memory(Course(attempts=server), Course(attempts=vswitchd))


def supervise(host: Host, notifier: Notifier, log: Log, *, in_background: bool) -> Ended:
    """Be the daemon of this host until the switch is stopped; or, in the background, until it watches.

    Raises AdministratorError where another one is.
    """
    paths, before = host.paths, detach.take_predecessor()
    try:
        pidfile = detach.take_pidfile(paths.daemon_pidfile, before.pidfile_fd if before else -1)
    except OSError as error:
        raise refused_by_system("the daemon cannot lock its pidfile", error) from error
    if pidfile is None:
        return _leave_it_to_the_other(host, log, in_background=in_background)
    with pidfile, Wakeup() as wakeup:
        pidfile.write()
        if before is not None and before.in_background:
            log = log_to_syslog()
        supervisor = Supervisor(host, News(paths, identity.read_boot_id(paths), notifier, log), wakeup, pidfile)
        if before is not None:
            supervisor.boot_anew()
            return _watch(supervisor, in_background=before.in_background)
        return _begin(supervisor, in_background=in_background)


def _begin(supervisor: Supervisor, *, in_background: bool) -> Ended:
    """Boot, then watch where that went well; in the background, which nobody starts again, also where it did not."""
    news = supervisor.news
    if not in_background:
        supervisor.wait_for_back_off()
    code, is_watched = supervisor.bring_up(in_background=in_background)
    if why_disabled(news.paths) is not None:
        supervisor.pidfile.remove()
        news.notifier.ready("Open vSwitch is disabled by network.conf: nothing to watch")
        return Ended(code)
    if supervisor.wakeup.came() & STOPS:
        if in_background and supervisor.adopts():
            supervisor.pidfile.remove()
            news.log.say("interrupted: the switch goes on, and nobody watches it; run this again")
            return Ended(EXIT_FAILED)
        return Ended(_stop(supervisor) or (EXIT_FAILED if in_background else EXIT_OK))
    if not is_watched:
        news.ended(supervisor.attempts())
        news.notifier.status(news.failure)
        supervisor.keep_failure()
        supervisor.pidfile.remove()
        return Ended(code)
    if in_background:
        if not detach.fork_away(supervisor.stand_by):
            return Ended(code)
        news.log = log_to_syslog()
    else:
        supervisor.stand_by()
    return _watch(supervisor, in_background=in_background)


def _watch(supervisor: Supervisor, *, in_background: bool) -> Ended:
    news, wakeup = supervisor.news, supervisor.wakeup
    supervisor.make_up()
    news.notifier.ready(WELL)
    if not supervisor.watch():
        news.log.warn("another ovsxen daemon watches the switch by now: this one ends, and leaves it alone")
        return Ended(EXIT_FAILED)
    if wakeup.came() & STOPS:
        return Ended(_stop(supervisor))
    wakeup.hold_back()
    news.notifier.reloading()
    supervisor.pidfile.hand_on(in_background=in_background)
    return Ended(EXIT_OK, anew=True)


def _stop(supervisor: Supervisor) -> int:
    try:
        return supervisor.stop()
    finally:
        supervisor.pidfile.remove()


def _leave_it_to_the_other(host: Host, log: Log, *, in_background: bool) -> Ended:
    """One is enough. systemd, whose own the other is not, is told so; who asked for one in the background wants the
    switch up, and the other one may be resting, or not be through with its boot.
    """
    other = detach.find_holder(host.paths.daemon_pidfile)
    text = "the switch is watched already, by %s" % (other.label if other else "another ovsxen daemon")
    if not in_background:
        raise AdministratorError(text, "`ovsxen stop` ends it and the switch; SIGKILL ends it alone")
    log.say(text)
    code = EXIT_OK
    for phase in boot.start(host.unasked(), log.warn):
        log.phase(phase)
        code = code or phase.exit_code
    return Ended(code)
