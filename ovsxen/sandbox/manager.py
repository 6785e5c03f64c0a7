"""A controller's OVSDB end, as far as a switch can tell: TLS with a CA of its own, a few questions, and echo.

For protocol ssl the switch connects to a `ManagerDouble`; for pssl the controller connects to the switch, by `dial`.
`python -m ovsxen.sandbox.manager DIRECTORY [HOST_PEM]` runs one to look at: it makes what it needs in DIRECTORY, writes
its port to DIRECTORY/port and one line per connection to DIRECTORY/log, and ends with SIGTERM.
"""

import codecs
import json
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ovsxen.errors import EXIT_OK, EXIT_USAGE, NoAnswer, OvsxenError, Refused
from ovsxen.host import clock, files, pki
from ovsxen.host.clock import Deadline
from ovsxen.sandbox import certificates
from ovsxen.sandbox.certificates import ControllerPki

LOOPBACK = "127.0.0.1"
ANSWER_WITHIN_S = 10.0
RECEIVE_BYTES = 1 << 16
DATABASE = "Open_vSwitch"
SELECT_SYSTEM_ID = [DATABASE, {"op": "select", "table": DATABASE, "where": [], "columns": ["external_ids"]}]


class PeerInfo(NamedTuple):
    """A switch that has answered. `fingerprint` (SHA-256) is of its certificate, "" where none was asked for."""

    system_id: str
    fingerprint: str


class ManagerDouble:
    """Listens on the loopback, and asks every switch that connects who it is; `with` starts and ends it.

    `switches` are certificates that switches are known by (each one's own, or a CA's); without any, a switch is not
    asked for its certificate. Raises OSError when the port is taken.
    """

    def __init__(self, controller: ControllerPki, switches: Tuple[Path, ...] = (), port: int = 0,
                 log: Optional[Path] = None) -> None:
        self._context = _server_context(controller, switches)
        self._log = log
        self._changed = threading.Condition()
        self._peers: List[PeerInfo] = []
        self._failures: List[str] = []
        self._open: List[ssl.SSLSocket] = []
        self._threads: List[threading.Thread] = []
        self._ending = False
        self._listener = socket.socket()
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((LOOPBACK, port))
            self._listener.listen(8)
        except OSError:
            self._listener.close()
            raise
        self.port: int = self._listener.getsockname()[1]

    @property
    def target(self) -> str:
        """The target of a Manager that leads here."""
        return "ssl:%s:%d" % (LOOPBACK, self.port)

    @property
    def peers(self) -> Tuple[PeerInfo, ...]:
        """The switches that have answered, one for each connection, the first one first."""
        with self._changed:
            return tuple(self._peers)

    @property
    def failures(self) -> Tuple[str, ...]:
        """Why other connections came to nothing, the first one first."""
        with self._changed:
            return tuple(self._failures)

    def __enter__(self) -> "ManagerDouble":
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ending = True
            _hang_up(self._listener)
            for connection in self._open:
                _hang_up(connection)
            threads = tuple(self._threads)
        for thread in threads:
            thread.join(ANSWER_WITHIN_S)
        self._listener.close()

    def wait_connected(self, within_s: float, after: int = 0) -> PeerInfo:
        """The first switch that answers after as many others have. Raises NoAnswer."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._peers) > after, within_s):
                raise NoAnswer("no switch has connected to %s within %g s" % (self.target, within_s),
                               "; ".join(self._failures[-3:]))
            return self._peers[after]

    def wait_failed(self, within_s: float) -> str:
        """Why the first connection that comes to nothing does so. Raises NoAnswer."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._failures), within_s):
                raise NoAnswer("every connection to %s within %g s was good" % (self.target, within_s))
            return self._failures[0]

    def _start(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:  # the end
                return
            connection.settimeout(ANSWER_WITHIN_S)
            try:
                tls = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            except OSError as error:  # gone before it was looked at
                connection.close()
                self._tell(self._failures, str(error), "came to nothing: %s")
                continue
            with self._changed:
                if self._ending:
                    tls.close()
                    return
                self._open.append(tls)
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                self._start(self._serve, tls)

    def _serve(self, tls: ssl.SSLSocket) -> None:
        stream = _Stream(tls)
        try:
            tls.do_handshake()
            self._tell(self._peers, _interview(stream, Deadline(ANSWER_WITHIN_S)), "connected: %s")
            tls.settimeout(None)
            while True:
                stream.receive()
        except (OSError, OvsxenError, ValueError) as error:
            if stream.answered:
                self._note("disconnected: %s" % error)
            else:
                self._tell(self._failures, str(error), "came to nothing: %s")
        finally:
            with self._changed:
                self._open.remove(tls)
            tls.close()

    def _tell(self, told: List[Any], what: Any, text: str) -> None:
        with self._changed:
            told.append(what)
            self._changed.notify_all()
        shown = " ".join(filter(None, what)) if isinstance(what, PeerInfo) else what
        self._note(text % shown)

    def _note(self, line: str) -> None:
        if self._log is not None:
            with self._log.open("a") as stream:
                stream.write("%s %s\n" % (clock.wall_clock_text(), line))


def dial(host: str, port: int, controller: ControllerPki, within_s: float) -> PeerInfo:
    """Connect to a switch that listens (pssl), ask who it is, and hang up.

    Its certificate is shown but not verified, as Xen Orchestra's controller does it. Raises NoAnswer when it does not
    answer in time, Refused when it does not take our certificate or does not speak OVSDB.
    """
    deadline = Deadline(within_s)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(str(controller.certificate_chain), str(controller.key))
    peer = "the switch at %s port %d" % (host, port)
    try:
        with socket.create_connection((host, port), within_s) as connection:
            with context.wrap_socket(connection) as tls:
                return _interview(_Stream(tls), deadline)
    except (socket.timeout, ConnectionRefusedError) as error:
        raise NoAnswer("%s did not answer within %g s (%s)" % (peer, within_s, error)) from error
    except (OSError, ValueError) as error:
        raise Refused("%s does not talk to this controller (%s)" % (peer, error)) from error


class _Stream:
    """JSON-RPC over TLS: messages in, messages out, echo answered. `answered` is set once the interview is over."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self.answered = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._received = ""

    def send(self, message: Dict[str, Any]) -> None:
        self.tls.sendall(json.dumps(message).encode())

    def receive(self) -> Dict[str, Any]:
        """The next message that is no echo request. Raises OSError, ValueError for what is no message."""
        while True:
            message = self._take()
            if message is None:
                self._read_more()
            elif message.get("method") != "echo":
                return message
            else:
                self.send({"id": message.get("id"), "result": message.get("params"), "error": None})

    def call(self, number: int, method: str, params: List[Any], deadline: Deadline) -> Any:
        """Ask, and give the answer. Raises NoAnswer, Refused, OSError, ValueError."""
        self.send({"id": number, "method": method, "params": params})
        while True:
            if deadline.has_passed():
                raise NoAnswer("the switch did not answer %s in time" % method)
            self.tls.settimeout(deadline.remaining_s())
            message = self.receive()
            if message.get("id") == number and "method" not in message:
                if message.get("error") is not None:
                    raise Refused("the switch refused %s (%s)" % (method, message["error"]))
                return message.get("result")

    def _take(self) -> Optional[Dict[str, Any]]:
        """The first whole message of what was received, if there is one."""
        self._received = self._received.lstrip()
        try:
            message, end = json.JSONDecoder().raw_decode(self._received)
        except ValueError:
            return None
        self._received = self._received[end:]
        if not isinstance(message, dict):
            raise ValueError("this is no JSON-RPC")
        return message

    def _read_more(self) -> None:
        data = self.tls.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("the switch hung up")
        self._received += self._decoder.decode(data)


def _interview(stream: _Stream, deadline: Deadline) -> PeerInfo:
    """What a controller asks first: which databases there are, and whose they are."""
    names = stream.call(1, "list_dbs", [], deadline)
    if not isinstance(names, list) or DATABASE not in names:
        raise Refused("the switch has no database %s" % DATABASE)
    result = stream.call(2, "transact", SELECT_SYSTEM_ID, deadline)
    try:
        ids = dict(result[0]["rows"][0]["external_ids"][1])
    except (KeyError, IndexError, TypeError) as error:
        raise Refused("the switch does not say who it is (%s)" % result) from error
    stream.answered = True
    der = stream.tls.getpeercert(binary_form=True)
    return PeerInfo(str(ids.get("system-id", "")), pki.fingerprint_of(der) if der else "")


def _server_context(controller: ControllerPki, switches: Tuple[Path, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(controller.certificate_chain), str(controller.key))
    for path in switches:
        context.load_verify_locations(str(path))
    context.verify_mode = ssl.CERT_REQUIRED if switches else ssl.CERT_NONE
    return context


def _hang_up(connection: socket.socket) -> None:
    """Wake whoever reads from it or accepts on it. It is left to them to close it."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass  # it is over already


def run(directory: Path, switches: Tuple[Path, ...]) -> None:
    """Serve until SIGTERM or SIGINT, and leave the port's file only while it is served. Raises OvsxenError, OSError."""
    files.make_directory(directory, 0o755)
    controller = certificates.controller_pki(directory)
    if not all(path.exists() for path in controller):
        certificates.make_controller(directory)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before any thread is there, for all of them
    port = directory / "port"
    try:
        with ManagerDouble(controller, switches, log=directory / "log") as manager:
            files.write_file(port, [b"%d\n" % manager.port], durable=False)
            signal.sigwait(ends)
    finally:
        files.remove_if_there(port)


def main(arguments: List[str]) -> int:
    if not 1 <= len(arguments) <= 2 or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m ovsxen.sandbox.manager DIRECTORY [HOST_PEM]\n")
        return EXIT_USAGE
    try:
        run(Path(arguments[0]), tuple(Path(argument) for argument in arguments[1:]))
    except OvsxenError as error:
        sys.stderr.write("%s\n" % error)
        return error.exit_code
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
