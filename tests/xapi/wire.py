"""A server on a Unix socket that a test tells byte by byte how to behave, and values in the shape that XAPI sends them.

XAPI's strings are bare, its integers are texts, and there is no white space between elements (ocaml-rpc).
"""

import shutil
import socket
import tempfile
import threading
import xmlrpc.client
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple
from xml.sax.saxutils import escape

HEADERS = ("content-length: %d\r\nconnection: keep-alive\r\ncache-control: no-cache, no-store\r\n"
           "content-type: text/xml\r\n\r\n")
ERROR_PAGE = (b"HTTP/1.1 500 Internal Error\r\nconnection: close\r\ncontent-type: text/html\r\n"
              b"content-length: 41\r\n\r\n<html><body><h1>HTTP 500</h1></body></ht>")


class Question(NamedTuple):
    """A request as the server got it."""

    method: str
    params: Tuple[Any, ...]
    headers: Dict[str, str]


Serve = Callable[[socket.socket, Question], None]


class Wire:
    """Reads one request from each connection, and has `serve` answer it. `asked` holds them all, in order."""

    def __init__(self, path: Path, serve: Serve) -> None:
        self.path = path
        self.asked: List[Question] = []
        self._serve = serve
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def methods(self) -> List[str]:
        return [question.method for question in self.asked]

    def _run(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                try:
                    self.asked.append(read_question(connection))
                    self._serve(connection, self.asked[-1])
                except OSError:
                    pass  # the other side has gone

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=30)
        self._listener.close()
        assert not self._thread.is_alive()


@contextmanager
def short_directory() -> Iterator[Path]:
    """A socket's name has room for 107 bytes only. With an underscore, which the official client cannot say."""
    directory = Path(tempfile.mkdtemp(prefix="ox_", dir="/tmp"))
    yield directory
    shutil.rmtree(str(directory))


def read_question(connection: socket.socket) -> Question:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, body = data.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines[1:])}
    while len(body) < int(headers["content-length"]):
        body += _some(connection)
    params, method = xmlrpc.client.loads(body)
    assert lines[0] == "POST / HTTP/1.1" and method
    return Question(method, tuple(params), headers)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise OSError("the question ended early")
    return data


def until_it_hangs_up(connection: socket.socket) -> None:
    """Wait until the other side gives up."""
    while connection.recv(65536):
        pass


def http_ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + (HEADERS % len(body)).encode() + body


def success(value: Any) -> bytes:
    return http_ok(document({"Status": "Success", "Value": value}))


def failure(*words: str) -> bytes:
    return http_ok(document({"Status": "Failure", "ErrorDescription": list(words)}))


def document(value: Any) -> bytes:
    return ('<?xml version="1.0"?><methodResponse><params><param>%s</param></params></methodResponse>' % element(value)
            ).encode("utf-8")


def element(value: Any) -> str:
    """A value as XAPI writes it."""
    if isinstance(value, bool):
        return "<value><boolean>%d</boolean></value>" % value
    if isinstance(value, float):
        return "<value><double>%.16g</double></value>" % value
    if isinstance(value, xmlrpc.client.DateTime):
        return "<value><dateTime.iso8601>%s</dateTime.iso8601></value>" % value
    if isinstance(value, dict):
        members = "".join("<member><name>%s</name>%s</member>" % (_escaped(name), element(one))
                          for name, one in value.items())
        return "<value><struct>%s</struct></value>" % members if members else "<value><struct/></value>"
    if isinstance(value, (list, tuple)):
        return "<value><array><data>%s</data></array></value>" % "".join(element(one) for one in value)
    return "<value>%s</value>" % _escaped(str(value)) if value != "" else "<value/>"


def _escaped(text: str) -> str:
    return escape(text, {'"': "&quot;", "\r": "&#13;"})
