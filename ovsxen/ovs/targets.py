"""Where managers are: the targets of OVSDB (ovsdb(7), "Connection Methods") as values that compare.

Two texts for one place are one target: an omitted port is 6640, an IPv6 address has one spelling.
"""

import re
import socket
from typing import NamedTuple, Optional, Tuple

DEFAULT_PORT = 6640
ACTIVE = ("ssl", "tcp")
PASSIVE = ("pssl", "ptcp")
LOCAL = ("unix", "punix")
PORT = re.compile("[0-9]{1,5}")
NAME = re.compile("[-.0-9A-Za-z_]*")
ANY_ADDRESS = ("", "0.0.0.0", "::")


class Target(NamedTuple):
    """A manager's place. `host` is an address, a name, "" for any address to listen on, or a file for unix sockets."""

    scheme: str
    host: str
    port: int

    @property
    def uses_ssl(self) -> bool:
        return self.scheme in ("ssl", "pssl")

    def __str__(self) -> str:
        if self.scheme in LOCAL:
            return "%s:%s" % (self.scheme, self.host)
        host = "[%s]" % self.host if ":" in self.host else self.host
        if self.scheme in PASSIVE:
            return "%s:%d%s" % (self.scheme, self.port, ":" + host if host else "")
        return "%s:%s:%d" % (self.scheme, host, self.port)


def parse_target(text: str) -> Optional[Target]:
    """A target as Open vSwitch takes it, or None for a form that ovsxen does not know."""
    scheme, colon, rest = text.partition(":")
    if not colon:
        return None
    if scheme in LOCAL:
        return Target(scheme, rest, 0) if rest else None
    if scheme in ACTIVE:
        host, port = _split(rest)
        return _target(scheme, host, port) if host else None
    if scheme in PASSIVE:
        port, _, host = rest.partition(":")
        target = _target(scheme, host, port)
        return target and target._replace(host="" if target.host in ANY_ADDRESS else target.host)
    return None


def canonical_address(text: str) -> str:
    """The one spelling of an IP address, or "" for a text that is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, text))
        except (OSError, ValueError):
            continue
    return ""


def _split(text: str) -> Tuple[str, str]:
    """Host and port, of HOST:PORT, HOST, [HOST]:PORT, [HOST]; a bare IPv6 address has no port."""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        return (host + "]", rest[1:]) if bracket and (not rest or rest.startswith(":")) else ("", "")
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host, port


def _target(scheme: str, host: str, port: str) -> Optional[Target]:
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    address = canonical_address(bare)
    if not address and (bracketed or not NAME.fullmatch(bare)):
        return None
    if port and not (PORT.fullmatch(port) and 1 <= int(port) <= 65535):
        return None
    return Target(scheme, address or bare.lower(), int(port) if port else DEFAULT_PORT)
