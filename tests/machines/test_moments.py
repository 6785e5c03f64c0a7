"""Which moments the power is cut at, and how somebody chooses others."""

import pytest

from tests.machines import cuts
from tests.machines.cuts import PHASES, Moment

pytestmark = pytest.mark.selection


def test_40_moments_are_spread_over_all_phases_and_one_of_each_is_selected() -> None:
    moments = cuts.choose({})
    assert len(set(moments)) == 40 and {moment.phase for moment in moments} == set(PHASES)
    assert sorted(moment.phase for moment in cuts.selection(moments)) == sorted(PHASES)


def test_a_seed_gives_as_many_others_and_the_same_ones_again() -> None:
    rolled = cuts.choose({"CUT_SEED": "7"})
    assert len(set(rolled)) == 40 and not set(rolled) & set(cuts.choose({}))
    assert rolled == cuts.choose({"CUT_SEED": "7"}) != cuts.choose({"CUT_SEED": "8"})


def test_moments_are_named_by_part_or_by_seconds() -> None:
    by_part, by_seconds = cuts.choose({"CUTS": "update=0.4 restart=1.5s"})
    assert (by_part, by_seconds) == (Moment("update", 0.4), Moment("restart", 1.5, True))
    assert (by_part.after_s(10.0), by_seconds.after_s(10.0)) == (4.0, 1.5)


@pytest.mark.parametrize("word", ["reboot=0.4", "update", "update=soon", "update=-1"])
def test_a_moment_that_cannot_be_is_refused_with_what_can(word: str) -> None:
    with pytest.raises(ValueError, match="PHASE=PART .*update"):
        cuts.choose({"CUTS": word})


def test_a_seed_that_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="CUT_SEED: 'seven'"):
        cuts.choose({"CUT_SEED": "seven"})


def test_who_asks_for_no_moment_gets_the_usual_ones() -> None:
    assert cuts.choose({"CUTS": " "}) == cuts.choose({})
