"""`ovsxen sync` as a process, on a real ovsdb-server, with XAPI on the wire. Asserted is what ovs-vsctl shows."""

import signal
import socket
import uuid
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import pytest

from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import XAPI_SYNC, State
from ovsxen.sandbox import certificates
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import ref_of
from tests.conftest import SandboxHost
from tests.syncing import Ids, Syncing, eventually, give, port, uuid_of
from tests.test_update import FAIL_MODE, IN_BAND, bridge_of_vlan, fail_mode, introduce, other_config

READS = ("pool.get_all_records", "network.get_all_records", "VIF.get_all_records", "VM.get_all_records",
         "SDN_controller.get_all_records")
BRIDGES = ("add-br", "xenbr0", "--", "add-br", "xenbr1")


@pytest.fixture
def idle(host: SandboxHost) -> Iterator[Syncing]:
    """A sync that has not been started, of a host that has not been either. It ends with the test, and well."""
    made = Syncing(host)
    yield made
    made.stop()


@pytest.fixture
def syncing(idle: Syncing, xapi: FakeXapi) -> Iterator[Syncing]:
    """A sync that runs, of a switch that is up with two bridges."""
    idle.host.start()
    idle.vsctl(*BRIDGES)
    yield idle.start()
    idle.stop()  # before XAPI is gone: an update that is under way would wait for it


def vif_and_vm(xapi: FakeXapi, number: int = 0) -> Ids:
    """What the toolstack writes into the row of a VIF of the made world."""
    return {"xs_vif_uuid": uuid_of(xapi, "VIF", "vif%d" % number), "xs_vm_uuid": uuid_of(xapi, "VM", "vm%d" % number),
            "attached_mac": "00:16:3e:00:00:01"}


# Interfaces

def test_a_vif_and_its_tap_have_their_ids_and_follow_xapi(syncing: Syncing, xapi: FakeXapi) -> None:
    carried = vif_and_vm(xapi)
    vif, vm = carried["xs_vif_uuid"], carried["xs_vm_uuid"]
    syncing.vsctl(*port("xenbr0", "vif1.0", **carried)[1:])
    syncing.assert_becomes("vif1.0", iface_id=vif, vm_id=vm, iface_status="active")
    syncing.vsctl(*port("xenbr0", "tap1.0")[1:])
    syncing.assert_becomes("tap1.0", iface_id=vif, vm_id=vm, iface_status="active", **carried)
    syncing.assert_becomes("vif1.0", iface_id=vif, iface_status="inactive")
    give(xapi, "VIF", "vif0", nicira_iface_id="own-iface")
    give(xapi, "VM", "vm0", nicira_vm_id="own-vm")
    for name in ("vif1.0", "tap1.0"):
        syncing.assert_becomes(name, iface_id="own-iface", vm_id="own-vm")
    give(xapi, "VIF", "vif0")
    syncing.assert_becomes("tap1.0", iface_id=vif, vm_id="own-vm")
    syncing.vsctl("del-port", "tap1.0")
    syncing.assert_becomes("vif1.0", iface_id=vif, iface_status="active")


def test_a_row_that_is_moved_or_made_anew_in_one_transaction_has_its_ids_again(
        syncing: Syncing, xapi: FakeXapi) -> None:
    carried = vif_and_vm(xapi)
    give(xapi, "VIF", "vif0", nicira_iface_id="own-iface")
    syncing.vsctl(*port("xenbr0", "vif1.0", **carried)[1:])
    syncing.assert_becomes("vif1.0", iface_id="own-iface")
    for bridge in ("xenbr1", "xenbr1", "xenbr0"):
        syncing.vsctl("del-port", "vif1.0", *port(bridge, "vif1.0", **carried))
        syncing.assert_becomes("vif1.0", iface_id="own-iface", vm_id=carried["xs_vm_uuid"], iface_status="active")
    syncing.vsctl("set", "Interface", "vif1.0", "external_ids:xs-vif-uuid=%s" % uuid_of(xapi, "VIF", "vif1"))
    syncing.assert_becomes("vif1.0", iface_id=uuid_of(xapi, "VIF", "vif1"))
    syncing.vsctl("remove", "Interface", "vif1.0", "external_ids", "xs-vif-uuid")
    syncing.assert_becomes("vif1.0", iface_id=None, vm_id=carried["xs_vm_uuid"], iface_status="active")


def test_a_record_that_comes_later_than_its_vif_gives_its_ids_then(syncing: Syncing, xapi: FakeXapi) -> None:
    syncing.vsctl(*port("xenbr0", "vif7.0", xs_vif_uuid="late", xs_vm_uuid="never")[1:])
    syncing.assert_becomes("vif7.0", iface_id="late", vm_id="never")
    ref = xapi.database.add("VIF", uuid="late", other_config={"nicira-iface-id": "own-iface"})
    syncing.assert_becomes("vif7.0", iface_id="own-iface")
    xapi.database.remove("VIF", ref)
    give(xapi, "VM", "vm0", nicira_vm_id="own-vm")
    syncing.vsctl(*port("xenbr0", "vif8.0", **vif_and_vm(xapi))[1:])
    syncing.assert_becomes("vif8.0", vm_id="own-vm")  # so it has heard of the record that went
    syncing.assert_becomes("vif7.0", iface_id="own-iface")


def test_what_belongs_to_others_is_left_alone(syncing: Syncing, xapi: FakeXapi) -> None:
    theirs = {"iface_id": "theirs", "iface_status": "theirs", "vm_id": "theirs", "neutron_port_uuid": "theirs"}
    syncing.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "external_ids:bridge-id=theirs",
                  *port("br-int", "patch0", **theirs) + port("br-int", "vif1.0", mine="stays", **vif_and_vm(xapi)))
    syncing.assert_becomes("vif1.0", iface_id=uuid_of(xapi, "VIF", "vif0"), mine="stays")
    syncing.vsctl("set", "Interface", "vif1.0", "external_ids:iface-id=wrong", "external_ids:more=too")
    syncing.assert_becomes("vif1.0", iface_id=uuid_of(xapi, "VIF", "vif0"), mine="stays", more="too")
    assert syncing.ids("patch0") == {key.replace("_", "-"): value for key, value in theirs.items()}
    assert syncing.bridge_id("br-int") == "theirs"


NEUTRON: Dict[str, Dict[str, Ids]] = {
    "publish": {"iface_id": {"vif1.0": "own", "vif2.0": ""}, "published": {"vif1.0": "port", "vif2.0": "port"}},
    "iface-id": {"iface_id": {"vif1.0": "own", "vif2.0": "port"}, "published": {}},
}


@pytest.mark.parametrize("word", sorted(NEUTRON))
def test_neutrons_port_is_published_or_the_iface_id_where_the_setting_says_so(
        idle: Syncing, xapi: FakeXapi, word: str) -> None:
    idle.host.start()
    idle.host.settings("NEUTRON_PORT_UUID=%s" % word)
    give(xapi, "VIF", "vif0", neutron_port_uuid="port", nicira_iface_id="own")
    give(xapi, "VIF", "vif1", neutron_port_uuid="port")
    idle.vsctl(*BRIDGES, *port("xenbr0", "vif1.0", **vif_and_vm(xapi)),
               *port("xenbr1", "vif2.0", **vif_and_vm(xapi, 1)))
    idle.start()
    for name, number in (("vif1.0", 0), ("vif2.0", 1)):
        idle.assert_becomes(name, iface_id=NEUTRON[word]["iface_id"][name] or uuid_of(xapi, "VIF", "vif%d" % number),
                     neutron_port_uuid=NEUTRON[word]["published"].get(name))


# Bridges

def test_a_bridge_is_known_by_its_own_network_also_among_those_of_its_vlans(syncing: Syncing, xapi: FakeXapi) -> None:
    own, vlan = (uuid_of(xapi, "network", name) for name in ("xenbr0", bridge_of_vlan(xapi)))
    syncing.assert_bridge_becomes("xenbr0", own)
    syncing.assert_bridge_becomes("xenbr1", uuid_of(xapi, "network", "xenbr1"))
    syncing.vsctl("set", "Bridge", "xenbr0", "external_ids:xs-network-uuids=%s;%s" % (vlan, own),
                  "external_ids:bridge-id=wrong")
    syncing.assert_bridge_becomes("xenbr0", own)
    give(xapi, "network", "xenbr0", nicira_bridge_id="own-bridge")
    syncing.assert_bridge_becomes("xenbr0", "own-bridge")
    give(xapi, "network", "xenbr0")
    syncing.assert_bridge_becomes("xenbr0", own)
    syncing.vsctl("del-br", "xenbr0", "--", "add-br", "xenbr0", "--", "set", "Bridge", "xenbr0",
                  "external_ids:xs-network-uuids=%s" % own)
    syncing.assert_bridge_becomes("xenbr0", own)


# The update

@pytest.fixture
def managed(syncing: Syncing) -> Syncing:
    """One whose first update has been: its host has what a controller needs."""
    certificates.make_host_pem(syncing.host.paths.xapi_ssl_pem)
    assert eventually(lambda: fail_mode(syncing.host, "xenbr1") == "standalone")
    return syncing


def test_an_edit_of_fail_mode_or_in_band_or_the_controller_in_xapi_takes_effect(
        managed: Syncing, xapi: FakeXapi) -> None:
    host = managed.host
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    assert eventually(lambda: fail_mode(host, "xenbr1") == "secure")
    other_config(xapi, "network", {FAIL_MODE: "standalone", IN_BAND: "true"}, bridge="xenbr1")
    assert eventually(lambda: fail_mode(host, "xenbr1") == "standalone")
    assert managed.vsctl("get", "Bridge", "xenbr1", "other_config:disable-in-band") == '"true"'
    introduce(xapi)
    assert eventually(lambda: managed.vsctl("get-manager") == "ssl:127.0.0.1:6632")
    introduce(xapi, address="127.0.0.2")
    assert eventually(lambda: managed.vsctl("get-manager") == "ssl:127.0.0.2:6632")
    xapi.database.remove("SDN_controller", xapi.database.find("SDN_controller"))
    assert eventually(lambda: managed.vsctl("get-manager") == "")


def test_a_bridge_that_is_new_gets_its_fail_mode_and_in_band(managed: Syncing, xapi: FakeXapi) -> None:
    other_config(xapi, "network", {FAIL_MODE: "secure", IN_BAND: "true"}, bridge="xenbr1")
    assert eventually(lambda: fail_mode(managed.host, "xenbr1") == "secure")
    for _ in range(2):
        managed.vsctl("del-br", "xenbr1", "--", "add-br", "xenbr1")
        assert eventually(lambda: fail_mode(managed.host, "xenbr1") == "secure")
        assert managed.vsctl("get", "Bridge", "xenbr1", "other_config:disable-in-band") == '"true"'


def test_a_controller_that_was_set_while_this_host_was_off_is_found(managed: Syncing, xapi: FakeXapi) -> None:
    managed.stop()
    introduce(xapi)
    managed.start()
    assert eventually(lambda: managed.vsctl("get-manager") == "ssl:127.0.0.1:6632")


def test_an_update_that_fails_is_tried_again_and_told_of(syncing: Syncing, xapi: FakeXapi) -> None:
    introduce(xapi)  # and the host has no certificate
    assert eventually(lambda: str(syncing.host.paths.xapi_ssl_pem) in syncing.report()["update"])
    syncing.vsctl(*port("xenbr0", "vif1.0", **vif_and_vm(xapi))[1:])
    syncing.assert_becomes("vif1.0", iface_id=uuid_of(xapi, "VIF", "vif0"))
    certificates.make_host_pem(syncing.host.paths.xapi_ssl_pem)
    assert eventually(lambda: syncing.vsctl("get-manager") == "ssl:127.0.0.1:6632")
    assert eventually(lambda: syncing.report()["update"] == "")


# The process

def test_it_answers_from_the_first_moment_also_without_xapi_and_database(idle: Syncing) -> None:
    idle.start()
    paths = idle.host.paths
    assert "ovs-xapi-sync" in idle.ask("version").out
    for words in (("list",), ("list", "vif1.0"), ("flush-cache",), ("vlog/reopen",)):
        done = idle.ask(*words)
        assert (done.code, done.out.strip()) == (0, ""), words
    for name in ("exit", "flush-cache", "list"):
        assert name in idle.ask("help").out
    assert idle.ask("list", "a", "b").code != 0 and idle.ask("no-such-command").code != 0
    assert daemons.find(paths, XAPI_SYNC).state is State.RUNNING
    assert idle.ask("exit").code == 0
    assert idle.ended() == 0
    assert not paths.pidfile(XAPI_SYNC).exists() and list(paths.rundir.glob("ovs-xapi-sync.*")) == []


def test_what_there_is_is_listed(syncing: Syncing, xapi: FakeXapi) -> None:
    vif = uuid_of(xapi, "VIF", "vif0")
    syncing.vsctl(*port("xenbr0", "vif1.0", **vif_and_vm(xapi))[1:])
    syncing.assert_becomes("vif1.0", iface_id=vif)
    syncing.assert_bridge_becomes("xenbr0", uuid_of(xapi, "network", "xenbr0"))
    assert eventually(lambda: "iface-id=%s" % vif in syncing.ask("list", "vif1.0").out)
    whole = syncing.ask("list").out
    assert "vif1.0" in whole and "Bridge xenbr0 bridge-id=%s" % uuid_of(xapi, "network", "xenbr0") in whole
    assert "xenbr1" not in syncing.ask("list", "vif1.0").out and syncing.ask("list", "none").code == 0


def test_a_second_one_is_refused_and_one_that_runs_is_enough_in_the_background(syncing: Syncing) -> None:
    done = syncing.host.ovsxen("sync")
    assert done.code == 1 and "another ovs-xapi-sync runs" in done.err
    again = syncing.host.ovsxen("sync", "--detach")
    assert again.code == 0 and "runs already" in again.out
    assert syncing.ask("version").code == 0


def test_it_goes_to_the_background_is_flushed_and_stopped_by_words(idle: Syncing, xapi: FakeXapi) -> None:
    host = idle.host
    host.start()
    idle.vsctl(*BRIDGES, *port("xenbr0", "vif1.0", **vif_and_vm(xapi)))
    try:
        for words in (("--detach",), ("--detach",), ("--flush",)):
            done = host.ovsxen("sync", *words)
            assert done.code == 0, done
        assert idle.ask("version").code == 0  # it answers when the command returns
        idle.assert_becomes("vif1.0", iface_id=uuid_of(xapi, "VIF", "vif0"))
        assert eventually(lambda: "session.logout" in xapi.calls)  # so the first update has been
    finally:
        for _ in range(2):
            done = host.ovsxen("sync", "--stop")
            assert done.code == 0, done
    assert daemons.find(host.paths, XAPI_SYNC).state is State.STOPPED
    assert eventually(lambda: xapi.sessions == [])
    assert host.ovsxen("sync", "--flush").code == 0


def test_a_hangup_has_everything_read_anew(syncing: Syncing, xapi: FakeXapi) -> None:
    child = syncing.child
    assert child is not None
    ways: Tuple[Callable[[], object], ...] = (lambda: child.send_signal(signal.SIGHUP),
                                              lambda: syncing.ask("flush-cache"))
    for tell in ways:
        assert eventually(lambda: "following" in syncing.report()["xapi"])
        before = [xapi.calls.count(name) for name in READS]
        tell()
        assert eventually(lambda before=before: all(  # type: ignore[misc]
            xapi.calls.count(name) > count for name, count in zip(READS, before)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_it_and_it_logs_out(syncing: Syncing, xapi: FakeXapi, number: signal.Signals) -> None:
    assert eventually(lambda: "session.logout" in xapi.calls and len(xapi.sessions) == 1)  # the first update has been
    assert syncing.child is not None
    syncing.child.send_signal(number)
    assert syncing.ended() == 0
    assert xapi.sessions == []
    assert daemons.find(syncing.host.paths, XAPI_SYNC).state is State.STOPPED


def test_in_bridge_mode_there_is_nothing_to_do(idle: Syncing, xapi: FakeXapi) -> None:
    idle.host.write(idle.host.paths.network_conf, "bridge\n")
    for words in ((), ("--detach",)):
        assert idle.host.ovsxen("sync", *words).code == 0
    assert xapi.calls == [] and daemons.find(idle.host.paths, XAPI_SYNC).state is State.STOPPED


def test_systemd_hears_that_it_is_ready_alive_and_what_is_wrong(idle: Syncing, tmp_path: Path) -> None:
    """There is no XAPI, and no database."""
    heard: List[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(0.05)

        def hears(*words: str) -> bool:
            try:
                heard.extend(end.recv(65536).decode().splitlines())
            except OSError:
                pass  # nothing for a while
            return all(any(line.startswith(word) for line in heard) for word in words)

        idle.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000")
        assert eventually(lambda: hears("READY=1", "STATUS=keeping", "WATCHDOG=1"))
        assert eventually(lambda: hears("STATUS=XAPI is not heard")), heard
        heard.clear()
        assert eventually(lambda: hears("WATCHDOG=1"))
        idle.stop()
        assert eventually(lambda: hears("STOPPING=1"))


def test_a_burst_costs_few_calls_and_transactions(idle: Syncing, xapi: FakeXapi) -> None:
    idle.host.start()
    idle.vsctl(*BRIDGES)
    idle.start()
    idle.assert_bridge_becomes("xenbr1", uuid_of(xapi, "network", "xenbr1"))
    assert eventually(lambda: "session.logout" in xapi.calls)  # so the first update has been
    uuids = {"vif%d.0" % number: str(uuid.uuid4()) for number in range(100)}
    calls, transactions = len(xapi.calls), idle.report()["transactions"]
    words: List[str] = []
    for name, vif in uuids.items():
        words += port("xenbr0", name, xs_vif_uuid=vif) + port("xenbr0", name.replace("vif", "tap"))
    idle.vsctl(*words[1:])
    pairs = [(prefix + name[3:], vif) for name, vif in uuids.items() for prefix in ("vif", "tap")]

    def is_done() -> bool:
        rows = idle.rows()
        return all(rows[name].get("iface-id") == vif and "iface-status" in rows[name] for name, vif in pairs)

    assert eventually(is_done)
    assert len(xapi.calls) - calls <= 5, xapi.calls[calls:]
    assert idle.report()["transactions"] - transactions <= 5
    give(xapi, "VIF", "vif0", nicira_iface_id="own-iface")
    idle.vsctl(*port("xenbr1", "vif200.0", **vif_and_vm(xapi))[1:])
    idle.assert_becomes("vif200.0", iface_id="own-iface")
    assert ref_of("VIF", "vif0") in xapi.database.rows("VIF")


def test_an_update_that_is_under_way_at_the_end_leaves_no_session_behind(syncing: Syncing, xapi: FakeXapi) -> None:
    assert eventually(lambda: "session.logout" in xapi.calls and len(xapi.sessions) == 1)  # the first update has been
    xapi.faults.set("slow", seconds=1.0, times=1, method="PIF.get_all_records")
    calls = len(xapi.calls)
    other_config(xapi, "pool", {FAIL_MODE: "secure"})
    assert eventually(lambda: "PIF.get_all_records" in xapi.calls[calls:])
    syncing.stop()
    assert eventually(lambda: xapi.sessions == [], 20.0)
