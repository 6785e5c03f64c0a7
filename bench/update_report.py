"""Figures and goals of updates as text. Nothing here measures."""

from statistics import median
from typing import Iterable, NamedTuple, Optional, Tuple

from bench import report
from bench.update_site import Run

Runs = Tuple[Run, ...]

COMPARED_AT, RATIO_GOAL = 100, 0.1
TIME_GOALS_MS = ((100, 200.0), (1000, 600.0))


class Kind(NamedTuple):
    """Runs with another controller, and then runs with nothing to do."""

    first: Runs
    unchanged: Runs


class Round(NamedTuple):
    """What ran in turn, so that it met the same machine. The goals are for `networkd`: a host that has networkd.db, as
    today's have, so that no network.dbcache is written. `dbcache`: one that boots from that file. `sequence`: the
    processes of ovs-vsctl; empty where they were left out.
    """

    networkd: Kind
    dbcache: Kind
    sequence: Kind


class Measured(NamedTuple):
    """All rounds with one number of bridges. `children`: what the plugin started, or None where nobody could look."""

    bridges: int
    rounds: Tuple[Round, ...]
    children: Optional[int]

    @property
    def ratio(self) -> Optional[float]:
        """The median of each round's time without a change / the sequence's; None where that was left out."""
        return _ratio((one.networkd.unchanged, one.sequence.unchanged) for one in self.rounds)

    @property
    def ratio_of_first(self) -> Optional[float]:
        return _ratio((one.networkd.first, one.sequence.first) for one in self.rounds)

    @property
    def unchanged_ms(self) -> float:
        return median(run.ms for one in self.rounds for run in one.networkd.unchanged)


def _ratio(pairs: Iterable[Tuple[Runs, Runs]]) -> Optional[float]:
    ratios = [median(run.ms for run in ours) / median(run.ms for run in theirs) for ours, theirs in pairs if theirs]
    return median(ratios) if ratios else None


HEADER = """\
                        with networkd.db (ms)   with network.dbcache (ms)  ovs-vsctl, in turn (ms)  ovsxen /   calls of
bridges  update        runs  median     min     runs  median     min     runs  median     min  ovs-vsctl   XAPI"""


def as_rows(measured: Measured) -> str:
    """A line for the runs with a new controller, and one for those without a change."""
    rounds = measured.rounds
    return "\n".join((
        _row(measured.bridges, "first", tuple(_joined(kind.first for kind in kinds) for kinds in zip(*rounds)),
             measured.ratio_of_first),
        _row(measured.bridges, "no change", tuple(_joined(kind.unchanged for kind in kinds) for kinds in zip(*rounds)),
             measured.ratio)))


def _joined(several: Iterable[Runs]) -> Runs:
    return sum(several, ())


def _row(bridges: int, what: str, columns: Tuple[Runs, ...], ratio: Optional[float]) -> str:
    shown = "%10.3g" % ratio if ratio is not None else "%10s" % "-"
    calls = ", ".join(_calls(runs) for runs in columns[:2])
    return "%7d  %-9s%s%s%7s" % (bridges, what, "  ".join(
        report.cells(tuple(run.ms for run in runs)) for runs in columns), shown, calls)


def _calls(runs: Runs) -> str:
    return "/".join(sorted({str(run.calls) for run in runs}))


def verdicts(table: Tuple[Measured, ...]) -> Tuple[str, ...]:
    """One line for each goal: the figure, the goal, and whether it is reached."""
    goals = [report.verdict("update without a change at %d / ovs-vsctl's" % COMPARED_AT, measured.ratio, RATIO_GOAL, "")
             for measured in table if measured.bridges == COMPARED_AT]
    goals += [report.verdict("update without a change at %d bridges" % bridges, measured.unchanged_ms, goal, " ms")
              for bridges, goal in TIME_GOALS_MS for measured in table if measured.bridges == bridges]
    counts = [measured.children for measured in table]
    most = None if None in counts else max(count for count in counts if count is not None)
    goals.append(report.verdict("child processes of updates without flows", most, 0, ""))
    return tuple(goals) + (_verdict_on_calls(table),)


def _verdict_on_calls(table: Tuple[Measured, ...]) -> str:
    """A first update and one without a change, of each kind of host, ask as often at every size."""
    found = {(_calls(one.networkd.first), _calls(one.networkd.unchanged), _calls(one.dbcache.first),
              _calls(one.dbcache.unchanged)) for measured in table for one in measured.rounds}
    return "%-48s %s (goal constant) %s" % (
        "calls of XAPI at %d to %d bridges" % (table[0].bridges, table[-1].bridges),
        " or ".join(sorted(", ".join(each) for each in found)), "reached" if len(found) == 1 else "MISSED")
