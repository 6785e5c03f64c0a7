"""A dozen of the thousand blows of tests/soak, each time; `make soak` is the rest."""

from tests.soak.rounds import run


def test_the_switch_gets_well_after_random_blows_and_nothing_happens_that_must_never_be() -> None:
    tally = run(kills=12, seed=97)
    assert sum(tally.hits.values()) >= 12
    assert 0 < tally.received <= tally.sent
