"""The rules of a sync: tables for each, and properties over whatever rows, records and histories there may be."""

from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsxen.ovs.labels import BRIDGE, INTERFACE, LabelledBridge, LabelledInterface, Labels, Relabelling
from ovsxen.plan_sync import Memory, SyncPlan, demand_of, differing_bridges, plan_sync
from ovsxen.xapi.records import Known, Network, Owner, Pool, SdnController
from tests import histories
from tests.histories import DEVICES, OTHERS, OURS, STEPS, Ids, Site, Step

NEUTRON_WORDS = ("no", "publish", "iface-id")
VIF, VM = {"xs-vif-uuid": "u1"}, {"xs-vm-uuid": "m1"}
NOTHING = Known((), (), (), {}, {})


def always(_uuid: str) -> bool:
    return True


def never(_uuid: str) -> bool:
    return False


def interface(name: str, ids: Optional[Ids] = None, uuid: str = "") -> LabelledInterface:
    return LabelledInterface(uuid or "row of " + name, name, dict(ids or {}))


def bridge(name: str, ids: Optional[Ids] = None, fail_mode: str = "", in_band: str = "",
           uuid: str = "") -> LabelledBridge:
    return LabelledBridge(uuid or "row of " + name, name, dict(ids or {}), fail_mode,
                          {"disable-in-band": in_band} if in_band else {})


def network(bridge_name: str, uuid: str, **other_config: str) -> Network:
    """`nicira_bridge_id="x"` is for the key with dashes."""
    keys = {key.replace("_", "-"): value for key, value in other_config.items()}
    return Network("ref " + uuid, uuid, bridge_name, 1500, "", keys, ())


def pool(**other_config: str) -> Pool:
    return Pool("ref pool", "pool", "", {key.replace("_", "-"): value for key, value in other_config.items()}, "")


def knows(vifs: Optional[Dict[str, Ids]] = None, vms: Optional[Dict[str, Ids]] = None,
          networks: Iterable[Network] = ()) -> Known:
    def owners(records: Optional[Dict[str, Ids]]) -> Dict[str, Owner]:
        return {uuid: Owner(uuid, keys) for uuid, keys in (records or {}).items()}
    return Known((pool(),), tuple(networks), (), owners(vifs), owners(vms))


def written(labels: Labels, edits: Iterable[Relabelling]) -> Labels:
    """The rows after the edits."""
    by_row = {(edit.table, edit.uuid): edit for edit in edits}

    def ids_of(table: str, row: Any) -> Any:
        edit = by_row.get((table, row.uuid))
        if edit is None:
            return row
        ids = {key: value for key, value in row.external_ids.items() if key not in edit.drops}
        return row._replace(external_ids=dict(ids, **dict(edit.sets)))

    return Labels(tuple(ids_of(BRIDGE, row) for row in labels.bridges),
                  tuple(ids_of(INTERFACE, row) for row in labels.interfaces))


class Switch:
    """Rows that a sync keeps, turn by turn, and what it remembers."""

    def __init__(self, *rows: Any) -> None:
        self.labels = Labels()
        self.memory = Memory()
        self.show(*rows)

    def show(self, *rows: Any) -> None:
        """Somebody makes the rows be these."""
        self.labels = Labels(tuple(row for row in rows if isinstance(row, LabelledBridge)),
                             tuple(row for row in rows if isinstance(row, LabelledInterface)))

    def sync(self, known: Optional[Known], neutron: str = "no", settled: Callable[[str], bool] = always, *,
             is_lost: bool = False) -> SyncPlan:
        """A turn. A transaction that is lost changes nothing."""
        plan = plan_sync(self.labels, known, self.memory, neutron, settled)
        self.memory = plan.memory
        if not is_lost:
            self.labels = written(self.labels, plan.edits)
        return plan

    def ids(self, name: str) -> Ids:
        return dict(next(row for row in self.labels.interfaces + self.labels.bridges if row.name == name).external_ids)

    def change(self, name: str, drop: Iterable[str] = (), **ids: str) -> None:
        """Somebody changes a row's external_ids in place; `xs_vif_uuid` is for the key with dashes."""
        def changed(row: Any) -> Any:
            if row.name != name:
                return row
            kept = {key: value for key, value in row.external_ids.items() if key not in drop}
            return row._replace(external_ids=dict(kept, **{key.replace("_", "-"): one for key, one in ids.items()}))
        self.show(*(changed(row) for row in self.labels.bridges + self.labels.interfaces))


# Interfaces

@pytest.mark.parametrize("known, iface_id, vm_id", [
    (knows({"u1": {}}, {"m1": {}}), "u1", "m1"),
    (knows({"u1": {"nicira-iface-id": "i"}}, {"m1": {"nicira-vm-id": "v"}}), "i", "v"),
    (knows({"u1": {"nicira-iface-id": ""}}, {"m1": {"nicira-vm-id": ""}}), "u1", "m1"),
    (knows({"u1": {"nicira-vm-id": "v"}}, {"m1": {"nicira-iface-id": "i"}}), "u1", "m1"),
    (knows({"u2": {"nicira-iface-id": "i"}}, {"m2": {"nicira-vm-id": "v"}}), "u1", "m1"),
    (knows({}, {"m1": {"nicira-vm-id": "v"}}), "u1", "v"),
])
def test_a_vif_is_known_by_the_overrides_in_xapi_or_else_by_the_uuids_it_carries(
        known: Known, iface_id: str, vm_id: str) -> None:
    switch = Switch(interface("vif1.0", dict(VIF, **VM)))
    switch.sync(known)
    assert switch.ids("vif1.0") == dict(VIF, **VM, **{"iface-id": iface_id, "vm-id": vm_id, "iface-status": "active"})


@pytest.mark.parametrize("neutron, keys, iface_id, published", [
    ("no", {"neutron-port-uuid": "n"}, "u1", None),
    ("no", {"neutron-port-uuid": "n", "nicira-iface-id": "i"}, "i", None),
    ("publish", {"neutron-port-uuid": "n"}, "u1", "n"),
    ("publish", {"neutron-port-uuid": "n", "nicira-iface-id": "i"}, "i", "n"),
    ("publish", {"nicira-iface-id": "i"}, "i", "i"),
    ("publish", {}, "u1", None),
    ("iface-id", {"neutron-port-uuid": "n"}, "n", None),
    ("iface-id", {"neutron-port-uuid": "n", "nicira-iface-id": "i"}, "i", None),
    ("iface-id", {}, "u1", None),
])
def test_neutrons_port_is_nothing_or_a_key_of_its_own_or_the_iface_id(
        neutron: str, keys: Ids, iface_id: str, published: Optional[str]) -> None:
    switch = Switch(interface("vif1.0", VIF))
    switch.sync(knows({"u1": keys}), neutron)
    assert switch.ids("vif1.0")["iface-id"] == iface_id
    assert switch.ids("vif1.0").get("neutron-port-uuid") == published


def test_neutrons_port_of_one_vif_is_not_left_to_another_nor_to_none() -> None:
    for external_ids, neutron in (({"xs-vif-uuid": "u2"}, "publish"), ({}, "publish"), (VIF, "no"), (VIF, "iface-id")):
        switch = Switch(interface("vif1.0", dict(VIF)))
        switch.sync(knows({"u1": {"neutron-port-uuid": "n"}}), "publish")
        assert switch.ids("vif1.0")["neutron-port-uuid"] == "n"
        switch.change("vif1.0", ["xs-vif-uuid"], **external_ids)
        switch.sync(knows({"u1": {"neutron-port-uuid": "n"}}), neutron)
        assert "neutron-port-uuid" not in switch.ids("vif1.0")


def test_neutrons_port_follows_its_record_and_stays_while_xapi_does_not_know_it() -> None:
    switch = Switch(interface("vif1.0", VIF), interface("tap1.0"))
    for known, published in ((knows({"u1": {"neutron-port-uuid": "n"}}), "n"), (knows(), "n"), (None, "n"),
                             (knows({"u1": {"neutron-port-uuid": "o"}}), "o"), (knows({"u1": {}}), None)):
        switch.sync(known, "publish")
        assert switch.ids("vif1.0").get("neutron-port-uuid") == published
        assert "neutron-port-uuid" not in switch.ids("tap1.0")


def test_a_tap_takes_after_its_vif_and_is_the_active_one() -> None:
    carried = dict(VIF, **VM, **{"attached-mac": "mac", "xs-network-uuid": "n"})
    switch = Switch(interface("tap1.0", {"xs-vif-uuid": "stale", "iface-id": "stale"}), interface("vif1.0", carried))
    switch.sync(knows({"u1": {"nicira-iface-id": "i"}}, {"m1": {}}))
    assert switch.ids("vif1.0") == dict(carried, **{"iface-id": "i", "vm-id": "m1", "iface-status": "inactive"})
    assert switch.ids("tap1.0") == dict(carried, **{"iface-id": "i", "vm-id": "m1", "iface-status": "active"})


def test_a_tap_loses_what_its_vif_does_not_carry() -> None:
    everything = dict(VIF, **VM, **{"attached-mac": "mac", "xs-network-uuid": "n", "iface-id": "u1", "vm-id": "m1"})
    switch = Switch(interface("vif1.0"), interface("tap1.0", dict(everything, mine="stays")))
    switch.sync(knows())
    assert switch.ids("tap1.0") == {"iface-status": "active", "mine": "stays"}


def test_a_vif_is_active_again_when_its_tap_goes() -> None:
    switch = Switch(interface("vif1.0", VIF), interface("tap1.0"), interface("tap1.1"), interface("vif11.0"))
    switch.sync(knows())
    assert [switch.ids(name).get("iface-status") for name in ("vif1.0", "tap1.0", "tap1.1", "vif11.0")] == [
        "inactive", "active", None, "active"]
    switch.show(*(row for row in switch.labels.interfaces if row.name != "tap1.0"))
    switch.sync(knows())
    assert switch.ids("vif1.0")["iface-status"] == "active"


def test_a_tap_whose_vif_went_keeps_its_ids_and_is_no_more_active() -> None:
    switch = Switch(interface("vif1.0", VIF), interface("tap1.0"))
    known = knows({"u1": {"nicira-iface-id": "i"}})
    switch.sync(known)
    switch.show(*(row for row in switch.labels.interfaces if row.name != "vif1.0"))
    switch.sync(known)
    assert switch.ids("tap1.0") == dict(VIF, **{"iface-id": "i"})


def test_other_names_are_not_looked_up_and_have_no_status() -> None:
    switch = Switch(interface("nic1.0", dict(VIF, **VM, **{"iface-status": "active", "iface-id": "i"})))
    switch.sync(knows({"u1": {"nicira-iface-id": "i"}}, {"m1": {"nicira-vm-id": "v"}}))
    assert switch.ids("nic1.0") == dict(VIF, **VM, **{"iface-id": "u1", "vm-id": "m1"})


@pytest.mark.parametrize("name", ["eth0", "vif1", "vif1.0.1", "xvif1.0", "vif1.0\n", "tapestry", "vif1.x", "TAP1.0"])
def test_an_interface_that_carries_nothing_of_xapi_belongs_to_somebody_else(name: str) -> None:
    switch = Switch(interface(name, {"iface-id": "theirs", "vm-id": "theirs", "iface-status": "theirs",
                                     "neutron-port-uuid": "theirs"}))
    for neutron in NEUTRON_WORDS:
        assert switch.sync(knows({"theirs": {"nicira-iface-id": "i"}}), neutron).edits == ()


def test_an_iface_id_on_a_vif_without_a_uuid_belongs_to_somebody_else() -> None:
    switch = Switch(interface("vif1.0", {"iface-id": "theirs", "vm-id": "theirs"}),
                    interface("tap1.0", {"iface-id": "theirs too"}))
    for known in (None, knows()):
        switch.sync(known)
        assert switch.ids("vif1.0") == {"iface-id": "theirs", "vm-id": "theirs", "iface-status": "inactive"}
        assert switch.ids("tap1.0") == {"iface-id": "theirs too", "iface-status": "active"}


def test_an_id_of_somebody_else_is_not_taken_for_that_of_a_uuid_that_comes_later() -> None:
    switch = Switch(interface("vif1.0", {"iface-id": "theirs"}), interface("tap2.0", {"iface-id": "theirs"}),
                    interface("vif2.0", {"xs-vif-uuid": "u2"}))
    switch.sync(None, settled=never)
    switch.change("vif1.0", xs_vif_uuid="u1")
    for settled in (never, never, always):
        switch.sync(None, settled=settled)
        assert switch.ids("vif2.0").get("iface-id") in (None, "u2")
    assert [switch.ids(name)["iface-id"] for name in ("vif1.0", "vif2.0", "tap2.0")] == ["u1", "u2", "u2"]


def test_ids_go_with_the_uuids_that_they_are_for() -> None:
    switch = Switch(*(interface(name, dict(VIF, **VM)) for name in ("vif1.0", "nic1.0")))
    switch.sync(knows({"u1": {"nicira-iface-id": "i"}}))
    for name in ("vif1.0", "nic1.0"):
        switch.change(name, drop=("xs-vif-uuid",))
    switch.sync(None)
    for name in ("vif1.0", "nic1.0"):
        assert "iface-id" not in switch.ids(name) and switch.ids(name)["vm-id"] == "m1"
        switch.change(name, drop=("xs-vm-uuid",))
    switch.sync(None)
    assert (switch.ids("vif1.0"), switch.ids("nic1.0")) == ({"iface-status": "active"}, {})


def test_an_id_that_somebody_put_in_the_place_of_ours_stays_when_the_uuid_goes() -> None:
    switch = Switch(interface("vif1.0", VIF))
    switch.sync(knows())
    switch.change("vif1.0", drop=("xs-vif-uuid",), iface_id="theirs")
    switch.sync(knows())
    assert switch.ids("vif1.0")["iface-id"] == "theirs"


def test_an_id_of_ours_goes_with_its_uuid_also_where_another_was_about_to_be_written() -> None:
    switch = Switch(interface("vif1.0", dict(VIF, **VM)), bridge("xenbr0", {"xs-network-uuids": "n0"}))
    switch.sync(knows({"u1": {}}, {"m1": {}}, [network("xenbr0", "n0")]))
    overrides = knows({"u1": {"nicira-iface-id": "i"}}, {"m1": {"nicira-vm-id": "v"}},
                      [network("xenbr0", "n0", nicira_bridge_id="b")])
    assert len(switch.sync(overrides, is_lost=True).edits) == 2
    switch.change("vif1.0", drop=("xs-vif-uuid", "xs-vm-uuid"))
    switch.change("xenbr0", drop=("xs-network-uuids",))
    switch.sync(knows(networks=[network("elsewhere", "n0")]))
    assert switch.ids("vif1.0") == {"iface-status": "active"}
    assert switch.ids("xenbr0") == {}


def test_an_id_that_somebody_changed_or_removed_comes_back() -> None:
    switch = Switch(interface("vif1.0", VIF), bridge("xenbr0", {"xs-network-uuids": "n0"}))
    known = knows({"u1": {"nicira-iface-id": "i"}}, networks=[network("xenbr0", "n0")])
    switch.sync(known)
    switch.change("vif1.0", drop=("iface-status",), iface_id="theirs")
    switch.change("xenbr0", bridge_id="theirs")
    switch.sync(known)
    assert switch.ids("vif1.0") == dict(VIF, **{"iface-id": "i", "iface-status": "active"})
    assert switch.ids("xenbr0")["bridge-id"] == "n0"


def test_a_row_that_carries_another_vif_is_known_by_that_one() -> None:
    switch = Switch(interface("vif1.0", VIF), interface("tap1.0"))
    switch.sync(knows({"u1": {"nicira-iface-id": "i"}}))
    switch.change("vif1.0", xs_vif_uuid="u2")
    switch.sync(knows({"u1": {"nicira-iface-id": "i"}}))
    assert switch.ids("vif1.0")["iface-id"] == switch.ids("tap1.0")["iface-id"] == "u2"


def test_a_row_deleted_and_added_in_one_gets_its_ids_again_also_without_xapi() -> None:
    switch = Switch(interface("vif1.0", VIF, "first"))
    switch.sync(knows({"u1": {"nicira-iface-id": "i"}}))
    switch.show(interface("vif1.0", VIF, "second"))
    switch.sync(None, settled=never)
    assert switch.ids("vif1.0")["iface-id"] == "i"
    switch.show(interface("vif2.0", VIF, "third"))  # a VM that migrates within the host, or is resumed
    switch.sync(None)
    assert switch.ids("vif2.0")["iface-id"] == "i"


# XAPI does not know, or is not there

def test_an_id_waits_for_xapis_word_and_is_the_uuid_itself_where_there_is_none() -> None:
    switch = Switch(interface("vif1.0", dict(VIF, **VM)), interface("tap1.0"))
    for known in (None, knows()):
        plan = switch.sync(known, settled=never)
        assert plan.unknown == ("m1", "u1")
        assert plan.edits == ()
    assert switch.sync(knows()).unknown == ()
    assert (switch.ids("vif1.0")["iface-id"], switch.ids("tap1.0")["vm-id"]) == ("u1", "m1")
    switch.sync(knows({"u1": {"nicira-iface-id": "i"}}))
    assert (switch.ids("vif1.0")["iface-id"], switch.ids("tap1.0")["iface-id"]) == ("i", "i")


def test_what_xapi_knew_stays_when_it_is_away_or_the_record_is_gone() -> None:
    switch = Switch(interface("vif1.0", dict(VIF, **VM)), interface("tap1.0"))
    switch.sync(knows({"u1": {"nicira-iface-id": "i"}}, {"m1": {"nicira-vm-id": "v"}}))
    for known in (None, knows(), NOTHING):
        for settled in (never, always):
            assert switch.sync(known, settled=settled).edits == ()


def test_what_is_there_stays_until_xapi_has_told_otherwise() -> None:
    switch = Switch(interface("vif1.0", dict(VIF, **VM, **{"iface-id": "i", "vm-id": "v", "iface-status": "active"})))
    for known, settled in ((None, never), (None, always), (knows(), never), (knows(), always)):
        switch.memory = Memory()
        assert switch.sync(known, settled=settled).edits == ()
    switch.sync(knows({"u1": {}}, {"m1": {}}))
    assert (switch.ids("vif1.0")["iface-id"], switch.ids("vif1.0")["vm-id"]) == ("u1", "m1")


def test_what_was_known_of_uuids_that_nobody_carries_is_forgotten() -> None:
    switch = Switch(interface("vif1.0", VIF), bridge("xenbr0", {"xs-network-uuids": "n0"}))
    switch.sync(knows({"u1": {}, "u2": {}}))
    assert set(switch.memory.iface_ids) == {"u1"} and len(switch.memory.rows) == 2
    switch.show()
    switch.sync(knows({"u1": {}, "u2": {}}))
    assert switch.memory == Memory()


# Bridges

TWO = {"xs-network-uuids": "n0;n1"}


@pytest.mark.parametrize("ids, networks, bridge_id", [
    ({"xs-network-uuids": "n0"}, [network("xenbr0", "n0")], "n0"),
    ({"xs-network-uuids": "n0"}, [network("xenbr1", "n0")], "n0"),
    ({"xs-network-uuids": "n0"}, [], "n0"),
    ({"xs-network-uuids": "n0;"}, [], "n0"),
    (TWO, [network("xenbr0", "n0"), network("xapi1", "n1")], "n0"),
    (TWO, [network("xapi1", "n0"), network("xenbr0", "n1")], "n1"),
    (TWO, [network("xenbr0", "n2"), network("xapi1", "n0"), network("xapi2", "n1")], None),
    (TWO, [], None),
    ({"xs-network-uuids": "n0"}, [network("xenbr0", "n0", nicira_bridge_id="b")], "b"),
    ({"xs-network-uuids": "n0"}, [network("xenbr0", "n0", nicira_bridge_id="")], "n0"),
    (TWO, [network("xenbr0", "n2", nicira_bridge_id="b")], "b"),
    ({}, [network("xenbr0", "n0", nicira_bridge_id="b")], "b"),
    ({}, [network("xenbr0", "n0")], None),
    ({"xs-network-uuids": ""}, [network("xenbr0", "n0")], None),
])
def test_a_bridge_is_known_by_the_override_or_by_the_one_network_that_is_its_own(
        ids: Ids, networks: List[Network], bridge_id: Optional[str]) -> None:
    switch = Switch(bridge("xenbr0", ids))
    switch.sync(knows(networks=networks))
    assert switch.ids("xenbr0").get("bridge-id") == bridge_id


def test_a_bridge_of_whose_networks_xapi_has_none_on_it_keeps_its_id_and_somebody_is_told() -> None:
    switch = Switch(bridge("xenbr0", dict(TWO, **{"bridge-id": "n1"})))
    plan = switch.sync(knows(networks=[network("xenbr0", "n5")]))
    assert plan.edits == () and len(plan.notes) == 1 and "xenbr0" in plan.notes[0] and "n0;n1" in plan.notes[0]
    assert switch.sync(None).notes == ()  # nothing is wrong with XAPI's networks as long as they are not known
    assert switch.ids("xenbr0")["bridge-id"] == "n1"


@pytest.mark.parametrize("ids", [{"xs-network-uuids": "n0"}, TWO, {}])
def test_a_bridge_keeps_the_id_that_it_has_as_long_as_xapi_has_not_spoken(ids: Ids) -> None:
    switch = Switch(bridge("xenbr0", dict(ids, **{"bridge-id": "b"})))
    assert switch.sync(None).edits == ()


def test_without_xapi_a_bridge_with_one_network_is_known_by_it() -> None:
    switch = Switch(bridge("xenbr0", {"xs-network-uuids": "n0"}), bridge("xenbr1", TWO))
    switch.sync(None)
    assert (switch.ids("xenbr0")["bridge-id"], switch.ids("xenbr1")) == ("n0", TWO)


def test_the_id_of_a_bridge_goes_with_its_networks_and_only_where_it_is_ours() -> None:
    switch = Switch(bridge("xenbr0", {"xs-network-uuids": "n0"}), bridge("br-int", {"bridge-id": "theirs"}))
    switch.sync(knows())
    switch.change("xenbr0", drop=("xs-network-uuids",))
    switch.sync(None)
    assert switch.ids("xenbr0") == {"bridge-id": "n0"}
    switch.sync(knows())
    assert (switch.ids("xenbr0"), switch.ids("br-int")) == ({}, {"bridge-id": "theirs"})


def test_networks_of_one_bridge_that_disagree_leave_it_one_of_their_ids_for_good() -> None:
    first = network("xenbr0", "n0", nicira_bridge_id="b0")
    second = network("xenbr0", "n1", nicira_bridge_id="b1")
    switch = Switch(bridge("xenbr0", dict(TWO, **{"bridge-id": "b1"})))
    for networks in ([first, second], [second, first]):
        assert switch.sync(knows(networks=networks)).edits == ()


# What an update is due for

def test_what_an_update_looks_at_is_a_demand_and_all_else_is_none() -> None:
    plain = knows({"u1": {}}, {"m1": {}}, [network("xenbr0", "n0"), network("xapi1", "n1")])
    for same in (plain._replace(vifs={}, vms={}), plain._replace(networks=plain.networks[::-1]),
                 plain._replace(networks=(network("xenbr0", "n0", folder="x"), plain.networks[1])),
                 plain._replace(pools=(pool(tags="x"),))):
        assert demand_of(same) == demand_of(plain)
    controller = SdnController("ref", "uuid", "ssl", "192.0.2.1", 6640)
    others = (plain._replace(sdn_controllers=(controller,)),
              plain._replace(sdn_controllers=(controller._replace(port=6632),)),
              plain._replace(sdn_controllers=None),
              plain._replace(pools=(pool(vswitch_controller_fail_mode="secure"),)),
              plain._replace(networks=(network("xenbr0", "n0", vswitch_controller_fail_mode="secure"),
                                       plain.networks[1])),
              plain._replace(networks=(network("xenbr0", "n0", vswitch_disable_in_band="true"), plain.networks[1])),
              plain._replace(networks=plain.networks[:1]))
    assert len({str(demand_of(known)) for known in (plain,) + others}) == len(others) + 1


def test_the_pools_old_field_is_a_demand_only_where_sdn_controllers_are_not_known() -> None:
    old = knows()._replace(pools=(pool()._replace(vswitch_controller="192.0.2.1"),))
    assert demand_of(old) == demand_of(knows())
    assert demand_of(old._replace(sdn_controllers=None)) != demand_of(knows()._replace(sdn_controllers=None))


@pytest.mark.parametrize("fail_mode, in_band, own, is_due", [
    ("standalone", "", {}, False), ("", "", {}, True), ("secure", "", {}, True), ("standalone", "true", {}, True),
    ("secure", "", {"vswitch_controller_fail_mode": "secure"}, False),
    ("standalone", "true", {"vswitch_disable_in_band": "true"}, False),
    ("standalone", "", {"vswitch_disable_in_band": "false"}, True),
    ("standalone", "true", {"vswitch_disable_in_band": "maybe"}, False),
])
def test_an_update_is_due_for_a_bridge_that_is_not_as_xapi_wants_it(
        fail_mode: str, in_band: str, own: Ids, is_due: bool) -> None:
    labels = Labels((bridge("br-int", fail_mode="secure"), bridge("xenbr0", {}, fail_mode, in_band)))
    known = knows(networks=[network("xenbr0", "n0", **own)])
    assert differing_bridges(labels, known, set()) == ({"row of xenbr0": "xenbr0"} if is_due else {})
    assert differing_bridges(labels, known, {"row of xenbr0"}) == {}


def test_a_bridge_takes_the_pools_fail_mode_where_its_network_has_none_and_the_pool_is_one() -> None:
    labels = Labels((bridge("xenbr0", fail_mode="standalone"),))
    secure = knows(networks=[network("xenbr0", "n0")])._replace(pools=(pool(vswitch_controller_fail_mode="secure"),))
    assert set(differing_bridges(labels, secure, set()).values()) == {"xenbr0"}
    assert differing_bridges(labels, secure._replace(pools=secure.pools * 2), set()) == {}


# Whatever there is

WORDS = st.sampled_from(("u1", "u2", "i1", "i2"))
KEYS = st.sampled_from(("xs-vif-uuid", "xs-vm-uuid", "attached-mac", "iface-id", "vm-id", "iface-status",
                        "neutron-port-uuid", "bridge-id", "mine"))
MAPS = st.dictionaries(KEYS, WORDS, max_size=5)
INTERFACES = st.dictionaries(st.sampled_from(DEVICES + OTHERS), MAPS, max_size=6)
BRIDGE_ROWS = st.dictionaries(
    st.sampled_from(("xenbr0", "xenbr1")),
    st.fixed_dictionaries({"xs-network-uuids": st.sampled_from(("", "n0", "n0;n1", "n1;n0;n2"))}).flatmap(
        lambda own: MAPS.map(lambda others: dict(own, **others))))
OVERRIDE = st.dictionaries(st.sampled_from(("nicira-iface-id", "nicira-vm-id", "neutron-port-uuid")), WORDS)
RECORDS = st.dictionaries(WORDS, OVERRIDE)
XAPI_NETWORKS = st.lists(st.builds(
    lambda name, uuid, own: network(name, uuid, **({"nicira_bridge_id": own} if own else {})),
    st.sampled_from(("xenbr0", "xenbr1", "xapi1")), st.sampled_from(("n0", "n1", "n2")),
    st.sampled_from(("", "", "b0", "b1"))), max_size=3, unique_by=lambda one: one.uuid)
KNOWN = st.builds(knows, RECORDS, RECORDS, XAPI_NETWORKS)
MAYBE_KNOWN = st.one_of(st.none(), KNOWN)
NEUTRON = st.sampled_from(NEUTRON_WORDS)
SETTLED = st.sampled_from((always, never))
Maps = Dict[str, Ids]
EXAMPLES = settings(max_examples=200)


def rows_of(interfaces: Maps, bridges: Maps) -> List[Any]:
    return [interface(name, ids) for name, ids in interfaces.items()] + [
        bridge(name, ids) for name, ids in bridges.items()]


@EXAMPLES
@given(INTERFACES, BRIDGE_ROWS, MAYBE_KNOWN, NEUTRON, SETTLED)
def test_planning_again_changes_nothing(interfaces: Maps, bridges: Maps, known: Optional[Known], neutron: str,
                                       settled: Callable[[str], bool]) -> None:
    switch = Switch(*rows_of(interfaces, bridges))
    switch.sync(known, neutron, settled)
    for _ in range(2):
        assert switch.sync(known, neutron, settled).edits == ()


@EXAMPLES
@given(INTERFACES, BRIDGE_ROWS, MAYBE_KNOWN, NEUTRON, SETTLED, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_records_changes_nothing(
        interfaces: Maps, bridges: Maps, known: Optional[Known], neutron: str, settled: Callable[[str], bool],
        random: Any) -> None:
    rows = rows_of(interfaces, bridges)
    plan = Switch(*rows).sync(known, neutron, settled)
    random.shuffle(rows)
    if known is not None:
        networks = list(known.networks)
        random.shuffle(networks)
        known = known._replace(networks=tuple(networks))
    other = Switch(*rows).sync(known, neutron, settled)
    assert sorted(other.edits) == sorted(plan.edits)
    assert (other.memory, other.unknown, sorted(other.notes)) == (plan.memory, plan.unknown, sorted(plan.notes))


@EXAMPLES
@given(INTERFACES, BRIDGE_ROWS, MAYBE_KNOWN, NEUTRON, SETTLED)
def test_rows_and_keys_of_others_are_never_touched(interfaces: Maps, bridges: Maps, known: Optional[Known],
                                                   neutron: str, settled: Callable[[str], bool]) -> None:
    plan = Switch(*rows_of(interfaces, bridges)).sync(known, neutron, settled)
    for edit in plan.edits:
        touched = {key for key, _ in edit.sets} | set(edit.drops)
        if edit.table == BRIDGE:
            assert touched == {"bridge-id"} and not edit.drops
            continue
        ours, theirs = set(OURS + ("neutron-port-uuid",)), interfaces[edit.name]
        if edit.name.startswith("tap"):
            ours |= set(histories.COPIED)
        assert touched <= ours
        if edit.name in OTHERS:
            assert "xs-vif-uuid" in theirs or touched == {"vm-id"}
        after = written(Labels((), (interface(edit.name, theirs),)), [edit]).interfaces[0].external_ids
        if "xs-vif-uuid" not in theirs and "xs-vif-uuid" not in after:
            assert "iface-id" not in touched


@EXAMPLES
@given(INTERFACES, BRIDGE_ROWS, KNOWN, NEUTRON, SETTLED)
def test_nothing_changes_because_xapi_is_away(interfaces: Maps, bridges: Maps, known: Known, neutron: str,
                                              settled: Callable[[str], bool]) -> None:
    switch = Switch(*rows_of(interfaces, bridges))
    switch.sync(known, neutron)
    memory = switch.memory
    assert switch.sync(None, neutron, settled).edits == ()
    switch.memory = memory
    assert switch.sync(known._replace(vifs={}, vms={}), neutron, settled).edits == ()
    switch.memory = Memory()  # another sync begins, and XAPI is still away
    assert switch.sync(None, neutron, settled).edits == ()


@EXAMPLES
@given(INTERFACES, BRIDGE_ROWS, MAYBE_KNOWN, NEUTRON, SETTLED)
def test_no_id_is_ever_empty(interfaces: Maps, bridges: Maps, known: Optional[Known], neutron: str,
                             settled: Callable[[str], bool]) -> None:
    for edit in Switch(*rows_of(interfaces, bridges)).sync(known, neutron, settled).edits:
        assert all(value for _, value in edit.sets)
        assert not set(dict(edit.sets)) & set(edit.drops)


@settings(max_examples=300)
@given(st.lists(st.tuples(STEPS, st.booleans()), max_size=25))
def test_whatever_happened_every_id_is_right_in_the_end(steps: List[Tuple[Step, bool]]) -> None:
    """With transactions that were lost in between, and XAPI away now and then."""
    site, switch, known, count = Site(), Switch(), None, 0
    for step, is_lost in steps:
        if site.take(step):
            count += 1
            follow(switch, site, step, "row %d" % count)
        known = known if site.is_away else site.known()
        switch.sync(known, is_lost=is_lost)
        if not is_lost:
            check_without_xapi(switch, site)
    switch.sync(site.known())
    shown = {row.name: row.external_ids for row in switch.labels.interfaces}
    assert histories.complaints(site, shown, {row.name: row.external_ids for row in switch.labels.bridges}) == []
    assert switch.sync(site.known()).edits == ()


def follow(switch: Switch, site: Site, step: Step, uuid: str) -> None:
    """Do to the rows what the step says."""
    rows = {row.name: row for row in switch.labels.bridges + switch.labels.interfaces}
    if step.action == "plug":
        rows[step.name] = interface(step.name, site.interfaces[step.name], uuid)
    elif step.action == "carry":
        there = {key: value for key, value in rows[step.name].external_ids.items() if key not in histories.COPIED}
        carried = histories.carried(step.one, step.two, stranger=False)
        rows[step.name] = rows[step.name]._replace(external_ids=dict(there, **carried))
    elif step.action == "bridge":
        before = rows.get(step.name, bridge(step.name, uuid=uuid))
        rows[step.name] = before._replace(external_ids=dict(before.external_ids, **{"xs-network-uuids": step.one}))
    elif step.action in ("unplug", "no bridge"):
        del rows[step.name]
    switch.show(*rows.values())


def check_without_xapi(switch: Switch, site: Site) -> None:
    """What is so at any time: who carries a uuid has an id, and it is one that XAPI has ever given to that uuid."""
    for row in switch.labels.interfaces:
        for uuid_key, key in (("xs-vif-uuid", "iface-id"), ("xs-vm-uuid", "vm-id")):
            uuid = row.external_ids.get(uuid_key)
            if uuid is not None:
                assert row.external_ids.get(key) in {uuid} | site.ever.get(uuid, set()), row
