"""Pure: the external_ids that controllers look for, and what must be written for them. The rules of a sync; read aloud.

An id is looked up by the XAPI uuid that a row carries, never by its name or domid, which XAPI knows late. What XAPI
does not say now stays as it was: no id is emptied because somebody was away. Only keys that are ours are touched.
Sources: ovs-xapi-sync (Open vSwitch 2.17) and its lessons (72238868c, c6b547cd4, e9ade0fee, 753a774f5, 83d75d32c).
"""

import re
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from ovsxen.ovs.labels import BRIDGE, INTERFACE, LabelledBridge, LabelledInterface, Labels, Relabelling
from ovsxen.wishes import DISABLE_IN_BAND, FAIL_MODE, IN_BAND_KEY, NETWORK_UUIDS_KEY, networks_by_bridge, wish_for
from ovsxen.xapi.records import NEUTRON, NICIRA_IFACE, NICIRA_VM, Known, Network, Owner, SdnController

DEVICE = re.compile(r"(vif|tap)([0-9]+\.[0-9]+)")
VIF_UUID, VM_UUID = "xs-vif-uuid", "xs-vm-uuid"
COPIED = ("attached-mac", "xs-network-uuid", VIF_UUID, VM_UUID)
BRIDGE_ID, IFACE_ID, VM_ID, IFACE_STATUS = "bridge-id", "iface-id", "vm-id", "iface-status"
NICIRA_BRIDGE = "nicira-bridge-id"
NEUTRON_PUBLISHED, NEUTRON_AS_IFACE_ID = "publish", "iface-id"

Keys = Dict[str, Optional[str]]
"""What shall become of keys; None: it shall not be there."""


class Written(NamedTuple):
    """The ids that a row may have by our doing: several where it is not certain which of them was written last."""

    iface_ids: Tuple[str, ...] = ()
    vm_ids: Tuple[str, ...] = ()
    bridge_ids: Tuple[str, ...] = ()
    neutron_ids: Tuple[str, ...] = ()


class Memory(NamedTuple):
    """What was last known: ids by the uuids of VIFs and VMs that are in use, and by a row's uuid what it has by us.
    Each vif and tap that has been seen is among the rows.
    """

    iface_ids: Mapping[str, str] = {}
    vm_ids: Mapping[str, str] = {}
    neutron_ids: Mapping[str, str] = {}
    rows: Mapping[str, Written] = {}


class SyncPlan(NamedTuple):
    """What to write; what to remember; which uuids XAPI is to be asked about, and their classes (`lacking`); what
    somebody should see.
    """

    edits: Tuple[Relabelling, ...]
    memory: Memory
    unknown: Tuple[str, ...]
    lacking: Tuple[str, ...]
    notes: Tuple[str, ...]


class Demand(NamedTuple):
    """What XAPI asks of an update: where it differs from before, one is due."""

    vswitch_controller: str
    sdn_controllers: Optional[Tuple[SdnController, ...]]
    pool_fail_mode: str
    networks: Tuple[Tuple[str, str, str], ...]


def demand_of(known: Known) -> Demand:
    """Of the pool, its controllers and its networks, what plan.py decides by."""
    controllers = known.sdn_controllers
    return Demand(
        ";".join(pool.vswitch_controller for pool in known.pools) if controllers is None else "", controllers,
        _pool_fail_mode(known),
        tuple(sorted((network.bridge, network.other_config.get(FAIL_MODE, ""),
                      network.other_config.get(DISABLE_IN_BAND, "")) for network in known.networks)))


def _pool_fail_mode(known: Known) -> str:
    return known.pools[0].other_config.get(FAIL_MODE, "") if len(known.pools) == 1 else ""


def differing_bridges(labels: Labels, known: Known, agreed: Set[str]) -> Dict[str, str]:
    """Names, by their uuids, of bridges that nobody has made agree yet (`agreed` has the uuids of the others) and of
    which XAPI wants another fail mode or in-band control, by the rule of an update: one is due.
    """
    networks = networks_by_bridge(known.networks)
    found = {}
    for bridge in labels.bridges:
        if bridge.uuid not in agreed and bridge.name in networks:
            wish = wish_for(bridge, networks[bridge.name], _pool_fail_mode(known))
            if wish is not None and wish != (bridge.fail_mode, bridge.other_config.get(IN_BAND_KEY)):
                found[bridge.uuid] = bridge.name
    return found


def plan_sync(labels: Labels, known: Optional[Known], memory: Memory, neutron: str,
              is_settled: Callable[[str], bool]) -> SyncPlan:
    """All that differs from the rules. Planning again after it was written gives no edits.

    `known` is None before XAPI has ever answered. `is_settled` tells of a uuid whether XAPI has been asked for it, or
    cannot be: only then does one that it does not know get its default, the uuid itself. `neutron`: a word of the
    setting NEUTRON_PORT_UUID.
    """
    planner = _Planner(known, memory, neutron, is_settled)
    edits = list(planner.bridges(labels.bridges)) + list(planner.interfaces(labels.interfaces))
    return SyncPlan(tuple(edits), Memory(planner.iface_ids, planner.vm_ids, planner.neutron_ids, planner.rows),
                    tuple(sorted(planner.unknown)), tuple(sorted(set(planner.unknown.values()))), tuple(planner.notes))


class _Planner:
    """One pass over both tables, and what it finds out."""

    def __init__(self, known: Optional[Known], memory: Memory, neutron: str, is_settled: Callable[[str], bool]) -> None:
        self._known = known
        self._before = memory
        self._neutron = neutron
        self._is_settled = is_settled
        self._found_iface_ids: Dict[str, str] = {}
        self._found_vm_ids: Dict[str, str] = {}
        self.iface_ids: Dict[str, str] = {}
        self.vm_ids: Dict[str, str] = {}
        self.neutron_ids: Dict[str, str] = {}
        self.rows: Dict[str, Written] = {}
        self._written: Dict[Written, Written] = {}  # a vif and its tap have the same: they share it
        self.unknown: Dict[str, str] = {}
        self.notes: List[str] = []

    # Bridges

    def bridges(self, bridges: Tuple[LabelledBridge, ...]) -> Iterator[Relabelling]:
        networks = networks_by_bridge(self._known.networks) if self._known else {}
        for bridge in bridges:
            keys = self._bridge_keys(bridge, networks.get(bridge.name, []))
            yield from _edit(BRIDGE, bridge.uuid, bridge.name, bridge.external_ids, keys)

    def _bridge_keys(self, bridge: LabelledBridge, networks: List[Network]) -> Keys:
        """The network's own word; else the uuid of the bridge's network, which is the only one, or the one of several
        (VLANs have theirs on the same bridge) that XAPI has on a bridge of that name.
        """
        now = bridge.external_ids.get(BRIDGE_ID, "")
        uuids = [uuid for uuid in bridge.external_ids.get(NETWORK_UUIDS_KEY, "").split(";") if uuid]
        before = self._before.rows.get(bridge.uuid, Written())
        candidates = sorted({network.other_config[NICIRA_BRIDGE] for network in networks
                             if network.other_config.get(NICIRA_BRIDGE)})
        if not candidates and len(uuids) == 1 and (self._known is not None or not now):
            candidates = uuids
        if not candidates and len(uuids) > 1:
            candidates = sorted(network.uuid for network in networks if network.uuid in uuids)
            if not candidates:
                self._tell_ambiguous(bridge)
        if candidates:
            chosen = now if now in candidates else candidates[0]
            self.rows[bridge.uuid] = Written(bridge_ids=_given(before.bridge_ids, now, chosen))
            return {BRIDGE_ID: chosen}
        if before.bridge_ids:
            self.rows[bridge.uuid] = before
            if not uuids and now in before.bridge_ids and self._known is not None:
                return {BRIDGE_ID: None}
        return {}

    def _tell_ambiguous(self, bridge: LabelledBridge) -> None:
        if self._known is not None:
            self.notes.append(
                "bridge %s has several networks (%s), and XAPI has none of them on a bridge of that name, so its %s "
                "stays as it is: look with `xe network-list bridge=%s`" % (
                    bridge.name, bridge.external_ids[NETWORK_UUIDS_KEY], BRIDGE_ID, bridge.name))

    # Interfaces

    def interfaces(self, interfaces: Tuple[LabelledInterface, ...]) -> Iterator[Relabelling]:
        """Each vif before its tap, which takes after it."""
        vifs: Dict[str, LabelledInterface] = {}
        with_tap: Set[str] = set()
        taps: List[Tuple[str, LabelledInterface]] = []
        others: List[LabelledInterface] = []
        rows = sorted(interfaces, key=lambda row: row.name, reverse=True)  # where both have an id, the vif's is found
        self._find_ids(rows)
        for interface in rows:
            device = DEVICE.fullmatch(interface.name)
            if device is None:
                others.append(interface)
            elif device.group(1) == "vif":
                vifs[device.group(2)] = interface
            else:
                taps.append((device.group(2), interface))
                with_tap.add(device.group(2))
        for number, vif in vifs.items():
            yield from self._relabel(vif, vif, {IFACE_STATUS: "inactive" if number in with_tap else "active"})
        for number, tap in taps:
            owner = vifs.get(number)
            copied: Keys = {IFACE_STATUS: None}
            if owner is not None:
                copied = {key: owner.external_ids.get(key) or None for key in COPIED}
                copied[IFACE_STATUS] = "active"
            yield from self._relabel(tap, owner or tap, copied)
        for interface in others:
            if interface.uuid in self._before.rows or VIF_UUID in interface.external_ids \
                    or VM_UUID in interface.external_ids:
                yield from self._relabel(interface, interface, {})

    def _relabel(self, interface: LabelledInterface, owner: LabelledInterface, keys: Keys) -> Iterator[Relabelling]:
        """The ids of an interface, by what its `owner` carries: itself, or its vif."""
        before = self._before.rows.get(interface.uuid, Written())
        there = interface.external_ids
        vif_uuid, vm_uuid = owner.external_ids.get(VIF_UUID, ""), owner.external_ids.get(VM_UUID, "")
        looked_up = DEVICE.fullmatch(interface.name) is not None
        if not looked_up and vif_uuid:
            keys[IFACE_STATUS] = None
        iface_ids, vm_ids = before.iface_ids, before.vm_ids
        if vif_uuid:
            keys[IFACE_ID] = self._iface_id(vif_uuid) if looked_up else vif_uuid
            iface_ids = _given(iface_ids, _id_for(there, IFACE_ID, VIF_UUID), keys[IFACE_ID] or "")
        elif _is_ours(there, IFACE_ID, VIF_UUID, iface_ids, keys):
            keys[IFACE_ID] = None
        if vm_uuid:
            keys[VM_ID] = self._vm_id(vm_uuid) if looked_up else vm_uuid
            vm_ids = _given(vm_ids, _id_for(there, VM_ID, VM_UUID), keys[VM_ID] or "")
        elif _is_ours(there, VM_ID, VM_UUID, vm_ids, keys):
            keys[VM_ID] = None
        neutron_ids = before.neutron_ids
        if looked_up and interface.name.startswith("vif"):
            port = self._neutron_port(vif_uuid)
            if port:
                keys[NEUTRON] = port
                neutron_ids = _given(neutron_ids, there.get(NEUTRON, ""), port)
            elif there.get(NEUTRON) in neutron_ids:
                keys[NEUTRON] = None
        if looked_up or iface_ids or vm_ids:
            after = Written(iface_ids, vm_ids, neutron_ids=neutron_ids)
            self.rows[interface.uuid] = before if after == before else self._written.setdefault(after, after)
        if "" not in (keys.get(IFACE_ID), keys.get(VM_ID)):  # else XAPI's word is awaited, for all of the row
            yield from _edit(INTERFACE, interface.uuid, interface.name, there, keys)

    def _find_ids(self, interfaces: List[LabelledInterface]) -> None:
        """The ids of vifs and taps that are seen for the first time, and carry the uuid for it: an earlier sync wrote
        them.
        """
        for interface in interfaces:
            if interface.uuid not in self._before.rows and DEVICE.fullmatch(interface.name):
                there = interface.external_ids
                for found, key, uuid_key in ((self._found_iface_ids, IFACE_ID, VIF_UUID),
                                             (self._found_vm_ids, VM_ID, VM_UUID)):
                    if there.get(uuid_key) and there.get(key):
                        found.setdefault(there[uuid_key], there[key])

    def _iface_id(self, uuid: str) -> str:
        """What there is (or "" for: not yet to be said) where XAPI does not tell."""
        vif = self._known.vifs.get(uuid) if self._known else None
        own = None if vif is None else self._override_of(vif)
        return self._chosen("VIF", uuid, own, self._before.iface_ids, self._found_iface_ids, self.iface_ids)

    def _override_of(self, vif: Owner) -> str:
        own = vif.other_config.get(NICIRA_IFACE, "")
        return own or (vif.other_config.get(NEUTRON, "") if self._neutron == NEUTRON_AS_IFACE_ID else "")

    def _vm_id(self, uuid: str) -> str:
        vm = self._known.vms.get(uuid) if self._known else None
        own = None if vm is None else vm.other_config.get(NICIRA_VM, "")
        return self._chosen("VM", uuid, own, self._before.vm_ids, self._found_vm_ids, self.vm_ids)

    def _chosen(self, class_name: str, uuid: str, own: Optional[str], last: Mapping[str, str],
                found: Mapping[str, str], remembered: Dict[str, str]) -> str:
        """XAPI's word (`own`; None where it does not know the uuid), else the last that was known, else what was found,
        else the uuid itself, once it is certain that there is nothing to wait for.
        """
        if own is not None:
            remembered[uuid] = own or uuid
            return remembered[uuid]
        chosen = last.get(uuid) or found.get(uuid, "")
        if not self._is_settled(uuid):
            self.unknown[uuid] = class_name
        elif not chosen:
            chosen = uuid
        if chosen:
            remembered[uuid] = chosen
        return chosen

    def _neutron_port(self, vif_uuid: str) -> str:
        """What the vif of a VIF is to publish, if anything; the last that was known where XAPI does not know the VIF.
        What XenServer and XCP-ng ship under this daemon's name does so (their 2.17.7, patch 14).
        """
        if self._neutron != NEUTRON_PUBLISHED or not vif_uuid:
            return ""
        vif = self._known.vifs.get(vif_uuid) if self._known else None
        port = self._before.neutron_ids.get(vif_uuid, "") if vif is None else (
            vif.other_config.get(NEUTRON) or vif.other_config.get(NICIRA_IFACE) or "")
        if port:
            self.neutron_ids[vif_uuid] = port
        return port


def _id_for(there: Mapping[str, str], key: str, uuid_key: str) -> str:
    """The id of a row that carries the uuid for it, so that it is ours; "" without."""
    return there.get(key, "") if there.get(uuid_key) else ""


def _given(before: Tuple[str, ...], now: str, chosen: str) -> Tuple[str, ...]:
    """What a row may have by us, where `now` is what it has and `chosen` what is about to be written."""
    if now == chosen:
        return (chosen,) if chosen else ()
    return tuple(sorted(set(before) | {one for one in (now, chosen) if one}))


def _is_ours(there: Mapping[str, str], key: str, uuid_key: str, given: Tuple[str, ...], keys: Keys) -> bool:
    """An id without the uuid that it is for: it goes where we wrote it, or where the uuid goes with this very edit;
    else it belongs to somebody else.
    """
    if key not in there:
        return False
    return there[key] in given or bool(there.get(uuid_key)) and uuid_key in keys


def _edit(table: str, uuid: str, name: str, there: Mapping[str, str], keys: Keys) -> Iterator[Relabelling]:
    """What differs, if anything."""
    sets = tuple((key, value) for key, value in keys.items() if value is not None and there.get(key) != value)
    drops = tuple(key for key, value in keys.items() if value is None and key in there)
    if sets or drops:
        yield Relabelling(table, uuid, name, sets, drops)
