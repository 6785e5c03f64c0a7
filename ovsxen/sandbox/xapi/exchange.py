"""HTTP as XAPI speaks it on its socket: one request in, one answer out, no chunks, an HTML page when it gives up."""

import socket
from typing import Dict, NamedTuple, Optional, Tuple

BODY_LIMIT_BYTES = 300 * 1024
HEAD_LIMIT_BYTES = 64 * 1024
RECEIVE_BYTES = 1 << 16


class Request(NamedTuple):
    """A whole request. Names of headers are lower case."""

    verb: str
    target: str
    version: str
    headers: Dict[str, str]
    body: bytes

    @property
    def keeps_alive(self) -> bool:
        return self.version != "HTTP/1.0" and self.headers.get("connection", "").lower() != "close"


class BadRequest(Exception):
    """A request that XAPI answers with an error page and a closed connection."""


class Exchange:
    """The requests of one connection, one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._received = b""

    def read_request(self) -> Optional[Request]:
        """The next request; None when the client has gone. Raises BadRequest, OSError."""
        head = self._read_head()
        if head is None:
            return None
        verb, target, version, headers = parse_head(head)
        if "content-length" not in headers:
            raise BadRequest("the request has no content-length")
        length = headers["content-length"].strip()
        if not (length.isdigit() and int(length) <= BODY_LIMIT_BYTES):
            raise BadRequest("a body of %s bytes is not taken" % length)
        while len(self._received) < int(length):
            if not self._receive():
                return None
        body, self._received = self._received[:int(length)], self._received[int(length):]
        return Request(verb, target, version, headers, body)

    def _read_head(self) -> Optional[bytes]:
        while b"\r\n\r\n" not in self._received:
            if len(self._received) > HEAD_LIMIT_BYTES:
                raise BadRequest("the headers are too large")
            if not self._receive():
                return None
        head, self._received = self._received.split(b"\r\n\r\n", 1)
        return head

    def _receive(self) -> bool:
        data = self.connection.recv(RECEIVE_BYTES)
        self._received += data
        return bool(data)


def parse_head(head: bytes) -> Tuple[str, str, str, Dict[str, str]]:
    """Request line and headers. Raises BadRequest."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise BadRequest("not a request line: %s" % lines[0][:80])
    pairs = (line.partition(":") for line in lines[1:])
    return words[0], words[1], words[2], {name.strip().lower(): value.strip() for name, _, value in pairs}


class Answer(NamedTuple):
    """An answer before it is bytes, so that faults can bend it."""

    body: bytes
    keeps_alive: bool = True
    content_type: str = "text/xml"
    status: str = "200 OK"
    version: str = "HTTP/1.1"
    extra_length: int = 0
    """What content-length says too much; only a fault makes it anything but 0."""

    def head(self) -> bytes:
        lines = ["%s %s" % (self.version, self.status),
                 "content-length: %d" % (len(self.body) + self.extra_length),
                 "connection: %s" % ("keep-alive" if self.keeps_alive else "close"),
                 "cache-control: no-cache, no-store",
                 "content-type: %s" % self.content_type,
                 "access-control-allow-origin: *",
                 "access-control-allow-headers: X-Requested-With"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def to_bytes(self) -> bytes:
        return self.head() + self.body


def error_page(reason: str, status: str = "500 Internal Error") -> Answer:
    """The page that a client gets where XAPI could not even make a Failure of it."""
    page = "<html><body><h1>HTTP %s</h1><p>%s</p></body></html>" % (status, reason)
    return Answer(page.encode(), keeps_alive=False, content_type="text/html", status=status)
