"""The copy of two tables, and transactions on it, of a real ovsdb-server."""

import json
import signal
from typing import Callable, Dict, Iterator, Tuple

import pytest

from ovsxen.host.clock import Deadline
from ovsxen.ovs.daemons import OVSDB_SERVER
from ovsxen.ovs.labels import BRIDGE, INTERFACE, Relabelling
from ovsxen.ovs.replica import Outcome, Replica, _Parser, block
from tests.conftest import SandboxHost

WITHIN_S = 60.0


@pytest.fixture
def up(host: SandboxHost) -> SandboxHost:
    """A switch with a bridge and two vifs."""
    host.start()
    host.vsctl("--no-wait", "add-br", "xenbr0", "--", "add-port", "xenbr0", "vif1.0", "--", "add-port", "xenbr0",
               "vif2.0", "--", "set", "Interface", "vif1.0", "external_ids:theirs=stays")
    return host


@pytest.fixture
def replica(up: SandboxHost) -> Iterator[Replica]:
    made = Replica(up.paths.db_sock)
    until(made, lambda: made.has_been_read)
    yield made
    made.close()


def until(replica: Replica, holds: Callable[[], bool]) -> None:
    """Have the replica run until something holds."""
    deadline = Deadline(WITHIN_S)
    replica.run()
    while not holds():
        assert not deadline.has_passed()
        block((replica,), (), 0.1)
        replica.run()


def outcome(replica: Replica) -> Tuple[Outcome, str]:
    ended = []

    def has_ended() -> bool:
        found = replica.poll()
        ended.extend([found] if found else [])
        return bool(ended)

    until(replica, has_ended)
    return ended[0]


def ids(replica: Replica, name: str) -> Dict[str, str]:
    return next((dict(row.external_ids) for row in replica.labels.interfaces if row.name == name), {})


def edit(replica: Replica, name: str, drop: str = "", **sets: str) -> Relabelling:
    row = next(row for row in replica.labels.interfaces if row.name == name)
    return Relabelling(INTERFACE, row.uuid, name, tuple(sets.items()), (drop,) if drop else ())


def test_it_has_both_tables_in_the_order_of_names_and_follows_them(up: SandboxHost, replica: Replica) -> None:
    up.vsctl("--no-wait", "add-br", "br-a", "--", "set-fail-mode", "br-a", "secure", "--", "set", "Bridge", "br-a",
             "other_config:disable-in-band=true", "external_ids:bridge-id=b")
    until(replica, lambda: len(replica.labels.bridges) == 2)
    bridge = replica.labels.bridges[0]
    assert (bridge.name, bridge.fail_mode, bridge.other_config, bridge.external_ids) == (
        "br-a", "secure", {"disable-in-band": "true"}, {"bridge-id": "b"})
    assert replica.labels.bridges[1].name == "xenbr0"
    assert [row.name for row in replica.labels.interfaces] == ["br-a", "vif1.0", "vif2.0", "xenbr0"]
    up.vsctl("--no-wait", "set", "Interface", "vif2.0", "external_ids:a=b", "--", "del-br", "br-a")
    until(replica, lambda: len(replica.labels.bridges) == 1)
    assert ids(replica, "vif2.0") == {"a": "b"}
    assert not replica.run() or ids(replica, "vif2.0") == {"a": "b"}


def test_a_row_made_anew_in_one_transaction_is_another_row(up: SandboxHost, replica: Replica) -> None:
    before = edit(replica, "vif1.0").uuid
    up.vsctl("--no-wait", "del-port", "vif1.0", "--", "add-port", "xenbr0", "vif1.0")
    until(replica, lambda: edit(replica, "vif1.0").uuid != before)
    assert ids(replica, "vif1.0") == {}


def test_an_edit_sets_and_removes_its_keys_and_no_others(up: SandboxHost, replica: Replica) -> None:
    for change, expected in ((edit(replica, "vif1.0", a="1", b="2"), {"theirs": "stays", "a": "1", "b": "2"}),
                             (edit(replica, "vif1.0", drop="a", b="3"), {"theirs": "stays", "b": "3"}),
                             (edit(replica, "vif1.0", drop="not-there", b="3"), {"theirs": "stays", "b": "3"})):
        replica.write([change])
        assert replica.is_writing and outcome(replica) == (Outcome.DONE, "") and not replica.is_writing
        until(replica, lambda expected=expected: ids(replica, "vif1.0") == expected)
    shown = up.vsctl("--no-wait", "get", "Interface", "vif1.0", "external_ids")
    assert shown == '{b="3", theirs=stays}'


def test_many_rows_are_one_transaction(replica: Replica) -> None:
    before = replica.transactions
    bridge = replica.labels.bridges[0]
    replica.write([edit(replica, "vif1.0", a="1"), edit(replica, "vif2.0", a="1"),
                   Relabelling(BRIDGE, bridge.uuid, bridge.name, (("bridge-id", "b"),))])
    assert outcome(replica)[0] is Outcome.DONE and replica.transactions == before + 1
    until(replica, lambda: replica.labels.bridges[0].external_ids.get("bridge-id") == "b")
    assert ids(replica, "vif2.0") == {"a": "1"}


def test_where_somebody_wrote_in_between_nothing_is_written(up: SandboxHost, replica: Replica) -> None:
    up.vsctl("--no-wait", "set", "Interface", "vif1.0", "external_ids:theirs=newer")
    replica.write([edit(replica, "vif1.0", a="1"), edit(replica, "vif2.0", a="1")])
    assert outcome(replica) == (Outcome.AGAIN, "")
    until(replica, lambda: ids(replica, "vif1.0") == {"theirs": "newer"})
    assert ids(replica, "vif2.0") == {}
    replica.write([edit(replica, "vif1.0", a="1"), edit(replica, "vif2.0", a="1")])
    assert outcome(replica) == (Outcome.DONE, "")
    until(replica, lambda: ids(replica, "vif1.0") == {"theirs": "newer", "a": "1"})


def test_a_row_that_went_in_between_takes_all_along_until_that_is_known(up: SandboxHost, replica: Replica) -> None:
    edits = [edit(replica, "vif1.0", a="1"), edit(replica, "vif2.0", a="1")]
    up.vsctl("--no-wait", "del-port", "vif1.0")
    replica.write(edits)
    assert outcome(replica) == (Outcome.AGAIN, "")
    until(replica, lambda: len(replica.labels.interfaces) == 2)
    assert ids(replica, "vif2.0") == {}
    replica.write(edits)
    assert outcome(replica) == (Outcome.DONE, "")
    until(replica, lambda: ids(replica, "vif2.0") == {"a": "1"})


@pytest.mark.parametrize("texts", [
    ('{"a":"}{"}', '{"b":1}'), ('{"a":', '[1,{}]}'), (' {"a":{"b":{}}}\n',), ('{"a":1}{"b":2}{"c":', "3}"),
    ("\n", '{"a":1} ')])
def test_objects_are_taken_from_a_stream_however_it_is_cut(texts: Tuple[str, ...]) -> None:
    whole = "".join(texts)
    expected, at = [], 0
    while at < len(whole.rstrip()):
        value, at = json.JSONDecoder().raw_decode(whole, len(whole) - len(whole[at:].lstrip()))
        expected.append(value)
    for size in range(1, len(whole) + 1):
        taken, rest, parser = [], "", _Parser()
        for begin in range(0, len(whole), size):
            rest += whole[begin:begin + size]
            while rest:
                rest = rest[parser.feed(rest):]
                if not parser.is_done():
                    break
                taken.append(parser.finish())
                parser = _Parser()
        assert taken == expected, size


@pytest.mark.parametrize("text", ["[1]", "nonsense", "{\"a\":" * 100000 + "}"])
def test_what_is_no_object_is_told_as_a_text(text: str) -> None:
    parser = _Parser()
    assert parser.feed(text) == len(text) and not (parser.is_done() and isinstance(parser.finish(), dict))


def test_a_server_that_comes_back_is_read_anew(up: SandboxHost, replica: Replica) -> None:
    up.signal(OVSDB_SERVER, signal.SIGKILL)
    until(replica, lambda: not replica.is_ready)
    assert len(replica.labels.interfaces) == 3
    assert up.ovsxen("start").code == 0
    until(replica, lambda: replica.is_ready)
    up.vsctl("--no-wait", "set", "Interface", "vif2.0", "external_ids:a=b")
    until(replica, lambda: ids(replica, "vif2.0") == {"a": "b"})
    replica.write([edit(replica, "vif1.0", a="1")])
    assert outcome(replica) == (Outcome.DONE, "")


def test_a_transaction_whose_server_died_is_to_be_tried_again_with_the_next(up: SandboxHost, replica: Replica) -> None:
    up.signal(OVSDB_SERVER, signal.SIGSTOP)
    replica.write([edit(replica, "vif1.0", a="1")])
    up.signal(OVSDB_SERVER, signal.SIGKILL)
    until(replica, lambda: not replica.is_ready)
    assert up.ovsxen("start").code == 0
    assert outcome(replica)[0] is Outcome.AGAIN
    assert not replica.is_writing
