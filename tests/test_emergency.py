"""The emergency reset by hand and its undoing, as an operator sees them. What is cleared is in test_plan_reset.py."""


import pytest

from ovsxen.sandbox import certificates
from ovsxen.sandbox.xapi.server import FakeXapi
from tests.conftest import SandboxHost


@pytest.fixture
def secure(host: SandboxHost, xapi: FakeXapi) -> SandboxHost:
    """A host in a pool that is secure, with a controller; its management bridge has its flows."""
    host.start()
    host.write(host.paths.networkd_db, "{}")
    certificates.make_host_pem(host.paths.xapi_ssl_pem)
    host.vsctl("add-br", "xenbr0", "--", "add-port", "xenbr0", "eth0", "--", "add-br", "xenbr1")
    xapi.database.set("pool", xapi.database.find("pool"), other_config={"vswitch-controller-fail-mode": "secure"})
    xapi.database.add("SDN_controller", protocol="ssl", address="127.0.0.1", port=6632)
    assert host.ovsxen("update").code == 0
    return host


def fail_modes(host: SandboxHost) -> str:
    return " ".join(host.vsctl("get", "Bridge", bridge, "fail_mode") for bridge in ("xenbr0", "xenbr1"))


def test_undoing_never_makes_the_management_bridge_secure_without_its_flows(secure: SandboxHost) -> None:
    assert secure.ovsxen("emergency-reset").code == 0
    assert fail_modes(secure) == "[] []"
    done = secure.ovsxen("emergency-reset", "--undo")
    assert done.code == 0 and "xenbr0" in done.err and "ovsxen update" in done.err
    assert fail_modes(secure) == "[] secure"
    assert secure.vsctl("get-manager") == "ssl:127.0.0.1:6632"
    assert secure.ovsxen("update").code == 0
    assert fail_modes(secure) == "secure secure"
    flows = secure.tool("ovs-ofctl", "dump-flows", "unix:%s" % secure.paths.bridge_socket("xenbr0"))
    assert flows.count("cookie=0x6f767378656e") == 4


def test_only_the_last_reset_is_undone_and_only_once(secure: SandboxHost) -> None:
    for value in ("1", "2"):
        secure.vsctl("set", "Bridge", "xenbr1", "other_config:datapath-id=000000000000000" + value)
        assert secure.ovsxen("emergency-reset").code == 0
    assert secure.ovsxen("emergency-reset", "--undo").code == 0
    assert "nothing to bring back" in secure.ovsxen("emergency-reset", "--undo").out
    assert secure.vsctl("get", "Bridge", "xenbr1", "other_config:datapath-id") == '"0000000000000002"'


def test_a_reset_shows_in_status_and_does_nothing_twice(secure: SandboxHost) -> None:
    assert secure.ovsxen("emergency-reset").code == 0
    assert secure.status()["update"]["text"] == "Successfully reset configuration"
    again = secure.ovsxen("emergency-reset", "--json").json
    assert (again["changes"], again["notes"]) == ([], ["there was nothing to clear"])


def test_on_a_host_in_bridge_mode_or_without_a_switch_it_is_told_why_nothing_is_done(host: SandboxHost) -> None:
    done = host.ovsxen("emergency-reset")
    assert done.code == 1 and "ovsdb-server does not run: run `ovsxen start`" in done.err
    host.write(host.paths.network_conf, "bridge\n")
    done = host.ovsxen("emergency-reset")
    assert done.code == 0 and "Nothing was done" in done.out
