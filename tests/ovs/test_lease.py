"""The lease on flow-restore-wait, in the real database of a switch that runs."""

from typing import Dict, Iterator, Optional

import pytest

from ovsxen.ovs import lease, ovsdb
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.ovs.lease import FLOW_RESTORE_WAIT, UNTIL, Lease
from tests.conftest import SandboxHost

WITHIN_S = 20.0


@pytest.fixture
def connection(host: SandboxHost) -> Iterator[Connection]:
    """To the database of a switch with an other_config of its own."""
    host.start()
    host.vsctl("set", "Open_vSwitch", ".", "other_config:keep=this")
    with Connection(host.paths.db_sock, "ovsdb-server", WITHIN_S) as made:
        yield made


def other_config(connection: Connection) -> Dict[str, str]:
    row = ovsdb.read_switch(connection, WITHIN_S).row
    assert row is not None
    return row.other_config


def test_it_is_taken_with_its_end_and_ended_and_the_rest_is_left_alone(connection: Connection) -> None:
    lease.take(connection, 1234.5, WITHIN_S)
    assert other_config(connection) == {"keep": "this", FLOW_RESTORE_WAIT: "true", UNTIL: "1234.500"}
    assert lease.read_lease(other_config(connection)) == Lease(1234.5)
    lease.end(connection, WITHIN_S)
    assert other_config(connection) == {"keep": "this"}


def test_taken_again_it_has_the_later_end(connection: Connection) -> None:
    lease.take(connection, 1.0, WITHIN_S)
    lease.take(connection, 2.0, WITHIN_S)
    assert lease.read_lease(other_config(connection)) == Lease(2.0)


def test_its_end_says_when_the_switch_has_taken_note(connection: Connection) -> None:
    lease.take(connection, 1234.5, WITHIN_S)
    before = ovsdb.read_switch(connection, WITHIN_S).row
    next_cfg = lease.end(connection, WITHIN_S)
    assert before is not None and next_cfg == before.next_cfg + 1
    assert ovsdb.wait_configured(connection, next_cfg, WITHIN_S)


def test_where_there_is_none_its_end_changes_nothing(connection: Connection) -> None:
    before = ovsdb.read_switch(connection, WITHIN_S)
    assert lease.end(connection, WITHIN_S) is None
    assert ovsdb.read_switch(connection, WITHIN_S) == before


def test_one_that_another_program_took_is_ended_too(connection: Connection, host: SandboxHost) -> None:
    host.vsctl("set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true")
    assert lease.read_lease(other_config(connection)) == Lease(None)
    assert lease.end(connection, WITHIN_S) is not None
    assert other_config(connection) == {"keep": "this"}


@pytest.mark.parametrize("found, read", [
    ({}, None), ({FLOW_RESTORE_WAIT: "false", UNTIL: "5"}, None), ({UNTIL: "5"}, None),
    ({FLOW_RESTORE_WAIT: "true"}, Lease(None)), ({FLOW_RESTORE_WAIT: "true", UNTIL: "soon"}, Lease(None)),
    ({FLOW_RESTORE_WAIT: "true", UNTIL: "5.25"}, Lease(5.25))])
def test_only_the_flag_makes_flows_wait(found: Dict[str, str], read: Optional[Lease]) -> None:
    assert lease.read_lease(found) == read


def test_all_that_is_left_of_one_is_what_a_start_removes() -> None:
    assert lease.keys_in({"keep": "this"}) == ()
    assert lease.keys_in({UNTIL: "5", "keep": "this"}) == (UNTIL,)
    assert lease.keys_in({UNTIL: "5", FLOW_RESTORE_WAIT: "false"}) == (FLOW_RESTORE_WAIT, UNTIL)
