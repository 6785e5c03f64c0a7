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
from typing import Any, Callable, Dict, Optional, Tuple
from xml.etree.ElementTree import Element, ParseError, XMLParser

from ovsxen.errors import AdministratorError, NoAnswer, NotPermitted, Refused
from ovsxen.host.clock import Deadline

CALL_WITHIN_S = 10.0
LIMIT_BYTES = 64 << 20
BLOCK_BYTES = 1 << 18
LONGEST_NUMBER = 40
XML_TYPES = ("text/xml", "application/xml")
LISTEN = "is the toolstack running? Look with `systemctl status xapi`, and try again"
AGAIN = "try again; if it stays so, look at /var/log/xensource.log and run `xe-toolstack-restart`"
REPORT = "look at /var/log/xensource.log; if it stays so, report this with the version of XAPI"

Values = Tuple[Any, ...]


class NotReached(NoAnswer):
    """The question was never sent: nobody listens there yet, or no more."""


class OutOfService(NoAnswer):
    """An error page instead of an answer: XAPI could not even pass the question on, as while the master is away."""


class UnixTransport(xmlrpc.client.Transport):
    """For XenAPI.Session(transport=...). Every error that request() raises is one of ovsxen.errors.

    `deadline` bounds the whole job; each call ends with it or after `call_within_s`, whichever is first.
    """

    def __init__(self, socket_path: Path, deadline: Deadline, call_within_s: float = CALL_WITHIN_S,
                 limit_bytes: int = LIMIT_BYTES) -> None:
        super().__init__()
        self.socket_path = socket_path
        self.deadline = deadline
        self.call_within_s = call_within_s
        self.limit_bytes = limit_bytes

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Values:  # noqa: ARG002
        """Ask once. Raises NotReached, OutOfService, NoAnswer, Refused, NotPermitted, AdministratorError."""
        within_s = min(self.call_within_s, self.deadline.remaining_s())
        if within_s <= 0:
            raise NoAnswer("there was no time left to ask XAPI", AGAIN)
        deadline = Deadline(within_s, self.deadline.clock)
        with _connect(self.socket_path, deadline) as connection:
            stream = _Stream(connection, deadline)
            try:
                stream.send(_question(handler, request_body))
                body = _read_answer(stream, self.limit_bytes)
            except OSError as error:
                raise NoAnswer("XAPI broke the connection off (%s)" % error.strerror, AGAIN) from error
        values = parse_values(body)
        _check_reply(values)
        return values


class _Stream(io.RawIOBase):
    """A connected socket as a file that never waits past the deadline, be it for the first byte or the last."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._connection = connection
        self._deadline = deadline

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
        left_s = self._deadline.remaining_s()
        if not left_s or not poller.poll(left_s * 1000):
            raise NoAnswer("XAPI did not answer within %.3g s" % self._deadline.within_s, AGAIN)


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


def _read_answer(stream: _Stream, limit_bytes: int) -> bytes:
    """The body of a good answer. Raises OSError where the connection breaks, else what UnixTransport.request does."""
    response = http.client.HTTPResponse(stream, method="POST")  # type: ignore[arg-type]
    try:
        response.begin()
        if response.status >= 500:
            raise OutOfService("XAPI gave an error page (HTTP %d %s)" % (
                response.status, ascii(response.reason)[:80]), AGAIN)
        _check_headers(response, limit_bytes)
        return _read_body(response, limit_bytes)
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


def _read_body(response: http.client.HTTPResponse, limit_bytes: int) -> bytes:
    blocks, size = [], 0
    while True:
        block = response.read(BLOCK_BYTES)
        if not block:
            break
        blocks.append(block)
        size += len(block)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(blocks)


def _too_large(limit_bytes: int) -> Refused:
    return Refused("XAPI's answer has more than %d bytes" % limit_bytes, REPORT)


def parse_values(body: bytes) -> Values:
    """What a methodResponse holds, just as xmlrpc.client.loads() has it, in half of its time.

    A pool has thousands of records. Raises Refused; for a <fault> too.
    """
    if b"<!DOCTYPE" in body:  # nowhere else can these bytes be, but in a comment or a CDATA, and XAPI writes neither
        raise Refused("XAPI's answer has a document type", REPORT)
    try:
        if b"\0" in body:  # the parser takes UTF-16 by its first two bytes, and there a document type looks different
            raise ValueError("not UTF-8")
        parser = XMLParser(encoding="utf-8")
        parser.feed(body)
        root = parser.close()
        if root.tag != "methodResponse" or len(root) != 1:
            raise ValueError("no methodResponse")
        if root[0].tag == "fault":
            raise Refused("XAPI answered with a fault (%s)" % ascii(_value(root[0][0]))[:200], REPORT)
        return tuple(_value(_child(param, "value")) for param in _tagged(root[0], "params"))
    except (ParseError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise Refused("XAPI's answer is not XML-RPC (%s)" % str(error)[:200], REPORT) from error


def _value(value: Element) -> Any:
    """What a <value> holds; a text where it names no type."""
    if not len(value):
        return value.text or ""
    typed, = value
    if typed.tag == "struct":
        return dict(map(_member, typed))
    if typed.tag == "array":
        return [_value(_tagged(one, "value")) for one in _child(typed, "data")]
    return SCALARS[typed.tag](_text(typed))


def _member(member: Element) -> Tuple[str, Any]:
    """The name and the value of a field. There are 40,000 in 1,000 PIFs, so this calls nothing for a bare text."""
    name, value = member
    if name.tag != "name" or value.tag != "value" or len(name):
        raise ValueError("a %s and a %s in a struct" % (name.tag, value.tag))
    return name.text or "", _value(value) if len(value) else value.text or ""


def _child(element: Element, tag: str) -> Element:
    """The only child, which must be of this tag."""
    only, = element
    return _tagged(only, tag)


def _tagged(element: Element, tag: str) -> Element:
    if element.tag != tag:
        raise ValueError("a %s where a %s is expected" % (element.tag, tag))
    return element


def _text(element: Element) -> str:
    if len(element):
        raise ValueError("elements in a %s" % element.tag)
    return element.text or ""


def _number(text: str) -> int:
    if len(text) > LONGEST_NUMBER:  # a million digits would take int() a minute
        raise ValueError("a number of %d digits" % len(text))
    return int(text)


def _flag(text: str) -> bool:
    return {"0": False, "1": True}[text]


def _nothing(text: str) -> None:
    if text:
        raise ValueError("a nil that is something")


SCALARS: Dict[str, Callable[[str], Any]] = {
    "string": str, "boolean": _flag, "int": _number, "i4": _number, "i8": _number, "double": float,
    "dateTime.iso8601": xmlrpc.client.DateTime, "nil": _nothing,
}


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
