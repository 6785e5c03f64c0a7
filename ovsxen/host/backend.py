"""Which network backend this host boots with, as far as a package has a say: chosen when it is first installed, given
up when it is erased, and never touched by an upgrade (openvswitch a4b2e516f).
"""

from typing import Tuple

from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.host import proc, systemd
from ovsxen.host.inventory import Backend, read_network_conf
from ovsxen.host.paths import Paths
from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT

UNITS = (SWITCH_UNIT, SYNC_UNIT)
SCRIPTS = ("openvswitch", "openvswitch-xapi-update")
WITHIN_S = 60.0


def why_not_vswitch(paths: Paths) -> str:
    """Why Open vSwitch is not to be enabled on this host, or "". XAPI's own script makes network.conf agree; without it
    what that says holds.
    """
    if paths.switch_backend.is_file():
        return ""
    conf = read_network_conf(paths.network_conf)
    return "" if conf.backend is Backend.OPENVSWITCH else conf.problem or "%s says bridge" % paths.network_conf


def choose_vswitch(paths: Paths) -> str:
    """Have the host boot with Open vSwitch; says what was done. Raises AdministratorError, NoAnswer."""
    if paths.switch_backend.is_file():
        return _run_script(paths, "vswitch")
    return _set_services(paths, enabled=True)


def give_up_vswitch(paths: Paths) -> str:
    """Have the host boot without Open vSwitch; says what was done. Raises likewise."""
    if paths.switch_backend.is_file():
        return _run_script(paths, "bridge")
    return _set_services(paths, enabled=False)


def _run_script(paths: Paths, backend: str) -> str:
    argv = (str(paths.switch_backend), backend)
    by_hand = "run `%s` by hand" % " ".join(argv)
    try:
        ended = proc.run(argv, WITHIN_S)
    except NoAnswer as error:
        raise NoAnswer("the network backend is not %s: %s" % (backend, error.problem), by_hand) from error
    if ended.returncode != 0:
        raise AdministratorError("the network backend is not %s (%s: %s)" % (backend, argv[0], ended.complaint),
                                 by_hand)
    return "`%s`: this holds from the next boot of this host" % " ".join(argv)


def _set_services(paths: Paths, *, enabled: bool) -> str:
    """By systemd, or, where it has not these units, by chkconfig."""
    units = tuple(name for name in UNITS if (paths.unit_dir / name).is_file())
    scripts = tuple(name for name in SCRIPTS if (paths.init_scripts / name).is_file())
    if units:
        systemd.set_enabled(units, paths.root, systemd.WITHIN_S, enabled=enabled)
    else:
        _set_scripts(paths, scripts, enabled=enabled)
    names = " and ".join(units or scripts)
    return "%s %s, from the next boot of this host on" % (names or "no service", "enabled" if enabled else "disabled")


def _set_scripts(paths: Paths, scripts: Tuple[str, ...], *, enabled: bool) -> None:
    if scripts and not paths.is_machine:
        raise AdministratorError("chkconfig knows no other root than the machine's", "run this in the host itself")
    for argv in plan_scripts(scripts, enabled=enabled):
        ended = proc.run(argv, WITHIN_S)
        if ended.returncode != 0:
            raise AdministratorError("`%s` failed (%s)" % (" ".join(argv), ended.complaint), "run it by hand")


def plan_scripts(scripts: Tuple[str, ...], *, enabled: bool) -> Tuple[Tuple[str, ...], ...]:
    """The calls of chkconfig. Each script is deleted first, because chkconfig keeps the levels of an older one."""
    return tuple(("chkconfig",) + words for name in scripts
                 for words in (("--del", name),) + ((("--add", name), (name, "on")) if enabled else ()))
