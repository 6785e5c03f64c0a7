"""The network backend of a host chosen and given up, by a stand-in of XAPI's script or by the real systemctl."""

from pathlib import Path
from typing import List, Tuple

import pytest

from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.host import backend
from ovsxen.host.backend import SCRIPTS, UNITS
from ovsxen.host.paths import Paths, paths_under
from tests.conftest import REPOSITORY


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A host with the units of the package, whose network.conf says openvswitch."""
    made = paths_under(tmp_path, {})
    made.unit_dir.mkdir(parents=True)
    for unit in UNITS:
        (made.unit_dir / unit).write_text((REPOSITORY / "initscripts" / unit).read_text())
    made.network_conf.parent.mkdir(parents=True)
    made.network_conf.write_text("openvswitch\n")
    return made


def add_script(paths: Paths, body: str) -> None:
    paths.switch_backend.parent.mkdir(parents=True)
    paths.switch_backend.write_text("#!/bin/sh\n%s\n" % body)
    paths.switch_backend.chmod(0o755)


def enabled(paths: Paths) -> List[str]:
    return sorted(path.name for path in (paths.root / "etc/systemd/system/multi-user.target.wants").glob("*"))


def test_xapis_own_script_chooses_where_there_is_one(paths: Paths) -> None:
    add_script(paths, 'echo "$1" >"${0%%/opt/*}/etc/xensource/network.conf"; echo "$#" >"%s/count"' % paths.root)
    paths.network_conf.write_text("bridge\n")
    assert backend.why_not_vswitch(paths) == ""
    assert "xe-switch-network-backend vswitch`: this holds from the next boot" in backend.choose_vswitch(paths)
    assert paths.network_conf.read_text() == "vswitch\n" and (paths.root / "count").read_text() == "1\n"
    assert "xe-switch-network-backend bridge`" in backend.give_up_vswitch(paths)
    assert paths.network_conf.read_text() == "bridge\n"
    assert enabled(paths) == []


def test_a_script_that_fails_is_an_error_with_its_words_and_what_to_run(paths: Paths) -> None:
    add_script(paths, "echo no pool >&2; exit 3")
    with pytest.raises(AdministratorError) as raised:
        backend.choose_vswitch(paths)
    assert str(raised.value) == "the network backend is not vswitch (%s: no pool): run `%s vswitch` by hand" % (
        paths.switch_backend, paths.switch_backend)


def test_without_the_script_the_units_are_enabled_and_disabled(paths: Paths) -> None:
    for _ in range(2):
        assert "openvswitch.service and openvswitch-xapi-sync.service enabled" in backend.choose_vswitch(paths)
        assert enabled(paths) == sorted(UNITS)
    for _ in range(2):
        assert "disabled" in backend.give_up_vswitch(paths)
        assert enabled(paths) == []
    assert paths.network_conf.read_text() == "openvswitch\n"


def test_a_unit_that_cannot_be_enabled_is_an_error(paths: Paths) -> None:
    (paths.root / "etc/systemd/system").mkdir(parents=True)
    (paths.root / "etc/systemd/system" / UNITS[0]).symlink_to("/dev/null")
    with pytest.raises(AdministratorError, match="systemctl --root=.* enable .* failed .*masked.*: run it by hand"):
        backend.choose_vswitch(paths)


@pytest.mark.parametrize("word, why", [("bridge\n", "says bridge"), ("", "is empty"), (None, "is missing"),
                                       ("vswich", "says 'vswich'"), ("vswitch\n", ""), ("openvswitch", "")])
def test_without_the_script_network_conf_says_whether_to_enable(paths: Paths, word: str, why: str) -> None:
    if word is None:
        paths.network_conf.unlink()
    else:
        paths.network_conf.write_text(word)
    said = backend.why_not_vswitch(paths)
    assert why in said and bool(said) == bool(why)


def install_scripts(paths: Paths) -> None:
    for unit in UNITS:
        (paths.unit_dir / unit).unlink()
    paths.init_scripts.mkdir(parents=True)
    for script in SCRIPTS:
        (paths.init_scripts / script).write_text("#!/bin/sh\n")


def test_a_host_in_a_directory_without_systemd_is_told_that_its_scripts_are_not_enabled(paths: Paths) -> None:
    install_scripts(paths)
    with pytest.raises(AdministratorError, match="run this in the host itself"):
        backend.choose_vswitch(paths)


def test_a_host_without_services_has_none_to_enable(paths: Paths) -> None:
    install_scripts(paths)
    for script in SCRIPTS:
        (paths.init_scripts / script).unlink()
    assert backend.choose_vswitch(paths) == "no service enabled, from the next boot of this host on"


def test_a_script_that_hangs_is_ended_and_what_to_run_is_told(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "WITHIN_S", 0.2)
    add_script(paths, "sleep 600")
    with pytest.raises(NoAnswer, match="is not bridge: .* was killed: run `.*-backend bridge` by hand"):
        backend.give_up_vswitch(paths)


@pytest.mark.parametrize("enabled, calls", [
    (True, [("--del", "one"), ("--add", "one"), ("one", "on"), ("--del", "two"), ("--add", "two"), ("two", "on")]),
    (False, [("--del", "one"), ("--del", "two")]),
])
def test_scripts_are_enabled_as_the_historic_package_did(enabled: bool, calls: List[Tuple[str, str]]) -> None:
    assert backend.plan_scripts(("one", "two"), enabled=enabled) == tuple(("chkconfig",) + call for call in calls)
