"""`python -m bench.machine_boots`: how long a host's boot waits for its switch, in a virtual machine with the kernel's
datapath, beside Debian's own units for Open vSwitch with --delete-bridges in the same machine. It writes what it has
measured into docs/performance.md.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Dict, List, NamedTuple, Tuple

from ovsxen.host.clock import Deadline
from ovsxen.host.paths import paths_under
from ovsxen.sandbox import contents
from tests.conftest import REPOSITORY
from tests.machines import world as worlds
from tests.machines.rootfs import OWN_UNITS, link, write
from tests.machines.vm import Vm
from tests.machines.world import World

SUITE = "bookworm"
BRIDGES = (0, 10, 100)
ROUNDS = 5
FIRST_FRAME_WITHIN_S = 300
DOCUMENT = REPOSITORY / "docs/performance.md"
MARKS = ("<!-- make vm-bench writes from here -->\n", "<!-- to here -->\n")
GUEST = REPOSITORY / "bench/machine"
QUIET_UNITS = ("xapi", "xcp-networkd", "controller", "interface-rename", "openvswitch-xapi-sync")
"""They would make a boot's figures their own."""

OTHERS = """systemctl disable -q openvswitch
rm %s
echo OVS_CTL_OPTS=--delete-bridges >>/etc/default/openvswitch-switch
systemctl enable -q openvswitch-switch""" % " ".join("/etc/systemd/system/" + unit for unit in OWN_UNITS)

HEADER = """| stale bridges | units | start to switch configured, s | start to first frame, s |
|---|---|---|---|
"""


class Contender(NamedTuple):
    """A way to boot the switch: the script that makes it a host's, the unit that begins, and the one that ends it."""

    name: str
    script: str
    first_unit: str
    last_unit: str


CONTENDERS = (Contender("ovsxen", "true", "openvswitch.service", "openvswitch.service"),
              Contender("openvswitch-switch, --delete-bridges", OTHERS, "ovsdb-server.service",
                        "ovs-vswitchd.service"))


class Boot(NamedTuple):
    """One boot: seconds from the start of the first unit."""

    configured_s: float
    first_frame_s: float


class WrongBoot(Exception):
    """The switch is not as such a boot leaves it, so its figures are worth nothing."""


def make_world(base: World, contender: Contender, bridges: int, work: Path) -> World:
    """A host whose last boot has left so many bridges, and that boots its switch in this way."""
    layer, made = work / "layer", paths_under(work / "made", {})
    for directory in (made.dbdir, layer / "etc/openvswitch"):
        directory.mkdir(parents=True)
    contents.make_conf_db(made, bridges)
    shutil.copy(str(made.conf_db), str(layer / "etc/openvswitch/conf.db"))
    write(layer / "usr/lib/bench/frame-probe", (GUEST / "frame-probe").read_text(), 0o755)
    for unit in ("frame-probe.service", "first-bridge.service"):
        write(layer / "etc/systemd/system" / unit, (GUEST / unit).read_text())
        link(layer / "etc/systemd/system/multi-user.target.wants" / unit, "/etc/systemd/system/" + unit)
    quiet = "systemctl disable -q %s" % " ".join(QUIET_UNITS)
    return base.with_layer(layer).after("%s\n%s" % (quiet, contender.script))


def measure(world: World, contender: Contender, work: Path) -> Boot:
    """Boot a fresh copy of it once. Raises WrongBoot."""
    vm = Vm(world, work)
    try:
        vm.power_on()
        if not Deadline(FIRST_FRAME_WITHIN_S).wait_until(lambda: vm.run("cat /run/first-frame").code == 0, every_s=1):
            raise WrongBoot("no frame has passed\n" + vm.describe())
        bridges, current, wanted = vm.tell(
            "ovs-vsctl list-br | xargs; ovs-vsctl get Open_vSwitch . cur_cfg next_cfg").splitlines()
        if bridges != "first" or current != wanted:
            raise WrongBoot("the bridges are %s, cur_cfg is %s of %s" % (bridges, current, wanted))
        began = read_moment(vm, contender.first_unit, "InactiveExit")
        return Boot(read_moment(vm, contender.last_unit, "ActiveEnter") - began,
                    float(vm.tell("cat /run/first-frame")) - began)
    finally:
        vm.remove()


def read_moment(vm: Vm, unit: str, of: str) -> float:
    """When a unit's state last changed so, in seconds since the kernel's start."""
    value = vm.tell("systemctl show --value -p %sTimestampMonotonic %s" % (of, unit))
    if int(value) == 0:
        raise WrongBoot("%s has not been started\n%s" % (unit, vm.describe()))
    return int(value) / 1e6


Figures = Dict[Tuple[int, str], List[Boot]]


def measure_all(directory: Path, rounds: int) -> Figures:
    """Every contender with every number of bridges, in turn, so that all meet the same machine."""
    (directory / "base").mkdir()
    base = worlds.make(SUITE, directory / "base")
    made = {}
    for bridges in BRIDGES:
        for number, contender in enumerate(CONTENDERS):
            work = directory / ("%d-%d" % (bridges, number))
            work.mkdir()
            made[bridges, contender] = make_world(base, contender, bridges, work)
    found: Figures = {}
    for one in range(rounds):
        for (bridges, contender), world in made.items():
            boot = measure(world, contender, directory / "vm")
            print("round %d, %d bridges, %s: configured after %.2f s, first frame after %.2f s" % (
                one + 1, bridges, contender.name, boot.configured_s, boot.first_frame_s), flush=True)
            found.setdefault((bridges, contender.name), []).append(boot)
    return found


def as_table(figures: Figures) -> str:
    """Markdown: medians, and between which figures they lie."""
    rows = ["| %d | %s | %s | %s |\n" % (bridges, name, as_cell([boot.configured_s for boot in boots]),
                                        as_cell([boot.first_frame_s for boot in boots]))
            for (bridges, name), boots in figures.items()]
    return HEADER + "".join(rows)


def as_cell(seconds: List[float]) -> str:
    return "%.2f (%.2f to %.2f)" % (median(seconds), min(seconds), max(seconds))


def publish(document: Path, text: str) -> None:
    """Put the text between the marks, in the place of what was there."""
    before, rest = document.read_text().split(MARKS[0])
    _, after = rest.split(MARKS[1])
    document.write_text(before + MARKS[0] + text + MARKS[1] + after)


def parse_rounds(text: str) -> int:
    """Raises ValueError: of no boots there are no figures."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.machine_boots", description=__doc__)
    parser.add_argument("--rounds", type=parse_rounds, default=ROUNDS, metavar="N",
                        help="boots of each kind, one at least (%d)" % ROUNDS)
    parser.add_argument("--no-publish", action="store_true", help="leave docs/performance.md as it is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oxv-", dir="/tmp") as directory:
        try:
            figures = measure_all(Path(directory), options.rounds)
        except WrongBoot as wrong:
            print("a boot was wrong: %s" % wrong, file=sys.stderr)
            return 1
    table = as_table(figures)
    print(table)
    if not options.no_publish:
        publish(DOCUMENT, "\nMedians of %d boots each, and the range.\n\n%s\n" % (options.rounds, table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
