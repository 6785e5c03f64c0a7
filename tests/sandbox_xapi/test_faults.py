"""Each switch, seen from outside: by the official client, or byte by byte where that says too little."""

import http.client
import re
import socket
import threading
import time
import xmlrpc.client
from typing import Any, Dict
from xml.parsers.expat import ExpatError

import pytest
from XenAPI import XenAPI

from ovsxen.host.clock import Deadline
from ovsxen.sandbox.xapi.faults import FAULTS, Place
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import ref_of
from tests.sandbox_xapi.conftest import LIMIT_S, Host, MakeXapi, details, read_all, read_until


def request(session: str, method: str = "pool.get_all") -> bytes:
    body = ("<methodCall><methodName>%s</methodName><params><param><value>%s</value></param></params></methodCall>" % (
        method, session))
    return ("POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)).encode()


@pytest.fixture
def session(xapi: FakeXapi, host: Host) -> str:
    """A session's ref; its client is gone."""
    return str(host.client().handle)


def test_refuse_leaves_a_socket_where_nobody_listens(xapi: FakeXapi, host: Host) -> None:
    kept = host.client()
    xapi.faults.set("refuse")
    assert host.socket.is_socket()
    with pytest.raises(ConnectionRefusedError):
        host.connect()
    with pytest.raises((OSError, http.client.HTTPException)):
        kept.xenapi.pool.get_all()  # connections that were open end too
    xapi.faults.clear()
    assert len(host.client().xenapi.pool.get_all()) == 1


def test_absent_leaves_no_socket(xapi: FakeXapi, host: Host) -> None:
    xapi.faults.set("absent")
    with pytest.raises(FileNotFoundError):
        host.connect()
    xapi.faults.clear("absent")
    assert len(host.client().xenapi.pool.get_all()) == 1


@pytest.mark.parametrize("name", ["absent", "refuse"])
def test_a_socket_comes_back_by_itself(xapi: FakeXapi, host: Host, name: str) -> None:
    xapi.faults.set(name, seconds=0.1)

    def is_back() -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(host.socket)) == 0
    assert not is_back()
    assert Deadline(LIMIT_S).wait_until(is_back)
    assert xapi.faults.active() == []


def silent(connection: socket.socket, within_s: float = 0.2) -> bytes:
    """What comes before a wait for more runs out."""
    connection.settimeout(within_s)
    said = b""
    with pytest.raises(socket.timeout):
        while True:
            data = connection.recv(65536)
            assert data, "closed after %r" % said
            said += data
    return said


def test_silence_says_and_does_nothing(xapi: FakeXapi, host: Host, session: str) -> None:
    xapi.faults.set("silence", method="session.logout")
    with host.connect() as connection, host.connect() as other:
        connection.sendall(request(session, "session.logout"))
        assert silent(connection) == b""
        other.sendall(request(session))  # other methods are served
        assert other.recv(1)
        assert xapi.sessions == [session] and xapi.calls[-2:] == ["session.logout", "pool.get_all"]
        xapi.close()
        assert read_all(connection) == b""


def test_headers_come_and_then_nothing(xapi: FakeXapi, host: Host, session: str) -> None:
    xapi.faults.set("headers_then_silence")
    with host.connect() as connection:
        connection.sendall(request(session))
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
        assert silent(connection) == b""


def test_an_answer_drips(xapi: FakeXapi, host: Host, session: str) -> None:
    xapi.faults.set("drip", every_s=0.05)
    with host.connect() as connection:
        connection.sendall(request(session))
        began = time.monotonic()
        assert [connection.recv(1) for _ in range(4)] == [b"H", b"T", b"T", b"P"]
        assert time.monotonic() - began >= 0.1


def test_a_slow_answer_comes_in_the_end(xapi: FakeXapi, host: Host, session: str) -> None:
    xapi.faults.set("slow", seconds=0.2, times=1)
    began = time.monotonic()
    with host.connect() as connection:
        connection.sendall(request(session))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("name, arguments", [
    ("silence", {}), ("headers_then_silence", {}), ("drip", {"every_s": 60}), ("slow", {"seconds": 60})])
def test_a_wait_is_over_when_the_client_goes(
        xapi: FakeXapi, host: Host, session: str, name: str, arguments: Dict[str, Any]) -> None:
    def serves(connections: int) -> bool:
        """And one thread that accepts."""
        return sum(thread.name == "fake XAPI" for thread in threading.enumerate()) == connections + 1
    assert Deadline(LIMIT_S).wait_until(lambda: serves(0))
    xapi.faults.set(name, **arguments)
    with host.connect() as connection:
        connection.sendall(request(session))
        silent(connection, 0.05)
        assert Deadline(LIMIT_S).wait_until(lambda: serves(1))
    assert Deadline(LIMIT_S).wait_until(lambda: serves(0))


def test_a_connection_closed_after_the_request_makes_the_official_client_call_twice(
        xapi: FakeXapi, host: Host) -> None:
    client = host.client().xenapi
    xapi.faults.set("close_after_request", times=1)
    client.SDN_controller.get_all()
    assert xapi.calls[-2:] == ["SDN_controller.get_all"] * 2
    network = ref_of("network", "xenbr0")
    xapi.faults.set("close_after_request", times=1)
    assert details(lambda: client.network.add_to_other_config(network, "k", "v"))[0] == "MAP_DUPLICATE_KEY"


def test_a_kept_connection_is_closed_between_calls(xapi: FakeXapi, host: Host, session: str) -> None:
    xapi.faults.set("close_kept_alive", times=1)
    said = host.say(request(session))
    assert b"connection: keep-alive" in said and said.endswith(b"</methodResponse>")
    xapi.faults.set("close_kept_alive")
    client = host.client().xenapi
    assert client.pool.get_all() == client.pool.get_all()


def body_and_head(said: bytes) -> Any:
    head, _, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return body, int(length.group(1)) if length else -1, head


def test_a_page_comes_instead_of_an_answer(xapi: FakeXapi, host: Host) -> None:
    client = host.client().xenapi
    xapi.faults.set("html_500", method="SDN_controller.introduce")
    with pytest.raises(xmlrpc.client.ProtocolError) as raised:
        client.SDN_controller.introduce("ssl", "192.0.2.1", "0")
    assert raised.value.errcode == 500 and raised.value.headers["content-type"] == "text/html"
    assert client.SDN_controller.get_all() == []


@pytest.mark.parametrize("name, off_by", [("length_too_long", 10), ("length_too_short", -10)])
def test_a_length_is_wrong(xapi: FakeXapi, host: Host, session: str, name: str, off_by: int) -> None:
    xapi.faults.set(name)
    body, length, _ = body_and_head(host.say(request(session)))
    assert length == len(body) + off_by and body.endswith(b"</methodResponse>")


def test_a_body_is_empty_or_half(xapi: FakeXapi, host: Host) -> None:
    client = host.client().xenapi
    xapi.faults.set("truncated", times=1)
    with pytest.raises(ExpatError):
        client.pool.get_all()
    client = host.client().xenapi
    xapi.faults.set("empty_body", times=1)
    with pytest.raises((ExpatError, xmlrpc.client.ResponseError)):
        client.pool.get_all()


def test_a_content_type_is_wrong(xapi: FakeXapi, host: Host, session: str) -> None:
    xapi.faults.set("wrong_content_type")
    with host.connect() as connection:
        connection.sendall(request(session))
        said = read_until(connection, b"</methodResponse>")
    assert b"content-type: text/html" in said and b"Success" in said


def test_a_bomb_is_small_and_means_gigabytes(xapi: FakeXapi, host: Host, session: str) -> None:
    xapi.faults.set("entity_bomb")
    with host.connect() as connection:
        connection.sendall(request(session))
        body, length, _ = body_and_head(read_until(connection, b"</methodResponse>"))
    assert length == len(body) < 2000
    entities = dict(re.findall(r'<!ENTITY (\w+) "([^"]*)">', body.decode()))
    assert len(entities["e0"]) * 10 ** (len(entities) - 1) > 10 ** 9 and "&e9;" in body.decode()


@pytest.mark.parametrize("name, error", [
    ("unknown_status", xmlrpc.client.Fault), ("missing_value", xmlrpc.client.Fault),
    ("empty_error_description", IndexError), ("missing_status", TypeError),
])
def test_an_answer_makes_no_sense(xapi: FakeXapi, host: Host, name: str, error: type) -> None:
    client = host.client().xenapi
    xapi.faults.set(name)
    with pytest.raises(error):
        client.pool.get_all()


def test_a_port_is_a_number_where_values_have_types(xapi: FakeXapi, host: Host) -> None:
    client = host.client().xenapi
    client.SDN_controller.introduce("ssl", "192.0.2.1", "0")
    controller = client.SDN_controller.get_all()[0]
    xapi.faults.set("typed", times=1)
    assert [client.SDN_controller.get_port(controller) for _ in range(2)] == [6632, "6632"]


def test_a_session_is_invalid_after_so_many_calls(xapi: FakeXapi, host: Host) -> None:
    session = host.client()
    first = session.handle
    xapi.faults.set("session_invalid", after=2, times=1)
    for _ in range(4):
        assert len(session.xenapi.pool.get_all()) == 1
    assert session.handle != first and xapi.sessions == [session.handle]
    assert xapi.calls == ["session.login_with_password"] + ["pool.get_all"] * 3 + [
        "session.login_with_password"] + ["pool.get_all"] * 2


def test_any_failure_can_be_asked_for(xapi: FakeXapi, client: Any) -> None:
    xapi.faults.set("failure", code="RBAC_PERMISSION_DENIED", params="host.call_plugin/x,no", method="network.")
    assert details(client.network.get_all) == ["RBAC_PERMISSION_DENIED", "host.call_plugin/x", "no"]
    assert len(client.pool.get_all()) == 1


def test_this_host_is_a_slave_after_a_failover(xapi: FakeXapi, client: Any) -> None:
    xapi.faults.set("host_is_slave", address="192.0.2.200")
    assert details(client.pool.get_all) == ["HOST_IS_SLAVE", "192.0.2.200"]


def test_in_emergency_mode_only_local_calls_are_answered(make_xapi: MakeXapi, host: Host) -> None:
    xapi = make_xapi(slave=True, hosts=2, master=1)
    client = host.client().xenapi
    xapi.faults.set("emergency", code="HOST_MASTER_CANNOT_TALK_BACK", params="192.0.2.200")
    assert details(client.pool.get_all) == ["HOST_MASTER_CANNOT_TALK_BACK", "192.0.2.200"]
    assert client.host.is_in_emergency_mode() is True
    xapi.faults.clear()
    assert client.host.is_in_emergency_mode() is False


def test_what_would_go_to_an_absent_master_gets_a_page(make_xapi: MakeXapi, host: Host) -> None:
    xapi = make_xapi(slave=True, hosts=2, master=1)
    xapi.faults.set("master_away")
    client = host.client().xenapi  # a login is local
    with pytest.raises(xmlrpc.client.ProtocolError):
        client.pool.get_all()
    assert client.host.is_in_emergency_mode() is False


def test_a_record_vanishes_between_list_and_look(xapi: FakeXapi, client: Any) -> None:
    xapi.faults.set("vanishing_record", of="PIF", times=1)
    pifs = client.PIF.get_all()
    assert client.pool.get_record(client.pool.get_all()[0])
    assert details(lambda: client.PIF.get_record(pifs[0])) == ["HANDLE_INVALID", "PIF", pifs[0]]
    assert client.PIF.get_record(pifs[0])


def test_an_old_xapi_does_not_know_the_class(xapi: FakeXapi, client: Any) -> None:
    xapi.faults.set("no_sdn_controller_class")
    assert details(client.SDN_controller.get_all_records) == [
        "MESSAGE_METHOD_UNKNOWN", "SDN_controller.get_all_records"]


def test_there_is_no_pool_or_there_are_two(xapi: FakeXapi, client: Any) -> None:
    pool = client.pool.get_all()
    xapi.faults.set("no_pool", times=2)
    assert client.pool.get_all() == [] and client.pool.get_all_records() == {}
    xapi.faults.set("two_pools")
    both = client.pool.get_all()
    assert both[:1] == pool and len(both) == 2
    assert len({row["uuid"] for row in client.pool.get_all_records().values()}) == 2
    assert client.pool.get_record(both[1])["master"] == client.pool.get_record(both[0])["master"]
    xapi.faults.clear()
    assert client.pool.get_all() == pool


def test_there_are_ten_thousand_networks(xapi: FakeXapi, client: Any) -> None:
    xapi.faults.set("huge")
    assert len(client.network.get_all()) == 10004 and len(client.PIF.get_all()) == 3
    xapi.faults.set("huge", records=50, of="PIF")
    assert len(client.network.get_all_records()) == 4 and len(client.PIF.get_all_records()) == 53


def test_text_is_odd_and_still_xml(xapi: FakeXapi, client: Any) -> None:
    xapi.faults.set("odd_text")
    for row in client.network.get_all_records().values():
        assert row["name_label"] == "Br\u00fccke \u0085\u2028 \U0001f310 ]]> <b>&\"' [31m \u00a0end"
        assert row["other_config"]["odd"] == row["name_label"] and row["other_config"][row["name_label"]] == "odd"
    assert "odd" in client.PIF.get_other_config(client.PIF.get_all()[0])


def test_what_xapi_did_not_expect_is_an_internal_error(xapi: FakeXapi, client: Any) -> None:
    xapi.faults.set("network_without_bridge", missing=True)
    assert details(lambda: client.network.get_bridge(ref_of("network", "xenbr0")))[0] == "INTERNAL_ERROR"


def test_a_network_has_no_bridge(xapi: FakeXapi, client: Any) -> None:
    network = ref_of("network", "xenbr0")
    xapi.faults.set("network_without_bridge")
    assert client.network.get_all_records()[network]["bridge"] == ""
    xapi.faults.set("network_without_bridge", missing=True)
    assert "bridge" not in client.network.get_all_records()[network]
    assert client.network.get_all_records()[ref_of("network", "xenbr1")]["bridge"] == "xenbr1"


def test_two_networks_claim_a_bridge(xapi: FakeXapi, client: Any) -> None:
    xapi.faults.set("two_networks_one_bridge", bridge="xenbr1")
    bridges = [row["bridge"] for row in client.network.get_all_records().values()]
    assert bridges.count("xenbr1") == 2 and len(bridges) == 5


def test_a_fault_goes_off_after_its_times(xapi: FakeXapi, client: Any) -> None:
    xapi.faults.set("failure", times=2, after=1, method="pool.get_all")
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append(len(client.pool.get_all()))
        except XenAPI.Failure as failure:
            outcomes.append(failure.details)
    assert outcomes == [1, ["TOO_MANY_PENDING_TASKS"], ["TOO_MANY_PENDING_TASKS"], 1]
    assert xapi.faults.active() == []


def test_what_is_no_fault_is_said_so(xapi: FakeXapi) -> None:
    with pytest.raises(LookupError, match="no fault fire"):
        xapi.faults.set("fire")
    with pytest.raises(LookupError, match="silence takes no colour"):
        xapi.faults.set("silence", colour="red")


def test_every_fault_says_what_it_does_and_every_kind_is_there() -> None:
    assert {fault.place for fault in FAULTS.values()} == set(Place)
    assert all(fault.does and "\n" not in fault.does for fault in FAULTS.values())


def test_every_fault_has_a_test_that_sees_it() -> None:
    """By its name in this file; "sessions_vanish" is seen in test_events.py."""
    with open(__file__) as stream:
        text = stream.read()
    assert [name for name in FAULTS if '"%s"' % name not in text] == []
