"""The last boots of this host as values, each with its starts of the switch; kept in /var/lib/ovsxen.

The daemon writes them (boot_record.py), `ovsxen boot-chart` reads them. What is read may be of another version or of
somebody else: it is checked and bounded.
"""

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from ovsxen.host import files
from ovsxen.host.boot_times import BootTimes, UnitTimes
from ovsxen.report import Outcome, Phase, Report, printable

SCHEMA = 1
BOOTS = 10
STARTS = 4
PHASES = 24
UNITS = 16
NAME_CHARACTERS = 40
TEXT_CHARACTERS = 160
"""With all of these the file is smaller than what files.read_small takes."""

LATEST_S = 1e9
"""Thirty years: no clock that starts with the kernel says more."""


class Start(NamedTuple):
    """One run of the boot's phases. `finished` is false for one that was killed or interrupted: its end is unknown."""

    phases: Tuple[Phase, ...]
    finished: bool

    @property
    def began_s(self) -> float:
        return self.phases[0].began_s

    @property
    def ended_s(self) -> float:
        """When its last phase that is known of ended."""
        return max(end_of(phase) for phase in self.phases)

    @property
    def went_well(self) -> bool:
        """The switch was up at its end."""
        return self.finished and not any(phase.outcome is Outcome.FAILED for phase in self.phases)


class Boot(NamedTuple):
    """A boot of the host: its first start of the switch and those that followed, to the first that went well.

    `date` (UTC) is by the wall clock, which may be wrong. `tried` counts all starts: of many, the first and the last
    ones are kept. `system` is None where systemd was not asked.
    """

    boot_id: str
    date: str
    ovsxen: str
    openvswitch: str
    purged: int
    tried: int
    starts: Tuple[Start, ...]
    system: Optional[BootTimes] = None

    @property
    def is_up(self) -> bool:
        """The last start went well, so that no later one is of interest."""
        return bool(self.starts) and self.starts[-1].went_well

    @property
    def took_s(self) -> float:
        """From the begin of the first start to the end of the last one."""
        return self.starts[-1].ended_s - self.starts[0].began_s

    def with_start(self, start: Optional[Start]) -> "Boot":
        """With one more, unless it is known already or the switch was up before it."""
        if start is None or self.is_up or any(start.began_s == known.began_s for known in self.starts):
            return self
        starts = self.starts + (start,)
        return self._replace(tried=self.tried + 1, starts=starts[:1] + starts[1:][-(STARTS - 1):])


class History(NamedTuple):
    """The last boots, oldest first; `problem` says why there are none in a file that is there."""

    boots: Tuple[Boot, ...] = ()
    problem: str = ""

    def find(self, boot_id: str) -> Optional[Boot]:
        return next((boot for boot in self.boots if boot.boot_id == boot_id), None)

    def with_boot(self, boot: Boot) -> "History":
        """With that one as the newest, in place of what was known of it."""
        others = tuple(other for other in self.boots if other.boot_id != boot.boot_id)
        return History((others + (boot,))[-BOOTS:])


def end_of(phase: Phase) -> float:
    """When it ended, in seconds of the same clock as its begin."""
    return phase.began_s + phase.ms / 1000.0


def start_in(report: Optional[Report]) -> Optional[Start]:
    """The start that a report tells of; None where it does not say when: an older version wrote it."""
    phases = tuple(phase for phase in report.phases if phase.began_s > 0.0) if report else ()
    if report is None or not phases:
        return None
    return Start(tuple(Phase(_name(phase.name), phase.outcome, _reason(phase.reason), phase.ms, began_s=phase.began_s)
                       for phase in phases[:PHASES]), report.finished)


def write_history(path: Path, history: History) -> None:
    """Replace the file, so that a power cut leaves the old or the new one. Raises OSError.

    The daemon alone does this, and there is one.
    """
    import json

    text = json.dumps({"schema": SCHEMA, "boots": [_boot_as_json(boot) for boot in history.boots]}, indent=1,
                      ensure_ascii=False)
    if files.make_directory(path.parent, 0o755):
        files.sync_directory(path.parent.parent)
    files.remove_staged(path.parent, path.name, excludes_others=True)
    files.write_file(path, [text.encode("utf-8", "backslashreplace") + b"\n"])


def read_history(path: Path) -> History:
    """What was last written. Of a file that makes no sense, and of one that cannot be read, the problem."""
    import json

    try:
        text = json.loads(files.read_small(path).decode())
        if text["schema"] != SCHEMA:
            return History(problem="%s is of another version of ovsxen" % path)
        return History(tuple(_boot_in(boot) for boot in text["boots"][-BOOTS:]))
    except FileNotFoundError:
        return History()
    except OSError as error:
        return History(problem="%s cannot be read (%s)" % (path, error.strerror or error))
    except files.NONSENSE:
        return History(problem="%s is damaged, or not of ovsxen" % path)


def _name(value: object) -> str:
    return printable(str(value))[:NAME_CHARACTERS]


def _reason(value: object) -> str:
    return printable(str(value))[:TEXT_CHARACTERS]


def _moment(value: Any) -> float:
    """A time, or how long something took. Raises ValueError for one that cannot be, such as NaN."""
    if not 0.0 <= float(value) <= LATEST_S:
        raise ValueError(value)
    return float(value)


def _boot_as_json(boot: Boot) -> Dict[str, Any]:
    return {"boot_id": boot.boot_id, "date": boot.date, "ovsxen": boot.ovsxen, "openvswitch": boot.openvswitch,
            "purged": boot.purged, "tried": boot.tried,
            "starts": [{"finished": start.finished, "phases": [
                {"name": phase.name, "outcome": phase.outcome.value, "began_s": round(phase.began_s, 4),
                 "ms": round(phase.ms, 1), "reason": phase.reason} for phase in start.phases]}
                for start in boot.starts],
            "system": boot.system and {
                "userspace_s": boot.system.userspace_s, "finished_s": boot.system.finished_s,
                "units": [unit._asdict() for unit in boot.system.units]}}


def _boot_in(text: Any) -> Boot:
    starts = tuple(_start_in(start) for start in text["starts"][:STARTS])
    if not starts:
        raise ValueError(text)
    return Boot(_name(text["boot_id"]), _name(text["date"]), _name(text["ovsxen"]), _name(text["openvswitch"]),
                int(_moment(text["purged"])), int(_moment(text["tried"])), starts, _system_in(text["system"]))


def _start_in(text: Any) -> Start:
    phases = tuple(Phase(_name(phase["name"]), Outcome(phase["outcome"]), _reason(phase["reason"]),
                         _moment(phase["ms"]), began_s=_moment(phase["began_s"])) for phase in text["phases"][:PHASES])
    if not phases:
        raise ValueError(text)
    return Start(phases, bool(text["finished"]))


def _system_in(text: Any) -> Optional[BootTimes]:
    if text is None:
        return None
    units = tuple(UnitTimes(_name(unit["name"]), _moment(unit["began_s"]), _moment(unit["active_s"]))
                  for unit in text["units"][:UNITS])
    return BootTimes(_moment(text["userspace_s"]), _moment(text["finished_s"]), units)
