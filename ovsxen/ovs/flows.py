"""The one door to OpenFlow: flows of ours are added to a bridge, looked for, and removed, by one ovs-ofctl each.

Ours carry COOKIE; those of others are never read or removed. Nothing is decided here: management.py says which flows.

When ovs-vswitchd throws away all flows of a bridge, ours with them (ofproto/connmgr.c; tried with 3.1):
- fail_mode turns secure, or back, while the bridge has no controller. With one, flows stay.
- the bridge gets its first controller, or loses its last.
It does so before it says in cur_cfg that it has configured that. After that, what is added stays. A bridge that turned
standalone has one flow then, `priority=0 actions=NORMAL`, and one that turned secure has none.

So a bridge is made secure like this: add and has_flows, which proves that the switch takes them; commit; wait for
cur_cfg; add again at once, which changes nothing where they stayed; has_flows. Between commit and add some 20 ms of
management frames are lost. A controller that is connected may remove our flows: they are its own to choose.

Flows of ours on a bridge that stays standalone share their priority with its NORMAL, and may keep ARP requests from its
VIFs: where there was no commit, remove_flows.
"""

import os
import re
from typing import FrozenSet, NamedTuple, Tuple

from ovsxen.errors import AdministratorError, NoAnswer, Refused
from ovsxen.host import files, proc
from ovsxen.host.paths import Paths
from ovsxen.ovs.management import Flow

COOKIE = 0x6f767378656e
"""The letters "ovsxen"."""

FILE_PREFIX = "ovsxen-flows."
OURS = "cookie=%#x/-1" % COOKIE
VERSIONS = "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15"
"""A controller may have had the bridge allow only one of them (Bridge.protocols)."""

FILE_LINE = re.compile(r":(\d+): ")
TAGGED = re.compile(r"push_vlan:0x8100,set_(?:field|vlan_vid):(\d+)(?:->vlan_vid)?")
NOT_MATCH = ("cookie", "duration", "table", "n_packets", "n_bytes", "idle_age", "hard_age")


class FlowRefused(Refused):
    """ovs-ofctl failed for a bridge: it is not there, or takes no such flow.

    `flow` is the first that was refused as far as that is known, else all of them; empty where none was to be added.
    """

    def __init__(self, problem: str, returncode: int, bridge: str, flow: str) -> None:
        super().__init__(problem, "look at the bridge with `ovs-ofctl show %s` and at ovs-vswitchd's log" % bridge)
        self.returncode = returncode
        self.bridge = bridge
        self.flow = flow


class _Seen(NamedTuple):
    """A flow spelt in one way, whatever OpenFlow version it was read by."""

    match: FrozenSet[str]
    actions: str


def add_flows(paths: Paths, bridge: str, flows: Tuple[Flow, ...], within_s: float) -> None:
    """Add flows; one that is there stays as it is. Earlier ones of ours stay too.

    Raises FlowRefused (those before the refused one may be there), NoAnswer, AdministratorError.
    """
    texts = tuple(_text(flow) for flow in flows)
    path = paths.rundir / (FILE_PREFIX + str(os.getpid()))  # proc.run gives a program no stdin, and this is one run
    try:
        files.write_file(path, [("cookie=%#x,%s\n" % (COOKIE, text)).encode() for text in texts], 0o600, durable=False)
        _run(paths, bridge, ("add-flows",), (str(path),), within_s, texts)
    except OSError as error:
        raise AdministratorError("cannot write %s (%s)" % (path, error.strerror),
                                 "make room in %s, or have it writable" % path.parent) from error
    finally:
        files.remove_if_there(path)


def has_flows(paths: Paths, bridge: str, flows: Tuple[Flow, ...], within_s: float) -> bool:
    """These flows are in the bridge with our cookie, and no others with it: a guest's port may have their number now.

    Raises FlowRefused, NoAnswer, AdministratorError.
    """
    said = _run(paths, bridge, ("--no-stats", "--no-names", "dump-flows"), (OURS,), within_s)
    seen = {_seen(*line.split(" actions=", 1)) for line in said.splitlines() if " actions=" in line}
    return seen == {_seen("priority=0,%s" % flow.match, flow.actions) for flow in flows}


def remove_leftovers(paths: Paths) -> None:
    """Files of processes that were killed while they added flows; only one at a time may."""
    files.remove_staged(paths.rundir, FILE_PREFIX)
    for path in paths.rundir.glob(FILE_PREFIX + "*"):
        files.remove_if_there(path)


def remove_flows(paths: Paths, bridge: str, within_s: float) -> None:
    """Remove what add_flows has added, and nothing else. Raises FlowRefused, NoAnswer, AdministratorError."""
    _run(paths, bridge, ("del-flows",), (OURS,), within_s)


def _text(flow: Flow) -> str:
    return "idle_timeout=0,priority=0,%s,actions=%s" % flow


def _seen(match: str, actions: str) -> _Seen:
    """From a flow as it was asked for, or as ovs-ofctl dumps it: OpenFlow's versions have VLAN actions of their own."""
    terms = (term.strip() for term in match.lower().split(","))
    actions = TAGGED.sub(lambda found: "mod_vlan_vid:%d" % (int(found.group(1)) & 0xfff), actions.strip().lower())
    return _Seen(frozenset(term for term in terms if term.partition("=")[0] not in NOT_MATCH),
                 actions.replace("pop_vlan", "strip_vlan").replace("output:", ""))


def _run(paths: Paths, bridge: str, command: Tuple[str, ...], arguments: Tuple[str, ...], within_s: float,
         texts: Tuple[str, ...] = ()) -> str:
    """One ovs-ofctl, for the bridge's own socket: a name would be looked up in what else is there. Gives its stdout."""
    if not bridge or "/" in bridge:  # ovs-vswitchd makes no such bridge
        raise Refused("%s is not the name of a bridge" % ascii(bridge))
    argv = ("ovs-ofctl", "-vconsole:off", "-vsyslog:off", "-O", VERSIONS) + command + (
        "unix:%s" % paths.bridge_socket(bridge),) + arguments
    try:
        done = proc.run(argv, within_s)
    except NoAnswer as error:
        raise NoAnswer("ovs-vswitchd did not answer for the flows of %s within %g s" % (bridge, within_s),
                       "look again; if it stays so, run `ovsxen restart`") from error
    if done.returncode != 0:
        raise FlowRefused("ovs-ofctl %s failed for %s (%s)" % (command[-1], bridge, _complaint(done)),
                          done.returncode, bridge, _refused_text(done, texts))
    return done.stdout


def _complaint(done: proc.Finished) -> str:
    """What was wrong: the first line of stderr, because the message that was refused is printed after it."""
    lines = done.stderr.strip().splitlines()
    return lines[0].strip() if lines else done.complaint


def _refused_text(done: proc.Finished, texts: Tuple[str, ...]) -> str:
    line = FILE_LINE.search(done.stderr)
    number = int(line.group(1)) if line else 0
    return texts[number - 1] if 0 < number <= len(texts) else "; ".join(texts)
