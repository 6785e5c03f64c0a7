"""Which processes are connected by a Unix socket, asked of the kernel (sock_diag(7)), since no process can be asked.

OVSDB itself can only be asked by taking vswitchd's lock, and a vswitchd that meets its lock taken destroys its bridges
(vswitchd/bridge.c, bridge_run): a look must never do that.
"""

import re
import socket
import struct
from typing import Dict, FrozenSet, Iterator, Optional, Tuple

from ovsxen.host import process

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST_DUMP = 0x301
UDIAG_SHOW_PEER, UNIX_DIAG_PEER = 4, 2
ESTABLISHED = 1 << 1
WITHIN_S = 2.0
HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBHIIIII")
ANSWER_BYTES = 16  # struct unix_diag_msg
ATTRIBUTE = struct.Struct("=HH")


def are_connected(one_pid: int, other_pid: int) -> Optional[bool]:
    """Some Unix socket of one process has its other end in the other; None where the kernel does not tell us."""
    try:
        peers = read_peers()
        ones, others = socket_inodes(one_pid), socket_inodes(other_pid)
    except OSError:
        return None
    return any(peers.get(inode) in others for inode in ones)


def socket_inodes(pid: int) -> FrozenSet[int]:
    """The inodes of a process's sockets. Raises OSError where this user may not look."""
    found = (re.fullmatch(r"socket:\[(\d+)\]", name) for name in process.open_files(pid))
    return frozenset(int(match.group(1)) for match in found if match)


def read_peers() -> Dict[int, int]:
    """The inode of each connected Unix socket's peer. Raises OSError (a kernel without CONFIG_UNIX_DIAG)."""
    body = REQUEST.pack(socket.AF_UNIX, 0, 0, ESTABLISHED, 0, UDIAG_SHOW_PEER, 0, 0)
    peers: Dict[int, int] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(WITHIN_S)
        netlink.send(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0) + body)
        while True:
            for kind, message in _messages(netlink.recv(1 << 16)):
                if kind == NLMSG_DONE:
                    return peers
                if kind == NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", message)[0], "sock_diag")
                peer = _peer(message)
                if peer:
                    peers[struct.unpack_from("=I", message, 4)[0]] = peer


def _messages(data: bytes) -> Iterator[Tuple[int, bytes]]:
    at = 0
    while at + HEADER.size <= len(data):
        length, kind = HEADER.unpack_from(data, at)[:2]
        yield kind, data[at + HEADER.size:at + length]
        at += max(length + 3 & ~3, HEADER.size)


def _peer(message: bytes) -> int:
    """The peer's inode among the attributes of a unix_diag_msg; 0 where there is none."""
    at = ANSWER_BYTES
    while at + ATTRIBUTE.size <= len(message):
        length, kind = ATTRIBUTE.unpack_from(message, at)
        if kind == UNIX_DIAG_PEER:
            return int(struct.unpack_from("=I", message, at + ATTRIBUTE.size)[0])
        at += max(length + 3 & ~3, ATTRIBUTE.size)
    return 0
