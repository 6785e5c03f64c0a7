"""Files that others read: written whole, durable where it matters, never half there.

`/run` is memory: what lies there need not be fsynced, and is gone after a power cut anyhow.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator, NamedTuple, Optional

from ovsxen.host import process

BLOCK_BYTES = 1 << 20
SMALL_BYTES = 1 << 20
STAGED_SUFFIX = ".staged"

NONSENSE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What comes of reading a value out of text that somebody else may have written."""


def write_file(path: Path, content: Iterable[bytes], mode: int = 0o644, *, durable: bool = True) -> None:
    """Replace `path` by `content` (blocks of bytes) at once: staged beside it, synced when `durable`, renamed over it.

    Raises OSError; then `path` is as it was and the staged file is gone.
    """
    staged = staged_name(path)
    try:
        fd = os.open(str(staged), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            for block in content:
                stream.write(block)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.rename(str(staged), str(path))
    except OSError:
        remove_if_there(staged)
        raise
    if durable:
        sync_directory(path.parent)


def staged_name(path: Path) -> Path:
    """Where this process makes what will be `path`. Another process's leftover never has the same name."""
    return path.parent / (".%s.%d%s" % (path.name, os.getpid(), STAGED_SUFFIX))


def remove_staged(directory: Path, prefix: str) -> None:
    """Remove what killed processes had staged for files whose names begin so; what a live one stages is left alone.

    Raises OSError.
    """
    for staged in directory.glob(".%s*%s" % (prefix, STAGED_SUFFIX)):
        pid = staged.name[:-len(STAGED_SUFFIX)].rpartition(".")[2]
        if pid.isdigit() and process.read_process(int(pid)) is None:
            remove_if_there(staged)


def read_start(fd: int, size_bytes: int) -> Iterator[bytes]:
    """The first `size_bytes` of an open file, block by block. The file position is neither used nor moved."""
    done = 0
    while done < size_bytes:
        block = os.pread(fd, min(BLOCK_BYTES, size_bytes - done), done)
        if not block:
            raise OSError(errno.EIO, "the file ended at byte %d of %d while it was read" % (done, size_bytes))
        yield block
        done += len(block)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, and nothing that could keep the reader waiting: a FIFO, a device, a socket, a directory.

    Raises OSError.
    """
    fd = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(fd, "rb")


def read_small(path: Path, limit_bytes: int = SMALL_BYTES) -> bytes:
    """The bytes of a small file. Raises OSError, also for one that is not small at all."""
    with open_regular(path) as stream:
        content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, "larger than %d bytes" % limit_bytes, str(path))
    return content


def sync_file(path: Path) -> None:
    fd = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Make renames and removals inside `path` survive a power cut."""
    sync_file(path)


def remove_if_there(path: Path) -> bool:
    """Remove a file; tells whether it was there."""
    try:
        os.unlink(str(path))
    except FileNotFoundError:
        return False
    return True


def make_directory(path: Path, mode: int) -> bool:
    """Make a directory and its parents; tells whether it was missing. One that is there keeps its mode."""
    if path.is_dir():
        return False
    path.mkdir(mode=mode, parents=True, exist_ok=True)  # the umask, 022, is for the parents
    os.chmod(str(path), mode)
    return True


def is_open_as(fd: int, path: Path) -> bool:
    """The open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(str(path)))
    except OSError:
        return False


def same_file(one: Path, other: Path) -> bool:
    """Both names lead to one file (a hard link, or the same name)."""
    try:
        return os.path.samefile(str(one), str(other))
    except OSError:
        return False


class Owner(NamedTuple):
    """A user and a group by number; None leaves what is there."""

    uid: Optional[int]
    gid: Optional[int]


NOBODY = Owner(None, None)


def give_to(path: Path, owner: Owner) -> None:
    """Make `path` itself (a link is not followed) belong to `owner`, if that is anybody."""
    if owner != NOBODY:
        os.chown(str(path), -1 if owner.uid is None else owner.uid, -1 if owner.gid is None else owner.gid,
                 follow_symlinks=False)
