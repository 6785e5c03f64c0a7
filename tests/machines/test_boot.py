"""A host is switched on, and switched on again: the switch first, then what makes its networks, then XAPI."""

import json

from tests.machines.conftest import MakeVm
from tests.machines.vm import Vm

BRIDGES = ["xenbr0", "xenbr1", "xapi0"]


def test_a_first_boot_brings_the_switch_up_in_the_kernel(make_vm: MakeVm) -> None:
    vm = make_vm().power_on()
    assert vm.wait_booted() == "running", vm.tell("systemctl --failed")
    assert sorted(vm.tell("ovs-vsctl list-br").split()) == sorted(BRIDGES)
    assert vm.tell("ovs-dpctl show").startswith("system@ovs-system:\n")
    assert vm.run("ovsxen status").code == 0, vm.run("ovsxen status")


def test_a_reboot_purges_last_boots_bridges_before_networkd_makes_its_own(make_vm: MakeVm) -> None:
    vm = make_vm().power_on()
    vm.tell("ovs-vsctl add-br left-over")
    first = vm.boot_id
    vm.reboot()
    assert vm.boot_id != first
    assert json.loads(vm.tell("cat /run/xcp-networkd.found.json")) == []
    assert sorted(vm.tell("ovs-vsctl list-br").split()) == sorted(BRIDGES)


def test_a_machine_that_is_up_already_answers(vm: Vm) -> None:
    assert vm.run("ovsxen status").code == 0
    vm.power_cut()
    vm.setup = vm.setup._replace(saved=False)
    vm.power_on()
    assert vm.run("ovsxen status").code == 0
