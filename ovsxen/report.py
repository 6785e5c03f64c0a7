"""What a start did, phase by phase, as a value; kept in the run directory, where `ovsxen status` reads it."""

from enum import Enum
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from ovsxen.host import files

SCHEMA = 1


class Outcome(Enum):
    """How a phase ended. WOULD is a dry run's DONE."""

    DONE = "done"
    UNCHANGED = "unchanged"
    WOULD = "would"
    DEGRADED = "degraded"
    SKIPPED = "skipped"
    FAILED = "failed"


BAD = (Outcome.FAILED, Outcome.DEGRADED)


class Phase(NamedTuple):
    """One phase: its outcome, why, how long it took, the names that it is about, and the exit code that it asks for.

    `began_s`: when, on the kernel's monotonic clock, which systemd's own times are of, too; 0 where nobody looked.
    """

    name: str
    outcome: Outcome
    reason: str
    ms: float = 0.0
    names: Tuple[str, ...] = ()
    exit_code: int = 0
    began_s: float = 0.0

    def as_text(self) -> str:
        """A line for people, and one for each name."""
        line = "%-17s %-9s %7.1f ms  %s" % (self.name, self.outcome.value, self.ms, self.reason)
        return "\n".join([line] + ["                 %s" % printable(name) for name in self.names])

    def as_json(self) -> Dict[str, Any]:
        return {"name": self.name, "outcome": self.outcome.value, "reason": self.reason, "ms": round(self.ms, 1),
                "began_s": round(self.began_s, 4), "names": list(self.names)}


class Report(NamedTuple):
    """The phases of the last start of a boot that changed something, and all bridges purged in this boot."""

    boot_id: str
    finished: bool
    phases: Tuple[Phase, ...]
    purged: Tuple[str, ...]
    warnings: Tuple[str, ...]

    @property
    def went_well(self) -> bool:
        """It came to its end, and nothing in it is bad."""
        return self.finished and not any(phase.outcome in BAD for phase in self.phases)

    def as_json(self) -> Dict[str, Any]:
        return {"schema": SCHEMA, "boot_id": self.boot_id, "finished": self.finished,
                "phases": [phase.as_json() for phase in self.phases], "purged": list(self.purged),
                "warnings": list(self.warnings)}


def printable(name: str) -> str:
    """A name from the database on one line, whatever is in it."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in name)


def write_report(path: Path, report: Report) -> None:
    """Replace the report at `path`. Raises OSError."""
    import json  # a start that changes nothing does without

    files.write_file(path, [json.dumps(report.as_json(), indent=1).encode() + b"\n"], durable=False)


def read_report(path: Path, boot_id: str) -> Optional[Report]:
    """The report of this boot; None when there is none, or only one of another boot, or one that cannot be read."""
    try:
        written = files.read_small(path).decode()
        import json  # the first start of a boot has nothing to read

        text = json.loads(written)
        if text["schema"] != SCHEMA or text["boot_id"] != boot_id:
            return None
        phases = tuple(Phase(str(phase["name"]), Outcome(phase["outcome"]), str(phase["reason"]), float(phase["ms"]),
                             tuple(map(str, phase["names"])), began_s=float(phase.get("began_s", 0.0)))
                       for phase in text["phases"])
        return Report(boot_id, bool(text["finished"]), phases, tuple(map(str, text["purged"])),
                      tuple(map(str, text["warnings"])))
    except (OSError,) + files.NONSENSE:
        return None
