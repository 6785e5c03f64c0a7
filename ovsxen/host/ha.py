"""High availability: xhad, which has a host rebooted when it loses its heartbeat, as when its network is taken down.

So it is stopped around what does that, where the administrator says so. A note tells that it was, so that whoever comes
after a run that was killed starts it again.
"""

from pathlib import Path
from typing import Callable

from ovsxen.errors import AdministratorError, NotInstalled
from ovsxen.host import clock, files, process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths
from ovsxen.host.proc import Child, Finished, search_path

XHAD = "xhad"
STOP, START = "ha_stop_daemon", "ha_start_daemon"
WITHIN_S = 120.0
SETTLED_WITHIN_S = 10.0
"""Within that, once its command has ended, the daemon is gone, or there."""


def is_armed(paths: Paths) -> bool:
    """This host takes part in HA now: xhad runs and has a configuration (as its init script found out)."""
    return paths.xhad_conf.exists() and _runs(paths)


def require_commands(paths: Paths) -> None:
    """Raises NotInstalled where one that stops or starts the daemon is missing."""
    missing = [str(path) for path in (_command(paths, STOP), _command(paths, START)) if not path.is_file()]
    if missing:
        raise NotInstalled("%s is not there" % " and ".join(missing),
                           "disable HA with `xe pool-ha-disable`, do this, and enable it again")


def stop_daemon(paths: Paths) -> str:
    """Stop the HA daemon, noting that it is to be started again; says how. Raises AdministratorError, NoAnswer."""
    note = paths.ha_stopped
    files.write_file(note, [clock.wall_clock_text().encode() + b"\n"], durable=False)
    _require(_run(paths, STOP), "stopped", lambda: not _runs(paths))
    return "%s stopped" % XHAD


def start_again(paths: Paths) -> str:
    """Start the HA daemon where ovsxen has stopped it and it does not run; says what was done, or nothing.

    May be repeated. Raises AdministratorError, NoAnswer; then the next run tries again.
    """
    note = paths.ha_stopped
    if not note.exists():
        return ""
    ran = _runs(paths)
    if not ran:
        _require(_run(paths, START), "started", lambda: _runs(paths))
    files.remove_if_there(note)
    return "%s runs" % XHAD if ran else "%s started" % XHAD


def _run(paths: Paths, command: str) -> Finished:
    """One of the commands of HA, which call one another by the PATH."""
    path = _command(paths, command)
    environ = {"PATH": ":".join(search_path() + [str(path.parent)])}
    return Child((str(path),), environ).wait_detached(WITHIN_S)


def _require(ended: Finished, became: str, is_so: Callable[[], bool]) -> None:
    """Raises AdministratorError where the command failed, or says that it did what it did not."""
    command = ended.argv[0]
    remedy = "see /var/log/xha.log, and run it by hand: `%s`" % command
    if ended.returncode != 0:
        raise AdministratorError("the HA daemon was not %s (%s: %s)" % (became, command, ended.complaint), remedy)
    if not Deadline(SETTLED_WITHIN_S).wait_until(is_so, every_s=0.05):
        raise AdministratorError("%s reports success, yet the HA daemon is not %s" % (command, became), remedy)


def _runs(paths: Paths) -> bool:
    """A host in a directory has the one that was begun there: another may be the machine's own, or another host's."""
    return any(paths.is_machine or process.read_command_line(one.pid)[:1] == (str(paths.root / XHAD),)
               for one in process.find_processes(XHAD))


def _command(paths: Paths, name: str) -> Path:
    return paths.xha_dir / name
