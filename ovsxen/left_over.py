"""What a restart that was cut short has left to be seen to: bridges without the flows that it kept; and, where it was
to replace the kernel module, interfaces without what they had, and HA stopped.

The restart itself sees to it, and where it failed or was killed the next start of the switch. Each of these may be
repeated.
"""

from typing import Callable, FrozenSet, Optional

from ovsxen.errors import AdministratorError
from ovsxen.host import ha, kept_interfaces
from ovsxen.ovs import daemons, flows_file, kept_flows
from ovsxen.ovs.daemons import VSWITCHD
from ovsxen.ovs.kept_flows import NotRestored
from ovsxen.report import Outcome, printable
from ovsxen.sequence import Result, Run, explain

FLOWS_WITHIN_S = 20.0


def put_back_flows(run: Run) -> Result:
    """The flows that a restart kept, where the ovs-vswitchd that had them is gone, and their bridges are still there.

    What a bridge has got since then stays: kept_flows.put_back. What is not put back stays kept, and is tried again at
    each start. Raises AdministratorError that names these bridges.
    """
    written = flows_file.read(run.paths)
    if written is None:
        return Result(Outcome.UNCHANGED, "none are kept")
    vswitchd = daemons.find_anywhere(run.paths, VSWITCHD).process
    if not flows_file.is_lost(written.holder, flows_file.holder_of(run.boot_id, vswitchd)):
        flows_file.forget(run.paths)
        return Result(Outcome.UNCHANGED, "none are lost")
    there = _bridges(run)
    kept = tuple(one for one in written.kept if there is None or one.bridge in there)
    try:
        kept_flows.put_back(run.paths, kept, FLOWS_WITHIN_S)
    except NotRestored as error:
        left = tuple(one for one in kept if one.bridge in error.bridges)
        flows_file.write(run.paths, written._replace(kept=left))
        raise AdministratorError(
            "not all put back of %s: %s" % (", ".join(map(printable, error.bridges)), error.problem),
            "`ovsxen start` tries again; to do without them, remove %s" % run.paths.kept_flows) from error
    flows_file.forget(run.paths)
    return Result(Outcome.DONE, "%d bridges have theirs again" % len(kept), tuple(one.bridge for one in kept))


def _bridges(run: Run) -> Optional[FrozenSet[str]]:
    """Those that the database has; None where this run has not read it."""
    if run.configured is None:
        return None
    return frozenset(run.configured.switch.bridges) - frozenset(run.configured.purged)


def put_back_interfaces(run: Run) -> Result:
    """What is kept of interfaces, also by a run that was killed. Raises AdministratorError that names what is refused.
    """
    result = kept_interfaces.restore(run.paths)
    missing = tuple("%s is not there" % one.name for one in result.left.interfaces)
    if result.problems or missing:
        remedy = "`ovsxen start` puts it back once they are there" if missing and not result.problems else (
            "put it back by hand, with `ip`")
        raise AdministratorError("not put back: %s" % "; ".join(missing + result.problems), remedy)
    if not result.done:
        return Result(Outcome.UNCHANGED, "they lack nothing")
    return Result(Outcome.DONE, "%d settings, addresses and routes put back" % len(result.done))


def start_ha(run: Run) -> Result:
    """The HA daemon, where ovsxen has stopped it."""
    said = ha.start_again(run.paths)
    return Result(Outcome.DONE if said else Outcome.UNCHANGED, said or "was not stopped")


def mend(run: Run) -> Result:
    """All of it, once the switch is up again. The failure of one neither keeps another from its turn nor hides why."""
    acts = (("flows", put_back_flows), ("interfaces", put_back_interfaces), ("HA", start_ha))
    results = tuple((name, _attempt(act, run)) for name, act in acts)
    said = "; ".join("%s: %s" % (name, result.reason) for name, result in results)
    outcomes = tuple(result.outcome for _, result in results)
    if Outcome.FAILED in outcomes:
        raise AdministratorError(said)
    return Result(Outcome.DONE if Outcome.DONE in outcomes else Outcome.UNCHANGED, said)


def _attempt(act: Callable[[Run], Result], run: Run) -> Result:
    try:
        return act(run)
    except Exception as error:  # as where a phase is run: the others' turn comes next
        return Result(Outcome.FAILED, str(explain(error, "the system refused")))
