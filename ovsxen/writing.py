"""How a sync's edits reach the database: in few transactions, and none of them keeps the others back."""

from typing import Optional, Tuple

from ovsxen.host.clock import MACHINE_CLOCK, Clock
from ovsxen.ovs.labels import Relabelling
from ovsxen.ovs.replica import Outcome, Replica

AGAIN_AFTER_S = 0.1
REFUSED_AFTER_S = 2.0
MOST_ROWS = 400
"""A transaction of more would cost a daemon more memory than all that it keeps of them."""


class Writer:
    """As many rows at once as there may be, and after a transaction that failed half as many: a row that somebody
    writes to all the time, or that is refused, keeps no other back for long. `problem` says what is refused.
    """

    def __init__(self, replica: Replica, clock: Clock = MACHINE_CLOCK) -> None:
        self.problem = ""
        self._replica = replica
        self._clock = clock
        self._at_most = MOST_ROWS
        self._offset = 0
        self._edits: Tuple[Relabelling, ...] = ()
        self._not_before_s = 0.0

    def write(self, edits: Tuple[Relabelling, ...]) -> bool:
        """Begin to write what can be now; tells whether that is all of it."""
        if not edits:
            self.problem = ""
            return True
        if self._replica.is_writing or not self._replica.is_ready or self.due_s > 0:
            return False
        at = self._offset % len(edits)
        self._edits = (edits[at:] + edits[:at])[:self._at_most]
        self._replica.write(self._edits)
        return len(self._edits) == len(edits)

    def take_end(self) -> Optional[Tuple[Relabelling, ...]]:
        """What was written by the transaction that has ended: nothing, where it failed; None where none has ended."""
        ended = self._replica.poll()
        if ended is None:
            return None
        outcome, why = ended
        edits, self._edits = self._edits, ()
        if outcome is Outcome.DONE:
            self._at_most = min(2 * self._at_most, MOST_ROWS)
            return edits
        if why:
            self.problem = "ovsdb-server refused external_ids (%s), which is tried again: look at its log" % why
        self._offset = self._offset + 1 if len(edits) == 1 else 0
        self._at_most = max(1, len(edits) // 2)
        self._not_before_s = self._clock.monotonic() + (
            AGAIN_AFTER_S if outcome is Outcome.AGAIN else REFUSED_AFTER_S)
        return ()

    @property
    def due_s(self) -> float:
        """Seconds until it may write again; 0 where it may."""
        return max(0.0, self._not_before_s - self._clock.monotonic())
