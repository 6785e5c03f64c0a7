"""When systemd did what in this boot, by its own word: seconds of the kernel's monotonic clock.

systemd knows only when a unit last started, so it is asked soon after the boot. Every property that is asked for is in
systemd 219.
"""

from typing import Dict, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.host.proc import Child
from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT

UNITS = ("network.target", SWITCH_UNIT, "xcp-networkd.service", "xapi.service", SYNC_UNIT)
USERSPACE, FINISH = "UserspaceTimestampMonotonic", "FinishTimestampMonotonic"
STARTED, ACTIVE = "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"
WITHIN_S = 8.0


class UnitTimes(NamedTuple):
    """When a unit's start began, and when it was active; 0 where it is not, or was not when systemd was asked."""

    name: str
    began_s: float
    active_s: float


class BootTimes(NamedTuple):
    """When systemd itself began, when nothing of the boot was left to do (0: not yet), and the units that have begun.
    """

    userspace_s: float
    finished_s: float
    units: Tuple[UnitTimes, ...]


def is_there(paths: Paths) -> bool:
    """A systemd runs this host: not where it is in a directory, and not with an init of another kind."""
    return paths.is_machine and paths.systemd_running.is_dir()


class Question:
    """What systemd has been asked, of itself and of the units: it answers while others go on.

    Raises NotInstalled, AdministratorError.
    """

    def __init__(self) -> None:
        self._deadline = Deadline(WITHIN_S)
        self._children = (_ask((USERSPACE, FINISH)), _ask(("Id", STARTED, ACTIVE), UNITS))

    def answer(self) -> BootTimes:
        """The answer; waited for while there is time. Raises NoAnswer, AdministratorError."""
        try:
            return parse_times(*(self._read(child) for child in self._children))
        finally:
            self.drop()

    def _read(self, child: Child) -> str:
        ended = child.read_all(self._deadline.at_most_s(WITHIN_S))
        if ended.returncode != 0:
            raise AdministratorError("systemd does not say when it did what (%s)" % ended.complaint,
                                     "look at `systemctl status`")
        return ended.stdout

    def drop(self) -> None:
        """Leave nothing of it behind. It may be repeated."""
        for child in self._children:
            child.end()


def _ask(properties: Tuple[str, ...], units: Tuple[str, ...] = ()) -> Child:
    return Child(("systemctl", "show") + tuple("--property=%s" % one for one in properties) + units)


def parse_times(of_manager: str, of_units: str) -> BootTimes:
    """Two answers of `systemctl show`, the second with an empty line between units."""
    manager = _parse(of_manager)
    units = []
    for block in of_units.split("\n\n"):
        found = _parse(block)
        began_s = _seconds(found.get(STARTED))
        if began_s:
            units.append(UnitTimes(found.get("Id", ""), began_s, _seconds(found.get(ACTIVE))))
    return BootTimes(_seconds(manager.get(USERSPACE)), _seconds(manager.get(FINISH)), tuple(units))


def _parse(text: str) -> Dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)  # systemd 219 knows no --value


def _seconds(microseconds: Optional[str]) -> float:
    return round(int(microseconds) / 1e6, 4) if microseconds and microseconds.isdigit() else 0.0
