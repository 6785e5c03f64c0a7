"""Have the switch agree with inventory and settings as they are now; and with the Open vSwitch that is installed."""

import signal
from typing import Iterator

from ovsxen import phases_offline, phases_online
from ovsxen.errors import AdministratorError, OvsxenError
from ovsxen.gate import unless_disabled
from ovsxen.host import detach, identity, process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, State
from ovsxen.report import Outcome, Phase
from ovsxen.restart import restart
from ovsxen.sequence import Host, Result, Run, Step, Warn, run_steps, take_turn


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
    """Read inventory and settings again and make the Open_vSwitch row and the managers agree; nothing is interrupted,
    except where a newer Open vSwitch was installed: then both daemons are restarted, and flows are kept.

    Priorities, limits and options of the daemons hold from their next start.
    """
    return unless_disabled(host, warn, lambda: _reload(host, warn))


def _reload(host: Host, warn: Warn) -> Iterator[Phase]:
    newer = why_restart(host, warn)
    if newer:
        yield Phase("version", Outcome.DONE, newer)
        yield from restart(host, warn, keep_flows=not host.settings.delete_bridges)
    else:
        with take_turn(host.paths):
            yield from run_steps(Run(host, warn, identity.read_boot_id(host.paths)), RELOAD_PHASES)
    yield from run_steps(Run(host, warn), (Step("watch", reload_watch, vital=False),))


def reload_watch(run: Run) -> Result:
    """The daemon that watches reads settings, and its own program, anew."""
    watching = detach.find_holder(run.paths.daemon_pidfile)
    if watching is None:
        return Result(Outcome.UNCHANGED, "no ovsxen daemon watches the switch")
    process.send_signal(watching, signal.SIGHUP)
    return Result(Outcome.DONE, "the ovsxen daemon (pid %d) reads its settings anew" % watching.pid)


def why_restart(host: Host, warn: Warn) -> str:
    """What is installed and what runs, where the first is newer; else "". What cannot be known is not newer."""
    try:
        running = daemons.find(host.paths, VSWITCHD)
        if running.state is not State.RUNNING:
            return ""
        said = daemons.ask(host.paths, running, "version", (), host.settings.answer_timeout_s)
        installed, runs = daemons.read_installed_version(VSWITCHD), daemons.version_in(VSWITCHD, said)
    except OvsxenError as error:
        warn("it is not known whether a newer Open vSwitch is installed: %s" % error)
        return ""
    if daemons.as_numbers(installed) > daemons.as_numbers(runs):
        return "Open vSwitch %s is installed and %s runs: both daemons are restarted" % (installed, runs)
    return ""
