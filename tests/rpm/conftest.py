"""The packages under test, as `make rpm` has made them, the stand-ins beside them, and roots in any state that
transactions lead to.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

import pytest

from tests.rpm import built, packages, snapshot, stand_ins
from tests.rpm.root import Root, make_root

NEXT_RELEASE = 1000
MODULES = "/lib/modules/"
ROOM_BYTES = 8 << 30
OF_OTHERS = ("openvswitch", "kernel", MODULES, "xapi-core", "rpmlib(", "config(openvswitch")
"""What the packages under test and the stand-ins provide themselves, and nothing else may."""

Step = Tuple[str, ...]
"""What rpm is given, or, if its first word is no option, a command in the root."""


class Rpms(NamedTuple):
    """Package files. `newer` is `ours` under a later release; `knowing` and `knowing_newer` are the same packages,
    which know the stand-ins of XAPI's plugin, but for the last, for released versions.
    """

    ours: str
    newer: str
    knowing: str
    knowing_newer: str
    modules: str
    newer_modules: str
    dom0: str
    kernel: str
    xapi: Tuple[str, ...]
    xcpng: str
    ipsec: str

    @property
    def install(self) -> Step:
        return self.install_of(self.ours)

    def install_of(self, ours: str) -> Step:
        return ("-U", ours, self.modules)

    @property
    def upgrade(self) -> Step:
        return ("-U", self.newer)

    @property
    def downgrade(self) -> Step:
        return ("-U", "--oldpackage", self.ours)

    @property
    def erase(self) -> Step:
        names = [packages.ask(Path(each), "%{NAME}") for each in (self.ours, self.modules)]
        return ("-e",) + tuple(names)


class States:
    """Roots after a row of steps. Each row is taken once; a test gets copies."""

    def __init__(self, base: Path, first: Root) -> None:
        self._base = base
        self._known: Dict[Tuple[Step, ...], Root] = {(): first}
        self._seen: Dict[Tuple[Step, ...], snapshot.Snapshot] = {}
        self._made = 0

    def after(self, *steps: Step) -> Root:
        """A root of the caller's own. Every step must succeed, and every scriptlet in it."""
        return self._copy(self._at(steps))

    def seen_after(self, *steps: Step) -> snapshot.Snapshot:
        if steps not in self._seen:
            self._seen[steps] = snapshot.take(self._at(steps))
        return self._seen[steps]

    def _at(self, steps: Tuple[Step, ...]) -> Root:
        if steps not in self._known:
            root = self._copy(self._at(steps[:-1]))
            take_step(root, steps[-1])
            self._known[steps] = root
        return self._known[steps]

    def _copy(self, root: Root) -> Root:
        self._made += 1
        return root.copy(self._base / str(self._made))


def take_step(root: Root, step: Step) -> None:
    if step[0].startswith("-"):
        root.transact(*step)
    else:
        root.tell(*step)


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can make an RPM root")
    made = Path(tempfile.mkdtemp(prefix="oxr-", dir=find_room()))
    try:
        yield made
    finally:
        shutil.rmtree(str(made))


def find_room() -> str:
    """In memory, if there is room: on a disk every transaction waits for it several times."""
    try:
        status = os.statvfs("/dev/shm")
    except OSError:
        return "/tmp"
    return "/dev/shm" if status.f_bavail * status.f_frsize >= ROOM_BYTES else "/tmp"


@pytest.fixture(scope="session")
def rpms(base: Path) -> Rpms:
    workshop = base / "workshop"
    workshop.mkdir()
    ours, modules, _ = built.find()
    wanted = [need for each in (ours, modules) for need in packages.relations(each, "REQUIRE")]

    def build(package: packages.Package) -> str:
        return str(packages.build(package, workshop))

    again = [str(packages.build_again(ours, "%d" % (NEXT_RELEASE + number), workshop, change)) for number, change in (
        enumerate((packages.leave, know_stand_ins, know_stand_ins)))]
    newer_modules = str(packages.build_again(modules, str(NEXT_RELEASE), workshop))
    return Rpms(str(ours), again[0], again[1], again[2], str(modules), newer_modules,
                build(stand_ins.dom0(sorted({need for need in wanted if not need.startswith(OF_OTHERS)}))),
                build(stand_ins.kernel(*kernel_for(wanted))),
                tuple(build(stand_ins.xapi_core(version)) for version in stand_ins.XAPI_VERSIONS),
                build(stand_ins.xcpng_openvswitch()), build(stand_ins.xcpng_ipsec()))


def know_stand_ins(tree: Path) -> None:
    """Real plugins of XAPI's cannot lie here, so what stands in for them is added to the versions that are known."""
    known = tree / "usr/lib/ovsxen/ovsxen/known_plugins.py"
    sums = [hashlib.sha256((stand_ins.CONFIG_UPDATE_TEXT % version).encode()).hexdigest()
            for version in stand_ins.XAPI_VERSIONS[:-1]]
    with known.open("a") as text:
        text.write("KNOWN.update(dict.fromkeys(%r, UPSTREAM))\n" % sums)


def kernel_for(needs: List[str]) -> Tuple[str, List[str]]:
    """The version and the provisions of a kernel that the packages can be installed beside."""
    of_kernel = sorted({need for need in needs if need.startswith("kernel")})
    versions = [need.rpartition(" = ")[2] for need in of_kernel if " = " in need]
    versions += [need[len(MODULES):] for need in needs if need.startswith(MODULES)]
    return (versions or ["4.19.0+1"])[0], of_kernel


@pytest.fixture(scope="session")
def states(base: Path, rpms: Rpms) -> States:
    """A host with a dom0 and a kernel, before anything else."""
    root = make_root(base / "bare")
    root.transact("-U", rpms.dom0, rpms.kernel)
    return States(base, root)


@pytest.fixture
def bare(states: States) -> Root:
    """A host that none of our packages has ever been on."""
    return states.after()
