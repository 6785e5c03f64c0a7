"""The emergency reset beside the tool's own, row for row, and its undoing."""

import json
import shlex
from typing import Any, Dict, List, Tuple

import pytest

from ovsxen.host.settings import Settings
from ovsxen.ovs import daemons, launch, tables
from ovsxen.ovs.dbtool import DATABASE
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.plan_reset import plan_emergency_reset, plan_undo
from tests.conftest import SandboxHost

FULL = r"""
set-manager ssl:192.0.2.1:6640 ptcp:6641
set-ssl /k /c /ca
add-br b0 -- add-br v5 b0 5 -- add-port b0 p1 -- add-port b0 p2
set-controller b0 tcp:192.0.2.2:6653 tcp:192.0.2.3 -- set-fail-mode b0 secure
set Bridge b0 other_config:hwaddr=\"00:11:22:33:44:55\" other_config:datapath-id=0000000000000099
set Bridge b0 other_config:disable-in-band=true other_config:mac-table-size=10000 flood_vlans=3,7 external_ids:x=y
set Bridge b0 protocols=OpenFlow11 mcast_snooping_enable=true
set Port p1 other_config:lacp-time=fast other_config:bond-rebalance-interval=0 external_ids:keep=me tag=7
set Interface p1 ingress_policing_rate=1000 ingress_policing_burst=100 other_config:a=b
-- --id=@p get Port p2 -- --id=@m create Mirror name=m0 select-all=true output-port=@p -- set Bridge b0 mirrors=@m
-- --id=@n create NetFlow 'targets="192.0.2.4:2055"' -- set Bridge b0 netflow=@n
-- --id=@s create sFlow 'targets="192.0.2.4:6343"' sampling=64 -- set Bridge b0 sflow=@s
-- --id=@i create IPFIX 'targets="192.0.2.4:4739"' -- set Bridge b0 ipfix=@i
-- --id=@b get Bridge b0 -- --id=@j create IPFIX 'targets="192.0.2.5:4739"' \
-- create Flow_Sample_Collector_Set id=3 bridge=@b ipfix=@j
add-br plain
add-br mac -- set Bridge mac other_config:hwaddr=\"00:11:22:33:44:66\" fail_mode=standalone
set Open_vSwitch . other_config:max-idle=5000
"""


def configure(host: SandboxHost) -> None:
    for line in FULL.replace("\\\n", "").strip().splitlines():
        host.vsctl("--no-wait", *shlex.split(line))


def rows(host: SandboxHost, *, named: bool = False) -> Dict[str, List[Any]]:
    """Every column of every row; with `named`, references as what they lead to, so that rows made anew are equal."""
    with open(str(host.paths.schema)) as stream:
        schema = json.load(stream)["tables"]
    found = {}
    for table in schema:
        answer = json.loads(host.tool("ovsdb-client", "transact", "unix:%s" % host.paths.db_sock, json.dumps(
            [DATABASE, {"op": "select", "table": table, "where": []}])))
        found[table] = [{column: value for column, value in row.items() if column not in (
            "_version", "next_cfg", "cur_cfg", "statistics", "status", "is_connected")}
            for row in answer[0]["rows"]]
    if named:
        names = {row["_uuid"][1]: "%s %s" % (table, row.get("name", row.get("target", row.get("targets", table))))
                 for table, there in found.items() for row in there}
        found = json.loads(_named(json.dumps(found), names))
    return {table: sorted(json.dumps(_sorted(row), sort_keys=True) for row in there) for table, there in found.items()}


def _named(text: str, names: Dict[str, str]) -> str:
    for uuid, name in names.items():
        text = text.replace(uuid, json.dumps(name)[1:-1])
    return text


def _sorted(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 2 and value[0] in ("set", "map"):
        return [value[0], sorted(map(_sorted, value[1]), key=json.dumps)]
    if isinstance(value, dict):
        return {key: _sorted(inner) for key, inner in value.items()}
    return value


@pytest.fixture
def server(host: SandboxHost) -> SandboxHost:
    """A host whose database has everything that a reset clears, without ovs-vswitchd, which would write to it."""
    host.start()
    host.signal("ovs-vswitchd", 9)
    configure(host)
    return host


def read(host: SandboxHost) -> Tuple[tables.Configuration, tables.Resettable]:
    with Connection(host.paths.db_sock, "ovsdb-server", 5) as connection:
        return tables.read_configuration(connection, 5), tables.read_resettable(connection, 5)


def write(host: SandboxHost, edit: tables.Edit) -> None:
    with Connection(host.paths.db_sock, "ovsdb-server", 5) as connection:
        tables.apply(connection, edit, 5)


def test_the_reset_leaves_every_row_as_the_tool_leaves_it(server: SandboxHost) -> None:
    configuration, leftovers = read(server)
    before = rows(server)
    content = server.paths.conf_db.read_bytes()
    write(server, plan_emergency_reset(configuration, leftovers))
    ours = rows(server)
    server.signal("ovsdb-server", 9)
    server.paths.conf_db.write_bytes(content)
    daemons.start(server.paths, launch.ovsdb_server_argv(server.paths, Settings(), ()), 0, 60.0)
    assert rows(server) == before
    server.vsctl("--no-wait", "emer-reset")
    theirs = rows(server)
    assert ours != before
    assert ours == theirs


def test_what_a_reset_cleared_comes_back_whole(server: SandboxHost) -> None:
    configuration, leftovers = read(server)
    before = rows(server, named=True)
    edit = plan_emergency_reset(configuration, leftovers)
    write(server, edit)
    snapshot = tables.Snapshot(edit.changes, leftovers.rows)
    configuration, leftovers = read(server)
    assert plan_emergency_reset(configuration, leftovers).is_empty
    undo = plan_undo(snapshot, configuration, leftovers)
    assert undo.lost == ()
    write(server, undo.edit)
    after = rows(server, named=True)
    assert after == before
    assert plan_undo(snapshot, *read(server)).edit.is_empty


def test_what_was_set_since_a_reset_stays(server: SandboxHost) -> None:
    configuration, leftovers = read(server)
    edit = plan_emergency_reset(configuration, leftovers)
    write(server, edit)
    server.vsctl("--no-wait", "set", "Bridge", "b0", "fail_mode=standalone",
                 "other_config:datapath-id=00000000000000aa")
    server.vsctl("--no-wait", "set-manager", "ptcp:6699", "--", "del-port", "b0", "p1")
    undo = plan_undo(tables.Snapshot(edit.changes, leftovers.rows), *read(server))
    write(server, undo.edit)
    assert server.vsctl("--no-wait", "get", "Bridge", "b0", "fail_mode") == "standalone"
    assert server.vsctl("--no-wait", "get", "Bridge", "b0", "other_config:datapath-id") == '"00000000000000aa"'
    assert server.vsctl("--no-wait", "get", "Bridge", "b0", "other_config:mac-table-size") == '"10000"'
    assert server.vsctl("--no-wait", "get-manager") == "ptcp:6699"
    assert undo.lost == ("Port p1 is gone", "Interface p1 is gone")


def test_a_bridge_that_was_made_anew_gets_its_settings_back_by_name(server: SandboxHost) -> None:
    configuration, leftovers = read(server)
    edit = plan_emergency_reset(configuration, leftovers)
    write(server, edit)
    server.vsctl("--no-wait", "del-br", "mac", "--", "add-br", "mac")
    undo = plan_undo(tables.Snapshot(edit.changes, leftovers.rows), *read(server))
    write(server, undo.edit)
    assert server.vsctl("--no-wait", "get", "Bridge", "mac", "fail_mode") == "standalone"
