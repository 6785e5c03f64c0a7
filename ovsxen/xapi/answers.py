"""XAPI's answers, XML-RPC, as values. They are untrusted: without document types, of XAPI's one shape."""

import xmlrpc.client
from typing import Any, Callable, Dict, Tuple
from xml.etree.ElementTree import Element, ParseError, XMLParser

from ovsxen.errors import Refused

Values = Tuple[Any, ...]
LONGEST_NUMBER = 40
DOCUMENT_TYPE = b"<!DOCTYPE"
NONSENSE = (ParseError, ValueError, TypeError, LookupError, RecursionError)
REPORT = "look at /var/log/xensource.log; if it stays so, report this with the version of XAPI"


def parse_values(body: bytes) -> Values:
    """What a methodResponse holds, just as xmlrpc.client.loads() has it, in half of its time.

    A pool has thousands of records. Raises Refused; for a <fault> too.
    """
    check_encoding(body)
    try:
        parser = XMLParser(encoding="utf-8")
        parser.feed(body)
        return values_of(parser.close())
    except NONSENSE as error:
        raise no_xml_rpc(error) from error


def check_encoding(body: bytes) -> None:
    """Nowhere else can the first bytes of a document type be, but in a comment or a CDATA, and XAPI writes neither. The
    parser takes UTF-16 by its first two bytes, and there a document type looks different.
    """
    if DOCUMENT_TYPE in body:
        raise Refused("XAPI's answer has a document type", REPORT)
    if b"\0" in body:
        raise no_xml_rpc(ValueError("not UTF-8"))


def no_xml_rpc(error: BaseException) -> Refused:
    return Refused("XAPI's answer is not XML-RPC (%s)" % str(error)[:200], REPORT)


def values_of(root: Element) -> Values:
    if root.tag != "methodResponse" or len(root) != 1:
        raise ValueError("no methodResponse")
    if root[0].tag == "fault":
        raise Refused("XAPI answered with a fault (%s)" % ascii(value_of(root[0][0]))[:200], REPORT)
    return tuple(value_of(_child(param, "value")) for param in _tagged(root[0], "params"))


def value_of(value: Element) -> Any:
    """What a <value> holds; a text where it names no type."""
    if not len(value):
        return value.text or ""
    typed, = value
    if typed.tag == "struct":
        return dict(map(member_of, typed))
    if typed.tag == "array":
        return [value_of(_tagged(one, "value")) for one in _child(typed, "data")]
    return SCALARS[typed.tag](_text(typed))


def member_of(member: Element) -> Tuple[str, Any]:
    """The name and the value of a field. There are 40,000 in 1,000 PIFs, so this calls nothing for a bare text."""
    name, value = member
    if name.tag != "name" or value.tag != "value" or len(name):
        raise ValueError("a %s and a %s in a struct" % (name.tag, value.tag))
    return name.text or "", value_of(value) if len(value) else value.text or ""


def _child(element: Element, tag: str) -> Element:
    """The only child, which must be of this tag."""
    only, = element
    return _tagged(only, tag)


def _tagged(element: Element, tag: str) -> Element:
    if element.tag != tag:
        raise ValueError("a %s where a %s is expected" % (element.tag, tag))
    return element


def _text(element: Element) -> str:
    if len(element):
        raise ValueError("elements in a %s" % element.tag)
    return element.text or ""


def _number(text: str) -> int:
    if len(text) > LONGEST_NUMBER:  # a million digits would take int() a minute
        raise ValueError("a number of %d digits" % len(text))
    return int(text)


def _flag(text: str) -> bool:
    return {"0": False, "1": True}[text]


def _nothing(text: str) -> None:
    if text:
        raise ValueError("a nil that is something")


SCALARS: Dict[str, Callable[[str], Any]] = {
    "string": str, "boolean": _flag, "int": _number, "i4": _number, "i8": _number, "double": float,
    "dateTime.iso8601": xmlrpc.client.DateTime, "nil": _nothing,
}
