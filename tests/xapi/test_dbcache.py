"""network.dbcache: what goes into it, what comes back of it, and that a host never has half of it."""

import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple
from xml.dom import minidom

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsxen.errors import AdministratorError, NoAnswer, NotInstalled, Refused
from ovsxen.host import process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.host.settings import Settings
from ovsxen.xapi import dbcache
from ovsxen.xapi.dbcache import (
    Cache,
    CachedBond,
    CachedNetwork,
    CachedPif,
    CachedPool,
    CachedTunnel,
    CachedVlan,
    cache_of_host,
    network_uuids_by_bridge,
    read_cache,
    save_cache,
    write_cache,
)
from ovsxen.xapi.dbcache_format import NETWORK_KEYS, PIF_KEYS, POOL_KEYS, Pairs
from ovsxen.xapi.records import NULL_REF, Bond, Devices, Network, Pif, Pool, Tunnel, Vlan
from tests.conftest import REPOSITORY

CARRIED = st.text(max_size=12).map(lambda text: re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", text))
"""Texts that XML 1.0 can carry."""

AWKWARD = st.sampled_from(["\x85", "\x00", "\x1b[0m", "\ud83d", "\ufffe", " \x0b ", "\r\n", "</uuid>"])


def _refs(text: "st.SearchStrategy[str]") -> "st.SearchStrategy[str]":
    return text.filter(lambda ref: ref.strip(" \t\r\n") != "")


def caches(text: "st.SearchStrategy[str]") -> "st.SearchStrategy[Cache]":
    """Caches as cache_of_host makes them: sorted, with known keys only."""
    ref = _refs(text)
    refs = st.lists(text, max_size=2).map(lambda items: tuple(sorted(items)))

    def pairs(keys: Any) -> "st.SearchStrategy[Pairs]":
        return st.dictionaries(st.sampled_from(sorted(keys)), text, max_size=3).map(lambda d: tuple(sorted(d.items())))

    def several(noun: "st.SearchStrategy[Any]") -> "st.SearchStrategy[Any]":
        return st.lists(noun, max_size=2, unique_by=lambda record: record.ref).map(
            lambda records: tuple(sorted(records, key=lambda record: str(record.ref))))
    pif = st.builds(
        CachedPif, ref=ref, uuid=text, device=text, mac=text, vlan=st.integers(-1, 4095), management=st.booleans(),
        network=ref, vlan_master_of=ref, vlan_slave_of=refs, bond_slave_of=ref, bond_master_of=refs,
        tunnel_access_pif_of=refs, tunnel_transport_pif_of=refs, ip_configuration_mode=text, ip=text, netmask=text,
        gateway=text, dns=text, currently_attached=st.booleans(), other_config=pairs(PIF_KEYS))
    network = st.builds(CachedNetwork, ref=ref, uuid=text, bridge=text, mtu=st.none() | st.integers(0, 1 << 31),
                        pifs=refs, other_config=pairs(NETWORK_KEYS))
    return st.builds(
        Cache, pifs=several(pif), bonds=several(st.builds(CachedBond, ref, text, ref, refs)),
        vlans=several(st.builds(CachedVlan, ref, text, ref, ref)),
        tunnels=several(st.builds(CachedTunnel, ref, text, ref, ref)), networks=several(network),
        pool=st.none() | st.builds(CachedPool, ref, pairs(POOL_KEYS)))


def as_read(cache: Cache) -> Cache:
    """The one field that does not come back."""
    return cache._replace(pifs=tuple(pif._replace(currently_attached=False) for pif in cache.pifs))


EXAMPLES = settings(max_examples=60)


@EXAMPLES
@given(caches(CARRIED))
def test_what_is_written_is_read_back_with_nothing_attached(cache: Cache) -> None:
    assert read_cache(write_cache(cache)) == as_read(cache)


@EXAMPLES
@given(caches(st.one_of(AWKWARD, st.text(max_size=6))))
def test_whatever_a_text_holds_the_file_can_be_read_and_is_plain_ascii(cache: Cache) -> None:
    content = write_cache(cache)
    assert all(byte in b"\t\n" or 32 <= byte < 128 for byte in content)
    assert read_cache(write_cache(read_cache(content))) == read_cache(content)


@EXAMPLES
@given(caches(CARRIED))
def test_the_order_of_the_records_changes_nothing(cache: Cache) -> None:
    turned = Cache(
        tuple(pif._replace(bond_master_of=pif.bond_master_of[::-1], other_config=pif.other_config[::-1])
              for pif in reversed(cache.pifs)),
        cache.bonds[::-1], cache.vlans[::-1], cache.tunnels[::-1],
        tuple(network._replace(pifs=network.pifs[::-1]) for network in reversed(cache.networks)), cache.pool)
    assert write_cache(turned) == write_cache(cache)


@EXAMPLES
@given(caches(st.text("abc-:/0. \x85\u2028\u00e9<&\"'", max_size=8).map(str.strip)))
def test_pretty_printing_changes_nothing(cache: Cache) -> None:
    content = re.sub(rb">([^<>]*)<", rb">\n\t\t\t\1\r\n\t\t<", write_cache(cache))
    assert read_cache(content) == as_read(cache)


@pytest.mark.parametrize("text, read", [
    ("\x85", "\x85"), ("a\u2028b", "a\u2028b"), (" a\t", " a\t"), ("\r\n", "\r\n"), ("", ""), ("]]>", "]]>"),
    ("<pif>&amp;", "<pif>&amp;"), ("\U0001f310", "\U0001f310"), ("\u00a0", "\u00a0"), ("\x7f", "\x7f"),
    ("a\x00b", "a\ufffdb"), ("\x1b[0m", "\ufffd[0m"), ("\ud83d", "\ufffd"), ("\uffff", "\ufffd"),
])
def test_a_text_comes_back_and_only_what_xml_cannot_carry_is_replaced(text: str, read: str) -> None:
    network = CachedNetwork("OpaqueRef:n", uuid=text, other_config=(("static-routes", text),))
    (again,) = read_cache(write_cache(Cache(networks=(network,)))).networks
    assert again == CachedNetwork("OpaqueRef:n", uuid=read, other_config=(("static-routes", read),))


def test_a_key_outside_the_white_list_is_neither_written_nor_read() -> None:
    network = CachedNetwork("OpaqueRef:n", other_config=(("a b<", "1"), ("mtu", "9000"), ("nicira-bridge-id", "x")))
    content = write_cache(Cache(networks=(network,)))
    assert b"a b" not in content and b"nicira" not in content
    assert read_cache(content).networks[0].other_config == (("mtu", "9000"),)


OLD = b"""<?xml version="1.0" ?>
<xenserver-network-configuration>
\t<network ref="OpaqueRef:n1">
\t\t<PIFs>
\t\t\t<PIF>
\t\t\t\tOpaqueRef:p1
\t\t\t</PIF>
\t\t</PIFs>
\t\t<bridge>
\t\t\txenbr0
\t\t</bridge>
\t\t<other_config>
\t\t\t<mtu>
\t\t\t\t9000
\t\t\t</mtu>
\t\t\t<nicira-bridge-id>
\t\t\t\tb1
\t\t\t</nicira-bridge-id>
\t\t</other_config>
\t\t<uuid>
\t\t\tnetwork-1
\t\t</uuid>
\t</network>
\t<pif ref="OpaqueRef:p1">
\t\t<currently_attached>
\t\t\tTrue
\t\t</currently_attached>
\t\t<management>
\t\t\tTrue
\t\t</management>
\t\t<VLAN>
\t\t\t-1
\t\t</VLAN>
\t\t<VLAN_slave_of>
\t\t\t<master>
\t\t\t\tOpaqueRef:v2
\t\t\t</master>
\t\t\t<master>
\t\t\t\tOpaqueRef:v1
\t\t\t</master>
\t\t\t<later/>
\t\t</VLAN_slave_of>
\t\t<bond_master_of/>
\t\t<device>
\t\t\teth0
\t\t</device>
\t\t<uuid>
\t\t\tpif-1
\t\t</uuid>
\t\t<network>
\t\t\tOpaqueRef:n1
\t\t</network>
\t\t<igmp_snooping_status>
\t\t\tunknown
\t\t</igmp_snooping_status>
\t\t<ip_configuration_mode>
\t\t\tStatic
\t\t</ip_configuration_mode>
\t\t<IP>
\t\t\t192.0.2.7<!-- of the management network -->
\t\t</IP>
\t</pif>
\t<tunnel ref="OpaqueRef:t1">
\t\t<transport_PIF>
\t\t\tOpaqueRef:p1
\t\t</transport_PIF>
\t\t<access_PIF>
\t\t\tOpaqueRef:p9
\t\t</access_PIF>
\t\t<uuid>
\t\t\ttunnel-1
\t\t</uuid>
\t</tunnel>
</xenserver-network-configuration>
"""


def test_a_file_of_xenserver_5_5_is_read_without_mtu_pool_and_gateway() -> None:
    assert read_cache(OLD) == Cache(
        pifs=(CachedPif("OpaqueRef:p1", uuid="pif-1", device="eth0", management=True, network="OpaqueRef:n1",
                        vlan_slave_of=("OpaqueRef:v1", "OpaqueRef:v2"), ip_configuration_mode="Static",
                        ip="192.0.2.7"),),
        tunnels=(CachedTunnel("OpaqueRef:t1", "tunnel-1", "OpaqueRef:p9", "OpaqueRef:p1"),),
        networks=(CachedNetwork("OpaqueRef:n1", "network-1", "xenbr0", None, ("OpaqueRef:p1",), (("mtu", "9000"),)),))


def test_a_network_without_mtu_is_written_without_one() -> None:
    assert b"MTU" not in write_cache(read_cache(OLD))


def test_an_empty_file_of_its_kind_is_an_empty_cache() -> None:
    assert read_cache(b"<xenserver-network-configuration/>") == Cache()
    assert read_cache(write_cache(Cache())) == Cache()


def _document(inside: bytes) -> bytes:
    return b"<xenserver-network-configuration>%s</xenserver-network-configuration>" % inside


@pytest.mark.parametrize("content, named", [
    (b"", "not XML"), (b"\0" * 4096, "not XML"), (OLD[:-40], "not XML"), (b"\xff\xfe", "not XML"),
    (b"<pool/>", "begins with the element 'pool'"),
    (_document(b"<vif ref='OpaqueRef:x'/>"), "the element 'vif'"),
    (_document(b"<pif xmlns='urn:x' ref='OpaqueRef:x'/>"), "the element '{urn:x}pif'"),
    (_document(b"<pif><uuid>x</uuid></pif>"), "pif without a ref"),
    (_document(b"<pif ref='p'><VLAN>ten</VLAN></pif>"), "'ten' in VLAN"),
    (_document(b"<network ref='n'><MTU>15_00</MTU></network>"), "'15_00' in MTU"),
    (_document(b"<network ref='n'><MTU>" + b"9" * 9000 + b"</MTU></network>"), "in MTU"),
    (b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + _document(b"<pool ref='&a;'/>"), "document type declaration"),
    ("<!DOCTYPE x [<!ENTITY a 'b'>]><x/>".encode("utf-16"), "not XML"),
])
def test_what_is_not_this_file_is_refused_with_a_word_what_is_wrong(content: bytes, named: str) -> None:
    with pytest.raises(AdministratorError) as raised:
        read_cache(content)
    assert named in str(raised.value)
    assert "network.dbcache" in raised.value.problem and raised.value.remedy


def test_space_that_is_none_to_xml_is_part_of_a_text_whoever_wrote_it() -> None:
    content = _document("<network ref='n'><uuid>\n\t\x85\u2028x\u00a0\n</uuid></network>".encode("utf-8"))
    assert read_cache(content).networks == (CachedNetwork("n", uuid="\x85\u2028x\u00a0"),)


def test_a_file_of_ten_thousand_nested_elements_ends_in_an_answer() -> None:
    nested = b"<uuid>" * 10000 + b"</uuid>" * 10000
    assert read_cache(_document(b"<pif ref='p'>%s</pif>" % nested)).pifs == (CachedPif("p"),)


def _pif(ref: str, host: str, network: str, device: str, vlan: int = -1, attached: bool = True, **fields: Any) -> Pif:
    pif = Pif(
        ref=ref, uuid="uuid-" + ref, device=device, network=network, host=host, mac="02:00:00:00:00:01", mtu=1500,
        vlan=vlan, physical=vlan < 0, currently_attached=attached, management=False, bond_slave_of=NULL_REF,
        bond_master_of=(), vlan_master_of=NULL_REF, vlan_slave_of=(), tunnel_access_pif_of=(),
        tunnel_transport_pif_of=(), ip_configuration_mode="None", ip="", netmask="", gateway="", dns="",
        ipv6_configuration_mode="None", other_config={})
    return pif._replace(**fields)


def _network(ref: str, bridge: str, pifs: Tuple[str, ...], uuid: str = "", **other_config: str) -> Network:
    keys = {key.replace("_", "-"): value for key, value in other_config.items()}
    return Network(ref, uuid or "uuid-" + ref, bridge, 1500, "name of " + ref, keys, pifs)


POOLS = (Pool("pool", "uuid-pool", "h1", {"vswitch-controller-fail-mode": "secure", "memory-ratio-hvm": "0.25"}, ""),)
NETWORKS = (
    _network("n-tagged", "xapi1", ("h2-eth0.5", "h1-eth0.5"), uuid="a-first-by-name"),
    _network("n-eth0", "xenbr0", ("h2-eth0", "h1-eth0"), vswitch_disable_in_band="true", XenCenterCreateInProgress="1"),
    _network("n-internal", "xapi0", ()),
    _network("n-bond", "xapi2", ("h1-bond0",)),
    _network("n-tunnel", "xapi3", ("h1-tunnel0", "h2-tunnel0")),
    _network("n-elsewhere", "xenbr7", ("h2-eth7",)),
)
PIFS = (
    _pif("h1-eth0", "h1", "n-eth0", "eth0", vlan_slave_of=("v1",), management=True, tunnel_transport_pif_of=("t1",),
         other_config={"ethtool-gro": "off", "secret": "x"}),
    _pif("h1-eth0.5", "h1", "n-tagged", "eth0", vlan=5, attached=False, vlan_master_of="v1"),
    _pif("h1-bond0", "h1", "n-bond", "bond0", bond_master_of=("b1",)),
    _pif("h1-tunnel0", "h1", "n-tunnel", "tunnel0", attached=False, tunnel_access_pif_of=("t1",)),
    _pif("h2-eth0", "h2", "n-eth0", "eth0"),
    _pif("h2-eth0.5", "h2", "n-tagged", "eth0", vlan=5),
    _pif("h2-tunnel0", "h2", "n-tunnel", "tunnel0"),
    _pif("h2-eth7", "h2", "n-elsewhere", "eth7"),
)
BONDS = (Bond("b1", "uuid-b1", "h1-bond0", ("h1-eth2", "h1-eth1")), Bond("b2", "uuid-b2", "h2-bond0", ()))
VLANS = (Vlan("v1", "uuid-v1", "h1-eth0", "h1-eth0.5", 5), Vlan("v2", "uuid-v2", "h2-eth0", "h2-eth0.5", 5))
TUNNELS = (Tunnel("t2", "uuid-t2", "h2-tunnel0", "h2-eth0"), Tunnel("t1", "uuid-t1", "h1-tunnel0", "h1-eth0"))


def _of_host(host: str) -> Cache:
    return cache_of_host(POOLS[0], NETWORKS, Devices(host, PIFS, BONDS, VLANS, TUNNELS))


def test_the_cache_of_a_host_in_a_pool_of_two_holds_its_own_and_all_networks() -> None:
    cache = _of_host("h1")
    assert [pif.ref for pif in cache.pifs] == ["h1-bond0", "h1-eth0", "h1-eth0.5", "h1-tunnel0"]
    assert cache.bonds == (CachedBond("b1", "uuid-b1", "h1-bond0", ("h1-eth1", "h1-eth2")),)
    assert cache.vlans == (CachedVlan("v1", "uuid-v1", "h1-eth0", "h1-eth0.5"),)
    assert cache.tunnels == (CachedTunnel("t1", "uuid-t1", "h1-tunnel0", "h1-eth0"),)
    assert {network.ref: network.pifs for network in cache.networks} == {
        "n-bond": ("h1-bond0",), "n-elsewhere": (), "n-eth0": ("h1-eth0",), "n-internal": (),
        "n-tagged": ("h1-eth0.5",), "n-tunnel": ("h1-tunnel0",)}
    assert b"h2-" not in write_cache(cache)


def test_only_keys_that_a_boot_needs_are_kept_of_other_config() -> None:
    cache = _of_host("h1")
    assert cache.pool == CachedPool("pool", (("vswitch-controller-fail-mode", "secure"),))
    assert [pif.other_config for pif in cache.pifs if pif.ref == "h1-eth0"] == [(("ethtool-gro", "off"),)]
    assert [network.other_config for network in cache.networks if network.ref == "n-eth0"] == [
        (("vswitch-disable-in-band", "true"),)]


def test_the_cache_of_a_host_is_as_it_will_be_read() -> None:
    for host in ("h1", "h2"):
        assert read_cache(write_cache(_of_host(host))) == as_read(_of_host(host))


def test_a_host_without_a_pif_gets_no_cache_because_it_could_not_boot_from_it() -> None:
    with pytest.raises(Refused, match="no PIF of this host .'h3'"):
        _of_host("h3")


def test_the_reader_of_old_hosts_finds_what_it_looks_for() -> None:
    root: Any = minidom.parseString(write_cache(_of_host("h1"))).documentElement
    (pif,) = (node for node in root.getElementsByTagName("pif") if node.getAttribute("ref") == "h1-eth0")
    fields = {node.nodeName: node for node in pif.childNodes if node.nodeType == node.ELEMENT_NODE}
    texts = {name: "".join(child.data for child in node.childNodes if child.nodeType == node.TEXT_NODE).strip()
             for name, node in fields.items()}
    assert len(fields) == 19
    assert (texts["uuid"], texts["device"], texts["VLAN"], texts["gateway"]) == ("uuid-h1-eth0", "eth0", "-1", "")
    assert (texts["management"], texts["currently_attached"]) == ("True", "True")
    assert [node.firstChild.data for node in fields["VLAN_slave_of"].getElementsByTagName("master")] == ["v1"]
    assert [node.nodeName for node in fields["other_config"].childNodes if node.nodeName != "#text"] == ["ethtool-gro"]


def test_the_order_in_which_xapi_lists_its_records_changes_nothing() -> None:
    assert cache_of_host(POOLS[0], NETWORKS[::-1], Devices(
        "h1", PIFS[::-1], BONDS[::-1], VLANS[::-1], TUNNELS[::-1])) == _of_host("h1")


def test_a_bridge_gets_the_uuids_of_all_networks_on_its_device_its_own_first() -> None:
    assert network_uuids_by_bridge(_of_host("h1")) == {
        "xenbr0": ("uuid-n-eth0", "a-first-by-name"), "xapi2": ("uuid-n-bond",)}
    assert network_uuids_by_bridge(_of_host("h2")) == {
        "xenbr0": ("uuid-n-eth0", "a-first-by-name"), "xapi3": ("uuid-n-tunnel",), "xenbr7": ("uuid-n-elsewhere",)}


def test_a_vlan_that_is_gone_is_gone_from_its_bridge() -> None:
    pifs = tuple(pif for pif in PIFS if pif.ref != "h1-eth0.5")
    cache = cache_of_host(POOLS[0], NETWORKS, Devices("h1", pifs, BONDS, VLANS[1:], TUNNELS))
    assert network_uuids_by_bridge(cache)["xenbr0"] == ("uuid-n-eth0",)


def test_a_cache_that_was_read_names_no_bridge_because_nothing_is_attached() -> None:
    assert network_uuids_by_bridge(read_cache(write_cache(_of_host("h1")))) == {}


def test_a_pif_whose_network_vanished_between_two_reads_is_passed_over() -> None:
    networks = [network for network in NETWORKS if network.ref != "n-eth0"]
    cache = cache_of_host(POOLS[0], networks, Devices("h1", PIFS, BONDS, VLANS, TUNNELS))
    assert network_uuids_by_bridge(cache) == {"xapi2": ("uuid-n-bond",)}
    assert read_cache(write_cache(cache)) == as_read(cache)


@pytest.mark.parametrize("setting, with_networkd, without", [
    ("auto", False, True), ("always", True, True), ("never", False, False), ("exec", False, False)])
def test_who_writes_is_the_setting_s_choice(setting: str, with_networkd: bool, without: bool) -> None:
    assert Settings(dbcache=setting).writes_dbcache(networkd_db_exists=True) is with_networkd
    assert Settings(dbcache=setting).writes_dbcache(networkd_db_exists=False) is without


ONE, OTHER = write_cache(_of_host("h1")), write_cache(_of_host("h2"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Paths(tmp_path / "host", tmp_path).network_dbcache


def _beside(path: Path) -> Dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.parent.iterdir()}


def test_the_first_save_makes_the_directory_and_a_file_for_all_to_read(path: Path) -> None:
    assert save_cache(path, ONE) is True
    assert _beside(path) == {"network.dbcache": ONE}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_a_second_save_of_the_same_writes_nothing(path: Path) -> None:
    save_cache(path, ONE)

    def written() -> Tuple[int, int]:  # its access time may change: it is read
        found = path.stat()
        return found.st_ino, found.st_ctime_ns

    before = written()
    assert save_cache(path, ONE) is False
    assert written() == before and sorted(_beside(path)) == ["network.dbcache"]


def test_the_copy_before_is_kept_and_only_that_one(path: Path) -> None:
    for content in (ONE, OTHER, OLD):
        assert save_cache(path, content) is True
    assert _beside(path) == {"network.dbcache": OLD, "network.dbcache.previous": OTHER}


@pytest.mark.parametrize("torn", [b"", ONE[:500], b"\0" * len(ONE)])
def test_a_torn_file_is_replaced_and_does_not_displace_the_good_copy(path: Path, torn: bytes) -> None:
    save_cache(path, ONE)
    save_cache(path, OTHER)
    path.write_bytes(torn)
    assert save_cache(path, OLD) is True
    assert _beside(path) == {"network.dbcache": OLD, "network.dbcache.previous": ONE}


def test_a_link_of_the_directory_and_one_of_the_file_stay(path: Path) -> None:
    later = path.parent.parent / "lib/xcp"
    path.parent.parent.mkdir(parents=True)
    path.parent.symlink_to("lib/xcp")
    assert save_cache(path, ONE) is True  # the link led nowhere
    assert path.parent.is_symlink() and sorted(os.listdir(str(later))) == ["network.dbcache"]
    link = path.parent.parent / "link.dbcache"
    link.symlink_to("xapi/network.dbcache")
    assert save_cache(link, OTHER) is True
    assert link.is_symlink() and os.readlink(str(link)) == "xapi/network.dbcache"
    assert _beside(later / "x") == {"network.dbcache": OTHER, "network.dbcache.previous": ONE}


def test_what_cannot_be_replaced_is_told_and_nothing_is_left_behind(path: Path) -> None:
    (path / "kept").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        save_cache(path, ONE)
    assert os.listdir(str(path.parent)) == ["network.dbcache"] and os.listdir(str(path)) == ["kept"]


def test_what_a_killed_run_had_staged_goes_and_what_a_live_one_stages_stays(path: Path) -> None:
    save_cache(path, ONE)
    ended = subprocess.Popen(["true"])
    ended.wait(timeout=20)
    for name in (".network.dbcache.%d.staged", ".network.dbcache.previous.%d.staged"):
        (path.parent / (name % ended.pid)).write_bytes(b"half")
    live = path.parent / (".network.dbcache.%d.staged" % os.getppid())
    live.write_bytes(b"half")
    assert save_cache(path, OTHER) is True
    assert _beside(path) == {"network.dbcache": OTHER, "network.dbcache.previous": ONE, live.name: b"half"}


def _python(program: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)] + list(arguments), cwd=str(REPOSITORY),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            universal_newlines=True)


def test_a_fifo_in_its_place_keeps_nobody_waiting(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(str(path))
    with _python("""
            import sys
            from pathlib import Path
            from ovsxen.xapi.dbcache import save_cache
            save_cache(Path(sys.argv[1]), b"new")
            """, str(path)) as child:
        try:
            child.wait(timeout=30)
        finally:
            child.kill()
    assert _beside(path) == {"network.dbcache": b"new"}


LARGE = write_cache(Cache(networks=tuple(CachedNetwork("n%04d" % n, uuid="u" * 40) for n in range(2000))))


@pytest.mark.parametrize("limit_bytes", [0, 1, 1000, len(ONE)])
def test_a_full_disk_leaves_the_file_as_it_was(path: Path, tmp_path: Path, limit_bytes: int) -> None:
    save_cache(path, ONE)
    (tmp_path / "new").write_bytes(LARGE)
    with _python("""
            import resource, sys
            from pathlib import Path
            from ovsxen.xapi.dbcache import save_cache
            content = Path(sys.argv[2]).read_bytes()
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
            try:
                save_cache(Path(sys.argv[1]), content)
            except OSError as error:
                print(error)
            """, str(path), str(tmp_path / "new"), str(limit_bytes)) as child:
        out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (0, "") and "File too large" in out
    left = _beside(path)
    assert left.pop("network.dbcache") == ONE
    assert left in ({}, {"network.dbcache.previous": ONE})


@pytest.fixture
def saver(path: Path, tmp_path: Path) -> Iterator[Any]:
    """Starts a process that saves two contents in turn until it is killed."""
    (tmp_path / "one").write_bytes(LARGE)
    (tmp_path / "other").write_bytes(OTHER)
    children = []

    def start() -> "subprocess.Popen[str]":
        children.append(_python("""
            import sys
            from pathlib import Path
            from ovsxen.xapi.dbcache import save_cache
            contents = [Path(name).read_bytes() for name in sys.argv[2:]]
            print("saving", flush=True)
            while True:
                for content in contents:
                    save_cache(Path(sys.argv[1]), content)
            """, str(path), str(tmp_path / "one"), str(tmp_path / "other")))
        assert children[-1].stdout is not None
        assert children[-1].stdout.readline() == "saving\n"
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate(timeout=20)


def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(path: Path, saver: Any) -> None:
    whole = (LARGE, OTHER)
    save_cache(path, OTHER)
    for round_number in range(8):
        child = saver()
        for _ in range(round_number + 1):
            seen = path.read_bytes()
            assert seen in whole
            assert Deadline(20).wait_until(lambda: path.read_bytes() != seen, every_s=0.0007)  # noqa: B023
        child.send_signal(signal.SIGKILL)
        assert child.wait(timeout=20) == -signal.SIGKILL
        assert path.read_bytes() in whole
        previous = path.parent / "network.dbcache.previous"
        assert not previous.exists() or previous.read_bytes() in whole
    save_cache(path, ONE)
    assert sorted(_beside(path)) == ["network.dbcache", "network.dbcache.previous"]


def _program(tmp_path: Path, text: str, mode: int = 0o755) -> Path:
    program = tmp_path / "opt/interface-reconfigure"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + text)
    program.chmod(mode)
    return program


def test_interface_reconfigure_is_told_to_rewrite_and_says_nothing_to_us(tmp_path: Path, capfd: Any) -> None:
    program = _program(tmp_path, 'echo "$0 $@" > %s/told; echo talk; echo talk >&2; cat' % tmp_path)
    dbcache.run_interface_reconfigure(program, 20)
    assert (tmp_path / "told").read_text() == "%s rewrite\n" % program
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text, mode, error, named", [
    ("echo first >&2; echo no bridge xenbr9 >&2; exit 1\n", 0o755, AdministratorError, "no bridge xenbr9"),
    ("kill -9 $$\n", 0o755, AdministratorError, "SIGKILL"),
    ("exit 0\n", 0o644, NotInstalled, "interface-reconfigure"),
])
def test_a_failure_of_interface_reconfigure_is_told(
        tmp_path: Path, text: str, mode: int, error: type, named: str) -> None:
    program = _program(tmp_path, text, mode)
    with pytest.raises(error, match=named):
        dbcache.run_interface_reconfigure(program, 20)


def test_an_interface_reconfigure_that_hangs_is_ended(tmp_path: Path) -> None:
    program = _program(tmp_path, "echo $$ > %s/pid; sleep 600\n" % tmp_path)
    with pytest.raises(NoAnswer, match="did not finish"):
        dbcache.run_interface_reconfigure(program, 0.5)
    assert process.read_process(int((tmp_path / "pid").read_text())) is None
