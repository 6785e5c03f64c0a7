"""Flows in OpenFlow 1.0 with the extensions of Open vSwitch, which has no bundles. Pure: bytes in, bytes out.

Only here does a bridge say truly what an OpenFlow 1.0 controller told it. Later versions have no `mod_vlan_vid`, which
rewrites a VLAN tag where there is one and else pushes one; they say push. And they say actions that a flow with so
wide a match may not have in those versions, such as `strip_vlan` for frames of any VLAN, and refuse to take them back.
(lib/ofp-actions.c, 3.1.)

Answers that make no sense raise ValueError or struct.error.
"""

import struct
from typing import Iterable, Tuple

from ovsxen.ovs.openflow import HEADER, OPENFLOW10, Message, pack_message
from ovsxen.ovs.openflow_messages import (
    ADD,
    DELETE_FLOW,
    EXPERIMENT,
    EXPERIMENTER,
    MORE,
    NICIRA,
    NICIRA_FLOW_MOD,
    NO_BUFFER,
    padded,
)

STATISTICS_REQUEST, STATISTICS_REPLY = 16, 17
VENDOR, FLOWS = 0xffff, 0
TABLE_IN_COMMAND = 15
NO_PORT, ALL_TABLES = 0xffff, 0xff

QUESTION = struct.Struct("!HHII4x")
FLOW_QUESTION = struct.Struct("!HHB3x")
FLOW = struct.Struct("!HBx8xHHHH4xQ16x")
FLOW_CHANGE = struct.Struct("!QBBHHHIHHH6x")
FLAGS_AT = HEADER.size + EXPERIMENT.size + 22
OUTPUT_NORMAL = struct.pack("!HHHH", 0, 8, 0xfffa, 0)


def question_flows() -> bytes:
    return pack_message(OPENFLOW10, STATISTICS_REQUEST, QUESTION.pack(VENDOR, 0, NICIRA, FLOWS)
                        + FLOW_QUESTION.pack(NO_PORT, 0, ALL_TABLES))


def read_flows(answers: Iterable[Message]) -> Tuple[bytes, ...]:
    """For each flow the message that adds it. Flags are not told."""
    flags, changes = MORE, []
    for answer in answers:
        if answer.kind != STATISTICS_REPLY:
            continue
        _, flags, _, _ = QUESTION.unpack_from(answer.body)
        body, begin = answer.body, QUESTION.size
        while begin < len(body):
            length, table, priority, idle_s, hard_s, match_bytes, cookie = FLOW.unpack_from(body, begin)
            end = begin + length
            if length < FLOW.size + padded(match_bytes) or end > len(body):
                raise ValueError("a flow of %d bytes" % length)
            head = FLOW_CHANGE.pack(cookie, table, ADD, idle_s, hard_s, priority, NO_BUFFER, NO_PORT, 0, match_bytes)
            changes.append(_nicira(NICIRA_FLOW_MOD, head + body[begin + FLOW.size:end]))
            begin = end
    if flags & MORE:
        raise ValueError("no whole answer about flows")
    return tuple(changes)


def identity(flow: bytes) -> bytes:
    """What openflow_messages.identity gives for the same flow."""
    return flow[16:24] + flow[24:25] + flow[26:32]


def with_flags(flow: bytes, flags: int) -> bytes:
    return flow[:FLAGS_AT] + struct.pack("!H", flags) + flow[FLAGS_AT + 2:]


def normal_flow() -> bytes:
    """What read_flows gives for `priority=0 actions=NORMAL` in table 0."""
    return _nicira(NICIRA_FLOW_MOD, FLOW_CHANGE.pack(0, 0, ADD, 0, 0, 0, NO_BUFFER, NO_PORT, 0, 0) + OUTPUT_NORMAL)


def delete_flows() -> bytes:
    return _nicira(NICIRA_FLOW_MOD, FLOW_CHANGE.pack(0, ALL_TABLES, DELETE_FLOW, 0, 0, 0, NO_BUFFER, NO_PORT, 0, 0))


def name_tables() -> bytes:
    """From now on on this connection the messages above say which table they mean."""
    return _nicira(TABLE_IN_COMMAND, struct.pack("!B7x", 1))


def _nicira(kind: int, body: bytes) -> bytes:
    return pack_message(OPENFLOW10, EXPERIMENTER, EXPERIMENT.pack(NICIRA, kind) + body)
