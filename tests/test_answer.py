"""What an update answers, as the line that XAPI logs and as the report that is kept."""

import json
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.answer import SHOWN_NOTES, Answer, UpdateReport, read_update_report, write_update_report
from ovsxen.plan import (
    CONTROLLER_REMOVED,
    CONTROLLER_SET,
    FAIL_MODE_UPDATED,
    IN_BAND_UPDATED,
    NO_CHANGE,
)

TEXTS = st.text(max_size=30)
LINES = st.text("ab .:\t\n\r\v\f\0\x1b\x1c\x85\u2028\u00e9\U0001f600\udc80", max_size=20)
ANSWERS = st.builds(Answer, LINES, st.just(()), st.lists(LINES, max_size=12).map(tuple))
REPORT = UpdateReport("2026-01-02T03:04:05Z", Answer(NO_CHANGE, ("Manager is new",), ("look at caf\u00e9",)), "sick",
                      ("odd",), {"xenbr0": 4711}, ("xenbr1",))


@pytest.mark.parametrize("text", [
    CONTROLLER_SET % "ssl:10.0.0.9:6632" + IN_BAND_UPDATED + FAIL_MODE_UPDATED, CONTROLLER_SET % "pssl:6640",
    CONTROLLER_REMOVED, IN_BAND_UPDATED, NO_CHANGE])
def test_without_notes_the_line_is_the_text_to_the_last_blank(text: str) -> None:
    assert Answer(text).line == text
    assert Answer(text, changes=("not shown",)).line == text


@pytest.mark.parametrize("answer, line", [
    (Answer(NO_CHANGE, notes=("a",)), "No change to configuration  Note: a."),
    (Answer(NO_CHANGE, notes=("a", "b")), "No change to configuration  Note: a.  Note: b."),
    (Answer(FAIL_MODE_UPDATED, notes=("a",)), "Updated fail_mode.  Note: a."),
    (Answer(CONTROLLER_SET % "pssl:6640" + FAIL_MODE_UPDATED, notes=("a", "b")),
     "Successfully set controller to pssl:6640.  Updated fail_mode.  Note: a.  Note: b."),
    (Answer(NO_CHANGE, notes=("one\ntwo\r\nthree",)), "No change to configuration  Note: one two three."),
    (Answer(NO_CHANGE, notes=("caf\u00e9 \u2192 \udc80",)),
     "No change to configuration  Note: caf\\xe9 \\u2192 \\udc80."),
])
def test_notes_come_after_the_text(answer: Answer, line: str) -> None:
    assert answer.line == line


@given(ANSWERS)
def test_the_line_is_ascii_and_one_line(answer: Answer) -> None:
    line = answer.line
    line.encode("ascii")
    assert len(line.splitlines()) <= 1
    assert "\n" not in line and "\r" not in line


def test_of_many_notes_the_first_are_shown_and_the_others_counted() -> None:
    notes = tuple("note %02d" % number for number in range(SHOWN_NOTES + 5))
    line = Answer(NO_CHANGE, notes=notes).line
    assert [note for note in notes if note in line] == list(notes[:SHOWN_NOTES])
    assert line.endswith("  Note: 5 more: see `ovsxen status --json`.")
    assert "more:" not in Answer(NO_CHANGE, notes=notes[:SHOWN_NOTES]).line


@pytest.mark.parametrize("length, shown", [(399, "x" * 399), (400, "x" * 400), (401, "x" * 400 + "...")])
def test_a_long_note_is_cut_and_shows_it(length: int, shown: str) -> None:
    assert Answer(NO_CHANGE, notes=("x" * length,)).line == "No change to configuration  Note: %s." % shown


def test_the_longest_answer_still_fits_on_a_command_line() -> None:
    notes = ("\U0001f600" * 10000,) * 10000
    assert len(Answer(FAIL_MODE_UPDATED, notes=notes).line) < 64 << 10


def test_the_json_has_every_note_whole() -> None:
    notes = tuple("x" * 1000 + str(number) for number in range(20))
    answer = Answer(NO_CHANGE, ("a change",), notes)
    assert answer.as_json() == {"text": NO_CHANGE, "changes": ["a change"], "notes": list(notes)}


@given(st.builds(UpdateReport, TEXTS, st.builds(Answer, TEXTS, st.lists(TEXTS).map(tuple), st.lists(TEXTS).map(tuple)),
                 TEXTS, st.just(("odd",)), st.dictionaries(TEXTS, st.integers(0, 2 ** 31)),
                 st.just(("xenbr1",))))
def test_any_report_survives_being_json(report: UpdateReport) -> None:
    assert json.loads(json.dumps(report.as_json())) == report.as_json()


def test_the_last_report_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "update.json"
    write_update_report(path, REPORT._replace(error="", put_back={}))
    write_update_report(path, REPORT)
    assert read_update_report(path) == REPORT
    assert [entry.name for entry in tmp_path.iterdir()] == ["update.json"]


def test_without_a_report_there_is_none(tmp_path: Path) -> None:
    assert read_update_report(tmp_path / "update.json") is None
    assert read_update_report(tmp_path) is None


@pytest.mark.parametrize("content", [
    b"", b"{", b"null", b"[]", b"7", b'"text"', b"\xff\xfe", b"{}", b'{"schema": 1}', b"x" * (2 << 20)])
def test_what_is_no_report_reads_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "update.json"
    path.write_bytes(content)
    assert read_update_report(path) is None


@pytest.mark.parametrize("odd", [
    {"schema": 2}, {"schema": None}, {"changes": 7}, {"notes": None}, {"put_back": []}, {"put_back": {"xenbr0": "x"}},
    {"put_back": {"xenbr0": None}}, {"put_back": None}])
def test_a_report_of_another_form_reads_as_none(tmp_path: Path, odd: Dict[str, Any]) -> None:
    path = tmp_path / "update.json"
    path.write_text(json.dumps(dict(REPORT.as_json(), **odd)))
    assert read_update_report(path) is None


@pytest.mark.parametrize("key", sorted(REPORT.as_json()))
def test_a_report_that_lacks_something_reads_as_none(tmp_path: Path, key: str) -> None:
    path = tmp_path / "update.json"
    path.write_text(json.dumps({name: value for name, value in REPORT.as_json().items() if name != key}))
    assert read_update_report(path) is None


@pytest.mark.parametrize("content", [
    json.dumps(dict(REPORT.as_json(), put_back={"xenbr0": float("inf")})), "[" * 100000],
    ids=["infinity", "nested"])
def test_a_damaged_report_reads_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "update.json"
    path.write_text(content)
    assert read_update_report(path) is None
