"""What there is to see of a host, read and not judged: status.py makes the verdict of it.

Nothing here changes anything, and every question has a deadline: a daemon that does not answer is not running, whatever
holds its lock.
"""

from enum import Enum
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from ovsxen import divert, gate, sync_report
from ovsxen.answer import UpdateReport, read_update_report
from ovsxen.errors import AdministratorError, NoAnswer, NotPermitted, OvsxenError, Refused
from ovsxen.host import detach, files, identity, inventory, kmod, process
from ovsxen.host.clock import MACHINE_CLOCK
from ovsxen.host.inventory import NetworkConf
from ovsxen.host.kmod import KernelModules
from ovsxen.host.paths import Paths
from ovsxen.host.process import Process
from ovsxen.ovs import confdb, daemons, dblog, dbtool, flows_file, generations, ovsdb
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, XAPI_SYNC, Daemon, State
from ovsxen.ovs.dblog import Kind, Log
from ovsxen.ovs.generations import Recovery
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.report import Report, read_report
from ovsxen.sequence import Host
from ovsxen.sync_report import SyncReport
from ovsxen.watch_report import WatchReport, read_watch_report


class Health(Enum):
    """A daemon: it answers, it is there and does not, its pidfile is there and nobody holds it, or there is none."""

    RUNNING = "running"
    HUNG = "hung"
    DEAD = "dead"
    STOPPED = "stopped"


class Link(Enum):
    """Between the daemons: connected, not, connected with the configuration not done in time, or not to be seen."""

    UP = "up"
    DOWN = "down"
    BEHIND = "behind"
    UNKNOWN = "unknown"


class SeenDaemon(NamedTuple):
    """A daemon, with the version that it says it is, and why it is taken for hung."""

    daemon: Daemon
    health: Health
    version: str = ""
    why_hung: str = ""
    pidfile_problem: str = ""

    @property
    def pid(self) -> Optional[int]:
        return self.daemon.process.pid if self.daemon.process else None

    @property
    def is_stopped(self) -> bool:
        """By a signal: somebody can continue it."""
        return self.daemon.process is not None and self.daemon.process.is_stopped

    @property
    def is_traced(self) -> bool:
        """Stopped by a debugger."""
        return self.daemon.process is not None and self.daemon.process.is_traced


class SeenSwitch(NamedTuple):
    """What the database server tells: None and a problem where it could not."""

    switch: Optional[ovsdb.Switch] = None
    link: Link = Link.UNKNOWN
    managers_may_connect: bool = True
    problem: str = ""


class Watch(NamedTuple):
    """The daemon that watches the switch: who it is, where it lives, and what it last wrote in this boot."""

    process: Optional[Process] = None
    report: Optional[WatchReport] = None
    is_stale: bool = False
    has_room: bool = True


class SeenSync(NamedTuple):
    """The sync of this host, and what it says of itself; None where it does not say it, or is none of ovsxen's."""

    daemon: SeenDaemon
    report: Optional[SyncReport] = None


class Seen(NamedTuple):
    """Everything that a look at the host gives. `disabled` is network.conf where it does not ask for the switch.
    `lost_flows`: the bridges whose flows a restart kept, and which are without them since.
    """

    paths: Paths
    disabled: Optional[NetworkConf]
    server: SeenDaemon
    vswitchd: SeenDaemon
    switch: SeenSwitch
    modules: KernelModules
    conf_db: Path
    log: Log
    server_has_it_open: bool
    boot_id: str
    report: Optional[Report]
    update: Optional[UpdateReport]
    update_under_way: bool
    start_under_way: bool
    worker: Optional[Process]
    recoveries: Tuple[Tuple[Path, Recovery], ...]
    watch: Watch
    sync: SeenSync
    disk_is_full: bool
    interfaces_kept: bool
    lost_flows: Tuple[str, ...]
    ha_stopped: bool
    warnings: Tuple[str, ...]


def look(host: Host) -> Seen:
    """Look and ask. Raises NotPermitted where this user may not, AdministratorError where a file cannot be read."""
    paths, within_s = host.paths, host.settings.answer_timeout_s
    server, vswitchd = (look_at_daemon(paths, name, within_s) for name in (OVSDB_SERVER, VSWITCHD))
    conf_db = confdb.real_path(paths.conf_db)
    boot_id = identity.read_boot_id(paths)
    warnings = (host.settings.problems + inventory.read_inventory(paths.inventory).problems
                + divert.warn_of_another(paths))
    lost_flows: Tuple[str, ...] = ()
    try:
        lost_flows = flows_file.find_lost(paths, flows_file.holder_of(boot_id, vswitchd.daemon.process))
    except AdministratorError as error:  # of one small part of what there is to see
        warnings += (str(error),)
    return Seen(
        paths=paths, disabled=gate.why_disabled(paths), server=server, vswitchd=vswitchd,
        switch=_ask_server(host, server, vswitchd), modules=kmod.observe(paths, identity.kernel_release()),
        conf_db=conf_db, log=_check(conf_db, server), server_has_it_open=_has_open(server, conf_db),
        boot_id=boot_id, report=read_report(paths.boot_report, boot_id),
        update=read_update_report(paths.update_report), update_under_way=process.is_locked(paths.update_turn),
        start_under_way=process.is_locked(paths.turn), worker=process.find_flock_holder(paths.turn),
        recoveries=generations.read_recoveries(conf_db),
        watch=_look_at_watch(paths, boot_id), sync=_look_at_sync(paths, within_s),
        disk_is_full=files.is_full(conf_db.parent), interfaces_kept=paths.kept_interfaces.exists(),
        lost_flows=lost_flows, ha_stopped=paths.ha_stopped.exists(), warnings=warnings)


def look_at_daemon(paths: Paths, name: str, within_s: float) -> SeenDaemon:
    """Turn what the lock says into what the daemon itself says. Raises NotPermitted."""
    daemon = daemons.find_anywhere(paths, name)
    if daemon.state is not State.RUNNING:
        return SeenDaemon(daemon, Health.DEAD if daemon.state is State.DEAD else Health.STOPPED)
    if daemon.process is not None and daemon.process.is_halted:
        return SeenDaemon(daemon, Health.HUNG, why_hung="%s does not answer" % daemon.process.label)
    try:
        said = daemons.ask(paths, daemon, "version", (), within_s)
    except NotPermitted:
        raise
    except OvsxenError as error:
        return SeenDaemon(daemon, Health.HUNG, why_hung=error.problem)
    return SeenDaemon(daemon, Health.RUNNING, version=daemons.version_in(name, said),
                      pidfile_problem=str(daemons.find_pidfile_problem(paths, daemon) or ""))


def _look_at_sync(paths: Paths, within_s: float) -> SeenSync:
    daemon = look_at_daemon(paths, XAPI_SYNC, within_s)
    if daemon.health is not Health.RUNNING:
        return SeenSync(daemon)
    try:
        said = daemons.ask(paths, daemon.daemon, sync_report.COMMAND, (), within_s)
        return SeenSync(daemon, sync_report.parse_report(said))
    except Refused:  # another program of this name, or another version of this one
        return SeenSync(daemon)
    except NoAnswer as error:
        return SeenSync(daemon._replace(health=Health.HUNG, why_hung=error.problem))


def _look_at_watch(paths: Paths, boot_id: str) -> Watch:
    report = read_watch_report(paths.watch_report, boot_id)
    now = detach.find_holder(paths.daemon_pidfile)
    return Watch(now, report, report is not None and now is not None and report.pid == now.pid
                 and report.is_stale(MACHINE_CLOCK.monotonic()), not files.is_full(paths.rundir))


def _ask_server(host: Host, server: SeenDaemon, vswitchd: SeenDaemon) -> SeenSwitch:
    """What only the database server can tell."""
    if server.health is not Health.RUNNING:
        return SeenSwitch()
    within_s = host.settings.answer_timeout_s
    try:
        with Connection(host.paths.db_sock, server.daemon.label, within_s) as connection:
            switch = ovsdb.read_switch(connection, within_s)
            attached = daemons.managers_are_attached(host.paths, server.daemon, within_s)
            if vswitchd.health is not Health.RUNNING or daemons.are_linked(server.daemon, vswitchd.daemon) is False:
                return SeenSwitch(switch, Link.DOWN, attached)
            next_cfg = switch.row.next_cfg if switch.row else 0
            done = ovsdb.wait_configured(connection, next_cfg, within_s)
            return SeenSwitch(switch, Link.UP if done else Link.BEHIND, attached)
    except NotPermitted:
        raise
    except OvsxenError as error:
        return SeenSwitch(problem=error.problem)


def _check(conf_db: Path, server: SeenDaemon) -> Log:
    log = dblog.check(conf_db, dbtool.DATABASE)
    if log.kind is Kind.DAMAGED and server.daemon.state is State.RUNNING:
        return dblog.check(conf_db, dbtool.DATABASE)  # the server may have been in the middle of appending a record
    return log


def _has_open(server: SeenDaemon, conf_db: Path) -> bool:
    """The server has this very file open; taken as true where that cannot be seen."""
    if server.daemon.process is None:
        return True
    try:
        return process.has_open(server.daemon.process.pid, conf_db)
    except OSError:
        return True
