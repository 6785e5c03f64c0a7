"""Who is running: a daemon holds a lock on its pidfile for life, so the kernel knows, whatever the pidfile says.

A pid alone proves nothing: pids are reused (openvswitch 1f3f3f0a0), a zombie still has one, and a pidfile may outlive
its daemon. So a daemon is running when its pidfile is locked, and the lock's holder is the process that is signalled.
"""

import fcntl
import os
import signal
import struct
from pathlib import Path
from typing import FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

from ovsxen.errors import NotPermitted

FLOCK = "hhqqi0q"  # struct flock of fcntl(2) on 64-bit Linux: type, whence, start, length, pid


class Process(NamedTuple):
    """A live process, told apart from a later one with the same pid by its start time (clock ticks after boot)."""

    pid: int
    name: str
    state: str
    start_ticks: int

    @property
    def is_stopped(self) -> bool:
        """A signal has stopped it, and another one continues it."""
        return self.state == "T"

    @property
    def is_traced(self) -> bool:
        """A debugger has stopped it, which alone can let it go on."""
        return self.state == "t"

    @property
    def is_halted(self) -> bool:
        """Stopped by either: it answers nobody."""
        return self.is_stopped or self.is_traced

    @property
    def label(self) -> str:
        why = ", stopped by a signal" if self.is_stopped else ", held by a debugger" if self.is_traced else ""
        return "%s (pid %d%s)" % (self.name, self.pid, why)

    @property
    def remedy(self) -> str:
        """What has one that is halted go on."""
        return "end the debugger" if self.is_traced else "run `kill -CONT %d`" % self.pid


def read_process(pid: int) -> Optional[Process]:
    """The process with that pid as /proc has it (proc(5)); None when there is none, or only a zombie.

    A zombie whose other threads still run is alive: they hold its locks until the last one has ended.
    """
    try:
        name, fields = _read_stat(pid)
    except OSError:
        return None
    threads = int(fields[17])
    if fields[0] in "Xx" or (fields[0] == "Z" and threads <= 1):
        return None
    return Process(pid, name, fields[0], int(fields[19]))


def _read_stat(pid: int) -> Tuple[str, List[str]]:
    """A process's name, and what follows it in /proc/PID/stat, the state first. Raises OSError."""
    text = Path("/proc/%d/stat" % pid).read_text(errors="replace")
    return text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()


def look_again(target: Process) -> Optional[Process]:
    """The process as it is now; None where it has ended, also where a later one has its pid."""
    now = read_process(target.pid)
    return now if now is not None and now.start_ticks == target.start_ticks else None


def has_ended(target: Process) -> bool:
    """This very process is gone (a zombie is gone: it holds no lock, no socket, no memory)."""
    return look_again(target) is None


def myself() -> Process:
    """This process; begun at 0 where /proc does not tell."""
    return read_process(os.getpid()) or Process(os.getpid(), "", "", 0)


def open_files(pid: int) -> FrozenSet[str]:
    """What the process has open, as /proc/PID/fd names it. Raises OSError where this user may not look."""
    directory = "/proc/%d/fd" % pid
    found = []
    for name in os.listdir(directory):
        try:
            found.append(os.readlink(os.path.join(directory, name)))
        except FileNotFoundError:
            continue  # closed meanwhile
    return frozenset(found)


def has_open(pid: int, path: Path) -> bool:
    """The process has that very file open, by whichever name. Raises OSError where this user may not look."""
    try:
        wanted = os.stat(str(path))
    except OSError:
        return False
    directory = "/proc/%d/fd" % pid
    for name in os.listdir(directory):
        try:
            if os.path.samestat(os.stat(os.path.join(directory, name)), wanted):
                return True
        except OSError:
            continue  # closed meanwhile
    return False


def find_parent(target: Process) -> Optional[Process]:
    """The process that has started this one and waits for its end; None where that is gone."""
    try:
        parent = int(_read_stat(target.pid)[1][1])
    except OSError:
        return None
    return read_process(parent) if parent > 1 else None


class Lock(NamedTuple):
    """A lock that somebody holds on a file. `process` is None when the holder lives outside our pid namespace."""

    path: Path
    process: Optional[Process]

    @property
    def holder(self) -> str:
        if self.process is None:
            return "a process that is not visible from here"
        return self.process.label


def find_lock(path: Path) -> Optional[Lock]:
    """Who holds the POSIX write lock on `path`; None when nobody does or the file is missing.

    Open vSwitch locks so its pidfiles (lib/daemon-unix.c) and, beside a database, `.NAME.~lock~` (lib/lockfile.c).
    Raises NotPermitted when the file may not be read.
    """
    try:
        fd = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise NotPermitted("cannot look at %s" % path, "run ovsxen as root") from error
    except OSError:
        return None
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(fd)
    kind, _, _, _, pid = struct.unpack(FLOCK, answer)
    if kind != fcntl.F_WRLCK:
        return None
    return Lock(path, read_process(pid) if pid > 1 else None)


def open_pidfd(pid: int) -> int:
    """A descriptor that can be read when the process has ended; -1 without Linux 5.3 and Python 3.9."""
    try:
        return int(os.pidfd_open(pid))  # type: ignore[attr-defined, unused-ignore]  # novm
    except (AttributeError, OSError):
        return -1


def read_cpu_s(pid: int) -> float:
    """Seconds of CPU that the main thread of a process has used; 0 when it is gone."""
    try:
        fields = Path("/proc/%d/task/%d/stat" % (pid, pid)).read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def send_signal(process: Process, number: int) -> bool:
    """Signal exactly this process; tells whether it was there to be signalled. Never pid 1 or a group.

    Raises NotPermitted.
    """
    if process.pid <= 1:
        return False
    fd = open_pidfd(process.pid)
    try:
        if has_ended(process):
            return False
        if fd >= 0:
            signal.pidfd_send_signal(fd, number)  # type: ignore[attr-defined, unused-ignore]  # novm
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise NotPermitted("cannot signal %s (pid %d)" % (process.name, process.pid), "run ovsxen as root") from error
    finally:
        if fd >= 0:
            os.close(fd)
    return True


def find_processes(name: str) -> Iterator[Process]:
    """Every live process with that name, as the kernel has it."""
    wanted = name.encode() + b"\n"
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _read_comm(entry) == wanted:
            found = read_process(int(entry))
            if found is not None:
                yield found


def _read_comm(pid: str) -> bytes:
    """The name alone, with as little as possible done for each of a busy host's processes."""
    try:
        fd = os.open("/proc/" + pid + "/comm", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, 64)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_command_line(pid: int) -> Tuple[str, ...]:
    """A process's arguments; none where it is gone."""
    try:
        return tuple(Path("/proc/%d/cmdline" % pid).read_bytes().decode("utf-8", "surrogateescape").split("\0"))
    except OSError:
        return ()


def sees_same_directory(pid: int, directory: Path) -> bool:
    """By this name the process reaches the directory that we do: one in a container may have its own of that name.

    Also where that is not to be known, such as for a directory that is gone.
    """
    try:
        return os.path.samestat(os.stat("/proc/%d/root%s" % (pid, directory)), os.stat(str(directory)))
    except OSError:
        return True


class HeldLock:
    """An exclusive lock on a file of our own, held by an open descriptor and so gone with us, however we end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> "HeldLock":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def try_lock(path: Path) -> Optional[HeldLock]:
    """Take the exclusive flock on `path` (made when missing); None while another process has it."""
    fd = lock_file(path)
    return None if fd is None else HeldLock(fd)


def lock_file(path: Path) -> Optional[int]:
    """The same as a descriptor, which a child that is forked shares. Raises OSError."""
    fd = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def find_flock_holder(path: Path) -> Optional[Process]:
    """Who holds the flock on `path`, by the kernel's list (proc(5), /proc/locks); None where that is not seen."""
    try:
        inode = os.stat(str(path)).st_ino
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    pids = [int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].rpartition(":")[2] == str(inode)]
    return read_process(pids[0]) if pids else None


def is_locked(path: Path) -> bool:
    """Another process holds the flock on `path`."""
    try:
        fd = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
