"""Make such a host, run a command in it with the environment set, and take down whatever was started in it."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List

from ovsxen.errors import EXIT_FAILED, NoAnswer, OvsxenError, UsageError
from ovsxen.host import detach, files, proc, process
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import SOCKET_PATH_LIMIT, Paths, longest_socket_path, paths_under
from ovsxen.ovs import daemons, launch
from ovsxen.sandbox import certificates, contents

XE = "opt/xensource/bin"
FEWEST_NETWORKS = 3
WITHIN_S = 20.0
SWITCH = (daemons.VSWITCHD, daemons.OVSDB_SERVER)
TOP_DOWN = (daemons.XAPI_SYNC,) + SWITCH


def run(directory: Path, stale_bridges: int, command: List[str], warn: Callable[[str], None]) -> int:
    """`ovsxen sandbox`: gives the command's exit code. A directory that is a sandbox already is used as it is.

    What ran in it before goes on afterwards. Raises UsageError for a place that cannot be one, NotInstalled without
    Open vSwitch.
    """
    paths = make(directory, stale_bridges)
    running = [name for name in TOP_DOWN if daemons.find(paths, name).state is daemons.State.RUNNING]
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with _serving_xapi(paths, max(stale_bridges, FEWEST_NETWORKS)):
            return _run_command(paths, command or [os.environ.get("SHELL") or "/bin/sh"])
    except KeyboardInterrupt:
        return EXIT_FAILED
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        take_down(paths, [name for name in TOP_DOWN if name not in running], warn)


def make(directory: Path, stale_bridges: int) -> Paths:
    """Make the host's files, unless they are there. Raises UsageError, NotInstalled."""
    paths = paths_under(directory, os.environ)
    if stale_bridges < 0:
        raise UsageError("--stale-bridges %d makes no sense" % stale_bridges, "give 0 or more")
    if longest_socket_path(paths) > SOCKET_PATH_LIMIT:
        raise UsageError("%s is too long a path for the sockets in it" % paths.root,
                         "use a shorter one, such as /tmp/xs")
    launch.require_programs()
    if paths.inventory.exists() and paths.conf_db.exists():
        return paths
    if paths.root.exists() and any(paths.root.iterdir()):
        raise UsageError("%s is not empty and no sandbox" % paths.root, "name a new directory")
    contents.write_files(paths)
    contents.make_conf_db(paths, stale_bridges)
    return paths


def environment(paths: Paths) -> Dict[str, str]:
    """What makes ovsxen and Open vSwitch's own tools work on this host."""
    python_path = [contents.PACKAGE] + [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = [str(paths.root / XE), os.path.dirname(sys.executable)] + proc.search_path()
    return dict(os.environ, OVSXEN_ROOT=str(paths.root), PYTHONPATH=os.pathsep.join(python_path),
                PATH=os.pathsep.join(path), **daemons.environment(paths))


@contextmanager
def _serving_xapi(paths: Paths, networks: int) -> Iterator[None]:
    """A XAPI on the host's socket, in a process of its own, unless one answers there already; and `xe` to ask it."""
    if _xapi_answers(paths):
        yield
        return
    _prepare_for_xapi(paths)
    argv = [sys.executable, "-m", "ovsxen.sandbox.xapi", str(paths.root), "--networks", str(networks)]
    child = subprocess.Popen(argv, env=environment(paths), stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        Deadline(WITHIN_S).wait_until(lambda: _xapi_answers(paths) or child.poll() is not None, every_s=0.02)
        if not _xapi_answers(paths):
            raise NoAnswer("the sandbox's XAPI does not answer at %s" % paths.xapi_socket, "report this")
        yield
    finally:
        child.terminate()
        child.wait()


def _xapi_answers(paths: Paths) -> bool:
    with socket.socket(socket.AF_UNIX) as stream:
        return stream.connect_ex(str(paths.xapi_socket)) == 0


def _prepare_for_xapi(paths: Paths) -> None:
    """The host's certificate, xe, and the mark that xcp-networkd keeps its networks, as on today's hosts."""
    if not paths.xapi_ssl_pem.exists():
        certificates.make_host_pem(paths.xapi_ssl_pem)
    files.make_directory(paths.networkd_db.parent, 0o755)
    if not paths.networkd_db.exists():
        files.write_file(paths.networkd_db, [b"{}\n"], durable=False)
    files.make_directory(paths.root / XE, 0o755)
    script = "#!/bin/sh\nexec %s -m ovsxen.sandbox.xapi.xe %s \"$@\"\n" % (sys.executable, paths.xapi_socket)
    files.write_file(paths.root / XE / "xe", [script.encode()], 0o755, durable=False)


def take_down(paths: Paths, names: List[str], warn: Callable[[str], None]) -> None:
    """Stop these daemons of the host, where they run; first who would start them again."""
    watching = detach.find_holder(paths.daemon_pidfile)
    if watching is not None and set(names) & set(SWITCH):
        process.send_signal(watching, signal.SIGKILL)
    for name in names:
        try:
            daemons.stop(paths, name)
        except OvsxenError as error:
            warn("the sandbox %s was not taken down: %s" % (paths.root, error))


def _run_command(paths: Paths, command: List[str]) -> int:
    """Run the command with this terminal, so it is not a child of the process door."""
    try:
        child = subprocess.Popen(command, env=environment(paths), cwd=None)
    except OSError as error:
        raise UsageError("cannot run %s (%s)" % (command[0], error.strerror), "check the command") from error
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    return code if code >= 0 else 128 - code


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
