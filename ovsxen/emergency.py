"""The emergency reset, asked for by hand or through XAPI, and its undoing. An update's own reset is in plan.py.

Not to be mixed up with XenServer's emergency network reset, which makes the host forget its whole network.
"""

from pathlib import Path
from typing import Callable, List, Tuple

from ovsxen.answer import Answer, Failed, UpdateReport, read_update_report, write_update_report
from ovsxen.errors import NoAnswer, SwitchRefused
from ovsxen.gate import why_disabled
from ovsxen.host import clock
from ovsxen.host.clock import Deadline
from ovsxen.host.inventory import read_inventory
from ovsxen.job import BUDGET_S, open_database
from ovsxen.ovs import ovsdb, snapshots, tables
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.tables import Edit, Snapshot
from ovsxen.plan_reset import plan_emergency_reset, plan_undo
from ovsxen.sequence import Host, explain, refused_by_system, take_update_turn

RESET = "Successfully reset configuration"
WHERE = ("what was cleared is in %s: `ovsxen emergency-reset --undo` brings it back; `ovsxen update` sets the pool's "
         "controller again")
DISABLED = "Nothing was done, because Open vSwitch is not this host's network backend"
BROUGHT_BACK = "Brought back what was reset at %s"
NOTHING_MISSING = "Nothing of what was reset at %s is missing"
NOTHING_TO_UNDO = "Nothing was reset, so there is nothing to bring back"


def emergency_reset(host: Host) -> Answer:
    """Clear everything that `ovs-vsctl emer-reset` clears, managers and SSL too; what it was is written down first.

    The next update sets the pool's manager again. Raises Failed; then the switch is as it was, or the error says that
    this is not known.
    """
    written: List[Path] = []

    def attempt(connection: Connection, deadline: Deadline) -> Answer:
        switch = tables.read_configuration(connection, deadline.remaining_s())
        resettable = tables.read_resettable(connection, deadline.remaining_s())
        edit = plan_emergency_reset(switch, resettable)
        if edit.is_empty:
            return Answer(RESET, notes=tuple(WHERE % path for path in written if path.exists())
                          or ("there was nothing to clear",))
        with snapshots.saved(host.paths.dbdir, Snapshot(edit.changes, resettable.rows)) as path:
            written[:] = [path] if path is not None else []
            _apply(connection, edit, deadline)
        return Answer(RESET, edit.as_lines(), tuple(WHERE % path for path in written))

    return _with_database(host, attempt, "reset")


def undo_reset(host: Host) -> Answer:
    """Bring back what the last reset cleared, by hand or in an update; what was set since stays.

    Raises Failed, as `emergency_reset` does.
    """
    def attempt(connection: Connection, deadline: Deadline) -> Answer:
        found = snapshots.read_newest(host.paths.dbdir)
        if found is None:
            return Answer(NOTHING_TO_UNDO)
        switch = tables.read_configuration(connection, deadline.remaining_s())
        undo = plan_undo(found.snapshot, switch, tables.read_resettable(connection, deadline.remaining_s()),
                         _management_bridge(host, switch))
        if not undo.edit.is_empty:
            _apply(connection, undo.edit, deadline)
        text = BROUGHT_BACK if undo.edit.changes else NOTHING_MISSING
        return Answer(text % found.when, undo.edit.as_lines(), undo.lost + _forget(found))

    return _with_database(host, attempt, "brought back")


def _management_bridge(host: Host, switch: tables.Configuration) -> str:
    """The real bridge that this host is managed over, by its inventory; "" where that names none."""
    name = read_inventory(host.paths.inventory).management_interface
    return switch.real_bridges().get(name, name)


def _forget(found: snapshots.Saved) -> Tuple[str, ...]:
    try:
        snapshots.forget(found)
    except OSError as error:
        what = "%s could not be put aside, so it would be brought back once more" % found.path
        return (str(refused_by_system(what, error)),)
    return ()


def _apply(connection: Connection, edit: Edit, deadline: Deadline) -> None:
    try:
        tables.apply(connection, edit, deadline.remaining_s())
    except ovsdb.Changed:
        raise
    except NoAnswer as error:
        raise NoAnswer("%s; whether it was done is not known" % error.problem, "do it again") from error


def _attempt(host: Host, attempt: Callable[[Connection, Deadline], Answer], deadline: Deadline) -> Answer:
    """Where an answer got lost, the switch is looked at again: what was done need not be done again."""
    for last in (False, True):
        try:
            with open_database(host.paths, deadline) as connection:
                answer = ovsdb.until_unchanged(lambda: attempt(connection, deadline))
            _report(host, answer)
            return answer
        except NoAnswer:
            if last or deadline.has_passed():
                raise
    raise AssertionError("not reached")


def _report(host: Host, answer: Answer) -> None:
    """`ovsxen status` shows the last that was done to the switch. What an update is to remember stays."""
    before = read_update_report(host.paths.update_report)
    report = UpdateReport(clock.wall_clock_text(), answer, put_back=before.put_back if before else {},
                          owed=before.owed if before else ())
    try:
        write_update_report(host.paths.update_report, report)
    except OSError:
        pass  # it was done, and is told to whoever asked


def _with_database(host: Host, attempt: Callable[[Connection, Deadline], Answer], what: str) -> Answer:
    """Try again while somebody else writes in between. Raises Failed for whatever kept it from being done."""
    deadline = Deadline(BUDGET_S)
    try:
        disabled = why_disabled(host.paths)
        if disabled is not None:
            return Answer(DISABLED, notes=(disabled.problem or "network.conf says bridge",))
        with take_update_turn(host.paths):
            return _attempt(host, attempt, deadline)
    except Exception as raised:
        error = explain(raised, "it could not be %s" % what)
        raise Failed(SwitchRefused("VSWITCH_EMER_RESET_FAILURE", ("1",), error), Answer("")) from error
