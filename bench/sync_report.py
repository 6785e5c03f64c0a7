"""Figures and goals of `ovsxen sync` as text. Nothing here measures."""

from enum import Enum
from statistics import median
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

from bench import report
from bench.sync_site import Memory

GOALS_AT = 1000
BURST_GOAL_S, CALLS_GOAL, TRANSACTIONS_GOAL = 1.5, 5, 5
SINGLE_GOAL_MS = 60.0
RESIDENT_GOAL_MIB, CPU_GOAL_PERCENT = 32.0, 0.1


class Kind(Enum):
    """What sync knows of the VIFs when they are plugged in."""

    TOLD = "told"
    NOT_YET = "not yet"


class Burst(NamedTuple):
    """VIFs that were plugged in at once: the time until all keys were right, and what sync did and used for it."""

    seconds: float
    cpu_s: float
    calls: Tuple[str, ...]
    transactions: int
    memory: Memory


class Idle(NamedTuple):
    """With the VIFs of the last burst and nothing to do: share of one core."""

    vifs: int
    seconds: float
    cpu_percent: float


class Measured(NamedTuple):
    """All bursts of so many VIFs. `singles_ms`: what one more took afterwards, each time."""

    vifs: int
    kind: Kind
    bursts: Tuple[Burst, ...]
    singles_ms: Tuple[float, ...] = ()

    @property
    def seconds(self) -> float:
        return median(burst.seconds for burst in self.bursts)

    @property
    def calls(self) -> int:
        """The most."""
        return max(len(burst.calls) for burst in self.bursts)

    @property
    def transactions(self) -> int:
        """The most."""
        return max(burst.transactions for burst in self.bursts)

    @property
    def resident_mib(self) -> float:
        return median(burst.memory.resident_mib for burst in self.bursts)

    @property
    def peak_mib(self) -> float:
        return max(burst.memory.peak_mib for burst in self.bursts)


HEADER = """\
       XAPI has       keys right (ms)      sync's     calls     trans-   resident      peak     one more (ms)
 VIFs  told sync   runs  median   worst  CPU (ms)   of XAPI    actions        MiB       MiB   runs  median   worst"""


def as_row(measured: Measured) -> str:
    """Medians; of calls, transactions and the peak the most."""
    times_ms = tuple(burst.seconds * 1000.0 for burst in measured.bursts)
    cpu_ms = median(burst.cpu_s for burst in measured.bursts) * 1000.0
    return "%5d  %-9s%s%10.0f%10d%11d%11.1f%10.1f%s" % (
        measured.vifs, measured.kind.value, _cells(times_ms), cpu_ms, measured.calls, measured.transactions,
        measured.resident_mib, measured.peak_mib, _cells(measured.singles_ms))


def _cells(times_ms: Tuple[float, ...]) -> str:
    if not times_ms:
        return "%7s%8s%8s" % ("-", "-", "-")
    return "%7d%8.0f%8.0f" % (len(times_ms), median(times_ms), max(times_ms))


def as_calls(measured: Measured) -> str:
    """Which calls those were."""
    found = sorted({", ".join(burst.calls) or "none" for burst in measured.bursts})
    return "Calls of XAPI for %d VIFs (%s): %s." % (measured.vifs, measured.kind.value, "; or ".join(found))


def as_idle(idle: Idle) -> str:
    return "Idle with %d VIFs, %.0f s: %.3f %% of a core." % (idle.vifs, idle.seconds, idle.cpu_percent)


def verdicts(table: Tuple[Measured, ...], idle: Optional[Idle]) -> Tuple[str, ...]:
    """One line for each goal: the figure, the goal, and whether it is reached."""
    return tuple(_verdicts(tuple(measured for measured in table if measured.vifs == GOALS_AT))) + (
        report.verdict("the idle sync's share of a core", idle.cpu_percent if idle else None, CPU_GOAL_PERCENT, " %"),)


def _verdicts(table: Tuple[Measured, ...]) -> Iterator[str]:
    def of(kind: Kind, figure: Callable[[Measured], float]) -> Optional[float]:
        return next((figure(measured) for measured in table if measured.kind is kind), None)

    where = {Kind.TOLD: "of %d known VIFs" % GOALS_AT, Kind.NOT_YET: "of %d VIFs to ask for" % GOALS_AT}
    for kind in Kind:
        yield report.verdict("burst %s" % where[kind], of(kind, lambda one: one.seconds), BURST_GOAL_S, " s")
    for kind in Kind:
        yield report.verdict("XAPI calls, burst %s" % where[kind], of(kind, lambda one: one.calls), CALLS_GOAL, "")
    for kind in Kind:
        yield report.verdict("transactions, burst %s" % where[kind], of(kind, lambda one: one.transactions),
                             TRANSACTIONS_GOAL, "")
    singles_ms = sum((measured.singles_ms for measured in table), ())
    yield report.verdict("one more VIF beside %d" % GOALS_AT, median(singles_ms) if singles_ms else None,
                         SINGLE_GOAL_MS, " ms")
    resident = [measured.resident_mib for measured in table]
    yield report.verdict("resident memory of the sync of %d VIFs" % GOALS_AT, max(resident) if resident else None,
                         RESIDENT_GOAL_MIB, " MiB")
