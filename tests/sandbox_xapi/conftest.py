"""A fake XAPI for each test that asks for one, the official client, and a socket for what that client cannot say."""

import http.client
import os
import shutil
import socket
import threading
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest
from XenAPI import XenAPI

from ovsxen.host.paths import Paths, paths_under
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import make_world

LIMIT_S = 10.0
MakeXapi = Callable[..., FakeXapi]


class Host:
    """A root with a fake XAPI: plugins can be put into it, and its socket be spoken to."""

    def __init__(self, root: Path) -> None:
        self.paths = paths_under(root, {})
        self.socket = self.paths.xapi_socket

    def plugin(self, name: str, script: str, mode: int = 0o755) -> Path:
        """Install a plugin; "@" in the script is this host's root."""
        path = self.paths.plugins / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script.replace("@", str(self.paths.root)))
        path.chmod(mode)
        return path

    def client(self) -> Any:
        """The official client with a session. It turns every "_" of the path into "/": there must be none in it."""
        session = XenAPI.Session("http://%s/" % str(self.socket).replace("/", "_"), transport=XenAPI.UDSTransport())
        session.xenapi.login_with_password("root", "", "1.0", "test")
        return session

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(LIMIT_S)
        connection.connect(str(self.socket))
        return connection

    def say(self, data: bytes) -> bytes:
        """Everything that is answered until the other side closes."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)

    def post(self, body: str) -> bytes:
        """The body of the answer to an XML-RPC document."""
        return read_answer_on(self.connect(), body)[1]


def read_all(connection: socket.socket) -> bytes:
    said = b""
    while True:
        data = connection.recv(65536)
        if not data:
            return said
        said += data


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes up to `end`, of a connection that stays open."""
    said = b""
    while not said.endswith(end):
        data = connection.recv(65536)
        assert data, "closed after %r" % said
        said += data
    return said


def read_answer_on(connection: socket.socket, body: str) -> Tuple[int, bytes]:
    """Status and body, by a client of HTTP that is not ours."""
    client = http.client.HTTPConnection("localhost")
    client.sock = connection
    try:
        client.request("POST", "/", body.encode(), {"Content-Type": "text/xml"})
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


@pytest.fixture
def root() -> Iterator[Path]:
    """A short path without an underscore."""
    path = Path("/tmp/fx%s" % uuid.uuid4().hex[:10])
    path.mkdir()
    yield path
    shutil.rmtree(str(path))


@pytest.fixture
def host(root: Path) -> Host:
    return Host(root)


@pytest.fixture
def make_xapi(host: Host) -> Iterator[MakeXapi]:
    """`make_xapi(slave=…, hosts_roots=…, typed=…, **what make_world takes)`, served until the test ends."""
    made: List[FakeXapi] = []
    before = set(threading.enumerate())

    def make(*, slave: bool = False, hosts_roots: Any = None, typed: bool = False, **world: Any) -> FakeXapi:
        xapi = FakeXapi(host.paths, make_world(**world), slave=slave, hosts_roots=hosts_roots, typed=typed)
        xapi.__enter__()
        made.append(xapi)
        return xapi

    yield make
    for xapi in made:
        xapi.close()
    assert not host.socket.exists()
    left = [thread for thread in threading.enumerate() if thread not in before and thread.name == "fake XAPI"]
    assert not left, left


@pytest.fixture
def xapi(make_xapi: MakeXapi) -> FakeXapi:
    """One host, three networks."""
    return make_xapi()


@pytest.fixture
def client(xapi: FakeXapi, host: Host) -> Any:
    return host.client().xenapi


def details(run: Callable[[], Any]) -> List[str]:
    """What XAPI's failure says that this must end in."""
    with pytest.raises(XenAPI.Failure) as raised:
        run()
    return list(raised.value.details)


def environment_of_repository() -> Any:
    return dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[2]))


def other_root(root: Path, name: str) -> Paths:
    """The paths of another host of the pool."""
    (root / name).mkdir()
    return paths_under(root / name, {})
