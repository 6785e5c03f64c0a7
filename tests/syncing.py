"""A host whose `ovsxen sync` runs, and what a test asks of it and waits for."""

import json
import subprocess
from typing import Any, Callable, Dict, List, Optional

from ovsxen.host.clock import Deadline
from ovsxen.ovs.daemons import XAPI_SYNC
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import ref_of
from tests.conftest import Finished, SandboxHost

WITHIN_S = 60.0
Ids = Dict[str, str]


def eventually(holds: Callable[[], bool], within_s: float = WITHIN_S) -> bool:
    return Deadline(within_s).wait_until(holds, every_s=0.02)


class Syncing:
    """`ovsxen sync` of a host, as a process of the test's own."""

    def __init__(self, host: SandboxHost) -> None:
        self.host = host
        self.child: Optional["subprocess.Popen[bytes]"] = None

    def start(self, **env: str) -> "Syncing":
        """Returns when it answers on its control socket."""
        self.child = self.host.spawn("sync", **env)
        assert eventually(lambda: self.ask("version").code == 0), self.child.poll()
        return self

    def stop(self) -> None:
        """By SIGTERM, which it takes well. Does nothing where it has ended."""
        child, self.child = self.child, None
        if child is None:
            return
        child.terminate()
        try:
            assert child.wait(WITHIN_S) == 0
        finally:
            child.kill()
            child.wait()

    def ended(self) -> int:
        """Wait until it has ended by itself; gives its exit code."""
        assert self.child is not None
        code, self.child = self.child.wait(WITHIN_S), None
        return code

    def ask(self, *words: str) -> Finished:
        """By its control socket, as it is found by name."""
        return Finished(subprocess.run(
            ("ovs-appctl", "--timeout=20", "-t", XAPI_SYNC) + words, env=self.host.environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
            timeout=WITHIN_S))

    def report(self) -> Dict[str, Any]:
        answer = json.loads(self.ask("ovsxen/report").out)
        assert isinstance(answer, dict)
        return answer

    # The rows

    def vsctl(self, *words: str) -> str:
        return self.host.vsctl("--no-wait", *words)

    def rows(self, table: str = "Interface") -> Dict[str, Ids]:
        """The external_ids of all rows, by their names."""
        shown = json.loads(self.vsctl("--format=json", "--columns=name,external_ids", "list", table))
        return {name: dict(ids[1]) for name, ids in shown["data"]}

    def ids(self, name: str) -> Ids:
        return self.rows().get(name, {})

    def bridge_id(self, name: str) -> Optional[str]:
        return self.rows("Bridge").get(name, {}).get("bridge-id")

    def assert_becomes(self, name: str, **ids: Optional[str]) -> None:
        """Wait until an interface has these; `iface_id="x"` is for the key with dashes, None for none."""
        wanted = {key.replace("_", "-"): value for key, value in ids.items()}
        assert eventually(lambda: matches(self.ids(name), wanted)), (wanted, self.ids(name), self.ask("list"))

    def assert_bridge_becomes(self, name: str, bridge_id: Optional[str]) -> None:
        assert eventually(lambda: self.bridge_id(name) == bridge_id), (bridge_id, self.rows("Bridge"))


def matches(ids: Ids, wanted: Dict[str, Optional[str]]) -> bool:
    return all(ids.get(key) == value for key, value in wanted.items())


def port(bridge: str, name: str, **ids: str) -> List[str]:
    """The words for ovs-vsctl that add a port; `xs_vif_uuid="x"` is for the key with dashes."""
    words = ["--", "add-port", bridge, name]
    if ids:
        words += ["--", "set", "Interface", name]
        words += ["external_ids:%s=%s" % (key.replace("_", "-"), value) for key, value in ids.items()]
    return words


def uuid_of(xapi: FakeXapi, class_name: str, name: str) -> str:
    """Of a record of the made world."""
    return str(xapi.database.get(class_name, ref_of(class_name, name))["uuid"])


def give(xapi: FakeXapi, class_name: str, name: str, **keys: str) -> None:
    """Have a record of the made world have this other_config, `nicira_iface_id="x"` for the key with dashes."""
    xapi.database.set(class_name, ref_of(class_name, name),
                      other_config={key.replace("_", "-"): value for key, value in keys.items()})
