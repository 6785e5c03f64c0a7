"""Pure: a chart → an SVG file, which needs nothing but itself. It has a ground of its own, so that a dark viewer shows
it, too.

No label may meet another one, whatever is in them: each has room of its own, and is cut to what fits there by a font's
widest letters.
"""

from html import escape
from typing import Iterator, List, NamedTuple, Optional, Tuple

from ovsxen.boot_chart import Bar, Chart, Kind, Panel, Row, round_ticks, tick_text
from ovsxen.report import printable

WIDTH = 1040
MARGIN = 28
PLOT_X = 222
PLOT_WIDTH = 520
COLUMNS_X = (836, 926, 1012)
"""Where each column ends."""

COLUMN_WIDTH = 84
LABEL_WIDTH = PLOT_X - MARGIN - 14
ROW_HEIGHT = 22
BAR_HEIGHT = 12
NOTE_HEIGHT = 15
LINE_HEIGHT = 18
PANEL_GAP = 22
LEAST_BAR = 2.0
TICKS = 9
SIZE = 12
NOTE_SIZE = 11
HEADING_SIZE = 14
TITLE_SIZE = 20
HEAD_HEIGHT = 44
"""Of a panel: its heading and its axis."""

COLOURS = {Kind.DONE: "#2b6cb0", Kind.UNCHANGED: "#9db8d2", Kind.DEGRADED: "#e69f00", Kind.SKIPPED: "#c9ced6",
           Kind.FAILED: "#c5221f", Kind.SILENT: "#f2b8b5", Kind.KERNEL: "#8a94a3", Kind.STARTING: "#4a9c6d",
           Kind.ACTIVE: "#cfe6d8"}
STYLE = """text { font-family: "Helvetica Neue", Helvetica, Arial, "DejaVu Sans", sans-serif; fill: #1f2733; }
.title { font-size: %dpx; font-weight: bold; } .heading { font-size: %dpx; font-weight: bold; }
.label { font-size: %dpx; } .strong { font-weight: bold; } .faint { fill: #5b6675; font-size: %dpx; }
.alarm { fill: #a61b12; font-size: %dpx; } .complaint { fill: #a61b12; font-size: %dpx; }
.ground { fill: #ffffff; } .frame { fill: #f6f8fa; } .grid { stroke: #dde2e8; } .lit { fill: #fff4d6; }
.glass { fill: #2b6cb0; fill-opacity: 0.10; } .beam { fill: #2b6cb0; fill-opacity: 0.05; }""" % (
    TITLE_SIZE, HEADING_SIZE, SIZE, NOTE_SIZE, NOTE_SIZE, SIZE)

NARROW = frozenset(" !'(),-./:;I[]|fijlrt")
WIDE = frozenset("%@MWmw")
BROAD = frozenset("#&+<=>ABCDEFGHKNOPQRSTUVXYZ_~$")


class Text(NamedTuple):
    """A label: where it ends or begins (`anchor`), on which line, in which style; `full` is what it was cut from."""

    x: float
    y: float
    text: str
    style: str
    anchor: str
    full: str


def width_of(text: str, size: float = SIZE) -> float:
    """What a text takes at most, in bold: DejaVu Sans and Verdana are the widest of the common fonts."""
    return size * sum(1.5 if letter > "~" else 0.48 if letter in NARROW else 1.15 if letter in WIDE
                      else 0.9 if letter in BROAD else 0.72 for letter in text)


def cut(text: str, width: float, size: float = SIZE) -> str:
    """As much of a text as fits; with an ellipsis where that is not all."""
    if width_of(text, size) <= width:
        return text
    while text and width_of(text + "\u2026", size) > width:
        text = text[:-1]
    return text + "\u2026"


def _wrap(text: str) -> List[str]:
    """In lines that fit, broken between words where that can be."""
    lines = [""]
    for word in text.split():
        longer = ("%s %s" % (lines[-1], word)).strip()
        if not lines[-1] or width_of(longer) <= WIDTH - 2 * MARGIN:
            lines[-1] = longer
        else:
            lines.append("    " + word)
    return lines


def draw_svg(chart: Chart) -> str:
    """The whole file, in ASCII."""
    y, head = _draw_head(chart)
    y, panels = _draw_panels(chart.panels, y + 14)
    shapes = head + panels + list(_draw_legend(chart.kinds, y))
    height = y + 40
    lines = (
        ['<?xml version="1.0" encoding="UTF-8"?>',
         '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">' % (
             WIDTH, height, WIDTH, height),
         "<title>%s</title>" % _escaped(chart.title), "<style>%s</style>" % STYLE,
         '<rect class="ground" width="%d" height="%d"/>' % (WIDTH, height)] + shapes + ["</svg>", ""])
    return "\n".join(lines).encode("ascii", "xmlcharrefreplace").decode("ascii")


def _draw_head(chart: Chart) -> Tuple[int, List[str]]:
    """What is said above the panels, and where it ends."""
    y = MARGIN + TITLE_SIZE
    shapes = [_text(_label(MARGIN, y, chart.title, WIDTH - 2 * MARGIN, "title", size=TITLE_SIZE))]
    for line in chart.summary:
        y += LINE_HEIGHT + 2
        shapes.append(_text(_label(MARGIN, y, line, WIDTH - 2 * MARGIN, "label")))
    for line in chart.complaints:
        for part in _wrap(printable(line)):
            y += LINE_HEIGHT
            shapes.append(_text(_label(MARGIN, y, part, WIDTH - 2 * MARGIN, "complaint")))
    return y, shapes


def _draw_panels(panels: Tuple[Panel, ...], y: int) -> Tuple[int, List[str]]:
    """All of them, one below the other, and where they end."""
    shapes: List[str] = []
    above: Optional[Panel] = None
    for panel in panels:
        if above is not None and above.glass is not None:
            shapes.append(_draw_beam(above, above.glass, y - PANEL_GAP, y + HEAD_HEIGHT))
        y, drawn = _draw_panel(panel, y)
        shapes += drawn
        y += PANEL_GAP
        above = panel
    return y, shapes


def _draw_beam(panel: Panel, glass: Tuple[float, float], from_y: int, to_y: int) -> str:
    """From the glass of a panel to the whole width of the next one."""
    left, right = (_x(panel, at_s) for at_s in glass)
    return '<polygon class="beam" points="%.1f,%.1f %.1f,%.1f %d,%d %d,%d"/>' % (
        left, from_y, max(right, left + LEAST_BAR), from_y, PLOT_X + PLOT_WIDTH, to_y, PLOT_X, to_y)


def _draw_panel(panel: Panel, top: int) -> Tuple[int, List[str]]:
    """Its shapes, and where it ends."""
    y = top + HEAD_HEIGHT
    height = sum(_height_of(row) for row in panel.rows)
    shapes = [_text(_label(MARGIN, top + 14, panel.heading, PLOT_X + PLOT_WIDTH - MARGIN, "heading",
                           size=HEADING_SIZE)),
              '<rect class="frame" x="%d" y="%d" width="%d" height="%d"/>' % (PLOT_X, y, PLOT_WIDTH, height)]
    for end, column in zip(COLUMNS_X, panel.columns):
        shapes.append(_text(_label(end, y - 6, column, COLUMN_WIDTH, "faint", "end", NOTE_SIZE)))
    ticks = round_ticks(panel.from_s, panel.to_s, TICKS)
    for tick in ticks:
        x = _x(panel, tick)
        shapes.append('<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>' % (x, y - 3, x, y + height))
        shapes.append(_text(_label(x, y - 6, tick_text(ticks, tick), PLOT_WIDTH / TICKS - 4, "faint", "middle",
                                   NOTE_SIZE)))
    shapes += _draw_glass(panel, y, height)
    for row in panel.rows:
        shapes += _draw_row(panel, row, y)
        y += _height_of(row)
    return y, shapes


def _draw_glass(panel: Panel, y: int, height: int) -> List[str]:
    if panel.glass is None:
        return []
    left, right = (_x(panel, at_s) for at_s in panel.glass)
    return ['<rect class="glass" x="%.1f" y="%d" width="%.1f" height="%d"><title>%s</title></rect>' % (
        min(left, PLOT_X + PLOT_WIDTH - LEAST_BAR), y, max(right - left, LEAST_BAR), height,
        "The part of it that the next panel shows")]


def _height_of(row: Row) -> int:
    return ROW_HEIGHT + (NOTE_HEIGHT if row.note else 0)


def _draw_row(panel: Panel, row: Row, y: int) -> Iterator[str]:
    middle = y + ROW_HEIGHT // 2 + 4
    style = "label strong" if row.stands_out else "label"
    if row.stands_out:
        yield '<rect class="lit" x="%d" y="%d" width="%d" height="%d"/>' % (
            MARGIN - 8, y + 1, WIDTH - 2 * (MARGIN - 8), _height_of(row) - 2)
        for tick in round_ticks(panel.from_s, panel.to_s, TICKS):
            yield '<line class="grid" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>' % (
                _x(panel, tick), y + 1, _x(panel, tick), y + _height_of(row) - 1)
    yield _text(_label(PLOT_X - 12, middle, row.label, LABEL_WIDTH, style, "end"))
    for bar in row.bars:
        yield _draw_bar(panel, bar, y + (ROW_HEIGHT - BAR_HEIGHT) // 2)
    for x, cell in zip(COLUMNS_X, row.cells):
        if cell:
            yield _text(_label(x, middle, cell, COLUMN_WIDTH, style, "end"))
    if row.note:
        yield _text(_label(PLOT_X + 2, y + ROW_HEIGHT + 9, row.note, WIDTH - MARGIN - PLOT_X,
                           "alarm" if row.alarming else "faint",
                           size=NOTE_SIZE))


def _draw_bar(panel: Panel, bar: Bar, y: int) -> str:
    left, right = bar_edges(panel, bar)
    return '<rect x="%.2f" y="%d" width="%.2f" height="%d" fill="%s"><title>%s</title></rect>' % (
        left, y, right - left, BAR_HEIGHT, COLOURS[bar.kind], _escaped(bar.about))


def bar_edges(panel: Panel, bar: Bar) -> Tuple[float, float]:
    """Left and right; so wide that it can be seen, and within the panel."""
    left = min(_x(panel, bar.from_s), PLOT_X + PLOT_WIDTH - LEAST_BAR)
    return left, max(_x(panel, bar.to_s), left + LEAST_BAR)


def _x(panel: Panel, at_s: float) -> float:
    return PLOT_X + PLOT_WIDTH * panel.share(at_s)


def _draw_legend(kinds: Tuple[Kind, ...], y: int) -> Iterator[str]:
    x = float(MARGIN)
    for kind in kinds:
        yield '<rect x="%.1f" y="%d" width="14" height="%d" fill="%s"/>' % (x, y, BAR_HEIGHT, COLOURS[kind])
        width = width_of(kind.value, NOTE_SIZE)
        yield _text(_label(x + 20, y + 10, kind.value, width, "faint", size=NOTE_SIZE))
        x += 20 + width + 12


def _label(x: float, y: float, text: str, width: float, style: str, anchor: str = "start", size: float = SIZE) -> Text:
    full = printable(text)
    return Text(x, y, cut(full, width, size), style, anchor, full)


def _text(label: Text) -> str:
    title = "<title>%s</title>" % _escaped(label.full) if label.full != label.text else ""
    return '<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s%s</text>' % (
        label.x, label.y, label.style, label.anchor, title, _escaped(label.text))


def _escaped(text: str) -> str:
    return escape(printable(text))
