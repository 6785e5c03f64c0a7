"""The kernel's part of the switch is missing, banned, or not wanted; and what of it comes back by itself."""

from typing import List

import pytest

from tests.machines.conftest import MakeVm
from tests.machines.networks import ADDRESS_WITH_PREFIX, BRIDGES
from tests.machines.verdict import read_status
from tests.machines.vm import Setup, Vm
from tests.machines.world import World

UNIT = "openvswitch.service"
OWN = "/lib/modules/$(uname -r)/kernel/net/openvswitch"
KEPT = "/root/kept-modules"
TAKE_AWAY = "mv /lib/modules/*/kernel/net/openvswitch %s" % KEPT
PUT_BACK = "mv %s %s && depmod -a" % (KEPT, OWN)
NO_SWITCH = "systemctl stop openvswitch && ovs-dpctl del-dp system@ovs-system && rmmod openvswitch"
BACK_WITHIN_S = 180
CONF = "/etc/modprobe.d/local.conf"
NAMES_KEPT = "grep -o '\"name\":\"[a-z0-9]*\"' /etc/openvswitch/conf.db"
PORTS = "(ip -o link show type bridge; bridge -o link) | sed 's/<[^>]*>//; s/state [A-Za-z]*//'"

# The kernels before 2.6.37 had one hook for bridges of either kind, and nothing of today's is as jealous.
JEALOUS = r"""cat >/usr/local/sbin/modprobe <<'END'
#!/bin/sh
if [ -e /sys/module/bridge ] && [ "${1#openvswitch}" != "$1" ]; then
    echo "modprobe: ERROR: could not insert '$1': Device or resource busy" >&2
    exit 1
fi
exec /sbin/modprobe "$@"
END
chmod 755 /usr/local/sbin/modprobe"""


def shown(vm: Vm, *names: str) -> List[str]:
    """Properties of the unit, in this order."""
    told = dict(line.split("=", 1) for line in vm.tell("systemctl show %s -p %s" % (UNIT, ",".join(names))).split("\n"))
    return [told[name] for name in names]


def assert_tried_again_and_again(vm: Vm) -> None:
    """The unit is no success, and systemd has not given up."""
    vm.tell("until [ $(systemctl show -P NRestarts %s) -ge 2 ]; do sleep 1; done" % UNIT, BACK_WITHIN_S)
    assert shown(vm, "ActiveState") == ["activating"]


def assert_module_is_blamed(vm: Vm, *words: str) -> None:
    """By the log of the unit, by a start, and by the status, whose exit code is that of a switch that is not there."""
    log = vm.tell("journalctl --no-pager -o cat -u %s | grep '^module *failed'" % UNIT)
    start = vm.run("ovsxen load-kmod")
    assert start.code == 1
    for word in words:
        assert word in log and word in start.out, (word, log, start)
    told = read_status(vm)
    assert (told["verdict"], told["exit_code"], told["module"]) == ("stopped", 3, "not loaded"), told
    assert any("openvswitch is not loaded" in problem for problem in told["problems"]), told
    assert told["daemons"]["ovsdb-server"]["state"] == "running"  # by which a controller reaches a sick host
    assert vm.run("test -e /sys/module/openvswitch").code == 1


def assert_comes_back(vm: Vm) -> None:
    """By itself."""
    vm.tell("until [ $(systemctl is-active %s) = active ]; do sleep 1; done" % UNIT, BACK_WITHIN_S)
    assert read_status(vm)["verdict"] == "running", read_status(vm)
    assert vm.tell("ovs-dpctl dump-dps") == "system@ovs-system"


def test_a_boot_without_the_module_says_so_and_all_comes_up_once_it_is_there(world: World, make_vm: MakeVm) -> None:
    absent = world.after("%s; for r in /lib/modules/*; do depmod -a ${r##*/}; done" % TAKE_AWAY)
    vm = make_vm(of=absent).power_on(until_booted=False)
    assert_tried_again_and_again(vm)
    assert_module_is_blamed(vm, "Module openvswitch not found", "install the package that holds openvswitch.ko")
    vm.tell(PUT_BACK)
    assert_comes_back(vm)
    vm.tell("until [ $(systemctl is-active xapi) = active ]; do sleep 1; done", BACK_WITHIN_S)
    assert sorted(vm.tell("ovs-vsctl list-br").split()) == BRIDGES
    assert ADDRESS_WITH_PREFIX in vm.tell("ip address show xenbr0")


def test_a_kernel_that_was_started_with_the_module_banned_needs_another_start(make_vm: MakeVm) -> None:
    vm = make_vm(setup=Setup(append="module_blacklist=openvswitch")).power_on(until_booted=False)
    assert_tried_again_and_again(vm)
    assert_module_is_blamed(vm, "/proc/cmdline", "what the boot loader gives the kernel, and reboot")
    vm.power_cut()
    vm.setup = Setup()
    vm.power_on()
    assert read_status(vm)["verdict"] == "running", read_status(vm)
    assert sorted(vm.tell("ovs-vsctl list-br").split()) == BRIDGES


def test_bridge_mode_loads_nothing_and_holds_nobody_up(world: World, make_vm: MakeVm) -> None:
    bridged = world.after("echo bridge >/etc/xensource/network.conf; rm -f /etc/modprobe.d/blacklist-bridge.conf")
    vm = make_vm(of=bridged).power_on()
    assert vm.wait_booted() == "running", vm.tell("systemctl --failed")
    assert vm.run("test -e /sys/module/openvswitch").code == 1
    assert vm.run("pgrep 'ovs-vswitchd|ovsdb-server'").code == 1
    assert shown(vm, "ActiveState", "Result", "NRestarts") == ["inactive", "success", "0"]
    told = read_status(vm)
    assert (told["verdict"], told["exit_code"], told["problems"]) == ("disabled", 3, [])
    assert vm.tell("systemctl is-active xcp-networkd xapi").split() == ["active", "active"]
    assert "master xenbr0" in vm.tell("ip link show eth0") and ADDRESS_WITH_PREFIX in vm.tell("ip address show xenbr0")
    for verb in ("start", "load-kmod", "force-reload-kmod", "restart"):
        assert vm.run("ovsxen " + verb).code == 0
    assert vm.run("test -e /sys/module/openvswitch").code == 1


@pytest.mark.parametrize("ban, lift, said", [
    (TAKE_AWAY, "mv %s %s" % (KEPT, OWN), "no such module for this kernel"),
    ("echo 'install openvswitch /bin/false' >" + CONF, "rm " + CONF, "it is blacklisted in " + CONF),
    ("echo 'install openvswitch /sbin/modprobe nothing' >" + CONF, "rm " + CONF, "`install openvswitch` in " + CONF),
])
def test_what_keeps_the_module_out_is_named_and_the_switch_is_back_without_it(
        vm: Vm, ban: str, lift: str, said: str) -> None:
    before = vm.tell(NAMES_KEPT)
    vm.tell("%s && %s" % (NO_SWITCH, ban))
    assert vm.run("systemctl start openvswitch").code == 1
    assert_tried_again_and_again(vm)
    assert_module_is_blamed(vm, said)
    vm.tell(lift)
    assert_comes_back(vm)
    assert vm.tell(NAMES_KEPT) == before
    assert sorted(vm.tell("ovs-vsctl list-br").split()) == BRIDGES


def test_a_plain_blacklist_is_for_aliases_and_keeps_nothing_out(vm: Vm) -> None:
    vm.tell("%s && echo 'blacklist openvswitch' >%s && systemctl start openvswitch" % (NO_SWITCH, CONF))
    assert_comes_back(vm)


def test_the_kernels_own_bridges_stay_where_they_stand_in_nobodys_way(vm: Vm) -> None:
    vm.tell("%s && ip link add br9 type bridge && ip link set lan1 master br9 && ip link set br9 up" % NO_SWITCH)
    before = vm.tell(PORTS)
    vm.tell("systemctl start openvswitch")
    assert_comes_back(vm)
    assert "br9" in before and vm.tell(PORTS) == before


def test_a_bridge_module_in_the_way_goes_when_it_is_empty_and_its_bridges_never(vm: Vm) -> None:
    vm.tell("%s && %s" % (NO_SWITCH, JEALOUS))
    vm.tell("modprobe bridge && systemctl start openvswitch")
    assert "after the empty bridge module was removed" in vm.tell("journalctl --no-pager -o cat -u " + UNIT)
    assert_comes_back(vm)
    assert vm.run("test -e /sys/module/bridge").code == 1
    vm.tell("%s && ip link add br9 type bridge && ip link set lan1 master br9 && ip link set br9 up" % NO_SWITCH)
    before = vm.tell(PORTS)
    assert vm.run("systemctl start openvswitch").code == 1
    assert_tried_again_and_again(vm)
    assert_module_is_blamed(vm, "bridges: br9", "delete them, or boot in switch mode")
    assert "master br9" in before and vm.tell(PORTS) == before
    vm.tell("ip link delete br9")
    assert_comes_back(vm)
