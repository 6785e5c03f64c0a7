"""A host made ready for the ovsxen that was put on it, and given back."""

import fcntl
import shutil
import subprocess
from typing import List

import pytest

from ovsxen.host import process
from ovsxen.host.backend import UNITS
from ovsxen.host_setup import find_new_settings
from ovsxen.ovs.daemons import XAPI_SYNC
from tests.conftest import LIMIT_S, REPOSITORY, SandboxHost

TEMPLATE = (REPOSITORY / "initscripts/sysconfig.openvswitch").read_text()
UNKNOWN_PLUGIN = "#!/bin/sh\n# XAPI's own, of a version that nobody has seen yet.\n"


@pytest.mark.parametrize("own, new", [
    ("", ["A", "LONG_NAME"]),
    ("A=1\n", ["LONG_NAME"]),
    ("# A is fine as it is\nLONG_NAME=\n", []),
    ("LONG_NAME_TOO=1\nBA=2\n", ["A", "LONG_NAME"]),
])
def test_a_setting_is_new_where_the_administrators_file_does_not_mention_it(own: str, new: List[str]) -> None:
    template = "# A note.\n#A=yes\n\nLONG_NAME=\n#A=no\n#   not a setting=1\n"
    assert find_new_settings(template, own) == tuple(new)


@pytest.fixture
def installed(host: SandboxHost) -> SandboxHost:
    """A host on which a package has put ovsxen's files; XAPI's own plugin is one that ovsxen does not know."""
    root = host.paths.root
    for path in (host.paths.sysconfig, host.paths.called_plugin, host.paths.own_plugin):
        path.unlink()
    subprocess.run([str(REPOSITORY / "tools/install-tree"), str(root), "systemd"], check=True, timeout=60)
    shutil.copy("/usr/share/openvswitch/vswitch.ovsschema", str(root / "usr/share/openvswitch"))
    host.paths.called_plugin.write_text(UNKNOWN_PLUGIN)
    host.paths.called_plugin.chmod(0o755)
    return host


def outcomes(host: SandboxHost, word: str, code: int = 0) -> List[str]:
    done = host.ovsxen("host-setup", word, "--json")
    assert done.code == code, done
    return ["%(name)s %(outcome)s" % phase for phase in done.json["phases"]]


def enabled_units(host: SandboxHost) -> List[str]:
    return sorted(path.name for path in (host.paths.root / "etc/systemd/system/multi-user.target.wants").glob("*"))


def add_switch_backend(host: SandboxHost, body: str) -> None:
    host.write(host.paths.switch_backend, "#!/bin/sh\n%s\n" % body)
    host.paths.switch_backend.chmod(0o755)


def test_an_installation_enables_the_units_and_compiles_the_package(installed: SandboxHost) -> None:
    assert outcomes(installed, "install") == [
        "directories unchanged", "settings unchanged", "bytecode done", "plugin degraded", "backend done",
        "database skipped", "watch skipped", "monitors unchanged", "sync skipped"]
    assert enabled_units(installed) == sorted(UNITS)
    assert any(installed.paths.library.rglob("*.pyc"))
    assert installed.paths.called_plugin.read_text() == UNKNOWN_PLUGIN
    assert installed.status()["verdict"] == "stopped"


def test_an_upgrade_changes_neither_the_mode_nor_what_is_enabled(installed: SandboxHost) -> None:
    add_switch_backend(installed, ": >%s/called" % installed.paths.root)
    for mode in ("bridge\n", "vswitch\n", "openvswitch\n", "something else\n"):
        installed.write(installed.paths.network_conf, mode)
        assert "backend" not in " ".join(outcomes(installed, "upgrade"))
        assert installed.paths.network_conf.read_text() == mode
        assert not (installed.paths.root / "called").exists() and enabled_units(installed) == []


def test_the_administrators_settings_are_never_edited_and_what_is_new_is_told(installed: SandboxHost) -> None:
    sysconfig = installed.paths.sysconfig
    installed.write(sysconfig, "VSWITCHD_MLOCKALL=no\n# EMER_RESET is fine\n")
    sysconfig.chmod(0o600)
    before = (sysconfig.read_bytes(), sysconfig.stat().st_mtime_ns, sysconfig.stat().st_mode)
    for word in ("install", "upgrade", "erase"):
        told = installed.ovsxen("host-setup", word).out
        assert (sysconfig.read_bytes(), sysconfig.stat().st_mtime_ns, sysconfig.stat().st_mode) == before
        assert ("FORCE_COREFILES, " in told) == (word != "erase")
        assert "MLOCKALL" not in told and "EMER_RESET" not in told


def test_settings_are_made_where_there_are_none(installed: SandboxHost) -> None:
    installed.paths.sysconfig.unlink()
    assert "settings done" in outcomes(installed, "upgrade")
    assert installed.paths.sysconfig.read_text() == TEMPLATE
    assert "settings unchanged" in outcomes(installed, "upgrade")


def test_an_erase_gives_the_host_back(installed: SandboxHost) -> None:
    add_switch_backend(installed, 'echo "$1" >"${0%/opt/*}/etc/xensource/network.conf"')
    before = sorted(installed.paths.library.rglob("*"))
    outcomes(installed, "install")
    installed.ovsxen("plugin", "divert", "--force")
    assert installed.paths.called_plugin.is_symlink()
    for again in (False, True):
        assert outcomes(installed, "erase") == [
            "plugin %s" % ("unchanged" if again else "done"), "backend done", "watch unchanged", "sync unchanged",
            "bytecode done"]
        assert installed.paths.called_plugin.read_text() == UNKNOWN_PLUGIN
        assert installed.paths.network_conf.read_text() == "bridge\n"
        assert sorted(installed.paths.library.rglob("*")) == before


def test_a_step_that_fails_is_told_and_leaves_the_rest_to_be_done(installed: SandboxHost) -> None:
    add_switch_backend(installed, "echo no such pool >&2; exit 1")
    installed.paths.sysconfig_template.unlink()
    done = installed.ovsxen("host-setup", "install", "--json")
    assert done.code == 1
    assert done.phase("settings")["outcome"] == done.phase("backend")["outcome"] == "failed"
    assert "no such pool" in done.phase("backend")["reason"] and "run `" in done.phase("backend")["reason"]
    assert done.phase("bytecode")["outcome"] == "done" and done.phase("watch")["outcome"] == "skipped"


def test_a_take_over_that_fails_is_told_by_the_exit_code(installed: SandboxHost) -> None:
    pidfile = installed.paths.pidfile(XAPI_SYNC)
    installed.write(pidfile, "")
    with pidfile.open("r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)  # by this process, which is no sync
        assert outcomes(installed, "upgrade", code=1)[-1] == "sync failed"
    assert outcomes(installed, "upgrade")[-1] == "sync skipped"


def test_a_switch_that_runs_is_watched_after_an_upgrade_and_goes_on_after_an_erase(installed: SandboxHost) -> None:
    installed.settings()
    installed.start()
    pids = [installed.pid(name) for name in ("ovsdb-server", "ovs-vswitchd")]
    assert "watch done" in outcomes(installed, "upgrade")
    watcher = installed.watcher()
    assert watcher is not None
    assert "watch done" in outcomes(installed, "upgrade")
    assert not process.has_ended(watcher)  # it is the new program, in the same process
    assert "watch done" in outcomes(installed, "erase") and installed.watcher() is None
    assert [installed.pid(name) for name in ("ovsdb-server", "ovs-vswitchd")] == pids


def test_several_at_once_take_turns(installed: SandboxHost) -> None:
    running = [installed.spawn("host-setup", "upgrade") for _ in range(4)]
    assert [each.wait(LIMIT_S) for each in running] == [0] * 4
    assert any(installed.paths.library.rglob("*.pyc"))


def test_a_word_is_needed(host: SandboxHost) -> None:
    for arguments in ((), ("remove",)):
        done = host.ovsxen("host-setup", *arguments)
        assert done.code == 2 and "install, upgrade, erase" in done.err
