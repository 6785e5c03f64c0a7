"""event.from: what has changed since a token, at once where something has, else after a wait."""

import re
from typing import Any, Dict, List, NamedTuple

from ovsxen.host.clock import Deadline
from ovsxen.sandbox.xapi import classes
from ovsxen.sandbox.xapi.database import Change
from ovsxen.sandbox.xapi.method import Call, Method, Methods, takes
from ovsxen.sandbox.xapi.toolstack import Toolstack
from ovsxen.sandbox.xapi.wire import ApiFailure, Int32

TOKEN = re.compile(r"(\d+),(\d+)")
BATCH_S = 0.05
LONGEST_S = 3600.0


class Subscription(NamedTuple):
    """A class in lower case ("" for all) and a ref in it ("" for all)."""

    class_name: str
    ref: str

    def covers(self, change: Change) -> bool:
        return self.class_name in ("", change.class_name.lower()) and self.ref in ("", change.ref)


def parse_subscription(text: str) -> Subscription:
    """ "*", "pool" or "pool/OpaqueRef:…". Raises ApiFailure."""
    class_name, _, ref = text.partition("/")
    if text == "*":
        return Subscription("", "")
    if not class_name or (not ref and "/" in text):
        raise ApiFailure("EVENT_SUBSCRIPTION_PARSE_FAILURE", text)
    return Subscription(class_name.lower(), ref)


def parse_token(text: str, epoch: int) -> int:
    """The generation that a token stands for. Raises ApiFailure for one that was never given, or before a restart."""
    if not text:
        return 0
    match = TOKEN.fullmatch(text)
    if not match or int(match.group(1)) < epoch:
        raise ApiFailure("EVENT_FROM_TOKEN_PARSE_FAILURE", text)
    return int(match.group(1))


def _event_from(xapi: Toolstack, call: Call, names: List[Any], token: str, timeout_s: float) -> Dict[str, Any]:
    since = parse_token(token, xapi.epoch)
    subscriptions = [parse_subscription(str(name)) for name in names]
    if _wait_for_news(xapi, call, subscriptions, since, Deadline(min(max(timeout_s, 0.0), LONGEST_S))):
        xapi.closing.wait(BATCH_S)
    with xapi.database.changed:
        return {"events": [_event(xapi, change) for change in _news(xapi, subscriptions, since)],
                "valid_ref_counts": {name.lower(): Int32(len(xapi.database.rows(name))) for name in classes.CLASSES},
                "token": "%020d,%020d" % (xapi.database.generation, 0)}


def _wait_for_news(xapi: Toolstack, call: Call, subscriptions: List[Subscription], since: int,
                   deadline: Deadline) -> bool:
    """Tells whether there had to be a wait, and it brought something. Raises ApiFailure when the session ends."""
    waited = False
    with xapi.database.changed:
        while not (_news(xapi, subscriptions, since) or deadline.has_passed() or xapi.closing.is_set()):
            xapi.database.changed.wait(deadline.remaining_s())
            xapi.require_session(call.session, local_will_do=False)
            waited = True
        return waited and not deadline.has_passed()


def _news(xapi: Toolstack, subscriptions: List[Subscription], since: int) -> List[Change]:
    return [change for change in xapi.database.changes_since(since) if _is_told(change)
            and any(subscription.covers(change) for subscription in subscriptions)]


def _is_told(change: Change) -> bool:
    return change.class_name not in classes.WITHOUT_EVENTS


def _event(xapi: Toolstack, change: Change) -> Dict[str, Any]:
    event = {"id": str(change.generation), "timestamp": "0.0", "class": change.class_name.lower(),
             "operation": change.operation, "ref": change.ref}
    if change.operation == "del":
        return event
    return dict(event, snapshot=xapi.database.get(change.class_name, change.ref))


METHODS: Methods = {"event.from": Method(_event_from, takes("classes:set token timeout:float"))}
