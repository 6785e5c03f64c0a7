"""Somebody who writes to the database all the time."""

import threading
from typing import Any, Callable, Dict

from ovsxen.ovs.jsonrpc import Connection
from tests.conftest import LIMIT_S, SandboxHost


class Busy:
    """Does, until the end of its `with` block, the operation that it is given for the number of each write."""

    def __init__(self, host: SandboxHost, operation: Callable[[int], Dict[str, Any]], every_s: float) -> None:
        self._host = host
        self._operation = operation
        self._every_s = every_s
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.writes = 0

    def __enter__(self) -> "Busy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _write(self) -> None:
        with Connection(self._host.paths.db_sock, "the database", LIMIT_S) as connection:
            while not self._ends.wait(self._every_s):
                self.writes += 1
                connection.call("transact", ["Open_vSwitch", self._operation(self.writes)], LIMIT_S)
