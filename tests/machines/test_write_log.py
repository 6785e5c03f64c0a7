"""The reader of the log of writes, on logs that the emulator's own tool makes."""

import filecmp
import subprocess
from pathlib import Path

import pytest

from tests.machines import write_log

pytestmark = pytest.mark.selection
DISK_BYTES = 1 << 20


def write_logged(directory: Path, *commands: str) -> None:
    """Do this to a new disk."""
    for name, size_bytes in (("before", DISK_BYTES), ("disk", DISK_BYTES), ("log", 0)):
        with (directory / name).open("wb") as made:
            made.truncate(size_bytes)
    options = "driver=blklogwrites,file.driver=file,file.filename=%s,log.driver=file,log.filename=%s" % (
        directory / "disk", directory / "log")
    subprocess.run(["qemu-io"] + [word for command in commands for word in ("-c", command)]
                   + ["--image-opts", options], check=True, stdout=subprocess.DEVNULL)


def test_the_whole_log_makes_the_disk_byte_for_byte(tmp_path: Path) -> None:
    write_logged(tmp_path, "write -P 1 0 8k", "flush", "write -P 2 4k 4k", "write -f -P 3 64k 512", "write -z 0 512",
                 "flush")
    write_log.replay(tmp_path / "log", write_log.read_writes(tmp_path / "log"), tmp_path / "before")
    assert filecmp.cmp(str(tmp_path / "before"), str(tmp_path / "disk"), shallow=False)


def test_a_disk_after_a_flush_has_what_was_written_before_it_and_no_more(tmp_path: Path) -> None:
    write_logged(tmp_path, "write -P 1 0 512", "write -P 2 512 512", "flush", "flush", "write -P 3 0 512", "flush",
                 "write -P 4 0 512")
    writes = write_log.read_writes(tmp_path / "log")
    starts = []
    done = 0
    for end in write_log.flush_ends(writes)[:2]:
        write_log.replay(tmp_path / "log", writes[done:end], tmp_path / "before")
        done = end
        starts.append((tmp_path / "before").read_bytes()[:1024])
    assert starts == [b"\1" * 512 + b"\2" * 512, b"\3" * 512 + b"\2" * 512]


@pytest.mark.parametrize("cut_bytes", [1, 511, 512, 700])
def test_a_log_that_ends_within_a_write_ends_before_it(tmp_path: Path, cut_bytes: int) -> None:
    write_logged(tmp_path, "write -P 1 0 512", "write -P 2 512 512")
    whole = write_log.read_writes(tmp_path / "log")
    last_data = max(number for number, write in enumerate(whole) if write.size_bytes)
    with (tmp_path / "log").open("r+b") as log:
        log.truncate(whole[last_data].log_offset + 512 - cut_bytes)
    assert write_log.read_writes(tmp_path / "log") == whole[:last_data]
