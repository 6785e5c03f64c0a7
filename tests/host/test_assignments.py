"""Files of shell assignments are data."""

from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.errors import AdministratorError
from ovsxen.host.assignments import parse_assignments, parse_value, read_text


@pytest.mark.parametrize("text, value", [
    ("'yes'", "yes"), ('"yes"', "yes"), ("yes", "yes"), ("", ""), ("''", ""), ("'a b'", "a b"), ("a\\ b", "a b"),
    ('"a"\'b\'c', "abc"), ("'it'\"'\"'s'", "it's"), ("yes # why", "yes"), ("'$HOME'", "$HOME"), ("-10", "-10"),
    ("$HOME", None), ('"$(reboot)"', None), ("`reboot`", None), ("a b", None), ("'open", None), ("a; reboot", None),
    ("'$A'$B", None),
    ("--a=b", "--a=b"), ('"--a=\'b c\' --d"', "--a='b c' --d"),
])
def test_a_value_is_one_word_without_its_quotes_or_nothing(text: str, value: Optional[str]) -> None:
    assert parse_value(text) == value


def test_the_last_assignment_of_a_key_wins_and_comments_are_none() -> None:
    read = parse_assignments("# A=0\n\nA=1\nexport A=2\n  B='x'\n", "f")
    assert read.values == {"A": "2", "B": "x"}
    assert read.problems == ()


def test_what_only_a_shell_could_read_is_named_with_its_line_and_left_out() -> None:
    read = parse_assignments("A=$(reboot)\nif true; then\nB=1\n", "the file")
    assert read.values == {"B": "1"}
    assert [problem[:16] for problem in read.problems] == ["the file line 1 ", "the file line 2 "]


def test_a_byte_order_mark_before_the_first_key_does_no_harm() -> None:
    assert parse_assignments("\ufeffA=1\n", "f").values == {"A": "1"}


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    read = parse_assignments(text, "f")
    assert all(isinstance(value, str) for value in read.values.values())


def test_a_directory_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdministratorError, match=str(tmp_path)):
        read_text(tmp_path)
