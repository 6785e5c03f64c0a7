"""A verdict that is not what is the case is found, in whichever of its parts."""

from typing import Any, Dict

import pytest

from tests.machines.verdict import Seen, find_lies

pytestmark = pytest.mark.selection
STATUS: Dict[str, Any] = {
    "verdict": "running", "exit_code": 0, "boot_id": "b", "bridges": 1, "managers": ["ssl:192.0.2.1:6640"],
    "module": "openvswitch loaded", "link": "up", "problems": [],
    "daemons": {"ovsdb-server": {"pid": 5}, "ovs-vswitchd": {"pid": 7}}}
TRUE = Seen(
    systemd="running", unit="active", boot_id="b", status=STATUS, code=0,
    pids={"ovsdb-server": [5], "ovs-vswitchd": [7]}, bridges=("xenbr0",), managers=("ssl:192.0.2.1:6640",),
    generations=("3", "3"), module="openvswitch loaded", datapaths="system@ovs-system", notes=())


def test_a_true_verdict_has_no_lies() -> None:
    assert find_lies(TRUE) == []


@pytest.mark.parametrize("otherwise", [
    {"boot_id": "c"}, {"code": 150}, {"pids": {"ovsdb-server": [5], "ovs-vswitchd": []}}, {"bridges": ()},
    {"pids": {"ovsdb-server": [5, 6], "ovs-vswitchd": [7]}}, {"managers": ()}, {"generations": ("4", "3")},
    {"module": ""}, {"notes": ("conf.db.recovery-000001.json",)}, {"generations": ()}], ids=str)
def test_what_is_otherwise_than_it_says_is_found(otherwise: Dict[str, Any]) -> None:
    assert find_lies(TRUE._replace(**otherwise)) != []


def test_a_degraded_switch_has_its_problems() -> None:
    degraded = dict(STATUS, verdict="degraded", exit_code=150, problems=["conf.db was torn"])
    seen = TRUE._replace(notes=("conf.db.recovery-000001.json",), code=150)
    assert find_lies(seen._replace(status=degraded)) == []
    assert find_lies(seen._replace(status=dict(degraded, problems=[]))) != []
