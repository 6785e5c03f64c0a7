"""`ovsxen daemon` on real daemons: what befalls them, and it, and what is so afterwards."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from ovsxen.host import proc, process
from ovsxen.host.clock import MACHINE_CLOCK
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, State
from tests.conftest import SandboxHost
from tests.watching import BOTH, IMPATIENT, eventually, has_new, is_still_watched, is_well, pids, watch

OTHER = {OVSDB_SERVER: VSWITCHD, VSWITCHD: OVSDB_SERVER}
END = "the end"


def events(host: SandboxHost) -> str:
    return "\n".join(event["text"] for event in host.status()["watch"]["events"])


@pytest.fixture
def watched(host: SandboxHost) -> SandboxHost:
    """A host whose switch is up and watched, with one bridge."""
    watch(host)
    host.vsctl("add-br", "xenbr7")
    return host


def test_the_daemon_returns_from_the_background_when_the_switch_is_configured(host: SandboxHost) -> None:
    watch(host)
    assert host.vsctl("list-br") == ""  # waits for ovs-vswitchd; last boot's bridges are gone
    assert is_well(host)


def test_one_daemon_is_enough(watched: SandboxHost) -> None:
    watching = watched.watcher()
    again = watched.ovsxen("daemon", "--detach")
    assert again.code == 0 and "watched already" in again.out
    in_front = watched.ovsxen("daemon")
    assert in_front.code == 1 and "watched already" in in_front.err
    assert watching is not None and is_still_watched(watched, watching)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("name", BOTH)
def test_a_daemon_that_dies_comes_back_and_the_other_never_notices(
        watched: SandboxHost, name: str, number: signal.Signals) -> None:
    before = pids(watched)
    watched.signal(name, number)
    assert eventually(lambda: has_new(watched, name, before[name]))
    assert eventually(lambda: is_well(watched)), watched.status()
    assert watched.pid(OTHER[name]) == before[OTHER[name]]
    assert watched.bridges() == ["xenbr7"]
    assert "%s: it is gone" % name in events(watched)


def test_both_come_back_when_both_die(watched: SandboxHost) -> None:
    before = pids(watched)
    for name in BOTH:
        watched.signal(name, signal.SIGKILL)
    assert eventually(lambda: all(has_new(watched, name, before[name]) for name in BOTH))
    assert eventually(lambda: is_well(watched)), watched.status()
    assert watched.bridges() == ["xenbr7"]


@pytest.mark.parametrize("name", BOTH)
def test_a_daemon_that_was_stopped_by_a_signal_is_continued_and_loses_nothing(watched: SandboxHost, name: str) -> None:
    before = pids(watched)
    watched.signal(name, signal.SIGSTOP)
    assert eventually(lambda: not process.read_process(before[name]).is_stopped)  # type: ignore[union-attr]
    assert eventually(lambda: is_well(watched)), watched.status()
    assert pids(watched) == before


def hang(host: SandboxHost, name: str) -> None:
    """Have a daemon wait in the kernel for ever: it opens its log anew, and that is a FIFO that nobody reads."""
    log = host.paths.log(name)
    log.unlink()
    os.mkfifo(str(log))
    subprocess.Popen(["ovs-appctl", "--timeout=1", "-t", str(host.paths.control_socket(name, host.pid(name))),
                      "vlog/reopen"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL).wait()


@pytest.mark.parametrize("name", BOTH)
def test_a_daemon_that_hangs_is_replaced_alone_and_what_tells_why_is_kept(watched: SandboxHost, name: str) -> None:
    watched.settings(*IMPATIENT)
    assert watched.ovsxen("reload").code == 0
    before = pids(watched)
    hang(watched, name)
    assert eventually(lambda: has_new(watched, name, before[name]))
    assert watched.pid(OTHER[name]) == before[OTHER[name]]
    kept = [path.name for path in watched.paths.evidence.iterdir()]
    assert len(kept) == 1 and kept[0].endswith("-%s-%d-hang" % (name, before[name]))
    watched.paths.log(name).unlink()
    assert "neither answered nor used the CPU" in events(watched)


def settled_size(host: SandboxHost) -> int:
    """Of conf.db, once ovs-vswitchd has written all about its new bridge."""
    sizes = [0]

    def is_settled() -> bool:
        sizes.append(host.paths.conf_db.stat().st_size)
        return len(sizes) > 20 and len(set(sizes[-20:])) == 1  # for a second

    assert eventually(is_settled)
    return sizes[-1]


def test_the_next_daemon_takes_over_what_runs_and_touches_nothing(watched: SandboxHost) -> None:
    before, old = pids(watched), watched.watcher()
    size = settled_size(watched)
    assert old is not None and process.send_signal(old, signal.SIGKILL)
    assert eventually(lambda: process.has_ended(old))
    status = watched.ovsxen("status")
    assert status.code == 150 and "(pid %d) is gone" % old.pid in status.out
    watch(watched)
    assert pids(watched) == before and is_well(watched)
    assert watched.paths.conf_db.stat().st_size == size


def test_what_dies_while_nobody_watches_comes_back_with_the_next_daemon_and_bridges_stay(host: SandboxHost) -> None:
    watch(host, 'OVS_CTL_OPTS="--enable-dummy --delete-bridges"')
    host.vsctl("add-br", "xenbr7")
    host.kill_daemons()
    watch(host)
    assert is_well(host) and host.bridges() == ["xenbr7"]


def test_sighup_begins_anew_in_the_same_process_and_takes_up_settings(watched: SandboxHost) -> None:
    before, old = pids(watched), watched.watcher()
    assert old is not None
    watched.settings("OVSXEN_FLOW_RESTORE_TIMEOUT=1")
    assert watched.ovsxen("reload").code == 0
    watched.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true")
    assert eventually(lambda: watched.column("other_config") == "{}")
    assert is_still_watched(watched, old)
    assert pids(watched) == before


def test_a_lease_whose_restart_is_gone_ends_at_once(watched: SandboxHost) -> None:
    watched.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true",
                  "other_config:ovsxen-flow-restore-until=%f" % (MACHINE_CLOCK.monotonic() + 600.0))
    assert eventually(lambda: watched.column("other_config") == "{}")


def test_stop_ends_all_three(watched: SandboxHost) -> None:
    old = watched.watcher()
    assert old is not None
    assert watched.ovsxen("stop").code == 0
    assert process.has_ended(old)
    assert [daemons.find(watched.paths, name).state for name in BOTH] == [State.STOPPED, State.STOPPED]
    assert watched.ovsxen("status").code == 3
    assert not watched.paths.daemon_pidfile.exists()


def test_stop_ends_a_daemon_that_is_stopped_by_a_signal(watched: SandboxHost) -> None:
    old = watched.watcher()
    assert old is not None and process.send_signal(old, signal.SIGSTOP)
    assert watched.ovsxen("stop").code == 0
    assert watched.ovsxen("status").code == 3


def test_a_restart_by_hand_is_left_alone(watched: SandboxHost) -> None:
    before = pids(watched)
    assert watched.ovsxen("restart").code == 0
    after = pids(watched)
    assert not set(before.values()) & set(after.values())
    assert is_well(watched) and events(watched) == ""
    assert pids(watched) == after


def test_a_daemon_that_cannot_be_started_is_tried_to_the_limit_and_then_rests_and_status_says_so(
        host: SandboxHost, tmp_path: Path) -> None:
    broken = tmp_path / "bin" / VSWITCHD
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexec %s \"$@\"\n" % proc.find_program(VSWITCHD))
    broken.chmod(0o755)
    host.env["PATH"] = "%s:%s" % (broken.parent, os.environ["PATH"])
    watch(host, "OVSXEN_RESTART_LIMIT=2", "OVSXEN_REST=5")
    server = host.pid(OVSDB_SERVER)
    broken.write_text("#!/bin/sh\nexit 1\n")
    host.signal(VSWITCHD, signal.SIGKILL)
    assert eventually(lambda: "left alone" in host.ovsxen("status").out)
    assert host.pid(OVSDB_SERVER) == server
    broken.write_text("#!/bin/sh\nexec %s \"$@\"\n" % proc.find_program(VSWITCHD))
    assert eventually(lambda: daemons.find(host.paths, VSWITCHD).state is State.RUNNING)


class Systemd:
    """The socket that systemd would listen on; what it is told, word by word.

    It is read at once, as by systemd: the kernel keeps few messages, and what has no room is not said.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: List[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        while True:
            said = self._socket.recv(65536).decode()
            if said == END:
                return
            self.heard += said.splitlines()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(END.encode(), str(self.path))
        self._listener.join()
        self._socket.close()

    def sees_end(self, daemon: "subprocess.Popen[bytes]", within_s: float = 60.0) -> int:
        """The exit code of a daemon."""
        assert eventually(lambda: daemon.poll() is not None, within_s)
        return daemon.wait()

    def hears(self, text: str) -> bool:
        return any(text in line for line in list(self.heard))


@pytest.fixture
def systemd(host: SandboxHost) -> Iterator[Systemd]:
    made = Systemd(host.paths.root / "notify")
    yield made
    made.close()


@pytest.fixture
def unit(host: SandboxHost, systemd: Systemd) -> Iterator["Callable[..., subprocess.Popen[bytes]]"]:
    """Starts the daemon as systemd does."""
    started: "List[subprocess.Popen[bytes]]" = []

    def start(**env: str) -> "subprocess.Popen[bytes]":
        started.append(host.spawn("daemon", NOTIFY_SOCKET=str(systemd.path), **env))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


Unit = Callable[..., "subprocess.Popen[bytes]"]


def test_systemd_hears_of_readiness_when_the_switch_is_configured(
        host: SandboxHost, systemd: Systemd, unit: Unit) -> None:
    unit()
    assert eventually(lambda: systemd.hears("READY=1"))
    assert host.column("cur_cfg") == host.column("next_cfg")
    before = systemd.heard[:systemd.heard.index("READY=1")]
    assert [line for line in before if "ovs-vswitchd done" in line] and before[0].startswith("EXTEND_TIMEOUT_USEC=")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_systemd_hears_of_readiness_though_the_disk_that_the_boot_is_kept_on_hangs(
        host: SandboxHost, systemd: Systemd) -> None:
    kept = host.paths.boot_history.parent
    kept.mkdir(parents=True)
    script = "mount -i -t fuse -o fd=0,rootmode=40000,user_id=0,group_id=0 hangs %s && exec %s -m ovsxen daemon <&-" % (
        kept, sys.executable)
    said = host.paths.root / "said"
    with open("/dev/fuse", "r+b", buffering=0) as disk, said.open("wb") as log:
        daemon = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdin=disk, stdout=log, stderr=log,
                                  env=host.environment(NOTIFY_SOCKET=str(systemd.path)))
        try:
            assert eventually(lambda: systemd.hears("READY=1"))
            disk.close()  # until then nobody answers; without it everybody gets an error
            assert eventually(lambda: "will not know all of this boot" in said.read_text())
        finally:
            disk.close()
            daemon.kill()
            daemon.wait()


def test_systemd_s_sigterm_stops_the_switch_before_its_database_and_then_the_daemon(
        host: SandboxHost, systemd: Systemd, unit: Unit) -> None:
    daemon = unit()
    assert eventually(lambda: systemd.hears("READY=1"))
    daemon.terminate()
    assert systemd.sees_end(daemon) == 0
    assert systemd.hears("STOPPING=1")
    stopped = [line.split()[0] for line in systemd.heard if line.startswith("STATUS=") and " done" in line][-2:]
    assert stopped == ["STATUS=" + VSWITCHD, "STATUS=" + OVSDB_SERVER]
    assert [daemons.find(host.paths, name).state for name in BOTH] == [State.STOPPED, State.STOPPED]


def test_the_watchdog_is_fed_while_both_answer_and_not_while_one_is_silent(
        host: SandboxHost, systemd: Systemd, unit: Unit) -> None:
    host.start()
    host.settings("OVSXEN_ANSWER_TIMEOUT=0.5", "OVSXEN_HANG_TIMEOUT=600")
    unit(WATCHDOG_USEC="400000")
    assert eventually(lambda: systemd.hears("WATCHDOG=1"))
    hang(host, OVSDB_SERVER)
    assert eventually(lambda: not fed(systemd))
    host.signal(OVSDB_SERVER, signal.SIGKILL)
    assert eventually(lambda: fed(systemd))
    host.paths.log(OVSDB_SERVER).unlink()


def fed(systemd: Systemd, within_s: float = 2.5) -> bool:
    """The watchdog was fed since it was asked."""
    systemd.heard.clear()
    return eventually(lambda: systemd.hears("WATCHDOG=1"), within_s)


def test_a_boot_that_fails_is_a_failed_start_and_managers_still_reach_the_host(
        host: SandboxHost, systemd: Systemd, unit: Unit) -> None:
    host.settings('OVS_CTL_OPTS="--ovs-vswitchd-options=--no-such-option"')
    assert systemd.sees_end(unit()) == 1
    assert systemd.hears("ovs-vswitchd failed") and not systemd.hears("READY=1")
    assert daemons.find(host.paths, OVSDB_SERVER).state is State.RUNNING


@pytest.mark.parametrize("lost", ["pidfile", "control socket"])
def test_what_runs_out_of_reach_is_watched_all_the_same_and_said(
        host: SandboxHost, systemd: Systemd, unit: Unit, lost: str) -> None:
    host.start()
    host.settings(*IMPATIENT)
    before = pids(host)
    path = host.paths.pidfile(VSWITCHD)
    (path if lost == "pidfile" else host.paths.control_socket(VSWITCHD, before[VSWITCHD])).unlink()
    daemon = unit()
    assert eventually(lambda: systemd.hears("READY=1")), (systemd.heard, daemon.poll(), host.status())
    assert eventually(lambda: systemd.hears("STATUS=ovs-vswitchd runs, but its pidfile or control socket is gone"))
    os.kill(before[VSWITCHD], signal.SIGKILL)
    assert eventually(lambda: is_well(host)), host.status()
    assert host.pid(OVSDB_SERVER) == before[OVSDB_SERVER] and daemon.poll() is None


def test_what_runs_out_of_reach_is_watched_also_where_another_had_to_be_woken_first(
        host: SandboxHost, systemd: Systemd, unit: Unit) -> None:
    host.start()
    host.settings("OVSXEN_ANSWER_TIMEOUT=0.5")
    before = pids(host)
    host.paths.pidfile(VSWITCHD).unlink()
    host.signal(OVSDB_SERVER, signal.SIGSTOP)
    daemon = unit()
    assert eventually(lambda: systemd.hears("READY=1")), (systemd.heard, daemon.poll(), host.status())
    assert eventually(lambda: systemd.hears("STATUS=ovs-vswitchd runs, but its pidfile or control socket is gone"))
    os.kill(before[VSWITCHD], signal.SIGKILL)
    assert eventually(lambda: is_well(host)), host.status()
    assert host.pid(OVSDB_SERVER) == before[OVSDB_SERVER] and daemon.poll() is None


def test_in_bridge_mode_the_daemon_is_ready_and_ends(host: SandboxHost, systemd: Systemd, unit: Unit) -> None:
    host.write(host.paths.network_conf, "bridge\n")
    assert systemd.sees_end(unit()) == 0
    assert systemd.hears("READY=1")
    assert [daemons.find(host.paths, name).state for name in BOTH] == [State.STOPPED, State.STOPPED]


def test_a_daemon_in_the_background_goes_on_trying_after_a_boot_that_failed(host: SandboxHost) -> None:
    host.settings('OVS_CTL_OPTS="--ovs-vswitchd-options=--no-such-option"')
    assert host.ovsxen("daemon", "--detach").code == 1
    assert host.watcher() is not None
    host.settings()
    assert host.ovsxen("reload").code == 1  # there is no switch to reload, yet the daemon hears of the settings
    assert eventually(lambda: is_well(host)), host.status()


@pytest.mark.parametrize("name", BOTH)
def test_a_daemon_that_begins_while_the_switch_is_silent_mends_it(
        host: SandboxHost, systemd: Systemd, unit: Unit, name: str) -> None:
    host.start()
    host.settings(*IMPATIENT)
    host.signal(name, signal.SIGSTOP)
    unit()
    assert eventually(lambda: systemd.hears("READY=1"))
    assert is_well(host)


def test_what_could_not_be_asserted_is_asserted_again_and_status_is_well(host: SandboxHost) -> None:
    watch(host, "OVSXEN_START_TIMEOUT=1", "OVSXEN_ANSWER_TIMEOUT=1", "OVSXEN_RESTART_WINDOW=1", "OVSXEN_REST=1")
    before = pids(host)
    host.signal(OVSDB_SERVER, signal.SIGKILL)
    assert eventually(lambda: has_new(host, OVSDB_SERVER, before[OVSDB_SERVER]))
    host.signal(VSWITCHD, signal.SIGSTOP)
    assert eventually(lambda: is_well(host)), host.status()


@pytest.mark.parametrize("phase", ["save", "stop ovsdb-server", "ovsdb-server", "configuration", "stop ovs-vswitchd",
                                   "ovs-vswitchd", "flows", "forwarding"])
def test_a_restart_that_is_killed_comes_to_a_good_end_by_itself(watched: SandboxHost, phase: str) -> None:
    watched.vsctl("set", "Bridge", "xenbr7", "fail_mode=secure")
    watched.tool("ovs-ofctl", "add-flow", "unix:%s" % watched.paths.bridge_socket("xenbr7"), "priority=7,actions=drop")
    killed = subprocess.Popen([sys.executable, "-u", "-m", "ovsxen", "restart", "--save-flows"],
                              env=watched.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, universal_newlines=True)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith(phase + " "):
            killed.kill()
            break
    late = (0,) if phase in ("flows", "forwarding") else ()  # at its very end it may be quicker than the blow
    assert killed.wait() in (-signal.SIGKILL,) + late
    killed.stdout.close()
    assert eventually(lambda: is_well(watched)), watched.status()
    assert eventually(lambda: watched.column("other_config") == "{}")
    assert watched.bridges() == ["xenbr7"]

