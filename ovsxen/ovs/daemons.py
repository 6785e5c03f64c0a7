"""The two daemons: whether they run, starting, asking and stopping them. launch.py has what they are started with.

Their `--detach` is the sign of readiness: the parent exits when ovsdb-server answers on its sockets, or when
ovs-vswitchd has done its first configuration. No monitor process is started: one owner restarts the daemons, and
Open vSwitch's own monitor ignores SIGKILL and rests 10 s before it restarts a daemon a second time.
"""

import errno
import os
import re
import signal
from enum import Enum
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, NoAnswer, NotPermitted, OvsxenError, Refused
from ovsxen.host import files, proc, process
from ovsxen.host.clock import MACHINE_CLOCK, Clock, Deadline
from ovsxen.host.files import remove_if_there
from ovsxen.host.paths import Paths

OVSDB_SERVER = "ovsdb-server"
VSWITCHD = "ovs-vswitchd"
XAPI_SYNC = "ovs-xapi-sync"
"""The name under which `ovsxen sync` is found, as its predecessor was: `ovs-appctl -t ovs-xapi-sync`."""

MANAGERS_REMOTE = "db:Open_vSwitch,Open_vSwitch,manager_options"
EXIT_PATIENCE_S = (0.1, 0.25, 0.65, 1)
TERM_PATIENCE_S = (0.1, 0.25, 0.65, 1, 1, 1, 1)
KILL_PATIENCE_S = (1, 1, 1, 2, 10, 15, 30)
"""How long ovs-lib waits on each rung of its ladder (utilities/ovs-lib.in, stop_daemon, 2.17): a SIGKILLed daemon of a
busy host may take a minute to go (openvswitch 89bc5283b)."""

DIED_OF_INTERRUPTION = (-signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM)
"""A ^C or a lost terminal, met in the moment before what was started had a session of its own."""

VERSION_WITHIN_S = 10.0
STOP_ROUNDS = 2
MONITOR_WITHIN_S = 0.5
STOP_WITHIN_S = STOP_ROUNDS * (sum(EXIT_PATIENCE_S + TERM_PATIENCE_S + KILL_PATIENCE_S) + 1.0 + MONITOR_WITHIN_S)
"""Both descents of the ladder, each with a second for the question and a look for a monitor."""


class State(Enum):
    """What a look at the pidfile and at its lock tells. Only an answer tells more."""

    RUNNING = "running"
    DEAD = "dead"
    STOPPED = "stopped"


class Daemon(NamedTuple):
    """A daemon as it is seen from outside. `process` is None unless it runs and its pid is visible from here."""

    name: str
    state: State
    process: Optional[process.Process]

    @property
    def label(self) -> str:
        return "%s (pid %d)" % (self.name, self.process.pid) if self.process else self.name


class Meanwhile(NamedTuple):
    """While a daemon gets ready, `once` is called, and `why_in_vain` again and again: why it cannot, or ""."""

    once: Callable[[], None] = lambda: None
    why_in_vain: Callable[[], str] = lambda: ""


NOTHING = Meanwhile()


def find(paths: Paths, name: str) -> Daemon:
    """Running: the pidfile is locked. Dead: a pidfile that nobody locks. Stopped: no pidfile.

    Raises NotPermitted, and AdministratorError where a stranger locks the pidfile: it is not to be asked or signalled.
    """
    pidfile = paths.pidfile(name)
    lock = process.find_lock(pidfile)
    if lock is None:
        return Daemon(name, State.DEAD if os.path.lexists(str(pidfile)) else State.STOPPED, None)
    if lock.process is not None and lock.process.name not in ("", name):  # "": a child after a crash, ed1e8ded8
        raise AdministratorError("%s is locked by %s, which is not %s" % (pidfile, lock.holder, name),
                                 "stop that process, then start again")
    return Daemon(name, State.RUNNING, lock.process)


def is_running(paths: Paths, name: str) -> bool:
    """As far as can be seen."""
    try:
        return find(paths, name).state is State.RUNNING
    except OvsxenError:
        return False


def find_anywhere(paths: Paths, name: str) -> Daemon:
    """Like `find`, and where that finds nothing running, any process of this name that was started for this host.

    Somebody may have removed its pidfile, or the whole run directory, and it goes on. Looking through all processes
    takes some milliseconds.
    """
    daemon = find(paths, name)
    if daemon.state is State.RUNNING:
        return daemon
    stray = next((one for one in process.find_processes(name) if _is_of_host(paths, one)), None)
    return Daemon(name, State.RUNNING, stray) if stray else daemon


def find_pidfile_problem(paths: Paths, daemon: Daemon) -> Optional[AdministratorError]:
    """What is wrong with the pidfile of a daemon that runs, by which Open vSwitch's own tools find it, if anything."""
    if daemon.process is None:
        return None
    pidfile, anew = paths.pidfile(daemon.name), "run `ovsxen restart`, which interrupts forwarding for a moment"
    problem = "%s runs, but its pidfile %s " % (daemon.label, pidfile)
    try:
        said = files.read_small(pidfile).strip()
    except FileNotFoundError:
        return AdministratorError(problem + "is gone", anew)
    except OSError as error:
        return AdministratorError(problem + "cannot be read (%s)" % error.strerror, anew)
    if said != str(daemon.process.pid).encode():
        return AdministratorError(problem + "says %s" % ascii(said[:20].decode("ascii", "replace")),
                                  "run `ovsxen start`, which puts it right and interrupts nothing")
    return None


def require_pidfile(paths: Paths, daemon: Daemon, *, dry_run: bool) -> None:
    """See that a daemon that runs is named by its pidfile. What somebody has written into it is put right.

    Raises AdministratorError where the file is gone: only a new start of the daemon mends that.
    """
    problem, pidfile = find_pidfile_problem(paths, daemon), paths.pidfile(daemon.name)
    if problem is not None and daemon.process is not None and pidfile.is_file():
        if dry_run:
            return
        _name_in_pidfile(pidfile, daemon.process)
        problem = find_pidfile_problem(paths, daemon)
    if problem is not None:
        raise problem


def _name_in_pidfile(pidfile: Path, holder: process.Process) -> None:
    """In the very file, whose lock the daemon holds."""
    lock = process.find_lock(pidfile)
    if lock is None or lock.process is None or lock.process.pid != holder.pid:
        return
    try:
        with open(str(pidfile), "r+b") as stream:
            stream.write(b"%d\n" % holder.pid)
            stream.truncate()
    except OSError:
        pass  # whoever asks is told what is wrong with it


def _is_of_host(paths: Paths, one: process.Process) -> bool:
    """Its command line names this host's run directory, under any of its names."""
    if not process.sees_same_directory(one.pid, paths.rundir):
        return False
    words = process.read_command_line(one.pid)
    pidfiles = [word.partition("=")[2] for word in words if word.startswith("--pidfile=")]
    if not pidfiles:
        return paths.is_machine and "--pidfile" in words
    directory = os.path.realpath(os.path.dirname(pidfiles[-1]))
    return directory == os.path.realpath(str(paths.rundir))


def environment(paths: Paths) -> Dict[str, str]:
    """Where the daemons and the tools of Open vSwitch look for this host's files (lib/dirs.c)."""
    return {"OVS_RUNDIR": str(paths.rundir), "OVS_LOGDIR": str(paths.logdir), "OVS_DBDIR": str(paths.dbdir),
            "OVS_SYSCONFDIR": str(paths.root / "etc")}


def start(paths: Paths, argv: Tuple[str, ...], priority: int, within_s: float,
          meanwhile: Meanwhile = NOTHING) -> Daemon:
    """Start a daemon at that nice value and wait until it is ready, or cannot become so.

    Should another process have won the race to its pidfile, that one is the daemon. Raises NoAnswer when it is not
    ready in time (it goes on), AdministratorError with its own words when it failed.
    """
    log_began = log_size(paths, argv[0])
    finished = _start(paths, argv, priority, within_s, meanwhile)
    if finished.returncode in DIED_OF_INTERRUPTION and find(paths, argv[0]).state is not State.RUNNING:
        finished = _start(paths, argv, priority, within_s, meanwhile._replace(once=lambda: None))
    return _require_started(paths, argv[0], finished, log_began)


def _start(paths: Paths, argv: Tuple[str, ...], priority: int, within_s: float,
           meanwhile: Meanwhile) -> proc.Finished:
    name = argv[0]
    cwd = paths.daemon_cwd if paths.daemon_cwd.is_dir() else paths.rundir
    with proc.at_priority(priority):
        starting = proc.Child(argv, environment(paths), cwd=cwd)
    try:
        try:
            meanwhile.once()
        finally:
            finished = starting.wait_detached(within_s, meanwhile.why_in_vain,
                                              lambda: is_running(paths, name))
    except NoAnswer as error:
        raise NoAnswer(error.problem, "see %s; if %s hangs, run `ovsxen restart`" % (
            paths.log(name), find(paths, name).label)) from error
    return finished


def _require_started(paths: Paths, name: str, finished: proc.Finished, log_began: int) -> Daemon:
    daemon = find(paths, name)
    if daemon.state is not State.RUNNING:
        if finished.returncode == 0:
            raise AdministratorError("%s ended right after its start" % name, "see %s" % paths.log(name))
        said = logged_since(paths, name, log_began, ("|ERR|", "|EMER|"))
        why = said[-1] if said else finished.complaint
        no_room = os.strerror(errno.ENOSPC) in why  # it writes to /tmp, too: ovsdb-server.c, save_config
        raise AdministratorError("%s did not start (%s)" % (name, why), "make room on the file systems of %s, %s and "
                                 "/tmp" % (paths.dbdir, paths.logdir) if no_room else "see %s" % paths.log(name))
    return daemon


def ask(paths: Paths, daemon: Daemon, command: str, arguments: Tuple[str, ...], within_s: float) -> str:
    """Send a command to the daemon's control socket, as ovs-appctl does, and give its answer.

    Raises NoAnswer, Refused, NotPermitted.
    """
    if daemon.state is not State.RUNNING:
        raise NoAnswer("%s does not run (any more)" % daemon.name, "see %s" % paths.log(daemon.name))
    if daemon.process is None:
        raise NoAnswer("%s runs out of sight of this process, so its control socket cannot be found" % daemon.name)
    socket = paths.control_socket(daemon.name, daemon.process.pid)
    from ovsxen.ovs.jsonrpc import Connection  # while a daemon starts

    deadline = Deadline(within_s)
    with Connection(socket, daemon.label, within_s) as connection:
        return str(connection.call(command, list(arguments), deadline.remaining_s()))


def are_linked(server: Daemon, vswitchd: Daemon) -> Optional[bool]:
    """vswitchd is connected to the server; None where that cannot be seen."""
    if server.process is None or vswitchd.process is None:
        return None
    from ovsxen.host import sockets  # only where one daemon was up before the other
    return sockets.are_connected(server.process.pid, vswitchd.process.pid)


def managers_are_attached(paths: Paths, server: Daemon, within_s: float) -> bool:
    """The managers in the database may connect already. Raises NoAnswer, Refused."""
    return MANAGERS_REMOTE in ask(paths, server, "ovsdb-server/list-remotes", (), within_s).split()


def attach_managers(paths: Paths, server: Daemon, within_s: float) -> None:
    """Let the managers in the database connect. Raises NoAnswer, Refused.

    Done after vswitchd is configured, so that a manager sees no half-empty columns (openvswitch 0ffe45370), yet also
    when it could not be: a manager must be able to reach a sick host (70738f0b7).
    """
    ask(paths, server, "ovsdb-server/add-remote", (MANAGERS_REMOTE,), within_s)


class Stopped(NamedTuple):
    """How a daemon was stopped: "exit", "TERM" or "KILL", or "" when it did not run."""

    how: str


def stop(paths: Paths, name: str, clock: Clock = MACHINE_CLOCK, *, ask_first: bool = True) -> Stopped:
    """Stop a daemon and wait until it is gone: ask it, then SIGTERM, then SIGKILL, each with ovs-lib's patience.

    Without `ask_first` the ladder begins at SIGTERM, at which both end at once: a hung one answers nothing, and an
    ovs-vswitchd that is asked takes its datapath apart port by port, which its successor would have to wait for.

    Raises AdministratorError when it outlives even that. A daemon that was started with --monitor by others may come
    back under another pid when it crashes at its end (openvswitch 4d6e7ddac): it is stopped once more.
    """
    how = ""
    for _ in range(STOP_ROUNDS):
        daemon = find_anywhere(paths, name)
        if daemon.state is not State.RUNNING:
            break
        how = _push_down(paths, daemon, clock, ask_first=ask_first)
        if paths.pidfile(name).exists():  # not removed, so it crashed: a monitor of its own may start another
            Deadline(MONITOR_WITHIN_S, clock).wait_until(lambda: find(paths, name).state is State.RUNNING)
    remove_remains(paths, name)
    return Stopped(how)


def _push_down(paths: Paths, daemon: Daemon, clock: Clock, *, ask_first: bool) -> str:
    """One descent of the ladder; gives the rung on which the daemon ended. Raises AdministratorError."""
    name, target = daemon.name, daemon.process
    if target is None:
        raise AdministratorError("%s is locked by a process that is not visible from here" % paths.pidfile(name),
                                 "stop it in its own container or namespace")

    def request_exit() -> None:
        try:
            ask(paths, daemon, "exit", (), 1.0)
        except (NoAnswer, Refused):
            pass  # the next rung does not need its consent

    ladder = (("exit", request_exit, EXIT_PATIENCE_S),
              ("TERM", lambda: process.send_signal(target, signal.SIGTERM), TERM_PATIENCE_S),
              ("KILL", lambda: process.send_signal(target, signal.SIGKILL), KILL_PATIENCE_S))
    for how, push, patience_s in ladder:
        if how == "exit" and not ask_first or how != "KILL" and target.is_halted:
            continue  # one that is halted can neither answer nor handle a signal
        push()
        if Deadline(sum(patience_s), clock).wait_until(lambda: process.has_ended(target)):
            return how
    raise AdministratorError("%s did not end even after SIGKILL" % daemon.label,
                             "it hangs in the kernel: see /proc/%d/stack and reboot the host" % target.pid)


def remove_remains(paths: Paths, name: str) -> None:
    """Remove the pidfile and control sockets of a daemon that is provably dead: nobody holds the pidfile's lock."""
    try:
        if find(paths, name).state is State.RUNNING:
            return
        remove_if_there(paths.pidfile(name))
        for socket in paths.rundir.glob(name + ".*.ctl"):
            pid = socket.name[len(name) + 1:-len(".ctl")]
            if pid.isdigit() and process.read_process(int(pid)) is None:
                remove_if_there(socket)
    except (OSError, NotPermitted):
        pass  # untidy, and no reason to fail


def can_log(paths: Paths, name: str) -> bool:
    """The daemon's log can be written. One that cannot be must not keep a switch from starting (CA-243975)."""
    log = paths.log(name)
    if os.path.lexists(str(log)):
        return os.path.isfile(str(log)) and os.access(str(log), os.W_OK)
    return os.path.isdir(str(log.parent)) and os.access(str(log.parent), os.W_OK)


def log_size(paths: Paths, name: str) -> int:
    """Bytes that the daemon's log has; 0 where it has none that can be read."""
    try:
        return paths.log(name).stat().st_size
    except OSError:
        return 0


def logged_since(paths: Paths, name: str, offset: int, marks: Tuple[str, ...]) -> Tuple[str, ...]:
    """What a daemon logged, since its log had `offset` bytes, in lines that hold one of `marks` ("|MODULE|LEVEL|").

    ovsdb-server says only here that it met a record that is whole yet makes no sense.
    """
    try:
        with files.open_regular(paths.log(name)) as stream:
            stream.seek(offset)
            lines = stream.read(1 << 20).decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    return tuple(line.split("|", 4)[-1][:200] for line in lines if any(mark in line for mark in marks))


def read_installed_version(name: str) -> str:
    """The version of the installed daemon, which may be newer than the one that runs. Raises OvsxenError."""
    return version_in(name, proc.run((name, "--version"), VERSION_WITHIN_S).stdout)


def version_in(name: str, text: str) -> str:
    """The version in what the program `name` says of itself: the last word of the line that names Open vSwitch.

    Other lines name other things, such as DPDK (openvswitch 40c23a57b). Raises OvsxenError.
    """
    for line in text.splitlines():
        if "Open vSwitch" in line:
            return line.split()[-1]
    raise OvsxenError("%s says %s instead of its version" % (name, ascii(text[:80])), "reinstall Open vSwitch")


def as_numbers(version: str) -> Tuple[int, ...]:
    """A version as it is compared: 3.10.1 comes after 3.9.0. What follows the numbers does not count."""
    numbers = re.match(r"[0-9.]*", version)
    return tuple(map(int, re.findall("[0-9]+", numbers.group()))) if numbers else ()
