"""The chart, whatever the boots: nothing outside, no label over another one, well-formed; and what a person sees."""

import math
import re
from typing import Iterator, List, NamedTuple, Optional, Tuple
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ovsxen.boot_chart import Chart, Kind, Panel, Row, make_chart, round_ticks, text_of, tick_text
from ovsxen.boot_chart_svg import MARGIN, PLOT_WIDTH, PLOT_X, WIDTH, bar_edges, draw_svg, width_of
from ovsxen.boot_chart_text import LEAST_WIDTH, MOST_WIDTH, draw_text
from ovsxen.boots import Boot, Start
from ovsxen.host.boot_times import BootTimes, UnitTimes
from ovsxen.report import Outcome, Phase

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "</text>\"'&<script>alert(1)</script>\x00\x1b[2J\n\ud800\uffff\u202e\u4e2d\U0001f600]]>"
FONT_SIZES = {"title": 20, "heading": 14, "label": 12, "label strong": 12, "complaint": 12, "faint": 11, "alarm": 11}

NAMES = st.sampled_from(("host", "ovsdb-server", "ovs-vswitchd", "W" * 200, NASTY, "")) | st.text(max_size=60)
TIMES = st.sampled_from((0.0, 1e-4, 0.005, 0.3, 12.5, 90.0, 300.0, 36000.0, 1e9)) | st.floats(0.0, 1e9)
PHASE = st.builds(Phase, NAMES, st.sampled_from(Outcome), NAMES, TIMES.map(lambda took_s: min(took_s * 1000, 1e9)),
                  began_s=TIMES, names=st.just(()), exit_code=st.just(0))
SYSTEM = st.builds(BootTimes, TIMES, TIMES, st.lists(st.builds(UnitTimes, NAMES, TIMES, TIMES), max_size=6).map(tuple))
BOOT = st.builds(Boot, NAMES, NAMES, NAMES, NAMES, st.integers(0, 10 ** 9), st.integers(1, 10 ** 9),
                 st.lists(st.builds(Start, st.lists(PHASE, min_size=1, max_size=12).map(tuple), st.booleans()),
                          min_size=1, max_size=4).map(tuple), st.none() | SYSTEM)
BOOTS = st.lists(BOOT, min_size=1, max_size=10).map(tuple)
ANY = settings(max_examples=30)


def start(began_s: float, *phases: Tuple[str, float, Outcome], finished: bool = True) -> Start:
    made = []
    for name, took_s, outcome in phases:
        made.append(Phase(name, outcome, "the reason of %s" % name, took_s * 1000, began_s=began_s))
        began_s += took_s
    return Start(tuple(made), finished)


def usual(vswitchd_s: float = 0.1, outcome: Outcome = Outcome.DONE, at_s: float = 12.0) -> Start:
    return start(at_s, ("host", 0.002, Outcome.UNCHANGED), ("ovsdb-server", 0.04, Outcome.DONE),
                 ("ovs-vswitchd", vswitchd_s, outcome), ("managers", 0.005, Outcome.DONE))


def boot(*starts: Start, date: str = "2026-11-22T03:04:05Z", openvswitch: str = "3.1.0",
         system: Optional[BootTimes] = None) -> Boot:
    return Boot(date, date, "1.0", openvswitch, 3, len(starts), starts, system)


class Box(NamedTuple):
    """The room that a label takes at most."""

    left: float
    right: float
    top: float
    bottom: float
    text: str

    def meets(self, other: "Box") -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom \
            and other.top < self.bottom


def boxes(svg: ElementTree.Element) -> Iterator[Box]:
    for label in svg.iter(SVG + "text"):
        size = FONT_SIZES[label.attrib["class"]]
        text = "".join(label.itertext()) if len(label) == 0 else label[0].tail or ""
        width, x, y = width_of(text, size), float(label.attrib["x"]), float(label.attrib["y"])
        left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[label.attrib["text-anchor"]]
        yield Box(left, left + width, y - size * 0.75, y + size * 0.22, text)


def parsed(boots: Tuple[Boot, ...]) -> ElementTree.Element:
    return ElementTree.fromstring(draw_svg(make_chart(boots)))


def row(chart: Chart, label: str) -> Row:
    return next(row for panel in chart.panels for row in panel.rows if row.label == label)


@ANY
@given(BOOTS)
@example((boot(usual(300.0)),))
@example((boot(start(0.0, ("host", 0.0, Outcome.DONE))),))
def test_every_bar_is_within_its_panel_and_can_be_seen(boots: Tuple[Boot, ...]) -> None:
    for panel in make_chart(boots).panels:
        assert panel.from_s < panel.to_s
        for bar in (bar for row in panel.rows for bar in row.bars):
            left, right = bar_edges(panel, bar)
            assert PLOT_X <= left < right <= PLOT_X + PLOT_WIDTH + 0.001
            assert right - left >= 1.99


@ANY
@given(BOOTS)
@example((boot(usual(300.0)),))
def test_no_two_labels_meet_and_none_leaves_the_picture(boots: Tuple[Boot, ...]) -> None:
    svg = parsed(boots)
    found = sorted(boxes(svg), key=lambda box: box.top)
    assert len(found) > 10
    for number, box in enumerate(found):
        assert box.left >= 0 and box.right <= WIDTH and box.bottom <= float(svg.attrib["height"]), box
        for other in found[number + 1:]:
            if other.top >= box.bottom:
                break
            assert not box.meets(other), (box, other)


@ANY
@given(BOOTS)
@example((boot(start(1.0, (NASTY, 1.0, Outcome.DONE)), date=NASTY, openvswitch=NASTY),))
def test_it_is_well_formed_and_has_nothing_but_shapes_and_text(boots: Tuple[Boot, ...]) -> None:
    svg = parsed(boots)
    assert {element.tag for element in svg.iter()} <= {
        SVG + name for name in ("svg", "title", "style", "rect", "line", "polygon", "text")}
    assert not [name for element in svg.iter() for name in element.attrib if name.startswith("on") or "href" in name]
    shapes = list(svg.iter(SVG + "rect"))
    assert (shapes[0].attrib["class"], shapes[0].attrib["width"]) == ("ground", svg.attrib["width"])
    for shape in shapes:
        x, y = float(shape.attrib.get("x", 0)), float(shape.attrib.get("y", 0))
        assert x >= 0 and x + float(shape.attrib["width"]) <= WIDTH
        assert y >= 0 and y + float(shape.attrib["height"]) <= float(svg.attrib["height"])


@ANY
@given(BOOTS, st.integers(0, 400))
def test_no_line_for_a_terminal_is_longer_than_it_is_wide(boots: Tuple[Boot, ...], width: int) -> None:
    text = draw_text(make_chart(boots), width)
    lines = text.split("\n")
    assert max(map(len, lines)) <= min(MOST_WIDTH, max(LEAST_WIDTH, width))
    assert all(line.isprintable() for line in lines)


@given(st.floats(0.0, 1e9), st.floats(0.001, 1e9), st.integers(2, 20))
def test_ticks_are_round_within_and_told_apart(from_s: float, span_s: float, at_most: int) -> None:
    to_s = from_s + span_s
    if span_s < from_s * 1e-6:
        return  # no axis is like this: what is long after the kernel's start is shown from its own begin
    ticks = round_ticks(from_s, to_s, at_most)
    slack = span_s * 1e-3 + 1e-6
    assert len(ticks) <= at_most
    assert all(from_s - slack <= tick <= to_s + slack for tick in ticks)
    texts = [tick_text(ticks, tick) for tick in ticks]
    assert len(set(texts)) == len(texts)
    steps = {float("%.3g" % (after - before)) for before, after in zip(ticks, ticks[1:])}
    assert len(steps) <= 1
    assert all(re.match("[125]", "%e" % step) for step in steps)


@pytest.mark.parametrize("to_s, expected", [
    (0.3, ["0.00", "0.05", "0.10", "0.15", "0.20", "0.25", "0.30"]),
    (300.0, ["0", "50", "100", "150", "200", "250", "300"]),
    (90.0, ["0", "20", "40", "60", "80"]),
])
def test_an_axis_reads_as_a_person_counts(to_s: float, expected: List[str]) -> None:
    ticks = round_ticks(0.0, to_s, 9)
    assert [tick_text(ticks, tick) for tick in ticks] == expected


@pytest.mark.parametrize("seconds, text", [
    (0.0, "0 ms"), (0.0003, "0.3 ms"), (0.0099, "9.9 ms"), (0.131, "131 ms"), (0.9996, "1.00 s"), (90.0, "90.00 s"),
    (300.2, "300 s")])
def test_times_are_short_and_have_their_unit(seconds: float, text: str) -> None:
    assert text_of(seconds) == text


def test_the_phase_that_took_the_time_is_named_and_stands_out() -> None:
    chart = make_chart((boot(usual(90.0)),))
    assert "longest: ovs-vswitchd, 90.00 s" in chart.summary[0]
    assert [row.label for row in chart.panels[0].rows if row.stands_out] == ["ovs-vswitchd"]
    assert "*ovs-vswitchd" in draw_text(chart, 80)


def test_a_slow_boot_among_others_says_what_was_slow() -> None:
    boots = tuple(boot(usual(8.9 if day == 14 else 0.1), date="2026-11-%dT03:00:00Z" % day) for day in range(11, 20))
    rows = {row.label: row for row in make_chart(boots).panels[-1].rows}
    assert rows["2026-11-14 03:00"].note == "ovs-vswitchd took 8.90 s, usually 100 ms"
    assert rows["2026-11-14 03:00"].alarming
    assert {row.note for label, row in rows.items() if "-14 " not in label} == {""}
    assert list(rows) == sorted(rows, reverse=True)


def test_a_failure_and_the_start_that_followed_it_are_on_one_line_with_its_reason_above() -> None:
    chart = make_chart((boot(usual(20.0, Outcome.FAILED), usual(at_s=34.0)),))
    bars = row(chart, "ovs-vswitchd").bars
    assert [bar.kind for bar in bars] == [Kind.FAILED, Kind.DONE]
    assert chart.summary[0].startswith("The switch was up 22.15 s after its start began (2 starts)")
    assert chart.complaints == ("ovs-vswitchd failed: the reason of ovs-vswitchd",)
    assert chart.panels[-1].rows[0].note == "2 starts; ovs-vswitchd failed"


def test_a_switch_that_did_not_come_up_is_said_not_to_be_up() -> None:
    chart = make_chart((boot(usual(20.0, Outcome.FAILED)),))
    assert "did not come up" in chart.summary[0] and "`ovsxen status`" in chart.summary[0]


def test_of_a_start_that_was_killed_the_time_until_the_next_one_is_shown() -> None:
    killed = start(12.0, ("host", 0.002, Outcome.UNCHANGED), finished=False)
    chart = make_chart((boot(killed, usual(at_s=314.0)),))
    silent = row(chart, "killed or interrupted")
    assert silent.stands_out and math.isclose(silent.bars[0].to_s, 302.0)
    assert "journalctl" in chart.complaints[0]


def test_a_new_version_is_said_where_it_came() -> None:
    chart = make_chart((boot(usual(), date="1", openvswitch="2.17.7"), boot(usual(), date="2"),
                        boot(usual(), date="3")))
    assert {row.label: row.note for row in chart.panels[-1].rows} == {
        "3": "", "2": "Open vSwitch 3.1.0, before it 2.17.7", "1": ""}


def test_without_systemd_there_is_no_panel_of_the_host() -> None:
    assert len(make_chart((boot(usual()),)).panels) == 2


def host_panel(system: BootTimes) -> Panel:
    return make_chart((boot(usual(), system=system),)).panels[0]


def test_with_systemd_the_host_is_shown_from_its_kernels_start_in_order() -> None:
    panel = host_panel(BootTimes(4.8, 43.0, (
        UnitTimes("xapi.service", 14.0, 32.0), UnitTimes("openvswitch.service", 11.9, 12.2))))
    assert [row.label for row in panel.rows] == ["kernel", "systemd, whole boot", "openvswitch", "xapi"]
    assert [row.cells for row in panel.rows] == [
        ("0.000 s", "4.80 s"), ("4.80 s", "38.20 s"), ("11.90 s", "300 ms"), ("14.00 s", "18.00 s")]
    assert (panel.from_s, panel.to_s) == (0.0, 43.0)
    assert panel.glass is not None and math.isclose(panel.glass[0], 12.0)


def test_what_is_not_over_yet_is_not_said_to_be() -> None:
    panel = host_panel(BootTimes(4.8, 0.0, (UnitTimes("xapi.service", 14.0, 0.0),)))
    assert [row.cells[1] for row in panel.rows] == ["4.80 s", "unfinished", "not active"]


def test_what_is_not_over_yet_is_said_in_full() -> None:
    boots = (boot(usual(), system=BootTimes(4.8, 0.0, (UnitTimes("xapi.service", 14.0, 0.0),))),)
    assert {"unfinished", "not active"} < {box.text for box in boxes(parsed(boots))}
    lines = draw_text(make_chart(boots), LEAST_WIDTH).split("\n")
    assert [word for word in ("unfinished", "not active") if not any(line.endswith(word) for line in lines)] == []


def test_a_container_is_shown_from_its_own_begin_and_not_from_the_kernels() -> None:
    panel = make_chart((boot(usual(at_s=28000.0), system=BootTimes(27999.5, 28002.0, ())),)).panels[0]
    assert (panel.from_s, panel.to_s) == (27999.5, 28002.0)
    assert "kernel" not in [row.label for row in panel.rows]


def test_labels_have_room_for_every_name_of_ours() -> None:
    svg = parsed((boot(usual(), system=BootTimes(1.0, 40.0, (
        UnitTimes("openvswitch-xapi-sync.service", 14.0, 32.0),))),))
    assert "openvswitch-xapi-sync" in [box.text for box in boxes(svg)]
    assert not [box.text for box in boxes(svg) if "\u2026" in box.text]
    assert min(box.left for box in boxes(svg)) >= MARGIN
