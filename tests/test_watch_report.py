"""What the daemon last wrote: read as it was written, or not at all; and when its age says that the writer hangs."""

import json
import os
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsxen.watch_report import (
    BUSY,
    BUSY_FOR_S,
    ENDED,
    STALE_AFTER_S,
    WATCHING,
    WRITTEN_EVERY_S,
    Attempts,
    Event,
    WatchReport,
    read_watch_report,
    write_watch_report,
)

BOOT = "this-boot"
REPORT = WatchReport(BOOT, 4711, 12345, 1000.125, WATCHING, ("ovs-vswitchd rests",), Attempts((1.5,), (2.5, 3.5)),
                     (Event("2026-01-02T03:04:05Z", "ovs-vswitchd: it is gone"),))

TEXTS = st.text("ab \n\0\x1b\u00e9\U0001f600\udc80", max_size=20)
NUMBERS = st.integers(0, 2 ** 63)
MOMENTS = st.floats(0.0, 1e9).map(lambda at_s: round(at_s, 3))
TIMES = st.lists(MOMENTS, max_size=4).map(tuple)
REPORTS = st.builds(
    WatchReport, TEXTS, NUMBERS, NUMBERS, MOMENTS, st.sampled_from((WATCHING, BUSY, ENDED)),
    st.lists(TEXTS, max_size=3).map(tuple), st.builds(Attempts, TIMES, TIMES),
    st.lists(st.builds(Event, TEXTS, TEXTS), max_size=3).map(tuple))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one report after another is written."""
    return tmp_path_factory.mktemp("run") / "watch.json"


@settings(max_examples=30)
@given(REPORTS)
def test_what_is_read_is_what_was_last_written(written: Path, report: WatchReport) -> None:
    write_watch_report(written, report)
    assert read_watch_report(written, report.boot_id) == report
    assert os.listdir(str(written.parent)) == [written.name]


def test_a_report_of_another_boot_is_none(tmp_path: Path) -> None:
    write_watch_report(tmp_path / "watch.json", REPORT)
    assert read_watch_report(tmp_path / "watch.json", "the-next-boot") is None


def test_what_is_no_file_reads_as_none_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "fifo"))
    for path in (tmp_path / "none", tmp_path, tmp_path / "fifo"):
        assert read_watch_report(path, BOOT) is None


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"7", b'"text"', b"\xff\xfe", b"{}", b"x" * (2 << 20),
                                     b"[" * 100000],
                         ids=lambda content: repr(content[:6]))
def test_nonsense_reads_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "watch.json").write_bytes(content)
    assert read_watch_report(tmp_path / "watch.json", BOOT) is None


@pytest.mark.parametrize("odd", [
    {"schema": 2}, {"pid": "x"}, {"pid": None}, {"pid": float("inf")}, {"written_s": "soon"}, {"problems": 7},
    {"attempts": []}, {"attempts": {"ovsdb-server": []}}, {"attempts": {"ovsdb-server": [], "ovs-vswitchd": ["x"]}},
    {"events": ["x"]}, {"events": [{"when": "now"}]}], ids=json.dumps)
def test_a_report_of_another_form_reads_as_none(tmp_path: Path, odd: Dict[str, Any]) -> None:
    (tmp_path / "watch.json").write_text(json.dumps(dict(REPORT.as_json(), **odd)))
    assert read_watch_report(tmp_path / "watch.json", BOOT) is None


@pytest.mark.parametrize("key", sorted(REPORT.as_json()))
def test_a_report_that_lacks_something_reads_as_none(tmp_path: Path, key: str) -> None:
    text = REPORT.as_json()
    del text[key]
    (tmp_path / "watch.json").write_text(json.dumps(text))
    assert read_watch_report(tmp_path / "watch.json", BOOT) is None


@pytest.mark.parametrize("doing, patience_s", [(WATCHING, STALE_AFTER_S), (ENDED, STALE_AFTER_S), (BUSY, BUSY_FOR_S)])
def test_a_report_is_stale_when_its_writer_has_been_silent_for_longer_than_what_it_does_may_take(
        doing: str, patience_s: float) -> None:
    report = REPORT._replace(doing=doing)
    assert not report.is_stale(report.written_s + patience_s)
    assert report.is_stale(report.written_s + patience_s + 0.125)


def test_a_writer_that_is_a_little_late_is_not_stale() -> None:
    assert not REPORT.is_stale(REPORT.written_s + 2 * WRITTEN_EVERY_S)
