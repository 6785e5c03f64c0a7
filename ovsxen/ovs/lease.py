"""The lease on `other_config:flow-restore-wait`, with which a new ovs-vswitchd forwards nothing until it has its flows.

Open vSwitch has the flag alone, and one that nobody clears stops the network of the host for good, past a reboot too.
So whoever sets it writes beside it until when, in seconds of the kernel's monotonic clock: past that moment, or when
its holder is gone, the daemon that watches clears both; a start or a reload always does.
"""

from typing import Dict, NamedTuple, Optional, Tuple

from ovsxen.ovs import ovsdb
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.ovsdb import Changes

FLOW_RESTORE_WAIT = "flow-restore-wait"
UNTIL = "ovsxen-flow-restore-until"


class Lease(NamedTuple):
    """The flag is set. `until_s` is None where it was set by another program, such as ovs-ctl."""

    until_s: Optional[float]


def read_lease(other_config: Dict[str, str]) -> Optional[Lease]:
    """The lease in the Open_vSwitch row's other_config; None where flows do not have to wait."""
    if other_config.get(FLOW_RESTORE_WAIT, "").lower() != "true":  # as smap_get_bool reads it (lib/smap.c)
        return None
    try:
        return Lease(float(other_config[UNTIL]))
    except (KeyError, ValueError):
        return Lease(None)


def keys_in(other_config: Dict[str, str]) -> Tuple[str, ...]:
    """What of a lease is in there: what a start removes."""
    return tuple(key for key in (FLOW_RESTORE_WAIT, UNTIL) if key in other_config)


def take(connection: Connection, until_s: float, within_s: float) -> None:
    """Have the next ovs-vswitchd wait for its flows. Raises NoAnswer, Refused, AdministratorError."""
    wanted = ((FLOW_RESTORE_WAIT, "true"), (UNTIL, "%.3f" % until_s))
    ovsdb.until_unchanged(lambda: ovsdb.apply(
        connection, ovsdb.read_switch(connection, within_s), Changes(other_config=wanted), within_s))


def end(connection: Connection, within_s: float) -> Optional[int]:
    """Let ovs-vswitchd forward; gives the next_cfg that says when it does, None where there was no lease to end.

    Raises as `take`.
    """
    return ovsdb.until_unchanged(lambda: _end(connection, within_s))


def _end(connection: Connection, within_s: float) -> Optional[int]:
    switch = ovsdb.read_switch(connection, within_s)
    keys = keys_in(switch.row.other_config) if switch.row else ()
    if not keys:
        return None
    return ovsdb.apply(connection, switch, Changes(drop_other_config=keys, acknowledge=True), within_s)
