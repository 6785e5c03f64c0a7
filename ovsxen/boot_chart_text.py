"""Pure: a chart → lines for a terminal of any width, in ASCII: a serial console at 3 a.m. has no more."""

from typing import List, Tuple

from ovsxen.boot_chart import Bar, Chart, Kind, Panel, Row, round_ticks, tick_text
from ovsxen.report import printable

SIGNS = {Kind.DONE: "#", Kind.UNCHANGED: "=", Kind.DEGRADED: "~", Kind.SKIPPED: ".", Kind.FAILED: "X",
         Kind.SILENT: "?", Kind.KERNEL: "k", Kind.STARTING: "s", Kind.ACTIVE: "-"}
RANK = {kind: rank for rank, kind in enumerate((
    Kind.ACTIVE, Kind.SKIPPED, Kind.KERNEL, Kind.UNCHANGED, Kind.SILENT, Kind.STARTING, Kind.DONE, Kind.DEGRADED,
    Kind.FAILED))}
"""Where two bars share a place, the higher one is seen."""

LEAST_WIDTH = 72
MOST_WIDTH = 160
LABEL_WIDTH = 22
CELL_WIDTH = 11
TICK_WIDTH = 7


def draw_text(chart: Chart, width: int) -> str:
    """All of it, in lines of at most `width` characters, within reason."""
    width = min(MOST_WIDTH, max(LEAST_WIDTH, width))
    lines = [cut(printable(chart.title), width)]
    for line in chart.summary + chart.complaints:
        lines += wrap(printable(line), width)
    for panel in chart.panels:
        lines += [""] + _draw_panel(panel, width)
    return "\n".join(lines + [""] + wrap("  ".join("%s %s" % (SIGNS[kind], kind.value) for kind in chart.kinds), width))


def wrap(text: str, width: int) -> List[str]:
    """In lines of that width, broken between words where that can be; at most four."""
    lines: List[str] = []
    while text and len(lines) < 4:
        at = len(text) if len(text) <= width else text.rfind(" ", 1, width + 1)
        at = at if at > 0 else width
        lines.append(text[:at].rstrip())
        text = "  " + text[at:].lstrip() if text[at:].strip() else ""
    return lines


def _draw_panel(panel: Panel, width: int) -> List[str]:
    room = width - LABEL_WIDTH - CELL_WIDTH * len(panel.columns) - 3
    head = " " * (LABEL_WIDTH + 3 + room) + "".join(column.rjust(CELL_WIDTH) for column in panel.columns)
    lines = [cut(panel.heading, width), head, " " * (LABEL_WIDTH + 1) + _draw_axis(panel, room)]
    for row in panel.rows:
        lines.append(_draw_row(panel, row, room))
        if row.note:
            lines.append(" " * (LABEL_WIDTH + 2) + cut(printable(row.note), width - LABEL_WIDTH - 2))
    return [line.rstrip() for line in lines]


def _draw_axis(panel: Panel, room: int) -> str:
    """The ticks that have room: none touches the one before it, and none is cut."""
    line = " " * (room + 1)
    free = 0
    ticks = round_ticks(panel.from_s, panel.to_s, max(2, room // TICK_WIDTH))
    for tick in ticks:
        text = tick_text(ticks, tick)
        at = 1 + _place(panel, tick, room)
        at = min(at, room + 1 - len(text))
        if at >= free:
            line = line[:at] + text + line[at + len(text):]
            free = at + len(text) + 1
    return line


def _draw_row(panel: Panel, row: Row, room: int) -> str:
    places = [" "] * room
    for bar in sorted(row.bars, key=lambda bar: RANK[bar.kind]):
        first, last = edges(panel, bar, room)
        places[first:last + 1] = SIGNS[bar.kind] * (last + 1 - first)
    mark = "*" if row.stands_out else " "
    label = cut(printable(row.label), LABEL_WIDTH - 1).ljust(LABEL_WIDTH)
    cells = "".join(cut(cell, CELL_WIDTH - 1).rjust(CELL_WIDTH) for cell in row.cells)
    return "%s%s|%s|%s" % (mark, label, "".join(places), cells)


def edges(panel: Panel, bar: Bar, room: int) -> Tuple[int, int]:
    """The first and the last place of a bar, which has one at least."""
    first = _place(panel, bar.from_s, room)
    return first, max(first, _place(panel, bar.to_s, room))


def _place(panel: Panel, at_s: float, room: int) -> int:
    return min(room - 1, int(panel.share(at_s) * room))


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[:width - 3] + "..."
