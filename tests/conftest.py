"""A sandbox for each test that asks for one, the command in it, and the rule that a test leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from hypothesis import HealthCheck, settings

from ovsxen.host import detach, proc, process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, XAPI_SYNC
from ovsxen.sandbox import contents, sandbox
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import make_world
from ovsxen.xapi.session import connect
from tests.frames import Wire, plugged_in

# How long an example may take says nothing on a machine that others use, too.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

REPOSITORY = Path(__file__).resolve().parent.parent
LIMIT_S = 120
UNPRIVILEGED = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
"""Runs a command with no privileges, and with no rights but its own to files that belong to others."""


class Finished:
    """A command of ovsxen that ended."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def phase(self, name: str) -> Dict[str, Any]:
        """A phase of `--json` by its name."""
        return next(phase for phase in self.json["phases"] if phase["name"] == name)

    def __repr__(self) -> str:
        return "exit code %d\n--- stdout\n%s--- stderr\n%s" % (self.code, self.out, self.err)


class SandboxHost:
    """A XenServer host in a directory, and the commands that an operator would run on it."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.env: Dict[str, str] = {}

    def ovsxen(self, *arguments: str, limit_s: float = LIMIT_S, **env: str) -> Finished:
        return Finished(subprocess.run(
            [sys.executable, "-m", "ovsxen"] + list(arguments), env=self.environment(**env), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=limit_s))

    def spawn(self, *arguments: str, **env: str) -> "subprocess.Popen[bytes]":
        """Start a command of ovsxen and do not wait for it."""
        return subprocess.Popen([sys.executable, "-m", "ovsxen"] + list(arguments), env=self.environment(**env),
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def environment(self, **env: str) -> Dict[str, str]:
        return dict(sandbox.environment(self.paths), **dict(self.env, **env))

    def start(self, *arguments: str) -> Finished:
        """`ovsxen start --json`, which must succeed."""
        done = self.ovsxen("start", "--json", *arguments)
        assert done.code == 0, done
        return done

    def status(self) -> Any:
        return self.ovsxen("status", "--json").json

    def tool(self, *argv: str) -> str:
        """A tool of Open vSwitch, which must succeed; gives what it says."""
        done = subprocess.run(argv, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=LIMIT_S)
        assert done.returncode == 0, "%s: %s%s" % (argv, done.stdout, done.stderr)
        return done.stdout.strip()

    def vsctl(self, *arguments: str) -> str:
        return self.tool("ovs-vsctl", "--timeout=20", *arguments)

    def bridges(self) -> List[str]:
        return self.vsctl("--no-wait", "list-br").split()

    def column(self, column: str) -> str:
        """A column of the Open_vSwitch row."""
        return self.vsctl("--no-wait", "get", "Open_vSwitch", ".", column).strip('"')

    def reboot(self) -> None:
        """What a reboot leaves: no daemons, an empty /run, another boot id."""
        self.kill_daemons()
        shutil.rmtree(str(self.paths.root / "run"))
        (self.paths.root / "run").mkdir()
        contents.write_boot_id(self.paths)

    def pid(self, name: str) -> int:
        found = daemons.find(self.paths, name).process
        assert found is not None, "%s does not run" % name
        return found.pid

    def signal(self, name: str, number: int) -> None:
        """Signal a daemon of this host, and wait until it is dead where the signal is SIGKILL."""
        target = process.read_process(self.pid(name))
        assert target is not None
        assert process.send_signal(target, number)
        if number == 9:
            assert Deadline(10).wait_until(lambda: process.has_ended(target))

    def watcher(self) -> Optional[process.Process]:
        """The ovsxen daemon, where one runs."""
        return detach.find_holder(self.paths.daemon_pidfile)

    def kill_daemons(self) -> None:
        self.kill_sync()
        watching = self.watcher()
        if watching and process.send_signal(watching, signal.SIGKILL):  # first: it would start them again
            assert Deadline(10).wait_until(lambda: process.has_ended(watching))
        for name in (VSWITCHD, OVSDB_SERVER):
            if daemons.find(self.paths, name).process:
                self.signal(name, 9)

    def kill_sync(self) -> None:
        """The sync, where one runs, with the update that it may be running."""
        syncing = daemons.find(self.paths, XAPI_SYNC).process
        if syncing is None:
            return
        self.signal(XAPI_SYNC, signal.SIGSTOP)  # it starts no more
        updates = children_of(syncing.pid)
        self.signal(XAPI_SYNC, signal.SIGKILL)
        for update in updates:
            process.send_signal(update, signal.SIGKILL)

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def settings(self, *lines: str) -> None:
        """Write the sandbox's sysconfig anew: its usual lines, and these."""
        self.write(self.paths.sysconfig, contents.SYSCONFIG + "".join(line + "\n" for line in lines))

    def install_schema(self, version: str, without: str = "") -> None:
        """Give the host a schema of its own: another version, with one column of Bridge left out."""
        schema = json.loads(Path("/usr/share/openvswitch/vswitch.ovsschema").read_text())
        schema.update(version=version, cksum="1 2")
        if without:
            del schema["tables"]["Bridge"]["columns"][without]
        self.write(self.paths.root / "usr/share/openvswitch/vswitch.ovsschema", json.dumps(schema))

    def beside(self, kind: str) -> List[str]:
        """Names of the files of a kind ("good", "live", "aside", "recovery") beside conf.db."""
        return sorted(path.name for path in self.paths.dbdir.glob("conf.db.%s-*" % kind))


@pytest.fixture
def killing_server(tmp_path: Path) -> str:
    """A PATH on which the start of ovsdb-server kills who started it, just when the server has become ready."""
    real = proc.find_program(OVSDB_SERVER)
    shim = tmp_path / "bin" / OVSDB_SERVER
    shim.parent.mkdir()
    shim.write_text('#!/bin/sh\n%s "$@"\ncase "$*" in *--detach*) kill -9 $PPID;; esac\n' % real)
    shim.chmod(0o755)
    return os.pathsep.join([str(shim.parent)] + proc.search_path())


def children_of(pid: int) -> List[process.Process]:
    found = []
    for children in Path("/proc/%d/task" % pid).glob("*/children"):
        try:
            found += [process.read_process(int(child)) for child in children.read_text().split()]
        except OSError:
            pass  # a thread that has ended
    return [child for child in found if child is not None]


def is_sync_of(root: Path, entry: Path) -> bool:
    """The sync names its host in its environment alone. `entry` is its directory in /proc. Raises OSError."""
    return (entry / "comm").read_text() == XAPI_SYNC + "\n" and b"\0OVSXEN_ROOT=" + os.fsencode(str(root)) in (
        b"\0" + (entry / "environ").read_bytes())


def processes_of(root: Path) -> List[str]:
    """Command lines of live processes that mention the sandbox, and its sync."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            is_of_host = str(root) + "/" in command or is_sync_of(root, entry)
        except OSError:
            continue
        if is_of_host and process.read_process(int(entry.name)):
            found.append("%s: %s" % (entry.name, command))
    return found


MakeHost = Callable[..., SandboxHost]
StandIn = Callable[[str, str], None]


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Makes hosts: `make_host(stale_bridges=3, root=None)`. What they started is taken down, what is left is a failure.
    """
    made: List[SandboxHost] = []
    base = Path(tempfile.mkdtemp(prefix="ox-", dir="/tmp"))

    def make(stale_bridges: int = 3, root: Optional[Path] = None) -> SandboxHost:
        host = SandboxHost(sandbox.make(root or base / ("h%d" % len(made)), stale_bridges))
        made.append(host)
        return host

    yield make
    for host in made:
        host.kill_daemons()
    left = processes_of(base)
    for line in left:  # a test that failed may have hidden them; they are of this test's directory and no other
        os.kill(int(line.split(":")[0]), signal.SIGKILL)
    shutil.rmtree(str(base), ignore_errors=True)
    assert not left, "left behind: %s" % left


@pytest.fixture
def host(make_host: MakeHost) -> SandboxHost:
    """A host with three stale bridges that has not been started."""
    return make_host()


@pytest.fixture
def stand_in(host: SandboxHost, tmp_path: Path) -> StandIn:
    """Puts a script on the host's PATH in place of a daemon's start; in it, `$real "$@"` is the real one."""
    (tmp_path / "bin").mkdir()
    host.env["PATH"] = os.pathsep.join([str(tmp_path / "bin")] + proc.search_path())

    def put(name: str, script: str) -> None:
        program = tmp_path / "bin" / name
        program.write_text('#!/bin/sh\nreal=%s\ncase "$*" in *--detach*) ;; *) exec $real "$@";; esac\n%s\n' % (
            proc.find_program(name), script))
        program.chmod(0o755)

    return put


@pytest.fixture
def wire(make_host: MakeHost) -> Iterator[Wire]:
    """A host without stale bridges in a network namespace, with a secure bridge that frames can be sent to."""
    with plugged_in(make_host(stale_bridges=0)) as made:
        yield made


@pytest.fixture
def xapi(host: SandboxHost) -> Iterator[FakeXapi]:
    """The XAPI of `host`: two networks, the management interface on the first, which carries a VLAN too."""
    with FakeXapi(host.paths, make_world(networks=2, vlans=1)) as fake:
        yield fake


def ask_xapi(host: SandboxHost, method: str, *arguments: Any) -> Any:
    """What XAPI gives for a call with a session of the test's own, as `xe` makes one. Raises XapiFailure."""
    with connect(host.paths.xapi_socket, Deadline(LIMIT_S), call_within_s=LIMIT_S) as session:
        return session.call(method, *arguments)
