"""The package is upgraded on a host that is up, on each suite, while its virtual machines talk."""

from pathlib import Path

import pytest

from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT
from tests.machines import nspawn, rpm_inside
from tests.machines.conftest import CONTAINER_SUITES, MakeNspawn
from tests.machines.guests import assert_none_lost, exchanging, plug_in
from tests.machines.nspawn import Nspawn
from tests.machines.rpm_inside import PACKAGES
from tests.machines.watching import assert_whole_again, is_well, look
from tests.machines.world import World
from tests.rpm import built, packages

pytestmark = pytest.mark.selection
LEAVES_A_SIGN = '\nimport os\nopen("/run/newer.%s.%d" % (__name__.split(".")[-1], os.getpid()), "w").close()\n'
RELEASE = "1000"
PROGRAM_OF = {SWITCH_UNIT: "supervise", SYNC_UNIT: "sync"}


def make_newer(tree: Path) -> None:
    """What a daemon and a sync of the newer package do that those before did not."""
    for name in PROGRAM_OF.values():
        with (tree / ("usr/lib/ovsxen/ovsxen/%s.py" % name)).open("a") as program:
            program.write(LEAVES_A_SIGN)


@pytest.fixture(scope="module")
def newer(base: Path) -> Path:
    """The package again, under a later release."""
    workshop = base / "workshop"
    workshop.mkdir()
    return packages.build_again(built.find().main, RELEASE, workshop, make_newer)


def is_newer(host: Nspawn, unit: str) -> bool:
    """The program that runs is of the newer package."""
    sign = "run/newer.%s.%s" % (PROGRAM_OF[unit], host.unit(unit).property("MainPID"))
    return (host.unit().root / sign).exists()


@pytest.fixture(scope="module", params=CONTAINER_SUITES)
def installed(request: pytest.FixtureRequest, base: Path) -> World:
    work = base / ("installed-%s" % request.param)
    work.mkdir()
    return nspawn.fit(rpm_inside.make(request.param, work))


def test_an_upgrade_of_the_package_loses_no_frame_and_what_runs_then_is_of_the_newer_one(
        make_nspawn: MakeNspawn, installed: World, newer: Path) -> None:
    host = make_nspawn(installed)
    rpm_inside.put_package(host.changes, newer)
    host.power_on()
    plug_in(host)
    before = look(host)
    with exchanging(host) as prober:
        done = host.run("rpm -U --nodeps /%s/%s" % (PACKAGES, newer.name))
        assert done.code == 0 and "scriptlet failed" not in done.err, done
        host.unit().wait_until(lambda: all(is_newer(host, unit) for unit in PROGRAM_OF))
        host.unit().wait_until(lambda: is_well(host))
        assert_none_lost(prober)
    assert_whole_again(host, before, SYNC_UNIT)
    assert host.tell("rpm -q --queryformat %{RELEASE} openvswitch") == RELEASE
