"""A world whose ovsxen and Open vSwitch are the packages of `make rpm`, with this machine's rpm in it."""

import shutil
from pathlib import Path

from tests.machines import rootfs
from tests.machines.rootfs import write
from tests.machines.world import World, put_host
from tests.rpm import built
from tests.rpm.machine import copy_programs
from tests.rpm.root import MACROS

RPM = "opt/rpm"
LOADER, LIBRARIES = "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu"
COMMAND = """#!/bin/sh
# This machine's rpm on this machine's libraries. What it runs has the host's own.
cd /%s
exec %s --library-path %s usr/bin/rpm --load macros "$@"
""" % (RPM, LOADER, LIBRARIES)
PACKAGES = "root"


def make(suite: str, work: Path) -> World:
    """A host on which the package was installed, that never was booted. Its rpm knows nothing of Debian's packages."""
    base, layer = rootfs.make(suite), work / "layer"
    put_host(layer)
    put_rpm(layer)
    ours = built.find().main
    put_package(layer, ours)
    return World(base, (layer, base.tree), work).after("rpm -U --nodeps /%s/%s" % (PACKAGES, ours.name))


def put_rpm(layer: Path) -> None:
    """Each of Debian's suites has another."""
    copy_programs(layer / RPM, ["rpm"])
    shutil.copytree("/usr/lib/rpm", str(layer / "usr/lib/rpm"), symlinks=True)
    shutil.copy(str(MACROS), str(layer / RPM / "macros"))
    write(layer / "usr/local/bin/rpm", COMMAND, 0o755)
    (layer / "var/lib/rpm").mkdir(parents=True)


def put_package(layer: Path, package: Path) -> None:
    (layer / PACKAGES).mkdir(parents=True, exist_ok=True)
    shutil.copy(str(package), str(layer / PACKAGES))
