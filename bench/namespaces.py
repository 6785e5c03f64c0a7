"""Network namespaces of our own, for tests too."""

import signal
import subprocess
from contextlib import contextmanager
from typing import Iterator, Tuple

from bench.host import BenchFailed
from ovsxen.host import process


@contextmanager
def making_namespace(name: str) -> Iterator[None]:
    """A namespace of that name, which is gone afterwards, and its devices with it."""
    ip("netns", "add", name)
    try:
        yield
    finally:
        ip("netns", "delete", name)


def ip(*arguments: str) -> None:
    """Raises BenchFailed."""
    if subprocess.call(("ip",) + arguments, stdin=subprocess.DEVNULL) != 0:
        raise BenchFailed("ip %s failed" % " ".join(arguments))


def inside(name: str, *argv: str) -> Tuple[str, ...]:
    """What runs a program in that namespace."""
    return ("ip", "netns", "exec", name) + argv


def pids_inside(name: str) -> Tuple[int, ...]:
    return tuple(map(int, subprocess.check_output(("ip", "netns", "pids", name)).split()))


def kill_all_inside(name: str) -> None:
    """Whatever runs in it, such as a daemon that had not written its pidfile. It may be that nothing does."""
    for pid in pids_inside(name):
        left = process.read_process(pid)
        if left is not None:
            process.send_signal(left, signal.SIGKILL)
