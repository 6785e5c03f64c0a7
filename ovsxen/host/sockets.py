"""What the kernel knows of the Unix sockets of others: who is connected to whom (sock_diag(7)), and who has room for
another message. Nobody is asked, so nobody is waited for.

OVSDB itself can only be asked who is connected by taking vswitchd's lock, and a vswitchd that meets its lock taken
destroys its bridges (vswitchd/bridge.c, bridge_run): a look must never do that.
"""

import re
import select
import socket
import struct
from typing import Dict, FrozenSet, Optional

from ovsxen.host import process
from ovsxen.host.netlink import Netlink, attributes

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
UDIAG_SHOW_PEER, UNIX_DIAG_PEER = 4, 2
ESTABLISHED = 1 << 1
REQUEST = struct.Struct("=BBHIIIII")
INODE = struct.Struct("=I")
INODE_AT, ATTRIBUTES_AT = 4, 16  # struct unix_diag_msg


def are_connected(one_pid: int, other_pid: int) -> Optional[bool]:
    """Some Unix socket of one process has its other end in the other; None where the kernel does not tell us."""
    try:
        peers = read_peers()
        ones, others = socket_inodes(one_pid), socket_inodes(other_pid)
    except OSError:
        return None
    return any(peers.get(inode) in others for inode in ones)


def takes_datagram(address: str, within_s: float) -> bool:
    """Whoever listens there has room for another message, now or in that time. So has one that cannot be connected to:
    then sending fails at once.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as tried:
        try:
            tried.connect(as_bound(address))
        except OSError:
            return True
        poller = select.poll()
        poller.register(tried, select.POLLOUT)
        return bool(poller.poll(within_s * 1000))


def as_bound(address: str) -> str:
    """A socket's address as the kernel takes it; one that begins with @ is no file (unix(7), abstract)."""
    return "\0" + address[1:] if address.startswith("@") else address


def socket_inodes(pid: int) -> FrozenSet[int]:
    """The inodes of a process's sockets. Raises OSError where this user may not look."""
    found = (re.fullmatch(r"socket:\[(\d+)\]", name) for name in process.open_files(pid))
    return frozenset(int(match.group(1)) for match in found if match)


def read_peers() -> Dict[int, int]:
    """The inode of each connected Unix socket's peer. Raises OSError (a kernel without CONFIG_UNIX_DIAG)."""
    with Netlink(NETLINK_SOCK_DIAG) as netlink:
        answers = netlink.dump(SOCK_DIAG_BY_FAMILY, REQUEST.pack(
            socket.AF_UNIX, 0, 0, ESTABLISHED, 0, UDIAG_SHOW_PEER, 0, 0))
    return {INODE.unpack_from(answer, INODE_AT)[0]: INODE.unpack_from(value)[0]
            for answer in answers for kind, value in attributes(answer[ATTRIBUTES_AT:]) if kind == UNIX_DIAG_PEER}
