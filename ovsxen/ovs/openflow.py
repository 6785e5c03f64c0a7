"""The one door to the OpenFlow sockets of bridges: conversations with all of them at once, under one deadline.

A conversation is a generator. It yields a batch of messages and is sent what the bridge answered to that batch, errors
included: a barrier follows each batch, so there is an end to wait for. Nothing is decided here: openflow_messages.py
knows what messages say, kept_flows.py which ones to send.

ovs-vswitchd sends such a connection nothing that was not asked for (ofproto/connmgr.c, ofconn_receives_async_msg, 3.1).
"""

import errno
import os
import select
import socket
import struct
from contextlib import ExitStack
from enum import Enum
from typing import (
    Callable,
    Dict,
    Generator,
    Generic,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

from ovsxen.errors import AdministratorError, NoAnswer, NotPermitted, OvsxenError, Refused
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths

T = TypeVar("T")

VERSIONS = {1: "OpenFlow10", 2: "OpenFlow11", 3: "OpenFlow12", 4: "OpenFlow13", 5: "OpenFlow14", 6: "OpenFlow15"}
"""Their numbers in messages, and their names in Bridge.protocols."""

OPENFLOW10, OPENFLOW11, OPENFLOW12, OPENFLOW13, OPENFLOW15 = 1, 2, 3, 4, 6

HEADER = struct.Struct("!BBHI")
"""Version, type, length of the whole message, transaction."""

HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY = 0, 1, 2, 3
BARRIER_REQUEST, BARRIER_REPLY = 20, 21
BARRIER_REQUEST10, BARRIER_REPLY10 = 18, 19
HELLO_ELEMENT = struct.Struct("!HH")
VERSION_BITMAP = 1

UNASKED = (10, 11, 12)  # PACKET_IN, FLOW_REMOVED, PORT_STATUS, in every version
RECEIVE_BYTES = 1 << 18
ANSWER_LIMIT_BYTES = 1 << 30
"""Millions of flows. A peer that answers one batch with more makes no sense."""

REMEDY = "look again; if it stays so, run `ovsxen restart`"


class Message(NamedTuple):
    """What came from a bridge: its type, the transaction of what it is about, and what follows the header."""

    kind: int
    transaction: int
    body: bytes


class Pause(Enum):
    """What a conversation yields, once, to wait for all others. The next that it does is to yield a batch."""

    PAUSE = "pause"


PAUSE = Pause.PAUSE

Conversation = Generator[Union[Tuple[bytes, ...], Pause], Tuple[Message, ...], T]
"""Yields batches of whole messages, is sent the answers to each, and returns what came of it. A batch may be empty."""

Begin = Callable[[int], Conversation[T]]
"""Makes the conversation for the version that was agreed on."""


def pack_message(version: int, kind: int, body: bytes, transaction: int = 0) -> bytes:
    """A whole message. Raises struct.error where it would be longer than 65,535 bytes."""
    return HEADER.pack(version, kind, HEADER.size + len(body), transaction) + body


def converse(paths: Paths, begin: Mapping[str, Begin[T]], deadline: Deadline, only: Mapping[str, int],
             meanwhile: Callable[[], None] = lambda: None) -> Tuple[Dict[str, T], Dict[str, OvsxenError]]:
    """Have a conversation with each bridge; gives what came of them, and why the others failed, by bridge.

    A bridge in `only` is spoken to in that version, the others in the best that they allow. Once each conversation is
    over or pauses, `meanwhile` is called, and then those that pause go on, with as much time again. The errors are
    NoAnswer, Refused, NotPermitted, AdministratorError, and those that a conversation raises.
    """
    errors: Dict[str, OvsxenError] = {}
    with ExitStack() as stack:
        talks: List[_Talk[T]] = []
        for bridge in begin:
            try:
                connection = stack.enter_context(_connect(paths, bridge, deadline))
            except OvsxenError as error:
                errors[bridge] = error
            else:
                usable = (only[bridge],) if bridge in only else tuple(VERSIONS)
                talks.append(_Talk(bridge, connection, usable, begin[bridge]))
        errors.update(_have(talks, deadline))
        meanwhile()
        pausing = [talk for talk in talks if talk.pauses]
        for talk in pausing:
            talk.resume()
        errors.update(_have(pausing, Deadline(deadline.within_s)))
    return {talk.bridge: talk.results[0] for talk in talks if talk.results}, errors


def _have(talks: List["_Talk[T]"], deadline: Deadline) -> Dict[str, OvsxenError]:
    """Go on with all of them until each is over or pauses; gives the errors of those that failed."""
    errors: Dict[str, OvsxenError] = {}
    under_way = {talk.descriptor: talk for talk in talks}
    poller = select.poll()
    for talk in talks:
        poller.register(talk.descriptor, talk.events)
    while under_way and not deadline.has_passed():
        for descriptor, _ in poller.poll(deadline.remaining_s() * 1000):
            talk = under_way[descriptor]
            try:
                talk.go_on()
            except OvsxenError as error:
                errors[talk.bridge] = error
            if talk.results or talk.pauses or talk.bridge in errors:
                poller.unregister(descriptor)
                del under_way[descriptor]
            else:
                poller.modify(descriptor, talk.events)
    for talk in under_way.values():
        errors[talk.bridge] = NoAnswer(
            "ovs-vswitchd did not answer for bridge %s within %g s" % (talk.bridge, deadline.within_s), REMEDY)
    return errors


class _Talk(Generic[T]):
    """A conversation under way, and its connection. `results` has one member once it is over."""

    def __init__(self, bridge: str, connection: socket.socket, usable: Tuple[int, ...], begin: Begin[T]) -> None:
        self.bridge = bridge
        self.descriptor = connection.fileno()
        self.results: List[T] = []
        self.pauses = False
        self._socket = connection
        self._usable = usable
        self._begin = begin
        self._conversation: Optional[Conversation[T]] = None
        self._version = 0
        self._batch = 0
        self._answers: List[Message] = []
        self._answered_bytes = 0
        self._received = bytearray()
        self._to_send = memoryview(_hello(usable))

    @property
    def events(self) -> int:
        """What to wait for, as poll(2) takes it."""
        return select.POLLIN | (select.POLLOUT if self._to_send else 0)

    def go_on(self) -> None:
        """Receive and send what can be without waiting. Raises NoAnswer, Refused, and what the conversation raises."""
        try:
            self._receive()
            self._take_messages()
            self._send()
        except StopIteration as over:
            self.results.append(over.value)
        except OSError as error:
            raise NoAnswer("ovs-vswitchd closed the connection for bridge %s before it answered (%s)" % (
                self.bridge, error.strerror), REMEDY) from error
        except (ValueError, struct.error) as error:
            raise Refused("bridge %s does not speak OpenFlow as it should (%s)" % (self.bridge, error),
                          "see the log of ovs-vswitchd") from error

    def resume(self) -> None:
        """Go on after a pause; what is to be sent then goes out at the next go_on."""
        assert self._conversation is not None
        self.pauses = False
        self._say(self._conversation.send(()))

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        self._received += data

    def _send(self) -> None:
        while self._to_send:
            try:
                self._to_send = self._to_send[self._socket.send(self._to_send):]
            except (BlockingIOError, BrokenPipeError):  # a broken pipe may still have words in it
                break

    def _take_messages(self) -> None:
        """Take the whole messages out of what was received. Raises StopIteration, ValueError, struct.error."""
        begin, data = 0, self._received
        while len(data) - begin >= HEADER.size:
            version, kind, length, transaction = HEADER.unpack_from(data, begin)
            if length < HEADER.size or self._version not in (0, version):
                raise ValueError("a message of version %d and %d bytes" % (version, length))
            if self._conversation is None and kind != HELLO:
                raise ValueError("a message of type %d instead of a hello" % kind)
            if len(data) - begin < length:
                break
            body = bytes(data[begin + HEADER.size:begin + length])
            begin += length
            if self._conversation is None:
                self._meet(version, body)
            else:
                self._take(self._conversation, Message(kind, transaction, body))
        del data[:begin]

    def _meet(self, version: int, hello: bytes) -> None:
        self._version = _agree(self.bridge, self._usable, version, hello)
        self._conversation = self._begin(self._version)
        self._say(next(self._conversation))

    def _take(self, conversation: Conversation[T], message: Message) -> None:
        barrier_reply = BARRIER_REPLY10 if self._version == OPENFLOW10 else BARRIER_REPLY
        if message.kind == ECHO_REQUEST:
            reply = pack_message(self._version, ECHO_REPLY, message.body, message.transaction)
            self._to_send = memoryview(bytes(self._to_send) + reply)
        elif message.kind == barrier_reply and message.transaction == self._batch:
            answers, self._answers, self._answered_bytes = tuple(self._answers), [], 0
            self._say(conversation.send(answers))
        elif message.kind not in UNASKED:
            self._answers.append(message)
            self._answered_bytes += len(message.body)
            if self._answered_bytes > ANSWER_LIMIT_BYTES:
                raise ValueError("an answer without end")

    def _say(self, batch: Union[Tuple[bytes, ...], Pause]) -> None:
        if batch is PAUSE:
            self.pauses = True
            return
        self._batch += 1
        kind = BARRIER_REQUEST10 if self._version == OPENFLOW10 else BARRIER_REQUEST
        barrier = pack_message(self._version, kind, b"", self._batch)
        self._to_send = memoryview(b"".join((bytes(self._to_send),) + batch + (barrier,)))


def _connect(paths: Paths, bridge: str, deadline: Deadline) -> socket.socket:
    """Raises NoAnswer, NotPermitted, AdministratorError."""
    if not bridge or "/" in bridge:  # ovs-vswitchd makes no such bridge
        raise AdministratorError("%s is not the name of a bridge" % ascii(bridge), "name a bridge of this host")
    path = str(paths.bridge_socket(bridge))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)

    def connect() -> Optional[int]:
        error = connection.connect_ex(path)
        return None if error == errno.EAGAIN else error  # as many wait already as the socket's queue takes

    try:
        error = deadline.wait_for(connect)
        if error != 0:
            raise OSError(error or errno.EAGAIN, os.strerror(error or errno.EAGAIN))
    except OSError as problem:  # also for a path that is too long, without a number
        connection.close()
        if problem.errno in (errno.EACCES, errno.EPERM):
            raise NotPermitted("cannot connect to bridge %s at %s" % (bridge, path), "run ovsxen as root") from problem
        raise NoAnswer("bridge %s takes no OpenFlow at %s (%s)" % (bridge, path, problem.strerror or problem),
                       "see with `ovs-vsctl show` whether it is there, and the log of ovs-vswitchd") from problem
    return connection


def _hello(usable: Tuple[int, ...]) -> bytes:
    bitmap = struct.pack("!I", sum(1 << version for version in usable))
    return pack_message(max(usable), HELLO, HELLO_ELEMENT.pack(VERSION_BITMAP, HELLO_ELEMENT.size + 4) + bitmap)


def _agree(bridge: str, usable: Tuple[int, ...], version: int, hello: bytes) -> int:
    """The best usable version that the bridge allows, by its hello. Raises AdministratorError where none is.

    Without a bitmap a hello allows all versions up to its own (OpenFlow 1.3.5 §6.3.1).
    """
    allowed = set(range(1, version + 1))
    at = 0
    while at < len(hello):
        kind, length = HELLO_ELEMENT.unpack_from(hello, at)
        if kind == VERSION_BITMAP and length >= HELLO_ELEMENT.size + 4:
            bits, = struct.unpack_from("!I", hello, at + HELLO_ELEMENT.size)
            allowed = {number for number in range(1, 32) if bits >> number & 1}
        at += max(length, HELLO_ELEMENT.size) + 7 & ~7
    agreed = sorted(allowed.intersection(usable))
    if not agreed:
        raise AdministratorError(
            "bridge %s allows only %s, and its flows are kept by %s" % (bridge, _names(allowed), _names(usable)),
            "run `ovs-vsctl add Bridge %s protocols %s`, or do without keeping flows" % (bridge, VERSIONS[max(usable)]))
    return agreed[-1]


def _names(versions: Iterable[int]) -> str:
    return ", ".join(VERSIONS.get(version, "version %d" % version) for version in sorted(versions)) or "none"
