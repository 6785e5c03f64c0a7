"""Hung and missing processes, killed starts, full and read-only disks: what was there before is there after."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from ovsxen import phases_online
from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.host.settings import read_settings
from ovsxen.ovs import daemons, dblog, ovsdb
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.sandbox import contents
from ovsxen.sequence import Host, Run
from tests.conftest import MakeHost, SandboxHost, processes_of

QUICK = ("OVSXEN_ANSWER_TIMEOUT=1", "OVSXEN_START_TIMEOUT=2")


def write_sleeper(host: SandboxHost, program: Path) -> None:
    """A program that never gets anywhere, and that can be told apart as this host's."""
    sleeper = host.paths.root / "sleeper"
    sleeper.symlink_to("/bin/sleep")
    program.write_text('#!/bin/sh\ncase "$*" in --version) echo "x (Open vSwitch) 3.1.0"; exit;; esac\n'
                       'exec %s 600\n' % sleeper)
    program.chmod(0o755)


# Hung


def test_a_hung_ovsdb_server_fails_start_and_status_in_seconds_by_name(host: SandboxHost) -> None:
    host.start()
    host.signal(OVSDB_SERVER, signal.SIGSTOP)
    began = time.monotonic()
    started, status = host.ovsxen("start", "--json"), host.ovsxen("status", "--json")
    assert time.monotonic() - began < 20
    label = "ovsdb-server (pid %d)" % host.pid(OVSDB_SERVER)
    assert started.code == 1 and label in started.phase("configuration")["reason"]
    assert status.code == 4 and any(label in problem for problem in status.json["problems"])
    assert status.json["daemons"][OVSDB_SERVER]["state"] == "hung"
    assert host.ovsxen("restart").code == 0
    assert host.status()["verdict"] == "running"


def test_a_server_that_is_late_to_say_whether_the_switch_is_configured_has_its_answer_timeout(
        host: SandboxHost) -> None:
    host.start()
    vswitchd, next_cfg = daemons.find(host.paths, VSWITCHD), int(host.column("next_cfg"))
    run = Run(Host(host.paths, read_settings(host.paths)), lambda _: None)
    hasty = Run(Host(host.paths, run.settings._replace(answer_timeout_s=0.1)), lambda _: None)
    host.signal(OVSDB_SERVER, signal.SIGSTOP)
    with pytest.raises(NoAnswer, match="within 0.6 s"):
        phases_online.wait_configured(hasty, vswitchd, next_cfg, 20.0)
    wakes = threading.Timer(2.0, host.signal, (OVSDB_SERVER, signal.SIGCONT))
    wakes.start()
    phases_online.wait_configured(run, vswitchd, next_cfg, 20.0)
    wakes.join()
    assert host.status()["verdict"] == "running"


def test_a_hung_vswitchd_fails_start_and_status_in_seconds_by_name(host: SandboxHost) -> None:
    host.start()
    host.settings(*QUICK)
    host.signal(VSWITCHD, signal.SIGSTOP)
    started, status = host.ovsxen("start", "--json"), host.ovsxen("status", "--json")
    label = "ovs-vswitchd (pid %d)" % host.pid(VSWITCHD)
    assert started.code == 1 and label in started.phase("ovs-vswitchd")["reason"]
    assert status.code == 4 and any(label in problem for problem in status.json["problems"])
    host.signal(VSWITCHD, signal.SIGCONT)
    assert host.ovsxen("start").code == 0
    assert host.status()["verdict"] == "running"


@pytest.mark.parametrize("name, phase", [(OVSDB_SERVER, "ovsdb-server"), (VSWITCHD, "ovs-vswitchd"),
                                         ("ovsdb-tool", "database")])
def test_a_program_that_never_gets_ready_ends_with_its_deadline(
        host: SandboxHost, tmp_path: Path, name: str, phase: str) -> None:
    host.settings(*QUICK)
    if name == "ovsdb-tool":
        host.install_schema("9.0.0")
    write_sleeper(host, tmp_path / name)
    began = time.monotonic()
    done = host.ovsxen("start", "--json", PATH="%s:%s" % (tmp_path, os.environ["PATH"]))
    assert time.monotonic() - began < 40
    assert name in done.phase(phase)["reason"]
    if name != "ovsdb-tool":
        assert done.code == 1 and done.phase(phase)["outcome"] == "failed"
    assert [line for line in processes_of(host.paths.root) if "sleeper" in line] == []
    host.settings()
    assert host.start().code == 0


def test_a_database_socket_that_is_gone_makes_no_running_switch(host: SandboxHost) -> None:
    host.start()
    host.settings(*QUICK)
    host.paths.db_sock.rename(host.paths.rundir / "moved.sock")
    assert host.ovsxen("status").code == 150
    host.ovsxen("restart")
    assert host.status()["verdict"] == "running"


def test_a_database_that_was_replaced_under_its_server_is_noticed(host: SandboxHost) -> None:
    host.start()
    content = host.paths.conf_db.read_bytes()
    host.paths.conf_db.unlink()
    assert host.ovsxen("status").code == 150
    host.paths.conf_db.write_bytes(content)
    status = host.ovsxen("status", "--json")
    assert status.code == 150 and any("not the file" in problem for problem in status.json["problems"])
    host.tool("ovs-appctl", "-t", OVSDB_SERVER, "ovsdb-server/compact")
    assert host.ovsxen("status").code == 0


def test_damage_on_disk_under_a_running_server_is_noticed_and_the_remedy_works(host: SandboxHost) -> None:
    host.start()
    content = host.paths.conf_db.read_bytes()
    with open(str(host.paths.conf_db), "r+b") as stream:
        stream.seek(len(content) // 2)
        stream.write(b"\0\0\0")
    status = host.ovsxen("status", "--json")
    assert status.code == 150 and any("ovsdb-server/compact" in problem for problem in status.json["problems"])
    host.tool("ovs-appctl", "-t", OVSDB_SERVER, "ovsdb-server/compact")
    assert host.ovsxen("status").code == 0


# Who is running


def test_a_stranger_that_locks_a_pidfile_is_neither_asked_nor_signalled(host: SandboxHost) -> None:
    host.paths.rundir.mkdir(parents=True, exist_ok=True)
    pidfile = host.paths.pidfile(OVSDB_SERVER)
    code = ("import fcntl, sys; stream = open(sys.argv[1], 'w'); fcntl.lockf(stream, fcntl.LOCK_EX); "
            "print('locked', flush=True); sys.stdin.read()")
    stranger = subprocess.Popen([sys.executable, "-c", code, str(pidfile)], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
    try:
        assert stranger.stdout is not None and stranger.stdout.readline() == b"locked\n"
        for verb, exit_code in (("start", 1), ("stop", 1), ("status", 4)):
            done = host.ovsxen(verb)
            assert done.code == exit_code and "which is not ovsdb-server" in done.out + done.err
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()
    assert host.ovsxen("start").code == 0


def test_a_vswitchd_whose_pidfile_is_gone_stays_the_only_one(host: SandboxHost) -> None:
    host.start()
    host.vsctl("add-br", "xenbr7")
    pid = host.pid(VSWITCHD)
    host.paths.pidfile(VSWITCHD).unlink()
    contents.write_boot_id(host.paths)  # even where a purge would be due
    done = host.ovsxen("start", "--json")
    assert done.code == 1 and "ovsxen restart" in done.phase("ovs-vswitchd")["reason"]
    assert host.bridges() == ["xenbr7"]
    assert host.status()["daemons"][VSWITCHD]["pid"] == pid
    assert host.ovsxen("restart").code == 0
    assert not [line for line in processes_of(host.paths.root) if line.startswith("%d:" % pid)]
    assert host.status()["verdict"] == "running"


def test_daemons_whose_run_directory_was_wiped_can_still_be_stopped(host: SandboxHost) -> None:
    host.start()
    pids = [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]
    shutil.rmtree(str(host.paths.rundir))
    status = host.status()
    assert [status["daemons"][name]["pid"] for name in (OVSDB_SERVER, VSWITCHD)] == pids
    assert status["verdict"] == "unknown"
    assert host.ovsxen("restart").code == 0
    assert host.status()["verdict"] == "running"


@pytest.mark.parametrize("path", ["conf_db", "inventory", "network_conf", "sysconfig", "boot_id", "boot_report",
                                  "turn"])
def test_a_fifo_in_place_of_a_file_keeps_nobody_waiting(host: SandboxHost, path: str) -> None:
    fifo = getattr(host.paths, path)
    fifo.parent.mkdir(parents=True, exist_ok=True)
    if fifo.exists():
        fifo.unlink()
    os.mkfifo(str(fifo))
    for verb in ("start", "status", "stop"):
        assert host.ovsxen(verb, limit_s=30).code in (0, 1, 3, 4, 150)


@pytest.mark.parametrize("name", [OVSDB_SERVER, VSWITCHD])
def test_a_fifo_in_place_of_a_pidfile_keeps_nobody_waiting(host: SandboxHost, name: str) -> None:
    host.paths.rundir.mkdir(parents=True, exist_ok=True)
    os.mkfifo(str(host.paths.pidfile(name)))
    for verb in ("status", "stop", "start"):
        assert host.ovsxen(verb, limit_s=30).code in (0, 1, 3, 4)


@pytest.mark.parametrize("broken", [OVSDB_SERVER, VSWITCHD, "ovsdb-tool"])
def test_a_program_that_cannot_be_run_is_named(host: SandboxHost, tmp_path: Path, broken: str) -> None:
    if broken == "ovsdb-tool":
        host.install_schema("9.0.0")  # a start that has nothing to convert does without it
    (tmp_path / broken).write_bytes(b"\x7fELF junk")
    (tmp_path / broken).chmod(0o755)
    done = host.ovsxen("start", "--json", PATH="%s:%s" % (tmp_path, os.environ["PATH"]))
    assert str(tmp_path / broken) in done.out or broken in done.out
    assert "Traceback" not in done.err
    if broken == VSWITCHD:
        assert done.phase("managers")["outcome"] == "done"


def test_a_restart_that_could_not_start_again_stops_nothing(host: SandboxHost, tmp_path: Path) -> None:
    host.start()
    assert host.ovsxen("restart", OVS_PKGDATADIR=str(tmp_path)).code == 5
    host.write(host.paths.network_conf, "vwsitch\n")
    assert host.ovsxen("restart").code == 1
    host.write(host.paths.network_conf, "vswitch\n")
    assert host.status()["verdict"] == "running"


@pytest.mark.parametrize("path", ["var/xen", "var/log/openvswitch", "var/log/openvswitch/ovsdb-server.log"])
def test_what_lies_in_the_way_of_logs_and_cores_keeps_no_switch_from_starting(host: SandboxHost, path: str) -> None:
    way = host.paths.root / path
    if way.is_dir():
        shutil.rmtree(str(way))
    way.parent.mkdir(parents=True, exist_ok=True)
    if path.endswith(".log"):
        if way.exists():
            way.unlink()
        way.mkdir()
    else:
        way.write_text("in the way")
    done = host.start()
    assert done.json["warnings"]
    assert host.status()["daemons"][VSWITCHD]["state"] == "running"


def test_bytes_that_are_no_text_in_the_inventory_cost_that_line_only(host: SandboxHost) -> None:
    text = contents.INVENTORY.encode().replace(b"XCP-ng", b"caf\xe9").replace(b"8.3.0", b"8\x00.3")
    host.paths.inventory.write_bytes(text)
    done = host.start()
    assert sum("PRODUCT_" in warning for warning in done.json["warnings"]) >= 2
    assert host.column("external_ids:system-id") == contents.INSTALLATION_UUID


# Killed


def test_a_start_that_was_killed_while_it_kept_a_copy_has_it_kept_by_the_next(host: SandboxHost) -> None:
    host.start()
    host.signal(VSWITCHD, signal.SIGKILL)
    for name in host.beside("good"):
        (host.paths.dbdir / name).unlink()
    half = host.paths.dbdir / ".conf.db.good-000001-1-2.9.staged"
    half.write_text("half")
    compaction = host.paths.dbdir / "conf.db.tmp"
    compaction.write_text("the server's, at work")
    host.start()
    assert not half.exists()
    assert compaction.exists()
    assert len(host.beside("good")) == 1


@pytest.mark.parametrize("seed", range(12))
def test_a_start_that_is_killed_at_any_point_is_completed_by_the_next(make_host: MakeHost, seed: int) -> None:
    chance = random.Random(seed)
    host = make_host(stale_bridges=5)
    for _ in range(2):
        start = host.spawn("start")
        time.sleep(chance.uniform(0.02, 0.2))
        start.kill()
        start.wait()
    host.start()
    assert host.bridges() == []
    assert host.vsctl("get-manager") == contents.MANAGER
    assert host.status()["verdict"] == "running"
    assert sorted(set(host.status()["boot"]["purged"])) in ([], ["xenbr%d" % number for number in range(5)])
    leftovers = [path.name for path in host.paths.dbdir.iterdir() if ".staged" in path.name]
    assert leftovers == []


@pytest.mark.parametrize("seed", range(8))
def test_a_recovery_that_is_killed_at_any_point_loses_nothing_and_is_reported(
        make_host: MakeHost, seed: int) -> None:
    chance = random.Random(seed)
    host = make_host()
    host.start()
    host.reboot()
    content = bytearray(host.paths.conf_db.read_bytes())
    content[300] ^= 1
    host.paths.conf_db.write_bytes(bytes(content))
    for _ in range(2):
        start = host.spawn("start")
        time.sleep(chance.uniform(0.03, 0.12))
        start.kill()
        start.wait()
    host.start()
    assert host.vsctl("get-manager") == contents.MANAGER
    asides = [path.read_bytes() for path in host.paths.dbdir.glob("conf.db.aside-*")]
    assert asides == [bytes(content)]
    assert host.ovsxen("status").code == 150


def test_a_start_that_was_interrupted_shows_in_the_status(host: SandboxHost, tmp_path: Path) -> None:
    write_sleeper(host, tmp_path / OVSDB_SERVER)
    start = host.spawn("start", PATH="%s:%s" % (tmp_path, os.environ["PATH"]))
    deadline = time.monotonic() + 20
    while not host.paths.boot_report.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert any("under way" in problem for problem in host.status()["problems"])
    start.kill()
    start.wait()
    for line in processes_of(host.paths.root):
        os.kill(int(line.split(":")[0]), signal.SIGKILL)
    assert any("interrupted" in problem for problem in host.status()["problems"])
    host.start()
    assert host.status()["problems"] == []


# Full and read-only


@pytest.fixture
def small_disk() -> Iterator[List[Path]]:
    """Mounts of tmpfs, unmounted at the end: append a path that is a mount point."""
    mounts: List[Path] = []
    yield mounts
    for path in reversed(mounts):
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def mount(path: Path, mounts: List[Path], size_kib: int) -> None:
    """Put a tmpfs of a fixed size over a directory, with what was in it."""
    path.mkdir(parents=True, exist_ok=True)
    kept = {entry.name: entry.read_bytes() for entry in path.iterdir() if entry.is_file()}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dk" % size_kib, "tmpfs", str(path)], check=True)
    mounts.append(path)
    for name, content in kept.items():
        (path / name).write_bytes(content)


def fill(path: Path) -> Path:
    """Use all the room that is left."""
    filler = path / "filler"
    with open(str(filler), "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            return filler


def test_a_full_disk_under_the_database_fails_with_its_reason_and_loses_nothing(
        host: SandboxHost, small_disk: List[Path]) -> None:
    mount(host.paths.dbdir, small_disk, 256)
    host.write(host.paths.sysconfig, 'VSWITCHD_MLOCKALL=no\nOVS_CTL_OPTS="--external-id=long=%s '
               '--ovs-vswitchd-options=--enable-dummy=override"\n' % ("x" * 8192))
    before = host.paths.conf_db.read_bytes()
    filler = fill(host.paths.dbdir)
    done = host.ovsxen("start", "--json")
    assert done.code == 1 and "make room" in done.out
    after = host.paths.conf_db.read_bytes()
    assert after[:len(before)] == before and dblog.check(host.paths.conf_db, "Open_vSwitch").good_bytes >= len(before)
    filler.unlink()
    host.start()
    assert host.vsctl("get-manager") == contents.MANAGER
    assert host.status()["verdict"] == "running"


def test_a_switch_that_runs_and_cannot_say_for_the_disk_that_it_is_configured_is_no_failed_start(
        host: SandboxHost, small_disk: List[Path]) -> None:
    host.start()
    host.kill_daemons()
    mount(host.paths.dbdir, small_disk, 256)
    host.start()
    before = host.pid(VSWITCHD)
    host.signal(VSWITCHD, signal.SIGSTOP)
    host.vsctl("--no-wait", "add-br", "xenbr7")
    filler = fill(host.paths.dbdir)
    with Connection(host.paths.db_sock, OVSDB_SERVER, 10.0) as connection:
        with pytest.raises(AdministratorError, match="write failed"):  # the file's last page has room for a few
            for _ in range(100):
                ovsdb.touch(connection, 10.0)
    host.signal(VSWITCHD, signal.SIGCONT)
    done = host.start().phase("ovs-vswitchd")
    assert done["outcome"] == "degraded" and "make room" in done["reason"] and host.pid(VSWITCHD) == before
    problems = " ".join(host.status()["problems"])
    assert "make room" in problems and "ovsxen restart" not in problems
    filler.unlink()
    host.vsctl("set", "bridge", "xenbr7", "external_ids:a=b")  # ovs-vswitchd's own write comes with the next change
    assert host.start().phase("ovs-vswitchd")["outcome"] == "unchanged"


def test_no_room_for_a_copy_is_a_warning_and_the_host_comes_up(host: SandboxHost, small_disk: List[Path]) -> None:
    size_kib = host.paths.conf_db.stat().st_size // 1024
    mount(host.paths.dbdir, small_disk, size_kib + 12)
    done = host.start()
    assert any("no copy" in warning for warning in done.json["warnings"])
    assert host.beside("good") == [] and host.bridges() == []


def test_the_restart_that_has_room_keeps_the_copy_that_was_missed(host: SandboxHost, small_disk: List[Path]) -> None:
    mount(host.paths.dbdir, small_disk, host.paths.conf_db.stat().st_size // 1024 + 12)
    host.start()
    subprocess.run(["mount", "-o", "remount,size=4m", str(host.paths.dbdir)], check=True)
    assert any("the next restart keeps one" in warning for warning in host.status()["warnings"])
    assert host.ovsxen("restart").code == 0
    assert host.status()["warnings"] == [] and len(host.beside("good")) == 1


@pytest.mark.parametrize("verb", [("restart",), ("restart", "--save-flows")])
def test_without_room_for_a_start_a_restart_is_refused_while_both_run(
        host: SandboxHost, small_disk: List[Path], verb: Tuple[str, ...]) -> None:
    mount(host.paths.dbdir, small_disk, 512)
    host.start()
    before = [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]
    filler = fill(host.paths.dbdir)
    done = host.ovsxen(*verb)
    assert done.code == 1 and "make room" in done.out
    assert [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)] == before
    filler.unlink()
    assert host.ovsxen(*verb).code == 0


def test_no_room_for_a_conversion_leaves_the_database_as_it_is_and_the_host_up(
        make_host: MakeHost, small_disk: List[Path]) -> None:
    host = make_host()
    host.install_schema("9.0.0", without="rstp_enable")
    mount(host.paths.dbdir, small_disk, 512)
    done = host.start().phase("database")
    assert done["outcome"] == "degraded" and "make room" in done["reason"]
    assert host.tool("ovsdb-tool", "db-version", str(host.paths.conf_db)) != "9.0.0"
    assert host.ovsxen("status").code == 150


def test_no_room_for_a_new_database_says_so(host: SandboxHost, small_disk: List[Path]) -> None:
    host.paths.conf_db.unlink()
    mount(host.paths.dbdir, small_disk, 8)
    fill(host.paths.dbdir)
    done = host.ovsxen("start", "--json")
    assert done.code == 1 and done.phase("database")["outcome"] == "failed"
    assert [path.name for path in host.paths.dbdir.iterdir() if path.name.startswith("conf.db")] == []


def test_no_room_to_recover_touches_nothing(host: SandboxHost, small_disk: List[Path]) -> None:
    host.start()
    host.reboot()
    host.paths.conf_db.write_bytes(b"\0" * 1000)
    mount(host.paths.dbdir, small_disk, 48)
    filler = fill(host.paths.dbdir)
    before = sorted(path.name for path in host.paths.dbdir.iterdir())
    done = host.ovsxen("start", "--json")
    assert done.code == 1 and "make room" in done.phase("database")["reason"]
    assert sorted(path.name for path in host.paths.dbdir.iterdir()) == before
    assert host.paths.conf_db.read_bytes() == b"\0" * 1000
    filler.unlink()


def test_a_full_run_directory_says_so_and_the_next_start_goes_on(host: SandboxHost, small_disk: List[Path]) -> None:
    host.paths.rundir.mkdir(parents=True, exist_ok=True)
    mount(host.paths.rundir, small_disk, 64)
    filler = fill(host.paths.rundir)
    done = host.ovsxen("start")
    assert done.code in (0, 1) and ("space" in done.err + done.out or "make room" in done.err + done.out)
    filler.unlink()
    host.start()
    assert host.status()["daemons"][VSWITCHD]["state"] == "running"
    assert host.bridges() == []
    host.kill_daemons()


def test_a_full_log_directory_keeps_no_switch_from_starting(host: SandboxHost, small_disk: List[Path]) -> None:
    mount(host.paths.logdir, small_disk, 8)
    fill(host.paths.logdir)
    host.start()
    assert host.status()["verdict"] == "running"
    host.kill_daemons()


def test_a_read_only_etc_fails_with_its_reason_and_changes_nothing(
        host: SandboxHost, small_disk: List[Path]) -> None:
    mount(host.paths.dbdir, small_disk, 512)
    before = host.paths.conf_db.read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", str(host.paths.dbdir)], check=True)
    done = host.ovsxen("start", "--json")
    assert done.code == 1 and "ead-only" in done.out
    assert host.paths.conf_db.read_bytes() == before


def test_a_read_only_log_directory_keeps_no_switch_from_starting(host: SandboxHost, small_disk: List[Path]) -> None:
    mount(host.paths.logdir, small_disk, 64)
    subprocess.run(["mount", "-o", "remount,ro", str(host.paths.logdir)], check=True)
    done = host.start()
    assert any("syslog" in warning for warning in done.json["warnings"])
    assert host.status()["verdict"] == "running"


def test_a_read_only_run_directory_says_so(host: SandboxHost, small_disk: List[Path]) -> None:
    mount(host.paths.rundir, small_disk, 64)
    subprocess.run(["mount", "-o", "remount,ro", str(host.paths.rundir)], check=True)
    done = host.ovsxen("start")
    assert done.code == 1 and "%s): mount that file system read-write" % host.paths.rundir in done.out
