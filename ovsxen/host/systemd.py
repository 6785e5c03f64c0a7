"""What systemd is asked of units, and asked to do with them, by systemctl. notify.py tells it of this process."""

import re
from pathlib import Path
from typing import NamedTuple, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import files, proc

SWITCH_UNIT = "openvswitch.service"
SYNC_UNIT = "openvswitch-xapi-sync.service"

SPARING = "ovsxen-spare-all.conf"
"""A drop-in that is there only while a unit is started anew, and by which nothing ends that runs in it."""

BEGINS = ("activating", "reloading")
"""States of a unit that is not active yet, or not again."""

WITHIN_S = 30.0
"""What systemctl has for an answer, or for what it does by itself."""


def restart_unit(name: str, within_s: float) -> bool:
    """Have a unit that runs, or is about to, be restarted, without waiting for it; False where it has not begun, and is
    left so.

    Raises AdministratorError, NoAnswer, NotInstalled.
    """
    asked = proc.run(("systemctl", "is-active", name), within_s)
    if asked.returncode != 0 and asked.stdout.strip() not in BEGINS:
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
