"""What the init system, logrotate and the administrator get: files that agree with ovsxen and decide nothing."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from ovsxen import agreeing, lifecycle, sequence, sync, take_over
from ovsxen.host import notify, process, systemd
from ovsxen.host.assignments import parse_assignments
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.host.settings import OVS_CTL_OPTIONS, SYSCONFIG, Settings, parse_settings
from ovsxen.ovs import daemons, evidence
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, XAPI_SYNC, State
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import make_world
from tests.conftest import LIMIT_S, REPOSITORY, Finished, SandboxHost
from tools.lint_units import find_refusals, parse_unit

INITSCRIPTS = REPOSITORY / "initscripts"
SCRIPT = INITSCRIPTS / "openvswitch"
UPDATE_SCRIPT = INITSCRIPTS / "openvswitch-xapi-update"
UNIT = INITSCRIPTS / "openvswitch.service"
SYNC_UNIT = INITSCRIPTS / systemd.SYNC_UNIT
UNITS = (UNIT, SYNC_UNIT)
SYSCONFIG_TEMPLATE = INITSCRIPTS / "sysconfig.openvswitch"
LOGROTATE = INITSCRIPTS / "logrotate.openvswitch"

MACHINE = Paths(Path("/"), Path("/usr/share/openvswitch"))
VERBS = ("start", "stop", "restart", "reload", "force-reload", "force-reload-kmod", "status", "version", "load-kmod",
         "help")
SHELLS = tuple(shell for shell in ("dash", "bash") if shutil.which(shell)) or ("sh",)


def run(argv: Tuple[str, ...], env: Dict[str, str]) -> Finished:
    return Finished(subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, universal_newlines=True, timeout=LIMIT_S))


# The SysV script


def service(host: SandboxHost, program: Path, *arguments: str, shell: str = SHELLS[0]) -> Finished:
    """The script, as rc runs it on this host, with `program` in the place of /usr/bin/ovsxen."""
    return run((shell, str(SCRIPT)) + arguments, host.environment(OVSXEN=str(program)))


def install_program(host: SandboxHost, command: str) -> Path:
    """A program of one shell command where the host has its ovsxen."""
    program = host.paths.root / "usr/bin/ovsxen"
    host.write(program, "#!/bin/sh\n%s\n" % command)
    program.chmod(0o755)
    return program


def install_ovsxen(host: SandboxHost) -> Path:
    return install_program(host, 'exec "%s" -m ovsxen "$@"' % sys.executable)


def make_subsys_lock(host: SandboxHost) -> Path:
    """The name of the file that Red Hat's rc looks for; its directory is made, the file is not."""
    lock = host.paths.root / "var/lock/subsys/openvswitch"
    lock.parent.mkdir(parents=True)
    return lock


def read_lsb_block(text: str) -> Dict[str, str]:
    block = text.split("### BEGIN INIT INFO\n")[1].split("### END INIT INFO\n")[0]
    lines = [re.fullmatch(r"# ([A-Za-z-]+):(.*)", line) for line in block.splitlines()]
    assert all(lines), block
    return {line.group(1): line.group(2).strip() for line in lines if line}


def kill_watcher(host: SandboxHost) -> None:
    watching = host.watcher()
    assert watching is not None and process.send_signal(watching, signal.SIGKILL)
    assert Deadline(LIMIT_S).wait_until(lambda: process.has_ended(watching))


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_of_this_machine_can_read_the_script(shell: str) -> None:
    done = run((shell, "-n", str(SCRIPT)), dict(os.environ))
    assert (done.code, done.out, done.err) == (0, "", "")


def test_the_script_is_an_executable_of_the_shell_that_every_host_has() -> None:
    assert os.access(str(SCRIPT), os.X_OK)
    assert SCRIPT.read_text().startswith("#!/bin/sh\n")


def test_the_script_starts_before_network_and_stops_after_it() -> None:
    text = SCRIPT.read_text()
    assert re.findall(r"^# chkconfig: (.*)$", text, re.MULTILINE) == ["2345 09 91"]
    assert re.search(r"^# description: \S.*[^\\]$", text, re.MULTILINE)


def test_the_lsb_block_names_no_dependency_that_could_move_the_script() -> None:
    block = read_lsb_block(SCRIPT.read_text())
    assert block.pop("Short-Description")
    assert block.pop("Description")
    assert block == {"Provides": "openvswitch-switch", "Required-Start": "", "Required-Stop": "",
                     "Default-Start": "2 3 4 5", "Default-Stop": "0 1 6"}


def test_the_script_reads_no_other_script() -> None:
    assert not re.search(r"^\s*(\.|source|eval)\s", SCRIPT.read_text(), re.MULTILINE)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_boots_restarts_and_stops_a_real_switch(host: SandboxHost, shell: str) -> None:
    program, lock = install_ovsxen(host), make_subsys_lock(host)

    assert service(host, program, "status", shell=shell).code == 3
    started = service(host, program, "start", shell=shell)
    assert (started.code, started.err) == (0, ""), started
    assert lock.is_file()
    assert service(host, program, "status", shell=shell).code == 0
    assert service(host, program, "reload", shell=shell).code == 0
    first_pid = host.pid(VSWITCHD)

    assert service(host, program, "restart", shell=shell).code == 0
    assert host.pid(VSWITCHD) != first_pid
    assert lock.is_file()
    assert service(host, program, "status", shell=shell).code == 0

    assert service(host, program, "stop", shell=shell).code == 0
    assert not lock.exists()
    assert service(host, program, "status", shell=shell).code == 3


def test_start_and_stop_may_be_repeated(host: SandboxHost) -> None:
    program, lock = install_ovsxen(host), make_subsys_lock(host)
    assert [service(host, program, "start").code for _ in range(2)] == [0, 0]
    assert lock.is_file()
    assert [service(host, program, "stop").code for _ in range(2)] == [0, 0]
    assert not lock.exists()
    assert host.watcher() is None


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_switch_that_nobody_watches_is_watched_after_a_start_or_a_restart(host: SandboxHost, verb: str) -> None:
    program = install_ovsxen(host)
    assert service(host, program, "start").code == 0
    kill_watcher(host)
    assert service(host, program, verb).code == 0
    assert host.watcher() is not None


def test_in_bridge_mode_a_start_succeeds_and_status_says_stopped(host: SandboxHost) -> None:
    program = install_ovsxen(host)
    host.write(host.paths.network_conf, "bridge\n")
    assert service(host, program, "start").code == 0
    assert service(host, program, "status").code == 3
    assert daemons.find(host.paths, OVSDB_SERVER).state is State.STOPPED


def test_status_tells_a_switch_that_died(host: SandboxHost) -> None:
    program = install_ovsxen(host)
    assert service(host, program, "start").code == 0
    kill_watcher(host)
    host.signal(VSWITCHD, signal.SIGKILL)
    assert service(host, program, "status").code == 1


@pytest.mark.parametrize("code", [0, 1, 3, 4, 150])
def test_the_code_of_status_is_ovsxens(host: SandboxHost, code: int) -> None:
    assert service(host, install_program(host, "exit %d" % code), "status").code == code


@pytest.mark.parametrize("code", [1, 2, 4, 5])
def test_a_start_that_failed_leaves_no_lock_and_a_stop_that_failed_keeps_it(host: SandboxHost, code: int) -> None:
    program, lock = install_program(host, "exit %d" % code), make_subsys_lock(host)
    assert service(host, program, "start").code == code
    assert not lock.exists()
    lock.write_text("")
    assert service(host, program, "stop").code == code
    assert lock.is_file()


@pytest.mark.parametrize("option", ["--dry-run", "--dry", "--help", "-h"])
def test_what_changes_no_daemon_changes_no_lock(host: SandboxHost, option: str) -> None:
    program, lock = install_ovsxen(host), make_subsys_lock(host)
    assert service(host, program, "start", option).code == 0
    assert not lock.exists()


def test_a_host_without_subsys_directory_gets_none(host: SandboxHost) -> None:
    done = service(host, install_program(host, "exit 0"), "start")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert not (host.paths.root / "var/lock").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_its_arguments_reach_ovsxen_as_they_are(host: SandboxHost, verb: str) -> None:
    program = install_program(host, """printf '[%s]' "$@" """)
    assert service(host, program, verb, "--json", "two words", "").out == "[%s][--json][two words][]" % verb


def test_a_restart_that_went_well_is_followed_by_a_daemon_that_only_complains(host: SandboxHost) -> None:
    program = install_program(host, 'echo "$*"; echo "$*" >&2; [ "$*" != "restart --bad" ]')
    done = service(host, program, "restart", "--save-flows")
    assert (done.code, done.out, done.err) == (
        0, "restart --save-flows\n", "restart --save-flows\ndaemon --detach\nsync --stop\nsync --detach\n")
    done = service(host, program, "restart", "--bad")
    assert (done.code, done.err) == (1, "restart --bad\n")


@pytest.mark.parametrize("arguments", [(), ("",), ("bounce",), ("sandbox", "/tmp/x"), ("*",), ("--help",)])
@pytest.mark.parametrize("shell", SHELLS)
def test_an_unknown_verb_is_a_usage_error_that_names_the_verbs(host: SandboxHost, shell: str,
                                                               arguments: Tuple[str, ...]) -> None:
    done = service(host, install_program(host, "echo it ran"), *arguments, shell=shell)
    assert (done.code, done.out) == (2, "")
    assert "{%s}" % "|".join(VERBS) in done.err


def test_ovsxens_own_usage_error_is_passed_on(host: SandboxHost) -> None:
    done = service(host, install_ovsxen(host), "restart", "--no-such-option")
    assert done.code == 2
    assert "--no-such-option" in done.err


@pytest.mark.parametrize("verb", VERBS)
def test_without_ovsxen_every_verb_says_so(host: SandboxHost, verb: str) -> None:
    done = service(host, host.paths.root / "usr/bin/ovsxen", verb)
    assert (done.code, done.out) == (4 if verb == "status" else 5, "")
    assert "usr/bin/ovsxen is not there" in done.err


def test_the_update_script_runs_after_xapi_and_only_at_start(host: SandboxHost) -> None:
    text = UPDATE_SCRIPT.read_text()
    assert re.findall(r"^# chkconfig: (.*)$", text, re.MULTILINE) == ["2345 95 01"]
    assert os.access(str(UPDATE_SCRIPT), os.X_OK)
    program = install_program(host, 'echo "$@"')
    for verb, code, said in (("start", 0, "update\n"), ("restart", 0, "update\n"), ("stop", 0, ""), ("status", 2, "")):
        done = run((SHELLS[0], str(UPDATE_SCRIPT), verb), host.environment(OVSXEN=str(program)))
        assert (done.code, done.out) == (code, said)
    assert run((SHELLS[0], str(UPDATE_SCRIPT), "start"), host.environment(OVSXEN="/nonexistent")).code == 5


def test_the_update_script_makes_a_switch_agree_and_does_nothing_in_bridge_mode(host: SandboxHost) -> None:
    host.start()
    env = host.environment(OVSXEN=str(install_ovsxen(host)))
    with FakeXapi(host.paths, make_world()):
        assert run((SHELLS[0], str(UPDATE_SCRIPT), "start"), env).code == 0
    assert host.vsctl("--no-wait", "get-manager") == ""
    host.write(host.paths.network_conf, "bridge\n")
    assert run((SHELLS[0], str(UPDATE_SCRIPT), "start"), env).code == 0


# The SysV script and the sync


def install_fake_switch(host: SandboxHost, code: int = 0) -> Path:
    """A switch that does nothing and ends with `code`, beside the real sync."""
    return install_program(host, '[ "$1" = sync ] || exit %d\nexec "%s" -m ovsxen "$@"' % (code, sys.executable))


def sync_pid(host: SandboxHost) -> int:
    """0 where no sync runs."""
    found = daemons.find(host.paths, XAPI_SYNC).process
    return found.pid if found else 0


def times_read(xapi: FakeXapi) -> int:
    """How often a sync has read all VIFs, which nothing else does."""
    return xapi.calls.count("VIF.get_all_records")


def wait_for_first_update(host: SandboxHost) -> None:
    """What a sync does when it first hears XAPI is over then."""
    assert Deadline(LIMIT_S).wait_until(lambda: host.status()["update"] is not None)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_sync_is_started_after_the_switch_and_stopped_with_it(host: SandboxHost, xapi: FakeXapi, shell: str) -> None:
    program = install_ovsxen(host)
    started = service(host, program, "start", shell=shell)
    assert (started.code, started.err) == (0, ""), started
    assert XAPI_SYNC not in started.out
    assert host.tool("ovs-appctl", "-t", XAPI_SYNC, "list") == ""
    wait_for_first_update(host)

    stopped = service(host, program, "stop", shell=shell)
    assert (stopped.code, stopped.err) == (0, ""), stopped
    assert daemons.find(host.paths, XAPI_SYNC).state is State.STOPPED
    assert xapi.sessions == []


def test_a_sync_sets_ids_after_a_start_of_the_script(host: SandboxHost, xapi: FakeXapi) -> None:
    assert service(host, install_ovsxen(host), "start").code == 0
    host.vsctl("--no-wait", "add-br", "xapi7", "--", "br-set-external-id", "xapi7", "xs-network-uuids", "a-uuid")
    assert Deadline(LIMIT_S).wait_until(
        lambda: host.vsctl("--no-wait", "br-get-external-id", "xapi7", "bridge-id") == "a-uuid", every_s=0.05)


@pytest.mark.parametrize("verb", ["reload", "force-reload"])
def test_a_reload_has_the_sync_ask_xapi_for_everything(host: SandboxHost, xapi: FakeXapi, verb: str) -> None:
    program = install_ovsxen(host)
    assert service(host, program, "start").code == 0
    wait_for_first_update(host)
    before, read_before = sync_pid(host), times_read(xapi)
    done = service(host, program, verb)
    assert (done.code, done.err) == (0, ""), done
    assert Deadline(LIMIT_S).wait_until(lambda: times_read(xapi) > read_before > 0)
    assert sync_pid(host) == before != 0


def test_a_restart_is_followed_by_another_sync(host: SandboxHost) -> None:
    program = install_ovsxen(host)
    assert service(host, program, "start").code == 0
    before = sync_pid(host)
    done = service(host, program, "restart")
    assert (done.code, done.err) == (0, ""), done
    assert sync_pid(host) not in (before, 0)


@pytest.mark.parametrize("code, is_another", [(0, True), (1, False), (2, False)])
@pytest.mark.parametrize("verb", ["restart", "force-reload-kmod"])
def test_what_has_replaced_the_switch_has_the_sync_replaced(host: SandboxHost, verb: str, code: int,
                                                            is_another: bool) -> None:
    assert service(host, install_fake_switch(host), "start").code == 0
    before = sync_pid(host)
    assert service(host, install_fake_switch(host, code), verb).code == code
    assert sync_pid(host) != 0
    assert (sync_pid(host) != before) == is_another


@pytest.mark.parametrize("verb", ["start", "restart", "force-reload-kmod"])
def test_where_no_sync_runs_there_is_one_afterwards(host: SandboxHost, verb: str) -> None:
    done = service(host, install_fake_switch(host), verb)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert sync_pid(host) != 0


def test_a_start_leaves_a_sync_that_runs_as_it_is(host: SandboxHost) -> None:
    program = install_fake_switch(host)
    assert service(host, program, "start").code == 0
    before = sync_pid(host)
    again = service(host, program, "start")
    assert (again.code, again.out, again.err) == (0, "", "")
    assert sync_pid(host) == before


@pytest.mark.parametrize("code, runs", [(1, True), (2, False), (4, False), (5, False)])
def test_a_start_that_failed_leaves_a_sync_only_where_a_daemon_goes_on_trying(host: SandboxHost, code: int,
                                                                              runs: bool) -> None:
    assert service(host, install_fake_switch(host, code), "start").code == code
    assert (sync_pid(host) != 0) == runs


def test_a_stop_that_failed_leaves_a_sync(host: SandboxHost) -> None:
    assert service(host, install_fake_switch(host, 2), "stop", "--no-such-option").code == 2
    assert sync_pid(host) != 0


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "reload", "force-reload", "force-reload-kmod"])
def test_a_sync_that_fails_is_told_and_fails_nothing(host: SandboxHost, verb: str) -> None:
    lock = make_subsys_lock(host)
    program = install_program(host, 'case $1 in sync) echo said; echo "ovsxen: why" >&2; exit 1;; *) echo "$1";; esac')
    done = service(host, program, verb)
    assert (done.code, done.out) == (0, "daemon\n" if verb == "start" else verb + "\n")
    assert done.err.startswith("ovsxen: why\nopenvswitch: `ovsxen sync --") and "failed" in done.err
    assert lock.is_file() == (verb in ("start", "restart"))


@pytest.mark.parametrize("verb", ["status", "version", "load-kmod", "help"])
def test_no_other_verb_has_to_do_with_the_sync(host: SandboxHost, verb: str) -> None:
    done = service(host, install_program(host, 'echo "$*"'), verb)
    assert (done.out, done.err) == (verb + "\n", "")


@pytest.mark.parametrize("option", ["--dry-run", "--dry", "--help", "-h"])
def test_what_changes_no_daemon_starts_no_sync(host: SandboxHost, option: str) -> None:
    assert service(host, install_ovsxen(host), "start", option).code == 0
    assert sync_pid(host) == 0


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "reload", "force-reload", "force-reload-kmod"])
def test_in_bridge_mode_nothing_is_said_of_a_sync_and_none_runs(host: SandboxHost, verb: str) -> None:
    program = install_ovsxen(host)
    host.write(host.paths.network_conf, "bridge\n")
    done = service(host, program, verb)
    assert (done.code, done.err, sync_pid(host)) == (0, "", 0)
    assert "sync" not in done.out


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["restart", "force-reload-kmod"])
def test_a_signal_meanwhile_leaves_nothing_half_done(host: SandboxHost, verb: str, number: int, shell: str) -> None:
    """As where the terminal is lost with the network: ovsxen goes on to its end, and so does the script."""
    begun, go = host.paths.root / "begun", host.paths.root / "go"
    program = install_program(host, 'case $1 in sync) exec "%s" -m ovsxen "$@";; %s) : >"%s"\n'
                              'while [ ! -e "%s" ]; do sleep 0.05; done;; esac' % (sys.executable, verb, begun, go))
    script = subprocess.Popen((shell, str(SCRIPT), verb), env=host.environment(OVSXEN=str(program)),
                              stdin=subprocess.DEVNULL)
    assert Deadline(LIMIT_S).wait_until(begun.exists)
    script.send_signal(number)
    go.write_text("")
    assert script.wait(LIMIT_S) == 0
    assert sync_pid(host) != 0


# The units


def directives_of_unit(path: Path = UNIT) -> Dict[str, str]:
    return {directive.name: directive.value for directive in parse_unit(path.read_text())}


def verify(directory: Path, path: Path, extra: str = "") -> Finished:
    """What this machine's systemd says of the unit, ovsxen being installed. Man pages may be missing here."""
    for one in UNITS:
        text = one.read_text().replace("/usr/bin/ovsxen", sys.executable)
        (directory / one.name).write_text(text.replace("[Install]", extra + "[Install]"))
    unit = directory / path.name
    return run(("systemd-analyze", "--man=no", "verify", str(unit)), dict(os.environ, LC_ALL="C"))


def named(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("unit", UNITS, ids=named)
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path, unit: Path) -> None:
    done = verify(tmp_path, unit)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_systemd_has_nothing_to_say_about_what_newer_ones_get_beside_the_unit(tmp_path: Path) -> None:
    (tmp_path / (UNIT.name + ".d")).mkdir()
    shutil.copy(str(INITSCRIPTS / "openvswitch-oom.conf"), str(tmp_path / (UNIT.name + ".d")))
    done = verify(tmp_path, UNIT)
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS, ids=named)
def test_systemd_would_have_said_so(tmp_path: Path, unit: Path) -> None:
    assert "TasksMost" in verify(tmp_path, unit, "TasksMost=1\n").err


@pytest.mark.parametrize("unit", UNITS, ids=named)
def test_systemd_219_knows_every_line_of_the_units(unit: Path) -> None:
    assert find_refusals(parse_unit(unit.read_text())) == []


@pytest.mark.parametrize("section, line", [
    ("Service", "TasksMax=infinity"), ("Unit", "StartLimitIntervalSec=0"), ("Service", "RestartMode=direct"),
    ("Service", "AmbientCapabilities=CAP_NET_ADMIN"), ("Service", "RuntimeDirectoryPreserve=yes"),
    ("Service", "LogsDirectory=openvswitch"), ("Service", "ExecCondition=/bin/true"), ("Service", "Type=exec"),
    ("Service", "Type=notify-reload"), ("Service", "ProtectSystem=strict"), ("Service", "ExecStart=+/bin/true"),
    ("Service", "ExecStart=true"), ("Service", "LimitSTACK=2M"), ("Service", "LimitNOFILE=1024:65535"),
    ("Service", "OOMPolicy=continue"), ("Service", "StandardOutput=file:/tmp/x"), ("Service", "Wants=x.service"),
    ("Service", "NotifyAccess=exec"), ("Service", "TimeoutAbortSec=10"), ("Unit", "StartLimitInterval=0"),
    ("Unit", "Description=Text # no comment"), ("Service", "ExecStart=/bin/true %S/ovsxen"),
    ("Service", "Environment=LOGS=%L")])
def test_a_line_that_systemd_219_does_not_take_is_refused(section: str, line: str) -> None:
    text = UNIT.read_text().replace("[%s]\n" % section, "[%s]\n%s\n" % (section, line))
    assert [str(refusal.directive) for refusal in find_refusals(parse_unit(text))] == ["[%s] %s" % (section, line)]


def test_a_specifier_that_systemd_219_has_is_not_refused() -> None:
    assert find_refusals(parse_unit("[Service]\nExecStart=/bin/true %n %t/x 5%% %H\n")) == []


@pytest.mark.parametrize("heading", ["[Service", "Service]", "[]"])
def test_a_heading_that_is_none_is_refused(heading: str) -> None:
    refused = find_refusals(parse_unit("[Unit]\nDescription=x\n%s\nType=notify\n" % heading))
    assert refused and refused[0].directive.line in (3, 4)


def test_a_oneshot_that_systemd_219_would_have_to_restart_is_refused() -> None:
    refused = find_refusals(parse_unit("[Service]\nType=oneshot\nRestart=on-failure\n"))
    assert [refusal.directive.line for refusal in refused] == [3]


def test_every_line_of_a_unit_is_said_and_a_wrong_one_with_its_place(tmp_path: Path) -> None:
    unit = tmp_path / "odd.service"
    unit.write_text("# a comment\n[Service]\nType=notify\nTasksMax=7\nRestart=on-failure\n")
    done = run((sys.executable, "-m", "tools.lint_units", str(unit)), dict(os.environ, PYTHONPATH=str(REPOSITORY)))
    said = done.out.splitlines()
    assert [said[0], said[2]] == ["odd.service: [Service] %s: known to 219" % line for line in (
        "Type=notify", "Restart=on-failure")]
    assert said[1].startswith("%s:4: [Service] TasksMax=7: " % unit)
    assert (done.code, len(said)) == (1, 3)


def test_the_unit_is_ahead_of_everything_that_needs_the_network() -> None:
    unit = directives_of_unit()
    assert set(unit["Before"].split()) == {"xapi.service", "xcp-networkd.service", "network.target"}
    assert set(unit["After"].split()) == {"interface-rename.service", "network-pre.target"}
    assert unit["WantedBy"] == "multi-user.target"


@pytest.mark.parametrize("unit", UNITS, ids=named)
def test_no_other_unit_can_take_a_unit_down_or_hold_it_up(unit: Path) -> None:
    assert not {"PartOf", "Requires", "Requisite", "BindsTo"} & set(directives_of_unit(unit))


def test_the_sync_comes_after_the_switch_and_waits_for_nobody_else() -> None:
    unit = directives_of_unit(SYNC_UNIT)
    assert unit["After"] == UNIT.name
    assert not {"Before", "Wants"} & set(unit)
    assert unit["WantedBy"] == "multi-user.target"


def test_the_unit_kills_nothing_but_the_command_that_it_runs() -> None:
    assert directives_of_unit()["KillMode"] == "process"


@pytest.mark.parametrize("unit", UNITS, ids=named)
def test_a_unit_runs_verbs_that_ovsxen_has(host: SandboxHost, unit: Path) -> None:
    commands = [value.split() for _, _, name, value in parse_unit(unit.read_text()) if name.startswith("Exec")]
    assert [command[0] for command in commands] == ["/usr/bin/ovsxen"] * 2
    for command in commands:
        assert host.ovsxen(*(command[1:] + ["--help"])).code == 0


def test_systemd_waits_longer_than_ovsxen_does() -> None:
    unit = directives_of_unit()
    ladder = daemons.EXIT_PATIENCE_S + daemons.TERM_PATIENCE_S + daemons.KILL_PATIENCE_S
    round_s = 1.0 + sum(ladder) + daemons.MONITOR_WITHIN_S  # 1 s: for the answer to `exit`
    assert float(unit["TimeoutStopSec"]) > lifecycle.WATCH_TURN_WITHIN_S + 2 * daemons.STOP_ROUNDS * round_s
    assert float(unit["TimeoutStartSec"]) > sequence.TURN_WITHIN_S + 2 * Settings().start_timeout_s
    # What a busy switch costs that is replaced; where not even SIGKILL ends it, the next watch goes on with it.
    replacing_s = evidence.WITHIN_S + sum(daemons.TERM_PATIENCE_S) + Settings().start_timeout_s
    assert float(unit["WatchdogSec"]) > Settings().busy_timeout_s + replacing_s


def test_a_take_over_waits_longer_for_a_start_of_the_unit_than_systemd_does() -> None:
    assert float(directives_of_unit()["TimeoutStartSec"]) < take_over.UNIT_WITHIN_S


def test_systemd_waits_longer_than_a_sync_does() -> None:
    unit = directives_of_unit(SYNC_UNIT)
    ending_s = agreeing.END_WITHIN_S + agreeing.KILLED_WITHIN_S + sync.END_WITHIN_S
    assert notify.READY_WITHIN_S + ending_s <= float(unit["TimeoutStopSec"]) <= 30
    assert ending_s < sum(daemons.EXIT_PATIENCE_S + daemons.TERM_PATIENCE_S)  # `ovsxen sync --stop` kills it then
    assert float(unit["WatchdogSec"]) >= 10 * notify.LONGEST_BEAT_S


# The settings


def settings_of(text: str) -> Settings:
    return parse_settings(parse_assignments(text, "template"), "template")


def template_with_its_assignments() -> str:
    """The template with the comment sign gone from each assignment; prose has a blank after it and stays."""
    return re.sub(r"^#(?=[A-Z_]+=)", "", SYSCONFIG_TEMPLATE.read_text(), flags=re.MULTILINE)


def documented_options() -> List[str]:
    """The options in the template's list, in order; its example above the list is not of it."""
    lines = [line for line in SYSCONFIG_TEMPLATE.read_text().splitlines() if line.startswith("#   --")]
    return [option for line in lines for option in re.findall(r"(?<= )--[a-z-]+=[^ ]+", line)]


def test_the_template_changes_nothing() -> None:
    assert parse_assignments(SYSCONFIG_TEMPLATE.read_text(), "template").values == {}
    assert settings_of(SYSCONFIG_TEMPLATE.read_text()) == Settings()


def test_the_template_shows_the_defaults() -> None:
    text = template_with_its_assignments()
    assert set(parse_assignments(text, "template").values) == set(SYSCONFIG) | {"OVS_CTL_OPTS"}
    assert settings_of(text) == Settings()


def test_the_template_explains_every_option_of_ovs_ctl() -> None:
    assert sorted(option[2:].partition("=")[0] for option in documented_options()) == sorted(OVS_CTL_OPTIONS)


def test_the_values_of_options_in_the_template_are_the_defaults() -> None:
    with_default = [option for option in documented_options() if not re.search("[A-Z]", option)]
    assert len(with_default) == 8
    assert settings_of('OVS_CTL_OPTS="%s"' % " ".join(with_default)) == Settings()


def test_the_example_in_the_template_means_what_it_says() -> None:
    example = re.findall(r"OVS_CTL_OPTS=\"--.*", SYSCONFIG_TEMPLATE.read_text())
    assert len(example) == 1
    assert settings_of(example[0]) == Settings(system_type="lab", vswitchd_options=("-vfile:dbg", "-vsyslog:warn"))


# Rotating the logs


def postrotate() -> str:
    return LOGROTATE.read_text().split("postrotate\n")[1].split("    endscript\n")[0]


def rotate(host: SandboxHost, shell: str = SHELLS[0], timeout_s: int = 5) -> Finished:
    """What logrotate runs after it has renamed logs of this host."""
    text = postrotate()
    for machines, hosts in ((str(MACHINE.rundir), str(host.paths.rundir)), ("=5 ", "=%d " % timeout_s)):
        assert text.count(machines) == 1
        text = text.replace(machines, hosts)
    return run((shell, "-c", text, "logrotate_script"), host.environment())


def rename_logs(host: SandboxHost) -> List[Path]:
    logs = [host.paths.log(name) for name in (OVSDB_SERVER, VSWITCHD)]
    for log in logs:
        log.rename(str(log) + ".1")
    return logs


def test_logs_are_rotated_daily_where_the_daemons_write_them_and_their_absence_is_no_error() -> None:
    text = LOGROTATE.read_text()
    head, options = text.split("postrotate")[0].split("{\n")
    assert [line.strip() for line in head.splitlines() if not line.startswith("#")] == ["%s/*.log" % MACHINE.logdir]
    assert {line.strip() for line in options.splitlines() if "#" not in line and line.strip()} == {
        "daily", "compress", "sharedscripts", "missingok", "notifempty", "nocreate"}
    assert re.search(r"^    endscript\n}\n\Z", text, re.MULTILINE)


@pytest.mark.parametrize("shell", SHELLS)
def test_both_daemons_go_on_in_new_logs(host: SandboxHost, shell: str) -> None:
    host.start()
    logs = rename_logs(host)
    done = rotate(host, shell)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert all(log.is_file() for log in logs)


@pytest.mark.parametrize("shell", SHELLS)
def test_without_any_daemon_the_rotation_is_silent(host: SandboxHost, shell: str) -> None:
    done = rotate(host, shell)
    assert (done.code, done.out, done.err) == (0, "", "")
    shutil.rmtree(str(host.paths.rundir))
    done = rotate(host, shell)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_sockets_of_dead_daemons_are_passed_over(host: SandboxHost) -> None:
    host.start()
    logs = rename_logs(host)
    for name in (VSWITCHD, OVSDB_SERVER):
        host.signal(name, signal.SIGKILL)
        done = rotate(host)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert [log.exists() for log in logs] == [True, False]
    assert len(list(host.paths.rundir.glob("*.ctl"))) == 2


@pytest.mark.parametrize("shell", SHELLS)
def test_a_daemon_that_hangs_holds_the_rotation_up_no_longer_than_its_time_limit(host: SandboxHost,
                                                                                 shell: str) -> None:
    host.start()
    logs = rename_logs(host)
    host.signal(VSWITCHD, signal.SIGSTOP)  # the first of the two in the order of their sockets
    done = rotate(host, shell, timeout_s=1)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert [log.exists() for log in logs] == [True, False]
