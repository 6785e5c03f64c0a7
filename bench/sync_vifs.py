"""VIFs as XAPI has them, the interfaces that plugging them in makes, and what a sync shall make of those. Pure.

Everything follows from a VIF's number, so that the bench and the fake XAPI in its own process know the same ones. Each
has a VM of its own, which is the most that XAPI could be asked about.
"""

import uuid
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

Ids = Dict[str, str]

BRIDGE = "xenbr0"
NETWORK_UUID = str(uuid.uuid5(uuid.NAMESPACE_DNS, BRIDGE))  # as the sandbox's XAPI has it
FIRST_DOMID = 1000  # beyond the VMs that the sandbox's XAPI has by itself


class Vif(NamedTuple):
    """A VIF, by its number from 0 on."""

    number: int

    @property
    def uuid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, "vif%d.bench" % self.number))

    @property
    def vm_uuid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, "vm%d.bench" % self.number))

    @property
    def other_config(self) -> Ids:
        """Every third one has an id of its own."""
        return {"nicira-iface-id": "port-%d" % self.number} if self.number % 3 == 0 else {}

    @property
    def vm_other_config(self) -> Ids:
        return {"nicira-vm-id": "instance-%d" % self.number} if self.number % 5 == 0 else {}

    @property
    def devices(self) -> Tuple[str, str]:
        """Names of its interfaces: the vif, and the tap, which a VM has until its own drivers run."""
        return "vif%d.0" % (FIRST_DOMID + self.number), "tap%d.0" % (FIRST_DOMID + self.number)

    @property
    def mac(self) -> str:
        return "00:16:3e:7f:%02x:%02x" % (self.number >> 8 & 255, self.number & 255)


def vifs(first: int, count: int) -> Tuple[Vif, ...]:
    return tuple(Vif(number) for number in range(first, first + count))


def plugged_ids(vif: Vif) -> Ids:
    """What XenServer's udev script gives the vif; the tap gets nothing."""
    return {"xs-vif-uuid": vif.uuid, "xs-vm-uuid": vif.vm_uuid, "xs-network-uuid": NETWORK_UUID,
            "attached-mac": vif.mac}


def wanted_ids(plugged: Iterable[Vif]) -> Dict[str, Ids]:
    """All external_ids that each interface shall have, by its name."""
    wanted = {}
    for vif in plugged:
        ids = dict(plugged_ids(vif))
        ids["iface-id"] = vif.other_config.get("nicira-iface-id", vif.uuid)
        ids["vm-id"] = vif.vm_other_config.get("nicira-vm-id", vif.vm_uuid)
        for device, status in zip(vif.devices, ("inactive", "active")):
            wanted[device] = dict(ids, **{"iface-status": status})
    return wanted


def plugging(plugged: Iterable[Vif]) -> List[Dict[str, Any]]:
    """The operations of one transaction."""
    operations: List[Dict[str, Any]] = []
    ports = []
    for vif in plugged:
        for device, ids in zip(vif.devices, (plugged_ids(vif), {})):
            name = device.replace(".", "_")
            ports.append(["named-uuid", "port_" + name])
            operations += _port(name, device, ids)
    return operations + [{"op": "mutate", "table": "Bridge", "where": [["name", "==", BRIDGE]],
                          "mutations": [["ports", "insert", ["set", ports]]]}]


def _port(name: str, device: str, ids: Ids) -> Iterator[Dict[str, Any]]:
    yield {"op": "insert", "table": "Interface", "uuid-name": "interface_" + name,
           "row": {"name": device, "external_ids": ["map", [list(pair) for pair in ids.items()]]}}
    yield {"op": "insert", "table": "Port", "uuid-name": "port_" + name,
           "row": {"name": device, "interfaces": ["named-uuid", "interface_" + name]}}


def first_wrong(wanted: Dict[str, Ids], found: Dict[str, Ids]) -> str:
    """One interface that is not as it shall be, in words; "" where there is none."""
    for name in sorted(wanted):
        there, shall = found.get(name), wanted[name]
        if there is None:
            return "%s is not there" % name
        keys = [key for key in sorted(set(shall) | set(there)) if shall.get(key) != there.get(key)]
        if keys:
            return "%s has %s" % (name, ", ".join("%s=%s instead of %s" % (key, there.get(key), shall.get(key))
                                                  for key in keys))
    return ""
