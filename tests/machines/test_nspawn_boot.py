"""Whole hosts in containers, of each suite: switched on, booted again, switched off; who waits for whom."""

import json

from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT
from tests.machines.conftest import MakeNspawn
from tests.machines.nspawn import Nspawn

BRIDGES = ["xapi0", "xenbr0", "xenbr1"]
NETWORKD, XAPI = "xcp-networkd.service", "xapi.service"


def test_a_first_boot_brings_the_switch_up_then_its_networks_then_xapi(host: Nspawn) -> None:
    assert host.wait_booted() == "running", host.tell("systemctl --failed")
    assert host.tell("ovs-vsctl list-br").split() == BRIDGES
    assert host.tell("ovs-vsctl --columns=ofport,error --no-headings find Interface ofport=-1") == ""
    assert host.tell("cat /run/xapi.plugin-runs").startswith("openvswitch-config-update update: ")
    assert host.run("ovsxen status").code == 0
    host.reboot()
    assert host.tell("ovs-vsctl list-br").split() == BRIDGES
    assert host.power_off() == 0
