"""Hosts: running plugins on them, and what XAPI itself has each of them run when the controller may have changed."""

from typing import Any, Dict, Union

from ovsxen.host.paths import Paths
from ovsxen.sandbox.xapi.classes import NULL
from ovsxen.sandbox.xapi.method import Call, Method, Methods, takes
from ovsxen.sandbox.xapi.plugins import PluginRun
from ovsxen.sandbox.xapi.toolstack import Toolstack
from ovsxen.sandbox.xapi.wire import ApiFailure

UPDATE_PLUGIN = "openvswitch-config-update"
INTERNAL = "xapi"


def update_vswitch_controller(xapi: Toolstack, host: str) -> None:
    """Have a host make its switch agree. Neither the answer nor an error goes any further, as in XAPI."""
    session = xapi.open_session(INTERNAL)
    try:
        run_plugin(xapi, session, host, UPDATE_PLUGIN, "update", {})
    except ApiFailure:
        pass
    finally:
        _end_session(xapi, session)


def update_all(xapi: Toolstack) -> None:
    """Every host of the pool, one after the other."""
    for host in xapi.database.rows("host"):
        update_vswitch_controller(xapi, host)


def run_plugin(xapi: Toolstack, session: str, host: str, plugin: str, function: str,
               arguments: Dict[str, str]) -> str:
    """Run a plugin on a host of the pool. Raises ApiFailure."""
    paths = xapi.paths_of(host)
    if paths is None:
        raise ApiFailure("HOST_OFFLINE", host)
    outcome: Union[str, ApiFailure]
    try:
        outcome = _run_there(xapi, session, paths, plugin, function, arguments, elsewhere=host != xapi.host)
    except ApiFailure as failure:
        outcome = failure
    xapi.plugin_runs.append(PluginRun(plugin, function, outcome))
    if isinstance(outcome, ApiFailure):
        raise outcome
    return outcome


def _run_there(xapi: Toolstack, session: str, paths: Paths, plugin: str, function: str, arguments: Dict[str, str],
               *, elsewhere: bool) -> str:
    """On the master the plugin gets its caller's session; on a slave, one that ends with the call."""
    if not (elsewhere or xapi.slave):
        return xapi.plugins.call(paths.plugins, plugin, function, session, arguments)
    forwarded = xapi.open_session(INTERNAL)
    try:
        return xapi.plugins.call(paths.plugins, plugin, function, forwarded, arguments)
    finally:
        _end_session(xapi, forwarded)


def _end_session(xapi: Toolstack, session: str) -> None:
    with xapi.database.changed:
        if xapi.database.has("session", session):
            xapi.database.remove("session", session)


def _call_plugin(xapi: Toolstack, call: Call, host: str, plugin: str, function: str, arguments: Dict[str, str]) -> str:
    return run_plugin(xapi, call.session, host, plugin, function, arguments)


def _get_management_interface(xapi: Toolstack, call: Call, host: str) -> str:
    xapi.database.get("host", host)
    pifs = xapi.rows("PIF", call.name)
    return next((ref for ref, pif in pifs.items() if pif["management"] and pif["host"] == host), NULL)


def _is_in_emergency_mode(xapi: Toolstack, _call: Call) -> bool:
    return xapi.faults.arguments("emergency") is not None


def _capabilities(_xapi: Toolstack, _call: Call) -> str:
    return "<system-status-capabilities/>"


def _nothing(_xapi: Toolstack, _call: Call, *_parameters: Any) -> None:
    """A local call that has no effect here."""


METHODS: Methods = {
    "host.call_plugin": Method(_call_plugin, takes("host:ref plugin fn args:map")),
    "host.get_management_interface": Method(_get_management_interface, takes("host:ref")),
    "host.is_in_emergency_mode": Method(_is_in_emergency_mode, local=True),
    "host.get_system_status_capabilities": Method(_capabilities, takes("host:ref"), local=True),
    "host.signal_networking_change": Method(_nothing, local=True),
    "host.shutdown_agent": Method(_nothing, local=True),
    "pool.emergency_transition_to_master": Method(_nothing, local=True),
    "pool.emergency_reset_master": Method(_nothing, takes("master_address"), local=True),
}
