"""Evidence of daemons that hang or died: what is kept, how much of it, and that it stands in the way of nothing."""

import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from ovsxen.host import proc, process
from ovsxen.host.clock import Deadline
from ovsxen.host.process import Process
from ovsxen.ovs import daemons, evidence
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, State
from ovsxen.ovs.evidence import Evidence, collect, list_events
from ovsxen.ovs.evidence_sources import LOG_BYTES, Kind, list_sources
from tests.conftest import SandboxHost

WITHIN_S = 20.0
GONE = Daemon(VSWITCHD, State.DEAD, None)
NOTHING_AMISS: Tuple[str, ...] = ()
COLLECTOR = """
import sys
from pathlib import Path
from ovsxen.host.paths import paths_under
from ovsxen.ovs import daemons
from ovsxen.ovs.evidence import collect
from ovsxen.ovs.evidence_sources import Kind
paths = paths_under(Path(sys.argv[1]), {})
collect(paths, daemons.find(paths, "ovs-vswitchd"), Kind.HANG, "killed in the midst", within_s=60)
"""


@pytest.fixture
def host(host: SandboxHost) -> SandboxHost:
    """A host that was not started yet, with a log of each daemon."""
    for name in (VSWITCHD, OVSDB_SERVER):
        host.write(host.paths.log(name), "%s says this at last\n" % name)
    return host


@pytest.fixture
def tools(host: SandboxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on the PATH, without a debugger; the daemons of the host have been started before."""
    host.start()
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def write_tool(directory: Path, name: str, script: str) -> None:
    tool = directory / name
    tool.write_text("#!/bin/sh\n" + script)
    tool.chmod(0o755)


def vswitchd(host: SandboxHost) -> Daemon:
    return daemons.find(host.paths, VSWITCHD)


def has_stopped(host: SandboxHost) -> bool:
    seen = vswitchd(host).process
    return seen is not None and seen.is_stopped


def read(found: Evidence, name: str) -> str:
    assert found.directory is not None, found.problems
    return (found.directory / name).read_text(errors="replace")


def names(found: Evidence) -> List[str]:
    assert found.directory is not None, found.problems
    return sorted(path.name for path in found.directory.iterdir())


def problem_of(found: Evidence, name: str) -> str:
    """What is wrong with one file; it stands in why.txt too."""
    problem, = [problem for problem in found.problems if problem.startswith(name)]
    assert problem in read(found, "why.txt")
    return problem


def test_a_daemon_that_answers_is_asked_and_traced_and_goes_on(
        host: SandboxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.start()
    if proc.find_program("gdb") is None:
        write_tool(tmp_path, "gdb", 'echo "Thread 1: #0 poll ()"\n')
        monkeypatch.setenv("PATH", "%s:%s" % (tmp_path, os.environ["PATH"]))
    pid = host.pid(VSWITCHD)
    found = collect(host.paths, vswitchd(host), Kind.HANG, "it did not configure in 30 s", within_s=WITHIN_S)
    assert found.problems == NOTHING_AMISS
    assert names(found) == ["answers.txt", "backtrace.txt", "host.txt", "kernel.txt", "ovs-vswitchd.log",
                            "ovsdb-server.log", "process.txt", "threads.txt", "why.txt"]
    assert "ovs-vswitchd (pid %d): it did not configure in 30 s" % pid in read(found, "why.txt")
    for name, words in (("answers.txt", ("events never hit", "idl-cells-Open_vSwitch:", "vlog/list")),
                        ("backtrace.txt", ("Thread 1", "poll")), ("host.txt", ("MemAvailable",)),
                        ("process.txt", ("Max open files", "read_bytes", "Pss:", "are open")),
                        ("threads.txt", ("# ovs-vswitchd (pid %d)\n" % pid, "== wchan", "== stack"))):
        assert [word for word in words if word not in read(found, name)] == []
    assert host.pid(VSWITCHD) == pid and host.status()["verdict"] == "running"


def test_a_stopped_daemon_is_left_to_no_debugger(host: SandboxHost, tools: Path) -> None:
    write_tool(tools, "gdb", "echo 'Thread 1'\n")
    host.signal(VSWITCHD, signal.SIGSTOP)
    assert Deadline(10).wait_until(lambda: has_stopped(host))
    found = collect(host.paths, vswitchd(host), Kind.HANG, "it does not answer", within_s=WITHIN_S)
    assert "stopped by a signal" in problem_of(found, "backtrace.txt")
    assert "did not answer within" in problem_of(found, "answers.txt")
    assert "State:\tT (stopped)" in read(found, "threads.txt")
    assert "backtrace.txt" not in names(found) and "answers.txt" not in names(found)


def test_without_a_debugger_the_kernel_says_where_each_thread_is(host: SandboxHost, tools: Path) -> None:
    found = collect(host.paths, vswitchd(host), Kind.HANG, "it does not answer", within_s=WITHIN_S)
    assert "no gdb, eu-stack or pstack is on this host: install gdb" in problem_of(found, "backtrace.txt")
    assert len(found.problems) == 1 and "== stack" in read(found, "threads.txt")


def test_the_debugger_that_is_there_is_used_and_one_that_fails_is_named(host: SandboxHost, tools: Path) -> None:
    write_tool(tools, "pstack", 'echo "stack of $1"\n')
    assert read(collect(host.paths, vswitchd(host), Kind.HANG, "", within_s=WITHIN_S), "backtrace.txt") == (
        "stack of %d\n" % host.pid(VSWITCHD))
    write_tool(tools, "eu-stack", "echo half; echo no permission >&2; exit 1\n")
    found = collect(host.paths, vswitchd(host), Kind.HANG, "", within_s=WITHIN_S)
    assert "eu-stack failed (no permission)" in problem_of(found, "backtrace.txt")
    assert read(found, "backtrace.txt") == "half\n"


def test_a_debugger_that_hangs_ends_with_the_deadline_and_the_daemon_goes_on(host: SandboxHost, tools: Path) -> None:
    write_tool(tools, "gdb", "/bin/sleep 600 & echo $! >%s/pid; kill -STOP %d; wait\n" % (tools, host.pid(VSWITCHD)))
    began = time.monotonic()
    found = collect(host.paths, vswitchd(host), Kind.HANG, "it does not answer", within_s=2.0)
    assert time.monotonic() - began < 2.0 + 5.0
    assert "gdb did not finish" in problem_of(found, "backtrace.txt")
    assert len(found.problems) == 1
    child = int((tools / "pid").read_text())
    assert Deadline(10).wait_until(lambda: process.read_process(child) is None)
    assert Deadline(10).wait_until(lambda: not has_stopped(host))


def test_a_stranger_with_the_pid_of_a_daemon_that_is_gone_is_not_looked_at(host: SandboxHost, tools: Path) -> None:
    write_tool(tools, "gdb", "echo traced\n")
    daemon = vswitchd(host)
    assert daemon.process is not None
    earlier = daemon._replace(process=daemon.process._replace(start_ticks=1))
    found = collect(host.paths, earlier, Kind.HANG, "it does not answer", within_s=WITHIN_S)
    for name in ("process.txt", "threads.txt", "backtrace.txt"):
        assert "ended meanwhile" in problem_of(found, name) and name not in names(found)


def test_without_time_there_is_the_reason_at_least(host: SandboxHost, tools: Path) -> None:
    found = collect(host.paths, vswitchd(host), Kind.HANG, "it does not answer", within_s=0.0)
    assert names(found) == ["why.txt"] and "no more time" in problem_of(found, "process.txt")


def test_of_a_daemon_that_died_the_log_the_kernel_and_the_core_tell(host: SandboxHost) -> None:
    host.start()
    daemon = vswitchd(host)
    host.signal(VSWITCHD, 9)
    for name, size, age_s in (("core.1", 5, 9000), ("core.2", 1 << 30, 60)):
        with open(str(host.paths.daemon_cwd / name), "wb") as stream:
            stream.truncate(size)
        os.utime(str(host.paths.daemon_cwd / name), (time.time() - age_s,) * 2)
    found = collect(host.paths, daemon, Kind.DEATH, "killed")
    assert found.problems == NOTHING_AMISS
    assert names(found) == ["cores.txt", "host.txt", "kernel.txt", "ovs-vswitchd.log", "ovsdb-server.log", "why.txt"]
    assert daemon.process and found.directory
    assert found.directory.name.endswith("-ovs-vswitchd-%d-death" % daemon.process.pid)
    summary, newest, oldest = read(found, "cores.txt").splitlines()
    assert summary.startswith("2 core files") and oldest.startswith("core.1 5 bytes")
    assert newest.startswith("core.2 1073741824 bytes")
    assert read(found, "ovs-vswitchd.log").startswith("ovs-vswitchd says this at last\n")


def test_a_log_that_is_missing_or_no_file_is_named_and_the_rest_is_kept(host: SandboxHost) -> None:
    host.paths.log(VSWITCHD).unlink()
    host.paths.log(OVSDB_SERVER).unlink()
    os.mkfifo(str(host.paths.log(OVSDB_SERVER)))
    found = collect(host.paths, GONE, Kind.DEATH, "")
    assert "No such file" in problem_of(found, "ovs-vswitchd.log")
    assert "not a regular file" in problem_of(found, "ovsdb-server.log")
    assert names(found) == ["cores.txt", "host.txt", "kernel.txt", "why.txt"]


def test_of_a_huge_log_the_end_alone_is_read(host: SandboxHost) -> None:
    with open(str(host.paths.log(VSWITCHD)), "wb") as stream:
        stream.truncate(1 << 30)
        stream.seek(0, os.SEEK_END)
        stream.write(b"the last words\n")
    began = time.monotonic()
    kept = read(collect(host.paths, GONE, Kind.DEATH, ""), "ovs-vswitchd.log")
    assert time.monotonic() - began < 5
    assert kept.startswith("(the first %d bytes are left out)\n" % ((1 << 30) + 15 - LOG_BYTES))
    assert kept.endswith("\0the last words\n")


def test_names_go_up_while_the_clock_stands_still_or_goes_back() -> None:
    daemon = GONE._replace(process=Process(1234, VSWITCHD, "S", 1))
    first = evidence.next_name((), "2026-11-21T19:27:33Z", daemon, Kind.HANG)
    second = evidence.next_name((first,), "2026-11-21T19:27:33Z", daemon, Kind.HANG)
    third = evidence.next_name((second, first), "1970-01-01T00:00:07Z", GONE, Kind.DEATH)
    assert [first, second, third] == ["000001-20261121T192733Z-ovs-vswitchd-1234-hang",
                                      "000002-20261121T192733Z-ovs-vswitchd-1234-hang",
                                      "000003-19700101T000007Z-ovs-vswitchd-death"]


def test_events_are_listed_newest_first_and_nothing_else_is(host: SandboxHost) -> None:
    assert list_events(host.paths) == ()
    made = [collect(host.paths, GONE, Kind.DEATH, "").directory for _ in range(3)]
    (host.paths.evidence / "notes").mkdir()
    assert list_events(host.paths) == tuple(path.name for path in reversed(made) if path)


def test_only_their_owner_may_read_them(host: SandboxHost) -> None:
    found = collect(host.paths, GONE, Kind.DEATH, "")
    assert found.directory is not None
    assert {stat.S_IMODE(path.stat().st_mode) for path in found.directory.iterdir()} == {0o600}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (found.directory, found.directory.parent)] == [0o700] * 2


@pytest.mark.parametrize("owner", ["another's", "a link"])
def test_a_place_that_is_not_ours_is_not_used(host: SandboxHost, tmp_path: Path, owner: str) -> None:
    if owner == "a link":
        host.paths.evidence.symlink_to(tmp_path)
    else:
        host.paths.evidence.mkdir()
        os.chown(str(host.paths.evidence), 1, 1)
    found = collect(host.paths, GONE, Kind.DEATH, "")
    assert found.directory is None and "not a directory of the user" in found.problems[0]
    assert list(host.paths.evidence.iterdir()) == []


def test_the_budget_is_kept_and_the_oldest_go_first(host: SandboxHost) -> None:
    host.paths.log(VSWITCHD).write_bytes(os.urandom(LOG_BYTES))
    budget = 3 * LOG_BYTES
    made = [collect(host.paths, GONE, Kind.DEATH, "", budget_bytes=budget).directory for _ in range(4)]
    assert list_events(host.paths) == tuple(path.name for path in (made[3], made[2]) if path)
    kept_bytes = sum(path.stat().st_size for path in host.paths.evidence.rglob("*") if path.is_file())
    assert 2 * LOG_BYTES < kept_bytes <= budget


def test_one_event_alone_is_cut_to_the_budget_and_says_so(host: SandboxHost) -> None:
    host.paths.log(VSWITCHD).write_bytes(b"x" * LOG_BYTES)
    found = collect(host.paths, GONE, Kind.DEATH, "", budget_bytes=64 << 10)
    assert read(found, "ovs-vswitchd.log").endswith("\n(cut here: no room for more)\n")
    assert "no more room" in problem_of(found, "host.txt")


def test_the_files_of_an_event_fit_it(host: SandboxHost) -> None:
    for name in (VSWITCHD, OVSDB_SERVER):
        host.paths.log(name).write_bytes(b"x" * (1 << 20))
    alive = process.read_process(os.getpid())
    sources = list_sources(host.paths, Daemon(VSWITCHD, State.RUNNING, alive), Kind.HANG)
    assert sum(source.limit_bytes for source in sources) + (len(sources) + 2) * 4096 <= evidence.EVENT_BYTES


def test_what_a_killed_collection_left_is_removed_by_the_next(host: SandboxHost, tools: Path) -> None:
    write_tool(tools, "gdb", "echo $$ >%s/new && /bin/mv %s/new %s/pid; exec /bin/sleep 600\n" % ((tools,) * 3))
    collector = subprocess.Popen([sys.executable, "-c", COLLECTOR, str(host.paths.root)], stdin=subprocess.DEVNULL)
    try:
        assert Deadline(30).wait_until((tools / "pid").exists)
    finally:
        collector.kill()
        collector.wait()
        os.kill(int((tools / "pid").read_text()), signal.SIGKILL)
    assert list_events(host.paths) == ()
    leftover, = host.paths.evidence.iterdir()
    assert (leftover / "why.txt").exists()
    found = collect(host.paths, GONE, Kind.DEATH, "")
    assert list(host.paths.evidence.iterdir()) == [found.directory]


@contextmanager
def small_disk(host: SandboxHost, size_kib: int) -> Iterator[None]:
    """A tmpfs of that size in the place of the logs."""
    where = str(host.paths.logdir)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dk" % size_kib, "tmpfs", where], check=True)
    try:
        host.write(host.paths.log(VSWITCHD), "a log\n")
        yield
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


@pytest.mark.parametrize("size_kib, whole", [(60 << 10, False), (80 << 10, True)])
def test_so_much_stays_free_for_the_host_itself(host: SandboxHost, size_kib: int, whole: bool) -> None:
    with small_disk(host, size_kib):
        found = collect(host.paths, GONE, Kind.DEATH, "killed")
        assert ("ovs-vswitchd.log" in names(found)) == whole
        assert whole or "64 MiB" in problem_of(found, "there is only why.txt")
        assert "killed" in read(found, "why.txt")


@pytest.mark.parametrize("said", ["No space left", "Read-only"])
def test_a_disk_that_takes_nothing_is_a_problem_in_words(host: SandboxHost, said: str) -> None:
    with small_disk(host, 64):
        if said == "Read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(host.paths.logdir)], check=True)
        else:
            with open(str(host.paths.logdir / "filler"), "wb", buffering=0) as stream:
                with pytest.raises(OSError, match=said):
                    while stream.write(b"x" * 4096):
                        pass
        found = collect(host.paths, GONE, Kind.DEATH, "killed")
        assert found.directory is None and said in found.problems[0]
        assert not host.paths.evidence.exists() or list(host.paths.evidence.iterdir()) == []
