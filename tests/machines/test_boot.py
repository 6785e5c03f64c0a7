"""A host is switched on, and switched on again: the switch first, then what makes its networks, then XAPI. In between
guests' frames pass. In three suites of Debian's, each with a kernel, systemd, Python and Open vSwitch of its own.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from tests.machines import journey, networks
from tests.machines import world as worlds
from tests.machines.conftest import MAIN_SUITE
from tests.machines.journey import Journey, Seen
from tests.machines.vm import Vm
from tests.machines.world import World

SUITES = (MAIN_SUITE, "bullseye", "trixie")
UNCHANGED = "openvswitch-config-update update: No change to configuration"
LOSES_NOTHING = ("an update", "a restart of the toolstack", "the death of the daemon", "a stop")


@pytest.fixture(scope="module", params=SUITES)
def gone(request: pytest.FixtureRequest, base: Path, world: World) -> Iterator[Journey]:
    """The journey of one machine of each suite."""
    suite: str = request.param
    work = Path(tempfile.mkdtemp(prefix=suite + "-", dir=str(base)))
    vm = Vm((world if suite == MAIN_SUITE else worlds.make(suite, work)).after(journey.WITH_CONTROLLER), work / "vm")
    try:
        yield journey.travel(vm)
    finally:
        if vm.boots:
            print(vm.describe())
        vm.remove()
        shutil.rmtree(str(work))


def assert_well(seen: Seen) -> None:
    assert seen.state == "running"
    assert (seen.status["verdict"], seen.status["problems"]) == ("running", [])
    assert seen.datapath.startswith("system@ovs-system:\n")
    assert seen.failed == []
    assert sorted(seen.fake_bridges) == networks.BRIDGES


def assert_in_order(seen: Seen) -> None:
    switch, networkd, xapi = (seen.units[name] for name in journey.UNITS)
    assert 0 < switch.active <= networkd.begun < networkd.active <= xapi.begun < xapi.active
    assert (switch.restarts, networkd.restarts, xapi.restarts) == (0, 0, 0)


def assert_as_networkd_makes_them(seen: Seen) -> None:
    for network in networks.NETWORKS:
        if network.vlan is not None:
            assert seen.fake_bridges[network.bridge] == network.vlan[0]
            continue
        row = seen.bridges[network.bridge]
        assert (row["fail_mode"], row["other_config"]["hwaddr"]) == ("standalone", network.mac)
        assert "by" not in row["other_config"]


def test_a_first_boot_brings_the_switch_up_in_the_kernel(gone: Journey) -> None:
    assert_well(gone.first)
    assert_as_networkd_makes_them(gone.first)


def test_networks_are_made_once_the_switch_is_there_and_xapi_starts_once_they_are(gone: Journey) -> None:
    assert_in_order(gone.first)


def test_a_reboot_purges_what_was_left_behind_before_networkd_makes_its_own(gone: Journey) -> None:
    assert gone.again.found == []
    assert sorted(gone.again.status["boot"]["purged"]) == sorted(gone.left_behind)
    assert_well(gone.again)
    assert_as_networkd_makes_them(gone.again)


def test_a_switch_that_takes_long_is_waited_for(gone: Journey) -> None:
    switch = gone.again.units["openvswitch.service"]
    assert switch.active - switch.begun > journey.SLOW_START_S * 1000000
    assert_in_order(gone.again)


def test_the_plugin_that_xapi_starts_agrees_on_the_controller_and_changes_nothing_after_a_reboot(gone: Journey) -> None:
    """The sync may have been first, as it hears of XAPI too."""
    set_it = "openvswitch-config-update update: Successfully set controller to %s." % gone.first.manager["target"]
    reset = "  Note: what the reset cleared is in %s: `ovsxen emergency-reset --undo` brings it back." % (
        gone.first.resets)
    assert gone.first.answers in (set_it, set_it + reset, UNCHANGED)
    assert gone.again.answers == UNCHANGED
    assert gone.again.status["update"]["changes"] == []
    assert gone.again.resets == gone.first.resets


def test_the_controller_is_connected_by_tls_at_each_boot_and_its_ca_stays_pinned(gone: Journey) -> None:
    for seen in (gone.first, gone.again):
        assert (seen.manager["target"], seen.manager["is_connected"]) == ("ssl:127.0.0.1:6640", True)
        assert seen.pinned == seen.signed_by == gone.first.pinned


def test_bridges_and_a_guests_vif_have_the_ids_that_controllers_look_for(gone: Journey) -> None:
    """xcp-networkd writes the network of a VLAN to the bridge that carries it."""
    for seen in (gone.first, gone.again):
        ids = {name: row["external_ids"]["bridge-id"] for name, row in seen.bridges.items()}
        assert ids == {"xenbr0": networks.UUID["xapi0"], "xenbr1": networks.UUID["xenbr1"]}
    named = journey.guest_ids()
    assert {key: gone.guest.get(key) for key in ("iface-id", "vm-id", "iface-status")} == {
        "iface-id": named["xs-vif-uuid"], "vm-id": named["xs-vm-uuid"], "iface-status": "active"}


def test_frames_pass_from_guest_to_guest_and_back(gone: Journey) -> None:
    assert " 0% packet loss" in gone.pinged
    assert gone.streams["nothing, after the reboot"].lost == ()


@pytest.mark.parametrize("name", LOSES_NOTHING)
def test_no_frame_is_lost_during(gone: Journey, name: str) -> None:
    stream = gone.streams[name]
    assert (stream.lost, stream.goes_on) == ((), True), stream
    assert stream.sent > 0


@pytest.mark.parametrize("name", sorted(set(journey.HAPPENINGS) - set(LOSES_NOTHING)))
def test_frames_pass_again_after(gone: Journey, name: str) -> None:
    stream = gone.streams[name]
    assert stream.goes_on and len(stream.lost) < stream.sent, stream


def test_an_update_mends_a_bridge_that_another_restart_of_xapi_leaves_alone(gone: Journey) -> None:
    assert gone.said["an update"] == "Updated in-band management."
    assert gone.said["a restart of the toolstack"] == UNCHANGED


def test_a_restart_that_keeps_flows_keeps_those_of_the_kernels_datapath(gone: Journey) -> None:
    assert "cookie=" + journey.FLOW_COOKIE in gone.said["a restart that keeps flows"]


def test_a_machine_that_is_up_already_answers(vm: Vm) -> None:
    assert vm.run("ovsxen status").code == 0
    vm.run("sync")  # what was written seconds before a cut is lost, and that is said
    vm.power_cut()
    vm.setup = vm.setup._replace(saved=False)
    vm.power_on()
    assert vm.run("ovsxen status").code == 0
