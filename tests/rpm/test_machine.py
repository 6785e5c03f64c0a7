"""The machine of the tests as far as it can be seen without booting one."""

import os
from pathlib import Path

import pytest

from tests.rpm.machine import Answer, Ended, parse_answers, run_emulator


def test_answers_are_told_apart_whatever_they_are() -> None:
    said = "00-first 0\n one\n \n 01-two 7\n\n01-second-one 142\n\n02-third 1\n  indented\n\n"
    assert parse_answers(said) == {
        "first": Answer(0, "one\n\n01-two 7\n"), "second-one": Answer(142, ""), "third": Answer(1, " indented\n")}


def test_an_answer_that_was_cut_off_is_none() -> None:
    assert parse_answers("00-first 0\n one\n\n01-second 0\n tw") == {"first": Answer(0, "one\n")}


@pytest.mark.parametrize("name, told", [("failed", "'failed' failed with 3"), ("missing", "'missing' was not done")])
def test_a_step_that_gave_no_answer_shows_all_that_was_said(name: str, told: str) -> None:
    ended = Ended("a panic\n", "00-failed 3\n why\n\n", "ended with 0")
    with pytest.raises(AssertionError) as raised:
        ended.tell(name)
    assert told in str(raised.value) and "a panic" in str(raised.value) and " why" in str(raised.value)


def test_an_emulator_that_does_not_end_is_killed(tmp_path: Path) -> None:
    written = tmp_path / "pid"
    end = run_emulator(["sh", "-c", "echo $$ >%s; exec sleep 1000" % written], 0.5)
    assert end.startswith("killed")
    assert not os.path.exists("/proc/%s" % written.read_text().strip())


def test_an_emulator_that_cannot_start_says_why() -> None:
    assert "No such machine" in run_emulator(["sh", "-c", "echo No such machine >&2; exit 1"], 10)
