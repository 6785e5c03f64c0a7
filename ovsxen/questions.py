"""What a sync asks XAPI for: uuids that a row carries and XAPI is not known to have. One question for all, once."""

from typing import Callable, Collection, Optional, Set

from ovsxen.host.clock import MACHINE_CLOCK, Clock, Deadline
from ovsxen.xapi.follower import Mode, News

HOLD_S = 1.0
"""So long an id waits for XAPI's word. Then it is said without: a controller waits, too."""


class Questions:
    """Which uuids have been asked for (`is_settled`): with what there is now, no more is to be waited for."""

    def __init__(self, ask: Callable[[Collection[str]], int], clock: Clock = MACHINE_CLOCK) -> None:
        self._ask = ask
        self._clock = clock
        self._mode = Mode.STARTING
        self._settled: Set[str] = set()
        self._pending: Set[str] = set()
        self._number = 0
        self._hold: Optional[Deadline] = Deadline(HOLD_S, clock)

    def is_settled(self, uuid: str) -> bool:
        return self._mode is Mode.AWAY or uuid in self._settled or (
            self._mode is Mode.STARTING and self._hold is None)

    def hear(self, news: News) -> bool:
        """Take what has come of the questions; tells whether something is settled now that was not."""
        before, self._mode = self._mode, news.mode
        if before is not news.mode:
            self._settled.clear()
        is_over = self._hold is not None and self._hold.has_passed()
        if before is Mode.STARTING and (news.mode is not before or is_over):
            self._hold = None
            return True
        if not self._pending or not (is_over or news.mode is Mode.AWAY or news.answered >= self._number):
            return before is not news.mode
        self._settled |= self._pending
        self._pending, self._hold = set(), None
        return True

    def ask(self, unknown: Collection[str], classes: Collection[str]) -> None:
        """Ask for those of these classes that have not been asked for. While an answer is awaited, others wait for
        their turn.
        """
        new = set(unknown) - self._settled
        if new and not self._pending and self._mode in (Mode.EVENTS, Mode.POLLING):
            self._number = self._ask(classes)
            self._pending, self._hold = new, Deadline(HOLD_S, self._clock)

    def forget(self, number: int) -> None:
        """Ask again for all: what XAPI says is read anew, by the question of that number."""
        self._settled.clear()
        if self._pending:
            self._number = number

    @property
    def due_s(self) -> float:
        """Seconds until something is settled by itself."""
        return self._hold.remaining_s() if self._hold is not None else float("inf")
