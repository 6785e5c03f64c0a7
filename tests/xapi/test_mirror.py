"""Records read whole, then changed by events; those that make no sense; and answers of event.from that do not."""

from typing import Any, Dict, Optional

import pytest

from ovsxen.errors import Refused, XapiFailure
from ovsxen.host.clock import Deadline
from ovsxen.xapi.mirror import CLASSES, Batch, Mirror, current_token, wait_for_events
from ovsxen.xapi.session import connect
from tests.xapi.conftest import MakeWire
from tests.xapi.wire import Wire, failure, success

POOL = {"uuid": "p", "master": "ref", "other_config": {}, "vswitch_controller": ""}
NETWORK = {"uuid": "n", "bridge": "xenbr0", "MTU": "1500", "name_label": "", "other_config": {}, "PIFs": []}


def owner(uuid: str, **other_config: str) -> Dict[str, Any]:
    return {"uuid": uuid, "other_config": other_config}


def events(*told: Any, **counts: int) -> Batch:
    return Batch(told, "1", counts)


def serving(make_wire: MakeWire, answers: Dict[str, bytes]) -> Wire:
    return make_wire(lambda connection, question: connection.sendall(
        answers.get(question.method, success("OpaqueRef:session"))))


def asked(wire: Wire, mirror: Mirror, class_name: str) -> None:
    with connect(wire.path, Deadline(20), is_patient=False) as xapi:
        mirror.read(xapi, class_name)


def test_events_are_taken_over_and_what_changes_nothing_is_no_news() -> None:
    mirror = Mirror()
    assert mirror.apply(events(("VIF", "r1", owner("u1")), ("VM", "r2", owner("m1", **{"nicira-vm-id": "x"}))))
    assert not mirror.apply(events(("VIF", "r1", owner("u1"))))
    assert not mirror.apply(events())
    assert mirror.apply(events(("VIF", "r1", owner("u1", **{"nicira-iface-id": "y", "a": "z"}))))
    known = mirror.known()
    assert known.vifs["u1"].other_config == {"nicira-iface-id": "y"} and known.vms["m1"].uuid == "m1"
    assert mirror.apply(events(("VIF", "r1", None)))
    assert not mirror.apply(events(("VIF", "r1", None), ("VIF", "never-there", None)))
    assert mirror.known().vifs == {}


def test_what_was_known_is_not_changed_by_what_comes_later() -> None:
    mirror = Mirror()
    mirror.apply(events(("VIF", "r1", owner("u1"))))
    before = mirror.known()
    mirror.apply(events(("VIF", "r1", owner("u1", **{"nicira-iface-id": "y", "a": "z"})), ("VIF", "r2", owner("u2"))))
    assert set(before.vifs) == {"u1"} and before.vifs["u1"].other_config == {}


@pytest.mark.parametrize("odd", [{}, {"uuid": "u1"}, {"uuid": "u1", "other_config": "x"}, "x", {"uuid": []}], ids=str)
def test_a_record_that_makes_no_sense_is_named_and_what_was_known_of_it_stands(odd: Any) -> None:
    mirror = Mirror()
    mirror.apply(events(("VIF", "r1", owner("u1", **{"nicira-iface-id": "x"})), ("VIF", "r2", owner("u2"))))
    assert mirror.apply(events(("VIF", "r1", odd)))
    assert len(mirror.problems) == 1 and "r1" in mirror.problems[0]
    assert mirror.known().vifs["u1"].other_config == {"nicira-iface-id": "x"}
    assert mirror.apply(events(("VIF", "r1", owner("u1"))))
    assert not mirror.problems


def test_a_record_that_makes_no_sense_and_goes_is_no_problem_any_more() -> None:
    mirror = Mirror()
    mirror.apply(events(("VIF", "r1", {})))
    assert len(mirror.problems) == 1 and mirror.disagreeing({"VIF": 1, "VM": 0}) == ()
    mirror.apply(events(("VIF", "r1", None)))
    assert not mirror.problems and mirror.disagreeing({"VIF": 1, "VM": 0}) == ("VIF",)


def test_classes_are_read_whole_and_records_that_are_gone_go(make_wire: MakeWire) -> None:
    answers = {"pool.get_all_records": success({"p": POOL}), "network.get_all_records": success({"n": NETWORK}),
               "VIF.get_all_records": success({"r1": owner("u1"), "odd": {"uuid": "u9"}}),
               "VM.get_all_records": success({}), "SDN_controller.get_all_records": success({})}
    wire, mirror = serving(make_wire, answers), Mirror()
    for name in CLASSES:
        asked(wire, mirror, name)
    known = mirror.known()
    assert (known.pools[0].uuid, known.networks[0].bridge, set(known.vifs), known.vms, known.sdn_controllers) == (
        "p", "xenbr0", {"u1"}, {}, ())
    assert len(mirror.problems) == 1
    answers["VIF.get_all_records"] = success({"r2": owner("u2")})
    asked(wire, mirror, "VIF")
    assert set(mirror.known().vifs) == {"u2"} and not mirror.problems


def test_a_class_that_this_xapi_does_not_know_is_told_from_one_without_records(make_wire: MakeWire) -> None:
    answers = {"SDN_controller.get_all_records": failure("MESSAGE_METHOD_UNKNOWN", "SDN_controller.get_all_records"),
               "VIF.get_all_records": failure("MESSAGE_METHOD_UNKNOWN", "VIF.get_all_records")}
    wire, mirror = serving(make_wire, answers), Mirror()
    asked(wire, mirror, "SDN_controller")
    assert mirror.known().sdn_controllers is None
    with pytest.raises(XapiFailure):
        asked(wire, mirror, "VIF")
    answers["SDN_controller.get_all_records"] = success({})
    asked(wire, mirror, "SDN_controller")
    assert mirror.known().sdn_controllers == ()


@pytest.mark.parametrize("value", ["", ["x"], "text"], ids=str)
def test_what_is_no_map_of_records_is_refused_and_changes_nothing(make_wire: MakeWire, value: Any) -> None:
    mirror = Mirror()
    mirror.apply(events(("VIF", "r1", owner("u1"))))
    with pytest.raises(Refused):
        asked(serving(make_wire, {"VIF.get_all_records": success(value)}), mirror, "VIF")
    assert set(mirror.known().vifs) == {"u1"}


def batch(make_wire: MakeWire, value: Any) -> Batch:
    wire = serving(make_wire, {"event.from": success(value)})
    with connect(wire.path, Deadline(20), is_patient=False) as xapi:
        return wait_for_events(xapi, CLASSES, "", 1.0)


def event(class_name: str, operation: str, ref: str, snapshot: Optional[Any] = None) -> Dict[str, Any]:
    told = {"class": class_name, "operation": operation, "ref": ref, "id": "1", "timestamp": "0.0"}
    return told if snapshot is None else dict(told, snapshot=snapshot)


def test_events_come_with_the_fields_that_are_followed(make_wire: MakeWire) -> None:
    many = dict(owner("u1"), name_label="x", VIFs=["r1"])
    told = [event("vm", "add", "r1", many), event("vif", "del", "r2"), event("task", "add", "r3", {"uuid": "t"}),
            event("vm", "mod", "r4")]
    found = batch(make_wire, {"events": told, "token": "7", "valid_ref_counts": {"vm": "3", "task": "1", "vif": "x"}})
    assert [(one[0], one[1]) for one in found.events] == [("VM", "r1"), ("VIF", "r2")]
    assert found.events[1][2] is None and dict(found.events[0][2] or {}).get("uuid") == "u1"
    assert (found.token, found.counts) == ("7", {"VM": 3})


@pytest.mark.parametrize("value", [
    "", [], {}, {"events": []}, {"token": "1"}, {"events": "x", "token": "1"}, {"events": ["x"], "token": "1"},
    {"events": [{}], "token": "1"}, {"events": [event("vm", "add", "r1")], "token": ["1"]},
    {"events": [dict(event("vm", "del", "r1"), ref=["r1"])], "token": "1"}], ids=str)
def test_events_that_make_no_sense_are_refused(make_wire: MakeWire, value: Any) -> None:
    with pytest.raises(Refused):
        batch(make_wire, value)


def test_a_token_is_asked_for_by_the_class_that_has_the_fewest_records(make_wire: MakeWire) -> None:
    wire = serving(make_wire, {"event.from": success({"events": [], "token": "7"})})
    with connect(wire.path, Deadline(20), is_patient=False) as xapi:
        assert current_token(xapi) == "7"
    assert wire.methods == ["session.login_with_password", "event.from", "session.logout"]
    assert wire.asked[1].params[1] == ["pool"]
