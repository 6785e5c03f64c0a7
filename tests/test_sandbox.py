"""The sandbox: a believable host, for anyone, that leaves nothing running."""

import os
import subprocess
import sys
from pathlib import Path

from ovsxen import __version__
from ovsxen.host import process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import XAPI_SYNC, State
from ovsxen.sandbox import contents, sandbox
from tests.conftest import REPOSITORY, UNPRIVILEGED, MakeHost, SandboxHost, processes_of


def run(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "ovsxen", "sandbox", str(directory)] + list(arguments),
                          env=dict(os.environ, PYTHONPATH=str(REPOSITORY)), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=120)


def test_its_database_is_last_boots(make_host: MakeHost) -> None:
    host = make_host(stale_bridges=7)
    done = host.ovsxen("start", "--json", "--dry-run")
    assert done.phase("configuration")["names"] == ["xenbr%d" % number for number in range(7)]
    host.write(host.paths.historic_booted_marker, "")  # keep them, to look at them
    host.start()
    assert host.vsctl("get-manager") == contents.MANAGER
    assert host.vsctl("list-ports", "xenbr3") == "vif4.0"
    assert "xs-vif-uuid" in host.vsctl("get", "Interface", "vif4.0", "external_ids")
    assert "xs-network-uuids" in host.vsctl("get", "Bridge", "xenbr3", "external_ids")


def test_every_path_lies_below_it(host: SandboxHost) -> None:
    assert os.readlink(str(host.paths.root / "var/run")) == "../run"
    for path in (host.paths.inventory, host.paths.network_conf, host.paths.sysconfig, host.paths.conf_db,
                 host.paths.boot_id):
        assert path.exists() and host.paths.root in path.parents


def test_the_command_gets_the_host_and_its_exit_code_is_given_back(make_host: MakeHost) -> None:
    root = make_host().paths.root.parent / "s"
    script = "%s -m ovsxen start >/dev/null && ovs-vsctl get-manager && exit 42" % sys.executable
    done = run(root, "--stale-bridges", "1", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout.strip()) == (42, contents.MANAGER)
    assert processes_of(root) == []
    again = run(root, "--", "sh", "-c", "echo $OVS_RUNDIR; kill -TERM $$")
    assert (again.returncode, again.stdout.strip()) == (128 + 15, str(root / "run/openvswitch"))


def test_what_ran_in_it_before_goes_on(host: SandboxHost) -> None:
    host.start()
    assert run(host.paths.root, "--", "true").returncode == 0
    assert host.status()["verdict"] == "running"


def test_a_sync_that_was_started_in_it_ends_with_it(make_host: MakeHost) -> None:
    host = make_host()
    start = "%s -m ovsxen sync --detach && ovs-appctl -t ovs-xapi-sync version" % sys.executable
    done = run(host.paths.root, "--", "sh", "-c", start)
    assert (done.returncode, done.stdout.strip()) == (0, "ovs-xapi-sync (Open vSwitch) %s" % __version__)
    assert daemons.find(host.paths, XAPI_SYNC).state is State.STOPPED
    assert processes_of(host.paths.root) == []


def test_a_sync_that_ran_in_it_before_goes_on(host: SandboxHost) -> None:
    assert host.ovsxen("sync", "--detach").code == 0
    before = host.pid(XAPI_SYNC)
    assert run(host.paths.root, "--", "true").returncode == 0
    assert host.pid(XAPI_SYNC) == before


def test_a_sync_that_was_started_in_it_ends_alone_where_the_switch_ran_before(host: SandboxHost) -> None:
    assert host.ovsxen("daemon", "--detach").code == 0
    watching = host.watcher()
    assert run(host.paths.root, "--", sys.executable, "-m", "ovsxen", "sync", "--detach").returncode == 0
    assert daemons.find(host.paths, XAPI_SYNC).state is State.STOPPED
    assert watching is not None and not process.has_ended(watching)
    assert host.status()["verdict"] in ("running", "degraded")  # without a sync


def test_a_directory_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("x")
    done = run(tmp_path, "--", "true")
    assert done.returncode == 2 and "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_a_command_that_is_not_there_or_a_negative_count_is_a_usage_error(make_host: MakeHost) -> None:
    base = make_host().paths.root.parent
    assert run(base / "a", "--", "no-such-command").returncode == 2
    assert run(base / "b", "--stale-bridges", "-1", "--", "true").returncode == 2
    assert not (base / "b").exists()


def test_it_works_without_root(make_host: MakeHost) -> None:
    root = make_host().paths.root.parent / "n"
    inner = "id -u; %s -m ovsxen start && %s -m ovsxen status" % (sys.executable, sys.executable)
    argv = [sys.executable, "-m", "ovsxen", "sandbox", str(root), "--", "sh", "-c", inner]
    done = subprocess.run(UNPRIVILEGED + argv, env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=120)
    assert done.returncode == 0, done
    assert done.stdout.startswith("1000\n") and "Open vSwitch is running" in done.stdout
    assert processes_of(root) == []


def test_a_sandbox_that_is_ended_by_a_signal_takes_its_daemons_down(make_host: MakeHost) -> None:
    root = make_host().paths.root.parent / "s"
    child = subprocess.Popen([sys.executable, "-m", "ovsxen", "sandbox", str(root), "--", "sh", "-c",
                              "%s -m ovsxen start; exec sleep 60" % sys.executable],
                             env=dict(os.environ, PYTHONPATH=str(REPOSITORY)), stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, universal_newlines=True)
    assert child.stdout is not None
    while not child.stdout.readline().startswith("firewall"):
        pass
    child.terminate()
    assert child.wait(timeout=60) == 1
    child.stdout.close()
    assert processes_of(root) == []


def test_its_environment_leads_open_vswitchs_tools_to_it(host: SandboxHost) -> None:
    env = sandbox.environment(host.paths)
    assert env["OVS_RUNDIR"] == str(host.paths.rundir) and env["OVSXEN_ROOT"] == str(host.paths.root)
