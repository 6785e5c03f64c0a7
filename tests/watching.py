"""A host that `ovsxen daemon` watches, and what a test waits for."""

from typing import Callable, Dict

from ovsxen.host.clock import Deadline
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from tests.conftest import SandboxHost

BOTH = (OVSDB_SERVER, VSWITCHD)
IMPATIENT = ("OVSXEN_ANSWER_TIMEOUT=0.5", "OVSXEN_HANG_TIMEOUT=1")
"""Settings by which a daemon that is silent is soon taken for hung."""


def eventually(holds: Callable[[], bool], within_s: float = 30.0) -> bool:
    return Deadline(within_s).wait_until(holds, every_s=0.05)


def watch(host: SandboxHost, *settings: str) -> Process:
    """Have the host watched in the background, with its settings as they are where none are given; gives the daemon.

    It is up before that: impatient settings may be too short for a boot while the disk is busy.
    """
    if settings:
        host.start()
        host.settings(*settings)
    done = host.ovsxen("daemon", "--detach")
    assert done.code == 0, done
    watching = host.watcher()
    assert watching is not None
    return watching


def is_still_watched(host: SandboxHost, watching: Process) -> bool:
    """By that very daemon."""
    found = host.watcher()
    return found is not None and regardless_of_state(found) == regardless_of_state(watching)


def regardless_of_state(process: Process) -> Process:
    """A process as it is told apart from others: what it does at the moment is left out."""
    return process._replace(state="-")


def runs(host: SandboxHost, name: str) -> bool:
    return daemons.find(host.paths, name).process is not None


def has_new(host: SandboxHost, name: str, old: int) -> bool:
    """Another process than `old` is the daemon now."""
    found = daemons.find(host.paths, name).process
    return found is not None and found.pid != old


def both_run(host: SandboxHost) -> bool:
    return all(runs(host, name) for name in BOTH)


def pids(host: SandboxHost) -> Dict[str, int]:
    """Of both daemons of Open vSwitch, which must run."""
    return {name: host.pid(name) for name in BOTH}


def is_well(host: SandboxHost) -> bool:
    """Both run, have nothing to do any more, and do not wait for flows."""
    return both_run(host) and host.ovsxen("status").code == 0 and host.column("other_config") == "{}"
