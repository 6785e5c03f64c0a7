"""What evidence is made of, without a daemon: what no debugger looks at, and lines of the kernel's log."""

import os
from pathlib import Path

import pytest

from ovsxen.host import process
from ovsxen.host.paths import paths_under
from ovsxen.host.process import Process
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, State
from ovsxen.ovs.evidence_sources import Kind, find_obstacle, list_sources, parse_kernel_record


@pytest.mark.parametrize("states, obstacle", [
    ("SSR", ""), ("TSS", "wait for worker0 (pid 70, stopped by a signal)"),
    ("tSS", "wait for worker0 (pid 70, held by a debugger)"), ("SSD", "worker2 (pid 72) waits in the kernel"),
])
def test_no_debugger_waits_with_what_it_looks_at(states: str, obstacle: str) -> None:
    threads = tuple(Process(70 + i, "worker%d" % i, state, 1) for i, state in enumerate(states))
    said = find_obstacle(threads[0], threads)
    assert obstacle in said and bool(said) == bool(obstacle)


def test_a_record_of_the_kernel_becomes_a_line() -> None:
    record = b"6,1041,5000123,-;ovs-vswitchd[7]: segfault at 0\n SUBSYSTEM=net\n"
    assert parse_kernel_record(record) == b"[    5.000123] ovs-vswitchd[7]: segfault at 0\n"
    assert parse_kernel_record(b"") == b"[    0.000000] \n"


@pytest.mark.parametrize("kind, is_there, last", [
    (Kind.HANG, True, "backtrace.txt"), (Kind.HANG, False, "kernel.txt"), (Kind.DEATH, True, "cores.txt"),
    (Kind.DEATH, False, "cores.txt")])
def test_what_befell_the_daemon_says_what_is_looked_at_and_its_own_log_comes_first(
        tmp_path: Path, kind: Kind, is_there: bool, last: str) -> None:
    target = process.read_process(os.getpid()) if is_there else None
    names = [source.name for source in list_sources(
        paths_under(tmp_path, {}), Daemon(OVSDB_SERVER, State.RUNNING, target), kind)]
    assert names[:2] == [OVSDB_SERVER + ".log", VSWITCHD + ".log"] and names[-1] == last
