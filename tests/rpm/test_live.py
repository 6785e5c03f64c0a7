"""Packages replaced on a host that runs: a real systemd, rpm in it, and XCP-ng's package as it starts its daemons.

Its programs are this machine's own Open vSwitch. The datapath is a dummy, so whether a frame is lost is not seen here
but in tests/test_take_over.py; that no daemon of Open vSwitch is started again is.
"""

import shutil
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT
from ovsxen.sandbox import contents
from tests.container import Container, container_argv, running
from tests.rpm import packages, stand_ins
from tests.rpm.conftest import Rpms, States
from tests.rpm.packages import File, Package
from tests.rpm.root import MACROS
from tests.rpm.stand_ins import CONFIG_UPDATE, SCRIPTS, SYSCONFIG, UNITS
from tests.taking_over import ovs_start, switch_unit, sync_unit

REAL = "/opt/open-vswitch/"
PROGRAMS = ("/usr/bin/ovs-vsctl", "/usr/bin/ovs-appctl", "/usr/bin/ovsdb-tool", "/usr/bin/ovsdb-client",
            "/usr/sbin/ovs-vswitchd", "/usr/sbin/ovsdb-server")
SHARED_FILES = tuple(SCRIPTS + name for name in ("ovs-ctl", "ovs-lib", "ovs-kmod-ctl", "ovs-save"))
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
OVS_START = SCRIPTS + "ovs-start"


def xcpng_that_runs(workshop: Path) -> str:
    """XCP-ng's package, with programs that do what they are called."""
    files = tuple(File(path, '#!/bin/sh\nexec %s "$@"\n' % (REAL + Path(path).name), 0o755) for path in PROGRAMS)
    files += tuple(File(path, Path(path).read_text(), 0o755) for path in SHARED_FILES)
    files += (File(SCHEMA, Path(SCHEMA).read_text()), File(OVS_START, ovs_start(), 0o755),
              File(SYSCONFIG, contents.SYSCONFIG, 0o755, marks="%config"),
              File(UNITS + SWITCH_UNIT, switch_unit(OVS_START)),
              File(UNITS + SYNC_UNIT, sync_unit("/bin/sleep 1000")))
    return str(packages.build(Package("openvswitch", "2.17.7", "4.2", files, (),
                                      stand_ins.unit_scriptlets((SWITCH_UNIT, SYNC_UNIT)),
                                      ("/etc/openvswitch", "/var/log/openvswitch", "/var/xen/openvswitch")), workshop))


class Host:
    """A host that is up: a container, and rpm in it."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.tell, self.run = container.tell, container.run

    def rpm(self, *arguments: str) -> str:
        """A transaction that must succeed, with all its scriptlets; gives what they say."""
        done = self.run("rpm", "--load", str(MACROS), *arguments)
        assert done.code == 0 and "scriptlet failed" not in done.err, "rpm %s: %r" % (arguments, done)
        return done.out + done.err

    def words_of(self, unit: str) -> List[str]:
        """The command line of a unit's main process."""
        pid = Container(self.container.leader, unit).property("MainPID")
        return self.tell("cat", "/proc/%s/cmdline" % pid).split("\0")[:-1] if pid != "0" else []

    def assert_watched(self, before: Tuple[List[str], ...]) -> None:
        """By ovsxen's own units, and nothing of the switch was started again."""
        assert self.container.daemons() == before == self.container.switch_pids()
        assert self.words_of(SWITCH_UNIT)[-2:] == ["/usr/bin/ovsxen", "daemon"], self.container.journal()
        assert self.words_of(SYNC_UNIT)[-2:] == ["/usr/bin/ovsxen", "sync"], self.container.journal()
        self.container.wait_until(lambda: self.run("ovsxen", "status").code == 0)
        assert self.container.vsctl("list-br") == "xenbr0"

    def assert_unwatched(self, before: Tuple[List[str], ...]) -> None:
        """The switch goes on, and nothing of ovsxen runs."""
        assert self.container.daemons() == before == self.container.switch_pids()
        self.container.wait_until(lambda: self.run("pgrep", "--full", "/usr/bin/ovsxen").code == 1)
        assert self.tell("head", "-n", "2", CONFIG_UPDATE) == "\n".join(
            stand_ins.CONFIG_UPDATE_TEXT.split("\n")[:2]) % stand_ins.XAPI_VERSIONS[0]
        assert self.run("test", "-e", "/usr/lib/ovsxen").code == 1


@pytest.fixture(scope="module")
def package(base: Path) -> str:
    return xcpng_that_runs(base / "workshop")


@pytest.fixture
def host(states: States, rpms: Rpms, package: str) -> Iterator[Host]:
    """XCP-ng's package installed, and its switch up, with a bridge."""
    root = states.after(("-U", rpms.xapi[0]), ("-U", package), (stand_ins.SWITCH_BACKEND, "vswitch"))
    for each in PROGRAMS:
        root.write(REAL + Path(each).name, "", 0o755)
        shutil.copy(each, str(root.path) + REAL + Path(each).name)
    for each in (rpms.knowing, rpms.knowing_newer, rpms.modules, package):
        root.write("/root/" + Path(each).name, "")
        shutil.copy(each, str(root.path / "root"))
    shutil.copy("/etc/os-release", str(root.path / "etc"))
    argv = container_argv(root.path, "--overlay=/usr:%s:/usr" % root.layer)
    with running(argv, root.directory / "said") as container:
        made = Host(container)
        for unit in (SWITCH_UNIT, SYNC_UNIT):
            made.tell("systemctl", "start", unit)
        container.vsctl("add-br", "xenbr0")
        assert "xenbr0" in (container.root / "run/openvswitch/conf.db").read_text()
        yield made


def in_host(*paths: str) -> Tuple[str, ...]:
    return tuple("/root/" + Path(path).name for path in paths)


def test_xcp_ngs_package_is_upgraded_to_ours_and_the_switch_does_not_notice(host: Host, rpms: Rpms) -> None:
    before = host.container.daemons()
    host.rpm("-U", *in_host(rpms.knowing, rpms.modules))
    host.assert_watched(before)
    assert "xenbr0" in (host.container.root / "etc/openvswitch/conf.db").read_text()
    assert host.tell("readlink", CONFIG_UPDATE) == "openvswitch-cfg-update"
    assert host.run("pgrep", "--full", "monitoring pid").code == 1

    watcher = host.container.property("MainPID")
    host.rpm("-U", *in_host(rpms.knowing_newer))
    host.assert_watched(before)
    assert host.container.property("MainPID") == watcher

    host.rpm(*rpms.erase)
    host.assert_unwatched(before)
    assert host.tell("cat", "/etc/xensource/network.conf") == "bridge"


def test_a_return_to_xcp_ngs_package_leaves_the_switch_as_it_runs(host: Host, rpms: Rpms, package: str) -> None:
    before = host.container.daemons()
    host.rpm("-U", *in_host(rpms.knowing, rpms.modules))
    host.assert_watched(before)
    host.rpm("-U", "--oldpackage", *in_host(package))
    host.assert_unwatched(before)
    assert host.container.property("ExecStart").count("ovs-start") > 0
