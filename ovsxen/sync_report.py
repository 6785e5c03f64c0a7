"""What a sync says of itself, as a value: `ovsxen status` asks for it on its control socket, and reads it here."""

import json
from typing import Any, Dict, List, NamedTuple, Tuple

from ovsxen.errors import Refused
from ovsxen.ovs.labels import BRIDGE, INTERFACE, Labels

SCHEMA = 1
START = "`systemctl start openvswitch-xapi-sync` (without systemd `ovsxen sync --detach`)"
COMMAND = "ovsxen/report"
KEYS = {BRIDGE: ("bridge-id",), INTERFACE: ("iface-id", "vm-id", "iface-status", "neutron-port-uuid")}


class SyncReport(NamedTuple):
    """How XAPI is followed (`xapi`), since when (UTC), and why not; whether the database is connected; what was
    written, and what is wrong.

    `waiting`: uuids for which XAPI's word is awaited. `update`: why the last update failed. `refused`: what
    ovsdb-server did not take. `hidden`: why it cannot be found. `fault`: a defect that is there now, and `faults`: how
    many have been met. `notes`: what somebody should look at.
    """

    xapi: str
    since: str
    xapi_problem: str
    is_connected: bool
    bridges: int
    interfaces: int
    waiting: int
    transactions: int
    update: str
    refused: str
    hidden: str
    faults: int
    fault: str
    notes: Tuple[str, ...]

    @property
    def summary(self) -> str:
        """In a few words, where all is well."""
        return "keeping external_ids: %s" % self.xapi

    @property
    def problems(self) -> Tuple[str, ...]:
        """What does not pass by itself, for people."""
        update = "the update that XAPI's wishes ask for failed, and is tried again: %s" % self.update
        return tuple(text for text in (update if self.update else "", self.refused, self.hidden, self.fault) if text)

    @property
    def warnings(self) -> Tuple[str, ...]:
        """What may pass by itself, or is XAPI's, for people."""
        found = []
        if self.xapi_problem:
            found.append("XAPI is not heard since %s, ids stay as they were last known and new ones are the uuids: %s"
                         % (self.since, self.xapi_problem))
        if not self.is_connected:
            found.append("ovsdb-server is not connected, so nothing is kept in agreement: look at `ovsxen status`")
        return tuple(found) + self.notes

    def as_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), schema=SCHEMA, notes=list(self.notes))


def parse_report(text: str) -> SyncReport:
    """What as_json() gave. Raises Refused."""
    try:
        value = json.loads(text)
        return SyncReport(**{name: value[name] for name in SyncReport._fields if name != "notes"},
                          notes=tuple(map(str, value["notes"])))
    except (ValueError, TypeError, KeyError) as error:
        raise Refused("its report makes no sense (%s)" % error, "restart it") from error


class ListedRow(NamedTuple):
    """A row with those of its keys that a sync keeps."""

    table: str
    name: str
    ids: Tuple[Tuple[str, str], ...]

    def __str__(self) -> str:
        return "%s %s %s" % (self.table, self.name, " ".join("%s=%s" % pair for pair in self.ids) or "-")


def list_rows(labels: Labels, name: str = "") -> List[ListedRow]:
    """All bridges and interfaces, or those of one name."""
    rows = [(BRIDGE, row.name, row.external_ids) for row in labels.bridges]
    rows += [(INTERFACE, row.name, row.external_ids) for row in labels.interfaces]
    return [ListedRow(table, row_name, tuple((key, ids[key]) for key in KEYS[table] if key in ids))
            for table, row_name, ids in rows if name in ("", row_name)]
