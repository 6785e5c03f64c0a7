"""What XAPI is asked for, by a clock that the test drives."""

from typing import Any, Collection, List

import pytest

from ovsxen.host.clock import Clock
from ovsxen.questions import HOLD_S, Questions
from ovsxen.xapi.follower import Mode, News


class Asked:
    """Who is asked, and the clock."""

    def __init__(self) -> None:
        self.classes: List[Collection[str]] = []
        self.now_s = 100.0
        self.questions = Questions(self.ask, Clock(lambda: self.now_s, self.sleep))

    def ask(self, classes: Collection[str]) -> int:
        self.classes.append(tuple(classes))
        return len(self.classes)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def hear(self, mode: Mode, answered: int = 0, **others: Any) -> bool:
        return self.questions.hear(News(mode=mode, answered=answered, **others))

    def settled(self, *uuids: str) -> List[str]:
        return [uuid for uuid in uuids if self.questions.is_settled(uuid)]


@pytest.fixture
def asked() -> Asked:
    made = Asked()
    assert made.hear(Mode.EVENTS)
    return made


def test_at_the_start_nothing_is_settled_until_xapi_has_spoken_or_the_time_is_over() -> None:
    starting = Asked()
    assert not starting.hear(Mode.STARTING) and starting.settled("a") == []
    assert 0 < starting.questions.due_s <= HOLD_S
    starting.questions.ask(["a"], ("VIF", "VM"))
    assert starting.classes == []  # everything is being read anyway
    starting.sleep(HOLD_S)
    assert starting.hear(Mode.STARTING) and starting.settled("a") == ["a"]
    assert starting.questions.due_s == float("inf")


def test_while_xapi_is_away_everything_is_settled() -> None:
    for mode in (Mode.STARTING, Mode.EVENTS, Mode.POLLING):
        away = Asked()
        away.hear(mode)
        assert away.hear(Mode.AWAY) and away.settled("a", "b") == ["a", "b"]
        away.questions.ask(["a"], ("VIF", "VM"))
        assert away.classes == []


@pytest.mark.parametrize("mode", [Mode.EVENTS, Mode.POLLING])
def test_one_question_is_for_all_and_what_comes_meanwhile_waits_for_the_next(mode: Mode) -> None:
    asked = Asked()
    asked.hear(mode)
    asked.questions.ask(["a", "b"], ("VIF", "VM"))
    asked.questions.ask(["a", "b", "c"], ("VIF", "VM"))
    assert len(asked.classes) == 1 and asked.settled("a", "b", "c") == []
    assert not asked.hear(mode, answered=0)
    assert asked.hear(mode, answered=1) and asked.settled("a", "b", "c") == ["a", "b"]
    asked.questions.ask(["a", "b", "c"], ("VIF", "VM"))
    assert len(asked.classes) == 2
    assert asked.hear(mode, answered=2) and asked.settled("a", "b", "c") == ["a", "b", "c"]
    asked.questions.ask(["a", "b", "c"], ("VIF", "VM"))
    assert len(asked.classes) == 2 and set(asked.classes[0]) == {"VIF", "VM"}


def test_an_answer_that_does_not_come_is_not_waited_for_for_long(asked: Asked) -> None:
    asked.questions.ask(["a"], ("VIF", "VM"))
    asked.sleep(HOLD_S / 2)
    assert not asked.hear(Mode.EVENTS) and 0 < asked.questions.due_s <= HOLD_S / 2
    asked.sleep(HOLD_S / 2)
    assert asked.hear(Mode.EVENTS) and asked.settled("a") == ["a"]


def test_who_comes_back_is_asked_again(asked: Asked) -> None:
    asked.questions.ask(["a"], ("VIF", "VM"))
    asked.hear(Mode.EVENTS, answered=1)
    asked.hear(Mode.AWAY, answered=1)
    assert asked.hear(Mode.EVENTS, answered=1) and asked.settled("a") == []
    asked.questions.ask(["a"], ("VIF", "VM"))
    assert len(asked.classes) == 2


def test_what_is_to_be_forgotten_is_asked_for_again(asked: Asked) -> None:
    asked.questions.ask(["a"], ("VIF", "VM"))
    asked.hear(Mode.EVENTS, answered=1)
    asked.questions.forget(7)
    assert asked.settled("a") == []
    asked.questions.ask(["a"], ("VIF", "VM"))
    assert len(asked.classes) == 2


def test_nothing_is_asked_for_nothing(asked: Asked) -> None:
    asked.questions.ask([], ("VIF", "VM"))
    assert asked.classes == [] and asked.questions.due_s == float("inf")
