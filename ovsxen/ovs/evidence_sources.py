"""What there is to see of a daemon that hangs or died: the files of one event, each read piece by piece.

Nothing is written here; evidence.py keeps it. What is looked at may be broken itself: a log of any size, a process that
ends meanwhile, a debugger that hangs too.
"""

import os
import signal
from collections import deque
from enum import Enum
from pathlib import Path
from typing import Callable, Deque, Iterable, Iterator, NamedTuple, Tuple

from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.host import clock, files, proc, process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon

LOG_BYTES = 256 << 10
OTHER_LOG_BYTES = 64 << 10
TEXT_BYTES = 128 << 10
LONG_TEXT_BYTES = 512 << 10
NOTE_BYTES = 128
"""What a file may have beyond what it keeps of a log, to say that it was cut."""

ANSWERS_WITHIN_S = 1.0
KERNEL_LOG_WITHIN_S = 0.5
KERNEL_LOG_LINES = 300
KERNEL_RECORD_BYTES = 8192
CORES_NAMED = 20

QUESTIONS = ("coverage/show", "memory/show", "vlog/list")
OF_HOST = ("version", "uptime", "loadavg", "meminfo", "pressure/cpu", "pressure/io", "pressure/memory",
           "sys/kernel/core_pattern")
OF_PROCESS = ("status", "stat", "limits", "io")
OF_MEMORY = ("smaps_rollup",)
"""Reading it takes the lock of the process's memory, which a thread that waits in the kernel may have."""
OF_THREAD = ("stat", "status", "wchan", "syscall", "stack")


class Kind(Enum):
    """What befell a daemon. Of one that hangs there is a process to look at, and of one that died there is none."""

    HANG = "hang"
    DEATH = "death"


class Source(NamedTuple):
    """What becomes one file of an event, piece by piece: those that came before an error are kept."""

    name: str
    limit_bytes: int
    read: Callable[[Deadline], Iterable[bytes]]


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
        Source("threads.txt", LONG_TEXT_BYTES, lambda _: _read_threads(target)),
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


def _require_there(target: Process) -> Process:
    """The process as it is now; another one may have its pid. Raises NoAnswer."""
    now = process.look_again(target)
    if now is None:
        raise NoAnswer("%s ended meanwhile" % target.label)
    return now


def _read_proc(target: Process) -> Iterator[bytes]:
    _require_there(target)
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


def _read_threads(target: Process) -> Iterator[bytes]:
    _require_there(target)
    for thread in _threads(target.pid):
        yield b"\n# %s\n" % thread.label.encode()
        for name in OF_THREAD:
            yield _section(name, _read_or_say(Path("/proc/%d/task/%d" % (target.pid, thread.pid)) / name))


def _ask(paths: Paths, daemon: Daemon, deadline: Deadline) -> Iterator[bytes]:
    """What the daemon says of itself. One that hangs says nothing, which takes a second once."""
    asking = Deadline(deadline.at_most_s(ANSWERS_WITHIN_S))
    for question in QUESTIONS:
        yield _section(question, daemons.ask(paths, daemon, question, (), asking.remaining_s()).encode())


def _trace_back(target: Process, deadline: Deadline) -> Iterator[bytes]:
    """The stacks of all threads, by the first debugger that is on this host.

    It stops the process for as long as it looks: no loss with one that hangs.
    """
    obstacle = find_obstacle(_require_there(target), _threads(target.pid))
    if obstacle:
        raise AdministratorError(obstacle)
    argv = next((argv for argv in debuggers(target.pid) if proc.find_program(argv[0])), None)
    if argv is None:
        raise AdministratorError("no gdb, eu-stack or pstack is on this host", "install gdb")
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
    if target.is_halted:
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
