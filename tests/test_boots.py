"""The history of boots: read as it was written, or not at all; and which starts are kept of a boot."""

import json
import os
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsxen.boots import (
    BOOTS,
    NAME_CHARACTERS,
    PHASES,
    STARTS,
    TEXT_CHARACTERS,
    UNITS,
    Boot,
    History,
    Start,
    read_history,
    start_in,
    write_history,
)
from ovsxen.host.boot_times import BootTimes, UnitTimes
from ovsxen.host.files import SMALL_BYTES
from ovsxen.report import Outcome, Phase, Report

TEXTS = st.text("ab \u00e9\U0001f600", max_size=20)
MOMENTS = st.floats(0.0, 1e9).map(lambda at_s: round(at_s, 4))
PHASE = st.builds(Phase, TEXTS, st.sampled_from(Outcome), TEXTS, st.floats(0.0, 1e9).map(lambda ms: round(ms, 1)),
                  names=st.just(()), exit_code=st.just(0), began_s=MOMENTS)
STARTS_OF_BOOTS = st.lists(st.builds(Start, st.lists(PHASE, min_size=1, max_size=4).map(tuple), st.booleans()),
                           min_size=1, max_size=STARTS).map(tuple)
SYSTEM = st.builds(BootTimes, MOMENTS, MOMENTS, st.lists(st.builds(UnitTimes, TEXTS, MOMENTS, MOMENTS),
                                                         max_size=4).map(tuple))
ONE_BOOT = st.builds(Boot, TEXTS, TEXTS, TEXTS, TEXTS, st.integers(0, 1000), st.integers(1, 99), STARTS_OF_BOOTS,
                     st.none() | SYSTEM)


def start(began_s: float, outcome: Outcome = Outcome.DONE, *, finished: bool = True) -> Start:
    return Start((Phase("host", Outcome.UNCHANGED, "", 1.0, began_s=began_s),
                  Phase("ovs-vswitchd", outcome, "", 100.0, began_s=began_s + 0.01)), finished)


def boot(boot_id: str, *starts: Start) -> Boot:
    return Boot(boot_id, "2026-11-22T03:00:00Z", "1.0", "3.1.0", 3, len(starts), starts)


WELL, FAILED = start(12.0), start(12.0, Outcome.FAILED)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one history after another is written."""
    return tmp_path_factory.mktemp("lib") / "ovsxen/boots.json"


@settings(max_examples=30)
@given(st.lists(ONE_BOOT, max_size=BOOTS).map(tuple))
def test_what_is_read_is_what_was_last_written(written: Path, boots: Tuple[Boot, ...]) -> None:
    write_history(written, History(boots))
    assert read_history(written) == History(boots)
    assert os.listdir(str(written.parent)) == [written.name]


def test_the_largest_history_is_small_enough_to_be_read(tmp_path: Path) -> None:
    name, text = "\U0001f600" * NAME_CHARACTERS, "\U0001f600" * TEXT_CHARACTERS
    phases = tuple(Phase(name, Outcome.UNCHANGED, text, 999999999.9, began_s=999999999.9999) for _ in range(PHASES))
    largest = Boot(name, name, name, name, 10 ** 9, 10 ** 9, (Start(phases, False),) * STARTS,
                   BootTimes(1e9, 1e9, (UnitTimes(name, 1e9, 1e9),) * UNITS))
    everything = History((largest,) * BOOTS)
    path = tmp_path / "boots.json"
    write_history(path, everything)
    assert path.stat().st_size > SMALL_BYTES / 2
    assert read_history(path).boots == everything.boots


def test_the_boots_beyond_the_last_ten_are_forgotten() -> None:
    history = History()
    for number in range(BOOTS + 3):
        history = history.with_boot(boot("boot %d" % number, WELL))
    assert [one.boot_id for one in history.boots] == ["boot %d" % number for number in range(3, BOOTS + 3)]


def test_what_is_known_of_a_boot_is_replaced_by_what_is_known_later() -> None:
    history = History().with_boot(boot("one", WELL)).with_boot(boot("two", FAILED)).with_boot(boot("two", WELL))
    assert history.boots == (boot("one", WELL), boot("two", WELL))


@pytest.mark.parametrize("known, later, expected", [
    ((), start(12.0), (12.0,)),
    ((FAILED,), start(20.0), (12.0, 20.0)),
    ((start(12.0, finished=False),), start(20.0), (12.0, 20.0)),
    ((FAILED,), FAILED, (12.0,)),
    ((WELL,), start(20.0), (12.0,)),
    ((FAILED, start(20.0)), start(30.0, Outcome.FAILED), (12.0, 20.0)),
], ids=["the first", "after a failure", "after a killed one", "the same again", "once it is up", "up at last"])
def test_starts_are_kept_to_the_first_that_went_well(
        known: Tuple[Start, ...], later: Start, expected: Tuple[float, ...]) -> None:
    assert tuple(one.began_s for one in boot("a", *known).with_start(later).starts) == expected


def test_of_many_starts_the_first_and_the_last_ones_are_kept_and_all_are_counted() -> None:
    kept = boot("a")
    for number in range(9):
        kept = kept.with_start(start(10.0 * (number + 1), Outcome.FAILED))
    assert (kept.tried, [one.began_s for one in kept.starts]) == (9, [10.0, 70.0, 80.0, 90.0])


def test_a_report_without_times_is_no_start() -> None:
    report = Report("a", True, (Phase("host", Outcome.DONE, ""),), (), ())
    assert start_in(report) is None
    assert start_in(None) is None


def test_what_a_phase_says_is_kept_as_far_as_it_is_short_and_harmless() -> None:
    report = Report("a", True, (Phase("host", Outcome.FAILED, "\x1b[2J" + "x" * 9999, 1.0, began_s=1.0),), (), ())
    kept = start_in(report)
    assert kept is not None
    assert kept.phases[0].reason == "\\x1b[2J" + "x" * (TEXT_CHARACTERS - 7)


def test_there_is_no_history_before_the_first_boot_and_no_problem(tmp_path: Path) -> None:
    assert read_history(tmp_path / "boots.json") == History()


def test_what_is_no_file_is_a_problem_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "fifo"))
    for path in (tmp_path, tmp_path / "fifo"):
        assert read_history(path).boots == () and str(path) in read_history(path).problem


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"7", b"\xff\xfe", b"{}", b"x" * (2 << 20),
                                     b"[" * 100000, b'{"schema": 2, "boots": []}', b'{"schema": 1, "boots": 7}',
                                     b'{"schema": 1, "boots": [{}]}', b'{"schema": 1, "boots": {"a": 1}}'],
                         ids=lambda content: repr(content[:30]))
def test_nonsense_is_a_problem_and_no_history(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "boots.json"
    path.write_bytes(content)
    assert read_history(path).boots == () and str(path) in read_history(path).problem


@pytest.mark.parametrize("size", range(0, 1000, 90))
def test_a_torn_file_is_a_problem_and_no_history(tmp_path: Path, size: int) -> None:
    path = tmp_path / "boots.json"
    write_history(path, History((boot("a", WELL), boot("b", WELL))))
    assert path.stat().st_size > 1000
    path.write_bytes(path.read_bytes()[:size])
    assert read_history(path).boots == () and "damaged" in read_history(path).problem


@pytest.mark.parametrize("odd", [
    {"ms": float("nan")}, {"ms": -1}, {"began_s": float("inf")}, {"began_s": "soon"}, {"outcome": "odd"},
    {"began_s": None}, {"ms": 10 ** 400}], ids=str)
def test_a_phase_that_cannot_be_makes_no_history(tmp_path: Path, odd: Dict[str, Any]) -> None:
    path = tmp_path / "boots.json"
    write_history(path, History((boot("a", WELL),)))
    text = json.loads(path.read_text())
    text["boots"][0]["starts"][0]["phases"][0].update(odd)
    path.write_text(json.dumps(text))
    assert read_history(path).boots == ()


@pytest.mark.parametrize("pid", [4194304, os.getppid()], ids=["of nobody", "of another process since the boot"])
def test_what_a_killed_writer_has_staged_goes_with_the_next_one(tmp_path: Path, pid: int) -> None:
    (tmp_path / (".boots.json.%d.staged" % pid)).write_text("half")
    write_history(tmp_path / "boots.json", History((boot("a", WELL),)))
    assert os.listdir(str(tmp_path)) == ["boots.json"]
