"""The plugin's update: make the switch agree with XAPI, once, and write nothing where it does. Read _update() first.

XAPI has no deadline for its plugins, and nobody sees what they answer; so the whole job has one here, and what came of
it is kept for `ovsxen status`. A read that failed leaves the switch as it is.
"""

from pathlib import Path
from typing import Dict, List, NamedTuple, NoReturn, Optional, Tuple

from ovsxen import secure
from ovsxen.answer import Answer, read_update_report, report_now, write_update_report
from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused, SwitchRefused, XapiFailure
from ovsxen.host import clock, files, firewall_port, pki
from ovsxen.host.clock import Deadline
from ovsxen.host.inventory import Backend, read_inventory, read_network_conf
from ovsxen.host.paths import Paths
from ovsxen.ovs import daemons, ovsdb, snapshots, tables
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, State
from ovsxen.ovs.flows import FlowRefused
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.tables import Change, Configuration, Leftovers, Snapshot, Ssl
from ovsxen.ovs.targets import DEFAULT_PORT, Target
from ovsxen.plan import FAIL_MODE, NO_CHANGE, Plan, Wanted, must_reset, plan, wanted_manager
from ovsxen.plan_reset import plan_undo
from ovsxen.secure import Guard, ManagementInterface
from ovsxen.sequence import Host, explain, refused_by_system, take_update_turn
from ovsxen.xapi import dbcache, records
from ovsxen.xapi.session import Xapi, connect

BUDGET_S = 30.0
DATABASE_WITHIN_S = 8.0
CONFIRM_WITHIN_S = 5.0
FIREWALL_WITHIN_S = 5.0
RECONFIGURE_WITHIN_S = 20.0
PASSES = 6
FLOWS_ADDED = "Added management flows.  "


class Physical(NamedTuple):
    """What XAPI has of this host's devices, and of those of the pool's other hosts."""

    host_ref: str
    pifs: Tuple[records.Pif, ...]
    bonds: Tuple[records.Bond, ...]
    vlans: Tuple[records.Vlan, ...]
    tunnels: Tuple[records.Tunnel, ...]


class Job:
    """One update: the host, its deadline, and what it has found out and done so far."""

    def __init__(self, host: Host, *, dry_run: bool) -> None:
        self.paths, self.settings = host
        self.deadline = Deadline(BUDGET_S)
        self.dry_run = dry_run
        self.done: List[str] = []
        self.changes: List[str] = []
        self.notes: List[str] = list(host.settings.problems)
        self.held: Dict[str, str] = {}
        self.unsure: Optional[Plan] = None
        before = read_update_report(host.paths.update_report)
        self.put_back: Dict[str, int] = dict(before.put_back) if before else {}
        self._physical: Optional[Physical] = None

    def note(self, text: str) -> None:
        """What somebody should look at, once."""
        if text not in self.notes:
            self.notes.append(text)

    def left_s(self, at_most_s: float) -> float:
        """Seconds for the next step."""
        return max(0.1, min(at_most_s, self.deadline.remaining_s()))

    def answer(self) -> Answer:
        return Answer("".join(dict.fromkeys(self.done)) or NO_CHANGE, tuple(self.changes), tuple(self.notes))

    def physical(self, xapi: Xapi) -> Physical:
        """Read when it is first needed. Raises OvsxenError."""
        if self._physical is None:
            self._physical = _read_physical(self.paths, xapi)
        return self._physical


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
    wanted = Wanted(manager, _ssl_for(job.paths, manager), pool.other_config.get(FAIL_MODE, ""), networks,
                    network_uuids)
    switch = _agree(job, xapi, wanted)
    if not job.dry_run:
        _see_to_port(job, manager)
        _forget_other_pins(job, wanted.ssl or switch.ssl)


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


def _read_physical(paths: Paths, xapi: Xapi) -> Physical:
    uuid = read_inventory(paths.inventory).uuid
    if not uuid:
        raise AdministratorError("%s has no INSTALLATION_UUID, so XAPI cannot be asked for this host" % paths.inventory,
                                 "put it back")
    return Physical(records.read_host_ref(xapi, uuid), records.read_pifs(xapi), records.read_bonds(xapi),
                    records.read_vlans(xapi), records.read_tunnels(xapi))


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
    with _database(job) as connection:
        switch = tables.read_configuration(connection, job.left_s(DATABASE_WITHIN_S))
        resets = must_reset(wanted, switch, job.settings.emer_reset)
        leftovers = tables.read_leftovers(connection, job.left_s(DATABASE_WITHIN_S)) if resets else None
        planned = plan(wanted, switch, job.held, leftovers)
        guard = _guard(job, xapi, connection, wanted, switch, planned)
        if job.held:
            planned = plan(wanted, switch, job.held, leftovers)
        for note in planned.notes:
            job.note(note)
        if planned.edit.is_empty or job.dry_run:
            _tell(job, job.unsure or planned)
            return switch
        _check_files(job.paths, wanted, switch, planned)
        _write_guarded(job, connection, switch, planned, leftovers, guard)
        _tell(job, planned)
        if guard is not None:
            _keep_guarded(job, connection, guard, Snapshot(_written_to(guard.bridge, planned),
                                                           leftovers.rows if leftovers else ()))
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
            _take_away(job, guard)
        raise


def _tell(job: Job, planned: Plan) -> None:
    job.done += planned.done
    job.changes += [str(change) for change in planned.edit.new_rows + planned.edit.changes]


def _database(job: Job) -> Connection:
    label = daemons.find(job.paths, OVSDB_SERVER).label
    return Connection(job.paths.db_sock, label, job.left_s(DATABASE_WITHIN_S))


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


# TLS

def _ssl_for(paths: Paths, manager: Optional[Target]) -> Optional[Ssl]:
    """One file for key and certificate; a controller's CA is pinned at first sight, or comes through the pool."""
    if manager is None:
        return None
    pem = str(paths.xapi_ssl_pem)
    if manager.scheme == "pssl":
        return Ssl(pem, pem, str(paths.sdn_controller_ca), False)
    return Ssl(pem, pem, str(paths.pinned_ca(manager.host)), True)


def _check_files(paths: Paths, wanted: Wanted, switch: Configuration, planned: Plan) -> None:
    """Before a manager or its TLS is written: the files can be used. Raises AdministratorError that names the file."""
    if wanted.ssl is None or not planned.edit.new_rows:
        return
    now_s = clock.wall_clock_s()
    pki.check_host_pem(Path(wanted.ssl.private_key), now_s)
    ca_cert = Path(wanted.ssl.ca_cert)
    if not wanted.ssl.bootstrap_ca_cert:
        pki.check_ca(ca_cert, now_s)
        return
    if _is_of_the_historic_plugin(paths, wanted, switch):
        pki.adopt_ca(paths.historic_ca, ca_cert, now_s)
    if ca_cert.exists():
        pki.check_ca(ca_cert, now_s)


def _is_of_the_historic_plugin(paths: Paths, wanted: Wanted, switch: Configuration) -> bool:
    """The switch has this very manager already, and trusts it by the file that was the same for every controller."""
    return switch.ssl is not None and Path(switch.ssl.ca_cert) == paths.historic_ca and str(wanted.manager) in {
        manager.target for manager in switch.managers}


def _forget_other_pins(job: Job, ssl: Optional[Ssl]) -> None:
    """The CA of a controller that XAPI has no more: should it come back, it is trusted at first sight again."""
    try:
        for name in pki.remove_other_pins(job.paths.dbdir, Path(ssl.ca_cert) if ssl else None):
            job.changes.append("%s removed" % (job.paths.dbdir / name))
    except OSError as error:
        job.note(str(refused_by_system("the CA of a former controller could not be removed", error)))


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


# Secure bridges

def _guard(job: Job, xapi: Xapi, connection: Connection, wanted: Wanted, switch: Configuration,
           planned: Plan) -> Optional[Guard]:
    """The flows for the management interface, in place, where the plan leaves its bridge secure without a controller.

    Where they cannot be, the bridge is held: nothing is written to it. Where it cannot be known which bridge it is, all
    that would turn secure are.
    """
    if not planned.secured:
        return None
    physical = job.physical(xapi)
    guarded = planned.secured
    try:
        management = secure.find_management(physical.host_ref, wanted.networks, physical.pifs, physical.bonds,
                                            physical.vlans)
        guarded = tuple({secure.bridge_of(management, switch)} & set(planned.secured)) if management else ()
        return _put_in_place(job, connection, management, switch, planned) if management and guarded else None
    except OvsxenError as error:
        for bridge in guarded:
            if _written_to(bridge, planned):
                job.held[bridge] = str(error)
            else:
                job.note("bridge %s is secure, and its management flows cannot be seen to: %s" % (bridge, error))
        return None


def _written_to(bridge: str, planned: Plan) -> Tuple[Change, ...]:
    return tuple(change for change in planned.edit.changes if change.table == "Bridge" and change.label == bridge)


def _put_in_place(job: Job, connection: Connection, management: ManagementInterface, switch: Configuration,
                  planned: Plan) -> Optional[Guard]:
    """The guard of a bridge that is about to be written to; one that stays as it is only gets what it lacks."""
    turns = bool(_written_to(secure.bridge_of(management, switch), planned))
    if turns:
        _require_untried(job, secure.bridge_of(management, switch))
    guard = secure.find_guard(connection, management, switch, job.deadline)
    if job.dry_run:
        return None
    if turns:
        try:
            secure.put_in_place(job.paths, guard, job.deadline)
        except OvsxenError:
            _take_away(job, guard)
            raise
        return guard
    if not secure.is_in_place(job.paths, guard, job.deadline):
        secure.put_in_place(job.paths, guard, job.deadline)
        job.changes.append("management flows added to bridge %s" % guard.bridge)
        job.done.append(FLOWS_ADDED)
    return None


def _take_away(job: Job, guard: Optional[Guard]) -> None:
    """Where the bridge does not turn secure after all: as far as that goes, the error is told already."""
    if guard is not None:
        try:
            secure.take_away(job.paths, guard, job.deadline)
        except OvsxenError as error:
            job.note("management flows may be left on bridge %s: %s" % (guard.bridge, error))


def _require_untried(job: Job, bridge: str) -> None:
    """A bridge that was put back is not tried again by the same ovs-vswitchd: it would be cut off for a while by every
    run. Raises AdministratorError.
    """
    if bridge in job.put_back and job.put_back[bridge] == _vswitchd_pid(job):
        raise AdministratorError("it lost its management flows when it turned secure, and was put back",
                                 "see the log of ovs-vswitchd, then run `ovsxen restart` and `ovsxen update`")


def _vswitchd_pid(job: Job) -> int:
    process = daemons.find(job.paths, VSWITCHD).process
    return process.pid if process else 0


def _keep_guarded(job: Job, connection: Connection, guard: Guard, written: Snapshot) -> None:
    """ovs-vswitchd threw the flows away when the bridge turned secure: add them again and see them, or put it back."""
    try:
        secure.put_in_place(job.paths, guard, job.deadline)
        job.put_back.pop(guard.bridge, None)
        return
    except FlowRefused as error:
        cause = error
    except OvsxenError as error:
        cause = FlowRefused(str(error), 1, guard.bridge, "")
    if _has_controller(connection, guard.bridge, job):
        job.note("the controller of bridge %s has replaced the management flows (%s)" % (guard.bridge, cause.problem))
        return
    job.put_back[guard.bridge] = _vswitchd_pid(job)
    _put_back(job, connection, guard, written, cause)


def _has_controller(connection: Connection, bridge: str, job: Job) -> bool:
    now = tables.read_configuration(connection, job.left_s(DATABASE_WITHIN_S))
    return any(one.name == bridge and one.controller.uuids for one in now.bridges)


def _put_back(job: Job, connection: Connection, guard: Guard, written: Snapshot, cause: FlowRefused) -> NoReturn:
    """Undo what this job wrote to the bridge. Raises SwitchRefused, always."""
    problem = "bridge %s lost its management flows when it turned secure (%s)" % (guard.bridge, cause.problem)
    try:
        now = tables.read_configuration(connection, job.left_s(DATABASE_WITHIN_S))
        undo = plan_undo(written, now, tables.read_leftovers(connection, job.left_s(DATABASE_WITHIN_S)))
        tables.apply(connection, now, undo.edit, job.left_s(DATABASE_WITHIN_S))
        job.changes += [str(change) for change in undo.edit.changes]
        secure.take_away(job.paths, guard, job.deadline)
    except OvsxenError as error:
        raise _not_secured("%s, and could not be put back (%s)" % (problem, error), cause) from error
    raise _not_secured("%s, so it was put back; everything else that XAPI wants was done" % problem, cause)


def _not_secured(problem: str, cause: FlowRefused) -> SwitchRefused:
    return SwitchRefused("VSWITCH_ADD_FLOW_FAILURE", (str(cause.returncode), cause.bridge, cause.flow), problem,
                         cause.remedy)


# The report

def _report(job: Job, error: str) -> None:
    """What `ovsxen status` shows; where it cannot be written, that is only noted."""
    if job.dry_run:
        return
    try:
        write_update_report(job.paths.update_report, report_now(job.answer(), error, job.put_back))
    except OSError as refused:
        job.note(str(refused_by_system("`ovsxen status` will not know of this update", refused)))
