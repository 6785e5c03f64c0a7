"""Targets that compare: many spellings of one place, and texts that are no place at all."""

import ipaddress
from typing import Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.ovs.targets import Target, canonical_address, parse_target

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
PORTS = st.integers(1, 65535)
IPV4 = st.ip_addresses(v=4)
IPV6 = st.ip_addresses(v=6)


def spelled(address: Address) -> str:
    """An address as it stands in a target."""
    return "[%s]" % address if address.version == 6 else str(address)


@pytest.mark.parametrize("text, canonical", [
    ("ssl:10.0.0.9:6640", "ssl:10.0.0.9:6640"),
    ("ssl:10.0.0.9", "ssl:10.0.0.9:6640"),
    ("ssl:10.0.0.9:", "ssl:10.0.0.9:6640"),
    ("ssl:10.0.0.9:06640", "ssl:10.0.0.9:6640"),
    ("ssl:[10.0.0.9]:6640", "ssl:10.0.0.9:6640"),
    ("ssl:10.0.0.9:6632", "ssl:10.0.0.9:6632"),
    ("ssl:10.0.0.9:1", "ssl:10.0.0.9:1"),
    ("ssl:10.0.0.9:65535", "ssl:10.0.0.9:65535"),
    ("tcp:10.0.0.9", "tcp:10.0.0.9:6640"),
    ("ssl:[2001:db8::9]:6640", "ssl:[2001:db8::9]:6640"),
    ("ssl:[2001:db8::9]", "ssl:[2001:db8::9]:6640"),
    ("ssl:[2001:db8::9]:", "ssl:[2001:db8::9]:6640"),
    ("ssl:2001:db8::9", "ssl:[2001:db8::9]:6640"),
    ("ssl:[2001:DB8:0:0:0:0:0:9]:6640", "ssl:[2001:db8::9]:6640"),
    ("ssl:[2001:0db8::0009]:6640", "ssl:[2001:db8::9]:6640"),
    ("ssl:2001:db8::9:6640", "ssl:[2001:db8::9:6640]:6640"),
    ("ssl:::1", "ssl:[::1]:6640"),
    ("ssl:[::ffff:10.0.0.9]:6640", "ssl:[::ffff:10.0.0.9]:6640"),
    ("ssl:SDN.Example.ORG:6640", "ssl:sdn.example.org:6640"),
    ("ssl:sdn", "ssl:sdn:6640"),
    ("pssl:6640", "pssl:6640"),
    ("pssl:", "pssl:6640"),
    ("pssl:6640:", "pssl:6640"),
    ("pssl:6640:0.0.0.0", "pssl:6640"),
    ("pssl:6640:[::]", "pssl:6640"),
    ("pssl:6640:::", "pssl:6640"),
    ("pssl:6640:[0:0:0:0:0:0:0:0]", "pssl:6640"),
    ("ptcp:6632", "ptcp:6632"),
    ("pssl:6640:10.0.0.9", "pssl:6640:10.0.0.9"),
    ("pssl:6640:[::1]", "pssl:6640:[::1]"),
    ("pssl:6640:::1", "pssl:6640:[::1]"),
    ("pssl::10.0.0.9", "pssl:6640:10.0.0.9"),
    ("unix:/run/openvswitch/x.sock", "unix:/run/openvswitch/x.sock"),
    ("punix:/run/a:b", "punix:/run/a:b"),
])
def test_a_target_has_one_canonical_text(text: str, canonical: str) -> None:
    assert str(parse_target(text)) == canonical
    assert parse_target(canonical) == parse_target(text)


@pytest.mark.parametrize("text", [
    "", ":", "ssl", "ssl:", "tcp:", "ssl::6640", "ssl:[]:6640", "ssl:[", "ssl:[::1", "ssl:[::1]6640", "ssl:[::1]x:6640",
    "ssl:::1]:6640", "ssl:[sdn]:6640", "ssl:10.0.0.9:0", "ssl:10.0.0.9:65536", "ssl:10.0.0.9:-1", "ssl:10.0.0.9:+1",
    "ssl:10.0.0.9:6640x", "ssl:10.0.0.9: 6640", "ssl:10.0.0.9:006640", "ssl:10.0.0.9:0x19f0", "ssl: 10.0.0.9:6640",
    "ssl:10.0.0.9 :6640", "ssl:10.0.0.9\n:6640", "ssl://10.0.0.9:6640", "ssl:[fe80::1%eth0]:6640",
    "pssl:x", "pssl:10.0.0.9", "pssl:0", "pssl:65536", "pssl:6640:[x]", "pssl:6640: ", "ptcp:-1",
    "unix:", "punix:", "SSL:10.0.0.9:6640", " ssl:10.0.0.9:6640", "relay:ssl:10.0.0.9:6640", "file:/etc/openvswitch",
    "nonsense",
])
def test_a_text_of_another_form_is_no_target(text: str) -> None:
    assert parse_target(text) is None


@pytest.mark.parametrize("one, other", [
    ("ssl:10.0.0.9:6640", "tcp:10.0.0.9:6640"),
    ("ssl:10.0.0.9:6640", "ssl:10.0.0.9:6632"),
    ("ssl:10.0.0.9:6640", "ssl:10.0.0.90:6640"),
    ("ssl:10.0.0.9:6640", "ssl:[::ffff:10.0.0.9]:6640"),
    ("ssl:2001:db8::9:6640", "ssl:[2001:db8::9]:6640"),
    ("pssl:6640", "pssl:6640:127.0.0.1"),
    ("pssl:6640", "ptcp:6640"),
    ("unix:/a", "punix:/a"),
    ("unix:/a", "unix:/A"),
])
def test_different_places_are_different_targets(one: str, other: str) -> None:
    assert parse_target(one) is not None and parse_target(other) is not None
    assert parse_target(one) != parse_target(other)


@pytest.mark.parametrize("text, uses_ssl", [
    ("ssl:10.0.0.9:6640", True), ("pssl:6640", True), ("tcp:10.0.0.9:6640", False), ("ptcp:6640", False),
    ("unix:/ssl", False), ("punix:/ssl", False)])
def test_only_the_two_schemes_of_tls_use_it(text: str, uses_ssl: bool) -> None:
    target = parse_target(text)
    assert target is not None and target.uses_ssl is uses_ssl


@given(IPV4 | IPV6, PORTS, st.sampled_from(["ssl", "tcp"]))
def test_an_address_and_a_port_are_what_they_say(address: Address, port: int, scheme: str) -> None:
    target = parse_target("%s:%s:%d" % (scheme, spelled(address), port))
    assert target is not None
    assert (target.scheme, ipaddress.ip_address(target.host), target.port) == (scheme, address, port)
    assert parse_target(str(target)) == target


@given(IPV6, PORTS)
def test_every_spelling_of_an_ipv6_address_is_the_same_target(address: ipaddress.IPv6Address, port: int) -> None:
    spellings = (address.compressed, address.exploded, address.exploded.upper())
    assert len({parse_target("ssl:[%s]:%d" % (spelling, port)) for spelling in spellings}) == 1
    assert len({parse_target("ssl:%s" % spelling) for spelling in spellings}) == 1


@given(IPV4 | IPV6, PORTS, st.sampled_from(["pssl", "ptcp"]))
def test_a_passive_target_names_its_port_first(address: Address, port: int, scheme: str) -> None:
    target = parse_target("%s:%d:%s" % (scheme, port, spelled(address)))
    assert target is not None and target.port == port
    assert (target.host == "") == (int(address) == 0)
    assert parse_target(str(target)) == target
    assert parse_target("%s:%d" % (scheme, port)) == Target(scheme, "", port)


@given(IPV4 | IPV6)
def test_an_address_keeps_its_value_in_its_one_spelling(address: Address) -> None:
    canonical = canonical_address(address.exploded)
    assert ipaddress.ip_address(canonical) == address
    assert canonical_address(canonical) == canonical


@pytest.mark.parametrize("text", [
    "", " ", "sdn", "10.0.0", "10.0.0.256", "010.0.0.9", "10.0.0.9 ", "10.0.0.9/24", "10.0.0.9:6640", "0x0a000009",
    "167772169", "10.0.0.9\0", "10.0.0.9\n", "[::1]", ":::", "1::2::3", "::1%lo", "::g", "\u0661\u0660.0.0.9",
    "\udc80"])
def test_what_is_no_ip_address_has_no_spelling(text: str) -> None:
    assert canonical_address(text) == ""


@given(st.sampled_from(["", "ssl:", "pssl:", "tcp:", "ptcp:", "unix:"]),
       st.text("0159af:[].%/ \n\0\u0661\udc80", max_size=8))
def test_no_text_makes_parsing_fail(scheme: str, text: str) -> None:
    target = parse_target(scheme + text)
    assert target is None or 0 <= target.port <= 65535


@pytest.mark.parametrize("text", ["ssl:10.0.0.9:\u00b2", "pssl:\u00b2", "ssl:10.0.0.9:\u0666\u0666\u0664\u0660"])
def test_a_port_in_digits_that_are_not_ascii_is_no_port(text: str) -> None:
    assert parse_target(text) is None


@pytest.mark.parametrize("text", ["ssl:a:b:c", "ssl:10.0.0.9:6640:x", "ssl:fe80::1%eth0", "ptcp:::x", "pssl:6640:a:b"])
def test_a_host_with_colons_that_is_no_ipv6_address_is_an_unknown_form(text: str) -> None:
    assert parse_target(text) is None
