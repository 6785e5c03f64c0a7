"""What the bench of a sync stands on: the VIFs and what their interfaces shall have, its site and checks, its words."""

import shutil
import tempfile
from pathlib import Path
from typing import Iterator, Tuple

import pytest

from bench import host, sync_report, sync_rounds, sync_site, sync_vifs
from bench.host import BenchFailed
from bench.sync_report import Burst, Idle, Kind, Measured
from bench.sync_site import Memory, Site
from tests.conftest import processes_of

VIFS = 4


@pytest.fixture
def base() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="oxb", dir="/tmp"))
    try:
        yield made
        assert processes_of(made) == []
    finally:
        shutil.rmtree(str(made))


# What is wanted

def test_a_vif_and_its_tap_differ_in_their_status_alone_and_ids_of_their_own_count() -> None:
    wanted = sync_vifs.wanted_ids(sync_vifs.vifs(0, 2))
    plugged = sync_vifs.plugged_ids(sync_vifs.Vif(0))
    assert wanted["vif1000.0"] == dict(plugged, **{
        "iface-id": "port-0", "vm-id": "instance-0", "iface-status": "inactive"})
    assert wanted["tap1000.0"] == dict(wanted["vif1000.0"], **{"iface-status": "active"})
    assert wanted["vif1001.0"]["iface-id"] == plugged_uuid("xs-vif-uuid")
    assert wanted["vif1001.0"]["vm-id"] == plugged_uuid("xs-vm-uuid")


def plugged_uuid(key: str) -> str:
    return sync_vifs.plugged_ids(sync_vifs.Vif(1))[key]


def test_what_is_wrong_is_said_by_name_key_and_value() -> None:
    wanted = {"vif1.0": {"iface-id": "a", "iface-status": "active"}}
    assert sync_vifs.first_wrong(wanted, {"vif1.0": {"iface-id": "a", "iface-status": "active"}, "eth0": {}}) == ""
    assert sync_vifs.first_wrong(wanted, {}) == "vif1.0 is not there"
    assert sync_vifs.first_wrong(wanted, {"vif1.0": {"iface-id": "b", "more": "c"}}) == (
        "vif1.0 has iface-id=b instead of a, iface-status=None instead of active, more=c instead of None")


# The site

@pytest.mark.parametrize("kind", list(Kind))
def test_a_burst_is_timed_counted_and_checked_whether_sync_was_told_or_must_ask(base: Path, kind: Kind) -> None:
    singles = 1 if kind is Kind.TOLD else 0
    found = sync_rounds.measure(base, VIFS, kind, singles, 0.0)
    assert found.burst.seconds > 0 and found.burst.cpu_s > 0 and found.burst.transactions >= 1
    assert len(found.singles_ms) == singles
    assert ("VIF.get_all_records" in found.burst.calls) is (kind is Kind.NOT_YET)
    assert 0 < found.burst.memory.resident_mib <= found.burst.memory.peak_mib
    assert found.idle is None


def test_a_wrong_or_a_missing_key_fails_the_bench(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vifs = sync_vifs.vifs(0, VIFS)
    with sync_site.making_site(base) as site:
        plug_as_a_sync_leaves_it(site, vifs)
        with pytest.raises(BenchFailed, match="tap1000.0 has iface-status=None instead of active"):
            sync_site.check(site, vifs)
        monkeypatch.setattr(sync_site, "WITHIN_S", 0.2)  # as there is nobody to wait for
        with sync_site.Watch(site) as watch, pytest.raises(BenchFailed, match="tap1000.0 has iface-status=None"):
            watch.wait_until_right(sync_vifs.wanted_ids(vifs))


def plug_as_a_sync_leaves_it(site: Site, vifs: Tuple[sync_vifs.Vif, ...]) -> None:
    """But for one key."""
    sync_site.plug(site, vifs)
    wanted = sync_vifs.wanted_ids(vifs)
    del wanted["tap1000.0"]["iface-status"]
    host.transact(site.paths, [
        {"op": "update", "table": "Interface", "where": [["name", "==", name]],
         "row": {"external_ids": ["map", [list(pair) for pair in ids.items()]]}} for name, ids in wanted.items()])


def test_a_sync_that_ends_at_once_fails_the_bench_and_says_why(base: Path) -> None:
    with sync_site.making_site(base) as site:
        site.host.stub.write_text("raise SystemExit('no sync today')\n")
        with pytest.raises(BenchFailed, match="no sync today"), sync_site.syncing(site):
            pass


# What is said

def measured(kind: Kind, seconds: float = 1.0, calls: int = 4, transactions: int = 2, mib: float = 30.0,
             single_ms: float = 40.0) -> Measured:
    burst = Burst(seconds, 0.5, ("event.from",) * calls, transactions, Memory(mib, mib + 1))
    return Measured(sync_report.GOALS_AT, kind, (burst,), (single_ms,) if kind is Kind.TOLD else ())


def words(*lines: str) -> Tuple[str, ...]:
    return tuple(line.split()[-1] for line in lines)


def test_goals_are_said_to_be_reached_or_missed_by_their_figures() -> None:
    reached = sync_report.verdicts((measured(Kind.TOLD), measured(Kind.NOT_YET)), Idle(1000, 15.0, 0.05))
    assert words(*reached) == ("reached",) * 9, reached
    worse = (measured(Kind.TOLD, single_ms=61.0), measured(Kind.NOT_YET, 1.6, 6, 6, 33.0))
    missed = sync_report.verdicts(worse, Idle(1000, 15.0, 0.2))
    assert words(*missed) == ("reached", "MISSED") * 3 + ("MISSED",) * 3, missed


def test_what_was_not_measured_is_not_said_to_be_reached() -> None:
    lines = sync_report.verdicts((measured(Kind.TOLD)._replace(vifs=10),), None)
    assert all("not compared" in line for line in lines), lines


def test_a_row_has_the_median_of_times_and_the_most_of_what_is_counted() -> None:
    one = measured(Kind.NOT_YET)
    more = one.bursts[0]._replace(seconds=3.0, transactions=4, calls=("a",) * 5, memory=Memory(28.0, 41.0))
    row = sync_report.as_row(one._replace(bursts=one.bursts + (more,)))
    assert row.split() == ["1000", "not", "yet", "2", "2000", "3000", "500", "5", "4", "29.0", "41.0", "-", "-", "-"]
    assert len(row) == len(sync_report.HEADER.split("\n")[1])


def test_calls_are_named_once_each_way_that_they_came() -> None:
    one = measured(Kind.TOLD, calls=0)
    assert sync_report.as_calls(one) == "Calls of XAPI for 1000 VIFs (told): none."
    both = one._replace(bursts=one.bursts + (one.bursts[0]._replace(calls=("a", "b")),))
    assert sync_report.as_calls(both) == "Calls of XAPI for 1000 VIFs (told): a, b; or none."
