"""XAPI's package and ours, installed, upgraded, downgraded and erased in every order relative to each other.

XAPI's goes through its steps and ours through its own; the orders are all the ways to take them in turns. A state is
how many steps each has taken. If every way into a state leaves the same host, and that holds for all states, then all
orders do; so each state is entered from each side, and its two hosts are compared.
"""

import hashlib
from typing import List, Tuple

import pytest

from tests.rpm import snapshot
from tests.rpm.conftest import Rpms, States, Step
from tests.rpm.root import Root
from tests.rpm.snapshot import FILE, LINK, changes
from tests.rpm.stand_ins import CONFIG_UPDATE, CONFIG_UPDATE_TEXT, KEPT, XAPI_VERSIONS

XAPI_STEPS, OUR_STEPS = 5, 4
STATES = [(theirs, ours) for theirs in range(XAPI_STEPS) for ours in range(OUR_STEPS)]
EVERY_STATE = pytest.mark.parametrize("theirs, ours", STATES, ids=["%d-%d" % each for each in STATES])


def xapi_steps(rpms: Rpms) -> Tuple[Step, ...]:
    first, second = rpms.xapi[:2]
    return ("-U", first), ("-U", second), ("-U", "--oldpackage", first), ("-e", "xapi-core")


def our_steps(rpms: Rpms) -> Tuple[Step, ...]:
    return rpms.install_of(rpms.knowing), ("-U", rpms.knowing_newer), rpms.erase


def ways_into(rpms: Rpms, theirs: int, ours: int) -> List[Tuple[Step, ...]]:
    """XAPI's steps first, and, for each of the two last steps that can lead here, the way that ends with it."""
    xapi, own = xapi_steps(rpms), our_steps(rpms)
    ways = [xapi[:theirs] + own[:ours]]
    if theirs and ours:
        ways.append(xapi[:theirs - 1] + own[:ours] + xapi[theirs - 1:theirs])
    return ways


OUR_LINK_WENT_WITH_XAPI = ["- " + CONFIG_UPDATE, "+ " + KEPT]
"""rpm erases what lies at the name of xapi-core's file, and knows nothing of the copy. Nobody calls the plugin then,
and the copy goes with our package, or when XAPI's comes again.
"""


def is_without_xapi_again(theirs: int, ours: int) -> bool:
    """xapi-core was erased while its plugin was diverted."""
    return theirs == XAPI_STEPS - 1 and ours in (1, 2)


@EVERY_STATE
def test_every_order_into_a_state_leaves_the_same(states: States, rpms: Rpms, theirs: int, ours: int) -> None:
    first, *others = [states.seen_after(*way) for way in ways_into(rpms, theirs, ours)]
    told = [[line.split(": ")[0] for line in changes(first, other)] for other in others]
    assert told == [OUR_LINK_WENT_WITH_XAPI if is_without_xapi_again(theirs, ours) else []] * len(others)


@EVERY_STATE
def test_xapis_plugin_is_in_its_place_or_kept_and_never_lost(states: States, rpms: Rpms, theirs: int,
                                                             ours: int) -> None:
    for way in ways_into(rpms, theirs, ours):
        root = states.after(*way)
        brought = [None, XAPI_VERSIONS[0], XAPI_VERSIONS[1], XAPI_VERSIONS[0], None][theirs]
        assert_plugin(root, brought, diverted=ours in (1, 2), xapi_is_gone=is_without_xapi_again(theirs, ours))


def assert_plugin(root: Root, brought: object, *, diverted: bool, xapi_is_gone: bool = False) -> None:
    """`brought`: the version of xapi-core that is installed, if one is."""
    seen = snapshot.take(root)
    called, kept = seen.get(CONFIG_UPDATE), seen.get(KEPT)
    digest = hashlib.sha256((CONFIG_UPDATE_TEXT % brought).encode()).hexdigest()[:16] if brought else None
    if diverted and brought:
        assert called is not None and (called.kind, called.content) == (LINK, "openvswitch-cfg-update")
        assert kept is not None and (kept.kind, kept.mode, kept.content) == (FILE, 0o755, digest)
    elif brought:
        assert called is not None and (called.kind, called.mode, called.content) == (FILE, 0o755, digest)
        assert kept is None and root.changed_files("xapi-core") == []
    elif diverted:
        assert called is None or called.content == "openvswitch-cfg-update"
        assert kept is None or xapi_is_gone
    else:
        assert (called, kept) == (None, None)


UNKNOWN = XAPI_VERSIONS[-1]


@pytest.mark.parametrize("before", ["first", "after ours", "as an upgrade of a known one"])
def test_a_version_that_is_not_known_is_left_alone_until_somebody_asks(states: States, rpms: Rpms, before: str) -> None:
    ours, unknown = rpms.install_of(rpms.knowing), ("-U", rpms.xapi[-1])
    steps = {"first": (unknown, ours), "after ours": (ours, unknown),
             "as an upgrade of a known one": (("-U", rpms.xapi[0]), ours, unknown)}[before]
    root = states.after(*steps)
    assert root.read(CONFIG_UPDATE) == (CONFIG_UPDATE_TEXT % UNKNOWN).strip()
    assert root.changed_files("xapi-core") == []

    root.tell("ovsxen", "plugin", "divert", "--force")
    assert_plugin(root, UNKNOWN, diverted=True)
    root.transact("-U", rpms.knowing_newer)
    assert_plugin(root, UNKNOWN, diverted=True)
    root.transact(*rpms.erase)
    assert_plugin(root, UNKNOWN, diverted=False)


@pytest.mark.parametrize("ours_first", [True, False])
def test_both_in_one_transaction_are_as_one_after_the_other(states: States, rpms: Rpms, *, ours_first: bool) -> None:
    def together(step: Step, other: Step) -> Step:
        return step + tuple(word for word in other if not word.startswith("-")) if ours_first else (
            other + tuple(word for word in step if not word.startswith("-")))

    xapi, own = xapi_steps(rpms), our_steps(rpms)
    way: Tuple[Step, ...] = ()
    for count, (their_step, our_step) in enumerate(((xapi[0], own[0]), (xapi[1], own[1]), (xapi[3], own[2])), 1):
        way += (together(our_step, their_step),)
        one_by_one = (xapi[:2] + xapi[3:])[:count] + own[:count]
        assert changes(states.seen_after(*one_by_one), states.seen_after(*way)) == []


def test_xapis_package_that_comes_again_is_diverted_anew(states: States, rpms: Rpms) -> None:
    xapi = xapi_steps(rpms)
    way = (xapi[0], rpms.install_of(rpms.knowing))
    assert changes(states.seen_after(*way), states.seen_after(*way, xapi[-1], xapi[0])) == []


def test_a_reinstallation_of_xapis_package_is_diverted_anew(states: States, rpms: Rpms) -> None:
    root = states.after(("-U", rpms.xapi[0]), rpms.install_of(rpms.knowing))
    before = snapshot.take(root)
    root.transact("-U", "--replacepkgs", rpms.xapi[0])
    assert changes(before, snapshot.take(root)) == []
