"""What tells why a daemon hung or died, kept before it is started again: one directory per event, for root alone.

Evidence must never fail or delay that start: all of it has one deadline, and whatever goes wrong is a problem in words.
It has a budget of disk, and the oldest event goes first. An event is made under a name with a dot and renamed when it
is whole. Nothing is synced: a slow disk is no reason to wait.
"""

import os
import re
import shutil
import signal
import stat
from collections import deque
from enum import Enum
from pathlib import Path
from typing import Callable, Deque, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, Defect, NoAnswer, OvsxenError
from ovsxen.host import clock, files, proc, process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, State

BUDGET_BYTES = 16 << 20
EVENT_BYTES = 2 << 20
KEPT_FREE_BYTES = 64 << 20
DISK_BLOCK_BYTES = 4096
LOG_BYTES = 256 << 10
OTHER_LOG_BYTES = 64 << 10
TEXT_BYTES = 128 << 10
LONG_TEXT_BYTES = 512 << 10
NOTE_BYTES = 128
"""What a file may have beyond what it keeps, to say that it was cut."""

WITHIN_S = 10.0
ANSWERS_WITHIN_S = 1.0
KERNEL_LOG_WITHIN_S = 0.5
KERNEL_LOG_LINES = 300
KERNEL_RECORD_BYTES = 8192
CORES_NAMED = 20

WHY = "why.txt"
NAME = re.compile(r"[0-9]{6,}-[0-9TZ]+-.*-(?:hang|death)")
CUT = b"\n(cut here: no room for more)\n"
QUESTIONS = ("coverage/show", "memory/show", "vlog/list")
OF_HOST = ("version", "uptime", "loadavg", "meminfo", "pressure/cpu", "pressure/io", "pressure/memory",
           "sys/kernel/core_pattern")
OF_PROCESS = ("status", "stat", "limits", "io")
OF_MEMORY = ("smaps_rollup",)
"""Reading it takes the lock of the process's memory, which a thread that waits in the kernel may have."""
OF_THREAD = ("stat", "status", "wchan", "syscall", "stack")


class Evidence(NamedTuple):
    """Where it is, or None where nothing could be kept; and in words what is missing."""

    directory: Optional[Path]
    problems: Tuple[str, ...]


class Kind(Enum):
    HANG = "hang"
    DEATH = "death"


class Source(NamedTuple):
    """What becomes one file of an event, piece by piece: those that came before an error are kept."""

    name: str
    limit_bytes: int
    read: Callable[[Deadline], Iterable[bytes]]


def list_events(paths: Paths) -> Tuple[str, ...]:
    """The names of the events that are kept, the newest first. Raises OSError where they cannot be listed."""
    try:
        names = os.listdir(str(paths.evidence))
    except FileNotFoundError:
        return ()
    return tuple(sorted((name for name in names if NAME.fullmatch(name)), key=_number, reverse=True))


def _number(event: str) -> int:
    return int(event.partition("-")[0])


def collect(paths: Paths, daemon: Daemon, why: str, within_s: float = WITHIN_S,
            budget_bytes: int = BUDGET_BYTES) -> Evidence:
    """Keep what tells why `daemon` hangs or, where its process is gone, why it died. Raises nothing.

    `daemon.process` is the process as it was last seen. A debugger stops it for as long as it looks: no loss with one
    that hangs.
    """
    try:
        return _keep(paths, daemon, why, Deadline(within_s), budget_bytes)
    except OSError as error:
        problem = "no evidence can be kept in %s (%s)" % (paths.evidence, error.strerror or error)
    except OvsxenError as error:
        problem = str(error)
    except Exception as error:  # whatever is wrong here must not keep the switch down
        problem = str(Defect.of(error))
    return Evidence(None, (problem,))


def _keep(paths: Paths, daemon: Daemon, why: str, deadline: Deadline, budget_bytes: int) -> Evidence:
    """Make an event and give it its place. Raises OSError, AdministratorError; then nothing of it is left."""
    home = paths.evidence
    _make_home(home)
    _remove_leftovers(home)
    kind = Kind.HANG if _is_there(daemon) else Kind.DEATH
    directory = home / next_name(list_events(paths), clock.wall_clock_text(), daemon, kind)
    staged = files.staged_name(directory)
    room_bytes = min(EVENT_BYTES, budget_bytes)
    problems: Tuple[str, ...] = ()
    try:
        staged.mkdir(mode=0o700)
        _write(staged / WHY, [_introduction(daemon, why)], TEXT_BYTES)
        if _free_bytes(home) - room_bytes >= KEPT_FREE_BYTES:
            problems = _fill(staged, list_sources(paths, daemon, kind), deadline, room_bytes)
        else:
            problems = ("there is only %s: where %s is, %d MiB are kept free" % (WHY, home, KEPT_FREE_BYTES >> 20),)
        _add_problems(staged / WHY, problems)
        _make_room(paths, budget_bytes - _size_bytes(staged))
        staged.rename(directory)
    finally:
        shutil.rmtree(str(staged), ignore_errors=True)
    return Evidence(directory, problems)


def next_name(events: Tuple[str, ...], when: str, daemon: Daemon, kind: Kind) -> str:
    """The name of the event that follows those. Its number orders it: the wall clock may stand or jump."""
    number = max(map(_number, events), default=0) + 1
    pid = "-%d" % daemon.process.pid if daemon.process else ""
    return "%06d-%s-%s%s-%s" % (number, re.sub("[-:]", "", when), daemon.name, pid, kind.value)


def _is_there(daemon: Daemon) -> bool:
    if daemon.process is None:
        return daemon.state is State.RUNNING
    return not process.has_ended(daemon.process)


def _introduction(daemon: Daemon, why: str) -> bytes:
    uptime_s = files.read_small(Path("/proc/uptime")).split()[0].decode()
    return ("%s: %s\n%s, %s s after boot\n" % (daemon.label, why, clock.wall_clock_text(), uptime_s)).encode()


# Room


def _make_home(home: Path) -> None:
    """The directory of all events. Raises AdministratorError where it is not ours.

    The one above it may be another user's (--ovs-user), who must not have root write and remove elsewhere by a link.
    """
    files.make_directory(home, 0o700)
    seen = os.lstat(str(home))
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
        raise AdministratorError("%s is not a directory of the user that ovsxen runs as, so no evidence is kept" % home,
                                 "move it away")
    os.chmod(str(home), 0o700)


def _remove_leftovers(home: Path) -> None:
    """Remove what killed collections left. This process makes one event at a time, so its own are leftovers too."""
    for staged in home.glob(".*" + files.STAGED_SUFFIX):
        pid = staged.name[:-len(files.STAGED_SUFFIX)].rpartition(".")[2]
        if pid.isdigit() and (int(pid) == os.getpid() or process.read_process(int(pid)) is None):
            shutil.rmtree(str(staged), ignore_errors=True)


def _make_room(paths: Paths, budget_bytes: int) -> None:
    """Remove the oldest events until the others fit."""
    events = [paths.evidence / name for name in list_events(paths)]
    sizes = [_size_bytes(event) for event in events]
    while events and sum(sizes) > budget_bytes:
        shutil.rmtree(str(events.pop()), ignore_errors=True)
        sizes.pop()


def _size_bytes(event: Path) -> int:
    """What an event takes, in whole blocks: many small ones count too."""
    sizes = [DISK_BLOCK_BYTES] + [path.lstat().st_size for path in event.iterdir()]
    return sum(-(-size // DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES for size in sizes)


def _free_bytes(directory: Path) -> int:
    seen = os.statvfs(str(directory))
    return seen.f_bavail * seen.f_frsize


def _write(path: Path, pieces: Iterable[bytes], limit_bytes: int) -> None:
    """Write a file for root alone, as far as the limit goes, and let it say where it was cut. Raises OSError."""
    fd = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        left_bytes = limit_bytes - len(CUT)
        for piece in pieces:
            stream.write(piece[:left_bytes])
            if len(piece) > left_bytes:
                stream.write(CUT)
                return
            left_bytes -= len(piece)


def _fill(event: Path, sources: Tuple[Source, ...], deadline: Deadline, room_bytes: int) -> Tuple[str, ...]:
    """Write one file per source, in order, while there is time and room; gives what is missing, and why."""
    problems: List[str] = []
    for source in sources:
        limit_bytes = min(source.limit_bytes, room_bytes - _size_bytes(event))
        if deadline.has_passed() or limit_bytes < DISK_BLOCK_BYTES:
            lacking = "time" if deadline.has_passed() else "room"
            problems.append("%s is missing: there was no more %s" % (source.name, lacking))
            continue
        path = event / source.name
        try:
            _write(path, source.read(deadline), limit_bytes)
        except OSError as error:
            problems.append("%s is missing or not whole (%s)" % (source.name, error.strerror or error))
        except OvsxenError as error:
            problems.append("%s is missing or not whole: %s" % (source.name, error.problem))
        except Exception as error:  # the other files may tell enough
            problems.append("%s is missing or not whole: %s" % (source.name, Defect.of(error)))
        if path.exists() and not path.stat().st_size:
            path.unlink()
    return tuple(problems)


def _add_problems(path: Path, problems: Tuple[str, ...]) -> None:
    try:
        with open(str(path), "a", encoding="utf-8", errors="replace") as stream:
            stream.writelines("%s\n" % problem for problem in problems)
    except OSError:
        pass  # no room; whoever asked for the evidence is told of them too


# Sources


def list_sources(paths: Paths, daemon: Daemon, kind: Kind) -> Tuple[Source, ...]:
    """The files of an event, what is cheap and sure first: the debugger may take all the time that is left."""
    logs = tuple(_log_source(paths, name, LOG_BYTES if name == daemon.name else OTHER_LOG_BYTES)
                 for name in sorted((VSWITCHD, OVSDB_SERVER), key=lambda name: name != daemon.name))
    always = logs + (Source("host.txt", TEXT_BYTES, lambda _: _read_host()),
                     Source("kernel.txt", TEXT_BYTES, _read_kernel_log))
    if kind is Kind.DEATH:
        return always + (Source("cores.txt", TEXT_BYTES, lambda _: _list_cores(paths)),)
    target = daemon.process
    if target is None:
        return always
    return always + (
        Source("process.txt", TEXT_BYTES, lambda _: _read_proc(target)),
        Source("threads.txt", LONG_TEXT_BYTES, lambda _: _read_threads(target.pid)),
        Source("answers.txt", TEXT_BYTES, lambda deadline: _ask(paths, daemon, deadline)),
        Source("backtrace.txt", LONG_TEXT_BYTES, lambda deadline: _trace_back(target, deadline)))


def _log_source(paths: Paths, name: str, size_bytes: int) -> Source:
    return Source(name + ".log", size_bytes + NOTE_BYTES, lambda _: _read_end(paths.log(name), size_bytes))


def _read_end(path: Path, size_bytes: int) -> Iterator[bytes]:
    """The end of a file of any size: of a log, the end matters."""
    with files.open_regular(path) as stream:
        left_out = max(0, os.fstat(stream.fileno()).st_size - size_bytes)
        if left_out:
            yield b"(the first %d bytes are left out)\n" % left_out
        stream.seek(left_out)
        yield stream.read(size_bytes)


def _read_host() -> Iterator[bytes]:
    return (_section(name, _read_or_say(Path("/proc") / name)) for name in OF_HOST)


def _read_kernel_log(deadline: Deadline) -> Iterator[bytes]:
    """The last lines that the kernel logged: who was killed for want of memory, what segfaulted, what hangs.

    Reading starts at the oldest record: 10,000 take some 15 ms.
    """
    records: Deque[bytes] = deque(maxlen=KERNEL_LOG_LINES)
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    enough = Deadline(deadline.at_most_s(KERNEL_LOG_WITHIN_S))
    try:
        while not enough.has_passed():
            try:
                records.append(os.read(fd, KERNEL_RECORD_BYTES))
            except BrokenPipeError:
                continue  # overwritten before it was read; the next read goes on after the gap
            except BlockingIOError:
                break
    finally:
        os.close(fd)
    return map(parse_kernel_record, records)


def parse_kernel_record(record: bytes) -> bytes:
    """A record of /dev/kmsg (Linux, Documentation/ABI/testing/dev-kmsg) as a line with its seconds since boot."""
    head, _, text = record.partition(b";")
    fields = head.split(b",")
    since_boot_s = int(fields[2]) / 1e6 if len(fields) > 2 and fields[2].isdigit() else 0.0
    return b"[%12.6f] %s\n" % (since_boot_s, text.partition(b"\n")[0])


def _list_cores(paths: Paths) -> Iterator[bytes]:
    """Names, sizes and times of core files, the newest first. They stay where they are."""
    cores = sorted(((path.lstat(), path) for path in paths.daemon_cwd.glob("*core*")),
                   key=lambda core: core[0].st_mtime, reverse=True)
    yield b"%d core files in %s\n" % (len(cores), os.fsencode(str(paths.daemon_cwd)))
    for seen, path in cores[:CORES_NAMED]:
        yield b"%s %d bytes, written at %s\n" % (
            os.fsencode(path.name), seen.st_size, clock.utc_text(int(seen.st_mtime * 1000)).encode())


def _read_proc(target: Process) -> Iterator[bytes]:
    directory = Path("/proc/%d" % target.pid)
    yield _section("exe", os.fsencode(os.readlink(str(directory / "exe"))))
    yield _section("fd", b"%d are open" % len(os.listdir(str(directory / "fd"))))
    waits = find_wait_in_kernel(_threads(target.pid))
    for name in OF_PROCESS if waits else OF_PROCESS + OF_MEMORY:
        yield _section(name, _read_or_say(directory / name))


def _threads(pid: int) -> Tuple[Process, ...]:
    """The threads of a process, each as the process that /proc shows under its id."""
    found = (process.read_process(int(tid)) for tid in os.listdir("/proc/%d/task" % pid))
    return tuple(sorted(one for one in found if one is not None))


def _read_threads(pid: int) -> Iterator[bytes]:
    for thread in _threads(pid):
        yield b"\n# %s\n" % thread.label.encode()
        for name in OF_THREAD:
            yield _section(name, _read_or_say(Path("/proc/%d/task/%d" % (pid, thread.pid)) / name))


def _ask(paths: Paths, daemon: Daemon, deadline: Deadline) -> Iterator[bytes]:
    """What the daemon says of itself. One that hangs says nothing, which takes a second once."""
    asking = Deadline(deadline.at_most_s(ANSWERS_WITHIN_S))
    for question in QUESTIONS:
        yield _section(question, daemons.ask(paths, daemon, question, (), asking.remaining_s()).encode())


def _trace_back(target: Process, deadline: Deadline) -> Iterator[bytes]:
    """The stacks of all threads, by the first debugger that is on this host."""
    now = process.read_process(target.pid)
    if now is None or now.start_ticks != target.start_ticks:
        raise NoAnswer("%s ended meanwhile" % target.label)
    obstacle = find_obstacle(now, _threads(target.pid))
    if obstacle:
        raise AdministratorError(obstacle)
    argv = next((argv for argv in debuggers(target.pid) if proc.find_program(argv[0])), None)
    if argv is None:
        raise AdministratorError("no gdb, eu-stack or pstack is on this host")
    try:
        said = proc.run(argv, deadline.remaining_s(), {"DEBUGINFOD_URLS": ""})  # it would ask the network for symbols
    except NoAnswer:
        process.send_signal(target, signal.SIGCONT)  # a killed debugger may leave it stopped
        raise
    yield said.stdout.encode()
    if said.returncode:
        raise AdministratorError("%s failed (%s)" % (argv[0], said.complaint))


def debuggers(pid: int) -> Tuple[Tuple[str, ...], ...]:
    """Commands that print the stacks of all threads of a process, the best first.

    An endless recursion is cut. Where there are no symbols, the mappings tell later which function an address is in.
    """
    return (("gdb", "-nx", "-batch", "-p", str(pid), "-ex", "thread apply all backtrace 100",
             "-ex", "info proc mappings"),
            ("eu-stack", "-p", str(pid)), ("pstack", str(pid)))


def find_obstacle(target: Process, threads: Tuple[Process, ...]) -> str:
    """Why no debugger may look at the process, or "". A debugger that waits in the kernel too may outlive SIGKILL."""
    if target.is_stopped:
        return "a debugger would wait for %s to go on" % target.label
    return find_wait_in_kernel(threads)


def find_wait_in_kernel(threads: Tuple[Process, ...]) -> str:
    """Which thread waits in the kernel, where nothing reaches it, or ""."""
    waiting = next((thread for thread in threads if thread.state == "D"), None)
    return "%s waits in the kernel: see its stack in threads.txt" % waiting.label if waiting else ""


def _section(title: str, content: bytes) -> bytes:
    return b"== %s\n%s\n" % (title.encode(), content.rstrip(b"\n"))


def _read_or_say(path: Path) -> bytes:
    """A file of /proc, or why it cannot be read: not every kernel has each, and not every user may."""
    try:
        return files.read_small(path)
    except OSError as error:
        return b"(%s)" % (error.strerror or str(error)).encode()
