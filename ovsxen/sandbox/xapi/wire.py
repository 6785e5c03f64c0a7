"""The XML-RPC of XAPI: calls read, answers written, byte for byte as XAPI writes them.

XAPI's strings carry no type, and its 64-bit integers are decimal text without one too, so that a client sees strings.
Nothing here knows sockets, HTTP or what a method does.
"""

import datetime
import xml.etree.ElementTree as ElementTree  # noqa: N817 (the tree's own name is the clearer one)
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

PROLOG = '<?xml version="1.0"?>'
CONTROL: Dict[int, Optional[str]] = {code: None for code in range(32) if code not in (9, 10, 13)}
"""XAPI's encoder leaves out what XML 1.0 cannot hold."""

ESCAPES: Dict[int, Optional[str]] = {
    **CONTROL, ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;", ord('"'): "&quot;"}


class Int32(int):
    """One of the few integers that XAPI sends with a type."""


class Record(Dict[str, Any]):
    """A row of the pool. Never changed once made, so that its XML is made once: 1,000 rows are asked for often."""

    __slots__ = ("xml",)

    def __init__(self, fields: Dict[str, Any]) -> None:
        super().__init__(fields)
        self.xml: Dict[bool, str] = {}


class ApiFailure(Exception):
    """What XAPI answers with Status=Failure: a code and its parameters."""

    def __init__(self, code: str, *params: str) -> None:
        super().__init__(code, *params)
        self.code = code
        self.params = params

    def __str__(self) -> str:
        return "%s %s" % (self.code, list(self.params))


class NotXmlRpc(Exception):
    """Not a document of XML-RPC. XAPI takes what raises this for a broken request."""


class Call(NamedTuple):
    """A method and what it was called with. Integers without a type are text still."""

    method: str
    params: Tuple[Any, ...]


def parse_call(body: bytes) -> Call:
    """Read a methodCall. Raises NotXmlRpc."""
    root = _parse(body)
    name = root.findtext("methodName")
    if root.tag != "methodCall" or not name:
        raise NotXmlRpc("not a methodCall")
    return Call(name.strip(), tuple(parse_value(value) for value in root.findall("params/param/value")))


def parse_response(body: bytes) -> Any:
    """Read the one value of a methodResponse. Raises NotXmlRpc; ApiFailure("fault", code, reason) for a fault."""
    root = _parse(body)
    if root.tag != "methodResponse":
        raise NotXmlRpc("not a methodResponse but %s" % root.tag)
    fault = root.find("fault/value")
    if fault is not None:
        told = parse_value(fault)
        raise ApiFailure("fault", str(told.get("faultCode", "")), str(told.get("faultString", "")))
    value = root.find("params/param/value")
    if value is None:
        raise NotXmlRpc("a methodResponse without a value")
    return parse_value(value)


def _parse(body: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(body.strip())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise NotXmlRpc(str(error)) from error


def parse_value(value: ElementTree.Element) -> Any:
    """A <value> as Python has it; nil is None. Raises NotXmlRpc."""
    if not len(value):
        return value.text or ""
    typed = value[0]
    text = typed.text or ""
    try:
        if typed.tag in ("int", "i4", "i8"):
            return int(text)
        if typed.tag == "boolean":
            return {"1": True, "0": False}[text.strip()]
        if typed.tag == "double":
            return float(text)
        if typed.tag == "array":
            return [parse_value(item) for item in typed.findall("data/value")]
        if typed.tag == "struct":
            return dict(_parse_member(member) for member in typed.findall("member"))
    except (ValueError, KeyError) as error:
        raise NotXmlRpc("%s is no %s" % (text, typed.tag)) from error
    if typed.tag == "nil":
        return None
    if typed.tag in ("string", "dateTime.iso8601", "base64"):
        return text
    raise NotXmlRpc("a value of type %s" % typed.tag)


def _parse_member(member: ElementTree.Element) -> Tuple[str, Any]:
    value = member.find("value")
    if value is None:
        raise NotXmlRpc("a member without a value")
    return member.findtext("name") or "", parse_value(value)


def escape(text: str) -> str:
    return text.translate(ESCAPES)


def serialise(value: Any, typed: bool = False) -> str:
    """A whole <value>. `typed` writes <string> and <i4> as the documents of XAPI show it and older ones did."""
    if isinstance(value, Record):
        if typed not in value.xml:
            value.xml[typed] = _struct(value, typed)
        return value.xml[typed]
    if isinstance(value, bool):
        return "<value><boolean>%d</boolean></value>" % value
    if isinstance(value, Int32) or (typed and isinstance(value, int)):
        return "<value><i4>%d</i4></value>" % value
    if isinstance(value, float):
        return "<value><double>%.16g</double></value>" % value
    if isinstance(value, datetime.datetime):
        return "<value><dateTime.iso8601>%s</dateTime.iso8601></value>" % value.strftime("%Y%m%dT%H:%M:%SZ")
    if isinstance(value, dict):
        return _struct(value, typed)
    if isinstance(value, (list, tuple)):
        return "<value><array><data>%s</data></array></value>" % "".join([serialise(item, typed) for item in value])
    text = escape("" if value is None else str(value))  # an integer comes here too: void and int have no type
    return "<value><string>%s</string></value>" % text if typed else "<value>%s</value>" % text


def _struct(members: Dict[str, Any], typed: bool) -> str:
    return "<value><struct>%s</struct></value>" % "".join([
        "<member><name>%s</name>%s</member>" % (escape(name), serialise(value, typed))
        for name, value in members.items()])


def response(value_xml: str) -> bytes:
    """A methodResponse around a <value>."""
    text = "%s<methodResponse><params><param>%s</param></params></methodResponse>" % (PROLOG, value_xml)
    return text.encode("utf-8", "replace")


def success(value: Any, typed: bool = False) -> bytes:
    return response(serialise({"Status": "Success", "Value": value}, typed))


def failure(raised: ApiFailure, typed: bool = False) -> bytes:
    return response(serialise({"Status": "Failure", "ErrorDescription": error_description(raised)}, typed))


def error_description(raised: ApiFailure) -> List[str]:
    return [raised.code] + list(raised.params)


def plugin_call(function: str, session: str, arguments: Dict[str, str]) -> str:
    """The document that XAPI hands to a plugin as its one argument: no prolog, and nothing empty has an end tag."""
    members = "".join("<member><name>%s</name>%s</member>" % (escape(name), _bare(value))
                      for name, value in arguments.items())
    struct = "<struct>%s</struct>" % members if members else "<struct/>"
    return ("<methodCall><methodName>%s</methodName><params><param>%s</param><param><value>%s</value></param></params>"
            "</methodCall>" % (escape(function), _bare(session), struct))


def _bare(text: str) -> str:
    return "<value>%s</value>" % escape(text) if text else "<value/>"
