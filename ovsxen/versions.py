"""Versions of the daemons: what is installed, and what runs, which differ after an update until the next restart."""

from typing import Tuple

from ovsxen.look import look_at_daemon
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.sequence import Host


def read_versions(host: Host) -> Tuple[str, ...]:
    """One line for each daemon. Raises NotInstalled."""
    lines = []
    for name in (OVSDB_SERVER, VSWITCHD):
        installed = daemons.read_installed_version(name)
        seen = look_at_daemon(host.paths, name, host.settings.answer_timeout_s)
        running = "%s running" % seen.version if seen.version else seen.health.value
        lines.append("%s %s installed, %s" % (name, installed, running))
    return tuple(lines)
