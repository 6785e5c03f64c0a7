"""Flows in OpenFlow 1.0 with the extensions of Open vSwitch, which has no bundles. Pure: bytes in, bytes out.

Only here does a bridge say truly what an OpenFlow 1.0 controller told it. Later versions have no `mod_vlan_vid`, which
rewrites a VLAN tag where there is one and else pushes one; they say push. And they say actions that a flow with so
wide a match may not have in those versions, such as `strip_vlan` for frames of any VLAN, and refuse to take them back.
(lib/ofp-actions.c, 3.1.)

Answers that make no sense raise ValueError or struct.error.
"""

import struct
from typing import Iterable, Iterator, Tuple

from ovsxen.ovs.openflow import HEADER, OPENFLOW10, Message, pack_message
from ovsxen.ovs.openflow_messages import (
    ADD,
    DELETE_FLOW,
    EXPERIMENTER,
    EXPERIMENTER_HEADER,
    FLOW_TEXT,
    LENGTH,
    MODIFY_STRICT,
    MORE,
    NICIRA,
    NICIRA_FLOW_MOD,
    NICIRA_FLOW_NAMES,
    NO_BUFFER,
    padded,
    unused_cookie,
)

STATISTICS_REQUEST, STATISTICS_REPLY = 16, 17
VENDOR, FLOWS = 0xffff, 0
FLOW_MOD_TABLE_ID = 15
"""NXT_FLOW_MOD_TABLE_ID: the high byte of a flow_mod's command says the table."""
NO_PORT, ALL_TABLES = 0xffff, 0xff

NICIRA_STATISTICS_HEADER = struct.Struct("!HHII4x")
FLOW_REQUEST = struct.Struct("!HHB3x")
FLOW = struct.Struct("!HBx8xHHHH4xQ16x")
FLOW_MOD_FIXED = struct.Struct("!QBBHHHIHHH6x")
COOKIE_AT, TABLE_AT, COMMAND_AT, PRIORITY_AT, FLAGS_AT, MATCH_BYTES_AT, MATCH_AT = 16, 24, 25, 30, 38, 40, 48
NXM_COOKIE = struct.pack("!HBB", 1, 30 << 1, 8)
OUTPUT_NORMAL = struct.pack("!HHHH", 0, 8, 0xfffa, 0)


def request_flows() -> bytes:
    head = NICIRA_STATISTICS_HEADER.pack(VENDOR, 0, NICIRA, FLOWS)
    return pack_message(OPENFLOW10, STATISTICS_REQUEST, head + FLOW_REQUEST.pack(NO_PORT, 0, ALL_TABLES))


def read_flows(answers: Iterable[Message]) -> Tuple[bytes, ...]:
    """For each flow the message that adds it. Flags are not told."""
    flags, flow_mods = MORE, []
    for answer in answers:
        if answer.kind != STATISTICS_REPLY:
            continue
        _, flags, _, _ = NICIRA_STATISTICS_HEADER.unpack_from(answer.body)
        body, begin = answer.body, NICIRA_STATISTICS_HEADER.size
        while begin < len(body):
            length, table, priority, idle_s, hard_s, match_bytes, cookie = FLOW.unpack_from(body, begin)
            end = begin + length
            if length < FLOW.size + padded(match_bytes) or end > len(body):
                raise ValueError("a flow of %d bytes" % length)
            head = FLOW_MOD_FIXED.pack(
                cookie, table, ADD, idle_s, hard_s, priority, NO_BUFFER, NO_PORT, 0, match_bytes)
            flow_mods.append(_nicira(NICIRA_FLOW_MOD, head + body[begin + FLOW.size:end]))
            begin = end
    if flags & MORE:
        raise ValueError("no whole answer about flows")
    return tuple(flow_mods)


def identity(flow: bytes) -> bytes:
    """What openflow_messages.identity gives for the same flow."""
    return flow[16:24] + flow[24:25] + flow[26:32]


def matching(flow: bytes) -> bytes:
    """Table, priority and match: of two flows with the same a bridge has the later."""
    return flow[TABLE_AT:TABLE_AT + 1] + flow[PRIORITY_AT:PRIORITY_AT + 2] + _match(flow)


def _match(flow: bytes) -> bytes:
    match_bytes, = LENGTH.unpack_from(flow, MATCH_BYTES_AT)
    return flow[MATCH_AT:MATCH_AT + match_bytes]


def describe_flow(flow: bytes) -> str:
    """A flow, or a message that adds one, for people."""
    return FLOW_TEXT % NICIRA_FLOW_NAMES.unpack_from(flow, COOKIE_AT)


def rehearsals(flows: Tuple[bytes, ...]) -> Iterator[bytes]:
    """As openflow_messages.rehearsals, behind name_tables()."""
    cookie = unused_cookie(flow[COOKIE_AT:COOKIE_AT + 8] for flow in flows)
    for place, flow in enumerate(flows):
        match = _match(flow) + NXM_COOKIE + cookie
        actions = flow[MATCH_AT + padded(len(_match(flow))):]
        body = flow[HEADER.size:COMMAND_AT] + struct.pack("!B", MODIFY_STRICT) \
            + flow[COMMAND_AT + 1:MATCH_BYTES_AT] + LENGTH.pack(len(match)) + flow[MATCH_BYTES_AT + 2:MATCH_AT] \
            + match.ljust(padded(len(match)), b"\0") + actions
        yield pack_message(OPENFLOW10, EXPERIMENTER, body, place)


def with_flags(flow: bytes, flags: int) -> bytes:
    return flow[:FLAGS_AT] + struct.pack("!H", flags) + flow[FLAGS_AT + 2:]


def normal_flow() -> bytes:
    """What read_flows gives for `priority=0 actions=NORMAL` in table 0."""
    return _nicira(NICIRA_FLOW_MOD, FLOW_MOD_FIXED.pack(0, 0, ADD, 0, 0, 0, NO_BUFFER, NO_PORT, 0, 0) + OUTPUT_NORMAL)


def delete_flows() -> bytes:
    return _nicira(NICIRA_FLOW_MOD, FLOW_MOD_FIXED.pack(0, ALL_TABLES, DELETE_FLOW, 0, 0, 0, NO_BUFFER, NO_PORT, 0, 0))


def name_tables() -> bytes:
    """From now on on this connection the messages above say which table they mean."""
    return _nicira(FLOW_MOD_TABLE_ID, struct.pack("!B7x", 1))


def _nicira(kind: int, body: bytes) -> bytes:
    return pack_message(OPENFLOW10, EXPERIMENTER, EXPERIMENTER_HEADER.pack(NICIRA, kind) + body)
