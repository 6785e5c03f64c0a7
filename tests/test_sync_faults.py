"""What XAPI, the database and other writers can do wrong to a sync: it goes on, ids stay, and are right in the end."""

import signal
import socket
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsxen.host import process
from ovsxen.ovs.daemons import OVSDB_SERVER, XAPI_SYNC
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import ref_of
from tests.busy import Busy
from tests.conftest import SandboxHost
from tests.histories import COPIED, STEPS, Site, Step, carried, complaints
from tests.syncing import WITHIN_S, Syncing, eventually, give, matches, port, uuid_of

AWAY = "XAPI does not answer"
PASSING: Tuple[Tuple[str, Dict[str, Any]], ...] = (
    ("sessions_vanish", {}), ("session_invalid", {"times": 2}), ("html_500", {"times": 2}), ("truncated", {"times": 1}),
    ("close_after_request", {"times": 1}), ("entity_bomb", {"times": 1}), ("refuse", {"seconds": 0.3}),
    ("absent", {"seconds": 0.3}), ("failure", {"times": 2, "code": "HOST_STILL_BOOTING"}),
    ("failure", {"times": 1, "code": "EVENT_FROM_TOKEN_PARSE_FAILURE", "method": "event.from"}),
)
"""Faults that are over by themselves."""


@pytest.fixture
def idle(host: SandboxHost, xapi: FakeXapi) -> Iterator[Syncing]:
    """A sync that has not been started, of a switch that is up with two bridges and a vif, which has an override."""
    host.start()
    made = Syncing(host)
    give(xapi, "VIF", "vif0", nicira_iface_id="own-iface")
    made.vsctl("add-br", "xenbr0", "--", "add-br", "xenbr1", *port(
        "xenbr0", "vif1.0", xs_vif_uuid=uuid_of(xapi, "VIF", "vif0"), xs_vm_uuid=uuid_of(xapi, "VM", "vm0")))
    yield made
    made.stop()


@pytest.fixture
def syncing(idle: Syncing) -> Syncing:
    """One that runs, and whose vif has its ids."""
    idle.start()
    idle.assert_becomes("vif1.0", iface_id="own-iface")
    return idle


def plug(syncing: Syncing, name: str, vif: str) -> None:
    syncing.vsctl(*port("xenbr1", name, xs_vif_uuid=vif)[1:])


def assert_is_followed(syncing: Syncing, xapi: FakeXapi, word: str) -> None:
    """Wait until a change in XAPI has arrived; and nothing was met that was not expected."""
    give(xapi, "VIF", "vif0", nicira_iface_id=word)
    syncing.assert_becomes("vif1.0", iface_id=word)
    assert syncing.report()["faults"] == 0


# XAPI

def test_without_xapi_ids_are_the_uuids_until_it_is_there(idle: Syncing, xapi: FakeXapi) -> None:
    xapi.faults.set("absent")
    idle.vsctl(*port("xenbr0", "vif2.0", xs_vif_uuid=uuid_of(xapi, "VIF", "vif1"), iface_id="of-an-earlier-sync")[1:])
    idle.start()
    idle.assert_becomes("vif1.0", iface_id=uuid_of(xapi, "VIF", "vif0"), vm_id=uuid_of(xapi, "VM", "vm0"))
    assert eventually(lambda: idle.report()["xapi"] == AWAY)
    idle.assert_becomes("vif2.0", iface_id="of-an-earlier-sync", iface_status="active")
    plug(idle, "vif3.0", "unheard-of")
    idle.assert_becomes("vif3.0", iface_id="unheard-of")
    assert idle.ids("vif2.0")["iface-id"] == "of-an-earlier-sync"
    xapi.faults.clear()
    idle.assert_becomes("vif1.0", iface_id="own-iface")
    idle.assert_becomes("vif2.0", iface_id=uuid_of(xapi, "VIF", "vif1"))
    assert_is_followed(idle, xapi, "after")
    assert idle.report()["xapi_problem"] == ""


def test_another_sync_that_finds_no_xapi_keeps_what_the_first_wrote(syncing: Syncing, xapi: FakeXapi) -> None:
    syncing.assert_bridge_becomes("xenbr0", uuid_of(xapi, "network", "xenbr0"))
    syncing.stop()
    xapi.faults.set("absent")
    before = syncing.rows(), syncing.rows("Bridge")
    syncing.start()
    assert eventually(lambda: syncing.report()["xapi"] == AWAY)
    plug(syncing, "vif3.0", "unheard-of")
    syncing.assert_becomes("vif3.0", iface_id="unheard-of")
    after = syncing.rows()
    assert {name: after[name] for name in before[0]} == before[0] and syncing.rows("Bridge") == before[1]


def test_while_xapi_hangs_new_ids_are_the_uuids_and_old_ones_stay(syncing: Syncing, xapi: FakeXapi) -> None:
    xapi.faults.set("silence")
    give(xapi, "VIF", "vif1", nicira_iface_id="not-heard")
    plug(syncing, "vif2.0", "unheard-of")
    syncing.assert_becomes("vif2.0", iface_id="unheard-of")
    syncing.vsctl("del-port", "vif1.0", *port("xenbr1", "vif1.0", xs_vif_uuid=uuid_of(xapi, "VIF", "vif0")))
    syncing.assert_becomes("vif1.0", iface_id="own-iface")  # it is remembered
    assert syncing.ask("version").code == 0
    xapi.faults.clear()
    xapi.faults.set("refuse", seconds=0.1)  # whoever waits for an answer waits no more
    assert_is_followed(syncing, xapi, "after")
    plug(syncing, "vif3.0", uuid_of(xapi, "VIF", "vif1"))
    syncing.assert_becomes("vif3.0", iface_id="not-heard")


def test_it_ends_at_once_while_xapi_hangs(syncing: Syncing, xapi: FakeXapi) -> None:
    xapi.faults.set("silence")
    plug(syncing, "vif2.0", "unheard-of")
    syncing.assert_becomes("vif2.0", iface_id="unheard-of")
    assert syncing.ask("exit").code == 0
    assert syncing.ended() == 0


def test_what_xapi_does_wrong_is_outlived(syncing: Syncing, xapi: FakeXapi) -> None:
    child = syncing.child
    assert child is not None
    for number, (name, where) in enumerate(PASSING):
        xapi.faults.set(name, **where)
        give(xapi, "VM", "vm0", nicira_vm_id="vm-%d" % number)  # news, so that XAPI is asked again
        syncing.assert_becomes("vif1.0", vm_id="vm-%d" % number)
        assert_is_followed(syncing, xapi, "after %s %d" % (name, number))
        assert eventually(lambda: xapi.faults.active() == []), name
        assert eventually(lambda: syncing.report()["xapi_problem"] == ""), name
    assert child.poll() is None


def test_a_xapi_without_events_is_asked_again_and_again(idle: Syncing, xapi: FakeXapi) -> None:
    xapi.faults.set("failure", code="MESSAGE_METHOD_UNKNOWN", params="event.from", method="event.from")
    idle.start()
    idle.assert_becomes("vif1.0", iface_id="own-iface")
    assert "no event.from" in idle.report()["xapi"]
    assert_is_followed(idle, xapi, "after")
    plug(idle, "vif2.0", uuid_of(xapi, "VIF", "vif1"))
    idle.assert_becomes("vif2.0", iface_id=uuid_of(xapi, "VIF", "vif1"))


def test_a_xapi_that_knows_no_sdn_controllers_is_followed(idle: Syncing, xapi: FakeXapi) -> None:
    xapi.faults.set("no_sdn_controller_class")
    idle.start()
    assert_is_followed(idle, xapi, "after")
    assert idle.report()["xapi_problem"] == ""


def test_odd_text_comes_through(syncing: Syncing, xapi: FakeXapi) -> None:
    xapi.faults.set("odd_text")
    assert_is_followed(syncing, xapi, "Br\u00fccke-\U0001f310-<&>")
    xapi.faults.clear()
    assert_is_followed(syncing, xapi, "after")


def test_a_record_that_makes_no_sense_spoils_no_other_and_its_ids_stay(syncing: Syncing, xapi: FakeXapi) -> None:
    plug(syncing, "vif2.0", uuid_of(xapi, "VIF", "vif1"))
    syncing.assert_becomes("vif2.0", iface_id=uuid_of(xapi, "VIF", "vif1"))
    ref = ref_of("VIF", "vif1")
    xapi.database.set("VIF", ref, other_config="nonsense")
    assert_is_followed(syncing, xapi, "after")
    assert eventually(lambda: any(ref in note for note in syncing.report()["notes"]))
    assert syncing.ask("flush-cache").code == 0
    assert_is_followed(syncing, xapi, "after a flush")
    assert syncing.ids("vif2.0")["iface-id"] == uuid_of(xapi, "VIF", "vif1")
    give(xapi, "VIF", "vif1", nicira_iface_id="sense")
    syncing.assert_becomes("vif2.0", iface_id="sense")
    assert eventually(lambda: syncing.report()["notes"] == [])


# The database

def test_a_database_server_that_is_killed_and_started_again_is_found(syncing: Syncing, xapi: FakeXapi) -> None:
    host, child = syncing.host, syncing.child
    host.signal(OVSDB_SERVER, signal.SIGKILL)
    give(xapi, "VIF", "vif0", nicira_iface_id="meanwhile")
    done = host.ovsxen("start")
    assert done.code == 0, done
    syncing.assert_becomes("vif1.0", iface_id="meanwhile")
    plug(syncing, "vif2.0", "unheard-of")
    syncing.assert_becomes("vif2.0", iface_id="unheard-of")
    assert_is_followed(syncing, xapi, "after")
    assert syncing.child is child and syncing.report()["is_connected"]


def test_a_sync_is_there_before_its_database(host: SandboxHost, xapi: FakeXapi) -> None:
    syncing = Syncing(host)
    try:
        syncing.start()
        host.start()
        syncing.vsctl("add-br", "xenbr0", *port("xenbr0", "vif1.0", xs_vif_uuid=uuid_of(xapi, "VIF", "vif0")))
        syncing.assert_becomes("vif1.0", iface_id=uuid_of(xapi, "VIF", "vif0"))
    finally:
        syncing.stop()


def test_a_database_server_that_is_stopped_for_a_while_is_waited_for(syncing: Syncing, xapi: FakeXapi) -> None:
    server = process.read_process(syncing.host.pid(OVSDB_SERVER))
    assert server is not None
    syncing.host.signal(OVSDB_SERVER, signal.SIGSTOP)
    try:
        give(xapi, "VIF", "vif0", nicira_iface_id="meanwhile")
        for _ in range(3):
            assert syncing.ask("version").code == 0
    finally:
        syncing.host.signal(OVSDB_SERVER, signal.SIGCONT)
    syncing.assert_becomes("vif1.0", iface_id="meanwhile")


def count_on_vif1(writes: int) -> Dict[str, Any]:
    """A key of vif1.0's external_ids that is not ours."""
    count = ["map", [["writes", str(writes)]]]
    return {"op": "mutate", "table": "Interface", "where": [["name", "==", "vif1.0"]],
            "mutations": [["external_ids", "delete", ["set", ["writes"]]], ["external_ids", "insert", count]]}


def test_others_get_their_ids_while_somebody_writes_to_one_row_all_the_time(
        syncing: Syncing, xapi: FakeXapi) -> None:
    with Busy(syncing.host, count_on_vif1, 0.0005) as busy:
        assert eventually(lambda: busy.writes > 20)
        words: List[str] = ["--", "clear", "Interface", "vif1.0", "external_ids"]
        for number in range(10, 20):
            words += port("xenbr1", "vif%d.0" % number, xs_vif_uuid="unheard-of-%d" % number)
        syncing.vsctl(*words[1:])
        for number in range(10, 20):
            syncing.assert_becomes("vif%d.0" % number, iface_id="unheard-of-%d" % number, iface_status="active")
        plug(syncing, "vif2.0", uuid_of(xapi, "VIF", "vif1"))
        syncing.assert_becomes("vif2.0", iface_id=uuid_of(xapi, "VIF", "vif1"))
    syncing.vsctl("set", "Interface", "vif1.0", "external_ids:xs-vif-uuid=%s" % uuid_of(xapi, "VIF", "vif0"))
    assert_is_followed(syncing, xapi, "after")
    assert syncing.ids("vif1.0")["writes"] == str(busy.writes)


def test_rows_that_go_in_mid_flight_keep_no_other_back(syncing: Syncing, xapi: FakeXapi) -> None:
    for number in range(40):
        brief = port("xenbr1", "vif9.0", xs_vif_uuid="brief-%d" % number) + port("xenbr1", "tap9.0")
        syncing.vsctl(*(brief + port("xenbr0", "vif%d.1" % number, xs_vif_uuid="stays-%d" % number))[1:])
        syncing.vsctl("del-port", "vif9.0", "--", "del-port", "tap9.0")

    def is_done() -> bool:
        rows = syncing.rows()
        return all(matches(rows["vif%d.1" % number], {"iface-id": "stays-%d" % number, "iface-status": "active"})
                   for number in range(40))

    assert eventually(is_done)
    assert_is_followed(syncing, xapi, "after")
    assert "vif9.0" not in syncing.rows()


# Everything at once

def test_after_whatever_happened_every_id_is_right(syncing: Syncing, xapi: FakeXapi) -> None:
    syncing.vsctl("del-port", "vif1.0")
    examples = []

    @settings(max_examples=8, derandomize=True, database=None)
    @given(st.lists(STEPS, min_size=10, max_size=16))
    def live(steps: List[Step]) -> None:
        examples.append(1)
        site = Site()
        for step in steps:
            if site.take(step):
                follow(syncing, xapi, site, step)
        xapi.faults.clear()
        come_to_rest(syncing, xapi, "at-rest-%d" % len(examples))
        assert eventually(lambda: found(syncing, site) == [], 20.0), (found(syncing, site), syncing.ask("list"))
        for name in list(site.interfaces) + list(site.bridges):
            site.take(Step("unplug", name))
            site.take(Step("no bridge", name))
            syncing.vsctl("--if-exists", "del-port", name, "--", "--if-exists", "del-br", name)
        for class_name, records in (("VIF", site.vifs), ("VM", site.vms), ("network", site.networks)):
            for uuid in records:
                xapi.database.remove(class_name, xapi.database.find(class_name, uuid=uuid))
        come_to_rest(syncing, xapi, "forgotten-%d" % len(examples))

    live()
    assert syncing.report()["faults"] == 0


def come_to_rest(syncing: Syncing, xapi: FakeXapi, word: str) -> None:
    """Wait until all that happened before this has been heard."""
    give(xapi, "VIF", "vif0", nicira_iface_id=word)
    syncing.vsctl("--if-exists", "del-port", "vif99.0", *port(
        "xenbr0", "vif99.0", xs_vif_uuid=uuid_of(xapi, "VIF", "vif0")))
    syncing.assert_becomes("vif99.0", iface_id=word)
    syncing.vsctl("del-port", "vif99.0")


def found(syncing: Syncing, site: Site) -> List[str]:
    ours = ("xenbr0", "xenbr1", "vif99.0")
    interfaces, bridges = syncing.rows(), syncing.rows("Bridge")
    return complaints(site, {name: ids for name, ids in interfaces.items() if name not in ours + tuple(bridges)},
                      {name: ids for name, ids in bridges.items() if name not in ours})


def follow(syncing: Syncing, xapi: FakeXapi, site: Site, step: Step) -> None:
    """Have the step happen in the database or in XAPI."""
    action, name, one, two = step
    if action == "plug":
        ids = {key.replace("-", "_"): value for key, value in site.interfaces[name].items()}
        syncing.vsctl("--if-exists", "del-port", name, *port("xenbr%d" % bool(two), name, **ids))
    elif action == "unplug":
        syncing.vsctl("del-port", name)
    elif action == "carry":
        ids = carried(one, two, stranger=False)
        words = ["remove", "Interface", name, "external_ids"] + list(COPIED)
        if ids:
            words += ["--", "set", "Interface", name] + ["external_ids:%s=%s" % pair for pair in ids.items()]
        syncing.vsctl(*words)
    elif action == "bridge":
        syncing.vsctl("--may-exist", "add-br", name, "--", "set", "Bridge", name,
                      'external_ids:xs-network-uuids="%s"' % one)
    elif action == "no bridge":
        syncing.vsctl("del-br", name)
    elif action in ("VIF", "VM"):
        put(xapi, action, name, other_config={"nicira-%s-id" % ("iface" if action == "VIF" else "vm"): one} if one
            else {})
    elif action == "network":
        put(xapi, "network", name, bridge=one, other_config={"nicira-bridge-id": two} if two else {})
    elif action in ("no VIF", "no VM", "no network"):
        class_name = action[3:]
        xapi.database.remove(class_name, xapi.database.find(class_name, uuid=name))
    elif action == "away":
        xapi.faults.set("absent")
    elif action == "back":
        xapi.faults.clear()
        xapi.faults.set("sessions_vanish")


def put(xapi: FakeXapi, class_name: str, uuid: str, **fields: Any) -> None:
    """Have a record be so."""
    try:
        xapi.database.set(class_name, xapi.database.find(class_name, uuid=uuid), **fields)
    except LookupError:
        xapi.database.add(class_name, uuid=uuid, **fields)


def test_a_control_socket_and_a_pidfile_that_were_removed_are_there_again(idle: Syncing) -> None:
    idle.start(WATCHDOG_USEC="2000000")  # so that it looks every half second
    pid = idle.host.paths.pidfile(XAPI_SYNC).read_text()
    for path in (idle.host.paths.control_socket(XAPI_SYNC, int(pid)), idle.host.paths.pidfile(XAPI_SYNC)):
        path.unlink()
        assert eventually(lambda: idle.ask("version").code == 0)
    assert idle.host.paths.pidfile(XAPI_SYNC).read_text() == pid and idle.report()["faults"] == 0


def test_a_sync_whose_place_another_one_has_taken_ends(idle: Syncing) -> None:
    idle.start(WATCHDOG_USEC="2000000")
    other = Syncing(idle.host)
    first, idle.child = idle.child, None
    assert first is not None
    try:
        first.send_signal(signal.SIGSTOP)  # else it might take it up again at once
        idle.host.paths.pidfile(XAPI_SYNC).unlink()
        other.start()
        first.send_signal(signal.SIGCONT)
        assert first.wait(WITHIN_S) == 0 and other.ask("version").code == 0
    finally:
        first.kill()
        first.wait()
        other.stop()


def test_a_flush_while_xapi_is_away_takes_no_id_back(syncing: Syncing, xapi: FakeXapi) -> None:
    syncing.stop()
    xapi.faults.set("absent")
    syncing.start()
    assert eventually(lambda: syncing.report()["xapi_problem"] != "")
    assert syncing.ask("flush-cache").code == 0
    syncing.vsctl(*port("xenbr1", "vif9.0", xs_vif_uuid="unknown")[1:])
    syncing.assert_becomes("vif9.0", iface_id="unknown")
    syncing.assert_becomes("vif1.0", iface_id="own-iface")
    xapi.faults.clear()


def test_nonsense_on_the_control_socket_concerns_nobody_else(syncing: Syncing) -> None:
    path = syncing.host.paths.control_socket(XAPI_SYNC, int(syncing.host.paths.pidfile(XAPI_SYNC).read_text()))
    for nonsense in (b'{"id":0,"method":"list","params":[' + b"9" * 5000 + b"]}", b"nonsense", b'{"id":0}', b'{"a":'):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(nonsense)
    plug(syncing, "vif9.0", "unknown")
    syncing.assert_becomes("vif9.0", iface_id="unknown")
    assert eventually(lambda: syncing.ask("version").code == 0)


def test_while_there_is_no_database_nothing_is_begun(syncing: Syncing, xapi: FakeXapi) -> None:
    before = syncing.report()["transactions"]
    syncing.host.signal(OVSDB_SERVER, signal.SIGKILL)
    give(xapi, "VIF", "vif0", nicira_iface_id="another")
    assert eventually(lambda: not syncing.report()["is_connected"])
    assert syncing.report()["transactions"] == before
    assert syncing.host.ovsxen("start").code == 0
    syncing.assert_becomes("vif1.0", iface_id="another")


def test_a_sync_that_is_stopped_by_a_signal_says_what_has_it_go_on(syncing: Syncing) -> None:
    assert syncing.child is not None
    syncing.child.send_signal(signal.SIGSTOP)
    try:
        flushed = syncing.host.ovsxen("sync", "--flush")
        assert flushed.code == 1 and "kill -CONT %d" % syncing.child.pid in flushed.err
        assert "kill -CONT %d" % syncing.child.pid in " ".join(syncing.host.status()["problems"])
    finally:
        syncing.child.send_signal(signal.SIGCONT)
