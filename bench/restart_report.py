"""Figures and goals of restarts, recovery and idling as text. Nothing here measures."""

from statistics import median
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

from bench import report
from bench.idle import Idle
from bench.restart_runs import Run

Runs = Tuple[Run, ...]

GAP_AT, GAP_GOAL_MS = 50, 300.0
GAP_RATIO_GOAL, TOTAL_RATIO_GOAL = 0.2, 0.3
RECOVERY_GOAL_S = 1.5
RESIDENT_GOAL_MIB, CPU_GOAL_PERCENT = 22.0, 0.2


class Round(NamedTuple):
    """Restarts that were made in turn, so that they met the same machine. Empty where one was left out."""

    ovsxen: Runs
    ovs_ctl: Runs
    floor: Runs


class Measured(NamedTuple):
    """All rounds with so many bridges, and so many flows on some of them (0: nothing but NORMAL)."""

    bridges: int
    flows: int
    rounds: Tuple[Round, ...]

    @property
    def ovsxen(self) -> Runs:
        return sum((one.ovsxen for one in self.rounds), ())

    @property
    def ovs_ctl(self) -> Runs:
        return sum((one.ovs_ctl for one in self.rounds), ())

    @property
    def floor(self) -> Runs:
        return sum((one.floor for one in self.rounds), ())

    @property
    def total_ratio(self) -> Optional[float]:
        """The median of each round's ovsxen / ovs-ctl; None where ovs-ctl was left out."""
        return self._ratio(_total)

    @property
    def gap_ratio(self) -> Optional[float]:
        return self._ratio(_gap)

    def _ratio(self, figure: Callable[[Run], float]) -> Optional[float]:
        ratios = [_median(one.ovsxen, figure) / _median(one.ovs_ctl, figure) for one in self.rounds if one.ovs_ctl]
        return median(ratios) if ratios else None


def _total(run: Run) -> float:
    return run.ms


def _gap(run: Run) -> float:
    return run.gap_ms


def _median(runs: Runs, figure: Callable[[Run], float]) -> float:
    return median(figure(run) for run in runs)


HEADER = """\
                         ovsxen (ms)      frames             ovs-ctl (ms)      frames    floor (ms)  ovsxen / ovs-ctl
bridges  flows  runs  total    gap  worst   lost  runs  total    gap  worst   lost  runs    gap     total     gap"""


def as_row(measured: Measured) -> str:
    """Medians of the runs; `worst` is the longest gap of all."""
    return "%7d%7s%s%s%s%10s%8s" % (
        measured.bridges, measured.flows or "NORMAL", _cells(measured.ovsxen), _cells(measured.ovs_ctl),
        _floor_cells(measured.floor), _ratio_text(measured.total_ratio), _ratio_text(measured.gap_ratio))


def _cells(runs: Runs) -> str:
    if not runs:
        return "%6s%7s%7s%7s%7s" % ("-", "-", "-", "-", "-")
    return "%6d%7.0f%7.0f%7.0f%7.0f" % (len(runs), _median(runs, _total), _median(runs, _gap), max(map(_gap, runs)),
                                        _median(runs, lambda run: run.traffic.lost))


def _floor_cells(runs: Runs) -> str:
    return "%6d%7.0f" % (len(runs), _median(runs, _gap)) if runs else "%6s%7s" % ("-", "-")


def _ratio_text(ratio: Optional[float]) -> str:
    return "-" if ratio is None else "%.2g" % ratio


def own_pause(table: Tuple[Measured, ...]) -> str:
    """What the gaps are worth."""
    runs = sum((measured.ovsxen + measured.ovs_ctl + measured.floor for measured in table), ())
    return "The prober itself paused for %.1f ms at most, in one of %d runs: no gap is known better than that." % (
        max(run.traffic.own_pause_ms for run in runs), len(runs))


def as_recoveries(bridges: int, runs: Runs) -> str:
    return ("Recovery at %d bridges: configured %.0f ms after SIGKILL, frames after %.0f; worst of %d: %.0f and %.0f."
            % (bridges, _median(runs, _total), _median(runs, _gap), len(runs), max(map(_total, runs)),
               max(map(_gap, runs))))


def as_idle(bridges: int, ports: int, idle: Idle) -> str:
    return ("Idle with %d bridges and %d ports, %.0f s: %.1f MiB resident (%.1f proportional, %.1f private), "
            "%.2f %% of a core." % (bridges, ports, idle.seconds, idle.resident_mib, idle.pss_mib, idle.private_mib,
                                    idle.cpu_percent))


def verdicts(table: Tuple[Measured, ...], recoveries: Runs, idle: Idle) -> Tuple[str, ...]:
    """One line for each goal: the figure, the goal, and whether it is reached."""
    return tuple(_verdicts_on_restarts(table)) + (
        report.verdict("recovery of %d bridges from SIGKILL" % GAP_AT,
                       median(max(run.ms, run.gap_ms) for run in recoveries) / 1000.0, RECOVERY_GOAL_S, " s"),
        report.verdict("resident memory of the idle daemon", idle.resident_mib, RESIDENT_GOAL_MIB, " MiB"),
        report.verdict("the idle daemon's share of a core", idle.cpu_percent, CPU_GOAL_PERCENT, " %"))


def _verdicts_on_restarts(table: Tuple[Measured, ...]) -> Iterator[str]:
    for measured in table:
        if measured.bridges == GAP_AT and not measured.flows:
            gap_ms, floor_ms = _median(measured.ovsxen, _gap), _median(measured.floor, _gap)
            yield "%s (the floor's: %.0f)" % (
                report.verdict("gap of a restart at %d bridges" % GAP_AT, gap_ms, GAP_GOAL_MS, " ms"), floor_ms)
    for measured in table:
        where = "at %d bridges%s" % (measured.bridges, " with flows" if measured.flows else "")
        yield report.verdict("gap %s / ovs-ctl's" % where, measured.gap_ratio, GAP_RATIO_GOAL, "")
        yield report.verdict("restart %s / ovs-ctl's" % where, measured.total_ratio, TOTAL_RATIO_GOAL, "")
