"""What a replacement of the kernel module leaves to be seen to: interfaces without what they had, and HA stopped.

The replacement sees to it at its end, and the next start of the switch where it was killed before. Each of these may be
repeated.
"""

from typing import Callable

from ovsxen.errors import AdministratorError
from ovsxen.host import ha, kept_interfaces
from ovsxen.report import Outcome
from ovsxen.sequence import Result, Run, explain


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
    """Both, once the switch is up again. The failure of one neither keeps the other from its turn nor hides why."""
    interfaces, xhad = _attempt(put_back_interfaces, run), _attempt(start_ha, run)
    said = "interfaces: %s; HA: %s" % (interfaces.reason, xhad.reason)
    outcomes = (interfaces.outcome, xhad.outcome)
    if Outcome.FAILED in outcomes:
        raise AdministratorError(said)
    return Result(Outcome.DONE if Outcome.DONE in outcomes else Outcome.UNCHANGED, said)


def _attempt(act: Callable[[Run], Result], run: Run) -> Result:
    try:
        return act(run)
    except Exception as error:  # as where a phase is run: the other one's turn comes next
        return Result(Outcome.FAILED, str(explain(error, "the system refused")))
