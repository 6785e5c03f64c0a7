"""What `make install` lays out, before any machine is made of it."""

import os
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.machines.rootfs import run

READ, PASS = 0o444, 0o555
WITH_UMASK = 'umask 077 && make -s -C "$1" install DESTDIR="$2"'


def test_whoever_installs_it_everybody_may_read_its_programs(tmp_path: Path) -> None:
    root = tmp_path / "a root"
    run("sh", "-c", WITH_UMASK, "sh", str(REPOSITORY), str(root))
    for directory, _, names in os.walk(str(root / "usr")):
        assert os.stat(directory).st_mode & PASS == PASS, directory
        for path in (Path(directory) / name for name in names):
            assert path.stat().st_mode & READ == READ, path
