"""Replace the kernel module by the installed one, under a restart of both daemons: Replacement.sequence() says how.

The datapath goes with the module, and with it the internal ports: dom0 is without network in between. What they had is
written down before anything is stopped, and outlives a run that is killed. The switch comes up again on every path,
with the old module where that one stays.
"""

from typing import Iterator, Tuple

from ovsxen import left_over
from ovsxen.errors import AdministratorError, OvsxenError
from ovsxen.gate import unless_disabled
from ovsxen.host import ha, identity, interfaces, kept_interfaces, kmod, modprobe, proc, process, systemd
from ovsxen.host.interfaces import KeptInterfaces
from ovsxen.host.modprobe import ModuleRefused, ModuleStays, Parameters
from ovsxen.host.systemd import SYNC_UNIT
from ovsxen.ovs import daemons, datapaths, switching
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, State
from ovsxen.phases_online import open_database
from ovsxen.report import Outcome, Phase
from ovsxen.restart import STOP_VSWITCHD, Restart, Stages, run_stages
from ovsxen.sequence import Host, Result, Run, Step, Warn

REPLACEABLE, KEEP, STOP_HA, DATAPATHS = "replaceable", "keep", "stop HA", "datapaths"
INTERFACES = "interfaces"


def force_reload_kmod(host: Host, warn: Warn, *, restart_ha: bool) -> Iterator[Phase]:
    """Restart both daemons with the installed kernel module. Flows are kept; --delete-bridges does not count.

    `restart_ha`: the HA daemon is stopped meanwhile where HA is armed; else that is refused. From its first phase to
    its end neither a signal nor a lost terminal interrupts it.
    """
    one = Replacement(Restart(keep_flows=True), restart_ha=restart_ha)
    return unless_disabled(host, warn, lambda: run_stages(
        host.unasked(), warn, Stages(one.preparation(), one.sequence(), one.release)))


class Replacement:
    """One replacement while it goes on, made of a restart."""

    def __init__(self, restart: Restart, *, restart_ha: bool) -> None:
        self.restart_ha = restart_ha
        self._restart = restart
        self._ha_is_due = False

    def preparation(self) -> Iterator[Step]:
        """What must go well before anything is stopped."""
        yield Step(REPLACEABLE, self.require_replaceable)
        for step in self._restart.preparation():
            yield step._replace(needs=step.needs + (REPLACEABLE,))
        yield Step(KEEP, keep_interfaces, needs=(REPLACEABLE, "save"))

    def sequence(self) -> Iterator[Step]:
        """The restart, with the module replaced while ovs-vswitchd is stopped.

        No step of the restart needs those of the module, and so a module that stays is used again. Its `interfaces`
        would start HA too, and fail nothing.
        """
        for step in self._restart.sequence():
            if step.name == STOP_VSWITCHD:
                yield Step(STOP_HA, self.stop_ha, needs=step.needs)
                yield step._replace(needs=step.needs + (STOP_HA,))
                yield Step(DATAPATHS, delete_datapaths, needs=(STOP_VSWITCHD,))
                yield Step("new module", replace_module, needs=(DATAPATHS,))
            elif step.name == INTERFACES:
                yield Step(INTERFACES, left_over.put_back_interfaces)
            else:
                yield step
        yield Step("start HA", self.start_ha)
        yield Step("sync", restart_sync, vital=False)

    def release(self, run: Run) -> None:
        """See to what the sequence did not come to. A start of the switch does it too."""
        self._restart.release(run)
        if self._ha_is_due:
            try:
                self.start_ha(run)
            except (OvsxenError, OSError) as error:
                run.warn("HA is still stopped on this host (%s): run `ovsxen start`" % error)

    def require_replaceable(self, run: Run) -> Result:
        """What would fail while nothing forwards any more is refused while everything does."""
        modules = kmod.observe(run.paths, identity.kernel_release())
        if modules.present and modules.present.builtin:
            raise AdministratorError("%s is built into the kernel and cannot be replaced" % modules.present.name,
                                     "`ovsxen restart` restarts the daemons")
        if not modules.loadable:
            raise AdministratorError("this kernel loads no modules (%s is not there)" % run.paths.proc_modules,
                                     "`ovsxen restart` restarts the daemons")
        modprobe.require_loadable(run.paths, identity.kernel_release())
        if proc.find_program(datapaths.DPCTL) is None:
            raise AdministratorError("the program %s is not on this host" % datapaths.DPCTL, "install openvswitch")
        return Result(Outcome.UNCHANGED, self._require_ha_may_stop(run))

    def _require_ha_may_stop(self, run: Run) -> str:
        if not ha.is_armed(run.paths):
            return "HA is not armed on this host"
        if not self.restart_ha:
            raise AdministratorError(
                "HA is armed, and would have this host rebooted when it loses its network",
                "say `--ha restart` to have the HA daemon stopped meanwhile, or disable HA in the pool")
        ha.require_commands(run.paths)
        return "HA is armed, and its daemon will be stopped meanwhile"

    def stop_ha(self, run: Run) -> Result:
        """The HA daemon, where this host has one: it may have been armed a moment ago."""
        self._require_ha_may_stop(run)
        if not ha.is_armed(run.paths):
            return Result(Outcome.UNCHANGED, "HA is not armed on this host")
        self._ha_is_due = True
        return Result(Outcome.DONE, ha.stop_daemon(run.paths))

    def start_ha(self, run: Run) -> Result:
        """On every path, and where a run that was killed had stopped it."""
        self._ha_is_due = False
        return left_over.start_ha(run)


def keep_interfaces(run: Run) -> Result:
    """Write down all about the internal ports; first those of a run that was killed get back what they had."""
    if daemons.find(run.paths, OVSDB_SERVER).state is not State.RUNNING:
        raise AdministratorError("ovsdb-server does not run, so nobody knows the internal ports",
                                 "run `ovsxen start`, then this again")
    before = kept_interfaces.restore(run.paths)
    for problem in before.problems:
        run.warn("not put back after a run that was killed: %s" % problem)
    with open_database(run) as connection:
        names = switching.read_internal_ports(connection, run.settings.answer_timeout_s)
    kept = interfaces.keep(names)
    kept_interfaces.write(run.paths, KeptInterfaces(
        kept.interfaces + before.left.interfaces, kept.routes + before.left.routes))
    return Result(Outcome.UNCHANGED, "%d interfaces with %d addresses, %d routes" % (
        len(kept.interfaces), sum(len(one.addresses) for one in kept.interfaces), len(kept.routes)),
        tuple(one.name for one in kept.interfaces))


def delete_datapaths(run: Run) -> Result:
    """From here on the internal ports are gone."""
    names = datapaths.delete_all(run.paths)
    return Result(Outcome.DONE if names else Outcome.UNCHANGED, "deleted" if names else "there is none", names)


def replace_module(run: Run) -> Result:
    """The module out, and the installed one in, with the parameters of the one before.

    A parameter that somebody has set cannot be told from one that was the default then, so all are kept.
    """
    release = identity.kernel_release()
    module = kmod.observe(run.paths, release).present
    if module is None:
        return Result(Outcome.DONE, modprobe.load(run.paths, release))
    parameters = kmod.read_parameters(run.paths, module.name)
    went = _unload(run, module.name)
    how, refused = _load(run, release, parameters)
    now = dict(kmod.read_parameters(run.paths, module.name))
    differs = tuple("%s=%s" % (name, value) for name, value in parameters if now.get(name) != value)
    if differs:
        return Result(Outcome.DEGRADED, "%s, but not with the parameters that it had%s" % (how, refused), differs)
    return Result(Outcome.DONE, "%s taken out; %s" % (", ".join(went), how), went)


def _unload(run: Run, name: str) -> Tuple[str, ...]:
    """Raises ModuleStays, which also names who else may have a datapath."""
    try:
        return modprobe.unload(run.paths, name)
    except ModuleStays as stays:
        others = "".join("; %s runs" % one.label for one in process.find_processes(VSWITCHD))
        raise ModuleStays(stays.problem + others, stays.remedy) from stays


def _load(run: Run, release: str, parameters: Parameters) -> Tuple[str, str]:
    """How it was loaded, and what was said where it was not to be had with its parameters. Raises ModuleRefused."""
    try:
        return modprobe.load(run.paths, release, parameters), ""
    except ModuleRefused as refused:
        if not parameters:
            raise
        return modprobe.load(run.paths, release), " (%s)" % refused.problem


def restart_sync(run: Run) -> Result:
    """The service that follows XAPI's records: what it knows of the switch is of before."""
    if not run.paths.systemd_running.is_dir():
        return Result(Outcome.SKIPPED, "systemd does not run this host's services")
    if systemd.restart_unit(SYNC_UNIT, systemd.WITHIN_S):
        return Result(Outcome.DONE, "%s restarts" % SYNC_UNIT)
    return Result(Outcome.UNCHANGED, "%s does not run" % SYNC_UNIT)
