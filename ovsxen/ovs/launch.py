"""What the daemons are started with: command lines as ovs-ctl builds them, limits, their user, the databases served."""

import os
import resource
from typing import Tuple

from ovsxen.errors import AdministratorError, NotInstalled
from ovsxen.host import proc
from ovsxen.host.files import NOBODY, Owner
from ovsxen.host.paths import Paths
from ovsxen.host.settings import Settings
from ovsxen.ovs import daemons, dbtool
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD

PROGRAMS = (OVSDB_SERVER, VSWITCHD, "ovsdb-tool")
OPEN_FILES = 65535
CORE_BYTES = 67108864 * 1024
"""ovs-ctl's `ulimit -c 67108864`, whose unit in bash is 1024 bytes."""


def require_programs() -> None:
    """Raises NotInstalled where a program of Open vSwitch is missing."""
    missing = [name for name in PROGRAMS if proc.find_program(name) is None]
    if missing:
        raise NotInstalled("Open vSwitch is not installed: %s not found in %s" % (
            ", ".join(missing), ":".join(proc.search_path())), "install openvswitch")


def ovsdb_server_argv(paths: Paths, settings: Settings, extra_dbs: Tuple[str, ...]) -> Tuple[str, ...]:
    """As `ovs-ctl start` builds it (utilities/ovs-ctl.in, 2.17 to 4.0). Managers are no --remote: they come last.

    Syslog at err only: at info it stalled the daemons for seconds on XenServer (openvswitch 6bc995e46).
    """
    return _argv(paths, OVSDB_SERVER, (str(paths.conf_db),) + extra_dbs + _confined(
        settings) + (
        "-vconsole:emer", "-vsyslog:err", "-vfile:info",
        "--remote=punix:%s" % paths.db_sock,
        "--private-key=db:Open_vSwitch,SSL,private_key",
        "--certificate=db:Open_vSwitch,SSL,certificate",
        "--bootstrap-ca-cert=db:Open_vSwitch,SSL,ca_cert") + _user(settings) + settings.ovsdb_server_options)


def vswitchd_argv(paths: Paths, settings: Settings) -> Tuple[str, ...]:
    """As `ovs-ctl start` builds it (utilities/ovs-ctl.in, 2.17 to 4.0)."""
    return _argv(paths, VSWITCHD, (
        "unix:%s" % paths.db_sock, "-vconsole:emer", "-vsyslog:err", "-vfile:info")
        + (("--mlockall",) if settings.mlockall else ())
        + _confined(settings) + _user(settings) + settings.vswitchd_options)


def _argv(paths: Paths, name: str, arguments: Tuple[str, ...]) -> Tuple[str, ...]:
    log = ("--log-file=%s" % paths.log(name),) if daemons.can_log(paths, name) else ()
    return (name,) + arguments + ("--no-chdir",) + log + (
        "--pidfile=%s" % paths.pidfile(name), "--detach")


def _confined(settings: Settings) -> Tuple[str, ...]:
    return () if settings.self_confinement else ("--no-self-confinement",)


def _user(settings: Settings) -> Tuple[str, ...]:
    return ("--user", settings.ovs_user) if settings.ovs_user else ()


def raise_limits(settings: Settings) -> None:
    """Let the daemons, which inherit it, dump core and open files; never lower what is set (openvswitch bfe4277e6)."""
    if settings.force_corefiles:
        _raise_limit(resource.RLIMIT_CORE, CORE_BYTES)
    _raise_limit(resource.RLIMIT_NOFILE, OPEN_FILES)


def _raise_limit(limit: int, wanted: int) -> None:
    def covers(value: int) -> bool:
        return value == resource.RLIM_INFINITY or value >= wanted
    soft, hard = resource.getrlimit(limit)
    try:
        if not covers(hard):
            resource.setrlimit(limit, (wanted, wanted))
        elif not covers(soft):
            resource.setrlimit(limit, (wanted, hard))
    except (OSError, ValueError):  # not permitted to raise the hard limit: as far as it goes
        resource.setrlimit(limit, (hard, hard))


def find_owner(ovs_user: str) -> Owner:
    """The user, and group if given, that `--ovs-user=USER[:GROUP]` names. Raises AdministratorError when unknown."""
    if not ovs_user:
        return NOBODY
    import grp  # few hosts pay for it
    import pwd

    user, _, group = ovs_user.partition(":")
    try:
        known = pwd.getpwnam(user)
        return Owner(known.pw_uid, grp.getgrnam(group).gr_gid if group else known.pw_gid)
    except KeyError as error:
        raise AdministratorError("--ovs-user=%s names nobody on this host" % ovs_user,
                                 "make the user and group, or correct OVS_CTL_OPTS") from error


def usable_extra_dbs(paths: Paths, settings: Settings) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """The extra databases that can be served (a relative name is beside conf.db), and warnings for the others."""
    usable, warnings = [], []
    for name in settings.extra_dbs:
        path = paths.root / name.lstrip("/") if os.path.isabs(name) else paths.dbdir / name
        if not path.is_file():
            warnings.append("%s of --extra-dbs does not exist and is not served" % path)
        elif not dbtool.is_readable(path):
            warnings.append("%s of --extra-dbs cannot be read as a database and is not served" % path)
        else:
            usable.append(str(path))
    return tuple(usable), tuple(warnings)
