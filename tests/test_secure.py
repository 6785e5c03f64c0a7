"""Management traffic over a bridge that an update turns secure: as a table, and by frames through a real switch."""

import json
import signal
import sys
from typing import Any, Dict, Optional, Tuple

import pytest

from ovsxen.errors import Refused
from ovsxen.host.clock import Deadline
from ovsxen.ovs.daemons import VSWITCHD
from ovsxen.sandbox import certificates
from ovsxen.sandbox.xapi.database import Database
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import World, make_world, ref_of
from ovsxen.secure import ManagementInterface, find_management
from ovsxen.xapi import records
from ovsxen.xapi.records import Devices
from tests.frames import LAN_MAC, MAC, SILENCE_S, Heard, Wire, arp_request, unicast

HOST = ref_of("host", "host0")
NAMES = tuple("host%d eth%d" % (host, nic) for host in range(2) for nic in range(2))


def rows_of(world: World, class_name: str) -> Dict[str, Dict[str, Any]]:
    """Records as XAPI gives them: sets are lists."""
    rows: Dict[str, Dict[str, Any]] = json.loads(json.dumps(Database(world.rows).rows(class_name)))
    return rows


def find(world: World, host: str = HOST) -> Optional[ManagementInterface]:
    devices = Devices(host, records.parse_pifs(rows_of(world, "PIF")), records.parse_bonds(rows_of(world, "Bond")),
                      records.parse_vlans(rows_of(world, "VLAN")), ())
    return find_management(records.parse_networks(rows_of(world, "network")), devices)


@pytest.mark.parametrize("world, name, devices", [
    (make_world(networks=2), "xenbr0", ("eth0",)),
    (make_world(networks=2, hosts=3), "xenbr0", ("eth0",)),
    (make_world(networks=3, bond=True), "xapi0", ("eth0", "eth1")),
    (make_world(networks=2, vlans=1, management="vlan100"), "xapi0", ("eth0",)),
    (make_world(networks=2, vlans=1, bond=True, management="vlan100"), "xapi1", ("eth0", "eth1")),
])
def test_the_management_interface_is_found_down_to_its_nics(world: World, name: str, devices: Tuple[str, ...]) -> None:
    found = find(world)
    assert found is not None and (found.name, found.devices, found.ipv6) == (name, devices, False)


def test_a_host_without_a_management_interface_has_none() -> None:
    assert find(make_world(), host="OpaqueRef:another") is None


def test_a_management_interface_on_no_bridge_is_refused() -> None:
    pif = next(pif for pif in records.parse_pifs(rows_of(make_world(), "PIF")) if pif.management)
    with pytest.raises(Refused, match="which bridge"):
        find_management((), Devices(pif.host, (pif,), (), (), ()))


def make_secure(wire: Wire, world: World) -> None:
    """The pool is told to be secure, and the plugin's update runs on the host in the namespace."""
    certificates.make_host_pem(wire.host.paths.xapi_ssl_pem)
    with FakeXapi(wire.host.paths, world) as xapi:
        pool = xapi.database.find("pool")
        xapi.database.set("pool", pool, other_config={"vswitch-controller-fail-mode": "secure"})
        for expected in ("fail_mode", "No change"):
            answer = json.loads(wire.inside(sys.executable, "-m", "ovsxen", "update", "--json"))
            assert answer["error"] == "" and expected in answer["text"], answer


def standalone(wire: Wire, *more: str) -> None:
    """The bridge as the toolstack makes it, before any controller."""
    wire.host.vsctl("set", "Bridge", "xenbr0", "fail_mode=standalone", *more)


def test_frames_pass_the_nic_of_a_bridge_that_an_update_made_secure(wire: Wire) -> None:
    standalone(wire, "--", "add-port", "xenbr0", "eth0")
    make_secure(wire, make_world(networks=1))
    assert wire.host.vsctl("get", "Bridge", "xenbr0", "fail_mode") == "secure"
    assert wire.send("lan0", arp_request(LAN_MAC), ("xenbr0", "guest"), until="xenbr0") == {Heard("xenbr0", 0)}
    assert wire.send("xenbr0", unicast(MAC, LAN_MAC), ("lan0", "guest"), until="lan0") == {Heard("lan0", 0)}
    assert wire.send("guest", unicast(LAN_MAC, MAC), ("xenbr0", "lan0"), wait_s=SILENCE_S) == set()


def test_frames_pass_the_vlan_of_a_bridge_that_an_update_made_secure(wire: Wire) -> None:
    standalone(wire, "--", "add-port", "xenbr0", "eth0", "--", "add-br", "xapi0", "xenbr0", "100",
               "--", "set", "Interface", "xapi0", "mac=\"%s\"" % MAC)
    wire.inside("ip", "link", "set", "xapi0", "up")
    make_secure(wire, make_world(networks=1, vlans=1, management="vlan100"))
    assert wire.host.vsctl("get", "Bridge", "xenbr0", "fail_mode") == "secure"
    assert wire.send("lan0", unicast(LAN_MAC, MAC, 100), ("xapi0", "guest"), until="xapi0") == {Heard("xapi0", 0)}
    assert wire.send("xapi0", arp_request(MAC), ("lan0", "guest"), until="lan0") == {Heard("lan0", 100)}


def test_frames_pass_the_bond_of_a_bridge_that_an_update_made_secure(wire: Wire) -> None:
    """XAPI's bridge for a bond is of its own; here it has the name that the world gives it."""
    world = make_world(networks=2, bond=True)
    rows = tuple(row._replace(fields=dict(row.fields, bridge="xenbr0")) if row.fields.get("bridge") == "xapi0"
                 else row._replace(fields=dict(row.fields, bridge="idle")) if row.fields.get("bridge") == "xenbr0"
                 else row for row in world.rows)
    standalone(wire, "--", "add-bond", "xenbr0", "bond0", "eth0", "eth1", "bond_mode=active-backup")
    make_secure(wire, world._replace(rows=rows))
    assert wire.host.vsctl("get", "Bridge", "xenbr0", "fail_mode") == "secure"
    for cable in ("lan0", "lan1"):
        heard = wire.send(cable, arp_request(LAN_MAC), ("xenbr0", "guest"), until="xenbr0")
        assert heard == {Heard("xenbr0", 0)}
    assert len(wire.send("xenbr0", arp_request(MAC), ("lan0", "lan1"), wait_s=SILENCE_S)) == 1


def test_management_traffic_comes_back_with_an_ovs_vswitchd_that_died(wire: Wire) -> None:
    standalone(wire, "--", "add-port", "xenbr0", "eth0")
    make_secure(wire, make_world(networks=1))
    wire.inside(sys.executable, "-m", "ovsxen", "daemon", "--detach")
    old = wire.host.pid(VSWITCHD)
    wire.host.signal(VSWITCHD, signal.SIGKILL)
    assert Deadline(30).wait_until(lambda: "has its management flows again" in str(wire.host.status()["boot"]), 0.05)
    assert wire.host.pid(VSWITCHD) != old
    assert wire.send("lan0", arp_request(LAN_MAC), ("xenbr0", "guest"), until="xenbr0") == {Heard("xenbr0", 0)}
    assert "is running" in wire.inside(sys.executable, "-m", "ovsxen", "status")


def test_pifs_of_other_hosts_are_never_taken_for_this_hosts() -> None:
    world = make_world(networks=2, hosts=2)
    rows = tuple(row._replace(fields=dict(row.fields, management=name == "host1 eth1" or name == "host0 eth0"))
                 if row.class_name == "PIF" else row for row in world.rows
                 for name in [next((name for name in NAMES if ref_of("PIF", name) == row.ref), "")])
    world = world._replace(rows=rows)
    assert find(world) == ManagementInterface("xenbr0", "xenbr0", ("eth0",), ipv6=False)
    assert find(world, ref_of("host", "host1")) == ManagementInterface("xenbr1", "xenbr1", ("eth1",), ipv6=False)
