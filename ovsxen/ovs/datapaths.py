"""The kernel's datapaths, through ovs-dpctl. To be deleted only while no ovs-vswitchd runs: it would lose its ports.

Never ask once the module is out: the question alone loads it again (linux, net/netlink/genetlink.c), without its
parameters.
"""

from typing import Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import proc
from ovsxen.host.paths import Paths
from ovsxen.host.proc import Finished
from ovsxen.ovs import daemons

DPCTL = "ovs-dpctl"
WITHIN_S = 60.0
"""Deleting one with very many ports takes a while."""


def delete_all(paths: Paths) -> Tuple[str, ...]:
    """Delete every datapath that there is, with its internal ports; gives their names. Raises AdministratorError."""
    names = _read_names(paths)
    for name in names:
        _require(_dpctl(paths, "del-dp", name))
    left = _read_names(paths)
    if left:
        raise AdministratorError("%s is still there after it was deleted" % " and ".join(left),
                                 "see which other program makes datapaths, stop it, and do this again")
    return names


def _read_names(paths: Paths) -> Tuple[str, ...]:
    return tuple(_require(_dpctl(paths, "dump-dps")).stdout.split())


def _dpctl(paths: Paths, *arguments: str) -> Finished:
    return proc.run((DPCTL,) + arguments, WITHIN_S, daemons.environment(paths))


def _require(ended: Finished) -> Finished:
    if ended.returncode != 0:
        command = " ".join(ended.argv)
        raise AdministratorError("`%s` failed (%s)" % (command, ended.complaint), "see `dmesg`, and run it by hand")
    return ended
