"""The daemons: command lines held against ovs-ctl's own, stopping by the ladder, strangers left alone."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import List, Tuple

import pytest

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError
from ovsxen.host import process
from ovsxen.host.assignments import parse_assignments
from ovsxen.host.settings import Settings, parse_settings
from ovsxen.ovs import daemons, launch
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Meanwhile, State
from tests.conftest import MakeHost, SandboxHost

OVS_CTL = "/usr/share/openvswitch/scripts/ovs-ctl"
RECORDER = """#!/bin/sh
case "$*" in
    --version) echo "{name} (Open vSwitch) 3.1.0"; exit 0 ;;
esac
for argument in "$@"; do printf '%s\\n' "$argument"; done >'{record}'
printf 'ulimit -n %s\\n' "$(ulimit -n)" >>'{record}.limits'
"""
NO_OP = "#!/bin/sh\nexit 0\n"


def argv_of_ovs_ctl(host: SandboxHost, options: str, tmp_path: Path) -> Tuple[List[str], List[str]]:
    """What ovs-ctl would run for both daemons: it is given recorders in their place."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in (OVSDB_SERVER, VSWITCHD):
        (directory / name).write_text(RECORDER.format(name=name, record=tmp_path / name))
    (directory / "ovs-vsctl").write_text(NO_OP)
    (directory / "ovs-appctl").write_text(NO_OP)
    for path in directory.iterdir():
        path.chmod(0o755)
    env = dict(host.environment(), OVS_BINDIR=str(directory), OVS_SBINDIR=str(directory),
               PATH="%s:%s" % (directory, os.environ["PATH"]))
    subprocess.run([OVS_CTL, "--no-monitor", "--no-record-hostname", "--system-id=random",
                    "--daemon-cwd=%s" % host.paths.daemon_cwd] + options.split() + ["start"],
                   env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    return tuple((tmp_path / name).read_text().splitlines() for name in (OVSDB_SERVER, VSWITCHD))  # type: ignore


@pytest.mark.parametrize("options", [
    "", "--no-mlockall", "--no-self-confinement", "--ovs-user=root:root",
    "--ovsdb-server-options=-vjsonrpc:warn --ovs-vswitchd-options=--enable-dummy",
])
def test_the_command_lines_are_those_of_ovs_ctl(host: SandboxHost, tmp_path: Path, options: str) -> None:
    chosen = parse_settings(parse_assignments('OVS_CTL_OPTS="%s"' % options, "f"), "f")
    server, vswitchd = argv_of_ovs_ctl(host, options, tmp_path)
    ours = launch.ovsdb_server_argv(host.paths, chosen, ()), launch.vswitchd_argv(host.paths, chosen)
    assert sorted(ours[0][1:]) == sorted(server)
    assert sorted(ours[1][1:]) == sorted(vswitchd)
    assert (ours[0][0], ours[1][0]) == (OVSDB_SERVER, VSWITCHD)


def test_the_daemons_run_with_the_priority_and_limits_that_were_chosen(host: SandboxHost) -> None:
    host.settings("OVSDB_SERVER_PRIORITY=3", "VSWITCHD_PRIORITY=-4", "FORCE_COREFILES=y")
    host.start()
    assert os.getpriority(os.PRIO_PROCESS, host.pid(OVSDB_SERVER)) == 3
    assert os.getpriority(os.PRIO_PROCESS, host.pid(VSWITCHD)) == -4
    limits = Path("/proc/%d/limits" % host.pid(VSWITCHD)).read_text()
    cores = [line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size")]
    assert cores == ["unlimited"] or int(cores[0]) > 1 << 30
    assert os.readlink("/proc/%d/cwd" % host.pid(VSWITCHD)) == str(host.paths.daemon_cwd)


def test_extra_databases_are_served_and_unusable_ones_named(host: SandboxHost) -> None:
    host.tool("ovsdb-tool", "create", str(host.paths.dbdir / "extra.db"),
              "/usr/share/openvswitch/local-config.ovsschema")
    (host.paths.dbdir / "junk.db").write_text("junk")
    host.write(host.paths.sysconfig, "VSWITCHD_MLOCKALL=no\nOVS_CTL_OPTS=\"--extra-dbs='extra.db junk.db none.db' "
               "--ovs-vswitchd-options=--enable-dummy=override\"\n")
    done = host.start()
    assert [any(name in warning for warning in done.json["warnings"]) for name in ("junk.db", "none.db", "extra.db")
            ] == [True, True, False]
    assert "Local_Config" in host.tool("ovsdb-client", "list-dbs", "unix:%s" % host.paths.db_sock)


def test_both_daemons_run_as_the_user_that_was_chosen(make_host: MakeHost) -> None:
    host = make_host()
    os.chmod(str(host.paths.root.parent), 0o755)
    host.settings('OVS_CTL_OPTS="--ovs-user=daemon:daemon --ovs-vswitchd-options=--enable-dummy=override"')
    host.start()
    import pwd
    for name in (OVSDB_SERVER, VSWITCHD):
        assert os.stat("/proc/%d" % host.pid(name)).st_uid == pwd.getpwnam("daemon").pw_uid
    assert host.ovsxen("restart").code == 0
    assert host.status()["verdict"] == "running"


def test_an_unknown_user_is_named(host: SandboxHost) -> None:
    host.settings('OVS_CTL_OPTS="--ovs-user=nosuchuser"')
    done = host.ovsxen("start", "--json")
    assert done.code == 1 and "nosuchuser" in done.out


@pytest.mark.parametrize("number, how", [(0, "exit"), (signal.SIGSTOP, "KILL")])
def test_the_ladder_ends_a_daemon_and_leaves_no_remains(host: SandboxHost, number: int, how: str) -> None:
    host.start()
    for name in (VSWITCHD, OVSDB_SERVER):
        if number:
            host.signal(name, number)
            before = process.read_process(host.pid(name))
            assert before is not None
            time.sleep(0.05)  # the state in /proc follows the signal
        assert daemons.stop(host.paths, name).how == how
        assert daemons.find(host.paths, name).state is State.STOPPED
        assert list(host.paths.rundir.glob(name + ".*")) == []
        assert daemons.stop(host.paths, name).how == ""


def test_a_stranger_whose_pid_a_stale_pidfile_names_is_left_alone(host: SandboxHost) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        host.paths.rundir.mkdir(parents=True, exist_ok=True)
        for name in (OVSDB_SERVER, VSWITCHD):
            host.paths.pidfile(name).write_text("%d\n" % stranger.pid)
        assert host.status()["verdict"] == "dead"
        assert host.ovsxen("stop").code == 0
        assert host.start().phase("ovsdb-server")["outcome"] == "done"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("content", ["", "junk\n", "-1\n", "0\n", "1\n", "99999999999\n"])
def test_a_pidfile_that_says_nonsense_stops_no_start(host: SandboxHost, content: str) -> None:
    host.paths.rundir.mkdir(parents=True, exist_ok=True)
    for name in (OVSDB_SERVER, VSWITCHD):
        host.paths.pidfile(name).write_text(content)
    assert host.start().phase("ovs-vswitchd")["outcome"] == "done"


def test_the_installed_version_is_on_the_line_that_names_open_vswitch() -> None:
    said = "ovs-vswitchd (Open vSwitch) 2.17.7\nDPDK 21.11.2\n"
    assert daemons.version_in(VSWITCHD, said) == "2.17.7"
    with pytest.raises(OvsxenError):
        daemons.version_in(VSWITCHD, "Segmentation fault\n")


def test_a_daemon_is_not_waited_for_in_vain_and_is_ready_when_it_can_be(host: SandboxHost) -> None:
    host.start()
    host.kill_daemons()
    argv = launch.vswitchd_argv(host.paths, Settings(mlockall=False, vswitchd_options=("--enable-dummy=override",)))

    def why_in_vain() -> str:
        return "ovsdb-server ended" if daemons.find(host.paths, VSWITCHD).state is State.RUNNING else ""

    with pytest.raises(NoAnswer, match="was not ready when ovsdb-server ended"):
        daemons.start(host.paths, argv, 0, 60.0, Meanwhile(why_in_vain=why_in_vain))
    pid = host.pid(VSWITCHD)
    assert host.start().phase("ovs-vswitchd")["outcome"] == "unchanged"
    assert host.pid(VSWITCHD) == pid and host.vsctl("add-br", "xenbr7") == ""  # waits for ovs-vswitchd


def test_a_daemon_that_cannot_start_says_why(host: SandboxHost) -> None:
    host.paths.rundir.mkdir(parents=True, exist_ok=True)
    host.paths.daemon_cwd.mkdir(parents=True, exist_ok=True)
    host.paths.logdir.mkdir(parents=True, exist_ok=True)
    argv = launch.ovsdb_server_argv(host.paths, Settings(ovsdb_server_options=("--frobnicate",)), ())
    with pytest.raises(AdministratorError, match="frobnicate"):
        daemons.start(host.paths, argv, 0, 10)
