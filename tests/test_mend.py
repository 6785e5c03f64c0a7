"""What the daemon mends, and what it leaves: conf.db that its server still knows, bridges that forward, odd files."""

import os
import shutil
import signal
import subprocess
import sys
from typing import Iterator

import pytest

from ovsxen.host import process
from ovsxen.host.clock import Deadline
from ovsxen.ovs import dblog, generations
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


def keep_live(host: SandboxHost) -> None:
    """What the watch does every ten minutes."""
    with open(str(host.paths.conf_db), "rb") as stream:
        generations.keep_live(host.paths.conf_db, stream.fileno(), dblog.check_stream(stream, "Open_vSwitch"))


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


@pytest.fixture
def robbed(watched: SandboxHost) -> Iterator[SandboxHost]:
    """The same, whose conf.db went with its server; a good one lies in `saved`."""
    with nobody_else(watched):
        shutil.copy(str(watched.paths.conf_db), str(watched.paths.root / "saved"))
        watched.paths.conf_db.unlink()
        watched.signal(OVSDB_SERVER, signal.SIGKILL)
    yield watched


def refuses(host: SandboxHost) -> bool:
    return any("put back a file that has them" in one for one in host.status()["problems"])


def test_no_bridge_that_forwards_goes_because_conf_db_was_lost_with_its_server(robbed: SandboxHost) -> None:
    before = robbed.pid(VSWITCHD)
    assert eventually(lambda: refuses(robbed)), robbed.status()
    assert forwards(robbed) == "xenbr7" and not runs(robbed, OVSDB_SERVER)
    assert "takes down every bridge that is not in it" in robbed.status()["daemons"][OVSDB_SERVER]["problem"]
    shutil.copy(str(robbed.paths.root / "saved"), str(robbed.paths.conf_db))
    assert eventually(lambda: is_well(robbed)), robbed.status()
    assert robbed.bridges() == ["xenbr7"] and robbed.pid(VSWITCHD) == before


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name)
def test_nor_because_another_daemon_begins(robbed: SandboxHost, number: signal.Signals) -> None:
    watching = robbed.watcher()
    assert eventually(lambda: refuses(robbed)) and watching is not None
    process.send_signal(watching, number)
    if number == signal.SIGKILL:
        assert eventually(lambda: process.has_ended(watching))
        begun = robbed.spawn("daemon")
        assert eventually(lambda: robbed.watcher() is not None)
    written = robbed.paths.watch_report.stat().st_mtime_ns
    assert eventually(lambda: robbed.paths.watch_report.stat().st_mtime_ns != written)
    assert eventually(lambda: refuses(robbed)), robbed.status()
    assert forwards(robbed) == "xenbr7"
    shutil.copy(str(robbed.paths.root / "saved"), str(robbed.paths.conf_db))
    assert eventually(lambda: is_well(robbed)), robbed.status()
    assert robbed.bridges() == ["xenbr7"]
    if number == signal.SIGKILL:
        assert begun.poll() is None  # it watches what goes on, although its boot failed
        begun.kill()
        begun.wait()


def test_nor_because_ovs_vswitchd_cannot_be_asked(watched: SandboxHost) -> None:
    with nobody_else(watched):
        shutil.copy(str(watched.paths.conf_db), str(watched.paths.root / "saved"))
        watched.paths.conf_db.unlink()
        watched.signal(OVSDB_SERVER, signal.SIGKILL)
        watched.signal(VSWITCHD, signal.SIGSTOP)
    assert eventually(lambda: refuses(watched)), watched.status()  # once it was continued
    assert forwards(watched) == "xenbr7"


def test_a_copy_that_the_watch_has_kept_has_the_bridges_of_this_boot(watched: SandboxHost) -> None:
    keep_live(watched)
    with nobody_else(watched):
        watched.paths.conf_db.unlink()
        watched.signal(OVSDB_SERVER, signal.SIGKILL)
    assert eventually(lambda: both_run(watched) and watched.bridges() == ["xenbr7"]), watched.status()
    assert forwards(watched) == "xenbr7"


def test_nor_does_a_restart_that_is_asked_for(host: SandboxHost) -> None:
    host.start()
    host.vsctl("del-manager", "--", "add-br", "xenbr7")
    host.signal(OVSDB_SERVER, signal.SIGKILL)
    host.paths.conf_db.unlink()
    before = host.pid(VSWITCHD)
    done = host.ovsxen("restart", "--json")
    assert done.code == 1 and "put back a file that has them" in done.phase("disk")["reason"]
    assert host.pid(VSWITCHD) == before and forwards(host) == "xenbr7"
    assert host.start().phase("database")["outcome"] == "degraded"  # which says what it takes down


def test_what_an_administrator_puts_back_is_not_held_against_such_a_copy(watched: SandboxHost) -> None:
    saved = watched.paths.conf_db.read_bytes()
    watched.vsctl("add-br", "xenbr8")
    keep_live(watched)
    assert watched.ovsxen("stop").code == 0
    watched.paths.conf_db.write_bytes(saved)
    watched.start()
    assert watched.bridges() == ["xenbr7"] and watched.beside("live") == []


def test_what_only_a_server_out_of_reach_knows_is_written_before_it_is_replaced(watched: SandboxHost) -> None:
    with nobody_else(watched):
        watched.paths.pidfile(OVSDB_SERVER).unlink()
        watched.paths.conf_db.unlink()
        watched.signal(VSWITCHD, signal.SIGKILL)
    assert eventually(lambda: both_run(watched) and watched.bridges() == ["xenbr7"]), watched.status()


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
