"""The log format: what ovsdb-server would silently drop is found before it opens the file."""

import hashlib
import json
import os
from pathlib import Path
from typing import Dict, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsxen.ovs import dblog
from ovsxen.ovs.dblog import Kind
from tests.conftest import SandboxHost

SCHEMA = {"name": "Open_vSwitch", "version": "8.3.0", "cksum": "1 2", "tables": {}}


def record(value: object, magic: str = "JSON") -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"
    return ("OVSDB %s %d %s\n" % (magic, len(data), hashlib.sha1(data).hexdigest())).encode() + data


def make_log(*transactions: object) -> bytes:
    return record(SCHEMA) + b"".join(record(transaction) for transaction in transactions)


def check(path: Path, content: bytes) -> dblog.Log:
    path.write_bytes(content)
    return dblog.check(path, "Open_vSwitch")


def test_a_good_log_gives_its_records_schema_and_newest_date(tmp_path: Path) -> None:
    content = make_log({"_date": 1000, "T": {}}, {"_date": 3000}, {"_date": 2000})
    log = check(tmp_path / "db", content)
    origin = record({"_date": 1000, "T": {}}).split()[3].decode()
    assert log == (Kind.GOOD, "", len(content), len(content), 4, ("Open_vSwitch", "8.3.0", "1 2"), 3000, origin)


@pytest.mark.parametrize("content, kind", [
    (b"", Kind.EMPTY), (b"\n", Kind.DAMAGED), (b"SQLite format 3\0" * 100, Kind.DAMAGED), (b"\0" * 4096, Kind.DAMAGED),
    (record({"a": 1}, magic="CLUSTER"), Kind.CLUSTERED), (record(dict(SCHEMA, name="OVN_Southbound")), Kind.FOREIGN),
    (record([1]), Kind.DAMAGED), (record({"version": "1.0.0"}), Kind.DAMAGED), (record(b"{"), Kind.DAMAGED),
    (make_log([1]), Kind.DAMAGED), (make_log(b"{]"), Kind.DAMAGED), (make_log(b"\xff{}"), Kind.DAMAGED),
    (make_log({}) + b"\0" * 512, Kind.DAMAGED),
    (make_log({}) + b"OVSDB JSON 99999999 " + b"0" * 40 + b"\n", Kind.DAMAGED),
])
def test_each_kind_of_bad_file_is_told_apart(tmp_path: Path, content: bytes, kind: Kind) -> None:
    log = check(tmp_path / "db", content)
    assert log.kind is kind
    assert log.problem


def test_what_is_not_a_file_is_unreadable_and_what_is_not_there_absent(tmp_path: Path) -> None:
    assert dblog.check(tmp_path / "none", "Open_vSwitch").kind is Kind.ABSENT
    assert dblog.check(tmp_path, "Open_vSwitch").kind is Kind.UNREADABLE
    (tmp_path / "link").symlink_to("nowhere")
    log = dblog.check(tmp_path / "link", "Open_vSwitch")
    assert log.kind is Kind.UNREADABLE and "nowhere" in log.problem


GOOD = make_log({"_date": 1, "T": {"u": {"c": 1}}}, {"_date": 2, "T": {"u": {"c": 2}}}, {"_date": 3})
ENDS = [0]
while ENDS[-1] < len(GOOD):
    ENDS.append(ENDS[-1] + len(GOOD[ENDS[-1]:].split(b"\n")[0]) + 1 + int(GOOD[ENDS[-1]:].split(b" ")[2]))


@settings(max_examples=300)
@given(at=st.integers(0, len(GOOD) - 1), flip=st.integers(1, 255))
def test_a_byte_that_changed_anywhere_ends_the_good_part_before_its_record(at: int, flip: int) -> None:
    damaged = GOOD[:at] + bytes([GOOD[at] ^ flip]) + GOOD[at + 1:]
    log = check_bytes(damaged)
    assert log.kind is not Kind.GOOD
    assert log.good_bytes == max(end for end in ENDS if end <= at)


@settings(max_examples=200)
@given(size=st.integers(1, len(GOOD) - 1))
def test_a_log_that_was_cut_anywhere_keeps_its_whole_records(size: int) -> None:
    log = check_bytes(GOOD[:size])
    assert log.good_bytes == max(end for end in ENDS if end <= size)
    assert (log.kind is Kind.GOOD) == (size in ENDS)


@settings(max_examples=200)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_judged_without_an_error(content: bytes) -> None:
    assert check_bytes(content).kind is not Kind.GOOD


def check_bytes(content: bytes) -> dblog.Log:
    fd = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
    with os.fdopen(fd, "w+b") as stream:
        stream.write(content)
        stream.seek(0)
        return dblog.check_stream(stream, "Open_vSwitch")


def test_what_a_real_server_wrote_is_good_while_it_runs_and_after(host: SandboxHost) -> None:
    host.start()
    host.vsctl("add-br", "xenbr0")
    counts: Dict[str, int] = {}
    for moment in ("running", "stopped", "compacted"):
        if moment == "stopped":
            host.ovsxen("stop")
        if moment == "compacted":
            host.tool("ovsdb-tool", "compact", str(host.paths.conf_db))
        log = dblog.check(host.paths.conf_db, "Open_vSwitch")
        assert log.kind is Kind.GOOD, log
        counts[moment] = log.records
    # vswitchd may write what it learns of an interface between the first look and its end
    assert 2 < counts["running"] <= counts["stopped"]
    assert counts["compacted"] == 2


def test_it_agrees_with_the_server_about_where_a_log_ends(host: SandboxHost) -> None:
    host.start()
    for name in ("a", "b", "c"):
        host.vsctl("add-br", name)
    host.ovsxen("stop")
    content = host.paths.conf_db.read_bytes()
    starts: List[int] = []
    while len(content) > (starts[-1] if starts else -1):
        at = starts[-1] if starts else 0
        header = content[at:].split(b"\n")[0]
        starts.append(at + len(header) + 1 + int(header.split(b" ")[2]))
    host.paths.conf_db.write_bytes(content[:-3])
    assert dblog.check(host.paths.conf_db, "Open_vSwitch").good_bytes == starts[-2]
