"""The golden traces again: the world in which the historic plugins were watched, on a real switch, and what ovsxen does
in it. Where it answers something else than they did, the reason stands beside it.

The world: bridge xapi1 (a MAC of its own, port eth0, the management interface) with VLAN bridge xapi5 (tag 7) on it;
the pool is secure, the network of xapi1 is secure and wants in-band control off, that of xapi5 says nothing.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from ovsxen.sandbox import certificates
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import World, make_world
from tests.conftest import SandboxHost
from tests.test_update import FAIL_MODE, IN_BAND, flows, other_config

MAC = "00:11:22:33:44:55"
NO_CHANGE = "No change to configuration"
SET_PSSL = "Successfully set controller to pssl:6640.  "
REMOVED = "Successfully removed controller config.  "
BRIDGES = "Updated in-band management.  Updated fail_mode.  "

FIREWALL_PORT = """#!/bin/sh
case $1 in
    check) [ -e {0}/port-$2 ] && echo open || echo closed; exit;;
    open) : > {0}/port-$2;;
    close) rm -f {0}/port-$2;;
esac
echo "$@" >> {0}/firewall-calls
"""


class Ssl(NamedTuple):
    """The row of the table SSL, its files by name."""

    ca_cert: str
    bootstrap: bool


class State(NamedTuple):
    """What a run leaves behind: the database as far as it is an update's, and the calls of firewall-port in that run.
    """

    manager: str
    ssl: Optional[Ssl]
    firewall: Tuple[str, ...] = ()


class Traced:
    """The host of the traces."""

    def __init__(self, host: SandboxHost, xapi: FakeXapi) -> None:
        self.host = host
        self.xapi = xapi

    def introduce(self, protocol: str, address: str = "", port: int = 0) -> None:
        self.forget()
        self.xapi.database.add("SDN_controller", protocol=protocol, address=address, port=port)

    def forget(self) -> None:
        for ref in list(self.xapi.database.rows("SDN_controller")):
            self.xapi.database.remove("SDN_controller", ref)

    def set_old_field(self, address: str) -> None:
        self.xapi.database.set("pool", self.xapi.database.find("pool"), vswitch_controller=address)

    def run(self) -> str:
        """The plugin as XAPI runs it; gives the text, without notes: the traces know none."""
        self.xapi.start_toolstack()
        outcome = str(self.xapi.plugin_runs[-1].outcome)
        return re.sub("  Note: .*", "  " if outcome.startswith(("S", "U")) else "", outcome)

    def state(self) -> State:
        """The calls of firewall-port are those since the last look."""
        calls = self.host.paths.root / "firewall-calls"
        said = tuple(calls.read_text().splitlines()) if calls.exists() else ()
        if calls.exists():
            calls.unlink()
        return State(self.host.vsctl("--no-wait", "get-manager"), self._ssl(), said)

    def _ssl(self) -> Optional[Ssl]:
        rows = [dict(zip(("key", "certificate", "ca_cert", "bootstrap"), row)) for row in json.loads(self.host.vsctl(
            "--no-wait", "--format=json", "--columns=private_key,certificate,ca_cert,bootstrap_ca_cert", "list",
            "SSL"))["data"]]
        for row in rows:
            assert row["key"] == row["certificate"] == str(self.host.paths.xapi_ssl_pem)
        return Ssl(Path(rows[0]["ca_cert"]).name, rows[0]["bootstrap"]) if rows else None

    def bridge(self) -> Dict[str, Any]:
        """fail_mode and other_config of the real bridge; the VLAN bridge is checked to be what it was."""
        assert self.host.vsctl("--no-wait", "br-to-parent", "xapi5") == "xapi1"
        assert self.host.vsctl("--no-wait", "br-to-vlan", "xapi5") == "7"
        shown = json.loads(self.host.vsctl("--no-wait", "--format=json", "--columns=fail_mode,other_config", "list",
                                           "Bridge", "xapi1"))["data"][0]
        return {"fail_mode": shown[0], "other_config": dict(shown[1][1])}


def world_of_the_traces(*, sdn_controller_class: bool) -> World:
    """A pool of one host, its bridges named as in the traces."""
    made = make_world(networks=1, vlans=1, sdn_controller_class=sdn_controller_class)
    names = {"xenbr0": "xapi1", "xapi0": "xapi5", "xapi1": "xapi9"}
    rows = tuple(row._replace(fields=dict(row.fields, bridge=names[row.fields["bridge"]]))
                 if row.class_name == "network" else row for row in made.rows)
    return made._replace(rows=rows)


def start_in_a_namespace(host: SandboxHost) -> None:
    """Nobody is at the controllers' addresses there, and nobody else has port 6640."""
    argv = ("unshare", "--net", sys.executable, "-m", "ovsxen", "start", "--json")
    assert json.loads(host.tool(*argv))["exit_code"] == 0


def traced(host: SandboxHost, xapi: FakeXapi) -> Traced:
    start_in_a_namespace(host)
    host.write(host.paths.networkd_db, "{}")
    certificates.make_host_pem(host.paths.xapi_ssl_pem)
    ca = certificates.make_controller(host.paths.root / "controller").ca.read_text()
    host.write(host.paths.sdn_controller_ca, ca)
    host.write(host.paths.plugins / "firewall-port", FIREWALL_PORT.format(host.paths.root))
    (host.paths.plugins / "firewall-port").chmod(0o755)
    host.vsctl("del-manager", "--", "del-ssl", "--", "add-br", "xapi1",
               "--", "set", "Bridge", "xapi1", 'other_config:hwaddr="%s"' % MAC,
               "--", "add-port", "xapi1", "eth0", "--", "add-br", "xapi5", "xapi1", "7")
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    other_config(xapi, "network", {FAIL_MODE: "secure", IN_BAND: "true"}, bridge="xapi1")
    return Traced(host, xapi)


@pytest.fixture
def today(host: SandboxHost) -> Iterator[Traced]:
    """Scenarios s1, s2 and s3: XAPI's own plugin."""
    with FakeXapi(host.paths, world_of_the_traces(sdn_controller_class=True)) as xapi:
        yield traced(host, xapi)


@pytest.fixture
def upstream(host: SandboxHost) -> Iterator[Traced]:
    """Scenarios u1, u2 and u3: the plugin that Open vSwitch had, and a XAPI before 7.2."""
    with FakeXapi(host.paths, world_of_the_traces(sdn_controller_class=False)) as xapi:
        yield traced(host, xapi)


def assert_the_bridge_is_as_its_network_says(host: Traced) -> None:
    """In all scenarios and after all runs. The traces end without disable-in-band: the VLAN's network, which says
    nothing, took from the real bridge what its own network had set; hwaddr is the host's, not the controller's.
    """
    assert host.bridge() == {"fail_mode": "secure", "other_config": {"hwaddr": MAC, "disable-in-band": "true"}}


def assert_the_management_flows_are_those_of_the_traces(host: Traced) -> None:
    """The four of the traces, but with the port that they lacked (`in_port=[]`), in from eth0 and out of it, and once.

    The traces match ARP requests as nw_proto=1, which is the same field.
    """
    port = host.host.vsctl("--no-wait", "get", "Interface", "eth0", "ofport")
    assert int(port) > 0
    assert sorted(_match_and_actions(flow) for flow in flows(host.host, "xapi1")) == sorted([
        ("arp,in_port=%s,arp_op=1" % port, "LOCAL"), ("in_port=%s,dl_dst=%s" % (port, MAC), "LOCAL"),
        ("arp,in_port=LOCAL,dl_src=%s" % MAC, "output:%s" % port),
        ("in_port=LOCAL,dl_src=%s" % MAC, "output:%s" % port)])


def _match_and_actions(flow: str) -> Tuple[str, str]:
    match, actions = flow.split("priority=0,")[1].split(" actions=")
    return match, actions


def assert_as_traced(host: Traced, expected_first: str, expected: State) -> None:
    """A run, and a second one. In the traces the second one is never quiet ("Updated in-band management.  "): the
    VLAN's network and the real one undid each other's key in every run; as shipped, it even reset the switch again.
    """
    assert host.run() == expected_first
    assert host.state() == expected
    assert_the_bridge_is_as_its_network_says(host)
    assert_the_management_flows_are_those_of_the_traces(host)
    counter = host.host.vsctl("--no-wait", "get", "Open_vSwitch", ".", "next_cfg")
    assert host.run() == NO_CHANGE
    assert host.state() == expected._replace(firewall=())
    assert_the_bridge_is_as_its_network_says(host)
    assert_the_management_flows_are_those_of_the_traces(host)
    assert host.host.vsctl("--no-wait", "get", "Open_vSwitch", ".", "next_cfg") == counter


def test_s1_s2_s3_a_controller_that_connects_one_that_is_connected_to_and_none(today: Traced) -> None:
    today.introduce("pssl")
    # Word by word the trace of the repaired plugin; as shipped, it never came to the bridges.
    assert_as_traced(today, SET_PSSL + BRIDGES, State("pssl:6640", Ssl("sdn-controller-ca.pem", bootstrap=False),
                                                      ("open 6640 tcp",)))
    today.introduce("ssl", "10.0.0.9", 6632)
    # The trace goes on with "Updated in-band management.  Updated fail_mode.  ": emer-reset had just cleared both, and
    # the secure bridge stood open until the plugin came to it. Here they are never cleared, so nothing is updated.
    # The CA is the controller's own file, where it was one file for all that was deleted at each change.
    assert_as_traced(today, "Successfully set controller to ssl:10.0.0.9:6632.  ",
                     State("ssl:10.0.0.9:6632", Ssl("vswitchd.cacert-10.0.0.9", bootstrap=True), ("close 6640 tcp",)))
    today.forget()
    # The same; and the trace closes the port again, which here was closed by who had opened it.
    assert_as_traced(today, REMOVED, State("", None))


def test_s3_the_removal_of_a_controller_that_connects_closes_its_port(today: Traced) -> None:
    today.introduce("pssl")
    assert today.run() == SET_PSSL + BRIDGES
    today.state()
    today.forget()
    assert_as_traced(today, REMOVED, State("", None, ("close 6640 tcp",)))


def test_s3_without_anything_before_only_the_bridges_are_updated(today: Traced) -> None:
    """The trace as shipped answers "No change to configuration" and leaves the bridges; the repaired one is the same as
    this but for its second run.
    """
    assert_as_traced(today, BRIDGES, State("", None))


def test_u1_u2_u3_the_pools_old_field(upstream: Traced) -> None:
    upstream.set_old_field("10.0.0.9")
    # The trace names the bare address; a target says which protocol and port were set.
    assert_as_traced(upstream, "Successfully set controller to ssl:10.0.0.9:6640.  " + BRIDGES,
                     State("ssl:10.0.0.9:6640", Ssl("vswitchd.cacert-10.0.0.9", bootstrap=True)))
    upstream.set_old_field("10.0.0.10")
    # Without "Updated …", as in s2.
    assert_as_traced(upstream, "Successfully set controller to ssl:10.0.0.10:6640.  ",
                     State("ssl:10.0.0.10:6640", Ssl("vswitchd.cacert-10.0.0.10", bootstrap=True)))
    upstream.set_old_field("")
    assert_as_traced(upstream, REMOVED, State("", None))


def test_what_a_reset_kept_and_cleared_in_the_traces_it_keeps_and_clears(today: Traced) -> None:
    """`ovs-vsctl emer-reset` stands in each trace before the manager is set; its effect is here, in one transaction."""
    today.introduce("pssl")
    today.run()
    before = _uuids(today.host)
    today.host.vsctl("--no-wait", "set", "Bridge", "xapi1", "other_config:datapath-id=00000000000000ff",
                     "external_ids:bridge-id=xapi1", "--", "set", "Port", "eth0", "other_config:lacp-time=fast",
                     "--", "set", "Interface", "eth0", "ingress_policing_rate=1000")
    today.introduce("ssl", "10.0.0.9", 6632)
    assert today.run() == "Successfully set controller to ssl:10.0.0.9:6632.  "
    assert_the_bridge_is_as_its_network_says(today)
    assert today.host.vsctl("--no-wait", "get", "Bridge", "xapi1", "external_ids:bridge-id") == "xapi1"
    assert today.host.vsctl("--no-wait", "get", "Port", "eth0", "other_config") == "{}"
    assert today.host.vsctl("--no-wait", "get", "Interface", "eth0", "ingress_policing_rate") == "0"
    assert _uuids(today.host) == before


def _uuids(host: SandboxHost) -> List[str]:
    """Bridges and ports are the same rows, not others of the same name."""
    return [host.vsctl("--no-wait", "--columns=_uuid,name", "list", table) for table in ("Bridge", "Port")]
