"""The networks of the machines, as xcp-networkd keeps them in networkd.db. The pool of their XAPI has the same."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ovsxen.sandbox.xapi.world import make_world

UUID = {row.fields["bridge"]: row.fields["uuid"] for row in make_world(networks=2, vlans=1).rows
        if row.class_name == "network"}
ADDRESS = "192.0.2.101"
"""Dom0's own, on its management network."""


class Network(NamedTuple):
    """One bridge. What is `dom0s` own is made when xcp-networkd starts, the rest when XAPI does."""

    bridge: str
    mac: str
    ports: Tuple[str, ...] = ()
    vlan: Optional[Tuple[str, int]] = None
    address: str = ""
    dom0s: bool = False
    fail_mode: str = ""
    """What its network asks for in XAPI."""


NETWORKS = (
    Network("xenbr0", "00:16:3e:00:00:00", ("eth0",), address=ADDRESS, dom0s=True),
    Network("xenbr1", "00:16:3e:00:00:01", ("eth1",)),
    Network("xapi0", "00:16:3e:00:00:02", vlan=("xenbr0", 100), dom0s=True))
BRIDGES = sorted(network.bridge for network in NETWORKS)
PREFIX_BITS = 24
ADDRESS_WITH_PREFIX = "%s/%d" % (ADDRESS, PREFIX_BITS)


def networkd_db(networks: Tuple[Network, ...] = NETWORKS) -> Dict[str, Any]:
    """networkd.db, in its own form: pairs in place of maps."""
    addressed = [network for network in networks if network.address]
    return {"interface_config": [[network.bridge, _interface(network)] for network in addressed],
            "bridge_config": [[network.bridge, _bridge(network)] for network in networks],
            "gateway_interface": addressed[0].bridge, "dns_interface": addressed[0].bridge}


def _interface(network: Network) -> Dict[str, Any]:
    return {"ipv4_conf": ["Static4", [[network.address, PREFIX_BITS]]], "ipv4_gateway": None, "ipv6_conf": "None6",
            "ipv6_gateway": None, "ipv4_routes": [], "dns": [[], []], "mtu": 1500, "ethtool_settings": [],
            "ethtool_offload": [["gro", "off"], ["lro", "off"]], "persistent_i": network.dom0s}


def _bridge(network: Network) -> Dict[str, Any]:
    ports: List[Any] = [[port, {"interfaces": [port], "bond_properties": [], "bond_mac": None, "kind": "Basic_port"}]
                        for port in network.ports]
    other_config = [["network-uuids", UUID[network.bridge]]]
    if network.fail_mode:
        other_config.append(["vswitch-controller-fail-mode", network.fail_mode])
    return {"ports": ports, "vlan": network.vlan, "bridge_mac": network.mac, "igmp_snooping": False,
            "other_config": other_config, "persistent_b": network.dom0s}
