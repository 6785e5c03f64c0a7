"""The emergency reset, asked for by hand or through XAPI, and its undoing. An update's own reset is in plan.py.

Not to be mixed up with XenServer's emergency network reset, which makes the host forget its whole network.
"""

from typing import Callable, Tuple

from ovsxen.answer import Answer
from ovsxen.errors import NoAnswer, SwitchRefused
from ovsxen.host.clock import Deadline
from ovsxen.ovs import daemons, ovsdb, snapshots, tables
from ovsxen.ovs.daemons import OVSDB_SERVER
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.tables import Edit, Snapshot
from ovsxen.plan_reset import Undo, plan_emergency_reset, plan_undo
from ovsxen.sequence import Host, explain, take_update_turn

BUDGET_S = 30.0
DATABASE_WITHIN_S = 8.0
ATTEMPTS = 5
RESET = "Successfully reset configuration"
NOTHING_TO_UNDO = "Nothing was reset, so there is nothing to bring back"


def emergency_reset(host: Host) -> Answer:
    """Clear everything that `ovs-vsctl emer-reset` clears, managers and SSL too; what it was is written down first.

    The next update sets the pool's manager again. Raises SwitchRefused; then the switch is as it was.
    """
    def attempt(connection: Connection, deadline: Deadline) -> Answer:
        switch, leftovers = _read(connection, deadline)
        edit = plan_emergency_reset(switch, leftovers)
        if edit.is_empty:
            return Answer(RESET, notes=("there was nothing to clear",))
        path = snapshots.save(host.paths.dbdir, Snapshot(edit.changes, leftovers.rows))
        tables.apply(connection, switch, edit, deadline.remaining_s())
        return Answer(RESET, _told(edit), (
            "what was cleared is in %s: `ovsxen emergency-reset --undo` brings it back; `ovsxen update` sets the "
            "pool's controller again" % path,))

    return _with_database(host, attempt, "reset")


def undo_reset(host: Host) -> Answer:
    """Bring back what the last reset cleared, by hand or in an update; what was set since stays.

    Raises SwitchRefused.
    """
    saved = snapshots.read_newest(host.paths.dbdir)
    if saved is None:
        return Answer(NOTHING_TO_UNDO)
    found = saved

    def attempt(connection: Connection, deadline: Deadline) -> Answer:
        undo = plan_undo(found.snapshot, *_read(connection, deadline))
        if not undo.edit.is_empty:
            tables.apply(connection, tables.read_configuration(connection, deadline.remaining_s()), undo.edit,
                         deadline.remaining_s())
        snapshots.forget(found)
        return _undone(undo, found)

    return _with_database(host, attempt, "brought back")


def _with_database(host: Host, attempt: Callable[[Connection, Deadline], Answer], what: str) -> Answer:
    """Try again while somebody else writes in between. Raises SwitchRefused for whatever kept it from being done."""
    deadline = Deadline(BUDGET_S)
    try:
        with take_update_turn(host.paths):
            label = daemons.find(host.paths, OVSDB_SERVER).label
            with Connection(host.paths.db_sock, label, min(DATABASE_WITHIN_S, deadline.remaining_s())) as connection:
                for _ in range(ATTEMPTS):
                    try:
                        return attempt(connection, deadline)
                    except ovsdb.Changed:
                        continue
        raise NoAnswer("somebody else wrote to the database each of the %d times that it was to be written" % ATTEMPTS,
                       "do it again")
    except Exception as raised:
        error = explain(raised, "the snapshot in %s was refused" % host.paths.dbdir)
        raise SwitchRefused("VSWITCH_EMER_RESET_FAILURE", ("1",), "nothing was %s: %s" % (what, error.problem),
                            error.remedy) from error


def _undone(undo: Undo, saved: snapshots.Saved) -> Answer:
    text = "Brought back what was reset at %s" % saved.when if undo.edit.changes else \
        "Nothing of what was reset at %s is missing" % saved.when
    return Answer(text, _told(undo.edit), undo.lost)


def _told(edit: Edit) -> Tuple[str, ...]:
    return tuple(str(change) for change in edit.new_rows + edit.changes)


def _read(connection: Connection, deadline: Deadline) -> Tuple[tables.Configuration, tables.Leftovers]:
    return (tables.read_configuration(connection, deadline.remaining_s()),
            tables.read_leftovers(connection, deadline.remaining_s()))
