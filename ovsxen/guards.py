"""The bridge with this host's management interface, while an update makes it secure: held, guarded, or put back.

secure.py knows the flows; here is what an update does about them, and what it tells.
"""

from typing import NamedTuple, Optional, Tuple

from ovsxen import secure
from ovsxen.errors import AdministratorError, OvsxenError, Refused, SwitchRefused
from ovsxen.host import files
from ovsxen.host.inventory import read_inventory
from ovsxen.job import DATABASE_WITHIN_S, Job
from ovsxen.ovs import daemons, ovsdb, tables
from ovsxen.ovs.daemons import VSWITCHD
from ovsxen.ovs.flows import FlowRefused
from ovsxen.ovs.guard import Guard
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.labels import SECURE
from ovsxen.ovs.tables import Change, Configuration, Snapshot
from ovsxen.plan import Plan, Wanted
from ovsxen.plan_reset import plan_put_back
from ovsxen.sequence import refused_by_system
from ovsxen.xapi.session import Xapi

FLOWS_ADDED = "Added management flows.  "


class Watched(NamedTuple):
    """The bridge with the management interface, where the plan leaves it secure without a controller of its own."""

    bridge: str
    interface: secure.ManagementInterface
    is_written_to: bool


def place_guard(job: Job, xapi: Xapi, connection: Connection, wanted: Wanted, switch: Configuration,
                planned: Plan) -> Optional[Guard]:
    """The flows that management traffic needs after this plan, in place; None where it needs none, or none anew.

    Where they cannot be in place, the bridge is held (job.held) and the plan is to be made again without it. Where it
    cannot be known which bridge it is, all that would turn secure are held.
    """
    if not planned.needs_flows:
        return None
    try:
        watched = _find_watched(job, xapi, wanted, switch, planned)
    except Refused as error:
        job.held.update({bridge: str(error) for bridge in planned.needs_flows if written_to(bridge, planned)})
        return None
    if watched is None:
        return None
    try:
        return _place(job, connection, switch, watched)
    except OvsxenError as error:
        if watched.is_written_to:
            job.held[watched.bridge] = str(error)
        else:
            job.note("the management flows of bridge %s, which is secure, could not be put in place: %s" % (
                watched.bridge, error))
        return None


def _find_watched(job: Job, xapi: Xapi, wanted: Wanted, switch: Configuration, planned: Plan) -> Optional[Watched]:
    """Raises Refused where the bridge is not known, and whatever XAPI raises."""
    interface = secure.find_management(wanted.networks, job.devices(xapi))
    if interface is None:
        named = read_inventory(job.paths.inventory).management_interface
        if named:
            raise Refused("XAPI knows no management interface of this host, and %s names %s" % (
                job.paths.inventory, named), "look at `xe pif-list management=true`, then run `ovsxen update`")
        return None
    bridge = secure.bridge_of(interface, switch)
    if bridge not in planned.needs_flows:
        return None
    return Watched(bridge, interface, bool(written_to(bridge, planned)))


def written_to(bridge: str, planned: Plan) -> Tuple[Change, ...]:
    """What the plan writes to a bridge."""
    return tuple(change for change in planned.edit.changes if change.table == "Bridge" and change.label == bridge)


def _place(job: Job, connection: Connection, switch: Configuration, watched: Watched) -> Optional[Guard]:
    """A bridge that is about to be written to gets them anew; one that stays as it is only gets what it lacks."""
    if watched.is_written_to:
        _require_untried(job, watched.bridge)
    guard = secure.wait_for_guard(connection, watched.interface, switch, job.deadline)
    if watched.is_written_to:
        if job.dry_run:
            return None
        _replace(job, guard)
        return guard
    if not secure.is_in_place(job.paths, guard, job.deadline):
        if not job.dry_run:
            secure.take_away(job.paths, guard.bridge, job.deadline)
            secure.put_in_place(job.paths, guard, job.deadline)
        job.changes.append("management flows of bridge %s" % guard.bridge)
        job.done.append(FLOWS_ADDED)
    return None


def _replace(job: Job, guard: Guard) -> None:
    """Also what an update that was killed left, for other ports. Where that fails, none of ours stay."""
    try:
        _mark(job, guard.bridge)
        secure.take_away(job.paths, guard.bridge, job.deadline)
        secure.put_in_place(job.paths, guard, job.deadline)
    except OvsxenError:
        lift_guard(job, guard)
        raise


def keep_if_needed(job: Job, guard: Optional[Guard], planned: Plan) -> Optional[Guard]:
    """The guard, where a newer plan still writes to its bridge; else its flows go again."""
    if guard is not None and not written_to(guard.bridge, planned):
        lift_guard(job, guard)
        return None
    return guard


def lift_guard(job: Job, guard: Optional[Guard]) -> None:
    """Where the bridge does not turn secure after all: as far as that goes, the error is told already."""
    if guard is not None:
        try:
            secure.take_away(job.paths, guard.bridge, job.deadline)
            files.remove_if_there(job.paths.guarded_bridge)
        except (OvsxenError, OSError) as error:
            job.note("management flows may be left on bridge %s: %s" % (guard.bridge, error))


def _mark(job: Job, bridge: str) -> None:
    """Write down on which bridge flows are about to be placed: an update that is killed leaves them.

    Raises AdministratorError, NotPermitted.
    """
    try:
        files.write_file(job.paths.guarded_bridge, [bridge.encode()], durable=False)
    except OSError as error:
        raise refused_by_system("%s cannot be written" % job.paths.guarded_bridge, error) from error


def lift_forgotten(job: Job, switch: Configuration) -> None:
    """Remove what an update that was killed left on a bridge that then did not turn secure."""
    try:
        name = files.read_small(job.paths.guarded_bridge).decode()
    except (OSError, ValueError):
        return
    try:
        if any(bridge.name == name and bridge.fail_mode != SECURE for bridge in switch.bridges):
            secure.take_away(job.paths, name, job.deadline)
        files.remove_if_there(job.paths.guarded_bridge)
    except (OvsxenError, OSError) as error:
        job.note("management flows may be left on bridge %s: %s" % (name, error))


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
    """ovs-vswitchd threw the flows away when the bridge turned secure: add them again and see them, or put it back.

    That is told as the job's failure; the rest of the update goes on.
    """
    try:
        secure.put_in_place(job.paths, guard, job.deadline)
        job.put_back.pop(guard.bridge, None)
        files.remove_if_there(job.paths.guarded_bridge)
        return
    except FlowRefused as error:
        cause = error
    except OvsxenError as error:
        cause = FlowRefused(str(error), 1, guard.bridge, "")
    if _has_controller(connection, guard.bridge, job):
        job.note("the controller of bridge %s has replaced the management flows (%s)" % (guard.bridge, cause.problem))
        return
    job.put_back[guard.bridge] = _vswitchd_pid(job)
    job.failure = _put_back(job, connection, guard, written, cause)


def _has_controller(connection: Connection, bridge: str, job: Job) -> bool:
    now = tables.read_configuration(connection, job.deadline.at_most_s(DATABASE_WITHIN_S))
    return any(one.name == bridge and one.controller.uuids for one in now.bridges)


def _put_back(job: Job, connection: Connection, guard: Guard, written: Snapshot, cause: FlowRefused) -> SwitchRefused:
    """Undo what this job wrote to the bridge; gives what is to be told."""
    problem = "bridge %s lost its management flows when it turned secure (%s)" % (guard.bridge, cause.problem)
    try:
        changes = ovsdb.until_unchanged(lambda: _undo(job, connection, written))
        job.changes += [str(change) for change in changes]
        lift_guard(job, guard)
        ending = "so it was put back; everything else that XAPI wants was done"
    except OvsxenError as error:
        ending = "and could not be put back (%s)" % error
    return SwitchRefused("VSWITCH_ADD_FLOW_FAILURE", (str(cause.returncode), guard.bridge, cause.flow),
                         Refused("%s, %s" % (problem, ending), cause.remedy))


def _undo(job: Job, connection: Connection, written: Snapshot) -> Tuple[Change, ...]:
    within_s = job.deadline.at_most_s(DATABASE_WITHIN_S)
    now = tables.read_configuration(connection, within_s)
    edit = plan_put_back(written, now, tables.read_resettable(connection, within_s))
    if not edit.is_empty:
        tables.apply(connection, edit, within_s)
    return edit.changes
