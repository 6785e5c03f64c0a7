"""What a replacement of the kernel module has left, seen to by the next start; no switch is needed for that."""

from pathlib import Path
from typing import List

import pytest

from ovsxen.errors import AdministratorError
from ovsxen.host import kept_interfaces
from ovsxen.host.interfaces import Interface, KeptInterfaces
from ovsxen.host.paths import Paths, paths_under
from ovsxen.host.settings import read_settings
from ovsxen.left_over import mend
from ovsxen.report import Outcome
from ovsxen.sequence import Host, Run

GONE = KeptInterfaces((Interface("no-such-one", 1, (), (), ()),), ())


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = paths_under(tmp_path, {})
    made.rundir.mkdir(parents=True)
    return made


@pytest.fixture
def run(paths: Paths) -> Run:
    said: List[str] = []
    return Run(Host(paths, read_settings(paths)), said.append)


def break_ha(paths: Paths) -> None:
    """HA was stopped, and does not start."""
    paths.ha_stopped.write_text("")
    start = paths.xha_dir / "ha_start_daemon"
    start.parent.mkdir(parents=True)
    start.write_text("#!/bin/sh\necho 'no heartbeat' >&2; exit 1\n")
    start.chmod(0o755)


def test_where_nothing_is_left_nothing_is_done(run: Run) -> None:
    assert mend(run) == (Outcome.UNCHANGED, "interfaces: they lack nothing; HA: was not stopped", ())


def test_one_failure_hides_no_other(paths: Paths, run: Run) -> None:
    kept_interfaces.write(paths, GONE)
    break_ha(paths)
    with pytest.raises(AdministratorError) as raised:
        mend(run)
    assert "no-such-one is not there" in str(raised.value) and "no heartbeat" in str(raised.value)
    assert kept_interfaces.read(paths) == GONE and paths.ha_stopped.exists()


def test_a_file_that_makes_no_sense_keeps_nobody_from_starting_ha(paths: Paths, run: Run) -> None:
    paths.kept_interfaces.write_text("nonsense")
    break_ha(paths)
    with pytest.raises(AdministratorError, match="cannot be read.*no heartbeat"):
        mend(run)
