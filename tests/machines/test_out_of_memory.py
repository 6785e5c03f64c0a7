"""The kernel has no memory left, and kills: not the switch; and where it does, the switch is back."""

from typing import Dict

from tests.container import DAEMONS
from tests.machines.pings import assert_frames_pass
from tests.machines.verdict import read_status
from tests.machines.vm import Vm

HOG = 'systemd-run -q --wait --unit=hog python3 -S -c "kept = []\nwhile True: kept.append(bytes([1]) * (8 << 20))"'
SPARED = "-1000"
BACK_WITHIN_S = 180


def pids(vm: Vm) -> Dict[str, int]:
    """Of the daemon that watches, and of both that it watches; of each that it is spared."""
    told = read_status(vm)
    found = {name: told["daemons"][name]["pid"] for name in DAEMONS}
    found["ovsxen"] = told["watch"]["pid"]
    for pid in found.values():
        assert vm.tell("cat /proc/%d/oom_score_adj" % pid) == SPARED
    return found


def test_what_takes_all_memory_dies_and_the_switch_does_not(talking: Vm) -> None:
    before = pids(talking)
    assert talking.run(HOG, 300).code != 0
    assert "Out of memory: Killed process" in talking.tell("dmesg | grep python3")
    assert talking.run("dmesg | grep 'Killed process.*ovs'").code == 1
    assert pids(talking) == before
    assert_frames_pass(talking)
    assert talking.run("ovsxen status").code == 0, talking.run("ovsxen status")


def test_a_vswitchd_that_is_killed_for_want_of_memory_is_started_again_and_nothing_else_is(talking: Vm) -> None:
    before = pids(talking)
    killed = before["ovs-vswitchd"]
    talking.tell("echo 1000 >/proc/%d/oom_score_adj && echo f >/proc/sysrq-trigger" % killed)
    talking.tell("until dmesg | grep 'Killed process %d (ovs-vswitchd)'; do sleep 1; done" % killed, BACK_WITHIN_S)
    talking.tell("until ls /var/log/openvswitch/ovsxen/*-ovs-vswitchd*-death/why.txt && ovsxen status; do sleep 1; "
                 "done", BACK_WITHIN_S)
    now = pids(talking)
    assert now["ovs-vswitchd"] != killed
    assert {name: now[name] for name in ("ovsdb-server", "ovsxen")} == {
        name: before[name] for name in ("ovsdb-server", "ovsxen")}
    assert_frames_pass(talking)
    told = read_status(talking)
    assert any("ovs-vswitchd" in event["text"] for event in told["watch"]["events"]), told["watch"]
    assert "Killed process %d" % killed in talking.tell("cat /var/log/openvswitch/ovsxen/*-death/kernel.txt")
