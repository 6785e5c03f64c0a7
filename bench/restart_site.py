"""A host in a network namespace with many bridges that are up, some of which frames can cross, and whether it is right.

The far ends of the probed ports are in a namespace of their own. IPv6 is off in both, as dom0 has it for its VIFs: else
ovs-vswitchd looks through all addresses once for every port.

Only the first, the middle and the last bridge have ports that are devices, two each; the others' are dummies. In the
userspace datapath such a port is a packet socket, and Linux takes 12 ms to close one (synchronize_net): 1,000 of them
would make every death of ovs-vswitchd last 12 s, which no dom0, with the kernel's datapath, ever has.
"""

import os
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from bench import host, namespaces
from bench.host import BenchFailed, Host
from bench.namespaces import ip, making_namespace
from bench.traffic import Pair
from ovsxen.host import process
from ovsxen.host.paths import Paths
from ovsxen.host.settings import read_settings
from ovsxen.ovs import daemons, ovsdb
from ovsxen.ovs.jsonrpc import Connection

PORTS = 20
FLOW_BRIDGES, FLOWS = 10, 2000
WITHIN_S = 120.0
SYSCONFIG = 'VSWITCHD_MLOCKALL=no\nOVS_CTL_OPTS="--ovs-vswitchd-options=--enable-dummy"\n'
NO_IPV6 = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")


class Site(NamedTuple):
    """The host, the namespaces with it and with the far ends, what is probed, and how many flows each of flow_bridges()
    has: 0 where all have nothing but NORMAL.
    """

    host: Host
    inside: str
    outside: str
    bridges: int
    pairs: Tuple[Pair, ...]
    flows: int = 0

    @property
    def paths(self) -> Paths:
        return self.host.paths


@contextmanager
def making_site(directory: Path, bridges: int) -> Iterator[Site]:
    """A site in `directory`, up and configured, of which nothing is left afterwards."""
    inside, outside = ("oxb-%s-%d" % (side, os.getpid()) for side in ("host", "far"))
    with ExitStack() as stack:
        for name in (inside, outside):
            stack.enter_context(making_namespace(name))
            stack.callback(namespaces.kill_all_inside, name)
            ip("netns", "exec", name, "sysctl", "-qw", *NO_IPV6)
        made = stack.enter_context(host.making_host(Path(tempfile.mkdtemp(prefix="r", dir=str(directory))), 0))
        made.paths.sysconfig.write_text(SYSCONFIG)
        site = Site(made._replace(settings=read_settings(made.paths)), inside, outside, bridges,
                    tuple(Pair(_far(number, 0), _far(number, 1)) for number in probed_bridges(bridges)))
        for number in probed_bridges(bridges):
            for port in (0, 1):
                _make_device(site, number, port)
        host.run(as_inside(site, ovsxen_argv(site, "start")), made)
        _settle(site.paths, list(_new_bridges(bridges)))
        yield site


def as_inside(site: Site, argv: Tuple[str, ...]) -> Tuple[str, ...]:
    return namespaces.inside(site.inside, *argv)


def ovsxen_argv(site: Site, *arguments: str) -> Tuple[str, ...]:
    return host.python_argv() + (str(site.host.stub),) + arguments


def probed_bridges(bridges: int) -> Tuple[int, ...]:
    return tuple(sorted({0, bridges // 2, bridges - 1}))


def flow_bridges(bridges: int) -> Tuple[int, ...]:
    """Which bridges have flows of their own: the probed ones, and the first others."""
    probed = probed_bridges(bridges)
    others = [number for number in range(bridges) if number not in probed]
    return tuple(sorted(probed + tuple(others[:FLOW_BRIDGES - len(probed)])))


def _near(bridge: int, port: int) -> str:
    return "vif%d.%d" % (bridge + 1, port)


def _far(bridge: int, port: int) -> str:
    return "far%d.%d" % (bridge + 1, port)


def _make_device(site: Site, bridge: int, port: int) -> None:
    near, far = _near(bridge, port), _far(bridge, port)
    ip("-n", site.inside, "link", "add", near, "type", "veth", "peer", "name", far, "netns", site.outside)
    ip("-n", site.inside, "link", "set", near, "up")
    ip("-n", site.outside, "link", "set", far, "up")


def _new_bridges(bridges: int) -> Iterator[Dict[str, Any]]:
    """Each with a local port and PORTS others, as the operations of one transaction."""
    probed = probed_bridges(bridges)
    for number in range(bridges):
        kinds = {"xenbr%d" % number: "internal"}
        kinds.update((_near(number, port), "" if number in probed and port < 2 else "dummy") for port in range(PORTS))
        for index, (name, kind) in enumerate(kinds.items()):
            key = "%d_%d" % (number, index)
            yield _insert("Interface", "interface" + key, {"name": name, "type": kind})
            yield _insert("Port", "port" + key, {"name": name, "interfaces": ["named-uuid", "interface" + key]})
        yield _insert("Bridge", "bridge%d" % number, {
            "name": "xenbr%d" % number, "datapath_type": "netdev",
            "ports": ["set", [["named-uuid", "port%d_%d" % (number, index)] for index in range(len(kinds))]]})
    yield {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [
        ["bridges", "insert", ["set", [["named-uuid", "bridge%d" % number] for number in range(bridges)]]]]}


def _insert(table: str, name: str, row: Dict[str, Any]) -> Dict[str, Any]:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


def _settle(paths: Paths, operations: List[Dict[str, Any]]) -> None:
    ask_to_configure(paths, operations)
    wait_configured(paths)


def ask_to_configure(paths: Paths, operations: List[Dict[str, Any]]) -> None:
    """One transaction that counts next_cfg up, so that ovs-vswitchd says when it has followed."""
    host.transact(paths, operations + [
        {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}])


def wait_configured(paths: Paths) -> None:
    rows = host.transact(paths, [{"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}])
    with Connection(paths.db_sock, daemons.OVSDB_SERVER, WITHIN_S) as connection:
        if not ovsdb.wait_configured(connection, rows[0]["rows"][0]["next_cfg"], WITHIN_S):
            raise BenchFailed("ovs-vswitchd did not follow within %.0f s" % WITHIN_S)


def with_flows(site: Site) -> Site:
    """The same site, after FLOWS flows of their own took the place of what the flow bridges had."""
    text = site.paths.root / "flows"
    lines = ["priority=0,actions=NORMAL"] + [
        "priority=%d,ip,nw_dst=10.%d.%d.0/24,nw_proto=6,tp_dst=%d,actions=%s" % (
            100 + number % 7, number >> 8, number & 255, 1024 + number, "drop" if number % 2 else "NORMAL")
        for number in range(FLOWS - 1)]
    text.write_text("\n".join(lines) + "\n")
    for bridge in flow_bridges(site.bridges):
        if subprocess.call(("ovs-ofctl", "-O", "OpenFlow14", "--bundle", "replace-flows",
                            "unix:%s" % site.paths.bridge_socket("xenbr%d" % bridge), str(text))) != 0:
            raise BenchFailed("xenbr%d did not take %d flows" % (bridge, FLOWS))
    return site._replace(flows=FLOWS)


# Whether it is right

def find_daemon(site: Site, name: str) -> process.Process:
    found = daemons.find(site.paths, name).process
    if found is None:
        raise BenchFailed("%s does not run with %d bridges" % (name, site.bridges))
    return found


def check(site: Site, who: str) -> None:
    """Every port is there, all flows are, and the switch does not wait for more of them. Not timed."""
    switch, there = (result["rows"] for result in host.transact(site.paths, [
        {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["other_config"]},
        {"op": "select", "table": "Interface", "where": [["ofport", ">", 0]], "columns": ["name"]}]))
    ports = site.bridges * (PORTS + 1)
    if len(there) != ports or switch != [{"other_config": ["map", []]}]:
        raise BenchFailed("%s with %d bridges left %d of %d ports, and %s" % (
            who, site.bridges, len(there), ports, switch))
    for bridge in flow_bridges(site.bridges) if site.flows else ():
        said = subprocess.check_output(("ovs-ofctl", "-O", "OpenFlow14", "dump-aggregate",
                                        "unix:%s" % site.paths.bridge_socket("xenbr%d" % bridge))).decode()
        if "flow_count=%d" % site.flows not in said.split():
            raise BenchFailed("%s with %d bridges did not keep the %d flows of xenbr%d (%s)" % (
                who, site.bridges, site.flows, bridge, said.strip()))
