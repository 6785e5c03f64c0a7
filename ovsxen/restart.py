"""Restart both daemons under a switch that goes on forwarding as long as it can. Restart.sequence() is what happens.

The database server goes first: its start may take long, and ovs-vswitchd forwards without it. Then ovs-vswitchd, the
only part that interrupts, and the phase `forwarding` says for how long. With flows kept, they are saved before anything
is stopped; while the new ovs-vswitchd has none, it forwards nothing: that is a lease, which ends on every path.
"""

import itertools
import signal
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

from ovsxen import phases_offline as offline
from ovsxen import phases_online as online
from ovsxen.boot import boot_sequence
from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused
from ovsxen.gate import unless_disabled, why_disabled
from ovsxen.host import clock, identity, process
from ovsxen.host.clock import MACHINE_CLOCK
from ovsxen.host.wakeup import uninterrupted
from ovsxen.lifecycle import stop
from ovsxen.ovs import confdb, daemons, dblog, dbtool, kept_flows, lease, ovsdb, switching
from ovsxen.ovs.confdb import read_installed_schema
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, State
from ovsxen.ovs.dblog import Kind
from ovsxen.ovs.kept_flows import Kept
from ovsxen.ovs.switching import Switching
from ovsxen.report import Outcome, Phase
from ovsxen.sequence import Host, Result, Run, Step, Warn, record, run_steps, take_turn

SAVE_WITHIN_S = 30.0
RESTORE_WITHIN_S = 20.0
RESTORE_ROUNDS = 3
"""A bridge with a controller gets its flows twice, with a pause: kept_flows.restore_around."""

STOP_SERVER = "stop server"
STOP_VSWITCHD = "stop vswitchd"
FORWARDING = "forwarding"
PREPARED = ("host", "module")


class Restart:
    """One restart while it goes on: what is carried over it. `purging`: bridges go, which they only do without
    ovs-vswitchd.
    """

    def __init__(self, *, keep_flows: bool, purging: bool = False) -> None:
        self.keep_flows = keep_flows
        self.purging = purging
        self.before = Switching((), ())
        self.kept: Tuple[Kept, ...] = ()
        self.leased = False
        self.was_stopped = False
        self._paused_ms: Optional[Callable[[], float]] = None

    def preparation(self) -> Iterator[Step]:
        """What must go well before anything is stopped."""
        yield Step("host", self.prepare_host)
        yield Step("module", offline.load_module, needs=("host",))
        yield Step("disk", _write_database, needs=("host",))
        yield Step("save", self.save, needs=("host", "module", "disk"))

    def sequence(self) -> Iterator[Step]:
        """The restart itself: a boot, with the stops and what is carried over them put in."""
        if self.purging:
            yield Step(STOP_VSWITCHD, self.stop_vswitchd)
            yield Step(STOP_SERVER, self.stop_server, needs=(STOP_VSWITCHD,))
            yield from (step._replace(needs=step.needs + (STOP_SERVER,)) for step in boot_sequence())
            return
        for step in boot_sequence():
            if step.name == "database":
                yield Step(STOP_SERVER, self.stop_server)
                yield step._replace(needs=(STOP_SERVER,))
            elif step.name == VSWITCHD:
                yield Step("ports", self.carry_ports, needs=("configuration",))
                yield Step(STOP_VSWITCHD, self.stop_vswitchd, needs=("ports",))
                yield step._replace(needs=(STOP_VSWITCHD,))
                yield Step("flows", self.restore, needs=(VSWITCHD,))
                yield Step(FORWARDING, self.forward, needs=(VSWITCHD,))
            elif step.name not in PREPARED:
                yield step

    def prepare_host(self, run: Run) -> Result:
        """What a start would refuse is refused while the old daemons run."""
        prepared = offline.prepare_host(run)
        offline.require_writable(run)
        read_installed_schema(run.paths.schema)
        return prepared

    def save(self, run: Run) -> Result:
        """Which ports the interfaces have, and the flows of every bridge that would not get them back by itself."""
        vswitchd = daemons.find_anywhere(run.paths, VSWITCHD)
        if vswitchd.state is not State.RUNNING:
            return Result(Outcome.SKIPPED, "ovs-vswitchd does not run, so there is nothing to keep")
        run.keeps_bridges = not self.purging
        if daemons.find(run.paths, OVSDB_SERVER).state is not State.RUNNING:
            if self.keep_flows:
                raise AdministratorError("flows cannot be saved while ovsdb-server does not run",
                                         "run `ovsxen start`, then this again")
            return Result(Outcome.SKIPPED, "ovsdb-server does not run, so nobody knows the ports")
        within_s = run.settings.answer_timeout_s
        try:
            with online.open_database(run) as connection:
                self.before = switching.read_switching(connection, within_s)
                ovsdb.touch(connection, within_s)
        except (NoAnswer, Refused) as error:
            if self.keep_flows:
                raise AdministratorError(
                    "flows cannot be kept, because the database cannot be asked (%s)" % error.problem,
                    "run `ovsxen restart` without --save-flows") from error
            return Result(Outcome.DEGRADED, "interfaces may get other OpenFlow ports: %s" % error.problem)
        if not self.keep_flows:
            return Result(Outcome.UNCHANGED, "%d OpenFlow ports; flows are not kept" % len(self.before.ports))
        if vswitchd.process is not None and vswitchd.process.is_stopped:
            raise AdministratorError("flows cannot be saved from %s" % vswitchd.process.label,
                                     "run `kill -CONT %d`, then this again" % vswitchd.process.pid)
        saved = kept_flows.save(run.paths, tuple(bridge.name for bridge in self.before.bridges), SAVE_WITHIN_S)
        self.kept = tuple(
            kept for kept, bridge in zip(saved, self.before.bridges)
            if not kept_flows.comes_back_by_itself(kept, fail_mode=bridge.fail_mode, controllers=bridge.controllers))
        return Result(Outcome.UNCHANGED, "%d flows saved; %d of %d bridges get theirs by themselves" % (
            sum(len(kept.flows) + len(kept.flows10) for kept in self.kept), len(saved) - len(self.kept), len(saved)),
            tuple(kept.bridge for kept in self.kept))

    def stop_server(self, run: Run) -> Result:
        """ovs-vswitchd goes on forwarding without, except by its own datapath: it stops in its loop until it has a
        database again (vswitchd/bridge.c, bridge_run; tried with 3.1). Then it may as well end meanwhile.
        """
        in_userspace = any(bridge.in_userspace for bridge in self.before.bridges)
        if in_userspace:
            self._pause()
        stopped = daemons.stop(run.paths, OVSDB_SERVER)
        vswitchd = daemons.find(run.paths, VSWITCHD).process
        if in_userspace and vswitchd is not None:
            self.was_stopped = process.send_signal(vswitchd, signal.SIGTERM)
        return _stopped(stopped)

    def carry_ports(self, run: Run) -> Result:
        """A server that was started anew has forgotten them."""
        with online.open_database(run) as connection:
            switching.write_ports(connection, self.before.ports, run.settings.answer_timeout_s)
        return Result(Outcome.UNCHANGED, "%d interfaces keep their OpenFlow ports" % len(self.before.ports))

    def stop_vswitchd(self, run: Run) -> Result:
        """From here on nothing is forwarded, or only what the kernel's datapath knows."""
        if self.kept:
            self._take_lease(run)
        self._pause()
        stopped = daemons.stop(run.paths, VSWITCHD, ask_first=False)
        self.was_stopped = self.was_stopped or bool(stopped.how)
        run.stray_vswitchd = daemons.find(run.paths, VSWITCHD)
        return _stopped(stopped)

    def _pause(self) -> None:
        if self._paused_ms is None:
            self._paused_ms = clock.stopwatch()

    def _take_lease(self, run: Run) -> None:
        until_s = MACHINE_CLOCK.monotonic() + online.vswitchd_within_s(run) + RESTORE_ROUNDS * RESTORE_WITHIN_S
        with online.open_database(run) as connection:
            self.leased = True
            lease.take(connection, until_s, run.settings.answer_timeout_s)

    def restore(self, run: Run) -> Result:
        """The flows that were kept, all bridges at once. A bridge that gets its controller loses them again."""
        if not self.kept:
            return Result(Outcome.UNCHANGED, "none to put back")
        flushed = frozenset(bridge.name for bridge in self.before.bridges if bridge.controllers)
        kept_flows.restore_around(run.paths, self.kept, flushed, lambda: self._begin(run), RESTORE_WITHIN_S)
        return Result(Outcome.DONE, "%d bridges have theirs again" % len(self.kept))

    def forward(self, run: Run) -> Result:
        """The lease ends, whether or not every bridge has its flows: none is the worse switch."""
        if self.leased:
            self._begin(run)
        if not self.was_stopped or self._paused_ms is None:
            return Result(Outcome.DONE, "begun")
        return Result(Outcome.DONE, "interrupted for at most %.0f ms" % self._paused_ms())

    def _begin(self, run: Run) -> None:
        """End the lease, and wait until ovs-vswitchd has taken note."""
        next_cfg = self._end_lease(run)
        if next_cfg is not None:
            online.wait_configured(run, daemons.find(run.paths, VSWITCHD), next_cfg, run.settings.start_timeout_s)

    def _end_lease(self, run: Run) -> Optional[int]:
        with online.open_database(run) as connection:
            next_cfg = lease.end(connection, run.settings.answer_timeout_s)
        self.leased = False
        return next_cfg

    def release(self, run: Run) -> None:
        """End the lease where the sequence did not come to that. A start of the switch does it too."""
        if self.leased:
            try:
                self._end_lease(run)
            except (OvsxenError, OSError) as error:
                run.warn("other_config:%s may still be set (%s): run `ovsxen start`" % (lease.FLOW_RESTORE_WAIT, error))


def restart(host: Host, warn: Warn, *, keep_flows: bool = False) -> Iterator[Phase]:
    """Restart both daemons, and start what did not run; purges what a start would: nothing, after one that went well in
    this boot.

    What a start would refuse is refused before anything is stopped, and so are flows that cannot be saved. From there
    to its end neither a signal nor a lost terminal interrupts it.
    """
    conf = why_disabled(host.paths)
    if conf is not None and conf.problem:
        raise AdministratorError("nothing was stopped, because %s" % conf.problem,
                                 "write vswitch or bridge into it; `ovsxen stop` stops the switch")
    if conf is not None:
        return itertools.chain(stop(host, warn), unless_disabled(host, warn, lambda: iter(())))
    if host.settings.delete_bridges and keep_flows:
        raise AdministratorError("flows cannot be kept, because --delete-bridges removes all bridges at every start",
                                 "take it out of OVS_CTL_OPTS, or restart without --save-flows")
    job = Restart(keep_flows=keep_flows, purging=host.settings.delete_bridges)
    return run_job(host, warn, Job(job.preparation(), job.sequence(), job.release))


class Job(NamedTuple):
    """What restarts the daemons, or more: phases before which nothing is stopped, phases, and an end on every path."""

    preparation: Iterator[Step]
    sequence: Iterator[Step]
    release: Callable[[Run], None]


def run_job(host: Host, warn: Warn, job: Job) -> Iterator[Phase]:
    """Prepare, and where that went well go on to the end, whatever signals come."""
    with uninterrupted(), take_turn(host.paths):
        run = Run(host, warn, identity.read_boot_id(host.paths))
        failed = False
        for phase in run_steps(run, job.preparation):
            failed = failed or phase.outcome is Outcome.FAILED
            yield phase
        if failed:
            run.warn("nothing was stopped")
            return
        try:
            yield from record(run, run_steps(run, job.sequence))
        finally:
            job.release(run)


def _write_database(run: Run) -> Result:
    """What its file has lost, a server that runs still knows and writes anew when asked; once stopped it is gone."""
    server = daemons.find(run.paths, OVSDB_SERVER)
    if server.state is not State.RUNNING:
        return Result(Outcome.SKIPPED, "ovsdb-server does not run")
    path = confdb.real_path(run.paths.conf_db)
    log = dblog.check(path, dbtool.DATABASE)
    if log.kind is Kind.GOOD:
        return Result(Outcome.UNCHANGED, "%s is whole" % path)
    try:
        daemons.ask(run.paths, server, "ovsdb-server/compact", (),
                    run.settings.answer_timeout_s + dbtool.allowance_s(log.size_bytes))
    except (NoAnswer, Refused) as error:
        return Result(Outcome.DEGRADED, "%s is %s, and ovsdb-server does not write it anew: %s" % (
            path, log.kind.value, error))
    return Result(Outcome.DONE, "%s was %s: ovsdb-server has written it anew" % (path, log.kind.value))


def _stopped(stopped: daemons.Stopped) -> Result:
    if stopped.how:
        return Result(Outcome.DONE, "stopped (%s)" % stopped.how)
    return Result(Outcome.UNCHANGED, "was not running")
