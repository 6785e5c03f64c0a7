"""A sandbox with a running switch of many bridges and a pool that has their networks, and updates of it, timed.

An update is the plugin as XAPI runs it, from exec to exit; beside it stands the sequence of ovs-vsctl processes that it
replaces. What each answered, asked and left is checked after the clock.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import uuid
import xmlrpc.client
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from bench import children, host, sequence
from bench.host import REPOSITORY, BenchFailed, Host
from bench.pool import Pool
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.ovs import daemons, ovsdb
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.plan import CONTROLLER_SET, FAIL_MODE_UPDATED, NO_CHANGE
from ovsxen.sandbox import certificates, contents, sandbox
from ovsxen.sandbox.xapi import plugins, wire
from ovsxen.xapi import dbcache
from ovsxen.xapi.transport import UnixTransport

PLUGIN = "openvswitch-config-update"
SETTLED_WITHIN_S = 120.0
ADDRESS = "127.0.0.1"
LIBRARIES = ("ovs", "XenAPI", "tenacity")
PATH = plugins.PATH
RESET_NOTE = "Note: what the reset cleared is in "


class Run(NamedTuple):
    """One update that was right: its wall time, and how many calls it made to XAPI."""

    ms: float
    calls: int = 0


class Site(NamedTuple):
    """The host with its switch and pool, the controller that the pool has, and the session to run plugins with."""

    host: Host
    pool: Pool
    bridges: Tuple[str, ...]
    target: str
    session: str

    @property
    def paths(self) -> Paths:
        return self.host.paths


class Rows(NamedTuple):
    """What an update decides about, as the database has it. `bridges`: each name with its columns."""

    next_cfg: int
    managers: Tuple[str, ...]
    ca_certs: Tuple[str, ...]
    bridges: Tuple[Tuple[str, Any, Any], ...]


# Making it

@contextmanager
def making_site(directory: Path, bridges: int) -> Iterator[Site]:
    """A site in `directory`, of which nothing runs any more afterwards."""
    with host.making_host(directory / ("u%d" % bridges), 0) as made, _refusing_port() as port:
        host.start_ovsxen(made)
        names = tuple("xenbr%d" % number for number in range(bridges))
        _settle(made.paths, [operation for number in range(bridges) for operation in _new_bridge(number)] + [
            {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [
                ["bridges", "insert", ["set", [["named-uuid", "bridge%d" % number] for number in range(bridges)]]]]}])
        certificates.make_host_pem(made.paths.xapi_ssl_pem)
        _install_plugin(made.paths)
        with Pool(made.paths.root, bridges) as pool:
            pool.introduce_controller(ADDRESS, port)
            yield Site(made, pool, names, "ssl:%s:%d" % (ADDRESS, port), _log_in(made.paths))


@contextmanager
def _refusing_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else can get."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.bind((ADDRESS, 0))
        yield int(held.getsockname()[1])


def _new_bridge(number: int) -> Iterator[Dict[str, Any]]:
    """A bridge with a NIC, as the network daemon makes it."""
    name = "xenbr%d" % number
    ports = ((name, "internal"), ("eth%d" % number, ""))
    for index, (port, kind) in enumerate(ports):
        key = "%d_%d" % (number, index)
        yield _insert("Interface", "interface" + key, {"name": port, "type": kind})
        yield _insert("Port", "port" + key, {"name": port, "interfaces": ["named-uuid", "interface" + key]})
    yield _insert("Bridge", "bridge%d" % number, {
        "name": name, "other_config": ["map", [["hwaddr", _mac(number)]]],
        "external_ids": ["map", [["xs-network-uuids", str(uuid.uuid5(uuid.NAMESPACE_DNS, name))]]],
        "ports": ["set", [["named-uuid", "port%d_%d" % (number, index)] for index in range(len(ports))]]})


def _mac(number: int) -> str:
    return "00:16:3e:%02x:%02x:%02x" % (number >> 16 & 255, number >> 8 & 255, number & 255)


def _insert(table: str, name: str, row: Dict[str, Any]) -> Dict[str, Any]:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


def _install_plugin(paths: Paths) -> None:
    """As an RPM has it: the interpreter itself, no site, no environment, directories to import from."""
    text = (contents.PLUGINS / contents.PLUGIN_NAMES[0]).read_text().split("\n", 1)[1]
    text = text.replace("import sys\n", "import sys\n\nsys.path += %r\n" % library_directories(), 1)
    plugin = paths.plugins / PLUGIN
    plugin.write_text("#!%s -IS\n%s" % (host.python_argv()[0], text))
    plugin.chmod(0o755)


def library_directories() -> List[str]:
    """Where ovsxen and the libraries that it needs are imported from."""
    found = [str(REPOSITORY)]
    for name in LIBRARIES:
        library = importlib.util.find_spec(name)
        if library is None or library.origin is None:
            raise BenchFailed("the Python package %s is missing: run `make venv`" % name)
        origin = Path(library.origin)
        found.append(str(origin.parents[1] if origin.name == "__init__.py" else origin.parent))
    return list(dict.fromkeys(found))


def _log_in(paths: Paths) -> str:
    xapi = xmlrpc.client.ServerProxy("http://localhost/", UnixTransport(paths.xapi_socket, Deadline(host.LIMIT_S)))
    answer: Any = xapi.session.login_with_password("root", "", "1.0", "bench")
    return str(answer["Value"])


# Between the runs

def set_back(site: Site, *, networkd: bool) -> None:
    """Another manager, fail modes unset, a setting that a reset clears; no network.dbcache. Settled, and not timed.

    `networkd`: the host is one of today's, whose network daemon has its own file, so that an update writes no cache.
    """
    paths = site.paths
    for old in [paths.network_dbcache] + list(paths.dbdir.glob("reset-*.json")) + list(
            paths.network_dbcache.parent.glob("network.dbcache*")):
        if old.exists():
            old.unlink()
    if networkd:
        paths.networkd_db.write_text("{}")
    elif paths.networkd_db.exists():
        paths.networkd_db.unlink()
    pem = str(paths.xapi_ssl_pem)
    _settle(paths, [
        _insert("Manager", "manager", {"target": contents.MANAGER}),
        _insert("SSL", "ssl", {"private_key": pem, "certificate": pem, "ca_cert": str(paths.historic_ca),
                               "bootstrap_ca_cert": True}),
        {"op": "update", "table": "Open_vSwitch", "where": [],
         "row": {"manager_options": ["named-uuid", "manager"], "ssl": ["named-uuid", "ssl"]}},
        {"op": "update", "table": "Bridge", "where": [], "row": {"fail_mode": ["set", []]}},
        {"op": "mutate", "table": "Bridge", "where": [],
         "mutations": [["other_config", "insert", ["map", [["mac-table-size", "10000"]]]]]}])


def _settle(paths: Paths, operations: List[Dict[str, Any]]) -> None:
    """One transaction, and then all the time that ovs-vswitchd needs to follow."""
    counted = host.transact(paths, operations + [
        {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]},
        {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}])
    with Connection(paths.db_sock, daemons.OVSDB_SERVER, host.LIMIT_S) as connection:
        if not ovsdb.wait_configured(connection, counted[-1]["rows"][0]["next_cfg"], SETTLED_WITHIN_S):
            raise BenchFailed("ovs-vswitchd did not follow within %.0f s" % SETTLED_WITHIN_S)


# What is timed

def first_update(site: Site) -> Run:
    """The plugin, where XAPI has another controller than the switch."""
    before = read_rows(site.paths)
    ran = _run_plugin(site)
    _check_first(site, before, ran.text)
    return ran.run


def unchanged_update(site: Site) -> Run:
    """The plugin, where there is nothing to do."""
    before = read_rows(site.paths)
    ran = _run_plugin(site)
    _check_unchanged(site, before, ran.text)
    return ran.run


def first_sequence(site: Site) -> Run:
    return _run_sequence(site, sequence.first(site.paths, site.target, site.bridges))


def unchanged_sequence(site: Site) -> Run:
    return _run_sequence(site, sequence.unchanged(site.bridges))


class _Ran(NamedTuple):
    """A run, and the text that it answered with."""

    run: Run
    text: str


def plugin_argv(site: Site) -> Tuple[str, str]:
    """What XAPI runs."""
    return str(site.paths.plugins / PLUGIN), wire.plugin_call("update", site.session, {})


def _run_plugin(site: Site) -> _Ran:
    site.pool.take_calls()
    with _as_xapi_runs_it(site) as popen:
        took, code = host.run_timed(plugin_argv(site), {"PATH": PATH}, **popen)
    return _Ran(Run(took.ms, len(_checked_calls(site))), _answer(site, code))


@contextmanager
def _as_xapi_runs_it(site: Site) -> Iterator[Dict[str, Any]]:
    """What Popen shall do: a stdin that can only be written to, files for the outputs, / as the directory."""
    outputs = [open(str(site.paths.root / name), "wb") for name in ("answer", "complaint")]
    stdin = os.open(os.devnull, os.O_WRONLY)
    try:
        yield {"cwd": "/", "stdin": stdin, "stdout": outputs[0], "stderr": outputs[1], "restore_signals": False}
    finally:
        os.close(stdin)
        for stream in outputs:
            stream.close()


def _run_sequence(site: Site, commands: Iterable[sequence.Argv]) -> Run:
    environ = sandbox.environment(site.paths)
    program = shutil.which("ovs-vsctl", path=environ["PATH"])
    if program is None:
        raise BenchFailed("ovs-vsctl is not there")
    ms = 0.0
    for argv in commands:
        took, code = host.run_timed((program,) + argv[1:], environ, stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if code != 0:
            raise BenchFailed("%s: exit code %d with %d bridges" % (" ".join(argv), code, len(site.bridges)))
        ms += took.ms
    _check_agreed(site, read_rows(site.paths), "the sequence")
    return Run(ms)


def count_children(site: Site, *, networkd: bool) -> Optional[int]:
    """Processes that a first update and one without a change start; None where this machine lets nobody look."""
    set_back(site, networkd=networkd)
    count = 0
    for check in (_check_first, _check_unchanged):
        before = read_rows(site.paths)
        with _as_xapi_runs_it(site) as popen:
            try:
                child = subprocess.Popen(plugin_argv(site), env={"PATH": PATH}, start_new_session=True,
                                         preexec_fn=children.trace_me, **popen)
                with host.killing_past_limit(child):
                    count += children.count_of(child)
            except (subprocess.SubprocessError, children.CannotTrace):
                return None
        check(site, before, _answer(site, child.returncode))
    return count


# Whether it was right

def read_rows(paths: Paths) -> Rows:
    root, managers, ssl, bridges = (result["rows"] for result in host.transact(paths, [
        {"op": "select", "table": table, "where": [], "columns": columns} for table, columns in (
            ("Open_vSwitch", ["next_cfg"]), ("Manager", ["target"]), ("SSL", ["ca_cert"]),
            ("Bridge", ["name", "fail_mode", "other_config"]))]))
    return Rows(root[0]["next_cfg"], tuple(row["target"] for row in managers), tuple(row["ca_cert"] for row in ssl),
                tuple(sorted((row["name"], row["fail_mode"], row["other_config"]) for row in bridges)))


def _answer(site: Site, code: int) -> str:
    """The text of a Success on stdout. Raises BenchFailed for anything else."""
    said = (site.paths.root / "answer").read_bytes()
    try:
        answer: Any = xmlrpc.client.loads(said.decode())[0][0]
        if code == 0 and answer["Status"] == "Success":
            return str(answer["Value"])
    except Exception:  # whatever is wrong with it, it is shown below
        pass
    raise BenchFailed("the plugin with %d bridges: exit code %d, %r, stderr %r" % (
        len(site.bridges), code, said[:400], (site.paths.root / "complaint").read_bytes()[-400:]))


def _checked_calls(site: Site) -> Tuple[str, ...]:
    calls = site.pool.take_calls()
    if not calls or any(call.startswith("session.") for call in calls):
        raise BenchFailed("the plugin made the wrong calls to XAPI: %s" % " ".join(calls))
    return calls


def _check_first(site: Site, before: Rows, text: str) -> None:
    wanted = CONTROLLER_SET % site.target + FAIL_MODE_UPDATED + RESET_NOTE
    if not text.startswith(wanted):
        raise BenchFailed("the first update with %d bridges answered %r" % (len(site.bridges), text))
    after = read_rows(site.paths)
    _check_agreed(site, after, "the first update")
    if after.ca_certs != (str(site.paths.pinned_ca(ADDRESS)),) or after.next_cfg != before.next_cfg + 1:
        raise BenchFailed("the first update with %d bridges left %s" % (len(site.bridges), after._replace(bridges=())))
    _check_dbcache(site)


def _check_unchanged(site: Site, before: Rows, text: str) -> None:
    if text != NO_CHANGE or read_rows(site.paths) != before:
        raise BenchFailed("an update with %d bridges and nothing to do changed something, and answered %r" % (
            len(site.bridges), text))
    _check_dbcache(site)


def _check_agreed(site: Site, rows: Rows, who: str) -> None:
    """The manager is XAPI's, and every bridge as its network says, with nothing left of what a reset clears."""
    bridges = tuple(sorted((name, "standalone", ["map", [["hwaddr", _mac(number)]]])
                           for number, name in enumerate(site.bridges)))
    if rows.managers != (site.target,) or rows.bridges != bridges:
        raise BenchFailed("%s with %d bridges left a wrong state: managers %s, bridges %s" % (
            who, len(bridges), rows.managers, [found for found in rows.bridges if found not in bridges][:3]))


def _check_dbcache(site: Site) -> None:
    """Every network is in network.dbcache; or there is no such file, where the host has networkd.db."""
    path = site.paths.network_dbcache
    wanted = 0 if site.paths.networkd_db.exists() else len(site.bridges) + 1  # the pool's internal network
    found = len(dbcache.read_cache(path.read_bytes()).networks) if path.exists() else 0
    if found != wanted:
        raise BenchFailed("%s has %d networks instead of %d" % (path, found, wanted))
