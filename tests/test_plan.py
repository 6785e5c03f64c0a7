"""The plan of an update: its rules as tables, and what holds for any host and any wish as properties."""

import itertools
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, TypeVar

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ovsxen.errors import AdministratorError
from ovsxen.ovs.labels import SECURE, STANDALONE
from ovsxen.ovs.tables import (
    KEPT_KEY,
    ROOT,
    Bridge,
    Change,
    Configuration,
    Edit,
    Interface,
    Manager,
    Numbers,
    Port,
    Refs,
    Resettable,
    Row,
    Ssl,
    VlanBridge,
    differences,
)
from ovsxen.ovs.targets import Target, parse_target
from ovsxen.plan import (
    CONTROLLER_REMOVED,
    CONTROLLER_SET,
    FAIL_MODE_UPDATED,
    IN_BAND_UPDATED,
    NEW_MANAGER,
    NEW_SSL,
    UUIDS_UPDATED,
    Plan,
    Wanted,
    managers_agree,
    must_reset,
    plan,
    wanted_manager,
    with_wish,
)
from ovsxen.wishes import DISABLE_IN_BAND, FAIL_MODE, IN_BAND_KEY, NETWORK_UUIDS_KEY, wish_for
from ovsxen.xapi.records import Network, Pool, SdnController

T = TypeVar("T")
OURS = Target("ssl", "10.0.0.9", 6640)
PASSIVE = Target("pssl", "", 6640)
TLS = Ssl("/pem", "/pem", "/ca", True)
POOL = Pool("OpaqueRef:pool", "p", "OpaqueRef:master", {}, "")
NETWORK = Network("OpaqueRef:n", "n", "xenbr0", 1500, "", {}, ())
CONTROLLER = SdnController("OpaqueRef:c", "c", "ssl", "10.0.0.9", 6632)
BRIDGE = Bridge("b-xenbr0", "xenbr0", Refs(("p-xenbr0",)), {}, "", {}, Refs(), Refs(), Refs(), Refs(), Refs(),
                Numbers())
NOTHING_WANTED = Wanted(None, None, "", (), {})
WANTED = Wanted(OURS, TLS, "", (NETWORK,), {})


def manager(target: str, *, kept: bool = False) -> Manager:
    return Manager("m-" + target, target, {KEPT_KEY: "true"} if kept else {})


def network(bridge: str, uuid: str = "", **other_config: str) -> Network:
    """A network; `fail_mode` and `in_band` are what its other_config says of them."""
    keys = {"fail_mode": FAIL_MODE, "in_band": DISABLE_IN_BAND}
    return NETWORK._replace(ref="OpaqueRef:" + uuid, uuid=uuid, bridge=bridge,
                            other_config={keys[key]: value for key, value in other_config.items()})


def a_switch(managers: Iterable[Manager] = (), bridges: Iterable[Bridge] = (), ssl: Optional[Ssl] = None,
             vlan_bridges: Iterable[VlanBridge] = ()) -> Configuration:
    managers, bridges = tuple(managers), tuple(bridges)
    return Configuration("root", references(bridges), references(managers), Refs(("s",)) if ssl else Refs(),
                         managers, ssl, bridges, tuple(vlan_bridges))


def references(rows: Iterable[Any]) -> Refs:
    return Refs(tuple(sorted(row.uuid for row in rows)))


# What the database makes of an edit

class World(NamedTuple):
    """The switch, and what only a reset looks at."""

    switch: Configuration
    leftovers: Resettable


def applied(world: World, edit: Edit) -> World:
    """What the database makes of an edit. It takes none in which a column is not what it was."""
    for change in edit.expected + edit.changes:
        assert current(world, change) == change.was, "the transaction fails at %s" % (change,)
    made = {row.name: dict(row.columns) for row in edit.new_rows}
    root: Dict[str, Any] = {change.column: change.becomes for change in edit.changes if change.table == ROOT}
    managers = {one.uuid: one for one in world.switch.managers}
    managers.update({row.name: Manager("m-new", str(made[row.name]["target"]), {}) for row in edit.new_rows
                     if row.table == "Manager"})
    refs = root.get("manager_options", world.switch.manager_refs)
    staying = tuple(sorted(managers[uuid] for uuid in refs.uuids))
    ssl_ref, ssl = root.get("ssl", world.switch.ssl_ref), world.switch.ssl
    if "ssl" in root:
        ssl_ref, ssl = (Refs(("s-new",)), Ssl(**made[NEW_SSL])) if ssl_ref == Refs((NEW_SSL,)) else (ssl_ref, None)
    switch = world.switch._replace(
        managers=staying, manager_refs=references(staying), ssl_ref=ssl_ref,
        ssl=ssl, bridges=written(world.switch.bridges, "Bridge", edit))
    return World(switch, world.leftovers._replace(ports=written(world.leftovers.ports, "Port", edit),
                                                  interfaces=written(world.leftovers.interfaces, "Interface", edit)))


def current(world: World, change: Change) -> Any:
    if change.table == ROOT:
        columns = {"manager_options": world.switch.manager_refs, "ssl": world.switch.ssl_ref,
                   "bridges": world.switch.bridge_refs}
        return columns[change.column]
    tables: Dict[str, Sequence[Any]] = {"Bridge": world.switch.bridges, "Port": world.leftovers.ports,
                                        "Interface": world.leftovers.interfaces}
    return next(getattr(row, change.column) for row in tables[change.table] if row.uuid == change.uuid)


def written(rows: Tuple[Any, ...], table: str, edit: Edit) -> Tuple[Any, ...]:
    return tuple(row._replace(**{change.column: change.becomes for change in edit.changes
                                 if (change.table, change.uuid) == (table, row.uuid)}) for row in rows)


# Any host and any wish

REAL = ("xenbr0", "xenbr1", "xapi1")
REAL_SETS = ((), REAL[:1], REAL[:2], REAL, REAL)
VLAN, NOWHERE = "xapi7", "elsewhere"
SPELLINGS = ("ssl:10.0.0.9:6640", "ssl:10.0.0.9", "ssl:10.0.0.10:6640", "pssl:6640:0.0.0.0", "ptcp:6641", "unix:/m",
             "odd:form", "ssl:10.0.0.9:0")


class Case(NamedTuple):
    """All that a plan is made from."""

    wanted: Wanted
    world: World
    held: Dict[str, str]
    emer_reset: str

    @property
    def resets(self) -> bool:
        return must_reset(self.wanted, self.world.switch, self.emer_reset)

    @property
    def planned(self) -> Plan:
        return plan(self.wanted, self.world.switch, self.held, self.world.leftovers if self.resets else None)

    @property
    def known(self) -> Tuple[Bridge, ...]:
        """The bridges that something may be written to."""
        names = {network.bridge for network in self.wanted.networks} - set(self.held)
        return tuple(bridge for bridge in self.world.switch.bridges if bridge.name in names)


def maps(values: Mapping[str, Sequence[str]]) -> "st.SearchStrategy[Dict[str, str]]":
    """Some of the keys, each with one of its values; as one choice, because many small ones are slow to draw."""
    pairs = [[(key, text) for text in ("",) + tuple(texts)] for key, texts in values.items()]
    return st.sampled_from([{key: text for key, text in chosen if text} for chosen in itertools.product(*pairs)])


def bridges_named(name: str) -> "st.SearchStrategy[Bridge]":
    return st.builds(
        Bridge._replace, st.just(BRIDGE), uuid=st.just("b-" + name), name=st.just(name),
        ports=st.sampled_from([Refs(), Refs(("p-" + name, "q-" + name))]),
        external_ids=maps({"bridge-id": ["x"], NETWORK_UUIDS_KEY: ["n0", "n1;n0", "n0;n1", ";"]}),
        fail_mode=st.sampled_from(["", SECURE, SECURE, STANDALONE]),
        other_config=maps({"hwaddr": ["00:16:3e:00:00:01"], IN_BAND_KEY: ["true", "false", "odd"],
                           "datapath-id": ["9"]}),
        controller=st.sampled_from([Refs(), Refs(("c-" + name,))]),
    ).flatmap(lambda bridge: st.sampled_from([bridge, bridge._replace(
        mirrors=Refs(("m",)), netflow=Refs(("n",)), sflow=Refs(("s",)), ipfix=Refs(("i",)),
        flood_vlans=Numbers((3, 7)))]))


PORT_OTHER_CONFIGS = maps({"lacp-time": ["fast"]})
POLICED = st.sampled_from([Interface("", "", rate, burst, 1, "00:16:3e:00:00:02")
                           for rate, burst in ((0, 0), (1000, 0), (1000, 100))])


@st.composite
def worlds(draw: Any) -> World:
    bridges = [draw(bridges_named(name)) for name in draw(st.sampled_from(REAL_SETS))]
    targets = draw(st.lists(st.sampled_from(SPELLINGS), max_size=3, unique=True))
    managers = [manager(target, kept=draw(st.booleans())) for target in targets]
    vlans = [VlanBridge(VLAN, bridge.name, 7) for bridge in bridges[:1] if draw(st.booleans())]
    ports = [Port(uuid, uuid, Refs(("i" + uuid,)), draw(PORT_OTHER_CONFIGS))
             for bridge in bridges for uuid in bridge.ports.uuids]
    interfaces = [draw(POLICED)._replace(uuid="i" + port.uuid, name=port.name) for port in ports]
    ssl = draw(st.sampled_from([None, TLS, TLS._replace(ca_cert="/old")]))
    return World(a_switch(sorted(managers), sorted(bridges, key=lambda bridge: bridge.name), ssl, vlans),
                 Resettable(tuple(ports), tuple(interfaces), (Row("Mirror", "m", {}),)))


OTHER_CONFIGS = maps({FAIL_MODE: [SECURE, STANDALONE, "odd"], DISABLE_IN_BAND: ["true", "false", "odd"]})
BRIDGE_NAMES = st.sampled_from(REAL + REAL[:2] + (VLAN, NOWHERE, ""))
NETWORKS = st.lists(st.tuples(BRIDGE_NAMES, OTHER_CONFIGS), min_size=2, max_size=5).map(lambda pairs: tuple(
    NETWORK._replace(ref="OpaqueRef:%d" % number, uuid="n%d" % number, bridge=bridge, other_config=other_config)
    for number, (bridge, other_config) in enumerate(pairs)))
MANAGERS = st.sampled_from([(None, None), (OURS, TLS), (PASSIVE, TLS._replace(bootstrap_ca_cert=False))])
WANTS = st.builds(
    lambda of_manager, pool_fail_mode, networks, uuids: Wanted(of_manager[0], of_manager[1], pool_fail_mode, networks,
                                                               uuids),
    MANAGERS, st.sampled_from(["", SECURE, STANDALONE, "odd"]), NETWORKS,
    st.dictionaries(st.sampled_from(REAL), st.sampled_from([(), ("n0",), ("n0", "n1"), ("n1", "n0")]), max_size=2))
CASES = st.builds(Case, WANTS, worlds(), st.sampled_from([{}, {}, {REAL[0]: "why"}]),
                  st.sampled_from(["on-change", "on-change", "never"]))


def shuffled(values: Tuple[T, ...], data: st.DataObject) -> Tuple[T, ...]:
    return tuple(data.draw(st.permutations(values))) if values else ()


def touched(edit: Edit, table: str) -> Set[str]:
    """The rows of a table that an edit writes to."""
    return {change.uuid for change in edit.changes if change.table == table}


EXAMPLES = settings(max_examples=60)


@EXAMPLES
@given(CASES)
def test_planning_again_after_it_was_applied_changes_nothing(case: Case) -> None:
    after = case._replace(world=applied(case.world, case.planned.edit))
    assert not after.resets
    assert after.planned.edit.is_empty
    assert after.planned.done == () and after.planned.cleared == ()


@EXAMPLES
@given(CASES)
def test_after_an_update_the_manager_is_what_xapi_wants(case: Case) -> None:
    switch = applied(case.world, case.planned.edit).switch
    assert managers_agree(case.wanted.manager, switch)
    targets = {parse_target(one.target) for one in switch.managers}
    assert case.wanted.manager is None or case.wanted.manager in targets
    assert case.wanted.ssl is None or switch.ssl == case.wanted.ssl


@EXAMPLES
@given(CASES, st.data())
def test_the_order_of_what_is_read_changes_nothing(case: Case, data: st.DataObject) -> None:
    switch, leftovers = case.world
    other = case._replace(
        wanted=case.wanted._replace(networks=shuffled(case.wanted.networks, data)),
        world=World(switch._replace(managers=shuffled(switch.managers, data), bridges=shuffled(switch.bridges, data)),
                    Resettable(shuffled(leftovers.ports, data), shuffled(leftovers.interfaces, data), leftovers.rows)))
    assert other.resets == case.resets
    one, two = case.planned, other.planned
    assert two.edit.new_rows == one.edit.new_rows
    assert sorted(map(repr, two.edit.changes)) == sorted(map(repr, one.edit.changes))
    assert sorted(map(repr, two.cleared)) == sorted(map(repr, one.cleared))
    assert sorted(two.needs_flows) == sorted(one.needs_flows)
    assert sorted(two.notes) == sorted(one.notes)
    assert two.done == one.done


@EXAMPLES
@given(CASES)
def test_a_secure_bridge_that_shall_be_secure_is_never_open(case: Case) -> None:
    for bridge in case.known:
        networks = [network for network in case.wanted.networks if network.bridge == bridge.name]
        wish = wish_for(bridge, networks, case.wanted.pool_fail_mode)
        if bridge.fail_mode == SECURE and wish is not None and wish.fail_mode == SECURE:
            assert not [change for change in case.planned.edit.changes
                        if change.uuid == bridge.uuid and change.column == "fail_mode"]


@EXAMPLES
@given(CASES)
def test_bridges_that_xapi_does_not_know_or_that_are_held_are_never_touched(case: Case) -> None:
    spared = [bridge for bridge in case.world.switch.bridges if bridge not in case.known]
    ports = {uuid for bridge in spared for uuid in bridge.ports.uuids}
    interfaces = {uuid for port in case.world.leftovers.ports if port.uuid in ports for uuid in port.interfaces.uuids}
    planned = case.planned
    assert not touched(planned.edit, "Bridge") & {bridge.uuid for bridge in spared}
    assert not touched(planned.edit, "Port") & ports
    assert not touched(planned.edit, "Interface") & interfaces
    assert not set(planned.needs_flows) & {bridge.name for bridge in spared}
    for name in case.held:
        assert "bridge %s was left as it is: why" % name in planned.notes


@EXAMPLES
@given(CASES)
def test_managers_that_are_not_xapis_stay_and_unknown_forms_are_told(case: Case) -> None:
    planned = case.planned
    before = case.world.switch.managers
    after = applied(case.world, planned.edit).switch.managers
    assert all(one in after for one in before if one.is_kept or parse_target(one.target) is None)
    for one in before:
        told = any(repr(one.target) in note for note in planned.notes)
        assert told == (not one.is_kept and parse_target(one.target) is None)


@EXAMPLES
@given(CASES)
def test_without_a_reset_the_keys_and_columns_of_others_survive(case: Case) -> None:
    planned = case._replace(emer_reset="never").planned
    assert {change.table for change in planned.edit.changes} <= {ROOT, "Bridge"}
    assert planned.cleared == ()
    for change in planned.edit.changes:
        if isinstance(change.was, dict) and isinstance(change.becomes, dict):
            differing = {key for key in set(change.was) | set(change.becomes)
                         if change.was.get(key) != change.becomes.get(key)}
            assert differing <= {IN_BAND_KEY, NETWORK_UUIDS_KEY}
        else:
            assert change.column in ("fail_mode", "manager_options", "ssl")


@EXAMPLES
@given(CASES)
def test_after_a_reset_a_bridge_has_its_mac_and_what_xapi_wants_and_no_more(case: Case) -> None:
    assume(case.resets)
    known = {bridge.uuid: bridge for bridge in case.known}
    after = applied(case.world, case.planned.edit)
    for bridge in after.switch.bridges:
        if bridge.uuid not in known:
            continue
        before = known[bridge.uuid]
        mac = {key: value for key, value in before.other_config.items() if key == "hwaddr"}
        assert bridge[:3] == before[:3]
        assert bridge[6:] == (Refs(), Refs(), Refs(), Refs(), Refs(), Numbers())
        assert without(bridge.other_config, IN_BAND_KEY) == mac
        assert without(bridge.external_ids, NETWORK_UUIDS_KEY) == without(before.external_ids, NETWORK_UUIDS_KEY)
    ports = {uuid for bridge in known.values() for uuid in bridge.ports.uuids}
    for port in after.leftovers.ports:
        assert port.uuid not in ports or port.other_config == {}
    interfaces = {"i" + uuid for uuid in ports}
    for interface in after.leftovers.interfaces:
        assert interface.uuid not in interfaces or interface[2:4] == (0, 0)


def without(values: Dict[str, str], key: str) -> Dict[str, str]:
    return {name: value for name, value in values.items() if name != key}


@EXAMPLES
@given(CASES)
def test_a_change_changes_something_once(case: Case) -> None:
    edit = case.planned.edit
    assert all(change.was != change.becomes for change in edit.changes)
    cells = [(change.table, change.uuid, change.column) for change in edit.changes]
    assert len(cells) == len(set(cells))
    assert all(change.was == change.becomes for change in edit.expected)
    assert {change.column for change in edit.expected} - {"ports"} == {"manager_options", "bridges"}
    assert case.resets or all(change.column != "ports" for change in edit.expected)


@EXAMPLES
@given(CASES)
def test_whatever_a_reset_loses_is_written_down(case: Case) -> None:
    planned = case.planned
    if not case.resets:
        assert planned.cleared == ()
        return
    before, after = rows_of(case.world), rows_of(applied(case.world, planned.edit))
    lost = {(uuid, column) for uuid, row in before.items() for column, was in row._asdict().items()
            if is_lost(was, getattr(after[uuid], column))}
    assert {(change.uuid, change.column) for change in planned.cleared} == lost
    assert all(getattr(before[change.uuid], change.column) == change.was for change in planned.cleared)


def rows_of(world: World) -> Dict[str, Any]:
    return {row.uuid: row for rows in (world.switch.bridges, *world.leftovers[:2]) for row in rows}


def is_lost(was: Any, now: Any) -> bool:
    """A key, or all of a value that was not empty, is not there any more."""
    empty: Tuple[Any, ...] = ("", 0, Refs(), Numbers())
    return set(was) > set(now) & set(was) if isinstance(was, dict) else now in empty and was not in empty


@EXAMPLES
@given(CASES)
def test_a_reset_is_part_of_a_change_of_managers_and_of_nothing_else(case: Case) -> None:
    planned = case.planned
    if case.resets:
        assert "manager_options" in {change.column for change in planned.edit.changes if change.table == ROOT}
    else:
        assert not touched(planned.edit, "Port") | touched(planned.edit, "Interface")
        assert {change.column for change in planned.edit.changes if change.table == "Bridge"} <= {
            "fail_mode", "other_config", "external_ids"}


@EXAMPLES
@given(CASES)
def test_secured_are_those_that_turn_secure_or_are_secure_without_a_controller(case: Case) -> None:
    known = {bridge.name: bridge for bridge in case.known}
    after = {bridge.name: bridge for bridge in applied(case.world, case.planned.edit).switch.bridges}
    assert set(case.planned.needs_flows) == {
        name for name, before in known.items() if after[name].fail_mode == SECURE and (
            before.fail_mode != SECURE or after[name].controller == Refs())}


@EXAMPLES
@given(CASES)
def test_what_is_said_to_be_done_is_what_differs_in_the_end(case: Case) -> None:
    done = case.planned.done
    before, after = case.world.switch, applied(case.world, case.planned.edit).switch
    pairs = list(zip(before.bridges, after.bridges))
    assert (FAIL_MODE_UPDATED in done) == any(one.fail_mode != two.fail_mode for one, two in pairs)
    assert (IN_BAND_UPDATED in done) == any(
        one.other_config.get(IN_BAND_KEY) != two.other_config.get(IN_BAND_KEY) for one, two in pairs)
    assert (UUIDS_UPDATED in done) == any(one.external_ids != two.external_ids for one, two in pairs)
    said = CONTROLLER_SET % str(case.wanted.manager) if case.wanted.manager else CONTROLLER_REMOVED
    assert (said in done) == ((before.managers, before.ssl) != (after.managers, after.ssl))


# Which manager

@pytest.mark.parametrize("controllers, target", [
    ((), None),
    ((CONTROLLER,), "ssl:10.0.0.9:6632"),
    ((CONTROLLER._replace(port=6640),), "ssl:10.0.0.9:6640"),
    ((CONTROLLER._replace(address="2001:DB8::9"),), "ssl:[2001:db8::9]:6632"),
    ((CONTROLLER._replace(address="[2001:db8:0::9]"),), "ssl:[2001:db8::9]:6632"),
    ((CONTROLLER._replace(address=" 10.0.0.9\n"),), "ssl:10.0.0.9:6632"),
    ((CONTROLLER._replace(protocol="pssl", address="", port=0),), "pssl:6640"),
    ((CONTROLLER._replace(protocol="pssl"),), "pssl:6640"),
    ((CONTROLLER, CONTROLLER._replace(uuid="d")), "ssl:10.0.0.9:6632"),
    ((CONTROLLER._replace(address="::1"), CONTROLLER._replace(address="0:0::1", uuid="d")), "ssl:[::1]:6632"),
])
@pytest.mark.parametrize("stale", ["", "10.0.0.8", "nonsense"])
def test_where_xapi_knows_the_class_its_records_alone_decide(
        controllers: Tuple[SdnController, ...], target: Optional[str], stale: str) -> None:
    found = wanted_manager(POOL._replace(vswitch_controller=stale), controllers, 6640)
    assert (str(found) if found else None) == target


@pytest.mark.parametrize("field, port, target", [
    ("", 6640, None),
    ("10.0.0.9", 6640, "ssl:10.0.0.9:6640"),
    ("10.0.0.9", 6632, "ssl:10.0.0.9:6632"),
    ("10.0.0.9\n", 6640, "ssl:10.0.0.9:6640"),
    ("2001:db8::9", 6640, "ssl:[2001:db8::9]:6640"),
    ("2001:DB8:0::9", 6632, "ssl:[2001:db8::9]:6632"),
    ("[2001:db8::9]", 6640, "ssl:[2001:db8::9]:6640"),
])
def test_where_xapi_does_not_know_the_class_the_pools_field_decides(
        field: str, port: int, target: Optional[str]) -> None:
    found = wanted_manager(POOL._replace(vswitch_controller=field), None, port)
    assert (str(found) if found else None) == target


@pytest.mark.parametrize("odd, named", [
    ({"address": ""}, "''"), ({"address": "sdn.example.org"}, "sdn.example.org"), ({"address": "10.0.0"}, "10.0.0"),
    ({"address": "10.0.0.9:6632"}, "10.0.0.9:6632"), ({"address": "10.0.0.9/24"}, "10.0.0.9/24"),
    ({"address": "fe80::1%eth0"}, "eth0"), ({"address": "\u0661"}, "u0661"), ({"address": "10.0.0.9\0"}, "x00"),
    ({"port": 0}, "port 0"), ({"port": -1}, "port -1"), ({"port": 65536}, "port 65536"),
    ({"protocol": "tcp"}, "'tcp'"), ({"protocol": ""}, "''"), ({"protocol": "SSL"}, "'SSL'"),
])
def test_a_record_that_is_no_valid_target_is_an_error_that_names_it(odd: Mapping[str, Any], named: str) -> None:
    with pytest.raises(AdministratorError) as raised:
        wanted_manager(POOL, (CONTROLLER._replace(uuid="the-uuid", **odd),), 6640)
    assert "the-uuid" in raised.value.problem and named in raised.value.problem
    assert raised.value.remedy
    str(raised.value).encode("ascii")


@pytest.mark.parametrize("field", ["sdn.example.org", " ", "10.0.0.9:6640", "ssl:10.0.0.9", "[]", "10.0.0.9 10.0.0.8"])
def test_a_pools_field_that_is_no_address_is_an_error_that_names_it(field: str) -> None:
    with pytest.raises(AdministratorError) as raised:
        wanted_manager(POOL._replace(vswitch_controller=field), None, 6640)
    assert "pool.vswitch_controller" in raised.value.problem and repr(field) in raised.value.problem


def test_one_bad_record_among_good_ones_is_an_error() -> None:
    with pytest.raises(AdministratorError):
        wanted_manager(POOL, (CONTROLLER, CONTROLLER._replace(uuid="d", protocol="tcp")), 6640)


@pytest.mark.parametrize("other", [{"address": "10.0.0.8"}, {"port": 6640}, {"protocol": "pssl"}])
def test_two_records_that_differ_are_an_error_that_names_both(other: Mapping[str, Any]) -> None:
    pair = (CONTROLLER, CONTROLLER._replace(uuid="d", **other))
    problems = set()
    for controllers in (pair, pair[::-1]):
        with pytest.raises(AdministratorError) as raised:
            wanted_manager(POOL, controllers, 6640)
        problems.add(str(raised.value))
    problem, = problems
    assert "ssl:10.0.0.9:6632" in problem and "sdn-controller-forget" in problem


# Whether the managers agree

@pytest.mark.parametrize("wanted, there, agree", [
    (None, [], True),
    (None, [manager("ssl:10.0.0.9:6640")], False),
    (None, [manager("ptcp:6641")], False),
    (None, [manager("ptcp:6641", kept=True)], True),
    (None, [manager("odd:form")], True),
    (OURS, [], False),
    (OURS, [manager("ssl:10.0.0.9:6640")], True),
    (OURS, [manager("ssl:10.0.0.9")], True),
    (OURS, [manager("ssl:10.0.0.9"), manager("ssl:10.0.0.9:6640")], True),
    (OURS, [manager("ssl:10.0.0.9:6632")], False),
    (OURS, [manager("ssl:10.0.0.90:6640")], False),
    (OURS, [manager("tcp:10.0.0.9:6640")], False),
    (OURS, [manager("ssl:10.0.0.9:6640"), manager("ssl:10.0.0.8:6640")], False),
    (OURS, [manager("ssl:10.0.0.9:6640"), manager("ptcp:6641")], False),
    (OURS, [manager("ssl:10.0.0.9:6640"), manager("ptcp:6641", kept=True)], True),
    (OURS, [manager("ssl:10.0.0.9:6640", kept=True)], True),
    (OURS, [manager("ssl:10.0.0.9:6640"), manager("odd:form")], True),
    (PASSIVE, [manager("pssl:6640")], True),
    (PASSIVE, [manager("pssl:")], True),
    (PASSIVE, [manager("pssl:6640:0.0.0.0")], True),
    (PASSIVE, [manager("pssl:6640:[::]")], True),
    (PASSIVE, [manager("pssl:6640:127.0.0.1")], False),
    (PASSIVE, [manager("ptcp:6640")], False),
    (Target("ssl", "2001:db8::9", 6640), [manager("ssl:[2001:DB8:0::9]")], True),
])
def test_managers_agree_as_sets_of_full_targets(wanted: Optional[Target], there: List[Manager], agree: bool) -> None:
    switch = a_switch(there)
    assert managers_agree(wanted, switch) is agree
    wish = NOTHING_WANTED._replace(manager=wanted)
    assert must_reset(wish, switch, "on-change") is not agree
    assert must_reset(wish, switch, "never") is False


@pytest.mark.parametrize("mark, kept", [
    ({}, False), ({KEPT_KEY: "true"}, True), ({KEPT_KEY: "false"}, False), ({KEPT_KEY: ""}, False),
    ({KEPT_KEY: "True"}, False), ({"keep": "true"}, False)])
def test_only_the_mark_makes_a_manager_the_administrators(mark: Dict[str, str], kept: bool) -> None:
    assert Manager("m", "ptcp:6641", mark).is_kept is kept


def planned_for(wanted: Wanted, switch: Configuration, *, reset: bool = False) -> Plan:
    return plan(wanted, switch, {}, Resettable() if reset else None)


def root_change(planned: Plan, column: str) -> Optional[Tuple[Any, Any]]:
    """What a column of the Open_vSwitch row was and becomes; None where it stays."""
    found = [(change.was, change.becomes) for change in planned.edit.changes
             if (change.table, change.column) == (ROOT, column)]
    return found[0] if found else None


def test_a_new_manager_comes_with_its_tls() -> None:
    edit = planned_for(WANTED, a_switch(), reset=True).edit
    assert [(row.table, row.name, dict(row.columns)) for row in edit.new_rows] == [
        ("Manager", NEW_MANAGER, {"target": "ssl:10.0.0.9:6640"}), ("SSL", NEW_SSL, dict(TLS._asdict()))]


def test_another_manager_replaces_the_old_one_and_not_the_administrators() -> None:
    old, theirs = manager("ssl:10.0.0.8:6640"), manager("ptcp:6641", kept=True)
    planned = planned_for(WANTED, a_switch([old, theirs], ssl=TLS), reset=True)
    assert root_change(planned, "manager_options") == (
        references([old, theirs]), Refs((theirs.uuid, NEW_MANAGER)))
    assert root_change(planned, "ssl") is None


def test_a_manager_in_another_spelling_stays_as_it_is() -> None:
    planned = planned_for(WANTED, a_switch([manager("ssl:10.0.0.9")], ssl=TLS))
    assert root_change(planned, "manager_options") is None and planned.done == ()


def test_a_manager_that_is_there_already_is_not_made_again_when_another_goes() -> None:
    ours, other = manager("ssl:10.0.0.9:6640"), manager("ssl:10.0.0.8:6640")
    planned = planned_for(WANTED, a_switch([ours, other], ssl=TLS), reset=True)
    assert root_change(planned, "manager_options") == (references([ours, other]), references([ours]))
    assert planned.edit.new_rows == ()


def test_tls_that_differs_is_set_though_the_manager_is_right() -> None:
    switch = a_switch([manager("ssl:10.0.0.9:6640")], ssl=TLS._replace(ca_cert="/old"))
    planned = planned_for(WANTED, switch)
    assert not must_reset(WANTED, switch, "on-change")
    assert root_change(planned, "ssl") == (Refs(("s",)), Refs((NEW_SSL,)))
    assert root_change(planned, "manager_options") is None
    assert planned.done == (CONTROLLER_SET % "ssl:10.0.0.9:6640",)


@pytest.mark.parametrize("staying, stays", [
    ([], False), ([manager("ptcp:6641", kept=True)], False), ([manager("ssl:10.0.0.8:6640", kept=True)], True),
    ([manager("pssl:6640", kept=True)], True)])
def test_with_the_last_manager_that_needs_it_tls_goes(staying: List[Manager], stays: bool) -> None:
    switch = a_switch([manager("ssl:10.0.0.9:6640")] + staying, ssl=TLS)
    planned = planned_for(NOTHING_WANTED, switch, reset=True)
    assert root_change(planned, "ssl") == (None if stays else (Refs(("s",)), Refs()))
    assert planned.done == (CONTROLLER_REMOVED,)


def test_tls_that_the_administrator_set_stays_where_no_manager_is_wanted_or_there() -> None:
    assert planned_for(NOTHING_WANTED, a_switch(ssl=TLS)).edit.is_empty


def test_a_manager_of_unknown_form_stays_and_the_note_says_what_to_do() -> None:
    odd = manager("odd:\u00fc")
    planned = planned_for(NOTHING_WANTED, a_switch([odd, manager("ptcp:6641")]), reset=True)
    assert root_change(planned, "manager_options") == (references([odd, manager("ptcp:6641")]), references([odd]))
    note, = planned.notes
    assert "'odd:\\xfc'" in note and "ovsxen-keep=true" in note


# Fail mode and in-band control

@pytest.mark.parametrize("own, pool, fail_mode, told", [
    (None, "", STANDALONE, False),
    (None, SECURE, SECURE, False),
    (None, STANDALONE, STANDALONE, False),
    (None, "odd", STANDALONE, False),
    ("", SECURE, SECURE, False),
    (SECURE, "", SECURE, False),
    (SECURE, SECURE, SECURE, False),
    (SECURE, STANDALONE, SECURE, False),
    (SECURE, "odd", SECURE, False),
    (STANDALONE, "", STANDALONE, False),
    (STANDALONE, SECURE, STANDALONE, False),
    (STANDALONE, "odd", STANDALONE, False),
    ("odd", "", STANDALONE, True),
    ("odd", SECURE, SECURE, True),
    ("odd", "odd", STANDALONE, True),
    ("Secure", STANDALONE, STANDALONE, True),
    (" secure", "", STANDALONE, True),
    ("true", SECURE, SECURE, True),
])
@pytest.mark.parametrize("before", ["", SECURE, STANDALONE])
def test_the_fail_mode_is_the_networks_then_the_pools_then_standalone(
        own: Optional[str], pool: str, fail_mode: str, told: bool, before: str) -> None:
    on_it = network("xenbr0") if own is None else network("xenbr0", fail_mode=own)
    bridge = BRIDGE._replace(fail_mode=before)
    wish = wish_for(bridge, [on_it], pool)
    assert wish is not None and wish.fail_mode == fail_mode
    notes = planned_for(Wanted(None, None, pool, (on_it,), {}), a_switch(bridges=[bridge])).notes
    assert [note for note in notes if "xenbr0" in note] == [
        '"%s" is an invalid value for vswitch-controller-fail-mode on xenbr0 and does not count: '
        'set it to secure or standalone' % own] * told


@pytest.mark.parametrize("own, before, in_band, told", [
    (None, None, "", False), (None, "true", "", False), ("", "true", "", False),
    ("true", None, "true", False), ("true", "false", "true", False), ("true", "true", "true", False),
    ("false", None, "false", False), ("false", "true", "false", False),
    ("odd", None, "", True), ("odd", "true", "true", True), ("odd", "false", "false", True), ("True", None, "", True),
    ("1", "true", "true", True),
])
@pytest.mark.parametrize("pool", ["", SECURE])
def test_in_band_control_is_the_networks_alone(
        own: Optional[str], before: Optional[str], in_band: str, told: bool, pool: str) -> None:
    on_it = network("xenbr0") if own is None else network("xenbr0", in_band=own)
    bridge = BRIDGE._replace(other_config={IN_BAND_KEY: before} if before else {})
    wish = wish_for(bridge, [on_it], pool)
    assert wish is not None and wish.disable_in_band == (in_band or None)
    assert list(planned_for(Wanted(None, None, pool, (on_it,), {}), a_switch(bridges=[bridge])).notes) == [
        '"%s" is an invalid value for vswitch-disable-in-band on xenbr0 and does not count: set it to true or false'
        % own] * told
    assert with_wish(bridge, wish, ()).other_config == ({IN_BAND_KEY: in_band} if in_band else {})


def test_a_bridge_without_a_network_has_no_wish() -> None:
    assert wish_for(BRIDGE, (), SECURE) is None


@pytest.mark.parametrize("pool, told", [("", False), (SECURE, False), (STANDALONE, False), ("odd", True)])
def test_nonsense_of_the_pool_is_told_once_and_does_not_count(pool: str, told: bool) -> None:
    wanted = Wanted(None, None, pool, (network("xenbr0"), network("xenbr1")), {})
    switch = a_switch(bridges=[BRIDGE, BRIDGE._replace(uuid="b-xenbr1", name="xenbr1")])
    notes = planned_for(wanted, switch).notes
    assert notes == ('"odd" is an invalid value for vswitch-controller-fail-mode on the pool and does not count: '
                     'set it to secure or standalone',) * told


@pytest.mark.parametrize("one, other", [
    ({}, {}), ({"fail_mode": SECURE}, {"fail_mode": SECURE}), ({"fail_mode": SECURE}, {}), ({"fail_mode": "odd"}, {}),
    ({"in_band": "true"}, {"in_band": "true"}), ({"in_band": ""}, {})])
def test_two_networks_on_one_bridge_that_agree_are_as_one(one: Mapping[str, str], other: Mapping[str, str]) -> None:
    bridge = BRIDGE._replace(fail_mode=STANDALONE)
    networks = (network("xenbr0", "a", **one), network("xenbr0", "b", **other))
    assert wish_for(bridge, networks, SECURE) == wish_for(bridge, networks[:1], SECURE)
    notes = planned_for(Wanted(None, None, SECURE, networks, {}), a_switch(bridges=[bridge])).notes
    assert not [note for note in notes if "disagree" in note]


@pytest.mark.parametrize("one, other", [
    ({"fail_mode": SECURE}, {"fail_mode": STANDALONE}), ({"fail_mode": STANDALONE}, {}),
    ({"in_band": "true"}, {"in_band": "false"}), ({"in_band": "true"}, {})])
@pytest.mark.parametrize("before", ["", SECURE, STANDALONE])
@pytest.mark.parametrize("in_band", ["", "true", "odd"])
@pytest.mark.parametrize("reset", [False, True])
def test_two_networks_on_one_bridge_that_disagree_leave_it_as_it_is(
        one: Mapping[str, str], other: Mapping[str, str], before: str, in_band: str, reset: bool) -> None:
    bridge = BRIDGE._replace(fail_mode=before, other_config={IN_BAND_KEY: in_band} if in_band else {})
    networks = (network("xenbr0", "a", **one), network("xenbr0", "b", **other))
    planned = planned_for(Wanted(OURS, TLS, SECURE, networks, {}), a_switch(bridges=[bridge]), reset=reset)
    assert not touched(planned.edit, "Bridge")
    note, = planned.notes
    assert "xenbr0" in note and "disagree" in note


@pytest.mark.parametrize("names", [("",), ("elsewhere",), ("", "", "elsewhere")])
def test_a_network_without_a_bridge_here_changes_and_says_nothing(names: Tuple[str, ...]) -> None:
    networks = tuple(network(name, "n%d" % number, fail_mode="odd", in_band="odd") for number, name in enumerate(names))
    planned = planned_for(Wanted(None, None, SECURE, networks, dict.fromkeys(names, ("n0",))),
                          a_switch(bridges=[BRIDGE]))
    assert planned.edit.is_empty and planned.notes == () and planned.needs_flows == ()


# VLANs

@pytest.mark.parametrize("of_vlan, told", [
    ({}, ()),
    ({"fail_mode": SECURE, "in_band": "true"}, ()),
    ({"fail_mode": STANDALONE}, ("vswitch-controller-fail-mode=standalone",)),
    ({"fail_mode": "odd"}, ("vswitch-controller-fail-mode=odd",)),
    ({"in_band": "false"}, ("vswitch-disable-in-band=false",)),
    ({"fail_mode": STANDALONE, "in_band": "false"},
     ("vswitch-controller-fail-mode=standalone", "vswitch-disable-in-band=false")),
])
def test_the_network_of_a_vlan_has_no_say_and_is_told_where_it_disagrees(
        of_vlan: Mapping[str, str], told: Tuple[str, ...]) -> None:
    own = network("xenbr0", "a", fail_mode=SECURE, in_band="true")
    switch = a_switch(bridges=[BRIDGE], vlan_bridges=[VlanBridge("xapi7", "xenbr0", 7)])
    planned = planned_for(Wanted(None, None, "", (own, network("xapi7", "b", **of_vlan)), {}), switch)
    assert planned.edit == planned_for(Wanted(None, None, "", (own,), {}), switch).edit
    assert len(planned.notes) == len(told)
    for note, said in zip(planned.notes, told):
        assert note.startswith(said) and "xapi7" in note and "xenbr0" in note


def test_a_vlan_on_a_bridge_that_xapi_does_not_know_is_not_told() -> None:
    switch = a_switch(bridges=[BRIDGE], vlan_bridges=[VlanBridge("xapi7", "xenbr0", 7)])
    wanted = Wanted(None, None, "", (network("xapi7", fail_mode=SECURE),), {})
    planned = planned_for(wanted, switch)
    assert planned.edit.is_empty and planned.notes == ()


def test_a_vlan_that_disagrees_with_an_unset_value_is_told_so() -> None:
    switch = a_switch(bridges=[BRIDGE], vlan_bridges=[VlanBridge("xapi7", "xenbr0", 7)])
    wanted = Wanted(None, None, "", (network("xenbr0", "a"), network("xapi7", "b", in_band="true")), {})
    assert planned_for(wanted, switch).notes == (
        "vswitch-disable-in-band=true of the VLAN's network on xapi7 has no effect, bridge xenbr0 has none: set it on "
        "xenbr0's network",)


# Network uuids

@pytest.mark.parametrize("there, uuids, becomes", [
    (None, (), None), ("a;b", (), "a;b"), ("", (), ""),
    (None, ("a",), "a"), ("", ("a",), "a"), ("b", ("a",), "a"),
    ("a", ("a",), "a"),
    ("a;c;b", ("a", "b", "c"), "a;c;b"),
    ("b;a", ("a", "b"), "a;b"),
    ("a;b;c", ("a", "b"), "a;b"),
    ("a", ("a", "b"), "a;b"),
])
@pytest.mark.parametrize("reset", [False, True])
def test_the_bridges_own_network_comes_first_and_the_order_of_the_others_means_nothing(
        there: Optional[str], uuids: Tuple[str, ...], becomes: Optional[str], reset: bool) -> None:
    ids = {"bridge-id": "x"} if there is None else {"bridge-id": "x", NETWORK_UUIDS_KEY: there}
    bridge = BRIDGE._replace(external_ids=ids, fail_mode=STANDALONE)
    wanted = Wanted(None, None, "", (NETWORK,), {"xenbr0": uuids})
    planned = planned_for(wanted, a_switch(bridges=[bridge]), reset=reset)
    expected = dict(ids, **{NETWORK_UUIDS_KEY: becomes}) if becomes is not None else ids
    after = bridge._replace(external_ids=expected)
    assert planned.edit.changes == tuple(differences("Bridge", bridge, after))
    assert planned.done == ((UUIDS_UPDATED,) if there != becomes else ())


# What the answer says was done

XAPI1 = BRIDGE._replace(uuid="b-xapi1", name="xapi1", other_config={"hwaddr": "00:11:22:33:44:55"})
TRACED = (network("xapi1", "a", fail_mode=SECURE, in_band="true"), network("xapi5", "b"))


@pytest.mark.parametrize("target, before, text", [
    ("pssl:6640", None, "Successfully set controller to pssl:6640.  Updated in-band management.  Updated fail_mode.  "),
    ("ssl:10.0.0.9:6632", None,
     "Successfully set controller to ssl:10.0.0.9:6632.  Updated in-band management.  Updated fail_mode.  "),
    (None, "ssl:10.0.0.9:6632",
     "Successfully removed controller config.  Updated in-band management.  Updated fail_mode.  "),
    (None, None, "Updated in-band management.  Updated fail_mode.  "),
])
def test_the_first_run_says_what_xapis_own_plugin_says(
        target: Optional[str], before: Optional[str], text: str) -> None:
    wanted = Wanted(parse_target(target) if target else None, TLS if target else None, SECURE, TRACED, {})
    switch = a_switch([manager(before)] if before else [], [XAPI1], TLS if before else None,
                      [VlanBridge("xapi5", "xapi1", 7)])
    world = World(switch, Resettable())
    planned = planned_for(wanted, switch, reset=must_reset(wanted, switch, "on-change"))
    assert "".join(planned.done) == text
    assert planned_for(wanted, applied(world, planned.edit).switch).done == ()


def test_a_reset_whose_bridges_end_as_they_were_speaks_of_the_manager_only() -> None:
    bridge = XAPI1._replace(fail_mode=SECURE, other_config=dict(XAPI1.other_config, **{IN_BAND_KEY: "true"}))
    switch = a_switch([manager("ssl:10.0.0.8:6640")], [bridge], TLS)
    planned = planned_for(Wanted(OURS, TLS, SECURE, TRACED, {}), switch, reset=True)
    assert planned.done == (CONTROLLER_SET % "ssl:10.0.0.9:6640",)
    assert not touched(planned.edit, "Bridge") and planned.cleared == ()
    assert planned.needs_flows == ("xapi1",)


@pytest.mark.parametrize("before, controller, pool, reset, secured", [
    (SECURE, Refs(), SECURE, False, True),
    (SECURE, Refs(("c",)), SECURE, False, False),
    (SECURE, Refs(("c",)), SECURE, True, True),
    (STANDALONE, Refs(("c",)), SECURE, False, True),
    ("", Refs(), SECURE, False, True),
    (SECURE, Refs(), STANDALONE, False, False),
    (STANDALONE, Refs(), STANDALONE, True, False),
])
def test_a_bridge_is_secured_where_nobody_else_sees_to_its_flows(
        before: str, controller: Refs, pool: str, reset: bool, secured: bool) -> None:
    switch = a_switch(bridges=[BRIDGE._replace(fail_mode=before, controller=controller)])
    planned = planned_for(WANTED._replace(pool_fail_mode=pool), switch, reset=reset)
    assert planned.needs_flows == (("xenbr0",) if secured else ())


def test_a_reset_empties_all_that_a_controller_may_have_set_up() -> None:
    full = BRIDGE._replace(
        controller=Refs(("c",)), mirrors=Refs(("m",)), netflow=Refs(("n",)), sflow=Refs(("s",)), ipfix=Refs(("i",)),
        flood_vlans=Numbers((3,)), fail_mode=SECURE, external_ids={"x": "y"},
        other_config={"hwaddr": "00:16:3e:00:00:01", "datapath-id": "9", IN_BAND_KEY: "true"})
    leftovers = Resettable((Port("p-xenbr0", "p", Refs(("i-p",)), {"lacp-time": "fast"}),),
                          (Interface("i-p", "p", 1000, 100, 1),))
    planned = plan(WANTED, a_switch([manager("ssl:10.0.0.8:6640")], [full]), {}, leftovers)
    changes = [change for change in planned.edit.changes if change.table != ROOT]
    assert {(change.table, change.column): change.becomes for change in changes} == {
        ("Bridge", "controller"): Refs(), ("Bridge", "mirrors"): Refs(), ("Bridge", "netflow"): Refs(),
        ("Bridge", "sflow"): Refs(), ("Bridge", "ipfix"): Refs(), ("Bridge", "flood_vlans"): Numbers(),
        ("Bridge", "fail_mode"): STANDALONE, ("Bridge", "other_config"): {"hwaddr": "00:16:3e:00:00:01"},
        ("Port", "other_config"): {}, ("Interface", "ingress_policing_rate"): 0,
        ("Interface", "ingress_policing_burst"): 0}
    assert list(planned.cleared) == [change for change in changes if change.column != "fail_mode"]


def test_a_held_bridge_keeps_everything_while_the_others_follow() -> None:
    other = BRIDGE._replace(uuid="b-xenbr1", name="xenbr1", ports=Refs(("p-xenbr1",)))
    ports = tuple(Port(uuid, uuid, Refs(("i" + uuid,)), {"lacp-time": "fast"}) for uuid in ("p-xenbr0", "p-xenbr1"))
    wanted = Wanted(OURS, TLS, SECURE, (network("xenbr0", "a"), network("xenbr1", "b")), {})
    planned = plan(wanted, a_switch(bridges=[BRIDGE, other]), {"xenbr0": "no flows"}, Resettable(ports))
    assert touched(planned.edit, "Bridge") == {"b-xenbr1"} and touched(planned.edit, "Port") == {"p-xenbr1"}
    assert planned.needs_flows == ("xenbr1",)
    assert planned.notes == ("bridge xenbr0 was left as it is: no flows",)


@pytest.mark.parametrize("was, becomes, loses", [
    ("secure", "", True), ("", "secure", False), ("secure", "standalone", False), (7, 0, True), (0, 7, False),
    (Refs(("a",)), Refs(), True), (Refs(("a",)), Refs(("b",)), False), (Numbers((3,)), Numbers(), True),
    ({"a": "1"}, {}, True), ({"a": "1"}, {"b": "1"}, True), ({"a": "1"}, {"a": "2"}, False),
    ({"a": "1"}, {"a": "1", "b": "2"}, False), ({}, {"a": "1"}, False)])
def test_a_change_knows_whether_it_loses_something(was: Any, becomes: Any, loses: bool) -> None:
    assert Change("Bridge", "b", "xenbr0", "column", was, becomes).loses_something is loses


def test_a_kept_manager_in_another_spelling_beside_xapis_own_does_not_reset_at_every_update() -> None:
    there = [manager("ssl:10.0.0.9", kept=True), manager("ssl:10.0.0.9:6640")]
    world = World(a_switch(there, ssl=TLS), Resettable())
    planned = plan(WANTED, world.switch, {}, None if managers_agree(OURS, world.switch) else world.leftovers)
    assert managers_agree(OURS, applied(world, planned.edit).switch)
