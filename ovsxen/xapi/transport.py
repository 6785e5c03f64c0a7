"""How a question reaches XAPI and its answer comes back: XML-RPC over HTTP on a Unix socket, each call with a deadline.

The transport below the official client, whose own waits for ever, sends a question twice when the connection drops, and
cannot name a path that has an underscore. Here each question has a connection of its own (20 µs on a Unix socket): so
none is ever sent twice, and none meets a connection that XAPI closed in the meantime. It decides nothing about asking
again; that is session.py's. Answers are untrusted: bounded in size, without document types, of XAPI's one shape.
"""

import errno
import http.client
import io
import os
import select
import socket
import xmlrpc.client
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Optional, Tuple

from ovsxen.errors import AdministratorError, NoAnswer, NotPermitted, Refused
from ovsxen.host.clock import Deadline
from ovsxen.xapi.answers import REPORT, Values, parse_values

if TYPE_CHECKING:
    from ovsxen.xapi.selection import Selection

CALL_WITHIN_S = 10.0
LIMIT_BYTES = 64 << 20
BLOCK_BYTES = 1 << 16
XML_TYPES = ("text/xml", "application/xml")
LISTEN = "is the toolstack running? Look with `systemctl status xapi`, and try again"
AGAIN = "try again; if it stays so, look at /var/log/xensource.log and run `xe-toolstack-restart`"


class NotReached(NoAnswer):
    """The question was never sent: nobody listens there yet, or no more."""


class OutOfService(NoAnswer):
    """An error page instead of an answer: XAPI could not even pass the question on, as while the master is away."""


class Interrupted(NoAnswer):
    """Somebody else has something to say, so the answer was not waited for."""


class UnixTransport(xmlrpc.client.Transport):
    """For XenAPI.Session(transport=...). Every error that request() raises is one of ovsxen.errors.

    `deadline` bounds the whole job; each call ends with it or after `call_within_s`, whichever is first, or when one of
    the descriptors `interrupts` can be read. `selection` thins an answer out.
    """

    def __init__(self, socket_path: Path, deadline: Deadline, call_within_s: float = CALL_WITHIN_S,
                 limit_bytes: int = LIMIT_BYTES) -> None:
        super().__init__()
        self.socket_path = socket_path
        self.deadline = deadline
        self.call_within_s = call_within_s
        self.limit_bytes = limit_bytes
        self.interrupts: Tuple[int, ...] = ()
        self.selection: "Optional[Selection]" = None

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Values:  # noqa: ARG002
        """Ask once. Raises NotReached, OutOfService, Interrupted, NoAnswer, Refused, NotPermitted, AdministratorError.
        """
        within_s = min(self.call_within_s, self.deadline.remaining_s())
        if within_s <= 0:
            raise NoAnswer("there was no time left to ask XAPI", AGAIN)
        deadline = Deadline(within_s, self.deadline.clock)
        with _connect(self.socket_path, deadline) as connection:
            stream = _Stream(connection, deadline, self.interrupts)
            try:
                stream.send(_question(handler, request_body))
                blocks = _read_answer(stream, self.limit_bytes)
                values = _select(blocks, self.selection) if self.selection else parse_values(b"".join(blocks))
            except OSError as error:
                raise NoAnswer("XAPI broke the connection off (%s)" % error.strerror, AGAIN) from error
        _check_reply(values)
        return values


def _select(blocks: Iterator[bytes], selection: "Selection") -> Values:
    from ovsxen.xapi.selection import select_values  # an update does without
    return select_values(blocks, selection)


class _Stream(io.RawIOBase):
    """A connected socket as a file that never waits past the deadline, be it for the first byte or the last."""

    def __init__(self, connection: socket.socket, deadline: Deadline, interrupts: Tuple[int, ...]) -> None:
        super().__init__()
        self._connection = connection
        self._deadline = deadline
        self._interrupts = interrupts

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._wait(select.POLLIN)
        return self._connection.recv_into(buffer)

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(select.POLLOUT)
            rest = rest[self._connection.send(rest):]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client asks of a socket."""
        return io.BufferedReader(self, BLOCK_BYTES)

    def _wait(self, event: int) -> None:
        poller = select.poll()
        poller.register(self._connection, event)
        for fd in self._interrupts:
            poller.register(fd, select.POLLIN)
        left_s = self._deadline.remaining_s()
        ready = [fd for fd, _ in poller.poll(left_s * 1000)] if left_s else []
        if not ready:
            raise NoAnswer("XAPI did not answer within %.3g s" % self._deadline.within_s, AGAIN)
        if self._connection.fileno() not in ready:
            raise Interrupted("the answer of XAPI was not waited for")


def _connect(path: Path, deadline: Deadline) -> socket.socket:
    """A connection that does not block. While XAPI's queue of connections is full, this tries again."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        error = deadline.wait_for(lambda: _without(errno.EAGAIN, connection.connect_ex(str(path))), every_s=0.02)
    except (OSError, ValueError) as unusable:  # too long for a socket's name, or holds a NUL
        connection.close()
        raise AdministratorError("%s cannot be the name of XAPI's socket (%s)" % (ascii(str(path)), unusable),
                                 "name another") from unusable
    if error == 0:
        return connection
    connection.close()
    if error in (errno.EACCES, errno.EPERM):
        raise NotPermitted("cannot connect to XAPI at %s" % path, "run ovsxen as root")
    if error is None:
        raise NotReached("XAPI took no connection at %s within %.3g s" % (path, deadline.within_s), AGAIN)
    raise NotReached("XAPI does not listen at %s (%s)" % (path, os.strerror(error)), LISTEN)


def _without(transient: int, error: int) -> Optional[int]:
    return None if error == transient else error


def _question(handler: str, body: Any) -> bytes:
    content = bytes(body)
    return (b"POST %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ovsxen\r\nConnection: close\r\n"
            b"Content-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % (handler.encode("ascii"), len(content))) + content


def _read_answer(stream: _Stream, limit_bytes: int) -> Iterator[bytes]:
    """The body of a good answer, block by block. Raises OSError where the connection breaks, else what
    UnixTransport.request does.
    """
    response = http.client.HTTPResponse(stream, method="POST")  # type: ignore[arg-type]
    try:
        response.begin()
        if response.status >= 500:
            raise OutOfService("XAPI gave an error page (HTTP %d %s)" % (
                response.status, ascii(response.reason)[:80]), AGAIN)
        _check_headers(response, limit_bytes)
        yield from _read_body(response, limit_bytes)
    except http.client.RemoteDisconnected as error:
        raise NoAnswer("XAPI closed the connection before it answered", AGAIN) from error
    except http.client.IncompleteRead as error:
        raise NoAnswer("XAPI closed the connection in the middle of its answer", AGAIN) from error
    except (http.client.HTTPException, ValueError) as error:
        raise Refused("XAPI's answer is not HTTP (%s)" % type(error).__name__, REPORT) from error
    finally:
        response.close()


def _check_headers(response: http.client.HTTPResponse, limit_bytes: int) -> None:
    kind = (response.getheader("Content-Type") or XML_TYPES[0]).split(";")[0].strip().lower()
    if response.status != 200 or kind not in XML_TYPES or response.getheader("Content-Encoding"):
        raise Refused("XAPI answered with HTTP %d and %s instead of XML" % (response.status, ascii(kind)[:80]), REPORT)
    if response.length is not None and response.length > limit_bytes:
        raise _too_large(limit_bytes)


def _read_body(response: http.client.HTTPResponse, limit_bytes: int) -> Iterator[bytes]:
    size = 0
    while True:
        block = response.read(BLOCK_BYTES)
        if not block:
            break
        size += len(block)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        yield block
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _too_large(limit_bytes: int) -> Refused:
    return Refused("XAPI's answer has more than %d bytes" % limit_bytes, REPORT)


def _check_reply(values: Values) -> None:
    """XAPI's answers have a Status, and a Value or a list of texts; the official client takes anything else badly."""
    reply = values[0] if len(values) == 1 else None
    if not isinstance(reply, dict):
        raise Refused("XAPI's answer is %s, and not its Status" % ascii(values)[:80], REPORT)
    words = reply.get("ErrorDescription")
    described = isinstance(words, list) and words and all(isinstance(word, str) for word in words)
    if not (reply.get("Status") == "Success" and "Value" in reply or reply.get("Status") == "Failure" and described):
        # Without the values: one may be the ref of a session.
        raise Refused("XAPI's answer is neither a Success with a Value nor a Failure with its description (%s: %s)" % (
            ascii(reply.get("Status"))[:80], ascii(sorted(reply))[:80]), REPORT)
