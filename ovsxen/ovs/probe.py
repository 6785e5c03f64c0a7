"""One question to a daemon, asked without waiting: whoever watches must see a death while an answer is still out.

The format is that of jsonrpc.py, which is for those who wait.
"""

import json
import socket
from pathlib import Path
from typing import Any, List, Optional

from ovsxen.ovs.jsonrpc import encode_request

RECEIVE_BYTES = 1 << 16
ANSWER_BYTES = 1 << 20


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
