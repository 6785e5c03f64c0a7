"""HTTP on the socket: what is kept alive, what is refused, and with which page."""

import pytest

from ovsxen.sandbox.xapi.server import FakeXapi
from tests.sandbox_xapi.conftest import Host, read_all, read_answer_on
from tests.sandbox_xapi.test_wire import LOGIN

BODY = LOGIN.encode()


def request(*headers: str, version: str = "HTTP/1.1", body: bytes = BODY) -> bytes:
    lines = ("POST / " + version, "Host: x") + headers
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


LENGTH = "Content-Length: %d" % len(BODY)


def test_the_headers_come_in_xapis_order(xapi: FakeXapi, host: Host) -> None:
    said = host.say(request(LENGTH, "Connection: close"))
    lines = said.split(b"\r\n\r\n")[0].decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert [line.split(": ")[0] for line in lines[1:]] == [
        "content-length", "connection", "cache-control", "content-type", "access-control-allow-origin",
        "access-control-allow-headers"]
    assert "content-type: text/xml" in lines and "connection: close" in lines


def test_a_connection_is_kept_for_the_next_request(xapi: FakeXapi, host: Host) -> None:
    with host.connect() as connection:
        connection.sendall(request(LENGTH) + request(LENGTH, "Connection: close"))
        said = read_all(connection)
    assert said.count(b"HTTP/1.1 200 OK") == 2 and said.count(b"connection: keep-alive") == 1
    assert len(xapi.sessions) == 2


def test_http_1_0_is_answered_and_closed(xapi: FakeXapi, host: Host) -> None:
    said = host.say(request(LENGTH, version="HTTP/1.0"))
    assert said.startswith(b"HTTP/1.0 200 OK\r\n") and b"connection: close" in said


@pytest.mark.parametrize("data", [
    request(), request("Transfer-Encoding: chunked"), request("Content-Length: %d" % (300 * 1024 + 1)),
    request("Content-Length: many"), b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"what?\r\n\r\n",
    request("Content-Length: 5", body=b"<xml>"),
], ids=["no-length", "chunked", "too-large", "length-no-number", "get", "no-http", "no-xml"])
def test_anything_else_gets_a_page_and_the_door(xapi: FakeXapi, host: Host, data: bytes) -> None:
    said = host.say(data)
    assert said.startswith(b"HTTP/1.1 500 Internal Error\r\n")
    assert b"content-type: text/html" in said and b"connection: close" in said and b"<html>" in said


def test_a_body_of_300_kib_is_taken(xapi: FakeXapi, host: Host) -> None:
    padding = 300 * 1024 - len(LOGIN)
    assert read_answer_on(host.connect(), LOGIN + " " * padding)[0] == 200


def test_a_request_in_single_bytes_is_read(xapi: FakeXapi, host: Host) -> None:
    with host.connect() as connection:
        for byte in request(LENGTH, "Connection: close"):
            connection.sendall(bytes([byte]))
        assert read_all(connection).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_goes_in_the_middle_harms_nobody(xapi: FakeXapi, host: Host) -> None:
    for data in (b"", request(LENGTH)[:30], request(LENGTH)[:-5]):
        with host.connect() as connection:
            connection.sendall(data)
    assert read_answer_on(host.connect(), LOGIN)[0] == 200
