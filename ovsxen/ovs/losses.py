"""What a start of ovsdb-server would take from a switch that forwards: bridges of ovs-vswitchd that its file lacks."""

from typing import FrozenSet

from ovsxen.errors import AdministratorError
from ovsxen.host.paths import Paths
from ovsxen.ovs import confdb, daemons, ovsdb, switching
from ovsxen.ovs.confdb import Assessed
from ovsxen.ovs.daemons import VSWITCHD, State
from ovsxen.ovs.dblog import Kind


def require_bridges(paths: Paths, found: Assessed, within_s: float) -> None:
    """Under an ovs-vswitchd that runs, no server is to start on less than it has. A good file is its administrator's.

    Raises AdministratorError that names the bridges; NoAnswer where ovs-vswitchd does not tell which it has.
    """
    vswitchd = daemons.find_anywhere(paths, VSWITCHD)
    if found.log.kind is Kind.GOOD or vswitchd.state is not State.RUNNING:
        return
    lacking = switching.find_made(paths, vswitchd, within_s) - _read_bridges(found)
    if lacking:
        raise AdministratorError(
            "%s is %s, and what there is to go back to lacks bridges with which ovs-vswitchd goes on (%s)" % (
                found.path, found.log.kind.value, ", ".join(sorted(lacking))),
            "put back a file that has them; or run `ovsxen start`, which takes them down")


def _read_bridges(found: Assessed) -> FrozenSet[str]:
    """Those that the server would begin with."""
    with confdb.preview(found) as path:
        return frozenset(ovsdb.query_file(path, found.log.size_bytes).bridges) if path else frozenset()
