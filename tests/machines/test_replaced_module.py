"""The kernel module is replaced under guests that talk to each other."""

import json
from typing import Any, Dict, Tuple

import pytest

from tests.machines.pings import assert_frames_pass
from tests.machines.vm import Vm

MODULE = "/lib/modules/$(uname -r)/kernel/net/openvswitch/openvswitch.ko"
NEWER = "printf x >>" + MODULE
"""Bytes after its signature make it one of nobody's, which the kernel tells of a module that is loaded: E."""

KEPT = ("ovs-vsctl list-br; ovs-vsctl list-ports xenbr0; (ip -o -4 address show; ip -o link show xenbr0) |"
        " sed 's/^[0-9]*//' | sort; ip route show | sort; ovs-ofctl --no-stats dump-flows xenbr0")
"""Interfaces by their names: a new one has a new number."""


@pytest.fixture
def talking(talking: Vm) -> Vm:
    """With a flow besides, and a route over the bridge."""
    talking.tell("ovs-ofctl add-flow xenbr0 cookie=0x5eed,priority=77,udp,actions=drop")
    talking.tell("ip route add 203.0.113.0/24 via 192.0.2.9 dev xenbr0")
    return talking


def module(vm: Vm) -> Tuple[str, str]:
    """Which load of the module it is that the kernel has, and what is said against that."""
    inode, _, taint = vm.tell("stat -c %i /sys/module/openvswitch; cat /sys/module/openvswitch/taint").partition("\n")
    return inode, taint


def replace(vm: Vm) -> Tuple[int, Dict[str, Any]]:
    done = vm.run("ovsxen force-reload-kmod --json", 300)
    assert done.code is not None, done
    return done.code, {phase["name"]: phase for phase in json.loads(done.out)["phases"]}


def test_the_module_is_another_and_all_else_is_as_it_was(talking: Vm) -> None:
    first, before = module(talking), talking.tell(KEPT)
    talking.tell(NEWER)
    code, phases = replace(talking)
    assert code == 0, phases
    now = module(talking)
    assert now[0] != first[0] and (first[1], now[1]) == ("", "E"), (first, now)
    assert_frames_pass(talking)
    assert "cookie=0x5eed" in before and "203.0.113.0/24 via 192.0.2.9 dev xenbr0" in before
    assert talking.tell(KEPT) == before
    assert talking.run("ovsxen status").code == 0, talking.run("ovsxen status")


def test_a_module_that_somebody_else_uses_stays_and_goes_on_serving(talking: Vm) -> None:
    talking.tell("ip netns add other && ip netns exec other ovs-dpctl add-dp system@other")
    first, before = module(talking), talking.tell(KEPT)
    code, phases = replace(talking)
    reason = phases["new module"]["reason"]
    assert code == 1 and phases["new module"]["outcome"] == "failed", phases
    assert "openvswitch stays" in reason and "in use" in reason and "another network namespace" in reason
    assert module(talking) == first
    assert_frames_pass(talking)
    assert talking.tell(KEPT) == before
    assert talking.tell("ip netns exec other ovs-dpctl dump-dps") == "system@other"
    talking.tell("ip netns exec other ovs-dpctl del-dp system@other")
    code, phases = replace(talking)
    assert code == 0 and module(talking)[0] != first[0], phases
    assert_frames_pass(talking)
