"""A switch that is up late: when xcp-networkd is begun again, and when it is left alone."""

import os
from pathlib import Path

import pytest

from ovsxen import late
from ovsxen.host import proc
from ovsxen.host.settings import read_settings
from ovsxen.report import Outcome, Phase, Report
from ovsxen.sequence import Host
from tests.conftest import SandboxHost

WELL = Report("boot", True, (Phase("configuration", Outcome.DONE, ""),), (), ())
FAILED = WELL._replace(phases=(Phase("ovs-vswitchd", Outcome.FAILED, ""),))
KILLED = WELL._replace(finished=False)
SYSTEMCTL = '#!/bin/sh\necho "$*" >>%s\ncase $1 in is-active) echo %s; exit %d;; esac\n'


@pytest.fixture
def asked(host: SandboxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What systemctl was asked to do; the host has a systemd for this test, which says that xcp-networkd is active."""
    monkeypatch.setattr("ovsxen.host.boot_times.is_there", lambda _paths: True)  # else only this machine's own would do
    return stand_in_systemctl(tmp_path, monkeypatch, "active", 0)


def stand_in_systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> Path:
    asked = tmp_path / "asked"
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(SYSTEMCTL % (asked, state, code))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent)] + proc.search_path()))
    return asked


def make_up(host: SandboxHost, before: Report) -> str:
    return late.make_up(Host(host.paths, read_settings(host.paths)), before)


@pytest.mark.parametrize("before", [FAILED, KILLED])
def test_networkd_is_begun_again_after_a_start_that_failed_or_was_killed(
        host: SandboxHost, asked: Path, before: Report) -> None:
    host.start()
    assert "xe-toolstack-restart" in make_up(host, before)
    assert asked.read_text().splitlines()[-1] == "--no-block try-restart " + late.NETWORKD_UNIT


def test_nobody_is_begun_again_after_a_start_that_went_well(host: SandboxHost, asked: Path) -> None:
    host.start()
    assert make_up(host, WELL) == "" and not asked.exists()


def test_bridges_that_are_there_are_left_to_who_made_them(host: SandboxHost, asked: Path) -> None:
    host.start()
    host.vsctl("--no-wait", "add-br", "xenbr0")
    assert make_up(host, FAILED) == "" and not asked.exists()


def test_a_networkd_that_has_not_begun_waits_as_it_should(
        host: SandboxHost, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.start()
    stand_in_systemctl(tmp_path, monkeypatch, "inactive", 3)
    assert make_up(host, FAILED) == "" and "restart" not in asked.read_text()
