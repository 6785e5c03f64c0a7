"""network.dbcache: what an old host boots its network from, made of XAPI's records at every update.

Only hosts with interface-reconfigure read it; xcp-networkd has a file of its own (networkd.db) and moves this one away.
The file is replaced whole, and the copy before it is kept: a host whose management bridge cannot come up is lost.
"""

import logging
import os
from pathlib import Path
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple

from ovsxen.errors import AdministratorError, Refused
from ovsxen.host import files
from ovsxen.xapi.dbcache_format import (
    NETWORK_KEYS,
    PIF_KEYS,
    POOL_KEYS,
    ROOT,
    Cache,
    CachedBond,
    CachedNetwork,
    CachedPif,
    CachedPool,
    CachedTunnel,
    CachedVlan,
    read_cache,
    sort_pairs,
    write_cache,
)
from ovsxen.xapi.records import NO_VLAN, Devices, Network, Pif, Pool

__all__ = [
    "Cache", "CachedBond", "CachedNetwork", "CachedPif", "CachedPool", "CachedTunnel", "CachedVlan",
    "cache_of_host", "network_uuids_by_bridge", "read_cache", "run_interface_reconfigure", "save_cache", "write_cache",
]

logger = logging.getLogger(__name__)

PREVIOUS_SUFFIX = ".previous"
LARGEST_BYTES = 64 << 20


def cache_of_host(pool: Pool, networks: Sequence[Network], devices: Devices) -> Cache:
    """This host's PIFs and what is made of them; every network of the pool, with this host's PIFs only.

    All networks, because one without a PIF here may have a bridge here (openvswitch 5de7052b9). Sorted by ref. Raises
    Refused where this host has no PIF at all: the next boot from such a file would find no management bridge.
    """
    here = frozenset(pif.ref for pif in devices.pifs if pif.host == devices.host_ref)
    if not here:
        raise Refused("XAPI has no PIF of this host (%s), so network.dbcache stays as it is" % ascii(devices.host_ref),
                      "look at `xe pif-list`, and at INSTALLATION_UUID in /etc/xensource-inventory")
    return Cache(
        pifs=tuple(sorted(_cached_pif(pif) for pif in devices.pifs if pif.ref in here)),
        bonds=tuple(sorted(CachedBond(bond.ref, bond.uuid, bond.master, tuple(sorted(bond.slaves)))
                           for bond in devices.bonds if bond.master in here)),
        vlans=tuple(sorted(CachedVlan(vlan.ref, vlan.uuid, vlan.tagged_pif, vlan.untagged_pif)
                           for vlan in devices.vlans if vlan.untagged_pif in here)),
        tunnels=tuple(sorted(CachedTunnel(tunnel.ref, tunnel.uuid, tunnel.access_pif, tunnel.transport_pif)
                             for tunnel in devices.tunnels if tunnel.transport_pif in here)),
        networks=tuple(sorted(_cached_network(network, here) for network in networks)),
        pool=CachedPool(pool.ref, sort_pairs(pool.other_config.items(), POOL_KEYS)),
    )


def _cached_pif(pif: Pif) -> CachedPif:
    return CachedPif(
        ref=pif.ref,
        uuid=pif.uuid,
        device=pif.device,
        mac=pif.mac,
        vlan=pif.vlan,
        management=pif.management,
        network=pif.network,
        vlan_master_of=pif.vlan_master_of,
        vlan_slave_of=tuple(sorted(pif.vlan_slave_of)),
        bond_slave_of=pif.bond_slave_of,
        bond_master_of=tuple(sorted(pif.bond_master_of)),
        tunnel_access_pif_of=tuple(sorted(pif.tunnel_access_pif_of)),
        tunnel_transport_pif_of=tuple(sorted(pif.tunnel_transport_pif_of)),
        ip_configuration_mode=pif.ip_configuration_mode,
        ip=pif.ip,
        netmask=pif.netmask,
        gateway=pif.gateway,
        dns=pif.dns,
        currently_attached=pif.currently_attached,
        other_config=sort_pairs(pif.other_config.items(), PIF_KEYS),
    )


def _cached_network(network: Network, here: FrozenSet[str]) -> CachedNetwork:
    return CachedNetwork(
        ref=network.ref,
        uuid=network.uuid,
        bridge=network.bridge,
        mtu=network.mtu,
        pifs=tuple(sorted(pif for pif in network.pifs if pif in here)),
        other_config=sort_pairs(network.other_config.items(), NETWORK_KEYS),
    )


def network_uuids_by_bridge(cache: Cache) -> Dict[str, Tuple[str, ...]]:
    """What belongs in external_ids:xs-network-uuids of the bridge of each attached PIF that is no VLAN.

    That PIF's own network comes first, because readers took the first one for the bridge's; then, sorted, those of the
    PIFs on the same device, attached or not. They are all computed anew: a list that only grew kept deleted VLANs
    (openvswitch 2a577bd80). The cache is one from `cache_of_host`: one that was read has no attached PIF.
    """
    networks = {network.ref: network for network in cache.networks}
    by_device: Dict[str, List[str]] = {}
    for pif in cache.pifs:
        if pif.network in networks:
            by_device.setdefault(pif.device, []).append(networks[pif.network].uuid)
    uuids: Dict[str, Tuple[str, ...]] = {}
    for pif in sorted(cache.pifs):
        own = networks.get(pif.network)
        if own is not None and own.bridge and pif.currently_attached and pif.vlan == NO_VLAN:
            uuids[own.bridge] = (own.uuid,) + tuple(sorted(set(by_device[pif.device]) - {own.uuid}))
    return uuids


def holds(path: Path, content: bytes) -> bool:
    """The file is as it would be written."""
    return _read_old(Path(os.path.realpath(str(path)))) == content


def save_cache(path: Path, content: bytes) -> bool:
    """Make the file hold `content`, durably; False when it does already, and then nothing is written.

    Links are followed and stay: `/var/xapi` is one on later hosts. The copy before, if it is whole, is kept as
    `network.dbcache.previous`. A kill or a power cut leaves the old file or the new one. The caller holds the update's
    turn. Raises OSError; then the file is as it was.
    """
    target = Path(os.path.realpath(str(path)))
    old = _read_old(target)
    if old == content:
        return False
    files.make_directory(target.parent, 0o755)
    files.remove_staged(target.parent, target.name)
    if old is not None and _is_whole(old):
        files.write_file(target.parent / (target.name + PREVIOUS_SUFFIX), (old,))
    files.write_file(target, (content,))
    logger.info("%s: written, %d bytes", path, len(content))
    return True


def _read_old(path: Path) -> Optional[bytes]:
    """What the file holds; None where it is missing, or is nothing that can be read and kept."""
    try:
        with files.open_regular(path) as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("%s cannot be read (%s): it is replaced, and no copy of it is kept", path, error.strerror)
        return None
    return content if len(content) <= LARGEST_BYTES else None


def _is_whole(content: bytes) -> bool:
    """The end is there. Old writers did not sync, so a power cut left halves, and files of zeros."""
    return content.rstrip().endswith(b"</%s>" % ROOT.encode())


def run_interface_reconfigure(program: Path, within_s: float) -> None:
    """Have the host's own program write the file, and refresh the bridges' xs-network-uuids with it.

    It exits with 1 when one bridge is missing, and then has not written the file. Raises NotInstalled,
    AdministratorError, NoAnswer.
    """
    from ovsxen.host import proc  # few hosts have that program

    done = proc.run((str(program), "rewrite"), within_s)
    if done.returncode != 0:
        raise AdministratorError("`%s rewrite` failed (%s)" % (program, done.complaint),
                                 "network.dbcache may be old; see /var/log/messages, or set DBCACHE=auto")
