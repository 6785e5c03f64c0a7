"""The HA daemon stopped and started, by scripts in the place of XenServer's that misbehave on request."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from ovsxen.errors import AdministratorError, NotInstalled
from ovsxen.host import ha, process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths, paths_under

START = """echo "$PATH" > "%(root)s/path"; "%(root)s/xhad" 600 & echo $! > "%(root)s/pid"
for _ in $(seq 100); do [ "$(cat /proc/$!/comm)" = xhad ] && break; done  # until then it has the shell's name"""
STOP = 'kill $(cat "%(root)s/pid")'


class Cluster:
    """A host that may take part in HA. Its daemon is a process named xhad."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        paths.rundir.mkdir(parents=True)
        (paths.root / "etc/xensource").mkdir(parents=True)
        paths.xhad_conf.write_text("")
        (paths.root / "xhad").symlink_to("/bin/sleep")
        self.script("ha_start_daemon", START)
        self.script("ha_stop_daemon", STOP)

    def script(self, name: str, body: str) -> Path:
        path = self.paths.xha_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n%s\n" % (body % {"root": self.paths.root}))
        path.chmod(0o755)
        return path

    def start(self) -> None:
        """HA is armed by somebody else, as XAPI does it."""
        subprocess.run([str(self.script("elsewhere", START))], check=True, timeout=60, stdout=subprocess.DEVNULL)

    def pid(self) -> int:
        return int((self.paths.root / "pid").read_text())

    def runs(self) -> bool:
        path = self.paths.root / "pid"
        return path.exists() and process.read_process(self.pid()) is not None


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(paths_under(tmp_path, {}))
    yield made
    if made.runs():
        os.kill(made.pid(), signal.SIGKILL)


def test_ha_is_armed_while_its_daemon_runs_and_has_a_configuration(cluster: Cluster) -> None:
    assert not ha.is_armed(cluster.paths)
    cluster.start()
    assert ha.is_armed(cluster.paths)
    cluster.paths.xhad_conf.unlink()
    assert not ha.is_armed(cluster.paths)


def test_another_host_s_daemon_is_none_of_this_one(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = Cluster(paths_under(other, {}))
    elsewhere.start()
    assert ha.is_armed(elsewhere.paths) and not ha.is_armed(cluster.paths)
    os.kill(elsewhere.pid(), signal.SIGKILL)


def test_it_is_stopped_and_started_again(cluster: Cluster) -> None:
    cluster.start()
    ha.stop_daemon(cluster.paths)
    assert cluster.paths.ha_stopped.exists()
    assert Deadline(30).wait_until(lambda: not cluster.runs())  # it has begun to end, and may take a moment
    assert ha.start_again(cluster.paths) == "xhad started"
    assert cluster.runs() and not cluster.paths.ha_stopped.exists()
    assert str(cluster.paths.xha_dir) in (cluster.paths.root / "path").read_text()


def test_it_is_started_by_nobody_who_did_not_stop_it(cluster: Cluster) -> None:
    assert ha.start_again(cluster.paths) == ""
    cluster.start()
    ha.stop_daemon(cluster.paths)
    ha.start_again(cluster.paths)
    first = cluster.pid()
    assert ha.start_again(cluster.paths) == ""
    assert cluster.pid() == first


def test_a_stop_that_fails_leaves_it_to_be_started(cluster: Cluster) -> None:
    cluster.start()
    cluster.script("ha_stop_daemon", STOP + '; echo "statefile lost" >&2; exit 7')
    with pytest.raises(AdministratorError, match="statefile lost"):
        ha.stop_daemon(cluster.paths)
    assert Deadline(30).wait_until(lambda: not cluster.runs())  # the signal was sent; it ends when it gets to it
    assert ha.start_again(cluster.paths) == "xhad started"
    assert cluster.runs()


def test_a_daemon_that_somebody_else_started_meanwhile_is_left_alone(cluster: Cluster) -> None:
    cluster.start()
    ha.stop_daemon(cluster.paths)
    cluster.start()
    pid = cluster.pid()
    assert ha.start_again(cluster.paths) == "xhad runs"
    assert cluster.pid() == pid and not cluster.paths.ha_stopped.exists()


@pytest.mark.parametrize("body, said", [("echo 'no heartbeat' >&2; exit 1", "no heartbeat"),
                                        ("exit 0", "reports success, yet")])
def test_a_start_that_fails_says_how_to_do_it_and_is_tried_again(
        cluster: Cluster, monkeypatch: pytest.MonkeyPatch, body: str, said: str) -> None:
    monkeypatch.setattr(ha, "SETTLED_WITHIN_S", 0.5)  # else ten seconds of waiting
    cluster.start()
    ha.stop_daemon(cluster.paths)
    cluster.script("ha_start_daemon", body)
    with pytest.raises(AdministratorError, match=said) as raised:
        ha.start_again(cluster.paths)
    assert "ha_start_daemon`" in raised.value.remedy
    cluster.script("ha_start_daemon", START)
    assert ha.start_again(cluster.paths) == "xhad started"


def test_a_stop_that_did_not_stop_it_is_a_failure(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ha, "SETTLED_WITHIN_S", 0.5)  # else ten seconds of waiting
    cluster.start()
    cluster.script("ha_stop_daemon", "exit 0")
    with pytest.raises(AdministratorError, match="is not stopped"):
        ha.stop_daemon(cluster.paths)
    assert cluster.runs()


def test_missing_commands_are_named(cluster: Cluster) -> None:
    ha.require_commands(cluster.paths)
    (cluster.paths.xha_dir / "ha_start_daemon").unlink()
    with pytest.raises(NotInstalled, match="ha_start_daemon"):
        ha.require_commands(cluster.paths)
