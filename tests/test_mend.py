"""What the daemon mends, and what it leaves: conf.db that its server still knows, bridges that forward, odd files."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from ovsxen.host import process
from ovsxen.host.clock import Deadline
from ovsxen.ovs import dblog
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.ovs.dblog import Kind
from tests.conftest import SandboxHost
from tests.watching import both_run, eventually, is_still_watched, is_well, pids, runs, watch

RESTLESS = ("OVSXEN_REST=1", "OVSXEN_RESTART_LIMIT=2", "OVSXEN_ANSWER_TIMEOUT=0.5")
STOPPED_HOLDER = """
import fcntl, os, signal, sys
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
print("locked", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def watched(host: SandboxHost) -> SandboxHost:
    """A host whose switch is up and watched, with a bridge that no copy of conf.db has."""
    watch(host, *RESTLESS)
    host.vsctl("add-br", "xenbr7")
    return host


def nobody_else(host: SandboxHost) -> process.HeldLock:
    """The turn, so that the daemon keeps its hands off."""
    turn = Deadline(30).wait_for(lambda: process.try_lock(host.paths.turn), every_s=0.02)
    assert turn is not None
    return turn


def is_whole(host: SandboxHost) -> bool:
    return dblog.check(host.paths.conf_db, "Open_vSwitch").kind is Kind.GOOD


def forwards(host: SandboxHost) -> str:
    """The bridges that ovs-vswitchd has."""
    return host.tool("ovs-appctl", "-t", str(host.paths.control_socket(VSWITCHD, host.pid(VSWITCHD))), "ofproto/list")


@pytest.mark.parametrize("damage", ["unlink", "truncate", "overwrite"])
def test_what_conf_db_has_lost_is_written_anew_by_the_server_that_still_knows_it(
        watched: SandboxHost, damage: str) -> None:
    before, conf_db = pids(watched), watched.paths.conf_db
    if damage == "unlink":
        conf_db.unlink()
    elif damage == "truncate":
        os.truncate(str(conf_db), 0)
    else:
        conf_db.write_bytes(b"junk")
    assert eventually(lambda: conf_db.exists() and is_whole(watched))
    assert pids(watched) == before
    watched.signal(OVSDB_SERVER, signal.SIGKILL)
    assert eventually(lambda: is_well(watched)), watched.status()
    assert watched.bridges() == ["xenbr7"] and watched.pid(VSWITCHD) == before[VSWITCHD]


@pytest.mark.parametrize("damage", ["unlink", "truncate"])
def test_no_bridge_that_forwards_goes_because_conf_db_was_lost_with_its_server(
        watched: SandboxHost, damage: str) -> None:
    conf_db, saved = watched.paths.conf_db, watched.paths.root / "saved"
    before = watched.pid(VSWITCHD)
    with nobody_else(watched):
        shutil.copy(str(conf_db), str(saved))
        conf_db.unlink() if damage == "unlink" else os.truncate(str(conf_db), 0)
        watched.signal(OVSDB_SERVER, signal.SIGKILL)
    assert eventually(lambda: any("put back a file that has them" in one for one in watched.status()["problems"]))
    assert forwards(watched) == "xenbr7" and not runs(watched, OVSDB_SERVER)
    assert "takes down every bridge that is not in it" in watched.status()["daemons"][OVSDB_SERVER]["problem"]
    shutil.copy(str(saved), str(conf_db))
    assert eventually(lambda: is_well(watched)), watched.status()
    assert watched.bridges() == ["xenbr7"] and watched.pid(VSWITCHD) == before


def test_a_record_that_was_not_finished_keeps_no_server_away(watched: SandboxHost) -> None:
    with nobody_else(watched):
        watched.signal(OVSDB_SERVER, signal.SIGKILL)
        with open(str(watched.paths.conf_db), "ab") as stream:
            stream.write(b"OVSDB JSON 123 ")
    assert eventually(lambda: both_run(watched) and watched.bridges() == ["xenbr7"]), watched.status()


def test_a_pidfile_that_names_somebody_else_is_put_right_and_keeps_no_switch_down(watched: SandboxHost) -> None:
    server = watched.pid(OVSDB_SERVER)
    watched.paths.pidfile(OVSDB_SERVER).write_text("99999\n")
    watched.signal(VSWITCHD, signal.SIGKILL)
    assert eventually(lambda: is_well(watched)), watched.status()
    assert watched.paths.pidfile(OVSDB_SERVER).read_text() == "%d\n" % server == "%d\n" % watched.pid(OVSDB_SERVER)


def test_a_server_that_is_out_of_reach_is_replaced_once_nothing_forwards_any_more(watched: SandboxHost) -> None:
    server = watched.pid(OVSDB_SERVER)
    watched.paths.pidfile(OVSDB_SERVER).unlink()
    watched.signal(VSWITCHD, signal.SIGKILL)
    assert eventually(lambda: is_well(watched)), watched.status()
    assert watched.pid(OVSDB_SERVER) != server and watched.bridges() == ["xenbr7"]


def test_one_that_is_stopped_is_woken_though_its_pidfile_is_gone(watched: SandboxHost) -> None:
    target = process.read_process(watched.pid(VSWITCHD))
    assert target is not None
    with nobody_else(watched):
        watched.paths.pidfile(VSWITCHD).unlink()
        os.kill(target.pid, signal.SIGSTOP)
    assert eventually(lambda: not process.look_again(target).is_stopped)  # type: ignore[union-attr]
    os.kill(target.pid, signal.SIGKILL)
    assert eventually(lambda: is_well(watched)), watched.status()


def test_a_daemon_that_begins_anew_where_it_cannot_boot_goes_on_watching(watched: SandboxHost) -> None:
    watching, conf = watched.watcher(), watched.paths.network_conf
    assert watching is not None
    kept = conf.read_text()
    conf.unlink()
    conf.mkdir()
    os.kill(watching.pid, signal.SIGHUP)
    assert eventually(lambda: "was not gone through" in str(watched.paths.watch_report.read_text()))
    conf.rmdir()
    conf.write_text(kept)
    watched.signal(VSWITCHD, signal.SIGKILL)
    assert eventually(lambda: is_well(watched)), watched.status()
    assert is_still_watched(watched, watching)


def test_what_somebody_writes_into_the_daemon_s_pidfile_is_put_right(watched: SandboxHost) -> None:
    watching = watched.watcher()
    watched.paths.daemon_pidfile.write_text("1 1\n")
    assert eventually(lambda: watched.watcher() is not None)
    assert watching is not None and is_still_watched(watched, watching)


def test_a_second_daemon_in_the_background_returns_when_the_switch_is_up(watched: SandboxHost) -> None:
    watching = watched.watcher()
    assert watching is not None
    os.kill(watching.pid, signal.SIGSTOP)
    watched.signal(VSWITCHD, signal.SIGKILL)
    done = watched.ovsxen("daemon", "--detach")
    os.kill(watching.pid, signal.SIGCONT)
    assert done.code == 0 and "watched already" in done.out and runs(watched, VSWITCHD)
    assert watched.bridges() == ["xenbr7"]


def test_an_interruption_before_the_background_leaves_a_switch_that_ran(host: SandboxHost) -> None:
    host.start()
    before = pids(host)
    with nobody_else(host):
        begun = host.spawn("daemon", "--detach")
        assert eventually(lambda: host.watcher() is not None)
        begun.send_signal(signal.SIGINT)
    assert begun.wait(timeout=60) == 1
    assert pids(host) == before and host.watcher() is None and not host.paths.daemon_pidfile.exists()


def test_an_ovsxen_that_was_stopped_over_its_work_is_named_with_what_to_do(host: SandboxHost) -> None:
    host.start()
    argv = [sys.executable, "-c", STOPPED_HOLDER, str(host.paths.turn)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        assert eventually(lambda: "run `kill -CONT %d`" % holder.pid in str(host.status()["problems"]))
        holder.kill()
    assert host.status()["problems"] == []
