"""Python 3.6, which XenServer 8 and XCP-ng 8.3 have, runs ovsxen and the plugin on a host that boots: pyenv's."""

import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from tests.machines.conftest import MakeVm
from tests.machines.rootfs import link
from tests.machines.world import World
from tests.rpm.root import PYTHONS

UNUSED = ("test", "site-packages", "idlelib", "tkinter", "lib2to3", "ensurepip", "config-*", "__pycache__")
PLUGIN = "xe host-call-plugin host-uuid=$(. /etc/xensource-inventory; echo $INSTALLATION_UUID) " \
         "plugin=openvswitch-cfg-update fn=%s"


@pytest.fixture
def old_world(base: Path, world: World) -> Iterator[World]:
    """A host on which nothing else is called python3."""
    prefix = next(iter(sorted(PYTHONS.glob("3.6.*"))), None)
    if prefix is None:
        pytest.skip("no Python 3.6 below %s, and no package has one: `pyenv install 3.6.15` makes it" % PYTHONS)
    work = Path(tempfile.mkdtemp(prefix="old-python-", dir=str(base)))
    put_python(prefix, work / "layer")
    try:
        yield world.with_layer(work / "layer").after("ovsxen host-setup install")
    finally:
        shutil.rmtree(str(work))


def put_python(prefix: Path, layer: Path) -> None:
    """Where it was built to be; it looks for its library nowhere else."""
    there = layer / str(prefix).lstrip("/")
    shutil.copytree(str(prefix / "lib/python3.6"), str(there / "lib/python3.6"), ignore=shutil.ignore_patterns(*UNUSED))
    (there / "bin").mkdir()
    for path in [prefix / "bin/python3.6"] + list((prefix / "lib").glob("libpython3.6m.so*")):
        shutil.copy2(str(path), str(there / path.relative_to(prefix)), follow_symlinks=False)
    link(layer / "usr/bin/python3", str(prefix / "bin/python3.6"))


def test_a_host_with_python_3_6_boots_says_how_it_is_and_answers_xapi(old_world: World, make_vm: MakeVm) -> None:
    vm = make_vm(of=old_world).power_on()
    assert vm.wait_booted() == "running", vm.tell("systemctl --failed")
    pids = vm.tell("systemctl show -p MainPID --value openvswitch openvswitch-xapi-sync").split()
    for pid in pids:
        assert vm.tell("readlink /proc/%s/exe" % pid).endswith("/bin/python3.6")
    assert vm.tell("head -n 1 /etc/xapi.d/plugins/openvswitch-cfg-update").startswith("#!/usr/bin/python3")
    assert vm.tell("cat /run/xapi.plugin-runs") == "openvswitch-config-update update: No change to configuration"
    assert vm.tell(PLUGIN % "update") == "No change to configuration"
    assert '"verdict": "running"' in vm.tell(PLUGIN % "status")
    assert vm.tell("ovsxen status").startswith("Open vSwitch is running\n")
    assert vm.tell("journalctl --no-pager -u openvswitch -u openvswitch-xapi-sync | grep -c Traceback || :") == "0"
