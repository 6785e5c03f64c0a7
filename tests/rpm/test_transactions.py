"""Installing, upgrading, downgrading and erasing, by a real rpm in a root, compared by all that it can change.

What a row of transactions leaves is compared with what another row leaves, or with a host that had none of them; only
what a first installation changes is written down here. A transaction in which a scriptlet fails fails the test.
"""

import fnmatch
from pathlib import Path
from typing import Iterable, List, Tuple

import pytest

from tests.rpm import packages, snapshot, stand_ins
from tests.rpm.conftest import Rpms, States, Step
from tests.rpm.snapshot import changes
from tests.rpm.stand_ins import (
    CONFIG_UPDATE,
    IPSEC_UNIT,
    NETWORK_CONF,
    SCRIPTS,
    SWITCH_BACKEND,
    SYNC_UNIT,
    SYSCONFIG,
    UNIT,
)

EDITED = "# mine\nVSWITCHD_PRIORITY=-5\n"
EDIT: Step = ("sh", "-c", "rm %s && printf '%%s' '%s' >%s" % (SYSCONFIG, EDITED, SYSCONFIG))
VSWITCH_MODE: Step = (SWITCH_BACKEND, "vswitch")
BRIDGE_MODE: Step = (SWITCH_BACKEND, "bridge")
HISTORIES = {
    "in vswitch mode": (VSWITCH_MODE,),
    "in vswitch mode, without the sync": (VSWITCH_MODE, ("systemctl", "disable", SYNC_UNIT)),
    "in vswitch mode, nothing enabled": (VSWITCH_MODE, ("systemctl", "disable", UNIT, SYNC_UNIT)),
    "in bridge mode": (BRIDGE_MODE,),
    "in bridge mode, the switch enabled": (BRIDGE_MODE, ("systemctl", "enable", UNIT)),
    "network.conf missing": (VSWITCH_MODE, ("rm", NETWORK_CONF)),
    "sysconfig edited": (VSWITCH_MODE, EDIT),
    "sysconfig removed": (VSWITCH_MODE, ("rm", SYSCONFIG)),
}
"""What an administrator has done since the first installation."""
EVERY_HISTORY = pytest.mark.parametrize("history", sorted(HISTORIES))
COMPILED = "/usr/lib/ovsxen/*/__pycache__*"


def but(said: Iterable[str], *patterns: str) -> List[str]:
    """Changes of other paths than these."""
    return [line for line in said if not any(fnmatch.fnmatch(line.split(" ", 1)[1].split(": ")[0], each)
                                             for each in patterns)]


# The first installation


def test_a_first_installation_brings_the_packages_files_and_enables_the_switch(states: States, rpms: Rpms) -> None:
    root = states.after(rpms.install)
    files = [path if path.startswith("/usr") else path.replace("/lib/modules/", "/usr/lib/modules/")
             for path in root.rpm("-ql", *rpms.erase[1:]).out.split("\n")]
    found = but(changes(states.seen_after(), snapshot.take(root)), COMPILED, "/usr/lib/modules/*/modules.*", *files)
    assert [line.split(" ")[1].rstrip(":") for line in found] == [
        "/etc/modprobe.d/blacklist-bridge.conf", "/etc/systemd/system/multi-user.target.wants",
        "/etc/systemd/system/multi-user.target.wants/" + SYNC_UNIT,
        "/etc/systemd/system/multi-user.target.wants/" + UNIT, CONFIG_UPDATE, NETWORK_CONF, "unit", "unit"]
    assert found[-2:] == ["! unit %s: not-found -> enabled" % unit for unit in (SYNC_UNIT, UNIT)]
    assert root.read(NETWORK_CONF) == "vswitch"


@pytest.mark.parametrize("path, mode", [
    ("/usr/bin/ovsxen", 0o755), ("/etc/xapi.d/plugins/openvswitch-cfg-update", 0o755), (SYSCONFIG, 0o644),
    ("/etc/logrotate.d/openvswitch", 0o644), ("/usr/lib/sysctl.d/60-openvswitch-xen.conf", 0o644),
    ("/usr/lib/systemd/system/" + UNIT, 0o644), ("/usr/lib/systemd/system/" + SYNC_UNIT, 0o644),
    ("/usr/share/openvswitch/scripts/sysconfig.template", 0o644), ("/usr/lib/ovsxen", 0o755),
    ("/usr/lib/ovsxen/ovsxen", 0o755), ("/usr/lib/ovsxen/ovs", 0o755), ("/var/lib/ovsxen", 0o755),
    ("/etc/openvswitch", 0o755), ("/var/lib/openvswitch", 0o755), ("/var/log/openvswitch", 0o750),
    ("/var/xen/openvswitch", 0o755),
])
def test_what_programs_and_people_look_for_is_roots_and_has_its_mode(states: States, rpms: Rpms, path: str,
                                                                      mode: int) -> None:
    entry = states.seen_after(rpms.install)[path]
    assert (entry.owner, "%o" % entry.mode) == ("root:root", "%o" % mode)


def test_rpm_finds_nothing_changed_by_its_scriptlets(states: States, rpms: Rpms) -> None:
    root = states.after(rpms.install)
    assert [root.changed_files(name) for name in rpms.erase[1:]] == [[]] * len(rpms.erase[1:])


def test_a_second_installation_of_the_same_changes_nothing(states: States, rpms: Rpms) -> None:
    again = ("-U", "--replacepkgs") + rpms.install[1:]
    assert changes(states.seen_after(rpms.install), states.seen_after(rpms.install, again)) == []


@pytest.mark.parametrize("conf, state", [("openvswitch\n", "enabled"), ("vswitch\n", "enabled"),
                                         ("bridge\n", "disabled")])
def test_without_xapis_own_script_network_conf_says_whether_the_switch_is_enabled(states: States, rpms: Rpms, conf: str,
                                                                                 state: str) -> None:
    root = states.after(("rm", SWITCH_BACKEND))
    root.write(NETWORK_CONF, conf)
    root.transact(*rpms.install)
    assert (snapshot.enabled(root, UNIT), snapshot.enabled(root, SYNC_UNIT)) == (state, state)
    assert root.read(NETWORK_CONF) + "\n" == conf


def test_the_index_of_a_kernels_modules_knows_ours_while_it_is_there(states: States, rpms: Rpms) -> None:
    kernel = states.after().tell("sh", "-c", "ls -d /lib/modules/*/modules.order").split("/")[3]
    index = "/lib/modules/%s/modules.dep" % kernel
    assert "extra/openvswitch/openvswitch.ko:" in states.after(rpms.install).read(index)
    assert "openvswitch" not in states.after(rpms.install, rpms.erase).read(index)


def test_an_image_made_without_scriptlets_is_made_ready_by_hand(states: States, rpms: Rpms) -> None:
    xapi = ("-U", rpms.xapi[0])
    root = states.after(xapi)
    root.transact("-U", "--noscripts", "--notriggers", *rpms.install[1:])
    root.tell("sh", "-c", "ovsxen host-setup install && for each in /lib/modules/*/extra; do "
              "each=${each%/extra}; depmod ${each##*/}; done")
    assert changes(states.seen_after(xapi, rpms.install), snapshot.take(root)) == []


# Upgrades and downgrades


def test_an_upgrade_of_the_modules_leaves_them_in_the_index(states: States, rpms: Rpms) -> None:
    both = rpms.upgrade + (rpms.newer_modules,)
    assert changes(states.seen_after(rpms.install), states.seen_after(rpms.install, both)) == []
    assert changes(states.seen_after(), states.seen_after(rpms.install, both, rpms.erase)) == []


@EVERY_HISTORY
def test_an_upgrade_and_a_downgrade_leave_what_the_administrator_did(states: States, rpms: Rpms, history: str) -> None:
    before = (rpms.install,) + HISTORIES[history]
    restored = ["+ " + SYSCONFIG] if history == "sysconfig removed" else []
    upgraded = before + (rpms.upgrade,)
    said = changes(states.seen_after(*before), states.seen_after(*upgraded))
    assert [line.split(": ")[0] for line in said] == restored
    assert changes(states.seen_after(*upgraded), states.seen_after(*upgraded, rpms.downgrade)) == []


@EVERY_HISTORY
def test_an_upgrade_of_xcp_ngs_package_leaves_the_same_as_if_ours_had_always_been_there(states: States, rpms: Rpms,
                                                                                       history: str) -> None:
    xapi, theirs = ("-U", rpms.xapi[0]), ("-U", rpms.xcpng)
    upgraded = states.seen_after(xapi, theirs, *HISTORIES[history], rpms.install)
    said = changes(states.seen_after(xapi, rpms.install, *HISTORIES[history]), upgraded)
    new = {"sysconfig edited": ["+ " + SYSCONFIG + ".rpmnew"], "sysconfig removed": ["+ " + SYSCONFIG]}.get(history, [])
    assert [line.split(": ")[0] for line in said] == new


@EVERY_HISTORY
def test_a_return_to_xcp_ngs_package_leaves_nothing_of_ours(states: States, rpms: Rpms, history: str) -> None:
    before = (("-U", rpms.xapi[0]), ("-U", rpms.xcpng)) + HISTORIES[history]
    there_and_back = (rpms.install_of(rpms.knowing), ("-U", "--oldpackage", rpms.xcpng)) + (("-e", rpms.erase[2]),)
    assert states.seen_after(*before, there_and_back[0])[CONFIG_UPDATE].kind == snapshot.LINK
    said = changes(states.seen_after(*before), states.seen_after(*before, *there_and_back))
    new = {"sysconfig edited": ["! " + SYSCONFIG, "+ " + SYSCONFIG + ".rpmnew", "+ " + SYSCONFIG + ".rpmsave"],
           "sysconfig removed": ["+ " + SYSCONFIG]}.get(history, [])  # theirs is no config(noreplace)
    assert [line.split(": ")[0] for line in said] == new
    assert states.after(*before, *there_and_back).changed_files("xapi-core") == []


def with_ipsec(theirs: str, ipsec: str) -> Tuple[Step, ...]:
    return ("-U", theirs, ipsec), VSWITCH_MODE, ("systemctl", "enable", IPSEC_UNIT)


def test_an_ipsec_package_that_wants_a_switch_which_ours_does_not_stand_for_keeps_all_as_it_is(
        states: States, rpms: Rpms, base: Path) -> None:
    both = [str(packages.build(make("99"), base / "workshop"))
            for make in (stand_ins.xcpng_openvswitch, stand_ins.xcpng_ipsec)]
    before = with_ipsec(*both)
    root = states.after(*before)
    done = root.rpm(*rpms.install)
    assert done.code != 0 and "openvswitch-ipsec" in done.err
    assert changes(states.seen_after(*before), snapshot.take(root)) == []


def test_xcp_ngs_ipsec_package_stays_as_it_is(states: States, rpms: Rpms) -> None:
    before = with_ipsec(rpms.xcpng, rpms.ipsec)
    old = {path: entry for path, entry in states.seen_after(*before).items() if IPSEC_UNIT in path}
    root = states.after(*before, rpms.install)
    assert {path: entry for path, entry in snapshot.take(root).items() if path in old} == old
    assert root.changed_files("openvswitch-ipsec") == []
    root.tell(SCRIPTS + "ovs-monitor-ipsec", "--help")  # what its unit comes to
    assert "openvswitch-ipsec" in root.rpm(*rpms.erase).err  # it would be left without a switch
    assert root.rpm("-q", "openvswitch").code == 0


# The end


def test_an_erase_leaves_a_host_as_if_it_had_never_been_there(states: States, rpms: Rpms) -> None:
    assert changes(states.seen_after(), states.seen_after(rpms.install, rpms.erase)) == []


def test_an_erase_keeps_what_is_the_administrators(states: States, rpms: Rpms) -> None:
    made = ("sh", "-c", "cd /var/log/openvswitch && echo x >ovs-vswitchd.log && echo x >ovs-vswitchd.log.1.gz && "
            "echo x >/etc/openvswitch/conf.db && echo x >/etc/openvswitch/vswitchd.cacert")
    left = changes(states.seen_after(), states.seen_after(rpms.install, EDIT, made, rpms.erase))
    assert [line.split(": ")[0] for line in left] == ["+ " + path for path in (
        "/etc/openvswitch", "/etc/openvswitch/conf.db", "/etc/openvswitch/vswitchd.cacert", SYSCONFIG + ".rpmsave",
        "/var/log/openvswitch", "/var/log/openvswitch/ovs-vswitchd.log", "/var/log/openvswitch/ovs-vswitchd.log.1.gz")]


def test_bytecode_of_every_interpreter_that_the_host_had_goes_with_the_package(states: States, rpms: Rpms) -> None:
    older = ("sh", "-c", "for each in ovsxen ovsxen/host ovs; do mkdir -p /usr/lib/ovsxen/$each/__pycache__; "
             "echo x >/usr/lib/ovsxen/$each/__pycache__/gone.cpython-36.pyc; done")
    assert changes(states.seen_after(), states.seen_after(rpms.install, older, rpms.erase)) == []


def test_an_erase_without_bytecode_leaves_nothing_either(states: States, rpms: Rpms) -> None:
    without = ("sh", "-c", "find /usr/lib/ovsxen -name __pycache__ -prune -exec rm -r {} +")
    assert not [path for path in states.seen_after(rpms.install, without) if path.endswith(".pyc")]
    assert changes(states.seen_after(), states.seen_after(rpms.install, without, rpms.erase)) == []


def test_an_installation_after_an_erase_is_like_the_first(states: States, rpms: Rpms) -> None:
    assert changes(states.seen_after(rpms.install), states.seen_after(rpms.install, rpms.erase, rpms.install)) == []


def test_an_upgrade_then_an_erase_leave_nothing_either(states: States, rpms: Rpms) -> None:
    xapi = ("-U", rpms.xapi[0])
    assert changes(states.seen_after(xapi), states.seen_after(xapi, rpms.install, rpms.upgrade, rpms.erase)) == []
    assert states.after(xapi, rpms.install, rpms.upgrade, rpms.erase).changed_files("xapi-core") == []
