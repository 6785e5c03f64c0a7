"""The units under a real systemd, in a container."""

import re
from typing import Iterator, List, Optional, Tuple

import pytest

from ovsxen.boots import Boot, History, read_history, write_history
from ovsxen.host.boot_times import BootTimes
from ovsxen.host.proc import OF_THE_SERVICE
from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT
from ovsxen.ovs.daemons import XAPI_SYNC
from ovsxen.sandbox import contents
from tests.container import WORLD, Container, booted

UNIT = SWITCH_UNIT


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with booted() as made:
        yield made


@pytest.fixture
def unit(container: Container) -> Iterator[Container]:
    """The container with the unit as it is installed, stopped; what a test changes of it is gone afterwards."""
    container.change_unit()
    yield container
    container.write("etc/xensource/network.conf", "vswitch\n")
    container.write("etc/sysconfig/openvswitch", contents.SYSCONFIG)
    container.change_unit()
    container.run("systemctl", "stop", UNIT)
    container.tell("ovsxen", "stop")  # what a failed start has left up is not systemd's to stop
    container.run("systemctl", "reset-failed", UNIT)
    assert container.switch_pids() == ([], [])


@pytest.fixture
def started(unit: Container) -> Container:
    unit.systemctl("start")
    return unit


def test_the_unit_is_active_when_the_switch_is_configured_and_not_before(unit: Container) -> None:
    unit.write("run/held/ovs-vswitchd", "#!/bin/sh\n: >/run/held/asked\n"
               'while [ ! -e /run/held/go ]; do sleep 0.05; done\nexec /usr/sbin/ovs-vswitchd "$@"\n', 0o755)
    unit.change_unit("Environment=PATH=/run/held:%s" % WORLD["PATH"])
    unit.systemctl("start", "--no-block")
    unit.wait_until((unit.root / "run/held/asked").exists)
    assert unit.property("ActiveState") == "activating"

    unit.write("run/held/go", "")
    unit.wait_until(lambda: unit.property("ActiveState") == "active")
    row = ("get", "Open_vSwitch", ".")
    assert unit.vsctl(*row, "cur_cfg") == unit.vsctl(*row, "next_cfg")
    boot_id = unit.tell("cat", "/proc/sys/kernel/random/boot_id")
    assert unit.vsctl(*row, "external_ids:ovsxen-boot-id").strip('"') == boot_id
    assert unit.vsctl("list-br") == ""


def test_the_units_process_is_the_daemon_and_says_how_the_switch_is(started: Container) -> None:
    main = started.property("MainPID")
    assert started.tell("cat", "/proc/%s/cmdline" % main).split("\0")[-2:] == ["daemon", ""]
    assert started.property("StatusText")
    assert started.run("ovsxen", "status").code == 0


def test_a_boot_chart_has_systemds_times_at_once_and_the_daemon_keeps_them(started: Container) -> None:
    chart = started.tell("ovsxen", "boot-chart")
    assert re.search(r"^\*openvswitch .*\|.*s.*\|", chart, re.MULTILINE) and "systemd, whole boot" in chart

    def kept() -> Optional[BootTimes]:
        boots = read_history(started.root / "var/lib/ovsxen/boots.json").boots
        return boots[-1].system if boots else None

    started.wait_until(lambda: kept() is not None)
    system, unit = kept(), {name: int(started.property(name + "TimestampMonotonic")) / 1e6
                            for name in ("InactiveExit", "ActiveEnter")}
    assert system is not None and 0.0 < system.userspace_s < system.finished_s
    times = {one.name: one for one in system.units}[UNIT]
    assert times.began_s == pytest.approx(unit["InactiveExit"], abs=0.001)
    assert times.active_s == pytest.approx(unit["ActiveEnter"], abs=0.001)
    first = read_history(started.root / "var/lib/ovsxen/boots.json").boots[-1].starts[0]
    assert system.userspace_s < first.began_s


def test_a_boot_that_is_over_since_the_daemon_asked_is_not_said_to_be_unfinished(started: Container) -> None:
    path = started.root / "var/lib/ovsxen/boots.json"

    def kept() -> Tuple[Boot, ...]:
        return read_history(path).boots

    started.wait_until(lambda: bool(kept() and kept()[-1].system and kept()[-1].is_up))
    *others, boot = kept()
    assert boot.system is not None
    write_history(path, History(tuple(others)).with_boot(boot._replace(system=boot.system._replace(finished_s=0.0))))
    assert "unfinished" not in started.tell("ovsxen", "boot-chart")


def test_a_systemd_that_does_not_say_its_times_keeps_no_daemon_waiting(unit: Container) -> None:
    unit.write("run/held/systemctl", "#!/bin/sh\necho $$ >>/run/held/asked-systemd\nexec sleep 1000\n", 0o755)
    unit.change_unit("Environment=PATH=/run/held:%s" % WORLD["PATH"], "WatchdogSec=2")
    unit.tell("rm", "-f", "/var/lib/ovsxen/boots.json")  # by which all is known already
    unit.systemctl("start")
    asked = unit.root / "run/held/asked-systemd"
    unit.wait_until(lambda: asked.exists() and len(asked.read_text().split()) == 4)  # two questions, two times
    assert unit.property("NRestarts") == "0"
    hanging = [pid for pid in asked.read_text().split() if unit.run("kill", "-0", pid).code == 0]
    assert len(hanging) <= 2  # those of the first time have been ended
    unit.systemctl("stop")
    assert unit.run("pidof", "sleep").out == ""
    (boot,) = read_history(unit.root / "var/lib/ovsxen/boots.json").boots
    assert boot.is_up


def test_only_the_daemon_itself_can_speak_to_systemd(started: Container) -> None:
    for pid in [pid for pids in started.switch_pids() for pid in pids]:
        inherited = {word.partition("=")[0] for word in started.tell("cat", "/proc/%s/environ" % pid).split("\0")}
        assert "PATH" in inherited
        assert not inherited & set(OF_THE_SERVICE)


def test_a_daemon_that_is_killed_is_followed_by_one_that_adopts_the_switch(started: Container) -> None:
    main, switch = started.property("MainPID"), started.switch_pids()
    started.systemctl("kill", "--kill-who=main", "--signal=KILL")
    started.wait_for_another(main)
    assert started.switch_pids() == switch


def test_a_daemon_that_hangs_is_killed_and_the_next_one_adopts_the_switch(unit: Container) -> None:
    unit.change_unit("WatchdogSec=2")
    unit.systemctl("start")
    main, switch = unit.property("MainPID"), unit.switch_pids()
    unit.systemctl("kill", "--kill-who=main", "--signal=STOP")
    unit.wait_for_another(main)
    assert "Watchdog timeout" in unit.journal()
    assert unit.switch_pids() == switch


def test_a_reload_reads_the_settings_and_interrupts_nothing(started: Container) -> None:
    before = started.property("MainPID"), started.switch_pids()
    settings = contents.SYSCONFIG.replace("=override", "=override --external-id=rack=7")
    started.write("etc/sysconfig/openvswitch", settings)
    started.systemctl("reload")
    assert started.vsctl("get", "Open_vSwitch", ".", "external_ids:rack") == '"7"'
    started.wait_until(lambda: started.property("ActiveState") == "active")
    assert (started.property("MainPID"), started.switch_pids()) == before


def test_a_stop_ends_the_switch_before_its_database_and_then_the_daemon(started: Container) -> None:
    log = started.root / "var/log/openvswitch/ovs-vswitchd.log"
    before = log.read_text()
    started.systemctl("stop")
    assert started.switch_pids() == ([], [])
    assert started.property("MainPID") == "0"
    assert (started.property("ActiveState"), started.property("Result")) == ("inactive", "success")
    assert "connection closed" not in log.read_text()[len(before):]  # its database went after it


def test_what_ovsxen_stops_systemd_does_not_start_again(started: Container) -> None:
    started.tell("ovsxen", "stop")
    started.wait_until(lambda: started.property("ActiveState") == "inactive")
    assert (started.property("Result"), started.property("NRestarts")) == ("success", "0")
    assert started.switch_pids() == ([], [])


def test_a_start_that_fails_says_why_and_is_tried_again(unit: Container) -> None:
    unit.change_unit("RestartSec=2", "Environment=OVS_PKGDATADIR=/nowhere")
    assert unit.run("systemctl", "start", UNIT).code != 0
    assert unit.property("Result") == "exit-code"
    assert "/nowhere/vswitch.ovsschema" in unit.run("systemctl", "status", UNIT).out
    unit.change_unit()
    unit.wait_until(lambda: unit.property("ActiveState") == "active")


def test_in_bridge_mode_a_start_succeeds_and_nothing_runs(unit: Container) -> None:
    unit.write("etc/xensource/network.conf", "bridge\n")
    unit.systemctl("start")
    unit.wait_until(lambda: unit.property("ActiveState") == "inactive")
    assert (unit.property("Result"), unit.property("NRestarts")) == ("success", "0")
    assert unit.switch_pids() == ([], [])


@pytest.fixture
def deaf(unit: Container) -> Container:
    """The unit with a program that takes no signal, as the daemon when it begins, and when it hangs."""
    unit.change_unit("Type=simple", "ExecStart=", "ExecStart=/usr/bin/sleep 1000", "IgnoreSIGPIPE=no")
    unit.systemctl("start")
    return unit


@pytest.mark.parametrize("name", ["HUP", "INT", "PIPE", "ABRT", "SEGV"])
def test_a_daemon_that_a_signal_ends_is_followed_by_another(deaf: Container, name: str) -> None:
    main = deaf.property("MainPID")
    deaf.systemctl("kill", "--kill-who=main", "--signal=%s" % name)
    deaf.wait_for_another(main)
    assert deaf.property("NRestarts") == "1"


def test_the_signal_for_a_daemon_that_hangs_ends_it_for_good(deaf: Container) -> None:
    deaf.systemctl("kill", "--kill-who=main", "--signal=USR2")
    deaf.wait_until(lambda: deaf.property("ActiveState") == "inactive")
    assert (deaf.property("Result"), deaf.property("NRestarts")) == ("success", "0")


def test_ovsxen_stops_a_daemon_that_hangs_and_systemd_starts_no_other(started: Container) -> None:
    started.systemctl("kill", "--kill-who=main", "--signal=STOP")
    started.tell("ovsxen", "stop")
    started.wait_until(lambda: started.property("ActiveState") == "inactive")
    assert (started.property("Result"), started.property("NRestarts")) == ("success", "0")
    assert started.switch_pids() == ([], [])


def test_a_storm_of_reloads_costs_no_daemon(started: Container) -> None:
    before = started.property("MainPID"), started.switch_pids()
    started.tell("sh", "-c", "for _ in $(seq 500); do kill -HUP %s; sleep 0.001; done" % before[0])
    started.wait_until(lambda: started.property("ActiveState") == "active")
    assert (started.property("MainPID"), started.switch_pids()) == before
    assert started.property("NRestarts") == "0"


# The sync


@pytest.fixture
def sync(unit: Container) -> Iterator[Container]:
    """The unit of the sync, as it is installed, stopped."""
    made = Container(unit.leader, SYNC_UNIT)
    made.change_unit()
    yield made
    made.change_unit()
    made.run("systemctl", "stop", SYNC_UNIT)
    made.run("systemctl", "reset-failed", SYNC_UNIT)
    assert sync_pids(made) == []


@pytest.fixture
def syncing(sync: Container) -> Container:
    """With a switch that runs."""
    Container(sync.leader).systemctl("start")
    sync.systemctl("start")
    return sync


def sync_pids(container: Container) -> List[str]:
    """As the kernel has their names; pidof(8) looks at command lines."""
    found = []
    for comm in (container.root / "proc").glob("[0-9]*/comm"):
        try:
            found += [comm.parent.name] if comm.read_text() == XAPI_SYNC + "\n" else []
        except OSError:
            pass  # it has ended
    return found


def listed(container: Container) -> List[str]:
    """What the sync keeps, by its own word."""
    return container.tell("ovs-appctl", "--target=%s" % XAPI_SYNC, "list").splitlines()


def test_a_sync_is_active_when_it_answers(syncing: Container) -> None:
    assert syncing.property("ActiveState") == "active"
    assert listed(syncing) == []
    assert sync_pids(syncing) == [syncing.property("MainPID")]
    assert syncing.property("StatusText")


def test_a_reload_of_a_sync_flushes_what_it_knows(syncing: Container) -> None:
    before = syncing.property("MainPID")
    syncing.systemctl("reload")
    assert "what was known of XAPI is read anew" in syncing.journal()
    assert (syncing.property("ActiveState"), syncing.property("MainPID")) == ("active", before)


def test_a_sync_stops_in_order(syncing: Container) -> None:
    syncing.systemctl("stop")
    assert (syncing.property("ActiveState"), syncing.property("Result")) == ("inactive", "success")
    assert not list((syncing.root / "run/openvswitch").glob("%s*" % XAPI_SYNC))
    assert Container(syncing.leader).property("ActiveState") == "active"


def test_a_sync_that_ovsxen_or_its_control_socket_ends_is_not_started_again(syncing: Container) -> None:
    for argv in (("ovsxen", "sync", "--stop"), ("ovs-appctl", "--target=%s" % XAPI_SYNC, "exit")):
        syncing.tell(*argv)
        syncing.wait_until(lambda: syncing.property("ActiveState") == "inactive")
        assert (syncing.property("Result"), syncing.property("NRestarts")) == ("success", "0")
        syncing.systemctl("start")


def test_a_sync_that_is_killed_is_followed_by_another_and_by_no_switch(sync: Container) -> None:
    sync.systemctl("start")
    main = sync.property("MainPID")
    sync.systemctl("kill", "--kill-who=main", "--signal=KILL")
    sync.wait_for_another(main)
    assert listed(sync) == []
    assert Container(sync.leader).property("ActiveState") == "inactive"


def test_a_sync_that_hangs_is_followed_by_another(sync: Container) -> None:
    sync.change_unit("WatchdogSec=2")
    sync.systemctl("start")
    main = sync.property("MainPID")
    sync.systemctl("kill", "--kill-who=main", "--signal=STOP")
    sync.wait_for_another(main)
    assert "Watchdog timeout" in sync.journal()


def test_a_sync_without_xapi_and_without_a_database_tells_the_watchdog_that_it_goes_on(sync: Container) -> None:
    sync.change_unit("WatchdogSec=4")
    sync.systemctl("start")
    main, beats = sync.property("MainPID"), set()

    def has_beaten() -> bool:
        beats.add(sync.property("WatchdogTimestampMonotonic"))
        return len(beats) > 3

    sync.wait_until(has_beaten)
    assert (sync.property("MainPID"), sync.property("NRestarts")) == (main, "0")


def test_a_sync_outlives_the_switch_and_takes_it_up_again(syncing: Container) -> None:
    main, switch = syncing.property("MainPID"), Container(syncing.leader)
    switch.systemctl("stop")
    assert (syncing.property("ActiveState"), syncing.property("MainPID")) == ("active", main)
    switch.systemctl("start")
    switch.vsctl("add-br", "xenbr0", "--", "br-set-external-id", "xenbr0", "xs-network-uuids", "a-uuid")
    try:
        syncing.wait_until(lambda: listed(syncing) == ["Bridge xenbr0 bridge-id=a-uuid", "Interface xenbr0 -"])
        assert syncing.property("MainPID") == main
    finally:
        switch.vsctl("del-br", "xenbr0")


def test_a_sync_ends_in_bridge_mode_and_that_is_success(sync: Container) -> None:
    sync.write("etc/xensource/network.conf", "bridge\n")
    sync.systemctl("start")
    sync.wait_until(lambda: sync.property("ActiveState") == "inactive")
    assert (sync.property("Result"), sync.property("NRestarts")) == ("success", "0")
