"""The update: the fake XAPI on its socket, the plugin as XAPI runs it, real daemons. Asserted is the database."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ovsxen.host.clock import Deadline
from ovsxen.sandbox import certificates
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import make_world
from ovsxen.xapi import dbcache
from tests.conftest import Finished, SandboxHost, ask_xapi

FAIL_MODE = "vswitch-controller-fail-mode"
IN_BAND = "vswitch-disable-in-band"


@pytest.fixture
def up(host: SandboxHost, xapi: FakeXapi) -> SandboxHost:
    """A host of today (xcp-networkd has its file) whose switch runs and agrees with XAPI, without a controller.

    xenbr0 has the management interface and a VLAN, xenbr1 is another network's.
    """
    host.start()
    host.write(host.paths.networkd_db, "{}")
    certificates.make_host_pem(host.paths.xapi_ssl_pem)
    host.vsctl("add-br", "xenbr0", "--", "add-port", "xenbr0", "eth0", "--", "add-br", "xenbr1",
               "--", "add-br", bridge_of_vlan(xapi), "xenbr0", "100")
    update(host)
    return host


def bridge_of_vlan(xapi: FakeXapi) -> str:
    return next(str(row["bridge"]) for row in xapi.database.rows("network").values()
                if str(row["bridge"]).startswith("xapi"))


def update(host: SandboxHost, *arguments: str) -> Dict[str, Any]:
    """`ovsxen update --json`, which must succeed."""
    done = host.ovsxen("update", "--json", *arguments)
    assert done.code == 0, done
    answer = done.json
    assert isinstance(answer, dict)
    return answer


def introduce(xapi: FakeXapi, protocol: str = "ssl", address: str = "127.0.0.1", port: int = 6632) -> str:
    for ref in list(xapi.database.rows("SDN_controller")):
        xapi.database.remove("SDN_controller", ref)
    return xapi.database.add("SDN_controller", protocol=protocol, address=address if protocol == "ssl" else "",
                             port=port if protocol == "ssl" else 0)


def other_config(xapi: FakeXapi, class_name: str, keys: Dict[str, str], **which: str) -> None:
    xapi.database.set(class_name, xapi.database.find(class_name, **which), other_config=keys)


def database(host: SandboxHost) -> str:
    """Everything that an update may write to, as text, with the number of writes that the switch was told of."""
    columns = {"Open_vSwitch": "manager_options,ssl,next_cfg", "Manager": "_uuid,target,external_ids",
               "SSL": "private_key,certificate,ca_cert,bootstrap_ca_cert", "Port": "_uuid,name,other_config",
               "Interface": "_uuid,name,ingress_policing_rate", "Controller": "target",
               "Bridge": "_uuid,name,fail_mode,other_config,external_ids,controller"}
    return "\n".join(host.vsctl("--no-wait", "--format=json", "--columns=" + names, "list", table)
                     for table, names in columns.items())


def fail_mode(host: SandboxHost, bridge: str) -> str:
    return host.vsctl("--no-wait", "get", "Bridge", bridge, "fail_mode").strip("[]")


def flows(host: SandboxHost, bridge: str) -> List[str]:
    text = host.tool("ovs-ofctl", "dump-flows", "unix:%s" % host.paths.bridge_socket(bridge))
    return [line for line in text.splitlines() if "cookie=0x6f767378656e" in line]


def lose_flows(host: SandboxHost, bridge: str) -> None:
    host.tool("ovs-ofctl", "del-flows", "unix:%s" % host.paths.bridge_socket(bridge))


def test_a_second_run_writes_nothing_whatever_the_controller(up: SandboxHost, xapi: FakeXapi) -> None:
    for number, (protocol, address) in enumerate((("ssl", "127.0.0.1"), ("ssl", "127.0.0.2"), ("pssl", ""))):
        host_ca = up.paths.sdn_controller_ca
        host_ca.parent.mkdir(parents=True, exist_ok=True)
        host_ca.write_bytes(certificates.make_controller(up.paths.root / ("c%d" % number)).ca.read_bytes())
        introduce(xapi, protocol, address)
        target = "ssl:%s:6632" % address if protocol == "ssl" else "pssl:6640"
        assert update(up)["text"] == "Successfully set controller to %s.  " % target
        assert up.vsctl("--no-wait", "get-manager") == target
        before = database(up)
        for _ in range(2):
            again = update(up)
            assert (again["text"], again["changes"]) == ("No change to configuration", [])
        assert database(up) == before


def test_the_plugin_answers_as_the_command_does(up: SandboxHost, xapi: FakeXapi) -> None:
    introduce(xapi)
    xapi.start_toolstack()
    xapi.start_toolstack()
    assert [run.outcome for run in xapi.plugin_runs] == [
        "Successfully set controller to ssl:127.0.0.1:6632.  ", "No change to configuration"]
    assert up.status()["update"]["text"] == "No change to configuration"
    assert xapi.sessions == []


def test_xapi_is_asked_once_for_each_class_whatever_the_number_of_bridges(up: SandboxHost, xapi: FakeXapi) -> None:
    before = len(xapi.calls)
    update(up)
    assert xapi.calls[before:] == ["session.login_with_password", "pool.get_all_records",
                                   "SDN_controller.get_all_records", "network.get_all_records", "session.logout"]


def test_without_a_controller_in_xapi_the_switch_has_none(up: SandboxHost, xapi: FakeXapi) -> None:
    ref = introduce(xapi)
    update(up)
    xapi.database.remove("SDN_controller", ref)
    assert update(up)["text"] == "Successfully removed controller config.  "
    assert up.vsctl("--no-wait", "get-manager") == ""
    assert up.vsctl("--no-wait", "get", "Open_vSwitch", ".", "ssl") == "[]"


def test_a_stale_address_in_the_pools_old_field_is_not_believed(up: SandboxHost, xapi: FakeXapi) -> None:
    xapi.database.set("pool", xapi.database.find("pool"), vswitch_controller="127.0.0.9")
    before = database(up)
    assert update(up)["text"] == "No change to configuration"
    assert database(up) == before


def test_the_pools_old_field_decides_where_xapi_knows_no_sdn_controllers(host: SandboxHost) -> None:
    host.start()
    certificates.make_host_pem(host.paths.xapi_ssl_pem)
    host.settings("VSWITCH_CONTROLLER_PORT=6632")
    with FakeXapi(host.paths, make_world(sdn_controller_class=False)) as xapi:
        xapi.database.set("pool", xapi.database.find("pool"), vswitch_controller="fd00::1")
        assert update(host)["text"].startswith("Successfully set controller to ssl:[fd00::1]:6632.  ")
        assert update(host)["text"] == "No change to configuration"
        xapi.database.set("pool", xapi.database.find("pool"), vswitch_controller="")
        assert update(host)["text"] == "Successfully removed controller config.  "


def test_a_controller_set_the_old_way_is_set_once_and_its_two_runs_end_well(up: SandboxHost, xapi: FakeXapi) -> None:
    """pool.set_vswitch_controller writes the field, forgets (a run), introduces (a run)."""
    ask_xapi(up, "pool.set_vswitch_controller", "127.0.0.5")
    assert up.vsctl("--no-wait", "get-manager") == "ssl:127.0.0.5:6632"
    before = database(up)
    xapi.start_toolstack()
    assert database(up) == before


def test_a_reset_keeps_a_secure_bridge_secure_in_every_commit(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    update(up)
    introduce(xapi)
    up.vsctl("--no-wait", "set", "Bridge", "xenbr1", "other_config:datapath-id=0000000000000001")
    update(up)
    assert fail_mode(up, "xenbr0") == fail_mode(up, "xenbr1") == "secure"
    assert "datapath-id" not in up.vsctl("--no-wait", "get", "Bridge", "xenbr1", "other_config")
    log = up.tool("ovsdb-tool", "show-log", "-mmm", str(up.paths.conf_db))
    after_secure = log[log.index("secure"):]
    assert "fail_mode=[]" not in after_secure and "standalone" not in after_secure


def test_what_a_reset_cleared_can_be_brought_back(up: SandboxHost, xapi: FakeXapi) -> None:
    up.vsctl("--no-wait", "set", "Bridge", "xenbr1", "other_config:datapath-id=0000000000000001",
             "--", "set", "Port", "eth0", "other_config:lacp-time=fast", "--", "set-controller", "xenbr1", "ptcp:16653",
             "--", "set-manager", "ptcp:16640:127.0.0.1")
    introduce(xapi)
    assert any("--undo" in note for note in update(up)["notes"])
    assert up.vsctl("--no-wait", "get", "Port", "eth0", "other_config") == "{}"
    done = up.ovsxen("emergency-reset", "--undo")
    assert done.code == 0, done
    assert up.vsctl("--no-wait", "get", "Port", "eth0", "other_config") == "{lacp-time=fast}"
    assert up.vsctl("--no-wait", "get", "Bridge", "xenbr1", "other_config:datapath-id") == '"0000000000000001"'
    assert up.vsctl("--no-wait", "get-controller", "xenbr1") == "ptcp:16653"
    assert up.vsctl("--no-wait", "get-manager") == "ssl:127.0.0.1:6632"
    assert "ptcp:16640:127.0.0.1" in done.err and "ovsxen-keep" in done.err
    assert "nothing to bring back" in up.ovsxen("emergency-reset", "--undo").out


def test_with_emer_reset_never_only_manager_and_tls_change(up: SandboxHost, xapi: FakeXapi) -> None:
    up.settings("EMER_RESET=never")
    up.vsctl("--no-wait", "set", "Bridge", "xenbr1", "other_config:datapath-id=0000000000000001")
    introduce(xapi)
    update(up)
    assert up.vsctl("--no-wait", "get-manager") == "ssl:127.0.0.1:6632"
    assert up.vsctl("--no-wait", "get", "Bridge", "xenbr1", "other_config:datapath-id") == '"0000000000000001"'


def test_managers_that_the_administrator_marked_stay(up: SandboxHost, xapi: FakeXapi) -> None:
    up.vsctl("--no-wait", "set-manager", "ptcp:16640:127.0.0.1", "--", "set", "Manager", "ptcp:16640:127.0.0.1",
             "external_ids:ovsxen-keep=true")
    assert update(up)["text"] == "No change to configuration"
    ref = introduce(xapi)
    update(up)
    assert up.vsctl("--no-wait", "get-manager").split() == ["ptcp:16640:127.0.0.1", "ssl:127.0.0.1:6632"]
    xapi.database.remove("SDN_controller", ref)
    update(up)
    assert up.vsctl("--no-wait", "get-manager") == "ptcp:16640:127.0.0.1"


def test_a_manager_that_is_not_understood_is_left_and_told_of(up: SandboxHost, xapi: FakeXapi) -> None:
    up.vsctl("--no-wait", "set-manager", "ssl::6632")
    before = database(up)
    answer = update(up)
    assert answer["text"] == "No change to configuration"
    assert "ssl::6632" in " ".join(answer["notes"])
    assert database(up) == before


def test_in_band_and_fail_mode_follow_the_network_of_the_bridge_itself(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "network", {IN_BAND: "true", FAIL_MODE: "secure"}, bridge="xenbr1")
    vlan = bridge_of_vlan(xapi)
    other_config(xapi, "network", {IN_BAND: "true", FAIL_MODE: "secure"}, bridge=vlan)
    answer = update(up)
    assert answer["text"] == "Updated in-band management.  Updated fail_mode.  "
    assert (fail_mode(up, "xenbr0"), fail_mode(up, "xenbr1")) == ("standalone", "secure")
    assert up.vsctl("--no-wait", "get", "Bridge", "xenbr1", "other_config:disable-in-band") == '"true"'
    assert up.vsctl("--no-wait", "--if-exists", "get", "Bridge", "xenbr0", "other_config:disable-in-band") == ""
    assert sum(vlan in note for note in answer["notes"]) == 2
    assert update(up)["text"] == "No change to configuration"


def test_bridges_that_xapi_does_not_know_are_left_alone_also_by_a_reset(up: SandboxHost, xapi: FakeXapi) -> None:
    up.vsctl("add-br", "br-int", "--", "set-controller", "br-int", "ptcp:16653:127.0.0.1", "--", "set-fail-mode",
             "br-int", "secure", "--", "set", "Bridge", "br-int", "other_config:datapath-id=00000000000000ff")
    shown = up.vsctl("list", "Bridge", "br-int")
    introduce(xapi)
    update(up)
    assert up.vsctl("list", "Bridge", "br-int") == shown


def test_a_dry_run_says_what_it_would_do_and_does_nothing(up: SandboxHost, xapi: FakeXapi) -> None:
    introduce(xapi)
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    before = database(up)
    answer = update(up, "--dry-run")
    assert answer["text"] == ("Nothing was changed, this is a dry run. The answer would be: "
                              "Successfully set controller to ssl:127.0.0.1:6632.  Updated fail_mode.  ")
    assert "Bridge xenbr1 fail_mode: standalone → secure" in answer["changes"]
    assert database(up) == before
    assert flows(up, "xenbr0") == []
    up.paths.xapi_ssl_pem.unlink()
    assert str(up.paths.xapi_ssl_pem) in failed(up.ovsxen("update", "--dry-run", "--json"))


def test_a_dry_run_sees_flows_that_are_missing(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    update(up)
    lose_flows(up, "xenbr0")
    assert update(up, "--dry-run")["changes"] == ["management flows of bridge xenbr0"]
    assert flows(up, "xenbr0") == []


def test_in_bridge_mode_there_is_nothing_to_agree(up: SandboxHost, xapi: FakeXapi) -> None:
    introduce(xapi)
    up.write(up.paths.network_conf, "bridge\n")
    before = database(up)
    assert update(up)["text"] == "No change to configuration"
    assert database(up) == before


# Management flows

def test_the_management_bridge_turns_secure_with_its_flows_in_place(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    update(up)
    assert fail_mode(up, "xenbr0") == "secure"
    assert len(flows(up, "xenbr0")) == 4
    assert flows(up, "xenbr1") == []


def test_a_management_bridge_whose_ports_are_not_known_does_not_turn_secure(up: SandboxHost, xapi: FakeXapi) -> None:
    up.vsctl("del-port", "xenbr0", "eth0")
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    bridge = up.vsctl("list", "Bridge", "xenbr0")
    for _ in range(2):
        answer = update(up)
        assert any("xenbr0" in note and "eth0" in note for note in answer["notes"])
        assert up.vsctl("list", "Bridge", "xenbr0") == bridge
        assert fail_mode(up, "xenbr1") == "secure"
    up.vsctl("add-port", "xenbr0", "eth0")
    assert update(up)["text"] == "Updated fail_mode.  "
    assert len(flows(up, "xenbr0")) == 4


def test_flows_that_a_restart_of_the_switch_lost_come_back_with_it(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    update(up)
    assert up.ovsxen("restart").code == 0
    assert len(flows(up, "xenbr0")) == 4
    assert update(up)["text"] == "No change to configuration"


def test_flows_that_somebody_removed_come_back(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    update(up)
    lose_flows(up, "xenbr0")
    assert update(up)["text"] == "Added management flows.  "
    assert len(flows(up, "xenbr0")) == 4
    assert update(up)["text"] == "No change to configuration"


def test_stale_flows_of_ours_go_when_a_port_has_another_number(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    update(up)
    up.vsctl("set", "Interface", "eth0", "ofport_request=22")
    assert update(up)["text"] == "Added management flows.  "
    assert len(flows(up, "xenbr0")) == 4 and not any("in_port=1," in flow for flow in flows(up, "xenbr0"))


def test_flows_that_a_killed_update_left_on_a_standalone_bridge_go(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    update(up)
    up.vsctl("set", "Bridge", "xenbr0", "fail_mode=standalone")
    up.tool("ovs-ofctl", "add-flow", "unix:%s" % up.paths.bridge_socket("xenbr0"),
            "cookie=0x6f767378656e,priority=0,arp,in_port=1,actions=LOCAL")
    up.write(up.paths.guarded_bridge, "xenbr0")
    other_config(xapi, "pool", {})
    update(up)
    assert flows(up, "xenbr0") == [] and not up.paths.guarded_bridge.exists()


@pytest.mark.parametrize("wrong", ["elsewhere", "no-vlan-bridge", "none", "two"])
def test_a_management_bridge_that_is_not_what_xapi_says_does_not_turn_secure(up: SandboxHost, xapi: FakeXapi,
                                                                           wrong: str) -> None:
    eth0, eth1 = (xapi.database.find("PIF", device=device, VLAN=-1) for device in ("eth0", "eth1"))
    if wrong == "elsewhere":
        up.vsctl("del-port", "xenbr0", "eth0", "--", "add-port", "xenbr1", "eth0", "--", "add-port", "xenbr0", "eth9")
    elif wrong == "no-vlan-bridge":
        up.vsctl("del-br", bridge_of_vlan(xapi))
        xapi.database.set("PIF", eth0, management=False)
        xapi.database.set("PIF", xapi.database.find("PIF", device="eth0", VLAN=100), management=True)
    else:
        xapi.database.set("PIF", eth0, management=wrong == "two")
        xapi.database.set("PIF", eth1, management=wrong == "two")
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    answer = update(up)
    assert any("xenbr0 was left as it is" in note for note in answer["notes"]), answer
    assert fail_mode(up, "xenbr0") == "standalone" and flows(up, "xenbr0") == []
    assert up.ovsxen("status").code == 150


def test_a_bridge_that_a_reset_had_to_leave_out_is_reset_as_soon_as_it_can_be(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    ref = introduce(xapi)
    update(up)
    up.vsctl("set-controller", "xenbr0", "ptcp:16653:127.0.0.1", "--", "set", "Bridge", "xenbr0",
             "other_config:forward-bpdu=true", "--", "del-port", "xenbr0", "eth0")
    xapi.database.remove("SDN_controller", ref)
    update(up)
    assert up.vsctl("get-controller", "xenbr0") == "ptcp:16653:127.0.0.1"
    assert update(up)["changes"] == []
    up.vsctl("add-port", "xenbr0", "eth0")
    assert update(up)["text"] == "Reset bridges.  "
    assert up.vsctl("get-controller", "xenbr0") == ""
    assert "forward-bpdu" not in up.vsctl("get", "Bridge", "xenbr0", "other_config")
    assert (fail_mode(up, "xenbr0"), len(flows(up, "xenbr0"))) == ("secure", 4)
    assert up.status()["update"]["owed"] == []


def losing_ofctl(directory: Path) -> str:
    """A PATH with an ovs-ofctl that loses what is added once the bridge is secure, as a hostile switch would."""
    from ovsxen.host import proc
    shim = directory / "bin" / "ovs-ofctl"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text("#!/bin/sh\nif [ \"$(ovs-vsctl --no-wait get Bridge xenbr0 fail_mode)\" = secure ]; then\n"
                    "case \" $* \" in *' add-flows '*) exit 0;; esac; fi\nexec %s \"$@\"\n"
                    % proc.find_program("ovs-ofctl"))
    shim.chmod(0o755)
    return os.pathsep.join([str(shim.parent)] + proc.search_path())


def test_a_bridge_that_loses_its_flows_is_put_back_and_not_tried_again(up: SandboxHost, xapi: FakeXapi,
                                                                      tmp_path: Path) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    path = losing_ofctl(tmp_path)
    done = up.ovsxen("update", "--json", PATH=path)
    assert done.code == 1 and "put back" in done.json["error"], done
    assert "Bridge xenbr0 fail_mode: secure → standalone" in done.json["changes"]
    assert (fail_mode(up, "xenbr0"), fail_mode(up, "xenbr1")) == ("standalone", "secure")
    assert flows(up, "xenbr0") == []
    assert "put back" in " ".join(up.status()["problems"])
    before = database(up)
    for _ in range(2):
        assert any("put back" in note for note in up.ovsxen("update", "--json", PATH=path).json["notes"])
        assert database(up) == before
    assert up.ovsxen("restart").code == 0
    update(up)
    assert fail_mode(up, "xenbr0") == "secure"


def test_a_bridge_is_put_back_whole_and_the_rest_is_done(up: SandboxHost, xapi: FakeXapi, tmp_path: Path) -> None:
    up.vsctl("--no-wait", "set-controller", "xenbr0", "ptcp:16653:127.0.0.1", "--", "set", "Bridge", "xenbr0",
             "other_config:disable-in-band=false", "other_config:datapath-id=0000000000000001")
    other_config(xapi, "network", {IN_BAND: "true", FAIL_MODE: "secure"}, bridge="xenbr0")
    introduce(xapi, "pssl")
    up.paths.sdn_controller_ca.parent.mkdir(parents=True)
    up.paths.sdn_controller_ca.write_bytes(certificates.make_controller(up.paths.root / "c").ca.read_bytes())
    firewall(up)
    was = up.vsctl("--no-wait", "--columns=fail_mode,other_config,external_ids", "list", "Bridge", "xenbr0")
    assert up.ovsxen("update", PATH=losing_ofctl(tmp_path)).code == 1
    assert up.vsctl("--no-wait", "--columns=fail_mode,other_config,external_ids", "list", "Bridge", "xenbr0") == was
    assert up.vsctl("--no-wait", "get-controller", "xenbr0") == "ptcp:16653:127.0.0.1"
    assert up.vsctl("--no-wait", "get-manager") == "pssl:6640"
    assert (up.paths.root / "state").exists()


# What goes wrong

def failed(done: Finished) -> str:
    assert done.code == 1, done
    assert done.json["changes"] == [] and done.json["error"], done
    return str(done.json["error"])


def test_certificates_that_cannot_be_used_keep_the_old_manager(up: SandboxHost, xapi: FakeXapi) -> None:
    introduce(xapi)
    update(up)
    introduce(xapi, address="127.0.0.2")
    before = database(up)
    good = up.paths.xapi_ssl_pem.read_bytes()
    for content in (b"", b"garbage", good[:len(good) // 2]):
        up.paths.xapi_ssl_pem.write_bytes(content)
        assert str(up.paths.xapi_ssl_pem) in failed(up.ovsxen("update", "--json"))
    up.paths.xapi_ssl_pem.unlink()
    assert str(up.paths.xapi_ssl_pem) in failed(up.ovsxen("update", "--json"))
    up.paths.xapi_ssl_pem.write_bytes(good)
    introduce(xapi, "pssl")
    assert str(up.paths.sdn_controller_ca) in failed(up.ovsxen("update", "--json"))
    assert database(up) == before
    assert up.status()["verdict"] == "degraded"


def test_a_pinned_ca_stays_over_runs_and_reboots_and_goes_with_its_controller(up: SandboxHost, xapi: FakeXapi) -> None:
    introduce(xapi)
    update(up)
    pin = up.paths.pinned_ca("127.0.0.1")
    pin.write_bytes(certificates.make_controller(up.paths.root / "c").ca.read_bytes())
    pinned = pin.read_bytes()
    update(up)
    up.vsctl("--no-wait", "del-manager", "--", "del-ssl")  # what a reboot with its database in memory leaves
    update(up)
    assert pin.read_bytes() == pinned
    assert str(pin) in up.vsctl("--no-wait", "get-ssl")
    introduce(xapi, address="127.0.0.2")
    update(up)
    assert not pin.exists()


def test_the_ca_that_the_historic_plugin_trusted_is_taken_over(up: SandboxHost, xapi: FakeXapi) -> None:
    up.paths.historic_ca.write_bytes(certificates.make_controller(up.paths.root / "c").ca.read_bytes())
    pem = str(up.paths.xapi_ssl_pem)
    up.vsctl("--no-wait", "--", "--bootstrap", "set-ssl", pem, pem, str(up.paths.historic_ca),
             "--", "set-manager", "ssl:127.0.0.1:6632")
    introduce(xapi)
    columns = "--columns=_uuid,target,external_ids,other_config", "list", "Manager"  # the server writes its status
    manager = up.vsctl("--no-wait", *columns)
    update(up)
    assert up.vsctl("--no-wait", *columns) == manager
    assert up.paths.pinned_ca("127.0.0.1").read_bytes() == up.paths.historic_ca.read_bytes()


def test_invalid_targets_are_refused_before_anything_is_touched(up: SandboxHost, xapi: FakeXapi) -> None:
    before = database(up)
    for address, port in (("controller.example", 6632), ("", 6632), ("127.0.0.1", 0), ("127.0.0.1", 70000)):
        introduce(xapi, address=address, port=port)
        assert "no IP address and port" in failed(up.ovsxen("update", "--json"))
    assert database(up) == before


def test_zero_or_two_pools_are_told_with_the_codes_that_callers_know(up: SandboxHost, xapi: FakeXapi) -> None:
    before = database(up)
    for fault, code in (("no_pool", "NO_POOL_FOR_HOST"), ("two_pools", "MORE_THAN_ONE_POOL_FOR_HOST")):
        xapi.faults.set(fault)
        xapi.start_toolstack()
        assert code in str(xapi.plugin_runs[-1].outcome)
        xapi.faults.clear()
    assert database(up) == before


def test_two_networks_on_one_bridge_that_disagree_leave_it_alone(up: SandboxHost, xapi: FakeXapi) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    xapi.database.set("network", xapi.database.find("network", bridge="xenbr1"), bridge="xenbr0",
                      other_config={FAIL_MODE: "standalone"})
    before = database(up)
    answer = update(up)
    assert answer["text"] == "No change to configuration"
    assert any("xenbr0" in note and "disagree" in note for note in answer["notes"])
    assert database(up) == before


def test_a_database_server_that_is_gone_hangs_or_is_restarted(up: SandboxHost, xapi: FakeXapi) -> None:
    introduce(xapi)
    before = database(up)
    up.signal("ovsdb-server", signal.SIGSTOP)
    began_s = time.monotonic()
    failed(up.ovsxen("update", "--json"))
    assert time.monotonic() - began_s < 35
    up.signal("ovsdb-server", signal.SIGCONT)
    assert database(up) == before
    up.signal("ovsdb-server", signal.SIGKILL)
    assert "ovsdb-server" in failed(up.ovsxen("update", "--json"))
    waiting = up.spawn("update")
    assert up.ovsxen("start").code == 0
    waiting.wait(60)
    assert update(up)["text"] in ("No change to configuration", "Successfully set controller to ssl:127.0.0.1:6632.  ")
    assert up.vsctl("--no-wait", "get-manager") == "ssl:127.0.0.1:6632"


def test_updates_take_turns(up: SandboxHost, xapi: FakeXapi) -> None:
    up.vsctl("--no-wait", "set", "Bridge", "xenbr1", "other_config:datapath-id=0000000000000001")
    introduce(xapi)
    runs = [up.spawn("update") for _ in range(4)]
    assert [run.wait(60) for run in runs] == [0, 0, 0, 0]
    assert [path.name for path in up.paths.dbdir.glob("reset-*")] == ["reset-000001.json"]
    assert up.vsctl("--no-wait", "get-manager") == "ssl:127.0.0.1:6632"


@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_it_leaves_the_old_or_the_new_and_the_next_run_ends_it(up: SandboxHost, xapi: FakeXapi,
                                                                              seed: int) -> None:
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    old = {"", "ssl:127.0.0.1:6632"}
    for number in range(4):
        address = "127.0.0.%d" % (number + 1)
        introduce(xapi, address=address)
        run = up.spawn("update")
        time.sleep(0.05 + (number * 4 + seed) * 0.02)
        run.kill()
        run.wait(60)
        target = up.vsctl("--no-wait", "get-manager")
        assert target in old | {"ssl:%s:6632" % address}
        assert (up.vsctl("--no-wait", "get", "Open_vSwitch", ".", "ssl") == "[]") == (target == "")
        update(up)
        assert up.vsctl("--no-wait", "get-manager") == "ssl:%s:6632" % address
        assert len(flows(up, "xenbr0")) == 4
        assert not [path for path in list(up.paths.rundir.iterdir()) + list(up.paths.dbdir.iterdir())
                    if path.name.startswith((".ovsxen", ".reset", ".vswitchd", "ovsxen-flows"))]
        old = {"ssl:%s:6632" % address}


def test_what_an_update_had_staged_at_a_power_cut_goes_though_another_process_has_its_pid(up: SandboxHost) -> None:
    left = [up.paths.dbdir / (".%s.%d.staged" % (name, os.getpid()))
            for name in ("reset-000001.json", up.paths.historic_ca.name, up.paths.opened_port.name)]
    for path in left:
        path.touch()
    update(up)
    assert [path.name for path in left if path.exists()] == []


def test_an_update_that_was_killed_shows_in_status(up: SandboxHost, xapi: FakeXapi) -> None:
    xapi.faults.set("silence")
    run = up.spawn("update")
    assert Deadline(20).wait_until(lambda: "under way" in json.dumps(up.status()["update"]), every_s=0.1)
    assert up.ovsxen("status").code == 0
    run.kill()
    run.wait(60)
    assert "was killed" in " ".join(up.status()["problems"])
    xapi.faults.clear()
    update(up)
    assert up.ovsxen("status").code == 0


def test_the_report_in_status_is_json_that_says_what_failed(up: SandboxHost, xapi: FakeXapi) -> None:
    xapi.faults.set("no_pool")
    assert up.ovsxen("update").code == 1
    status = json.loads(up.ovsxen("status", "--json").out)
    assert status["exit_code"] == 150 and "XAPI has no pool" in status["update"]["error"]
    xapi.faults.clear()
    update(up)
    assert up.ovsxen("status").code == 0


# network.dbcache

def uuids(host: SandboxHost, bridge: str) -> str:
    return host.vsctl("--no-wait", "--if-exists", "get", "Bridge", bridge, "external_ids:xs-network-uuids").strip('"')


def test_a_host_that_boots_from_network_dbcache_gets_it_with_its_bridges_uuids(up: SandboxHost, xapi: FakeXapi) -> None:
    assert not up.paths.network_dbcache.exists() and uuids(up, "xenbr0") == ""
    up.paths.networkd_db.unlink()
    assert update(up)["text"] == "Updated network uuids.  "
    cache = dbcache.read_cache(up.paths.network_dbcache.read_bytes())
    assert sorted(pif.device for pif in cache.pifs) == ["eth0", "eth0", "eth1"]
    own, vlan = (xapi.database.get("network", xapi.database.find("network", bridge=bridge))["uuid"]
                 for bridge in ("xenbr0", bridge_of_vlan(xapi)))
    assert uuids(up, "xenbr0") == "%s;%s" % (own, vlan)
    before = database(up)
    written = up.paths.network_dbcache.stat().st_mtime_ns
    assert update(up)["changes"] == []
    assert (database(up), up.paths.network_dbcache.stat().st_mtime_ns) == (before, written)


@pytest.mark.parametrize("choice, networkd, written", [
    ("auto", True, False), ("auto", False, True), ("always", True, True), ("never", False, False)])
def test_the_administrator_chooses_whether_network_dbcache_is_written(up: SandboxHost, choice: str, networkd: bool,
                                                                      written: bool) -> None:
    up.settings("DBCACHE=" + choice)
    if not networkd:
        up.paths.networkd_db.unlink()
    update(up)
    assert up.paths.network_dbcache.exists() is written
    assert (uuids(up, "xenbr0") != "") is written


def test_interface_reconfigure_writes_it_where_that_is_chosen(up: SandboxHost) -> None:
    up.settings("DBCACHE=exec")
    assert any("interface-reconfigure" in note for note in update(up)["notes"])
    up.write(up.paths.interface_reconfigure, "#!/bin/sh\necho noise; echo \"$@\" > %s/said\n" % up.paths.root)
    up.paths.interface_reconfigure.chmod(0o755)
    assert update(up)["notes"] == []
    assert (up.paths.root / "said").read_text() == "rewrite\n"


def test_a_cache_that_cannot_be_written_keeps_nothing_else_from_being_done(up: SandboxHost, xapi: FakeXapi) -> None:
    up.paths.networkd_db.unlink()
    up.write(up.paths.network_dbcache.parent, "a file where a directory is needed")
    introduce(xapi)
    answer = update(up)
    assert "network.dbcache" in " ".join(answer["notes"])
    assert up.vsctl("--no-wait", "get-manager") == "ssl:127.0.0.1:6632"


# The firewall

def firewall(host: SandboxHost) -> Path:
    """Give the host a firewall-port, which writes down what it is asked."""
    said = host.paths.root / "said"
    host.write(host.paths.plugins / "firewall-port", "#!/bin/sh\nstate=%s/state\necho \"$1 $2\" >> %s\n"
               "case $1 in open) touch $state;; close) rm -f $state;; check) test -e $state;; esac\n"
               % (host.paths.root, said))
    (host.paths.plugins / "firewall-port").chmod(0o755)
    return said


@pytest.mark.parametrize("choice, told", [("none", False), ("auto", True)])
def test_a_host_without_a_firewall_is_not_degraded_for_that(up: SandboxHost, xapi: FakeXapi, choice: str,
                                                           told: bool) -> None:
    up.settings("FIREWALL=" + choice)
    up.paths.sdn_controller_ca.parent.mkdir(parents=True)
    up.paths.sdn_controller_ca.write_bytes(certificates.make_controller(up.paths.root / "c").ca.read_bytes())
    introduce(xapi, "pssl")
    assert any("6640" in note for note in update(up)["notes"]) is told
    assert up.ovsxen("status").code == 0


def test_the_port_of_a_controller_that_connects_is_opened_and_only_then_closed_again(up: SandboxHost,
                                                                                     xapi: FakeXapi) -> None:
    said = firewall(up)
    up.paths.sdn_controller_ca.parent.mkdir(parents=True)
    up.paths.sdn_controller_ca.write_bytes(certificates.make_controller(up.paths.root / "c").ca.read_bytes())
    update(up)
    assert not said.exists()
    introduce(xapi, "pssl")
    update(up)
    assert "open 6640\n" in said.read_text() and (up.paths.root / "state").exists()
    lines = said.read_text()
    update(up)
    assert said.read_text() == lines
    introduce(xapi)
    update(up)
    assert not (up.paths.root / "state").exists()
