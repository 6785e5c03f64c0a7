"""The methods that XAPI makes of its data model: getters of every class and field, and the few setters in use."""

from typing import Any, Dict, List

from ovsxen.sandbox.xapi import classes, queries
from ovsxen.sandbox.xapi.method import Call, Method, takes
from ovsxen.sandbox.xapi.toolstack import Toolstack
from ovsxen.sandbox.xapi.wire import ApiFailure, Record

SETTABLE = ("name_label", "name_description", "tags", "MTU", "other_config")
NOT_LISTED = ("session",)
_SELF = "self:ref"


def find(name: str) -> Method:
    """The method of that name. Raises ApiFailure (MESSAGE_METHOD_UNKNOWN)."""
    class_name, _, verb = name.partition(".")
    found = _methods(class_name).get(verb) if class_name in classes.CLASSES else None
    if found is None:
        raise ApiFailure("MESSAGE_METHOD_UNKNOWN", name)
    return found


def names() -> List[str]:
    return ["%s.%s" % (class_name, verb) for class_name in classes.CLASSES for verb in _methods(class_name)]


def _methods(class_name: str) -> Dict[str, Method]:
    """Every generic method of a class by its last name."""
    fields = {field.name: field for field in classes.CLASSES[class_name]}
    methods = {"get_record": Method(_get_record, takes(_SELF)), "get_by_uuid": Method(_get_by_uuid, takes("uuid"))}
    if class_name not in NOT_LISTED:
        methods.update(get_all=Method(_get_all), get_all_records=Method(_get_all_records),
                       get_all_records_where=Method(_get_all_records_where, takes("expr")))
    if "name_label" in fields:
        methods["get_by_name_label"] = Method(_get_by_name_label, takes("label"))
    for name, field in fields.items():
        methods["get_" + name] = Method(_get_field, takes(_SELF))
        if name in SETTABLE:
            methods["set_" + name] = Method(_set_field, takes("%s value:%s" % (_SELF, field.kind)))
        if name in SETTABLE and field.kind == "map":
            methods["add_to_" + name] = Method(_add_to, takes(_SELF + " key value"))
            methods["remove_from_" + name] = Method(_remove_from, takes(_SELF + " key"))
    return methods


def _class_of(call: Call) -> str:
    return call.name.split(".")[0]


def _field_of(call: Call, prefix: str) -> str:
    return call.name.split(".")[1][len(prefix):]


def _get_all(xapi: Toolstack, call: Call) -> List[str]:
    return list(xapi.rows(_class_of(call), call.name))


def _get_all_records(xapi: Toolstack, call: Call) -> Dict[str, Record]:
    return xapi.rows(_class_of(call), call.name)


def _get_all_records_where(xapi: Toolstack, call: Call, expression: str) -> Dict[str, Record]:
    holds = queries.parse(expression)
    return {ref: row for ref, row in xapi.rows(_class_of(call), call.name).items() if holds(row)}


def _get_record(xapi: Toolstack, call: Call, ref: str) -> Record:
    return xapi.row(_class_of(call), ref, call.name)


def _get_by_uuid(xapi: Toolstack, call: Call, wanted: str) -> str:
    for ref, row in xapi.rows(_class_of(call), call.name).items():
        if row["uuid"] == wanted:
            return ref
    raise ApiFailure("UUID_INVALID", _class_of(call), wanted)


def _get_by_name_label(xapi: Toolstack, call: Call, label: str) -> List[str]:
    return [ref for ref, row in xapi.rows(_class_of(call), call.name).items() if row["name_label"] == label]


def _get_field(xapi: Toolstack, call: Call, ref: str) -> Any:
    return xapi.row(_class_of(call), ref, call.name)[_field_of(call, "get_")]


def _set_field(xapi: Toolstack, call: Call, ref: str, value: Any) -> None:
    xapi.database.set(_class_of(call), ref, **{_field_of(call, "set_"): value})


def _add_to(xapi: Toolstack, call: Call, ref: str, key: str, value: str) -> None:
    field = _field_of(call, "add_to_")
    with xapi.database.changed:
        row = xapi.database.get(_class_of(call), ref)
        if key in row[field]:
            raise ApiFailure("MAP_DUPLICATE_KEY", _class_of(call), field, ref, key)
        xapi.database.set(_class_of(call), ref, **{field: dict(row[field], **{key: value})})


def _remove_from(xapi: Toolstack, call: Call, ref: str, key: str) -> None:
    field = _field_of(call, "remove_from_")
    with xapi.database.changed:
        left = dict(xapi.database.get(_class_of(call), ref)[field])
        left.pop(key, None)
        xapi.database.set(_class_of(call), ref, **{field: left})
