"""Pure: boots → a chart as values: panels with an axis, rows and bars; boot_chart_svg.py and boot_chart_text.py draw.

Three panels, each with an axis of its own, because a start of a switch is as nothing beside the boot of a host: the
host, the switch as seen through a glass, and the last boots beside each other.
"""

import math
from enum import Enum
from typing import Dict, List, NamedTuple, Optional, Tuple

from ovsxen.boots import Boot, Start, end_of
from ovsxen.host.boot_times import BootTimes, UnitTimes
from ovsxen.host.systemd import SWITCH_UNIT
from ovsxen.report import BAD, Outcome, Phase

SHORTEST_S = 0.001
COMPLAINTS = 4
SERVICE = ".service"
MINUTES = len("2026-11-22 21:04")
KERNEL_AT_MOST = 0.8
"""Of a panel: a host whose kernel has been up for long before, such as a container's, is shown from then on."""

SLOW_TIMES = 3.0
SLOW_S = 0.1


class Kind(Enum):
    """What a bar stands for."""

    DONE = "done"
    UNCHANGED = "unchanged"
    DEGRADED = "degraded"
    SKIPPED = "skipped"
    FAILED = "failed"
    SILENT = "killed or interrupted"
    KERNEL = "the kernel alone"
    STARTING = "starting"
    ACTIVE = "active"


KINDS = {Outcome.DONE: Kind.DONE, Outcome.WOULD: Kind.DONE, Outcome.UNCHANGED: Kind.UNCHANGED,
         Outcome.DEGRADED: Kind.DEGRADED, Outcome.SKIPPED: Kind.SKIPPED, Outcome.FAILED: Kind.FAILED}


class Bar(NamedTuple):
    """From when to when, on its panel's axis; `about` is for who looks closely."""

    from_s: float
    to_s: float
    kind: Kind
    about: str


class Row(NamedTuple):
    """`cells` are under the panel's columns; `note` has a line of its own, and is `alarming` or not; `stands_out`: here
    is to be looked first.
    """

    label: str
    bars: Tuple[Bar, ...]
    cells: Tuple[str, ...]
    note: str = ""
    alarming: bool = False
    stands_out: bool = False


class Panel(NamedTuple):
    """Rows over one axis, from `from_s` to `to_s`. `glass`: which part of it the next panel shows, if any."""

    heading: str
    columns: Tuple[str, ...]
    from_s: float
    to_s: float
    rows: Tuple[Row, ...]
    glass: Optional[Tuple[float, float]] = None

    def share(self, at_s: float) -> float:
        """Where a moment is: 0 at the left end, 1 at the right one."""
        return min(1.0, max(0.0, (at_s - self.from_s) / (self.to_s - self.from_s)))


class Chart(NamedTuple):
    """`summary`: what there is to say of this boot, line by line; `complaints`: what went wrong in it."""

    title: str
    summary: Tuple[str, ...]
    complaints: Tuple[str, ...]
    panels: Tuple[Panel, ...]

    @property
    def kinds(self) -> Tuple[Kind, ...]:
        """Those that are in it, for a legend."""
        used = {bar.kind for panel in self.panels for row in panel.rows for bar in row.bars}
        return tuple(kind for kind in Kind if kind in used)


def make_chart(boots: Tuple[Boot, ...]) -> Chart:
    """The newest of `boots` (oldest first, at least one) in detail, all of them beside each other."""
    boot = boots[-1]
    panels = (_host_panel(boot, boot.system),) if boot.system else ()
    return Chart("The boot of %s" % _date(boot), _summary(boot), _complaints(boot),
                 panels + (_switch_panel(boot), _boots_panel(boots)))


def _summary(boot: Boot) -> Tuple[str, ...]:
    name, longest_s = _longest(boot)
    longest = "longest: %s, %s" % (name, text_of(longest_s))
    if boot.is_up:
        said = "The switch was up %s after its start began%s; %s." % (text_of(boot.took_s), _count(boot.tried), longest)
    else:
        said = "The switch did not come up%s: run `ovsxen status`; %s." % (_count(boot.tried), longest)
    more = ["Its start began %s after the kernel's" % text_of(boot.starts[0].began_s)]
    if boot.purged:
        more.append("%d stale bridge%s purged" % (boot.purged, "" if boot.purged == 1 else "s"))
    more += ["%s %s" % pair for pair in (("ovsxen", boot.ovsxen), ("Open vSwitch", boot.openvswitch)) if pair[1]]
    return said, "; ".join(more) + "."


def _longest(boot: Boot) -> Tuple[str, float]:
    """Where the time went, in all starts together: a phase, or what nobody knows of."""
    spent = [(name, _total_s(phases)) for name, phases in _by_name(boot).items()]
    return max(spent + [(Kind.SILENT.value, _silence_s(boot))], key=lambda one: one[1])


def _complaints(boot: Boot) -> Tuple[str, ...]:
    said = ["%s %s: %s" % (phase.name, phase.outcome.value, phase.reason)
            for start in boot.starts for phase in start.phases if phase.outcome in BAD]
    if _silence_s(boot):
        said.append("A start was killed or interrupted: what came of it in %s, to the next one, is not known. Look at "
                    "the log, such as `journalctl -u openvswitch`" % text_of(_silence_s(boot)))
    return tuple(dict.fromkeys(said))[:COMPLAINTS]


def _date(boot: Boot) -> str:
    """As it was written, easier to read."""
    return boot.date.replace("T", " ", 1).replace("Z", " UTC")


def _by_name(boot: Boot) -> Dict[str, List[Tuple[int, Phase]]]:
    """The phases of all starts, each with the number of its start."""
    found: Dict[str, List[Tuple[int, Phase]]] = {}
    for number, start in enumerate(boot.starts):
        for phase in start.phases:
            found.setdefault(phase.name, []).append((number, phase))
    return found


def _count(tried: int) -> str:
    return " (%d starts)" % tried if tried > 1 else ""


def _host_panel(boot: Boot, system: BootTimes) -> Panel:
    first_s, last_s = boot.starts[0].began_s, boot.starts[-1].ended_s
    moments = [system.userspace_s, system.finished_s, last_s] + [
        moment for unit in system.units for moment in (unit.began_s, unit.active_s)]
    to_s = max(moments)
    from_s = system.userspace_s if system.userspace_s > KERNEL_AT_MOST * to_s else 0.0
    from_s = min([from_s, first_s] + [unit.began_s for unit in system.units])
    rows = []
    if from_s < system.userspace_s:
        rows.append(Row("kernel", (Bar(from_s, system.userspace_s, Kind.KERNEL,
                                       "the kernel, until systemd began: %s" % text_of(system.userspace_s)),),
                        (clock_of(0.0), text_of(system.userspace_s))))
    rows.append(_systemd_row(system, to_s))
    rows += [_unit_row(unit, to_s) for unit in sorted(system.units, key=lambda unit: (unit.began_s, unit.name))]
    return Panel("The host, in seconds since its kernel's start", ("began at", "took"), from_s,
                 max(to_s, from_s + SHORTEST_S), tuple(rows), (first_s, last_s))


def _systemd_row(system: BootTimes, to_s: float) -> Row:
    is_over = system.finished_s >= system.userspace_s
    until_s = system.finished_s if is_over else to_s
    took = text_of(until_s - system.userspace_s) if is_over else "unfinished"
    bar = Bar(system.userspace_s, until_s, Kind.STARTING, "systemd, to the end of the boot: %s" % took)
    return Row("systemd, whole boot", (bar,), (clock_of(system.userspace_s), took))


def _unit_row(unit: UnitTimes, to_s: float) -> Row:
    is_active = unit.active_s >= unit.began_s
    until_s = unit.active_s if is_active else to_s
    took = text_of(until_s - unit.began_s) if is_active else "not active"
    about = "starting for %s" % took if is_active else "its start began at %s, not active" % clock_of(unit.began_s)
    bars = [Bar(unit.began_s, until_s, Kind.STARTING, "%s: %s" % (unit.name, about))]
    if is_active:
        bars.append(Bar(until_s, to_s, Kind.ACTIVE, "%s: active from %s on" % (unit.name, clock_of(until_s))))
    label = unit.name[:-len(SERVICE)] if unit.name.endswith(SERVICE) else unit.name
    return Row(label, tuple(bars), (clock_of(unit.began_s), "" if unit.active_s == unit.began_s else took),
               stands_out=unit.name == SWITCH_UNIT)


def _switch_panel(boot: Boot) -> Panel:
    """A row for each phase, with a bar for each start; times count from the first start's begin."""
    zero_s = boot.starts[0].began_s
    found = _by_name(boot)
    longest, _ = _longest(boot)
    rows = [_phase_row(name, phases, zero_s, len(boot.starts)) for name, phases in found.items()]
    silent = _silent_bars(boot, zero_s)
    if silent:
        rows.append(Row(Kind.SILENT.value, silent, (clock_of(silent[0].from_s), text_of(_silence_s(boot)), "")))
    rows = [row._replace(stands_out=row.label == longest) for row in rows]
    to_s = max([boot.took_s] + [bar.to_s for row in rows for bar in row.bars])
    starts = "" if len(boot.starts) == 1 else ", start by start"
    return Panel("The switch%s, in seconds since its start began" % starts, ("began at", "took", "came to"), 0.0,
                 max(to_s, SHORTEST_S), tuple(rows))


def _total_s(phases: List[Tuple[int, Phase]]) -> float:
    return sum(phase.ms for _, phase in phases) / 1000.0


def _phase_row(name: str, phases: List[Tuple[int, Phase]], zero_s: float, starts: int) -> Row:
    bars = tuple(Bar(max(0.0, phase.began_s - zero_s), max(0.0, end_of(phase) - zero_s), KINDS[phase.outcome],
                     "%s%s: %s after %s: %s" % (name, ", start %d" % (number + 1) if starts > 1 else "",
                                                phase.outcome.value, text_of(phase.ms / 1000), phase.reason))
                 for number, phase in phases)
    is_untouched = all(phase.outcome is Outcome.SKIPPED and not phase.ms for _, phase in phases)
    return Row(name, bars, ("" if is_untouched else clock_of(bars[0].from_s),
                            "" if is_untouched else text_of(_total_s(phases)), phases[-1][1].outcome.value))


def _silent_bars(boot: Boot, zero_s: float) -> Tuple[Bar, ...]:
    """Starts of which the end is unknown, each to the begin of the next one."""
    pairs = zip(boot.starts, boot.starts[1:])
    return tuple(Bar(start.ended_s - zero_s, following.began_s - zero_s, Kind.SILENT,
                     "a start was killed or interrupted in this time")
                 for start, following in pairs if not start.finished and following.began_s > start.ended_s)


def _silence_s(boot: Boot) -> float:
    return sum(bar.to_s - bar.from_s for bar in _silent_bars(boot, 0.0))


def _boots_panel(boots: Tuple[Boot, ...]) -> Panel:
    slowest_s = max(boot.took_s for boot in boots)
    usual = _usual_ms(boots)
    rows = []
    for before, boot in reversed(tuple(zip((None,) + boots, boots))):
        bars = tuple(bar for start in boot.starts for bar in _start_bars(start, boot.starts[0].began_s))
        bars += _silent_bars(boot, boot.starts[0].began_s)
        up = boot.system.finished_s if boot.system else 0.0
        trouble = _trouble(boot, usual)
        rows.append(Row(_date(boot)[:MINUTES], bars, (text_of(boot.took_s), clock_of(up) if up else ""),
                        "; ".join(trouble + _changes(boot, before)), bool(trouble),
                        stands_out=boot is boots[-1] and len(boots) > 1))
    return Panel("The last boots (UTC), in seconds since the start of the switch began", ("took", "host up at"), 0.0,
                 max([slowest_s, SHORTEST_S] + [bar.to_s for row in rows for bar in row.bars]), tuple(rows))


def _start_bars(start: Start, zero_s: float) -> Tuple[Bar, ...]:
    return tuple(Bar(max(0.0, phase.began_s - zero_s), max(0.0, end_of(phase) - zero_s), KINDS[phase.outcome],
                     "%s %s: %s" % (phase.name, phase.outcome.value, text_of(phase.ms / 1000)))
                 for phase in start.phases if phase.ms)


def _usual_ms(boots: Tuple[Boot, ...]) -> Dict[str, float]:
    """How long each phase takes in the middle one of the boots."""
    found: Dict[str, List[float]] = {}
    for boot in boots:
        for phase in boot.starts[-1].phases:
            found.setdefault(phase.name, []).append(phase.ms)
    return {name: sorted(times)[(len(times) - 1) // 2] for name, times in found.items() if len(times) > 1}


def _trouble(boot: Boot, usual_ms: Dict[str, float]) -> Tuple[str, ...]:
    """What was wrong with it, or slower than in the other boots."""
    said = [] if boot.is_up else ["the switch did not come up"]
    if boot.tried > 1:
        said.append("%d starts" % boot.tried)
    if any(not start.finished for start in boot.starts):
        said.append(Kind.SILENT.value)
    said += dict.fromkeys("%s %s" % (phase.name, phase.outcome.value) for start in boot.starts
                          for phase in start.phases if phase.outcome in BAD)
    for phase in boot.starts[-1].phases:
        usual = usual_ms.get(phase.name, phase.ms)
        if phase.outcome not in BAD and phase.ms > SLOW_TIMES * usual and phase.ms - usual > SLOW_S * 1000:
            said.append("%s took %s, usually %s" % (phase.name, text_of(phase.ms / 1000), text_of(usual / 1000)))
    return tuple(said)


def _changes(boot: Boot, before: Optional[Boot]) -> Tuple[str, ...]:
    """What was new in it."""
    if before is None:
        return ()
    return tuple("%s %s, before it %s" % (name, now, then) for name, now, then in (
        ("ovsxen", boot.ovsxen, before.ovsxen), ("Open vSwitch", boot.openvswitch, before.openvswitch))
        if now and then and now != then)


def round_ticks(from_s: float, to_s: float, at_most: int) -> Tuple[float, ...]:
    """Round numbers within, evenly spaced: 1, 2 or 5 times a power of ten apart; `at_most` is two or more."""
    least = (to_s - from_s) / (at_most - 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= least * 0.999)
    first, last = math.ceil(from_s / step - 1e-6), math.floor(to_s / step + 1e-6)
    return tuple(round(number * step, 6) for number in range(first, last + 1))


def tick_text(ticks: Tuple[float, ...], at_s: float) -> str:
    """A tick with as many digits as tell it from the next one."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    return "%.*f" % (max(0, -math.floor(math.log10(step) + 1e-6)), at_s)


def text_of(seconds: float) -> str:
    """How long something took, with three digits or so."""
    if not seconds:
        return "0 ms"
    if seconds < 0.9995:
        return "%.*f ms" % (1 if seconds < 0.00995 else 0, seconds * 1000)
    return "%.*f s" % (2 if seconds < 100 else 0, seconds)


def clock_of(seconds: float) -> str:
    """When something happened, in seconds."""
    return "%.*f s" % (3 if seconds < 1 else 2 if seconds < 1000 else 1, seconds)
