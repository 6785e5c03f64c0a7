"""Stop, restart, reload, and the module alone."""

import signal
from typing import Tuple

import pytest

from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from tests.conftest import SandboxHost


def test_stop_ends_both_daemons_and_repeating_it_is_no_failure(host: SandboxHost) -> None:
    host.start()
    first, second = host.ovsxen("stop", "--json"), host.ovsxen("stop", "--json")
    assert [phase["outcome"] for phase in first.json["phases"]] == ["done", "done"]
    assert [phase["outcome"] for phase in second.json["phases"]] == ["unchanged", "unchanged"]
    assert (first.code, second.code) == (0, 0)
    assert sorted(path.name for path in host.paths.rundir.iterdir()) == ["ovsxen-boot.json"]


def test_stop_on_a_host_that_was_never_started_makes_nothing(host: SandboxHost) -> None:
    import shutil
    shutil.rmtree(str(host.paths.rundir))
    assert host.ovsxen("stop").code == 0
    assert not host.paths.rundir.exists()


@pytest.mark.parametrize("stopped", [(), (VSWITCHD,), (OVSDB_SERVER,), (OVSDB_SERVER, VSWITCHD)])
def test_stop_ends_daemons_that_hang(host: SandboxHost, stopped: Tuple[str, ...]) -> None:
    host.start()
    for name in stopped:
        host.signal(name, signal.SIGSTOP)
    assert host.ovsxen("stop").code == 0
    assert host.ovsxen("status").code == 3


def test_restart_gives_new_daemons_and_keeps_the_bridges(host: SandboxHost) -> None:
    host.start()
    host.vsctl("add-br", "xenbr7")
    before = [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]
    assert host.ovsxen("restart").code == 0
    after = [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]
    assert not set(before) & set(after)
    assert host.bridges() == ["xenbr7"]
    assert host.status()["verdict"] == "running"


def test_restart_of_a_stopped_switch_starts_it_and_purges_what_a_start_would(host: SandboxHost) -> None:
    assert host.ovsxen("restart").code == 0
    assert host.status()["verdict"] == "running"
    assert host.bridges() == []


@pytest.mark.parametrize("verb", ["reload", "force-reload"])
def test_reload_takes_up_the_inventory_and_interrupts_nothing(host: SandboxHost, verb: str) -> None:
    host.start()
    pids = [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]
    host.write(host.paths.inventory, host.paths.inventory.read_text().replace("8.3.0", "8.3.1"))
    assert host.ovsxen(verb).code == 0
    assert host.column("system_version") == "8.3.1-cloud"
    assert pids == [host.pid(name) for name in (OVSDB_SERVER, VSWITCHD)]


def test_reload_attaches_managers_again(host: SandboxHost) -> None:
    host.start()
    remote = "db:Open_vSwitch,Open_vSwitch,manager_options"
    host.tool("ovs-appctl", "-t", OVSDB_SERVER, "ovsdb-server/remove-remote", remote)
    assert host.ovsxen("reload").code == 0
    assert remote in host.tool("ovs-appctl", "-t", OVSDB_SERVER, "ovsdb-server/list-remotes")


def test_reload_of_a_stopped_switch_fails_and_says_what_to_do(host: SandboxHost) -> None:
    done = host.ovsxen("reload")
    assert done.code == 1 and "ovsxen start" in done.out
    assert host.ovsxen("status").code == 3


def test_load_kmod_on_a_kernel_without_modules_says_so(host: SandboxHost) -> None:
    done = host.ovsxen("load-kmod")
    assert done.code == 0 and "loads no modules" in done.out
