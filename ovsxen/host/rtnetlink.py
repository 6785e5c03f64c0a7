"""Interfaces, addresses and routes as the bytes of their messages (rtnetlink(7)), pure: what they say, and how they are
said again to a kernel in which interfaces have got other indices.

Bodies are kept as they were read. Only what names an interface by its index changes, and what the kernel tells and
does not take back is left out.
"""

import socket
import struct
from typing import FrozenSet, Iterator, Mapping, Optional, Tuple

from ovsxen.host.netlink import KIND, aligned, attributes, attributes_as_told, pack

NETLINK_ROUTE = 0
RTM_GETLINK, RTM_SETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 18, 19, 20, 22, 24, 26
LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, which flags to change
ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, two lengths, tos, table, protocol, scope, type, flags
NEXTHOP = struct.Struct("=HBBI")  # struct rtnexthop: length, flags, weight, index
U32 = struct.Struct("=I")

IFLA_ADDRESS, IFLA_BROADCAST, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 2, 3, 4, 5, 10
IFLA_TXQLEN, IFLA_IFALIAS, IFLA_GROUP, IFLA_LINK_NETNSID = 13, 20, 27, 37
IFF_UP, IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST, IFF_DYNAMIC = 0x1, 0x80, 0x100, 0x200, 0x1000, 0x8000
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_PERMANENT = 0x80
RTA_DST, RTA_IIF, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_MULTIPATH = 1, 3, 4, 5, 7, 9
RTA_CACHEINFO, RTA_TABLE, RTA_NH_ID = 12, 15, 30
TOLD_ONLY = frozenset((RTA_IIF, RTA_CACHEINFO, RTA_NH_ID))
"""Statistics, and the id of a nexthop object, which is told in full beside it."""
RTM_F_CLONED = 0x200
RTNH_F_PERVASIVE, RTNH_F_ONLINK = 0x2, 0x4
SETTABLE_ROUTE_FLAGS = RTNH_F_PERVASIVE | RTNH_F_ONLINK
"""The others are states: a route that is given one is refused (linux, net/ipv4/fib_semantics.c)."""
RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA = 1, 2, 9
LEARNT_PROTOCOLS = (RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA)
"""The kernel's own."""


def u32(value: Optional[bytes]) -> int:
    """An attribute that is a number; 0 where it is missing."""
    return int(U32.unpack(value)[0]) if value else 0


def address_itself(body: bytes) -> bytes:
    """The address of an RTM_NEWADDR. IFA_ADDRESS is its peer where it has one."""
    told = dict(attributes(body[ADDRESS.size:]))
    return told.get(IFA_LOCAL, told.get(IFA_ADDRESS, b""))


def address_identity(body: bytes) -> bytes:
    """What makes an address this one: its family, prefix length and interface, itself and its peer."""
    told = dict(attributes(body[ADDRESS.size:]))
    return body[:2] + body[4:8] + address_itself(body) + told.get(IFA_ADDRESS, b"")


def address_index(body: bytes) -> int:
    """The index of the interface that an address is of."""
    return int(ADDRESS.unpack_from(body)[4])


def address_again(body: bytes, index: int) -> bytes:
    """The same address for the interface of that index."""
    return ADDRESS.pack(*ADDRESS.unpack_from(body)[:-1], index) + body[ADDRESS.size:]


def address_text(body: bytes) -> str:
    return "%s/%d" % (socket.inet_ntop(body[0], address_itself(body)), body[1])


def is_learnt_address(body: bytes) -> bool:
    """An IPv6 address with a lifetime: a router's advertisement gave it, and will again. IPv4 has no such thing."""
    flags = dict(attributes(body[ADDRESS.size:])).get(IFA_FLAGS)
    return body[0] == socket.AF_INET6 and not (u32(flags) if flags else body[2]) & IFA_F_PERMANENT


def is_learnt_route(body: bytes) -> bool:
    """The kernel made it, or heard of it: it comes again. One with a lifetime was heard of, whatever else it says."""
    _, _, _, _, _, protocol, _, _, flags = ROUTE.unpack_from(body)
    cache = dict(attributes(body[ROUTE.size:])).get(RTA_CACHEINFO, b"")
    expires = any(cache[8:12])  # struct rta_cacheinfo
    return protocol in LEARNT_PROTOCOLS or bool(flags & RTM_F_CLONED) or expires


def goes_with(body: bytes, indices: FrozenSet[int], sources: FrozenSet[bytes]) -> bool:
    """The kernel drops a route with an interface that it leads through, and IPv4's with the address that it names."""
    source = dict(attributes(body[ROUTE.size:])).get(RTA_PREFSRC)
    return bool(indices.intersection(route_indices(body))) or (body[0] == socket.AF_INET and source in sources)


def route_indices(body: bytes) -> Tuple[int, ...]:
    """The indices of the interfaces that a route leads through."""
    told = dict(attributes(body[ROUTE.size:]))
    hops = tuple(hop[3] for _, hop in _hops(told.get(RTA_MULTIPATH, b"")))
    return hops + ((u32(told[RTA_OIF]),) if RTA_OIF in told else ())


def route_again(body: bytes, index_now: Mapping[int, int]) -> bytes:
    """The body that makes a route again, where `index_now` has the new index of each interface that has one."""
    fixed = ROUTE.unpack_from(body)
    told = b"".join(pack(kind, _reindexed(kind & KIND, value, index_now))
                    for kind, value in attributes_as_told(body[ROUTE.size:]) if kind & KIND not in TOLD_ONLY)
    return ROUTE.pack(*fixed[:-1], fixed[-1] & SETTABLE_ROUTE_FLAGS) + told


def _reindexed(kind: int, value: bytes, index_now: Mapping[int, int]) -> bytes:
    if kind == RTA_OIF:
        return U32.pack(index_now.get(u32(value), u32(value)))
    if kind != RTA_MULTIPATH:
        return value
    again = b""
    for at, (length, flags, weight, index) in _hops(value):
        again += NEXTHOP.pack(length, flags & SETTABLE_ROUTE_FLAGS, weight, index_now.get(index, index))
        again += value[at + NEXTHOP.size:at + aligned(length)]
    return again


def _hops(value: bytes) -> Iterator[Tuple[int, Tuple[int, int, int, int]]]:
    """Where each nexthop of RTA_MULTIPATH begins, and its fixed part."""
    at = 0
    while at + NEXTHOP.size <= len(value):
        length, flags, weight, index = NEXTHOP.unpack_from(value, at)
        yield at, (length, flags, weight, index)
        at += max(aligned(length), NEXTHOP.size)


def route_text(body: bytes) -> str:
    """For people, as ip-route(8) says it."""
    told = dict(attributes(body[ROUTE.size:]))
    target = "%s/%d" % (socket.inet_ntop(body[0], told[RTA_DST]), body[1]) if RTA_DST in told else "default"
    gateway = " via %s" % socket.inet_ntop(body[0], told[RTA_GATEWAY]) if RTA_GATEWAY in told else ""
    return "route %s%s table %d" % (target, gateway, u32(told.get(RTA_TABLE)) or body[4])
