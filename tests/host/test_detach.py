"""Being the daemon: who holds the pidfile and who only stands in it, over an exec too; and what goes to the background.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Optional, Tuple

import pytest

from ovsxen.host import process
from ovsxen.host.clock import Deadline
from ovsxen.host.detach import ANEW, Pidfile, ServicePidfile, find_holder, take_pidfile, take_predecessor
from tests.conftest import REPOSITORY

PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from ovsxen.host import detach, process
path = Path(sys.argv[1])
signal.alarm(60)
"""
"""How the programs below begin: none of them outlives a test for long."""

HOLD = PROGRAM + """
with detach.take_pidfile(path) as pidfile:
    pidfile.write()
    print("held", flush=True)
    sys.stdin.read()
"""

BEGIN_ANEW = PROGRAM + """
if "SECOND" not in os.environ:
    os.environ["SECOND"] = "next"
    with detach.take_pidfile(path) as pidfile:
        pidfile.write()
        pidfile.hand_on(in_background=True)
    detach.run_anew(Path("/elsewhere"))
was_locked = process.is_locked(path)
before = detach.take_predecessor()
with detach.take_pidfile(path, before.pidfile_fd):
    print(json.dumps({
        "was_locked": was_locked, "is_holder": detach.find_holder(path).pid == os.getpid(),
        "in_background": before.in_background, "children_inherit": os.get_inheritable(before.pidfile_fd),
        "arguments": sys.argv[1:], "root": os.environ["OVSXEN_ROOT"], "still_anew": detach.ANEW in os.environ}))
"""

GO_AWAY = PROGRAM + """
pidfile = detach.take_pidfile(path)
pidfile.write()
is_away = detach.fork_away(pidfile.write)
if is_away:
    signal.alarm(60)  # the caller's is not for its child
    signal.pause()
print(json.dumps({"is_away": is_away, "pid": os.getpid(), "holder": detach.find_holder(path).pid}))
"""

END_AT_ONCE = PROGRAM + """
try:
    detach.fork_away(lambda: os._exit(1))
except OSError as error:
    print(error.strerror)
"""

OPEN_STREAMS = PROGRAM + """
detach.open_standard_streams()
there = [os.readlink("/proc/self/fd/%d" % fd) for fd in (0, 1, 2)]
path.write_text(" ".join(there))
"""


def say(program: str, *arguments: str) -> str:
    """What a program says that runs in a process of its own, and ends well."""
    done = subprocess.run([sys.executable, "-c", program] + list(arguments), cwd=str(REPOSITORY),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a pidfile goes, in a directory that is not there yet."""
    return tmp_path / "run" / "ovsxen.pid"


def take(path: Path) -> Pidfile:
    """Become the daemon, which nobody is."""
    pidfile = take_pidfile(path)
    assert pidfile is not None
    return pidfile


@pytest.fixture
def held(path: Path) -> Iterator[Pidfile]:
    """The pidfile where this process is the daemon."""
    with take(path) as pidfile:
        pidfile.write()
        yield pidfile


def holder(path: Path) -> Optional[int]:
    found = find_holder(path)
    return None if found is None else found.pid


def test_one_at_a_time_is_the_daemon(path: Path) -> None:
    with take(path) as first:
        first.write()
        assert take_pidfile(path) is None
        assert holder(path) == os.getpid()
    with take(path):
        pass


def test_a_daemon_is_named_while_it_lives_and_not_when_it_was_killed(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], cwd=str(REPOSITORY), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, universal_newlines=True)
    try:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        assert holder(path) == child.pid
    finally:
        child.kill()
        child.communicate()
    assert path.read_text().startswith("%d " % child.pid)
    assert holder(path) is None
    with take(path):
        pass


def test_a_pidfile_that_nobody_locks_or_that_is_not_there_names_nobody(path: Path) -> None:
    assert holder(path) is None
    with take(path) as pidfile:
        pidfile.write()
    assert path.read_text().startswith("%d " % os.getpid())
    assert holder(path) is None


@pytest.mark.parametrize("content", [
    b"", b"nonsense", b"\xff\xfe 1", b"{pid}", b"{pid} {start} 1", b"{pid} {later}", b"{pid} {earlier}",
    b"-{pid} {start}", b"4194305 {start}", b"9" * 5000 + b" 1", b"1" * (2 << 20)],
    ids=lambda content: repr(content[:15]))
def test_a_pidfile_that_is_held_and_says_nonsense_names_nobody(held: Pidfile, path: Path, content: bytes) -> None:
    me = process.read_process(os.getpid())
    assert me is not None and holder(path) == me.pid
    for name, number in (("pid", me.pid), ("start", me.start_ticks), ("later", me.start_ticks + 1),
                         ("earlier", me.start_ticks - 1)):
        content = content.replace(b"{%s}" % name.encode(), b"%d" % number)
    path.write_bytes(content)
    assert holder(path) is None


def test_nothing_is_left_of_what_stood_in_the_pidfile(held: Pidfile, path: Path) -> None:
    path.write_bytes(b"9" * 99)
    held.write()
    assert holder(path) == os.getpid()


def test_a_pidfile_that_was_removed_is_made_again_and_freed_in_the_end(path: Path) -> None:
    with take(path) as pidfile:
        assert pidfile.keep()
        shutil.rmtree(str(path.parent))
        assert pidfile.keep()
        assert holder(path) == os.getpid()
        assert "%s (deleted)" % path not in process.open_files(os.getpid())
        again = path.stat()
        assert pidfile.keep() and os.path.samestat(path.stat(), again)
    assert not process.is_locked(path)


def test_a_daemon_whose_pidfile_another_took_is_told_so_and_leaves_it_alone(held: Pidfile, path: Path) -> None:
    path.unlink()
    with take(path):
        path.write_text("the other's")
        its = path.stat()
        assert not held.keep()
        held.remove()
        assert os.path.samestat(path.stat(), its) and path.read_text() == "the other's"
        assert process.is_locked(path)


def test_a_daemon_that_ends_in_order_removes_its_pidfile_once_or_twice(held: Pidfile, path: Path) -> None:
    for _ in range(2):
        held.remove()
        assert not path.exists()


def test_a_lock_on_a_file_that_was_removed_just_then_is_worth_nothing(
        path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_file, to_lose = process.lock_file, [path]

    def lose_the_first(wanted: Path) -> Optional[int]:
        fd = lock_file(wanted)
        if to_lose:
            to_lose.pop().unlink()
        return fd
    monkeypatch.setattr(process, "lock_file", lose_the_first)  # the moment is too short to be met otherwise
    with take(path) as pidfile:
        pidfile.write()
        assert holder(path) == os.getpid()


@pytest.mark.parametrize("root", [("--root", "here"), ("--root=here",), ("--ro", "a", "--root=b")], ids=" ".join)
def test_a_program_that_begins_anew_is_the_daemon_all_the_while(path: Path, root: Tuple[str, ...]) -> None:
    assert json.loads(say(BEGIN_ANEW, str(path), "--detach", *(root + ("daemon",)))) == {
        "was_locked": True, "is_holder": True, "in_background": True, "children_inherit": False,
        "arguments": [str(path), "daemon"], "root": "/elsewhere", "still_anew": False}
    assert not process.is_locked(path)


@pytest.mark.parametrize("text", ["", "7", "x y", "1 2 3", "-1 0"])
def test_who_was_not_begun_anew_has_no_predecessor(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(ANEW, text)
    assert take_predecessor() is None
    assert ANEW not in os.environ


def test_a_descriptor_of_another_file_does_not_make_a_daemon(path: Path) -> None:
    other = os.open(os.devnull, os.O_RDONLY)
    pidfile = take_pidfile(path, other)
    assert pidfile is not None
    with pidfile:
        assert process.is_locked(path)
    with pytest.raises(OSError):
        os.fstat(other)


def test_who_goes_to_the_background_is_there_when_the_caller_goes_on_and_has_nothing_of_it(path: Path) -> None:
    caller = json.loads(say(GO_AWAY, str(path)))  # ends although the other lives: its pipes are closed
    away = find_holder(path)
    assert away is not None
    try:
        assert caller["is_away"] is False and caller["holder"] == away.pid != caller["pid"]
        open_there = [os.readlink(str(fd)) for fd in Path("/proc/%d/fd" % away.pid).iterdir()]
        assert sorted(open_there) == sorted([os.devnull] * 3 + [str(path)])
        assert os.getsid(away.pid) == away.pid
    finally:
        assert process.send_signal(away, signal.SIGKILL)
    assert Deadline(60).wait_until(lambda: process.has_ended(away))
    assert not process.is_locked(path)


def test_who_ends_in_the_background_before_it_is_ready_is_an_error_for_the_caller(path: Path) -> None:
    assert say(END_AT_ONCE, str(path)) .startswith("it ended at once")


def test_streams_that_a_caller_has_closed_are_open(tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", OPEN_STREAMS,
                    str(tmp_path / "told")], cwd=str(REPOSITORY), check=True)
    assert (tmp_path / "told").read_text().split() == [os.devnull] * 3


# The pidfile of a service that Open vSwitch's tools find


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServicePidfile]:
    made = ServicePidfile(tmp_path / "run/service.pid")
    made.keep()
    yield made
    made.remove()
    assert not made.path.exists()


def locked_by(path: Path) -> str:
    """As another process sees it: who holds the lock, or "nobody"."""
    program = ("import sys; from pathlib import Path; from ovsxen.host.process import find_lock\n"
               "lock = find_lock(Path(sys.argv[1])); print(lock.process.pid if lock else 'nobody')")
    return subprocess.check_output([sys.executable, "-c", program, str(path)], cwd=str(REPOSITORY),
                                   universal_newlines=True).strip()


def test_a_service_is_found_by_the_lock_on_its_pidfile_and_by_its_text(service: ServicePidfile) -> None:
    assert service.path.read_text() == "%d\n" % os.getpid()  # this closes the file, and with it goes the lock
    service.remove()
    service.keep()
    assert locked_by(service.path) == str(os.getpid())


def test_a_pidfile_of_a_service_that_was_removed_or_written_to_is_made_again(service: ServicePidfile) -> None:
    service.path.unlink()
    service.keep()
    assert locked_by(service.path) == str(os.getpid())
    subprocess.check_call(["sh", "-c", "echo nonsense and more > %s" % service.path])
    service.keep()
    assert subprocess.check_output(["cat", str(service.path)]) == b"%d\n" % os.getpid()


def test_a_pidfile_that_another_process_has_is_left_to_it(service: ServicePidfile) -> None:
    program = ("import sys; from pathlib import Path; from ovsxen.host.detach import ServicePidfile\n"
               "try: ServicePidfile(Path(sys.argv[1])).keep()\nexcept BlockingIOError: sys.exit(7)")
    assert subprocess.call([sys.executable, "-c", program, str(service.path)], cwd=str(REPOSITORY)) == 7
    assert locked_by(service.path) == str(os.getpid())


def test_a_pidfile_that_cannot_be_written_costs_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(3):
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError):
            ServicePidfile(tmp_path / "file/service.pid").keep()
        assert len(os.listdir("/proc/self/fd")) == before
