"""What systemd is asked to do with units."""

import os
from pathlib import Path
from typing import Callable

import pytest

from ovsxen.errors import AdministratorError
from ovsxen.host.systemd import restart_unit


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a systemctl of that script on the PATH; gives the file in which each of its calls is a line."""
    def install(script: str) -> Path:
        program = tmp_path / "systemctl"
        program.write_text('#!/bin/sh\necho "$*" >>%s\n%s\n' % (tmp_path / "calls", script))
        program.chmod(0o755)
        return tmp_path / "calls"

    monkeypatch.setenv("PATH", "%s:%s" % (tmp_path, os.environ["PATH"]))
    return install


def test_a_unit_that_runs_is_restarted_and_not_waited_for(systemctl: Callable[[str], Path]) -> None:
    calls = systemctl("exit 0")
    assert restart_unit("some.service", 20)
    assert calls.read_text().splitlines()[1:] == ["--no-block try-restart some.service"]


def test_a_unit_that_is_about_to_run_is_restarted(systemctl: Callable[[str], Path]) -> None:
    calls = systemctl('[ "$1" != is-active ] || { echo activating; exit 3; }')
    assert restart_unit("some.service", 20)
    assert calls.read_text().splitlines()[1:] == ["--no-block try-restart some.service"]


def test_a_unit_that_does_not_run_is_left_so(systemctl: Callable[[str], Path]) -> None:
    calls = systemctl("echo inactive; exit 3")
    assert not restart_unit("some.service", 20)
    assert calls.read_text() == "is-active some.service\n"


def test_a_restart_that_is_refused_says_what_to_run(systemctl: Callable[[str], Path]) -> None:
    systemctl('[ "$1" = is-active ] || { echo "Unit is masked." >&2; exit 1; }')
    with pytest.raises(AdministratorError, match="Unit is masked.*systemctl restart some.service"):
        restart_unit("some.service", 20)
