"""Who is connected to whom, by the kernel's word."""

import os
import socket
import subprocess
import sys

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


def test_what_cannot_be_seen_is_unknown_and_not_unconnected() -> None:
    assert sockets.are_connected(os.getpid(), 1 << 22) is None
