"""Which plugin XAPI runs, whatever rpm, people and SIGKILL do in whichever order."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from ovsxen import divert, sequence
from ovsxen.divert import Change, Entry, Found, Lies, plan_divert, plan_restore
from ovsxen.errors import AdministratorError, NoAnswer, XapiFailure
from ovsxen.host.files import Identity
from ovsxen.host.paths import Paths, paths_under
from ovsxen.known_plugins import KNOWN
from ovsxen.sandbox.xapi.server import FakeXapi
from tests.conftest import REPOSITORY, UNPRIVILEGED, Finished, SandboxHost, ask_xapi
from tests.diverting import (
    EVENTS,
    FIRST,
    KNOWN_HERE,
    OWN,
    SECOND,
    STRANGE,
    Plugins,
    after,
    assert_as_xapi_core_brought_it,
    assert_nothing_is_lost,
)

PATHS = paths_under(Path("/nonexistent"), {})
A_KNOWN = sorted(KNOWN)[0]
NOTHING = Entry(Lies.NOTHING)
LINKED = Entry(Lies.OUR_LINK, "openvswitch-cfg-update", Identity(1, 1, 1, 1), True)
KNOWN_FILE = Entry(Lies.FILE, A_KNOWN, Identity(1, 2, 1, 1), True)
UNKNOWN_FILE = Entry(Lies.FILE, "0" * 64, Identity(1, 3, 1, 1), True)
ELSEWHERE = Entry(Lies.LINK, "/opt/other", Identity(1, 4, 1, 1), True)
DIRECTORY = Entry(Lies.OTHER, "", Identity(1, 5, 1, 1))


def again(entry: Entry) -> Entry:
    """The same content in another file."""
    return entry._replace(identity=Identity(2, 2, 2, 2))


@pytest.mark.parametrize("called, kept, steps, forced", [
    (LINKED, NOTHING, (), ()),
    (LINKED, KNOWN_FILE, (), ()),
    (KNOWN_FILE, NOTHING, (Change.KEEP, Change.LINK), (Change.KEEP, Change.LINK)),
    (KNOWN_FILE, again(UNKNOWN_FILE), (Change.KEEP, Change.LINK), (Change.KEEP, Change.LINK)),
    (KNOWN_FILE, KNOWN_FILE, (Change.LINK,), (Change.LINK,)),
    (KNOWN_FILE, again(KNOWN_FILE), (Change.KEEP, Change.LINK), (Change.KEEP, Change.LINK)),
    (UNKNOWN_FILE, NOTHING, (), (Change.KEEP, Change.LINK)),
    (UNKNOWN_FILE, again(KNOWN_FILE), (), (Change.KEEP, Change.LINK)),
    (UNKNOWN_FILE, again(UNKNOWN_FILE), (Change.KEEP, Change.LINK), (Change.KEEP, Change.LINK)),
    (ELSEWHERE, NOTHING, (), (Change.KEEP, Change.LINK)),
    (ELSEWHERE, again(ELSEWHERE), (Change.KEEP, Change.LINK), (Change.KEEP, Change.LINK)),
    (NOTHING, NOTHING, (Change.LINK,), (Change.LINK,)),
])
def test_what_a_diversion_does(called: Entry, kept: Entry, steps: Tuple[Change, ...],
                               forced: Tuple[Change, ...]) -> None:
    for has_xapi in (True, False):
        found = Found(called, kept, True, has_xapi)
        assert (plan_divert(found, PATHS, force=False), plan_divert(found, PATHS, force=True)) == (steps, forced)


@pytest.mark.parametrize("called, kept, steps", [
    (LINKED, NOTHING, (Change.UNLINK,)),
    (LINKED, DIRECTORY, (Change.UNLINK,)),
    (LINKED, KNOWN_FILE, (Change.PUT_BACK, Change.FORGET)),
    (LINKED, ELSEWHERE, (Change.PUT_BACK, Change.FORGET)),
    (KNOWN_FILE, NOTHING, ()),
    (KNOWN_FILE, again(KNOWN_FILE), (Change.FORGET,)),
    (UNKNOWN_FILE, again(KNOWN_FILE), (Change.FORGET,)),
    (ELSEWHERE, again(KNOWN_FILE), (Change.FORGET,)),
    (DIRECTORY, KNOWN_FILE, (Change.FORGET,)),
    (DIRECTORY, DIRECTORY, ()),
    (NOTHING, NOTHING, ()),
])
def test_what_a_restoration_does(called: Entry, kept: Entry, steps: Tuple[Change, ...]) -> None:
    for has_xapi in (True, False):
        for own_runs in (True, False):
            assert plan_restore(Found(called, kept, own_runs, has_xapi)) == steps


def test_what_is_kept_of_a_package_that_is_gone_does_not_come_back() -> None:
    assert plan_restore(Found(NOTHING, KNOWN_FILE, True, False)) == (Change.FORGET,)
    assert plan_divert(Found(NOTHING, KNOWN_FILE, True, False), PATHS, force=False) == (Change.FORGET, Change.LINK)


def test_what_is_kept_of_a_package_that_is_there_is_never_forgotten_for_an_empty_name() -> None:
    assert plan_restore(Found(NOTHING, KNOWN_FILE, True, True)) == (Change.PUT_BACK, Change.FORGET)
    assert plan_divert(Found(NOTHING, KNOWN_FILE, True, True), PATHS, force=False) == (Change.LINK,)


@pytest.mark.parametrize("found, word", [
    (Found(KNOWN_FILE, NOTHING, False, True), "install ovsxen again"), (Found(LINKED, NOTHING, False, True), "install"),
    (Found(DIRECTORY, NOTHING, True, True), "move it away"), (Found(KNOWN_FILE, DIRECTORY, True, True), "move it away"),
])
def test_a_diversion_that_would_leave_xapi_without_a_plugin_or_lose_something_is_refused(found: Found,
                                                                                       word: str) -> None:
    for force in (False, True):
        with pytest.raises(AdministratorError) as raised:
            plan_divert(found, PATHS, force=force)
        assert word in str(raised.value)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known versions whose texts can be written here."""
    for checksum, version in KNOWN_HERE.items():
        monkeypatch.setitem(KNOWN, checksum, version)


@pytest.fixture
def plugins(tmp_path: Path, known: None) -> Plugins:
    """A host of known plugins, with xapi-core."""
    made = Plugins(tmp_path / "h")
    made.install_core(FIRST)
    return made


def refuse_links(*_arguments: object, **_options: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.fixture(params=["links", "copies"])
def linking(request: Any, known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice: with /etc and /var on one file system, and as if they were on two. For the second the call that differs is
    replaced, because a process that was forked for each of many kills cannot mount; the test below that mounts is real.
    """
    if request.param == "copies":
        monkeypatch.setattr(os, "link", refuse_links)


def reachable(root: Path) -> Dict[Tuple[object, ...], Tuple[str, ...]]:
    """Every state that any sequence of events leads to, and the shortest way to each."""
    ways: Dict[Tuple[object, ...], Tuple[str, ...]] = {after(root, ()).state(): ()}
    news = list(ways.values())
    while news:
        way = news.pop(0)
        for event in EVENTS:
            state = after(root, way + (event,)).state()
            if state not in ways:
                ways[state] = way + (event,)
                news.append(ways[state])
    return ways


@pytest.fixture
def place() -> Iterator[Path]:
    """Where thousands of hosts are made one after the other: in memory, where syncing takes no time."""
    made = Path(tempfile.mkdtemp(prefix="ox-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    yield made
    shutil.rmtree(str(made))


@pytest.fixture
def ways(place: Path, linking: None) -> Tuple[Tuple[str, ...], ...]:
    return tuple(reachable(place / "h").values())


def test_no_order_of_events_loses_a_plugin_and_each_step_may_be_repeated(
        place: Path, ways: Tuple[Tuple[str, ...], ...]) -> None:
    for way in ways:
        for event in EVENTS:
            plugins = after(place / "h", way + (event,))
            assert_nothing_is_lost(plugins)
            assert plugins.leftovers() == (), way
            if event in ("divert", "divert --force", "restore"):
                before = plugins.state()
                EVENTS[event](plugins)
                assert plugins.state() == before, (way, event)


def test_after_an_erase_of_ovsxen_the_name_holds_what_was_brought_last_as_it_was(
        place: Path, ways: Tuple[Tuple[str, ...], ...]) -> None:
    for way in ways:
        plugins = after(place / "h", way + ("restore",))
        assert (plugins.calls(), plugins.keeps()) == (plugins.brought.text or "", ""), way
        if plugins.brought.text is not None:
            assert_as_xapi_core_brought_it(plugins.paths.called_plugin)


def test_a_diversion_diverts_whatever_is_known_and_by_force_everything(
        place: Path, ways: Tuple[Tuple[str, ...], ...]) -> None:
    for way in ways:
        assert after(place / "h", way + ("divert --force",)).calls() == OWN, way
        plugins = after(place / "h", way)
        was_asked_for = plugins.calls() == OWN or plugins.keeps() == plugins.brought.text
        done = plugins.divert()
        is_ours = was_asked_for or plugins.brought.text in (None, FIRST, SECOND)
        assert (plugins.calls() == OWN, done.left_alone) == (is_ours, not is_ours), way


EFFECTS = ("link", "rename", "unlink", "symlink", "chown", "chmod", "utime", "mkdir")
"""What changes the file system; to be killed before anything else is to be killed after the last of these."""


def run_killed(plugins: Plugins, event: str, effect: int) -> bool:
    """Have it happen in a child that is killed just before that effect of its; tells whether it came so far."""
    pid = os.fork()
    if pid == 0:
        left = [effect]

        def counting(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return real(*arguments, **options)
            return wrapped

        for name in EFFECTS:
            setattr(os, name, counting(getattr(os, name)))
        try:
            EVENTS[event](plugins)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def those_that_act(place: Path, ways: Tuple[Tuple[str, ...], ...], event: str) -> List[Tuple[str, ...]]:
    """Ways to states in which the event changes something."""
    return [way for way in ways if after(place / "h", way + (event,)).state() != after(place / "h", way).state()]


@pytest.mark.parametrize("event", ["divert", "divert --force", "restore"])
def test_killed_at_any_moment_xapi_has_a_plugin_and_a_second_run_mends(
        place: Path, event: str, ways: Tuple[Tuple[str, ...], ...]) -> None:
    kills = 0
    for way in those_that_act(place, ways, event):
        whole = after(place / "h", way + (event,)).state()
        for effect in range(100):
            plugins = after(place / "h", way)
            if not run_killed(plugins, event, effect):
                assert plugins.state()[:3] == whole[:3]
                break
            kills += 1
            assert_nothing_is_lost(plugins)
            EVENTS[event](plugins)
            assert plugins.state() == whole, (way, effect)
            assert plugins.leftovers() == (), (way, effect)
    assert kills > 50


def test_what_is_kept_is_on_disk_before_its_name_leads_elsewhere_and_until_it_is_back(
        plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the order of the calls: nothing short of a power cut shows it."""
    called: List[str] = []
    for name in ("rename", "unlink"):
        def telling(*arguments: str, real: Callable[..., None] = getattr(os, name), name: str = name) -> None:
            real(*arguments)
            if not arguments[-1].endswith(".staged"):
                called.append("%s %s" % (name, os.path.relpath(arguments[-1], str(plugins.paths.root))))

        monkeypatch.setattr(os, name, telling)
    monkeypatch.setattr(os, "fsync", lambda fd: called.append(
        "fsync %s" % os.path.relpath(os.readlink("/proc/self/fd/%d" % fd), str(plugins.paths.root))))
    plugins.divert()
    plugins.restore()
    kept, name = "var/lib/ovsxen/openvswitch-config-update", "etc/xapi.d/plugins/openvswitch-config-update"
    assert [call for call in called if not call.endswith(".staged")] == [
        "fsync var/lib", "rename " + kept, "fsync var/lib/ovsxen", "rename " + name, "fsync etc/xapi.d/plugins",
        "rename " + name, "fsync etc/xapi.d/plugins", "unlink " + kept, "fsync var/lib/ovsxen"]
    assert sum(call.endswith(".staged") for call in called) == 2  # the file's own bytes, under each new name


def test_after_a_kill_a_change_of_mind_loses_nothing_either(place: Path, ways: Tuple[Tuple[str, ...], ...]) -> None:
    for event, other in (("divert --force", "restore"), ("restore", "divert")):
        for way in those_that_act(place, ways, event):
            for effect in range(100):
                plugins = after(place / "h", way)
                was_killed = run_killed(plugins, event, effect)
                EVENTS[other](plugins)
                assert_nothing_is_lost(plugins)
                if not was_killed:
                    break


def bring_before(plugins: Plugins, monkeypatch: pytest.MonkeyPatch, brings: List[str], call: str = "symlink") -> None:
    """Have rpm bring these, one each time just before that call of ovsxen's: so short a moment that nothing but a
    replaced call meets it.
    """
    real = getattr(os, call)

    def late(*arguments: Any, **options: Any) -> None:
        if brings:
            plugins.install_core(brings.pop(0))
        real(*arguments, **options)

    monkeypatch.setattr(os, call, late)


@pytest.mark.parametrize("brings", [[SECOND], [SECOND, FIRST], [SECOND, FIRST, SECOND, FIRST]])
def test_what_rpm_brings_in_between_is_kept_and_not_what_it_replaced(plugins: Plugins, brings: List[str],
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    bring_before(plugins, monkeypatch, list(brings))
    plugins.divert()
    assert (plugins.calls(), plugins.keeps()) == (OWN, brings[-1])


@pytest.mark.parametrize("call", ["link", "symlink"])
def test_what_rpm_brings_in_between_is_left_alone_when_it_is_unknown(plugins: Plugins, call: str,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    bring_before(plugins, monkeypatch, [STRANGE], call)
    assert plugins.divert().left_alone
    assert plugins.calls() == STRANGE


def test_what_rpm_brings_while_the_older_one_is_put_back_stays(plugins: Plugins,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.divert()
    bring_before(plugins, monkeypatch, [SECOND], "link")
    plugins.restore()
    assert (plugins.calls(), plugins.keeps()) == (SECOND, "")


def test_a_name_that_changes_all_the_time_is_given_up(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    bring_before(plugins, monkeypatch, [SECOND] * 50)
    with pytest.raises(NoAnswer):
        plugins.divert()
    assert plugins.calls() == SECOND
    assert plugins.leftovers() == ()


def test_two_at_once_wait_for_each_other_and_not_for_ever(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "PLUGIN_TURN_WITHIN_S", 0.1)
    with sequence.take_plugin_turn(plugins.paths):
        for act in (plugins.divert, plugins.restore):
            with pytest.raises(NoAnswer) as raised:
                act()
            assert "diverting or restoring XAPI's plugin" in str(raised.value)
    assert plugins.calls() == FIRST


def command(paths: Paths, *words: str, within: Tuple[str, ...] = ()) -> Finished:
    """The command as it is, run by `within`."""
    return Finished(subprocess.run(
        within + (sys.executable, "-m", "ovsxen", "--root", str(paths.root), "plugin") + words, cwd=str(REPOSITORY),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60))


def test_many_at_once_all_end_well(plugins: Plugins) -> None:
    argv = [sys.executable, "-m", "ovsxen", "--root", str(plugins.paths.root), "plugin"]
    running = [subprocess.Popen(argv + words, cwd=str(REPOSITORY), stdout=subprocess.DEVNULL)
               for words in (["divert", "--force"], ["restore"]) * 4]
    assert [process.wait(60) for process in running] == [0] * 8
    assert_nothing_is_lost(plugins)
    plugins.restore()
    assert_as_xapi_core_brought_it(plugins.paths.called_plugin)


def test_exit_codes_tell_what_xapi_runs(plugins: Plugins) -> None:
    paths = plugins.paths
    plugins.install_core(STRANGE)
    assert command(paths, "status").code == 3
    left = command(paths, "divert")
    assert left.code == 3
    assert left.out == ""
    for word in (sha256(STRANGE.encode()).hexdigest(), "is left alone", "runs its own", "--force"):
        assert word in left.err
    assert command(paths, "divert", "--force").code == 0
    assert command(paths, "status").code == command(paths, "divert").code == 0
    paths.own_plugin.chmod(0o644)
    assert (command(paths, "status").code, command(paths, "divert").code) == (1, 1)
    assert command(paths, "restore").code == 0
    refused = command(paths, "divert", "--force")
    assert (refused.code, plugins.calls()) == (1, STRANGE)
    assert "install ovsxen again" in refused.err


def test_json_says_the_same(plugins: Plugins) -> None:
    text = sha256(FIRST.encode()).hexdigest()
    done = command(plugins.paths, "divert", "--force", "--json").json
    assert (done["schema"], done["runs"], done["kept"]["content"], done["steps"]) == (1, "ours", text, ["keep", "link"])
    seen = command(plugins.paths, "status", "--json").json
    assert (seen["called"]["is"], seen["exit_code"], seen["steps"]) == ("our_link", 0, [])
    plugins.paths.own_plugin.unlink()
    failed = command(plugins.paths, "divert", "--json")
    assert failed.json["exit_code"] == failed.code == 1
    assert "install ovsxen again" in failed.json["error"]
    assert failed.err == ""


@pytest.mark.parametrize("words", [(), ("frobnicate",), ("restore", "--force"), ("divert", "--dry-run"),
                                   ("divert", "x")])
def test_what_it_does_not_take_is_a_usage_error(plugins: Plugins, words: Tuple[str, ...]) -> None:
    assert command(plugins.paths, *words).code == 2
    assert plugins.calls() == FIRST


def test_what_is_in_the_way_is_named_and_left(plugins: Plugins) -> None:
    plugins.paths.diverted_plugin.mkdir(parents=True)
    with pytest.raises(AdministratorError) as raised:
        plugins.divert()
    assert str(plugins.paths.diverted_plugin) in str(raised.value)
    plugins.paths.diverted_plugin.rmdir()
    plugins.paths.diverted_plugin.parent.rmdir()
    plugins.paths.diverted_plugin.parent.write_text("a file")
    with pytest.raises(AdministratorError):
        plugins.divert()
    assert plugins.calls() == FIRST
    plugins.paths.called_plugin.unlink()
    plugins.paths.called_plugin.mkdir()
    plugins.paths.diverted_plugin.parent.unlink()
    with pytest.raises(AdministratorError):
        plugins.divert(force=True)
    assert "neither a file nor a link" in divert.status(plugins.paths).text


def test_a_link_elsewhere_is_diverted_by_force_alone_and_comes_back(plugins: Plugins) -> None:
    called = plugins.paths.called_plugin
    called.unlink()
    called.symlink_to("/opt/other/plugin")
    assert plugins.divert().left_alone
    assert plugins.divert(force=True).found.called.lies is Lies.OUR_LINK
    plugins.restore()
    assert os.readlink(str(called)) == "/opt/other/plugin"


@pytest.mark.parametrize("target", ["/etc/xapi.d/plugins/openvswitch-cfg-update", "./openvswitch-cfg-update"])
def test_a_link_to_ours_is_ours_however_it_is_written(plugins: Plugins, target: str) -> None:
    plugins.paths.called_plugin.unlink()
    plugins.paths.called_plugin.symlink_to(target)
    assert plugins.divert().steps == ()


def test_a_user_who_may_not_is_told_so(plugins: Plugins) -> None:
    (plugins.paths.root / "run").mkdir()
    for words in (("divert", "--force"), ("restore",)):
        done = command(plugins.paths, *words, within=tuple(UNPRIVILEGED))
        assert done.code == 4
        assert "as root" in done.err
    plugins.paths.called_plugin.chmod(0o700)
    assert command(plugins.paths, "status", within=tuple(UNPRIVILEGED)).code == 4
    assert plugins.calls() == FIRST


def mounted(plugins: Plugins, mount: str) -> Tuple[str, ...]:
    """Runs a command where this has been mounted, in a mount namespace of its own."""
    script = "cd %s && %s && cd %s && exec \"$@\"" % (plugins.paths.root, mount, REPOSITORY)
    return ("unshare", "--mount", "sh", "-c", script, "sh")


can_mount = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@can_mount
def test_a_read_only_file_system_is_named_and_nothing_is_changed(plugins: Plugins) -> None:
    done = command(plugins.paths, "divert", "--force", within=mounted(
        plugins, "mount --bind etc etc && mount -o remount,bind,ro etc"))
    assert done.code == 1
    assert "read-write" in done.err
    assert plugins.calls() == FIRST
    plugins.restore()
    assert plugins.keeps() == ""


@can_mount
def test_over_two_file_systems_it_comes_back_as_it_was(plugins: Plugins) -> None:
    os.setxattr(str(plugins.paths.called_plugin), "trusted.ovsxen", b"a label")
    (plugins.paths.root / "var/lib/ovsxen").mkdir(parents=True)
    script = "set -e; for word in divert status restore; do %s -m ovsxen --root %s plugin $word --json; done" % (
        sys.executable, plugins.paths.root)
    script = script.replace("$word", "$word $([ $word = divert ] && echo --force)")
    done = subprocess.run(mounted(plugins, "mount -t tmpfs none var/lib/ovsxen") + ("sh", "-c", script),
                          stdout=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.count('"runs": "ours"') == 2
    assert plugins.calls() == FIRST
    assert_as_xapi_core_brought_it(plugins.paths.called_plugin)
    assert os.getxattr(str(plugins.paths.called_plugin), "trusted.ovsxen") == b"a label"


def test_xapi_reaches_ovsxen_through_the_link_and_it_serves_the_right_host(host: SandboxHost, xapi: FakeXapi) -> None:
    name = host.paths.called_plugin.name
    host.write(host.paths.called_plugin, "#!/bin/sh\nexit 7\n")
    assert command(host.paths, "divert").code == 3
    with pytest.raises(XapiFailure):
        ask_xapi(host, "host.call_plugin", xapi.database.find("host"), name, "update", {})
    assert command(host.paths, "divert", "--force").code == 0
    host.start()
    host.vsctl("--no-wait", "del-manager")
    host.write(host.paths.networkd_db, "{}")
    answer = ask_xapi(host, "host.call_plugin", xapi.database.find("host"), name, "update", {})
    assert answer == "No change to configuration"
    verdict = json.loads(ask_xapi(host, "host.call_plugin", xapi.database.find("host"), name, "status", {}))
    assert verdict["boot_id"] == host.status()["boot_id"]


def test_the_table_names_every_version_twice_by_its_checksum() -> None:
    assert all(len(checksum) == 64 and int(checksum, 16) for checksum in KNOWN)
    versions = list(KNOWN.values())
    assert all(versions.count(version) == 2 and all(version) for version in versions)  # the second: its shebang mangled


def test_status_warns_where_a_package_has_put_ovsxen_and_xapi_runs_a_plugin_of_its_own(host: SandboxHost) -> None:
    host.paths.called_plugin.write_text(STRANGE)
    assert host.status()["warnings"] == []
    host.paths.diverted_plugin.parent.mkdir(parents=True)
    (warning,) = host.status()["warnings"]
    assert warning.startswith("XAPI runs its own plugin") and warning.endswith("divert --force` has it run ovsxen's")
    assert host.ovsxen("plugin", "divert", "--force").code == 0
    assert host.status()["warnings"] == []
    host.paths.called_plugin.unlink()
    assert host.status()["warnings"] == []
