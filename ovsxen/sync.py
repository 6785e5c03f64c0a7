"""`ovsxen sync`: the external_ids that controllers look for, by plan_sync.py; and an update when XAPI's wishes change.

Sync.run() is the loop. It waits in one place and for everything at once, answers on its control socket from the first
moment, and outlives XAPI and the database server, whatever they do. The switch does not depend on it.
"""

import json
import signal
from contextlib import ExitStack
from typing import Callable, Dict, Tuple

from ovsxen.agreeing import AGAIN, Agreeing
from ovsxen.errors import EXIT_OK, NoAnswer
from ovsxen.gate import why_disabled
from ovsxen.host import detach, heap
from ovsxen.host.clock import MACHINE_CLOCK, wall_clock_text
from ovsxen.host.notify import Notifier
from ovsxen.host.settings import read_settings
from ovsxen.host.wakeup import Wakeup
from ovsxen.log import Log, log_to_syslog
from ovsxen.ovs import daemons
from ovsxen.ovs.control import Command
from ovsxen.ovs.daemons import XAPI_SYNC, State
from ovsxen.ovs.replica import Replica, block
from ovsxen.plan_sync import Memory, plan_sync
from ovsxen.presence import Presence, Replaced
from ovsxen.questions import Questions
from ovsxen.report import printable
from ovsxen.sequence import Host, explain
from ovsxen.sync_report import START, SyncReport, list_rows
from ovsxen.telling import Telling
from ovsxen.writing import Writer
from ovsxen.xapi.follower import Follower, Mode, News

STOPS = frozenset((signal.SIGTERM, signal.SIGINT))
FAULT_AFTER_S = 1.0
END_WITHIN_S = 2.0
LOST_AFTER_S = 5.0
NEVER_S = float("inf")


class Sync:
    """The sync of a host, from its start to its end."""

    def __init__(self, host: Host, notifier: Notifier, log: Log, wakeup: Wakeup) -> None:
        self.host, self.log, self.wakeup = host, log, wakeup
        self.telling = Telling(notifier, log)
        self.presence = Presence(host.paths, self._commands())
        self.follower = Follower(host.paths.xapi_socket)
        self.questions = Questions(self.follower.ask)
        self.agreeing = Agreeing(lambda: tuple(detach.command_for("update", "sync")), str(host.paths.root))
        self.replica = Replica(host.paths.db_sock)
        self.writer = Writer(self.replica)
        self.memory = Memory()
        self.waiting = 0
        self.notes: Tuple[str, ...] = ()
        self.news = News()
        self.since = wall_clock_text()
        self.faults = 0
        self.fault = ""
        self._is_due = False
        self._may_update = False
        self._has_ended = False
        self._has_spare_memory = False
        self._connected_s = MACHINE_CLOCK.monotonic()

    def run(self) -> int:
        """Look, decide, write, wait; until it is told to end. Gives the exit code."""
        self.follower.start()
        self.telling.notifier.ready(self.report().summary)
        while not self._has_ended:
            try:
                self._turn()
                self.fault = ""
                if not self._has_ended:
                    self._wait()
            except Replaced:
                self.log.warn("another %s runs by now: this one ends" % XAPI_SYNC)
                self._has_ended = True
            except Exception as raised:
                self._outlive(raised)
                self.wakeup.wait((), FAULT_AFTER_S)
        return self._end()

    def _turn(self) -> None:
        """Everything that has come, and what follows from it."""
        self._hear_signals()
        self._answer()
        self._hear_database()
        self._hear_xapi()
        self._hear_update()
        if self._is_due and self.replica.has_been_read:
            self._agree()
        self._consider_update()
        self.telling.state(self.report())
        if self.telling.beat():
            self.presence.keep()

    def _hear_signals(self) -> None:
        came = self.wakeup.take()
        if came & STOPS:
            self._has_ended = True
        elif came:
            self.flush_cache()

    def _answer(self) -> None:
        """What is asked on the control socket. Nonsense there concerns nobody else: the socket is made anew."""
        try:
            self.presence.control.run()
        except Exception as raised:
            self.log.warn("the control socket is made anew, because of this: %s" % explain(raised, "it was refused"))
            self.presence.control.close()
            self.presence.keep()

    def _hear_database(self) -> None:
        changed = self.replica.run()
        if changed:
            self._is_due = self._may_update = True
        self._has_spare_memory = self._has_spare_memory or changed >= heap.MANY
        if self._is_connected():
            self._connected_s = MACHINE_CLOCK.monotonic()
        written = self.writer.take_end()
        if written is not None:
            self._is_due = self._is_due or not written
            self.telling.written(written)

    def _is_connected(self) -> bool:
        """As far as is known: whoever is written to and does not answer may hang."""
        return self.replica.is_ready and not self.replica.is_writing

    def _hear_xapi(self) -> None:
        self.follower.has_news.silence()
        news = self.follower.news
        if news is not self.news:
            if news.mode is not self.news.mode:
                self.since = wall_clock_text()
            if news.known is not self.news.known:
                self._is_due = True
            self._may_update = True
            self.news = news
        if self.questions.hear(news):
            self._is_due = True

    def _hear_update(self) -> None:
        if self.agreeing.take_end() is not None:
            self._may_update = True

    def _agree(self) -> None:
        """Plan over what there is, and write it."""
        plan = plan_sync(self.replica.labels, self.news.known, self.memory, self.host.settings.neutron_port_uuid,
                         self.questions.is_settled)
        self.memory, self.waiting, self.notes = plan.memory, len(plan.unknown), plan.notes
        self.questions.ask(plan.unknown, plan.lacking)
        self._is_due = not self.writer.write(plan.edits)

    def _consider_update(self) -> None:
        """After what is ours, because its process takes a core."""
        known = self.news.known
        is_heard = self.news.mode in (Mode.EVENTS, Mode.POLLING)
        if self._may_update and self.replica.has_been_read and known is not None and is_heard:
            why = self.agreeing.consider(self.replica.labels, known)
            self._may_update = self.agreeing.rest_s > 0
            if why not in ("", AGAIN):
                self.log.say("the update runs (%s)" % why)

    def _wait(self) -> None:
        """Until there is something to do."""
        wait_s = self._due_s()
        if self._has_spare_memory and wait_s > 0 and not self.replica.is_writing:
            heap.trim()
            self._has_spare_memory = False
        block((self.presence.control, self.replica),
              (self.wakeup.fd, self.follower.has_news.fd, self.agreeing.done.fd), wait_s)

    def _due_s(self) -> float:
        """How long nothing is to be done, as far as is known now."""
        may_write = self._is_due and self.replica.is_ready and not self.replica.is_writing
        return min(self.writer.due_s if may_write else NEVER_S, self.telling.beat_every_s(), self.questions.due_s,
                   NEVER_S if self._is_connected() else LOST_AFTER_S, self.agreeing.rest_s or NEVER_S)

    def _outlive(self, raised: Exception) -> None:
        """A defect, of ours or of the IDL: told, and begun anew with a fresh copy of the tables."""
        fault = str(explain(raised, "the system refused"))
        if fault != self.fault:
            self.log.warn("the sync begins anew, because of this: %s" % fault)
        self.fault = fault
        self.faults += 1
        self.replica.close()
        self.replica = Replica(self.host.paths.db_sock)
        self.writer = Writer(self.replica)

    def _commands(self) -> Dict[str, Command]:
        """What `ovs-appctl` may ask for. vlog/reopen is logrotate's: this one has no log file."""
        def quietly(act: Callable[[], None]) -> Command:
            def answer() -> str:
                act()
                return ""
            return Command("", 0, answer)

        return {"exit": quietly(self.exit), "flush-cache": quietly(self.flush_cache),
                "vlog/reopen": quietly(lambda: None), "list": Command("[NAME]", 1, self.list_rows),
                "ovsxen/report": Command("", 0, lambda: json.dumps(self.report().as_json()))}

    def exit(self) -> None:
        self._has_ended = True

    def flush_cache(self) -> None:
        """Read the settings, ask XAPI for everything, and have an update run. What was known stands until then."""
        self.host = self.host._replace(settings=read_settings(self.host.paths))
        for problem in self.host.settings.problems:
            self.log.warn(problem)
        self.questions.forget(self.follower.ask())
        self.agreeing.forget()
        self._is_due = self._may_update = True
        self.log.say("what was known of XAPI is read anew")

    def list_rows(self, name: str = "") -> str:
        """All bridges and interfaces, or those of one name, with what they have of the keys that a sync keeps."""
        return "".join(printable(str(row)) + "\n" for row in list_rows(self.replica.labels, name))

    def report(self) -> SyncReport:
        labels = self.replica.labels
        is_connected = self._is_connected() or MACHINE_CLOCK.monotonic() - self._connected_s < LOST_AFTER_S
        return SyncReport(
            xapi=self.news.mode.value, since=self.since, xapi_problem=self.news.problem, is_connected=is_connected,
            bridges=len(labels.bridges), interfaces=len(labels.interfaces), waiting=self.waiting,
            transactions=self.replica.transactions, update=self.agreeing.problem, refused=self.writer.problem,
            hidden=self.presence.problem, faults=self.faults, fault=self.fault, notes=self.notes + self.news.odd)

    def _end(self) -> int:
        self.telling.notifier.stopping("logging out of XAPI")
        self._answer()  # to "exit"
        self.follower.begin_end()
        self.agreeing.end()
        if not self.follower.end(END_WITHIN_S):
            self.log.warn("XAPI did not answer, so its session was not ended; it ends by itself")
        return EXIT_OK


def sync(host: Host, notifier: Notifier, log: Log, *, in_background: bool) -> int:
    """Be the sync of this host until it is told to end; or, in the background, until it answers. Gives the exit code.

    Raises AdministratorError where another one is.
    """
    if why_disabled(host.paths) is not None:
        notifier.ready("Open vSwitch is disabled by network.conf: there is nothing to keep in agreement with XAPI")
        return EXIT_OK
    found = daemons.find(host.paths, XAPI_SYNC)
    if in_background and found.state is State.RUNNING:
        log.say("%s runs already" % found.label)
        return EXIT_OK
    for problem in host.settings.problems:
        log.warn(problem)
    with Wakeup() as wakeup:  # before all else: ovs.fatal_signal takes what nobody handles
        made = Sync(host, notifier, log_to_syslog() if in_background else log, wakeup)
        with ExitStack() as stack:
            if not in_background:
                stack.enter_context(made.presence)
            elif not detach.fork_away(lambda: _appear(made, stack)):
                return EXIT_OK
            return made.run()


def _appear(made: Sync, stack: ExitStack) -> None:
    """In the background, where nobody hears of an error but the log."""
    try:
        stack.enter_context(made.presence)
    except Exception as raised:
        made.log.warn(str(explain(raised, "the sync could not begin")))
        raise


def flush(host: Host, within_s: float) -> bool:
    """Have the sync of this host ask XAPI for everything; False where none runs. Raises OvsxenError."""
    found = daemons.find(host.paths, XAPI_SYNC)
    if found.state is not State.RUNNING:
        return False
    try:
        daemons.ask(host.paths, found, "flush-cache", (), within_s)
    except NoAnswer as error:
        halted = found.process if found.process and found.process.is_halted else None
        raise NoAnswer(error.problem, halted.remedy if halted else "run `ovsxen sync --stop`, then " + START) from error
    return True


def stop(host: Host) -> None:
    """Stop the sync of this host, if one runs, and wait until it has ended. Raises OvsxenError."""
    daemons.stop(host.paths, XAPI_SYNC)
