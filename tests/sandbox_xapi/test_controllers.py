"""The SDN controller: XAPI's table of what it takes, and the plugin runs that follow, in their order."""

import sys
from pathlib import Path
from typing import Any, List

import pytest

from ovsxen.sandbox.xapi.hosts import UPDATE_PLUGIN
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import make_world, ref_of
from tests.sandbox_xapi.conftest import Host, MakeXapi, details, other_root

RECORDING = """#!/bin/sh
cat >>@/runs <<END
$1
END
echo '<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member>\
<member><name>Value</name><value>done</value></member></struct></value></param></params></methodResponse>'
"""


def runs_of(root: Path) -> List[str]:
    """The documents that the recording plugin of that root was called with."""
    path = root / "runs"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("protocol, address, port, error", [
    ("pssl", "192.0.2.1", "0", ["INVALID_VALUE", "address", "192.0.2.1"]),
    ("pssl", "", "6640", ["INVALID_VALUE", "port", "6640"]),
    ("ssl", "", "6640", ["INVALID_VALUE", "address", ""]),
    ("ssl", "controller.example", "0", ["INVALID_IP_ADDRESS_SPECIFIED", "address"]),
    ("ssl", "2001:db8::1", "0", ["INVALID_IP_ADDRESS_SPECIFIED", "address"]),
    ("ssl", "192.0.2.256", "0", ["INVALID_IP_ADDRESS_SPECIFIED", "address"]),
    ("ssl", "192.0.2.1", "-1", ["VALUE_NOT_SUPPORTED", "port", "-1", "Port out of range"]),
    ("ssl", "192.0.2.1", "65536", ["VALUE_NOT_SUPPORTED", "port", "65536", "Port out of range"]),
    ("tcp", "192.0.2.1", "1", ["FIELD_TYPE_ERROR", "protocol"]),
    ("ssl", "192.0.2.1", "x", ["FIELD_TYPE_ERROR", "port"]),
])
def test_a_wrong_controller_is_refused(
        client: Any, xapi: FakeXapi, protocol: str, address: str, port: str, error: List[str]) -> None:
    assert details(lambda: client.SDN_controller.introduce(protocol, address, port)) == error
    assert client.SDN_controller.get_all() == [] and xapi.plugin_runs == []


@pytest.mark.parametrize("protocol, address, port, stored", [
    ("ssl", "192.0.2.1", "0", "6632"), ("ssl", "192.0.2.1", "6640", "6640"), ("ssl", "192.0.2.1", 1, "1"),
    ("ssl", "192.0.2.1", "65535", "65535"), ("pssl", "", "0", "0"),
])
def test_a_right_controller_is_stored(client: Any, protocol: str, address: str, port: Any, stored: str) -> None:
    ref = client.SDN_controller.introduce(protocol, address, port)
    record = client.SDN_controller.get_record(ref)
    assert (record["protocol"], record["address"], record["port"]) == (protocol, address, stored)
    assert details(lambda: client.SDN_controller.introduce(protocol, address, port)) == [
        "OPERATION_NOT_ALLOWED", "SDN controller has been configured. Please forget it first."]


def test_a_pool_of_linux_bridges_takes_no_controller(make_xapi: MakeXapi, host: Host) -> None:
    xapi = make_xapi(backend="bridge")
    client = host.client().xenapi
    refusal = ["OPERATION_NOT_ALLOWED", "host not configured for vswitch operation"]
    assert details(lambda: client.SDN_controller.introduce("ssl", "192.0.2.1", "0")) == refusal
    assert details(lambda: client.pool.set_vswitch_controller("192.0.2.1")) == refusal
    controller = xapi.database.add("SDN_controller", address="192.0.2.1", port=6632)
    client.SDN_controller.forget(controller)
    assert client.SDN_controller.get_all() == [] and xapi.plugin_runs == []


def test_introduce_and_forget_run_the_update_on_every_live_host(root: Path, make_xapi: MakeXapi, host: Host) -> None:
    other = other_root(root, "other")
    host.plugin(UPDATE_PLUGIN, RECORDING)
    Host(other.root).plugin(UPDATE_PLUGIN, RECORDING)
    uuid = uuid_of_host(1)
    xapi = make_xapi(hosts=3, hosts_roots={uuid: other})
    client = host.client().xenapi
    controller = client.SDN_controller.introduce("ssl", "192.0.2.1", "0")
    assert [len(runs_of(each)) for each in (host.paths.root, other.root)] == [1, 1]
    client.SDN_controller.forget(controller)
    assert [len(runs_of(each)) for each in (host.paths.root, other.root)] == [2, 2]
    assert [run[:2] for run in xapi.plugin_runs] == [(UPDATE_PLUGIN, "update")] * 4
    assert [run.outcome for run in xapi.plugin_runs] == ["done"] * 4
    assert len(xapi.sessions) == 1  # what the runs were given is gone


def uuid_of_host(number: int) -> str:
    found = [row for row in make_world(hosts=number + 1).rows if row.ref == ref_of("host", "host%d" % number)]
    return str(found[0].fields["uuid"])


def test_a_failing_update_is_nobodys_business(xapi: FakeXapi, host: Host, client: Any) -> None:
    host.plugin(UPDATE_PLUGIN, "#!/bin/sh\nexit 3\n")
    client.SDN_controller.introduce("ssl", "192.0.2.1", "0")
    assert len(client.SDN_controller.get_all()) == 1
    assert str(xapi.plugin_runs[0].outcome).startswith("XENAPI_PLUGIN_FAILURE ['non-zero exit'")


SEEING = """#!/bin/sh
exec @PYTHON - "$1" <<'END'
import re, sys
from XenAPI import XenAPI
session = XenAPI.Session("http://SOCKET/", transport=XenAPI.UDSTransport())
session._session = re.search("OpaqueRef:[0-9a-f-]+", sys.argv[1]).group()
pool = session.xenapi.pool.get_all_records().popitem()[1]
seen = [pool["vswitch_controller"], [row["address"] + ":" + row["port"] for row in
        session.xenapi.SDN_controller.get_all_records().values()]]
with open("ROOT/seen", "a") as stream:
    stream.write(repr(seen) + "\\n")
END
"""


def seeing(host: Host) -> str:
    """A plugin that calls back, while its caller waits, and writes down what it finds."""
    return (SEEING.replace("@PYTHON", sys.executable).replace("SOCKET", str(host.socket).replace("/", "_"))
            .replace("ROOT", str(host.paths.root)))


def test_set_vswitch_controller_goes_in_xapis_order(xapi: FakeXapi, host: Host, client: Any) -> None:
    host.plugin(UPDATE_PLUGIN, seeing(host))
    client.pool.set_vswitch_controller("192.0.2.1")
    client.pool.set_vswitch_controller("192.0.2.2")
    client.pool.set_vswitch_controller("192.0.2.2")  # nothing new
    client.pool.set_vswitch_controller("")
    assert (host.paths.root / "seen").read_text().splitlines() == [
        "['192.0.2.1', ['192.0.2.1:6632']]",
        "['192.0.2.2', []]", "['192.0.2.2', ['192.0.2.2:6632']]",
        "['', []]"]
    assert details(lambda: client.pool.set_vswitch_controller("name")) == ["INVALID_IP_ADDRESS_SPECIFIED", "address"]


def test_forget_leaves_the_pools_old_field(client: Any) -> None:
    client.pool.set_vswitch_controller("192.0.2.1")
    client.SDN_controller.forget(client.SDN_controller.get_all()[0])
    assert client.pool.get_vswitch_controller(client.pool.get_all()[0]) == "192.0.2.1"


def test_a_xapi_before_the_class_has_the_field_alone(make_xapi: MakeXapi, host: Host) -> None:
    xapi = make_xapi(sdn_controller_class=False)
    client = host.client().xenapi
    host.plugin(UPDATE_PLUGIN, RECORDING)
    for call in (client.SDN_controller.get_all, client.SDN_controller.get_all_records):
        assert details(call)[0] == "MESSAGE_METHOD_UNKNOWN"
    client.pool.set_vswitch_controller("192.0.2.1")
    assert client.pool.get_vswitch_controller(client.pool.get_all()[0]) == "192.0.2.1"
    assert len(runs_of(host.paths.root)) == 1 and xapi.database.rows("SDN_controller") == {}


def test_a_start_of_the_toolstack_runs_the_update_here_and_swallows_its_end(make_xapi: MakeXapi, host: Host) -> None:
    xapi = make_xapi(hosts=2)
    xapi.start_toolstack()
    assert str(xapi.plugin_runs[0].outcome) == "XENAPI_MISSING_PLUGIN ['%s']" % UPDATE_PLUGIN
    host.plugin(UPDATE_PLUGIN, RECORDING)
    xapi.start_toolstack()
    assert xapi.plugin_runs[1] == (UPDATE_PLUGIN, "update", "done")
    assert len(xapi.plugin_runs) == 2 and xapi.sessions == []
