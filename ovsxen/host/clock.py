"""The monotonic clock and every wait. A wall clock jumps at boot (dom0's may say 1970), so no wait looks at one."""

import time
from typing import Callable, NamedTuple, Optional, TypeVar

T = TypeVar("T")
SHORTEST_STEP_S = 0.1
UTC = "%Y-%m-%dT%H:%M:%SZ"


class Clock(NamedTuple):
    """Time as a value, so that a test can drive it. Both speak seconds."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


MACHINE_CLOCK = Clock()


class Deadline:
    """A moment on the monotonic clock until which something may take."""

    def __init__(self, within_s: float, clock: Clock = MACHINE_CLOCK) -> None:
        self.within_s = within_s
        self.clock = clock
        self._end_s = clock.monotonic() + within_s

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end_s - self.clock.monotonic())

    def at_most_s(self, seconds: float) -> float:
        """What a next step may take: so much, and no longer than is left; a little when nothing is."""
        return max(SHORTEST_STEP_S, min(seconds, self.remaining_s()))

    def has_passed(self) -> bool:
        return self.remaining_s() == 0.0

    def wait_until(self, holds: Callable[[], bool], every_s: float = 0.005) -> bool:
        """Poll `holds` until it is true or the deadline has passed; tells which (true: it holds)."""
        return bool(self.wait_for(lambda: holds() or None, every_s))

    def wait_for(self, get: Callable[[], Optional[T]], every_s: float = 0.005) -> Optional[T]:
        """Poll `get` until it gives something, and give that; None when the deadline passed first."""
        found = get()
        while found is None and not self.has_passed():
            self.clock.sleep(min(every_s, self.remaining_s()))
            found = get()
        return found


def stopwatch(clock: Clock = MACHINE_CLOCK) -> Callable[[], float]:
    """A function that says how many milliseconds have passed since it was made."""
    began_s = clock.monotonic()
    return lambda: (clock.monotonic() - began_s) * 1000.0


def wall_clock_text() -> str:
    """UTC, for people to read. Never compared: the wall clock may be wrong at boot."""
    return time.strftime(UTC, time.gmtime())


def wall_clock_s() -> float:
    """Seconds since 1970, as far as this host knows: for the dates in certificates and in notes to people."""
    return time.time()


def date_of_boot() -> str:
    """When this boot began, UTC, for people to read: as far as the wall clock is right."""
    return utc_text(int((wall_clock_s() - MACHINE_CLOCK.monotonic()) * 1000))


def utc_text(milliseconds: int) -> str:
    """A time stamp of OVSDB's log (`_date`, milliseconds since 1970) as UTC, for people to read."""
    try:
        return time.strftime(UTC, time.gmtime(milliseconds / 1000.0))
    except (OverflowError, ValueError, OSError):
        return "an unknown time"
