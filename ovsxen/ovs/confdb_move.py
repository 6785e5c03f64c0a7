"""A database in the run directory, where XCP-ng's own Open vSwitch has it: brought to where ovsxen has it.

The next start of ovsdb-server would else begin with another one, and the host lose its network. A server that runs
moves it itself: its name for the file is made a link to the new place, and then it is asked to compact, which follows
links (ovsdb/log.c, ovsdb_log_replace_start and _commit, 2.9 to 4.0). So all that it knows is on disk there in one step
of its own: no session ends, and no write can fall in between. To take the database out of the server and to add it
again would end every session, of managers too, and what is in memory alone: ovs-vswitchd would be without a database
for a second.

How far a move has come is told by names, so that whoever comes next finishes it:
run/openvswitch/conf.db         a file: it is to be moved. A link to the other: it has been
run/openvswitch/conf.db.moving  the second name of that file, from before the first becomes a link until the move is
                                done; etc/openvswitch has no conf.db before it is done
"""

import filecmp
import os
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError, Refused
from ovsxen.host import files, process
from ovsxen.host.paths import Paths
from ovsxen.ovs import confdb, daemons, dbtool, generations
from ovsxen.ovs.daemons import Daemon

MODE = 0o640
TRY_AGAIN = "mend that, then run `ovsxen start`, which tries again; it stays as it was until then"


class Undo(NamedTuple):
    """What a move has changed that a failed one changes back: where conf.db was put, what the old name led to."""

    aside: Optional[Path]
    led_to: Optional[Path]


# Under a server that runs


def is_named_in_run(paths: Paths, server: Daemon) -> bool:
    """The server knows its database by the name in the run directory, be that a file or a link.

    By the lock that it holds beside it, or, where the server was started again behind a link, by its command line.
    """
    if server.process is None:
        return False
    lock = process.find_lock(confdb.lock_beside(paths.run_conf_db))
    if lock is not None and lock.process is not None and lock.process.pid == server.process.pid:
        return True
    return any(_is_run_name(paths, word) for word in process.read_command_line(server.process.pid))


def _is_run_name(paths: Paths, word: str) -> bool:
    directory, name = os.path.split(word)
    return name == paths.run_conf_db.name and os.path.realpath(directory) == os.path.realpath(str(paths.rundir))


def is_to_move(paths: Paths, server: Daemon) -> bool:
    """The server that runs has its database in the run directory."""
    return is_named_in_run(paths, server) and not _serves(paths, server)


def _serves(paths: Paths, server: Daemon) -> bool:
    return server.process is not None and process.has_open(server.process.pid, paths.conf_db)


def move_served(paths: Paths, server: Daemon, within_s: float) -> str:
    """See that the server that runs has its database where ovsxen has it; says what was done, "" where nothing was.

    May be repeated, also after one that was killed. Raises NoAnswer where the server is silent, AdministratorError
    where it cannot write there: then all is as it was.
    """
    if not is_named_in_run(paths, server):
        return ""
    if _serves(paths, server):
        return _settle(paths)
    undo = Undo(None, _read_link(paths.run_conf_db))
    try:
        undo = undo._replace(aside=_make_way(paths.conf_db))
        _name_anew(paths)
        daemons.ask(paths, server, "ovsdb-server/compact", (dbtool.DATABASE,), within_s)
    except (OvsxenError, OSError) as error:
        if not _serves(paths, server):
            _take_back(paths, undo)
            raise _explain(paths, error) from error
    if not _serves(paths, server):
        _take_back(paths, undo)
        raise _explain(paths, Refused("%s follows no links" % server.label))
    files.sync_directory(confdb.real_path(paths.conf_db).parent)
    _settle(paths)
    return "%s has its database in %s now, and not in %s any more%s" % (
        server.label, paths.conf_db, paths.rundir, _kept(undo.aside))


def _kept(aside: Optional[Path]) -> str:
    return "; what was there before is kept as %s" % aside if aside else ""


def _settle(paths: Paths) -> str:
    """The server has it where it belongs. Its name for it must lead there, or a compaction would bring it back."""
    files.remove_if_there(paths.moving_conf_db)
    if files.same_file(paths.run_conf_db, paths.conf_db):
        return ""
    files.make_link(paths.run_conf_db, paths.conf_db)
    return "%s leads to %s again" % (paths.run_conf_db, paths.conf_db)


def _read_link(path: Path) -> Optional[Path]:
    return Path(os.readlink(str(path))) if path.is_symlink() else None


def _make_way(conf_db: Path) -> Optional[Path]:
    """Put a conf.db of another time aside; says where. Raises OSError."""
    path = confdb.real_path(conf_db)
    if not path.exists():
        return None
    aside = generations.keep_aside(path)
    os.unlink(str(path))
    return aside


def _name_anew(paths: Paths) -> None:
    """Make the server's name for its file a link, once the file has a second name."""
    name, moving = paths.run_conf_db, paths.moving_conf_db
    if name.exists() and not name.is_symlink():
        files.remove_if_there(moving)
        os.link(str(name), str(moving))
    files.make_link(name, paths.conf_db)


def _take_back(paths: Paths, undo: Undo) -> None:
    """Have all as it was, except for a conf.db that is there by now: a silent server may have made it after all."""
    if paths.moving_conf_db.exists():
        os.rename(str(paths.moving_conf_db), str(paths.run_conf_db))
    elif undo.led_to is not None:
        files.make_link(paths.run_conf_db, undo.led_to)
    else:
        files.remove_if_there(paths.run_conf_db)
    if undo.aside is not None:
        try:
            os.link(str(undo.aside), os.path.realpath(str(paths.conf_db)))
        except FileExistsError:
            return
        os.unlink(str(undo.aside))


def _explain(paths: Paths, error: Exception) -> OvsxenError:
    problem = "the database stays in %s, which the next boot empties, and is not moved to %s: %s" % (
        paths.rundir, paths.conf_db, getattr(error, "strerror", None) or error)
    return (NoAnswer if isinstance(error, NoAnswer) else AdministratorError)(problem, TRY_AGAIN)


# Without a server


def find_left(paths: Paths) -> Optional[Path]:
    """What a server has left in the run directory, of this boot and so newer than conf.db; None where nothing is."""
    if paths.run_conf_db.is_file() and not files.same_file(paths.run_conf_db, paths.conf_db):
        return paths.run_conf_db
    if paths.moving_conf_db.is_file() and not paths.conf_db.exists():
        return paths.moving_conf_db
    return None


def forget_moved(paths: Paths) -> None:
    """The second name of a file that has been moved, and whose server has ended since. Raises OSError."""
    if paths.conf_db.exists():
        files.remove_if_there(paths.moving_conf_db)


def move_left(paths: Paths, left: Path, give: Callable[[Path], None]) -> str:
    """Bring that to where ovsxen has it; says so. `give` hands a file to the user that the daemons run as.

    No server has it open. May be repeated. Raises OSError; then conf.db is as it was.
    """
    target = Path(os.path.realpath(str(paths.conf_db)))
    staged, aside = files.staged_name(target), None
    try:
        with files.open_regular(left) as stream:
            files.write_file(staged, files.read_start(stream.fileno(), os.fstat(stream.fileno()).st_size), MODE)
        give(staged)
        if target.exists() and not filecmp.cmp(str(staged), str(target), shallow=False):
            aside = generations.keep_aside(target)
        os.rename(str(staged), str(target))
    finally:
        files.remove_if_there(staged)
    files.sync_directory(target.parent)
    _settle(paths)
    return "%s is what ovsdb-server had in %s%s" % (paths.conf_db, left, _kept(aside))
