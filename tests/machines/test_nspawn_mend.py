"""Whole hosts in containers, of each suite: what is done to the switch while they are up, and what befalls it."""

import pytest

from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from tests.container import DAEMONS
from tests.machines.conftest import MakeNspawn
from tests.machines.guests import assert_none_lost, exchanging, plug_in
from tests.machines.nspawn import Nspawn
from tests.machines.watching import UNITS, assert_whole_again, look, pids
from tests.machines.world import World

pytestmark = pytest.mark.selection


@pytest.fixture
def plugged(host: Nspawn) -> Nspawn:
    """A host that is up, with two virtual machines."""
    plug_in(host)
    return host


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_of_the_switch_that_is_killed_is_followed_by_another(plugged: Nspawn, name: str) -> None:
    before = look(plugged)
    plugged.tell("kill -KILL %s" % before.pids[name])
    plugged.unit().wait_until(lambda: pids(plugged)[name] not in ("", before.pids[name]))
    assert_whole_again(plugged, before, name)


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_of_the_switch_that_is_stopped_by_a_signal_is_continued(
        make_nspawn: MakeNspawn, container_world: World, name: str) -> None:
    host = make_nspawn(container_world)
    host.write("etc/sysconfig/openvswitch", "OVSXEN_HANG_TIMEOUT=2\n")
    plug_in(host.power_on())
    before = look(host)
    host.tell("kill -STOP %s" % before.pids[name])
    host.unit().wait_until(lambda: "%s continued: " % name in host.console)
    assert_whole_again(host, before)


@pytest.mark.parametrize("unit", [SWITCH_UNIT, SYNC_UNIT])
def test_what_watches_the_switch_or_labels_it_is_killed_and_no_frame_is_lost(plugged: Nspawn, unit: str) -> None:
    before = look(plugged)
    with exchanging(plugged) as prober:
        plugged.tell("kill -KILL %s" % before.pids[unit])
        plugged.unit(unit).wait_for_another(before.pids[unit])
        assert_none_lost(prober)
    assert_whole_again(plugged, before, unit)


@pytest.mark.parametrize("unit", [SWITCH_UNIT, SYNC_UNIT])
def test_what_watches_the_switch_or_labels_it_hangs_and_no_frame_is_lost(
        make_nspawn: MakeNspawn, container_world: World, unit: str) -> None:
    host = make_nspawn(container_world)
    host.write("etc/systemd/system/%s.d/soon.conf" % unit, "[Service]\nWatchdogSec=3\n")
    plug_in(host.power_on())
    before = look(host)
    with exchanging(host) as prober:
        host.tell("kill -STOP %s" % before.pids[unit])
        host.unit(unit).wait_for_another(before.pids[unit])
        assert_none_lost(prober)
    assert "%s: Watchdog timeout" % unit in host.console
    assert_whole_again(host, before, unit)


def test_a_reload_costs_no_frame(plugged: Nspawn) -> None:
    before = look(plugged)
    with exchanging(plugged) as prober:
        plugged.tell("systemctl reload %s" % SWITCH_UNIT)
        plugged.unit().wait_until(lambda: plugged.unit().property("ActiveState") == "active")
        assert_none_lost(prober)
    assert_whole_again(plugged, before)


def test_a_restart_of_the_unit_brings_all_bridges_back_and_touches_no_other_unit(plugged: Nspawn) -> None:
    before = look(plugged)
    plugged.tell("systemctl restart %s" % SWITCH_UNIT)
    assert_whole_again(plugged, before, SWITCH_UNIT, OVSDB_SERVER, VSWITCHD)


def test_a_stop_of_the_unit_stops_the_switch_alone_and_a_start_brings_all_of_it_back(plugged: Nspawn) -> None:
    before = look(plugged)
    plugged.tell("systemctl stop %s" % SWITCH_UNIT)
    assert plugged.unit().switch_pids() == ([], [])
    assert {unit: plugged.unit(unit).property("ActiveState") for unit in UNITS} == dict(
        dict.fromkeys(UNITS, "active"), **{SWITCH_UNIT: "inactive"})

    plugged.tell("systemctl start %s" % SWITCH_UNIT)
    assert_whole_again(plugged, before, SWITCH_UNIT, OVSDB_SERVER, VSWITCHD)
