"""Everything that changes a switch that is up, or may be: stop, restart, reload; and loading the module alone."""

from typing import Callable, Iterator

from ovsxen import boot, phases_offline, phases_online
from ovsxen.errors import AdministratorError
from ovsxen.gate import unless_disabled, why_disabled
from ovsxen.host import identity
from ovsxen.ovs import daemons, launch
from ovsxen.ovs.confdb import read_installed_schema
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, State
from ovsxen.report import Outcome, Phase
from ovsxen.sequence import Host, Result, Run, Step, Warn, run_steps, take_turn


def stop_phase(name: str) -> Callable[[Run], Result]:
    """The phase that stops one daemon and waits until it is gone."""
    def stop_daemon(run: Run) -> Result:
        before = daemons.find_anywhere(run.paths, name)
        how = daemons.stop(run.paths, name).how
        if how:
            return Result(Outcome.DONE, "%s stopped (%s)" % (before.label, how))
        return Result(Outcome.UNCHANGED, "was not running")
    return stop_daemon


STOP_PHASES = (Step(VSWITCHD, stop_phase(VSWITCHD)), Step(OVSDB_SERVER, stop_phase(OVSDB_SERVER), needs=(VSWITCHD,)))
"""vswitchd first: it must not see its database go. The kernel module and its datapath stay, and go on forwarding what
they know."""


def stop(host: Host, warn: Warn) -> Iterator[Phase]:
    """Stop both daemons, whatever network.conf says: a host that was switched to bridge mode may still run them."""
    with take_turn(host.paths):
        yield from run_steps(Run(host, warn), STOP_PHASES)


def restart(host: Host, warn: Warn) -> Iterator[Phase]:
    """Stop, then start, which purges what a start would: nothing, after one that went well in this boot.

    What a start would refuse is refused before anything is stopped.
    """
    conf = why_disabled(host.paths)
    if conf is not None and conf.problem:
        raise AdministratorError("nothing was stopped, because %s" % conf.problem,
                                 "write vswitch or bridge into it; `ovsxen stop` stops the switch")
    if conf is None:
        launch.require_programs()
        read_installed_schema(host.paths.schema)
    failed = False
    quiet = host._replace(settings=host.settings._replace(problems=()))  # the start tells of them
    for phase in stop(quiet, warn):
        failed = failed or phase.outcome is Outcome.FAILED
        yield phase
    if not failed:
        yield from boot.start(host, warn)


def require_running(run: Run) -> Result:
    """A reload needs a switch to reload."""
    stopped = [name for name in (OVSDB_SERVER, VSWITCHD) if daemons.find(run.paths, name).state is not State.RUNNING]
    if stopped:
        raise AdministratorError("%s does not run, so there is nothing to reload" % " and ".join(stopped),
                                 "run `ovsxen start`")
    return Result(Outcome.UNCHANGED, "both daemons run")


RELOAD_PHASES = (
    Step("running", require_running),
    Step("host", phases_offline.prepare_host, needs=("running",)),
    Step("configuration", phases_online.configure, needs=("host",)),
    Step("ovs-vswitchd", phases_online.start_vswitchd, needs=("configuration",)),
    Step("managers", phases_online.attach_managers, needs=("host",)),
)


def reload(host: Host, warn: Warn) -> Iterator[Phase]:
    """Read inventory and settings again and make the Open_vSwitch row and the managers agree; nothing is interrupted.

    Priorities, limits and options of the daemons hold from their next start.
    """
    return unless_disabled(host, warn, lambda: _reload(host, warn))


def _reload(host: Host, warn: Warn) -> Iterator[Phase]:
    with take_turn(host.paths):
        yield from run_steps(Run(host, warn, identity.read_boot_id(host.paths)), RELOAD_PHASES)


def load_kmod(host: Host, warn: Warn) -> Iterator[Phase]:
    """The kernel module alone; not in bridge mode, where VIF plugging would take it for the switch."""
    steps = (Step("module", phases_offline.load_module),)
    return unless_disabled(host, warn, lambda: run_steps(Run(host, warn), steps))
