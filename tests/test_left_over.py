"""What a restart has left, seen to by the next start; no switch is needed for that."""

from pathlib import Path
from typing import List

import pytest

from ovsxen.errors import AdministratorError
from ovsxen.host import kept_interfaces, process
from ovsxen.host.interfaces import Interface, KeptInterfaces
from ovsxen.host.paths import Paths, paths_under
from ovsxen.host.settings import read_settings
from ovsxen.left_over import mend
from ovsxen.ovs import flows_file
from ovsxen.ovs.flows_file import KeptFile, holder_of
from ovsxen.ovs.kept_flows import Kept
from ovsxen.report import Outcome
from ovsxen.sequence import Host, Run

BOOT = "this boot"
LOST = (Kept("a", 6, (b"\0\xff", b""), (b"1",), (b"2",), (b"3",), (b"4",)), Kept("b", 1, ()))
GONE = KeptInterfaces((Interface("no-such-one", 1, (), (), ()),), ())


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = paths_under(tmp_path, {})
    made.rundir.mkdir(parents=True)
    return made


@pytest.fixture
def run(paths: Paths) -> Run:
    said: List[str] = []
    return Run(Host(paths, read_settings(paths)), said.append, BOOT)


def break_ha(paths: Paths) -> None:
    """HA was stopped, and does not start."""
    paths.ha_stopped.write_text("")
    start = paths.xha_dir / "ha_start_daemon"
    start.parent.mkdir(parents=True)
    start.write_text("#!/bin/sh\necho 'no heartbeat' >&2; exit 1\n")
    start.chmod(0o755)


def test_where_nothing_is_left_nothing_is_done(run: Run) -> None:
    assert mend(run) == (
        Outcome.UNCHANGED, "flows: none are kept; interfaces: they lack nothing; HA: was not stopped", ())


def test_one_failure_hides_no_other(paths: Paths, run: Run) -> None:
    lost = KeptFile(holder_of(BOOT, process.myself()), LOST)
    flows_file.write(paths, lost)
    kept_interfaces.write(paths, GONE)
    break_ha(paths)
    with pytest.raises(AdministratorError) as raised:
        mend(run)
    for text in ("not all put back of a, b: ", "no-such-one is not there", "no heartbeat"):
        assert text in str(raised.value)
    assert kept_interfaces.read(paths) == GONE and paths.ha_stopped.exists() and flows_file.read(paths) == lost
    assert flows_file.find_lost(paths, holder_of(BOOT, None)) == ("a", "b")


@pytest.mark.parametrize("holder", [holder_of(BOOT, None), holder_of("another boot", process.myself())],
                         ids=["the same ovs-vswitchd", "another boot"])
def test_flows_that_are_not_lost_are_kept_no_longer(paths: Paths, run: Run, holder: flows_file.Holder) -> None:
    flows_file.write(paths, KeptFile(holder, LOST))
    assert flows_file.find_lost(paths, holder_of(BOOT, None)) == ()
    assert mend(run).outcome is Outcome.UNCHANGED
    assert not paths.kept_flows.exists()


def test_files_that_make_no_sense_keep_nobody_from_starting_ha(paths: Paths, run: Run) -> None:
    paths.kept_interfaces.write_text("nonsense")
    paths.kept_flows.write_text("nonsense")
    break_ha(paths)
    with pytest.raises(AdministratorError, match="flows kept .* be read.*routes kept .* be read.*no heartbeat"):
        mend(run)
    assert paths.kept_flows.exists()


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_file_that_is_not_whole_puts_back_nothing(paths: Paths, run: Run, lines: int) -> None:
    flows_file.write(paths, KeptFile(holder_of(BOOT, process.myself()), LOST))
    paths.kept_flows.write_bytes(b"".join(paths.kept_flows.read_bytes().splitlines(keepends=True)[:lines]))
    with pytest.raises(AdministratorError, match="flows kept .* cannot be read"):
        mend(run)
