"""What can go wrong with a XAPI, each by a switch: a name, what it does, and how long it lasts.

A switch only says that something is to happen. Where it happens: server.py (the listener), replies.py (the bytes),
dispatch.py (the failures), views.py (the rows).
"""

import threading
from enum import Enum
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional


class Place(Enum):
    """Where a fault takes place."""

    LISTENER = "the socket"
    BEFORE = "instead of the call"
    REPLY = "the answer's bytes"
    FAILURE = "the answer is a failure"
    ROWS = "what the pool looks like"
    ONCE = "at once, and over"


class Fault(NamedTuple):
    """A thing that can go wrong, and its arguments with their defaults."""

    place: Place
    does: str
    arguments: Mapping[str, Any] = {}


FAULTS: Dict[str, Fault] = {
    "absent": Fault(Place.LISTENER, "there is no socket; seconds=0: until cleared", {"seconds": 0.0}),
    "refuse": Fault(Place.LISTENER, "the socket is there and nobody listens; seconds=0: until cleared",
                    {"seconds": 0.0}),
    "silence": Fault(Place.BEFORE, "the call is taken, nothing is done, and nothing is said"),
    "html_500": Fault(Place.BEFORE, "an HTML page with status 500, and nothing is done"),
    "master_away": Fault(Place.BEFORE, "what has to be forwarded to the master gets an HTML page with status 500"),
    "slow": Fault(Place.BEFORE, "the call waits that many seconds, as one that is forwarded may", {"seconds": 5.0}),
    "headers_then_silence": Fault(Place.REPLY, "the answer's headers come, its body does not"),
    "drip": Fault(Place.REPLY, "the answer comes byte by byte", {"every_s": 1.0}),
    "close_after_request": Fault(Place.REPLY, "the call is done, and the connection closed without an answer"),
    "close_kept_alive": Fault(Place.REPLY, "the connection is closed behind an answer that promised to keep it"),
    "empty_body": Fault(Place.REPLY, "status 200 and no body"),
    "truncated": Fault(Place.REPLY, "half of the XML, with its length in content-length"),
    "length_too_long": Fault(Place.REPLY, "content-length says 10 bytes too much, then the connection is closed"),
    "length_too_short": Fault(Place.REPLY, "content-length says 10 bytes too few"),
    "wrong_content_type": Fault(Place.REPLY, "a good answer with content-type text/html"),
    "entity_bomb": Fault(Place.REPLY, "XML that becomes gigabytes where entities are expanded"),
    "unknown_status": Fault(Place.REPLY, "a Status that is neither Success nor Failure"),
    "missing_status": Fault(Place.REPLY, "a struct without a Status"),
    "missing_value": Fault(Place.REPLY, "Success without a Value"),
    "empty_error_description": Fault(Place.REPLY, "a Failure with an empty ErrorDescription"),
    "typed": Fault(Place.REPLY, "strings and integers carry types, as in older XAPI: a port is a number"),
    "failure": Fault(Place.FAILURE, "the answer is a Failure with this code and these params, parted by commas",
                     {"code": "TOO_MANY_PENDING_TASKS", "params": ""}),
    "session_invalid": Fault(Place.FAILURE, "the session of the call is gone: SESSION_INVALID"),
    "host_is_slave": Fault(Place.FAILURE, "HOST_IS_SLAVE with the new master's address", {"address": "192.0.2.1"}),
    "emergency": Fault(Place.FAILURE, "a slave without its master: all but local calls fail with this code",
                       {"code": "HOST_STILL_BOOTING", "params": ""}),
    "vanishing_record": Fault(Place.FAILURE, "a record that was listed is gone when it is read: HANDLE_INVALID",
                              {"of": ""}),
    "no_sdn_controller_class": Fault(Place.FAILURE, "a XAPI before 7.2: MESSAGE_METHOD_UNKNOWN for SDN_controller"),
    "no_pool": Fault(Place.ROWS, "there is no pool"),
    "two_pools": Fault(Place.ROWS, "there are two pools"),
    "huge": Fault(Place.ROWS, "there are that many more networks (or records of another class)",
                  {"records": 10000, "of": "network"}),
    "odd_text": Fault(Place.ROWS, "names and other_config hold non-ASCII, NEL, markup and control characters"),
    "network_without_bridge": Fault(Place.ROWS, "a network's bridge is empty; missing=true: is not in the record",
                                    {"bridge": "xenbr0", "missing": False}),
    "two_networks_one_bridge": Fault(Place.ROWS, "a second network claims the bridge", {"bridge": "xenbr0"}),
    "sessions_vanish": Fault(Place.ONCE, "the master restarts: every session, and every event token, is void"),
}


class _Switch:
    """A fault that is on, until its times are used up."""

    def __init__(self, arguments: Dict[str, Any], method: str, after: int, times: Optional[int]) -> None:
        self.arguments = arguments
        self.method = method
        self.after = after
        self.times = times


class Faults:
    """The switches. `react` is told the name of each that was set, and "" after a clear."""

    def __init__(self, react: Callable[[str], None]) -> None:
        self._react = react
        self._lock = threading.Lock()
        self._on: Dict[str, _Switch] = {}

    def set(self, name: str, *, times: Optional[int] = None, method: str = "", after: int = 0,
            **arguments: Any) -> None:
        """Turn a fault on: for `method` only, once it was spared `after` times, and `times` times (None: for good).

        A method that ends in a dot stands for the whole class. Raises LookupError for what is no fault or argument.
        """
        if name not in FAULTS:
            raise LookupError("there is no fault %s" % name)
        known = FAULTS[name].arguments
        for argument in arguments:
            if argument not in known:
                raise LookupError("%s takes no %s" % (name, argument))
        given = {key: _like(known[key], value) for key, value in arguments.items()}
        switch = _Switch(dict(known, **given), method, int(after), None if times is None else int(times))
        if FAULTS[name].place is not Place.ONCE:
            with self._lock:
                self._on[name] = switch
        self._react(name)

    def clear(self, name: str = "") -> None:
        """Turn a fault off, or all."""
        with self._lock:
            for each in [name] if name else list(self._on):
                self._on.pop(each, None)
        self._react("")

    def active(self) -> List[str]:
        """The names of what is on."""
        with self._lock:
            return sorted(self._on)

    def arguments(self, name: str) -> Optional[Dict[str, Any]]:
        """The arguments of a fault that is on; None where it is off. Uses nothing up."""
        with self._lock:
            switch = self._on.get(name)
            return None if switch is None else switch.arguments

    def take(self, name: str, method: str) -> Optional[Dict[str, Any]]:
        """The arguments of a fault that is to happen in this call, which uses it up once; None where it is not."""
        with self._lock:
            switch = self._on.get(name)
            if switch is None or not _meant(switch.method, method):
                return None
            if switch.after > 0:
                switch.after -= 1
                return None
            if switch.times is not None:
                switch.times -= 1
                if switch.times <= 0:
                    del self._on[name]
            return switch.arguments


def _meant(wanted: str, method: str) -> bool:
    return not wanted or method == wanted or (wanted.endswith(".") and method.startswith(wanted))


def _like(default: Any, value: Any) -> Any:
    """An argument as its default's type: the command line only has text."""
    if isinstance(default, bool) and isinstance(value, str):
        return value == "true"
    return type(default)(value)
