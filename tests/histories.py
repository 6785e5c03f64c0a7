"""Random histories of a host's bridges, vifs and taps and of XAPI's records, and an oracle for what is right.

A history is a list of steps. The oracle looks at the rows as they are, and knows nothing of how they came about, but
which ids XAPI has ever given to a uuid.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from hypothesis import strategies as st

from ovsxen.xapi.records import Known, Network, Owner, Pool

Ids = Dict[str, str]

VIFS = tuple("vif-uuid-%d" % number for number in range(4))
VMS = ("vm-uuid-0", "vm-uuid-1")
NETWORKS = tuple("network-uuid-%d" % number for number in range(3))
BRIDGES = ("xenbr8", "xenbr9")
DEVICES = ("vif1.0", "tap1.0", "vif1.1", "vif2.0", "tap2.0")
OTHERS = ("eth7", "nic1.0")
STRANGERS_ID = "of-somebody-else"
COPIED = ("attached-mac", "xs-network-uuid", "xs-vif-uuid", "xs-vm-uuid")
OURS = ("iface-id", "vm-id", "iface-status")


class Step(NamedTuple):
    """What somebody does: the action, what it is done to, and two words for it."""

    action: str
    name: str
    one: str = ""
    two: str = ""


def _steps(action: str, names: Tuple[str, ...], ones: Tuple[str, ...] = ("",),
           twos: Tuple[str, ...] = ("",)) -> "st.SearchStrategy[Step]":
    return st.builds(Step, st.just(action), st.sampled_from(names), st.sampled_from(ones), st.sampled_from(twos))


LISTS = ("", NETWORKS[0], NETWORKS[1], ";".join(NETWORKS[:2]), ";".join(reversed(NETWORKS[:2])), ";".join(NETWORKS))
OVERRIDES = ("", "override-a", "override-b")
PLUG = _steps("plug", DEVICES + OTHERS, ("",) + VIFS, ("",) + VMS)
STEPS = st.one_of(
    PLUG, PLUG, _steps("unplug", DEVICES + OTHERS), _steps("carry", DEVICES + OTHERS, ("",) + VIFS, ("",) + VMS),
    _steps("bridge", BRIDGES, LISTS), _steps("no bridge", BRIDGES), _steps("VIF", VIFS, OVERRIDES),
    _steps("no VIF", VIFS), _steps("VM", VMS, OVERRIDES), _steps("no VM", VMS),
    _steps("network", NETWORKS, BRIDGES, OVERRIDES), _steps("no network", NETWORKS), _steps("away", ("",)),
    _steps("back", ("",)))
"""`plug` makes a row anew, also where there is one: it is deleted and added in one. `carry` changes what it carries."""


class Site:
    """What the toolstack and XAPI have done so far. `ever`: the ids that XAPI has given to a uuid at some time."""

    def __init__(self) -> None:
        self.interfaces: Dict[str, Ids] = {}
        self.bridges: Dict[str, str] = {}
        self.vifs: Dict[str, str] = {}
        self.vms: Dict[str, str] = {}
        self.networks: Dict[str, Tuple[str, str]] = {}
        self.is_away = False
        self.ever: Dict[str, Set[str]] = {}
        self.once_on: Dict[str, Set[str]] = {}

    def take(self, step: Step) -> bool:
        """Tells whether the step was possible."""
        action, name, one, two = step
        if action == "plug":
            self.interfaces[name] = carried(one, two)
        elif action == "carry" and name in self.interfaces:
            self.interfaces[name] = dict({key: value for key, value in self.interfaces[name].items()
                                          if key not in COPIED}, **carried(one, two, stranger=False))
        elif action == "unplug":
            return self.interfaces.pop(name, None) is not None
        elif action == "bridge":
            self.bridges[name] = one
        elif action == "no bridge":
            return self.bridges.pop(name, None) is not None
        elif action in ("VIF", "VM"):
            (self.vifs if action == "VIF" else self.vms)[name] = one
            self.ever.setdefault(name, set()).add(one or name)
        elif action == "network":
            self.networks[name] = one, two
            self.once_on.setdefault(one, set()).add(two or name)
        elif action in ("no VIF", "no VM", "no network"):
            tables: Dict[str, Dict[str, Any]] = {"no VIF": self.vifs, "no VM": self.vms, "no network": self.networks}
            return tables[action].pop(name, None) is not None
        elif action in ("away", "back"):
            was, self.is_away = self.is_away, action == "away"
            return was != self.is_away
        return action != "carry" or name in self.interfaces

    def known(self) -> Known:
        """What XAPI tells of it."""
        def owners(records: Mapping[str, str], override: str) -> Dict[str, Owner]:
            return {uuid: Owner(uuid, {override: own} if own else {}) for uuid, own in records.items()}

        networks = tuple(Network("ref " + uuid, uuid, bridge, 1500, "", {"nicira-bridge-id": own} if own else {}, ())
                         for uuid, (bridge, own) in sorted(self.networks.items()))
        return Known((Pool("ref pool", "pool", "", {}, ""),), networks, (), owners(self.vifs, "nicira-iface-id"),
                     owners(self.vms, "nicira-vm-id"))


def carried(vif: str, vm: str, *, stranger: bool = True) -> Ids:
    """What the toolstack writes into a row; one without a VIF is of somebody else, who has an id for it."""
    ids = {"attached-mac": "mac of " + vif, "xs-vif-uuid": vif} if vif else {}
    if not vif and stranger:
        ids["iface-id"] = STRANGERS_ID
    return dict(ids, **{"xs-vm-uuid": vm} if vm else {})


# The oracle

def complaints(site: Site, interfaces: Mapping[str, Ids], bridges: Mapping[str, Ids]) -> List[str]:
    """What is wrong with the rows as they are, once everybody has come to rest and XAPI is there."""
    wrong = []
    if set(interfaces) != set(site.interfaces) or set(bridges) != set(site.bridges):
        wrong.append("rows came or went: %s, %s" % (sorted(interfaces), sorted(bridges)))
    for name, ids in interfaces.items():
        for key, right in right_of_interface(site, interfaces, name).items():
            if ids.get(key) not in right:
                wrong.append("%s %s is %s, and not of %s" % (name, key, ids.get(key), right))
        if "" in ids.values():
            wrong.append("%s has an empty id: %s" % (name, ids))
    for name, ids in bridges.items():
        right = right_of_bridge(site, name, ids.get("xs-network-uuids", ""))
        if ids.get("bridge-id") not in right:
            wrong.append("%s is %s, and not of %s" % (name, ids.get("bridge-id"), right))
    return wrong


def right_of_interface(site: Site, interfaces: Mapping[str, Ids], name: str) -> Dict[str, Set[Optional[str]]]:
    """By key, the values that are right; None for none."""
    ids, kind, number = interfaces[name], name[:3], name[3:]
    is_device = name in DEVICES
    vif = interfaces.get("vif" + number) if kind == "tap" else None
    toolstack = vif if vif is not None else site.interfaces[name] if kind != "tap" else ids
    right: Dict[str, Set[Optional[str]]] = {key: {toolstack.get(key)} for key in COPIED}
    for key, uuid_key, records in (("iface-id", "xs-vif-uuid", site.vifs), ("vm-id", "xs-vm-uuid", site.vms)):
        uuid = toolstack.get(uuid_key)
        if uuid is None:
            right[key] = {None, STRANGERS_ID} if key == "iface-id" else {None}
        elif not is_device:
            right[key] = {uuid}
        elif uuid in records:
            right[key] = {records[uuid] or uuid}
        else:
            right[key] = {uuid}
            right[key].update(site.ever.get(uuid, ()))
    if kind == "vif":
        right["iface-status"] = {"inactive" if "tap" + number in interfaces else "active"}
    else:
        right["iface-status"] = {"active" if vif is not None else None}
    return right


def right_of_bridge(site: Site, name: str, networks: str) -> Set[Optional[str]]:
    """`networks` is the bridge's list: an update may have written it anew."""
    uuids = [uuid for uuid in networks.split(";") if uuid]
    on_it = {uuid: own for uuid, (bridge, own) in site.networks.items() if bridge == name}
    overrides = {own for own in on_it.values() if own}
    if overrides:
        return set(overrides)
    if len(uuids) < 2:
        return set(uuids) or {None}
    matching = set(uuids) & set(on_it)
    if matching:
        return set(matching)
    kept: Set[Optional[str]] = {None}  # XAPI has none of them on it: it keeps what it had, maybe by another list
    kept.update(NETWORKS, site.once_on.get(name, ()))
    return kept
