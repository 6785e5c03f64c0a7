"""The phases of a boot up to the start of the database server. The sequence itself is in boot.py.

Each looks, acts where something is not right yet, and says what it did. In a dry run it leaves its acts out.
"""

import errno
import os
from pathlib import Path
from typing import Optional, Tuple

from ovsxen.errors import AdministratorError, NotInstalled, OvsxenError
from ovsxen.host import files, identity, kmod, proc
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import SOCKET_PATH_LIMIT, longest_socket_path
from ovsxen.ovs import confdb, confdb_plan, daemons, dblog, dbtool, launch
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, Meanwhile, State
from ovsxen.report import Outcome
from ovsxen.sequence import Result, Run, refused_by_system

LABEL_WITHIN_S = 10.0
LOG_WITHIN_S = 0.1
SERVER_IS_UP = "|ovsdb_server|INFO|ovsdb-server (Open vSwitch)"
"""What ovsdb-server logs when it has read its databases, just after its parent has exited."""


def prepare_host(run: Run) -> Result:
    """Programs, sockets that fit, directories."""
    paths = run.paths
    launch.require_programs()
    if longest_socket_path(paths) > SOCKET_PATH_LIMIT:
        raise AdministratorError("sockets in %s would have names of %d bytes, and Unix allows %d" % (
            paths.rundir, longest_socket_path(paths), SOCKET_PATH_LIMIT), "use a shorter root")
    if not paths.schema.is_file():
        raise NotInstalled("the schema %s is not there" % paths.schema, "install Open vSwitch, or set OVS_PKGDATADIR")
    made = _make_directories(run, ((paths.dbdir, 0o755), (paths.rundir, 0o755)))
    if daemons.find(run.paths, OVSDB_SERVER).state is not State.RUNNING:  # a switch that is up has what it needs
        require_writable(run)
    return made if made.names else Result(Outcome.UNCHANGED, "programs and directories are there")


def make_lasting_directories(run: Run) -> Result:
    """Those that both daemons write to, but for the one that each boot makes."""
    return _make_directories(run, ((run.paths.dbdir, 0o755),))


def _make_directories(run: Run, vital: Tuple[Tuple[Path, int], ...]) -> Result:
    """Make what is missing, with these modes, beside what a switch can do without."""
    useful = ((run.paths.logdir, 0o750), (run.paths.daemon_cwd, 0o755))
    missing = tuple(str(path) for path, _ in vital + useful if not path.is_dir())
    if not run.dry_run:
        for path, mode in vital:
            files.make_directory(path, mode)
        for path, mode in useful:
            _make_if_possible(run, path, mode)
        _label_and_own(run, missing)
    return Result(run.act() if missing else Outcome.UNCHANGED,
                  "make directories" if missing else "directories are there", missing)


def _make_if_possible(run: Run, path: Path, mode: int) -> None:
    """Make a directory for logs or core files. A switch comes up without."""
    try:
        files.make_directory(path, mode)
    except OSError as error:
        run.warn("%s cannot be made (%s): look at what lies there" % (path, error.strerror))


def require_writable(run: Run) -> None:
    """What a start of ovsdb-server writes to can be written to. Raises AdministratorError, NotPermitted."""
    for path in (run.paths.dbdir, run.paths.rundir):
        if path.is_dir() and not os.access(str(path), os.W_OK):
            read_only = os.statvfs(str(path)).f_flag & os.ST_RDONLY
            raise refused_by_system("a start cannot write", OSError(
                errno.EROFS if read_only else errno.EACCES, os.strerror(errno.EROFS if read_only else errno.EACCES),
                str(path)))


def require_room(run: Run) -> None:
    """A server that ends now could be started again: where there is no room, one that runs goes on, as far as it can.

    Raises AdministratorError.
    """
    if files.is_full(run.paths.dbdir) and daemons.find(run.paths, OVSDB_SERVER).state is State.RUNNING:
        raise refused_by_system("ovsdb-server would not start again", OSError(
            errno.ENOSPC, os.strerror(errno.ENOSPC), str(run.paths.dbdir)))


def _label_and_own(run: Run, missing_directories: Tuple[str, ...]) -> None:
    """New directories get SELinux's label where it is in use (openvswitch 778b01a36); with --ovs-user all files become
    that user's, at each start, because its number may change with an update of the host (6403a49f3)."""
    if missing_directories and run.paths.is_machine and proc.find_program("restorecon"):
        proc.run(("restorecon",) + missing_directories, LABEL_WITHIN_S)
    owner = launch.find_owner(run.settings.ovs_user)
    if owner != files.NOBODY:
        for directory in filter(Path.is_dir, (run.paths.dbdir, run.paths.rundir, run.paths.logdir)):
            files.give_to(directory, owner)
            for path in directory.iterdir():
                files.give_to(path, owner)


def load_module(run: Run) -> Result:
    """The kernel's part of the switch."""
    release = identity.kernel_release()
    modules = kmod.observe(run.paths, release)
    if modules.present:
        return Result(Outcome.UNCHANGED, "%s is %s" % (
            modules.present.name, "built into the kernel" if modules.present.builtin else "loaded"))
    if not modules.loadable:
        return Result(Outcome.SKIPPED, "this kernel loads no modules (%s is not there): userspace datapath only"
                      % run.paths.proc_modules)
    if run.dry_run:
        return Result(Outcome.WOULD, "load %s" % kmod.NAMES[0])
    from ovsxen.host import modprobe

    return Result(Outcome.DONE, modprobe.load(run.paths, release))


def prepare_database(run: Run) -> Result:
    """conf.db before anybody opens it: checked, and created, converted or recovered."""
    server = daemons.find(run.paths, OVSDB_SERVER)
    if server.state is State.RUNNING:
        if not run.dry_run:  # a start that was killed while it kept a copy left half of it
            confdb.remove_leftovers(confdb.find_leftovers(confdb.real_path(run.paths.conf_db), in_use=True))
        return Result(Outcome.UNCHANGED, "in use by %s" % server.label)
    confdb.require_free(run.paths.run_conf_db)
    taken = _take_over_left(run) if os.path.lexists(str(run.paths.run_conf_db)) else None
    if taken is not None and run.dry_run:
        return taken
    prepared = _prepare_file(run)
    if taken is None:
        return prepared
    outcome = Outcome.DONE if prepared.outcome is Outcome.UNCHANGED else prepared.outcome
    return prepared._replace(outcome=outcome, reason="%s; %s" % (taken.reason, prepared.reason))


def _take_over_left(run: Run) -> Optional[Result]:
    """The database that another package's server has left in the run directory, if any. Raises OSError."""
    from ovsxen.ovs import confdb_move  # once in the life of a host

    left = confdb_move.find_left(run.paths)
    if run.dry_run:
        return Result(Outcome.WOULD, "take over what is in %s" % left) if left else None
    if left is None:
        confdb_move.forget_moved(run.paths)
        return None
    owner = launch.find_owner(run.settings.ovs_user)
    return Result(Outcome.DONE, confdb_move.move_left(run.paths, left, lambda path: files.give_to(path, owner)))


def _prepare_file(run: Run) -> Result:
    """The file itself, which no server has open."""
    found = run.checked = confdb.observe(run.paths.conf_db, run.paths.schema)
    planned = confdb_plan.plan(found)
    if run.guards_bridges and found.log.kind is not dblog.Kind.GOOD:
        from ovsxen.ovs import losses  # few conf.db are lost under a switch that runs

        losses.require_bridges(run.paths, found.assessed, run.settings.answer_timeout_s)
    if run.dry_run:
        outcome = Outcome.WOULD if planned.steps else Outcome.UNCHANGED
        reason = "; ".join(filter(None, (str(planned.recovery or ""), planned.reason)))
        return Result(Outcome.DEGRADED if planned.degraded else outcome, reason)
    if not planned.steps and not found.leftovers:
        return Result(Outcome.DEGRADED if planned.degraded else Outcome.UNCHANGED, planned.reason)
    from ovsxen.ovs import confdb_apply  # most starts find conf.db as it should be

    owner = launch.find_owner(run.settings.ovs_user)
    applied = confdb_apply.apply(found, planned, run.paths.schema, lambda path: files.give_to(path, owner))
    if confdb_plan.Repair.CONVERT in planned.steps:
        run.checked = found._replace(log=dblog.check(found.path, dbtool.DATABASE))
    reason = "; ".join(filter(None, (str(applied.recovery or ""), planned.reason, applied.trouble)))
    if applied.trouble or planned.degraded:
        return Result(Outcome.DEGRADED, reason)
    return Result(Outcome.DONE if planned.steps else Outcome.UNCHANGED, reason)


def start_ovsdb_server(run: Run) -> Result:
    """The database server. While it starts, what talks to it is imported."""
    server = daemons.find(run.paths, OVSDB_SERVER)
    if server.state is State.RUNNING:
        return _adopt_server(run, server)
    if run.dry_run:
        return Result(Outcome.WOULD, "start it on %s" % run.paths.conf_db)
    size_bytes = run.checked.log.size_bytes if run.checked else 0
    within_s = run.settings.start_timeout_s + dbtool.allowance_s(size_bytes)
    extra_dbs, warnings = launch.usable_extra_dbs(run.paths, run.settings)
    for warning in warnings:
        run.warn(warning)
    prepare_to_run(run, OVSDB_SERVER)
    log_began = daemons.log_size(run.paths, OVSDB_SERVER)
    server = daemons.start(run.paths, launch.ovsdb_server_argv(run.paths, run.settings, extra_dbs),
                           run.settings.ovsdb_server_priority, within_s,
                           Meanwhile(once=lambda: _prepare_to_talk(run)))
    run.server_started = True
    refused = _find_refusal(run, log_began)
    if refused:
        return Result(Outcome.DEGRADED, _keep_refused(run, server, refused))
    return Result(Outcome.DONE, "%s started" % server.label)


def _adopt_server(run: Run, server: Daemon) -> Result:
    """A server that runs. Where the start that it is from was killed, nobody has looked yet what it did not take."""
    daemons.require_pidfile(run.paths, server, dry_run=run.dry_run)
    moved = _move_served(run, server)
    if moved is not None:
        return moved
    refused = "" if run.follows_an_ended_start else _ask_for_refusal(run)
    if refused and run.dry_run:
        return Result(Outcome.WOULD, "keep conf.db aside as it is: %s" % refused)
    if refused:
        return Result(Outcome.DEGRADED, _keep_refused(run, server, refused))
    return Result(Outcome.UNCHANGED, "%s runs" % server.label)


def _move_served(run: Run, server: Daemon) -> Optional[Result]:
    """Have a server that another package has started serve conf.db where ovsxen has it; None where it does."""
    if not os.path.lexists(str(run.paths.run_conf_db)):
        return None
    from ovsxen.ovs import confdb_move  # once in the life of a host

    if run.dry_run:
        would = confdb_move.is_to_move(run.paths, server)
        return Result(Outcome.WOULD, "move its database to %s" % run.paths.conf_db) if would else None
    try:
        moved = confdb_move.move_served(run.paths, server, compaction_within_s(run))
    except OvsxenError as error:
        return Result(Outcome.DEGRADED, str(error))
    return Result(Outcome.DONE, moved) if moved else None


def compaction_within_s(run: Run) -> float:
    """What a server that runs has for writing its whole database."""
    sizes = [path.stat().st_size for path in (run.paths.conf_db, run.paths.run_conf_db) if path.is_file()]
    return run.settings.answer_timeout_s + dbtool.allowance_s(max(sizes, default=0))


def _find_refusal(run: Run, log_began: int) -> str:
    """What the server, just started, did not take of conf.db: it says so in its log, and nowhere else.

    The log counts where it also has the line that follows; it may be off in part or whole, full, or not writable.
    """
    def read_log(mark: str) -> Tuple[str, ...]:
        return daemons.logged_since(run.paths, OVSDB_SERVER, log_began, (mark,))

    logs = daemons.log_size(run.paths, OVSDB_SERVER) > log_began
    if logs and Deadline(LOG_WITHIN_S).wait_until(lambda: bool(read_log(SERVER_IS_UP)), every_s=0.001):
        return "; ".join(read_log("|ovsdb_server|ERR|"))
    return _ask_for_refusal(run)


def _ask_for_refusal(run: Run) -> str:
    """What ovsdb-tool would not take of the file that the server has open; "" where there is no such file.

    A complaint counts when it is made twice: the server may have been in the midst of appending a record.
    """
    path = confdb.real_path(run.paths.conf_db)
    if not path.is_file():
        return ""
    return dbtool.find_refusal(path, path.stat().st_size) and dbtool.find_refusal(path, path.stat().st_size)


def _keep_refused(run: Run, server: Daemon, said: str) -> str:
    """Keep what the server did not take of conf.db, before its first write cuts it off; else stop it again.

    Then the server writes a whole file of what it has: the record that it refused may be in the midst of the old.
    """
    from ovsxen.ovs import confdb_apply  # once in the life of a host, if ever

    run.checked = None  # what was checked is not what is served
    try:
        recovery = confdb_apply.keep_refused(run.paths.conf_db, said)
    except OSError:
        daemons.stop(run.paths, OVSDB_SERVER)
        raise
    daemons.ask(run.paths, server, "ovsdb-server/compact", (), run.settings.start_timeout_s)
    return str(recovery)


def _prepare_to_talk(run: Run) -> None:
    """Import what talks to the server, and look for what must not talk to it yet."""
    run.stray_vswitchd = daemons.find_anywhere(run.paths, VSWITCHD)
    import ovsxen.phases_online  # noqa: F401


def prepare_to_run(run: Run, name: str) -> None:
    """What both daemons need before they start: limits, and a log that can be written, or a warning."""
    launch.raise_limits(run.settings)
    if not daemons.can_log(run.paths, name):
        run.warn("%s cannot be written, so %s logs its errors to syslog only: mend it and run "
                 "`ovsxen restart`" % (run.paths.log(name), name))
