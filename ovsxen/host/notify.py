"""What systemd hears of a unit of Type=notify (sd_notify(3), systemd.service(5)): the one door to its Python package.

That package (systemd-python) is imported only where systemd listens: a SysV host has none. It is built for one version
of Python, so a program that is to run with any cannot bring it, and there it is done without.

NOTIFY_SOCKET stays in the environment: this process may run itself anew with the same process id, and is then still
heard. Other programs must not inherit it.
"""

import os
import socket
from typing import Callable, Mapping, NamedTuple, Optional

from ovsxen.host.proc import NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC
from ovsxen.host.sockets import as_bound, takes_datagram

READY_WITHIN_S = 10.0
LONGEST_BEAT_S = 5.0
STATUS_CHARACTERS = 500
"""In UTF-8 at most half of what systemd reads of one message (NOTIFY_BUFFER_MAX in its pid1, 252)."""


class Notifier(NamedTuple):
    """What systemd is told of this service. Without a systemd that listens, nothing is said and all is well.

    What cannot be told is logged, no more: the switch does not depend on it. Nor does it wait for a systemd that hears
    nothing, as while the host is frozen; but for a while with what must be heard.
    """

    send: Optional[Callable[[str], object]] = None
    address: str = ""

    def ready(self, status: str) -> None:
        """The switch is configured: the unit is active, and what is ordered after it starts; or a reload is done."""
        self._tell("READY=1", _status(status), within_s=READY_WITHIN_S)

    def status(self, text: str) -> None:
        """What `systemctl status` shows, on one line."""
        self._tell(_status(text))

    def extend(self, seconds: float) -> None:
        """Starting or stopping takes so much longer, from now on. systemd before 236 passes over it."""
        self._tell("EXTEND_TIMEOUT_USEC=%d" % (seconds * 1000000))

    def watchdog(self) -> None:
        """All is alive; to be said every `beat_s`."""
        self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        """The service is about to read its settings again; `ready` says when it has."""
        self._tell("RELOADING=1")

    def stopping(self, status: str) -> None:
        """The service is about to end of its own accord."""
        self._tell("STOPPING=1", _status(status))

    def _tell(self, *assignments: str, within_s: float = 0.0) -> None:
        if self.send is None or not takes_datagram(self.address, within_s):
            return
        try:
            self.send("\n".join(assignments))
        except OSError as error:
            import logging  # a start does without
            logging.getLogger(__name__).warning(
                "systemd was not told %s (%s): look whether it still answers, with `systemctl status`",
                assignments[0], error.strerror)


def open_notifier() -> Notifier:
    """The way to the systemd that started this process, or to nobody."""
    address = os.environ.get(NOTIFY_SOCKET, "")
    if not address:
        return Notifier()
    try:
        from systemd import daemon
    except ImportError:
        return Notifier(lambda text: _send(address, text), address)
    return Notifier(daemon.notify, address)


def _send(address: str, text: str) -> None:
    """One message as the package sends it: a datagram, with the kernel's word for who sent it. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(text.encode("utf-8"), as_bound(address))


def beat_s(environ: Mapping[str, str], pid: int) -> Optional[float]:
    """How often this process is to tell the watchdog that all is alive; None where no watchdog listens to it.

    A quarter of the silence after which systemd kills it, where half is advised (sd_watchdog_enabled(3)); at most 5 s.
    """
    text = environ.get(WATCHDOG_USEC, "")
    if environ.get(WATCHDOG_PID, str(pid)) != str(pid) or not text.isdigit() or int(text) == 0:
        return None
    return min(int(text) / 1000000.0 / 4, LONGEST_BEAT_S)


def _status(text: str) -> str:
    """On one line, because the next would be another assignment; bounded, because systemd drops what is too long."""
    line = " ".join(text.split())[:STATUS_CHARACTERS]
    return "STATUS=%s" % "".join(character if character.isprintable() else "?" for character in line)
