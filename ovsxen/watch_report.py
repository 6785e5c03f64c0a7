"""What the daemon says of itself and of its watch, as a value; kept in the run directory for `ovsxen status`.

It is written again and again, so that one whose writer hangs shows by its age on the monotonic clock.
"""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ovsxen.host import files
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD

SCHEMA = 1
WRITTEN_EVERY_S = 10.0
STALE_AFTER_S = 3 * WRITTEN_EVERY_S
BUSY_FOR_S = 600.0
"""More than all the deadlines of a mending or a stop together."""

EVENTS = 10

WATCHING = "watching"
BUSY = "busy"
ENDED = "ended"


class Event(NamedTuple):
    """Something that the daemon did, and when (UTC, for people)."""

    when: str
    text: str


class Attempts(NamedTuple):
    """When each daemon of Open vSwitch was started again of late, on the monotonic clock, oldest first."""

    server: Tuple[float, ...] = ()
    vswitchd: Tuple[float, ...] = ()

    def as_json(self) -> Dict[str, List[float]]:
        return {OVSDB_SERVER: [round(at_s, 3) for at_s in self.server],
                VSWITCHD: [round(at_s, 3) for at_s in self.vswitchd]}


class WatchReport(NamedTuple):
    """The daemon `pid`, what it does (`doing`: watching, busy or ended), what is wrong, and what it did last.

    By `attempts` a limit holds for the next instance too.
    """

    boot_id: str
    pid: int
    start_ticks: int
    written_s: float
    doing: str
    problems: Tuple[str, ...]
    attempts: Attempts
    events: Tuple[Event, ...]

    def is_stale(self, now_s: float) -> bool:
        """Its writer has not written for so long that it hangs. While it is busy, it may take minutes."""
        return not now_s - self.written_s <= (BUSY_FOR_S if self.doing == BUSY else STALE_AFTER_S)  # nor is NaN fresh

    def as_json(self) -> Dict[str, Any]:
        return {"schema": SCHEMA, "boot_id": self.boot_id, "pid": self.pid, "start_ticks": self.start_ticks,
                "written_s": round(self.written_s, 3), "doing": self.doing, "problems": list(self.problems),
                "attempts": self.attempts.as_json(),
                "events": [{"when": event.when, "text": event.text} for event in self.events]}


def write_watch_report(path: Path, report: WatchReport) -> None:
    """Replace the report at `path`. Raises OSError."""
    import json

    files.write_file(path, [json.dumps(report.as_json(), indent=1).encode() + b"\n"], durable=False)


def read_watch_report(path: Path, boot_id: str) -> Optional[WatchReport]:
    """The report of this boot; None when there is none, or only one of another boot, or one that cannot be read."""
    import json

    try:
        text = json.loads(files.read_small(path).decode())
        if text["schema"] != SCHEMA or text["boot_id"] != boot_id:
            return None
        return WatchReport(
            boot_id, int(text["pid"]), int(text["start_ticks"]), float(text["written_s"]), str(text["doing"]),
            tuple(map(str, text["problems"])),
            Attempts(*(tuple(map(float, text["attempts"][name])) for name in (OVSDB_SERVER, VSWITCHD))),
            tuple(Event(str(event["when"]), str(event["text"])) for event in text["events"]))
    except (OSError,) + files.NONSENSE:
        return None
