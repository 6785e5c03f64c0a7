"""`ovsxen sync` beside a real ovsdb-server and the sandbox's XAPI, each a process of its own, and what it made of VIFs.

There is no ovs-vswitchd: it would configure thousands of ports on the same cores. Whether keys are right is seen over
one monitor of the interfaces, such as any controller has. It is told of each change once, when sync is told, and asks
for nothing, so that the server's work for it is some milliseconds of a burst. What comes is timed when it arrives and
understood afterwards; at the end everything is read once more, by a select.
"""

import codecs
import json
import select
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple

from bench import host, sync_vifs, update_site
from bench.host import BenchFailed, Host
from bench.idle import KIB_PER_MIB, PROC, WATCHDOG_USEC, sizes_kib
from bench.pool import Pool
from bench.sync_vifs import Ids, Vif
from ovsxen.host import files
from ovsxen.host.clock import MACHINE_CLOCK, Deadline
from ovsxen.host.paths import Paths
from ovsxen.ovs import daemons, launch
from ovsxen.sandbox import certificates, sandbox
from ovsxen.sync_report import COMMAND, SyncReport, parse_report
from ovsxen.xapi.follower import Mode

NETWORKS = 3
WITHIN_S = 60.0
END_WITHIN_S = 10.0
LOOK_EVERY_S = 0.05
RECEIVE_BYTES = 1 << 20
EVENTS, LOGOUT = "event.from", "session.logout"


class Site(NamedTuple):
    """The host, of which ovsdb-server runs, and its pool."""

    host: Host
    pool: Pool

    @property
    def paths(self) -> Paths:
        return self.host.paths


class Memory(NamedTuple):
    """Resident: now, and at most."""

    resident_mib: float
    peak_mib: float


# Making it

@contextmanager
def making_site(directory: Path) -> Iterator[Site]:
    """A site in `directory` with one bridge that is as XAPI wants it, of which nothing runs any more afterwards."""
    with host.making_host(Path(tempfile.mkdtemp(prefix="s", dir=str(directory))), 0) as made:
        made.stub.write_text(host.STUB % update_site.library_directories())
        paths = made.paths
        certificates.make_host_pem(paths.xapi_ssl_pem)
        paths.networkd_db.write_text("{}")
        files.make_directory(paths.rundir, 0o755)
        host.run(launch.ovsdb_server_argv(paths, made.settings, ()), made)
        host.transact(paths, [
            {"op": "update", "table": "Open_vSwitch", "where": [], "row": {
                "bridges": ["named-uuid", "bridge"], "manager_options": ["set", []], "ssl": ["set", []]}},
            {"op": "insert", "table": "Bridge", "uuid-name": "bridge", "row": {
                "name": sync_vifs.BRIDGE, "fail_mode": "standalone",
                "external_ids": ["map", [["xs-network-uuids", sync_vifs.NETWORK_UUID]]]}}])
        with Pool(paths.root, NETWORKS) as pool:
            yield Site(made, pool)


@contextmanager
def syncing(site: Site) -> Iterator[int]:
    """`ovsxen sync` in the foreground, as systemd starts it; gives its pid once it follows XAPI's events, has seen the
    bridge, and the update that it runs first has ended.
    """
    notify, output = site.paths.root / "notify", site.paths.root / "sync.log"
    files.remove_if_there(notify)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard, open(str(output), "wb") as stream:
        heard.bind(str(notify))
        site.pool.take_calls()
        child = subprocess.Popen(
            host.python_argv() + (str(site.host.stub), "sync"), cwd="/",
            env=dict(sandbox.environment(site.paths), NOTIFY_SOCKET=str(notify), WATCHDOG_USEC=WATCHDOG_USEC),
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True)
        try:
            _wait_until_settled(site, child, output)
            yield child.pid
        finally:
            _end(child)


def _wait_until_settled(site: Site, child: "subprocess.Popen[bytes]", output: Path) -> None:
    calls: List[str] = []
    deadline = Deadline(WITHIN_S)
    while child.poll() is None and not deadline.has_passed():
        calls += site.pool.take_calls()
        if LOGOUT in calls and daemons.find(site.paths, daemons.XAPI_SYNC).state is daemons.State.RUNNING:
            report = read_report(site)
            if report.xapi == Mode.EVENTS.value and report.is_connected and report.bridges == 1:
                if report.problems:
                    raise BenchFailed("ovsxen sync has problems from the start: %s" % "; ".join(report.problems))
                return
        MACHINE_CLOCK.sleep(LOOK_EVERY_S)
    raise BenchFailed("ovsxen sync did not settle within %g s (its exit code: %s)\n%s" % (
        WITHIN_S, child.poll(), output.read_text(errors="replace")[-2000:]))


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Asked by a signal, so that an update of its own ends with it."""
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


# What it does

def tell_of(site: Site, told: Tuple[Vif, ...]) -> None:
    """XAPI gets these VIFs, and the sync has taken them from its events."""
    site.pool.take_calls()
    site.pool.introduce_vifs(told)
    wait_for_calls(site, (EVENTS,))


def wait_for_calls(site: Site, wanted: Tuple[str, ...]) -> None:
    """Until these were made since the calls were asked for last."""
    calls: List[str] = []

    def have_come() -> bool:
        calls.extend(site.pool.take_calls())
        return all(call in calls for call in wanted)

    if not Deadline(WITHIN_S).wait_until(have_come, every_s=LOOK_EVERY_S):
        raise BenchFailed("ovsxen sync did not call %s within %g s, but %s" % (wanted, WITHIN_S, calls))


def read_report(site: Site) -> SyncReport:
    return parse_report(daemons.ask(site.paths, daemons.find(site.paths, daemons.XAPI_SYNC), COMMAND, (), WITHIN_S))


def read_memory(pid: int) -> Memory:
    kib = sizes_kib((PROC / str(pid) / "status").read_text())
    return Memory(kib["VmRSS"] / KIB_PER_MIB, kib["VmHWM"] / KIB_PER_MIB)


def plug(site: Site, plugged: Tuple[Vif, ...]) -> float:
    """Plug VIFs in, all at once; gives when that was answered, by perf_counter()."""
    operations = sync_vifs.plugging(plugged)
    host.transact(site.paths, operations)
    return time.perf_counter()


# Whether it was right

class Watch:
    """A monitor of all interfaces, until the end of the `with` block. `found`: their external_ids as last heard."""

    def __init__(self, site: Site) -> None:
        self.found: Dict[str, Ids] = {}
        self._stream = socket.socket(socket.AF_UNIX)
        self._stream.connect(str(site.paths.db_sock))
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._received = ""
        self._poller = select.poll()
        self._poller.register(self._stream, select.POLLIN)
        self._stream.sendall(json.dumps({"id": 0, "method": "monitor", "params": [
            "Open_vSwitch", None, {"Interface": {"columns": ["name", "external_ids"]}}]}).encode())

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def wait_until_right(self, wanted: Dict[str, Ids]) -> float:
        """When the last of these became right, by perf_counter(). Raises BenchFailed."""
        deadline = Deadline(WITHIN_S)
        at_s = time.perf_counter()
        missing = {name for name, ids in wanted.items() if self.found.get(name) != ids}
        while missing:
            if not self._poller.poll(deadline.remaining_s() * 1000):
                raise BenchFailed("%g s after VIFs were plugged in %s" % (
                    WITHIN_S, sync_vifs.first_wrong(wanted, self.found)))
            at_s = self._read()
            for name in self._take_messages() & set(wanted):
                if self.found.get(name) == wanted[name]:
                    missing.discard(name)
                else:
                    missing.add(name)
        return at_s

    def _read(self) -> float:
        """All that has come; gives when the last of it did."""
        while True:
            data = self._stream.recv(RECEIVE_BYTES)
            at_s = time.perf_counter()
            if not data:
                raise BenchFailed("ovsdb-server closed the connection")
            self._received += self._decoder.decode(data)
            if not self._poller.poll(0):
                return at_s

    def _take_messages(self) -> Set[str]:
        """Understand what is whole; gives the names of which something was said."""
        named = set()
        while self._received:
            try:
                message, end = json.JSONDecoder().raw_decode(self._received)
            except ValueError:  # not all of it yet
                break
            self._received = self._received[end:]
            tables = message["params"][1] if message.get("method") == "update" else message["result"]
            for row in tables.get("Interface", {}).values():
                if "new" in row:
                    self.found[row["new"]["name"]] = _ids(row["new"])
                    named.add(row["new"]["name"])
        return named


def check(site: Site, plugged: Tuple[Vif, ...]) -> None:
    """All external_ids of all interfaces, and the bridge's. Raises BenchFailed."""
    interfaces, bridges = (result["rows"] for result in host.transact(site.paths, [
        {"op": "select", "table": table, "where": [], "columns": ["name", "external_ids"]}
        for table in ("Interface", "Bridge")]))
    wanted, found = sync_vifs.wanted_ids(plugged), {row["name"]: _ids(row) for row in interfaces}
    wrong = sync_vifs.first_wrong(wanted, found)
    if wrong or set(found) != set(wanted) or [_ids(row).get("bridge-id") for row in bridges] != [
            sync_vifs.NETWORK_UUID]:
        raise BenchFailed("ovsxen sync left something wrong with %d VIFs: %s; bridges %s" % (
            len(plugged), wrong, bridges))
    problems = read_report(site).problems
    if problems:
        raise BenchFailed("ovsxen sync has problems with %d VIFs: %s" % (len(plugged), "; ".join(problems)))


def _ids(row: Dict[str, Any]) -> Ids:
    return dict(row["external_ids"][1])
