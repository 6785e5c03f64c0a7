"""The power goes when the package has just been installed: all of it is on the disk, and so is what Python compiled."""

import hashlib
from pathlib import Path
from typing import Dict

from tests.machines import offline
from tests.machines.vm import Vm

LIBRARY = "/usr/lib/ovsxen"

INSTALL = """set -e
cp -r {0} {0}.new
find {0}.new -name __pycache__ -exec rm -r {{}} +
rm -r {0}
mv {0}.new {0}
ovsxen host-setup upgrade""".format(LIBRARY)
"""As rpm does it: files anew, none of which it has flushed, and then the scriptlet."""


def test_a_power_cut_right_after_an_installation_finds_the_package_whole(vm: Vm, tmp_path: Path) -> None:
    vm.tell(INSTALL)
    said = vm.tell("cd %s && find . -type f -exec sha256sum {} +" % LIBRARY)
    installed: Dict[str, str] = {name: digest for digest, name in (line.split("  ./") for line in said.splitlines())}
    vm.power_cut()
    library = offline.look_into(vm.disk, tmp_path / "work", (LIBRARY,)) / LIBRARY[1:]
    found = {str(path.relative_to(library)): hashlib.sha256(path.read_bytes()).hexdigest()
             for path in library.rglob("*") if path.is_file()}
    assert found == installed
    assert any(name.endswith(".pyc") for name in found)
