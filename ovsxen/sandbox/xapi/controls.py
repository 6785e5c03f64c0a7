"""What XAPI has no call for: the sandbox's own methods, `sandbox.*`, for its xe. No fault reaches them, and they need
no session."""

from typing import Dict, List

from ovsxen.sandbox.xapi import hosts
from ovsxen.sandbox.xapi.faults import FAULTS, Place
from ovsxen.sandbox.xapi.method import Call, Method, Methods, takes
from ovsxen.sandbox.xapi.toolstack import Toolstack
from ovsxen.sandbox.xapi.wire import ApiFailure

PREFIX = "sandbox."


def _set_fault(xapi: Toolstack, _call: Call, name: str, arguments: Dict[str, str]) -> None:
    fault = FAULTS.get(name)
    if fault and fault.place is Place.LISTENER and not float(arguments.get("seconds") or 0):
        raise ApiFailure("INVALID_VALUE", "seconds", "without an end nothing could be said to this XAPI any more")
    try:
        xapi.faults.set(name, **arguments)  # type: ignore[arg-type]
    except (LookupError, ValueError, TypeError) as error:
        raise ApiFailure("INVALID_VALUE", name, str(error)) from error


def _clear_faults(xapi: Toolstack, _call: Call, name: str = "") -> None:
    xapi.faults.clear(name)


def _list_faults(xapi: Toolstack, _call: Call) -> Dict[str, str]:
    on = xapi.faults.active()
    return {name: ("(on) " if name in on else "") + fault.does for name, fault in FAULTS.items()}


def _start_toolstack(xapi: Toolstack, _call: Call) -> None:
    hosts.update_vswitch_controller(xapi, xapi.host)


def _plugin_runs(xapi: Toolstack, _call: Call) -> List[List[str]]:
    return [[run.plugin, run.function, str(run.outcome)] for run in xapi.plugin_runs]


METHODS: Methods = {
    PREFIX + "set_fault": Method(_set_fault, takes("name arguments:map"), needs_session=False, local=True),
    PREFIX + "clear_faults": Method(_clear_faults, takes("name"), optional=1, needs_session=False, local=True),
    PREFIX + "list_faults": Method(_list_faults, needs_session=False, local=True),
    PREFIX + "start_toolstack": Method(_start_toolstack, needs_session=False, local=True),
    PREFIX + "plugin_runs": Method(_plugin_runs, needs_session=False, local=True),
}
