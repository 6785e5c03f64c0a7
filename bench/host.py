"""A sandbox that is rebooted before every timed start, and three ways to start its switch: ovsxen, ovs-ctl, the floor.

What ovsxen costs is measured from exec to exit, as an RPM's command pays it; its state is checked after the clock.
"""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ovsxen.host import files, identity, process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths, paths_under
from ovsxen.host.settings import Settings, read_settings
from ovsxen.ovs import daemons, launch, ovsdb
from ovsxen.report import Outcome, read_report
from ovsxen.sandbox import contents, sandbox

REPOSITORY = Path(__file__).resolve().parents[1]
OVS_CTL = Path("/usr/share/openvswitch/scripts/ovs-ctl")
LIMIT_S = 180.0
DAEMONS = (daemons.VSWITCHD, daemons.OVSDB_SERVER)

STUB = """import sys
sys.path += %r
from ovsxen.__main__ import run_and_end
run_and_end()
"""


class BenchFailed(Exception):
    """A start failed or left the switch in a wrong state."""


class Start(NamedTuple):
    """One start that was right: its wall time, and the peak resident memory of its process (0 where not asked)."""

    ms: float
    peak_mib: float = 0.0


class Host(NamedTuple):
    """A sandbox with `bridges` stale bridges, the conf.db that every boot begins with, and the command under test."""

    paths: Paths
    settings: Settings
    bridges: int
    pristine: Path
    stub: Path


@contextmanager
def making_host(directory: Path, bridges: int) -> Iterator[Host]:
    """A host in `directory`, of which nothing runs any more afterwards."""
    root = directory / str(bridges)
    try:
        yield _make_host(root, bridges)
    finally:
        kill_daemons(paths_under(root, os.environ))


def _make_host(root: Path, bridges: int) -> Host:
    """In a process of its own: a child's ru_maxrss begins at its parent's peak (exec keeps the larger one), so the rows
    of 10,000 bridges must not be in this one's memory before the figure is taken.
    """
    made = subprocess.call([sys.executable, "-m", "ovsxen", "sandbox", str(root), "--stale-bridges", str(bridges),
                            "--", "true"], cwd=str(REPOSITORY), stdin=subprocess.DEVNULL)
    if made != 0:
        raise BenchFailed("no sandbox with %d bridges could be made" % bridges)
    paths = paths_under(root, os.environ)
    found = len(ovsdb.query_file(paths.conf_db, paths.conf_db.stat().st_size).bridges)
    if found != bridges:
        raise BenchFailed("the sandbox has %d stale bridges instead of %d" % (found, bridges))
    pristine = root / "pristine.db"
    shutil.copyfile(str(paths.conf_db), str(pristine))
    return Host(paths, read_settings(paths), bridges, pristine, _write_stub(root))


def _write_stub(root: Path) -> Path:
    """ovsxen's command as the RPM has it: no site, no environment, two directories to import from."""
    library = importlib.util.find_spec("ovs")
    if library is None or library.origin is None:
        raise BenchFailed("the Python package ovs is missing: run `make venv`")
    stub = root / "ovsxen"
    stub.write_text(STUB % [str(REPOSITORY), str(Path(library.origin).parents[1])])
    return stub


def reboot(host: Host) -> None:
    """What a reboot leaves: no daemons, an empty /run, another boot id; and conf.db as last boot left it, synced."""
    kill_daemons(host.paths)
    shutil.rmtree(str(host.paths.root / "run"))
    (host.paths.root / "run").mkdir()
    for old in list(host.paths.dbdir.glob("*conf.db*")) + list(host.paths.logdir.glob("*.log")):
        old.unlink()
    shutil.copyfile(str(host.pristine), str(host.paths.conf_db))
    files.sync_file(host.paths.conf_db)  # else the timed start would pay for this copy with its first fsync
    files.sync_directory(host.paths.dbdir)
    contents.write_boot_id(host.paths)


def kill_daemons(paths: Paths) -> None:
    """SIGKILL whoever holds the pidfiles' locks, and wait until they are gone. May be repeated."""
    for name in DAEMONS:
        _kill(daemons.find(paths, name).process)


def _kill(target: Optional[process.Process]) -> None:
    if target is not None and process.send_signal(target, signal.SIGKILL):
        Deadline(30.0).wait_until(lambda: process.has_ended(target), every_s=0.001)


def python_argv() -> Tuple[str, ...]:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(sys.executable), "-I", "-S"


def ovsxen_argv(host: Host, *python_options: str) -> Tuple[str, ...]:
    return python_argv() + python_options + (str(host.stub), "start")


def ovs_ctl_argv(host: Host) -> Tuple[str, ...]:
    """What Debian's service runs, with a purge, and with the daemons' options that the sandbox's sysconfig has."""
    return (str(OVS_CTL), "--no-monitor", "--no-record-hostname", "--system-id=random", "--delete-bridges",
            "--ovs-vswitchd-options=" + " ".join(host.settings.vswitchd_options)
            ) + (() if host.settings.mlockall else ("--no-mlockall",)) + ("start",)


def start_ovsxen(host: Host) -> Start:
    return _start(host, ovsxen_argv(host))


def start_ovs_ctl(host: Host) -> Start:
    return _start(host, ovs_ctl_argv(host))


def start_floor(host: Host) -> Start:
    """What no start can do without: both daemons and one durable transaction. Timed from within this process, so
    without any program's own start.
    """
    reboot(host)
    host.paths.rundir.mkdir()
    began_s = time.perf_counter()
    run(launch.ovsdb_server_argv(host.paths, host.settings, ()), host)
    transact(host.paths, [{"op": "update", "table": "Open_vSwitch", "where": [], "row": {"bridges": ["set", []]}},
                          {"op": "commit", "durable": True}])
    run(launch.vswitchd_argv(host.paths, host.settings), host)
    took = Start((time.perf_counter() - began_s) * 1000.0)
    _check(host, "the floor")
    return took


def _start(host: Host, argv: Tuple[str, ...]) -> Start:
    reboot(host)
    took = run(argv, host)
    _check(host, " ".join(argv))
    return took


def run(argv: Tuple[str, ...], host: Host, stderr: int = subprocess.DEVNULL) -> Start:
    """Run a start to its exit. No pipes: the daemons that it leaves would hold them."""
    took, code = run_timed(argv, sandbox.environment(host.paths), cwd=str(host.paths.root), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=stderr)
    if code != 0:
        raise BenchFailed("%s: exit code %d with %d stale bridges%s" % (
            " ".join(argv), code, host.bridges, _reasons(host.paths)))
    return took


def run_timed(argv: Tuple[str, ...], environ: Dict[str, str], **popen: Any) -> Tuple[Start, int]:
    """Run a program to its exit, exec to exit; what it took, and its exit code. `popen` is what Popen takes."""
    began_s = time.perf_counter()
    child = subprocess.Popen(argv, env=environ, start_new_session=True, **popen)
    with killing_past_limit(child):
        _, status, usage = os.wait4(child.pid, 0)
        took = Start((time.perf_counter() - began_s) * 1000.0, usage.ru_maxrss / 1024.0)
        child.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
    return took, child.returncode


@contextmanager
def killing_past_limit(child: "subprocess.Popen[Any]") -> Iterator[None]:
    """Whatever a child started in its group ends with it when it takes too long, or when this is interrupted."""
    watchdog = threading.Timer(LIMIT_S, os.killpg, (child.pid, signal.SIGKILL))
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _reasons(paths: Paths) -> str:
    """Why ovsxen says that it failed; nothing where it was not ovsxen."""
    report = read_report(paths.boot_report, identity.read_boot_id(paths))
    return "".join("\n  %s: %s" % (phase.name, phase.reason) for phase in (report.phases if report else ())
                   if phase.outcome is Outcome.FAILED)


def _check(host: Host, who: str) -> None:
    """Both daemons hold their pidfile's lock and no bridge is left. Not timed."""
    for name in DAEMONS:
        if daemons.find(host.paths, name).state is not daemons.State.RUNNING:
            raise BenchFailed("%s: succeeded with %d stale bridges, but %s does not run" % (who, host.bridges, name))
    left = len(transact(host.paths, [{"op": "select", "table": "Bridge", "where": [], "columns": ["name"]}])[0]["rows"])
    if left:
        raise BenchFailed("%s: succeeded, but %d of %d stale bridges are still there" % (who, left, host.bridges))


def transact(paths: Paths, operations: List[Dict[str, Any]]) -> List[Any]:
    """One transaction over a bare socket, without the library: the least that a client can do."""
    request = {"id": 0, "method": "transact", "params": ["Open_vSwitch"] + operations}
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(LIMIT_S)
        stream.connect(str(paths.db_sock))
        stream.sendall(json.dumps(request).encode())
        answer = b""
        while True:
            block = stream.recv(1 << 16)
            answer += block
            try:
                results = json.loads(answer.decode())["result"]
                break
            except ValueError:  # not all of it yet
                if not block:
                    raise BenchFailed("ovsdb-server closed the connection before it answered") from None
    failed = [result for result in results or [answer] if not isinstance(result, dict) or "error" in result]
    if failed:
        raise BenchFailed("ovsdb-server refused a transaction (%s)" % (failed[0],))
    return list(results)
