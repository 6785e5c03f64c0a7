"""Pure: what XAPI wants of the switch, and what must change for it. These are the rules of an update; read them aloud.

Whatever XAPI does not know stays as it is: bridges without a network, managers that the administrator marked or that
have a form which ovsxen does not know. What disagrees within XAPI's own wishes is told in the notes, never guessed.
"""

from typing import Collection, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.ovs.labels import SECURE
from ovsxen.ovs.tables import (
    KEPT_KEY,
    ROOT,
    Bridge,
    Change,
    Configuration,
    Edit,
    Manager,
    NewRow,
    Refs,
    Resettable,
    Ssl,
    differences,
)
from ovsxen.ovs.targets import DEFAULT_PORT, Target, canonical_address, parse_target
from ovsxen.plan_reset import emptied_bridge, resettable_changes
from ovsxen.wishes import (
    DISABLE_IN_BAND,
    FAIL_MODE,
    FAIL_MODES,
    IN_BAND_KEY,
    IN_BAND_VALUES,
    NETWORK_UUIDS_KEY,
    Wish,
    fail_mode_of,
    networks_by_bridge,
    wish_for,
)
from ovsxen.xapi.records import Network, Pool, SdnController

ON_CHANGE = "on-change"
NEW_MANAGER, NEW_SSL = "@manager", "@ssl"

CONTROLLER_SET = "Successfully set controller to %s.  "
CONTROLLER_REMOVED = "Successfully removed controller config.  "
IN_BAND_UPDATED = "Updated in-band management.  "
FAIL_MODE_UPDATED = "Updated fail_mode.  "
BRIDGES_RESET = "Reset bridges.  "
UUIDS_UPDATED = "Updated network uuids.  "
NO_CHANGE = "No change to configuration"


class Wanted(NamedTuple):
    """What XAPI wants: one manager or none, with the files for its TLS, and how each network's bridge shall be.

    `network_uuids`: for a bridge by name, what its external ids shall say of the networks on it; empty where somebody
    else sees to that.
    """

    manager: Optional[Target]
    ssl: Optional[Ssl]
    pool_fail_mode: str
    networks: Tuple[Network, ...]
    network_uuids: Mapping[str, Tuple[str, ...]]


class Plan(NamedTuple):
    """The one transaction; what a reset in it clears; the bridges that are secure after it and have no controller, or
    turn secure by it; what the answer says was done; and what somebody should look at.
    """

    edit: Edit
    cleared: Tuple[Change, ...]
    needs_flows: Tuple[str, ...]
    done: Tuple[str, ...]
    notes: Tuple[str, ...]


# Which manager

def wanted_manager(pool: Pool, controllers: Optional[Tuple[SdnController, ...]], port: int) -> Optional[Target]:
    """Where XAPI knows the class SDN_controller, its records alone decide, and none means no manager.

    `pool.vswitch_controller` decides only where the class is unknown (None; XAPI before 7.2): newer ones leave a stale
    address in it. Raises AdministratorError for what is no valid target, before anything is touched.
    """
    if controllers is None:
        return _active_target(pool.vswitch_controller, port, "pool.vswitch_controller") \
            if pool.vswitch_controller else None
    targets = sorted({_target_of(controller) for controller in controllers})
    if len(targets) > 1:
        raise AdministratorError("XAPI has %d different SDN controllers (%s)" % (
            len(targets), ", ".join(map(str, targets))), "forget all but one: `xe sdn-controller-forget`")
    return targets[0] if targets else None


def _target_of(controller: SdnController) -> Target:
    if controller.protocol == "ssl":
        return _active_target(controller.address, controller.port, "SDN_controller %s" % controller.uuid)
    if controller.protocol == "pssl":
        return Target("pssl", "", DEFAULT_PORT)
    raise AdministratorError("SDN_controller %s has the protocol %s, which is neither ssl nor pssl" % (
        controller.uuid, ascii(controller.protocol)), "forget it and introduce it again")


def _active_target(text: str, port: int, whose: str) -> Target:
    address = canonical_address(text.strip().strip("[]"))
    if not address or not 1 <= port <= 65535:
        raise AdministratorError("%s names %s port %s, which is no IP address and port" % (whose, ascii(text), port),
                                 "set it again; until then the switch stays as it is")
    return Target("ssl", address, port)


def managers_agree(wanted: Optional[Target], switch: Configuration) -> bool:
    """Full targets, compared as sets. What is not XAPI's to decide does not count."""
    xapis = {parse_target(manager.target) for manager in switch.managers if _is_xapis(manager)}
    others = {parse_target(manager.target) for manager in switch.managers if not _is_xapis(manager)}
    return xapis <= {wanted} and (wanted is None or wanted in xapis | others)


def _is_xapis(manager: Manager) -> bool:
    return not manager.is_kept and parse_target(manager.target) is not None


# How each bridge shall be

def wishes_for(wanted: Wanted, switch: Configuration) -> Dict[str, Wish]:
    """The wish for each bridge that XAPI knows, by its name."""
    networks = networks_by_bridge(wanted.networks)
    wishes = ((bridge.name, wish_for(bridge, networks.get(bridge.name, ()), wanted.pool_fail_mode))
              for bridge in switch.bridges)
    return {name: wish for name, wish in wishes if wish is not None}


def with_wish(bridge: Bridge, wish: Wish, network_uuids: Tuple[str, ...]) -> Bridge:
    """The bridge as XAPI wants it."""
    other_config = {key: value for key, value in bridge.other_config.items() if key != IN_BAND_KEY}
    if wish.disable_in_band is not None:
        other_config[IN_BAND_KEY] = wish.disable_in_band
    return bridge._replace(fail_mode=wish.fail_mode, other_config=other_config,
                           external_ids=_with_uuids(bridge.external_ids, network_uuids))


def _with_uuids(external_ids: Dict[str, str], uuids: Tuple[str, ...]) -> Dict[str, str]:
    """The bridge's own network comes first; the order of the others means nothing."""
    there = tuple(external_ids.get(NETWORK_UUIDS_KEY, "").split(";"))
    if not uuids or (there[0] == uuids[0] and set(there) == set(uuids)):
        return external_ids
    return dict(external_ids, **{NETWORK_UUIDS_KEY: ";".join(uuids)})


# What must change

def must_reset(wanted: Wanted, switch: Configuration, emer_reset: str) -> bool:
    """Another manager, or one where XAPI has none: what the last one set up must not go on acting."""
    return emer_reset == ON_CHANGE and not managers_agree(wanted.manager, switch)


def plan(wanted: Wanted, switch: Configuration, held: Mapping[str, str], reset: Optional[Resettable],
         only: Optional[Collection[str]] = None) -> Plan:
    """The one transaction. Planning again after it was applied gives an empty one.

    `held`: bridges that nothing is written to, each with the reason. `reset`: what a reset finds, where there is one;
    bridges that XAPI does not know or that are held are left out of it, and, where `only` some are to be reset because
    an earlier one left them out, all others.
    """
    wishes = wishes_for(wanted, switch)
    ours = [bridge for bridge in switch.bridges if bridge.name in wishes and bridge.name not in held]
    emptied = () if reset is None else {bridge.name for bridge in ours if only is None or bridge.name in only}
    spared = [bridge for bridge in switch.bridges if bridge.name not in emptied]
    pairs = [(bridge, with_wish(emptied_bridge(bridge) if bridge.name in emptied else bridge, wishes[bridge.name],
                                wanted.network_uuids.get(bridge.name, ()))) for bridge in ours]
    managers, new_rows = _plan_managers(wanted, switch)
    late = only is not None and bool(emptied)
    bridges = tuple(change for before, after in pairs for change in differences("Bridge", before, after))
    others = () if reset is None else tuple(resettable_changes(reset, spared))
    return Plan(
        edit=Edit(managers + bridges + others, new_rows, _expected(switch, () if reset is None else spared)),
        cleared=() if reset is None else tuple(change for change in bridges + others if change.loses_something),
        needs_flows=tuple(after.name for before, after in pairs if _needs_flows(before, after)),
        done=tuple(_done(wanted, pairs, managers=bool(managers), reset=late and bool(bridges + others))),
        notes=tuple(dict.fromkeys(notes_on(wanted, switch, wishes, held))))


def _needs_flows(before: Bridge, after: Bridge) -> bool:
    """It turns secure, or is so and has no controller: its flows are all that lets anything through."""
    return after.fail_mode == SECURE and (before.fail_mode != SECURE or not after.controller.uuids)


def _plan_managers(wanted: Wanted, switch: Configuration) -> Tuple[Tuple[Change, ...], Tuple[NewRow, ...]]:
    """XAPI's one manager and its TLS, beside those that are not XAPI's."""
    agrees = managers_agree(wanted.manager, switch)
    staying = [manager for manager in switch.managers
               if agrees or not _is_xapis(manager) or parse_target(manager.target) == wanted.manager]
    targets = {parse_target(manager.target) for manager in staying}
    new_rows: Tuple[NewRow, ...] = ()
    managers, ssl = Refs(tuple(sorted(manager.uuid for manager in staying))), switch.ssl_ref
    if wanted.manager and wanted.manager not in targets:
        new_rows += (NewRow("Manager", NEW_MANAGER, (("target", str(wanted.manager)),)),)
        managers = Refs(managers.uuids + (NEW_MANAGER,))
    if wanted.ssl and wanted.ssl != switch.ssl:
        new_rows += (NewRow("SSL", NEW_SSL, tuple(wanted.ssl._asdict().items())),)
        ssl = Refs((NEW_SSL,))
    elif not wanted.ssl and not agrees and not any(target and target.uses_ssl for target in targets):
        ssl = Refs()
    changes = (Change(ROOT, switch.root, "", "manager_options", switch.manager_refs, managers),
               Change(ROOT, switch.root, "", "ssl", switch.ssl_ref, ssl))
    return tuple(change for change in changes if change.was != change.becomes), new_rows


def _done(wanted: Wanted, pairs: List[Tuple[Bridge, Bridge]], *, managers: bool, reset: bool) -> Iterator[str]:
    """What is different in the end: what a reset cleared and a wish put back is not. A reset itself is told of where it
    comes later than its manager.
    """
    if reset:
        yield BRIDGES_RESET
    if managers:
        yield CONTROLLER_SET % str(wanted.manager) if wanted.manager else CONTROLLER_REMOVED
    if any(before.other_config.get(IN_BAND_KEY) != after.other_config.get(IN_BAND_KEY) for before, after in pairs):
        yield IN_BAND_UPDATED
    if any(before.fail_mode != after.fail_mode for before, after in pairs):
        yield FAIL_MODE_UPDATED
    if any(before.external_ids != after.external_ids for before, after in pairs):
        yield UUIDS_UPDATED


def _expected(switch: Configuration, spared: Collection[Bridge]) -> Tuple[Change, ...]:
    """What the plan rests on though it does not change it: the same managers, the same bridges; in a reset also that no
    port has joined a bridge that is left out of it.
    """
    roots = tuple(Change(ROOT, switch.root, "", column, refs, refs) for column, refs in (
        ("manager_options", switch.manager_refs), ("bridges", switch.bridge_refs)))
    return roots + tuple(Change("Bridge", bridge.uuid, bridge.name, "ports", bridge.ports, bridge.ports)
                         for bridge in spared)


# What somebody should look at

def notes_on(wanted: Wanted, switch: Configuration, wishes: Mapping[str, Wish], held: Mapping[str, str]
             ) -> Iterator[str]:
    """What has no effect, what disagrees, and what was left alone, each with what to do about it."""
    if wanted.pool_fail_mode not in FAIL_MODES + ("",):
        yield _nonsense(wanted.pool_fail_mode, FAIL_MODE, "the pool", FAIL_MODES)
    for bridge, networks in networks_by_bridge(wanted.networks).items():
        if bridge in wishes:
            yield from _notes_on_networks(bridge, networks, wanted.pool_fail_mode)
    yield from _notes_on_vlans(wanted, switch, wishes)
    for bridge, reason in sorted(held.items()):
        yield "bridge %s was left as it is: %s" % (bridge, reason)
    if wanted.ssl and switch.ssl and wanted.ssl != switch.ssl:
        for manager in switch.managers:
            target = parse_target(manager.target)
            if not _is_xapis(manager) and target and target.uses_ssl:
                yield "manager %s stays, and uses the files of XAPI's controller from now on: there is one set for " \
                      "all, and it was %s with %s" % (manager.target, switch.ssl.certificate, switch.ssl.ca_cert)
    for manager in switch.managers:
        if not manager.is_kept and parse_target(manager.target) is None:
            yield "manager %s has a form that ovsxen does not know, and stays: remove it, or mark it with " \
                  "external_ids:%s=true" % (ascii(manager.target), KEPT_KEY)


def _notes_on_networks(bridge: str, networks: List[Network], pool_fail_mode: str) -> Iterator[str]:
    for network in networks:
        for key, values in ((FAIL_MODE, FAIL_MODES), (DISABLE_IN_BAND, IN_BAND_VALUES)):
            own = network.other_config.get(key, "")
            if own not in values + ("",):
                yield _nonsense(own, key, bridge, values)
    asked = {(fail_mode_of(network, pool_fail_mode), network.other_config.get(DISABLE_IN_BAND, ""))
             for network in networks}
    if len(asked) > 1:
        yield "several networks claim bridge %s and disagree, so its fail mode and in-band control stay as they are: " \
              "give each its own bridge" % bridge


def _nonsense(value: str, key: str, where: str, values: Tuple[str, ...]) -> str:
    return '"%s" is an invalid value for %s on %s and does not count: set it to %s' % (
        value, key, where, " or ".join(values))


def _notes_on_vlans(wanted: Wanted, switch: Configuration, wishes: Mapping[str, Wish]) -> Iterator[str]:
    """A VLAN's network has no say in its bridge; where it asks for something else, that is told."""
    parents = {vlan.name: vlan.parent for vlan in switch.vlan_bridges}
    for network in wanted.networks:
        wish = wishes.get(parents.get(network.bridge, ""))
        if wish is None:
            continue
        for key, decided in ((FAIL_MODE, wish.fail_mode), (DISABLE_IN_BAND, wish.disable_in_band)):
            own = network.other_config.get(key) or decided
            if own != decided:
                parent = parents[network.bridge]
                yield "%s=%s of the VLAN's network on %s has no effect, bridge %s has %s: set it on %s's network" % (
                    key, own, network.bridge, parent, decided or "none", parent)
