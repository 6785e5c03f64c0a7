"""The one door to XAPI: a session for one job, in a `with` block, through the official client.

A session that was passed in belongs to who passed it, and is left alone; one that was made here is always ended, else
they pile up in XAPI (CA-148491). Everything that is asked is a read, so what may pass is asked again, within the job's
deadline and nowhere else. Libraries are imported when they are needed: the one for retries costs more than a whole job.
"""

import logging
import xmlrpc.client
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, NoReturn, Optional, Tuple, TypeVar

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused, XapiFailure
from ovsxen.host.clock import Deadline, stopwatch
from ovsxen.xapi.answers import REPORT
from ovsxen.xapi.transport import CALL_WITHIN_S, NotReached, OutOfService, UnixTransport

if TYPE_CHECKING:
    from ovsxen.xapi.selection import Selection

logger = logging.getLogger(__name__)

ORIGINATOR = "ovsxen"
API_VERSION = "1.0"
LOCAL_URL = "http://localhost/"
"""Only its path is used; which socket is asked is the transport's matter."""

LOGOUT_WITHIN_S = 1.0
SHORTEST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
LAST_WAIT_S = 0.02
TOO_SHORT_S = 1.0  # for an answer that a question can count on
SESSION_INVALID = "SESSION_INVALID"
MAY_PASS = ("HOST_STILL_BOOTING",)
NOT_LOGGED_IN = 401
"""What the official client answers to SESSION_INVALID where it has no login to repeat."""
STILL_INVALID = "Tried 3 times to get a valid session, but failed"

EMERGENCY = "this host has lost its pool: look at `xe host-is-in-emergency-mode` and mend that first"
REMEDIES = {
    "SESSION_INVALID": "the session has ended; ask again with another",
    "SESSION_NOT_REGISTERED": "the session has ended; ask again with another",
    "SESSION_AUTHENTICATION_FAILED": "XAPI's own socket asks for no password: is this one it?",
    "HOST_IS_SLAVE": "XAPI's own socket passes questions on to the master: is this one it?",
    "HOST_STILL_BOOTING": "XAPI is starting; try again",
    "HOST_OFFLINE": "the host is off or cannot be reached; it catches up when its toolstack starts",
    "HOST_BROKEN": EMERGENCY,
    "HOST_HAS_NO_MANAGEMENT_IP": EMERGENCY,
    "HOST_ITS_OWN_SLAVE": EMERGENCY,
    "HOST_MASTER_CANNOT_TALK_BACK": EMERGENCY,
    "HOST_UNKNOWN_TO_MASTER": EMERGENCY,
    "HOST_XAPI_VERSION_HIGHER_THAN_COORDINATOR": "update the master of the pool before its other hosts",
    "RBAC_PERMISSION_DENIED": "ask with a session of a pool administrator, or run ovsxen as root",
    "MESSAGE_METHOD_UNKNOWN": "this XAPI is older than what was asked for",
    "MESSAGE_PARAMETER_COUNT_MISMATCH": "report this with the version of XAPI",
    "FIELD_TYPE_ERROR": "report this with the version of XAPI",
    "HANDLE_INVALID": "it was removed meanwhile; try again",
    "UUID_INVALID": "compare /etc/xensource-inventory with `xe host-list`",
    "TOO_MANY_PENDING_TASKS": "XAPI is overloaded; try again",
    "OPERATION_NOT_ALLOWED": "XAPI says why",
    "INTERNAL_ERROR": REPORT,
}

T = TypeVar("T")


class Xapi:
    """A session with XAPI. Both ways to ask raise XapiFailure, NoAnswer, Refused, NotPermitted, AdministratorError."""

    def __init__(self, session: Any, failure: Any, transport: UnixTransport, *, is_patient: bool) -> None:
        """`session` is a XenAPI.Session, `failure` its XenAPI.Failure. With patience, what may pass is asked again."""
        self._session = session
        self._failure = failure
        self._transport = transport
        self._is_patient = is_patient

    def read_all(self, class_name: str, selection: "Optional[Selection]" = None) -> Dict[str, Dict[str, Any]]:
        """Every record of a class, by its ref; with a selection, its fields alone."""
        records = self.call_selected(selection, "%s.get_all_records" % class_name)
        if not isinstance(records, dict):
            raise Refused("XAPI gave %s instead of the records of %s" % (ascii(records)[:80], class_name), REPORT)
        return records

    def call(self, method: str, *params: Any) -> Any:
        """What XAPI gives for a method that only reads: it may be asked more than once."""
        return self._insist(lambda: self._ask(method, params))

    def call_selected(self, selection: "Optional[Selection]", method: str, *params: Any) -> Any:
        """The same of a large answer, of which only some fields may be wanted."""
        self._transport.selection = selection
        try:
            return self.call(method, *params)
        finally:
            self._transport.selection = None

    @contextmanager
    def interrupted_by(self, fd: int, call_within_s: float) -> Iterator[None]:
        """Until the end of the block each call may take so long, and is given up when the descriptor can be read."""
        before = self._transport.interrupts, self._transport.call_within_s
        self._transport.interrupts, self._transport.call_within_s = before[0] + (fd,), call_within_s
        try:
            yield
        finally:
            self._transport.interrupts, self._transport.call_within_s = before

    def _insist(self, ask: Callable[[], T]) -> T:
        return ask_while_it_may_pass(ask, self._transport.deadline) if self._is_patient else ask()

    def log_in(self) -> None:
        """Get a session of our own: any name does on XAPI's own socket."""
        self._insist(lambda: self._ask("login_with_password", ("root", "", API_VERSION, ORIGINATOR)))
        if not isinstance(self._session.handle, str):
            raise Refused("XAPI gave no ref of a session at login", REPORT)

    def log_out(self) -> None:
        """End the session; where XAPI has ended it already, or does not answer, that is no reason to fail."""
        if self._session.handle is None:
            return
        try:
            self._ask("session.logout", ())
        except OvsxenError as error:
            logger.info("the session with XAPI was not ended: %s", error.problem)

    def _ask(self, method: str, params: Tuple[Any, ...]) -> Any:
        """Ask through the official client, which repeats a login where XAPI has forgotten it, thrice at most."""
        try:
            return self._session.xenapi_request(method, params)
        except self._failure as error:
            self._fail(method, tuple(error.details))
        except xmlrpc.client.Fault as error:
            if error.faultCode == NOT_LOGGED_IN or error.faultString == STILL_INVALID:
                self._fail(method, (SESSION_INVALID, str(self._session.handle)))
            raise Refused("XAPI's answer to %s makes no sense (%s)" % (method, error.faultString), REPORT) from error

    def _fail(self, method: str, words: Tuple[str, ...]) -> NoReturn:
        code, params = words[0], words[1:]
        shown = ", ".join(ascii(param) for param in params if param != self._session.handle)
        raise XapiFailure(code, params, "XAPI answered %s%s to %s" % (
            code, " (%s)" % shown[:400] if shown else "", method), REMEDIES.get(code, REPORT))


@contextmanager
def connect(socket_path: Path, deadline: Deadline, session_ref: str = "", call_within_s: float = CALL_WITHIN_S, *,
            is_patient: bool = True, interrupt_fd: int = -1) -> Iterator[Xapi]:
    """A session with the XAPI at a Unix socket until the end of the block; `deadline` bounds the job.

    With `session_ref` that session is used and not ended. `is_patient`: what may pass is asked again until the
    deadline. When `interrupt_fd` can be read, no answer is waited for any more. Raises, here and at every question,
    XapiFailure, NoAnswer, Refused, NotPermitted, AdministratorError.
    """
    client = import_client()
    transport = UnixTransport(socket_path, deadline, call_within_s)
    transport.interrupts = (interrupt_fd,) if interrupt_fd >= 0 else ()
    session = client.Session(LOCAL_URL, transport=transport)
    xapi = Xapi(session, client.Failure, transport, is_patient=is_patient)
    if session_ref:
        session._session = session_ref  # there is no other way in; XAPI's own XenAPIPlugin goes it too
        yield xapi
        return
    try:
        xapi.log_in()
        yield xapi
    finally:
        transport.deadline = Deadline(LOGOUT_WITHIN_S, deadline.clock)  # the job's may have passed
        transport.interrupts = ()
        xapi.log_out()


def import_client() -> Any:
    """The official client. Raises AdministratorError where it is missing."""
    try:
        import XenAPI
    except ImportError as error:
        raise AdministratorError("the Python package XenAPI cannot be imported (%s)" % error,
                                 "reinstall ovsxen with its dependencies") from error
    return XenAPI


def may_pass(error: BaseException) -> bool:
    """XAPI is starting, or its master is away: the same question may be answered a little later."""
    return isinstance(error, (NotReached, OutOfService)) or isinstance(error, XapiFailure) and error.code in MAY_PASS


def ask_while_it_may_pass(ask: Callable[[], T], deadline: Deadline) -> T:
    """Ask, and ask again while the error may pass and there is time. The last error says for how long."""
    elapsed_ms = stopwatch(deadline.clock)
    try:
        return ask()
    except OvsxenError as error:
        if not may_pass(error):
            raise
        first = error
    try:
        return _ask_again(ask, first, deadline)
    except OvsxenError as error:
        if may_pass(error):
            error.problem += ", again and again for %.1f s" % (elapsed_ms() / 1000.0)
        raise


def _ask_again(ask: Callable[[], T], first: OvsxenError, deadline: Deadline) -> T:
    """The attempts after the first, whose error stands for it."""
    try:
        import tenacity
    except ImportError as missing:
        raise AdministratorError("%s, and the Python package tenacity, to ask again, cannot be imported (%s)" % (
            first.problem, missing), "reinstall ovsxen with its dependencies") from first
    past, latest = [first], [first]

    def attempt() -> T:
        if past:
            raise past.pop()
        left_s = deadline.remaining_s()
        try:
            return ask()
        except OvsxenError as error:
            if may_pass(error):
                latest[0] = error
            elif isinstance(error, NoAnswer) and left_s < TOO_SHORT_S:
                raise latest[0] from error  # what kept XAPI busy all the time, not that the last moment was short
            raise

    longer = tenacity.wait_exponential(multiplier=SHORTEST_WAIT_S, max=LONGEST_WAIT_S)
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        wait=lambda state: min(longer(state), max(deadline.remaining_s() - SHORTEST_WAIT_S, LAST_WAIT_S)),
        stop=lambda _state: deadline.remaining_s() <= SHORTEST_WAIT_S,
        sleep=deadline.clock.sleep,
        reraise=True,
    )(attempt)
