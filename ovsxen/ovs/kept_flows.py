"""OpenFlow state that outlives a restart of ovs-vswitchd: saved from all bridges at once, and restored likewise.

Kept are flows, groups, meters and the TLV map of tunnel options, in the bytes in which the bridge says them by the best
OpenFlow version that it allows. Not kept are counters, ages, flows that Open vSwitch hides, what else a controller may
have set (ports, tables, fragments), and what the version does not tell: flags of flows before 1.3, their importance
before 1.4, how select groups select before 1.5, groups at all in 1.0.

What a bridge starts with, and when it throws away what it has (ofproto/connmgr.c, vswitchd/bridge.c; tried with 3.1):
- While `flow-restore-wait` is set, no bridge has a controller. A standalone one gets its NORMAL flow.
- When that is cleared, a bridge with a primary controller gets its first one, and loses all flows, groups and meters,
  restored ones too. The TLV map stays. Hence restore_around.
"""

from functools import partial
from typing import Callable, Dict, FrozenSet, NamedTuple, Tuple

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.ovs import openflow10
from ovsxen.ovs import openflow_messages as messages
from ovsxen.ovs.openflow import OPENFLOW10, OPENFLOW13, PAUSE, Conversation, converse
from ovsxen.ovs.openflow_messages import Refusal

TRIES = 3
SEND_FLOW_REMOVED = 1
NOT_TOLD = "does not say what it has"
NOT_TAKEN = "did not take back all that was kept of it"


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
    version, or take them for something else.
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


def comes_back_by_itself(kept: Kept, *, fail_mode: str, controllers: int) -> bool:
    """A fresh ovs-vswitchd gives this bridge the same state: NORMAL where nobody else is to decide, else nothing.

    `fail_mode` is the column's value, "" where it is unset; `controllers` counts those that are primary.
    """
    is_normal = fail_mode != "secure" and controllers == 0
    normal = openflow10.normal_flow() if kept.version == OPENFLOW10 else messages.normal_flow(kept.version)
    return kept == Kept(kept.bridge, kept.version, (normal,) if is_normal else ())


def _save(paths: Paths, bridges: Tuple[str, ...], deadline: Deadline) -> Tuple[Kept, ...]:
    drafts, errors = converse(paths, {bridge: partial(_ask, bridge) for bridge in bridges}, deadline, {})
    doubted = tuple(bridge for bridge in drafts if drafts[bridge].refused or drafts[bridge].mistaken)
    said, more_errors = converse(paths, {bridge: partial(_ask10, bridge) for bridge in doubted}, deadline,
                                 dict.fromkeys(doubted, OPENFLOW10))
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
        return _Draft((yield from _ask10(bridge, version)))
    answers = yield (messages.question_flows(version), messages.question_groups(version),
                     messages.question_tlv_map(version)) + _question_meters(version)
    _require_nothing_refused(bridge, messages.refused(answers), NOT_TOLD)
    kept = Kept(bridge, version, messages.read_flows(version, answers), messages.read_groups(version, answers),
                messages.read_meters(answers) if version >= OPENFLOW13 else (), messages.read_tlv_map(answers))
    if version < OPENFLOW13 or set(kept.flows) <= {messages.normal_flow(version)} and not kept.groups:
        return _Draft(kept)
    answers = yield tuple(messages.bundle(version, kept.flows + kept.groups)) + (messages.discard_bundle(version),)
    refused = messages.refused(answers)
    for number, text in refused:  # the numbers that bundle() gave them
        if not 0 < number <= len(kept.flows) or not messages.may_be_of_openflow10(kept.flows[number - 1]):
            raise Refused("bridge %s would not take back %s" % (bridge, text),
                          "replace that, or do without keeping flows")
    mistaken = frozenset(place for place, flow in enumerate(kept.flows)
                         if messages.pushes_vlan_tag(flow) and messages.may_be_of_openflow10(flow))
    return _Draft(kept, frozenset(number - 1 for number, _ in refused), mistaken)


def _ask10(bridge: str, version: int) -> Conversation[Kept]:
    answers = yield openflow10.question_flows(), messages.question_tlv_map(version)
    _require_nothing_refused(bridge, messages.refused(answers), NOT_TOLD)
    return Kept(bridge, version, openflow10.read_flows(answers), tlv_map=messages.read_tlv_map(answers))


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


def _tell_after_pause(kept: Kept, version: int) -> Conversation[None]:
    """Only adds: a controller may have been quicker, and what it has set is its own."""
    fits = False
    if version >= OPENFLOW13:
        answers = yield tuple(messages.bundle(version, _flow_and_group_changes(kept, replaces=False)))
        fits = not messages.refused(answers)
    yield PAUSE
    if fits:
        answers = yield _meter_changes(kept, ()) + (messages.commit_bundle(version),)
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
    answers = yield (messages.question_tlv_map(version),) + _question_meters(version)
    _require_nothing_refused(kept.bridge, messages.refused(answers), NOT_TOLD)
    meters = messages.read_meters(answers) if has_bundles else ()
    first = _tlv_changes(kept, messages.read_tlv_map(answers)) + _meter_changes(kept, meters)
    changes = _flow_and_group_changes(kept, replaces=replaces)
    answers = yield first + (tuple(messages.bundle(version, changes)) if has_bundles else changes)
    refused = messages.refused(answers)
    if has_bundles:
        from_bundle = tuple(one for one in refused if one.transaction)
        if not from_bundle:
            answers = yield (messages.commit_bundle(version),)
            from_bundle = messages.refused(answers)
        if from_bundle:
            refused = tuple(one for one in refused if not one.transaction)
            answers = yield changes
            refused += messages.refused(answers)
    surplus = _surplus_meters(kept, meters)
    if replaces and surplus:
        answers = yield tuple(messages.delete_meter(version, meter) for meter in surplus)
        refused += messages.refused(answers)
    _require_nothing_refused(kept.bridge, refused, NOT_TAKEN)


def _flow_and_group_changes(kept: Kept, *, replaces: bool) -> Tuple[bytes, ...]:
    """Groups before the flows that refer to them."""
    if kept.version == OPENFLOW10:
        return (openflow10.name_tables(),) + ((openflow10.delete_flows(),) if replaces else ()) + kept.flows
    deletions = messages.delete_flows(kept.version) + (messages.delete_groups(kept.version),)
    return (deletions if replaces else ()) + kept.groups + kept.flows


def _tlv_changes(kept: Kept, tlv_map: Tuple[bytes, ...]) -> Tuple[bytes, ...]:
    """What adds the mappings that were kept. Others may stay: a fresh bridge has none, and no kept flow uses them."""
    missing = tuple(mapping for mapping in kept.tlv_map if mapping not in tlv_map)
    return (messages.add_tlv_mappings(kept.version, missing),) if missing else ()


def _meter_changes(kept: Kept, meters: Tuple[bytes, ...]) -> Tuple[bytes, ...]:
    """What makes the kept meters what they were. Those that are too many have to wait until no flow uses them."""
    there = {messages.meter_id(meter) for meter in meters}
    return tuple((messages.modify_meter if messages.meter_id(meter) in there else messages.add_meter)(
        kept.version, meter) for meter in kept.meters if meter not in meters)


def _surplus_meters(kept: Kept, meters: Tuple[bytes, ...]) -> Tuple[bytes, ...]:
    needed = {messages.meter_id(meter) for meter in kept.meters}
    return tuple(meter for meter in meters if messages.meter_id(meter) not in needed)


def _question_meters(version: int) -> Tuple[bytes, ...]:
    return (messages.question_meters(version),) if version >= OPENFLOW13 else ()  # which has the first meters


def _require_nothing_refused(bridge: str, refused: Tuple[Refusal, ...], what: str) -> None:
    if refused:
        more = " and %d more" % (len(refused) - 1) if len(refused) > 1 else ""
        raise Refused("bridge %s %s (%s%s)" % (bridge, what, refused[0].text, more), "see the log of ovs-vswitchd")
