"""Who is connected to whom, and who has room, by the kernel's word."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from ovsxen.host import sockets


def test_the_two_ends_of_a_connection_are_found_in_their_processes() -> None:
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    child = subprocess.Popen([sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
                             close_fds=False, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        theirs.close()
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        assert sockets.are_connected(os.getpid(), child.pid) is True
        assert sockets.are_connected(child.pid, os.getpid()) is True
        assert sockets.are_connected(os.getpid(), stranger.pid) is False
        ours.close()
        assert sockets.are_connected(os.getpid(), child.pid) is False
    finally:
        for process in (child, stranger):
            process.kill()
            process.wait()
        for stream in (child.stdin, child.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """Somebody who listens, and reads nothing of itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "listener") if request.param == "path" else "\0ovsxen-test-%d" % os.getpid())
        yield end


def test_a_listener_takes_datagrams_until_it_has_no_room_and_again_when_it_has_read_one(
        listener: socket.socket) -> None:
    bound = listener.getsockname()
    address = bound if isinstance(bound, str) else "@" + bound[1:].decode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        with pytest.raises(BlockingIOError):
            while sockets.takes_datagram(address, 0.0):
                sender.sendto(b"a line", bound)
            sender.sendto(b"a line", bound)
    assert not sockets.takes_datagram(address, 0.05)
    listener.recv(64)
    assert sockets.takes_datagram(address, 10.0)


def test_where_nobody_listens_there_is_nobody_to_wait_for(tmp_path: Path) -> None:
    assert sockets.takes_datagram(str(tmp_path / "nobody"), 10.0)


def test_what_cannot_be_seen_is_unknown_and_not_unconnected() -> None:
    assert sockets.are_connected(os.getpid(), 1 << 22) is None
