"""One question without waiting: to the real server, and to peers that are silent, slow, gone, or talk nonsense."""

import json
import select
import socket
from pathlib import Path
from typing import Callable, Iterator, List, Tuple

import pytest

from ovsxen.ovs.probe import ANSWER_BYTES, Probe
from tests.conftest import SandboxHost

ANSWER = json.dumps({"id": 0, "result": ["br\u00fccke", "}{"], "error": None}, ensure_ascii=False).encode()
Ask = Callable[[], Tuple[Probe, socket.socket]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "sock"


@pytest.fixture
def listener(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place))
        made.listen(0)
        yield made


@pytest.fixture
def ask(place: Path, listener: socket.socket) -> Iterator[Ask]:
    """Ask; gives the probe, and the connection of whoever is asked."""
    made: List[Tuple[Probe, socket.socket]] = []

    def ask_once() -> Tuple[Probe, socket.socket]:
        probe = Probe(place, "echo", ["x"], 7.5)
        made.append((probe, listener.accept()[0]))
        return made[-1]

    yield ask_once
    for probe, peer in made:
        probe.close()
        peer.close()


def test_the_server_answers(host: SandboxHost) -> None:
    host.start()
    probe = Probe(host.paths.db_sock, "echo", ["x"], 0.0)
    try:
        assert select.select([probe], [], [], 20)[0]
        assert probe.take_answer() == ["x"]
    finally:
        probe.close()


def test_the_question_is_one_request_and_keeps_the_moment_when_it_was_asked(ask: Ask) -> None:
    probe, peer = ask()
    assert json.loads(peer.recv(65536).decode()) == {"id": 0, "method": "echo", "params": ["x"]}
    assert probe.asked_s == 7.5


def test_silence_keeps_nobody_waiting(ask: Ask) -> None:
    probe, peer = ask()
    peer.settimeout(0)
    assert [probe.take_answer() for _ in range(100)] == [None] * 100


def test_an_answer_in_single_bytes_is_there_with_the_last(ask: Ask) -> None:
    probe, peer = ask()
    for at in range(len(ANSWER) - 1):
        peer.sendall(ANSWER[at:at + 1])
        assert probe.take_answer() is None
    peer.sendall(ANSWER[-1:])
    assert probe.take_answer() == ["br\u00fccke", "}{"]


def test_a_large_answer_is_read_as_it_comes(ask: Ask) -> None:
    probe, peer = ask()
    peer.settimeout(0)
    text = "x" * (ANSWER_BYTES // 2)
    left = json.dumps({"id": 0, "result": text}).encode()
    answer = None
    while answer is None:
        left = left[peer.send(left):] if left else b""
        answer = probe.take_answer()
    assert answer == text


@pytest.mark.parametrize("said", [b"", ANSWER[:-1], b"HTTP/1.1 400\r\n\r\n", b"\xff\xfe"])
def test_a_peer_that_closes_before_it_has_answered_is_an_error(ask: Ask, said: bytes) -> None:
    probe, peer = ask()
    peer.sendall(said)
    peer.close()
    with pytest.raises(ConnectionResetError):
        probe.take_answer()


@pytest.mark.parametrize("said", [b"[1]", b"{}", b"7", b"null", b'"text"', b'{"id":0,"result":null,"error":"no such"}',
                                  b'{"id":"echo","method":"echo","params":[]}'])
def test_what_is_no_answer_is_an_error(ask: Ask, said: bytes) -> None:
    probe, peer = ask()
    peer.sendall(said)
    with pytest.raises(ValueError):
        probe.take_answer()


def test_too_much_is_an_error_before_it_fills_the_memory(ask: Ask) -> None:
    probe, peer = ask()
    peer.settimeout(0)
    sent = 0
    with pytest.raises(ValueError, match="more than"):
        while True:
            sent += peer.send(b'"' + b"x" * 65535 if not sent else b"x" * 65536)
            probe.take_answer()
    assert sent <= ANSWER_BYTES + (1 << 20)


def test_where_nobody_listens_asking_is_an_error(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Probe(place, "echo", [], 0.0)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place))
        with pytest.raises(ConnectionRefusedError):
            Probe(place, "echo", [], 0.0)


def test_one_that_takes_no_more_connections_keeps_nobody_waiting(place: Path, listener: socket.socket) -> None:
    probes: List[Probe] = []
    with pytest.raises(BlockingIOError):
        for _ in range(100):
            probes.append(Probe(place, "echo", [], 0.0))
    assert probes
    for probe in probes:
        probe.close()
