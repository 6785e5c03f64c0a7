"""The SDN controller of the pool, by its class and by the field that came before: the rules, and the order of steps.

Sources: xapi_sdn_controller.ml and xapi_pool.ml (set_vswitch_controller) of XAPI, tests/test_sdn_controller.ml.
"""

import socket

from ovsxen.sandbox.xapi import hosts
from ovsxen.sandbox.xapi.method import Call, Method, Methods, takes
from ovsxen.sandbox.xapi.toolstack import Toolstack
from ovsxen.sandbox.xapi.wire import ApiFailure

DEFAULT_PORT = 6632
PROTOCOLS = ("ssl", "pssl")
OPENVSWITCH = "openvswitch"


def checked_port(protocol: str, address: str, port: int) -> int:
    """The port that such a controller gets. Pure. Raises ApiFailure for what XAPI does not take."""
    if protocol not in PROTOCOLS:
        raise ApiFailure("FIELD_TYPE_ERROR", "protocol")
    if protocol == "pssl" and address:
        raise ApiFailure("INVALID_VALUE", "address", address)
    if protocol == "pssl" and port:
        raise ApiFailure("INVALID_VALUE", "port", str(port))
    if protocol == "ssl" and not address:
        raise ApiFailure("INVALID_VALUE", "address", address)
    if protocol == "ssl":
        require_ipv4(address)
    if port and not 1 <= port <= 65535:
        raise ApiFailure("VALUE_NOT_SUPPORTED", "port", str(port), "Port out of range")
    return DEFAULT_PORT if protocol == "ssl" and not port else port


def require_ipv4(address: str) -> None:
    """Raises ApiFailure."""
    try:
        socket.inet_pton(socket.AF_INET, address)
    except (OSError, ValueError):
        raise ApiFailure("INVALID_IP_ADDRESS_SPECIFIED", "address") from None


def uses_openvswitch(xapi: Toolstack) -> bool:
    versions = xapi.database.get("host", xapi.host)["software_version"]
    return bool(versions.get("network_backend") == OPENVSWITCH)


def _require_openvswitch(xapi: Toolstack) -> None:
    if not uses_openvswitch(xapi):
        raise ApiFailure("OPERATION_NOT_ALLOWED", "host not configured for vswitch operation")


def _introduce(xapi: Toolstack, _call: Call, protocol: str, address: str, port: int) -> str:
    _require_openvswitch(xapi)
    if xapi.database.rows("SDN_controller"):
        raise ApiFailure("OPERATION_NOT_ALLOWED", "SDN controller has been configured. Please forget it first.")
    port = checked_port(protocol, address, port)
    ref = xapi.database.add("SDN_controller", protocol=protocol, address=address, port=port)
    hosts.update_all(xapi)
    return ref


def _forget(xapi: Toolstack, _call: Call, controller: str) -> None:
    """The pool's old field stays as it is."""
    xapi.database.remove("SDN_controller", controller)
    if uses_openvswitch(xapi):
        hosts.update_all(xapi)


def _set_vswitch_controller(xapi: Toolstack, call: Call, address: str) -> None:
    """First the field, then the old controller goes, then the new one comes: each step runs the plugin everywhere.

    An address that is there already changes nothing.
    """
    _require_openvswitch(xapi)
    pool = next(iter(xapi.database.rows("pool")))
    if xapi.database.get("pool", pool)["vswitch_controller"] == address:
        return
    if address:
        require_ipv4(address)
    xapi.database.set("pool", pool, vswitch_controller=address)
    if not xapi.world.sdn_controller_class:
        hosts.update_all(xapi)
        return
    for controller in xapi.database.rows("SDN_controller"):
        _forget(xapi, call, controller)
    if address:
        _introduce(xapi, call, "ssl", address, DEFAULT_PORT)


METHODS: Methods = {
    "SDN_controller.introduce": Method(_introduce, takes("protocol address port:int")),
    "SDN_controller.forget": Method(_forget, takes("self:ref")),
    "pool.set_vswitch_controller": Method(_set_vswitch_controller, takes("address")),
}
