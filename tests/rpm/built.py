"""What `make rpm` has built, and where: the packages under test."""

import os
from pathlib import Path
from typing import NamedTuple

from tests.conftest import REPOSITORY
from tests.rpm import packages

RPMS = Path(os.environ.get("RPM_DIR", str(REPOSITORY / "build/rpm"))) / "RPMS"


class Built(NamedTuple):
    """The package files, by what they are for."""

    main: Path
    modules: Path
    debuginfo: Path


def find() -> Built:
    """The packages, by the names in their headers. There has to be one of each: what lacks would be tested nowhere."""
    names = {path: packages.ask(path, "%{NAME}") for path in sorted(RPMS.rglob("*.rpm"))}
    main = [path for path, name in names.items() if name == "openvswitch"]
    modules = [path for path, name in names.items() if name.startswith("openvswitch-modules-")]
    debuginfo = [path for path, name in names.items() if name == "openvswitch-debuginfo"]
    assert len(main) == len(modules) == len(debuginfo) == 1, (
        "not one RPM of each kind below %s: run `make rpm`" % RPMS)
    return Built(main[0], modules[0], debuginfo[0])
