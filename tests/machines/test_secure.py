"""A host whose management network is secure: its switch forwards nothing by itself, but dom0 is reached."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from tests.machines.conftest import MakeVm
from tests.machines.networks import ADDRESS, NETWORKS, networkd_db
from tests.machines.rootfs import write
from tests.machines.vm import Vm
from tests.machines.world import KILL_AND_MEND, PLUG_GUEST, World

OUTSIDE = """ip netns add outside && ip link set lan0 netns outside && ip -n outside link set lan0 up &&
ip -n outside address add 192.0.2.1/24 dev lan0"""
PING = "ip netns exec outside ping -c 3 -W 30 " + ADDRESS
GUESTS = "%s 1 xenbr0 && %s 2 xenbr0" % (PLUG_GUEST, PLUG_GUEST)
PING_GUEST = "ip netns exec guest1 ping -c 2 -W 5 198.51.100.2"
COOKIE = "cookie=0x6f767378656e"
"""Of flows that ovsxen puts in place: docs/update.md."""


@pytest.fixture
def secure_world(base: Path, world: World) -> Iterator[World]:
    work = Path(tempfile.mkdtemp(prefix="secure-", dir=str(base)))
    networks = tuple(network._replace(fail_mode="secure" if network.address else "") for network in NETWORKS)
    write(work / "layer/var/lib/xcp/networkd.db", json.dumps(networkd_db(networks)))
    yield world.with_layer(work / "layer")
    shutil.rmtree(str(work))


def assert_dom0_alone_is_reached(vm: Vm) -> None:
    assert vm.tell("ovs-vsctl get Bridge xenbr0 fail_mode") == "secure"
    assert " 0% packet loss" in vm.tell(PING)
    assert "100% packet loss" in vm.run(PING_GUEST).out
    assert COOKIE in vm.tell("ovs-ofctl dump-flows xenbr0")
    assert vm.run("ovsxen status").code == 0, vm.run("ovsxen status")


def test_dom0_is_reached_over_a_secure_bridge_after_a_boot_a_restart_and_a_crash(
        secure_world: World, make_vm: MakeVm) -> None:
    vm = make_vm(of=secure_world).power_on()
    assert vm.wait_booted() == "running", vm.tell("systemctl --failed")
    vm.tell(OUTSIDE)
    vm.tell(GUESTS)
    assert_dom0_alone_is_reached(vm)
    for happening in ("systemctl restart openvswitch", KILL_AND_MEND + " ovs-vswitchd"):
        vm.tell(happening)
        assert_dom0_alone_is_reached(vm)
