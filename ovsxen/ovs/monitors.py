"""The monitor that Open vSwitch starts with `--monitor`: the parent of a daemon, which starts it again after a crash.

ovsxen starts none and wants none beside the ovsxen daemon: it would start a crashed daemon as it was, with the program
and the options of then. Its end is not the daemon's (lib/daemon-unix.c, monitor_daemon): it only waits for that one.
"""

from typing import Optional

from ovsxen.host import process
from ovsxen.host.process import Process
from ovsxen.ovs.daemons import Daemon


def find_monitor(daemon: Daemon) -> Optional[Process]:
    """The monitor of a daemon that runs, by being its parent and by what it says of itself; None where it has none."""
    if daemon.process is None:
        return None
    parent = process.find_parent(daemon.process)
    if parent is None:
        return None
    title = process.read_command_line(parent.pid)[:1]
    says = "%s: monitoring pid %d " % (daemon.name, daemon.process.pid)
    return parent if title and (title[0] + " ").startswith(says) else None
