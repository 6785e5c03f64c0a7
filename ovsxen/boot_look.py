"""What there is to see of the last boots, read and not judged: what the daemon has kept, and of this boot what it has
not kept yet.
"""

from typing import NamedTuple, Tuple

from ovsxen import __version__
from ovsxen.boots import Boot, read_history, start_in
from ovsxen.errors import AdministratorError, OvsxenError
from ovsxen.host import boot_times, clock, identity
from ovsxen.report import read_report
from ovsxen.sequence import Host


class Seen(NamedTuple):
    """The last boots, oldest first, one at least; and what is not as it should be."""

    boots: Tuple[Boot, ...]
    notes: Tuple[str, ...]


def look_at_boots(host: Host) -> Seen:
    """Raises AdministratorError where there is nothing to see."""
    paths, boot_id = host.paths, identity.read_boot_id(host.paths)
    history = read_history(paths.boot_history)
    notes = ["%s: former boots are not shown, and the daemon begins it anew with the next one" % history.problem
             ] if history.problem else []
    known = history.find(boot_id)
    report = read_report(paths.boot_report, boot_id)
    boot = (known or Boot(boot_id, clock.date_of_boot(), __version__, "", 0, 0, ())).with_start(start_in(report))
    if report is not None and boot != known:
        boot = boot._replace(purged=len(report.purged))
    if boot.starts and _may_be_over(boot) and boot_times.is_there(paths):
        try:
            boot = boot._replace(system=boot_times.Question().answer())
        except OvsxenError as error:
            notes.append("without systemd's times%s: %s" % (" of now" if boot.system else "", error))
    if boot.starts:
        return Seen(history.with_boot(boot).boots, tuple(notes))
    if not history.boots:
        raise AdministratorError(
            "no boot is recorded in %s%s" % (paths.boot_history, " (%s)" % history.problem if history.problem else ""),
            "`ovsxen daemon` records each boot, so start it, with `systemctl start openvswitch` or `service "
            "openvswitch start`")
    notes.append("the switch has not been started in this boot, or by an older version: the last boot that is recorded "
                 "is shown")
    return Seen(history.boots, tuple(notes))


def _may_be_over(boot: Boot) -> bool:
    """For all that is kept of it: the daemon asks systemd only now and then."""
    return boot.system is None or not boot.system.finished_s
