"""Figures and goals as text. Nothing here measures."""

from statistics import median
from typing import NamedTuple, Optional, Tuple

from bench.host import Start

RATIO_GOALS = ((0, 0.9), (10, 0.5), (100, 0.1), (1000, 0.005))
LARGE, LARGE_GOAL_S = 10000, 2.0
MEMORY_AT, MEMORY_GOAL_MIB = 1000, 25.0


class Round(NamedTuple):
    """Starts that were made in turn, so that they met the same machine. Empty where one was left out."""

    ovsxen: Tuple[Start, ...]
    ovs_ctl: Tuple[Start, ...]
    floor: Tuple[Start, ...]


class Measured(NamedTuple):
    """All rounds with one number of stale bridges. `own_mib` is the bench's peak by then: no child's reads as less."""

    bridges: int
    rounds: Tuple[Round, ...]
    own_mib: float

    @property
    def ovsxen(self) -> Tuple[Start, ...]:
        return sum((one.ovsxen for one in self.rounds), ())

    @property
    def ovs_ctl(self) -> Tuple[Start, ...]:
        return sum((one.ovs_ctl for one in self.rounds), ())

    @property
    def floor(self) -> Tuple[Start, ...]:
        return sum((one.floor for one in self.rounds), ())

    @property
    def ratio(self) -> Optional[float]:
        """The median of each round's ovsxen / ovs-ctl; None where ovs-ctl was left out."""
        ratios = [median_ms(one.ovsxen) / median_ms(one.ovs_ctl) for one in self.rounds if one.ovs_ctl]
        return median(ratios) if ratios else None


def median_ms(starts: Tuple[Start, ...]) -> float:
    return median(start.ms for start in starts)


HEADER = """\
                 ovsxen (ms)             ovs-ctl (ms)               floor (ms)        ovsxen /
bridges   runs  median     min     runs  median     min     runs  median     min     ovs-ctl  peak MiB"""


def as_row(measured: Measured) -> str:
    ratio = "%11.3g" % measured.ratio if measured.ratio is not None else "%11s" % "-"
    return "%7d%s  %s  %s%s%10.1f" % (measured.bridges, _cells(measured.ovsxen), _cells(measured.ovs_ctl),
                                      _cells(measured.floor), ratio, _peak_mib(measured))


def _cells(starts: Tuple[Start, ...]) -> str:
    return cells(tuple(start.ms for start in starts))


def cells(times_ms: Tuple[float, ...]) -> str:
    """How many, their median, the least."""
    if not times_ms:
        return "%7s%8s%8s" % ("-", "-", "-")
    return "%7d%8.0f%8.0f" % (len(times_ms), median(times_ms), min(times_ms))


def _peak_mib(measured: Measured) -> float:
    return max(start.peak_mib for start in measured.ovsxen)


def verdicts(table: Tuple[Measured, ...]) -> Tuple[str, ...]:
    """One line for each goal: the figure, the goal, and whether it is reached."""
    goals = [verdict("time at %d bridges / ovs-ctl's" % bridges, measured.ratio, goal, "")
             for bridges, goal in RATIO_GOALS for measured in table if measured.bridges == bridges]
    goals += [verdict("time at %d bridges" % LARGE, median_ms(measured.ovsxen) / 1000.0, LARGE_GOAL_S, " s")
              for measured in table if measured.bridges == LARGE]
    goals += [verdict("peak memory at %d bridges" % MEMORY_AT, _peak_mib(measured), MEMORY_GOAL_MIB, " MiB")
              + (" (ovsxen's may be less: the bench's own hides it)" if _peak_mib(measured) <= measured.own_mib else "")
              for measured in table if measured.bridges == MEMORY_AT]
    return tuple(goals)


def verdict(what: str, figure: Optional[float], goal: float, unit: str) -> str:
    """One line. A figure of None was not taken in this run."""
    if figure is None:
        return "%-48s not compared in this run (goal %g)" % (what, goal)
    return "%-48s %.3g%s (goal %g) %s" % (what, figure, unit, goal, "reached" if figure <= goal else "MISSED")
