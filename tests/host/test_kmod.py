"""The kernel module: every branch, with programs that fail as modprobe does (kmod 20 to 34, C locale)."""

import os
from pathlib import Path
from typing import Callable, List

import pytest

from ovsxen.host import kmod, modprobe
from ovsxen.host.modprobe import Cause, ModuleRefused, ModuleStays, classify
from ovsxen.host.paths import Paths, paths_under

RELEASE = "4.19.0+1"
NOT_FOUND = "modprobe: FATAL: Module openvswitch not found in directory /lib/modules/4.19.0+1"
REFUSED = "modprobe: ERROR: could not insert 'openvswitch': %s"
Script = Callable[[str, str], None]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A machine whose kernel can load modules and has none."""
    found = paths_under(tmp_path / "root", {})
    found.proc_modules.parent.mkdir(parents=True)
    found.proc_modules.write_text("")
    found.sys_module.mkdir(parents=True)
    return found


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Puts a shell script in front of the PATH; its calls are written to tmp_path/calls."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", "%s:%s" % (directory, os.environ["PATH"]))

    def make(name: str, body: str) -> None:
        path = directory / name
        path.write_text("#!/bin/sh\necho %s \"$@\" >>'%s'\n%s\n" % (name, tmp_path / "calls", body))
        path.chmod(0o755)
    return make


def calls(tmp_path: Path) -> List[str]:
    path = tmp_path / "calls"
    return path.read_text().splitlines() if path.exists() else []


def refusal(paths: Paths) -> ModuleRefused:
    with pytest.raises(ModuleRefused) as raised:
        modprobe.load(paths, RELEASE)
    return raised.value


def loads(paths: Paths, name: str = "openvswitch") -> str:
    """A modprobe that succeeds for one name."""
    return '[ "$1" = %s ] || { echo "%s" >&2; exit 1; }; mkdir -p "%s/%s"' % (
        name, NOT_FOUND, paths.sys_module, name)


def test_a_module_that_is_loaded_or_built_in_counts_under_both_names(paths: Paths) -> None:
    assert kmod.observe(paths, RELEASE).present is None
    for name in kmod.NAMES:
        (paths.sys_module / name).mkdir()
        assert kmod.observe(paths, RELEASE).present == (name, False)
        (paths.sys_module / name).rmdir()
    (paths.lib_modules / RELEASE).mkdir(parents=True)
    (paths.lib_modules / RELEASE / "modules.builtin").write_text("kernel/net/openvswitch/openvswitch.ko\n")
    assert kmod.observe(paths, RELEASE).present == ("openvswitch", True)


def test_it_is_loaded(paths: Paths, script: Script, tmp_path: Path) -> None:
    script("modprobe", loads(paths))
    assert modprobe.load(paths, RELEASE) == "loaded"
    assert calls(tmp_path) == ["modprobe openvswitch"]


def test_the_old_name_is_tried_after_the_new_one(paths: Paths, script: Script, tmp_path: Path) -> None:
    script("modprobe", loads(paths, "openvswitch_mod"))
    assert modprobe.load(paths, RELEASE) == "loaded"
    assert calls(tmp_path) == ["modprobe openvswitch", "modprobe openvswitch_mod"]


def install_module(paths: Paths) -> None:
    (paths.lib_modules / RELEASE / "kernel").mkdir(parents=True)
    (paths.lib_modules / RELEASE / "kernel/openvswitch.ko.xz").write_text("")


@pytest.mark.parametrize("said, cause", [
    (NOT_FOUND, Cause.NO_MODULE),
    (REFUSED % "Exec format error", Cause.WRONG_KERNEL),
    (REFUSED % "Key was rejected by service", Cause.SIGNATURE),
    (REFUSED % "Required key not available", Cause.SIGNATURE),
    (REFUSED % "Unknown symbol in module, or unknown parameter (see dmesg)", Cause.SYMBOL),
    ("modprobe: ERROR: ../libkmod/libkmod-module.c:1047 command_do() Error running install command for openvswitch\n"
     + REFUSED % "Invalid argument", Cause.INSTALL_COMMAND),
    ("modprobe: FATAL: Module own not found in directory /lib/modules/4.19.0+1\n"
     "modprobe: ERROR: ../libkmod/libkmod-module.c:1047 command_do() Error running install command for openvswitch\n"
     + REFUSED % "Invalid argument", Cause.INSTALL_COMMAND),
    (REFUSED % "Cannot allocate memory", Cause.OTHER),
])
def test_a_failure_says_which(paths: Paths, script: Script, said: str, cause: Cause) -> None:
    if cause is not Cause.NO_MODULE:
        install_module(paths)
    script("modprobe", "cat >&2 <<'END'\n%s\nEND\nexit 1" % said)
    failure = refusal(paths)
    assert failure.cause is cause
    assert said.splitlines()[-1] in failure.problem and failure.remedy


def test_a_module_that_is_in_the_index_alone_is_missing(paths: Paths, script: Script) -> None:
    (paths.lib_modules / RELEASE).mkdir(parents=True)
    (paths.lib_modules / RELEASE / "openvswitch.ko").symlink_to("gone")
    script("modprobe", "echo '%s' >&2; exit 1" % (REFUSED % "Unknown symbol in module, or unknown parameter"))
    assert refusal(paths).cause is Cause.NO_MODULE


def test_a_command_that_is_run_in_place_of_loading_is_named_with_its_file(paths: Paths, script: Script) -> None:
    paths.modprobe_dirs[0].mkdir(parents=True)
    conf = paths.modprobe_dirs[0] / "own.conf"
    conf.write_text("install openvswitch /sbin/own-load\n")
    script("modprobe", "echo 'Error running install command for openvswitch' >&2; exit 1")
    failure = refusal(paths)
    assert failure.cause is Cause.INSTALL_COMMAND and str(conf) in failure.remedy


def test_a_module_of_another_kernel_is_a_wrong_kernel_and_not_a_missing_module(paths: Paths, script: Script) -> None:
    (paths.lib_modules / "4.18.0/kernel").mkdir(parents=True)
    (paths.lib_modules / "4.18.0/kernel/openvswitch.ko.xz").write_text("")
    script("modprobe", "echo '%s' >&2; exit 1" % NOT_FOUND)
    failure = refusal(paths)
    assert failure.cause is Cause.WRONG_KERNEL


def test_blacklists_of_the_kernel_and_of_modprobe_are_found(paths: Paths) -> None:
    refused = REFUSED % "Operation not permitted"
    assert classify(refused, modprobe.find_blacklist(paths), (), RELEASE) is Cause.OTHER
    paths.kernel_command_line.write_text("quiet module_blacklist=foo,openvswitch\n")
    assert classify(refused, modprobe.find_blacklist(paths), (), RELEASE) is Cause.COMMAND_LINE
    paths.kernel_command_line.write_text("quiet\n")
    assert modprobe.find_blacklist(paths) == ""
    paths.modprobe_dirs[0].mkdir(parents=True)
    conf = paths.modprobe_dirs[0] / "local.conf"
    conf.write_text("# install openvswitch /bin/false\nblacklist openvswitch\n")
    assert modprobe.find_blacklist(paths) == ""
    conf.write_text("install openvswitch /bin/false\n")
    assert modprobe.find_blacklist(paths) == str(conf)


def test_a_modprobe_that_succeeds_without_a_module_is_not_believed(paths: Paths, script: Script) -> None:
    script("modprobe", "exit 0")
    failure = refusal(paths)
    assert failure.cause is Cause.OTHER
    paths.modprobe_dirs[0].mkdir(parents=True)
    (paths.modprobe_dirs[0] / "off.conf").write_text("install openvswitch /bin/true\n")
    failure = refusal(paths)
    assert failure.cause is Cause.BLACKLIST and "off.conf" in failure.remedy


def busy_while_bridge_is_loaded(paths: Paths) -> str:
    return '[ ! -d "%s/bridge" ] || { echo "%s" >&2; exit 1; }; %s' % (
        paths.sys_module, REFUSED % "Device or resource busy", loads(paths))


def test_an_empty_bridge_module_in_the_way_is_removed_once(paths: Paths, script: Script, tmp_path: Path) -> None:
    (paths.sys_module / "bridge").mkdir()
    script("modprobe", busy_while_bridge_is_loaded(paths))
    script("rmmod", 'rmdir "%s/$1"' % paths.sys_module)
    assert "bridge" in modprobe.load(paths, RELEASE)
    assert calls(tmp_path).count("rmmod bridge") == 1


def test_a_bridge_module_that_holds_bridges_stays_and_is_named(paths: Paths, script: Script, tmp_path: Path) -> None:
    (paths.sys_module / "bridge").mkdir()
    (paths.sys_class_net / "docker0/bridge").mkdir(parents=True)
    script("modprobe", busy_while_bridge_is_loaded(paths))
    script("rmmod", "exit 0")
    failure = refusal(paths)
    assert failure.cause is Cause.IN_THE_WAY and "docker0" in failure.problem
    assert "rmmod bridge" not in calls(tmp_path)


def test_bridge_is_left_alone_when_the_module_is_simply_not_there(
        paths: Paths, script: Script, tmp_path: Path) -> None:
    (paths.sys_module / "bridge").mkdir()
    script("modprobe", "echo '%s' >&2; exit 1" % NOT_FOUND)
    script("rmmod", "exit 0")
    failure = refusal(paths)
    assert failure.cause is Cause.NO_MODULE
    assert "rmmod bridge" not in calls(tmp_path)


# Parameters


def test_parameters_that_have_a_value_are_read_and_given(paths: Paths, script: Script, tmp_path: Path) -> None:
    parameters = paths.sys_module / "openvswitch/parameters"
    parameters.mkdir(parents=True)
    for name, text in (("b", "Y\n"), ("a", "1,2\n"), ("words", "x y\n"), ("unset", "(null)\n"), ("odd", "a\tb\n"),
                       ("quoted", 'a"b\n')):
        (parameters / name).write_text(text)
    (parameters / "unreadable").mkdir()
    read = kmod.read_parameters(paths, "openvswitch")
    assert read == (("a", "1,2"), ("b", "Y"), ("words", "x y"))
    script("modprobe", loads(paths))
    assert modprobe.load(paths, RELEASE, read) == "loaded"
    assert calls(tmp_path) == ["modprobe openvswitch a=1,2 b=Y words=x y"]


def test_a_module_without_parameters_has_none(paths: Paths) -> None:
    assert kmod.read_parameters(paths, "openvswitch") == ()


# Taken out


@pytest.fixture
def loaded(paths: Paths) -> Path:
    """A module that two others use, one of which is there for it alone."""
    module = paths.sys_module / "openvswitch"
    for holder in ("vport_gre", "stranger"):
        (module / "holders" / holder).mkdir(parents=True)
        (paths.sys_module / holder).mkdir()
    (module / "refcnt").write_text("3\n")
    return module


def removes(paths: Paths) -> str:
    return 'rm -r "%s/$1"; rm -rf "%s/openvswitch/holders/$1"' % (paths.sys_module, paths.sys_module)


def test_a_module_is_taken_out_after_those_that_are_there_for_it_alone(
        paths: Paths, script: Script, loaded: Path, tmp_path: Path) -> None:
    script("rmmod", removes(paths))
    assert modprobe.unload(paths, "openvswitch") == ("vport_gre", "openvswitch")
    assert calls(tmp_path) == ["rmmod vport_gre", "rmmod openvswitch"]
    assert kmod.observe(paths, RELEASE).present is None and (paths.sys_module / "stranger").exists()


def test_a_module_that_is_in_use_for_a_moment_is_tried_again(
        paths: Paths, script: Script, loaded: Path, tmp_path: Path) -> None:
    script("rmmod", '[ $(wc -l <"%s") -gt 3 ] || { echo "is in use" >&2; exit 1; }; %s' % (
        tmp_path / "calls", removes(paths)))
    modprobe.unload(paths, "openvswitch")
    assert not loaded.exists()


@pytest.mark.parametrize("body, said", [("echo 'rmmod: ERROR: Module openvswitch is in use' >&2; exit 1", "is in use"),
                                        ("exit 0", "yet it is there")])
def test_a_module_that_stays_is_said_with_what_holds_it(
        paths: Paths, script: Script, loaded: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str) -> None:
    monkeypatch.setattr(modprobe, "UNUSED_WITHIN_S", 0.0)  # else two seconds of waiting
    (loaded / "holders/vport_gre").rmdir()
    script("rmmod", body)
    with pytest.raises(ModuleStays, match=said) as raised:
        modprobe.unload(paths, "openvswitch")
    assert "references: 3, held by stranger" in str(raised.value)


# Before it is taken out


def test_it_is_known_beforehand_whether_another_could_be_loaded(paths: Paths, script: Script) -> None:
    script("modprobe", "exit 1")
    script("rmmod", "exit 1")

    def cause() -> Cause:
        with pytest.raises(ModuleRefused) as raised:
            modprobe.require_loadable(paths, RELEASE)
        return raised.value.cause

    assert cause() is Cause.NO_MODULE
    (paths.lib_modules / "4.18.0").mkdir(parents=True)
    (paths.lib_modules / "4.18.0/openvswitch.ko").write_text("")
    assert cause() is Cause.WRONG_KERNEL
    (paths.lib_modules / RELEASE / "extra").mkdir(parents=True)
    (paths.lib_modules / RELEASE / "extra/openvswitch.ko.xz").write_text("")
    modprobe.require_loadable(paths, RELEASE)
    paths.modprobe_dirs[0].mkdir(parents=True)
    (paths.modprobe_dirs[0] / "off.conf").write_text("install openvswitch /bin/false\n")
    assert cause() is Cause.BLACKLIST
