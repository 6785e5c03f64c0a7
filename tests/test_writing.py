"""How edits are portioned, by a database that a test drives: a real one conflicts only when somebody is quick."""

from typing import Any, List, Optional, Set, Tuple

import pytest

from ovsxen.host.clock import Clock
from ovsxen.ovs.labels import Relabelling
from ovsxen.ovs.replica import Outcome
from ovsxen.writing import AGAIN_AFTER_S, MOST_ROWS, REFUSED_AFTER_S, Writer

DONE, AGAIN, REFUSED = (Outcome.DONE, ""), (Outcome.AGAIN, ""), (Outcome.REFUSED, "constraint violation")


class Database:
    """What a Replica is to a Writer."""

    def __init__(self) -> None:
        self.written: Tuple[Relabelling, ...] = ()
        self.outcome: Optional[Tuple[Outcome, str]] = None
        self.is_writing = False
        self.is_ready = True

    def write(self, edits: Tuple[Relabelling, ...]) -> None:
        self.written, self.is_writing = edits, True

    def poll(self) -> Optional[Tuple[Outcome, str]]:
        outcome, self.outcome = self.outcome, None
        self.is_writing = self.is_writing and outcome is None
        return outcome


class Portions:
    """A writer and its time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.database = Database()
        anything: Any = self.database
        self.writer = Writer(anything, Clock(lambda: self.now_s))

    def write(self, edits: Tuple[Relabelling, ...], outcome: Tuple[Outcome, str]) -> List[str]:
        """The names of the rows that a transaction has, which ends so."""
        self.writer.write(edits)
        names = [edit.name for edit in self.database.written]
        self.database.outcome = outcome
        assert self.writer.take_end() == (self.database.written if outcome == DONE else ())
        self.now_s += self.writer.due_s
        return names


@pytest.fixture
def portions() -> Portions:
    return Portions()


def rows(count: int) -> Tuple[Relabelling, ...]:
    return tuple(Relabelling("Interface", "uuid-%d" % number, "vif%d.0" % number, (("a", "b"),))
                 for number in range(count))


def test_a_burst_is_written_in_few_portions(portions: Portions) -> None:
    left = rows(2 * MOST_ROWS + 1)
    sizes = []
    while left:
        sizes.append(len(portions.write(left, DONE)))
        left = left[sizes[-1]:]
    assert sizes == [MOST_ROWS, MOST_ROWS, 1]


def test_what_conflicts_is_written_with_fewer_until_it_keeps_no_other_back(portions: Portions) -> None:
    written: Set[str] = set()
    for _ in range(20):
        portions.writer.write(tuple(edit for edit in rows(5) if edit.name not in written))
        names = {edit.name for edit in portions.database.written}
        portions.database.outcome = AGAIN if "vif2.0" in names else DONE
        written |= {edit.name for edit in portions.writer.take_end() or ()}
        portions.now_s += portions.writer.due_s
    assert written == {"vif0.0", "vif1.0", "vif3.0", "vif4.0"}


def test_after_a_success_it_is_more_again(portions: Portions) -> None:
    edits = rows(8)
    assert [len(portions.write(edits, outcome)) for outcome in (AGAIN, AGAIN, DONE, DONE, DONE)] == [8, 4, 2, 4, 8]


@pytest.mark.parametrize("outcome, rest_s", [(AGAIN, AGAIN_AFTER_S), (REFUSED, REFUSED_AFTER_S)])
def test_after_a_failure_it_rests(portions: Portions, outcome: Tuple[Outcome, str], rest_s: float) -> None:
    portions.writer.write(rows(2))
    portions.database.outcome = outcome
    assert portions.writer.take_end() == () and portions.writer.due_s == rest_s
    assert not portions.writer.write(rows(2)) and not portions.database.is_writing
    portions.now_s += rest_s
    assert not portions.writer.write(rows(2)) and portions.database.is_writing  # half of them


def test_what_is_refused_is_told_until_there_is_nothing_left_to_write(portions: Portions) -> None:
    portions.write(rows(2), REFUSED)
    portions.write(rows(2), DONE)
    assert "constraint violation" in portions.writer.problem
    assert portions.writer.write(())
    assert portions.writer.problem == ""


def test_one_transaction_is_under_way_at_a_time(portions: Portions) -> None:
    assert portions.writer.write(rows(1))
    assert not portions.writer.write(rows(3))
    assert len(portions.database.written) == 1 and portions.writer.take_end() is None


def test_nothing_is_begun_while_no_server_listens(portions: Portions) -> None:
    portions.database.is_ready = False
    assert not portions.writer.write(rows(1)) and portions.database.written == ()
