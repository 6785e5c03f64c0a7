"""Whole hosts in containers, of each suite: switched on, booted again, switched off; who waits for whom."""

import json
import re
from typing import Dict, List

import pytest

from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT
from tests.machines import verdict
from tests.machines.conftest import MakeNspawn
from tests.machines.networks import ADDRESS_WITH_PREFIX, BRIDGES, NETWORKS
from tests.machines.nspawn import Nspawn
from tests.machines.watching import NETWORKD, XAPI
from tests.machines.world import World

pytestmark = pytest.mark.selection
HELD = "#!/bin/sh\n: >/run/asked\nuntil [ -e /run/go ]; do sleep 0.05; done\nexec /usr/sbin/ovs-vswitchd \"$@\"\n"
UNTIMELY = """#!/bin/sh
# At the next boot the daemon is killed, or this one does not start; once.
if [ -e /var/lib/untimely ]; then
    rm /var/lib/untimely
    %s
fi
exec /usr/sbin/%s "$@"
"""
ASKS_AT_STOP = "[Service]\nExecStop=/bin/sh -c 'ovs-vsctl --timeout=20 list-br >/var/lib/at-stop'\n"
ENDED_BADLY = r"systemd\[1\]: .*(timed out|Killing process|Failed with result|remains running|left-over process).*"


def found_by_networkd(host: Nspawn) -> List[str]:
    """The bridges that were there before it made any."""
    found: List[str] = json.loads(host.read("run/xcp-networkd.found.json"))
    return found


def jobs(host: Nspawn) -> Dict[str, str]:
    """What systemd is about: units, and whether it does something to them or waits."""
    lines = host.tell("systemctl list-jobs --no-legend --no-pager").splitlines()
    return {words[1]: words[3] for words in (line.split() for line in lines)}


def assert_in_order(text: str, *patterns: str) -> None:
    for pattern in patterns:
        found = re.search(pattern, text)
        assert found is not None, "no %s in\n%s" % (pattern, text)
        text = text[found.end():]


def test_a_first_boot_brings_up_the_switch_then_its_networks_then_xapi(host: Nspawn) -> None:
    assert host.wait_booted() == "running", host.tell("systemctl --failed")
    assert host.tell("ovs-vsctl list-br").split() == BRIDGES
    assert host.tell("ovs-vsctl --bare --columns=name find Interface ofport=-1") == ""
    assert host.read("run/xapi.plugin-runs").startswith("openvswitch-config-update update: ")
    assert verdict.find_lies(verdict.look(host)) == []
    switch = host.unit()
    followers = switch.property("Before").split()
    assert {NETWORKD, XAPI, SYNC_UNIT, "network.target"} < set(followers)
    asked = "systemctl show --value --property=InactiveExitTimestampMonotonic -- " + " ".join(followers)
    began = dict(zip(followers, map(int, host.tell(asked).split())))
    ready = int(switch.property("ActiveEnterTimestampMonotonic"))
    assert began[NETWORKD] and began[XAPI] and began[SYNC_UNIT]
    assert not {name: at for name, at in began.items() if 0 < at < ready}


def test_nothing_that_comes_after_the_switch_begins_before_that_is_configured(
        make_nspawn: MakeNspawn, container_world: World) -> None:
    host = make_nspawn(container_world)
    host.write("usr/local/sbin/ovs-vswitchd", HELD, 0o755)
    host.power_on(until_booted=False)
    switch = host.unit()
    switch.wait_until(lambda: (switch.root / "run/asked").exists()
                      and [unit for unit, state in jobs(host).items() if state == "running"] == [SWITCH_UNIT])
    waiting = jobs(host)
    assert {NETWORKD, XAPI, SYNC_UNIT, "network.target", "multi-user.target"} < set(waiting)
    assert not (switch.root / "run/xcp-networkd.found.json").exists()

    host.write("run/go", "")
    assert host.wait_booted() == "running"
    assert found_by_networkd(host) == []
    assert host.tell("ovs-vsctl list-br").split() == BRIDGES


def test_a_reboot_purges_last_boots_bridges_before_networkd_makes_its_own(host: Nspawn) -> None:
    host.tell("ovs-vsctl add-br left-over")
    first = host.boot_id
    host.reboot()
    assert host.boot_id != first
    assert found_by_networkd(host) == []
    assert host.tell("ovs-vsctl list-br").split() == BRIDGES
    assert host.run("ovsxen status").code == 0, host.run("ovsxen status")


def test_a_host_whose_power_was_cut_boots_as_any_other(host: Nspawn) -> None:
    host.tell("ovs-vsctl add-br left-over")
    host.power_cut()
    seen = verdict.look(host.power_on())
    assert (seen.systemd, seen.status["verdict"], verdict.find_lies(seen)) == ("running", "running", [])
    assert found_by_networkd(host) == []
    assert host.tell("ovs-vsctl list-br").split() == BRIDGES


def test_at_shutdown_the_switch_is_there_until_the_networks_are_given_up_and_ends_in_order(
        make_nspawn: MakeNspawn, container_world: World) -> None:
    host = make_nspawn(container_world)
    host.write("etc/systemd/system/%s.d/stop.conf" % NETWORKD, ASKS_AT_STOP)
    host.power_on()
    assert host.power_off() == 0
    assert host.read("var/lib/at-stop").split() == BRIDGES
    said = host.console
    assert_in_order(said, "Stopped %s" % XAPI, "Stopping %s" % NETWORKD, "Stopped %s" % NETWORKD,
                    "Stopping %s" % SWITCH_UNIT, r"ovs-vswitchd \(pid \d+\) stopped \(exit\)",
                    r"ovsdb-server \(pid \d+\) stopped \(exit\)", "%s: Deactivated successfully." % SWITCH_UNIT)
    assert "%s: Deactivated successfully." % SYNC_UNIT in said
    assert re.findall(ENDED_BADLY, said) == []


@pytest.mark.parametrize("program, fault, begins_again", [
    ("ovsdb-server", "kill -KILL $(systemctl show -p MainPID openvswitch.service | cut -d= -f2)", True),
    ("ovs-vswitchd", "exit 1", False)])
def test_a_host_has_its_networks_though_the_first_start_of_a_boot_failed(
        make_nspawn: MakeNspawn, container_world: World, program: str, fault: str, begins_again: bool) -> None:
    """Last boot's bridges content xcp-networkd, and go; for ovs-vswitchd it waits by itself."""
    host = make_nspawn(container_world)
    host.write("usr/local/sbin/" + program, UNTIMELY % (fault, program), 0o755)
    host.power_on()
    host.tell("ovs-vsctl add-br left-over; : >/var/lib/untimely")
    host.reboot()
    host.tell("until ip address show xenbr0 | grep -q %s; do sleep 0.2; done" % ADDRESS_WITH_PREFIX)
    assert set(host.tell("ovs-vsctl list-br").split()) >= {network.bridge for network in NETWORKS if network.dom0s}
    assert "left-over" not in host.tell("ovs-vsctl list-br")
    assert ("did not wait" in host.tell("journalctl --no-pager -u " + SWITCH_UNIT)) == begins_again
    assert host.run("ovsxen status").code == 0, host.run("ovsxen status")
