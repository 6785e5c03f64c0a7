"""What the kernel forgets of an interface that is deleted and made again: kept, and put back.

That is its flags, sizes and hardware address, its sysctls, its addresses, and the routes that go with them. All is read
by netlink and handed back as the bytes that were read: dom0's ip is too old for JSON, and its text is for people. What
the kernel makes or hears of by itself is left to the kernel.

Interfaces are those of this process's network namespace, wherever the host's root is; so are the sysctls.
"""

import os
import socket
import stat
from functools import partial
from pathlib import Path
from typing import Callable, Dict, FrozenSet, Iterator, List, Mapping, NamedTuple, Tuple

from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.host import rtnetlink
from ovsxen.host.clock import MACHINE_CLOCK, Clock, Deadline
from ovsxen.host.netlink import NLM_F_APPEND, NLM_F_CREATE, Attribute, Netlink, attributes, pack

ATTRIBUTES = {
    rtnetlink.IFLA_ADDRESS: "hardware address", rtnetlink.IFLA_BROADCAST: "broadcast address",
    rtnetlink.IFLA_MTU: "MTU", rtnetlink.IFLA_TXQLEN: "txqueuelen", rtnetlink.IFLA_IFALIAS: "alias",
    rtnetlink.IFLA_GROUP: "group"}
FLAGS = (rtnetlink.IFF_UP | rtnetlink.IFF_NOARP | rtnetlink.IFF_PROMISC | rtnetlink.IFF_ALLMULTI
         | rtnetlink.IFF_MULTICAST | rtnetlink.IFF_DYNAMIC)
"""What ip-link(8) sets."""
SYSCTLS = Path("/proc/sys/net")
FAMILIES = ("ipv4", "ipv6")
ROUTES_WITHIN_S = 3.0
"""An IPv6 address may not be a route's source before it is known to be nobody else's, which takes a second or two."""
ROUTES_EVERY_S = 0.1


class Interface(NamedTuple):
    """An interface as it was. `sysctls`: pairs such as ("ipv6/autoconf", "0"); `addresses`: bodies of RTM_NEWADDR."""

    name: str
    flags: int
    attributes: Tuple[Attribute, ...]
    sysctls: Tuple[Tuple[str, str], ...]
    addresses: Tuple[bytes, ...]


class Route(NamedTuple):
    """A route: the body of RTM_NEWROUTE, and the names of the interfaces that it names by index."""

    body: bytes
    through: Tuple[Tuple[int, str], ...]


class KeptInterfaces(NamedTuple):
    """Interfaces, and the routes that go when they go, in the kernel's order."""

    interfaces: Tuple[Interface, ...]
    routes: Tuple[Route, ...]


class PutBack(NamedTuple):
    """What was put back; what was refused, and why; and what waits for interfaces that are not there."""

    done: Tuple[str, ...]
    problems: Tuple[str, ...]
    left: KeptInterfaces


NOTHING = KeptInterfaces((), ())


class Link(NamedTuple):
    """An interface as the kernel has it now: its index, all its flags and attributes."""

    ifindex: int
    flags: int
    attributes: Dict[int, bytes]


def keep(names: Tuple[str, ...]) -> KeptInterfaces:
    """All about those of these interfaces that are there. Raises AdministratorError, NoAnswer."""
    try:
        with Netlink(rtnetlink.NETLINK_ROUTE) as netlink:
            links, addresses, routes = _read_links(netlink), _read_addresses(netlink), _read_routes(netlink)
    except OSError as error:
        raise NoAnswer("addresses and routes cannot be read from the kernel (%s)" % (error.strerror or error),
                       "do it again") from error
    there = tuple(sorted(links.keys() & set(names)))
    _require_independent(links, there)
    interfaces = tuple(_interface(name, links[name], addresses) for name in there)
    return KeptInterfaces(interfaces, tuple(_routes_that_go(there, links, addresses, routes)))


def _require_independent(links: Mapping[str, Link], names: Tuple[str, ...]) -> None:
    """Nothing would go with these interfaces that is not kept, as a VLAN device goes, or a place in a Linux bridge.

    Raises AdministratorError.
    """
    name_of = {links[name].ifindex: name for name in names}
    for name, link in sorted(links.items()):
        below = name_of.get(rtnetlink.u32(link.attributes.get(rtnetlink.IFLA_LINK)))
        if below and name not in names and rtnetlink.IFLA_LINK_NETNSID not in link.attributes:
            raise AdministratorError("%s stands on %s, and would be gone with it" % (name, below),
                                     "delete it, do this again, and make it again")
        if name in names and rtnetlink.u32(link.attributes.get(rtnetlink.IFLA_MASTER)):
            raise AdministratorError("%s belongs to another interface, and would be out of it" % name,
                                     "run `ip link set %s nomaster`, do this again, and put it back" % name)


def _interface(name: str, link: Link, addresses: Tuple[bytes, ...]) -> Interface:
    return Interface(
        name, link.flags & FLAGS,
        tuple((kind, link.attributes[kind]) for kind in ATTRIBUTES if kind in link.attributes),
        _read_sysctls(name),
        tuple(body for body in addresses
              if rtnetlink.address_index(body) == link.ifindex and not rtnetlink.is_learnt_address(body)))


def _routes_that_go(names: Tuple[str, ...], links: Mapping[str, Link], addresses: Tuple[bytes, ...],
                    routes: Tuple[bytes, ...]) -> Iterator[Route]:
    indices = frozenset(links[name].ifindex for name in names)
    sources = frozenset(rtnetlink.address_itself(body) for body in addresses
                        if rtnetlink.address_index(body) in indices)
    name_of = {link.ifindex: name for name, link in links.items()}
    for body in routes:
        if rtnetlink.goes_with(body, indices, sources) and not rtnetlink.is_learnt_route(body):
            yield Route(body, tuple((index, name_of[index]) for index in rtnetlink.route_indices(body)
                                    if index in name_of))


def put_back(kept: KeptInterfaces, clock: Clock = MACHINE_CLOCK) -> PutBack:
    """Give the interfaces that are there what they lack of what they had; may be repeated.

    One refusal keeps nothing else from being put back. Raises NoAnswer where the kernel cannot be asked at all.
    """
    attempts = _Attempts()
    try:
        with Netlink(rtnetlink.NETLINK_ROUTE) as netlink:
            links = _read_links(netlink)
            here = tuple(interface for interface in kept.interfaces if interface.name in links)
            for interface in here:
                _put_back_link(netlink, interface, links[interface.name], attempts)
            addresses = frozenset(rtnetlink.address_identity(body) for body in _read_addresses(netlink))
            for interface in here:
                _put_back_addresses(netlink, interface, links[interface.name].ifindex, addresses, attempts)
            left = _left(kept, links)
            _put_back_routes(netlink, tuple(route for route in kept.routes if route not in left.routes), links,
                             Deadline(ROUTES_WITHIN_S, clock), attempts)
    except OSError as error:
        raise NoAnswer("addresses and routes cannot be put back (%s)" % (error.strerror or error),
                       "do it again") from error
    return PutBack(tuple(attempts.done), tuple(attempts.problems), left)


def _left(kept: KeptInterfaces, links: Mapping[str, Link]) -> KeptInterfaces:
    """What cannot be put back yet, because an interface is not there."""
    missing = tuple(interface for interface in kept.interfaces if interface.name not in links)
    names = {interface.name for interface in missing}
    return KeptInterfaces(missing, tuple(
        route for route in kept.routes if names.intersection(dict(route.through).values())))


class _Attempts:
    """What was done, and what was refused."""

    def __init__(self) -> None:
        self.done: List[str] = []
        self.problems: List[str] = []

    def make(self, what: str, act: Callable[[], object]) -> None:
        """What is there already is not refused: the kernel gives an IPv6 address itself, a moment after the port is up.
        """
        try:
            act()
            self.done.append(what)
        except FileExistsError:
            pass
        except OSError as error:
            self.refuse(what, error)

    def refuse(self, what: str, error: OSError) -> None:
        self.problems.append("%s was refused (%s)" % (what, error.strerror or error))


def _put_back_link(netlink: Netlink, interface: Interface, link: Link, attempts: _Attempts) -> None:
    """Attributes while it is down; then sysctls, which say what the kernel does when it comes up; then up."""
    def change(what: str, flags: int, which: int, attribute: bytes = b"") -> None:
        body = rtnetlink.LINK.pack(socket.AF_UNSPEC, 0, link.ifindex, flags, which) + attribute
        attempts.make("%s of %s" % (what, interface.name), partial(netlink.request, rtnetlink.RTM_SETLINK, 0, body))

    for kind, value in interface.attributes:
        if link.attributes.get(kind) != value:
            change(ATTRIBUTES[kind], 0, 0, pack(kind, value))
    now = dict(_read_sysctls(interface.name))
    for name, text in interface.sysctls:
        if now.get(name) != text:
            attempts.make("%s of %s" % (name, interface.name), partial(_sysctl(interface.name, name).write_text, text))
    which = (link.flags ^ interface.flags) & FLAGS
    if which:
        change("flags", interface.flags, which)


def _put_back_addresses(netlink: Netlink, interface: Interface, index: int, there: FrozenSet[bytes],
                        attempts: _Attempts) -> None:
    for body in (rtnetlink.address_again(body, index) for body in interface.addresses):
        if rtnetlink.address_identity(body) not in there:
            attempts.make("%s of %s" % (rtnetlink.address_text(body), interface.name),
                          partial(netlink.request, rtnetlink.RTM_NEWADDR, NLM_F_CREATE, body))


def _put_back_routes(netlink: Netlink, routes: Tuple[Route, ...], links: Mapping[str, Link], deadline: Deadline,
                     attempts: _Attempts) -> None:
    """A route is refused before what its gateway or its source needs is there: so those refused are tried again."""
    waiting = [rtnetlink.route_again(route.body, {before: links[name].ifindex for before, name in route.through
                                                  if name in links}) for route in routes]

    def try_waiting() -> Dict[bytes, OSError]:
        refused: Dict[bytes, OSError] = {}
        for body in tuple(waiting):
            try:
                if _add_route(netlink, body):
                    attempts.done.append(rtnetlink.route_text(body))
                waiting.remove(body)
            except OSError as error:
                refused[body] = error
        return refused

    refused = try_waiting()
    while refused and not deadline.has_passed():
        before, refused = refused, try_waiting()
        if len(refused) == len(before):
            deadline.clock.sleep(ROUTES_EVERY_S)
    for body, error in refused.items():
        attempts.refuse(rtnetlink.route_text(body), error)


def _add_route(netlink: Netlink, body: bytes) -> bool:
    """Add a route behind others to the same target, which is the kernel's order; tells whether it was missing.

    IPv6 has no such order, and would take the appended one for another hop of the one that is there. Raises OSError.
    """
    append = NLM_F_APPEND if body[0] == socket.AF_INET else 0
    try:
        netlink.request(rtnetlink.RTM_NEWROUTE, NLM_F_CREATE | append, body)
    except FileExistsError:
        return False
    return True


def _read_links(netlink: Netlink) -> Dict[str, Link]:
    links = {}
    for body in netlink.dump(rtnetlink.RTM_GETLINK, rtnetlink.LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        told = dict(attributes(body[rtnetlink.LINK.size:]))
        _, _, index, flags, _ = rtnetlink.LINK.unpack_from(body)
        links[os.fsdecode(told[rtnetlink.IFLA_IFNAME].rstrip(b"\0"))] = Link(index, flags, told)
    return links


def _read_addresses(netlink: Netlink) -> Tuple[bytes, ...]:
    return netlink.dump(rtnetlink.RTM_GETADDR, rtnetlink.ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))


def _read_routes(netlink: Netlink) -> Tuple[bytes, ...]:
    return tuple(body for family in (socket.AF_INET, socket.AF_INET6) for body in netlink.dump(
        rtnetlink.RTM_GETROUTE, rtnetlink.ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)))


def _sysctl(interface: str, name: str) -> Path:
    family, _, key = name.partition("/")
    return SYSCTLS / family / "conf" / interface / key


def _read_sysctls(interface: str) -> Tuple[Tuple[str, str], ...]:
    """Those of its sysctls that can be set and have a value."""
    found = []
    for family in FAMILIES:
        for path in sorted((SYSCTLS / family / "conf" / interface).glob("*")):
            try:
                if path.stat().st_mode & stat.S_IWUSR:
                    found.append(("%s/%s" % (family, path.name), path.read_text().strip()))
            except OSError:
                continue  # stable_secret, before it has any
    return tuple(found)
