"""The door to syslog, for a daemon that has neither a terminal nor a journal that listens."""

import syslog
from typing import Callable, NamedTuple

from ovsxen.host.sockets import takes_datagram

SOCKET = "/dev/log"


class Syslog(NamedTuple):
    """What is said, and what is warned of. A line that nobody takes is lost: nobody waits for it."""

    say: Callable[[str], None]
    warn: Callable[[str], None]


def open_syslog(program: str) -> Syslog:
    """The way to the host's log, under this name."""
    syslog.openlog(program, syslog.LOG_PID, syslog.LOG_DAEMON)

    def write(priority: int, text: str) -> None:
        if takes_datagram(SOCKET, 0.0):
            syslog.syslog(priority, text)

    return Syslog(lambda text: write(syslog.LOG_INFO, text), lambda text: write(syslog.LOG_WARNING, text))
