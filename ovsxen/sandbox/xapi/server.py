"""The fake XAPI on its socket: accepts, reads, has the call done, answers, and fails in every way that it is told to.

Each connection has a thread, as plugins call back while their caller waits. Everything that waits ends with the server.
"""

import functools
import select
import socket
import threading
from typing import Callable, Dict, List, Mapping, Optional

from ovsxen.host import files
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.sandbox.xapi import controls, dispatch, hosts, replies, wire
from ovsxen.sandbox.xapi.database import Database
from ovsxen.sandbox.xapi.exchange import Answer, BadRequest, Exchange, Request, error_page
from ovsxen.sandbox.xapi.faults import Faults
from ovsxen.sandbox.xapi.plugins import PluginRun
from ovsxen.sandbox.xapi.toolstack import Toolstack
from ovsxen.sandbox.xapi.world import World

BACKLOG = 128
END_WITHIN_S = 5.0
LISTENERS_FAULTS = ("absent", "refuse")


class FakeXapi:
    """A XAPI that serves on `paths.xapi_socket` from `with` to its end. All its attributes may be read meanwhile."""

    def __init__(self, paths: Paths, world: World, *, slave: bool = False,
                 hosts_roots: Optional[Mapping[str, Paths]] = None, typed: bool = False) -> None:
        """`hosts_roots`: the paths of further live hosts, by uuid. `typed`: strings and integers carry types."""
        self.calls: List[str] = []
        self._toolstack = Toolstack(paths, world, Faults(self._react), slave=slave, hosts_roots=hosts_roots or {})
        self._path = paths.xapi_socket
        self._typed = typed
        self._lock = threading.RLock()
        self._listener: Optional[socket.socket] = None
        self._threads: Dict[threading.Thread, Optional[socket.socket]] = {}
        self._bell, self._ringer = socket.socketpair()  # readable once the server ends, for whoever waits in poll(2)

    @property
    def database(self) -> Database:
        return self._toolstack.database

    @property
    def faults(self) -> Faults:
        return self._toolstack.faults

    @property
    def plugin_runs(self) -> List[PluginRun]:
        return self._toolstack.plugin_runs

    @property
    def sessions(self) -> List[str]:
        """The refs of all sessions that are open."""
        return list(self.database.rows("session")) + sorted(self._toolstack.local_sessions)

    def __enter__(self) -> "FakeXapi":
        files.make_directory(self._path.parent, 0o700)
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_toolstack(self) -> None:
        """What XAPI does when it starts: this host's switch is made to agree; what comes of it is in plugin_runs."""
        hosts.update_vswitch_controller(self._toolstack, self._toolstack.host)

    def close(self) -> None:
        """Remove the socket, end every connection and every plugin, and wait for the threads."""
        self._toolstack.close()
        self._ringer.close()
        with self._lock:
            self._stop_listening(remove=True)
        deadline = Deadline(END_WITHIN_S)
        while not deadline.has_passed():
            with self._lock:
                self._drop_connections()
                others = [thread for thread in self._threads if thread is not threading.current_thread()]
            if not others:
                break
            others[0].join(deadline.remaining_s())  # one that accepts may have begun another meanwhile
        self._bell.close()

    def _react(self, name: str) -> None:
        """A switch was changed: do what has to happen at once."""
        if name == "sessions_vanish":
            self._toolstack.forget_sessions()
        with self._lock:
            off = [fault for fault in LISTENERS_FAULTS if self.faults.arguments(fault) is not None]
            if off:
                self._stop_listening(remove="absent" in off)
                self._drop_connections()
            elif not self._toolstack.closing.is_set():
                self._listen()
        if name in LISTENERS_FAULTS:
            self._clear_later(name)

    def _clear_later(self, name: str) -> None:
        seconds = float((self.faults.arguments(name) or {}).get("seconds", 0))
        if seconds:
            def wait_and_clear() -> None:
                if not self._toolstack.closing.wait(seconds):
                    self.faults.clear(name)
            self._spawn(wait_and_clear, None)

    def _listen(self) -> None:
        """Begin to listen, unless that is so already. Raises OSError."""
        if self._listener is not None:
            return
        files.remove_if_there(self._path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._path))
        self._listener.listen(BACKLOG)
        listener = self._listener
        self._spawn(lambda: self._accept(listener), None)

    def _stop_listening(self, *, remove: bool) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(2)
            self._listener.close()
            self._listener = None
        if remove:
            files.remove_if_there(self._path)

    def _drop_connections(self) -> None:
        """End every connection but the one whose thread this is: it still has its answer to send."""
        for thread, connection in self._threads.items():
            if connection is not None and thread is not threading.current_thread():
                _shut(connection)

    def _spawn(self, run: Callable[[], None], connection: Optional[socket.socket]) -> None:
        def whole() -> None:
            try:
                run()
            finally:
                with self._lock:
                    self._threads.pop(threading.current_thread(), None)
        thread = threading.Thread(target=whole, name="fake XAPI", daemon=True)
        with self._lock:
            self._threads[thread] = connection
            thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            self._spawn(functools.partial(self._serve, connection), connection)

    def _serve(self, connection: socket.socket) -> None:
        """One connection, until either side has enough of it."""
        exchange = Exchange(connection)
        with connection:
            try:
                while not self._toolstack.closing.is_set():
                    request = exchange.read_request()
                    if request is None or not self._answer(connection, request):
                        return
            except BadRequest as error:
                _send_last(connection, error_page(str(error)))
            except OSError:
                pass  # the client has gone

    def _answer(self, connection: socket.socket, request: Request) -> bool:
        """Answer one request; tells whether the connection goes on. Raises BadRequest, OSError."""
        if request.verb != "POST":
            raise BadRequest("only POST is served")
        try:
            call = wire.parse_call(request.body)
        except wire.NotXmlRpc as error:
            raise BadRequest("the request is no XML-RPC: %s" % error) from error
        if call.method.startswith(controls.PREFIX):
            return self._send(connection, _plain(self._result(call, request, self._typed)))
        self.calls.append(call.method)
        answer = self._instead(connection, call.method) or self._result(call, request, self._types(call.method))
        if answer.status.startswith("500"):
            return self._send(connection, _plain(answer))
        return self._send(connection, replies.bend(self.faults, call.method, answer))

    def _types(self, method: str) -> bool:
        return self.faults.take("typed", method) is not None or self._typed

    def _instead(self, connection: socket.socket, method: str) -> Optional[Answer]:
        """What happens instead of the call, if anything. Raises OSError once a silence is over."""
        slow = self.faults.take("slow", method)
        if slow is not None and self._wait(connection, slow["seconds"]):
            raise ConnectionAbortedError
        if self.faults.take("silence", method) is not None:
            self._wait(connection, None)
            raise ConnectionAbortedError
        if self.faults.take("html_500", method) is not None:
            return error_page("by a switch of the sandbox")
        return None

    def _result(self, call: wire.Call, request: Request, typed: bool) -> Answer:
        """Do the call."""
        try:
            if call.method == dispatch.LIST_METHODS:
                body = wire.response(wire.serialise(dispatch.list_methods(), typed))
            else:
                body = wire.success(dispatch.answer(self._toolstack, call.method, call.params), typed)
        except wire.ApiFailure as failure:
            body = wire.failure(failure, typed)
        except dispatch.MasterAway:
            return error_page("the master of the pool cannot be reached")
        except Exception as error:  # XAPI too answers with this what it did not expect
            body = wire.failure(wire.ApiFailure("INTERNAL_ERROR", repr(error)), typed)
        return Answer(body, keeps_alive=request.keeps_alive, version=request.version)

    def _send(self, connection: socket.socket, reply: replies.Reply) -> bool:
        """Send a reply as it is to be sent; tells whether the connection goes on. Raises OSError."""
        if reply.every_s:
            for index in range(len(reply.data)):
                connection.sendall(reply.data[index:index + 1])
                if self._wait(connection, reply.every_s):
                    return False
        else:
            connection.sendall(reply.data)
        if reply.then_silence:
            self._wait(connection, None)
        return not reply.closes

    def _wait(self, connection: socket.socket, seconds: Optional[float]) -> bool:
        """Wait, without an end where `seconds` is None; tells whether the client or the server went meanwhile."""
        poller = select.poll()
        poller.register(connection, 0)  # only tells of a hang-up
        poller.register(self._bell, select.POLLIN)
        return bool(poller.poll(None if seconds is None else seconds * 1000))


def _plain(answer: Answer) -> replies.Reply:
    return replies.Reply(answer.to_bytes(), closes=not answer.keeps_alive)


def _send_last(connection: socket.socket, answer: Answer) -> None:
    try:
        connection.sendall(answer.to_bytes())
    except OSError:
        pass


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it was closed already
