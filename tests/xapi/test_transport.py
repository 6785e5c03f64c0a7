"""The transport to XAPI: whatever happens on the wire ends in a named error, in time, and nothing is asked twice."""

import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused
from ovsxen.host.clock import Deadline
from ovsxen.xapi.answers import parse_values
from ovsxen.xapi.transport import NotReached, OutOfService, UnixTransport
from tests.conftest import UNPRIVILEGED
from tests.xapi.conftest import MakeWire
from tests.xapi.wire import (
    ERROR_PAGE,
    Question,
    Serve,
    Wire,
    document,
    failure,
    http_ok,
    success,
    until_it_hangs_up,
)

QUESTION = xmlrpc.client.dumps(("OpaqueRef:s",), "pool.get_all_records").encode()
BOMB = (b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
        + b"".join(b'<!ENTITY a%d "&a%s;&a%s;">' % (i, b"%d" % (i - 1) if i else b"", b"%d" % (i - 1) if i else b"")
                   for i in range(30))
        + b"]><methodResponse><params><param><value>&a29;</value></param></params></methodResponse>")
OK = document({"Status": "Success", "Value": "yes"})


@pytest.fixture
def saying(make_wire: MakeWire) -> Callable[[bytes], Wire]:
    """Serve the same bytes to every question, and close."""
    return lambda data: make_wire(lambda connection, _question: connection.sendall(data))


def ask(path: Path, call_within_s: float = 5.0, job_within_s: float = 20.0, **limits: Any) -> Any:
    transport = UnixTransport(path, Deadline(job_within_s), call_within_s, **limits)
    return transport.request("localhost", "/", QUESTION)


def test_a_value_comes_over_a_path_with_underscores(saying: Callable[[bytes], Wire]) -> None:
    wire = saying(success({"OpaqueRef:1": {"name_label": "br\u00fccke \U0001f310 \x85 \r\n <&>", "MTU": 1500}}))
    assert "_" in str(wire.path)
    assert ask(wire.path) == ({"Status": "Success", "Value": {
        "OpaqueRef:1": {"name_label": "br\u00fccke \U0001f310 \x85 \r\n <&>", "MTU": "1500"}}},)
    assert wire.asked[0][:2] == ("pool.get_all_records", ("OpaqueRef:s",))


def test_an_answer_in_single_bytes_is_read_whole(make_wire: MakeWire) -> None:
    def serve(connection: socket.socket, question: Question) -> None:
        for byte in success("yes"):
            connection.sendall(bytes([byte]))
    assert ask(make_wire(serve).path)[0]["Value"] == "yes"


def test_an_answer_without_length_ends_with_the_connection(saying: Callable[[bytes], Wire]) -> None:
    assert ask(saying(b"HTTP/1.0 200 OK\r\n\r\n" + OK).path)[0]["Value"] == "yes"


def test_a_connection_that_xapi_keeps_or_closes_does_not_matter_to_the_next_call(make_wire: MakeWire) -> None:
    def serve(connection: socket.socket, question: Question) -> None:
        connection.sendall(success("yes"))
        if len(wire.asked) == 1:
            until_it_hangs_up(connection)  # else it closes at once
    wire = make_wire(serve)
    transport = UnixTransport(wire.path, Deadline(20), 5)
    for _ in range(3):
        assert transport.request("localhost", "/", QUESTION)[0]["Value"] == "yes"
    assert len(wire.asked) == 3


def drip(connection: socket.socket, _question: Question) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        connection.sendall(b"<")
        time.sleep(0.02)


def drip_headers(connection: socket.socket, _question: Question) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x-more: 1\r\n"[:1])
        time.sleep(0.02)


def hang_after_headers(connection: socket.socket, _question: Question) -> None:
    connection.sendall(http_ok(OK)[:-len(OK)])
    until_it_hangs_up(connection)


def hang_before_the_end(connection: socket.socket, _question: Question) -> None:
    connection.sendall(http_ok(OK)[:-1])
    until_it_hangs_up(connection)


@pytest.mark.parametrize("serve", [
    lambda connection, _question: until_it_hangs_up(connection), drip, drip_headers, hang_after_headers,
    hang_before_the_end])
@pytest.mark.parametrize("call_within_s, job_within_s", [(0.3, 20.0), (20.0, 0.3)])
def test_silence_and_dripping_end_with_the_nearer_deadline(
        make_wire: MakeWire, serve: Serve, call_within_s: float, job_within_s: float) -> None:
    wire, began_s = make_wire(serve), time.monotonic()
    with pytest.raises(NoAnswer, match=r"did not answer within 0\.\d+ s"):
        ask(wire.path, call_within_s, job_within_s)
    assert time.monotonic() - began_s < 3
    assert len(wire.asked) == 1


def test_nothing_is_asked_when_no_time_is_left(saying: Callable[[bytes], Wire]) -> None:
    wire = saying(http_ok(OK))
    with pytest.raises(NoAnswer, match="no time left"):
        ask(wire.path, job_within_s=0.0)
    assert wire.asked == []


@pytest.mark.parametrize("said", [
    b"", b"HTTP/1.1 200 OK\r\n" b"content-le", http_ok(OK)[:-1], http_ok(OK).replace(b"length: ", b"length: 9"),
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n<?xml\r\n"])
def test_a_broken_connection_is_an_error_and_the_question_is_not_asked_again(
        saying: Callable[[bytes], Wire], said: bytes) -> None:
    wire = saying(said)
    with pytest.raises((NoAnswer, Refused)):
        ask(wire.path)
    assert len(wire.asked) == 1


def test_a_connection_that_ends_in_the_middle_may_be_better_next_time(saying: Callable[[bytes], Wire]) -> None:
    with pytest.raises(NoAnswer, match="in the middle"):
        ask(saying(http_ok(OK)[:-1]).path)


def test_an_error_page_means_out_of_service(saying: Callable[[bytes], Wire]) -> None:
    wire = saying(ERROR_PAGE)
    with pytest.raises(OutOfService, match="HTTP 500 'Internal Error'"):
        ask(wire.path)
    assert len(wire.asked) == 1


def with_header(line: bytes) -> bytes:
    return http_ok(OK).replace(b"content-type: text/xml", line)


def values(xml: bytes) -> bytes:
    return http_ok(b"<methodResponse><params><param><value>" + xml + b"</value></param></params></methodResponse>")


NONSENSE = {
    "nothing": (http_ok(b""), "not XML-RPC"),
    "half a document": (http_ok(OK[:-20]), "not XML-RPC"),
    "something behind the document": (http_ok(OK + b"<more/>"), "not XML-RPC"),
    "a length that is too short": (http_ok(OK).replace(b"content-length: 2", b"content-length: 1"), "not XML-RPC"),
    "no UTF-8": (http_ok(OK.replace(b"yes", b"\xff")), "not XML-RPC"),
    "a control character": (http_ok(OK.replace(b"yes", b"\x1b[0m")), "not XML-RPC"),
    "a reference to NUL": (http_ok(OK.replace(b"yes", b"&#0;")), "not XML-RPC"),
    "an unknown entity": (http_ok(OK.replace(b"yes", b"&more;")), "not XML-RPC"),
    "UTF-16": (http_ok(OK.decode().encode("utf-16")), "not XML-RPC"),
    "an entity bomb": (http_ok(BOMB), "document type"),
    "an external document type": (http_ok(b'<!DOCTYPE r SYSTEM "file:///etc/passwd">' + OK[21:]), "document type"),
    "404": (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "HTTP 404"),
    "301": (b"HTTP/1.1 301 Moved\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", "HTTP 301"),
    "too many headers": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n", "not HTTP"),
    "not HTTP": (b"SSH-2.0-OpenSSH\r\n" * 9, "not HTTP"),
    "HTML": (with_header(b"content-type: text/html"), "text/html"),
    "gzip": (with_header(b"content-encoding: gzip"), "instead of XML"),
    "a methodCall": (http_ok(b"<methodCall/>"), "no methodResponse"),
    "an empty methodResponse": (http_ok(b"<methodResponse/>"), "no methodResponse"),
    "a fault": (http_ok(b"<methodResponse><fault><value><struct>"
             b"<member><name>faultCode</name><value><int>1</int></value></member>"
             b"</struct></value></fault></methodResponse>"), "fault.*faultCode"),
    "a million digits": (values(b"<int>" + b"9" * 1000000 + b"</int>"), "1000000 digits"),
    "no digits": (values(b"<int>nine</int>"), "not XML-RPC"),
    "no boolean": (values(b"<boolean>yes</boolean>"), "not XML-RPC"),
    "base64": (values(b"<base64>AAAA</base64>"), "not XML-RPC"),
    "nested too deep": (values(b"<array><data><value>" * 5000 + b"</value></data></array>" * 5000), "not XML-RPC"),
    "never closed": (http_ok(b"<a>" * 300000), "not XML-RPC"),
    "a bare text": (http_ok(document("yes")), "Status"),
    "an array": (http_ok(document([])), "Status"),
    "no Status": (http_ok(document({})), "neither"),
    "no Value": (http_ok(document({"Status": "Success"})), "neither"),
    "another Status": (http_ok(document({"Status": "Perhaps", "Value": "yes"})), "neither.*Perhaps"),
    "no ErrorDescription": (http_ok(document({"Status": "Failure"})), "neither"),
    "an odd ErrorDescription": (http_ok(document({"Status": "Failure", "ErrorDescription": ["X", []]})), "neither"),
    "an odd Status": (http_ok(document({"Status": ["Success"], "Value": ""})), "neither"),
    "an empty ErrorDescription": (failure(), "neither"),
}


@pytest.mark.parametrize("name", sorted(NONSENSE))
def test_nonsense_is_refused_and_not_asked_again(saying: Callable[[bytes], Wire], name: str) -> None:
    said, why = NONSENSE[name]
    wire = saying(said)
    with pytest.raises(Refused, match=why):
        ask(wire.path)
    assert len(wire.asked) == 1


@pytest.mark.parametrize("said", [
    b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 1001,
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n" + b" " * 1001,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n400\r\n" + b" " * 1024 + b"\r\n0\r\n\r\n"])
def test_an_answer_over_the_limit_is_refused(saying: Callable[[bytes], Wire], said: bytes) -> None:
    with pytest.raises(Refused, match="more than 1000 bytes"):
        ask(saying(said).path, limit_bytes=1000)


def test_an_endless_answer_ends_at_the_limit(make_wire: MakeWire) -> None:
    def serve(connection: socket.socket, question: Question) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" " * 65536)
    with pytest.raises(Refused, match="more than 1000000 bytes"):
        ask(make_wire(serve).path, call_within_s=20, limit_bytes=1000000)


def test_ten_thousand_networks_arrive(saying: Callable[[bytes], Wire]) -> None:
    record = {"uuid": "u", "bridge": "xapi1", "MTU": 1500, "other_config": {"a": "b"}, "PIFs": ["OpaqueRef:p"]}
    records = {"OpaqueRef:%d" % number: record for number in range(10000)}
    wire = saying(success(records))
    assert len(ask(wire.path, call_within_s=20)[0]["Value"]) == 10000


def test_an_absent_socket_was_not_reached(directory: Path) -> None:
    with pytest.raises(NotReached, match="does not listen at .*No such file.*toolstack"):
        ask(directory / "none")


def test_a_socket_that_nobody_listens_on_was_not_reached(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "dead"))
    with pytest.raises(NotReached, match="does not listen at .*refused"):
        ask(directory / "dead")


def test_a_full_queue_of_connections_ends_with_the_deadline(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "full"))
        listener.listen(0)
        waiting = []
        while True:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            if waiting[-1].connect_ex(str(directory / "full")):
                break
        with pytest.raises(NotReached, match="took no connection"):
            ask(directory / "full", call_within_s=0.2)
        for one in waiting:
            one.close()


def test_a_path_that_no_socket_can_have_is_named(directory: Path) -> None:
    with pytest.raises(AdministratorError, match="xxx' cannot be the name of XAPI's socket"):
        ask(directory / ("x" * 200))


def test_a_socket_of_another_user_is_not_permitted(saying: Callable[[bytes], Wire]) -> None:
    wire = saying(http_ok(OK))
    wire.path.parent.chmod(0o755)
    os.chmod(str(wire.path), 0o600)
    os.chown(str(wire.path), 12345, 12345)
    program = ("import sys; from pathlib import Path; from tests.xapi.test_transport import ask\n"
               "try:\n    ask(Path(sys.argv[1]))\nexcept Exception as error:\n    print(type(error).__name__, error)\n")
    done = subprocess.run(UNPRIVILEGED + [sys.executable, "-c", program, str(wire.path)], stdout=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, universal_newlines=True, timeout=60)
    assert done.stdout == "NotPermitted cannot connect to XAPI at %s: run ovsxen as root\n" % wire.path


@pytest.mark.parametrize("said", [b"", ERROR_PAGE, http_ok(b"")])
def test_errors_carry_a_remedy(saying: Callable[[bytes], Wire], said: bytes) -> None:
    with pytest.raises(OvsxenError) as caught:
        ask(saying(said).path)
    assert caught.value.remedy


CHARACTERS = st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff")
TEXTS = st.text(CHARACTERS) | st.sampled_from([
    "", " ", "\r\n\t", "]]>", "&amp;", "<!DOCTYPE", "\x85", "-1", "1500", "\U0001f310"])
VALUES = st.recursive(
    TEXTS | st.booleans() | st.integers(-2 ** 31, 2 ** 31 - 1) | st.floats(allow_nan=False)
    | st.just(xmlrpc.client.DateTime("20260821T10:00:00Z")) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=12)


@given(VALUES)
def test_values_are_what_the_standard_library_makes_of_them(value: Any) -> None:
    for body in (document(value), xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode()):
        assert parse_values(body) == xmlrpc.client.loads(body)[0]


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_values_or_refused(body: bytes) -> None:
    for whole in (body, OK.replace(b"yes", body), OK[:len(body) * 7 % len(OK)] + body):
        try:
            assert isinstance(parse_values(whole), tuple)
        except Refused:
            pass
