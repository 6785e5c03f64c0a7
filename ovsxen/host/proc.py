"""The one door to other programs: argv tuples, no shell, LC_ALL=C, stdin is /dev/null, always a deadline.

A child runs in a session of its own, so that its whole group ends with its deadline. A program that detaches a daemon
is waited for by its exit, not by the end of its output: the daemon would keep that open.
"""

import os
import select
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, NoAnswer, NotInstalled
from ovsxen.host import process
from ovsxen.host.clock import Deadline

SYSTEM_DIRS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Searched after the PATH: an init script's or a user's PATH may lack them (openvswitch 25eb72a26)."""

NOTIFY_SOCKET = "NOTIFY_SOCKET"
WATCHDOG_USEC = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"
OF_THE_SERVICE = (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID)
"""What systemd has for this process alone: no program that is started gets it (systemd.exec(5))."""

KEPT_OUTPUT_BYTES = 4096
KILLED_WITHIN_S = 1.0
LOOK_EVERY_S = 0.25


class Finished(NamedTuple):
    """A program that ended. A negative return code is the signal that killed it."""

    argv: Tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def died_of(self) -> str:
        """The name of the signal that killed it, or nothing."""
        return signal.Signals(-self.returncode).name if self.returncode < 0 else ""

    @property
    def complaint(self) -> str:
        """What it said last on stderr (else stdout), or how it ended: one line for a message."""
        lines = (self.stderr or self.stdout).strip().splitlines()
        if lines:
            return lines[-1].strip()
        return "died of %s" % self.died_of if self.died_of else "exit code %d" % self.returncode


def search_path() -> List[str]:
    """Directories where programs are looked for."""
    return os.get_exec_path() + [d for d in SYSTEM_DIRS if d not in os.get_exec_path()]


def find_program(name: str) -> Optional[Path]:
    """The first executable file called `name` on the search path."""
    for directory in search_path():
        candidate = os.path.join(directory, name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return Path(candidate)
    return None


class Child:
    """A started program. `read_all` waits for a tool, `wait_detached` for what leaves a daemon behind."""

    def __init__(self, argv: Tuple[str, ...], environ: Optional[Mapping[str, str]] = None,
                 cwd: Optional[Path] = None) -> None:
        self.argv = argv
        environment: Dict[str, str] = dict(os.environ, LC_ALL="C", PATH=os.pathsep.join(search_path()))
        environment.update(environ or {})
        for name in OF_THE_SERVICE:  # systemd hears this process and no other
            environment.pop(name, None)
        program = find_program(argv[0])
        if program is None:
            raise NotInstalled("the program %s is not on this host" % argv[0],
                               "looked in %s" % ", ".join(search_path()))
        try:
            self._popen = subprocess.Popen(
                argv, executable=str(program), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, env=environment, cwd=None if cwd is None else str(cwd),
                start_new_session=True)
        except OSError as error:
            raise AdministratorError("%s cannot be run (%s)" % (program, error.strerror),
                                     "reinstall the package that it is from") from error

    def read_all(self, within_s: float) -> Finished:
        """Wait for the end of its output, then of itself. For tools, never for what detaches.

        Raises NoAnswer past the deadline; then its whole process group has been killed.
        """
        try:
            stdout, stderr = self._popen.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self._kill_group()
            self._give_up()
            raise NoAnswer("%s did not finish within %g s and was killed" % (self.argv[0], within_s),
                           "look whether the host is overloaded, and try it by hand") from None
        return Finished(self.argv, self._popen.returncode, _text(stdout), _text(stderr))

    def terminate(self) -> None:
        """Ask it to end, by SIGTERM."""
        if self._popen.poll() is None:
            self._popen.terminate()

    def kill(self) -> None:
        """End it and what it has started; whoever waits for its output has it then."""
        if self._popen.poll() is None:
            self._kill_group()

    def end(self) -> None:
        """End it, and what it has started, and lose what it said. One that has been read to its end is left alone."""
        self.kill()
        if self._popen.stdout is not None and not self._popen.stdout.closed:
            self._give_up()

    def _give_up(self) -> None:
        """One that hangs in the kernel, or whose output a stranger holds, is not waited for."""
        try:
            self._popen.communicate(timeout=KILLED_WITHIN_S)
        except subprocess.TimeoutExpired:
            pass
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()

    def wait_detached(self, within_s: float, why_in_vain: Callable[[], str] = lambda: "",
                      goes_on: Callable[[], bool] = lambda: False) -> Finished:
        """Wait for the exit of a program that leaves a daemon behind, and take what it has said until then.

        Raises NoAnswer past the deadline, or once `why_in_vain` has something to say. Then it is killed, unless its
        daemon `goes_on`: one of Open vSwitch ends when it gets ready and its parent is gone (lib/daemon-unix.c).
        """
        deadline, why = Deadline(within_s), ""
        try:
            ended = self._wait_for_exit(deadline.at_most_s(LOOK_EVERY_S))
            while not (ended or deadline.has_passed() or why):
                why = why_in_vain()
                ended = self._wait_for_exit(deadline.at_most_s(LOOK_EVERY_S))
            if not ended and not goes_on():
                self._kill_group()
                self._popen.wait()
            stdout, stderr = self._take_output(self._popen.stdout), self._take_output(self._popen.stderr)
        finally:
            for stream in (self._popen.stdout, self._popen.stderr):
                if stream is not None:
                    stream.close()
        if not ended:
            raise NoAnswer("%s was not ready %s" % (self.argv[0], ("when " + why) if why else "within %g s" % within_s))
        return Finished(self.argv, self._popen.wait(), stdout, stderr)

    def _wait_for_exit(self, within_s: float) -> bool:
        """Sleep in the kernel where it has process file descriptors (Linux 5.3, Python 3.9), else poll."""
        fd = process.open_pidfd(self._popen.pid)
        if fd < 0:
            return Deadline(within_s).wait_until(lambda: self._popen.poll() is not None, every_s=0.002)
        try:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            return bool(poller.poll(within_s * 1000))
        finally:
            os.close(fd)

    @staticmethod
    def _take_output(stream: Optional[IO[bytes]]) -> str:
        """What the pipe holds now; its other end may stay open in the daemon."""
        if stream is None:
            return ""
        os.set_blocking(stream.fileno(), False)
        try:
            return _text(os.read(stream.fileno(), KEPT_OUTPUT_BYTES))
        except BlockingIOError:
            return ""

    def _kill_group(self) -> None:
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@contextmanager
def at_priority(nice_value: int) -> Iterator[None]:
    """What is started within starts with that nice value, as far as this user may set it, like with nice(1).

    Ours is changed and changed back, because an exec of nice would cost each daemon's start a millisecond.
    """
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        _set_priority(nice_value)
        yield
    finally:
        _set_priority(ours)


def _set_priority(nice_value: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice_value)
    except PermissionError:
        pass  # only root may come before others


def run(argv: Tuple[str, ...], within_s: float, environ: Optional[Mapping[str, str]] = None) -> Finished:
    """Run a tool to its end. Raises NotInstalled, AdministratorError, NoAnswer."""
    return Child(argv, environ).read_all(within_s)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
