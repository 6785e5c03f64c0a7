"""Transactions in which something fails: they end, say so, and what was left undone is done when they are repeated."""

import threading
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple

import pytest

from tests.conftest import Finished
from tests.rpm import packages, snapshot, stand_ins
from tests.rpm.conftest import Rpms, States, Step
from tests.rpm.root import Root
from tests.rpm.snapshot import Snapshot, changes
from tests.rpm.stand_ins import CONFIG_UPDATE, KEPT, NETWORK_CONF, SWITCH_BACKEND, SYNC_UNIT, UNIT

PYTHON = "/usr/bin/python3"
WANTS = "/etc/systemd/system/multi-user.target.wants"
OF_THE_UNITS = (WANTS, "%s/%s" % (WANTS, SYNC_UNIT), "%s/%s" % (WANTS, UNIT), "unit " + SYNC_UNIT, "unit " + UNIT)
OF_THE_BACKEND = OF_THE_UNITS + ("/etc/modprobe.d/blacklist-bridge.conf", NETWORK_CONF)
"""What the choice of the network backend changes, which is made by a first installation and given up by an erase."""

BROKEN = {
    "python3 fails": (PYTHON, "exit 1"),
    "python3 is killed": (PYTHON, "kill -9 $$"),
    "the backend cannot be chosen": (SWITCH_BACKEND, "echo 'no such file' >&2; exit 1"),
    "systemctl fails": ("/usr/bin/systemctl", "exit 1"),
}
"""What lies over a program for the duration of a transaction."""

KILLS_RPM = (PYTHON, "kill -9 $(pidof rpm)")
HANGS = (SWITCH_BACKEND, "sleep 1000")
PATIENCE_S = 150.0
EVERY_FAULT = pytest.mark.parametrize("fault", sorted(BROKEN))


class Way(NamedTuple):
    """Transactions with packages that divert the stand-in of XAPI's plugin."""

    xapi: Step
    install: Step
    upgrade: Step
    erase: Step


@pytest.fixture
def way(rpms: Rpms) -> Way:
    return way_of(rpms)


def way_of(rpms: Rpms) -> Way:
    return Way(("-U", rpms.xapi[0]), rpms.install_of(rpms.knowing), ("-U", rpms.knowing_newer), rpms.erase)


def disturbed(root: Root, step: Step, program: str, script: str, limit_s: float = 60) -> Finished:
    stand_in = root.directory / Path(program).name
    stand_in.write_text("#!/bin/sh\n%s\n" % script)
    stand_in.chmod(0o755)
    return root.rpm(*step, over={program: stand_in}, limit_s=limit_s)


def differing(before: Snapshot, after: Snapshot) -> List[str]:
    """Paths and units that differ."""
    return [line[2:].split(": ")[0] for line in changes(before, after)]


def again(step: Step) -> Step:
    return (step[0], "--replacepkgs") + step[1:]


# ovsxen fails


@EVERY_FAULT
def test_a_first_installation_ends_and_can_be_repeated_by_hand(states: States, way: Way, fault: str) -> None:
    root = states.after(way.xapi)
    done = disturbed(root, way.install, *BROKEN[fault])
    assert done.code == 0 and "scriptlet failed" not in done.err, done
    assert root.rpm("-q", "openvswitch").code == 0
    wanted = states.seen_after(way.xapi, way.install)
    left = differing(wanted, snapshot.take(root))
    assert set(OF_THE_UNITS) <= set(left)
    if BROKEN[fault][0] != PYTHON:
        assert set(left) <= set(OF_THE_BACKEND)
        assert SWITCH_BACKEND + " vswitch" in done.err + done.out  # what to run by hand
    root.tell("ovsxen", "host-setup", "install")
    assert changes(wanted, snapshot.take(root)) == []


@EVERY_FAULT
def test_a_repeated_transaction_does_all_but_choose_the_backend(states: States, way: Way, fault: str) -> None:
    root = states.after(way.xapi)
    disturbed(root, way.install, *BROKEN[fault])
    root.transact(*again(way.install))
    wanted = states.seen_after(way.xapi, way.install)
    assert set(differing(wanted, snapshot.take(root))) <= set(OF_THE_BACKEND)


@EVERY_FAULT
def test_an_upgrade_ends_and_repeated_is_as_if_nothing_had_been(states: States, way: Way, fault: str) -> None:
    root = states.after(way.xapi, way.install)
    done = disturbed(root, way.upgrade, *BROKEN[fault])
    assert done.code == 0 and "scriptlet failed" not in done.err, done
    assert len(root.rpm("-q", "openvswitch").out.split()) == 1
    seen = snapshot.take(root)
    assert seen[CONFIG_UPDATE].content == "openvswitch-cfg-update" and KEPT in seen
    root.transact(*again(way.upgrade))
    assert changes(states.seen_after(way.xapi, way.install, way.upgrade), snapshot.take(root)) == []


@EVERY_FAULT
def test_an_erase_ends_and_leaves_no_more_than_the_choice_of_the_backend(states: States, way: Way, fault: str) -> None:
    root = states.after(way.xapi, way.install)
    done = disturbed(root, way.erase, *BROKEN[fault])
    assert done.code == 0 and "scriptlet failed" not in done.err, done
    left = differing(states.seen_after(way.xapi), snapshot.take(root))
    assert set(left) <= set(OF_THE_BACKEND)  # the units are gone, so nothing is started
    assert root.changed_files("xapi-core") == []
    root.transact(*way.install)
    root.transact(*way.erase)
    assert changes(states.seen_after(way.xapi), snapshot.take(root)) == []


def test_an_erase_that_cannot_put_xapis_plugin_back_keeps_it_and_says_where(states: States, way: Way) -> None:
    root = states.after(way.xapi, way.install)
    theirs = states.seen_after(way.xapi)[CONFIG_UPDATE]
    broken = root.directory / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    done = root.rpm(*way.erase, over={PYTHON: broken, "/usr/bin/mv": broken})
    assert "XAPI's own plugin is kept as %s, because %s cannot be written" % (KEPT, CONFIG_UPDATE) in done.err, done
    assert snapshot.take(root)[KEPT] == theirs
    root.transact(*way.install)
    root.transact(*way.erase)
    assert changes(states.seen_after(way.xapi), snapshot.take(root)) == []


@EVERY_FAULT
def test_an_erase_without_xapi_leaves_no_link_to_what_is_gone(states: States, way: Way, fault: str) -> None:
    root = states.after(way.install)
    done = disturbed(root, way.erase, *BROKEN[fault])
    assert done.code == 0 and "scriptlet failed" not in done.err, done
    assert set(differing(states.seen_after(), snapshot.take(root))) <= set(OF_THE_BACKEND)


@EVERY_FAULT
def test_an_upgrade_of_xcp_ngs_package_and_the_return_to_it_end_likewise(states: States, way: Way, rpms: Rpms,
                                                                        fault: str) -> None:
    before = (way.xapi, ("-U", rpms.xcpng), (SWITCH_BACKEND, "vswitch"))
    root = states.after(*before)
    done = disturbed(root, way.install, *BROKEN[fault])
    assert done.code == 0 and "scriptlet failed" not in done.err, done
    root.transact(*again(way.install))
    assert changes(states.seen_after(*before, way.install), snapshot.take(root)) == []

    back = ("-U", "--oldpackage", rpms.xcpng)
    done = disturbed(root, back, *BROKEN[fault])
    assert done.code == 0 and "scriptlet failed" not in done.err, done
    assert changes(states.seen_after(*before, way.install, back), snapshot.take(root)) == []
    assert root.changed_files("xapi-core") == []


@EVERY_FAULT
def test_xapis_package_comes_all_the_same_and_is_diverted_at_the_next_occasion(states: States, way: Way,
                                                                              fault: str) -> None:
    root = states.after(way.install)
    done = disturbed(root, way.xapi, *BROKEN[fault])
    assert done.code == 0 and "scriptlet failed" not in done.err, done
    root.tell("ovsxen", "plugin", "divert")
    assert changes(states.seen_after(way.install, way.xapi), snapshot.take(root)) == []


# Other things fail


def test_something_in_the_way_of_the_kept_plugin_leaves_xapis_own_in_place(states: States, way: Way) -> None:
    root = states.after(way.xapi)
    root.write(KEPT + "/in-the-way", "")
    done = root.rpm(*way.install)
    assert done.code == 0 and KEPT in done.err + done.out, done
    assert root.changed_files("xapi-core") == []
    assert snapshot.enabled(root, UNIT) == "enabled"  # one step that fails keeps no other from its work
    root.tell("rm", "-r", KEPT)
    root.tell("ovsxen", "host-setup", "install")
    assert changes(states.seen_after(way.xapi, way.install), snapshot.take(root)) == []


def test_a_directory_that_cannot_be_written_to_keeps_the_last_version(states: States, way: Way) -> None:
    root = states.after(way.xapi, way.install)
    done = root.rpm(*way.upgrade, over={"/etc/xapi.d": root.path / "etc/xapi.d"})
    assert done.code != 0 and "openvswitch-cfg-update" in done.err, done
    assert len(root.rpm("-q", "openvswitch").out.split()) == 1
    assert root.tell("ovsxen", "version")
    root.transact(*way.upgrade)
    assert changes(states.seen_after(way.xapi, way.install, way.upgrade), snapshot.take(root)) == []


@pytest.mark.parametrize("script", ["pre", "post"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_failing_scriptlet_of_another_package_costs_ours_nothing(states: States, way: Way, base: Path, script: str, *,
                                                                  is_first: bool) -> None:
    release = "%s.%d" % (script, is_first)
    other = str(packages.build(stand_ins.bystander(release, **{script: "exit 1"}), base / "workshop"))
    root = states.after(way.xapi)
    together = (way.install[0], other) + way.install[1:] if is_first else way.install + (other,)
    done = root.rpm(*together)
    assert "bystander" in done.err and "scriptlet failed" in done.err, done
    said = changes(states.seen_after(way.xapi, way.install), snapshot.take(root))
    assert [line for line in said if "/usr/share/bystander" not in line] == []


@pytest.mark.parametrize("verb", ["install", "upgrade"])
def test_a_transaction_that_is_killed_in_a_scriptlet_is_ended_by_the_next(states: States, way: Way, verb: str) -> None:
    before = {"install": (way.xapi,), "upgrade": (way.xapi, way.install)}[verb]
    step: Step = getattr(way, verb)
    root = states.after(*before)
    assert disturbed(root, step, *KILLS_RPM).code != 0
    root.transact(*again(step))
    if verb == "install":
        root.tell("ovsxen", "host-setup", "install")
    assert root.rpm("-q", "openvswitch").out.count("\n") == 1
    assert changes(states.seen_after(*before, step), snapshot.take(root)) == []


# It takes a minute, so it is begun when the first test of this file is


class Waited(NamedTuple):
    root: Root
    ended: List[Finished]


@pytest.fixture(scope="module", autouse=True)
def hanging(states: States, rpms: Rpms) -> Iterator[Callable[[], Waited]]:
    """A first installation with a program that does not end."""
    way = way_of(rpms)
    waited = Waited(states.after(way.xapi), [])
    thread = threading.Thread(
        target=lambda: waited.ended.append(disturbed(waited.root, way.install, *HANGS, limit_s=PATIENCE_S)))
    thread.start()

    def wait() -> Waited:
        thread.join()
        return waited

    yield wait
    thread.join()


def test_a_program_that_hangs_is_given_up_and_ended(hanging: Callable[[], Waited], states: States, way: Way) -> None:
    root, ended = hanging()
    assert ended and ended[0].code == 0, ended
    assert SWITCH_BACKEND + " vswitch" in ended[0].err + ended[0].out
    wanted = states.seen_after(way.xapi, way.install)
    assert set(differing(wanted, snapshot.take(root))) == set(OF_THE_BACKEND)
    root.tell("ovsxen", "host-setup", "install")
    assert changes(wanted, snapshot.take(root)) == []
