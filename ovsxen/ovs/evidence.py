"""What tells why a daemon hung or died, kept for people: one directory per event, for root alone.

The evidence of a hang is kept before the restart, since it is in the process; that of a death after the start: the
network first. It must never fail a start, nor delay one for longer than its one deadline: whatever goes wrong is a
problem in words.

It has a budget of disk, and the oldest event goes first. An event is made under a name with a dot and renamed when it
is whole. Nothing is synced: a slow disk is no reason to wait. evidence_sources.py has what is looked at.
"""

import os
import re
import shutil
import stat
from pathlib import Path
from typing import Iterable, List, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, Defect, OvsxenError
from ovsxen.host import clock, files, process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.ovs.daemons import Daemon
from ovsxen.ovs.evidence_sources import TEXT_BYTES, Kind, Source, list_sources

BUDGET_BYTES = 16 << 20
EVENT_BYTES = 2 << 20
KEPT_FREE_BYTES = 64 << 20
DISK_BLOCK_BYTES = 4096
WITHIN_S = 10.0

WHY = "why.txt"
NAME = re.compile(r"[0-9]{6,}-[0-9TZ]+-.*-(?:hang|death)")
CUT = b"\n(cut here: no room for more)\n"


class Evidence(NamedTuple):
    """Where it is, or None where nothing could be kept; and in words what is missing."""

    directory: Optional[Path]
    problems: Tuple[str, ...]


def list_events(paths: Paths) -> Tuple[str, ...]:
    """The names of the events that are kept, the newest first. Raises OSError where they cannot be listed."""
    try:
        names = os.listdir(str(paths.evidence))
    except FileNotFoundError:
        return ()
    return tuple(sorted((name for name in names if NAME.fullmatch(name)), key=_number, reverse=True))


def _number(event: str) -> int:
    return int(event.partition("-")[0])


def collect(paths: Paths, daemon: Daemon, kind: Kind, why: str, *, within_s: float = WITHIN_S,
            budget_bytes: int = BUDGET_BYTES) -> Evidence:
    """Keep what tells why `daemon` hangs, or died. Raises nothing. `daemon.process` is as it was last seen."""
    try:
        return _keep(paths, daemon, kind, why, Deadline(within_s), budget_bytes)
    except OSError as error:
        problem = "no evidence can be kept in %s (%s)" % (paths.evidence, error.strerror or error)
    except OvsxenError as error:
        problem = str(error)
    except Exception as error:  # whatever is wrong here must not keep the switch down
        problem = str(Defect.of(error))
    return Evidence(None, (problem,))


def _keep(paths: Paths, daemon: Daemon, kind: Kind, why: str, deadline: Deadline, budget_bytes: int) -> Evidence:
    """Make an event and give it its place. Raises OSError, AdministratorError; then nothing of it is left."""
    home = paths.evidence
    _make_home(home)
    _remove_leftovers(home)
    directory = home / next_name(list_events(paths), clock.wall_clock_text(), daemon, kind)
    staged = files.staged_name(directory)
    room_bytes = min(EVENT_BYTES, budget_bytes)
    problems: Tuple[str, ...] = ()
    try:
        staged.mkdir(mode=0o700)
        _write(staged / WHY, [_introduction(daemon, why)], TEXT_BYTES)
        if _free_bytes(home) - room_bytes >= KEPT_FREE_BYTES:
            problems = _fill(staged, list_sources(paths, daemon, kind), deadline, room_bytes)
        else:
            problems = ("there is only %s: where %s is, %d MiB are kept free" % (WHY, home, KEPT_FREE_BYTES >> 20),)
        _add_problems(staged / WHY, problems)
        _make_room(paths, budget_bytes - _size_bytes(staged))
        staged.rename(directory)
    finally:
        shutil.rmtree(str(staged), ignore_errors=True)
    return Evidence(directory, problems)


def next_name(events: Tuple[str, ...], when: str, daemon: Daemon, kind: Kind) -> str:
    """The name of the event that follows those. Its number orders it: the wall clock may stand or jump."""
    number = max(map(_number, events), default=0) + 1
    pid = "-%d" % daemon.process.pid if daemon.process else ""
    return "%06d-%s-%s%s-%s" % (number, re.sub("[-:]", "", when), daemon.name, pid, kind.value)


def _introduction(daemon: Daemon, why: str) -> bytes:
    uptime_s = files.read_small(Path("/proc/uptime")).split()[0].decode()
    return ("%s: %s\n%s, %s s after boot\n" % (daemon.label, why, clock.wall_clock_text(), uptime_s)).encode()


def _make_home(home: Path) -> None:
    """The directory of all events. Raises AdministratorError where it is not ours.

    The one above it may be another user's (--ovs-user), who must not have root write and remove elsewhere by a link.
    """
    files.make_directory(home, 0o700)
    seen = os.lstat(str(home))
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
        raise AdministratorError("%s is not a directory of the user that ovsxen runs as, so no evidence is kept" % home,
                                 "move it away")
    os.chmod(str(home), 0o700)


def _remove_leftovers(home: Path) -> None:
    """Remove what killed collections left. This process makes one event at a time, so its own are leftovers too."""
    for staged in home.glob(".*" + files.STAGED_SUFFIX):
        pid = staged.name[:-len(files.STAGED_SUFFIX)].rpartition(".")[2]
        if pid.isdigit() and (int(pid) == os.getpid() or process.read_process(int(pid)) is None):
            shutil.rmtree(str(staged), ignore_errors=True)


def _make_room(paths: Paths, budget_bytes: int) -> None:
    """Remove the oldest events until the others fit."""
    events = [paths.evidence / name for name in list_events(paths)]
    sizes = [_size_bytes(event) for event in events]
    while events and sum(sizes) > budget_bytes:
        shutil.rmtree(str(events.pop()), ignore_errors=True)
        sizes.pop()


def _size_bytes(event: Path) -> int:
    """What an event takes, in whole blocks: many small ones count too."""
    sizes = [DISK_BLOCK_BYTES] + [path.lstat().st_size for path in event.iterdir()]
    return sum(-(-size // DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES for size in sizes)


def _free_bytes(directory: Path) -> int:
    seen = os.statvfs(str(directory))
    return seen.f_bavail * seen.f_frsize


def _write(path: Path, pieces: Iterable[bytes], limit_bytes: int) -> None:
    """Write a file for root alone, as far as the limit goes, and let it say where it was cut. Raises OSError."""
    fd = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        left_bytes = limit_bytes - len(CUT)
        for piece in pieces:
            stream.write(piece[:left_bytes])
            if len(piece) > left_bytes:
                stream.write(CUT)
                return
            left_bytes -= len(piece)


def _fill(event: Path, sources: Tuple[Source, ...], deadline: Deadline, room_bytes: int) -> Tuple[str, ...]:
    """Write one file per source, in order, while there is time and room; gives what is missing, and why."""
    problems: List[str] = []
    for source in sources:
        limit_bytes = min(source.limit_bytes, room_bytes - _size_bytes(event))
        if deadline.has_passed() or limit_bytes < DISK_BLOCK_BYTES:
            lacking = "time" if deadline.has_passed() else "room"
            problems.append("%s is missing: there was no more %s" % (source.name, lacking))
            continue
        path = event / source.name
        try:
            _write(path, source.read(deadline), limit_bytes)
        except OSError as error:
            problems.append("%s is missing or not whole (%s)" % (source.name, error.strerror or error))
        except OvsxenError as error:
            problems.append("%s is missing or not whole: %s" % (source.name, error))
        except Exception as error:  # the other files may tell enough
            problems.append("%s is missing or not whole: %s" % (source.name, Defect.of(error)))
        if path.exists() and not path.stat().st_size:
            path.unlink()
    return tuple(problems)


def _add_problems(path: Path, problems: Tuple[str, ...]) -> None:
    try:
        with open(str(path), "a", encoding="utf-8", errors="replace") as stream:
            stream.writelines("%s\n" % problem for problem in problems)
    except OSError:
        pass  # no room; whoever asked for the evidence is told of them too
