"""Conversations with bridges: hellos of every kind, and peers that are late, silent, or make no sense."""

import shutil
import socket
import struct
import tempfile
import threading
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.errors import AdministratorError, NoAnswer, Refused
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.ovs import openflow, openflow10, openflow_messages
from ovsxen.ovs.openflow import PAUSE, Conversation, Message, converse

WITHIN_S = 20.0
Script = Callable[[socket.socket], None]
Serve = Callable[..., Paths]


def packed(version: int, kind: int, transaction: int = 0, body: bytes = b"") -> bytes:
    return struct.pack("!BBHI", version, kind, 8 + len(body), transaction) + body


def bitmap(*versions: int) -> bytes:
    return struct.pack("!HHI", 1, 8, sum(1 << version for version in versions))


HELLO = packed(6, 0, body=bitmap(1, 2, 3, 4, 5, 6))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve one connection to each of some bridges: `serve(br0=script, …)`, where a script gets the connection."""
    base = Path(tempfile.mkdtemp(prefix="ox-", dir="/tmp"))
    paths = Paths(base, base)
    paths.rundir.mkdir(parents=True)
    listeners: List[socket.socket] = []
    threads: List[threading.Thread] = []

    def start(**scripts: Script) -> Paths:
        for bridge, script in scripts.items():
            listeners.append(socket.socket(socket.AF_UNIX))
            listeners[-1].bind(str(paths.bridge_socket(bridge)))
            listeners[-1].listen(1)
            threads.append(threading.Thread(target=run, args=(listeners[-1], script)))
            threads[-1].start()
        return paths

    def run(listener: socket.socket, script: Script) -> None:
        with listener.accept()[0] as connection:
            try:
                script(connection)
            except (ConnectionResetError, BrokenPipeError):
                pass  # the other side has heard enough

    yield start
    for thread in threads:
        thread.join(timeout=WITHIN_S)
    for listener in listeners:
        listener.close()
    shutil.rmtree(str(base))
    assert not any(thread.is_alive() for thread in threads)


def receive(connection: socket.socket) -> Tuple[int, int, int, bytes]:
    """One message: version, type, transaction, body; ConnectionResetError at the end."""
    def whole(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = connection.recv(size - len(data))
            if not more:
                raise ConnectionResetError
            data += more
        return data
    version, kind, length, transaction = struct.unpack("!BBHI", whole(8))
    return version, kind, transaction, whole(length - 8)


def answer(connection: socket.socket, *replies: bytes) -> None:
    """Answer one question, of a batch of one, and its barrier."""
    version, _, _, _ = receive(connection)
    _, kind, barrier, _ = receive(connection)
    connection.sendall(b"".join(replies) + packed(version, kind + 1, barrier))


def good(connection: socket.socket) -> None:
    """A bridge that answers each question with 0xa5."""
    connection.sendall(HELLO)
    receive(connection)
    while True:
        answer(connection, packed(6, 99, 5, b"\xa5"))


def ask(version: int) -> Conversation[Tuple[int, Tuple[Message, ...]]]:
    answers = yield (packed(version, 98),)
    return version, answers


def ask_one(paths: Paths, within_s: float = WITHIN_S) -> Tuple[int, Tuple[Message, ...]]:
    results, errors = converse(paths, {"br0": ask}, Deadline(within_s), {})
    if errors:
        raise errors["br0"]
    return results["br0"]


def test_answers_are_read_to_the_barrier_though_they_come_in_single_bytes(serve: Serve) -> None:
    def script(connection: socket.socket) -> None:
        for number in HELLO:
            connection.sendall(bytes([number]))
        receive(connection)
        receive(connection)
        _, kind, barrier, _ = receive(connection)
        said = packed(6, 7, 3, b"abc") + packed(6, 21, barrier + 1) + packed(6, 1) + packed(6, kind + 1, barrier)
        for number in said:
            connection.sendall(bytes([number]))
    assert ask_one(serve(br0=script)) == (6, (Message(7, 3, b"abc"), Message(21, 2, b""), Message(1, 0, b"")))


def test_an_echo_request_is_answered_at_any_time(serve: Serve) -> None:
    heard: List[Tuple[int, int, int, bytes]] = []

    def script(connection: socket.socket) -> None:
        connection.sendall(HELLO + packed(6, 2, 77, b"ping"))
        messages = [receive(connection) for _ in range(4)]
        heard.extend(message for message in messages if message[1] == 3)
        barrier = next(message for message in messages if message[1] == 20)
        connection.sendall(packed(6, 21, barrier[2]))
    assert ask_one(serve(br0=script)) == (6, ())
    assert heard == [(6, 3, 77, b"ping")]


@pytest.mark.parametrize("hello, version", [
    (packed(6, 0), 6), (packed(5, 0), 5), (packed(1, 0), 1), (packed(9, 0), 6),
    (packed(6, 0, body=bitmap(1, 4)), 4), (packed(6, 0, body=bitmap(1, 7)), 1), (packed(1, 0, body=bitmap(2)), 2),
    (packed(4, 0, body=struct.pack("!HH6x", 9, 6)[:8] + bitmap(1, 3)), 3),
])
def test_the_best_version_that_both_sides_have_is_spoken(serve: Serve, hello: bytes, version: int) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(hello)
        assert receive(connection) == (6, 0, 0, bitmap(1, 2, 3, 4, 5, 6))
        answer(connection)
    assert ask_one(serve(br0=script)) == (version, ())


@pytest.mark.parametrize("hello, names", [
    (packed(7, 0, body=bitmap(7, 8)), "version 7, version 8"), (packed(1, 0), "OpenFlow10"),
    (packed(4, 0, body=bitmap(4, 1)), "OpenFlow10, OpenFlow13"), (packed(4, 0, body=bitmap()), "none"),
])
def test_a_bridge_that_does_not_allow_the_version_is_told_of_with_what_it_allows(
        serve: Serve, hello: bytes, names: str) -> None:
    paths = serve(br0=lambda connection: connection.sendall(hello))
    _, errors = converse(paths, {"br0": ask}, Deadline(WITHIN_S), {"br0": 6})
    assert isinstance(errors["br0"], AdministratorError)
    assert "bridge br0 allows only %s, and its flows are kept by OpenFlow15" % names in str(errors["br0"])


def send(said: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        connection.sendall(said)
        receive(connection)
    return script


@pytest.mark.parametrize("said, error, text", [
    (b"", NoAnswer, "before it answered"), (HELLO[:9], NoAnswer, "before it answered"),
    (HELLO + packed(6, 1)[:7], NoAnswer, "before it answered"),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 30000, Refused, "does not speak OpenFlow"),
    (b"\0" * 8, Refused, "does not speak OpenFlow"), (b"\x06\0\0\x07\0\0\0\0", Refused, "7 bytes"),
    (packed(6, 1, body=b"\0\0\0\0"), Refused, "type 1 instead of a hello"),
    (HELLO + packed(4, 21), Refused, "version 4"), (HELLO + b"\x06\x15\0\0\0\0\0\x01", Refused, "0 bytes"),
    (packed(6, 0, body=b"\0\x01\0"), Refused, "does not speak OpenFlow"),
    (packed(6, 0, body=struct.pack("!HH", 1, 99)), Refused, "does not speak OpenFlow"),
])
def test_anything_else_is_an_error_that_names_the_bridge(serve: Serve, said: bytes, error: type, text: str) -> None:
    with pytest.raises(error, match="bridge br0.*" + text):
        ask_one(serve(br0=send(said)))


@pytest.mark.parametrize("said", [b"", HELLO, HELLO + packed(6, 21, 99)])
def test_silence_ends_with_the_deadline(serve: Serve, said: bytes) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(said)
        while connection.recv(100):  # until the other side gives up
            pass
    with pytest.raises(NoAnswer, match=r"for bridge br0 within 0\.2 s"):
        ask_one(serve(br0=script), 0.2)


def chatter(connection: socket.socket) -> None:
    connection.sendall(HELLO)
    while True:
        connection.sendall(packed(6, 10, 0, b"x" * 60000))


def babble(connection: socket.socket) -> None:
    """Says hello, and answers for ever."""
    connection.sendall(HELLO)
    while True:
        connection.sendall(packed(6, 19, 1, b"x" * 60000))


def test_endless_chatter_ends_with_the_deadline(serve: Serve) -> None:
    limit = Deadline(WITHIN_S)
    with pytest.raises(NoAnswer, match="bridge br0"):
        ask_one(serve(br0=chatter), 0.3)
    assert not limit.has_passed()


def test_an_answer_without_end_is_not_kept_in_memory(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openflow, "ANSWER_LIMIT_BYTES", 1000000)  # the real one takes longer than a test may
    with pytest.raises(Refused, match="bridge br0 .*without end"):
        ask_one(serve(br0=babble))


def test_a_batch_larger_than_any_buffer_is_sent_whole(serve: Serve) -> None:
    sizes: List[int] = []

    def script(connection: socket.socket) -> None:
        connection.sendall(HELLO)
        receive(connection)
        sizes.extend(len(receive(connection)[3]) for _ in range(100))
        connection.sendall(packed(6, 21, receive(connection)[2]))

    def say(version: int) -> Conversation[None]:
        yield (packed(version, 98, body=b"x" * 60000),) * 100
    assert converse(serve(br0=script), {"br0": say}, Deadline(WITHIN_S), {}) == ({"br0": None}, {})
    assert sizes == [60000] * 100


def test_one_bridge_that_fails_is_no_matter_to_the_others(serve: Serve) -> None:
    paths = serve(a=good, b=send(b"nonsense"), c=good, d=send(b""), e=good)
    results, errors = converse(paths, dict.fromkeys("abcdefg", ask), Deadline(WITHIN_S), {})
    assert results == dict.fromkeys("ace", (6, (Message(99, 5, b"\xa5"),)))
    assert {bridge: type(error) for bridge, error in errors.items()} == {
        "b": Refused, "d": NoAnswer, "f": NoAnswer, "g": NoAnswer}
    assert all("bridge " + bridge in str(error) for bridge, error in errors.items())


def test_those_that_pause_go_on_together(serve: Serve) -> None:
    order: List[str] = []

    def pausing(name: str) -> Callable[[int], Conversation[str]]:
        def conversation(version: int) -> Conversation[str]:
            yield (packed(version, 98),)
            order.append("before " + name)
            yield PAUSE
            order.append("after " + name)
            yield (packed(version, 98),)
            return name
        return conversation

    def at_once(version: int) -> Conversation[str]:
        yield (packed(version, 98),)
        order.append("before c")
        return "c"

    def failing(version: int) -> Conversation[str]:
        yield PAUSE
        yield (packed(version, 98),)
        raise Refused("bridge d has had enough")

    begin = {"a": pausing("a"), "b": pausing("b"), "c": at_once, "d": failing}
    results, errors = converse(serve(a=good, b=good, c=good, d=good), begin, Deadline(WITHIN_S), {},
                               lambda: order.append("meanwhile"))
    assert results == {"a": "a", "b": "b", "c": "c"}
    assert list(errors) == ["d"]
    assert sorted(order[:3]) == ["before a", "before b", "before c"]
    assert order[3] == "meanwhile" and sorted(order[4:]) == ["after a", "after b"]


def test_a_batch_of_nothing_is_answered_with_nothing_and_is_no_pause(serve: Serve) -> None:
    order: List[str] = []

    def hesitant(version: int) -> Conversation[str]:
        for batch in ((), (packed(version, 98),), ()):
            order.append("%d answers" % len((yield batch)))
        yield PAUSE
        order.append("%d answers" % len((yield ())))
        return "over"

    def script(connection: socket.socket) -> None:
        connection.sendall(HELLO)
        receive(connection)
        while True:
            _, kind, barrier, _ = receive(connection)
            connection.sendall(packed(6, 21, barrier) if kind == 20 else packed(6, 99))

    assert converse(serve(br0=script), {"br0": hesitant}, Deadline(WITHIN_S), {},
                    lambda: order.append("meanwhile")) == ({"br0": "over"}, {})
    assert order == ["0 answers", "1 answers", "0 answers", "meanwhile", "0 answers"]


def test_what_the_pause_raises_is_raised(serve: Serve) -> None:
    def meanwhile() -> None:
        raise NoAnswer("the database is gone")
    with pytest.raises(NoAnswer, match="database"):
        converse(serve(br0=good), {"br0": ask}, Deadline(WITHIN_S), {}, meanwhile)


READERS: Dict[str, Callable[[Tuple[Message, ...]], object]] = {
    "flows15": lambda answers: openflow_messages.read_flows(6, answers),
    "flows13": lambda answers: openflow_messages.read_flows(4, answers),
    "flows10": openflow10.read_flows,
    "groups15": lambda answers: openflow_messages.read_groups(6, answers),
    "groups13": lambda answers: openflow_messages.read_groups(4, answers),
    "meters": openflow_messages.read_meters, "tlv map": openflow_messages.read_tlv_map,
    "errors": openflow_messages.refused,
}
HEADS = st.sampled_from([
    b"", struct.pack("!HH4x", 1, 0), struct.pack("!HH4x", 1, 1), struct.pack("!HH4x", 7, 0),
    struct.pack("!HH4x", 10, 0), struct.pack("!HHII4x", 0xffff, 0, 0x2320, 0), struct.pack("!II16x", 0x2320, 26),
    struct.pack("!HH", 5, 2)])
ENTRIES = st.builds(lambda length, rest: struct.pack("!H", length) + rest,
                    st.integers(0, 120), st.binary(max_size=130))
SAID = st.builds(lambda kind, head, rest: Message(kind, 1, head + rest), st.sampled_from([1, 4, 17, 19]), HEADS,
                 st.one_of(st.binary(max_size=200), ENTRIES))


FLOW = struct.pack("!QQBBHHH16x", 0x77, 0, 9, 0, 0, 0, 5)


@pytest.mark.parametrize("error, refused, text", [
    ((5, 2), packed(6, 14, body=FLOW), "a flow with cookie=0x77, table=9, priority=5: no such table"),
    ((2, 9), packed(6, 34, 8, bytes(8) + packed(6, 14, 8, FLOW)), "table=9, priority=5: no such group"),
    ((2, 99), packed(4, 4, 8, struct.pack("!II8x", 0x4f4e4600, 2301) + packed(4, 14, 8, FLOW)),
     "table=9, priority=5: bad action, code 99"),
    ((3, 2), packed(1, 4, 8, struct.pack("!IIQBBHHH", 0x2320, 13, 0x77, 9, 0, 0, 0, 5)),
     "a flow with cookie=0x77, table=9, priority=5: error of type 3, code 2"),
    ((6, 3), packed(6, 34, 8, bytes(8) + packed(6, 15, 8, struct.pack("!HHI", 0, 0, 7))), "group 7: too many groups"),
    ((12, 2), packed(6, 29, 8, struct.pack("!HHI", 0, 0, 7)), "meter 7: invalid meter"),
    ((0xffff, 38), b"\0\0\x23\x20" + packed(6, 4, 8, struct.pack("!II", 0x2320, 24)),
     "the TLV map: error of type 65535, code 38"),
    ((17, 4), packed(6, 33, 8, bytes(8)), "a message of type 33: bundle failed, code 4"),
    ((1, 0), b"", "a message of type 0: bad request, code 0"),
])
def test_an_error_is_said_in_words(error: Tuple[int, int], refused: bytes, text: str) -> None:
    said = Message(1, 8, struct.pack("!HH", *error) + refused)
    (transaction, words), = openflow_messages.refused((said, Message(21, 9, b"")))
    assert transaction == 8 and words.endswith(text)


@given(st.sampled_from(sorted(READERS)), st.lists(SAID, max_size=4))
def test_whatever_a_bridge_says_is_read_or_makes_no_sense(reader: str, said: List[Message]) -> None:
    """Nothing else is raised, and nothing is read that was not said."""
    try:
        read = READERS[reader](tuple(said))
    except (ValueError, struct.error):
        return
    assert isinstance(read, tuple) and len(read) <= sum(1 + len(message.body) for message in said)


@pytest.mark.parametrize("reader", ["flows15", "flows13", "flows10", "groups15", "groups13", "meters", "tlv map"])
@pytest.mark.parametrize("said", [(), (Message(19, 0, struct.pack("!HH4x", 1, 1)),),
                                  (Message(17, 0, struct.pack("!HHII4x", 0xffff, 1, 0x2320, 0)),)])
def test_an_answer_that_is_missing_or_unfinished_is_not_an_empty_one(reader: str, said: Tuple[Message, ...]) -> None:
    with pytest.raises(ValueError, match="no whole answer|no answer"):
        READERS[reader](said)
