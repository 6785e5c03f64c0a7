"""The door to the sockets: answers in pieces, several at once, late, cut off, or not JSON-RPC at all."""

import json
import socket
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from ovsxen.errors import NoAnswer, Refused
from ovsxen.host.clock import Deadline
from ovsxen.ovs.jsonrpc import Connection
from tests.conftest import MakeHost

Server = Callable[[socket.socket, Dict[str, Any]], None]


@pytest.fixture
def serve(make_host: MakeHost) -> Iterator[Callable[[Server], Path]]:
    """Serve one connection by a function that gets the socket and the first request."""
    base = make_host(stale_bridges=0).paths.root.parent
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(base / "sock"))
    listener.listen(1)
    threads: List[threading.Thread] = []

    def start(server: Server) -> Path:
        def run() -> None:
            connection = listener.accept()[0]
            with connection:
                server(connection, json.loads(connection.recv(65536).decode()))
        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return base / "sock"

    yield start
    for thread in threads:
        thread.join(timeout=20)
    listener.close()
    assert not any(thread.is_alive() for thread in threads)


def answer(request: Dict[str, Any], result: Any, error: Any = None) -> bytes:
    return json.dumps({"id": request["id"], "result": result, "error": error}, ensure_ascii=False).encode()


def test_an_answer_in_single_bytes_with_characters_of_many_is_read_whole(serve: Callable[[Server], Path]) -> None:
    def server(connection: socket.socket, request: Dict[str, Any]) -> None:
        for byte in answer(request, ["br\u00fccke", "\U0001f310", "}{\\\""]):
            connection.sendall(bytes([byte]))
    with Connection(serve(server), "peer", 5) as connection:
        assert connection.call("m", [], 5) == ["br\u00fccke", "\U0001f310", "}{\\\""]


def test_an_echo_request_before_the_answer_is_answered(serve: Callable[[Server], Path]) -> None:
    seen: List[Any] = []

    def server(connection: socket.socket, request: Dict[str, Any]) -> None:
        connection.sendall(b'{"id":"echo","method":"echo","params":["x"]}' + answer(request, 1)
                           + b'{"id":null,"method":"update","params":[]}')
        seen.append(json.loads(connection.recv(65536).decode()))
    with Connection(serve(server), "peer", 5) as connection:
        assert connection.call("m", [], 5) == 1
        assert Deadline(5).wait_until(lambda: bool(seen))
    assert seen == [{"id": "echo", "result": ["x"], "error": None}]


def test_a_large_question_and_a_large_answer_pass(serve: Callable[[Server], Path]) -> None:
    text = "x" * 3000000

    def server(connection: socket.socket, request: Dict[str, Any]) -> None:
        connection.sendall(answer(request, text))
    with Connection(serve(server), "peer", 5) as connection:
        assert connection.call("m", [], 20) == text


@pytest.mark.parametrize("said, error, text", [
    (b"", NoAnswer, "closed"), (b'{"id":1,"res', NoAnswer, "closed"), (b"[1]", Refused, "JSON-RPC"),
    (b'{"id":1,"result":null,"error":"no such thing"}', Refused, "no such thing"),
    (b'{"id":1}', Refused, "no result"), (b'{"id":1,"result":"\xff"}', Refused, "JSON-RPC"),
    (b"HTTP/1.1 400\r\n\r\n", NoAnswer, "closed"),
])
def test_anything_else_is_an_error_that_names_the_peer(
        serve: Callable[[Server], Path], said: bytes, error: type, text: str) -> None:
    def server(connection: socket.socket, request: Dict[str, Any]) -> None:
        connection.sendall(said)
    with Connection(serve(server), "the peer", 5) as connection:
        with pytest.raises(error, match="the peer.*" + text):
            connection.call("m", [], 5)


def test_silence_ends_with_the_deadline(serve: Callable[[Server], Path]) -> None:
    def server(connection: socket.socket, request: Dict[str, Any]) -> None:
        connection.recv(1)  # until the other side gives up
    with Connection(serve(server), "the peer", 5) as connection:
        with pytest.raises(NoAnswer, match=r"the peer did not answer within 0\.2 s"):
            connection.call("m", [], 0.2)


def test_a_socket_that_is_not_there_ends_with_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(NoAnswer, match="the peer"):
        Connection(tmp_path / "none", "the peer", 0.1)
