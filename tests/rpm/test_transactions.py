"""Installing, upgrading, downgrading and erasing, by a real rpm in a root, compared by all that it can change."""

from tests.rpm.conftest import Rpms, States


def test_x(states: States, rpms: Rpms) -> None:
    a = states.seen_after()
    b = states.seen_after(rpms.install)
    assert b
