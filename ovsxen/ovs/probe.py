"""Questions to the daemons, asked without waiting: whoever watches must see a death while an answer is still out.

The format is that of jsonrpc.py, which is for those who wait.
"""

import json
import socket
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

from ovsxen.ovs import dbtool
from ovsxen.ovs.jsonrpc import encode_request
from ovsxen.ovs.lease import Lease, read_lease

TABLE = "Open_vSwitch"
RECEIVE_BYTES = 1 << 16
ANSWER_BYTES = 1 << 20
CANNOT_WRITE = "ovsdb-server cannot write conf.db"
"""What is said of a switch whose database answers that."""


class Probe:
    """A question that is under way."""

    def __init__(self, path: Path, method: str, params: List[Any], now_s: float) -> None:
        """Raises OSError where nobody listens there, or where no more connections are taken."""
        self.asked_s = now_s
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(str(path))
            self._socket.sendall(encode_request(0, method, params))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def take_answer(self) -> Optional[Any]:
        """The result, or None while it is not there. Raises OSError where it broke off, ValueError for nonsense."""
        while True:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return None
            if not data:
                raise ConnectionResetError("closed before it answered")
            self._received += data
            if len(self._received) > ANSWER_BYTES:
                raise ValueError("more than %d bytes" % ANSWER_BYTES)
            try:
                reply = json.loads(self._received.decode())
            except RecursionError as error:
                raise ValueError("nested too deep") from error
            except ValueError:
                continue  # not whole yet
            if not isinstance(reply, dict) or reply.get("result") is None:
                raise ValueError(str(reply)[:200])
            return reply["result"]


class Told(NamedTuple):
    """What the database said last: cur_cfg and next_cfg, the lease, and why it could not be written when that was last
    tried, or "".
    """

    configured: Optional[Tuple[int, int]] = None
    lease: Optional[Lease] = None
    refused: str = ""

    @property
    def is_behind(self) -> bool:
        """ovs-vswitchd has not said yet that it has configured all."""
        return self.configured is not None and self.configured[0] < self.configured[1]


def ask_version(path: Path, now_s: float) -> Probe:
    """Ask a daemon at its control socket who it is. Raises OSError."""
    return Probe(path, "version", [], now_s)


def ask_configuration(path: Path, now_s: float, *, write: bool) -> Probe:
    """Ask the database how far ovs-vswitchd is; `write`: and count next_cfg up, for it to catch up with.

    Raises OSError.
    """
    select = {"op": "select", "table": TABLE, "where": [], "columns": ["cur_cfg", "next_cfg", "other_config"]}
    count = {"op": "mutate", "table": TABLE, "where": [], "mutations": [["next_cfg", "+=", 1]]}
    return Probe(path, "transact", [dbtool.DATABASE, select] + ([count] if write else []), now_s)


def parse_told(answer: Any, before: Told) -> Told:
    """The answer to `ask_configuration`. Raises ValueError where the server has no Open_vSwitch row."""
    try:
        row, refused = answer[0]["rows"][0], before.refused
        if len(answer) > 1:
            errors = [one for one in answer[1:] if one and "error" in one]
            refused = str(errors[0].get("details") or errors[0]["error"]) if errors else ""
        return Told((int(row["cur_cfg"]), int(row["next_cfg"])), read_lease(dict(row["other_config"][1])), refused)
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError("no Open_vSwitch row in %s" % str(answer)[:80]) from error
