"""The machines of the tests: a world once a session, a disk of its own for each machine, and a machine that is up
already where a test needs no more. What a machine said is shown when its test fails.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from tests.machines import nspawn, pings
from tests.machines import world as worlds
from tests.machines.nspawn import Nspawn
from tests.machines.vm import Setup, Vm
from tests.machines.world import World

MAIN_SUITE = "bookworm"
CONTAINER_SUITES = ("bookworm", "trixie")
ENDS_IN_ORDER = (signal.SIGTERM, signal.SIGHUP)
"""As ^C does: machines, their cgroups and their disks are not left behind by a build that is called off, or by a lost
connection."""

MakeVm = Callable[..., Vm]
MakeNspawn = Callable[[World], Nspawn]


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.exit("only root can make a machine's file system: run this as root", returncode=2)
    for number in ENDS_IN_ORDER:
        signal.signal(number, signal.default_int_handler)
    made = Path(tempfile.mkdtemp(prefix="oxv-", dir="/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(str(made))


@pytest.fixture(scope="session")
def world(base: Path) -> World:
    work = base / MAIN_SUITE
    work.mkdir()
    return worlds.make(MAIN_SUITE, work)


@pytest.fixture
def make_vm(base: Path, world: World) -> Iterator[MakeVm]:
    """Makes machines, switched off: `make_vm(of=…, setup=…)`. They are gone with the test."""
    made: List[Vm] = []

    def make(of: World = world, setup: Setup = Setup()) -> Vm:  # noqa: B008
        made.append(Vm(of, Path(tempfile.mkdtemp(prefix="vm-", dir=str(base))), setup))
        return made[-1]

    yield make
    for vm in made:
        if vm.boots:
            print(vm.describe())
        vm.remove()


@pytest.fixture(scope="session")
def saved(base: Path, world: World) -> Iterator[Vm]:
    """The machine after its first boot, saved."""
    vm = Vm(world, base / "saved")
    try:
        vm.power_on()
        vm.save()
        yield vm
    finally:
        vm.remove()


@pytest.fixture
def vm(base: Path, saved: Vm) -> Iterator[Vm]:
    """A machine of the test's own that is up since a moment ago."""
    made = saved.copy_saved(Path(tempfile.mkdtemp(prefix="vm-", dir=str(base))) / "saved")
    try:
        yield made.power_on()
    finally:
        print(made.describe())
        made.remove()


@pytest.fixture
def talking(vm: Vm) -> Vm:
    """A machine that is up, with two guests that talk."""
    pings.start(vm)
    return vm


@pytest.fixture(scope="session", params=CONTAINER_SUITES)
def container_world(request: pytest.FixtureRequest, base: Path) -> World:
    """A world for containers, of each suite."""
    work = base / ("container-%s" % request.param)
    work.mkdir()
    return nspawn.fit(worlds.make(request.param, work))


@pytest.fixture
def make_nspawn(base: Path) -> Iterator[MakeNspawn]:
    """Makes containers, switched off: `make_nspawn(world)`. They are gone with the test."""
    made: List[Nspawn] = []

    def make(of: World) -> Nspawn:
        made.append(Nspawn(of, base / ("nspawn-%d" % len(made))))
        return made[-1]

    yield make
    for container in made:
        if container.boots:
            print(container.describe())
        container.remove()


@pytest.fixture
def host(make_nspawn: MakeNspawn, container_world: World) -> Nspawn:
    """A host that is up, in a container."""
    return make_nspawn(container_world).power_on()
