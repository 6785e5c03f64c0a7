"""Signals, taken as news: a handler only says that one came, and whoever waits is woken by it."""

import os
import select
import signal
from contextlib import contextmanager
from typing import FrozenSet, Iterable, Iterator, List

INTERRUPTIONS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
TYPED = (signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
"""What else a terminal sends, to end or to stop a program."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Go on to the end, whatever is typed, and though the terminal is lost: it may hang on the very switch.

    A handler and not SIG_IGN, which the daemons that are started within would inherit. And a process group of our own,
    because what is started is for a moment in ours and has no handler: a ^C would end it.
    """
    try:
        os.setpgid(0, 0)
    except OSError:
        pass  # the leader of a session, whose group is its own
    before = [(number, signal.signal(number, lambda *_: None)) for number in INTERRUPTIONS + TYPED]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


class Bell:
    """A pipe that somebody rings, in whichever thread, and that one waits for by its `fd`."""

    def __init__(self) -> None:
        self.fd, self.writer = os.pipe()
        for fd in (self.fd, self.writer):
            os.set_blocking(fd, False)

    def ring(self) -> None:
        try:
            os.write(self.writer, b".")
        except BlockingIOError:
            pass  # it rings already

    def silence(self) -> None:
        """Until it is rung again."""
        try:
            while os.read(self.fd, 512):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.writer)


class Wakeup:
    """Takes SIGHUP, SIGINT and SIGTERM from its making to its close, and waits for them and for descriptors."""

    def __init__(self) -> None:
        self._came: List[int] = []
        self._bell = Bell()
        self._wakeup_before = signal.set_wakeup_fd(self._bell.writer)
        self._before = [(number, signal.signal(number, lambda came, _: self._came.append(came)))
                        for number in INTERRUPTIONS]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)  # those that were kept, too

    def __enter__(self) -> "Wakeup":
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._bell.close()

    def hold_back(self) -> None:
        """Leave what comes from now on to the program that follows in this process, so that it is ended by none."""
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)

    def came(self) -> FrozenSet[int]:
        """The signals that have come so far."""
        return frozenset(self._came)

    @property
    def fd(self) -> int:
        """Can be read once a signal has come, until take() or wait()."""
        return self._bell.fd

    def take(self) -> FrozenSet[int]:
        """The signals that have come since it was last called."""
        self._bell.silence()
        came, self._came = self._came, []  # in this order: what comes meanwhile is in one of the two
        return frozenset(came)

    def wait(self, fds: Iterable[int], within_s: float) -> None:
        """Until a signal comes, a descriptor can be read, or the time is over."""
        poller = select.poll()
        for fd in (self._bell.fd,) + tuple(fds):
            poller.register(fd, select.POLLIN)
        poller.poll(within_s * 1000)
        self._bell.silence()
