"""event.from: a snapshot first, then changes, at once where there are any, and nothing after the timeout."""

import re
import threading
import time
from typing import Any, List, Tuple

import pytest

from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import ref_of
from tests.sandbox_xapi.conftest import LIMIT_S, Host, MakeXapi, details

NETWORK = ref_of("network", "xenbr0")


def events_from(client: Any, classes: Any, token: str, timeout_s: float) -> Any:
    """The call has a word of Python for a name."""
    return getattr(client.event, "from")(classes, token, timeout_s)


def told(answer: Any) -> List[Tuple[str, str, str]]:
    return [(event["operation"], event["class"], event["ref"]) for event in answer["events"]]


def test_an_empty_token_gives_all_there_is(xapi: FakeXapi, client: Any) -> None:
    answer = events_from(client, ["pool", "PIF"], "", 0.0)
    assert {event["operation"] for event in answer["events"]} == {"add"}
    assert [event["class"] for event in answer["events"]].count("pif") == 3
    pool = next(event for event in answer["events"] if event["class"] == "pool")
    assert pool["snapshot"] == client.pool.get_record(pool["ref"]) and pool["id"].isdigit()
    assert re.fullmatch(r"\d{20},\d{20}", answer["token"])
    assert answer["valid_ref_counts"]["network"] == 4  # one of the few numbers with a type


def test_a_change_is_told_once_with_the_row_as_it_is(xapi: FakeXapi, client: Any) -> None:
    token = events_from(client, ["*"], "", 0.0)["token"]
    xapi.database.set("network", NETWORK, other_config={"a": "b"})
    answer = events_from(client, ["network"], token, 5.0)
    assert told(answer) == [("mod", "network", NETWORK)]
    assert answer["events"][0]["snapshot"]["other_config"] == {"a": "b"}
    again = events_from(client, ["network"], answer["token"], 0.05)
    assert told(again) == [] and again["token"] >= answer["token"]


def test_rows_that_come_and_go_are_told(xapi: FakeXapi, client: Any) -> None:
    token = events_from(client, ["*"], "", 0.0)["token"]
    new = xapi.database.add("SDN_controller", address="192.0.2.1")
    brief = xapi.database.add("network", bridge="xapi9")
    xapi.database.remove("network", brief)
    xapi.database.remove("network", NETWORK)
    answer = events_from(client, ["*"], token, 0.0)
    assert told(answer) == [("add", "sdn_controller", new), ("del", "network", NETWORK)]
    assert "snapshot" not in answer["events"][1]


def test_a_subscription_is_to_a_class_or_to_one_row(xapi: FakeXapi, client: Any) -> None:
    token = events_from(client, ["*"], "", 0.0)["token"]
    for ref in (NETWORK, ref_of("network", "xenbr1")):
        xapi.database.set("network", ref, MTU=9000)
    xapi.database.set("PIF", ref_of("PIF", "host0 eth0"), MTU=9000)
    assert told(events_from(client, ["network/" + NETWORK], token, 0.0)) == [("mod", "network", NETWORK)]
    assert {name for _, name, _ in told(events_from(client, ["Network", "pif"], token, 0.0))} == {"network", "pif"}
    assert told(events_from(client, ["pool"], token, 0.0)) == []


def test_a_wait_ends_with_the_news(xapi: FakeXapi, host: Host, client: Any) -> None:
    token = events_from(client, ["pool"], "", 0.0)["token"]
    pool = xapi.database.find("pool")
    timer = threading.Timer(0.1, lambda: xapi.database.set("pool", pool, other_config={"new": "s"}))
    timer.start()
    began = time.monotonic()
    assert told(events_from(client, ["pool"], token, LIMIT_S)) == [("mod", "pool", pool)]
    assert 0.1 <= time.monotonic() - began < LIMIT_S / 2
    timer.join()


def test_a_wait_ends_with_its_timeout_its_session_and_the_server(make_xapi: MakeXapi, host: Host) -> None:
    xapi = make_xapi()
    session = host.client()
    client = session.xenapi
    token = events_from(client, ["pool"], "", 0.0)["token"]
    began = time.monotonic()
    assert told(events_from(client, ["pool"], token, 0.2)) == []
    assert time.monotonic() - began >= 0.2
    timer = threading.Timer(0.1, lambda: xapi.database.remove("session", session.handle))
    timer.start()
    # straight, as the official client would log in again
    answer = getattr(session.event, "from")(session.handle, ["pool"], token, LIMIT_S)
    assert answer["ErrorDescription"] == ["SESSION_INVALID", session.handle]
    timer.join()


def test_what_is_no_token_or_no_subscription_is_refused(xapi: FakeXapi, client: Any) -> None:
    for token in ("x", "1", "1,2,3"):
        assert details(lambda token=token: events_from(client, ["*"], token, 0.0)) == [  # type: ignore[misc]
            "EVENT_FROM_TOKEN_PARSE_FAILURE", token]
    assert details(lambda: events_from(client, [""], "", 0.0)) == ["EVENT_SUBSCRIPTION_PARSE_FAILURE", ""]
    assert details(lambda: events_from(client, "network", "", 0.0)) == ["FIELD_TYPE_ERROR", "classes"]


def test_a_token_from_before_a_restart_is_void(xapi: FakeXapi, client: Any) -> None:
    token = events_from(client, ["pool"], "", 0.0)["token"]
    xapi.faults.set("sessions_vanish")
    assert xapi.sessions == []
    assert details(lambda: events_from(client, ["pool"], token, 0.0)) == ["EVENT_FROM_TOKEN_PARSE_FAILURE", token]
    assert told(events_from(client, ["pool"], "", 0.0))[0][0] == "add"


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_no_time_to_wait_is_answered_at_once(client: Any, timeout_s: float) -> None:
    answer = events_from(client, ["SDN_controller"], "", timeout_s)
    assert answer["events"] == []
