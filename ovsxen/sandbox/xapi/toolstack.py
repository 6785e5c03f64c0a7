"""What every method works on: the pool, the switches, the plugins, and which host this is. No method and no wire."""

import threading
import uuid
from typing import Dict, List, Mapping, Optional, Set

from ovsxen.host.paths import Paths
from ovsxen.sandbox.xapi.database import Database
from ovsxen.sandbox.xapi.faults import Faults
from ovsxen.sandbox.xapi.plugins import PluginRun, Plugins
from ovsxen.sandbox.xapi.views import VIEWS, Rows, concerns
from ovsxen.sandbox.xapi.wire import ApiFailure, Record
from ovsxen.sandbox.xapi.world import World


class Toolstack:
    """One host's XAPI without its socket."""

    def __init__(self, paths: Paths, world: World, faults: Faults, *, slave: bool,
                 hosts_roots: Mapping[str, Paths]) -> None:
        """`hosts_roots` has the paths of other live hosts by their uuid."""
        self.world = world
        self.slave = slave
        self.database = Database(world.rows)
        self.faults = faults
        self.plugins = Plugins()
        self.plugin_runs: List[PluginRun] = []
        self.local_sessions: Set[str] = set()
        self.closing = threading.Event()
        self.epoch = 0
        """The generation below which event tokens are of a XAPI that has restarted."""
        self._roots = dict(hosts_roots)
        self._roots[world.host_uuid] = paths

    @property
    def host(self) -> str:
        """The ref of the host that this XAPI runs on."""
        return self.database.find("host", uuid=self.world.host_uuid)

    def paths_of(self, host: str) -> Optional[Paths]:
        """The paths of a live host; None for one that is offline."""
        return self._roots.get(self.database.get("host", host)["uuid"])

    def close(self) -> None:
        """Wake and end all that waits or runs."""
        self.closing.set()
        self.plugins.close()
        with self.database.changed:
            self.database.changed.notify_all()

    def open_session(self, originator: str, user: str = "root") -> str:
        return self.database.add("session", this_host=self.host, originator=originator, auth_user_name=user,
                                 uuid=str(uuid.uuid4()))

    def require_session(self, session: str, *, local_will_do: bool) -> None:
        """Raises ApiFailure (SESSION_INVALID)."""
        known = self.database.has("session", session) or (local_will_do and session in self.local_sessions)
        if not known:
            raise ApiFailure("SESSION_INVALID", session)

    def forget_sessions(self) -> None:
        """What a restart of the master does to its clients."""
        for ref in self.database.rows("session"):
            self.database.remove("session", ref)
        self.local_sessions.clear()
        self.epoch = self.database.generation + 1

    def rows(self, class_name: str, method: str) -> Rows:
        """The rows of a class as this call is to see them."""
        rows = self.database.rows(class_name)
        for name in self.faults.active():
            arguments = self.faults.arguments(name)
            if name in VIEWS and arguments is not None and concerns(name, class_name, arguments):
                taken = self.faults.take(name, method)
                rows = rows if taken is None else VIEWS[name].show(class_name, rows, taken)
        return rows

    def row(self, class_name: str, ref: str, method: str) -> Record:
        """One row as this call is to see it. Raises ApiFailure (HANDLE_INVALID)."""
        rows: Dict[str, Record] = self.rows(class_name, method)
        if ref not in rows:
            raise ApiFailure("HANDLE_INVALID", class_name, ref)
        return rows[ref]
