"""XAPI's nouns as values: pool, network, PIF, Bond, VLAN, tunnel, SDN_controller, VIF, VM.

Records come from one get_all_records for a class, and are read strictly: one that lacks a field, or has another type in
it, is an error that names it, never a guess. XAPI's integers arrive as text; older ones were typed, so both are taken.
Refs are opaque; one that points at nothing is NULL_REF. Every tuple is in the order of the uuids.
"""

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Callable, Dict, FrozenSet, Mapping, NamedTuple, Optional, Tuple, TypeVar

from ovsxen.errors import Refused, XapiFailure

if TYPE_CHECKING:
    from ovsxen.xapi.session import Xapi

NULL_REF = "OpaqueRef:NULL"
NO_VLAN = -1
NICIRA_IFACE, NICIRA_VM, NEUTRON = "nicira-iface-id", "nicira-vm-id", "neutron-port-uuid"
OWNERS_KEYS = (NICIRA_IFACE, NICIRA_VM, NEUTRON)
NO_KEYS: Mapping[str, str] = MappingProxyType({})
CLASS_UNKNOWN = "MESSAGE_METHOD_UNKNOWN"
INTEGER = re.compile(r"-?[0-9]{1,19}")
FLAGS: Dict[Any, bool] = {True: True, False: False, "true": True, "1": True, "false": False, "0": False}
REMEDY = "look at it with `xe` on this host, and report this with the version of XAPI"

Records = Mapping[str, Mapping[str, Any]]
T = TypeVar("T")


class Pool(NamedTuple):
    """The pool. `vswitch_controller` is a host's address or nothing, and stale where SDN_controller is known."""

    ref: str
    uuid: str
    master: str
    other_config: Dict[str, str]
    vswitch_controller: str


class Network(NamedTuple):
    """A network: `bridge` is the name of its bridge on every host, `pifs` are refs on all hosts of the pool."""

    ref: str
    uuid: str
    bridge: str
    mtu: int
    name_label: str
    other_config: Dict[str, str]
    pifs: Tuple[str, ...]


class Pif(NamedTuple):
    """A physical interface, a bond, a VLAN or a tunnel of one host. `vlan` is NO_VLAN where it is none."""

    ref: str
    uuid: str
    device: str
    network: str
    host: str
    mac: str
    mtu: int
    vlan: int
    physical: bool
    currently_attached: bool
    management: bool
    bond_slave_of: str
    bond_master_of: Tuple[str, ...]
    vlan_master_of: str
    vlan_slave_of: Tuple[str, ...]
    tunnel_access_pif_of: Tuple[str, ...]
    tunnel_transport_pif_of: Tuple[str, ...]
    ip_configuration_mode: str
    ip: str
    netmask: str
    gateway: str
    dns: str
    ipv6_configuration_mode: str
    other_config: Dict[str, str]


class Bond(NamedTuple):
    """A bond: `master` is the PIF that it makes, `slaves` are the PIFs that it is made of."""

    ref: str
    uuid: str
    master: str
    slaves: Tuple[str, ...]


class Vlan(NamedTuple):
    """A VLAN: `tagged_pif` lies below, its frames leave `untagged_pif` without the tag."""

    ref: str
    uuid: str
    tagged_pif: str
    untagged_pif: str
    tag: int


class Tunnel(NamedTuple):
    """A tunnel: `access_pif` is what it makes, `transport_pif` is what it goes over."""

    ref: str
    uuid: str
    access_pif: str
    transport_pif: str


class SdnController(NamedTuple):
    """What the switch shall connect to (protocol "ssl"), or be connected to from ("pssl", without address and port)."""

    ref: str
    uuid: str
    protocol: str
    address: str
    port: int


class Devices(NamedTuple):
    """What XAPI has of the devices of this host and of the pool's others, and which host this is."""

    host_ref: str
    pifs: Tuple[Pif, ...]
    bonds: Tuple[Bond, ...]
    vlans: Tuple[Vlan, ...]
    tunnels: Tuple[Tunnel, ...]


class Owner(NamedTuple):
    """A VIF or a VM, as far as ids of interfaces follow from it: of its other_config the keys in OWNERS_KEYS."""

    uuid: str
    other_config: Mapping[str, str]


class Known(NamedTuple):
    """What XAPI has of all that a sync is about. VIFs and VMs by their uuids; `sdn_controllers` is None where this XAPI
    does not know the class.
    """

    pools: Tuple[Pool, ...]
    networks: Tuple[Network, ...]
    sdn_controllers: Optional[Tuple[SdnController, ...]]
    vifs: Mapping[str, Owner]
    vms: Mapping[str, Owner]


class _Record(NamedTuple):
    """A record as XAPI gave it."""

    class_name: str
    ref: str
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        value = self._field(name)
        if isinstance(value, str):
            return value
        raise self._odd(name, "a text")

    def number(self, name: str) -> int:
        value = self._field(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and INTEGER.fullmatch(value):
            return int(value)
        raise self._odd(name, "a number")

    def flag(self, name: str) -> bool:
        value = self._field(name)
        if isinstance(value, (bool, str)) and value in FLAGS:
            return FLAGS[value]
        raise self._odd(name, "true or false")

    def refs(self, name: str) -> Tuple[str, ...]:
        value = self._field(name)
        if isinstance(value, list) and all(isinstance(ref, str) for ref in value):
            return tuple(value)
        raise self._odd(name, "a list of refs")

    def map(self, name: str) -> Dict[str, str]:
        value = self._field(name)
        if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
            return dict(value)
        raise self._odd(name, "a map of texts")

    def _field(self, name: str) -> Any:
        if name not in self.fields:
            raise Refused("XAPI's record %s of class %s has no %s" % (ascii(self.ref), self.class_name, name), REMEDY)
        return self.fields[name]

    def _odd(self, name: str, expected: str) -> Refused:
        return Refused("XAPI's record %s of class %s has %s in %s, and not %s" % (
            ascii(self.ref), self.class_name, ascii(self.fields[name])[:80], name, expected), REMEDY)


def read_pools(xapi: "Xapi") -> Tuple[Pool, ...]:
    """One, on a sane host. These functions raise what Xapi.read_all raises, and Refused for an odd record."""
    return parse_pools(xapi.read_all("pool"))


def read_networks(xapi: "Xapi") -> Tuple[Network, ...]:
    return parse_networks(xapi.read_all("network"))


def read_pifs(xapi: "Xapi") -> Tuple[Pif, ...]:
    """Those of every host of the pool."""
    return parse_pifs(xapi.read_all("PIF"))


def read_bonds(xapi: "Xapi") -> Tuple[Bond, ...]:
    return parse_bonds(xapi.read_all("Bond"))


def read_vlans(xapi: "Xapi") -> Tuple[Vlan, ...]:
    return parse_vlans(xapi.read_all("VLAN"))


def read_tunnels(xapi: "Xapi") -> Tuple[Tunnel, ...]:
    return parse_tunnels(xapi.read_all("tunnel"))


def read_sdn_controllers(xapi: "Xapi") -> Optional[Tuple[SdnController, ...]]:
    """None where this XAPI does not know the class (before XenServer 7.2); that is not the same as none of them."""
    try:
        return parse_sdn_controllers(xapi.read_all("SDN_controller"))
    except XapiFailure as failure:
        if failure.code == CLASS_UNKNOWN:
            return None
        raise


def read_host_ref(xapi: "Xapi", uuid: str) -> str:
    """The ref of the host that has this uuid (INSTALLATION_UUID in /etc/xensource-inventory). Raises XapiFailure."""
    ref = xapi.call("host.get_by_uuid", uuid)
    if not isinstance(ref, str):
        raise Refused("XAPI gave %s, and not a ref, for the host %s" % (ascii(ref)[:80], ascii(uuid)), REMEDY)
    return ref


def read_devices(xapi: "Xapi", host_uuid: str) -> Devices:
    """One call for each class, and one for the host."""
    return Devices(read_host_ref(xapi, host_uuid), read_pifs(xapi), read_bonds(xapi), read_vlans(xapi),
                   read_tunnels(xapi))


def parse_pools(records: Records) -> Tuple[Pool, ...]:
    return _parse("pool", records, _pool)


def parse_networks(records: Records) -> Tuple[Network, ...]:
    return _parse("network", records, _network)


def parse_pifs(records: Records) -> Tuple[Pif, ...]:
    return _parse("PIF", records, _pif)


def parse_bonds(records: Records) -> Tuple[Bond, ...]:
    return _parse("Bond", records, lambda record: Bond(
        record.ref, record.text("uuid"), record.text("master"), record.refs("slaves")))


def parse_vlans(records: Records) -> Tuple[Vlan, ...]:
    return _parse("VLAN", records, lambda record: Vlan(
        record.ref, record.text("uuid"), record.text("tagged_PIF"), record.text("untagged_PIF"), record.number("tag")))


def parse_tunnels(records: Records) -> Tuple[Tunnel, ...]:
    return _parse("tunnel", records, lambda record: Tunnel(
        record.ref, record.text("uuid"), record.text("access_PIF"), record.text("transport_PIF")))


def parse_sdn_controllers(records: Records) -> Tuple[SdnController, ...]:
    return _parse("SDN_controller", records, _sdn_controller)


def parse_record(class_name: str, ref: str, fields: Any) -> Any:
    """One record of a class in FOLLOWED, which may have its FOLLOWED fields alone. Raises Refused."""
    if not isinstance(fields, Mapping):
        raise _no_record(class_name, ref, fields)
    return NOUNS[class_name](_Record(class_name, ref, fields))


def _parse(class_name: str, records: Records, noun: Callable[[_Record], T]) -> Tuple[T, ...]:
    for ref, fields in records.items():
        if not isinstance(fields, Mapping):
            raise _no_record(class_name, ref, fields)
    read = (_Record(class_name, ref, fields) for ref, fields in records.items())
    return tuple(noun(record) for record in sorted(read, key=lambda record: (record.text("uuid"), record.ref)))


def _no_record(class_name: str, ref: str, fields: Any) -> Refused:
    return Refused("XAPI's record %s of class %s is %s, and not a record" % (
        ascii(ref), class_name, ascii(fields)[:80]), REMEDY)


def _owner(record: _Record) -> Owner:
    """A pool has thousands of them, most of them without any of these keys."""
    kept = {key: value for key, value in record.map("other_config").items() if key in OWNERS_KEYS}
    return Owner(record.text("uuid"), kept or NO_KEYS)


def _sdn_controller(record: _Record) -> SdnController:
    return SdnController(record.ref, record.text("uuid"), record.text("protocol"), record.text("address"),
                         record.number("port"))


def _pool(record: _Record) -> Pool:
    return Pool(
        ref=record.ref,
        uuid=record.text("uuid"),
        master=record.text("master"),
        other_config=record.map("other_config"),
        # Deprecated since XenServer 7.2: a XAPI that has dropped it knows SDN_controller.
        vswitch_controller=record.text("vswitch_controller") if "vswitch_controller" in record.fields else "",
    )


def _network(record: _Record) -> Network:
    return Network(
        ref=record.ref,
        uuid=record.text("uuid"),
        bridge=record.text("bridge"),
        mtu=record.number("MTU"),
        name_label=record.text("name_label"),
        other_config=record.map("other_config"),
        pifs=record.refs("PIFs"),
    )


def _pif(record: _Record) -> Pif:
    return Pif(
        ref=record.ref,
        uuid=record.text("uuid"),
        device=record.text("device"),
        network=record.text("network"),
        host=record.text("host"),
        mac=record.text("MAC"),
        mtu=record.number("MTU"),
        vlan=record.number("VLAN"),
        physical=record.flag("physical"),
        currently_attached=record.flag("currently_attached"),
        management=record.flag("management"),
        bond_slave_of=record.text("bond_slave_of"),
        bond_master_of=record.refs("bond_master_of"),
        vlan_master_of=record.text("VLAN_master_of"),
        vlan_slave_of=record.refs("VLAN_slave_of"),
        tunnel_access_pif_of=record.refs("tunnel_access_PIF_of"),
        tunnel_transport_pif_of=record.refs("tunnel_transport_PIF_of"),
        ip_configuration_mode=record.text("ip_configuration_mode"),
        ip=record.text("IP"),
        netmask=record.text("netmask"),
        gateway=record.text("gateway"),
        dns=record.text("DNS"),
        ipv6_configuration_mode=record.text("ipv6_configuration_mode"),
        other_config=record.map("other_config"),
    )


NOUNS: Dict[str, Callable[[_Record], Any]] = {
    "pool": _pool, "SDN_controller": _sdn_controller, "network": _network, "VIF": _owner, "VM": _owner}

FOLLOWED: Dict[str, FrozenSet[str]] = {
    "pool": frozenset(("uuid", "master", "other_config", "vswitch_controller")),
    "SDN_controller": frozenset(("uuid", "protocol", "address", "port")),
    "network": frozenset(("uuid", "bridge", "MTU", "name_label", "other_config", "PIFs")),
    "VIF": frozenset(("uuid", "other_config")),
    "VM": frozenset(("uuid", "other_config")),
}
"""The classes that a sync follows, and the fields that it needs of them."""
