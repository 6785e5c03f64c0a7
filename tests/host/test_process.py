"""Locks and identity: who runs, and that nobody else is ever signalled."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from ovsxen.host import process
from ovsxen.host.clock import Deadline

LOCKER = """
import fcntl, sys
stream = open(sys.argv[1], "w")
fcntl.lockf(stream, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def locker(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """A process that holds the POSIX lock on tmp_path/lock until its stdin ends."""
    child = subprocess.Popen([sys.executable, "-c", LOCKER, str(tmp_path / "lock")], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, universal_newlines=True)
    assert child.stdout is not None and child.stdout.readline() == "locked\n"
    yield child
    child.kill()
    child.communicate()


def test_the_kernel_names_the_holder_of_a_lock_whatever_the_file_says(
        tmp_path: Path, locker: "subprocess.Popen[str]") -> None:
    (tmp_path / "lock").write_text("1\n")
    lock = process.find_lock(tmp_path / "lock")
    assert lock is not None and lock.process is not None
    assert lock.process.pid == locker.pid


def test_a_file_that_nobody_locks_or_that_is_not_there_has_no_holder(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("%d\n" % os.getpid())
    assert process.find_lock(tmp_path / "lock") is None
    assert process.find_lock(tmp_path / "none") is None


def test_a_process_that_was_killed_holds_nothing_even_as_a_zombie(
        tmp_path: Path, locker: "subprocess.Popen[str]") -> None:
    before = process.read_process(locker.pid)
    assert before is not None
    locker.kill()  # nobody has waited for it: it stays a zombie
    assert Deadline(10).wait_until(lambda: process.has_ended(before))
    assert process.read_process(locker.pid) is None
    assert process.find_lock(tmp_path / "lock") is None


def test_a_stopped_process_is_seen_as_stopped(locker: "subprocess.Popen[str]") -> None:
    before = process.read_process(locker.pid)
    assert before is not None and not before.is_stopped
    assert process.send_signal(before, signal.SIGSTOP)

    def is_stopped() -> bool:
        now = process.look_again(before)
        return now is not None and now.is_stopped
    assert Deadline(10).wait_until(is_stopped)


@pytest.mark.parametrize("state, is_stopped, is_traced, label, remedy", [
    ("S", False, False, "a daemon (pid 70)", ""), ("D", False, False, "a daemon (pid 70)", ""),
    ("T", True, False, "a daemon (pid 70, stopped by a signal)", "run `kill -CONT 70`"),
    ("t", False, True, "a daemon (pid 70, held by a debugger)", "end the debugger")])
def test_one_that_answers_nobody_says_why_and_what_to_do(
        state: str, is_stopped: bool, is_traced: bool, label: str, remedy: str) -> None:
    seen = process.Process(70, "a daemon", state, 1)
    assert (seen.is_stopped, seen.is_traced, seen.label) == (is_stopped, is_traced, label)
    assert seen.is_halted == bool(remedy) and (not seen.is_halted or seen.remedy == remedy)


def test_a_process_with_the_same_pid_that_began_at_another_time_is_never_signalled(
        locker: "subprocess.Popen[str]") -> None:
    there = process.read_process(locker.pid)
    assert there is not None
    earlier = there._replace(start_ticks=there.start_ticks - 1)
    assert process.send_signal(earlier, signal.SIGKILL) is False
    assert process.has_ended(earlier) and process.look_again(earlier) is None
    assert locker.poll() is None and not process.has_ended(there)


def test_this_process_is_itself() -> None:
    me = process.myself()
    assert me.pid == os.getpid() and me.start_ticks > 0
    assert process.look_again(me) is not None


@pytest.mark.parametrize("pid", [1, 0, -1])
def test_pid_1_and_groups_are_never_signalled(pid: int) -> None:
    assert process.send_signal(process.Process(pid, "init", "S", 0), 0) is False


def test_one_at_a_time_holds_our_own_lock_and_its_end_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "turn"
    with process.try_lock(path) as held:  # type: ignore[union-attr]
        assert held is not None
        assert process.try_lock(path) is None
        assert process.is_locked(path)
    assert not process.is_locked(path)
    assert process.try_lock(path) is not None


def test_a_name_with_blanks_and_parentheses_is_read_whole(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "60"])
    try:
        assert Deadline(10).wait_until(lambda: getattr(process.read_process(child.pid), "name", "") == "a) b (c")
    finally:
        child.kill()
        child.wait()


def test_looking_at_a_lock_does_not_take_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("")
    assert process.find_lock(path) is None
    with open(str(path), "r+") as stream:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
