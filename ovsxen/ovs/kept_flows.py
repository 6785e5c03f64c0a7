"""OpenFlow state that outlives a restart of ovs-vswitchd: saved from all bridges at once, and restored likewise.

Kept are flows, groups, meters and the TLV map of tunnel options, in the bytes in which the bridge says them by the best
OpenFlow version that it allows. Not kept are counters, ages, flows that Open vSwitch hides, what else a controller may
have set (ports, tables, fragments), and what the version does not tell: flags of flows before 1.3, their importance
before 1.4, how select groups select before 1.5, groups at all in 1.0.

What a bridge starts with, and when it throws away what it has (ofproto/connmgr.c, vswitchd/bridge.c; tried with 3.1):
- While `flow-restore-wait` is set, no bridge has a controller. A standalone one gets its NORMAL flow.
- When that is cleared, a bridge with a primary controller gets its first one, and loses all flows, groups and meters,
  restored ones too. The TLV map stays. Hence restore_around.

Before OpenFlow 1.3 there are no bundles to rehearse in. What a bridge would refuse is found in another way there, and
what it says in other words than ovs-vswitchd itself, by what that says of it; but for what is in groups.
"""

import re
from functools import partial
from typing import Callable, Dict, FrozenSet, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.ovs import daemons, openflow10
from ovsxen.ovs import openflow_messages as messages
from ovsxen.ovs.daemons import VSWITCHD
from ovsxen.ovs.openflow import (
    OPENFLOW10,
    OPENFLOW11,
    OPENFLOW12,
    OPENFLOW13,
    OPENFLOW15,
    PAUSE,
    VERSIONS,
    Conversation,
    converse,
)
from ovsxen.ovs.openflow_messages import Refusal

TRIES = 3
SEND_FLOW_REMOVED = 1
NOT_TOLD = "does not say what it has"
NOT_TAKEN = "did not take back all that was kept of it"
PUSHES_TAG = "mod_vlan_vid|mod_vlan_pcp"
UNTOLD = {OPENFLOW10: "group|meter|write_actions|clear_actions|goto_table|push_vlan",
          OPENFLOW11: PUSHES_TAG + "|meter", OPENFLOW12: PUSHES_TAG + "|meter"}
"""By version, the actions that it leaves out or says in other words, as bridge/dump-flows has them (lib/ofp-actions.c,
3.1). Later versions either say all, or have flags that tell (openflow_messages.may_be_of_openflow10)."""


class Kept(NamedTuple):
    """The OpenFlow state of a bridge in the bytes of an OpenFlow version, by its number in messages.

    `flows` and `groups` are the messages that add them, `meters` what a meter_mod has behind its command, `tlv_map` its
    mappings. `flows10` are flows that only OpenFlow 1.0 says truly, and these messages are of that version.
    """

    bridge: str
    version: int
    flows: Tuple[bytes, ...]
    groups: Tuple[bytes, ...] = ()
    meters: Tuple[bytes, ...] = ()
    tlv_map: Tuple[bytes, ...] = ()
    flows10: Tuple[bytes, ...] = ()


class _Draft(NamedTuple):
    """What was kept, but for flows that OpenFlow 1.0 has to say, by their places: the bridge would refuse them in this
    version, or take them for something else. Before OpenFlow 1.3 it says all of them or none.
    """

    kept: Kept
    refused: FrozenSet[int] = frozenset()
    mistaken: FrozenSet[int] = frozenset()


class NotRestored(Refused):
    """Some bridges did not get back all that was kept of them; `bridges` names these. The others did."""

    def __init__(self, errors: Dict[str, OvsxenError]) -> None:
        super().__init__("; ".join(error.problem for error in errors.values()),
                         "see the log of ovs-vswitchd, and have their controllers set these bridges up again")
        self.bridges = tuple(errors)


class _Changed(NoAnswer):
    """Flows changed while they were read twice."""


def save(paths: Paths, bridges: Tuple[str, ...], within_s: float) -> Tuple[Kept, ...]:
    """Read what these bridges have, and see that they would take it back. An error of one is an error of all.

    Raises NoAnswer, Refused, NotPermitted, AdministratorError.
    """
    deadline = Deadline(within_s)
    for _ in range(TRIES - 1):
        try:
            return _save(paths, bridges, deadline)
        except _Changed:
            continue
    return _save(paths, bridges, deadline)


def restore_around(paths: Paths, kept: Tuple[Kept, ...], flushed: FrozenSet[str], flush: Callable[[], None],
                   within_s: float) -> None:
    """Have each bridge get what was kept of it, in place of what it has; then `flush`, by which those in `flushed` lose
    all; and at once have these get it again. May be repeated.

    Flows and groups change all at once, but for `flows10` and before OpenFlow 1.3. Where a bridge refuses some, it gets
    the others one by one. `flush` returns when they have lost it; what it raises is raised. Meanwhile all that they get
    is with ovs-vswitchd already, in a bundle that is only to be committed. Raises NotRestored, also only after `flush`.
    """
    errors = _converse(paths, _tell, kept, Deadline(within_s))
    again = tuple(one for one in kept if one.bridge in flushed)
    errors.update(_converse(paths, _tell_after_pause, again, Deadline(within_s), flush))
    if errors:
        raise NotRestored(errors)


def put_back(paths: Paths, kept: Tuple[Kept, ...], within_s: float) -> None:
    """Give bridges what was kept of them, some time after an ovs-vswitchd without it began to forward.

    A bridge that has nothing but the NORMAL flow gets it in place of that. To any other only what it lacks is added:
    a flow of the same table, priority and match, or a group or meter of the same number, stays as it is. So a
    controller that has come back meanwhile keeps what it has set; it also gets back what it had set before, which it
    may do without by now. May be repeated. Raises NotRestored.
    """
    deadline = Deadline(within_s)
    now, errors = converse(paths, {one.bridge: partial(_read, one.bridge) for one in kept}, deadline,
                           {one.bridge: one.version for one in kept})
    old = tuple(one.bridge for one in kept if one.flows10 and one.bridge in now)
    now10, old_errors = converse(paths, {bridge: partial(_read, bridge) for bridge in old}, deadline,
                                 dict.fromkeys(old, OPENFLOW10))
    errors.update(old_errors)
    there = tuple(one for one in kept if one.bridge not in errors)
    bare = tuple(one for one in there if _is_bare(now[one.bridge]))
    others = tuple(_lacking(one, now[one.bridge], now10.get(one.bridge)) for one in there if one not in bare)
    errors.update(_converse(paths, _tell, bare, deadline))
    errors.update(_converse(paths, _add, others, deadline))
    if errors:
        raise NotRestored(errors)


def comes_back_by_itself(kept: Kept, *, fail_mode: str, controllers: int) -> bool:
    """A fresh ovs-vswitchd gives this bridge the same state: NORMAL where nobody else is to decide, else nothing.

    `fail_mode` is the column's value, "" where it is unset; `controllers` counts those that are primary.
    """
    is_normal = fail_mode != "secure" and controllers == 0
    return kept == Kept(kept.bridge, kept.version, (_normal_flow(kept.version),) if is_normal else ())


def _normal_flow(version: int) -> bytes:
    return openflow10.normal_flow() if version == OPENFLOW10 else messages.normal_flow(version)


def _is_bare(kept: Kept) -> bool:
    """It has nothing but what a fresh ovs-vswitchd may give it, the TLV map aside."""
    return set(kept.flows) <= {_normal_flow(kept.version)} and not kept.groups and not kept.meters


def _lacking(kept: Kept, now: Kept, now10: Optional[Kept]) -> Kept:
    """What of `kept` a bridge does not have, and has nothing in place of; `now10` is what it has by OpenFlow 1.0."""
    matching = openflow10.matching if kept.version == OPENFLOW10 else messages.matching
    flows, groups = set(map(matching, now.flows)), set(map(messages.group_id, now.groups))
    meters = set(map(messages.meter_id, now.meters))
    flows10 = set(map(openflow10.matching, now10.flows)) if now10 else set()
    return kept._replace(
        flows=tuple(flow for flow in kept.flows if matching(flow) not in flows),
        groups=tuple(group for group in kept.groups if messages.group_id(group) not in groups),
        meters=tuple(meter for meter in kept.meters if messages.meter_id(meter) not in meters),
        flows10=tuple(flow for flow in kept.flows10 if openflow10.matching(flow) not in flows10))


def _save(paths: Paths, bridges: Tuple[str, ...], deadline: Deadline) -> Tuple[Kept, ...]:
    drafts, errors = converse(paths, {bridge: partial(_ask, bridge) for bridge in bridges}, deadline, {})
    for bridge, draft in drafts.items():
        try:
            drafts[bridge] = _without_untruths(paths, draft, deadline)
        except OvsxenError as problem:
            errors[bridge] = problem
    doubted = tuple(bridge for bridge in drafts if drafts[bridge].refused or drafts[bridge].mistaken)
    said, more_errors = converse(
        paths, {bridge: partial(_read if drafts[bridge].kept.version >= OPENFLOW13 else _read_and_rehearse, bridge)
                for bridge in doubted}, deadline, dict.fromkeys(doubted, OPENFLOW10))
    for bridge, error in more_errors.items():
        if drafts[bridge].refused or not isinstance(error, AdministratorError):  # that is: allows no OpenFlow 1.0
            errors[bridge] = error
    for bridge in bridges:
        if bridge in errors:
            raise errors[bridge]
    return tuple(_finished(drafts[bridge], said[bridge].flows) if bridge in said else drafts[bridge].kept
                 for bridge in bridges)


def _ask(bridge: str, version: int) -> Conversation[_Draft]:
    """Read all, and put it into a bundle that is thrown away, to see what would be refused."""
    if version == OPENFLOW10:
        return _Draft((yield from _read_and_rehearse(bridge, version)))
    kept = yield from _read(bridge, version)
    if set(kept.flows) <= {messages.normal_flow(version)} and not kept.groups:
        return _Draft(kept)
    if version < OPENFLOW13:
        answers = yield tuple(messages.rehearsals(kept.flows))
        return _Draft(kept, frozenset(place for place, _ in messages.refused(answers)))
    answers = yield tuple(messages.bundle(version, kept.flows + kept.groups)) + (messages.discard_bundle(version),)
    refused = messages.refused(answers)
    for number, text in refused:  # the numbers that bundle() gave them
        if not 0 < number <= len(kept.flows) or not messages.may_be_of_openflow10(kept.flows[number - 1]):
            raise Refused("bridge %s would not take back %s" % (bridge, text),
                          "replace that, or do without keeping flows")
    mistaken = frozenset(place for place, flow in enumerate(kept.flows)
                         if messages.pushes_vlan_tag(flow) and messages.may_be_of_openflow10(flow))
    return _Draft(kept, frozenset(number - 1 for number, _ in refused), mistaken)


def _read(bridge: str, version: int) -> Conversation[Kept]:
    if version == OPENFLOW10:
        answers = yield openflow10.request_flows(), messages.request_tlv_map(version)
        _require_nothing_refused(bridge, messages.refused(answers), NOT_TOLD)
        return Kept(bridge, version, openflow10.read_flows(answers), tlv_map=messages.read_tlv_map(answers))
    answers = yield (messages.request_flows(version), messages.request_groups(version),
                     messages.request_tlv_map(version)) + _request_meters(version)
    _require_nothing_refused(bridge, messages.refused(answers), NOT_TOLD)
    return Kept(bridge, version, messages.read_flows(version, answers), messages.read_groups(version, answers),
                messages.read_meters(answers) if version >= OPENFLOW13 else (), messages.read_tlv_map(answers))


def _read_and_rehearse(bridge: str, version: int) -> Conversation[Kept]:
    """By OpenFlow 1.0."""
    kept = yield from _read(bridge, version)
    answers = yield (openflow10.name_tables(),) + tuple(openflow10.rehearsals(kept.flows))
    for place, _ in messages.refused(answers):
        raise _untold(bridge, "would not take back, by %s, %s" % (
            VERSIONS[version], openflow10.describe_flow(kept.flows[place])))
    return kept


def _without_untruths(paths: Paths, draft: _Draft, deadline: Deadline) -> _Draft:
    """The draft where its version says all flows as they are; else one by which OpenFlow 1.0 is to say them all.

    Raises AdministratorError where that says others; NoAnswer, Refused.
    """
    bridge, version, flows = draft.kept.bridge, draft.kept.version, draft.kept.flows
    if version >= OPENFLOW13 or set(flows) <= {_normal_flow(version)}:
        return draft
    actions = _read_actions(paths, bridge, deadline)
    if version > OPENFLOW10 and not draft.refused and not _find_untold(version, actions):
        return draft
    untold = _find_untold(OPENFLOW10, actions)
    if untold:
        raise _untold(bridge, "has flows with %s, which %s does not tell" % (untold, VERSIONS[OPENFLOW10]))
    return draft._replace(refused=frozenset(range(len(flows)))) if version > OPENFLOW10 else draft


def _read_actions(paths: Paths, bridge: str, deadline: Deadline) -> str:
    """The actions of all flows in ovs-vswitchd's own words. Raises NoAnswer, Refused."""
    said = daemons.ask(paths, daemons.find_anywhere(paths, VSWITCHD), "bridge/dump-flows", (bridge,),
                       deadline.remaining_s())
    return "\n".join(line.partition("actions=")[2] for line in said.splitlines())


def _find_untold(version: int, actions: str) -> str:
    """An action that this version does not say as it is, or ""."""
    found = re.search(r"\b(?:%s)\b" % UNTOLD[version], actions)
    return found.group() if found else ""


def _untold(bridge: str, problem: str) -> AdministratorError:
    return AdministratorError(
        "bridge %s %s" % (bridge, problem),
        "run `ovs-vsctl add Bridge %s protocols %s %s`, by which all is told, or do without keeping flows" % (
            bridge, VERSIONS[OPENFLOW10], VERSIONS[OPENFLOW15]))


def _finished(draft: _Draft, flows10: Tuple[bytes, ...]) -> Kept:
    """The draft with flows as OpenFlow 1.0 says them where need is. Both read all flows, in the same order."""
    flows = draft.kept.flows
    if [messages.identity(flow) for flow in flows] != [openflow10.identity(flow) for flow in flows10]:
        raise _Changed("the flows of bridge %s changed while they were saved" % draft.kept.bridge, "try again")
    places = draft.refused | draft.mistaken
    return draft.kept._replace(
        flows=tuple(flow for place, flow in enumerate(flows) if place not in places),
        flows10=tuple(openflow10.with_flags(flows10[place], messages.flags_of(flows[place]) & SEND_FLOW_REMOVED)
                      for place in sorted(places)))


def _converse(paths: Paths, tell: Callable[[Kept, int], Conversation[None]], kept: Tuple[Kept, ...], deadline: Deadline,
              meanwhile: Callable[[], None] = lambda: None) -> Dict[str, OvsxenError]:
    """Tell each bridge what was kept of it, and then the flows that OpenFlow 1.0 has to say; gives the errors."""
    _, errors = converse(paths, {one.bridge: partial(tell, one) for one in kept}, deadline,
                         {one.bridge: one.version for one in kept}, meanwhile)
    old = {one.bridge: partial(_tell10, one) for one in kept if one.flows10}
    _, old_errors = converse(paths, old, deadline, dict.fromkeys(old, OPENFLOW10))
    return dict(old_errors, **errors)


def _tell(kept: Kept, _: int) -> Conversation[None]:
    yield from _change(kept, replaces=True)


def _add(kept: Kept, _: int) -> Conversation[None]:
    yield from _change(kept, replaces=False)


def _tell_after_pause(kept: Kept, version: int) -> Conversation[None]:
    """Only adds: a controller may have been quicker, and what it has set is its own."""
    fits = False
    if version >= OPENFLOW13:
        answers = yield tuple(messages.bundle(version, _flow_and_group_mods(kept, replaces=False)))
        fits = not messages.refused(answers)
    yield PAUSE
    if fits:
        answers = yield _meter_mods(kept, ()) + (messages.commit_bundle(version),)
        if not messages.refused(answers):
            return
    yield from _change(kept, replaces=False)  # where the pause was longer than bundles live, or not all was lost


def _tell10(kept: Kept, _: int) -> Conversation[None]:
    answers = yield (openflow10.name_tables(),) + kept.flows10
    _require_nothing_refused(kept.bridge, messages.refused(answers), NOT_TAKEN)


def _change(kept: Kept, *, replaces: bool) -> Conversation[None]:
    """Meters and the TLV map go first: flows refer to them, and no bundle takes them (lib/ofp-bundle.c, 3.1).

    A bundle that is refused changes nothing. Then all goes without one, so that nothing is missing but what is refused.
    """
    version, has_bundles = kept.version, kept.version >= OPENFLOW13
    answers = yield (messages.request_tlv_map(version),) + _request_meters(version)
    _require_nothing_refused(kept.bridge, messages.refused(answers), NOT_TOLD)
    meters = messages.read_meters(answers) if has_bundles else ()
    first = _tlv_mods(kept, messages.read_tlv_map(answers)) + _meter_mods(kept, meters)
    mods = _flow_and_group_mods(kept, replaces=replaces)
    answers = yield first + (tuple(messages.bundle(version, mods)) if has_bundles else mods)
    refused = messages.refused(answers)
    if has_bundles:
        from_bundle = tuple(one for one in refused if one.transaction)
        if not from_bundle:
            answers = yield (messages.commit_bundle(version),)
            from_bundle = messages.refused(answers)
        if from_bundle:
            refused = tuple(one for one in refused if not one.transaction)
            answers = yield mods
            refused += messages.refused(answers)
    surplus = _surplus_meters(kept, meters)
    if replaces and surplus:
        answers = yield tuple(messages.delete_meter(version, meter) for meter in surplus)
        refused += messages.refused(answers)
    _require_nothing_refused(kept.bridge, refused, NOT_TAKEN)


def _flow_and_group_mods(kept: Kept, *, replaces: bool) -> Tuple[bytes, ...]:
    """Groups before the flows that refer to them."""
    if kept.version == OPENFLOW10:
        return (openflow10.name_tables(),) + ((openflow10.delete_flows(),) if replaces else ()) + kept.flows
    deletions = messages.delete_flows(kept.version) + (messages.delete_groups(kept.version),)
    return (deletions if replaces else ()) + kept.groups + kept.flows


def _tlv_mods(kept: Kept, tlv_map: Tuple[bytes, ...]) -> Tuple[bytes, ...]:
    """What adds the mappings that were kept. Others may stay: a fresh bridge has none, and no kept flow uses them."""
    missing = tuple(mapping for mapping in kept.tlv_map if mapping not in tlv_map)
    return (messages.add_tlv_mappings(kept.version, missing),) if missing else ()


def _meter_mods(kept: Kept, meters: Tuple[bytes, ...]) -> Tuple[bytes, ...]:
    """What makes the kept meters what they were. Those that are too many have to wait until no flow uses them."""
    there = {messages.meter_id(meter) for meter in meters}
    return tuple((messages.modify_meter if messages.meter_id(meter) in there else messages.add_meter)(
        kept.version, meter) for meter in kept.meters if meter not in meters)


def _surplus_meters(kept: Kept, meters: Tuple[bytes, ...]) -> Tuple[bytes, ...]:
    needed = {messages.meter_id(meter) for meter in kept.meters}
    return tuple(meter for meter in meters if messages.meter_id(meter) not in needed)


def _request_meters(version: int) -> Tuple[bytes, ...]:
    return (messages.request_meters(version),) if version >= OPENFLOW13 else ()  # which has the first meters


def _require_nothing_refused(bridge: str, refused: Tuple[Refusal, ...], what: str) -> None:
    if refused:
        more = " and %d more" % (len(refused) - 1) if len(refused) > 1 else ""
        raise Refused("bridge %s %s (%s%s)" % (bridge, what, refused[0].text, more), "see the log of ovs-vswitchd")
