"""How a sequence of phases is run: in order, timed, under one lock, written down; an error becomes a failed phase."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, Defect, NoAnswer, NotPermitted, OvsxenError
from ovsxen.host import clock, files, process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.host.settings import Settings
from ovsxen.report import Outcome, Phase, Report, read_report, write_report

if TYPE_CHECKING:
    from ovsxen.ovs.confdb import Found
    from ovsxen.ovs.daemons import Daemon
    from ovsxen.ovs.ovsdb import Switch

TURN_WITHIN_S = 45.0
UPDATE_TURN_WITHIN_S = 20.0  # of the 30 that an update may take
PLUGIN_TURN_WITHIN_S = 10.0
SETUP_TURN_WITHIN_S = 120.0
QUIET = (Outcome.UNCHANGED, Outcome.SKIPPED)
REMEDIES = {errno.ENOSPC: "make room on that file system, then do it again",
            errno.EDQUOT: "make room on that file system, then do it again",
            errno.EROFS: "mount that file system read-write, then do it again"}

Warn = Callable[[str], None]
"""Takes what is wrong though no phase failed for it."""


class Host(NamedTuple):
    """The host to work on: where its files are and what its administrator chose.

    `guards_bridges`: it is not an administrator who has this done. So no server is started on a conf.db that has lost
    bridges with which ovs-vswitchd goes on.
    """

    paths: Paths
    settings: Settings
    guards_bridges: bool = False

    def unasked(self) -> "Host":
        """For what nobody asked for: --delete-bridges, too, is about starts. A daemon died, and guests go on."""
        return self._replace(settings=self.settings._replace(delete_bridges=False, problems=()), guards_bridges=True)


class Run:
    """One run of a sequence: the host, and what earlier phases learnt that later ones need.

    `keeps_bridges`: ovs-vswitchd ran when this began, so that none is purged though it may have been stopped by now.
    `stray_vswitchd`: what a look through all processes found of it, which is done once.
    """

    def __init__(self, host: Host, warn: Warn, boot_id: str = "", *, dry_run: bool = False) -> None:
        self.paths, self.settings, self.guards_bridges = host
        self.boot_id = boot_id
        self.before: Optional[Report] = None
        self.dry_run = dry_run
        self.warnings: List[str] = []
        self._tell = warn
        self.checked: "Optional[Found]" = None
        self.server_started = False
        self.keeps_bridges = False
        self.stray_vswitchd: "Optional[Daemon]" = None
        self.configured: "Optional[Configured]" = None
        for problem in host.settings.problems:
            self.warn(problem)

    def warn(self, problem: str) -> None:
        """Tell of what is wrong though no phase fails for it, once."""
        if problem not in self.warnings:
            self.warnings.append(problem)
            self._tell(problem)

    @property
    def follows_an_ended_start(self) -> bool:
        """The last start of this boot is known to have come to its end, and so to have seen to everything."""
        return self.before is not None and self.before.finished

    def act(self) -> Outcome:
        """What a phase reports that has something to do."""
        return Outcome.WOULD if self.dry_run else Outcome.DONE


class Configured(NamedTuple):
    """What the configuration phase found and left: the switch as it was read, what was purged, and next_cfg now."""

    switch: "Switch"
    purged: Tuple[str, ...]
    next_cfg: int


class Result(NamedTuple):
    """What a phase's function gives."""

    outcome: Outcome
    reason: str
    names: Tuple[str, ...] = ()


class Step(NamedTuple):
    """A phase to run when none of those it needs failed. One that is not `vital` never makes the sequence fail."""

    name: str
    run: Callable[[Run], Result]
    needs: Tuple[str, ...] = ()
    vital: bool = True


def take_turn(paths: Paths, within_s: float = TURN_WITHIN_S) -> process.HeldLock:
    """The lock under which one process at a time starts or stops this host's switch. Raises when it stays taken."""
    return _take(paths.turn, within_s, "starting or stopping the switch")


def take_update_turn(paths: Paths) -> process.HeldLock:
    """The lock under which one process at a time makes the switch agree with XAPI, or resets it. Raises likewise."""
    return _take(paths.update_turn, UPDATE_TURN_WITHIN_S, "making the switch agree with XAPI")


def take_setup_turn(paths: Paths) -> process.HeldLock:
    """The lock under which one process at a time makes the host ready for a package. Raises likewise."""
    return _take(paths.setup_turn, SETUP_TURN_WITHIN_S, "making this host ready")


def take_plugin_turn(paths: Paths) -> process.HeldLock:
    """The lock under which one process at a time changes which plugin XAPI runs. Raises likewise."""
    return _take(paths.plugin_turn, PLUGIN_TURN_WITHIN_S, "diverting or restoring XAPI's plugin")


def _take(lock: Path, within_s: float, busy_with: str) -> process.HeldLock:
    try:
        files.make_directory(lock.parent, 0o755)
        held = Deadline(within_s).wait_for(lambda: process.try_lock(lock), every_s=0.02)
    except OSError as error:
        raise refused_by_system("cannot take the lock %s" % lock, error) from error
    if held is None:
        holder = process.find_flock_holder(lock)
        raise NoAnswer("%s has been %s for %g s" % (holder.label if holder else "another ovsxen", busy_with, within_s),
                       "if it hangs, kill it: the next run goes on from where it is")
    return held


def run_steps(run: Run, steps: Iterable[Step]) -> Iterator[Phase]:
    """Run what can be run, time it, and turn an error into a failed phase."""
    failed: List[str] = []
    for step in steps:
        began_s, elapsed_ms = clock.MACHINE_CLOCK.monotonic(), clock.stopwatch()
        blocked = next((name for name in step.needs if name in failed), "")
        if blocked:
            phase = Phase(step.name, Outcome.SKIPPED, "because %s failed" % blocked)
        else:
            phase = _run_step(run, step)._replace(ms=elapsed_ms())
        if phase.outcome is Outcome.FAILED or blocked:
            failed.append(step.name)
        yield phase._replace(began_s=began_s)


def _run_step(run: Run, step: Step) -> Phase:
    try:
        result = step.run(run)
    except Exception as raised:
        error = explain(raised, "the system refused")
        if not step.vital:
            return Phase(step.name, Outcome.DEGRADED, str(error))
        return Phase(step.name, Outcome.FAILED, str(error), exit_code=error.exit_code)
    return Phase(step.name, result.outcome, result.reason, names=result.names)


def explain(error: Exception, what: str) -> OvsxenError:
    """Any exception as one that says who must act; `what` could not be done where the operating system refused."""
    if isinstance(error, OvsxenError):
        return error
    if isinstance(error, OSError):
        return refused_by_system(what, error)
    return Defect.of(error)


def refused_by_system(what: str, error: OSError) -> OvsxenError:
    """The operating system's refusal as an error that says what to do about it."""
    problem = "%s (%s%s)" % (what, error.strerror or error, ": %s" % error.filename if error.filename else "")
    if isinstance(error, PermissionError):
        return NotPermitted(problem, "run ovsxen as root")
    return AdministratorError(problem, REMEDIES.get(error.errno or 0, "look at the file and at the disk that it is on"))


def record(run: Run, phases: Iterator[Phase]) -> Iterator[Phase]:
    """Write down a start: that it began, so that a killed one shows, and what it did; or, where it changed nothing that
    was right, again what the one before it did. The first phase makes the directory that this is written in.
    """
    before = run.before = read_report(run.paths.boot_report, run.boot_id)
    purged = before.purged if before else ()
    done: Tuple[Phase, ...] = ()
    for phase in phases:
        done += (phase,)
        if len(done) == 1:
            _write(run, Report(run.boot_id, False, done, purged, tuple(run.warnings)))
        yield phase
    if before is not None and before.went_well and all(phase.outcome in QUIET for phase in done):
        _write(run, before)
        return
    purged += run.configured.purged if run.configured else ()
    _write(run, Report(run.boot_id, True, done, tuple(dict.fromkeys(purged)), tuple(run.warnings)))


def _write(run: Run, report: Report) -> None:
    try:
        write_report(run.paths.boot_report, report)
    except OSError as error:
        run.warn("`ovsxen status` will not know of this start: %s" % refused_by_system("its report was refused", error))
