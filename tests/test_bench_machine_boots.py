"""What the bench of machines publishes, without booting any."""

import sys
from pathlib import Path

import pytest

from bench.machine_boots import DOCUMENT, MARKS, Boot, as_table, main, publish

FIGURES = {(0, "ovsxen"): [Boot(2.5, 3.0), Boot(1.25, 9.0), Boot(2.0, 3.5)], (10, "theirs"): [Boot(7.0, 8.125)]}


def test_a_row_has_the_median_and_the_range_of_its_boots() -> None:
    rows = as_table(FIGURES).splitlines()[2:]
    assert rows == ["| 0 | ovsxen | 2.00 (1.25 to 2.50) | 3.50 (3.00 to 9.00) |",
                    "| 10 | theirs | 7.00 (7.00 to 7.00) | 8.12 (8.12 to 8.12) |"]


def test_what_is_published_takes_the_place_of_what_was_and_of_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(DOCUMENT.read_text())
    publish(document, "new\n")
    publish(document, "newer\n")
    before, between, after = document.read_text().replace(MARKS[1], MARKS[0]).split(MARKS[0])
    own_before, _, own_after = DOCUMENT.read_text().replace(MARKS[1], MARKS[0]).split(MARKS[0])
    assert (before, between, after) == (own_before, "newer\n", own_after)


@pytest.mark.parametrize("rounds", ["0", "-1", "many"])
def test_no_rounds_are_refused_before_anything_is_booted_or_published(
        rounds: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The patch: an entry point reads its arguments there."""
    monkeypatch.setattr(sys, "argv", ["bench", "--rounds=" + rounds])
    before = DOCUMENT.read_text()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "--rounds" in capsys.readouterr().err
    assert DOCUMENT.read_text() == before
