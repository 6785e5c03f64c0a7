"""Stop the switch, whatever it is in; and load the kernel module alone."""

import signal
from typing import Callable, Iterator

from ovsxen import phases_offline
from ovsxen.gate import unless_disabled
from ovsxen.host import detach, process
from ovsxen.host.clock import Deadline
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.report import Outcome, Phase
from ovsxen.sequence import TURN_WITHIN_S, Host, Result, Run, Step, Warn, run_steps, take_turn

WATCH_TURN_WITHIN_S = 120.0
WATCH_ENDS_WITHIN_S = WATCH_TURN_WITHIN_S + 2 * daemons.STOP_WITHIN_S
"""Its patience with whoever has the turn, a restart perhaps, and then with two daemons that hang."""


def stop_phase(name: str) -> Callable[[Run], Result]:
    """The phase that stops one daemon and waits until it is gone."""
    def stop_daemon(run: Run) -> Result:
        return stop_one(run, name)
    return stop_daemon


def stop_one(run: Run, name: str, *, ask_first: bool = True) -> Result:
    """Stop a daemon of Open vSwitch as daemons.stop does, and say how."""
    before = daemons.find_anywhere(run.paths, name)
    how = daemons.stop(run.paths, name, ask_first=ask_first).how
    if how:
        return Result(Outcome.DONE, "%s stopped (%s)" % (before.label, how))
    return Result(Outcome.UNCHANGED, "was not running")


STOP_PHASES = (Step(VSWITCHD, stop_phase(VSWITCHD)), Step(OVSDB_SERVER, stop_phase(OVSDB_SERVER), needs=(VSWITCHD,)))
"""vswitchd first: it must not see its database go. The kernel module and its datapath stay, and go on forwarding what
they know."""


def stop(host: Host, warn: Warn) -> Iterator[Phase]:
    """Stop the daemon that watches, where there is one, and both daemons of Open vSwitch, whatever network.conf says: a
    host that was switched to bridge mode may still run them.
    """
    watching = detach.find_holder(host.paths.daemon_pidfile)
    if watching is not None:
        yield from run_steps(Run(host, warn), (Step("watch", lambda _: _end_watch(watching)),))
    yield from stop_daemons(host, warn)


def _end_watch(watching: Process) -> Result:
    """It stops both before it ends. One that hangs is ended by the signal that systemd takes for an end: then both are
    left to us.
    """
    _signal(watching, signal.SIGTERM)
    if not Deadline(WATCH_ENDS_WITHIN_S).wait_until(lambda: process.has_ended(watching), every_s=0.02):
        _signal(watching, signal.SIGUSR2)
        return Result(Outcome.DEGRADED, "the ovsxen daemon (pid %d) did not end for %g s and was killed" % (
            watching.pid, WATCH_ENDS_WITHIN_S))
    return Result(Outcome.DONE, "the ovsxen daemon (pid %d) ended" % watching.pid)


def _signal(watching: Process, number: int) -> None:
    """Also one that was stopped by a signal."""
    process.send_signal(watching, number)
    process.send_signal(watching, signal.SIGCONT)


def stop_daemons(host: Host, warn: Warn, turn_within_s: float = TURN_WITHIN_S) -> Iterator[Phase]:
    """Stop both daemons of Open vSwitch, when whoever works on them has ended. Raises NoAnswer, AdministratorError."""
    with take_turn(host.paths, turn_within_s):
        yield from run_steps(Run(host, warn), STOP_PHASES)


def load_kmod(host: Host, warn: Warn) -> Iterator[Phase]:
    """The kernel module alone; not in bridge mode, where VIF plugging would take it for the switch."""
    steps = (Step("module", phases_offline.load_module),)
    return unless_disabled(host, warn, lambda: run_steps(Run(host, warn), steps))
