"""What is told of a soak: what was done, what came of it, and what must never be and was."""

import time
from collections import deque
from pathlib import Path
from typing import IO, Deque, Dict, NamedTuple, Tuple

SLOWEST = 5


class Violation(Exception):
    """What must never be, was."""


class Story:
    """What was done, and when, among what ovsxen says at that time: `output` is where it says it."""

    def __init__(self, output: "IO[bytes]") -> None:
        self.output = output
        self._last: Deque[str] = deque(maxlen=40)

    def tell(self, text: str) -> None:
        line = "%s.%03d %s" % (time.strftime("%H:%M:%S", time.gmtime()), time.time() % 1 * 1000, text)
        self._last.append(line)
        self.output.write(("## %s\n" % line).encode())

    def parts(self) -> Tuple[Tuple[str, str], ...]:
        """The end of it, with headings."""
        return (("what was done last (UTC)", "\n".join(self._last)),
                ("what ovsxen said", tail(Path(self.output.name), 100)))


class Tally(NamedTuple):
    """What came of it all. `rounds`: how long it took until all was well, after what."""

    hits: Dict[Tuple[str, str], int]
    missed: int
    rounds: Tuple[Tuple[float, str], ...]
    sent: int
    received: int
    most_descriptors: int
    most_resident_kib: int
    longest_overlap_s: float

    def __str__(self) -> str:
        lines = ["%-14s %-8s %4d" % (victim, number, count) for (victim, number), count in sorted(self.hits.items())]
        lines.append("%d blows, %d found nobody to hit" % (sum(self.hits.values()), self.missed))
        slowest = sorted(self.rounds, reverse=True)
        lines.append("well again after %.1f s (median of %d rounds); the slowest:" % (
            slowest[len(slowest) // 2][0], len(slowest)))
        lines += ["  %.1f s: %s" % one for one in slowest[:SLOWEST]]
        lines.append("%d frames sent, %d lost (%.1f %%)" % (
            self.sent, self.sent - self.received, 100.0 * (self.sent - self.received) / max(self.sent, 1)))
        lines.append("the daemon had at most %d descriptors and %d KiB" % (
            self.most_descriptors, self.most_resident_kib))
        lines.append("two of a kind were seen together for at most %.3f s" % self.longest_overlap_s)
        return "\n".join(lines)


def tail(path: Path, lines: int) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)
