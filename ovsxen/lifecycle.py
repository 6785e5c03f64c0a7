"""What is done to a switch that is up, or may be: stop, and reload; and loading the module alone."""

import signal
from typing import Callable, Iterator

from ovsxen import phases_offline, phases_online
from ovsxen.errors import AdministratorError, OvsxenError
from ovsxen.gate import unless_disabled
from ovsxen.host import detach, identity, process
from ovsxen.host.clock import Deadline
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, State
from ovsxen.report import Outcome, Phase
from ovsxen.sequence import Host, Result, Run, Step, Warn, run_steps, take_turn

WATCH_ENDS_WITHIN_S = 200.0
"""More than its patience with two daemons that hang."""


def stop_phase(name: str) -> Callable[[Run], Result]:
    """The phase that stops one daemon and waits until it is gone."""
    def stop_daemon(run: Run) -> Result:
        before = daemons.find_anywhere(run.paths, name)
        how = daemons.stop(run.paths, name).how
        if how:
            return Result(Outcome.DONE, "%s stopped (%s)" % (before.label, how))
        return Result(Outcome.UNCHANGED, "was not running")
    return stop_daemon


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
    return Result(Outcome.DONE, "the ovsxen daemon (pid %d) stopped the switch and ended" % watching.pid)


def _signal(watching: Process, number: int) -> None:
    """Also one that was stopped by a signal."""
    process.send_signal(watching, number)
    process.send_signal(watching, signal.SIGCONT)


def stop_daemons(host: Host, warn: Warn) -> Iterator[Phase]:
    """Stop both daemons of Open vSwitch."""
    with take_turn(host.paths):
        yield from run_steps(Run(host, warn), STOP_PHASES)


def require_running(run: Run) -> Result:
    """A reload needs a switch to reload."""
    stopped = [name for name in (OVSDB_SERVER, VSWITCHD) if daemons.find(run.paths, name).state is not State.RUNNING]
    if stopped:
        raise AdministratorError("%s does not run, so there is nothing to reload" % " and ".join(stopped),
                                 "run `ovsxen start`")
    return Result(Outcome.UNCHANGED, "both daemons run")


RELOAD_PHASES = (
    Step("running", require_running),
    Step("host", phases_offline.prepare_host, needs=("running",)),
    Step("configuration", phases_online.configure, needs=("host",)),
    Step("ovs-vswitchd", phases_online.start_vswitchd, needs=("configuration",)),
    Step("managers", phases_online.attach_managers, needs=("host",)),
)


def reload(host: Host, warn: Warn) -> Iterator[Phase]:
    """Read inventory and settings again and make the Open_vSwitch row and the managers agree; nothing is interrupted,
    except where a newer Open vSwitch was installed: then both daemons are restarted, and flows are kept.

    Priorities, limits and options of the daemons hold from their next start.
    """
    return unless_disabled(host, warn, lambda: _reload(host, warn))


def _reload(host: Host, warn: Warn) -> Iterator[Phase]:
    newer = is_newer_installed(host, warn)
    if newer:
        from ovsxen.restart import restart  # few reloads need it

        warn(newer)
        yield from restart(host, warn, keep_flows=not host.settings.delete_bridges)
    else:
        with take_turn(host.paths):
            yield from run_steps(Run(host, warn, identity.read_boot_id(host.paths)), RELOAD_PHASES)
    yield from run_steps(Run(host, warn), (Step("watch", reload_watch, vital=False),))


def reload_watch(run: Run) -> Result:
    """The daemon that watches reads settings, and its own program, anew."""
    watching = detach.find_holder(run.paths.daemon_pidfile)
    if watching is None:
        return Result(Outcome.UNCHANGED, "no ovsxen daemon watches the switch")
    process.send_signal(watching, signal.SIGHUP)
    return Result(Outcome.DONE, "the ovsxen daemon (pid %d) reads its settings anew" % watching.pid)


def is_newer_installed(host: Host, warn: Warn) -> str:
    """What is installed and what runs, where the first is newer; else "". What cannot be known is not newer."""
    try:
        running = daemons.find(host.paths, VSWITCHD)
        if running.state is not State.RUNNING:
            return ""
        said = daemons.ask(host.paths, running, "version", (), host.settings.answer_timeout_s)
        installed, runs = daemons.read_installed_version(VSWITCHD), daemons.version_in(VSWITCHD, said)
    except OvsxenError as error:
        warn("it is not known whether a newer Open vSwitch is installed: %s" % error)
        return ""
    if daemons.as_numbers(installed) > daemons.as_numbers(runs):
        return "Open vSwitch %s is installed and %s runs: both daemons are restarted" % (installed, runs)
    return ""


def load_kmod(host: Host, warn: Warn) -> Iterator[Phase]:
    """The kernel module alone; not in bridge mode, where VIF plugging would take it for the switch."""
    steps = (Step("module", phases_offline.load_module),)
    return unless_disabled(host, warn, lambda: run_steps(Run(host, warn), steps))
