"""A whole host with ovsxen as its RPMs have it, on the kernel that the module of `make rpm` was built for: its own Open
vSwitch programs, its scriptlets, its module, and nothing of Debian's Open vSwitch.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple

import pytest

from tests.machines import journey, loader, networks, rootfs, world
from tests.machines.conftest import MAIN_SUITE
from tests.machines.vm import Setup, Vm
from tests.machines.world import World
from tests.rpm import built, kernel
from tests.rpm.packages import ask, unpack
from tests.rpm.root import OF_OPEN_VSWITCH

MAIN = "openvswitch"
MODULES = "lib/modules"
FAULTS = ("Oops", "BUG:", "Unknown symbol", "Call Trace")
PREPARE = "set -- 1\n%s\n%s"
"""Its scriptlets, as rpm calls them at a first installation: of the one package, then of the other."""


class Packaged(NamedTuple):
    """A host of the packages: its kernel's release, and where that and its modules lie; ours by name."""

    world: World
    release: str
    image: Path
    ours: Tuple[Path, ...]

    def own(self) -> List[Path]:
        """The modules of Open vSwitch's that the kernel has itself."""
        return list((self.image / MODULES / self.release / kernel.OWN).glob("*.ko"))


class Booted(NamedTuple):
    """What there is to see of it."""

    state: str
    release: str
    loaded: str
    status: str
    bridges: List[str]
    datapath: str
    version: str
    pinged: str
    said: str


def make_packaged(work: Path) -> Packaged:
    packages = built.find()
    debian = rootfs.make(MAIN_SUITE)
    layer = work / "layer"
    layer.mkdir()
    for rpm in (packages.main, packages.modules):
        unpack(rpm, layer)
    # /lib is a link in Debian's tree, and a directory would take its place.
    (layer / MODULES).rename(layer / "usr" / MODULES)
    (layer / "lib").rmdir()
    release = next((layer / "usr" / MODULES).iterdir()).name
    ours = tuple((layer / "usr" / MODULES / release).rglob("*.ko"))
    image = kernel.fetch(release)
    shutil.copytree(str(image / MODULES / release), str(work / "kernel/usr" / MODULES / release))
    world.put_host(layer)
    scripts = PREPARE % (ask(packages.main, "%{POSTIN}"), ask(packages.modules, "%{POSTTRANS}"))
    bare = World(debian, (debian.tree,), work).after("rm -rf %s" % OF_OPEN_VSWITCH)
    whole = bare.with_layer(work / "kernel").with_layer(layer).after(scripts)
    return Packaged(whole, release, image, ours)


@pytest.fixture(scope="module")
def packaged(base: Path) -> Iterator[Packaged]:
    work = Path(tempfile.mkdtemp(prefix="package-", dir=str(base)))
    try:
        yield make_packaged(work)
    finally:
        shutil.rmtree(str(work))


@pytest.fixture(scope="module")
def booted(packaged: Packaged) -> Iterator[Booted]:
    work = packaged.world.work
    loader.make(packaged.image, packaged.release, work / "loader", work / "loader.d")
    setup = Setup(kernel=packaged.image / ("boot/vmlinuz-" + packaged.release), loader=work / "loader")
    vm = Vm(packaged.world, work / "vm", setup)
    try:
        yield look(vm.power_on(), packaged)
    finally:
        print(vm.describe())
        vm.remove()


def look(vm: Vm, packaged: Packaged) -> Booted:
    notes = " ".join("/sys/module/%s/notes/%s" % (path.stem.replace("-", "_"), kernel.BUILD_ID)
                     for path in packaged.ours if path.stem == MAIN)
    journey.plug_guests(vm)
    return Booted(
        vm.wait_booted(), vm.tell("uname -r"), vm.tell("od -An -v -t x1 %s | tr -d ' \\n'" % notes),
        vm.tell("ovsxen status"), sorted(vm.tell("ovs-vsctl list-br").split()), vm.tell("ovs-dpctl show"),
        vm.tell("ovs-vswitchd --version"), vm.tell("ip netns exec guest1 ping -c 3 -W 30 198.51.100.2"),
        vm.tell("dmesg"))


def test_the_kernel_is_the_one_that_the_module_was_built_for(packaged: Packaged, booted: Booted) -> None:
    assert booted.release == packaged.release


def test_the_module_that_is_loaded_is_the_packages_and_not_the_kernels_own(packaged: Packaged, booted: Booted) -> None:
    ours = [kernel.read_build_id(path) for path in packaged.ours if path.stem == MAIN]
    own = [kernel.read_build_id(path) for path in packaged.own() if path.stem == MAIN]
    assert len(ours) == len(own) == 1 and ours != own
    assert booted.loaded == ours[0]
    assert not any(fault in booted.said for fault in FAULTS), booted.said


def test_the_packages_programs_run_the_switch_in_the_kernel(booted: Booted) -> None:
    version = ask(built.find().main, "%{VERSION}")
    assert booted.version.splitlines()[0] == "ovs-vswitchd (Open vSwitch) %s" % version
    assert booted.status.startswith("Open vSwitch is running\n")
    assert booted.datapath.startswith("system@ovs-system:\n")


def test_the_host_has_its_networks_and_frames_pass(booted: Booted) -> None:
    assert (booted.state, booted.bridges) == ("running", networks.BRIDGES)
    assert " 0% packet loss" in booted.pinged
