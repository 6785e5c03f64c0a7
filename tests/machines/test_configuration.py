"""What finds torn files, and what reads a conf.db whose end is torn: on databases of the real tool."""

import json
import subprocess
from pathlib import Path
from typing import List

import pytest

from tests.machines import configuration

pytestmark = pytest.mark.selection
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
HALF_RECORD, ZEROS = -7, 300


@pytest.fixture
def conf_db(tmp_path: Path) -> Path:
    """Two transactions: a boot's identity, and a manager."""
    made = tmp_path / "conf.db"
    subprocess.run(["ovsdb-tool", "create", str(made), str(SCHEMA)], check=True)
    manager = {"op": "insert", "table": "Manager", "uuid-name": "m", "row": {"target": "ssl:192.0.2.1:6640"}}
    row = {"external_ids": ["map", [["ovsxen-boot-id", "b"]]]}
    transact(made, {"op": "insert", "table": "Open_vSwitch", "row": row})
    transact(made, manager, {"op": "update", "table": "Open_vSwitch", "where": [],
                             "row": {"manager_options": ["named-uuid", "m"]}})
    return made


def transact(conf_db: Path, *operations: object) -> None:
    subprocess.run(["ovsdb-tool", "transact", str(conf_db), json.dumps(["Open_vSwitch"] + list(operations))],
                   check=True, stdout=subprocess.DEVNULL)


def torn_paths(root: Path) -> List[str]:
    return [torn.path for torn in configuration.find_torn(root)]


def test_a_database_says_what_it_configures(conf_db: Path) -> None:
    found = configuration.read_configuration(conf_db)
    assert found is not None and torn_paths(conf_db.parent) == []
    assert (found.row, found.boot_id, found.managers) == (True, "b", ("ssl:192.0.2.1:6640",))


@pytest.mark.parametrize("name", ["conf.db", "conf.db.good-000001-1-2", "conf.db.live-000001-1-2"])
@pytest.mark.parametrize("damage", [HALF_RECORD, ZEROS])
def test_a_database_with_a_torn_end_is_found_and_its_good_part_read(conf_db: Path, name: str, damage: int) -> None:
    whole = conf_db.read_bytes()
    damaged = conf_db.with_name(name)
    conf_db.rename(damaged)
    damaged.write_bytes(whole[:damage] if damage < 0 else whole + bytes(damage))
    assert torn_paths(damaged.parent) == ["/" + name]
    found = configuration.read_configuration(damaged)
    assert found is not None and found.boot_id == "b"
    assert found.managers == (() if damage < 0 else ("ssl:192.0.2.1:6640",))


@pytest.mark.parametrize("name, content", [
    ("openvswitch", b""), ("openvswitch", b"A=b\n\0\0\0"), ("openvswitch", b"A=b\nC="),
    ("reset-000001.json", b'{"a": '), ("ovsxen-opened-port.json", b"\0\0"), ("conf.db", b"")])
def test_a_file_that_is_empty_or_torn_is_found(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert torn_paths(tmp_path) == ["/" + name]


@pytest.mark.parametrize("name", [".conf.db.~lock~", ".conf.db.148.staged", "..conf.db.148.staged-compacted.~lock~",
                                  "conf.db.aside-000001", ".openvswitch.7.staged"])
def test_what_nobody_reads_may_be_torn(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert torn_paths(tmp_path) == []
