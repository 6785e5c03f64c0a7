"""Being a daemon: one at a time, by the lock on a pidfile; and, without systemd, in the background."""

import errno
import fcntl
import os
import sys
from pathlib import Path
from typing import Callable, List, NamedTuple, NoReturn, Optional

from ovsxen.host import files, process
from ovsxen.host.clock import Deadline
from ovsxen.host.process import Process

ANEW = "OVSXEN_ANEW"
"""From a program to itself as it begins anew: the descriptor of its pidfile, and whether it is in the background."""

LOCK_WITHIN_S = 0.3
LINE_BYTES = 40


class Pidfile:
    """The lock that says that there is a daemon, gone with it however it ends; who it is stands in the file.

    The kernel's list of locks does not tell: it names who took the lock, and that was the caller of fork_away.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._is_handed_on = False
        self._line = b""

    def __enter__(self) -> "Pidfile":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_handed_on:
            os.close(self._fd)

    def write(self) -> None:
        """Say who holds it: the pid, and the start time that tells this process from a later one. Raises OSError."""
        me = process.myself()
        self._line = (b"%d %d" % (me.pid, me.start_ticks)).ljust(LINE_BYTES - 1) + b"\n"
        os.pwrite(self._fd, self._line, 0)  # all at once, over one of the same length: somebody may be reading it
        os.ftruncate(self._fd, LINE_BYTES)

    def remove(self) -> None:
        """The daemon ends in order."""
        if files.is_open_as(self._fd, self.path):
            files.remove_if_there(self.path)

    def keep(self) -> bool:
        """Go on being the daemon: where somebody removed the file, or wrote into it, it is made again. False when
        another is the daemon by now.

        Raises OSError.
        """
        if files.is_open_as(self._fd, self.path):
            if os.pread(self._fd, LINE_BYTES + 1, 0) != self._line:
                self.write()
            return True
        again = take_pidfile(self.path)
        if again is None:
            return False
        os.close(self._fd)
        self._fd = again._fd
        self.write()
        return True

    def hand_on(self, *, in_background: bool) -> None:
        """Leave the lock to the program that follows this one in the process."""
        self._is_handed_on = True
        os.set_inheritable(self._fd, True)
        os.environ[ANEW] = "%d %d" % (self._fd, in_background)


class Predecessor(NamedTuple):
    """What the program was that this one follows in the same process. `pidfile_fd` has its lock, which goes on."""

    pidfile_fd: int
    in_background: bool


def take_predecessor() -> Optional[Predecessor]:
    """The program that this one was begun anew from, if any; asked once, before anything is started."""
    text = os.environ.pop(ANEW, "")
    try:
        fd, in_background = map(int, text.split())
        os.set_inheritable(fd, False)
    except (OSError, ValueError):
        return None
    return Predecessor(fd, bool(in_background))


def take_pidfile(path: Path, inherited_fd: int = -1) -> Optional[Pidfile]:
    """Become, or go on being, the daemon of that pidfile; None while another is. Raises OSError."""
    if inherited_fd >= 0:
        if files.is_open_as(inherited_fd, path):
            return Pidfile(path, inherited_fd)
        os.close(inherited_fd)
    files.make_directory(path.parent, 0o755)
    fd = Deadline(LOCK_WITHIN_S).wait_for(lambda: _lock_what_is_there(path), every_s=0.02)
    return None if fd is None else Pidfile(path, fd)


def _lock_what_is_there(path: Path) -> Optional[int]:
    """A daemon that ended just then may have removed what was locked; and whoever looks holds the lock for a moment."""
    fd = process.lock_file(path)
    if fd is not None and not files.is_open_as(fd, path):
        os.close(fd)
        return None
    return fd


def find_holder(path: Path) -> Optional[Process]:
    """The daemon of that pidfile, where it lives; nobody else, whatever is in the file."""
    if not process.is_locked(path):
        return None
    try:
        pid, start_ticks = map(int, files.read_small(path).split())
    except (OSError, ValueError):
        return None
    return process.look_again(Process(pid, "", "", start_ticks))


def take_name(name: str) -> None:
    """Have this process bear that name, by which Open vSwitch's tools and scripts know a daemon (proc(5), comm)."""
    try:
        Path("/proc/self/comm").write_text(name)
    except OSError:
        pass  # it is only a name


class ServicePidfile:
    """A pidfile as Open vSwitch's own daemons have it, so that its tools find this one (lib/daemon-unix.c): the record
    lock on it is held by the process that is named in it. Nothing else in this process may open and close the file:
    that would end the lock (fcntl(2)).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def keep(self) -> None:
        """Be, or go on being, the daemon that is found: where somebody removed the file, or wrote into it, it is made
        again. Raises OSError; BlockingIOError while another process has it.
        """
        if self._fd >= 0 and files.is_open_as(self._fd, self.path):
            self._write(self._fd)
            return
        fd = self._take()
        self._close()
        self._fd = fd

    def remove(self) -> None:
        """The daemon ends in order."""
        if self._fd >= 0 and files.is_open_as(self._fd, self.path):
            files.remove_if_there(self.path)
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _take(self) -> int:
        files.make_directory(self.path.parent, 0o755)
        fd = os.open(str(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not files.is_open_as(fd, self.path):  # one that ended just then has removed it
                raise FileNotFoundError(errno.ENOENT, "it was removed meanwhile", str(self.path))
            self._write(fd)
        except OSError as error:
            os.close(fd)
            if error.errno == errno.EACCES:  # what some kernels say of a lock that another has (fcntl(2))
                raise BlockingIOError(error.errno, error.strerror, str(self.path)) from error
            raise
        return fd

    @staticmethod
    def _write(fd: int) -> None:
        line = b"%d\n" % os.getpid()
        if os.pread(fd, LINE_BYTES, 0) != line:
            os.pwrite(fd, line, 0)
            os.ftruncate(fd, len(line))


def fork_away(ready: Callable[[], None]) -> bool:
    """Go on in the background, with nothing of the caller's terminal, pipes or session; `ready` is called there first.

    True in the background; False in the caller's process, once that is so. Raises OSError.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        begun = os.read(reader, 1)
        os.close(reader)
        if not begun:
            raise OSError(errno.ECHILD, "it ended at once: syslog may have the reason")
        return False
    os.setsid()
    os.close(reader)
    _close_what_was_inherited()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    ready()
    try:
        os.write(writer, b".")
    except BrokenPipeError:
        pass  # the caller was killed
    os.close(writer)
    return True


def _close_what_was_inherited() -> None:
    """Locks and pipes of a caller that stay open here would keep others waiting for ever. What this program has opened
    itself cannot be inherited (PEP 446), and so is told apart.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                os.close(int(name))
        except OSError:
            pass  # the directory's own, closed by now


def open_standard_streams() -> None:
    """Have something at 0, 1 and 2: else what is opened next gets these numbers, and is closed as a stream."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, so this one


def run_anew(root: Path) -> NoReturn:
    """Replace this program by itself as it is on disk now, in the same process, in the foreground. Raises OSError."""
    os.environ["OVSXEN_ROOT"] = str(root)
    os.execv(sys.executable, _own_words())


def command_for(verb: str, own_verb: str) -> List[str]:
    """The command line with which this very program is run for another verb; OVSXEN_ROOT is to say the root. Raises
    OSError.
    """
    words = _own_words()
    return words[:len(words) - words[::-1].index(own_verb) - 1] + [verb]


def _own_words() -> List[str]:
    """This program's command line, in the foreground and without the root."""
    words = [word.decode("utf-8", "surrogateescape") for word in
             files.read_small(Path("/proc/self/cmdline")).split(b"\0")[:-1]]
    return [sys.executable] + _without_root([word for word in words[1:] if word != "--detach"])


def _without_root(words: List[str]) -> List[str]:
    """Leave --root out, however short it is written: it may be relative to a directory that is another by now."""
    kept: List[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        if len(name) <= len("--") or not "--root".startswith(name):
            kept.append(word)
        elif not equals:
            next(rest, "")
    return kept
