"""Sessions with XAPI: whose they are, when they end, what is asked again, and what each error says."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import pytest

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused, XapiFailure
from ovsxen.host.clock import Clock, Deadline
from ovsxen.xapi.session import REMEDIES, Xapi, ask_while_it_may_pass, connect
from tests.xapi.conftest import MakeWire
from tests.xapi.wire import ERROR_PAGE, Question, Wire, failure, http_ok, success, until_it_hangs_up

LOGIN, LOGOUT, READ = "session.login_with_password", "session.logout", "pool.get_all_records"
POOLS = {"OpaqueRef:p": {"uuid": "u1", "name_label": "br\u00fccke\x85 \U0001f310", "MTU": 1500}}
Answers = Dict[str, List[bytes]]


@pytest.fixture
def make_xapi(make_wire: MakeWire) -> Callable[..., Wire]:
    """A XAPI that counts its sessions. `answers` come first, method by method, each once; its last one stays."""
    def make(answers: Optional[Answers] = None) -> Wire:
        left = {LOGIN: [], LOGOUT: [success("")], READ: [success(POOLS)]}  # type: Answers
        left.update(answers or {})

        def serve(connection: socket.socket, question: Question) -> None:
            said = left.get(question.method, [failure("MESSAGE_METHOD_UNKNOWN", question.method)])
            if question.method == LOGIN and not said:
                said = [success("OpaqueRef:s%d" % wire.methods.count(LOGIN))]
            answer = said.pop(0) if len(said) > 1 else said[0]
            if answer:
                connection.sendall(answer)
            else:
                until_it_hangs_up(connection)
        wire = make_wire(serve)
        return wire
    return make


class DrivenClock:
    """Time passes only while somebody sleeps; `then` happens after the first sleep."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.now_s = 1000.0
        self.slept_s: List[float] = []
        self._then = then
        self.clock = Clock(lambda: self.now_s, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.slept_s.append(seconds)
        if len(self.slept_s) == 1:
            self._then()


def read(path: Path, session_ref: str = "", deadline: Optional[Deadline] = None) -> object:
    with connect(path, deadline or Deadline(20), session_ref, call_within_s=10) as xapi:
        return xapi.read_all("pool")


def sessions(wire: Wire) -> List[Tuple[str, object]]:
    """Each question with the session that it was asked in."""
    return [(question.method, question.params[0]) for question in wire.asked]


def test_a_session_of_our_own_says_who_asks_and_is_ended(make_xapi: Callable[..., Wire]) -> None:
    wire = make_xapi()
    assert read(wire.path) == {"OpaqueRef:p": dict(POOLS["OpaqueRef:p"], MTU="1500")}
    assert wire.asked[0].params == ("root", "", "1.0", "ovsxen")
    assert sessions(wire)[1:] == [(READ, "OpaqueRef:s1"), (LOGOUT, "OpaqueRef:s1")]


def test_a_session_that_was_passed_in_is_used_and_not_ended(make_xapi: Callable[..., Wire]) -> None:
    wire = make_xapi()
    read(wire.path, "OpaqueRef:theirs")
    assert sessions(wire) == [(READ, "OpaqueRef:theirs")]


def test_a_session_of_our_own_is_ended_when_the_job_fails(make_xapi: Callable[..., Wire]) -> None:
    wire = make_xapi()
    with pytest.raises(ZeroDivisionError):
        with connect(wire.path, Deadline(20)):
            raise ZeroDivisionError
    assert wire.methods == [LOGIN, LOGOUT]


def test_a_session_is_ended_also_when_the_time_of_the_job_is_over(make_xapi: Callable[..., Wire]) -> None:
    wire, driven = make_xapi(), DrivenClock()
    with pytest.raises(NoAnswer, match="no time left"):
        with connect(wire.path, Deadline(20, driven.clock)) as xapi:
            driven.now_s += 100
            xapi.read_all("pool")
    assert wire.methods == [LOGIN, LOGOUT]


@pytest.mark.parametrize("said", [
    b"", ERROR_PAGE, http_ok(b"junk"), failure("SESSION_INVALID", "OpaqueRef:s1"), failure("INTERNAL_ERROR", "x")],
    ids=["silence", "error page", "junk", "ended already", "failure"])
def test_a_logout_that_fails_neither_fails_the_job_nor_takes_long(
        make_xapi: Callable[..., Wire], said: bytes) -> None:
    wire, began_s = make_xapi({LOGOUT: [said]}), time.monotonic()
    assert read(wire.path)
    assert wire.methods == [LOGIN, READ, LOGOUT]
    assert time.monotonic() - began_s < 5


def test_a_logout_that_fails_does_not_hide_the_error_of_the_job(make_xapi: Callable[..., Wire]) -> None:
    wire = make_xapi({LOGOUT: [ERROR_PAGE], READ: [failure("INTERNAL_ERROR", "broken")]})
    with pytest.raises(XapiFailure, match="broken"):
        read(wire.path)


def test_a_passed_session_that_has_ended_is_a_failure_without_another_login(make_xapi: Callable[..., Wire]) -> None:
    wire = make_xapi({READ: [failure("SESSION_INVALID", "OpaqueRef:theirs")]})
    with pytest.raises(XapiFailure) as caught:
        read(wire.path, "OpaqueRef:theirs")
    assert caught.value.code == "SESSION_INVALID"
    assert "OpaqueRef" not in str(caught.value)
    assert wire.methods == [READ]


def test_a_session_of_ours_that_xapi_forgot_is_made_again_and_the_last_is_ended(
        make_xapi: Callable[..., Wire]) -> None:
    wire = make_xapi({READ: [success({}), failure("SESSION_INVALID", "OpaqueRef:s1"), success(POOLS)]})
    with connect(wire.path, Deadline(20)) as xapi:
        assert xapi.read_all("pool") == {}
        assert list(xapi.read_all("pool")) == ["OpaqueRef:p"]
    assert wire.methods == [LOGIN, READ, READ, LOGIN, READ, LOGOUT]
    assert sessions(wire)[-1] == (LOGOUT, "OpaqueRef:s2")


def test_a_xapi_that_forgets_every_session_is_a_failure_after_few_logins(make_xapi: Callable[..., Wire]) -> None:
    wire = make_xapi({READ: [failure("SESSION_INVALID", "OpaqueRef:s1")]})
    with pytest.raises(XapiFailure, match="SESSION_INVALID"):
        read(wire.path)
    assert wire.methods.count(LOGIN) == 4
    assert sessions(wire)[-1] == (LOGOUT, "OpaqueRef:s4")


def test_a_last_moment_that_is_too_short_does_not_hide_what_xapi_said_all_the_time() -> None:
    """Under load the last answer may come too late: that is no news."""
    said = [XapiFailure("HOST_STILL_BOOTING", (), "XAPI answered HOST_STILL_BOOTING to pool.get_all_records")]
    deadline = Deadline(0.4)

    def ask() -> str:
        if deadline.remaining_s() > 0.3:
            raise said[0]
        raise NoAnswer("XAPI did not answer within 0.1 s")

    with pytest.raises(XapiFailure, match="HOST_STILL_BOOTING"):
        ask_while_it_may_pass(ask, deadline)


@pytest.mark.parametrize("method", [LOGIN, READ])
@pytest.mark.parametrize("said", [ERROR_PAGE, failure("HOST_STILL_BOOTING")], ids=["error page", "still booting"])
def test_what_may_pass_is_asked_again(make_xapi: Callable[..., Wire], method: str, said: bytes) -> None:
    last = success("OpaqueRef:s1" if method == LOGIN else POOLS)
    wire, driven = make_xapi({method: [said, said, said, last]}), DrivenClock()
    assert read(wire.path, deadline=Deadline(20, driven.clock))
    assert driven.slept_s == [pytest.approx(s) for s in (0.1, 0.2, 0.4)]
    assert wire.methods.count(method) == 4
    assert wire.methods[-1] == LOGOUT


def test_a_socket_that_appears_in_time_is_waited_for(directory: Path, make_xapi: Callable[..., Wire]) -> None:
    driven = DrivenClock(then=make_xapi)
    assert read(directory / "xapi_sock", deadline=Deadline(20, driven.clock))
    assert driven.slept_s == [pytest.approx(0.1)]


@pytest.mark.parametrize("said, error", [(ERROR_PAGE, NoAnswer), (failure("HOST_STILL_BOOTING"), XapiFailure)],
                         ids=["error page", "still booting"])
def test_what_does_not_pass_ends_with_the_job_and_says_for_how_long(
        make_xapi: Callable[..., Wire], said: bytes, error: type) -> None:
    wire, driven = make_xapi({LOGIN: [said]}), DrivenClock()
    with pytest.raises(error, match=r"again and again for 19\.9 s: .*try again"):
        read(wire.path, deadline=Deadline(20, driven.clock))
    assert max(driven.slept_s) == 2.0
    assert sum(driven.slept_s) <= 20
    assert len(wire.asked) == len(driven.slept_s) + 1


def test_a_socket_that_stays_absent_ends_with_the_job_in_real_time(directory: Path) -> None:
    began_s = time.monotonic()
    with pytest.raises(NoAnswer, match=r"does not listen at .*for 0\.\d s"):
        read(directory / "xapi_sock", deadline=Deadline(0.5))
    assert time.monotonic() - began_s < 2


def test_a_question_that_may_have_arrived_is_not_asked_again(make_wire: MakeWire) -> None:
    wire = make_wire(lambda _connection, _question: None)  # closes after the request
    with pytest.raises(NoAnswer, match="closed the connection"):
        read(wire.path, "OpaqueRef:theirs")
    assert wire.methods == [READ]


@pytest.mark.parametrize("said", [b"", ERROR_PAGE], ids=["silence", "error page"])
def test_a_sick_xapi_cannot_hold_the_job_longer_than_its_time(make_xapi: Callable[..., Wire], said: bytes) -> None:
    wire, began_s = make_xapi({READ: [said]}), time.monotonic()
    with pytest.raises(NoAnswer):
        read(wire.path, deadline=Deadline(0.5))
    assert time.monotonic() - began_s < 3
    assert wire.methods[-1] == LOGOUT


@pytest.mark.parametrize("code", sorted(REMEDIES) + ["SOME_NEW_CODE"])
def test_a_failure_keeps_its_words_and_says_what_to_do(make_xapi: Callable[..., Wire], code: str) -> None:
    if code in ("SESSION_INVALID", "HOST_STILL_BOOTING"):
        return  # these two have tests of their own
    wire = make_xapi({READ: [failure(code, "OpaqueRef:theirs", "gr\u00fc\u00df\ndich")]})
    with pytest.raises(XapiFailure) as caught:
        read(wire.path, "OpaqueRef:theirs")
    assert (caught.value.code, caught.value.params) == (code, ("OpaqueRef:theirs", "gr\u00fc\u00df\ndich"))
    assert caught.value.remedy
    assert "XAPI answered %s ('gr\\xfc\\xdf\\ndich') to pool.get_all_records: " % code in str(caught.value)
    assert wire.methods == [READ]


def test_a_failed_login_leaves_nothing_to_end(make_xapi: Callable[..., Wire]) -> None:
    wire = make_xapi({LOGIN: [failure("HOST_IS_SLAVE", "10.0.0.1")]})
    with pytest.raises(XapiFailure, match="HOST_IS_SLAVE.*10.0.0.1"):
        read(wire.path)
    assert wire.methods == [LOGIN]


@pytest.mark.parametrize("method, said", [
    (LOGIN, success([])), (LOGIN, failure("SESSION_INVALID", "x")), (LOGIN, http_ok(b"")), (READ, success("")),
    (READ, success([])), (READ, failure())])
def test_answers_that_make_no_sense_are_refused(make_xapi: Callable[..., Wire], method: str, said: bytes) -> None:
    wire = make_xapi({method: [said]})
    with pytest.raises(Refused) as caught:
        read(wire.path)
    assert caught.value.remedy


@pytest.mark.parametrize("package, answers", [("XenAPI", {}), ("tenacity", {READ: [ERROR_PAGE]})])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, make_xapi: Callable[..., Wire], package: str,
                                    answers: Answers) -> None:
    wire = make_xapi(answers)
    monkeypatch.setitem(sys.modules, package, None)  # how Python itself writes down that there is none
    with pytest.raises(AdministratorError, match="package %s.* cannot be imported.*reinstall ovsxen" % package):
        read(wire.path, "OpaqueRef:theirs")


def test_an_import_and_a_good_session_need_no_library_for_retries(make_xapi: Callable[..., Wire]) -> None:
    program = ("import sys; from pathlib import Path; from tests.xapi.test_session import read; assert not [name for "
               "name in ('XenAPI', 'tenacity') if name in sys.modules]\nread(Path(sys.argv[1]))\n"
               "assert 'tenacity' not in sys.modules")
    subprocess.run([sys.executable, "-c", program, str(make_xapi().path)], check=True, timeout=60)


def test_every_error_at_connect_is_one_of_ours(directory: Path, make_xapi: Callable[..., Wire]) -> None:
    (directory / "file").write_text("")
    for path in (directory, directory / "file", directory / ("x" * 200)):
        with pytest.raises(OvsxenError):
            read(path, deadline=Deadline(0.2))


def test_other_methods_that_read_can_be_called(make_xapi: Callable[..., Wire]) -> None:
    wire = make_xapi({"host.get_by_uuid": [success("OpaqueRef:h")]})

    def ask(xapi: Xapi) -> object:
        return xapi.call("host.get_by_uuid", "u1")
    with connect(wire.path, Deadline(20), "OpaqueRef:theirs") as xapi:
        assert ask(xapi) == "OpaqueRef:h"
    assert wire.asked[0].params == ("OpaqueRef:theirs", "u1")
