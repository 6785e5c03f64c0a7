"""A host that had a configuration never silently comes up with less: every way to damage conf.db, on real daemons."""

import os
import re
import shutil
import signal
from pathlib import Path
from typing import List

import pytest

from ovsxen.ovs import confdb, dblog
from ovsxen.ovs.dblog import Kind
from ovsxen.sandbox import contents
from tests.conftest import MakeHost, SandboxHost

OLD_MANAGER = contents.MANAGER
NEW_MANAGER = "ssl:192.0.2.77:6640"


@pytest.fixture
def used(host: SandboxHost) -> SandboxHost:
    """A host that was booted (so one generation is kept), got a new manager since, and is off."""
    host.start()
    host.vsctl("set-manager", NEW_MANAGER)
    host.reboot()
    return host


def records(content: bytes) -> List[int]:
    """Where each record begins."""
    starts = [0]
    while True:
        header = content[starts[-1]:].split(b"\n")[0]
        end = starts[-1] + len(header) + 1 + int(header.split(b" ")[2])
        if end >= len(content):
            return starts
        starts.append(end)


def flip(path: Path, at: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1:])


def assert_loudly_degraded(host: SandboxHost, damaged: bytes) -> str:
    """The status says so with exit code 150, and the file as it was found is kept. Gives what was said."""
    status = host.ovsxen("status", "--json")
    assert status.code == 150
    said = " ".join(status.json["problems"])
    asides = [path.read_bytes() for path in sorted(host.paths.dbdir.glob("conf.db.aside-*"))]
    assert damaged in asides
    assert len(host.beside("recovery")) == len(asides)
    return said


def test_a_torn_last_record_costs_that_record_only(used: SandboxHost) -> None:
    content = used.paths.conf_db.read_bytes()
    used.paths.conf_db.write_bytes(content[:-7])
    done = used.start()
    assert done.phase("database")["outcome"] == "degraded"
    assert used.vsctl("get-manager") == NEW_MANAGER
    said = assert_loudly_degraded(used, content[:-7])
    assert "its good part" in said and "record" in said


def test_a_damaged_record_in_the_middle_brings_the_last_good_generation(used: SandboxHost) -> None:
    content = used.paths.conf_db.read_bytes()
    flip(used.paths.conf_db, records(content)[1] + 100)
    damaged = used.paths.conf_db.read_bytes()
    used.start()
    assert used.vsctl("get-manager") == OLD_MANAGER
    said = assert_loudly_degraded(used, damaged)
    assert "conf.db.good-000001" in said and "lost: what was changed after its" in said


def test_a_damaged_schema_record_brings_the_last_good_generation(used: SandboxHost) -> None:
    flip(used.paths.conf_db, 200)
    damaged = used.paths.conf_db.read_bytes()
    used.start()
    assert used.vsctl("get-manager") == OLD_MANAGER
    assert_loudly_degraded(used, damaged)


@pytest.mark.parametrize("content", [
    b"", b"\0" * 20000, b"junk\n", b"OVSDB CLUSTER 5 %s\n{}\n" % (b"0" * 40), b"OVSDB JSON",
], ids=["empty", "zeros", "junk", "clustered", "cut"])
def test_whatever_else_lies_there_brings_the_last_good_generation(used: SandboxHost, content: bytes) -> None:
    used.paths.conf_db.write_bytes(content)
    used.start()
    assert used.vsctl("get-manager") == OLD_MANAGER
    assert_loudly_degraded(used, content)


def test_a_foreign_database_is_kept_and_not_served(used: SandboxHost) -> None:
    used.paths.conf_db.unlink()
    used.tool("ovsdb-tool", "create", str(used.paths.conf_db), "/usr/share/openvswitch/local-config.ovsschema")
    foreign = used.paths.conf_db.read_bytes()
    used.start()
    assert used.vsctl("get-manager") == OLD_MANAGER
    assert "foreign" in assert_loudly_degraded(used, foreign)


def test_a_clustered_database_made_by_the_real_tool_is_told_apart(used: SandboxHost) -> None:
    used.paths.conf_db.unlink()
    used.tool("ovsdb-tool", "create-cluster", str(used.paths.conf_db), str(used.paths.schema), "tcp:127.0.0.1:6644")
    clustered = used.paths.conf_db.read_bytes()
    used.start()
    assert "clustered" in assert_loudly_degraded(used, clustered)


def test_a_database_that_vanished_comes_back_from_its_generation(used: SandboxHost) -> None:
    used.paths.conf_db.unlink()
    used.start()
    assert used.vsctl("get-manager") == OLD_MANAGER
    status = used.ovsxen("status", "--json")
    assert status.code == 150 and "absent" in " ".join(status.json["problems"])


def test_a_directory_in_its_place_is_set_aside(used: SandboxHost) -> None:
    used.paths.conf_db.unlink()
    used.paths.conf_db.mkdir()
    (used.paths.conf_db / "x").write_text("x")
    used.start()
    assert used.vsctl("get-manager") == OLD_MANAGER
    assert (used.paths.dbdir / "conf.db.aside-000001/x").exists()


def test_a_link_to_nowhere_is_set_aside(used: SandboxHost) -> None:
    used.paths.conf_db.unlink()
    used.paths.conf_db.symlink_to("/nonexistent/conf.db")
    used.start()
    assert used.vsctl("get-manager") == OLD_MANAGER
    assert os.readlink(str(used.paths.dbdir / "conf.db.aside-000001")) == "/nonexistent/conf.db"


def test_a_link_to_another_file_system_stays_a_link(used: SandboxHost) -> None:
    elsewhere = used.paths.root / "elsewhere"
    elsewhere.mkdir()
    used.paths.conf_db.rename(elsewhere / "ovs.db")
    used.paths.conf_db.symlink_to("../../elsewhere/ovs.db")
    used.start()
    assert used.paths.conf_db.is_symlink()
    assert used.vsctl("get-manager") == NEW_MANAGER
    used.reboot()
    flip(elsewhere / "ovs.db", 200)
    used.start()
    assert used.paths.conf_db.is_symlink()
    assert used.vsctl("get-manager") == NEW_MANAGER


def test_without_any_copy_the_host_comes_up_empty_and_says_so_loudly(make_host: MakeHost) -> None:
    host = make_host()
    flip(host.paths.conf_db, 200)
    damaged = host.paths.conf_db.read_bytes()
    done = host.start()
    assert "EMPTY" in done.phase("database")["reason"]
    assert host.vsctl("get-manager") == ""
    assert "EMPTY" in assert_loudly_degraded(host, damaged)
    assert host.column("external_ids:system-id") == contents.INSTALLATION_UUID


def test_a_generation_that_is_damaged_itself_is_passed_over(used: SandboxHost) -> None:
    used.start()
    used.reboot()
    newest = used.paths.dbdir / used.beside("good")[-1]
    flip(newest, newest.stat().st_size // 2)
    flip(used.paths.conf_db, 200)
    used.start()
    assert used.vsctl("get-manager") == OLD_MANAGER
    assert used.beside("good")[0] in " ".join(used.status()["problems"])


@pytest.mark.parametrize("content", ["new", "cut"])
def test_a_good_file_that_holds_less_than_its_last_good_copy_is_not_taken_for_the_configuration(
        used: SandboxHost, content: str) -> None:
    if content == "new":
        used.paths.conf_db.unlink()
        used.tool("ovsdb-tool", "create", str(used.paths.conf_db), str(used.paths.schema))
    else:
        generation = (used.paths.dbdir / used.beside("good")[0]).read_bytes()
        used.paths.conf_db.write_bytes(generation[:records(generation)[-1]])
    found = used.paths.conf_db.read_bytes()
    used.start()
    assert used.vsctl("get-manager") == OLD_MANAGER
    assert "shorter than its last good copy" in assert_loudly_degraded(used, found)


def test_a_file_that_was_compacted_is_not_taken_for_a_shorter_one(used: SandboxHost) -> None:
    for _ in range(3):
        used.start()
        used.vsctl("add-br", "xenbr9")
        used.vsctl("del-br", "xenbr9")
    used.reboot()
    used.tool("ovsdb-tool", "compact", str(used.paths.conf_db))
    assert used.start().phase("database")["outcome"] == "unchanged"
    assert used.vsctl("get-manager") == NEW_MANAGER
    assert used.status()["verdict"] == "running"


def test_a_clock_that_ran_backwards_brings_no_older_configuration(used: SandboxHost) -> None:
    content = used.paths.conf_db.read_bytes()
    from tests.ovs.test_dblog import record
    data = content[:records(content)[1]]
    for begin, end in zip(records(content)[1:], records(content)[2:] + [len(content)]):
        data += record(re.sub(rb'"_date":\d+', b'"_date":7', content[begin:end].split(b"\n", 1)[1]))
    used.paths.conf_db.write_bytes(data[:-3])
    used.start()
    assert used.vsctl("get-manager") == NEW_MANAGER


def test_damage_within_what_the_newest_copy_has_whole_brings_the_copy(used: SandboxHost) -> None:
    used.start()
    used.reboot()
    newest = (used.paths.dbdir / used.beside("good")[-1]).read_bytes()
    assert NEW_MANAGER.encode() in newest
    flip(used.paths.conf_db, records(newest)[2] + 100)
    used.start()
    assert used.vsctl("get-manager") == NEW_MANAGER


@pytest.mark.parametrize("nonsense", [b"null\n", b'{"a":NaN}\n'])
def test_a_record_that_is_no_transaction_is_damage(used: SandboxHost, nonsense: bytes) -> None:
    from tests.ovs.test_dblog import record
    content = used.paths.conf_db.read_bytes() + record(nonsense)
    used.paths.conf_db.write_bytes(content)
    assert used.start().phase("database")["outcome"] == "degraded"
    assert used.vsctl("get-manager") == NEW_MANAGER
    assert_loudly_degraded(used, content)


def test_a_directory_whose_recovery_was_killed_is_not_forgotten(make_host: MakeHost) -> None:
    host = make_host()
    host.paths.conf_db.unlink()
    (host.paths.dbdir / "conf.db.aside-000001").mkdir()  # what a start leaves that was killed after it moved it there
    host.start()
    assert "EMPTY" in " ".join(host.status()["problems"])


def test_files_of_the_administrator_beside_it_are_left_alone(host: SandboxHost) -> None:
    names = ["conf.db.tmp-backup-of-mine", "conf.db.mine.staged", ".conf.db.swp", "conf.db.good", "conf.db.good-1"]
    for name in names:
        (host.paths.dbdir / name).write_text("precious")
    (host.paths.dbdir / "conf.db.tmp").mkdir()
    host.start()
    assert [(host.paths.dbdir / name).read_text() for name in names] == ["precious"] * len(names)


def test_a_record_that_is_whole_but_makes_no_sense_is_noticed_through_the_server(used: SandboxHost) -> None:
    from tests.ovs.test_dblog import record
    content = used.paths.conf_db.read_bytes() + record({"_date": 1, "Nonesuch": {}}) + record({"_date": 2})
    used.paths.conf_db.write_bytes(content)
    done = used.start()
    assert done.phase("ovsdb-server")["outcome"] == "degraded"
    assert "Nonesuch" in assert_loudly_degraded(used, content)
    assert used.vsctl("get-manager") == NEW_MANAGER
    for _ in range(3):
        assert used.ovsxen("restart").code == 0
    assert len(used.beside("aside")) == 1
    assert all(dblog.check(used.paths.dbdir / name, "Open_vSwitch").kind is Kind.GOOD for name in used.beside("good"))


@pytest.mark.parametrize("log", ["off", "partly off", "unwritable"])
def test_a_record_that_makes_no_sense_is_noticed_without_a_log_too(used: SandboxHost, log: str) -> None:
    from tests.ovs.test_dblog import record
    if log != "unwritable":
        option = "-vfile:off" if log == "off" else "-vovsdb_server:file:off"
        used.write(used.paths.sysconfig, 'VSWITCHD_MLOCKALL=no\nOVS_CTL_OPTS="--ovsdb-server-options=%s '
                   '--ovs-vswitchd-options=--enable-dummy=override"\n' % option)
    else:
        shutil.rmtree(str(used.paths.logdir))
        used.paths.logdir.write_text("in the way")
    content = used.paths.conf_db.read_bytes() + record({"_date": 1, "Nonesuch": {}})
    used.paths.conf_db.write_bytes(content)
    assert used.start().phase("ovsdb-server")["outcome"] == "degraded"
    assert "Nonesuch" in assert_loudly_degraded(used, content)


@pytest.mark.parametrize("records_after", [0, 2])
def test_a_start_that_is_killed_before_it_noticed_such_a_record_leaves_that_to_the_next(
        used: SandboxHost, killing_server: str, records_after: int) -> None:
    from tests.ovs.test_dblog import record
    content = used.paths.conf_db.read_bytes() + record({"_date": 1, "Nonesuch": {}})
    content += b"".join(record({"_date": 2 + number}) for number in range(records_after))
    used.paths.conf_db.write_bytes(content)
    assert used.ovsxen("start", PATH=killing_server).code == -signal.SIGKILL
    assert used.start().phase("ovsdb-server")["outcome"] == "degraded"
    assert "Nonesuch" in assert_loudly_degraded(used, content)
    used.start()
    assert len(used.beside("aside")) == 1


def test_damaged_copies_still_tell_what_conf_db_has_lost(host: SandboxHost) -> None:
    host.start()
    host.vsctl("--no-wait", "set", "Open_vSwitch", ".", "external_ids:k=v")
    host.ovsxen("restart")
    host.vsctl("--no-wait", "set", "Open_vSwitch", ".", "external_ids:unrelated=later")
    host.ovsxen("stop")
    content = host.paths.conf_db.read_bytes()
    host.paths.conf_db.write_bytes(content[:records(content)[1]])
    for name in host.beside("good"):
        path = host.paths.dbdir / name
        path.write_bytes(path.read_bytes()[:-1])
    done = host.start()
    assert done.phase("database")["outcome"] == "degraded"
    assert host.vsctl("get-manager") == OLD_MANAGER
    assert_loudly_degraded(host, content[:records(content)[1]])


@pytest.mark.parametrize("way", ["repeated", "missing"])
def test_a_record_that_is_there_twice_or_not_any_more_is_noticed_by_the_last_good_copy(
        host: SandboxHost, way: str) -> None:
    host.start()
    for key in ("one", "two", "three"):
        host.vsctl("--no-wait", "set", "Open_vSwitch", ".", "external_ids:%s=precious" % key)
    host.ovsxen("restart")
    host.ovsxen("stop")
    content = host.paths.conf_db.read_bytes()
    at = max(start for start in records(content) if b'"two"' in content[start:].split(b"\nOVSDB ")[0])
    end = records(content)[records(content).index(at) + 1]
    damaged = content[:at] + content[at:end] * (2 if way == "repeated" else 0) + content[end:]
    host.paths.conf_db.write_bytes(damaged)
    assert host.start().phase("database")["outcome"] == "degraded"
    assert [host.column("external_ids:%s" % key) for key in ("one", "two", "three")] == ["precious"] * 3
    assert_loudly_degraded(host, damaged)


def test_a_large_schema_alone_is_less_than_a_small_copy(tmp_path: Path) -> None:
    from tests.ovs.test_dblog import SCHEMA, make_log, record
    (tmp_path / "conf.db.good-000001-1-2").write_bytes(make_log({"_date": 1, "Open_vSwitch": {}}))
    conf_db = tmp_path / "conf.db"
    conf_db.write_bytes(record(dict(SCHEMA, tables={"x" * 4096: {}})))
    found = confdb.observe(conf_db, Path("/usr/share/openvswitch/vswitch.ovsschema"))
    assert found.log.kind is Kind.SHORTER


def test_a_compacted_database_is_no_other_than_its_last_good_copy(host: SandboxHost) -> None:
    host.start()
    host.ovsxen("stop")
    host.tool("ovsdb-tool", "compact", str(host.paths.conf_db))
    assert host.start().phase("database")["outcome"] == "unchanged"


def test_the_verdict_stays_degraded_until_the_administrator_has_dealt_with_it(used: SandboxHost) -> None:
    flip(used.paths.conf_db, 200)
    used.start()
    used.start()
    used.reboot()
    used.start()
    assert used.ovsxen("status").code == 150
    for name in used.beside("recovery"):
        (used.paths.dbdir / name).unlink()
    assert used.ovsxen("status").code == 0


def test_the_same_damage_is_set_aside_once_however_often_a_start_is_killed_over_it(used: SandboxHost) -> None:
    flip(used.paths.conf_db, 200)
    damaged = used.paths.conf_db.read_bytes()
    # what a start leaves that was killed after it set the file aside and before it put another in its place
    os.link(str(used.paths.conf_db), str(used.paths.dbdir / "conf.db.aside-000001"))
    used.start()
    assert used.beside("aside") == ["conf.db.aside-000001"]
    assert_loudly_degraded(used, damaged)


def test_good_generations_are_kept_for_each_boot_and_do_not_pile_up(host: SandboxHost) -> None:
    for number in range(5):
        host.start()
        host.vsctl("add-br", "b%d" % number)
        host.reboot()
    names = host.beside("good")
    assert [name[:19] for name in names] == ["conf.db.good-000004", "conf.db.good-000005"]
    cksum = host.tool("ovsdb-tool", "schema-cksum", str(host.paths.schema)).replace(" ", "-")
    for name in names:
        path = host.paths.dbdir / name
        assert name.endswith(cksum)
        assert path.stat().st_mode & 0o777 == 0o640
        assert dblog.check(path, "Open_vSwitch").kind is Kind.GOOD
    assert b"b3" in (host.paths.dbdir / names[1]).read_bytes()


def test_a_start_that_finds_everything_as_the_newest_copy_keeps_no_other(host: SandboxHost) -> None:
    host.start()
    host.ovsxen("stop")
    newest = host.paths.dbdir / host.beside("good")[-1]
    shutil.copy(str(newest), str(host.paths.conf_db))
    host.start()
    assert host.beside("good") == [newest.name]


def test_leftovers_of_a_killed_run_are_cleaned_up(host: SandboxHost) -> None:
    for name in (".conf.db.123.staged", "..conf.db.123.staged.~lock~", ".conf.db.123.staged-compacted",
                 ".conf.db.good-000001-1-2.9.staged", "conf.db.tmp"):
        (host.paths.dbdir / name).write_text("x")
    host.start()
    names = sorted(path.name for path in host.paths.dbdir.iterdir())
    assert names == [".conf.db.~lock~", "conf.db"] + host.beside("good")


def test_a_database_that_another_process_has_open_is_not_touched(host: SandboxHost) -> None:
    before = host.paths.conf_db.read_bytes()
    other = host.paths.root / "other"
    other.mkdir()
    host.tool("ovsdb-server", str(host.paths.conf_db), "--detach", "--no-chdir", "--pidfile=%s/pid" % other,
              "--unixctl=%s/ctl" % other, "--log-file=%s/log" % other, "--remote=punix:%s/sock" % other)
    pid = int((other / "pid").read_text())
    try:
        done = host.ovsxen("start", "--json")
        assert done.code == 1
        assert "locked by ovsdb-server (pid %d)" % pid in done.phase("database")["reason"]
        assert host.paths.conf_db.read_bytes() == before
    finally:
        host.tool("ovs-appctl", "-t", "%s/ctl" % other, "exit")


# Conversion


def test_an_older_database_is_converted_and_the_original_kept(host: SandboxHost) -> None:
    host.install_schema("9.0.0", without="rstp_enable")
    before = host.paths.conf_db.read_bytes()
    planned = host.ovsxen("start", "--json", "--dry-run").phase("database")
    assert planned["outcome"] == "would" and "to 9.0.0" in planned["reason"]
    assert host.paths.conf_db.read_bytes() == before
    done = host.start().phase("database")
    assert (done["outcome"], done["reason"]) == ("done", planned["reason"])
    assert host.tool("ovsdb-tool", "db-version", str(host.paths.conf_db)) == "9.0.0"
    assert host.vsctl("get-manager") == OLD_MANAGER
    assert host.column("db_version") == "9.0.0"
    assert (host.paths.dbdir / host.beside("good")[0]).read_bytes() == before
    assert host.status()["verdict"] == "running"
    assert all(dblog.check(host.paths.dbdir / name, "Open_vSwitch").kind is Kind.GOOD for name in host.beside("good"))


def test_a_schema_older_than_the_database_is_said_and_the_newer_original_stays_kept(host: SandboxHost) -> None:
    original = host.paths.conf_db.read_bytes()
    host.install_schema("7.0.0", without="fail_mode")
    reason = host.start().phase("database")["reason"]
    assert "OLDER" in reason
    assert host.vsctl("get-manager") == OLD_MANAGER
    for _ in range(4):
        host.reboot()
        host.start()
    assert original in [(host.paths.dbdir / name).read_bytes() for name in host.beside("good")]


def test_a_conversion_that_fails_leaves_the_database_as_it_was_and_the_host_up(
        host: SandboxHost, tmp_path: Path) -> None:
    host.install_schema("9.0.0", without="rstp_enable")
    (tmp_path / "ovsdb-tool").write_text(
        "#!/bin/sh\ncase \"$*\" in *convert*schema) case \"$*\" in *needs*) ;; *) echo boom >&2; exit 1;; esac;; "
        "*' convert '*) echo 'ovsdb-tool: boom' >&2; exit 1;; esac\nexec /usr/bin/ovsdb-tool \"$@\"\n")
    (tmp_path / "ovsdb-tool").chmod(0o755)
    host.env["PATH"] = "%s:%s" % (tmp_path, os.environ["PATH"])
    done = host.start().phase("database")
    assert done["outcome"] == "degraded" and "NOT converted" in done["reason"] and "boom" in done["reason"]
    assert host.tool("ovsdb-tool", "db-version", str(host.paths.conf_db)) != "9.0.0"
    assert host.vsctl("get-manager") == OLD_MANAGER
    assert host.ovsxen("status").code == 150


def test_a_start_with_nothing_to_convert_does_without_the_tool(host: SandboxHost, tmp_path: Path) -> None:
    (tmp_path / "ovsdb-tool").write_text("#!/bin/sh\nkill -ILL $$\n")
    (tmp_path / "ovsdb-tool").chmod(0o755)
    done = host.ovsxen("start", "--json", PATH="%s:%s" % (tmp_path, os.environ["PATH"]))
    assert done.phase("database")["outcome"] == "unchanged"
    assert host.status()["verdict"] == "running"


def test_a_tool_that_crashes_is_told_from_a_bad_database(host: SandboxHost, tmp_path: Path) -> None:
    host.install_schema("9.0.0")
    (tmp_path / "ovsdb-tool").write_text("#!/bin/sh\nkill -ILL $$\n")
    (tmp_path / "ovsdb-tool").chmod(0o755)
    done = host.ovsxen("start", "--json", PATH="%s:%s" % (tmp_path, os.environ["PATH"]))
    phase = done.phase("database")
    assert done.code == 0 and phase["outcome"] == "degraded" and "SIGILL" in phase["reason"]
    assert host.beside("aside") == []
    assert host.vsctl("get-manager") == OLD_MANAGER
