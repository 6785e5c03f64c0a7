"""The verdict, and its contract."""

import json
import signal
from pathlib import Path
from typing import Any, Iterator, Tuple

import pytest

from ovsxen.answer import Answer, UpdateReport, write_update_report
from ovsxen.host.settings import Settings
from ovsxen.look import Health
from ovsxen.ovs import daemons, launch, ovsdb
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.status import Verdict, decide
from ovsxen.watch_report import ENDED, Attempts, Event, WatchReport, write_watch_report
from tests.conftest import REPOSITORY, SandboxHost

RUNNING, HUNG, DEAD, STOPPED = Health.RUNNING, Health.HUNG, Health.DEAD, Health.STOPPED


@pytest.mark.parametrize("server, vswitchd, disabled, problems, verdict, code", [
    (RUNNING, RUNNING, False, (), Verdict.RUNNING, 0),
    (RUNNING, RUNNING, False, ("x",), Verdict.DEGRADED, 150),
    (RUNNING, RUNNING, True, (), Verdict.DEGRADED, 150),
    (HUNG, RUNNING, False, ("x",), Verdict.UNKNOWN, 4),
    (RUNNING, HUNG, False, ("x",), Verdict.UNKNOWN, 4),
    (DEAD, HUNG, False, ("x",), Verdict.UNKNOWN, 4),
    (RUNNING, DEAD, False, ("x",), Verdict.DEAD, 1),
    (DEAD, RUNNING, False, ("x",), Verdict.DEAD, 1),
    (DEAD, STOPPED, True, ("x",), Verdict.DEAD, 1),
    (STOPPED, STOPPED, False, ("x",), Verdict.STOPPED, 3),
    (RUNNING, STOPPED, False, ("x",), Verdict.STOPPED, 3),
    (STOPPED, RUNNING, False, ("x",), Verdict.DEGRADED, 150),
    (STOPPED, STOPPED, True, (), Verdict.DISABLED, 3),
])
def test_the_worst_decides(server: Health, vswitchd: Health, disabled: bool, problems: Tuple[str, ...],
                           verdict: Verdict, code: int) -> None:
    assert decide(disabled, server, vswitchd, bool(problems)) is verdict
    assert verdict.exit_code == code


def test_a_host_that_was_never_started_is_stopped(host: SandboxHost) -> None:
    done = host.ovsxen("status")
    assert done.code == 3 and "ovsxen start" in done.out


def test_text_and_json_tell_the_same(host: SandboxHost) -> None:
    host.start()
    text, status = host.ovsxen("status"), host.ovsxen("status", "--json")
    assert text.code == status.code == 0
    assert text.out.startswith("Open vSwitch is running\n")
    for name in (OVSDB_SERVER, VSWITCHD):
        assert status.json["daemons"][name]["pid"] == host.pid(name)
        assert "pid %d" % host.pid(name) in text.out
    assert (status.json["link"], status.json["bridges"]) == ("up", 0)


@pytest.mark.parametrize("name", [OVSDB_SERVER, VSWITCHD])
def test_a_stopped_daemon_is_never_running(host: SandboxHost, name: str) -> None:
    host.start()
    host.signal(name, signal.SIGSTOP)
    status = host.ovsxen("status", "--json")
    assert status.code == 4 and status.json["daemons"][name]["state"] == "hung"
    assert "kill -CONT %d" % host.pid(name) in " ".join(status.json["problems"])
    host.signal(name, signal.SIGCONT)


def test_a_switch_that_still_runs_in_bridge_mode_is_degraded(host: SandboxHost) -> None:
    host.start()
    host.write(host.paths.network_conf, "bridge\n")
    assert host.ovsxen("status").code == 150
    assert host.ovsxen("stop").code == 0
    assert host.ovsxen("status").code == 3


def test_in_bridge_mode_nobody_is_told_to_start_what_is_to_stay_off(host: SandboxHost, tmp_path: Path) -> None:
    assert host.ovsxen("start", OVS_PKGDATADIR=str(tmp_path)).code == 5
    assert any("at this boot, host failed" in problem for problem in host.status()["problems"])
    host.write(host.paths.network_conf, "bridge\n")
    assert (host.status()["verdict"], host.status()["problems"]) == ("disabled", [])


def test_a_switch_that_has_not_configured_everything_is_behind(host: SandboxHost) -> None:
    host.start()
    host.signal(VSWITCHD, signal.SIGKILL)
    next_cfg = int(host.column("next_cfg")) + 1
    host.vsctl("--no-wait", "set", "Open_vSwitch", ".", "next_cfg=%d" % next_cfg)
    with Connection(host.paths.db_sock, OVSDB_SERVER, 5) as connection:
        assert ovsdb.wait_configured(connection, next_cfg - 1, 0.2)
        assert not ovsdb.wait_configured(connection, next_cfg, 0.2)


def test_a_vswitchd_that_has_lost_its_server_is_not_connected(host: SandboxHost) -> None:
    host.start()
    assert daemons.are_linked(*(daemons.find(host.paths, name) for name in (OVSDB_SERVER, VSWITCHD))) is True
    host.signal(VSWITCHD, signal.SIGSTOP)
    assert daemons.stop(host.paths, OVSDB_SERVER).how == "exit"
    argv = launch.ovsdb_server_argv(host.paths, Settings(), ())
    server = daemons.start(host.paths, argv, 0, 20)
    assert daemons.are_linked(server, daemons.find(host.paths, VSWITCHD)) is False
    host.signal(VSWITCHD, signal.SIGCONT)
    assert host.ovsxen("start").code == 0
    assert host.status()["link"] == "up"


@pytest.mark.parametrize("path", ["network_conf", "boot_id"])
def test_a_host_that_cannot_be_looked_at_is_unknown_and_the_json_says_so(host: SandboxHost, path: str) -> None:
    unreadable = getattr(host.paths, path)
    unreadable.unlink()
    unreadable.mkdir()
    done = host.ovsxen("status", "--json")
    assert (done.code, done.json["verdict"]) == (4, "unknown")
    assert str(unreadable) in done.json["problems"][0]
    assert host.ovsxen("status").code == 4


def test_looking_changes_nothing_on_the_wire(host: SandboxHost) -> None:
    host.start()
    before = host.paths.conf_db.read_bytes()
    for _ in range(3):
        host.ovsxen("status")
    assert host.paths.conf_db.read_bytes() == before
    log = host.paths.log(VSWITCHD).read_text()
    assert "another ovs-vswitchd" not in log


def test_a_server_that_lets_no_manager_connect_is_not_fine(host: SandboxHost, killing_server: str) -> None:
    host.start()
    host.signal(OVSDB_SERVER, signal.SIGKILL)
    assert host.ovsxen("start", PATH=killing_server).code == -signal.SIGKILL
    said = " ".join(host.status()["problems"])
    assert "managers" in said
    assert "interrupted" in said
    host.start()
    assert host.status()["verdict"] == "running"


@pytest.mark.parametrize("name", [OVSDB_SERVER, VSWITCHD])
@pytest.mark.parametrize("content", ["1", "nonsense", ""])
def test_a_pidfile_that_does_not_name_its_daemon_is_a_problem_until_a_start(
        host: SandboxHost, name: str, content: str) -> None:
    host.start()
    before, pidfile = host.pid(name), host.paths.pidfile(name)
    pidfile.write_text(content)
    assert host.ovsxen("status").code == 150
    problems = " ".join(host.status()["problems"])
    assert str(pidfile) in problems and "run `ovsxen start`" in problems and "restart" not in problems
    assert host.ovsxen("start", "--dry-run").code == 0 and pidfile.read_text() == content
    host.start()
    assert pidfile.read_text() == "%d\n" % before and host.pid(name) == before
    assert host.status()["verdict"] == "running"


@pytest.mark.parametrize("name", [OVSDB_SERVER, VSWITCHD])
def test_a_pidfile_that_is_gone_is_a_problem_until_a_restart(host: SandboxHost, name: str) -> None:
    host.start()
    pidfile = host.paths.pidfile(name)
    pidfile.unlink()
    assert host.ovsxen("status").code == 150
    assert str(pidfile) in " ".join(host.status()["problems"])
    assert host.ovsxen("start").code == 1
    assert host.ovsxen("restart").code == 0
    assert host.status()["verdict"] == "running"


def keys_of(value: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of all members; names that are data (a daemon's) and lists' items stand as NAME and []."""
    if isinstance(value, dict):
        for key, member in value.items():
            name = "NAME" if key in (OVSDB_SERVER, VSWITCHD) else key
            yield prefix + name
            yield from keys_of(member, prefix + name + ".")
    elif isinstance(value, list):
        for member in value:
            yield from keys_of(member, prefix[:-1] + "[].")


def documented() -> str:
    return (REPOSITORY / "docs/status.md").read_text()


def test_every_member_of_the_json_is_documented_and_nothing_else(host: SandboxHost) -> None:
    host.start()
    write_update_report(host.paths.update_report, UpdateReport("now", Answer("text", ("change",), ("note",))))
    write_watch_report(host.paths.watch_report, WatchReport(
        host.paths.boot_id.read_text().strip(), 1, 1, 0.0, ENDED, (), Attempts(), (Event("now", "text"),)))
    assert host.ovsxen("sync", "--detach").code == 0
    members = set(keys_of(host.status()))
    assert host.ovsxen("sync", "--stop").code == 0
    rows = [line for line in documented().splitlines() if line.startswith("| `") and line.count("|") == 3]
    assert members == {row.split("`")[1] for row in rows}


def test_the_documented_schema_version_is_the_one_that_is_printed(host: SandboxHost) -> None:
    status = json.loads(host.ovsxen("status", "--json").out)
    assert "`schema` is %d" % status["schema"] in documented()


def test_a_report_of_another_boot_is_not_believed(host: SandboxHost) -> None:
    host.start()
    report = Path(str(host.paths.boot_report))
    text = json.loads(report.read_text())
    host.reboot()
    host.paths.rundir.mkdir()
    report.write_text(json.dumps(text))
    assert host.status()["boot"] is None
    report.write_text("{")
    assert host.status()["boot"] is None
