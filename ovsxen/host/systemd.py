"""The one door to systemd: what it hears of a unit of Type=notify (sd_notify(3), systemd.service(5)), and what it is
asked to do with others.

The package (systemd-python) is imported only where systemd listens: a SysV host has none. It is built for one version
of Python, so a program that is to run with any cannot bring it, and there it is done without.

NOTIFY_SOCKET stays in the environment: this process may run itself anew with the same process id, and is then still
heard. Other programs must not inherit it.
"""

import os
import re
import socket
from pathlib import Path
from typing import Callable, Mapping, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import files, proc
from ovsxen.host.proc import NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC
from ovsxen.host.sockets import as_bound, takes_datagram

SWITCH_UNIT = "openvswitch.service"
SYNC_UNIT = "openvswitch-xapi-sync.service"

SPARING = "ovsxen-spare-all.conf"
"""A drop-in that is there only while a unit is started anew, and by which nothing ends that runs in it."""

WITHIN_S = 30.0
"""What systemctl has for an answer, or for what it does by itself."""

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


def restart_unit(name: str, within_s: float) -> bool:
    """Have a unit that runs be restarted, without waiting for it; False where it does not run, and is left so.

    Raises AdministratorError, NoAnswer, NotInstalled.
    """
    if proc.run(("systemctl", "is-active", "--quiet", name), within_s).returncode != 0:
        return False
    ended = proc.run(("systemctl", "--no-block", "try-restart", name), within_s)
    if ended.returncode != 0:
        raise AdministratorError("%s was not restarted (%s)" % (name, ended.complaint),
                                 "run `systemctl restart %s`" % name)
    return True


class Unit(NamedTuple):
    """A unit as systemd has it. `main_pid` is 0 where it knows of none; `stops`: there is a command for its stop."""

    state: str
    main_pid: int
    kill_mode: str
    start_command: Tuple[str, ...]
    stops: bool

    @property
    def ends_alone(self) -> bool:
        """With its main process nothing else ends that runs in it."""
        return self.kill_mode == "process" and not self.stops


def look_at(name: str, within_s: float) -> Unit:
    """Ask systemd. One that it does not know is inactive. Raises AdministratorError, NoAnswer, NotInstalled."""
    asked = ("ActiveState", "MainPID", "KillMode", "ExecStart", "ExecStop")
    said = _systemctl(("show",) + tuple("--property=%s" % one for one in asked) + (name,), within_s)
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)  # systemd 219 knows no --value
    command = re.search(r"argv\[\]=(.*?) ;", found.get("ExecStart", ""))
    return Unit(found.get("ActiveState", ""), int(found.get("MainPID") or 0), found.get("KillMode", ""),
                tuple(command.group(1).split()) if command else (), bool(found.get("ExecStop")))


def reload_definitions(units: Path, within_s: float) -> None:
    """Have systemd read all units anew. `units`: where those of this boot are; of what a killed start_anew has left
    there it is rid, too. Raises AdministratorError, NoAnswer, NotInstalled, OSError.
    """
    for left in units.glob("*.d/" + SPARING):
        files.remove_if_there(left)
    _systemctl(("daemon-reload",), within_s)


def set_enabled(names: Tuple[str, ...], root: Path, within_s: float, *, enabled: bool) -> None:
    """Have the next boot start these units, or not; for a host in a directory the links are made, or removed, in there.

    Raises AdministratorError, NoAnswer, NotInstalled.
    """
    of_host = () if root == Path("/") else ("--root=%s" % root,)
    _systemctl(of_host + ("enable" if enabled else "disable",) + names, within_s, "run it by hand")


def start_anew(name: str, units: Path, within_s: float) -> None:
    """Start a unit that runs once more, by its definition as it is now, and end nothing that runs in it; other units do
    not notice.

    A restart ends the main process, which may be a stranger that systemd has once guessed (Type=forking without a
    PIDFile=), or all processes, or runs a command to stop them: then a drop-in spares them. Without dependencies,
    because what is bound to the unit would be restarted with it. Raises AdministratorError, NoAnswer, NotInstalled,
    OSError.
    """
    unit = look_at(name, within_s)
    restart = ("--job-mode=ignore-dependencies", "restart", name)
    if unit.main_pid == 0 and unit.ends_alone:
        _systemctl(restart, within_s)
        return
    directory = units / (name + ".d")
    files.make_directory(directory, 0o755)
    try:
        files.write_file(directory / SPARING, [b"[Service]\nKillMode=none\nExecStop=\nExecStopPost=\n"], durable=False)
        _systemctl(("daemon-reload",), within_s)
        _systemctl(restart, within_s)
    finally:
        reload_definitions(units, within_s)


def _systemctl(arguments: Tuple[str, ...], within_s: float, remedy: str = "look at `systemctl status`") -> str:
    ended = proc.run(("systemctl",) + arguments, within_s)
    if ended.returncode != 0:
        raise AdministratorError("`systemctl %s` failed (%s)" % (" ".join(arguments), ended.complaint), remedy)
    return ended.stdout


def _status(text: str) -> str:
    """On one line, because the next would be another assignment; bounded, because systemd drops what is too long."""
    line = " ".join(text.split())[:STATUS_CHARACTERS]
    return "STATUS=%s" % "".join(character if character.isprintable() else "?" for character in line)
