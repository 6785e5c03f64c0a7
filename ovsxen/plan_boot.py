"""Pure decisions: what a snapshot of the switch and the wishes of the host make of it. Nothing here reads or writes."""

from typing import NamedTuple, Tuple

from ovsxen.ovs import lease
from ovsxen.ovs.ovsdb import Changes, Switch, SwitchRow

BOOT_ID_KEY = "ovsxen-boot-id"
NO_ROW = SwitchRow("", "", "", "", {}, {}, 0)


class Identity(NamedTuple):
    """What the Open_vSwitch row shall say of the host, as the init script set it; "" leaves what is there."""

    ovs_version: str
    db_version: str
    system_id: str
    system_type: str
    system_version: str
    rundir: str
    external_ids: Tuple[Tuple[str, str], ...]


class Moment(NamedTuple):
    """Where the host is in its life: this boot, and whether the switch has already been up in it.

    `server_started`: this start brought up ovsdb-server. `purged_before`: the old init script says that it purged in
    this boot. `always_purge`: the administrator's --delete-bridges.
    """

    boot_id: str
    server_started: bool
    vswitchd_running: bool
    purged_before: bool
    always_purge: bool


class BootPlan(NamedTuple):
    """The changes, the names of the bridges that they purge, and why these are purged or stay.

    They `can_wait` where the switch was prepared in this boot before: it is right to bring it up without them.
    """

    changes: Changes
    purged: Tuple[str, ...]
    why: str
    can_wait: bool


def plan_boot(switch: Switch, identity: Identity, moment: Moment) -> BootPlan:
    """The one transaction of a boot. Planning again after it was applied, with both daemons running, gives no changes.

    XenServer expects no bridges after a boot, and its own tools make them anew; managers and SSL stay. The purge
    and the boot id that marks it as done are one transaction, so a start that failed before is retried whole.
    """
    row = switch.row or NO_ROW
    purge, why = _decide_purge(switch, row, moment)
    columns = (("ovs_version", identity.ovs_version), ("db_version", identity.db_version),
               ("system_type", identity.system_type), ("system_version", identity.system_version))
    wanted_ids = (("system-id", identity.system_id), ("xs-system-uuid", identity.system_id),
                  ("rundir", identity.rundir)) + identity.external_ids + ((BOOT_ID_KEY, moment.boot_id),)
    changes = Changes(
        columns=tuple((name, value) for name, value in columns if value and getattr(row, name) != value),
        external_ids=tuple((key, value) for key, value in dict(wanted_ids).items()
                           if value and row.external_ids.get(key) != value),
        drop_other_config=lease.keys_in(row.other_config),
        purge=purge,
        acknowledge=moment.server_started or not moment.vswitchd_running)
    can_wait = not purge and not changes.drop_other_config and row.external_ids.get(BOOT_ID_KEY) == moment.boot_id
    return BootPlan(changes, switch.bridges if purge else (), why, can_wait)


def _decide_purge(switch: Switch, row: SwitchRow, moment: Moment) -> Tuple[bool, str]:
    first_start_of_boot = row.external_ids.get(BOOT_ID_KEY) != moment.boot_id
    if not switch.bridges:
        return False, "no bridges to purge"
    if moment.vswitchd_running:
        return False, "%d bridges stay: ovs-vswitchd runs with them" % len(switch.bridges)
    if moment.always_purge:
        return True, "--delete-bridges asks for it at every start"
    if not first_start_of_boot:
        return False, "%d bridges stay: they are of this boot" % len(switch.bridges)
    if moment.purged_before:
        return False, "%d bridges stay: the old init script purged in this boot" % len(switch.bridges)
    return True, "first start of this boot"
