"""network.conf decides, before anything else: is Open vSwitch this host's backend?

In bridge mode, or with a file that cannot be understood, nothing is loaded or started, and that is success: VIF
plugging keys on the kernel module, and the init script always did so.
"""

from typing import Callable, Iterator, Optional

from ovsxen.host.inventory import Backend, NetworkConf, read_network_conf
from ovsxen.host.paths import Paths
from ovsxen.report import Outcome, Phase
from ovsxen.sequence import Host, Warn


def why_disabled(paths: Paths) -> Optional[NetworkConf]:
    """What network.conf says where it does not make Open vSwitch the host's backend. Raises when it cannot be read."""
    conf = read_network_conf(paths.network_conf)
    return None if conf.backend is Backend.OPENVSWITCH else conf


def unless_disabled(host: Host, warn: Warn, proceed: Callable[[], Iterator[Phase]]) -> Iterator[Phase]:
    """The phases of `proceed`, or the one phase that says that there are none."""
    conf = why_disabled(host.paths)
    if conf is None:
        yield from proceed()
        return
    if conf.problem:
        warn("Open vSwitch is disabled, because %s: write vswitch or bridge into it" % conf.problem)
    yield Phase("gate", Outcome.SKIPPED, "%s: Open vSwitch is disabled, nothing is loaded or started" % (
        conf.problem or "network.conf says bridge"))
