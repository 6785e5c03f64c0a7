"""A switch that XCP-ng's own package has started, taken over while it runs; real daemons, with their monitors."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest

from bench import namespaces, traffic
from bench.traffic import Pair
from ovsxen import take_over
from ovsxen.host import process
from ovsxen.host.process import Process
from ovsxen.host.settings import read_settings
from ovsxen.ovs import daemons, monitors
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, XAPI_SYNC
from ovsxen.report import Outcome, Phase
from ovsxen.sequence import Host, Run, run_steps
from tests.busy import Busy
from tests.conftest import REPOSITORY, MakeHost, SandboxHost
from tests.taking_over import DUMMY, START, end_of_watch, steps_argv
from tests.watching import BOTH, eventually, has_new, is_well, pids, watch


def boot_as_xcp_ng(host: SandboxHost, *, inside: str = "") -> None:
    """What its ovs-start does: the database in the run directory, monitors, and the mark that its purge is done."""
    host.env["OVS_DBDIR"] = str(host.paths.rundir)
    host.paths.historic_booted_marker.touch()
    argv = START + (() if inside else (DUMMY,))
    host.tool(*(namespaces.inside(inside, *argv) if inside else argv))


def kill_monitors(host: SandboxHost) -> None:
    for name in BOTH:
        monitor = monitors.find_monitor(daemons.find(host.paths, name))
        if monitor is not None:
            process.send_signal(monitor, signal.SIGKILL)


@pytest.fixture
def old(make_host: MakeHost) -> Iterator[SandboxHost]:
    """A host with two bridges and a manager that another package has booted; it has no conf.db of its own."""
    host = make_host(stale_bridges=3)
    host.paths.conf_db.rename(of_another_time(host))
    boot_as_xcp_ng(host)
    host.vsctl("add-br", "xenbr0", "--", "add-br", "xenbr1", "--", "set-manager", "ptcp:0:127.0.0.1")
    yield host
    kill_monitors(host)


def of_another_time(host: SandboxHost) -> Path:
    return host.paths.root / "conf.db.of-another-time"


def put_back_old_conf_db(host: SandboxHost) -> None:
    """conf.db is there as well: from before this host had XCP-ng's package."""
    shutil.copy(str(of_another_time(host)), str(host.paths.conf_db))


def steps(host: SandboxHost, name: str, *, inside: str = "") -> Dict[str, Any]:
    """Run TAKE_OVER or RELEASE as a command of this host would; gives the phases by their names."""
    argv = steps_argv(name)
    said = host.tool(*(namespaces.inside(inside, *argv) if inside else argv))
    return {phase["name"]: phase for phase in json.loads(said)}


def taken_over(host: SandboxHost, *, inside: str = "") -> Dict[str, Any]:
    """What an upgrade does to a switch that runs; all of it must go well. `inside`: the host's network namespace."""
    phases = steps(host, "TAKE_OVER", inside=inside)
    assert not [phase for phase in phases.values() if phase["outcome"] in ("failed", "degraded")], phases
    return phases


def moved(host: SandboxHost) -> Phase:
    """The first step of it alone."""
    run = Run(Host(host.paths, read_settings(host.paths)), lambda _: None)
    return next(run_steps(run, take_over.TAKE_OVER[:1]))


def served(host: SandboxHost) -> Optional[Path]:
    """The file that the server has its database in."""
    return next((path for path in (host.paths.conf_db, host.paths.run_conf_db, host.paths.moving_conf_db)
                 if process.has_open(host.pid(OVSDB_SERVER), path)), None)


def held(host: SandboxHost) -> str:
    """What the file says that it holds, by ovsdb-tool's word."""
    return host.tool("ovsdb-tool", "query", str(host.paths.conf_db),
                     '["Open_vSwitch",{"op":"select","table":"Bridge","where":[],"columns":["name"]}]')


def assert_is_moved(host: SandboxHost) -> None:
    assert served(host) == host.paths.conf_db
    assert os.readlink(str(host.paths.run_conf_db)) == str(host.paths.conf_db)
    assert not host.paths.moving_conf_db.exists()
    assert "xenbr0" in held(host) and "xenbr1" in held(host)


def test_the_database_moves_under_the_server_and_nobody_is_interrupted(old: SandboxHost) -> None:
    before = pids(old)
    port = old.vsctl("get", "Interface", "xenbr0", "ofport")
    with open(str(old.paths.root / "heard"), "wb") as heard:
        client = subprocess.Popen(["ovsdb-client", "monitor", "unix:%s" % old.paths.db_sock, "Bridge", "name"],
                                  env=old.environment(), stdout=heard, stderr=heard)
    try:
        phase = moved(old)
        assert phase.outcome is Outcome.DONE, phase
        assert_is_moved(old)
        assert old.vsctl("get", "Interface", "xenbr0", "ofport") == port  # which is in memory alone
        old.vsctl("add-br", "xenbr2")
        assert "xenbr2" in held(old)
        assert client.poll() is None
    finally:
        client.kill()
        client.wait()
    assert pids(old) == before
    log = old.paths.log(VSWITCHD).read_text()
    assert "reconnect|INFO" in log and "connection closed" not in log and "timed out" not in log
    assert old.beside("good")


def test_no_write_is_lost_that_the_server_has_acknowledged(old: SandboxHost) -> None:
    def count(number: int) -> Dict[str, Any]:
        return {"op": "update", "table": "Open_vSwitch", "where": [],
                "row": {"external_ids": ["map", [["count", str(number)]]]}}

    with Busy(old, count, 0.001) as busy:
        assert eventually(lambda: busy.writes > 5)
        assert moved(old).outcome is Outcome.DONE
        before = busy.writes
        assert eventually(lambda: busy.writes > before + 5)
    kill_monitors(old)
    old.signal(OVSDB_SERVER, signal.SIGKILL)
    assert '["count","%d"]' % busy.writes in old.tool(
        "ovsdb-tool", "query", str(old.paths.conf_db),
        '["Open_vSwitch",{"op":"select","table":"Open_vSwitch","where":[],"columns":["external_ids"]}]')


def test_a_move_may_be_repeated_and_does_nothing_then(old: SandboxHost) -> None:
    moved(old)
    inode = old.paths.conf_db.stat().st_ino
    assert moved(old).outcome is Outcome.UNCHANGED
    assert old.paths.conf_db.stat().st_ino == inode


def test_a_conf_db_of_another_time_is_kept_aside(old: SandboxHost) -> None:
    put_back_old_conf_db(old)
    before = old.paths.conf_db.read_bytes()
    phase = moved(old)
    assert phase.outcome is Outcome.DONE and "conf.db.aside-000001" in phase.reason
    assert_is_moved(old)
    assert (old.paths.dbdir / "conf.db.aside-000001").read_bytes() == before
    assert old.beside("recovery") == []


def test_a_conf_db_that_is_a_link_stays_one(old: SandboxHost) -> None:
    elsewhere = old.paths.root / "srv"
    elsewhere.mkdir()
    old.paths.conf_db.symlink_to(elsewhere / "conf.db")
    assert moved(old).outcome is Outcome.DONE
    assert_is_moved(old)
    assert old.paths.conf_db.is_symlink() and (elsewhere / "conf.db").is_file()


def test_a_database_beside_it_stays_where_it_is(old: SandboxHost) -> None:
    other = old.paths.rundir / "vtep.db"
    old.tool("ovsdb-tool", "create", str(other), "/usr/share/openvswitch/local-config.ovsschema")
    old.tool("ovs-appctl", "-t", "ovsdb-server", "ovsdb-server/add-db", str(other))
    assert moved(old).outcome is Outcome.DONE
    assert_is_moved(old)
    assert process.has_open(old.pid(OVSDB_SERVER), other)


def test_a_server_that_has_conf_db_where_it_belongs_is_left_alone(host: SandboxHost) -> None:
    host.start()
    inode = host.paths.conf_db.stat().st_ino
    assert moved(host).outcome is Outcome.UNCHANGED
    assert host.paths.conf_db.stat().st_ino == inode
    assert not os.path.lexists(str(host.paths.run_conf_db))


def test_nothing_is_moved_where_nothing_runs_or_in_bridge_mode(old: SandboxHost) -> None:
    old.write(old.paths.network_conf, "bridge\n")
    assert {phase["outcome"] for phase in taken_over(old).values()} == {"skipped"}
    assert served(old) == old.paths.run_conf_db
    old.write(old.paths.network_conf, "vswitch\n")
    kill_monitors(old)
    old.kill_daemons()
    assert moved(old).outcome is Outcome.SKIPPED


def test_a_start_that_is_tried_says_that_it_would_move_the_database_and_moves_nothing(old: SandboxHost) -> None:
    tried = old.ovsxen("start", "--dry-run", "--json")
    assert "would" in [phase["outcome"] for phase in tried.json["phases"] if "move its database" in phase["reason"]]
    assert served(old) == old.paths.run_conf_db and not old.paths.conf_db.exists()


# What a move meets


@pytest.fixture
def tiny(old: SandboxHost) -> Iterator[SandboxHost]:
    """/etc/openvswitch is a file system with no room, and has a conf.db of another time."""
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(old.paths.dbdir)])
    try:
        yield old
        kill_monitors(old)
        old.kill_daemons()
    finally:
        subprocess.check_call(["umount", str(old.paths.dbdir)])


def test_where_there_is_no_room_all_stays_as_it_was_until_there_is(tiny: SandboxHost) -> None:
    put_back_old_conf_db(tiny)
    before = tiny.paths.conf_db.read_bytes()
    filler = tiny.paths.dbdir / "filler"
    with pytest.raises(OSError):
        with filler.open("wb") as stream:
            stream.write(bytes(1 << 20))
    phase = moved(tiny)
    assert phase.outcome is Outcome.FAILED and "No space left" in phase.reason, phase
    assert served(tiny) == tiny.paths.run_conf_db and tiny.paths.run_conf_db.is_file()
    assert not tiny.paths.run_conf_db.is_symlink()
    assert tiny.paths.conf_db.read_bytes() == before
    assert tiny.beside("aside") == []
    tiny.vsctl("add-br", "xenbr2")

    filler.unlink()
    assert moved(tiny).outcome is Outcome.DONE
    assert_is_moved(tiny)
    assert "xenbr2" in held(tiny)


def test_on_a_read_only_file_system_all_stays_as_it_was(tiny: SandboxHost) -> None:
    subprocess.check_call(["mount", "-o", "remount,ro", str(tiny.paths.dbdir)])
    phase = moved(tiny)
    assert phase.outcome is Outcome.FAILED and "Read-only file system" in phase.reason, phase
    assert served(tiny) == tiny.paths.run_conf_db


def test_a_server_that_is_silent_keeps_its_database_and_has_it_moved_later(old: SandboxHost) -> None:
    old.settings("OVSXEN_ANSWER_TIMEOUT=0.5")
    put_back_old_conf_db(old)
    old.signal(OVSDB_SERVER, signal.SIGSTOP)
    phase = moved(old)
    assert phase.outcome is Outcome.FAILED
    assert served(old) == old.paths.run_conf_db and not old.paths.run_conf_db.is_symlink()
    assert old.paths.conf_db.exists()
    old.signal(OVSDB_SERVER, signal.SIGCONT)
    # What it was asked while it was silent it may still be about, and refuse to begin again: then a later try does it.
    assert eventually(lambda: moved(old).outcome in (Outcome.DONE, Outcome.UNCHANGED))
    assert_is_moved(old)


CHANGES = 15
"""How many of the file system or of the server a move makes, at the most, where conf.db is there as well."""


def cut_short(host: SandboxHost, after: int) -> bool:
    """A move that is killed after so many changes; tells whether it made more."""
    code = ("import os, signal, sys\n"
            "from ovsxen import take_over\n"
            "from ovsxen.ovs import daemons\n"
            "from tests import test_take_over\n"
            "from pathlib import Path\n"
            "left = [%d]\n"
            "def counted(act):\n"
            "    def counting(*given, **more):\n"
            "        if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
            "        left[0] -= 1\n"
            "        return act(*given, **more)\n"
            "    return counting\n"
            "for name in ('rename', 'link', 'unlink', 'symlink', 'fsync'):\n"
            "    setattr(os, name, counted(getattr(os, name)))\n"
            "daemons.ask = counted(daemons.ask)\n"
            "from ovsxen.host.paths import paths_under\n"
            "from tests.conftest import SandboxHost\n"
            "host = SandboxHost(paths_under(Path(%r), os.environ))\n"
            "print(test_take_over.moved(host))\n" % (after, str(host.paths.root)))
    done = subprocess.run([sys.executable, "-c", code], env=host.environment(), cwd=str(REPOSITORY),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stdout
    return done.returncode != 0


def test_a_move_makes_no_more_changes_than_those_after_which_it_is_killed_below(old: SandboxHost) -> None:
    put_back_old_conf_db(old)
    assert not cut_short(old, CHANGES)
    assert_is_moved(old)


@pytest.mark.parametrize("after", range(CHANGES))
@pytest.mark.parametrize("what_follows", ["another", "a start", "a start after the server's end"])
def test_a_move_that_is_killed_is_finished_by_what_follows(old: SandboxHost, after: int, what_follows: str) -> None:
    put_back_old_conf_db(old)
    assert cut_short(old, after)
    old.vsctl("add-br", "xenbr2")
    if what_follows == "another":
        assert moved(old).outcome in (Outcome.DONE, Outcome.UNCHANGED)
    else:
        if what_follows != "a start":
            kill_monitors(old)
            old.signal(OVSDB_SERVER, signal.SIGKILL)
        old.start()
    assert_is_moved(old)
    assert "xenbr2" in held(old)
    assert sorted(old.bridges()) == ["xenbr0", "xenbr1", "xenbr2"]
    assert old.beside("aside")


# Without a server


def test_what_a_server_has_left_in_the_run_directory_is_what_the_next_one_begins_with(old: SandboxHost) -> None:
    kill_monitors(old)
    old.kill_daemons()
    put_back_old_conf_db(old)
    started = old.start()
    assert "aside-000001" in started.phase("database")["reason"]
    assert sorted(old.bridges()) == ["xenbr0", "xenbr1"]
    assert "127.0.0.1" in old.vsctl("get-manager")
    assert_is_moved(old)
    assert old.start().phase("database")["outcome"] == "unchanged"


def test_a_server_that_is_behind_the_link_and_lost_its_pidfile_gets_no_other_beside_it(old: SandboxHost) -> None:
    moved(old)
    pid = old.pid(OVSDB_SERVER)
    old.paths.pidfile(OVSDB_SERVER).unlink()
    refused = old.ovsxen("start")
    assert refused.code == 1 and "is locked by" in refused.err + refused.out
    os.kill(pid, signal.SIGKILL)


def test_a_restart_goes_on_with_what_was_moved(old: SandboxHost) -> None:
    moved(old)
    assert old.ovsxen("restart").code == 0
    assert_is_moved(old)
    assert sorted(old.bridges()) == ["xenbr0", "xenbr1"]


def test_a_restart_by_hand_moves_the_database_before_anything_is_stopped(old: SandboxHost) -> None:
    done = old.ovsxen("restart", "--json")
    assert done.code == 0, done
    assert "has its database in" in done.phase("disk")["reason"]
    assert_is_moved(old)
    assert sorted(old.bridges()) == ["xenbr0", "xenbr1"]


def test_a_restart_is_refused_where_the_database_cannot_be_moved(tiny: SandboxHost) -> None:
    subprocess.check_call(["mount", "-o", "remount,ro", str(tiny.paths.dbdir)])
    before = pids(tiny)
    refused = tiny.ovsxen("restart")
    assert refused.code == 1
    assert pids(tiny) == before


# The daemon, monitors, the sync; without systemd


def monitors_of(host: SandboxHost) -> List[Process]:
    found = (monitors.find_monitor(daemons.find(host.paths, name)) for name in BOTH)
    return [monitor for monitor in found if monitor is not None]


def test_an_upgrade_has_the_switch_watched_and_interrupts_nothing(old: SandboxHost) -> None:
    before = pids(old)
    phases = taken_over(old)
    assert "nothing was interrupted" in phases["watch"]["reason"]
    assert phases["sync"]["outcome"] == "skipped"
    assert pids(old) == before
    assert is_well(old), old.status()
    assert sorted(old.bridges()) == ["xenbr0", "xenbr1"]
    assert_is_moved(old)
    assert "connection closed" not in old.paths.log(VSWITCHD).read_text()


def test_an_upgrade_may_be_repeated(old: SandboxHost) -> None:
    taken_over(old)
    before, watching = pids(old), old.watcher()
    again = taken_over(old)
    assert (again["database"]["outcome"], again["monitors"]["outcome"]) == ("unchanged", "unchanged")
    assert watching is not None and eventually(lambda: is_well(old))
    now = old.watcher()
    assert now is not None and (now.pid, now.start_ticks) == (watching.pid, watching.start_ticks)
    assert pids(old) == before


@pytest.mark.parametrize("name", BOTH)
def test_one_owner_starts_a_daemon_that_crashes(old: SandboxHost, name: str) -> None:
    assert len(monitors_of(old)) == 2
    assert taken_over(old)["monitors"]["outcome"] == "done"
    before = pids(old)
    assert monitors_of(old) == []
    old.signal(name, signal.SIGSEGV)
    assert eventually(lambda: has_new(old, name, before[name]) and is_well(old)), old.status()
    assert monitors_of(old) == [] and "%s: it is gone" % name in str(old.status()["watch"]["events"])
    assert sorted(old.bridges()) == ["xenbr0", "xenbr1"]
    assert_is_moved(old)


@pytest.mark.parametrize("name", BOTH)
def test_where_monitors_stay_a_daemon_that_crashes_comes_back_once(old: SandboxHost, name: str) -> None:
    watch(old)
    assert_is_moved(old)
    before = pids(old)
    old.signal(name, signal.SIGSEGV)
    assert eventually(lambda: has_new(old, name, before[name]) and is_well(old)), old.status()
    assert len([one for one in process.find_processes(name)
                if str(old.paths.rundir) in " ".join(process.read_command_line(one.pid))]) == 1


def test_monitors_stay_where_nobody_watches(old: SandboxHost) -> None:
    old.settings("OVSXEN_START_TIMEOUT=1", "OVSXEN_ANSWER_TIMEOUT=0.2")
    run = Run(Host(old.paths, read_settings(old.paths)), lambda _: None)
    assert take_over.end_monitors(run).outcome is Outcome.SKIPPED
    assert len(monitors_of(old)) == 2


def test_a_switch_that_does_not_run_is_not_started(host: SandboxHost) -> None:
    assert {phase["outcome"] for phase in taken_over(host).values()} <= {"skipped", "unchanged"}
    assert host.watcher() is None
    assert [daemons.find(host.paths, name).process for name in BOTH] == [None, None]


def test_the_historic_sync_is_followed_by_ours(old: SandboxHost, tmp_path: Path) -> None:
    script = tmp_path / XAPI_SYNC
    script.write_text("import fcntl, sys, time\nfile = open(sys.argv[1], 'w')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
                      "print('locked', flush=True)\ntime.sleep(1000)\n")
    historic = subprocess.Popen([sys.executable, str(script), str(old.paths.pidfile(XAPI_SYNC))],
                                stdout=subprocess.PIPE)
    try:
        assert historic.stdout is not None and historic.stdout.readline() == b"locked\n"
        phases = taken_over(old)
        assert phases["sync"]["outcome"] == "done", phases
        assert historic.wait(10) == -signal.SIGTERM
        first = old.pid(XAPI_SYNC)
        assert taken_over(old)["sync"]["outcome"] == "done"
        assert old.pid(XAPI_SYNC) != first
    finally:
        historic.kill()
        historic.communicate()


# An erase


def test_an_erase_ends_the_daemon_and_the_sync_and_the_switch_goes_on(host: SandboxHost) -> None:
    watch(host)
    host.vsctl("add-br", "xenbr7")
    assert host.ovsxen("sync", "--detach").code == 0
    before = pids(host)
    phases = steps(host, "RELEASE")
    assert {phase["outcome"] for phase in phases.values()} == {"done"}, phases
    assert host.watcher() is None and not host.paths.daemon_pidfile.exists()
    assert daemons.find(host.paths, XAPI_SYNC).process is None
    assert pids(host) == before
    assert host.vsctl("get", "Interface", "xenbr7", "ofport") == "65534"
    assert {phase["outcome"] for phase in steps(host, "RELEASE").values()} == {"unchanged"}


def test_an_erase_ends_a_daemon_that_a_signal_has_stopped(host: SandboxHost) -> None:
    os.kill(watch(host).pid, signal.SIGSTOP)
    before = pids(host)
    assert steps(host, "RELEASE")["watch"]["outcome"] == "done"
    assert host.watcher() is None and pids(host) == before


def test_the_lines_of_the_last_scriptlet_do_the_same_without_ovsxen_and_spare_a_stranger(host: SandboxHost) -> None:
    watching = watch(host)
    before = pids(host)
    lines = end_of_watch().replace("/run/openvswitch", str(host.paths.rundir))
    said = host.paths.daemon_pidfile.read_text()
    os.kill(watching.pid, signal.SIGSTOP)  # else it mends its pidfile; the lines have it go on where they end it
    host.paths.daemon_pidfile.write_text("%d 1\n" % watching.pid)
    host.tool("sh", "-e", "-c", lines)
    assert not process.has_ended(watching)
    host.paths.daemon_pidfile.write_text(said)
    host.tool("sh", "-e", "-c", lines)
    assert eventually(lambda: process.has_ended(watching))
    assert pids(host) == before
    host.paths.daemon_pidfile.unlink()
    host.tool("sh", "-e", "-c", lines)


# Frames


def test_no_frame_is_lost_though_the_datapath_needs_its_database(make_host: MakeHost) -> None:
    """ovs-vswitchd's own datapath stops where its database goes: a second, were that taken out and added again."""
    host, namespace = make_host(stale_bridges=0), "ovsxen-%d-frames" % os.getpid()
    host.paths.conf_db.unlink()
    host.write(host.paths.sysconfig, "VSWITCHD_MLOCKALL=no\n")
    with namespaces.making_namespace(namespace):
        try:
            boot_as_xcp_ng(host, inside=namespace)
            host.vsctl("add-br", "xenbr0", "--", "set", "Bridge", "xenbr0", "datapath_type=netdev")
            for near, far in (("eth0", "lan0"), ("vif1.0", "guest")):
                namespaces.ip("-n", namespace, "link", "add", near, "type", "veth", "peer", "name", far)
                for device in (near, far):
                    namespaces.ip("-n", namespace, "link", "set", device, "up")
                host.vsctl("add-port", "xenbr0", near)
            with traffic.probing(namespace, (Pair("lan0", "guest"), Pair("guest", "lan0"))) as prober:
                phases = taken_over(host, inside=namespace)
                heard = prober.stop()
            assert phases["database"]["outcome"] == "done"
            assert heard.sent > 100 and heard.lost == 0, heard
        finally:
            kill_monitors(host)
            host.kill_daemons()
