"""conf.db as it lies there while its server runs: gone, damaged, whole, and due to be copied."""

import os
from pathlib import Path
from typing import Iterator, List

import pytest

from ovsxen.host.paths import Paths
from ovsxen.ovs import dblog
from ovsxen.ovs.confdb_watch import CHECK_EVERY_S, COPY_EVERY_S, ConfDbWatch, OnDisk
from ovsxen.ovs.dbtool import DATABASE
from tests.conftest import SandboxHost

WELL = OnDisk()


@pytest.fixture
def paths(host: SandboxHost) -> Iterator[Paths]:
    """Of a host that has a conf.db."""
    assert DATABASE.encode() in host.paths.conf_db.read_bytes()
    yield host.paths


def looks(watch: ConfDbWatch, *at_s: float) -> List[OnDisk]:
    return [watch.look(now_s) for now_s in at_s]


def test_a_file_that_is_whole_is_well_and_one_that_is_gone_is_missed_at_once(paths: Paths) -> None:
    watch = ConfDbWatch(paths, 0.0)
    assert looks(watch, 0.0, 1.0) == [WELL, WELL]
    paths.conf_db.unlink()
    assert watch.look(2.0).problem == "%s is gone" % paths.conf_db


def test_damage_counts_when_it_is_seen_twice_since_a_server_may_be_writing(paths: Paths) -> None:
    watch = ConfDbWatch(paths, 0.0)
    with open(str(paths.conf_db), "ab") as stream:
        stream.write(b"OVSDB JSON 100 ")
    assert watch.look(0.0) == WELL
    assert "is damaged" in watch.look(1.0).problem
    with open(str(paths.conf_db), "ab") as stream:
        stream.write(b"more")
    assert watch.look(2.0) == WELL


def test_a_file_that_grows_is_read_again_after_a_while_and_one_that_shrinks_at_once(paths: Paths) -> None:
    watch, size = ConfDbWatch(paths, 0.0), paths.conf_db.stat().st_size
    watch.look(0.0)
    with open(str(paths.conf_db), "ab") as stream:
        stream.write(b"junk")
    assert looks(watch, 1.0, CHECK_EVERY_S - 1.0) == [WELL, WELL]
    os.truncate(str(paths.conf_db), size + 2)
    assert [bool(one.problem) for one in looks(watch, CHECK_EVERY_S - 0.5, CHECK_EVERY_S - 0.4)] == [False, True]
    os.truncate(str(paths.conf_db), size)
    assert looks(watch, CHECK_EVERY_S) == [WELL]


def test_a_damaged_file_is_not_read_again_before_it_changes(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = ConfDbWatch(paths, 0.0)
    paths.conf_db.write_bytes(b"junk")
    looks(watch, 0.0, 1.0)
    monkeypatch.setattr(dblog, "check", lambda *_: pytest.fail("read again"))
    assert all(one.problem for one in looks(watch, 2.0, 3.0, 1000.0))


def test_a_link_that_is_replaced_by_a_file_is_followed(paths: Paths, tmp_path: Path) -> None:
    elsewhere = tmp_path / "conf.db"
    content = paths.conf_db.read_bytes()
    elsewhere.write_bytes(content)
    paths.conf_db.unlink()
    paths.conf_db.symlink_to(elsewhere)
    watch = ConfDbWatch(paths, 0.0)
    assert watch.look(0.0) == WELL
    elsewhere.unlink()
    paths.conf_db.unlink()
    paths.conf_db.write_bytes(content)
    assert watch.look(1.0) == WELL


def test_a_copy_is_due_once_in_a_while_of_what_is_whole(paths: Paths) -> None:
    watch = ConfDbWatch(paths, 0.0)
    due = OnDisk(copy_is_due=True)
    at_s = (0.0, COPY_EVERY_S - 1.0, COPY_EVERY_S, COPY_EVERY_S + 1.0, 2 * COPY_EVERY_S)
    assert looks(watch, *at_s) == [WELL, WELL, due, WELL, due]
    os.truncate(str(paths.conf_db), 5)
    assert not any(one.copy_is_due for one in looks(watch, 4 * COPY_EVERY_S, 4 * COPY_EVERY_S + 1.0))


def test_what_cannot_be_looked_at_is_left_alone(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    assert ConfDbWatch(paths._replace(root=tmp_path / "file"), 0.0).look(0.0) == WELL
