"""From a method's name and parameters to its value: what is looked at, in XAPI's order, before anything is done."""

from typing import Any, Dict, List, Sequence, Tuple

from ovsxen.sandbox.xapi import controllers, controls, events, generic, hosts, sessions, tasks
from ovsxen.sandbox.xapi.method import Call, Method, Methods, converted
from ovsxen.sandbox.xapi.toolstack import Toolstack
from ovsxen.sandbox.xapi.wire import ApiFailure

LIST_METHODS = "system.listMethods"
METHODS: Methods = {
    name: method for module in (sessions, hosts, controllers, events, tasks, controls)
    for name, method in module.METHODS.items()}


class MasterAway(Exception):
    """A call that would have to be forwarded, and there is nobody to forward it to."""


def list_methods() -> List[str]:
    """The names that system.listMethods tells."""
    return sorted(set(generic.names()) | {name for name in METHODS if not name.startswith(controls.PREFIX)})


def answer(xapi: Toolstack, name: str, params: Sequence[Any]) -> Any:
    """Do a call and give its value. Raises ApiFailure, MasterAway."""
    if name.startswith(tasks.PREFIX):
        name = name[len(tasks.PREFIX):]
        method = _find(xapi, name)
        call, values = _admit(xapi, method, name, params)
        return tasks.start(xapi, name, lambda: method.run(xapi, call, *values))
    method = _find(xapi, name)
    call, values = _admit(xapi, method, name, params)
    return method.run(xapi, call, *values)


def _find(xapi: Toolstack, name: str) -> Method:
    """Raises ApiFailure (MESSAGE_METHOD_UNKNOWN)."""
    if name.startswith("SDN_controller.") and (
            not xapi.world.sdn_controller_class or xapi.faults.take("no_sdn_controller_class", name) is not None):
        raise ApiFailure("MESSAGE_METHOD_UNKNOWN", name)
    return METHODS.get(name) or generic.find(name)


def _admit(xapi: Toolstack, method: Method, name: str, params: Sequence[Any]) -> Tuple[Call, List[Any]]:
    """The call and its parameters as they are to be run. Raises ApiFailure, MasterAway."""
    if not method.local:
        _forward(xapi, name)
    values = list(params)
    session = ""
    if method.needs_session:
        if not values:
            raise ApiFailure("MESSAGE_PARAMETER_COUNT_MISMATCH", name, str(len(method.takes)), "0")
        session = str(values.pop(0))
        _require_session(xapi, method, name, session)
    converted_values = converted(method, name, values)
    if not name.startswith(controls.PREFIX):
        _fail_by_switch(xapi, name, converted_values)
    return Call(name, session), converted_values


def _forward(xapi: Toolstack, name: str) -> None:
    """What is in the way of everything but local calls. Raises ApiFailure, MasterAway."""
    emergency = xapi.faults.take("emergency", name)
    if emergency is not None:
        raise ApiFailure(emergency["code"], *_split(emergency["params"]))
    if xapi.faults.take("master_away", name) is not None:
        raise MasterAway
    slave = xapi.faults.take("host_is_slave", name)
    if slave is not None:
        raise ApiFailure("HOST_IS_SLAVE", slave["address"])


def _require_session(xapi: Toolstack, method: Method, name: str, session: str) -> None:
    if xapi.faults.take("session_invalid", name) is not None and xapi.database.has("session", session):
        xapi.database.remove("session", session)
    xapi.require_session(session, local_will_do=method.local)


def _fail_by_switch(xapi: Toolstack, name: str, values: Sequence[Any]) -> None:
    """Failures that a switch asks for once everything else is in order."""
    wanted: Dict[str, Any] = xapi.faults.take("failure", name) or {}
    if wanted:
        raise ApiFailure(wanted["code"], *_split(wanted["params"]))
    class_name, _, verb = name.partition(".")
    vanishing = xapi.faults.arguments("vanishing_record")
    reads_one = verb.startswith("get_") and not verb.startswith(("get_all", "get_by_"))
    if reads_one and values and vanishing is not None and vanishing["of"] in ("", class_name) \
            and xapi.faults.take("vanishing_record", name) is not None:
        raise ApiFailure("HANDLE_INVALID", class_name, str(values[0]))


def _split(params: str) -> List[str]:
    return params.split(",") if params else []
