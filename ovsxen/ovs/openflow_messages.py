"""The OpenFlow messages by which the state of a bridge is read, and made again. Pure: bytes in, bytes out.

What a bridge says of a flow has the match and the instructions in the bytes in which a flow_mod takes them. The same
goes for the buckets and properties of a group, the bands of a meter, and the TLV map (lib/ofp-flow.c, ofp-group.c,
ofp-meter.c, ofp-match.c, 3.1). So they are cut out and put behind other headers. Nothing here knows what they mean, but
for the NORMAL flow, and for what tells flows of which openflow10.py has more to say.

Versions are the numbers in messages. Answers that make no sense raise ValueError or struct.error.
"""

import itertools
import struct
from typing import Iterable, Iterator, NamedTuple, Tuple

from ovsxen.ovs.openflow import ERROR, HEADER, OPENFLOW10, OPENFLOW11, OPENFLOW13, OPENFLOW15, Message, pack_message

EXPERIMENTER, FLOW_MOD, GROUP_MOD, MULTIPART_REQUEST, MULTIPART_REPLY, METER_MOD = 4, 14, 15, 18, 19, 29
BUNDLE_CONTROL, BUNDLE_ADD = 33, 34
FLOWS, GROUPS, METERS = 1, 7, 10
"""Kinds of multipart messages."""

NICIRA, ONF = 0x00002320, 0x4F4E4600
NICIRA_FLOW_MOD, TLV_TABLE_MOD, TLV_TABLE_REQUEST, TLV_TABLE_REPLY = 13, 24, 25, 26
ONF_BUNDLE_CONTROL, ONF_BUNDLE_ADD = 2300, 2301

ADD, MODIFY, MODIFY_STRICT, DELETE_METER, DELETE_GROUP, DELETE_FLOW = 0, 1, 2, 2, 2, 3
ADD_OR_MODIFY = 0x8000
BUNDLE_OPEN, BUNDLE_COMMIT, BUNDLE_DISCARD, ATOMIC_AND_ORDERED, BUNDLE_ID = 0, 4, 6, 3, 1
FLOW_TABLES = 254  # and one more, for what Open vSwitch hides
ALL_TABLES, ALL_GROUPS, ALL_METERS, ALL_BUCKETS = 0xff, 0xfffffffc, 0xffffffff, 0xffffffff
ANY_PORT, ANY_GROUP, NO_BUFFER = 0xffffffff, 0xffffffff, 0xffffffff

LENGTH = struct.Struct("!H")
MATCH, STATISTICS = struct.Struct("!2xH"), struct.Struct("!2xH")
MATCH_ALL = struct.pack("!HH4x", 1, 4)
OUTPUT_NORMAL = struct.pack("!HH4xHHIH6x", 4, 24, 0, 16, 0xfffffffa, 0)
MULTIPART_HEADER, MORE = struct.Struct("!HH4x"), 1
EXPERIMENTER_HEADER = struct.Struct("!II")
FLOW_REQUEST = struct.Struct("!B3xII4xQQ")
FLOW, FLOW15 = struct.Struct("!2xBx8xHHHHH2xQ16x"), struct.Struct("!4xBxHHHHHQ")
FLOW_MOD_FIXED = struct.Struct("!QQBBHHHIIIHH")
GROUP, GROUP_MOD_FIXED = struct.Struct("!2xBxI"), struct.Struct("!HBxI")
GROUP15, GROUP15_MOD_FIXED = struct.Struct("!2xBxIH6x"), struct.Struct("!HBxIH2xI")
METER, METER_ID = struct.Struct("!2xHI"), struct.Struct("!2xI")
TLV_TABLE_MOD_FIXED = struct.Struct("!H6x")
TLV_LIMITS_BYTES, TLV_MAPPING_BYTES = 16, 8
BUNDLE = struct.Struct("!IHH")
PROBLEM, EXPERIMENTER_ERROR, EXPERIMENTER_ID_BYTES = struct.Struct("!HH"), 0xffff, 4
NICIRA_ERROR = struct.Struct("!4xHH")
NICIRA_ERROR_TYPE = 0xb0c2
"""How OpenFlow 1.0 and 1.1 tell an error that came later: its own type and code stand behind."""

QUOTED_BYTES = 64  # as much of what was refused as an error has at least, where that was as long
COOKIE_AT, TABLE_AT, COMMAND_AT, PRIORITY_AT, FLAGS_AT, MATCH_AT = 8, 24, 25, 30, 44, 48
EXACT_COOKIE = b"\xff" * 8
RESET_COUNTS = 4
INSTRUCTION, APPLY_ACTIONS = struct.Struct("!HH"), 4
PUSH_VLAN_AND_SET = struct.pack("!HHH2xH", 17, 8, 0x8100, 25)
FLOW_NAMES, NICIRA_FLOW_NAMES = struct.Struct("!Q8xBx4xH"), struct.Struct("!QBx4xH")
FLOW_TEXT = "a flow with cookie=%#x, table=%d, priority=%d"
ID = struct.Struct("!4xI")

KINDS_OF_ERROR = {1: "bad request", 2: "bad action", 3: "bad instruction", 4: "bad match", 5: "flow not changed",
                  6: "group not changed", 12: "meter not changed", 14: "bad property", 17: "bundle failed"}
ERRORS = {(2, 4): "no such port", (2, 9): "no such group", (2, 10): "actions do not fit the match",
          (4, 6): "unknown field", (5, 1): "table is full", (5, 2): "no such table", (6, 3): "too many groups",
          (6, 10): "no such type of group", (12, 2): "invalid meter", (12, 10): "too many meters"}
"""By type and code, as they are from OpenFlow 1.1 on."""


class Refusal(NamedTuple):
    """An error: of which transaction, and in words what was refused and why."""

    transaction: int
    text: str


def request_flows(version: int) -> bytes:
    body = FLOW_REQUEST.pack(ALL_TABLES, ANY_PORT, ANY_GROUP, 0, 0) + MATCH_ALL
    return _multipart_request(version, FLOWS, body)


def request_groups(version: int) -> bytes:
    return _multipart_request(version, GROUPS, struct.pack("!I4x", ALL_GROUPS) if version == OPENFLOW15 else b"")


def request_meters(version: int) -> bytes:
    return _multipart_request(version, METERS, struct.pack("!I4x", ALL_METERS))


def request_tlv_map(version: int) -> bytes:
    return _experimenter(version, NICIRA, TLV_TABLE_REQUEST, b"")


def _multipart_request(version: int, kind: int, body: bytes) -> bytes:
    return pack_message(version, MULTIPART_REQUEST, MULTIPART_HEADER.pack(kind, 0) + body)


def _experimenter(version: int, experimenter: int, kind: int, body: bytes) -> bytes:
    return pack_message(version, EXPERIMENTER, EXPERIMENTER_HEADER.pack(experimenter, kind) + body)


def read_flows(version: int, answers: Iterable[Message]) -> Tuple[bytes, ...]:
    """For each flow the flow_mod that adds it. Counters and ages are left out."""
    fixed = FLOW15 if version == OPENFLOW15 else FLOW
    flow_mods = []
    for body, begin, end in _entries(answers, FLOWS, fixed.size + len(MATCH_ALL)):
        table, priority, idle_s, hard_s, flags, importance, cookie = fixed.unpack_from(body, begin)
        match = begin + fixed.size
        match_end = instructions = match + padded(*MATCH.unpack_from(body, match))
        if version == OPENFLOW15:  # has statistics of any length in between
            instructions += padded(*STATISTICS.unpack_from(body, match_end))
        if instructions > end:
            raise ValueError("a flow of %d bytes with parts that are longer" % (end - begin))
        head = FLOW_MOD_FIXED.pack(
            cookie, 0, table, ADD, idle_s, hard_s, priority, NO_BUFFER, ANY_PORT, ANY_GROUP, flags, importance)
        flow_mods.append(pack_message(version, FLOW_MOD, head + body[match:match_end] + body[instructions:end]))
    return tuple(flow_mods)


def identity(flow: bytes) -> bytes:
    """Cookie, table, timeouts and priority of a flow: what it has in all versions, whatever its match and actions."""
    return flow[8:16] + flow[24:25] + flow[26:32]


def matching(flow: bytes) -> bytes:
    """Table, priority and match: of two flows with the same a bridge has the later."""
    match_bytes, = MATCH.unpack_from(flow, MATCH_AT)
    return flow[TABLE_AT:TABLE_AT + 1] + flow[PRIORITY_AT:PRIORITY_AT + 2] + flow[MATCH_AT:MATCH_AT + match_bytes]


def describe_flow(flow: bytes) -> str:
    """A flow, or a message that adds one, for people."""
    return FLOW_TEXT % FLOW_NAMES.unpack_from(flow, HEADER.size)


def rehearsals(flows: Tuple[bytes, ...]) -> Iterator[bytes]:
    """For each flow a message, with its place as the transaction, that is refused where adding the flow would be, and
    else changes nothing: it modifies flows of a cookie that none has. Such a message adds no flow, and its match and
    actions are looked at before any flow is (ofproto/ofproto.c, ofproto_flow_mod_init, 3.1).
    """
    cookie = unused_cookie(flow[COOKIE_AT:COOKIE_AT + 8] for flow in flows)
    for place, flow in enumerate(flows):
        yield HEADER.pack(flow[0], FLOW_MOD, len(flow), place) + cookie + EXACT_COOKIE + flow[TABLE_AT:COMMAND_AT] \
            + struct.pack("!B", MODIFY_STRICT) + flow[COMMAND_AT + 1:]


def unused_cookie(cookies: Iterable[bytes]) -> bytes:
    used = frozenset(cookies)
    return next(cookie for cookie in map(struct.Struct("!Q").pack, itertools.count(1)) if cookie not in used)


def flags_of(flow: bytes) -> int:
    """Of a flow, where the version tells them: from OpenFlow 1.3 on."""
    return int(LENGTH.unpack_from(flow, FLAGS_AT)[0])


def may_be_of_openflow10(flow: bytes) -> bool:
    """It has the flag that Open vSwitch gives to flows added by OpenFlow 1.0 and 1.1, whose actions other versions may
    not say truly, and nothing but actions (lib/ofp-flow.c, ofputil_decode_flow_mod_flags, 3.1).
    """
    instructions = MATCH_AT + padded(*MATCH.unpack_from(flow, MATCH_AT))
    if not flags_of(flow) & RESET_COUNTS or instructions == len(flow):
        return False
    return INSTRUCTION.unpack_from(flow, instructions) == (APPLY_ACTIONS, len(flow) - instructions)


def pushes_vlan_tag(flow: bytes) -> bool:
    return PUSH_VLAN_AND_SET in flow


def normal_flow(version: int) -> bytes:
    """What read_flows gives for `priority=0 actions=NORMAL` in table 0."""
    head = FLOW_MOD_FIXED.pack(0, 0, 0, ADD, 0, 0, 0, NO_BUFFER, ANY_PORT, ANY_GROUP, 0, 0)
    return pack_message(version, FLOW_MOD, head + MATCH_ALL + OUTPUT_NORMAL)


def read_groups(version: int, answers: Iterable[Message]) -> Tuple[bytes, ...]:
    """For each group the group_mod that adds it. OpenFlow 1.5 alone tells selection_method and ids of buckets."""
    group_mods = []
    for body, begin, end in _entries(answers, GROUPS, (GROUP15 if version == OPENFLOW15 else GROUP).size):
        if version == OPENFLOW15:
            kind, group, buckets_bytes = GROUP15.unpack_from(body, begin)
            head = GROUP15_MOD_FIXED.pack(ADD_OR_MODIFY, kind, group, buckets_bytes, ALL_BUCKETS)
        else:
            head = GROUP_MOD_FIXED.pack(ADD_OR_MODIFY, *GROUP.unpack_from(body, begin))
        rest = begin + (GROUP15 if version == OPENFLOW15 else GROUP).size
        group_mods.append(pack_message(version, GROUP_MOD, head + body[rest:end]))
    return tuple(group_mods)


def read_meters(answers: Iterable[Message]) -> Tuple[bytes, ...]:
    """For each meter what a meter_mod has behind its command, the same in all versions: flags, id, bands."""
    return tuple(body[begin + LENGTH.size:end] for body, begin, end in _entries(answers, METERS, METER.size))


def read_tlv_map(answers: Iterable[Message]) -> Tuple[bytes, ...]:
    """The mappings of tunnel options to fields."""
    for answer in answers:
        if answer.kind == EXPERIMENTER and EXPERIMENTER_HEADER.unpack_from(answer.body) == (NICIRA, TLV_TABLE_REPLY):
            mappings = answer.body[EXPERIMENTER_HEADER.size + TLV_LIMITS_BYTES:]
            if len(mappings) % TLV_MAPPING_BYTES:
                raise ValueError("a TLV map of %d bytes" % len(mappings))
            return tuple(mappings[at:at + TLV_MAPPING_BYTES] for at in range(0, len(mappings), TLV_MAPPING_BYTES))
    raise ValueError("no answer about the TLV map")


def _entries(answers: Iterable[Message], kind: int, least: int) -> Iterator[Tuple[bytes, int, int]]:
    """Of what was said in multipart messages of a kind, to the last: where each entry begins and ends."""
    flags = MORE
    for answer in answers:
        if answer.kind != MULTIPART_REPLY:
            continue
        its_kind, its_flags = MULTIPART_HEADER.unpack_from(answer.body)
        if its_kind != kind:
            continue
        flags, body, begin = its_flags, answer.body, MULTIPART_HEADER.size
        while begin < len(body):
            end = begin + LENGTH.unpack_from(body, begin)[0]
            if end < begin + least or end > len(body):
                raise ValueError("an entry of %d bytes" % (end - begin))
            yield body, begin, end
            begin = end
    if flags & MORE:
        raise ValueError("no whole answer to multipart request %d" % kind)


def padded(size: int) -> int:
    """Up to the next eighth byte."""
    return size + 7 & ~7


def add_tlv_mappings(version: int, mappings: Tuple[bytes, ...]) -> bytes:
    return _experimenter(version, NICIRA, TLV_TABLE_MOD, TLV_TABLE_MOD_FIXED.pack(ADD) + b"".join(mappings))


def add_meter(version: int, meter: bytes) -> bytes:
    return pack_message(version, METER_MOD, LENGTH.pack(ADD) + meter)


def modify_meter(version: int, meter: bytes) -> bytes:
    return pack_message(version, METER_MOD, LENGTH.pack(MODIFY) + meter)


def delete_meter(version: int, meter: bytes) -> bytes:
    """Takes the flows that use it along."""
    return pack_message(version, METER_MOD, LENGTH.pack(DELETE_METER) + meter)


def group_id(group_mod: bytes) -> int:
    return int(ID.unpack_from(group_mod, HEADER.size)[0])


def meter_id(meter: bytes) -> int:
    return int(METER_ID.unpack_from(meter)[0])


def delete_flows(version: int) -> Tuple[bytes, ...]:
    """OpenFlow 1.1 has no way to say all tables."""
    tables = range(FLOW_TABLES) if version == OPENFLOW11 else (ALL_TABLES,)
    return tuple(pack_message(version, FLOW_MOD, FLOW_MOD_FIXED.pack(
        0, 0, table, DELETE_FLOW, 0, 0, 0, NO_BUFFER, ANY_PORT, ANY_GROUP, 0, 0) + MATCH_ALL) for table in tables)


def delete_groups(version: int) -> bytes:
    """Takes the flows that use them along."""
    body = (GROUP15_MOD_FIXED.pack(DELETE_GROUP, 0, ALL_GROUPS, 0, ALL_BUCKETS) if version == OPENFLOW15
            else GROUP_MOD_FIXED.pack(DELETE_GROUP, 0, ALL_GROUPS))
    return pack_message(version, GROUP_MOD, body)


def bundle(version: int, mods: Iterable[bytes]) -> Iterator[bytes]:
    """Opens a bundle and puts flow_mods and group_mods into it, which have the transactions 1, 2, and so on there."""
    yield _bundle_control(version, BUNDLE_OPEN)
    kind, head = BUNDLE_ADD, BUNDLE.pack(BUNDLE_ID, 0, ATOMIC_AND_ORDERED)
    if version == OPENFLOW13:
        kind, head = EXPERIMENTER, EXPERIMENTER_HEADER.pack(ONF, ONF_BUNDLE_ADD) + head
    for number, mod in enumerate(mods, 1):
        yield HEADER.pack(version, kind, HEADER.size + len(head) + len(mod), number) + head
        yield HEADER.pack(version, mod[1], len(mod), number)
        yield mod[HEADER.size:]


def commit_bundle(version: int) -> bytes:
    return _bundle_control(version, BUNDLE_COMMIT)


def discard_bundle(version: int) -> bytes:
    return _bundle_control(version, BUNDLE_DISCARD)


def _bundle_control(version: int, kind: int) -> bytes:
    body = BUNDLE.pack(BUNDLE_ID, kind, ATOMIC_AND_ORDERED)
    if version == OPENFLOW13:
        return _experimenter(version, ONF, ONF_BUNDLE_CONTROL, body)
    return pack_message(version, BUNDLE_CONTROL, body)


def refused(answers: Iterable[Message]) -> Tuple[Refusal, ...]:
    return tuple(Refusal(answer.transaction, _error_text(answer.body)) for answer in answers if answer.kind == ERROR)


def _error_text(body: bytes) -> str:
    """What was refused and why. Behind type and code an error has the beginning of what it is about."""
    kind, code = PROBLEM.unpack_from(body)
    begin = PROBLEM.size + (EXPERIMENTER_ID_BYTES if kind == EXPERIMENTER_ERROR else 0)
    if kind == NICIRA_ERROR_TYPE:
        kind, code = NICIRA_ERROR.unpack_from(body, begin)
        begin += NICIRA_ERROR.size
    message = body[begin:begin + QUOTED_BYTES].ljust(QUOTED_BYTES, b"\0")
    reason = "error of type %d, code %d" % (kind, code)
    if message[0] != OPENFLOW10:
        if kind in KINDS_OF_ERROR:
            reason = "%s, code %d" % (KINDS_OF_ERROR[kind], code)
        reason = ERRORS.get((kind, code), reason)
    return "%s: %s" % (_subject(message), reason)


def _subject(message: bytes) -> str:
    """What a message of ours was about, by its beginning."""
    kind, begin = message[1], HEADER.size
    if kind == BUNDLE_ADD:
        begin += BUNDLE.size
    elif kind == EXPERIMENTER:
        its = EXPERIMENTER_HEADER.unpack_from(message, begin)
        begin += EXPERIMENTER_HEADER.size
        if its == (NICIRA, TLV_TABLE_MOD):
            return "the TLV map"
        if its == (NICIRA, NICIRA_FLOW_MOD):
            return FLOW_TEXT % NICIRA_FLOW_NAMES.unpack_from(message, begin)
        if its == (ONF, ONF_BUNDLE_ADD):
            kind, begin = BUNDLE_ADD, begin + BUNDLE.size
    if kind == BUNDLE_ADD:
        kind, begin = message[begin + 1], begin + HEADER.size
    if kind == FLOW_MOD:
        return FLOW_TEXT % FLOW_NAMES.unpack_from(message, begin)
    if kind in (GROUP_MOD, METER_MOD):
        return "%s %d" % (("group" if kind == GROUP_MOD else "meter",) + ID.unpack_from(message, begin))
    return "a message of type %d" % kind
