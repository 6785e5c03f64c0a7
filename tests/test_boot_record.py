"""What a daemon keeps of real boots, and what `ovsxen boot-chart` makes of it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List
from xml.etree import ElementTree

import pytest

from ovsxen.boots import History, read_history
from ovsxen.report import Outcome
from tests.conftest import SandboxHost, StandIn
from tests.watching import eventually, is_well, watch

PHASES = ["host", "module", "database", "ovsdb-server", "configuration", "ovs-vswitchd", "management", "interfaces",
          "managers", "hostname", "firewall"]
BROKEN = "OVS_CTL_OPTS=--ovs-vswitchd-options=--frobnicate"


def history(host: SandboxHost) -> History:
    return read_history(host.paths.boot_history)


def boot_ids(host: SandboxHost) -> List[str]:
    return [boot.boot_id for boot in history(host).boots]


def this_boot(host: SandboxHost) -> str:
    return host.paths.boot_id.read_text().strip()


def is_kept(host: SandboxHost) -> bool:
    return boot_ids(host)[-1:] == [this_boot(host)]


def reboot(host: SandboxHost) -> str:
    """Boot it once more, watched; gives the new boot's id."""
    host.reboot()
    watch(host)
    assert eventually(lambda: is_kept(host))
    return this_boot(host)


@pytest.fixture
def booted(host: SandboxHost) -> SandboxHost:
    """A host that has been booted by its daemon, and the history says so."""
    watch(host)
    assert eventually(lambda: is_kept(host))
    return host


def test_two_boots_are_kept_and_drawn_with_all_phases(booted: SandboxHost, tmp_path: Path) -> None:
    first = this_boot(booted)
    second = reboot(booted)
    assert boot_ids(booted) == [first, second]
    for boot in history(booted).boots:
        assert [phase.name for phase in boot.starts[0].phases] == PHASES
        assert boot.is_up and boot.openvswitch in booted.tool("ovs-vswitchd", "--version")
        begins = [phase.began_s for phase in boot.starts[0].phases]
        assert begins == sorted(begins) and begins[0] > 0.0
        assert all(phase.began_s + phase.ms / 1000 <= following + 0.001
                   for phase, following in zip(boot.starts[0].phases, begins[1:]))
    assert [boot.purged for boot in history(booted).boots] == [3, 0]
    text = booted.ovsxen("boot-chart", COLUMNS="100")
    assert text.code == 0 and text.err == ""
    assert all(" %s " % name in text.out.replace("*", " ") for name in PHASES)
    drawn = booted.ovsxen("boot-chart", "-o", str(tmp_path / "boot.svg"))
    assert (drawn.code, drawn.out, drawn.err) == (0, "", "")
    labels = ["".join(label.itertext()) for label in ElementTree.parse(str(tmp_path / "boot.svg")).iter()]
    assert set(PHASES) <= set(labels)
    assert ElementTree.fromstring(booted.ovsxen("boot-chart", "-o", "-").out).tag.endswith("svg")


def test_a_later_start_and_the_next_daemon_leave_the_boot_as_it_was(booted: SandboxHost) -> None:
    kept = booted.paths.boot_history.read_bytes()
    assert booted.ovsxen("restart").code == 0
    watching = booted.watcher()
    assert watching is not None
    booted.kill_daemons()
    watch(booted)
    assert eventually(lambda: is_well(booted))
    assert booted.ovsxen("reload").code == 0
    assert booted.paths.boot_history.read_bytes() == kept


def test_a_failed_start_and_the_one_that_followed_are_of_one_boot(host: SandboxHost) -> None:
    host.write(host.paths.sysconfig, "VSWITCHD_MLOCKALL=no\n%s\n" % BROKEN)
    assert host.ovsxen("daemon").code == 1
    assert [start.went_well for boot in history(host).boots for start in boot.starts] == [False]
    assert "did not come up" in host.ovsxen("boot-chart").out
    host.settings()
    watch(host)
    assert eventually(lambda: history(host).boots[-1].is_up)
    (boot,) = history(host).boots
    assert [start.went_well for start in boot.starts] == [False, True]
    chart = host.ovsxen("boot-chart").out
    assert "(2 starts)" in chart and "ovs-vswitchd failed" in chart and "frobnicate" in chart


def test_what_the_daemon_mends_in_the_background_after_a_failed_boot_is_kept(host: SandboxHost) -> None:
    host.write(host.paths.sysconfig, "VSWITCHD_MLOCKALL=no\n%s\n" % BROKEN)
    assert host.ovsxen("daemon", "--detach").code == 1
    assert eventually(lambda: is_kept(host))
    assert not history(host).boots[-1].is_up
    host.settings()
    assert host.ovsxen("start").code == 0
    assert eventually(lambda: history(host).boots[-1].is_up)
    assert len(history(host).boots[-1].starts) == history(host).boots[-1].tried > 1


def test_a_daemon_that_is_killed_in_its_boot_leaves_a_start_without_an_end(
        host: SandboxHost, stand_in: StandIn) -> None:
    stand_in("ovs-vswitchd", "kill -9 $PPID; exec $real \"$@\"")
    assert host.ovsxen("daemon").code == -9
    del host.env["PATH"]
    watch(host)
    assert eventually(lambda: is_kept(host))
    (boot,) = history(host).boots
    assert [start.finished for start in boot.starts] == [False, True]
    assert "killed or interrupted" in host.ovsxen("boot-chart").out


def test_a_start_by_hand_is_drawn_at_once_and_kept_by_the_daemon_that_follows(host: SandboxHost) -> None:
    started = host.start()
    chart = host.ovsxen("boot-chart")
    assert chart.code == 0 and "The switch was up" in chart.out
    assert not host.paths.boot_history.exists()
    watch(host)
    assert eventually(lambda: is_kept(host))
    (start,) = history(host).boots[-1].starts
    assert [phase.began_s for phase in start.phases] == [phase["began_s"] for phase in started.json["phases"]]


def test_in_bridge_mode_nothing_is_kept_and_nothing_drawn(host: SandboxHost) -> None:
    host.write(host.paths.network_conf, "bridge\n")
    assert host.ovsxen("daemon").code == 0
    assert not host.paths.boot_history.exists()
    assert host.ovsxen("boot-chart").code == 1


def test_where_nothing_is_recorded_it_says_what_to_do(host: SandboxHost) -> None:
    done = host.ovsxen("boot-chart")
    assert (done.code, done.out) == (1, "")
    assert str(host.paths.boot_history) in done.err and "systemctl start openvswitch" in done.err


def test_the_last_boot_is_drawn_before_this_ones_start_and_said_to_be_the_last(booted: SandboxHost) -> None:
    booted.reboot()
    done = booted.ovsxen("boot-chart")
    assert done.code == 0 and "The switch was up" in done.out
    assert "not been started in this boot" in done.err


def test_a_history_of_somebody_elses_is_said_and_begun_anew(booted: SandboxHost) -> None:
    booted.paths.boot_history.write_text('{"schema": 1, "boots": [{"boot_')
    done = booted.ovsxen("boot-chart")
    assert done.code == 0 and "damaged" in done.err and "The switch was up" in done.out
    booted.kill_daemons()
    booted.paths.boot_report.unlink()
    done = booted.ovsxen("boot-chart")
    assert done.code == 1 and "damaged" in done.err
    assert boot_ids(booted) == []
    latest = reboot(booted)
    assert boot_ids(booted) == [latest]


@pytest.fixture
def full(host: SandboxHost) -> Iterator[SandboxHost]:
    """A host whose /var/lib/ovsxen has no room."""
    directory = host.paths.boot_history.parent
    directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(directory)], check=True)
    (directory / "filler").write_bytes(b"x" * 4096)
    yield host
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_full_disk_is_a_warning_and_the_boot_goes_well(full: SandboxHost, tmp_path: Path) -> None:
    said = (tmp_path / "said").open("w+")
    daemon = subprocess.Popen([sys.executable, "-m", "ovsxen", "daemon"], env=full.environment(),
                              stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        assert eventually(lambda: "No space left" in (tmp_path / "said").read_text())
        assert full.ovsxen("status").code == 0
        assert os.listdir(str(full.paths.boot_history.parent)) == ["filler"]
        assert "The switch was up" in full.ovsxen("boot-chart").out
    finally:
        daemon.terminate()
        daemon.wait()
        said.close()
    assert "make room" in (tmp_path / "said").read_text()


def test_where_the_directory_cannot_be_made_the_boot_goes_well(host: SandboxHost) -> None:
    host.write(host.paths.boot_history.parent, "in the way")
    watch(host)
    assert is_well(host)
    done = host.ovsxen("boot-chart")
    assert done.code == 0 and "The switch was up" in done.out and "cannot be read" in done.err


@pytest.mark.parametrize("output", ["/nonexistent/boot.svg", "/", "/dev/full"])
def test_a_file_that_cannot_be_written_is_named(host: SandboxHost, output: str) -> None:
    host.start()
    done = host.ovsxen("boot-chart", "-o", output)
    assert done.code == 1 and "the chart cannot be written" in done.err and ": %s)" % output in done.err


def test_a_standard_output_that_takes_no_chart_is_told_of(host: SandboxHost) -> None:
    host.start()
    drawing = [sys.executable, "-m", "ovsxen", "boot-chart", "-o", "-"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(drawing, env=host.environment(), stdout=full, stderr=subprocess.PIPE,
                              universal_newlines=True)
    assert done.returncode == 1 and "No space left on device: standard output" in done.stderr
    gone = subprocess.run(["sh", "-c", "exec \"$@\" >&-", "sh"] + drawing, env=host.environment(),
                          stderr=subprocess.PIPE, universal_newlines=True)
    assert gone.returncode == 1 and "standard output" in gone.stderr


def test_who_reads_a_part_of_the_chart_is_given_that(host: SandboxHost) -> None:
    host.start()
    drawing = subprocess.Popen([sys.executable, "-m", "ovsxen", "boot-chart", "-o", "-"], env=host.environment(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert drawing.stdout is not None and drawing.stderr is not None
    drawing.stdout.close()
    with drawing.stderr:
        assert drawing.stderr.read() == b""
    assert drawing.wait() == 0


def test_a_report_of_an_older_version_is_no_boot(host: SandboxHost) -> None:
    host.start()
    report = host.paths.boot_report
    report.write_text("\n".join(line for line in report.read_text().split("\n") if '"began_s"' not in line))
    assert host.status()["boot"]["phases"][0]["began_s"] == 0.0
    assert host.ovsxen("boot-chart").code == 1
    watch(host)
    assert Outcome.DONE.value in {phase["outcome"] for phase in host.status()["boot"]["phases"]}
    assert not host.paths.boot_history.exists()
