"""The made pool: alike each time, whole in its references, and the host that contents.py makes."""

from typing import Any, Dict

import pytest

from ovsxen.sandbox import contents
from ovsxen.sandbox.xapi import classes
from ovsxen.sandbox.xapi.database import Database
from ovsxen.sandbox.xapi.world import make_world, ref_of

EVERYTHING: Dict[str, Any] = {"networks": 4, "vlans": 3, "bond": True, "hosts": 3, "tunnels": 2, "master": 1}


def test_two_worlds_made_alike_are_alike() -> None:
    assert make_world(**EVERYTHING) == make_world(**EVERYTHING)
    assert make_world(networks=4) != make_world(networks=5)


@pytest.mark.parametrize("asked", [{}, {"networks": 1}, {"vlans": 7}, EVERYTHING])
def test_every_reference_leads_somewhere_and_back(asked: Dict[str, Any]) -> None:
    database = Database(make_world(**asked).rows)
    refs = {ref for name in classes.CLASSES for ref in database.rows(name)}
    for name, fields in classes.CLASSES.items():
        for row in database.rows(name).values():
            for field in fields:
                value = row[field.name]
                pointed = [value] if field.kind == "ref" else value if field.kind == "set" else []
                assert all(ref in refs for ref in pointed if str(ref).startswith("OpaqueRef:") and ref != classes.NULL)
    for ref, pif in database.rows("PIF").items():
        assert ref in database.get("network", pif["network"])["PIFs"]
        assert ref in database.get("host", pif["host"])["PIFs"]
    for ref, bond in database.rows("Bond").items():
        assert database.get("PIF", bond["master"])["bond_master_of"] == [ref]
        assert {database.get("PIF", slave)["bond_slave_of"] for slave in bond["slaves"]} == {ref}
    for ref, vlan in database.rows("VLAN").items():
        assert database.get("PIF", vlan["untagged_PIF"])["VLAN_master_of"] == ref
        assert ref in database.get("PIF", vlan["tagged_PIF"])["VLAN_slave_of"]
        assert database.get("PIF", vlan["untagged_PIF"])["VLAN"] == vlan["tag"]


@pytest.mark.parametrize("asked, device, vlan", [
    ({}, "eth0", -1), ({"bond": True}, "bond0", -1), ({"vlans": 2, "management": "vlan101"}, "eth1", 101),
    ({"bond": True, "vlans": 1, "management": "vlan100"}, "bond0", 100), ({"management": "eth2"}, "eth2", -1),
])
def test_each_host_has_one_management_interface(asked: Dict[str, Any], device: str, vlan: int) -> None:
    database = Database(make_world(hosts=2, **asked).rows)
    found = [row for row in database.rows("PIF").values() if row["management"]]
    assert [(row["device"], row["VLAN"]) for row in found] == [(device, vlan)] * 2
    assert {row["host"] for row in found} == set(database.rows("host"))
    assert [row["IP"] for row in found] == [row["address"] for row in database.rows("host").values()]


def test_it_is_the_host_whose_conf_db_contents_makes() -> None:
    database = Database(make_world(networks=3).rows)
    assert database.find("host", uuid=contents.INSTALLATION_UUID) == ref_of("host", "host0")
    for number in range(3):
        rows = {each["table"]: each["row"] for each in contents._bridge(number)}
        vif = next(each["row"] for each in contents._bridge(number)
                   if each["table"] == "Interface" and each["row"]["name"].startswith("vif"))
        network = database.find("network", bridge=rows["Bridge"]["name"])
        bridge_ids = dict(rows["Bridge"]["external_ids"][1])
        assert database.get("network", network)["uuid"] == bridge_ids["xs-network-uuids"]
        pif = database.get("PIF", database.find("PIF", network=network))
        assert pif["MAC"] == dict(rows["Bridge"]["other_config"][1])["hwaddr"]
        ids = dict(vif["external_ids"][1])
        known = database.get("VIF", database.find("VIF", uuid=ids["xs-vif-uuid"]))
        assert known["MAC"] == ids["attached-mac"] and known["network"] == network
        assert database.get("VM", known["VM"])["uuid"] == ids["xs-vm-uuid"]


def test_a_bond_has_two_nics_whatever_was_asked() -> None:
    database = Database(make_world(networks=1, bond=True).rows)
    assert [len(bond["slaves"]) for bond in database.rows("Bond").values()] == [2]


def test_no_two_nics_of_a_pool_share_a_mac() -> None:
    rows = Database(make_world(networks=300, hosts=3).rows).rows("PIF").values()
    assert len({row["MAC"] for row in rows}) == len(rows) == 900


def test_vlans_and_bonds_have_bridges_that_xapi_numbers() -> None:
    database = Database(make_world(networks=2, vlans=2, bond=True).rows)
    assert [row["bridge"] for row in database.rows("network").values()] == [
        "xenbr0", "xenbr1", "xapi0", "xapi1", "xapi2", "xapi3"]
