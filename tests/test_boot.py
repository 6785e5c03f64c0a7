"""The boot sequence on real daemons: what a start makes of a host, again and again."""

import os
import signal
import stat
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Dict, List

import pytest

from ovsxen.host.assignments import parse_assignments
from ovsxen.host.clock import Deadline
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.sandbox import contents
from tests.conftest import MakeHost, SandboxHost


def outcomes(host: SandboxHost, *arguments: str) -> Dict[str, str]:
    return {phase["name"]: phase["outcome"] for phase in host.ovsxen("start", "--json", *arguments).json["phases"]}


def settle(host: SandboxHost) -> None:
    """Wait until vswitchd has written what it tells of itself some time after its start."""
    host.vsctl("wait-until", "Open_vSwitch", ".", "datapath_types!=[]", "iface_types!=[]", "dpdk_version!=[]")
    assert Deadline(20).wait_until(lambda: time.time() - host.paths.conf_db.stat().st_mtime > 0.5, every_s=0.05)


def tree(root: Path) -> Dict[str, object]:
    """Every file below the root but the daemons' logs: its contents, or what it is."""
    found: Dict[str, object] = {}
    for directory, names, files in os.walk(str(root)):
        for name in names + files:
            path = Path(directory) / name
            if path.suffix == ".log":
                continue
            is_file = stat.S_ISREG(os.lstat(str(path)).st_mode)
            found[str(path)] = path.read_bytes() if is_file else os.lstat(str(path)).st_mode
    return found


def test_a_start_purges_last_boots_bridges_and_keeps_the_manager_and_ssl(host: SandboxHost) -> None:
    done = host.start()
    assert done.phase("configuration")["names"] == ["xenbr0", "xenbr1", "xenbr2"]
    assert host.bridges() == []
    dump = host.tool("ovsdb-client", "dump", "unix:%s" % host.paths.db_sock)
    assert "xenbr" not in dump and "vif1.0" not in dump
    assert host.vsctl("get-manager") == contents.MANAGER
    assert "xapi-ssl.pem" in host.vsctl("--no-wait", "list", "SSL")
    status = host.status()
    assert status["verdict"] == "running"
    assert status["boot"]["purged"] == ["xenbr0", "xenbr1", "xenbr2"]


def test_the_row_says_what_the_init_script_said(host: SandboxHost) -> None:
    host.start()
    inventory = parse_assignments(contents.INVENTORY, "inventory").values
    assert host.column("external_ids:system-id") == inventory["INSTALLATION_UUID"]
    assert host.column("external_ids:xs-system-uuid") == inventory["INSTALLATION_UUID"]
    assert host.column("external_ids:rundir") == str(host.paths.rundir)
    assert host.column("system_type") == "XCP-ng"
    assert host.column("system_version") == "8.3.0-cloud"
    assert host.column("ovs_version") in host.tool("ovs-vswitchd", "--version")
    assert host.column("db_version") == host.tool("ovsdb-tool", "schema-version", str(host.paths.schema))
    assert host.column("external_ids:hostname") == "sandbox.example"
    assert host.column("external_ids:ovsxen-boot-id") == host.paths.boot_id.read_text().strip()


def test_a_second_start_changes_nothing(host: SandboxHost) -> None:
    host.start()
    host.vsctl("add-br", "xenbr7")
    settle(host)
    before, pids = tree(host.paths.root), [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]
    second = host.start()
    assert {phase["outcome"] for phase in second.json["phases"]} <= {"unchanged", "skipped"}
    after = tree(host.paths.root)
    changed = [path for path in set(before) | set(after) if before.get(path) != after.get(path)]
    assert changed == []
    assert pids == [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]
    assert host.bridges() == ["xenbr7"]
    assert host.status()["boot"]["purged"] == ["xenbr0", "xenbr1", "xenbr2"]


def test_a_restart_in_the_same_boot_purges_nothing(host: SandboxHost) -> None:
    host.start()
    host.vsctl("add-br", "xenbr7")
    assert host.ovsxen("restart").code == 0
    assert host.bridges() == ["xenbr7"]


def test_a_reboot_purges_again(host: SandboxHost) -> None:
    host.start()
    host.vsctl("add-br", "xenbr7")
    host.reboot()
    assert host.start().phase("configuration")["names"] == ["xenbr7"]
    assert host.bridges() == []
    assert host.status()["boot"]["purged"] == ["xenbr7"]


def test_a_failed_first_start_still_purges_on_retry(host: SandboxHost) -> None:
    host.write(host.paths.sysconfig, "VSWITCHD_MLOCKALL=no\nOVS_CTL_OPTS=--ovs-vswitchd-options=--frobnicate\n")
    failed = host.ovsxen("start", "--json")
    assert failed.code == 1 and failed.phase("ovs-vswitchd")["outcome"] == "failed"
    host.settings()
    host.start()
    assert host.bridges() == []
    assert host.status()["boot"]["purged"] == ["xenbr0", "xenbr1", "xenbr2"]


def test_a_start_that_fails_before_the_transaction_purges_on_retry(host: SandboxHost) -> None:
    host.write(host.paths.sysconfig, "VSWITCHD_MLOCKALL=no\nOVS_CTL_OPTS=--ovsdb-server-options=--frobnicate\n")
    failed = host.ovsxen("start", "--json")
    assert failed.code == 1 and "frobnicate" in failed.phase("ovsdb-server")["reason"]
    host.settings()
    assert host.start().phase("configuration")["names"] == ["xenbr0", "xenbr1", "xenbr2"]


def test_managers_are_attached_even_when_the_switch_does_not_come_up(host: SandboxHost) -> None:
    host.write(host.paths.sysconfig, "VSWITCHD_MLOCKALL=no\nOVS_CTL_OPTS=--ovs-vswitchd-options=--frobnicate\n")
    failed = host.ovsxen("start", "--json")
    assert failed.code == 1 and failed.phase("managers")["outcome"] == "done"
    remotes = host.tool("ovs-appctl", "-t", OVSDB_SERVER, "ovsdb-server/list-remotes")
    assert "db:Open_vSwitch,Open_vSwitch,manager_options" in remotes


def test_a_module_that_cannot_be_loaded_leaves_the_database_up_and_says_why(host: SandboxHost, tmp_path: Path) -> None:
    host.write(host.paths.proc_modules, "")
    (tmp_path / "modprobe").write_text("#!/bin/sh\necho \"modprobe: FATAL: Module $1 not found.\" >&2\nexit 1\n")
    (tmp_path / "modprobe").chmod(0o755)
    failed = host.ovsxen("start", "--json", PATH="%s:%s" % (tmp_path, os.environ["PATH"]))
    assert failed.code == 1
    assert "no such module" in failed.phase("module")["reason"]
    assert failed.phase("ovs-vswitchd")["outcome"] == "skipped"
    assert failed.phase("managers")["outcome"] == "done"
    assert host.ovsxen("load-kmod", PATH="%s:%s" % (tmp_path, os.environ["PATH"])).code == 1
    status = host.status()
    assert status["verdict"] == "stopped" and any("load-kmod" in problem for problem in status["problems"])


def test_a_flow_restore_wait_that_was_left_behind_is_cleared(host: SandboxHost) -> None:
    host.start()
    host.vsctl("set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true", "other_config:max-idle=5000")
    assert any("flow-restore-wait" in problem for problem in host.status()["problems"])
    host.reboot()
    host.start()
    assert host.column("other_config") == '{max-idle="5000"}'


def test_a_hostname_that_is_set_is_never_changed_and_one_that_is_not_is_recorded(host: SandboxHost) -> None:
    host.start()
    host.vsctl("remove", "Open_vSwitch", ".", "external_ids", "hostname")
    assert host.start().phase("hostname")["outcome"] == "done"
    assert host.column("external_ids:hostname").split(".")[0] == os.uname().nodename.split(".")[0]
    host.vsctl("set", "Open_vSwitch", ".", "external_ids:hostname=chosen.example")
    host.start()
    assert host.column("external_ids:hostname") == "chosen.example"


def test_keys_of_others_survive_a_boot(host: SandboxHost) -> None:
    host.start()
    host.vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-remote=ssl:192.0.2.1", "other_config:max-idle=5000")
    host.reboot()
    host.start()
    assert host.column("external_ids:ovn-remote") == "ssl:192.0.2.1"


def test_the_options_of_ovs_ctl_that_name_the_host_win_over_the_inventory(host: SandboxHost) -> None:
    host.write(host.paths.sysconfig, 'VSWITCHD_MLOCKALL=no\nOVS_CTL_OPTS="--system-id=mine --system-type=T '
               '--external-id=rack=7 --ovs-vswitchd-options=--enable-dummy=override"\n')
    host.start()
    assert [host.column(key) for key in ("external_ids:system-id", "system_type", "external_ids:rack")] == [
        "mine", "T", "7"]


def test_delete_bridges_purges_at_every_start_but_not_under_a_running_switch(host: SandboxHost) -> None:
    host.write(host.paths.sysconfig, 'VSWITCHD_MLOCKALL=no\n'
               'OVS_CTL_OPTS="--delete-bridges --ovs-vswitchd-options=--enable-dummy=override"\n')
    host.start()
    host.vsctl("add-br", "xenbr7")
    host.start()
    assert host.bridges() == ["xenbr7"]
    assert host.ovsxen("restart").code == 0
    assert host.bridges() == []


def test_a_host_that_the_old_init_script_booted_keeps_its_bridges(host: SandboxHost) -> None:
    host.write(host.paths.historic_booted_marker, "")
    host.start()
    assert host.bridges() == ["xenbr0", "xenbr1", "xenbr2"]


def test_daemons_that_others_started_are_taken_over_with_their_bridges(host: SandboxHost) -> None:
    subprocess.run(["/usr/share/openvswitch/scripts/ovs-ctl", "--no-monitor", "--no-mlockall", "--no-record-hostname",
                    "--system-id=other", "--ovs-vswitchd-options=--enable-dummy=override", "start"],
                   env=host.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=60, check=True)
    pids = [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]
    assert any("not prepared for this boot" in problem for problem in host.status()["problems"])
    host.start()
    assert host.bridges() == ["xenbr0", "xenbr1", "xenbr2"]
    assert pids == [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]
    assert host.column("external_ids:system-id") == contents.INSTALLATION_UUID
    assert host.status()["verdict"] == "running"


@pytest.mark.parametrize("name", [OVSDB_SERVER, VSWITCHD])
def test_a_daemon_that_was_killed_comes_back_and_the_other_one_stays(host: SandboxHost, name: str) -> None:
    host.start()
    host.vsctl("add-br", "xenbr7")
    other = VSWITCHD if name == OVSDB_SERVER else OVSDB_SERVER
    pid = host.pid(other)
    host.signal(name, signal.SIGKILL)
    assert host.status()["verdict"] == "dead"
    host.start()
    assert host.pid(other) == pid
    assert host.bridges() == ["xenbr7"]
    assert host.status()["verdict"] == "running"


def test_two_starts_at_once_make_one_switch(host: SandboxHost) -> None:
    starts = [host.spawn("start") for _ in range(4)]
    assert [start.wait(timeout=60) for start in starts] == [0] * 4
    assert host.status()["verdict"] == "running"


@pytest.mark.parametrize("content", [b"bridge\n", b"ovs\n", b"", b"\xef\xbb\xbfvswitch\n", None])
def test_without_the_word_nothing_is_started_and_that_is_no_failure(host: SandboxHost, content: bytes) -> None:
    if content is None:
        host.paths.network_conf.unlink()
    else:
        host.paths.network_conf.write_bytes(content)
    before = tree(host.paths.root)
    done = host.ovsxen("start")
    assert done.code == 0 and "disabled" in done.out
    assert (done.err == "") == (content == b"bridge\n")
    assert tree(host.paths.root) == before
    assert host.ovsxen("load-kmod").code == 0
    assert host.ovsxen("reload").code == 0
    assert host.ovsxen("stop").code == 0
    status = host.ovsxen("status", "--json")
    assert (status.code, status.json["verdict"], status.json["problems"]) == (3, "disabled", [])


def test_a_dry_run_says_what_a_start_would_do_and_changes_nothing(host: SandboxHost) -> None:
    before = tree(host.paths.root)
    planned = host.start("--dry-run")
    assert tree(host.paths.root) == before
    assert planned.phase("configuration")["outcome"] == "would"
    done = host.start()
    for name in ("host", "database", "configuration"):
        assert planned.phase(name)["names"] == done.phase(name)["names"]
        assert planned.phase(name)["reason"] == done.phase(name)["reason"]
    settle(host)
    before = tree(host.paths.root)
    assert {phase["outcome"] for phase in host.start("--dry-run").json["phases"]} <= {"unchanged", "skipped"}
    assert tree(host.paths.root) == before


def test_a_missing_inventory_is_said_and_the_identity_in_the_database_stays(host: SandboxHost) -> None:
    host.paths.inventory.unlink()
    done = host.ovsxen("start")
    assert done.code == 0 and str(host.paths.inventory) in done.err
    assert host.column("external_ids:system-id") == contents.INSTALLATION_UUID
    assert any(str(host.paths.inventory) in warning for warning in host.status()["warnings"])


def test_an_inventory_without_a_uuid_never_publishes_an_empty_id(make_host: MakeHost) -> None:
    host = make_host(stale_bridges=0)
    host.paths.conf_db.unlink()
    host.write(host.paths.inventory, "PRODUCT_BRAND='XCP-ng'\nPRODUCT_VERSION='8.3.0'\nBUILD_NUMBER='c'\n")
    done = host.ovsxen("start")
    assert done.code == 0 and "INSTALLATION_UUID" in done.err
    assert "system-id" not in host.column("external_ids")
    assert host.ovsxen("status").code == 150
    new = str(uuid.uuid4())
    host.write(host.paths.inventory, contents.INVENTORY.replace(contents.INSTALLATION_UUID, new))
    assert host.ovsxen("reload").code == 0
    assert host.column("external_ids:system-id") == new
    assert host.status()["verdict"] == "running"


def test_an_unknown_setting_is_warned_about_and_stands_in_the_status(host: SandboxHost) -> None:
    host.settings("VSWITCHD_MLOCKAL=no")
    assert "VSWITCHD_MLOCKAL" in host.ovsxen("start").err
    status = host.status()
    assert status["verdict"] == "running"
    assert any("VSWITCHD_MLOCKAL" in warning for warning in status["warnings"])


def test_without_open_vswitch_nothing_is_touched_and_the_code_says_so(host: SandboxHost, tmp_path: Path) -> None:
    before = tree(host.paths.root)
    script = ("import sys; from ovsxen.host import proc; proc.SYSTEM_DIRS = (); from ovsxen.cli import main; "
              "sys.exit(main(['start', '--json']))")
    done = subprocess.run([sys.executable, "-c", script],
                          env=dict(host.environment(), PATH=str(tmp_path)), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 5, done.stderr
    assert b"ovsdb-server" in done.stdout and b"install openvswitch" in done.stdout
    assert {path for path in tree(host.paths.root) if path not in before} == {
        str(host.paths.turn), str(host.paths.boot_report)}


def test_a_missing_schema_says_so(host: SandboxHost, tmp_path: Path) -> None:
    done = host.ovsxen("start", OVS_PKGDATADIR=str(tmp_path))
    assert done.code == 5 and str(tmp_path) in done.out


def test_a_root_that_is_too_long_for_sockets_says_so(make_host: MakeHost, tmp_path: Path) -> None:
    short = make_host()
    deep = tmp_path / ("d" * 90)
    deep.parent.mkdir(exist_ok=True)
    os.rename(str(short.paths.root), str(deep))
    done = short.ovsxen("--root", str(deep), "start")
    assert done.code == 1 and "shorter root" in done.out


def test_phases_are_printed_as_they_happen(host: SandboxHost) -> None:
    child = subprocess.Popen([sys.executable, "-m", "ovsxen", "start"], env=host.environment(),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert child.stdout is not None
    lines: List[bytes] = [child.stdout.readline()]
    assert lines[0].startswith(b"host") and child.poll() is None
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait(timeout=60) == 0
    names = [line.split()[0].decode() for line in lines if not line.startswith(b" ")]
    assert names == ["host", "module", "database", "ovsdb-server", "configuration", "ovs-vswitchd", "management",
                     "interfaces", "managers", "hostname", "firewall"]
