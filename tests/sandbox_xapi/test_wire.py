"""The wire, byte by byte: what XAPI writes has no types where one expects them, and no whitespace."""

import datetime
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.sandbox.xapi import wire
from ovsxen.sandbox.xapi.server import FakeXapi
from tests.sandbox_xapi.conftest import Host, MakeXapi

LOGIN = "<methodCall><methodName>session.login_with_password</methodName><params>%s</params></methodCall>" % (
    "<param><value>root</value></param><param><value/></param>")
HEAD = '<?xml version="1.0"?><methodResponse><params><param><value>'
TAIL = "</value></param></params></methodResponse>"
VALUES = st.recursive(
    st.booleans() | st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"))
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda number: float("%.16g" % number)),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=126)), inner), max_leaves=15)


@pytest.mark.parametrize("value, xml", [
    ("text", "<value>text</value>"), ("", "<value></value>"), (None, "<value></value>"),
    (1500, "<value>1500</value>"), (-1, "<value>-1</value>"), (wire.Int32(4), "<value><i4>4</i4></value>"),
    (True, "<value><boolean>1</boolean></value>"), (False, "<value><boolean>0</boolean></value>"),
    (0.5, "<value><double>0.5</double></value>"),
    (datetime.datetime(2026, 8, 21, 10), "<value><dateTime.iso8601>20260821T10:00:00Z</dateTime.iso8601></value>"),
    (["a", 1], "<value><array><data><value>a</value><value>1</value></data></array></value>"),
    ([], "<value><array><data></data></array></value>"),
    ({"k": ""}, "<value><struct><member><name>k</name><value></value></member></struct></value>"),
    ({}, "<value><struct></struct></value>"),
    ("a<b>&\"'c", "<value>a&lt;b&gt;&amp;&quot;'c</value>"), ("\x00\x1bx\ty\n", "<value>x\ty\n</value>"),
])
def test_a_value_is_written_as_xapi_writes_it(value: Any, xml: str) -> None:
    assert wire.serialise(value) == xml


@pytest.mark.parametrize("value, xml", [
    ("text", "<value><string>text</string></value>"), (1500, "<value><i4>1500</i4></value>"),
    (True, "<value><boolean>1</boolean></value>"),
])
def test_a_typed_xapi_names_the_types(value: Any, xml: str) -> None:
    assert wire.serialise(value, typed=True) == xml


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert wire.parse_value(ElementTree.fromstring(wire.serialise(value))) == value


@pytest.mark.parametrize("body", [
    b"", b"x", b"<methodCall/>", b"<methodResponse/>", b"\x00", b"<methodCall><methodName>m</methodName>",
    b"<methodCall><methodName>m</methodName><params><param><value><int>x</int></value></param></params></methodCall>",
    b"<methodCall><methodName>m</methodName><params><param><value><odd/></value></param></params></methodCall>",
])
def test_what_is_no_call_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(wire.NotXmlRpc):
        wire.parse_call(body)


def test_a_success_is_one_line_without_types(xapi: FakeXapi, host: Host) -> None:
    session = xapi.sessions
    body = host.post(LOGIN).decode()
    new = [ref for ref in xapi.sessions if ref not in session][0]
    assert body == HEAD + ("<struct><member><name>Status</name><value>Success</value></member>"
                           "<member><name>Value</name><value>%s</value></member></struct>" % new) + TAIL


def test_a_failure_is_an_array_of_untyped_strings(xapi: FakeXapi, host: Host) -> None:
    body = host.post(LOGIN.replace("session.login_with_password", "pool.bark")).decode()
    assert body == HEAD + (
        "<struct><member><name>Status</name><value>Failure</value></member><member><name>ErrorDescription</name>"
        "<value><array><data><value>MESSAGE_METHOD_UNKNOWN</value><value>pool.bark</value></data></array></value>"
        "</member></struct>") + TAIL


def test_the_list_of_methods_is_not_wrapped(xapi: FakeXapi, host: Host) -> None:
    call = "<methodCall><methodName>system.listMethods</methodName><params/></methodCall>"
    body = host.post(call).decode()
    assert body.startswith(HEAD + "<array><data><value>Bond.add_to_other_config</value>")
    assert "<value>SDN_controller.introduce</value>" in body and "sandbox." not in body


def test_a_typed_xapi_answers_with_types(make_xapi: MakeXapi, host: Host) -> None:
    xapi = make_xapi(typed=True)
    xapi.database.add("SDN_controller", protocol="ssl", address="192.0.2.9", port=6632)
    session = host.client()
    assert [row["port"] for row in session.xenapi.SDN_controller.get_all_records().values()] == [6632]


def test_integers_are_text_to_the_official_client(client: Any) -> None:
    pif = client.PIF.get_record(client.PIF.get_all()[0])
    assert (pif["MTU"], pif["VLAN"], pif["management"], pif["other_config"]) == ("1500", "-1", True, {})
