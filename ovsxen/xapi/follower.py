"""XAPI followed from a thread of its own: it may hang, and the switch must not notice. One session, ended with us.

Whole classes at the start, then events; where XAPI has no event.from, polling. What fails is tried again with growing
pauses, and what was known until then stays known. Whoever waits for news is woken through a descriptor.
"""

import select
import threading
from enum import Enum
from pathlib import Path
from typing import Iterable, NamedTuple, Optional, Set, Tuple

from ovsxen.errors import OvsxenError, XapiFailure
from ovsxen.host import heap
from ovsxen.host.clock import MACHINE_CLOCK, Clock, Deadline
from ovsxen.host.wakeup import Bell
from ovsxen.xapi.mirror import CLASSES, Mirror, current_token, wait_for_events
from ovsxen.xapi.records import CLASS_UNKNOWN, Known
from ovsxen.xapi.session import Xapi, connect
from ovsxen.xapi.transport import Interrupted, NotReached

EVENTS_WAIT_S = 30.0
EVENTS_WITHIN_S = EVENTS_WAIT_S + 10.0
TOO_SOON_S = 1.0
TOKEN_VOID = "EVENT_FROM_TOKEN_PARSE_FAILURE"
SHORTEST_REST_S, LONGEST_REST_S = 1.0, 30.0
UNREACHED_REST_S = 2.0
"""Nobody listens, so nobody is bothered; and who begins to is to be heard soon."""

SHORTEST_POLL_S, LONGEST_POLL_S = 2.0, 15.0
RECOUNT_EVERY_S = 60.0
"""XAPI may count otherwise than it tells, and its records are not to be read each time."""


class Mode(Enum):
    """How XAPI is followed."""

    STARTING = "asking XAPI for the first time"
    EVENTS = "following XAPI's events"
    POLLING = "asking XAPI again and again: it has no event.from"
    AWAY = "XAPI does not answer"


class News(NamedTuple):
    """What is known, whether it is still followed, why not (`problem`), and which records make no sense (`odd`).

    `answered`: every question up to this number has been answered, or could not be.
    """

    mode: Mode = Mode.STARTING
    known: Optional[Known] = None
    problem: str = ""
    odd: Tuple[str, ...] = ()
    answered: int = 0


class Follower:
    """`news` may be read at any time; `has_news` rings when it has changed."""

    def __init__(self, socket_path: Path, clock: Clock = MACHINE_CLOCK) -> None:
        self.news = News()
        self.has_news = Bell()
        self._path = socket_path
        self._clock = clock
        self._end, self._question = Bell(), Bell()
        self._lock = threading.Lock()
        self._asked = 0
        self._asked_for: Set[str] = set()
        self._rest_s = SHORTEST_REST_S
        self._recount_after_s = 0.0
        self._refused_tokens = 0
        self._thread: Optional[threading.Thread] = None

    def start(self) -> None:
        """Begin; the thread is made here, because none outlives a fork, not even one that has not begun."""
        self._thread = threading.Thread(target=self._run, name="follow XAPI", daemon=True)
        self._thread.start()

    def end(self, within_s: float) -> bool:
        """Log out and stop; tells whether that was done in time: XAPI may hang."""
        self.begin_end()
        if self._thread is not None:
            self._thread.join(within_s)
        return self._thread is None or not self._thread.is_alive()

    def begin_end(self) -> None:
        """Have it log out and stop, without waiting for it."""
        self._end.ring()

    def ask(self, classes: Iterable[str] = CLASSES) -> int:
        """Have whole classes read anew, at once; gives the number that `news.answered` reaches by that."""
        with self._lock:
            self._asked += 1
            self._asked_for.update(classes)
            self._question.ring()
            return self._asked

    def _run(self) -> None:
        mirror = Mirror()
        while not self._has_ended():
            try:
                with connect(self._path, Deadline(float("inf"), self._clock), is_patient=False,
                             interrupt_fd=self._end.fd) as xapi:
                    self._follow(xapi, mirror)
            except Interrupted:
                continue
            except Exception as raised:  # a defect too: who follows must go on
                self._tell_away(raised)
                longest_s = UNREACHED_REST_S if isinstance(raised, NotReached) else LONGEST_REST_S
                rest_s = min(self._rest_s, longest_s)
                self._wait(rest_s)
                self._rest_s = min(2 * rest_s, longest_s)

    def _follow(self, xapi: Xapi, mirror: Mirror) -> None:
        """Until the end, or an error. Raises OvsxenError."""
        self._refused_tokens = 0
        token = self._begin(xapi, mirror)
        poll_s = SHORTEST_POLL_S
        while not self._has_ended():
            if token:
                token = self._take_events(xapi, mirror, token)
            else:
                before = self.news.known
                asked = self._wait(poll_s)
                self._read(xapi, mirror, CLASSES, Mode.POLLING)
                poll_s = SHORTEST_POLL_S if asked or self.news.known != before else min(2 * poll_s, LONGEST_POLL_S)

    def _begin(self, xapi: Xapi, mirror: Mirror) -> str:
        """Read everything; gives the token of the moment before, or "" where XAPI has no events."""
        try:
            token = current_token(xapi)
        except XapiFailure as failure:
            if failure.code != CLASS_UNKNOWN:
                raise
            token = ""
        self._read(xapi, mirror, CLASSES, Mode.EVENTS if token else Mode.POLLING)
        return token

    def _take_events(self, xapi: Xapi, mirror: Mirror, token: str) -> str:
        """The next events, or what is asked for meanwhile; gives the next token."""
        began_s = self._clock.monotonic()
        try:
            with xapi.interrupted_by(self._question.fd, EVENTS_WITHIN_S):
                batch = wait_for_events(xapi, CLASSES, token, EVENTS_WAIT_S)
        except Interrupted:
            if not self._has_ended():
                self._answer(xapi, mirror)
            return token
        except XapiFailure as failure:
            if failure.code != TOKEN_VOID:
                raise
            self._refused_tokens += 1
            if self._refused_tokens > 1:  # though it was new: without events, then
                return ""
            return self._begin(xapi, mirror)
        self._refused_tokens = 0
        if not batch.events and self._clock.monotonic() - began_s < TOO_SOON_S:
            self._wait(SHORTEST_REST_S)  # nothing has happened, and it did not wait for anything
        if mirror.apply(batch):
            self._tell(mirror, Mode.EVENTS, self.news.answered)
        if len(batch.events) >= heap.MANY:
            heap.trim()
        wrong = mirror.disagreeing(batch.counts)
        if wrong and self._clock.monotonic() >= self._recount_after_s:
            self._recount_after_s = self._clock.monotonic() + RECOUNT_EVERY_S
            self._read(xapi, mirror, wrong, Mode.EVENTS)
        return batch.token

    def _answer(self, xapi: Xapi, mirror: Mirror) -> None:
        with self._lock:
            classes = tuple(sorted(self._asked_for))
        self._read(xapi, mirror, classes, Mode.EVENTS)

    def _read(self, xapi: Xapi, mirror: Mirror, classes: Tuple[str, ...], mode: Mode) -> None:
        with self._lock:
            asked = self._asked if self._asked_for <= set(classes) else self.news.answered
            if asked == self._asked:
                self._asked_for.clear()
                self._question.silence()
        count = sum(mirror.read(xapi, name) for name in classes)
        self._rest_s = SHORTEST_REST_S
        self._tell(mirror, mode, asked)
        if count >= heap.MANY:
            heap.trim()

    def _tell(self, mirror: Mirror, mode: Mode, answered: int) -> None:
        self.news = News(mode, mirror.known(), "", mirror.problems, answered)
        self.has_news.ring()

    def _tell_away(self, raised: BaseException) -> None:
        with self._lock:
            asked = self._asked
            self._asked_for.clear()  # the next attempt reads everything
            self._question.silence()
        text = str(raised) if isinstance(raised, OvsxenError) else "%s: %s" % (type(raised).__name__, raised)
        self.news = self.news._replace(mode=Mode.AWAY, problem=text, answered=asked)
        self.has_news.ring()

    def _has_ended(self) -> bool:
        return _can_be_read((self._end.fd,), 0.0)

    def _wait(self, seconds: float) -> bool:
        """Until the end, a question, or the time is over; tells whether there is a question. Not more than one attempt
        comes of questions in the shortest rest.
        """
        if _can_be_read((self._end.fd,), min(seconds, SHORTEST_REST_S)):
            return False
        return _can_be_read((self._end.fd, self._question.fd), max(0.0, seconds - SHORTEST_REST_S))


def _can_be_read(fds: Tuple[int, ...], within_s: float) -> bool:
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return bool(poller.poll(within_s * 1000))
