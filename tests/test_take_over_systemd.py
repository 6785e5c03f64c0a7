"""A switch of XCP-ng's own package taken over, and let go of, under a real systemd."""

import json
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from ovsxen.host.systemd import SPARING, SWITCH_UNIT, SYNC_UNIT
from tests.conftest import REPOSITORY
from tests.container import Container, booted
from tests.taking_over import OVS_CTL, end_of_watch, ovs_start, steps_argv, switch_unit, sync_unit

BOUND_UNIT = """[Unit]
Requires=openvswitch.service
After=openvswitch.service
[Service]
ExecStart=/usr/bin/sleep 1000
"""
BOUND = "openvswitch-ipsec.service"
UNITS = "etc/systemd/system/"
Steps = Dict[str, Dict[str, Any]]


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with booted() as made:
        made.write("etc/xcp/ovs-xapi-sync", "#!/bin/sh\nexec sleep 1000\n", 0o755)
        made.write(UNITS + BOUND, BOUND_UNIT)
        yield made


@pytest.fixture
def old(container: Container) -> Iterator[Container]:
    """The container with XCP-ng's units, stopped; whatever a test starts is stopped afterwards."""
    install_old(container)
    yield container
    for unit in (SYNC_UNIT, BOUND, SWITCH_UNIT):
        container.run("systemctl", "unmask", unit)
        container.run("systemctl", "kill", "--signal=KILL", unit)
        container.run("systemctl", "stop", unit)
    container.tell("ovsxen", "stop")
    container.run("systemctl", "reset-failed")
    assert container.switch_pids() == ([], [])
    container.tell("sh", "-c", "rm -rf /run/openvswitch /etc/openvswitch/*")
    container.write("etc/xensource/network.conf", "vswitch\n")


def install_old(container: Container, *options: str) -> None:
    container.write("etc/xcp/ovs-start", ovs_start(*options), 0o755)
    container.write(UNITS + SWITCH_UNIT, switch_unit("/etc/xcp/ovs-start"))
    container.write(UNITS + SYNC_UNIT, sync_unit("/etc/xcp/ovs-xapi-sync"))
    container.tell("systemctl", "daemon-reload")


def install_ours(container: Container) -> None:
    """As the files of a package lie there before its scriptlet runs."""
    for unit in (SWITCH_UNIT, SYNC_UNIT):
        container.write(UNITS + unit, (REPOSITORY / "initscripts" / unit).read_text())


def steps(container: Container, name: str) -> Steps:
    said = container.tell("env", "PYTHONPATH=%s" % REPOSITORY, *steps_argv(name))
    return {phase["name"]: phase for phase in json.loads(said)}


def assert_well_watched(container: Container, before: Tuple[List[str], ...]) -> None:
    """By the unit's own daemon, and neither daemon of Open vSwitch was started again."""
    assert container.daemons() == container.switch_pids() == before, container.journal()
    main = container.property("MainPID")
    assert container.tell("cat", "/proc/%s/cmdline" % main).split("\0")[-2:] == ["daemon", ""]
    assert (container.property("ActiveState"), container.property("NRestarts")) == ("active", "0")
    container.wait_until(lambda: container.run("ovsxen", "status").code == 0)
    assert not list((container.root / "run/systemd/system").glob("*.d/" + SPARING))
    assert container.property("KillMode") == "process"
    assert container.vsctl("list-br") == "xenbr0"
    assert "xenbr0" in (container.root / "etc/openvswitch/conf.db").read_text()


@pytest.fixture
def running(old: Container) -> Container:
    """XCP-ng's switch with a bridge, and what depends on its unit."""
    for unit in (SWITCH_UNIT, SYNC_UNIT, BOUND):
        old.tell("systemctl", "start", unit)
    assert old.property("MainPID") == "0"
    old.vsctl("add-br", "xenbr0")
    return old


def test_the_unit_is_taken_over_and_neither_the_switch_nor_who_depends_on_it_notices(running: Container) -> None:
    before, bound = running.daemons(), Container(running.leader, BOUND)
    sleeper = bound.property("MainPID")
    install_ours(running)
    phases = steps(running, "TAKE_OVER")
    assert {phase["outcome"] for phase in phases.values()} == {"done"}, phases
    assert_well_watched(running, before)
    assert (bound.property("ActiveState"), bound.property("MainPID")) == ("active", sleeper)
    log = (running.root / "var/log/openvswitch/ovs-vswitchd.log").read_text()
    assert "connection closed" not in log[log.rindex("ovs-vswitchd (Open vSwitch)"):]
    sync = Container(running.leader, SYNC_UNIT)
    sync.wait_until(lambda: running.run("ovs-appctl", "--target=ovs-xapi-sync", "list").code == 0)
    assert steps(running, "TAKE_OVER")["watch"]["outcome"] == "done"
    running.wait_until(lambda: running.run("ovsxen", "status").code == 0)
    assert_well_watched(running, before)


def test_a_stop_of_what_was_taken_over_stops_it_in_order(running: Container) -> None:
    install_ours(running)
    steps(running, "TAKE_OVER")
    running.systemctl("stop")
    assert running.switch_pids() == ([], [])
    assert (running.property("ActiveState"), running.property("Result")) == ("inactive", "success")


@pytest.mark.parametrize("kill_mode", ["control-group", "process"])
def test_what_systemd_took_for_the_main_process_is_spared(old: Container, kill_mode: str) -> None:
    install_old(old, "--no-monitor")
    old.tell("sh", "-c", "OVS_DBDIR=/run/openvswitch %s start --no-monitor "
             "--no-ovs-vswitchd --system-id=1" % OVS_CTL)
    old.systemctl("start")
    old.vsctl("add-br", "xenbr0")
    before = old.daemons()
    assert [old.property("MainPID")] == before[1]
    install_ours(old)
    old.write("etc/systemd/system/%s.d/kill.conf" % SWITCH_UNIT, "[Service]\nKillMode=%s\n" % kill_mode)
    try:
        assert steps(old, "TAKE_OVER")["watch"]["outcome"] == "done"
    finally:
        old.tell("rm", "-r", "/etc/systemd/system/%s.d" % SWITCH_UNIT)
        old.tell("systemctl", "daemon-reload")
    assert_well_watched(old, before)


def test_a_daemon_of_an_earlier_version_goes_on_in_the_same_process(old: Container) -> None:
    install_ours(old)
    old.tell("systemctl", "daemon-reload")
    old.systemctl("start")
    old.vsctl("add-br", "xenbr0")
    before, main = old.daemons(), old.property("MainPID")
    phases = steps(old, "TAKE_OVER")
    assert (phases["watch"]["outcome"], phases["monitors"]["outcome"]) == ("done", "unchanged")
    old.wait_until(lambda: old.property("ActiveState") == "active")
    assert_well_watched(old, before)
    assert old.property("MainPID") == main


@pytest.mark.parametrize("state", ["inactive", "failed", "masked"])
def test_a_unit_that_is_not_active_is_left_as_it_is(old: Container, state: str) -> None:
    if state == "failed":
        old.write("etc/xcp/ovs-start", "#!/bin/sh\nexit 1\n", 0o755)
        assert old.run("systemctl", "start", SWITCH_UNIT).code != 0
    install_ours(old)
    if state == "masked":
        old.tell("rm", "/" + UNITS + SWITCH_UNIT)
        old.tell("systemctl", "mask", SWITCH_UNIT)
    phases = steps(old, "TAKE_OVER")
    assert {phase["outcome"] for phase in phases.values()} <= {"skipped", "unchanged"}, phases
    assert old.property("ActiveState") == ("failed" if state == "failed" else "inactive")
    assert old.switch_pids() == ([], [])


def test_nothing_is_touched_in_bridge_mode(running: Container) -> None:
    before = running.switch_pids()
    install_ours(running)
    running.write("etc/xensource/network.conf", "bridge\n")
    assert {phase["outcome"] for phase in steps(running, "TAKE_OVER").values()} == {"skipped"}
    assert running.switch_pids() == before


def test_a_definition_of_another_package_that_comes_first_is_told_and_nothing_is_interrupted(
        running: Container) -> None:
    before = running.switch_pids()
    phases = steps(running, "TAKE_OVER")
    assert phases["watch"]["outcome"] == "failed" and "/etc/xcp/ovs-start" in phases["watch"]["reason"]
    assert phases["monitors"]["outcome"] == "skipped"
    assert running.switch_pids() == before


def test_a_drop_in_of_a_killed_run_does_not_stay(running: Container) -> None:
    install_ours(running)
    left = "run/systemd/system/%s.d/%s" % (SWITCH_UNIT, SPARING)
    running.write(left, "[Service]\nKillMode=none\n")
    before = running.daemons()
    steps(running, "TAKE_OVER")
    assert_well_watched(running, before)


# An erase


@pytest.fixture
def ours(old: Container) -> Container:
    install_ours(old)
    old.tell("systemctl", "daemon-reload")
    for unit in (SWITCH_UNIT, SYNC_UNIT):
        old.tell("systemctl", "start", unit)
    old.vsctl("add-br", "xenbr0")
    return old


def assert_let_go(container: Container, before: Tuple[List[str], ...]) -> None:
    container.wait_until(lambda: container.property("ActiveState") == "inactive")
    assert (container.property("Result"), container.property("NRestarts")) == ("success", "0")
    assert container.switch_pids() == before
    assert container.vsctl("list-br") == "xenbr0"


def test_an_erase_ends_the_daemon_and_the_sync_and_the_switch_goes_on(ours: Container) -> None:
    before = ours.switch_pids()
    phases = steps(ours, "RELEASE")
    assert {phase["outcome"] for phase in phases.values()} == {"done"}, phases
    assert_let_go(ours, before)
    sync = Container(ours.leader, SYNC_UNIT)
    sync.wait_until(lambda: sync.property("ActiveState") == "inactive")
    assert sync.property("NRestarts") == "0"


def test_an_erase_does_not_have_systemd_stop_the_switch_by_another_package_s_unit(ours: Container) -> None:
    before, main = ours.switch_pids(), ours.property("MainPID")
    install_old(ours)
    phases = steps(ours, "RELEASE")
    assert phases["watch"]["outcome"] == "failed" and "would stop the switch" in phases["watch"]["reason"], phases
    assert (ours.switch_pids(), ours.property("MainPID")) == (before, main)


def test_the_lines_of_the_last_scriptlet_do_the_same_without_ovsxen(ours: Container) -> None:
    before = ours.switch_pids()
    ours.tell("sh", "-e", "-c", end_of_watch())
    assert_let_go(ours, before)
    ours.tell("sh", "-e", "-c", end_of_watch())


def test_the_lines_of_the_last_scriptlet_do_not_have_systemd_stop_the_switch(ours: Container) -> None:
    before, main = ours.switch_pids(), ours.property("MainPID")
    install_old(ours)
    ours.tell("sh", "-e", "-c", end_of_watch())
    assert (ours.switch_pids(), ours.property("MainPID")) == (before, main)
    ours.tell("rm", "/" + UNITS + SWITCH_UNIT)
    ours.tell("systemctl", "daemon-reload")
    ours.tell("sh", "-e", "-c", end_of_watch())
    assert (ours.switch_pids(), ours.property("MainPID")) == (before, main)
