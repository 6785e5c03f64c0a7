"""Restart both daemons under a switch that goes on forwarding as long as it can. Restart.sequence() is what happens.

The database server goes first: its start may take long, and ovs-vswitchd forwards without it. Then ovs-vswitchd, the
only part that interrupts, and the phase `forwarding` says for how long. With flows kept, they are saved before anything
is stopped; while the new ovs-vswitchd has none, it forwards nothing: that is a lease, which ends on every path. They
are also written to a file, from which the next start takes what was not put back (left_over.py).
"""

import itertools
import signal
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

from ovsxen import left_over, upkeep
from ovsxen import phases_offline as offline
from ovsxen import phases_online as online
from ovsxen.boot import boot_sequence
from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused
from ovsxen.gate import unless_disabled, why_disabled
from ovsxen.host import clock, identity, process
from ovsxen.host.clock import MACHINE_CLOCK
from ovsxen.host.wakeup import uninterrupted
from ovsxen.lifecycle import stop, stop_one
from ovsxen.ovs import daemons, flows_file, kept_flows, lease, ovsdb, switching
from ovsxen.ovs.confdb import read_installed_schema
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, State
from ovsxen.ovs.flows_file import KeptFile
from ovsxen.ovs.kept_flows import Kept, NotRestored
from ovsxen.ovs.switching import Switching
from ovsxen.report import Outcome, Phase, printable
from ovsxen.sequence import Host, Result, Run, Step, Warn, record, run_steps, take_turn

SAVE_WITHIN_S = 30.0
RESTORE_WITHIN_S = 20.0
RESTORE_ROUNDS = 3
"""A bridge with a controller gets its flows twice, with a pause: kept_flows.restore_around."""

STOP_SERVER = "stop ovsdb-server"
STOP_VSWITCHD = "stop ovs-vswitchd"
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
        self.written: Optional[KeptFile] = None
        self.leased = False
        self.was_stopped = False
        self._paused_ms: Optional[Callable[[], float]] = None

    @property
    def kept(self) -> Tuple[Kept, ...]:
        """The flows that are carried over the restart."""
        return () if self.written is None else self.written.kept

    def preparation(self) -> Iterator[Step]:
        """What must go well before anything is stopped."""
        yield Step("host", self.prepare_host)
        yield Step("module", offline.load_module, needs=("host",))
        yield Step("disk", upkeep.rewrite_database if self.purging else upkeep.prepare_to_end_server, needs=("host",))
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
        offline.require_room(run)
        read_installed_schema(run.paths.schema)
        run.keeps_bridges = not self.purging \
            and daemons.find_anywhere(run.paths, VSWITCHD).state is State.RUNNING
        return prepared

    def save(self, run: Run) -> Result:
        """Which ports the interfaces have, and the flows of every bridge that would not get them back by itself."""
        vswitchd = daemons.find_anywhere(run.paths, VSWITCHD)
        if vswitchd.state is not State.RUNNING:
            return Result(Outcome.SKIPPED, "ovs-vswitchd does not run, so there is nothing to keep")
        flows_file.forget_unless_lost(run.paths, flows_file.holder_of(run.boot_id, vswitchd.process))
        if daemons.find(run.paths, OVSDB_SERVER).state is not State.RUNNING:
            if self.keep_flows:
                raise AdministratorError("flows cannot be saved while ovsdb-server does not run",
                                         "run `ovsxen start`, then this again")
            return Result(Outcome.SKIPPED, "ovsdb-server does not run, so nobody knows the ports")
        try:
            self._read_switching(run)
        except (NoAnswer, Refused) as error:
            if self.keep_flows:
                raise AdministratorError(
                    "flows cannot be kept, because the database cannot be asked (%s)" % error.problem,
                    "run `ovsxen restart` without --save-flows") from error
            return Result(Outcome.DEGRADED, "interfaces may get other OpenFlow ports: %s" % error.problem)
        if not self.keep_flows:
            return Result(Outcome.UNCHANGED, "%d OpenFlow ports; flows are not kept%s" % (
                len(self.before.ports), self._until_open()))
        if vswitchd.process is not None and vswitchd.process.is_halted:
            raise AdministratorError("flows cannot be saved from %s" % vswitchd.process.label,
                                     "%s, then run this again" % vswitchd.process.remedy)
        return self._save_flows(run, vswitchd)

    def _read_switching(self, run: Run) -> None:
        """How the bridges forward; the database must be one that can be written.

        Raises NoAnswer, Refused, AdministratorError.
        """
        within_s = run.settings.answer_timeout_s
        with online.open_database(run) as connection:
            self.before = switching.read_switching(connection, within_s)
            ovsdb.touch(connection, within_s)

    def _save_flows(self, run: Run, vswitchd: Daemon) -> Result:
        """Raises NoAnswer, Refused, AdministratorError, OSError."""
        given_up = _put_back_earlier(run)
        self._leave_out_unmade(run, vswitchd)
        saved = kept_flows.save(run.paths, tuple(bridge.name for bridge in self.before.bridges), SAVE_WITHIN_S)
        self.written = KeptFile(flows_file.holder_of(run.boot_id, vswitchd.process), tuple(
            kept for kept, bridge in zip(saved, self.before.bridges)
            if not kept_flows.comes_back_by_itself(kept, fail_mode=bridge.fail_mode, controllers=bridge.controllers)))
        flows_file.write(run.paths, self.written)
        if given_up:
            run.warn(given_up)
        return Result(Outcome.UNCHANGED, "%d flows saved; %d of %d bridges get theirs by themselves%s" % (
            sum(len(kept.flows) + len(kept.flows10) for kept in self.kept), len(saved) - len(self.kept), len(saved),
            self._until_open()), tuple(kept.bridge for kept in self.kept))

    def _leave_out_unmade(self, run: Run, vswitchd: Daemon) -> None:
        """A bridge that ovs-vswitchd could not make, as by its name or datapath_type, has no flows."""
        made = switching.find_made(run.paths, vswitchd, run.settings.answer_timeout_s)
        for bridge in self.before.bridges:
            if bridge.name not in made:
                run.warn("ovs-vswitchd does not have bridge %s of the database, so it has no flows to keep: see %s" % (
                    printable(bridge.name), run.paths.log(VSWITCHD)))
        self.before = self.before._replace(bridges=tuple(
            bridge for bridge in self.before.bridges if bridge.name in made))

    def _until_open(self) -> str:
        """What is not as before for a while, for people; or ""."""
        silent, kept = {one.name for one in self.before.bridges if one.fails_open}, {one.bridge for one in self.kept}
        if not silent:
            return ""
        alone, rest = (", ".join(map(printable, sorted(names))) for names in (silent - kept, silent & kept))
        said = (alone and "nothing is forwarded by %s" % alone,
                rest and "only what saved flows say by %s, which loses them when it fails open" % rest)
        return "; until a controller answers or the bridge fails open (15 s by default), %s" % (
            " and ".join(filter(None, said)))

    def stop_server(self, run: Run) -> Result:
        """ovs-vswitchd goes on forwarding without, except by its own datapath: it stops in its loop until it has a
        database again (vswitchd/bridge.c, bridge_run; tried with 3.1). Then it may as well end meanwhile.
        """
        in_userspace = any(bridge.in_userspace for bridge in self.before.bridges)
        if in_userspace:
            self._pause()
        stopped = stop_one(run, OVSDB_SERVER)
        vswitchd = daemons.find(run.paths, VSWITCHD).process
        if in_userspace and vswitchd is not None:
            self.was_stopped = process.send_signal(vswitchd, signal.SIGTERM)
        return stopped

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
        stopped = stop_one(run, VSWITCHD, ask_first=False)
        self.was_stopped = self.was_stopped or stopped.outcome is Outcome.DONE
        run.stray_vswitchd = daemons.find(run.paths, VSWITCHD)
        return stopped

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
        try:
            kept_flows.restore_around(run.paths, self.kept, flushed, lambda: self._begin_forwarding(run),
                                      RESTORE_WITHIN_S)
        except NotRestored as error:
            self._keep_only(run, error.bridges)
            raise
        self._keep_only(run, ())
        return Result(Outcome.DONE, "%d bridges have theirs again" % len(self.kept))

    def _keep_only(self, run: Run, bridges: Tuple[str, ...]) -> None:
        """Have the next start put back only the flows of these."""
        if self.written is None:
            return
        try:
            flows_file.write(run.paths, self.written._replace(
                kept=tuple(one for one in self.kept if one.bridge in bridges)))
        except OSError as error:
            run.warn("%s stays as it was, so the next start may put back flows that were there: remove it (%s)" % (
                run.paths.kept_flows, error.strerror))

    def forward(self, run: Run) -> Result:
        """The lease ends, whether or not every bridge has its flows: none is the worse switch."""
        if self.leased:
            self._begin_forwarding(run)
        how = "begun"
        if self.was_stopped and self._paused_ms is not None:
            how = "interrupted for at most %.0f ms" % self._paused_ms()
        return Result(Outcome.DONE, how + self._until_open())

    def _begin_forwarding(self, run: Run) -> None:
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
        """End the lease where the sequence did not come to that. A start of the switch does it too.

        Where ovs-vswitchd was not to end yet, no flows are lost.
        """
        if self.leased:
            try:
                self._end_lease(run)
            except (OvsxenError, OSError) as error:
                run.warn("other_config:%s may still be set (%s): run `ovsxen start`" % (lease.FLOW_RESTORE_WAIT, error))
        if self._paused_ms is None:
            self._keep_only(run, ())


def _put_back_earlier(run: Run) -> str:
    """Flows that an earlier restart kept and lost are put back before they are saved; gives what is not, or ""."""
    try:
        left_over.put_back_flows(run)
    except AdministratorError as error:
        return "flows that an earlier restart kept are given up, as others are saved: %s" % error.problem
    return ""


def restart(host: Host, warn: Warn, *, keep_flows: bool = False) -> Iterator[Phase]:
    """Restart both daemons, and start what did not run; purges what a start would: nothing, after one that went well in
    this boot, unless --delete-bridges is set.

    What a start would refuse is refused before anything is stopped, and so are flows that cannot be saved. From its
    first phase to its end neither a signal nor a lost terminal interrupts it.
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
    one = Restart(keep_flows=keep_flows, purging=host.settings.delete_bridges)
    return run_stages(host, warn, Stages(one.preparation(), one.sequence(), one.release))


class Stages(NamedTuple):
    """What restarts the daemons, or more: phases before which nothing is stopped, phases, and an end on every path."""

    preparation: Iterator[Step]
    sequence: Iterator[Step]
    release: Callable[[Run], None]


def run_stages(host: Host, warn: Warn, stages: Stages) -> Iterator[Phase]:
    """Prepare, and where that went well go on to the end, whatever signals come."""
    with uninterrupted(), take_turn(host.paths):
        run = Run(host, warn, identity.read_boot_id(host.paths))
        failed = False
        try:
            for phase in run_steps(run, stages.preparation):
                failed = failed or phase.outcome is Outcome.FAILED
                yield phase
            if failed:
                run.warn("nothing was stopped")
                return
            yield from record(run, run_steps(run, stages.sequence))
        finally:
            stages.release(run)
