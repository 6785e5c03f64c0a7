"""What the daemon does to the switch, on plan_watch's word: start what is gone, wake or replace what hangs.

A start is a boot's own sequence, which leaves alone what is right and so asserts configuration and managers again; but
--delete-bridges does not count: guests run on the bridges.
"""

import signal
from typing import Iterator, Tuple

from ovsxen import boot
from ovsxen.errors import AdministratorError
from ovsxen.host import identity, process
from ovsxen.ovs import confdb, daemons, generations, lease
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, State
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.report import Phase
from ovsxen.sequence import Host, Run, Warn, record, run_steps


def start(host: Host, warn: Warn, names: Tuple[str, ...]) -> Iterator[Phase]:
    """Start those of `names` that do not run, and assert everything. To be called with the turn taken.

    ovs-vswitchd is left alone where it is not among them and does not run: it rests.
    """
    _require_database(host)
    rests = VSWITCHD not in names and daemons.find_anywhere(host.paths, VSWITCHD).process is None
    run = Run(never_purging(host), warn, identity.read_boot_id(host.paths))
    steps = (step for step in boot.boot_sequence() if not (rests and VSWITCHD in (step.name,) + step.needs))
    return record(run, run_steps(run, steps))


def _require_database(host: Host) -> None:
    """An empty conf.db in place of one that is gone would take every bridge from a switch that forwards.

    Raises AdministratorError.
    """
    paths = host.paths
    conf_db = confdb.real_path(paths.conf_db)
    if not conf_db.exists() and not generations.list_beside(conf_db, "good") \
            and daemons.find(paths, OVSDB_SERVER).state is not State.RUNNING \
            and daemons.find_anywhere(paths, VSWITCHD).state is State.RUNNING:
        raise AdministratorError(
            "%s is gone, with all copies, and ovs-vswitchd goes on with what it knows" % conf_db,
            "put the file back; or run `ovsxen start`, which begins with an empty one and so takes down every bridge")


def never_purging(host: Host) -> Host:
    """--delete-bridges is about starts; a daemon that died under guests is another matter."""
    return host._replace(settings=host.settings._replace(delete_bridges=False, problems=()))


def wake(host: Host, name: str) -> bool:
    """Continue a daemon that was stopped by a signal: it loses nothing. Tells whether it was there."""
    target = daemons.find(host.paths, name).process
    return target is not None and process.send_signal(target, signal.SIGCONT)


def end_lease(host: Host) -> bool:
    """Let ovs-vswitchd forward; tells whether it was kept from it. Raises OvsxenError."""
    within_s = host.settings.answer_timeout_s
    with Connection(host.paths.db_sock, daemons.OVSDB_SERVER, within_s) as connection:
        return lease.end(connection, within_s) is not None
