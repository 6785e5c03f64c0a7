"""The host under fire, and all that stands around it."""

import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

from bench.namespaces import kill_all_inside
from bench.traffic import Pair
from ovsxen.errors import OvsxenError
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.sandbox import sandbox
from tests.conftest import SandboxHost
from tests.frames import Wire, plugged_in
from tests.soak.draw import DAEMON
from tests.soak.ears import Ears
from tests.soak.sentry import Sentry
from tests.soak.story import Story, Violation
from tests.soak.unit import Unit
from tests.watching import BOTH, regardless_of_state

EASY, SECURE = "xenbr0", "xenbr1"
"""The bridge that forwards by itself, and the one that forwards by nothing but its flows."""

EASY_PAIRS = (Pair("lan0", "guest"), Pair("guest", "lan0"))
SECURE_PAIRS = (Pair("lan1", "guest2"), Pair("guest2", "lan1"))
SYSCONFIG = """VSWITCHD_MLOCKALL=no
FORCE_COREFILES=no
OVSXEN_START_TIMEOUT=8
OVSXEN_ANSWER_TIMEOUT=1
OVSXEN_HANG_TIMEOUT=2
OVSXEN_BUSY_TIMEOUT=20
OVSXEN_RESTART_WINDOW=1
OVSXEN_REST=1
"""


class Site(NamedTuple):
    """What the parts of a soak share."""

    wire: Wire
    unit: Unit
    sentry: Sentry
    ears: Ears
    story: Story

    @property
    def host(self) -> SandboxHost:
        return self.wire.host

    def find(self, name: str) -> Optional[Process]:
        """A daemon that runs, by its name. Raises Violation."""
        try:
            found = self.unit.process() if name == DAEMON else daemons.find(self.host.paths, name).process
        except OvsxenError as error:
            raise Violation("%s is not itself: %s" % (name, error)) from error
        return found and regardless_of_state(found)


@contextmanager
def soaking(directory: Path) -> Iterator[Site]:
    """A host to be watched, with both bridges forwarding; afterwards nothing of it is left."""
    host = SandboxHost(sandbox.make(directory / "h", 0))
    with ExitStack() as stack:
        story = Story(stack.enter_context(open(str(directory / "output"), "ab", buffering=0)))
        wire = stack.enter_context(plugged_in(host))
        host.write(host.paths.sysconfig, SYSCONFIG)
        _plug_in_the_second_bridge(wire)
        ears = Ears(wire, EASY_PAIRS + SECURE_PAIRS)
        stack.callback(ears.close)
        strangers = tuple(stack.enter_context(_stranger(directory, name)) for name in BOTH)
        sentry = Sentry(host.paths.rundir, strangers)
        stack.callback(sentry.close)
        stack.callback(kill_all_inside, wire.name)  # what a violation has left, such as a verb that hangs
        unit = Unit(wire, story.output)
        stack.callback(unit.close)
        yield Site(wire, unit, sentry, ears, story)


def _plug_in_the_second_bridge(wire: Wire) -> None:
    """It has eth1 and vif2.0."""
    wire.inside("ip", "link", "add", "vif2.0", "type", "veth", "peer", "name", "guest2")
    for device in ("vif2.0", "guest2"):
        wire.inside("ip", "link", "set", device, "up")
    wire.host.vsctl("set", "Bridge", EASY, "fail_mode=standalone", "--", "add-port", EASY, "eth0",
                    "--", "add-br", SECURE, "--", "set", "Bridge", SECURE, "datapath_type=netdev", "fail_mode=secure",
                    "--", "add-port", SECURE, "eth1", "--", "add-port", SECURE, "vif2.0")


@contextmanager
def _stranger(directory: Path, name: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A process with the name of a daemon of Open vSwitch, which is nobody's business."""
    program = directory / name
    shutil.copy(str(shutil.which("sleep")), str(program))
    with subprocess.Popen([str(program), "1000000"]) as child:
        try:
            yield child
        finally:
            child.kill()
