"""The bridge with this host's management interface, while an update makes it secure: held, guarded, or put back.

secure.py knows the flows; here is what an update does about them, and what it tells.
"""

from typing import NoReturn, Optional, Tuple

from ovsxen import secure
from ovsxen.errors import AdministratorError, OvsxenError, SwitchRefused
from ovsxen.job import DATABASE_WITHIN_S, Job
from ovsxen.ovs import daemons, tables
from ovsxen.ovs.daemons import VSWITCHD
from ovsxen.ovs.flows import FlowRefused
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.ovsdb import Changed
from ovsxen.ovs.tables import Change, Configuration, Snapshot
from ovsxen.plan import Plan, Wanted
from ovsxen.plan_reset import plan_undo
from ovsxen.secure import Guard, ManagementInterface
from ovsxen.xapi.session import Xapi

UNDO_ATTEMPTS = 4
FLOWS_ADDED = "Added management flows.  "


def place_guard(job: Job, xapi: Xapi, connection: Connection, wanted: Wanted, switch: Configuration,
                planned: Plan) -> Optional[Guard]:
    """The flows for the management interface, in place, where the plan leaves its bridge secure without a controller.

    Where they cannot be, the bridge is held: nothing is written to it. Where it cannot be known which bridge it is, all
    that would turn secure are.
    """
    if not planned.secured:
        return None
    physical = job.physical(xapi)
    guarded = planned.secured
    try:
        management = secure.find_management(physical.host_ref, wanted.networks, physical.pifs, physical.bonds,
                                            physical.vlans)
        guarded = tuple({secure.bridge_of(management, switch)} & set(planned.secured)) if management else ()
        return _put_in_place(job, connection, management, switch, planned) if management and guarded else None
    except OvsxenError as error:
        for bridge in guarded:
            if written_to(bridge, planned):
                job.held[bridge] = str(error)
            else:
                job.note("bridge %s is secure, and its management flows cannot be seen to: %s" % (bridge, error))
        return None


def written_to(bridge: str, planned: Plan) -> Tuple[Change, ...]:
    return tuple(change for change in planned.edit.changes if change.table == "Bridge" and change.label == bridge)


def _put_in_place(job: Job, connection: Connection, management: ManagementInterface, switch: Configuration,
                  planned: Plan) -> Optional[Guard]:
    """The guard of a bridge that is about to be written to; one that stays as it is only gets what it lacks."""
    turns = bool(written_to(secure.bridge_of(management, switch), planned))
    if turns:
        _require_untried(job, secure.bridge_of(management, switch))
    guard = secure.find_guard(connection, management, switch, job.deadline)
    if job.dry_run:
        return None
    if turns:
        try:
            secure.put_in_place(job.paths, guard, job.deadline)
        except OvsxenError:
            take_away(job, guard)
            raise
        return guard
    if not secure.is_in_place(job.paths, guard, job.deadline):
        secure.put_in_place(job.paths, guard, job.deadline)
        job.changes.append("management flows added to bridge %s" % guard.bridge)
        job.done.append(FLOWS_ADDED)
    return None


def take_away(job: Job, guard: Optional[Guard]) -> None:
    """Where the bridge does not turn secure after all: as far as that goes, the error is told already."""
    if guard is not None:
        try:
            secure.take_away(job.paths, guard, job.deadline)
        except OvsxenError as error:
            job.note("management flows may be left on bridge %s: %s" % (guard.bridge, error))


def _require_untried(job: Job, bridge: str) -> None:
    """A bridge that was put back is not tried again by the same ovs-vswitchd: it would be cut off for a while by every
    run. Raises AdministratorError.
    """
    if bridge in job.put_back and job.put_back[bridge] == _vswitchd_pid(job):
        raise AdministratorError("it lost its management flows when it turned secure, and was put back",
                                 "see the log of ovs-vswitchd, then run `ovsxen restart` and `ovsxen update`")


def _vswitchd_pid(job: Job) -> int:
    process = daemons.find(job.paths, VSWITCHD).process
    return process.pid if process else 0


def keep_guarded(job: Job, connection: Connection, guard: Guard, written: Snapshot) -> None:
    """ovs-vswitchd threw the flows away when the bridge turned secure: add them again and see them, or put it back."""
    try:
        secure.put_in_place(job.paths, guard, job.deadline)
        job.put_back.pop(guard.bridge, None)
        return
    except FlowRefused as error:
        cause = error
    except OvsxenError as error:
        cause = FlowRefused(str(error), 1, guard.bridge, "")
    if _has_controller(connection, guard.bridge, job):
        job.note("the controller of bridge %s has replaced the management flows (%s)" % (guard.bridge, cause.problem))
        return
    job.put_back[guard.bridge] = _vswitchd_pid(job)
    _put_back(job, connection, guard, written, cause)


def _has_controller(connection: Connection, bridge: str, job: Job) -> bool:
    now = tables.read_configuration(connection, job.left_s(DATABASE_WITHIN_S))
    return any(one.name == bridge and one.controller.uuids for one in now.bridges)


def _put_back(job: Job, connection: Connection, guard: Guard, written: Snapshot, cause: FlowRefused) -> NoReturn:
    """Undo what this job wrote to the bridge. Raises SwitchRefused, always."""
    problem = "bridge %s lost its management flows when it turned secure (%s)" % (guard.bridge, cause.problem)
    try:
        job.changes += [str(change) for change in _undo(job, connection, written)]
        secure.take_away(job.paths, guard, job.deadline)
    except OvsxenError as error:
        raise _not_secured("%s, and could not be put back (%s)" % (problem, error), cause) from error
    raise _not_secured("%s, so it was put back; everything else that XAPI wants was done" % problem, cause)


def _undo(job: Job, connection: Connection, written: Snapshot) -> Tuple[Change, ...]:
    """Read and write again while somebody else writes in between. Raises OvsxenError."""
    attempts = UNDO_ATTEMPTS
    while True:
        attempts -= 1
        now = tables.read_configuration(connection, job.left_s(DATABASE_WITHIN_S))
        undo = plan_undo(written, now, tables.read_leftovers(connection, job.left_s(DATABASE_WITHIN_S)))
        try:
            tables.apply(connection, now, undo.edit, job.left_s(DATABASE_WITHIN_S))
            return undo.edit.changes
        except Changed:
            if not attempts:
                raise


def _not_secured(problem: str, cause: FlowRefused) -> SwitchRefused:
    return SwitchRefused("VSWITCH_ADD_FLOW_FAILURE", (str(cause.returncode), cause.bridge, cause.flow), problem,
                         cause.remedy)
