"""`python -m ovsxen.sandbox.xapi ROOT`: the fake XAPI of a sandbox as a process, until SIGTERM. It says nothing."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import List, Optional

from ovsxen.host.inventory import read_inventory
from ovsxen.host.paths import Paths, paths_under
from ovsxen.sandbox.contents import INSTALLATION_UUID
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import World, make_world

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
DEFAULT_NETWORKS = 3


def main(arguments: Optional[List[str]] = None) -> int:
    """Serve until a signal ends it. The caller finds out that it serves by connecting."""
    options = _parser().parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # before any thread is there: they all leave them to sigwait
    paths = paths_under(Path(options.root), os.environ)
    xapi = FakeXapi(paths, _world(paths, options), slave=options.slave)
    try:
        xapi.__enter__()
    except OSError as error:
        sys.stderr.write("the sandbox's XAPI cannot listen at %s (%s)\n" % (paths.xapi_socket, error.strerror))
        return 1
    try:
        _let_go_of_the_caller()
        signal.sigwait(ENDS)
    finally:
        xapi.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ovsxen.sandbox.xapi", description=__doc__)
    parser.add_argument("root", metavar="ROOT", help="the directory of the sandbox")
    for name, default, what in (("networks", DEFAULT_NETWORKS, "NICs, each with a network"), ("vlans", 0, "VLANs"),
                                ("hosts", 1, "hosts in the pool; only the first one is live")):
        parser.add_argument("--" + name, type=int, default=default, metavar="N", help=what)
    parser.add_argument("--bond", action="store_true", help="bond eth0 and eth1")
    parser.add_argument("--management", default="", metavar="DEVICE", help="eth0, bond0 or vlan100")
    parser.add_argument("--slave", action="store_true", help="another host is the master (with --hosts 2 or more)")
    parser.add_argument("--without-sdn-controller", action="store_true", help="a XAPI before 7.2")
    return parser


def _world(paths: Paths, options: argparse.Namespace) -> World:
    uuid = read_inventory(paths.inventory).uuid or INSTALLATION_UUID
    hosts = max(options.hosts, 2 if options.slave else 1)
    return make_world(uuid, options.networks, options.vlans, options.bond, hosts, management=options.management,
                      master=1 if options.slave else 0, sdn_controller_class=not options.without_sdn_controller)


def _let_go_of_the_caller() -> None:
    """Whoever waits for the end of our output must not wait for us."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
