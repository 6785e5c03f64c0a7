"""Executes a plugin as XAPI does, and turns its end into an answer or a failure.

XAPI hands the call over as one argument and takes the answer from stdout, which is a file, as stderr is. stdin is
/dev/null opened for writing: a plugin that reads it gets EBADF. The environment is a PATH and no more. There is no
deadline, only the end of the server. Sources: xapi_plugins.ml and forkhelpers.ml of XAPI.
"""

import os
import resource
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, Dict, List, NamedTuple, Set, Tuple, Union

from ovsxen.sandbox.xapi import wire
from ovsxen.sandbox.xapi.wire import ApiFailure

PATH = "/sbin:/usr/sbin:/bin:/usr/bin"
OPEN_FILES = 1024
NOT_EXECUTABLE = 126
EXITED, KILLED, DUMPED, STOPPED = 1, 2, 3, 5  # CLD_*, waitid(2); the os module has them all from Python 3.9 on


class PluginRun(NamedTuple):
    """A run of a plugin: what it was asked, and its answer or the failure that came of it."""

    plugin: str
    function: str
    outcome: Union[str, ApiFailure]


class Ended(NamedTuple):
    """How a child ended: the code and status of waitid(2), and what it wrote."""

    how: int
    status: int
    stdout: str
    stderr: str


class Plugins:
    """Runs plugins, and can end all that run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Set["subprocess.Popen[bytes]"] = set()
        self._closed = False

    def call(self, directory: Path, plugin: str, function: str, session: str, arguments: Dict[str, str]) -> str:
        """Run a plugin to its end and give its answer. Raises ApiFailure."""
        try:
            names = os.listdir(str(directory))
        except OSError:
            names = []
        if plugin not in names:
            raise ApiFailure("XENAPI_MISSING_PLUGIN", plugin)
        argv = [str(directory / plugin), wire.plugin_call(function, session, arguments)]
        return answer_of(self._run(argv))

    def close(self) -> None:
        """Kill what runs, with its process group; nothing is started any more."""
        with self._lock:
            self._closed = True
            for child in self._running:
                _kill_group(child.pid)

    def _run(self, argv: List[str]) -> Ended:
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            try:
                child = self._start(argv, stdout, stderr)
            except OSError:  # not executable, no interpreter, an argument too long
                return Ended(EXITED, NOT_EXECUTABLE, "", "")
            how, status = self._wait(child)
            return Ended(how, status, _written(stdout), _written(stderr))

    def _start(self, argv: List[str], stdout: IO[bytes], stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
        stdin = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            with self._lock:
                if self._closed:
                    raise ApiFailure("INTERNAL_ERROR", "XAPI is going down")
                child = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, env={"PATH": PATH}, cwd="/",
                                         start_new_session=True, preexec_fn=_as_xapis_child)
                self._running.add(child)
                return child
        finally:
            os.close(stdin)

    def _wait(self, child: "subprocess.Popen[bytes]") -> Tuple[int, int]:
        """Wait for an end or a stop, without taking the child away: `close` may only signal what is still a child."""
        told = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        with self._lock:
            self._running.discard(child)
            if told is None or told.si_code == STOPPED:
                _kill_group(child.pid)
            child.wait()
        return (EXITED, 0) if told is None else (told.si_code, told.si_status)


def answer_of(ended: Ended) -> str:
    """What XAPI makes of a child's end. Pure. Raises ApiFailure."""
    said = (ended.stdout, ended.stderr)
    if ended.how in (KILLED, DUMPED):
        raise ApiFailure("XENAPI_PLUGIN_FAILURE", "signal: " + _signal_name(ended.status), *said)
    if ended.how == STOPPED:
        raise ApiFailure("XENAPI_PLUGIN_FAILURE", "task stopped", *said)
    if ended.status != 0:
        raise ApiFailure("XENAPI_PLUGIN_FAILURE", "non-zero exit", *said)
    return _answer_in(ended.stdout)


def _answer_in(stdout: str) -> str:
    try:
        answer = wire.parse_response(stdout.encode("utf-8", "replace"))
    except wire.NotXmlRpc as error:
        raise ApiFailure("XENAPI_PLUGIN_FAILURE", "failed to parse plugin output", stdout, str(error)) from error
    except ApiFailure as fault:
        raise ApiFailure("XENAPI_PLUGIN_FAILURE", "fault", *fault.params) from fault
    status = answer.get("Status") if isinstance(answer, dict) else None
    if status == "Failure" and isinstance(answer.get("ErrorDescription"), list) and answer["ErrorDescription"]:
        raise ApiFailure(*[str(word) for word in answer["ErrorDescription"]])
    value = answer.get("Value") if status == "Success" else None
    if not isinstance(value, str):
        raise ApiFailure("INTERNAL_ERROR", "the plugin's answer is of another type than string")
    return value if value.strip() else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)  # one of the real-time signals


def _written(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "replace")


def _as_xapis_child() -> None:
    """Runs in the child, before the plugin: only calls that take no lock of another thread."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
