"""The plugin's update: make the switch agree with XAPI, once, and write nothing where it does. Read _update() first.

XAPI has no deadline for its plugins, and nobody sees what they answer; so the whole job has one here, and what came of
it is kept for `ovsxen status`. A read that failed leaves the switch as it is.
"""

from typing import Dict, Optional, Tuple

from ovsxen import guards, trust
from ovsxen.answer import Answer, report_now, write_update_report
from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused, SwitchRefused, XapiFailure
from ovsxen.host import files, firewall_port
from ovsxen.host.inventory import Backend, read_network_conf
from ovsxen.host.paths import Paths
from ovsxen.job import DATABASE_WITHIN_S, Job, open_database
from ovsxen.ovs import daemons, ovsdb, snapshots, tables
from ovsxen.ovs.daemons import VSWITCHD, State
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.tables import Configuration, Leftovers, Snapshot
from ovsxen.ovs.targets import DEFAULT_PORT, Target
from ovsxen.plan import FAIL_MODE, NO_CHANGE, Plan, Wanted, must_reset, plan, wanted_manager
from ovsxen.secure import Guard
from ovsxen.sequence import Host, explain, refused_by_system, take_update_turn
from ovsxen.xapi import dbcache, records
from ovsxen.xapi.session import Xapi, connect

CONFIRM_WITHIN_S = 5.0
FIREWALL_WITHIN_S = 5.0
RECONFIGURE_WITHIN_S = 20.0
PASSES = 6


def update(host: Host, session_ref: str = "", *, dry_run: bool = False) -> Answer:
    """Read XAPI once, plan, write one transaction, look again. With a session of XAPI's, that one is used.

    Raises OvsxenError; then the switch is as it was, or the error says what was done and taken back.
    """
    if read_network_conf(host.paths.network_conf).backend is Backend.BRIDGE:
        return Answer(NO_CHANGE, notes=("network.conf says bridge, so there is no switch to agree with XAPI",))
    job = Job(host, dry_run=dry_run)
    try:
        with take_update_turn(host.paths):
            _remove_leftovers(host.paths)
            with connect(host.paths.xapi_socket, job.deadline, session_ref) as xapi:
                _update(job, xapi)
    except Exception as raised:
        error = explain(raised, "the update could not go on")
        _report(job, str(error))
        raise error from raised
    _report(job, "")
    return job.answer()


def _update(job: Job, xapi: Xapi) -> None:
    """XAPI first, all of it; then what this host boots from; then the switch."""
    pool = _only_pool(records.read_pools(xapi))
    controllers = records.read_sdn_controllers(xapi)
    manager = wanted_manager(pool, controllers, job.settings.vswitch_controller_port)
    networks = records.read_networks(xapi)
    network_uuids = _refresh_dbcache(job, xapi, pool, networks)
    wanted = Wanted(manager, trust.ssl_for(job.paths, manager), pool.other_config.get(FAIL_MODE, ""), networks,
                    network_uuids)
    switch = _agree(job, xapi, wanted)
    if not job.dry_run:
        _see_to_port(job, manager)
        trust.forget_other_pins(job, wanted.ssl or switch.ssl)


def _remove_leftovers(paths: Paths) -> None:
    """Half files of an update that was killed: nobody else makes files of these names."""
    for directory, patterns in ((paths.rundir, (".ovsxen-flows*", ".ovsxen-update*")),
                                (paths.dbdir, (".reset-*", ".vswitchd.cacert-*", ".ovsxen-opened-port*"))):
        for pattern in patterns:
            for path in directory.glob(pattern):
                files.remove_if_there(path)


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
    choice = job.settings.dbcache
    if choice == "exec":
        _rewrite_by_program(job)
    if not dbcache.should_write(choice, job.paths.networkd_db.exists()):
        return {}
    physical = job.physical(xapi)
    try:
        cache = dbcache.cache_of_host(physical.host_ref, (pool,), networks, physical.pifs, physical.bonds,
                                      physical.vlans, physical.tunnels)
        if not job.dry_run and dbcache.save_cache(job.paths.network_dbcache, dbcache.write_cache(cache)):
            job.changes.append("%s rewritten" % job.paths.network_dbcache)
    except (OvsxenError, OSError) as raised:
        job.note(str(explain(raised, "%s could not be rewritten" % job.paths.network_dbcache)))
        return {}
    return dbcache.network_uuids_by_bridge(cache)


def _rewrite_by_program(job: Job) -> None:
    if job.dry_run:
        return
    try:
        dbcache.run_interface_reconfigure(job.paths.interface_reconfigure, job.left_s(RECONFIGURE_WITHIN_S))
    except OvsxenError as error:
        job.note(str(error))


# The switch

def _agree(job: Job, xapi: Xapi, wanted: Wanted) -> Configuration:
    """Read, plan and write until nothing differs: somebody may write in between, and an answer may get lost."""
    lost: Optional[NoAnswer] = None
    for _ in range(PASSES):
        try:
            switch = _pass(job, xapi, wanted)
        except ovsdb.Changed:
            continue
        except NoAnswer as error:
            if lost is not None or job.deadline.has_passed():
                raise
            lost = error
            continue
        if switch is not None:
            return switch
    raise _not_written(Refused("the switch does not stay as XAPI wants it: somebody else writes %s" % (
        "; ".join(job.changes[-3:]) or "to the database while it is read"), "find out who, and run `ovsxen update`"))


def _not_written(error: OvsxenError) -> SwitchRefused:
    return SwitchRefused("VSWITCH_CONFIG_MOD_FAILURE", ("1",), error.problem, error.remedy)


def _pass(job: Job, xapi: Xapi, wanted: Wanted) -> Optional[Configuration]:
    """One look and, where it finds a difference, one transaction; gives the switch where it found none."""
    with open_database(job) as connection:
        switch = tables.read_configuration(connection, job.left_s(DATABASE_WITHIN_S))
        resets = must_reset(wanted, switch, job.settings.emer_reset)
        leftovers = tables.read_leftovers(connection, job.left_s(DATABASE_WITHIN_S)) if resets else None
        planned = plan(wanted, switch, job.held, leftovers)
        guard = guards.place_guard(job, xapi, connection, wanted, switch, planned)
        if job.held:
            planned = plan(wanted, switch, job.held, leftovers)
        for note in planned.notes:
            job.note(note)
        if planned.edit.is_empty or job.dry_run:
            _tell(job, job.unsure or planned)
            return switch
        trust.check_files(job.paths, wanted, switch, planned)
        _write_guarded(job, connection, switch, planned, leftovers, guard)
        _tell(job, planned)
        if guard is not None:
            written = Snapshot(guards.written_to(guard.bridge, planned), leftovers.rows if leftovers else ())
            guards.keep_guarded(job, connection, guard, written)
    return None


def _write_guarded(job: Job, connection: Connection, switch: Configuration, planned: Plan,
                   leftovers: Optional[Leftovers], guard: Optional[Guard]) -> None:
    """Write; where that is known not to have happened, the flows go again. An answer that was lost may mean either."""
    job.unsure = None
    try:
        _write(job, connection, switch, planned, leftovers)
    except OvsxenError as error:
        if isinstance(error, NoAnswer) and not isinstance(error, ovsdb.Changed):
            job.unsure = planned
        else:
            guards.take_away(job, guard)
        raise


def _tell(job: Job, planned: Plan) -> None:
    job.done += planned.done
    job.changes += [str(change) for change in planned.edit.new_rows + planned.edit.changes]


def _write(job: Job, connection: Connection, switch: Configuration, planned: Plan,
           leftovers: Optional[Leftovers]) -> None:
    """The snapshot of what a reset clears, then the transaction; then wait, a while, for ovs-vswitchd to follow."""
    if leftovers is not None and planned.cleared:
        _save_snapshot(job, Snapshot(planned.cleared, leftovers.rows))
    try:
        next_cfg = tables.apply(connection, switch, planned.edit, job.left_s(DATABASE_WITHIN_S))
    except (Refused, AdministratorError) as error:
        raise _not_written(error) from error
    vswitchd = daemons.find(job.paths, VSWITCHD)
    if vswitchd.state is not State.RUNNING:
        job.note("%s does not run, so the switch itself has not followed: run `ovsxen start`" % VSWITCHD)
    elif not ovsdb.wait_configured(connection, next_cfg, job.left_s(CONFIRM_WITHIN_S)):
        job.note("%s has not said within %.0f s that it followed: see `ovsxen status`" % (
            vswitchd.label, CONFIRM_WITHIN_S))


def _save_snapshot(job: Job, snapshot: Snapshot) -> None:
    try:
        path = snapshots.save(job.paths.dbdir, snapshot)
    except OSError as error:
        raise refused_by_system("what the reset would clear could not be written down in %s, so nothing was reset"
                                % job.paths.dbdir, error) from error
    job.note("what the reset cleared is in %s: `ovsxen emergency-reset --undo` brings it back" % path)


# The firewall

def _see_to_port(job: Job, manager: Optional[Target]) -> None:
    """The port for a controller that connects to this host; never fatal."""
    try:
        if manager is not None and manager.scheme == "pssl":
            firewall_port.open_port(job.paths, job.settings.firewall, DEFAULT_PORT, job.left_s(FIREWALL_WITHIN_S))
        else:
            firewall_port.close_port(job.paths, DEFAULT_PORT, job.left_s(FIREWALL_WITHIN_S))
    except OvsxenError as error:
        job.note(str(error))


# The report

def _report(job: Job, error: str) -> None:
    """What `ovsxen status` shows; where it cannot be written, that is only noted."""
    if job.dry_run:
        return
    try:
        write_update_report(job.paths.update_report, report_now(job.answer(), error, job.put_back))
    except OSError as refused:
        job.note(str(refused_by_system("`ovsxen status` will not know of this update", refused)))
