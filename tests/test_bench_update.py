"""What the bench of updates stands on: its site, its checks, and how it counts processes."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator, Sequence, Tuple

import pytest

from bench import children, sequence, update_costs, update_phases, update_report, update_site
from bench.host import BenchFailed
from bench.update_report import Kind, Measured, Round
from bench.update_site import Run, Site
from tests.conftest import processes_of

BRIDGES = 2
THREAD_AND_PROCESS = """
import subprocess, threading
thread = threading.Thread(target=print)
thread.start()
thread.join()
subprocess.call(["true"])
"""


@pytest.fixture
def site() -> Iterator[Site]:
    base = Path(tempfile.mkdtemp(prefix="oxb", dir="/tmp"))
    try:
        with update_site.making_site(base, BRIDGES) as made:
            yield made
        assert processes_of(base) == []
    finally:
        shutil.rmtree(str(base))


def count(argv: Sequence[str]) -> Tuple[int, int]:
    """The processes that a program starts, and its exit code."""
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, preexec_fn=children.trace_me)
    return children.count_of(child), child.returncode


def test_every_process_that_a_program_starts_is_counted_and_its_exit_code_kept() -> None:
    assert count(["/bin/sh", "-c", "sleep 0; sleep 0 & wait; exit 3"]) == (2, 3)
    assert count([sys.executable, "-c", "pass"]) == (0, 0)


def test_threads_are_no_processes() -> None:
    assert count([sys.executable, "-c", THREAD_AND_PROCESS]) == (1, 0)


def test_a_first_update_and_one_without_a_change_pass_the_checks_on_both_kinds_of_host(site: Site) -> None:
    for networkd, calls in ((True, 3), (False, 8)):
        update_site.set_back(site, networkd=networkd)
        assert update_site.first_update(site).calls == calls
        assert update_site.unchanged_update(site).calls == calls
        assert update_site.count_children(site, networkd=networkd) == 0


def test_the_sequence_of_ovs_vsctl_leaves_what_the_update_leaves(site: Site) -> None:
    update_site.set_back(site, networkd=True)
    update_site.first_update(site)
    wanted = update_site.read_rows(site.paths)
    update_site.set_back(site, networkd=True)
    update_site.first_sequence(site)
    found = update_site.read_rows(site.paths)
    assert (found.managers, found.bridges) == (wanted.managers, wanted.bridges)
    assert len(list(sequence.unchanged(site.bridges))) == 2 + 3 * BRIDGES


@pytest.mark.parametrize("said", ["", "<methodResponse/>", "exit 1"])
def test_a_plugin_that_answers_wrong_fails_the_bench(site: Site, said: str) -> None:
    update_site.set_back(site, networkd=True)
    script = "#!/bin/sh\n%s\n" % (said if "exit" in said else "echo '%s'" % said)
    Path(update_site.plugin_argv(site)[0]).write_text(script)
    with pytest.raises(BenchFailed):
        update_site.first_update(site)


def test_an_update_that_finds_something_to_do_does_not_pass_for_one_without_a_change(site: Site) -> None:
    update_site.set_back(site, networkd=True)
    with pytest.raises(BenchFailed, match="nothing to do"):
        update_site.unchanged_update(site)


def test_the_profile_has_the_imports_and_every_step_that_it_knows(site: Site) -> None:
    text = update_costs.profile(site)
    for name in [update_phases.IMPORTS] + [step[-1] for step in update_phases.STEPS]:
        assert "ms  %s\n" % name in text, "name in STEPS where %r is now:\n%s" % (name, text)


def measured(bridges: int, ms: float, calls: int, sequence_ms: float = 1000.0) -> Measured:
    ours = Kind((Run(ms, calls),), (Run(ms, calls),))
    return Measured(bridges, (Round(ours, ours, Kind((Run(sequence_ms),), (Run(sequence_ms),))),), 0)


def test_goals_are_said_to_be_reached_or_missed_by_their_figures() -> None:
    reached = update_report.verdicts((measured(2, 90.0, 3), measured(100, 100.0, 3)))
    assert len(reached) == 4 and all(line.endswith("reached") for line in reached), reached
    missed = update_report.verdicts((measured(2, 90.0, 3), measured(100, 201.0, 4)))
    assert [line.split()[-1] for line in missed] == ["MISSED", "MISSED", "reached", "MISSED"], missed


def test_what_nobody_could_count_is_not_said_to_be_reached() -> None:
    lines = update_report.verdicts((measured(2, 90.0, 3)._replace(children=None),))
    assert "not compared" in lines[0] and "reached" not in lines[0]
