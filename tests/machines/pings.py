"""Two guests in xenbr0 of a virtual machine, one of which asks the other five times a second, whatever else is done.
"""

from tests.machines.vm import Vm
from tests.machines.world import PLUG_GUEST

FRAMES_WITHIN_S = 180
SAID = "/run/pings"


def start(vm: Vm) -> None:
    """Plug them in and have one ask."""
    vm.tell("for n in 1 2; do %s $n xenbr0; done" % PLUG_GUEST)
    vm.tell("systemd-run -q --unit=talk sh -c 'exec ip netns exec guest1 ping -i 0.2 198.51.100.2 >%s'" % SAID)
    assert_frames_pass(vm)


def assert_frames_pass(vm: Vm) -> None:
    """From here on, without anybody's doing."""
    vm.tell("until [ $(grep -c 'bytes from' %s) -gt %d ]; do sleep 0.5; done" % (SAID, _answers(vm) + 5),
            FRAMES_WITHIN_S)


def _answers(vm: Vm) -> int:
    return int(vm.run("grep -c 'bytes from' " + SAID).out)
