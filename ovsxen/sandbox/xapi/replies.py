"""What becomes of an answer on its way out: the faults that bend its bytes. Pure, but for those that wait."""

from typing import Any, Callable, Dict, NamedTuple, Optional

from ovsxen.sandbox.xapi import wire
from ovsxen.sandbox.xapi.exchange import Answer
from ovsxen.sandbox.xapi.faults import Faults

LENGTH_OFF_BY = 10
BOMB_DEPTH = 9


class Reply(NamedTuple):
    """The bytes that are sent, how, and what happens to the connection then."""

    data: bytes
    closes: bool
    every_s: float = 0.0
    """Seconds before each single byte; 0: all at once."""

    then_silence: bool = False


def bend(faults: Faults, method: str, answer: Answer) -> Reply:
    """The reply for an answer, as far as a switch is on for this method; one that is in order otherwise."""
    for name, change in BODIES.items():
        if faults.take(name, method) is not None:
            answer = answer._replace(body=change(answer.body))
    for name, extra in (("length_too_long", LENGTH_OFF_BY), ("length_too_short", -LENGTH_OFF_BY)):
        if faults.take(name, method) is not None:
            return Reply(answer._replace(extra_length=extra).to_bytes(), closes=True)
    if faults.take("wrong_content_type", method) is not None:
        answer = answer._replace(content_type="text/html")
    return _sent(faults, method, answer)


def _sent(faults: Faults, method: str, answer: Answer) -> Reply:
    closes = not answer.keeps_alive
    if faults.take("close_after_request", method) is not None:
        return Reply(b"", closes=True)
    if faults.take("headers_then_silence", method) is not None:
        return Reply(answer.head(), closes=True, then_silence=True)
    drip: Optional[Dict[str, Any]] = faults.take("drip", method)
    if drip is not None:
        return Reply(answer.to_bytes(), closes, every_s=drip["every_s"])
    if faults.take("close_kept_alive", method) is not None:
        return Reply(answer.to_bytes(), closes=True)
    return Reply(answer.to_bytes(), closes)


def entity_bomb() -> bytes:
    """A document of a few hundred bytes that is gigabytes to a parser that expands entities."""
    entities = ['<!ENTITY e0 "boom">'] + [
        '<!ENTITY e%d "%s">' % (depth, ("&e%d;" % (depth - 1)) * 10) for depth in range(1, BOMB_DEPTH + 1)]
    member = "<member><name>%s</name><value>%s</value></member>"
    return ('<?xml version="1.0"?><!DOCTYPE bomb [%s]><methodResponse><params><param><value><struct>%s%s</struct>'
            "</value></param></params></methodResponse>" % (
                "".join(entities), member % ("Status", "Success"), member % ("Value", "&e%d;" % BOMB_DEPTH))).encode()


def _struct(**members: Any) -> Callable[[bytes], bytes]:
    return lambda _body: wire.response(wire.serialise(members))


BODIES: Dict[str, Callable[[bytes], bytes]] = {
    "empty_body": lambda _body: b"",
    "truncated": lambda body: body[:len(body) // 2],
    "entity_bomb": lambda _body: entity_bomb(),
    "unknown_status": _struct(Status="Perhaps", Value=""),
    "missing_status": _struct(Value=""),
    "missing_value": _struct(Status="Success"),
    "empty_error_description": _struct(Status="Failure", ErrorDescription=[]),
}
