"""The expressions of get_all_records_where, which bind as XAPI's grammar says and not as one expects."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.sandbox.xapi import queries
from ovsxen.sandbox.xapi.wire import ApiFailure, Record
from tests.sandbox_xapi.conftest import details

ROW = Record({"management": True, "physical": False, "device": "eth0", "VLAN": -1, "name_label": "one", "MAC": "eth0",
              "other_config": {"a": "b"}, "tags": ["x", "y"]})


@pytest.mark.parametrize("text, holds", [
    ("true", True), ("false", False), ("not true", False), ("not not true", True),
    ('field "management"="true"', True), ('field "physical" = "true"', False), ('field "VLAN"="-1"', True),
    ('"eth0"=field "device"', True), ('field "device"=field "MAC"', True), ('"a"="b"', False),
    ('field "name__label"="one"', True), ('field "name_label"="one"', True),
    ('field "tags"="(\'x\' \'y\')"', True), ('field "other_config"="((\'a\' \'b\'))"', True),
    ("true and false", False), ("true or false", True), ("(true)", True), ("false and (true or true)", False),
    ("true or true and false", False),  # `and` binds no closer than `or`
    ("not false and false", True),  # `not` takes all that follows
    ("not(true)or(true)", False), ("true\n and\ttrue", True),
])
def test_an_expression_holds(text: str, holds: bool) -> None:
    assert queries.parse(text)(ROW) is holds


@pytest.mark.parametrize("text", [
    "", "and", "true true", 'field="x"', "field", '"x"', '"x"=', "(true", "true)", "'x'='x'", "maybe", 'field "x"',
    "not", "true and", "field device=eth0", '"unended',
])
def test_what_is_no_expression_is_an_error(text: str) -> None:
    with pytest.raises(ApiFailure, match="INTERNAL_ERROR"):
        queries.parse(text)


@given(st.lists(st.sampled_from(["true", "false", "and", "or", "not", "(", ")", "=", "field", '"x"', '"', "&"])))
def test_no_text_does_anything_else(words: Any) -> None:
    try:
        queries.parse(" ".join(words))
    except ApiFailure as failure:
        assert failure.code == "INTERNAL_ERROR"


def test_a_field_that_is_not_there_is_an_error(client: Any) -> None:
    assert details(lambda: client.PIF.get_all_records_where('field "colour"="red"'))[0] == "INTERNAL_ERROR"


def test_the_client_gets_the_rows_for_which_it_holds(client: Any) -> None:
    found = client.PIF.get_all_records_where('field "management"="true" and field "device"="eth0"')
    assert [pif["device"] for pif in found.values()] == ["eth0"]
    assert client.network.get_all_records_where("false") == {}
