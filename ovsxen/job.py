"""One update while it goes on: the host, what is left of its time, and what it has found out and done so far."""

from typing import Dict, List, NamedTuple, Optional, Tuple

from ovsxen.answer import Answer, read_update_report
from ovsxen.errors import AdministratorError
from ovsxen.host.clock import Deadline
from ovsxen.host.inventory import read_inventory
from ovsxen.host.paths import Paths
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.plan import NO_CHANGE, Plan
from ovsxen.sequence import Host
from ovsxen.xapi import records
from ovsxen.xapi.session import Xapi

BUDGET_S = 30.0
DATABASE_WITHIN_S = 8.0


class Physical(NamedTuple):
    """What XAPI has of this host's devices, and of those of the pool's other hosts."""

    host_ref: str
    pifs: Tuple[records.Pif, ...]
    bonds: Tuple[records.Bond, ...]
    vlans: Tuple[records.Vlan, ...]
    tunnels: Tuple[records.Tunnel, ...]


class Job:
    """One update: the host, its deadline, and what it has found out and done so far."""

    def __init__(self, host: Host, *, dry_run: bool) -> None:
        self.paths, self.settings = host
        self.deadline = Deadline(BUDGET_S)
        self.dry_run = dry_run
        self.done: List[str] = []
        self.changes: List[str] = []
        self.notes: List[str] = list(host.settings.problems)
        self.held: Dict[str, str] = {}
        self.unsure: Optional[Plan] = None
        before = read_update_report(host.paths.update_report)
        self.put_back: Dict[str, int] = dict(before.put_back) if before else {}
        self._physical: Optional[Physical] = None

    def note(self, text: str) -> None:
        """What somebody should look at, once."""
        if text not in self.notes:
            self.notes.append(text)

    def left_s(self, at_most_s: float) -> float:
        """Seconds for the next step."""
        return max(0.1, min(at_most_s, self.deadline.remaining_s()))

    def answer(self) -> Answer:
        return Answer("".join(dict.fromkeys(self.done)) or NO_CHANGE, tuple(self.changes), tuple(self.notes))

    def physical(self, xapi: Xapi) -> Physical:
        """Read when it is first needed. Raises OvsxenError."""
        if self._physical is None:
            self._physical = read_physical(self.paths, xapi)
        return self._physical


def read_physical(paths: Paths, xapi: Xapi) -> Physical:
    uuid = read_inventory(paths.inventory).uuid
    if not uuid:
        raise AdministratorError("%s has no INSTALLATION_UUID, so XAPI cannot be asked for this host" % paths.inventory,
                                 "put it back")
    return Physical(records.read_host_ref(xapi, uuid), records.read_pifs(xapi), records.read_bonds(xapi),
                    records.read_vlans(xapi), records.read_tunnels(xapi))


def open_database(job: Job) -> Connection:
    label = daemons.find(job.paths, OVSDB_SERVER).label
    return Connection(job.paths.db_sock, label, job.left_s(DATABASE_WITHIN_S))
