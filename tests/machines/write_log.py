"""The log of every write to a machine's disk, as QEMU's blklogwrites keeps it (dm-log-writes of Linux, version 1), and
the disk as it was at any moment of it: a copy of the disk before, and a part of the log.

What is flushed is on the disk whatever happens, so a disk that ends with a flush is what a power cut just after leaves.
"""

import struct
from pathlib import Path
from typing import BinaryIO, Iterable, List, NamedTuple

MAGIC = 0x6a736677736872
VERSION = 1
SUPERBLOCK = struct.Struct("<QQQI")  # magic, version, entries, bytes of a sector
ENTRY = struct.Struct("<QQQQ")  # sector, sectors, flags, bytes of a mark
FLUSH, DURABLE, DISCARD, MARK = 1, 2, 4, 8
"""Flags. A durable write (FUA) is on the disk when it is done, as if flushed."""


class Write(NamedTuple):
    """An entry: where its data go, and where in the log they lie. A flush is an entry of its own, without data."""

    offset: int
    log_offset: int
    size_bytes: int
    flushes: bool


def read_writes(log: Path) -> List[Write]:
    """All that are whole. The log of an emulator that was killed may end in the middle of one."""
    with log.open("rb") as stream:
        magic, version, _, sector_bytes = SUPERBLOCK.unpack(stream.read(SUPERBLOCK.size))
        assert (magic, version) == (MAGIC, VERSION), "%s is no log of writes" % log
        end = log.stat().st_size
        found: List[Write] = []
        at = sector_bytes
        while at + ENTRY.size <= end:
            stream.seek(at)
            sector, sectors, flags, _ = ENTRY.unpack(stream.read(ENTRY.size))
            assert not flags & (DISCARD | MARK), "a machine's disk passes no discard on, and nothing makes marks"
            size_bytes = sectors * sector_bytes
            if not (sectors or flags) or at + sector_bytes + size_bytes > end:
                break
            found.append(Write(sector * sector_bytes, at + sector_bytes, size_bytes, bool(flags & (FLUSH | DURABLE))))
            at += sector_bytes + size_bytes
        return found


def replay(log: Path, writes: Iterable[Write], disk: Path) -> None:
    """Do these writes to a disk that has had those before them."""
    with log.open("rb") as source, disk.open("r+b") as target:
        for write in writes:
            if write.size_bytes:
                target.seek(write.offset)
                target.write(_read(source, write))


def _read(source: BinaryIO, write: Write) -> bytes:
    source.seek(write.log_offset)
    return source.read(write.size_bytes)


def flush_ends(writes: List[Write]) -> List[int]:
    """After how many writes each flush is over, but for those that follow another at once: nothing was written."""
    ends: List[int] = []
    has_data = True
    for number, write in enumerate(writes, 1):
        has_data = has_data or write.size_bytes > 0
        if write.flushes and has_data:
            ends.append(number)
            has_data = False
    return ends
