"""Being a daemon: one at a time, by the lock on a pidfile; and, without systemd, in the background."""

import os
import sys
from pathlib import Path
from typing import List, NoReturn, Optional

from ovsxen.host import files, process
from ovsxen.host.process import Process


class Pidfile:
    """The lock that says who the daemon is, gone with it however it ends; its pid is in the file for people."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def __enter__(self) -> "Pidfile":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self) -> None:
        """Say who holds it. Raises OSError."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def remove(self) -> None:
        """The daemon ends in order."""
        files.remove_if_there(self.path)


def take_pidfile(path: Path) -> Optional[Pidfile]:
    """Become the daemon of that pidfile; None while another is. Raises OSError."""
    files.make_directory(path.parent, 0o755)
    while True:
        fd = process.lock_file(path)
        if fd is None:
            return None
        if files.is_open_as(fd, path):
            return Pidfile(path, fd)
        os.close(fd)  # the one that ended just then has removed it


def find_holder(path: Path) -> Optional[Process]:
    """The daemon of that pidfile, where it lives."""
    if not process.is_locked(path):
        return None
    holder = process.find_flock_holder(path)
    if holder is not None:
        return holder
    try:
        return process.read_process(int(files.read_small(path)))
    except (OSError, ValueError):
        return None


def fork_away() -> bool:
    """Go on in the background, with nothing of the caller's terminal, pipes or session.

    True in the background; False in the caller's process, once that is so. Raises OSError.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        return False
    os.setsid()
    os.close(reader)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    os.close(writer)
    return True


def run_anew(root: Path) -> NoReturn:
    """Replace this program by itself as it is on disk now, in the same process, in the foreground. Raises OSError."""
    words = [word.decode("utf-8", "surrogateescape") for word in
             files.read_small(Path("/proc/self/cmdline")).split(b"\0")[:-1]]
    os.environ["OVSXEN_ROOT"] = str(root)
    kept = [word for word in words[1:] if word != "--detach"]
    os.execv(sys.executable, [sys.executable] + _without_root(kept))


def _without_root(words: List[str]) -> List[str]:
    """Leave --root out, which may be relative to a directory that is another by now."""
    if "--root" in words:
        at = words.index("--root")
        return words[:at] + words[at + 2:]
    return [word for word in words if not word.startswith("--root=")]
