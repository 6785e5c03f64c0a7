"""The tests of the units again, on the systemd and the Python of each suite, with ovsxen as it is installed."""

from pathlib import Path
from typing import Iterator

import pytest

from ovsxen.sandbox import contents
from tests.container import Container
from tests.machines.nspawn import Nspawn
from tests.machines.world import World
from tests.test_systemd_unit import *  # noqa: F403  # all that there is

pytestmark = pytest.mark.selection


@pytest.fixture(scope="module")  # type: ignore[no-redef]  # in place of the one that came with them
def container(base: Path, container_world: World) -> Iterator[Container]:
    """Of each suite. Nothing is started in it, and bridges are dummies."""
    made = Nspawn(container_world, base / "units", append="systemd.unit=basic.target")
    made.write("etc/sysconfig/openvswitch", contents.SYSCONFIG)
    try:
        yield made.power_on().unit()
    finally:
        made.power_off()
        made.remove()
