"""An answer that is thinned out as it comes, beside the same read whole; and what is refused, however it is split."""

from typing import Any, Dict, Iterator, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.errors import NoAnswer, Refused
from ovsxen.xapi.answers import DOCUMENT_TYPE, parse_values
from ovsxen.xapi.selection import Selection, select_values
from tests.xapi.wire import document

WANTED = frozenset(("uuid", "other_config"))
RECORDS = Selection(WANTED)
EVENTS = Selection(WANTED, "events", "snapshot")
TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"), max_size=6)
NAMES = st.sampled_from(("uuid", "other_config", "Value", "events", "snapshot", "name_label", "VIFs"))
VALUES = st.one_of(TEXT, st.booleans(), st.lists(TEXT, max_size=2), st.dictionaries(NAMES, TEXT, max_size=2))
FIELDS = st.dictionaries(NAMES, VALUES, max_size=5)
CUTS = st.lists(st.integers(0, 4000), max_size=8)


def split(body: bytes, cuts: List[int]) -> Iterator[bytes]:
    places = [0] + sorted(cut % (len(body) + 1) for cut in cuts) + [len(body)]
    return iter([body[start:end] for start, end in zip(places, places[1:])])


def thinned(record: Any) -> Any:
    return {key: value for key, value in record.items() if key in WANTED} if isinstance(record, dict) else record


@given(st.dictionaries(st.sampled_from(("ref1", "ref2", "Value", "uuid")), FIELDS, max_size=4), CUTS)
def test_records_have_the_wanted_fields_and_no_others_however_they_are_split(
        records: Dict[str, Any], cuts: List[int]) -> None:
    body = document({"Status": "Success", "Value": records})
    whole = parse_values(body)[0]
    expected = dict(whole, Value={ref: thinned(record) for ref, record in whole["Value"].items()})
    assert select_values(split(body, cuts), RECORDS) == (expected,)


@given(st.lists(st.dictionaries(st.sampled_from(("class", "ref", "operation", "snapshot")), st.one_of(TEXT, FIELDS),
                                max_size=4), max_size=4), CUTS, st.booleans())
def test_snapshots_of_events_have_the_wanted_fields_and_all_else_stays(
        events: List[Dict[str, Any]], cuts: List[int], is_first: bool) -> None:
    others = {"token": "7", "valid_ref_counts": {"vm": "1"}}
    value = dict({"events": events}, **others) if is_first else dict(others, events=events)
    body = document({"Status": "Success", "Value": value})
    whole = parse_values(body)[0]
    for event in whole["Value"]["events"]:
        if "snapshot" in event:
            event["snapshot"] = thinned(event["snapshot"])
    assert select_values(split(body, cuts), EVENTS) == (whole,)


@pytest.mark.parametrize("value", [
    {"Status": "Failure", "ErrorDescription": ["HANDLE_INVALID", "VM", "x"]}, {"Status": "Success", "Value": ""},
    {"Status": "Success", "Value": ["uuid", "other"]}, {"Status": "Success", "Value": {}}, {"Status": "Success"},
    {"Value": {"events": {"snapshot": {"x": "y"}}}, "Status": "Success"}, "a text", {}], ids=str)
def test_what_has_no_records_comes_through_as_it_is(value: Any) -> None:
    body = document(value)
    for cuts in ([], list(range(len(body)))):
        assert select_values(split(body, cuts), EVENTS) == parse_values(body)


@pytest.mark.parametrize("selection", [RECORDS, EVENTS], ids=["records", "events"])
def test_a_document_type_is_refused_wherever_it_is_split(selection: Selection) -> None:
    body = document({"Status": "Success", "Value": {}}).replace(
        b"?>", b'?><!DOCTYPE x [<!ENTITY a "%s">]>' % (b"a" * 100), 1)
    start = body.index(DOCUMENT_TYPE)
    for cut in range(start - 1, start + len(DOCUMENT_TYPE) + 2):
        with pytest.raises(Refused, match="document type"):
            select_values(split(body, [cut]), selection)
    with pytest.raises(Refused, match="document type"):
        select_values(split(body, list(range(len(body)))), selection)


def test_half_an_answer_is_refused() -> None:
    body = document({"Status": "Success", "Value": {"ref": {"uuid": "u"}}})
    for end in range(len(body)):
        with pytest.raises(Refused):
            select_values(split(body[:end], [end // 2]), RECORDS)


@pytest.mark.parametrize("body", [
    b"", b"nonsense", b"<a/>", b"\xff\xfe<\0a\0/\0>\0", document({}).replace(b"methodResponse", b"methodCall"),
    b"<methodResponse><fault><value>x</value></fault></methodResponse>"])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    for cuts in ([], list(range(len(body)))):
        with pytest.raises(Refused):
            select_values(split(body, cuts), RECORDS)


def test_what_breaks_off_the_blocks_is_told_as_it_is() -> None:
    def blocks() -> Iterator[bytes]:
        yield document({"Status": "Success", "Value": {}})[:40]
        raise NoAnswer("XAPI closed the connection in the middle of its answer")

    with pytest.raises(NoAnswer):
        select_values(blocks(), RECORDS)
