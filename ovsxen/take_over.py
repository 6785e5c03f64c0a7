"""A switch that runs, taken over from the package or the version that was there before; or let go of. Nothing restarts.

TAKE_OVER is what an upgrade does, RELEASE what an erase does. Neither is to be called with the turn taken: the daemon
takes it, and what is waited for here waits for that.
"""

import os
import signal
from typing import Callable, Tuple

from ovsxen import phases_online as online
from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.gate import why_disabled
from ovsxen.host import detach, files, proc, process, systemd
from ovsxen.host.clock import Deadline
from ovsxen.host.process import Process
from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT
from ovsxen.ovs import confdb_move, daemons, generations, monitors
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, XAPI_SYNC, State
from ovsxen.phases_offline import compaction_within_s
from ovsxen.reloading import reload_watch
from ovsxen.report import Outcome
from ovsxen.sequence import Result, Run, Step, take_turn

PROGRAM = "ovsxen"
UNIT_WITHIN_S = 330.0
"""As long as the unit has for its start, and the end of what its last definition had begun."""

DETACHED_WITHIN_S = 120.0
END_WITHIN_S = 10.0
BOTH = (OVSDB_SERVER, VSWITCHD)


# An upgrade


def move_database(run: Run) -> Result:
    """What ovsdb-server has in the run directory, which the next boot empties, it has in conf.db from now on."""
    server = daemons.find_anywhere(run.paths, OVSDB_SERVER)
    if server.state is not State.RUNNING:
        return Result(Outcome.SKIPPED, "ovsdb-server does not run; its next start takes over what is there")
    if not confdb_move.is_named_in_run(run.paths, server):
        return Result(Outcome.UNCHANGED, "%s has none in %s" % (server.label, run.paths.rundir))
    with take_turn(run.paths):
        moved = confdb_move.move_served(run.paths, server, compaction_within_s(run))
    if moved:
        online.keep_copy(run, generations.keep)
    return Result(Outcome.DONE if moved else Outcome.UNCHANGED,
                  moved or "%s has it in %s already" % (server.label, run.paths.conf_db))


def hand_to_daemon(run: Run) -> Result:
    """The ovsxen daemon of this version watches a switch that runs. What does not run is not started."""
    if _has_systemd(run):
        systemd.reload_definitions(run.paths.systemd_running, systemd.WITHIN_S)
    if detach.find_holder(run.paths.daemon_pidfile) is not None:
        return reload_watch(run)
    return _start_by_unit(run) if _has_systemd(run) else _start_in_background(run)


def _start_by_unit(run: Run) -> Result:
    """The unit begins anew, by its definition as it is now. Raises AdministratorError where that is not ovsxen's."""
    before, unit = _running(run), systemd.look_at(SWITCH_UNIT, systemd.WITHIN_S)
    if unit.state != "active":
        return Result(Outcome.SKIPPED, "%s is %s, and is left so" % (SWITCH_UNIT, unit.state or "unknown"))
    if not any(os.path.basename(word) == PROGRAM for word in unit.start_command):
        raise AdministratorError(
            "%s is still defined by another package: it runs %s" % (SWITCH_UNIT, " ".join(unit.start_command)),
            "look at `systemctl cat %s` for what is in the way, and run this again" % SWITCH_UNIT)
    systemd.start_anew(SWITCH_UNIT, run.paths.systemd_running, UNIT_WITHIN_S)
    return _adopted(run, before)


def _start_in_background(run: Run) -> Result:
    before = _running(run)
    if not before:
        return Result(Outcome.SKIPPED, "the switch does not run, and is left so")
    _run_detached(run, ("daemon", "--detach"))
    return _adopted(run, before)


def _adopted(run: Run, before: Tuple[Process, ...]) -> Result:
    """The daemon watches, and all that ran before still runs."""
    watching = detach.find_holder(run.paths.daemon_pidfile)
    if watching is None:
        raise AdministratorError("the ovsxen daemon does not watch the switch", "see its log, then run `ovsxen daemon`")
    ended = tuple(one.label for one in before if process.has_ended(one))
    if ended:
        return Result(Outcome.DEGRADED, "the ovsxen daemon (pid %d) has started anew what ended meanwhile: %s" % (
            watching.pid, ", ".join(ended)))
    return Result(Outcome.DONE, "the ovsxen daemon (pid %d) watches it, and nothing was interrupted" % watching.pid)


def end_monitors(run: Run) -> Result:
    """One owner starts a daemon again: where the ovsxen daemon is, Open vSwitch's own monitors are not needed."""
    found = tuple((name, monitors.find_monitor(daemons.find_anywhere(run.paths, name))) for name in BOTH)
    main_pid = systemd.look_at(SWITCH_UNIT, systemd.WITHIN_S).main_pid if _has_systemd(run) else 0
    there = tuple((name, monitor) for name, monitor in found  # with its main process systemd ends the unit
                  if monitor is not None and monitor.pid != main_pid)
    if not there:
        return Result(Outcome.UNCHANGED, "Open vSwitch's own monitors do not run")
    if detach.find_holder(run.paths.daemon_pidfile) is None:
        return Result(Outcome.SKIPPED, "they stay: no ovsxen daemon watches the switch")
    ended = tuple("%s's (pid %d)" % (name, monitor.pid) for name, monitor in there
                  if process.send_signal(monitor, signal.SIGKILL))  # which it can neither handle nor pass on
    return Result(Outcome.DONE, "%s ended" % " and ".join(ended))


def renew_sync(run: Run) -> Result:
    """A sync that runs, of this package or of another, is followed by one of this version."""
    if _has_systemd(run):
        restarted = systemd.restart_unit(SYNC_UNIT, systemd.WITHIN_S)
        return Result(Outcome.DONE, "%s is restarted" % SYNC_UNIT) if restarted else Result(
            Outcome.SKIPPED, "%s does not run, and is left so" % SYNC_UNIT)
    lock = process.find_lock(run.paths.pidfile(XAPI_SYNC))
    if lock is None or lock.process is None:
        return Result(Outcome.SKIPPED, "no sync runs, and that is left so")
    _end_sync(lock.process)
    _run_detached(run, ("sync", "--detach"))
    return Result(Outcome.DONE, "%s was followed by one of this version" % lock.process.label)


def _end_sync(old: Process) -> None:
    """By SIGTERM, which ours and the historic script take for an end. Raises AdministratorError for a stranger."""
    if old.name != XAPI_SYNC and not any(
            os.path.basename(word) == XAPI_SYNC for word in process.read_command_line(old.pid)):
        raise AdministratorError("%s holds the pidfile of %s, and is none" % (old.label, XAPI_SYNC), "stop it first")
    if not _ends_by(old, signal.SIGTERM):
        process.send_signal(old, signal.SIGKILL)


def _ends_by(one: Process, number: int) -> bool:
    """Send it a signal, and have it go on where another has stopped it; tells whether it ended in time."""
    process.send_signal(one, number)
    process.send_signal(one, signal.SIGCONT)
    return Deadline(END_WITHIN_S).wait_until(lambda: process.has_ended(one), every_s=0.02)


def _run_detached(run: Run, arguments: Tuple[str, ...]) -> None:
    """The command as it is installed. Raises AdministratorError with its words, NoAnswer, NotInstalled."""
    child = proc.Child((PROGRAM,) + arguments, {"OVSXEN_ROOT": str(run.paths.root)})
    ended = child.wait_detached(DETACHED_WITHIN_S)
    if ended.returncode != 0:
        said = [" ".join(line.split()) for line in ended.stdout.splitlines() if " %s " % Outcome.FAILED.value in line]
        raise AdministratorError("`ovsxen %s` failed (%s)" % (" ".join(arguments), "; ".join(said) or ended.complaint),
                                 "run it again, once that is mended")


def _has_systemd(run: Run) -> bool:
    """systemd runs this host, and not only the machine on which its files lie."""
    return run.paths.is_machine and run.paths.systemd_running.is_dir()


def _running(run: Run) -> Tuple[Process, ...]:
    found = (daemons.find_anywhere(run.paths, name).process for name in BOTH)
    return tuple(one for one in found if one is not None)


def _unless_disabled(act: Callable[[Run], Result]) -> Callable[[Run], Result]:
    def gated(run: Run) -> Result:
        if why_disabled(run.paths) is not None:
            return Result(Outcome.SKIPPED, "network.conf does not ask for Open vSwitch: nothing is touched")
        return act(run)
    return gated


TAKE_OVER = (
    Step("database", _unless_disabled(move_database)),
    Step("watch", _unless_disabled(hand_to_daemon)),
    Step("monitors", _unless_disabled(end_monitors)),
    Step("sync", _unless_disabled(renew_sync)),
)
"""Each does what is missing, so that they may be repeated, also after a run that was killed."""


# An erase


def end_watch(run: Run) -> Result:
    """The ovsxen daemon ends, and the switch goes on: SIGUSR2 ends it as it is, and systemd starts no other."""
    watching = detach.find_holder(run.paths.daemon_pidfile)
    if watching is None:
        return Result(Outcome.UNCHANGED, "no ovsxen daemon watches the switch")
    with take_turn(run.paths):  # not in the midst of what it does to the switch
        if _has_systemd(run):
            _require_no_stop(watching)
        if not _ends_by(watching, signal.SIGUSR2):
            raise NoAnswer("the ovsxen daemon (pid %d) did not end within %g s" % (watching.pid, END_WITHIN_S),
                           "kill it: the switch does not depend on it")
        files.remove_if_there(run.paths.daemon_pidfile)
    return Result(Outcome.DONE, "the ovsxen daemon (pid %d) ended, and the switch goes on: %s" % (
        watching.pid, ", ".join(one.label for one in _running(run)) or "nothing of it runs"))


def _require_no_stop(watching: Process) -> None:
    """systemd ends the switch with the daemon where the unit is another package's by now, or gone."""
    unit = systemd.look_at(SWITCH_UNIT, systemd.WITHIN_S)
    if unit.main_pid == watching.pid and not unit.ends_alone:
        raise AdministratorError("at the end of the ovsxen daemon (pid %d) systemd would stop the switch, as %s says"
                                 % (watching.pid, SWITCH_UNIT), "reboot this host, which ends both")


def end_sync(run: Run) -> Result:
    """The sync ends, and systemd starts no other."""
    if daemons.find(run.paths, XAPI_SYNC).state is not State.RUNNING:
        return Result(Outcome.UNCHANGED, "no sync runs")
    daemons.stop(run.paths, XAPI_SYNC)
    return Result(Outcome.DONE, "the sync ended")


RELEASE = (Step("watch", end_watch), Step("sync", end_sync))
