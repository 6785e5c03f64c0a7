"""The format of network.dbcache: its nouns, and XML from them and back. Pure; dbcache.py makes, saves and runs.

The file is what a host without its pool knows of its network when it boots: old hosts' interface-reconfigure reads it,
with a reader that wants `True` and `False`, drops white space around a text, and knows no element but these. Keys of
other_config stand in a white list per class, because each becomes the name of an element.
"""

import re
from typing import TYPE_CHECKING, Any, Callable, Dict, FrozenSet, Iterable, List, Match, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.xapi.records import NO_VLAN, NULL_REF

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Pairs = Tuple[Tuple[str, str], ...]
"""Keys of the white list with their values, sorted."""

ROOT = "xenserver-network-configuration"
REMEDY = "put back the copy before it (network.dbcache.previous), or move it away: the next update writes it again"

_ETHTOOL = frozenset("ethtool-" + name for name in (
    "autoneg", "speed", "duplex", "rx", "tx", "sg", "tso", "ufo", "gso", "gro", "lro"))
_BOND = frozenset("bond-" + name for name in (
    "mode", "miimon", "downdelay", "updelay", "use_carrier", "hashing-algorithm"))
PIF_KEYS = _ETHTOOL | _BOND | {"domain", "peerdns", "defaultroute", "mtu", "static-routes", "vlan-bug-workaround"}
NETWORK_KEYS = _ETHTOOL | {"mtu", "static-routes", "vswitch-controller-fail-mode", "vswitch-disable-in-band"}
POOL_KEYS = frozenset(("vswitch-controller-fail-mode",))


class CachedPif(NamedTuple):
    """A PIF of this host. The fields are in the order of PIF_FIELDS below; so it is with every noun here."""

    ref: str
    uuid: str = ""
    device: str = ""
    mac: str = ""
    vlan: int = NO_VLAN
    management: bool = False
    network: str = NULL_REF
    vlan_master_of: str = NULL_REF
    vlan_slave_of: Tuple[str, ...] = ()
    bond_slave_of: str = NULL_REF
    bond_master_of: Tuple[str, ...] = ()
    tunnel_access_pif_of: Tuple[str, ...] = ()
    tunnel_transport_pif_of: Tuple[str, ...] = ()
    ip_configuration_mode: str = ""
    ip: str = ""
    netmask: str = ""
    gateway: str = ""
    dns: str = ""
    currently_attached: bool = False
    other_config: Pairs = ()


class CachedBond(NamedTuple):
    """A bond of this host."""

    ref: str
    uuid: str = ""
    master: str = NULL_REF
    slaves: Tuple[str, ...] = ()


class CachedVlan(NamedTuple):
    """A VLAN of this host."""

    ref: str
    uuid: str = ""
    tagged_pif: str = NULL_REF
    untagged_pif: str = NULL_REF


class CachedTunnel(NamedTuple):
    """A tunnel of this host."""

    ref: str
    uuid: str = ""
    access_pif: str = NULL_REF
    transport_pif: str = NULL_REF


class CachedNetwork(NamedTuple):
    """A network of the pool with this host's PIFs. `mtu` is None where the writer knew of none (XenServer 5.5)."""

    ref: str
    uuid: str = ""
    bridge: str = ""
    mtu: Optional[int] = None
    pifs: Tuple[str, ...] = ()
    other_config: Pairs = ()


class CachedPool(NamedTuple):
    """The pool, of which only its fail mode is kept."""

    ref: str
    other_config: Pairs = ()


class Cache(NamedTuple):
    """What the file holds. `pool` is None in files from before XenServer 5.6."""

    pifs: Tuple[CachedPif, ...] = ()
    bonds: Tuple[CachedBond, ...] = ()
    vlans: Tuple[CachedVlan, ...] = ()
    tunnels: Tuple[CachedTunnel, ...] = ()
    networks: Tuple[CachedNetwork, ...] = ()
    pool: Optional[CachedPool] = None


class Kind(NamedTuple):
    """How a field's value becomes its element, and what comes back of the element, or of its absence."""

    write: Callable[[str, Any], str]
    read: Callable[[Optional["Element"]], Any]


class Shape(NamedTuple):
    """A noun and, in the order of its fields after `ref`, their elements."""

    noun: Callable[..., Any]
    fields: Tuple[Tuple[str, Kind], ...]


INTEGER = re.compile(r"-?[0-9]{1,10}")
BLANKS = " \t\r\n"
"""White space as XML means it. What else Python's strip() takes (NEL, U+2028, NBSP) belongs to the text."""

FIELD_INDENT = "\t\t"
ITEM_INDENT = "\t\t\t"
SPACE = "{http://www.w3.org/XML/1998/namespace}space"
CHARACTERS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
PLAIN = re.compile(r"[!#-%'-;=?-~]*")
"""What a text nearly always is: written as it is, and not looked at twice."""

TO_ESCAPE = re.compile("[&<>\"\x00-\x1f\ud800-\udfff\ufffe\uffff]")
REPLACEMENT = "\ufffd"
"""Stands for a character that XML 1.0 cannot carry, not even as a reference: a control character, half a surrogate."""


def sort_pairs(other_config: Iterable[Tuple[str, str]], keys: FrozenSet[str]) -> Pairs:
    """What of a map the cache keeps. An unexpected key once broke the save (openvswitch 3dfa61ca3)."""
    return tuple(sorted((key, value) for key, value in other_config if key in keys))


def _escape(text: str) -> str:
    return TO_ESCAPE.sub(_reference, text)


def _reference(match: Match[str]) -> str:
    return CHARACTERS.get(match.group(), REPLACEMENT)


def _write_text(name: str, text: str, indent: str = FIELD_INDENT) -> str:
    """An element with a text. White space at its ends is marked, because readers drop what pretty-printing adds."""
    if PLAIN.fullmatch(text):
        return "%s<%s>%s</%s>\n" % (indent, name, text, name)
    marked = ' xml:space="preserve"' if text != text.strip(BLANKS) else ""
    return "%s<%s%s>%s</%s>\n" % (indent, name, marked, _escape(text), name)


def _read_text(element: Optional["Element"]) -> str:
    """The text of an element without that of elements in it; nothing where there is none."""
    if element is None:
        return ""
    text = (element.text or "") + "".join(child.tail or "" for child in element)
    return text if element.get(SPACE) == "preserve" else text.strip(BLANKS)


def _children(element: Optional["Element"]) -> Iterable["Element"]:
    return () if element is None else element


def _read_ref(element: Optional["Element"]) -> str:
    return _read_text(element) or NULL_REF


def _write_flag(name: str, flag: bool) -> str:
    return _write_text(name, "True" if flag else "False")


def _write_number(name: str, number: Optional[int]) -> str:
    return "" if number is None else _write_text(name, str(number))


def _read_number(element: Optional["Element"]) -> Optional[int]:
    text = _read_text(element)
    if element is None or not text:
        return None
    if not INTEGER.fullmatch(text):
        raise _not_readable("has %s in %s, and not a number" % (ascii(text[:40]), element.tag))
    return int(text)


def _read_vlan(element: Optional["Element"]) -> int:
    number = _read_number(element)
    return NO_VLAN if number is None else number


def _refs_of(item: str) -> Kind:
    """A list of refs, each in an element called `item`."""
    def write(name: str, refs: Iterable[str]) -> str:
        return _write_list(name, [_write_text(item, ref, ITEM_INDENT) for ref in sorted(refs)])

    def read(element: Optional["Element"]) -> Tuple[str, ...]:
        return tuple(sorted(_read_text(child) for child in _children(element) if child.tag == item))
    return Kind(write, read)


def _map_of(keys: FrozenSet[str]) -> Kind:
    """A map with an element for each key of the white list. The last of two equal ones counts."""
    def write(name: str, pairs: Pairs) -> str:
        return _write_list(name, [_write_text(key, value, ITEM_INDENT) for key, value in sort_pairs(pairs, keys)])

    def read(element: Optional["Element"]) -> Pairs:
        return sort_pairs({child.tag: _read_text(child) for child in _children(element)}.items(), keys)
    return Kind(write, read)


def _write_list(name: str, items: List[str]) -> str:
    if not items:
        return "%s<%s></%s>\n" % (FIELD_INDENT, name, name)
    return "%s<%s>\n%s%s</%s>\n" % (FIELD_INDENT, name, "".join(items), FIELD_INDENT, name)


TEXT = Kind(_write_text, _read_text)
REF = Kind(_write_text, _read_ref)
VLAN_TAG = Kind(_write_number, _read_vlan)
MTU = Kind(_write_number, _read_number)
FLAG = Kind(_write_flag, lambda element: _read_text(element) == "True")
ATTACHED = Kind(_write_flag, lambda _: False)
"""Written as it is and read as False: whoever reads the file does so after a boot, when nothing is attached."""

PIF_FIELDS = (
    ("uuid", TEXT), ("device", TEXT), ("MAC", TEXT), ("VLAN", VLAN_TAG), ("management", FLAG), ("network", REF),
    ("VLAN_master_of", REF), ("VLAN_slave_of", _refs_of("master")),
    ("bond_slave_of", REF), ("bond_master_of", _refs_of("slave")),
    ("tunnel_access_PIF_of", _refs_of("pif")), ("tunnel_transport_PIF_of", _refs_of("pif")),
    ("ip_configuration_mode", TEXT), ("IP", TEXT), ("netmask", TEXT), ("gateway", TEXT), ("DNS", TEXT),
    ("currently_attached", ATTACHED), ("other_config", _map_of(PIF_KEYS)),
)
SHAPES: Dict[str, Shape] = {
    "pif": Shape(CachedPif, PIF_FIELDS),
    "bond": Shape(CachedBond, (("uuid", TEXT), ("master", REF), ("slaves", _refs_of("slave")))),
    "vlan": Shape(CachedVlan, (("uuid", TEXT), ("tagged_PIF", REF), ("untagged_PIF", REF))),
    "tunnel": Shape(CachedTunnel, (("uuid", TEXT), ("access_PIF", REF), ("transport_PIF", REF))),
    "network": Shape(CachedNetwork, (("uuid", TEXT), ("bridge", TEXT), ("MTU", MTU), ("PIFs", _refs_of("PIF")),
                                     ("other_config", _map_of(NETWORK_KEYS)))),
    "pool": Shape(CachedPool, (("other_config", _map_of(POOL_KEYS)),)),
}
"""The children of the root, in the order of Cache's fields."""


def write_cache(cache: Cache) -> bytes:
    """The file's content: the same bytes for the same records in whatever order they come.

    In ASCII, with references for all other characters, so that no reader can take it for another encoding.
    """
    pools = (cache.pool,) if cache.pool else ()
    sections = (cache.pifs, cache.bonds, cache.vlans, cache.tunnels, cache.networks, pools)
    parts = ['<?xml version="1.0" ?>\n<%s>\n' % ROOT]
    for (name, shape), records in zip(SHAPES.items(), sections):
        parts.extend(_write_record(name, shape, record) for record in sorted(records, key=_ref_of))
    parts.append("</%s>\n" % ROOT)
    return "".join(parts).encode("ascii", "xmlcharrefreplace")


def _ref_of(record: Any) -> str:
    return str(record[0])


def _write_record(name: str, shape: Shape, record: Tuple[Any, ...]) -> str:
    fields = "".join([kind.write(element, value) for (element, kind), value in zip(shape.fields, record[1:])])
    return '\t<%s ref="%s">\n%s\t</%s>\n' % (name, _escape(_ref_of(record)), fields, name)


def read_cache(content: bytes) -> Cache:
    """What the file says. `currently_attached` is always False.

    A section, a pool or a field that is missing is none, because every release wrote some more than the one before
    (openvswitch 0671665d9); elements and keys that are not known in a record are passed over. A child of the root
    that is not known, and anything that is not this file at all, raises AdministratorError.
    """
    found: Dict[str, Dict[str, Any]] = {name: {} for name in SHAPES}
    for child in _parse(content):
        if child.tag not in SHAPES:
            raise _not_readable("has the element %s, which no version of it knows" % ascii(child.tag)[:80])
        record = _read_record(SHAPES[child.tag], child)
        found[child.tag][record[0]] = record
    pifs, bonds, vlans, tunnels, networks, pools = (
        tuple(found[name][ref] for ref in sorted(found[name])) for name in SHAPES)
    return Cache(pifs, bonds, vlans, tunnels, networks, pools[0] if pools else None)


def _parse(content: bytes) -> "Element":
    """The root. A document type declaration is refused: no writer makes one, and entities come in with it."""
    from xml.etree import ElementTree  # an update only writes, and need not pay for it

    try:
        text = content.decode("utf-8-sig")
        if "<!DOCTYPE" in text:
            raise _not_readable("has a document type declaration, which no writer of it makes")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise _not_readable("is not XML (%s)" % error) from error
    if root.tag != ROOT:
        raise _not_readable("begins with the element %s, and not %s" % (ascii(root.tag)[:80], ROOT))
    return root


def _read_record(shape: Shape, element: "Element") -> Any:
    ref = element.get("ref")
    if not ref:
        raise _not_readable("has the element %s without a ref" % element.tag)
    fields = {child.tag: child for child in element}
    return shape.noun(ref, *(kind.read(fields.get(name)) for name, kind in shape.fields))


def _not_readable(problem: str) -> AdministratorError:
    return AdministratorError("network.dbcache %s" % problem, REMEDY)
