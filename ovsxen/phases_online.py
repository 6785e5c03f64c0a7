"""The phases of a boot that talk to the database server. The sequence itself is in boot.py.

Importing this module imports what the conversation needs. It is done while the server starts.
"""

from pathlib import Path
from typing import Callable, Optional

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError
from ovsxen.host import firewall, identity, process
from ovsxen.host.clock import Deadline
from ovsxen.host.inventory import read_inventory
from ovsxen.ovs import confdb, daemons, dblog, dbtool, generations, launch, ovsdb
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, Meanwhile, State
from ovsxen.ovs.dblog import Kind
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.phases_offline import prepare_to_run
from ovsxen.plan_boot import Identity, Moment, plan_boot
from ovsxen.report import Outcome
from ovsxen.sequence import Configured, Result, Run

SECONDS_PER_BRIDGE = 0.2
WAIT_SLICE_S = 0.5


def configure(run: Run) -> Result:
    """The one transaction: the host's identity, the purge of last boot's bridges with its marker, no stale flags."""
    wanted = _wanted_identity(run)
    return ovsdb.until_unchanged(lambda: _configure(run, wanted))


def _configure(run: Run, wanted: Identity) -> Result:
    switch = _read_switch(run)
    planned = plan_boot(switch, wanted, Moment(
        boot_id=run.boot_id, server_started=run.server_started,
        vswitchd_running=run.keeps_bridges or _find_vswitchd(run).state is State.RUNNING,
        purged_before=run.paths.historic_booted_marker.exists(), always_purge=run.settings.delete_bridges))
    next_cfg = switch.row.next_cfg if switch.row else 0
    if planned.changes != ovsdb.Changes() and not run.dry_run:
        try:
            with open_database(run) as connection:
                next_cfg = ovsdb.apply(connection, switch, planned.changes, _answer_within_s(run, switch))
        except AdministratorError as error:  # the disk: a switch that was prepared in this boot comes up all the same
            if not planned.can_wait:
                raise
            run.configured = Configured(switch, (), next_cfg)
            return Result(Outcome.DEGRADED, str(error))
    run.configured = Configured(switch, planned.purged, next_cfg)
    if planned.changes == ovsdb.Changes():
        return Result(Outcome.UNCHANGED, planned.why)
    if planned.purged:
        return Result(run.act(), "purge %d bridge(s): %s" % (len(planned.purged), planned.why), planned.purged)
    keys = [name for name, _ in planned.changes.columns + planned.changes.external_ids]
    keys += ["no " + key for key in planned.changes.drop_other_config]
    return Result(run.act(), "; ".join(filter(None, ("set " + ", ".join(keys) if keys else "", planned.why))))


def _answer_within_s(run: Run, switch: ovsdb.Switch) -> float:
    """A purge of very many bridges takes the server a while: 0.05 ms each were measured."""
    return run.settings.answer_timeout_s + len(switch.bridges) / 1000.0


def _read_switch(run: Run) -> ovsdb.Switch:
    """From the server; in a dry run without one, from the file that it would open."""
    if run.dry_run and daemons.find(run.paths, OVSDB_SERVER).state is not State.RUNNING:
        return _preview_switch(run.checked)
    with open_database(run) as connection:
        return ovsdb.read_switch(connection, run.settings.answer_timeout_s)


def _preview_switch(found: Optional[confdb.Found]) -> ovsdb.Switch:
    if found is None:
        return ovsdb.Switch(None, (), ())
    with confdb.preview(found.assessed) as path:
        return ovsdb.query_file(path, found.log.size_bytes) if path else ovsdb.Switch(None, (), ())


def open_database(run: Run) -> Connection:
    """A connection to the server of this host. Raises NoAnswer, NotPermitted."""
    label = daemons.find(run.paths, OVSDB_SERVER).label
    return Connection(run.paths.db_sock, label, run.settings.answer_timeout_s)


def _wanted_identity(run: Run) -> Identity:
    read, chosen = read_inventory(run.paths.inventory), run.settings
    for problem in read.problems:
        run.warn(problem)
    version = ""
    try:
        version = _find_version(run)
    except OvsxenError as error:
        run.warn("ovs_version stays as it is in the database: %s" % error)
    schema = run.checked.installed if run.checked else confdb.read_installed_schema(run.paths.schema)
    return Identity(
        ovs_version=version, db_version=schema.version, system_id=chosen.system_id or read.uuid,
        system_type=chosen.system_type or read.brand, system_version=chosen.system_version or read.version,
        rundir=str(run.paths.rundir), external_ids=chosen.external_ids)


def _find_version(run: Run) -> str:
    """The version that this start brings up, by the word of the server that it started, which is of the same package as
    ovs-vswitchd and costs no other process; by ovs-vswitchd's where the server ran before. Raises OvsxenError.
    """
    if run.server_started:
        server = daemons.find(run.paths, OVSDB_SERVER)
        return daemons.version_in(OVSDB_SERVER, daemons.ask(run.paths, server, "version", (),
                                                            run.settings.answer_timeout_s))
    return daemons.read_installed_version(VSWITCHD)


def start_vswitchd(run: Run) -> Result:
    """The switch itself. Started means configured: it says so in the database. While it starts, conf.db is copied."""
    running = _find_vswitchd(run)
    within_s = vswitchd_within_s(run)
    if running.state is State.RUNNING:
        daemons.require_pidfile(run.paths, running, dry_run=run.dry_run)
        if run.dry_run:
            return Result(Outcome.UNCHANGED, "%s runs" % running.label)
        daemons.ask(run.paths, running, "version", (), run.settings.answer_timeout_s)
        _wait_connected(run, running, within_s)
        return _await_configured(run, running, within_s) \
            or Result(Outcome.UNCHANGED, "%s runs and is configured" % running.label)
    if run.dry_run:
        return Result(Outcome.WOULD, "start it")
    deadline = Deadline(within_s)
    prepare_to_run(run, VSWITCHD)
    started = daemons.start(run.paths, launch.vswitchd_argv(run.paths, run.settings),
                            run.settings.vswitchd_priority, within_s,
                            Meanwhile(once=lambda: keep_generation(run), why_in_vain=lambda: _why_no_server(run)))
    return _await_configured(run, started, deadline.remaining_s()) \
        or Result(Outcome.DONE, "%s started and configured" % started.label)


def _why_no_server(run: Run) -> str:
    """ovs-vswitchd is ready once it has the database. It goes on waiting for that by itself."""
    return "" if daemons.is_running(run.paths, OVSDB_SERVER) else "%s ended" % OVSDB_SERVER


def _await_configured(run: Run, vswitchd: Daemon, within_s: float) -> Optional[Result]:
    """None once ovs-vswitchd has said that it has configured all; a result where the disk keeps it from saying so."""
    try:
        wait_configured(run, vswitchd, _next_cfg(run), within_s)
    except AdministratorError as error:
        return Result(Outcome.DEGRADED, "%s runs, and cannot tell whether it is configured: %s" % (
            vswitchd.label, error))
    return None


def _find_vswitchd(run: Run) -> Daemon:
    """Also one whose pidfile is gone: two must never run, and bridges are not purged under one."""
    if run.stray_vswitchd is None:
        run.stray_vswitchd = daemons.find_anywhere(run.paths, VSWITCHD)
    found = daemons.find(run.paths, VSWITCHD)
    return found if found.state is State.RUNNING else run.stray_vswitchd


def vswitchd_within_s(run: Run) -> float:
    """Seconds that ovs-vswitchd has to configure what the database says: more with many bridges."""
    left = len(run.configured.switch.bridges) - len(run.configured.purged) if run.configured else 0
    return run.settings.start_timeout_s + SECONDS_PER_BRIDGE * left


def _wait_connected(run: Run, vswitchd: Daemon, within_s: float) -> None:
    """A vswitchd that lost its server tries again by itself, within 8 s."""
    server = daemons.find(run.paths, OVSDB_SERVER)

    def are_linked() -> bool:
        _require_alive(run, vswitchd)
        _require_alive(run, server)
        return daemons.are_linked(server, vswitchd) is not False

    if not Deadline(within_s).wait_until(are_linked, every_s=0.05):
        raise NoAnswer("%s is not connected to %s" % (vswitchd.label, server.label),
                       "see %s, then run `ovsxen restart`" % run.paths.log(VSWITCHD))


def _next_cfg(run: Run) -> int:
    return run.configured.next_cfg if run.configured else 0


def wait_configured(run: Run, vswitchd: Daemon, next_cfg: int, within_s: float) -> None:
    """Wait until ovs-vswitchd says that it has configured this.

    Raises NoAnswer, at once where it has ended; AdministratorError where the disk refuses that anything is said.
    """
    deadline, answer_s = Deadline(within_s), run.settings.answer_timeout_s
    with open_database(run) as connection:
        if ovsdb.wait_configured(connection, next_cfg, deadline.at_most_s(WAIT_SLICE_S), answer_s):
            return
        ovsdb.touch(connection, answer_s)  # refused, where ovs-vswitchd's word would be too
        while not ovsdb.wait_configured(connection, next_cfg, deadline.at_most_s(WAIT_SLICE_S), answer_s):
            _require_alive(run, vswitchd)
            if deadline.has_passed():
                raise NoAnswer("%s has not configured what the database says after %g s" % (vswitchd.label, within_s),
                               "it goes on; see %s and `ovsxen status`" % run.paths.log(VSWITCHD))


def _require_alive(run: Run, one: Daemon) -> None:
    if one.process is None:
        return
    now = process.look_again(one.process)
    if now is None:
        raise NoAnswer("%s ended meanwhile" % one.label, "see %s" % run.paths.log(one.name))
    if now.is_halted:
        raise NoAnswer("%s does not answer" % now.label, now.remedy)


def keep_generation(run: Run) -> None:
    """Copy what was checked of conf.db to a good generation; where that fails, a warning: the host is up.

    Under a server that ran before, it is checked now: the start that it is from may have been killed before its copy.
    Should the server be in the midst of a record, there is no copy this time.
    """
    if run.checked is None and run.server_started:
        return  # what was checked is not what the server took
    keep_copy(run, generations.keep)


def keep_copy(run: Run, keep: Callable[[Path, int, dblog.Log], object]) -> None:
    """Have `keep` copy the good part of conf.db, given its path, the open file, and what is in it."""
    path = confdb.real_path(run.paths.conf_db)
    try:
        with open(str(path), "rb") as stream:
            log = run.checked.log if run.checked else dblog.check_stream(stream, dbtool.DATABASE)
            if log.kind is Kind.GOOD:
                keep(path, stream.fileno(), log)
    except OSError as error:
        run.warn("no copy of %s could be kept (%s): make room in %s, and the next restart "
                 "keeps one" % (path, error.strerror, path.parent))


def guard_management(run: Run) -> Result:
    """The flows that carry this host's management traffic over a secure bridge, which ended with ovs-vswitchd."""
    if not run.paths.guard.exists():
        return Result(Outcome.SKIPPED, "no bridge needs flows of ours")
    from ovsxen.ovs import flows, guard, switching, tables  # few hosts are secure

    remembered, within_s = guard.read_guard(run.paths), run.settings.answer_timeout_s
    if remembered is None:
        return Result(Outcome.SKIPPED, "no bridge needs flows of ours")
    if run.dry_run:
        return Result(Outcome.WOULD, "see that bridge %s has its management flows" % remembered.bridge)
    with open_database(run) as connection:
        bridges = {one.name: one for one in switching.read_switching(connection, within_s).bridges}
        names = tuple(name for name, _ in remembered.ports)
        there = tuple((one.name, one.ofport) for one in tables.read_interfaces(connection, names, within_s))
    bridge = bridges.get(remembered.bridge)
    if bridge is None or not bridge.is_secure:
        return Result(Outcome.SKIPPED, "bridge %s is not secure any more" % remembered.bridge)
    if flows.has_flows(run.paths, bridge.name, remembered.flows, within_s):
        return Result(Outcome.UNCHANGED, "bridge %s has its management flows" % bridge.name)
    if there != remembered.ports:
        raise AdministratorError("bridge %s lost its management flows, and its ports are others now" % bridge.name,
                                 "run `ovsxen update`, which finds them anew")
    flows.add_flows(run.paths, bridge.name, remembered.flows, within_s)
    return Result(Outcome.DONE, "bridge %s has its management flows again" % bridge.name)


def mend_interfaces(run: Run) -> Result:
    """What a restart that was killed or failed has left: flows lost, addresses and routes lost, and HA stopped."""
    if not any(path.exists() for path in (run.paths.kept_flows, run.paths.kept_interfaces, run.paths.ha_stopped)):
        return Result(Outcome.SKIPPED, "nothing was left half done")
    if run.dry_run:
        return Result(Outcome.WOULD, "put back flows, addresses and routes, and start HA")
    from ovsxen import left_over  # few starts need it

    return left_over.mend(run)


def attach_managers(run: Run) -> Result:
    """Let the managers in the database connect, also to a host whose switch did not come up."""
    server = daemons.find(run.paths, OVSDB_SERVER)
    if run.dry_run and server.state is not State.RUNNING:
        return Result(Outcome.WOULD, "let the managers in the database connect")
    if daemons.managers_are_attached(run.paths, server, run.settings.answer_timeout_s):
        return Result(Outcome.UNCHANGED, "already attached")
    if not run.dry_run:
        daemons.attach_managers(run.paths, server, run.settings.answer_timeout_s)
    return Result(run.act(), "let the managers in the database connect")


def record_hostname(run: Run) -> Result:
    """external_ids:hostname where it is unset; never changed once it is set (openvswitch 2221e8b03)."""
    if not run.settings.record_hostname:
        return Result(Outcome.SKIPPED, "--no-record-hostname")
    known = _hostname(run.configured.switch) if run.configured else ""
    if known:
        return Result(Outcome.UNCHANGED, known)
    name = identity.find_hostname(full=run.settings.full_hostname)
    return ovsdb.until_unchanged(lambda: _record_hostname(run, name))


def _record_hostname(run: Run, name: str) -> Result:
    switch = _read_switch(run)
    if _hostname(switch):
        return Result(Outcome.UNCHANGED, _hostname(switch))
    if not run.dry_run:
        with open_database(run) as connection:
            ovsdb.apply(connection, switch, ovsdb.Changes(external_ids=(("hostname", name),)),
                        run.settings.answer_timeout_s)
    return Result(run.act(), name)


def _hostname(switch: ovsdb.Switch) -> str:
    return switch.row.external_ids.get("hostname", "") if switch.row else ""


def open_firewall(run: Run) -> Result:
    """GRE into dom0, for cross-host internal networks."""
    if not run.paths.is_machine:
        return Result(Outcome.SKIPPED, "the firewall of the machine is not this root's")
    rule = firewall.allow_gre(dry_run=run.dry_run)
    return Result(run.act() if rule is firewall.GreRule.ADDED else Outcome.UNCHANGED, rule.value)
