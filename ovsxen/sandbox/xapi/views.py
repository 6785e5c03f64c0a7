"""How a fault makes the pool look: pure functions from the rows of a class to other rows. The database stays as it is.
"""

import functools
import uuid
from typing import Any, Callable, Dict, NamedTuple, Tuple

from ovsxen.sandbox.xapi.classes import defaults
from ovsxen.sandbox.xapi.wire import Record

Rows = Dict[str, Record]
ODD = "Br\u00fccke \u0085\u2028 \U0001f310 ]]> <b>&\"' \x1b[31m\x00 \u00a0end"


class View(NamedTuple):
    """The classes that a fault shows otherwise ("" is in its argument `of`), and how."""

    classes: Tuple[str, ...]
    show: Callable[[str, Rows, Dict[str, Any]], Rows]


def _no_rows(_class_name: str, _rows: Rows, _arguments: Dict[str, Any]) -> Rows:
    return {}


def _twice(class_name: str, rows: Rows, _arguments: Dict[str, Any]) -> Rows:
    return {**rows, **{_ref(class_name, "second"): _but(row, uuid=_uuid(class_name, "second"))
                       for row in list(rows.values())[:1]}}


def _many_more(class_name: str, rows: Rows, arguments: Dict[str, Any]) -> Rows:
    return {**rows, **dict(_more(class_name, arguments["records"]))}


@functools.lru_cache(maxsize=2)
def _more(class_name: str, count: int) -> Tuple[Tuple[str, Record], ...]:
    """Kept, because the XML of so many takes longer than what they are to be a test of."""
    more = []
    for number in range(count):
        name = "huge%d" % number
        fields = dict(defaults(class_name), uuid=_uuid(class_name, name))
        given = {"name_label": "Network %d" % number, "bridge": name, "device": name}
        fields.update({key: value for key, value in given.items() if key in fields})
        more.append((_ref(class_name, name), Record(fields)))
    return tuple(more)


def _odd_text(_class_name: str, rows: Rows, _arguments: Dict[str, Any]) -> Rows:
    shown = {}
    for ref, row in rows.items():
        odd: Dict[str, Any] = {"other_config": dict(row["other_config"], odd=ODD, **{ODD: "odd"})}
        if "name_label" in row:
            odd.update(name_label=ODD, name_description=ODD)
        shown[ref] = _but(row, **odd)
    return shown


def _without_bridge(_class_name: str, rows: Rows, arguments: Dict[str, Any]) -> Rows:
    shown = {}
    for ref, row in rows.items():
        if row["bridge"] != arguments["bridge"]:
            shown[ref] = row
        elif arguments["missing"]:
            shown[ref] = Record({key: value for key, value in row.items() if key != "bridge"})
        else:
            shown[ref] = _but(row, bridge="")
    return shown


def _claimed_twice(class_name: str, rows: Rows, arguments: Dict[str, Any]) -> Rows:
    claim = dict(defaults(class_name), uuid=_uuid(class_name, "claim"), name_label="claims a bridge of another",
                 bridge=arguments["bridge"])
    return {**rows, _ref(class_name, "claim"): Record(claim)}


def _but(row: Record, **fields: Any) -> Record:
    return Record(dict(row, **fields))


def _uuid(class_name: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, "%s.%s.fault" % (name, class_name)))


def _ref(class_name: str, name: str) -> str:
    return "OpaqueRef:" + _uuid(class_name, name + ".ref")


VIEWS: Dict[str, View] = {
    "no_pool": View(("pool",), _no_rows),
    "two_pools": View(("pool",), _twice),
    "huge": View(("",), _many_more),
    "odd_text": View(("pool", "host", "network", "PIF", "VIF", "VM"), _odd_text),
    "network_without_bridge": View(("network",), _without_bridge),
    "two_networks_one_bridge": View(("network",), _claimed_twice),
}


def concerns(fault: str, class_name: str, arguments: Dict[str, Any]) -> bool:
    """This fault makes this class look otherwise."""
    return class_name in (arguments["of"] if name == "" else name for name in VIEWS[fault].classes)
