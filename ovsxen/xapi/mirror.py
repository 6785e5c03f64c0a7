"""XAPI's records of the classes that a sync follows, by ref: read whole, then changed by events.

A record that makes no sense is left out, and named; it spoils no other. Source: event.from in XAPI's
ocaml/xapi/xapi_event.ml.
"""

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ovsxen.errors import Refused, XapiFailure
from ovsxen.xapi.answers import REPORT
from ovsxen.xapi.records import CLASS_UNKNOWN, FOLLOWED, Known, parse_record
from ovsxen.xapi.selection import Selection
from ovsxen.xapi.session import Xapi

CLASSES = tuple(FOLLOWED)
BY_EVENT_NAME = {name.lower(): name for name in CLASSES}
SDN_CONTROLLER = "SDN_controller"
NEVER_EMPTY = ("pool", "network")
SHOWN = 5
EVENT_FIELDS = frozenset(field for fields in FOLLOWED.values() for field in fields)


class Batch(NamedTuple):
    """What one event.from gave: events by class and ref (the record's fields, None where it went), the next token, and
    how many records of each class there are, where XAPI says so.
    """

    events: Tuple[Tuple[str, str, Optional[Mapping[str, Any]]], ...]
    token: str
    counts: Dict[str, int]


class Mirror:
    """The records, as far as they make sense."""

    def __init__(self) -> None:
        self._tables: Dict[str, Dict[str, Any]] = {name: {} for name in CLASSES}
        self._has_sdn_controllers = True
        self._odd: Dict[Tuple[str, str], str] = {}

    def read(self, xapi: Xapi, class_name: str) -> int:
        """Every record of a class, in one call; gives how many there are. Raises what Xapi.read_all raises."""
        try:
            records = xapi.read_all(class_name, Selection(FOLLOWED[class_name]))
        except XapiFailure as failure:
            if class_name != SDN_CONTROLLER or failure.code != CLASS_UNKNOWN:
                raise
            self._has_sdn_controllers = False
            return 0
        if class_name == SDN_CONTROLLER:
            self._has_sdn_controllers = True
        if not records and class_name in NEVER_EMPTY:
            raise Refused("XAPI has no %s at all, which is not believed" % class_name, REPORT)
        self._tables[class_name] = {ref: record for ref, record in self._tables[class_name].items() if ref in records}
        self._odd = {key: text for key, text in self._odd.items() if key[0] != class_name}
        for ref, fields in records.items():
            self._put(class_name, ref, fields)
        return len(records)

    def apply(self, batch: Batch) -> bool:
        """Take over what events tell; tells whether anything is different now."""
        return sum(self._take(*event) for event in batch.events) > 0

    def _take(self, class_name: str, ref: str, fields: Optional[Mapping[str, Any]]) -> bool:
        if fields is not None:
            return self._put(class_name, ref, fields)
        was_there = self._tables[class_name].pop(ref, None) is not None
        return self._odd.pop((class_name, ref), None) is not None or was_there

    def _put(self, class_name: str, ref: str, fields: Any) -> bool:
        """Tells whether it is other than it was."""
        was_odd = self._odd.pop((class_name, ref), None)
        try:
            record = parse_record(class_name, ref, fields)
        except Refused as error:  # what was known of it stands
            self._odd[class_name, ref] = str(error)
            return was_odd != str(error)
        if self._tables[class_name].get(ref) == record:
            return was_odd is not None
        self._tables[class_name][ref] = record
        return True

    def disagreeing(self, counts: Mapping[str, int]) -> Tuple[str, ...]:
        """Classes of which XAPI has another number of records: an event was lost."""
        return tuple(name for name, table in self._tables.items() if name in counts and counts[name] != len(table)
                     + sum(1 for of, ref in self._odd if of == name and ref not in table))

    @property
    def problems(self) -> Tuple[str, ...]:
        """Records that make no sense."""
        told = [self._odd[key] for key in sorted(self._odd)]
        more = ["%d more records of XAPI make no sense" % (len(told) - SHOWN)] if len(told) > SHOWN else []
        return tuple(told[:SHOWN] + more)

    def known(self) -> Known:
        pools, networks, controllers = (
            tuple(sorted(self._tables[name].values(), key=lambda record: (record.uuid, record.ref)))
            for name in ("pool", "network", SDN_CONTROLLER))
        vifs, vms = ({record.uuid: record for record in self._tables[name].values()} for name in ("VIF", "VM"))
        return Known(pools, networks, controllers if self._has_sdn_controllers else None, vifs, vms)


def current_token(xapi: Xapi) -> str:
    """A token from which on events are told; what it comes with is not wanted. Raises what Xapi.call raises."""
    return wait_for_events(xapi, ("pool",), "", 0.0).token


def wait_for_events(xapi: Xapi, classes: Tuple[str, ...], token: str, timeout_s: float) -> Batch:
    """What has changed since `token`: at once where something has, else nothing after the timeout. Raises what
    Xapi.call raises, and Refused.
    """
    answer = xapi.call_selected(Selection(EVENT_FIELDS, "events", "snapshot"), "event.from", list(classes), token,
                                timeout_s)
    try:
        return Batch(tuple(_events(answer["events"])), _text(answer["token"]), _counts(answer.get("valid_ref_counts")))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise Refused("XAPI's events make no sense (%s: %s)" % (type(error).__name__, str(error)[:200]),
                      REPORT) from error


def _events(listed: List[Any]) -> Iterator[Tuple[str, str, Optional[Mapping[str, Any]]]]:
    for event in listed:
        class_name = BY_EVENT_NAME.get(_text(event["class"]).lower())
        if class_name is None:
            continue
        if event["operation"] == "del":
            yield class_name, _text(event["ref"]), None
        elif "snapshot" in event:  # one that has gone meanwhile has none
            yield class_name, _text(event["ref"]), event["snapshot"]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("%s is no text" % ascii(value)[:80])
    return value


def _counts(value: Any) -> Dict[str, int]:
    """XAPI's own check; without it, or with nonsense in it, there is none."""
    if not isinstance(value, dict):
        return {}
    return {BY_EVENT_NAME[name]: int(number) for name, number in value.items()
            if name in BY_EVENT_NAME and str(number).isdigit()}
