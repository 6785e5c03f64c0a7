"""The root file system is full: nothing is torn, what is said is true, and with room all is well again by itself."""

import json

from tests.machines.networks import ADDRESS_WITH_PREFIX, BRIDGES
from tests.machines.verdict import read_status
from tests.machines.vm import Vm

BACK_WITHIN_S = 240
CONF_DB = "/etc/openvswitch/conf.db"
FILL = """sync; n=0
for size in 268435456 16777216 1048576 65536 4096; do
    while fallocate -l $size /filler.$n; do n=$((n + 1)); done
    rm -f /filler.$n
done 2>/dev/null; ! echo x 2>/dev/null >/root/no-room"""
USE_UP_LAST_BLOCK = """for size in 1000 100 1; do for n in 1 2 3 4 5 6 7 8 9 10; do
    ovs-vsctl --timeout=20 --no-wait set open . external_ids:short=$(head -c $size /dev/zero | tr '\\0' x)$n || break
done; done 2>/dev/null; true"""
"""What conf.db still has room for in its own: the purge of a boot, or a part of what networkd writes, would fit."""

MAKE_ROOM = "rm /filler.*"
LONG = "ovs-vsctl --timeout=20 set open . external_ids:long=$(head -c 4096 /dev/zero | tr '\\0' x)"
HISTORY = "/var/lib/ovsxen/boots.json"
SUMS = ("find /etc/openvswitch /etc/xensource /etc/xensource-inventory /etc/sysconfig /var/lib/ovsxen /var/lib/xcp"
        " -type f | grep -vx '/etc/openvswitch/conf.db\\|%s' | sort | xargs md5sum" % HISTORY)


def problems(vm: Vm) -> str:
    return "\n".join(read_status(vm)["problems"])


def fill(vm: Vm) -> str:
    """Gives the names and sums of all that must not change meanwhile: all that is ours, but for the database and for
    what the daemon has yet to learn of the boot.
    """
    before = vm.tell(SUMS)
    vm.tell(FILL)
    vm.tell(USE_UP_LAST_BLOCK)
    assert vm.run("echo x >/root/no-room").code != 0
    return before


def assert_nothing_is_torn(vm: Vm, before: str) -> None:
    """And nothing half made is left."""
    assert vm.tell(SUMS) == before
    json.loads(vm.tell("cat " + HISTORY))
    # A server that tries again and again to write may be in the middle of it.
    vm.tell("until ovsdb-tool query %s '[\"Open_vSwitch\"]'; do sleep 1; done" % CONF_DB)
    for name in BRIDGES:
        vm.tell("grep -q '\"name\":\"%s\"' %s" % (name, CONF_DB))


def assert_well_again(vm: Vm) -> None:
    """Without anybody's doing but the room."""
    vm.tell(MAKE_ROOM)
    vm.tell("until ovsxen status >/run/said && [ $(systemctl is-active openvswitch) = active ]; do sleep 1; done",
            BACK_WITHIN_S)


def assert_networks_are_there(vm: Vm) -> None:
    assert sorted(vm.tell("ovs-vsctl list-br").split()) == BRIDGES
    vm.tell(LONG)
    assert ADDRESS_WITH_PREFIX in vm.tell("ip address show xenbr0")


def test_a_switch_that_runs_goes_on_says_that_there_is_no_room_and_is_not_restarted(vm: Vm) -> None:
    before = fill(vm)
    refused = vm.run("%s || %s" % (LONG, LONG))
    assert refused.code != 0 and "No space left on device" in refused.err
    told = read_status(vm)
    assert (told["verdict"], told["exit_code"]) == ("degraded", 150), told
    assert "make room in /etc/openvswitch" in problems(vm) and "ovsxen restart" not in problems(vm), told
    for verb in ("restart", "restart --save-flows", "force-reload-kmod"):
        done = vm.run("ovsxen " + verb)
        assert done.code == 1 and "make room" in done.out, done
    assert {name: one["pid"] for name, one in read_status(vm)["daemons"].items()} == {
        name: one["pid"] for name, one in told["daemons"].items()}
    assert_nothing_is_torn(vm, before)
    assert_well_again(vm)
    assert_networks_are_there(vm)
    assert read_status(vm)["daemons"]["ovs-vswitchd"]["pid"] == told["daemons"]["ovs-vswitchd"]["pid"]


def test_an_update_without_room_resets_nothing_and_is_made_up_for_with_room(vm: Vm) -> None:
    before = fill(vm)
    vm.tell("xe sdn-controller-introduce protocol=ssl address=192.0.2.9 port=6640")
    done = vm.run("ovsxen update")
    assert done.code == 1 and "No space left on device" in done.err and "make room" in done.err, done
    assert "make room" in problems(vm) and "run `ovsxen update`" in problems(vm)
    assert vm.tell("ovs-vsctl get-manager") == ""
    assert_nothing_is_torn(vm, before)
    vm.tell(MAKE_ROOM)
    assert vm.run("ovsxen update").code == 0
    assert vm.tell("ovs-vsctl get-manager") == "ssl:192.0.2.9:6640"


def test_a_host_that_boots_without_room_says_so_and_is_up_as_soon_as_there_is_some(vm: Vm) -> None:
    before = fill(vm)
    vm.run("systemctl --no-block reboot")
    vm.wait_answering(not_in=vm.boot_id)
    vm.tell("until journalctl -u openvswitch | grep -q 'make room'; do sleep 2; done", BACK_WITHIN_S)
    told = read_status(vm)
    assert told["exit_code"] != 0 and "make room" in problems(vm), told
    assert_nothing_is_torn(vm, before)
    assert_well_again(vm)
    vm.tell("until ip address show xenbr0 | grep -q %s; do sleep 1; done" % ADDRESS_WITH_PREFIX, BACK_WITHIN_S)
    vm.tell("systemctl restart xcp-networkd xapi", BACK_WITHIN_S)  # XAPI has its own networks made at its start alone
    assert_networks_are_there(vm)
