"""What an update came to, as a value; the last one of this boot is kept in the run directory for `ovsxen status`."""

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from ovsxen.errors import OvsxenError
from ovsxen.host import files

SCHEMA = 1
UNFINISHED = "it is under way, or was killed"
SHOWN_NOTES = 8
LARGEST_BYTES = 64 << 20  # a reset of many ports has many changes
SHOWN_CHARACTERS = 400


class Answer(NamedTuple):
    """`text`: what callers have always got. `changes`: what was written, or would be. `notes`: what to look at."""

    text: str
    changes: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The text, and after it the notes, as one line of ASCII: XAPI writes it to its log."""
        shown = [note if len(note) <= SHOWN_CHARACTERS else note[:SHOWN_CHARACTERS] + "..."
                 for note in self.notes[:SHOWN_NOTES]]
        if len(self.notes) > SHOWN_NOTES:
            shown.append("%d more: see `ovsxen status --json`" % (len(self.notes) - SHOWN_NOTES))
        gap = "" if self.text.endswith("  ") or not shown else "  "
        return " ".join((self.text + gap + "  ".join("Note: %s." % note for note in shown)).encode(
            "ascii", "backslashreplace").decode().splitlines())

    def as_json(self) -> Dict[str, Any]:
        return {"text": self.text, "changes": list(self.changes), "notes": list(self.notes)}


class Failed(Exception):
    """It failed for `error`; `answer` is what was done, and found, until then."""

    def __init__(self, error: OvsxenError, answer: Answer) -> None:
        super().__init__(str(error))
        self.error = error
        self.answer = answer


class UpdateReport(NamedTuple):
    """The last update: when (UTC), what came of it, and the error that it ended with, or "" (UNFINISHED until its end).

    `problems`: those of the notes that mean that something is not as it should be. `put_back`: bridges whose management
    flows did not stay when they turned secure, each with the pid of the ovs-vswitchd that it was; while that one runs,
    it is not tried again. `owed`: bridges that a reset left out because they were held.
    """

    when: str
    answer: Answer
    error: str = ""
    problems: Tuple[str, ...] = ()
    put_back: Dict[str, int] = {}
    owed: Tuple[str, ...] = ()

    def as_json(self) -> Dict[str, Any]:
        return dict(self.answer.as_json(), schema=SCHEMA, when=self.when, error=self.error,
                    problems=list(self.problems), put_back=self.put_back, owed=list(self.owed))


def write_update_report(path: Path, report: UpdateReport) -> None:
    """Replace the report at `path`. Raises OSError."""
    import json

    files.write_file(path, [json.dumps(report.as_json(), indent=1).encode() + b"\n"], durable=False)


def read_update_report(path: Path) -> Optional[UpdateReport]:
    """The report of the last update of this boot; None when there is none, or one that cannot be read."""
    try:
        written = files.read_small(path, LARGEST_BYTES).decode()
        import json

        text = json.loads(written)
        if text["schema"] != SCHEMA:
            return None
        answer = Answer(str(text["text"]), tuple(map(str, text["changes"])), tuple(map(str, text["notes"])))
        return UpdateReport(str(text["when"]), answer, str(text["error"]), tuple(map(str, text["problems"])),
                            {str(bridge): int(pid) for bridge, pid in text["put_back"].items()},
                            tuple(map(str, text["owed"])))
    except (OSError,) + files.NONSENSE:
        return None
