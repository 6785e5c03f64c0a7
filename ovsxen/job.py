"""One update while it goes on: the host, what is left of its time, and what it has found out and done so far."""

from typing import Dict, List, Optional, Set

from ovsxen.answer import Answer, UpdateReport
from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError
from ovsxen.host.clock import Deadline
from ovsxen.host.inventory import read_inventory
from ovsxen.host.paths import Paths
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, State
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.plan import NO_CHANGE
from ovsxen.sequence import Host
from ovsxen.xapi.records import Devices, read_devices
from ovsxen.xapi.session import Xapi

BUDGET_S = 30.0
DATABASE_WITHIN_S = 8.0
RESTARTED_WITHIN_S = 3.0  # one that does not run may be about to
DRY_RUN = "Nothing was changed, this is a dry run. The answer would be: "


class Job:
    """`put_back`: bridges that lost their management flows before, each with the pid of the ovs-vswitchd that it was.
    `owed`: bridges that a reset left out. `held`: bridges that nothing is written to, each with the reason. `failure`:
    what failed though the rest went on; `problems`: those of the notes that mean that something is not as it should be.
    """

    def __init__(self, host: Host, deadline: Deadline, before: Optional[UpdateReport], *, dry_run: bool) -> None:
        self.paths, self.settings = host.paths, host.settings
        self.deadline = deadline
        self.put_back: Dict[str, int] = dict(before.put_back) if before else {}
        self.owed: Set[str] = set(before.owed) if before else set()
        self.problems: List[str] = []
        self.dry_run = dry_run
        self.done: List[str] = []
        self.changes: List[str] = []
        self.notes: List[str] = list(host.settings.problems)
        self.held: Dict[str, str] = {}
        self.failure: Optional[OvsxenError] = None
        self._devices: Optional[Devices] = None

    def note(self, text: str) -> None:
        """What somebody should look at, once."""
        if text not in self.notes:
            self.notes.append(text)

    def problem(self, text: str) -> None:
        """A note that makes the verdict of `ovsxen status` degraded."""
        self.note(text)
        self.problems.append(text)

    def answer(self) -> Answer:
        text = "".join(dict.fromkeys(self.done)) or NO_CHANGE
        return Answer(DRY_RUN + text if self.dry_run else text, tuple(self.changes), tuple(self.notes))

    def devices(self, xapi: Xapi) -> Devices:
        """Read when they are first needed. Raises OvsxenError."""
        if self._devices is None:
            self._devices = read_devices(xapi, _host_uuid(self.paths))
        return self._devices


def _host_uuid(paths: Paths) -> str:
    uuid = read_inventory(paths.inventory).uuid
    if not uuid:
        raise AdministratorError("%s has no INSTALLATION_UUID, so XAPI cannot be asked for this host" % paths.inventory,
                                 "put that file back as it was")
    return uuid


def open_database(paths: Paths, deadline: Deadline) -> Connection:
    """A connection to the host's database server. Raises NoAnswer, NotPermitted, AdministratorError."""
    server = daemons.find(paths, OVSDB_SERVER)
    if server.state is State.RUNNING:
        return Connection(paths.db_sock, server.label, deadline.at_most_s(DATABASE_WITHIN_S))
    try:
        return Connection(paths.db_sock, server.label, deadline.at_most_s(RESTARTED_WITHIN_S))
    except NoAnswer as error:
        raise NoAnswer("%s does not run" % OVSDB_SERVER, "run `ovsxen start`") from error
