"""What the bench of restarts stands on: the prober, the site and its checks, and what is said of the figures."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from bench import idle, restart_report, restart_runs, restart_site, traffic
from bench.host import BenchFailed
from bench.idle import Idle
from bench.restart_report import Measured, Round
from bench.restart_runs import Run
from bench.restart_site import Site
from bench.traffic import Heard, NoTraffic, Pair, Traffic
from ovsxen.host.clock import MACHINE_CLOCK, Deadline
from tests.conftest import REPOSITORY, processes_of

BRIDGES = 2
DOWN_S = 0.2
STARTED_AND_LEFT = """
import os, sys
from bench import traffic
with traffic.probing(sys.argv[1], (traffic.Pair("left", "right"),)):
    os._exit(0)
"""


@pytest.fixture
def cable() -> Iterator[str]:
    """A namespace in which whatever goes in at left comes out at right, and the other way round."""
    name = "ovsxen-cable-%d" % os.getpid()
    call("ip", "netns", "add", name)
    try:
        call("ip", "-n", name, "link", "add", "left", "type", "veth", "peer", "name", "right")
        for device in ("left", "right"):
            call("ip", "-n", name, "link", "set", device, "up")
        yield name
    finally:
        call("ip", "netns", "delete", name)


@pytest.fixture
def site() -> Iterator[Site]:
    base = Path(tempfile.mkdtemp(prefix="oxb", dir="/tmp"))
    try:
        with restart_site.making_site(base, BRIDGES) as made:
            yield made
        assert processes_of(base) == []
        assert not set(os.listdir("/run/netns")) & {made.inside, made.outside}
    finally:
        shutil.rmtree(str(base))


def call(*argv: str) -> None:
    subprocess.check_call(argv)


def came_to(ms: float, gap_ms: float, received: int = 900) -> Run:
    return Run(ms, Traffic((Heard(Pair("a", "b"), 1000, received, gap_ms, True),), 1.5))


# The prober

def test_frames_that_all_arrive_are_none_lost_and_no_silence(cable: str) -> None:
    with traffic.probing(cable, (Pair("left", "right"), Pair("right", "left"))) as prober:
        MACHINE_CLOCK.sleep(0.1)
        found = prober.stop()
    assert found.lost == 0 and found.silent == ()
    assert all(heard.sent >= 50 for heard in found.pairs), found
    assert found.worst_silence_ms <= found.own_pause_ms + 20


def test_a_device_that_is_down_for_a_while_is_a_silence_and_what_could_not_be_sent_is_not_lost(cable: str) -> None:
    with traffic.probing(cable, (Pair("left", "right"),)) as prober:
        call("ip", "-n", cable, "link", "set", "left", "down")
        MACHINE_CLOCK.sleep(DOWN_S)
        call("ip", "-n", cable, "link", "set", "left", "up")
        found = prober.stop()
    assert DOWN_S * 1000 <= found.worst_silence_ms <= 10 * DOWN_S * 1000
    assert found.lost == 0 and found.silent == ()


def test_a_silence_that_lasts_to_the_end_is_counted_and_told(cable: str) -> None:
    with traffic.probing(cable, (Pair("left", "right"),), patience_s=DOWN_S) as prober:
        call("ip", "-n", cable, "link", "set", "left", "down")
        found = prober.stop()
    assert found.silent == (Pair("left", "right"),)
    assert found.worst_silence_ms >= DOWN_S * 1000


def test_a_pair_that_is_silent_from_the_start_is_named(cable: str) -> None:
    with pytest.raises(NoTraffic, match="no frame from lo arrived at right"):
        with traffic.probing(cable, (Pair("left", "right"), Pair("lo", "right")), patience_s=DOWN_S):
            pass


def test_a_prober_ends_with_whoever_started_it(cable: str) -> None:
    subprocess.check_call([sys.executable, "-c", STARTED_AND_LEFT, cable], cwd=str(REPOSITORY))
    assert Deadline(10).wait_until(lambda: not subprocess.check_output(["ip", "netns", "pids", cable]), every_s=0.05)


# The site

def test_a_restart_and_the_floor_are_timed_and_their_silence_and_losses_counted(site: Site) -> None:
    for restart in (restart_runs.restart_ovsxen, restart_runs.restart_floor):
        run = restart(site)
        assert 0 < run.gap_ms <= run.ms + 1000
        assert len(run.traffic.pairs) == BRIDGES
        assert all(0 < heard.received < heard.sent for heard in run.traffic.pairs), run


def test_a_restart_that_loses_flows_or_ports_fails_the_bench(site: Site) -> None:
    flowing = restart_site.with_flows(site)
    restart_site.check(flowing, "nobody")
    with pytest.raises(BenchFailed, match="did not keep the 2000 flows of xenbr0"):
        restart_runs.restart_floor(flowing)
    restart_site.ask_to_configure(site.paths, [{
        "op": "update", "table": "Interface", "where": [["name", "==", "vif1.5"]], "row": {"type": "nonsense"}}])
    restart_site.wait_configured(site.paths)
    with pytest.raises(BenchFailed, match="41 of 42 ports"):
        restart_site.check(site, "nobody")


def test_a_recovery_is_timed_and_the_daemon_measured_and_gone_while_the_switch_goes_on(site: Site) -> None:
    recovered = restart_runs.recover(site)
    assert recovered.ms > 0 and recovered.gap_ms > 0
    restart_site.check(site, "nobody")
    idled = idle.measure(site, 0.5)
    assert 0 < idled.private_mib <= idled.pss_mib <= idled.resident_mib
    assert idled.cpu_percent < 100
    assert not [one for one in processes_of(site.paths.root) if "daemon" in one]


# What is said

def test_the_probed_bridges_are_the_first_the_middle_and_the_last_and_have_flows_where_any_has() -> None:
    assert restart_site.probed_bridges(50) == (0, 25, 49)
    assert restart_site.probed_bridges(1) == (0,)
    assert restart_site.flow_bridges(50) == (0, 1, 2, 3, 4, 5, 6, 7, 25, 49)
    assert restart_site.flow_bridges(2) == (0, 1)


def test_the_ratio_is_the_median_of_each_rounds_own_and_none_where_ovs_ctl_was_left_out() -> None:
    rounds = (Round((came_to(100, 40), came_to(300, 60)), (came_to(1000, 500),), ()),
              Round((came_to(400, 50),), (), ()),
              Round((came_to(600, 90),), (came_to(1000, 300),), ()))
    measured = Measured(50, 0, rounds)
    assert measured.total_ratio == pytest.approx((0.2 + 0.6) / 2)
    assert measured.gap_ratio == pytest.approx((0.1 + 0.3) / 2)
    assert Measured(50, 0, rounds[1:2]).gap_ratio is None


def test_each_goal_gets_its_line() -> None:
    fast = Round((came_to(500, 250),), (came_to(1000, 1000),), (came_to(220, 200),))
    alone = Round((came_to(500, 250),), (), ())
    said = restart_report.verdicts((Measured(50, 0, (fast,)), Measured(50, 2000, (alone,))),
                                   (came_to(900, 1600),), Idle(30.0, 21.5, 18.0, 16.0, 0.25))
    assert [" ".join(line.split()) for line in said] == [
        "gap of a restart at 50 bridges 250 ms (goal 300) reached (the floor's: 200)",
        "gap at 50 bridges / ovs-ctl's 0.25 (goal 0.2) MISSED",
        "restart at 50 bridges / ovs-ctl's 0.5 (goal 0.3) MISSED",
        "gap at 50 bridges with flows / ovs-ctl's not compared in this run (goal 0.2)",
        "restart at 50 bridges with flows / ovs-ctl's not compared in this run (goal 0.3)",
        "recovery of 50 bridges from SIGKILL 1.6 s (goal 1.5) MISSED",
        "resident memory of the idle daemon 21.5 MiB (goal 22) reached",
        "the idle daemon's share of a core 0.25 % (goal 0.2) MISSED"]


def test_a_row_has_medians_and_the_worst_gap_and_dashes_for_what_was_left_out() -> None:
    runs = (came_to(500, 250), came_to(600, 300), came_to(700, 900, received=400))
    row = restart_report.as_row(Measured(10, 2000, (Round(runs, (), ()),)))
    assert row.split() == ["10", "2000", "3", "600", "300", "900", "100"] + ["-"] * 9
    assert max(map(len, restart_report.HEADER.splitlines() + [row])) <= 120


def test_cpu_time_counts_children_and_a_name_may_hold_anything() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert idle.children_s("1 (a) b( c) S 1 1 1 0 -1 0 0 0 0 0 30 20 10 40 20 0") == pytest.approx(50.0 / ticks)


def test_cpu_time_counts_threads_also_those_that_have_ended() -> None:
    def work() -> None:
        while time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) < 0.05:
            pass

    before_s = idle.cpu_s(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert idle.cpu_s(os.getpid()) - before_s >= 0.05


def test_sizes_are_read_by_name() -> None:
    text = "Name:\tpython3\nVmRSS:\t   21504 kB\nThreads:\t1\nPss:   10 kB\n"
    assert idle.sizes_kib(text) == {"VmRSS": 21504, "Pss": 10}
