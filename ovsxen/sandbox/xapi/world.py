"""A believable pool as a value: hosts, their NICs, a network with its bridge for each, bonds, VLANs, tunnels, VMs.

Every uuid, ref and MAC follows from a name, so that two worlds made alike are alike. Host 0 is the one that the sandbox
is; its bridges are those that contents.py leaves in conf.db, down to the MACs and the networks' uuids.
"""

import uuid
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ovsxen.sandbox.contents import INSTALLATION_UUID
from ovsxen.sandbox.xapi.database import Row

BACKEND = "openvswitch"
FIRST_TAG = 100
VLAN_MAC = "fe:ff:ff:ff:ff:ff"  # what XAPI has for the PIF of every VLAN
MANAGEMENT_ADDRESS = "192.0.2.%d"
VERSIONS = {"product_brand": "XCP-ng", "product_version": "8.3.0", "product_version_text": "8.3",
            "build_number": "cloud", "platform_name": "XCP", "platform_version": "3.4.0", "xapi": "24.19"}


class World(NamedTuple):
    """The rows of a pool, and the host in it whose XAPI is asked."""

    rows: Tuple[Row, ...]
    host_uuid: str
    sdn_controller_class: bool


def make_world(host_uuid: str = INSTALLATION_UUID, networks: int = 3, vlans: int = 0, bond: bool = False,
               hosts: int = 1, *, management: str = "", master: int = 0, tunnels: int = 0, vms: Optional[int] = None,
               sdn_controller_class: bool = True, backend: str = BACKEND) -> World:
    """A pool of `hosts` hosts with `networks` NICs each, and a VM on each of the first `vms` networks (None: on all).

    `management` is the device that has the address: eth0, else bond0 (which `bond` makes of eth0 and eth1), or a VLAN
    by its tag as in "vlan100"; tags count from 100. `master` is the number of the master; host 0 is this one. A bond
    makes it two NICs at least.
    """
    networks = max(networks, 2) if bond else networks
    maker = _Maker(management or ("bond0" if bond else "eth0"))
    host_refs = [maker.add_host(number, host_uuid if number == 0 else _uuid("host", "host%d" % number), backend)
                 for number in range(hosts)]
    maker.add("pool", "pool", name_label="sandbox", master=host_refs[master], ha_enabled=False)
    maker.add_nics(host_refs, networks)
    if bond:
        maker.add_bond(host_refs)
    maker.add_vlans(host_refs, vlans, networks)
    maker.add_tunnels(host_refs, tunnels)
    maker.add("network", "internal", name_label="Internal network", bridge=maker.next_bridge())
    maker.add_vms(host_refs[0], networks if vms is None else vms)
    return World(maker.rows(), host_uuid, sdn_controller_class)


def ref_of(class_name: str, name: str) -> str:
    """The ref of a row of a made world: "network" and its bridge, "host" and its number, "PIF" and "host0 eth0"."""
    return "OpaqueRef:" + _uuid(class_name + " ref", name)


def mac_of(host: int, nic: int) -> str:
    """A NIC's MAC. Those of host 0 are what contents.py gives the bridges."""
    return "00:16:%02x:%02x:%02x:%02x" % (0x3e + host & 255, nic >> 16 & 255, nic >> 8 & 255, nic & 255)


def _uuid(class_name: str, name: str) -> str:
    if class_name == "network":
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))  # as contents.py has it in the bridges' external_ids
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, "%s.%s.sandbox" % (name.replace(" ", "."), class_name.replace(" ", "."))))


class _Maker:
    """Collects rows, and keeps both ends of what refers to each other."""

    def __init__(self, management: str) -> None:
        self._management = management
        self._rows: Dict[str, Tuple[str, Dict[str, Any]]] = {}
        self._bridges = 0

    def rows(self) -> Tuple[Row, ...]:
        return tuple(Row(class_name, ref, fields) for ref, (class_name, fields) in self._rows.items())

    def add(self, class_name: str, name: str, **fields: Any) -> str:
        ref = ref_of(class_name, name)
        self._rows[ref] = (class_name, dict({"uuid": _uuid(class_name, name)}, **fields))
        return ref

    def next_bridge(self) -> str:
        """XAPI numbers the bridges of networks that no NIC has."""
        self._bridges += 1
        return "xapi%d" % (self._bridges - 1)

    def add_host(self, number: int, host_uuid: str, backend: str) -> str:
        return self.add("host", "host%d" % number, uuid=host_uuid, name_label="host%d" % number,
                        hostname="host%d" % number, address=MANAGEMENT_ADDRESS % (101 + number),
                        software_version=dict(VERSIONS, network_backend=backend))

    def add_nics(self, hosts: List[str], count: int) -> None:
        for nic in range(count):
            bridge = "xenbr%d" % nic
            network = self._network(bridge, "Pool-wide network associated with eth%d" % nic)
            for number, host in enumerate(hosts):
                self._pif(number, host, "eth%d" % nic, network, MAC=mac_of(number, nic), physical=True)

    def add_bond(self, hosts: List[str]) -> None:
        """bond0 of eth0 and eth1."""
        network = self._network(self.next_bridge(), "Bond 0+1")
        for number, host in enumerate(hosts):
            slaves = [ref_of("PIF", "host%d eth%d" % (number, nic)) for nic in range(2)]
            bond = ref_of("Bond", "host%d bond0" % number)
            master = self._pif(number, host, "bond0", network, MAC=mac_of(number, 0), bond_master_of=[bond])
            self.add("Bond", "host%d bond0" % number, master=master, slaves=slaves, primary_slave=slaves[0],
                     links_up=2)
            for slave in slaves:
                self._rows[slave][1].update(bond_slave_of=bond, currently_attached=False)

    def add_vlans(self, hosts: List[str], count: int, nics: int) -> None:
        """VLANs on the NICs in turn, on the bond where there is one."""
        for index in range(count):
            tag = FIRST_TAG + index
            network = self._network(self.next_bridge(), "VLAN %d" % tag)
            for number, host in enumerate(hosts):
                device = "bond0" if ref_of("PIF", "host%d bond0" % number) in self._rows else "eth%d" % (index % nics)
                self._vlan(number, host, device, tag, network)

    def _vlan(self, number: int, host: str, device: str, tag: int, network: str) -> None:
        """Frames are tagged on the PIF below, and untagged on the one that the VLAN makes."""
        below = ref_of("PIF", "host%d %s" % (number, device))
        vlan = ref_of("VLAN", "host%d vlan%d" % (number, tag))
        master = self._pif(number, host, "vlan%d" % tag, network, device=device, MAC=VLAN_MAC, VLAN=tag,
                           VLAN_master_of=vlan)
        fields = self._rows[below][1]
        fields["VLAN_slave_of"] = list(fields.get("VLAN_slave_of", [])) + [vlan]
        self.add("VLAN", "host%d vlan%d" % (number, tag), tagged_PIF=below, untagged_PIF=master, tag=tag)

    def add_tunnels(self, hosts: List[str], count: int) -> None:
        """Tunnels over eth0."""
        for index in range(count):
            name = "tunnel%d" % index
            network = self._network(self.next_bridge(), "Tunnel %d" % index)
            for number, host in enumerate(hosts):
                transport = ref_of("PIF", "host%d eth0" % number)
                tunnel = ref_of("tunnel", "host%d %s" % (number, name))
                access = self._pif(number, host, name, network, MAC=mac_of(number, 0x7f0000 + index),
                                   tunnel_access_PIF_of=[tunnel])
                self._rows[transport][1].setdefault("tunnel_transport_PIF_of", []).append(tunnel)
                self.add("tunnel", "host%d %s" % (number, name), access_PIF=access, transport_PIF=transport,
                         status={"active": "true"})

    def add_vms(self, host: str, count: int) -> None:
        """A VM with one VIF on each network in turn: those that contents.py has ports for."""
        for index in range(count):
            network, mac = ref_of("network", "xenbr%d" % index), mac_of(0, index)
            vm, vif = ref_of("VM", "vm%d" % index), ref_of("VIF", "vif%d" % index)
            self.add("VM", "vm%d" % index, uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, mac)), name_label="vm%d" % index,
                     resident_on=host, domid=index + 1, VIFs=[vif])
            self.add("VIF", "vif%d" % index, uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, mac)), device="0",
                     network=network, VM=vm, MAC=mac)
            self._rows[network][1]["VIFs"] = [vif]
            self._rows[host][1].setdefault("resident_VMs", []).append(vm)

    def _network(self, bridge: str, label: str) -> str:
        return self.add("network", bridge, name_label=label, bridge=bridge, PIFs=[], VIFs=[])

    def _pif(self, number: int, host: str, name: str, network: str, **fields: Any) -> str:
        """A PIF; the one that is the management interface has the host's address."""
        if name == self._management:
            fields.update(management=True, ip_configuration_mode="Static", IP=MANAGEMENT_ADDRESS % (101 + number),
                          netmask="255.255.255.0", gateway=MANAGEMENT_ADDRESS % 1, DNS=MANAGEMENT_ADDRESS % 1)
        ref = self.add("PIF", "host%d %s" % (number, name), **dict(
            {"device": name, "network": network, "host": host}, **fields))
        self._rows[network][1]["PIFs"].append(ref)
        self._rows[host][1].setdefault("PIFs", []).append(ref)
        return ref
