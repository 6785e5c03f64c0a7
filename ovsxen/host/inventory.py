"""Which host this is, and whether Open vSwitch is its network backend: facts that XenServer's own files hold."""

from enum import Enum
from pathlib import Path
from typing import NamedTuple, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host.assignments import BYTE_ORDER_MARK, parse_assignments, read_text


class Inventory(NamedTuple):
    """What /etc/xensource-inventory says. An empty string is a key that is missing; `problems` then says so.

    `management_interface`: the bridge that this host is managed by; one of a VLAN has the VLAN's. Some hosts have none.
    """

    uuid: str
    brand: str
    version: str
    problems: Tuple[str, ...]
    management_interface: str = ""


def read_inventory(path: Path) -> Inventory:
    """Read INSTALLATION_UUID, PRODUCT_BRAND and PRODUCT_VERSION-BUILD_NUMBER; what is missing is a problem, no error.

    The init script set system-id, system-type and system-version from them (xenserver/etc_init.d_openvswitch, 2.17).
    """
    try:
        read = parse_assignments(read_text(path), str(path))
    except (FileNotFoundError, AdministratorError) as error:
        why = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        return Inventory("", "", "", ("%s %s: system-id and system-version stay as they are in the database; "
                                      "put the file back and run `ovsxen reload`" % (path, why),))
    keys = ("INSTALLATION_UUID", "PRODUCT_BRAND", "PRODUCT_VERSION", "BUILD_NUMBER")
    uuid, brand, release, build = (read.values.get(key, "").strip() for key in keys)
    missing = tuple("%s has no %s: add it and run `ovsxen reload`" % (path, key)
                    for key, value in zip(keys, (uuid, brand, release, build)) if not value)
    return Inventory(uuid, brand, "-".join(filter(None, (release, build))), read.problems + missing,
                     read.values.get("MANAGEMENT_INTERFACE", "").strip())


class Backend(Enum):
    """The host's network backend, as network.conf names it."""

    OPENVSWITCH = "openvswitch"
    BRIDGE = "bridge"
    INVALID = "invalid"


class NetworkConf(NamedTuple):
    """The backend and, where it is INVALID, what is wrong with the file."""

    backend: Backend
    problem: str


WORDS = {"openvswitch": Backend.OPENVSWITCH, "vswitch": Backend.OPENVSWITCH, "bridge": Backend.BRIDGE}


def read_network_conf(path: Path) -> NetworkConf:
    """Three ways and no fourth: the switch, the bridge, or invalid (missing, empty, any other word).

    Other readers of this file compare the whole word, so a byte order mark makes it another word here too: ovsxen
    must not run the switch on a host whose toolstack takes it to be off.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        return NetworkConf(Backend.INVALID, "%s is missing" % path)
    word = text.strip()
    if word in WORDS:
        return NetworkConf(WORDS[word], "")
    if word.lstrip(BYTE_ORDER_MARK).strip() in WORDS:
        return NetworkConf(Backend.INVALID, "%s begins with a byte order mark" % path)
    return NetworkConf(Backend.INVALID, "%s says %s" % (path, ascii(word[:40])) if word else "%s is empty" % path)
