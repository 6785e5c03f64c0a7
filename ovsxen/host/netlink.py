"""The door to the kernel's netlink: dumps, requests, and the attributes that messages are made of (netlink(7)).

An attribute is a kind and bytes. What is only handed back to the kernel is never taken apart.
"""

import errno
import os
import socket
import struct
from typing import Iterator, List, Optional, Tuple

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_CREATE, NLM_F_APPEND = 0x400, 0x800
NLM_F_DUMP_INTR = 0x10
KIND = 0x3fff
"""The bits of an attribute's kind; the two above say that it is nested, and in network byte order."""
HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
ANSWER_BYTES = 1 << 18
WITHIN_S = 10.0
DUMPS = 10

Attribute = Tuple[int, bytes]


class Netlink:
    """A netlink socket of this process's network namespace, in a `with` block."""

    def __init__(self, protocol: int) -> None:
        self._protocol = protocol
        self._sequence = 0
        self._socket: Optional[socket.socket] = None

    def __enter__(self) -> "Netlink":
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, self._protocol)
        self._socket.settimeout(WITHIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def dump(self, kind: int, body: bytes) -> Tuple[bytes, ...]:
        """All that the kernel has of a kind, as the bodies of its messages, at one moment: it says where somebody
        changed something meanwhile, and is asked again then. Raises OSError.
        """
        for _ in range(DUMPS):
            interrupted, bodies = self._exchange(kind, NLM_F_DUMP, body)
            if not interrupted:
                return bodies
        raise OSError(errno.EAGAIN, "it changed each of the %d times that it was read" % DUMPS)

    def request(self, kind: int, flags: int, body: bytes) -> None:
        """Have the kernel do something. Raises OSError where it refuses."""
        self._exchange(kind, flags | NLM_F_ACK, body)

    def _exchange(self, kind: int, flags: int, body: bytes) -> Tuple[bool, Tuple[bytes, ...]]:
        """Whether a dump was interrupted by a change, and the bodies of the answer's messages. Raises OSError."""
        assert self._socket is not None
        self._sequence += 1
        self._socket.send(HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0) + body)
        interrupted = False
        bodies: List[bytes] = []
        while True:
            for answer, its_flags, sequence, message in _messages(self._socket.recv(ANSWER_BYTES)):
                if sequence != self._sequence:
                    continue  # of an exchange that was given up
                interrupted = interrupted or bool(its_flags & NLM_F_DUMP_INTR)
                if answer in (NLMSG_ERROR, NLMSG_DONE):
                    _raise_error(message)
                    return interrupted, tuple(bodies)
                bodies.append(message)


def _messages(data: bytes) -> Iterator[Tuple[int, int, int, bytes]]:
    """Kind, flags, sequence number and body of the messages in a datagram."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
        yield kind, flags, sequence, data[at + HEADER.size:at + length]
        at += max(aligned(length), HEADER.size)


def _raise_error(message: bytes) -> None:
    """The end of an answer begins with a negative errno, or 0, or, in the dumps of old kernels, with nothing."""
    code = -struct.unpack_from("=i", message)[0] if len(message) >= 4 else 0
    if code > 0:
        raise OSError(code, os.strerror(code))


def attributes(data: bytes) -> Iterator[Attribute]:
    """The attributes in what follows a message's fixed part, by their kinds alone."""
    return ((kind & KIND, value) for kind, value in attributes_as_told(data))


def attributes_as_told(data: bytes) -> Iterator[Attribute]:
    """The same, each kind with its two bits, as it is handed back."""
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        yield kind, data[at + ATTRIBUTE.size:at + length]
        at += max(aligned(length), ATTRIBUTE.size)


def pack(kind: int, value: bytes) -> bytes:
    """An attribute as it stands in a message."""
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(aligned(length) - length)


def aligned(length: int) -> int:
    """The room that an attribute of that length takes."""
    return length + 3 & ~3
