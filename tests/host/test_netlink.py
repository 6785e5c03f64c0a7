"""The door to netlink: to the real kernel, and to a peer in its place that is silent, late, or talks nonsense."""

import errno
import os
import socket
import struct
from typing import Iterator, Tuple

import pytest

from ovsxen.host import netlink, rtnetlink
from ovsxen.host.netlink import HEADER, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, Netlink, attributes, pack

NEW, ASK = 16, 18
NO_SUCH_INDEX = 0x7ffffff0
Peer = Tuple[Netlink, socket.socket]


def message(kind: int, sequence: int, body: bytes = b"", flags: int = 0) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def done(sequence: int, code: int = 0) -> bytes:
    return message(NLMSG_DONE, sequence, struct.pack("=i", code))


def ask_for_links() -> bytes:
    return rtnetlink.LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


@pytest.fixture
def kernel() -> Iterator[Netlink]:
    with Netlink(rtnetlink.NETLINK_ROUTE) as door:
        yield door


@pytest.fixture
def peer(kernel: Netlink) -> Iterator[Peer]:
    """The door, and the far end of its socket: the kernel does not misbehave on request."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.settimeout(0.2)
    kernel.__exit__()
    kernel._socket = near
    with far:
        yield kernel, far


def test_a_dump_has_all_that_the_kernel_has(kernel: Netlink) -> None:
    names = set()
    for body in kernel.dump(rtnetlink.RTM_GETLINK, ask_for_links()):
        names.add(os.fsdecode(dict(attributes(body[rtnetlink.LINK.size:]))[rtnetlink.IFLA_IFNAME].rstrip(b"\0")))
    assert names == {name for _, name in socket.if_nameindex()}


def test_what_the_kernel_refuses_is_an_error_with_its_number_and_the_next_question_is_answered(kernel: Netlink) -> None:
    with pytest.raises(OSError) as raised:
        kernel.request(rtnetlink.RTM_SETLINK, 0, rtnetlink.LINK.pack(socket.AF_UNSPEC, 0, NO_SUCH_INDEX, 0, 0))
    assert raised.value.errno == errno.ENODEV
    assert kernel.dump(rtnetlink.RTM_GETLINK, ask_for_links())


def test_the_answer_to_a_question_that_was_given_up_is_passed_over(peer: Peer) -> None:
    door, far = peer
    with pytest.raises(socket.timeout):
        door.dump(ASK, b"")
    far.send(message(NEW, 1, b"late") + done(1))
    far.send(message(NEW, 2, b"now!") + done(2))
    assert door.dump(ASK, b"") == (b"now!",)


def test_an_answer_in_many_datagrams_is_read_to_its_end(peer: Peer) -> None:
    door, far = peer
    bodies = tuple(struct.pack("=I", number) for number in range(50))
    for body in bodies:
        far.send(message(NEW, 1, body))
    far.send(done(1))
    assert door.dump(ASK, b"") == bodies


def test_an_answer_that_lacks_its_end_is_an_error_in_time(peer: Peer) -> None:
    door, far = peer
    far.send(message(NEW, 1, b"body"))
    with pytest.raises(socket.timeout):
        door.dump(ASK, b"")


def test_a_dump_that_something_changed_in_between_is_read_again(peer: Peer) -> None:
    door, far = peer
    far.send(message(NEW, 1, b"old!", NLM_F_DUMP_INTR) + done(1))
    far.send(message(NEW, 2, b"new!") + done(2))
    assert door.dump(ASK, b"") == (b"new!",)


def test_a_dump_that_changes_each_time_is_an_error(peer: Peer) -> None:
    door, far = peer
    for sequence in range(1, netlink.DUMPS + 1):
        far.send(message(NEW, sequence, b"", NLM_F_DUMP_INTR) + done(sequence))
    with pytest.raises(BlockingIOError, match="it changed each"):
        door.dump(ASK, b"")


@pytest.mark.parametrize("end", [done(1, -errno.EPERM),
                                 message(NLMSG_ERROR, 1, struct.pack("=i", -errno.EPERM) + b"the question")])
def test_an_error_at_the_end_of_an_answer_is_raised_whatever_came_before(peer: Peer, end: bytes) -> None:
    door, far = peer
    far.send(message(NEW, 1, b"body") + end)
    with pytest.raises(PermissionError):
        door.dump(ASK, b"")


@pytest.mark.parametrize("nonsense", [
    b"short", HEADER.pack(0, NEW, 0, 7, 0), HEADER.pack(1 << 31, NEW, 0, 7, 0) + b"x", bytes(64), b"\xff" * 64])
def test_nonsense_is_passed_over(peer: Peer, nonsense: bytes) -> None:
    door, far = peer
    far.send(nonsense)
    far.send(message(NLMSG_DONE, 1))  # as old kernels end a dump
    assert door.dump(ASK, b"") == ()


def test_attributes_are_read_as_they_were_packed_by_their_kinds_alone() -> None:
    packed = pack(1, b"\0\x16>\1\2\3") + pack(8 | 0x8000, b"") + pack(20, b"text!")
    assert len(packed) % 4 == 0
    assert list(attributes(packed)) == [(1, b"\0\x16>\1\2\3"), (8, b""), (20, b"text!")]
    assert list(netlink.attributes_as_told(packed))[1] == (0x8008, b"")


@pytest.mark.parametrize("data", [b"", b"\1", bytes(16), b"\xff" * 9])
def test_attributes_that_make_no_sense_come_to_an_end(data: bytes) -> None:
    assert len(list(attributes(data))) <= len(data) // 4
