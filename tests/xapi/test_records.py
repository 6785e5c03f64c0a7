"""XAPI's records as values: any of its spellings, and nothing guessed where one is odd."""

from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.errors import Refused, XapiFailure
from ovsxen.host.clock import Deadline
from ovsxen.xapi import records
from ovsxen.xapi.records import Bond, Network, Pif, Pool, SdnController, Tunnel, Vlan
from ovsxen.xapi.session import connect
from tests.xapi.conftest import MakeWire
from tests.xapi.wire import failure, success

POOL = {"uuid": "u", "master": "OpaqueRef:h", "other_config": {"vswitch-controller-fail-mode": "secure"},
        "vswitch_controller": "10.0.0.1", "name_label": "", "ha_enabled": False}
NETWORK = {"uuid": "u", "bridge": "xenbr0", "MTU": "1500", "name_label": "Pool-wide", "other_config": {},
           "PIFs": ["OpaqueRef:p"], "VIFs": []}
PIF = {"uuid": "u", "device": "eth0", "network": "OpaqueRef:n", "host": "OpaqueRef:h", "MAC": "00:11:22:33:44:55",
       "MTU": "1500", "VLAN": "-1", "physical": True, "currently_attached": True, "management": False,
       "bond_slave_of": "OpaqueRef:NULL", "bond_master_of": [], "VLAN_master_of": "OpaqueRef:NULL",
       "VLAN_slave_of": ["OpaqueRef:v"], "tunnel_access_PIF_of": [], "tunnel_transport_PIF_of": [],
       "ip_configuration_mode": "Static", "IP": "10.0.0.2", "netmask": "255.0.0.0", "gateway": "10.0.0.254",
       "DNS": "10.0.0.3", "ipv6_configuration_mode": "None", "other_config": {"bond-mode": "balance-slb"}}
BOND = {"uuid": "u", "master": "OpaqueRef:b", "slaves": ["OpaqueRef:p", "OpaqueRef:q"], "mode": "lacp"}
VLAN = {"uuid": "u", "tagged_PIF": "OpaqueRef:p", "untagged_PIF": "OpaqueRef:q", "tag": "42", "other_config": {}}
TUNNEL = {"uuid": "u", "access_PIF": "OpaqueRef:p", "transport_PIF": "OpaqueRef:q", "status": {"active": "true"}}
SDN_CONTROLLER = {"uuid": "u", "protocol": "ssl", "address": "10.0.0.1", "port": "6640"}

Parse = Callable[[Dict[str, Any]], Any]
KINDS = [
    (records.parse_pools, "pool", POOL,
     Pool("r", "u", "OpaqueRef:h", {"vswitch-controller-fail-mode": "secure"}, "10.0.0.1")),
    (records.parse_networks, "network", NETWORK,
     Network("r", "u", "xenbr0", 1500, "Pool-wide", {}, ("OpaqueRef:p",))),
    (records.parse_pifs, "PIF", PIF,
     Pif("r", "u", "eth0", "OpaqueRef:n", "OpaqueRef:h", "00:11:22:33:44:55", 1500, records.NO_VLAN, True, True, False,
         records.NULL_REF, (), records.NULL_REF, ("OpaqueRef:v",), (), (), "Static", "10.0.0.2", "255.0.0.0",
         "10.0.0.254", "10.0.0.3", "None", {"bond-mode": "balance-slb"})),
    (records.parse_bonds, "Bond", BOND, Bond("r", "u", "OpaqueRef:b", ("OpaqueRef:p", "OpaqueRef:q"))),
    (records.parse_vlans, "VLAN", VLAN, Vlan("r", "u", "OpaqueRef:p", "OpaqueRef:q", 42)),
    (records.parse_tunnels, "tunnel", TUNNEL, Tunnel("r", "u", "OpaqueRef:p", "OpaqueRef:q")),
    (records.parse_sdn_controllers, "SDN_controller", SDN_CONTROLLER, SdnController("r", "u", "ssl", "10.0.0.1", 6640)),
]
CLASSES = [kind[1] for kind in KINDS]
NOT_READ = {("pool", "name_label"), ("pool", "ha_enabled"), ("network", "VIFs"), ("Bond", "mode"),
            ("VLAN", "other_config"), ("tunnel", "status")}


@pytest.mark.parametrize("parse, class_name, record, noun", KINDS, ids=CLASSES)
def test_a_record_becomes_its_noun(parse: Parse, class_name: str, record: Dict[str, Any], noun: Any) -> None:
    assert parse({"r": record}) == (noun,)


@pytest.mark.parametrize("parse, class_name, record, noun", KINDS, ids=CLASSES)
def test_numbers_and_flags_may_be_typed_or_text(
        parse: Parse, class_name: str, record: Dict[str, Any], noun: Any) -> None:
    other = {name: spelled_differently(value) for name, value in record.items()
             if name in ("MTU", "VLAN", "tag", "port", "physical", "currently_attached", "management")}
    assert parse({"r": dict(record, **other)}) == (noun,)


def spelled_differently(value: Any) -> Any:
    return {True: "true", False: "0"}[value] if isinstance(value, bool) else int(value)


def read_fields(class_name: str, record: Dict[str, Any]) -> List[str]:
    return sorted(name for name in record if (class_name, name) not in NOT_READ)


@pytest.mark.parametrize("parse, class_name, record, noun", KINDS, ids=CLASSES)
def test_a_record_without_a_field_is_refused_by_class_ref_and_field(
        parse: Parse, class_name: str, record: Dict[str, Any], noun: Any) -> None:
    for name in read_fields(class_name, record):
        if name == "vswitch_controller":
            continue
        less = {key: value for key, value in record.items() if key != name}
        with pytest.raises(Refused, match="record 'OpaqueRef:1' of class %s has no %s:" % (class_name, name)):
            parse({"OpaqueRef:1": less})


@pytest.mark.parametrize("odd", [None, 1.5, {"a": 1}, [1]], ids=str)
@pytest.mark.parametrize("parse, class_name, record, noun", KINDS, ids=CLASSES)
def test_a_field_of_another_type_is_refused(
        parse: Parse, class_name: str, record: Dict[str, Any], noun: Any, odd: Any) -> None:
    for name in read_fields(class_name, record):
        with pytest.raises(Refused, match="'OpaqueRef:1' of class %s has .* in %s, and not" % (class_name, name)):
            parse({"OpaqueRef:1": dict(record, **{name: odd})})


@pytest.mark.parametrize("name, odd", [
    ("MTU", ""), ("MTU", "1500 "), ("MTU", "1_500"), ("MTU", "0x5"), ("MTU", True), ("MTU", "\u0661"),
    ("MTU", "9" * 5000), ("physical", "yes"), ("physical", ""), ("physical", 1), ("device", True),
    ("bond_master_of", "OpaqueRef:NULL")])
def test_what_only_looks_like_a_value_is_refused(name: str, odd: Any) -> None:
    with pytest.raises(Refused, match="in %s, and not" % name):
        records.parse_pifs({"r": dict(PIF, **{name: odd})})


@pytest.mark.parametrize("odd", [None, "", [], "OpaqueRef:1"])
def test_a_record_that_is_none_is_refused(odd: Any) -> None:
    with pytest.raises(Refused, match="'r' of class pool is .* not a record"):
        records.parse_pools({"r": odd})


def test_a_pool_of_a_xapi_without_the_old_field_has_no_old_controller() -> None:
    less = {name: value for name, value in POOL.items() if name != "vswitch_controller"}
    assert records.parse_pools({"r": less})[0].vswitch_controller == ""


@given(st.permutations(range(6)))
def test_the_order_of_the_records_changes_nothing(order: List[int]) -> None:
    made = {"OpaqueRef:%d" % number: dict(VLAN, uuid="u%d" % (number // 2)) for number in order}
    found = records.parse_vlans(made)
    assert [(vlan.uuid, vlan.ref) for vlan in found] == sorted((vlan.uuid, vlan.ref) for vlan in found)
    assert len(found) == 6


def test_everything_comes_over_the_wire(make_wire: MakeWire) -> None:
    said = {"%s.get_all_records" % class_name: success({"r": record}) for _, class_name, record, _ in KINDS}
    said["host.get_by_uuid"] = success("OpaqueRef:h")
    wire = make_wire(lambda connection, question: connection.sendall(said[question.method]))
    with connect(wire.path, Deadline(20), "OpaqueRef:s") as xapi:
        found = [records.read_pools(xapi), records.read_networks(xapi), records.read_pifs(xapi),
                 records.read_bonds(xapi), records.read_vlans(xapi), records.read_tunnels(xapi),
                 records.read_sdn_controllers(xapi)]
        assert records.read_host_ref(xapi, "u") == "OpaqueRef:h"
    assert found == [(noun,) for _, _, _, noun in KINDS]
    assert len(wire.asked) == 8


def controllers(make_wire: MakeWire, said: bytes) -> object:
    path: Path = make_wire(lambda connection, _question: connection.sendall(said)).path
    with connect(path, Deadline(20), "OpaqueRef:s") as xapi:
        return records.read_sdn_controllers(xapi)


def test_a_xapi_that_does_not_know_sdn_controllers_is_not_one_without_any(make_wire: MakeWire) -> None:
    assert controllers(make_wire, failure("MESSAGE_METHOD_UNKNOWN", "SDN_controller.get_all_records")) is None


def test_a_xapi_without_sdn_controllers_has_none_of_them(make_wire: MakeWire) -> None:
    assert controllers(make_wire, success({})) == ()


def test_another_failure_is_not_taken_for_a_xapi_that_does_not_know_them(make_wire: MakeWire) -> None:
    with pytest.raises(XapiFailure, match="RBAC_PERMISSION_DENIED"):
        controllers(make_wire, failure("RBAC_PERMISSION_DENIED", "SDN_controller.get_all_records", "no"))


def test_a_host_that_xapi_does_not_know_is_a_failure(make_wire: MakeWire) -> None:
    wire = make_wire(lambda connection, _question: connection.sendall(failure("UUID_INVALID", "host", "u")))
    with connect(wire.path, Deadline(20), "OpaqueRef:s") as xapi:
        with pytest.raises(XapiFailure, match="UUID_INVALID.*'host', 'u'.*xensource-inventory"):
            records.read_host_ref(xapi, "u")
