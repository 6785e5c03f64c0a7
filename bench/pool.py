"""The fake XAPI as a process of its own, `python -m bench.pool ROOT NETWORKS`, told what to do by lines on its stdin.

Its time is not the bench's, as the toolstack's is not the plugin's. It ends with its stdin.
"""

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Iterable, List, Tuple, cast

from bench.host import REPOSITORY, BenchFailed
from bench.sync_vifs import BRIDGE, Vif
from ovsxen.host.paths import paths_under
from ovsxen.sandbox.xapi import wire
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import make_world, ref_of

LIMIT_S = 60.0
CONTROLLER, CALLS, VIFS, LAG = "controller", "calls", "vifs", "lag"
EVENTS = "event.from"


class Pool:
    """The process, as its caller has it, until the end of the `with` block."""

    def __init__(self, root: Path, networks: int) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "bench.pool", str(root), str(networks)], cwd=str(REPOSITORY),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self._stdin, self._stdout = cast(IO[bytes], self._child.stdin), cast(IO[bytes], self._child.stdout)

    def __enter__(self) -> "Pool":
        try:
            self._answer()
        except BenchFailed:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def introduce_controller(self, address: str, port: int) -> None:
        """Have this one SDN controller, without running the plugin for it."""
        self._ask(CONTROLLER, address, str(port))

    def take_calls(self) -> Tuple[str, ...]:
        """The calls that were made since this was asked last."""
        return tuple(self._ask(CALLS))

    def introduce_vifs(self, vifs: Iterable[Vif]) -> None:
        """Have these VIFs and their VMs. All their XML is made by then, so that no answer waits for it."""
        self._ask(VIFS, *(str(vif.number) for vif in vifs))

    def lag(self, seconds: float) -> None:
        """From the next event.from on, tell of nothing for so long; whoever waits in one now asks again at once."""
        self._ask(LAG, str(seconds))

    def _ask(self, *words: str) -> Any:
        self._stdin.write((" ".join(words) + "\n").encode())
        self._stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        poller = select.poll()
        poller.register(self._stdout, select.POLLIN)
        line = self._stdout.readline() if poller.poll(LIMIT_S * 1000) else b""
        if not line:
            raise BenchFailed("the fake XAPI does not answer")
        return json.loads(line.decode())

    def _end(self) -> None:
        self._stdin.close()
        try:
            self._child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._stdout.close()


def main(arguments: List[str]) -> int:
    """Serve, say so, and then one line of JSON for each line that was asked."""
    root, networks = arguments
    with FakeXapi(paths_under(Path(root), os.environ), make_world(networks=int(networks))) as xapi:
        _say(True)
        for line in sys.stdin:
            _say(_do(xapi, line.split()))
    return 0


def _do(xapi: FakeXapi, words: List[str]) -> Any:
    if words[0] == CALLS:
        calls, xapi.calls[:] = list(xapi.calls), []
        return calls
    if words[0] == VIFS:
        _add_vifs(xapi, [Vif(int(word)) for word in words[1:]])
        return True
    if words[0] == LAG:
        xapi.faults.set("slow", method=EVENTS, seconds=float(words[1]))
        for ref in xapi.database.rows("pool"):
            xapi.database.set("pool", ref, name_label="lagging")
        return True
    for ref in list(xapi.database.rows("SDN_controller")):
        xapi.database.remove("SDN_controller", ref)
    xapi.database.add("SDN_controller", protocol="ssl", address=words[1], port=int(words[2]))
    return True


def _add_vifs(xapi: FakeXapi, vifs: List[Vif]) -> None:
    """In one piece: nobody is told of some of them first."""
    database, network = xapi.database, ref_of("network", BRIDGE)
    with database.changed:
        for vif in vifs:
            vm = database.add("VM", uuid=vif.vm_uuid, other_config=vif.vm_other_config)
            database.add("VIF", uuid=vif.uuid, other_config=vif.other_config, VM=vm, network=network, MAC=vif.mac)
        for class_name in ("VIF", "VM"):
            wire.serialise(database.rows(class_name))


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
