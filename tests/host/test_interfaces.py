"""Interfaces that are deleted and made again, in a network namespace: what `ip` says of them before and after."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from ovsxen.host import rtnetlink
from ovsxen.host.netlink import pack
from ovsxen.host.paths import paths_under
from ovsxen.host.rtnetlink import (
    RTA_CACHEINFO,
    RTA_OIF,
    RTM_F_CLONED,
    RTNH_F_ONLINK,
    RTPROT_KERNEL,
    RTPROT_RA,
    RTPROT_REDIRECT,
)

RTPROT_BOOT, RTPROT_STATIC, RTPROT_BGP = 3, 4, 186
RTNH_F_DEAD, RTNH_F_LINKDOWN = 0x1, 0x10
RTA_METRICS, RTAX_MTU, NLA_F_NESTED = 8, 2, 0x8000
IPV4, MAIN_TABLE, UNICAST = 2, 254, 1

# What follows runs inside the namespace: one call, and what it gives.
KEEP = """
import sys
from pathlib import Path
from ovsxen.host import interfaces, kept_interfaces
from ovsxen.host.paths import paths_under
kept_interfaces.write(paths_under(Path(sys.argv[1]), {}), interfaces.keep(tuple(sys.argv[2:])))
"""
RESTORE = """
import json, sys
from pathlib import Path
from ovsxen.host import kept_interfaces
from ovsxen.host.paths import paths_under
result = kept_interfaces.restore(paths_under(Path(sys.argv[1]), {}))
print(json.dumps([result.done, result.problems, [one.name for one in result.left.interfaces]]))
"""


class Namespace:
    """A network namespace with `lo` up, and the root of a host whose interfaces are in it; their far ends are in
    another one.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.paths = paths_under(root, {})
        self.paths.rundir.mkdir(parents=True)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *argv: str) -> str:
        done = subprocess.run(("ip", "netns", "exec", self.name) + argv, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
        assert done.returncode == 0, "%s: %s" % (argv, done.stderr)
        return done.stdout

    def ip(self, *lines: str) -> None:
        for line in lines:
            self.run("ip", *line.split())

    def make(self, *names: str) -> None:
        """Interfaces as a datapath makes them: down, with hardware addresses and numbers that they did not have before.
        """
        self.ip("link add spare type bridge")
        for name in names:
            self.ip("link add name %s type veth peer name far-%s netns %s-far" % (name, name, self.name),
                    "-n %s-far link set far-%s up" % (self.name, name))
        self.ip("link delete spare")

    def keep(self, *names: str) -> None:
        self.run(sys.executable, "-c", KEEP, str(self.paths.root), *names)

    def restore(self) -> Tuple[List[str], List[str], List[str]]:
        """What was done, what was refused, what waits."""
        done, problems, left = json.loads(self.run(sys.executable, "-c", RESTORE, str(self.paths.root)))
        return done, problems, left

    def look(self, *names: str) -> Dict[str, Any]:
        """What ip says of these interfaces and of all routes; numbers and times of life aside."""
        ours = [one for one in json.loads(self.run("ip", "-json", "-details", "address")) if one["ifname"] in names]
        for one in ours:
            for key in ("ifindex", "link_index"):
                one.pop(key)
            for address in one["addr_info"]:
                for key in ("valid_life_time", "preferred_life_time", "tentative", "stable-privacy"):
                    address.pop(key, None)
            one["addr_info"].sort(key=str)
        routes = [json.loads(self.run("ip", "-json", family, "route", "show", "table", "all") or "[]")
                  for family in ("-4", "-6")]
        for route in routes[1]:
            route.pop("expires", None)
        return {"interfaces": ours, "ipv4": routes[0], "ipv6": sorted(routes[1], key=str),
                "autoconf": [self.sysctl(name, "ipv6", "autoconf") for name in names]}

    def sysctl(self, name: str, family: str, key: str) -> str:
        return self.run("cat", "/proc/sys/net/%s/conf/%s/%s" % (family, name, key)).strip()

    def write_sysctl(self, name: str, family: str, key: str, text: str) -> None:
        self.run("sh", "-c", 'echo "$1" > "$0"', "/proc/sys/net/%s/conf/%s/%s" % (family, name, key), text)


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    name = "ovsxen-i%d" % os.getpid()
    names = (name, name + "-far")
    for one in names:
        subprocess.run(("ip", "netns", "add", one), check=True)
    try:
        yield Namespace(name, tmp_path)
    finally:
        for one in names:
            subprocess.run(("ip", "netns", "delete", one), check=True)  # its devices go with it


def configure(namespace: Namespace) -> None:
    """As much as a host may have set up, in an order that the routes' dump does not have."""
    namespace.write_sysctl("xenbr0", "ipv6", "autoconf", "0")
    namespace.write_sysctl("xenbr0", "ipv6", "accept_dad", "0")
    namespace.write_sysctl("br", "ipv4", "arp_filter", "1")
    namespace.ip(
        "link set xenbr0 address 00:16:3e:01:02:03 mtu 9000 txqueuelen 321 alias management",
        "link set xenbr0 up", "link set dev br up arp off allmulticast on", "link set dev br addrgenmode none",
        "address add 192.0.2.5/24 broadcast 192.0.2.255 dev xenbr0",
        "address add 192.0.2.6/24 dev xenbr0 label xenbr0:1",
        "address add 10.7.0.1/32 dev xenbr0 scope link",
        "address add 10.8.0.1 peer 10.8.0.2/32 dev br",
        "address add 10.9.0.1/16 dev br valid_lft 5000 preferred_lft 4000 noprefixroute metric 77",
        "address add 2001:db8::5/64 dev xenbr0", "address add fe80::1234/64 dev br",
        "address add 2001:db8:1::1/64 dev xenbr0 valid_lft 900 preferred_lft 800",  # as a router gives one
        "route add 198.51.100.1 dev xenbr0",
        "route add 10.1.0.0/16 via 198.51.100.1 dev xenbr0 mtu 1400 advmss 1360",
        "route add default via 192.0.2.1 dev xenbr0 metric 5 src 192.0.2.6",
        "route add default via 192.0.2.2 dev xenbr0 table 100 onlink",
        "route append default via 192.0.2.3 dev xenbr0 metric 5",
        "route add 10.2.0.0/16 nexthop via 192.0.2.1 dev xenbr0 weight 2 nexthop via 10.8.0.2 dev br weight 3",
        "route add 10.3.0.0/16 dev lo src 192.0.2.5",
        "route add local 10.4.0.0/24 dev br table local",
        "route add throw 10.5.0.0/16", "rule add from 10.9.0.0/16 table 100",
        "-6 route add 2001:db8:9::/48 via 2001:db8::1 dev xenbr0 metric 50",
        "-6 route add default via fe80::99 dev br metric 9",
        "-6 route add 2001:db8:8::/48 nexthop via 2001:db8::1 dev xenbr0 nexthop via fe80::99 dev br",
        "-6 route add 2001:db8:7::/48 via 2001:db8::1 dev xenbr0 table 200")


def lose(namespace: Namespace) -> None:
    namespace.ip("link delete xenbr0", "link delete dev br")


def test_what_an_interface_had_is_there_again_after_it_was_deleted_and_made_again(namespace: Namespace) -> None:
    namespace.make("xenbr0", "br")
    configure(namespace)
    before = namespace.look("xenbr0", "br")
    namespace.keep("xenbr0", "br", "no-such-interface")
    lose(namespace)
    namespace.make("xenbr0", "br")
    _, problems, left = namespace.restore()
    assert (problems, left) == ([], [])
    after = namespace.look("xenbr0", "br")
    learnt = [address for one in before["interfaces"] for address in one["addr_info"]
              if address["local"] == "2001:db8:1::1"]
    for one in before["interfaces"]:
        one["addr_info"] = [address for address in one["addr_info"] if address not in learnt]
    before["ipv6"] = [route for route in before["ipv6"] if not route["dst"].startswith("2001:db8:1:")]
    assert learnt and after == before
    assert namespace.sysctl("br", "ipv4", "arp_filter") == "1"
    assert not namespace.paths.kept_interfaces.exists()


def test_a_route_waits_until_its_source_is_known_to_be_nobody_elses(namespace: Namespace) -> None:
    namespace.make("xenbr0")
    namespace.ip("link set xenbr0 up", "address add 2001:db8::5/64 dev xenbr0 nodad",
                 "-6 route add 2001:db8:6::/48 via 2001:db8::1 dev xenbr0 src 2001:db8::5",
                 "address change 2001:db8::5/64 dev xenbr0")
    namespace.keep("xenbr0")
    namespace.ip("link delete xenbr0")
    namespace.make("xenbr0")
    assert namespace.restore()[1:] == ([], [])
    assert "src 2001:db8::5" in namespace.run("ip", "-6", "route")


def test_putting_back_what_is_there_changes_nothing(namespace: Namespace) -> None:
    namespace.make("xenbr0", "br")
    configure(namespace)
    before = namespace.look("xenbr0", "br")
    namespace.keep("xenbr0", "br")
    assert namespace.restore() == ([], [], [])
    assert namespace.restore() == ([], [], [])
    assert namespace.look("xenbr0", "br") == before


def test_what_is_refused_is_said_by_name_and_the_rest_is_put_back_all_the_same(namespace: Namespace) -> None:
    namespace.make("xenbr0", "br")
    namespace.ip("link add other type bridge", "link set other up", "link set dev br up", "link set xenbr0 up",
                 "address add 10.8.0.1/24 dev br", "address add 192.0.2.5/24 dev xenbr0",
                 "route add 10.6.0.0/16 nexthop dev br nexthop dev other", "route add 10.1.0.0/16 via 192.0.2.1")
    namespace.keep("xenbr0", "br")
    lose(namespace)
    namespace.ip("link delete other")
    namespace.make("xenbr0", "br")
    done, problems, left = namespace.restore()
    assert len(problems) == 1 and problems[0].startswith("route 10.6.0.0/16 ") and left == []
    assert "192.0.2.5/24 of xenbr0" in done and "route 10.1.0.0/16 via 192.0.2.1 table 254" in done


def test_what_waits_for_an_interface_is_put_back_when_that_is_there(namespace: Namespace) -> None:
    namespace.make("xenbr0", "br")
    configure(namespace)
    before = namespace.look("br")
    namespace.keep("xenbr0", "br")
    lose(namespace)
    namespace.make("xenbr0")
    _, problems, left = namespace.restore()
    assert (problems, left) == ([], ["br"])
    namespace.make("br")
    assert namespace.restore()[1:] == ([], [])
    assert namespace.look("br")["interfaces"] == before["interfaces"]
    assert "10.2.0.0/16" in namespace.run("ip", "route")


@pytest.mark.parametrize("line, said", [
    ("link add link xenbr0 name upper type macvlan", "upper stands on xenbr0"),
    ("link set xenbr0 master linux-bridge", "xenbr0 belongs to another")])
def test_nothing_is_kept_where_something_that_is_not_kept_would_go_with_it(
        namespace: Namespace, line: str, said: str) -> None:
    namespace.make("xenbr0", "br")
    namespace.ip("link add linux-bridge type bridge", line)
    namespace.keep("br")
    with pytest.raises(AssertionError, match=said):
        namespace.keep("br", "xenbr0")


def route(attributes: bytes, protocol: int = RTPROT_BOOT, flags: int = 0) -> bytes:
    return rtnetlink.ROUTE.pack(IPV4, 16, 0, 0, MAIN_TABLE, protocol, 0, UNICAST, flags) + attributes


def test_a_route_that_says_a_state_is_put_back_without_it() -> None:
    flags = RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_ONLINK
    again = rtnetlink.route_again(route(pack(RTA_OIF, b"\x07\0\0\0"), flags=flags), {7: 9})
    assert again == route(pack(RTA_OIF, b"\x09\0\0\0"), flags=RTNH_F_ONLINK)


def test_what_is_told_as_nested_is_put_back_as_nested() -> None:
    nested = pack(RTA_METRICS | NLA_F_NESTED, pack(RTAX_MTU, b"\x78\x05\0\0"))
    assert rtnetlink.route_again(route(nested), {}) == route(nested)


@pytest.mark.parametrize("protocol, flags, cache, learnt", [
    (RTPROT_BOOT, 0, b"", False), (RTPROT_STATIC, 0, bytes(32), False), (RTPROT_BGP, 0, b"", False),
    (RTPROT_KERNEL, 0, b"", True), (RTPROT_RA, 0, b"", True), (RTPROT_REDIRECT, 0, b"", True),
    (RTPROT_BOOT, RTM_F_CLONED, b"", True), (RTPROT_BOOT, 0, bytes(8) + b"\1" + bytes(23), True)])
def test_routes_of_the_kernel_and_routes_with_a_lifetime_are_left_to_the_kernel(
        protocol: int, flags: int, cache: bytes, learnt: bool) -> None:
    assert rtnetlink.is_learnt_route(route(pack(RTA_CACHEINFO, cache) if cache else b"", protocol, flags)) is learnt
