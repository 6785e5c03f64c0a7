"""The one door to the sockets of Open vSwitch: a call, a deadline, an answer.

The database server and the control sockets of the daemons both speak JSON-RPC 1.0 (RFC 7047 §4). The wire format is
Open vSwitch's own, from `ovs.json`. The connection above it is not: `ovs.jsonrpc` has no deadline for an answer, and
its import, with a logging framework and ssl, takes as long as both daemons need to start. Nor does the parser, in plain
Python, get an answer that came alone: it needs 10 ms for 1,000 names of bridges and a minute for 3 MB.
"""

import codecs
import errno
import json
import os
import select
import socket
from pathlib import Path
from typing import Any, Dict, List, Optional

from ovsxen.errors import AdministratorError, NoAnswer, NotPermitted, Refused
from ovsxen.host.clock import Deadline

try:
    import ovs.json
except ImportError as error:
    raise AdministratorError("the Python package ovs cannot be imported (%s)" % error,
                             "reinstall ovsxen with its dependencies") from error

NOT_YET = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN)
RECEIVE_BYTES = 1 << 16
REMEDY = "look again; if it stays so, run `ovsxen restart`"


def encode_request(number: int, method: str, params: List[Any]) -> bytes:
    """A request as it goes over the wire."""
    return _encode({"id": number, "method": method, "params": params})


def _encode(message: Dict[str, Any]) -> bytes:
    return bytes(ovs.json.to_string(message).encode("utf-8"))


class Connection:
    """A connection to one Unix socket. `peer` names the other side in errors."""

    def __init__(self, path: Path, peer: str, within_s: float) -> None:
        """Keeps trying while the socket is not there yet: whoever holds a pidfile's lock is about to listen.

        Raises NoAnswer when nobody takes the connection in time, NotPermitted when the socket may not be used.
        """
        self.peer = peer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._received = ""
        self._sent = 0

        def connect() -> Optional[int]:
            error = self._socket.connect_ex(str(path))
            return None if error in NOT_YET else error

        error = Deadline(within_s).wait_for(connect)
        if error is None:
            error = self._socket.connect_ex(str(path))
        if error:
            self._socket.close()
        if error in (errno.EACCES, errno.EPERM):
            raise NotPermitted("cannot connect to %s at %s" % (peer, path), "run ovsxen as root")
        if error:
            raise NoAnswer("%s took no connection at %s within %g s (%s)" % (
                peer, path, within_s, os.strerror(error)), REMEDY)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, method: str, params: List[Any], within_s: float) -> Any:
        """Send one request and wait for its answer. Raises NoAnswer past the deadline, Refused for an error reply."""
        deadline = Deadline(within_s)
        self._sent += 1
        try:
            self._send(encode_request(self._sent, method, params), deadline)
            while True:
                message = self._receive(deadline)
                if message.get("method") == "echo":
                    self._send(_encode({"id": message.get("id"), "result": message.get("params"), "error": None}),
                               deadline)
                elif message.get("id") == self._sent and "method" not in message:
                    break
        except OSError as error:
            raise NoAnswer("%s broke the connection off (%s)" % (self.peer, error.strerror), REMEDY) from error
        if message.get("error") is not None:
            raise Refused("%s refused %s (%s)" % (self.peer, method, str(message["error"]).strip()))
        if "result" not in message:
            raise Refused("%s gave no result for %s" % (self.peer, method))
        return message["result"]

    def _send(self, message: bytes, deadline: Deadline) -> None:
        data = memoryview(message)
        while data:
            self._wait(select.POLLOUT, deadline)
            data = data[self._socket.send(data):]

    def _receive(self, deadline: Deadline) -> Dict[str, Any]:
        """The next whole message."""
        while True:
            try:
                message, self._received = json.loads(self._received), ""
                break
            except RecursionError as error:
                raise Refused("%s does not speak JSON-RPC (nested too deep)" % self.peer) from error
            except json.JSONDecodeError as error:
                if error.msg == "Extra data":  # whole, and more behind it
                    message = self._take_first()
                    break
                self._read_more(deadline)
        if not isinstance(message, dict):
            raise Refused("%s does not speak JSON-RPC (%s)" % (self.peer, str(message)[:80]))
        return message

    def _take_first(self) -> Any:
        parser = ovs.json.Parser()
        self._received = self._received[parser.feed(self._received):]
        return parser.finish()

    def _read_more(self, deadline: Deadline) -> None:
        self._wait(select.POLLIN, deadline)
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise NoAnswer("%s closed the connection before it answered" % self.peer, REMEDY)
        try:
            self._received += self._decoder.decode(data)
        except UnicodeDecodeError as error:
            raise Refused("%s does not speak JSON-RPC (%s)" % (self.peer, error)) from error

    def _wait(self, event: int, deadline: Deadline) -> None:
        poller = select.poll()
        poller.register(self._socket, event)
        if not poller.poll(deadline.remaining_s() * 1000):
            raise NoAnswer("%s did not answer within %g s" % (self.peer, deadline.within_s), REMEDY)
