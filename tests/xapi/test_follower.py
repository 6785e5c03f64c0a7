"""XAPI followed: by the sandbox's XAPI, and by one on the wire that a test tells how to answer."""

import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths, paths_under
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import make_world, ref_of
from ovsxen.xapi.follower import Follower, Mode
from tests.xapi.conftest import MakeWire
from tests.xapi.wire import Question, failure, success, until_it_hangs_up

WITHIN_S = 60.0
VIF = ref_of("VIF", "vif0")
MakeFollower = Callable[[Path], Follower]


def eventually(holds: Callable[[], bool]) -> bool:
    return Deadline(WITHIN_S).wait_until(holds)


@pytest.fixture
def make_follower() -> Iterator[MakeFollower]:
    """Starts followers, which end with the test, in time."""
    made: List[Follower] = []

    def make(path: Path) -> Follower:
        made.append(Follower(path))
        made[-1].start()
        return made[-1]

    yield make
    for follower in made:
        assert follower.end(WITHIN_S)


@pytest.fixture
def paths() -> Iterator[Paths]:
    root = Path(tempfile.mkdtemp(prefix="ox-", dir="/tmp"))
    yield paths_under(root, {})
    shutil.rmtree(str(root))


@pytest.fixture
def xapi(paths: Paths) -> Iterator[FakeXapi]:
    with FakeXapi(paths, make_world(networks=2)) as fake:
        yield fake


@pytest.fixture
def follower(xapi: FakeXapi, paths: Paths, make_follower: MakeFollower) -> Follower:
    """One that follows the sandbox's XAPI by its events."""
    made = make_follower(paths.xapi_socket)
    assert eventually(lambda: made.news.mode is Mode.EVENTS)
    return made


def knows(follower: Follower, uuid: str, **other_config: str) -> bool:
    known = follower.news.known
    return known is not None and uuid in known.vifs and known.vifs[uuid].other_config == other_config


def test_what_changes_is_known_soon_and_nothing_is_read_twice(follower: Follower, xapi: FakeXapi) -> None:
    calls = len(xapi.calls)
    ref = xapi.database.add("VIF", uuid="new", other_config={"nicira-iface-id": "x"})
    assert eventually(lambda: knows(follower, "new", **{"nicira-iface-id": "x"}))
    xapi.database.set("VIF", ref, other_config={})
    assert eventually(lambda: knows(follower, "new"))
    xapi.database.remove("VIF", ref)
    assert eventually(lambda: "new" not in follower.news.known.vifs)  # type: ignore[union-attr]
    assert set(xapi.calls[calls:]) == {"event.from"}


def test_a_question_is_answered_at_once_though_there_is_no_event(follower: Follower, xapi: FakeXapi) -> None:
    calls = len(xapi.calls)
    number = follower.ask(("VIF", "VM"))
    assert eventually(lambda: follower.news.answered >= number)
    read = [name for name in xapi.calls[calls:] if name != "event.from"]
    assert sorted(read) == ["VIF.get_all_records", "VM.get_all_records"]
    assert follower.news.mode is Mode.EVENTS


def test_while_xapi_is_away_what_was_known_stays_and_questions_count_as_answered(
        follower: Follower, xapi: FakeXapi) -> None:
    before = follower.news.known
    xapi.faults.set("absent")
    assert eventually(lambda: follower.news.mode is Mode.AWAY)
    assert follower.news.known is before and "XAPI" in follower.news.problem
    number = follower.ask()
    assert eventually(lambda: follower.news.answered >= number)
    xapi.database.add("VIF", uuid="meanwhile")
    xapi.faults.clear()
    assert eventually(lambda: knows(follower, "meanwhile"))
    assert (follower.news.mode, follower.news.problem) == (Mode.EVENTS, "")


def test_its_one_session_ends_with_it_also_from_the_middle_of_a_wait(
        follower: Follower, xapi: FakeXapi) -> None:
    assert eventually(lambda: len(xapi.sessions) == 1)
    assert follower.end(WITHIN_S)
    assert xapi.sessions == []


def test_without_events_it_asks_again_and_again(xapi: FakeXapi, paths: Paths, make_follower: MakeFollower) -> None:
    xapi.faults.set("failure", code="MESSAGE_METHOD_UNKNOWN", params="event.from", method="event.from")
    follower = make_follower(paths.xapi_socket)
    assert eventually(lambda: follower.news.mode is Mode.POLLING)
    xapi.database.set("VIF", VIF, other_config={"nicira-iface-id": "x"})
    assert eventually(lambda: knows(follower, str(xapi.database.get("VIF", VIF)["uuid"]), **{"nicira-iface-id": "x"}))
    number = follower.ask()
    assert eventually(lambda: follower.news.answered >= number) and follower.news.mode is Mode.POLLING
    assert len(xapi.sessions) == 1


def test_a_xapi_that_was_never_there_is_away_and_nothing_is_known(
        paths: Paths, make_follower: MakeFollower) -> None:
    follower = make_follower(paths.xapi_socket)
    assert eventually(lambda: follower.news.mode is Mode.AWAY)
    assert follower.news.known is None


ALWAYS_THERE = {
    "pool": {"p": {"uuid": "p", "master": "h", "other_config": {}}},
    "network": {"n": {"uuid": "n", "bridge": "xenbr0", "MTU": "1500", "name_label": "", "other_config": {},
                      "PIFs": []}}}
"""What no XAPI is without."""


class Scripted:
    """A XAPI on the wire with one VIF after another, whose events are as told; without any it waits."""

    def __init__(self) -> None:
        self.vifs: Dict[str, Any] = {}
        self.events: List[Any] = []

    def __call__(self, connection: socket.socket, question: Question) -> None:
        if question.method == "event.from":
            if question.params[2] == "":
                connection.sendall(success({"events": [], "token": "1"}))
            elif self.events:
                connection.sendall(self.events.pop(0))
            else:
                until_it_hangs_up(connection)
        elif question.method.endswith("get_all_records"):
            class_name = question.method.split(".")[0]
            connection.sendall(success(self.vifs if class_name == "VIF" else ALWAYS_THERE.get(class_name, {})))
        else:
            connection.sendall(success("OpaqueRef:session"))


def test_an_event_that_was_lost_is_noticed_by_xapis_count(make_wire: MakeWire, make_follower: MakeFollower) -> None:
    xapi = Scripted()
    wire = make_wire(xapi)
    xapi.events = [success({"events": [], "token": "2", "valid_ref_counts": {"vif": "0", "vm": "0"}})]
    follower = make_follower(wire.path)
    assert eventually(lambda: wire.methods.count("event.from") == 3)
    xapi.vifs = {"r1": {"uuid": "lost", "other_config": {}}}
    xapi.events = [success({"events": [], "token": "3", "valid_ref_counts": {"vif": "1", "vm": "0"}})]
    follower.ask(("VM",))  # so that it waits anew
    assert eventually(lambda: knows(follower, "lost"))


@pytest.mark.parametrize("answer", [failure("EVENT_FROM_TOKEN_PARSE_FAILURE", "1"),
                                    success({"events": "nonsense", "token": "2"}), success("")],
                         ids=["token", "nonsense", "empty"])
def test_after_an_answer_that_is_none_everything_is_read_anew(
        make_wire: MakeWire, make_follower: MakeFollower, answer: bytes) -> None:
    xapi = Scripted()
    xapi.events = [answer]
    wire = make_wire(xapi)
    follower = make_follower(wire.path)
    assert eventually(lambda: wire.methods.count("VIF.get_all_records") >= 2)
    assert eventually(lambda: follower.news.mode is Mode.EVENTS)


def test_a_session_that_ended_is_followed_by_another_and_no_event_is_lost(
        make_wire: MakeWire, make_follower: MakeFollower) -> None:
    xapi = Scripted()
    told = {"class": "vif", "operation": "add", "ref": "r1", "snapshot": {"uuid": "new", "other_config": {}}}
    xapi.events = [failure("SESSION_INVALID", "x"), success({"events": [told], "token": "2"})]
    wire = make_wire(xapi)
    follower = make_follower(wire.path)
    assert eventually(lambda: knows(follower, "new"))
    assert wire.methods.count("session.login_with_password") == 2


def test_a_token_that_is_refused_though_it_is_new_is_done_without(make_wire: MakeWire,
                                                                  make_follower: MakeFollower) -> None:
    xapi = Scripted()
    xapi.events = [failure("EVENT_FROM_TOKEN_PARSE_FAILURE", "1")] * 100
    wire = make_wire(xapi)
    follower = make_follower(wire.path)
    assert eventually(lambda: follower.news.mode is Mode.POLLING)
    assert wire.methods.count("event.from") <= 4


def test_events_that_come_at_once_and_tell_nothing_are_not_asked_for_again_and_again(
        make_wire: MakeWire, make_follower: MakeFollower) -> None:
    xapi = Scripted()
    xapi.events = [success({"events": [], "token": str(number)}) for number in range(100)]
    wire = make_wire(xapi)
    follower = make_follower(wire.path)
    assert eventually(lambda: wire.methods.count("event.from") >= 3)
    assert len(xapi.events) > 90 and follower.news.mode is Mode.EVENTS


def test_a_pool_without_networks_is_not_believed(make_wire: MakeWire, make_follower: MakeFollower) -> None:
    xapi = Scripted()
    wire = make_wire(xapi)
    follower = make_follower(wire.path)
    assert eventually(lambda: follower.news.known is not None)
    before, there = follower.news.known, dict(ALWAYS_THERE)
    try:
        ALWAYS_THERE.pop("network")
        follower.ask()
        assert eventually(lambda: follower.news.mode is Mode.AWAY)
    finally:
        ALWAYS_THERE.update(there)
    assert "network" in follower.news.problem and follower.news.known == before
    assert eventually(lambda: follower.news.mode is Mode.EVENTS)
