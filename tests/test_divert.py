"""Which plugin XAPI runs, whatever rpm, people and SIGKILL do in whichever order."""

from pathlib import Path
from typing import Tuple

import pytest

from ovsxen.divert import Entry, Found, Lies, Step, plan_divert, plan_restore
from ovsxen.errors import AdministratorError
from ovsxen.host.files import Identity
from ovsxen.host.paths import paths_under
from ovsxen.known_plugins import KNOWN

PATHS = paths_under(Path("/nonexistent"), {})
A_KNOWN = sorted(KNOWN)[0]
NOTHING = Entry(Lies.NOTHING)
LINKED = Entry(Lies.OUR_LINK, "openvswitch-cfg-update", Identity(1, 1, 1, 1), True)
KNOWN_FILE = Entry(Lies.FILE, A_KNOWN, Identity(1, 2, 1, 1), True)
UNKNOWN_FILE = Entry(Lies.FILE, "0" * 64, Identity(1, 3, 1, 1), True)
ELSEWHERE = Entry(Lies.LINK, "/opt/other", Identity(1, 4, 1, 1), True)
DIRECTORY = Entry(Lies.OTHER, "", Identity(1, 5, 1, 1))


def again(entry: Entry) -> Entry:
    """The same content in another file."""
    return entry._replace(identity=Identity(2, 2, 2, 2))


@pytest.mark.parametrize("called, kept, steps, forced", [
    (LINKED, NOTHING, (), ()),
    (LINKED, KNOWN_FILE, (), ()),
    (KNOWN_FILE, NOTHING, (Step.KEEP, Step.LINK), (Step.KEEP, Step.LINK)),
    (KNOWN_FILE, again(UNKNOWN_FILE), (Step.KEEP, Step.LINK), (Step.KEEP, Step.LINK)),
    (KNOWN_FILE, KNOWN_FILE, (Step.LINK,), (Step.LINK,)),
    (KNOWN_FILE, again(KNOWN_FILE), (Step.KEEP, Step.LINK), (Step.KEEP, Step.LINK)),
    (UNKNOWN_FILE, NOTHING, (), (Step.KEEP, Step.LINK)),
    (UNKNOWN_FILE, again(KNOWN_FILE), (), (Step.KEEP, Step.LINK)),
    (UNKNOWN_FILE, again(UNKNOWN_FILE), (Step.KEEP, Step.LINK), (Step.KEEP, Step.LINK)),
    (ELSEWHERE, NOTHING, (), (Step.KEEP, Step.LINK)),
    (ELSEWHERE, again(ELSEWHERE), (Step.KEEP, Step.LINK), (Step.KEEP, Step.LINK)),
    (NOTHING, NOTHING, (Step.LINK,), (Step.LINK,)),
])
def test_what_a_diversion_does(called: Entry, kept: Entry, steps: Tuple[Step, ...], forced: Tuple[Step, ...]) -> None:
    for has_xapi in (True, False):
        found = Found(called, kept, True, has_xapi)
        assert (plan_divert(found, PATHS, force=False), plan_divert(found, PATHS, force=True)) == (steps, forced)


@pytest.mark.parametrize("called, kept, steps", [
    (LINKED, NOTHING, (Step.UNLINK,)),
    (LINKED, DIRECTORY, (Step.UNLINK,)),
    (LINKED, KNOWN_FILE, (Step.PUT_BACK, Step.FORGET)),
    (LINKED, ELSEWHERE, (Step.PUT_BACK, Step.FORGET)),
    (KNOWN_FILE, NOTHING, ()),
    (KNOWN_FILE, again(KNOWN_FILE), (Step.FORGET,)),
    (UNKNOWN_FILE, again(KNOWN_FILE), (Step.FORGET,)),
    (ELSEWHERE, again(KNOWN_FILE), (Step.FORGET,)),
    (DIRECTORY, KNOWN_FILE, (Step.FORGET,)),
    (DIRECTORY, DIRECTORY, ()),
    (NOTHING, NOTHING, ()),
])
def test_what_a_restoration_does(called: Entry, kept: Entry, steps: Tuple[Step, ...]) -> None:
    for has_xapi in (True, False):
        for own_runs in (True, False):
            assert plan_restore(Found(called, kept, own_runs, has_xapi)) == steps


def test_what_is_kept_of_a_package_that_is_gone_does_not_come_back() -> None:
    assert plan_restore(Found(NOTHING, KNOWN_FILE, True, False)) == (Step.FORGET,)
    assert plan_divert(Found(NOTHING, KNOWN_FILE, True, False), PATHS, force=False) == (Step.FORGET, Step.LINK)


def test_what_is_kept_of_a_package_that_is_there_is_never_forgotten_for_an_empty_name() -> None:
    assert plan_restore(Found(NOTHING, KNOWN_FILE, True, True)) == (Step.PUT_BACK, Step.FORGET)
    assert plan_divert(Found(NOTHING, KNOWN_FILE, True, True), PATHS, force=False) == (Step.LINK,)


@pytest.mark.parametrize("found, word", [
    (Found(KNOWN_FILE, NOTHING, False, True), "install ovsxen again"), (Found(LINKED, NOTHING, False, True), "install"),
    (Found(DIRECTORY, NOTHING, True, True), "move it away"), (Found(KNOWN_FILE, DIRECTORY, True, True), "move it away"),
])
def test_a_diversion_that_would_leave_xapi_without_a_plugin_or_lose_something_is_refused(found: Found,
                                                                                       word: str) -> None:
    for force in (False, True):
        with pytest.raises(AdministratorError) as raised:
            plan_divert(found, PATHS, force=force)
        assert word in str(raised.value)
