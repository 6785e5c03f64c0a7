"""The plugin's update: make the switch agree with XAPI, once, and write nothing where it does. Read _update() first.

XAPI has no deadline for its plugins, and nobody sees what they answer; so the whole job has one here, and what came of
it is kept for `ovsxen status`. A read that failed leaves the switch as it is.
"""

from pathlib import Path
from typing import Dict, List, Optional, Tuple

from ovsxen import guards, trust
from ovsxen.answer import UNFINISHED, Answer, Failed, UpdateReport, read_update_report, write_update_report
from ovsxen.errors import NoAnswer, OvsxenError, Refused, SwitchRefused, XapiFailure
from ovsxen.gate import why_disabled
from ovsxen.host import clock, files
from ovsxen.host.clock import Deadline
from ovsxen.job import BUDGET_S, DATABASE_WITHIN_S, Job, open_database
from ovsxen.ovs import daemons, flows, ovsdb, snapshots, tables
from ovsxen.ovs.daemons import VSWITCHD, State
from ovsxen.ovs.guard import Guard
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.tables import Configuration, Resettable, Snapshot
from ovsxen.ovs.targets import DEFAULT_PORT, Target
from ovsxen.plan import NO_CHANGE, ON_CHANGE, Plan, Wanted, must_reset, plan, wanted_manager
from ovsxen.sequence import Host, explain, refused_by_system, take_update_turn
from ovsxen.wishes import FAIL_MODE
from ovsxen.xapi import records
from ovsxen.xapi.session import Xapi, connect

CONFIRM_WITHIN_S = 10.0  # ovs-vswitchd waits up to 8 s before it connects again
FIREWALL_WITHIN_S = 5.0
RECONFIGURE_WITHIN_S = 20.0
PASSES = 6
LOST_ANSWERS = 2


def update(host: Host, session_ref: str = "", *, dry_run: bool = False) -> Answer:
    """Read XAPI once, plan, write one transaction, look again. With a session of XAPI's, that one is used.

    Raises Failed, with what was done until then: nothing, unless its answer says so.
    """
    deadline = Deadline(BUDGET_S)
    try:
        disabled = why_disabled(host.paths)
        if disabled is not None:
            return Answer(NO_CHANGE, notes=("there is no switch to agree with XAPI: %s" % (
                disabled.problem or "network.conf says bridge"),))
        with take_update_turn(host.paths):
            return _take_turn(host, session_ref, deadline, dry_run=dry_run)
    except Failed:
        raise
    except Exception as raised:
        raise Failed(explain(raised, "the update could not begin"), Answer("")) from raised


def _take_turn(host: Host, session_ref: str, deadline: Deadline, *, dry_run: bool) -> Answer:
    """The job, under the lock. What came of it is written down whatever it is."""
    job = Job(host, deadline, read_update_report(host.paths.update_report), dry_run=dry_run)
    try:
        if not dry_run:
            _remove_leftovers(job)
            _report(job, UNFINISHED)
        with connect(host.paths.xapi_socket, deadline, session_ref) as xapi:
            _update(job, xapi)
    except Exception as raised:
        job.failure = explain(raised, "the update could not go on")
    if not dry_run:
        _report(job, str(job.failure) if job.failure is not None else "")
    if job.failure is not None:
        raise Failed(job.failure, job.answer()) from job.failure
    return job.answer()


def _update(job: Job, xapi: Xapi) -> None:
    """XAPI first, all of it; then what this host boots from; then the switch; then what goes with its manager."""
    pool = _only_pool(records.read_pools(xapi))
    controllers = records.read_sdn_controllers(xapi)
    manager = wanted_manager(pool, controllers, job.settings.vswitch_controller_port)
    networks = records.read_networks(xapi)
    network_uuids = _refresh_dbcache(job, xapi, pool, networks)
    wanted = Wanted(manager, trust.ssl_for(job.paths, manager), pool.other_config.get(FAIL_MODE, ""), networks,
                    network_uuids)
    switch = _agree(job, xapi, wanted)
    for bridge, reason in sorted(job.held.items()):
        job.problem("bridge %s was left as it is: %s" % (bridge, reason))
    if not job.dry_run:
        guards.lift_forgotten(job, switch)
        _see_to_port(job, manager)
        trust.forget_other_pins(job, wanted.ssl or switch.ssl)


def _remove_leftovers(job: Job) -> None:
    """What updates left that were killed; the lock keeps all others out. Where it cannot be removed, it is in nobody's
    way.
    """
    paths = job.paths
    try:
        flows.remove_leftovers(paths)
        for path in (paths.update_report, paths.guarded_bridge, paths.historic_ca, paths.opened_port,
                     paths.dbdir / snapshots.PREFIX):
            files.remove_staged(path.parent, path.name, excludes_others=True)
    except OSError as error:
        job.note(str(refused_by_system("what a killed update left could not be removed", error)))


def _only_pool(pools: Tuple[records.Pool, ...]) -> records.Pool:
    if not pools:
        raise XapiFailure("NO_POOL_FOR_HOST", (), "XAPI has no pool", "look at it with `xe pool-list`")
    if len(pools) > 1:
        raise XapiFailure("MORE_THAN_ONE_POOL_FOR_HOST", (), "XAPI has %d pools" % len(pools),
                          "look at them with `xe pool-list`")
    return pools[0]


# What this host boots from

def _refresh_dbcache(job: Job, xapi: Xapi, pool: records.Pool,
                     networks: Tuple[records.Network, ...]) -> Dict[str, Tuple[str, ...]]:
    """network.dbcache, where this host boots from it; gives what xs-network-uuids shall be, where that is ours to set.

    Where it cannot be written, that is told and the update goes on, as it always did.
    """
    if job.settings.dbcache == "exec" and not job.dry_run:
        _rewrite_by_program(job)
    if not job.settings.writes_dbcache(networkd_db_exists=job.paths.networkd_db.exists()):
        return {}
    from ovsxen.xapi import dbcache  # today's hosts do without

    devices = job.devices(xapi)
    try:
        cache = dbcache.cache_of_host(pool, networks, devices)
        path, content = job.paths.network_dbcache, dbcache.write_cache(cache)
        differs = not dbcache.holds(path, content) if job.dry_run else dbcache.save_cache(path, content)
        if differs:
            job.changes.append("%s rewritten" % path)
    except (OvsxenError, OSError) as raised:
        job.note(str(explain(raised, "%s could not be rewritten" % job.paths.network_dbcache)))
        return {}
    return dbcache.network_uuids_by_bridge(cache)


def _rewrite_by_program(job: Job) -> None:
    from ovsxen.xapi import dbcache

    try:
        dbcache.run_interface_reconfigure(job.paths.interface_reconfigure,
                                          job.deadline.at_most_s(RECONFIGURE_WITHIN_S))
    except OvsxenError as error:
        job.note(str(error))


# The switch

class MaybeWritten(NoAnswer):
    """The database did not answer to a plan: it may have been written or not."""

    def __init__(self, cause: NoAnswer, planned: Plan) -> None:
        super().__init__("%s; whether the switch was changed is not known" % cause.problem, "run `ovsxen update` again")
        self.planned = planned


def _agree(job: Job, xapi: Xapi, wanted: Wanted) -> Configuration:
    """Read, plan and write until nothing differs: somebody may write in between, and answers may get lost. A try that
    somebody crossed and one that was written are counted apart: the last one that may be crossed has its look, too.
    """
    lost: List[NoAnswer] = []
    crossed = written = 0
    while crossed < PASSES and written < PASSES:
        try:
            switch = _pass(job, xapi, wanted)
        except ovsdb.Changed:
            crossed += 1
            continue
        except NoAnswer as error:
            lost.append(error)
            if len(lost) > LOST_ANSWERS or job.deadline.has_passed():
                raise next((one for one in lost if isinstance(one, MaybeWritten)), error) from error
            continue
        if switch is not None:
            for one in lost:
                if isinstance(one, MaybeWritten) and not job.done:
                    _tell(job, one.planned)  # it was written, since nothing differs
            return switch
        written += 1
    raise _not_written(Refused("the switch was written to again and again and was never seen as XAPI wants it: "
                               "somebody else writes too", "find out who does, and run `ovsxen update`"))


def _not_written(error: OvsxenError) -> SwitchRefused:
    return SwitchRefused("VSWITCH_CONFIG_MOD_FAILURE", ("1",), error)


def _pass(job: Job, xapi: Xapi, wanted: Wanted) -> Optional[Configuration]:
    """One look and, where it finds a difference, one transaction; gives the switch where it found none."""
    with open_database(job.paths, job.deadline) as connection:
        switch, resettable, planned = _look(job, connection, wanted)
        trust.prepare_files(job.paths, wanted, switch, planned, dry_run=job.dry_run)
        guard = guards.place_guard(job, xapi, connection, wanted, switch, planned)
        if guard is not None or job.held:  # ovs-ofctl has taken its time: who writes often would always come before us
            switch, resettable, planned = _look(job, connection, wanted)
            guard = guards.keep_if_needed(job, guard, planned)
        for note in planned.notes:
            job.note(note)
        if job.dry_run:
            _tell(job, planned)
        if planned.edit.is_empty:
            job.owed &= set(job.held)
        if job.dry_run or planned.edit.is_empty:
            return switch
        if resettable is not None and job.held:
            job.owed |= set(job.held)
            _report(job, UNFINISHED)  # also where this is killed right after the reset
        rows = resettable.rows if resettable is not None else ()
        next_cfg = _commit(job, connection, planned, Snapshot(planned.cleared, rows), guard)
        _tell(job, planned)
        if resettable is not None:
            job.owed = set(job.held)
        _wait_followed(job, connection, next_cfg)
        if guard is not None:
            guards.keep_guarded(job, connection, guard, Snapshot(guards.written_to(guard.bridge, planned), rows))
            if resettable is not None and guard.bridge in job.put_back:
                job.owed.add(guard.bridge)
    return None


def _look(job: Job, connection: Connection, wanted: Wanted) -> Tuple[Configuration, Optional[Resettable], Plan]:
    """Read what there is, and what a reset would find where there must be one, and plan."""
    within_s = job.deadline.at_most_s(DATABASE_WITHIN_S)
    switch = tables.read_configuration(connection, within_s)
    job.owed &= {bridge.name for bridge in switch.bridges if job.settings.emer_reset == ON_CHANGE}
    resets = must_reset(wanted, switch, job.settings.emer_reset)
    resettable = tables.read_resettable(connection, within_s) if resets or job.owed else None
    return switch, resettable, plan(wanted, switch, job.held, resettable, None if resets else job.owed)


def _commit(job: Job, connection: Connection, planned: Plan, cleared: Snapshot, guard: Optional[Guard]) -> int:
    """Write down what a reset clears, then write; gives next_cfg. Where it is known not to have happened, what was
    prepared for it goes again.
    """
    path = None
    try:
        with snapshots.saved(job.paths.dbdir, cleared) as path:
            next_cfg = tables.apply(connection, planned.edit, job.deadline.at_most_s(DATABASE_WITHIN_S))
    except ovsdb.Changed:
        guards.lift_guard(job, guard)
        raise
    except NoAnswer as error:
        _tell_snapshot(job, path)
        raise MaybeWritten(error, planned) from error
    except OvsxenError as error:
        guards.lift_guard(job, guard)
        raise _not_written(error) from error
    _tell_snapshot(job, path)
    return next_cfg


def _tell_snapshot(job: Job, path: Optional[Path]) -> None:
    if path is not None:
        job.note("what the reset cleared is in %s: `ovsxen emergency-reset --undo` brings it back" % path)


def _tell(job: Job, planned: Plan) -> None:
    job.done += planned.done
    job.changes += planned.edit.as_lines()


def _wait_followed(job: Job, connection: Connection, next_cfg: int) -> None:
    """The database has it; ovs-vswitchd follows, and where it does not in a while, that is told."""
    try:
        vswitchd = daemons.find(job.paths, VSWITCHD)
        if vswitchd.state is not State.RUNNING:
            job.note("%s does not run, so the switch itself has not followed: run `ovsxen start`" % VSWITCHD)
        elif not ovsdb.wait_configured(connection, next_cfg, job.deadline.at_most_s(CONFIRM_WITHIN_S)):
            job.note("%s has not followed yet: look at `ovsxen status`" % vswitchd.label)
    except OvsxenError as error:
        job.note("whether %s has followed is not known: %s" % (VSWITCHD, error))


# The firewall

def _see_to_port(job: Job, manager: Optional[Target]) -> None:
    """The port for a controller that connects to this host; never fatal."""
    listens = manager is not None and manager.scheme == "pssl"
    if not listens and not job.paths.opened_port.exists():
        return
    from ovsxen.host import firewall_port  # most hosts do without
    from ovsxen.host.firewall_port import PortResult

    within_s = job.deadline.at_most_s(FIREWALL_WITHIN_S)
    try:
        if listens:
            became = firewall_port.open_port(job.paths, job.settings.firewall, DEFAULT_PORT, within_s)
        else:
            became = firewall_port.close_port(job.paths, DEFAULT_PORT, within_s)
    except OvsxenError as error:
        job.problem(str(error))
        return
    if became in (PortResult.OPENED, PortResult.OPENED_FOR_NOW, PortResult.CLOSED):
        job.changes.append("TCP port %d: %s" % (DEFAULT_PORT, became.value))
    elif became is PortResult.OPENER_GONE or became is PortResult.NO_OPENER and job.settings.firewall != "none":
        job.note("TCP port %d: %s; see that the firewall, if there is one, lets the controller in" % (
            DEFAULT_PORT, became.value))


# The report

def _report(job: Job, error: str) -> None:
    """What `ovsxen status` shows; where it cannot be written, that is only noted."""
    report = UpdateReport(clock.wall_clock_text(), job.answer(), error, tuple(job.problems), job.put_back,
                          tuple(sorted(job.owed)))
    try:
        write_update_report(job.paths.update_report, report)
    except OSError as refused:
        job.note(str(refused_by_system("`ovsxen status` will not know of this update", refused)))
