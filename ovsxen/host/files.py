"""Files that others read: written whole, durable where it matters, never half there.

`/run` is memory: what lies there need not be fsynced, and is gone after a power cut anyhow.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Callable, Iterable, Iterator, NamedTuple, Optional

from ovsxen.host import process

BLOCK_BYTES = 1 << 20
SMALL_BYTES = 1 << 20
ROOM_BYTES = 4096
STAGED_SUFFIX = ".staged"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_LINKABLE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
"""A file gets no second name there (link(2)), and a copy may do."""

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


def is_full(directory: Path) -> bool:
    """Not even something small can be written there, which is tried with a file that has no name.

    The figures of statvfs(3) do not tell: ext4 counts blocks as free that it keeps from root, too (Linux,
    Documentation/ABI/testing/sysfs-fs-ext4, reserved_clusters).
    """
    try:
        fd = os.open(str(directory), os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            return os.write(fd, bytes(ROOM_BYTES)) < ROOM_BYTES
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno in NO_ROOM


class Identity(NamedTuple):
    """Tells what lies at a name from what is put there later."""

    device: int
    inode: int
    mtime_ns: int
    size_bytes: int


class ChangedMeanwhile(OSError):
    """At a name there is no longer what was found there."""


def identify(path: Path) -> Optional[Identity]:
    """What lies at `path` itself (a link is not followed); None for nothing. Raises OSError."""
    try:
        found = os.lstat(str(path))
    except FileNotFoundError:
        return None
    return Identity(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def expect(path: Path, found: Optional[Identity]) -> None:
    """Raises ChangedMeanwhile where something else lies at `path` than what was found."""
    if identify(path) != found:
        raise ChangedMeanwhile(errno.EAGAIN, "changed by somebody else meanwhile", str(path))


def replace(path: Path, make: Callable[[Path], None], found: Optional[Identity]) -> None:
    """Put at `path`, in one durable step, what `make` makes under the name that it is given, if what was found there
    still is there. The name is never without the one or the other. Raises OSError, ChangedMeanwhile among them.
    """
    def make_if_still_found(staged: Path) -> None:
        make(staged)
        expect(path, found)

    _put(path, make_if_still_found)
    sync_directory(path.parent)


def make_link(path: Path, target: Path) -> None:
    """Have `path`, which need not outlive a power cut, be a symbolic link to `target`, in place of what is there, at
    once. Raises OSError.
    """
    _put(path, lambda staged: os.symlink(str(target), str(staged)))


def _put(path: Path, make: Callable[[Path], None]) -> None:
    """Rename over `path` what `make` makes under the name that it is given, and leave nothing else."""
    staged = staged_name(path)
    remove_if_there(staged)
    try:
        make(staged)
        os.rename(str(staged), str(path))
    finally:  # rename(2) leaves both names where they are of one file
        remove_if_there(staged)


def clone(path: Path, other: Path) -> None:
    """Give the file or symbolic link at `path` another name, on disk when this returns; where two names of one file
    cannot be (another file system), a copy with its mode, owner, times and extended attributes. Raises OSError.
    """
    try:
        os.link(str(path), str(other), follow_symlinks=False)
    except OSError as error:
        if error.errno not in NOT_LINKABLE:
            raise
        _copy(path, other)
    if not other.is_symlink():
        sync_file(other)


def _copy(path: Path, other: Path) -> None:
    import shutil  # for what a directory on another file system alone needs

    if path.is_symlink():
        os.symlink(os.readlink(str(path)), str(other))
    else:
        with open_regular(path) as source, open(str(other), "xb") as copy:
            shutil.copyfileobj(source, copy)
    owner = os.lstat(str(path))
    os.chown(str(other), owner.st_uid, owner.st_gid, follow_symlinks=False)
    shutil.copystat(str(path), str(other), follow_symlinks=False)


def sha256(path: Path) -> str:
    """The checksum of a regular file's bytes, in hexadecimal. Raises OSError."""
    from hashlib import sha256 as new_digest  # it brings OpenSSL in, which takes 2 ms that a boot can do without

    digest = new_digest()
    with open_regular(path) as stream:
        for block in iter(lambda: stream.read(BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


def staged_name(path: Path) -> Path:
    """Where this process makes what will be `path`. Another process's leftover never has the same name."""
    return path.parent / (".%s.%d%s" % (path.name, os.getpid(), STAGED_SUFFIX))


def remove_staged(directory: Path, prefix: str, *, excludes_others: bool = False) -> None:
    """Remove what killed processes had staged for files whose names begin so; what a live one stages is left alone.

    Where a lock of the caller's `excludes_others` who stage there, a live process with that pid is another one: pids
    come again with each boot. Raises OSError.
    """
    for staged in directory.glob(".%s*%s" % (prefix, STAGED_SUFFIX)):
        pid = staged.name[:-len(STAGED_SUFFIX)].rpartition(".")[2]
        if pid.isdigit() and (excludes_others or process.read_process(int(pid)) is None):
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
