"""One verdict over the whole host, as a value; text and JSON are two views of it. All of it is decided from one look.

docs/status.md is the contract of the JSON form.
"""

from enum import Enum
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ovsxen import sync_report
from ovsxen.answer import UNFINISHED
from ovsxen.look import Health, Link, Seen, SeenDaemon
from ovsxen.ovs.daemons import OVSDB_SERVER
from ovsxen.ovs.dblog import Kind
from ovsxen.ovs.lease import FLOW_RESTORE_WAIT, read_lease
from ovsxen.ovs.probe import CANNOT_WRITE
from ovsxen.plan_boot import BOOT_ID_KEY
from ovsxen.report import BAD, printable
from ovsxen.watch_report import ENDED

SCHEMA = 1
START_WATCH = "`systemctl start openvswitch` (without systemd `ovsxen daemon --detach`)"
COMPACT = "`ovs-appctl -t ovsdb-server ovsdb-server/compact`"


class Verdict(Enum):
    """The verdicts, with their exit codes (LSB's, and 150 for what LSB has no word for)."""

    RUNNING = "running"
    DEAD = "dead"
    STOPPED = "stopped"
    DISABLED = "disabled"
    UNKNOWN = "unknown"
    DEGRADED = "degraded"

    @property
    def exit_code(self) -> int:
        return {"running": 0, "dead": 1, "stopped": 3, "disabled": 3, "unknown": 4, "degraded": 150}[self.value]


class Status(NamedTuple):
    """The verdict, and what was seen. `problems` make the verdict; the warnings in `seen` do not."""

    verdict: Verdict
    problems: Tuple[str, ...]
    seen: Seen


def judge(seen: Seen) -> Status:
    """Make the verdict."""
    problems = tuple(_daemon_problems(seen) + _switch_problems(seen) + _module_problems(seen)
                     + _database_problems(seen) + _boot_problems(seen) + _watch_problems(seen)
                     + _unfinished_problems(seen) + _update_problems(seen) + _sync_problems(seen))
    verdict = decide(seen.disabled is not None, seen.server.health, seen.vswitchd.health, bool(problems))
    return Status(verdict, problems, seen)


def decide(disabled: bool, server: Health, vswitchd: Health, has_problems: bool) -> Verdict:
    """The worst decides: what does not answer, what died, what is not there, what is wrong."""
    both = (server, vswitchd)
    if Health.HUNG in both:
        return Verdict.UNKNOWN
    if Health.DEAD in both:
        return Verdict.DEAD
    if Health.RUNNING not in both:
        return Verdict.DISABLED if disabled else Verdict.STOPPED
    if vswitchd is Health.STOPPED:
        return Verdict.STOPPED
    return Verdict.DEGRADED if has_problems or disabled or server is Health.STOPPED else Verdict.RUNNING


def _is_off_on_purpose(seen: Seen) -> bool:
    return seen.disabled is not None and seen.server.health is seen.vswitchd.health is Health.STOPPED


def _daemon_problems(seen: Seen) -> List[str]:
    if _is_off_on_purpose(seen):
        return []
    wanted = [one for one in (seen.server, seen.vswitchd)
              if seen.disabled is None or one.health is not Health.STOPPED]
    problems = [problem for problem in (_daemon_problem(seen, one) for one in wanted) if problem]
    if seen.disabled is not None:
        problems.append("the switch runs although %s: run `ovsxen stop`" % (
            seen.disabled.problem or "network.conf says bridge"))
    return problems


def _daemon_problem(seen: Seen, one: SeenDaemon) -> str:
    name = one.daemon.name
    remedy = "run `ovsxen start`"
    if name == OVSDB_SERVER and seen.vswitchd.health is Health.RUNNING and seen.log.kind is not Kind.GOOD:
        remedy = ("%s is %s, so put back a good one, or run `ovsxen start`, which begins with what there is to go back "
                  "to and takes down every bridge that is not in it" % (seen.conf_db, seen.log.kind.value))
    if one.health is Health.RUNNING:
        return one.pidfile_problem
    if one.health is Health.STOPPED:
        return "%s does not run: %s" % (name, remedy)
    if one.health is Health.DEAD:
        return "%s died: its pidfile %s is there and nobody holds it; %s" % (name, seen.paths.pidfile(name), remedy)
    if one.is_traced:
        return "%s is held by a debugger, which is to be ended" % one.daemon.label
    if one.is_stopped:
        return "%s: `kill -CONT %d`, or `ovsxen restart`" % (one.why_hung, one.pid or 0)
    return "%s; see %s, then run `ovsxen restart`" % (one.why_hung, seen.paths.log(name))


def _switch_problems(seen: Seen) -> List[str]:
    told = seen.switch
    problems = ["%s: see %s" % (told.problem, seen.paths.log(seen.server.daemon.name))] if told.problem else []
    if told.link is Link.DOWN and seen.vswitchd.health is Health.RUNNING:
        problems.append("ovs-vswitchd runs but is not connected to ovsdb-server: run `ovsxen restart`")
    if told.link is Link.BEHIND and not seen.disk_is_full and not any(
            CANNOT_WRITE in problem for problem in _watch_problems(seen)):
        problems.append("ovs-vswitchd has not configured what the database says: it is busy or stuck, see %s and look "
                        "again; if it stays so, run `ovsxen restart`" % seen.paths.log(seen.vswitchd.daemon.name))
    if told.switch is None:
        return problems
    if not told.managers_may_connect:
        problems.append("ovsdb-server does not let the managers in the database connect: run `ovsxen start`")
    row = told.switch.row
    if row is None or row.external_ids.get(BOOT_ID_KEY) != seen.boot_id:
        problems.append("the database was not prepared for this boot, last boot's bridges may be in it: "
                        "run `ovsxen start`")
    if row is not None and read_lease(row.other_config) is not None \
            and not any(FLOW_RESTORE_WAIT in problem for problem in _watch_problems(seen)):
        problems.append("other_config:%s is set, so new flows are held back: run `ovsxen reload`" % FLOW_RESTORE_WAIT)
    if row is None or not row.external_ids.get("system-id"):
        problems.append("external_ids:system-id is not set, controllers do not know this host: put INSTALLATION_UUID "
                        "into %s and run `ovsxen reload`" % seen.paths.inventory)
    return problems


def _module_problems(seen: Seen) -> List[str]:
    if seen.modules.present or not seen.modules.loadable or seen.disabled is not None:
        return []
    return ["the kernel module openvswitch is not loaded: run `ovsxen load-kmod`"]


def _database_problems(seen: Seen) -> List[str]:
    """The file on disk, held against what the server has open."""
    problems = ["%s: %s. Remove %s when you have dealt with it" % (recovery.when, recovery, note)
                for note, recovery in seen.recoveries]
    if seen.disk_is_full:
        problems.append("the disk of %s is full, so no change is kept: make room in %s" % (
            seen.conf_db, seen.conf_db.parent))
    in_memory = seen.server.health in (Health.RUNNING, Health.HUNG)
    if in_memory and seen.log.kind is Kind.ABSENT:
        problems.append("%s is gone from the disk: run %s now, which writes what ovsdb-server has in memory"
                        % (seen.conf_db, COMPACT))
    elif in_memory and not seen.server_has_it_open:
        problems.append("%s is not the file that ovsdb-server has open, so changes do not reach it: run %s, which "
                        "replaces it by what the server has" % (seen.conf_db, COMPACT))
    elif seen.log.kind not in (Kind.GOOD, Kind.ABSENT):
        remedy = ("run %s now, which writes what ovsdb-server has in memory" % COMPACT if in_memory
                  else "`ovsxen start` goes back to the last good copy")
        problems.append("%s is %s (%s): %s" % (seen.conf_db, seen.log.kind.value, seen.log.problem, remedy))
    return problems


def _boot_problems(seen: Seen) -> List[str]:
    problems = []
    if seen.worker is not None and seen.worker.is_halted:
        problems.append("%s has begun to start, stop or restart the switch and does not go on: %s" % (
            seen.worker.label, seen.worker.remedy))
    if seen.report is None or seen.disabled is not None:
        return problems
    if not seen.report.finished and seen.start_under_way:
        problems.append("a start is under way: look again when it has ended")
    elif not seen.report.finished:
        problems.append("the last start was interrupted: run `ovsxen start`")
    return problems + ["at this boot, %s %s: %s" % (phase.name, phase.outcome.value, phase.reason)
                       for phase in seen.report.phases if phase.outcome in BAD]


def _watch_problems(seen: Seen) -> List[str]:
    """A daemon that was there and is gone was not ended in order; one that never was is the administrator's choice."""
    watching, report = seen.watch.process, seen.watch.report
    if watching is None:
        if report is None or report.doing == ENDED or _is_off_on_purpose(seen):
            return []
        return ["the ovsxen daemon (pid %d) is gone, so nobody starts again what dies: run %s" % (
            report.pid, START_WATCH)]
    if watching.is_halted:
        return ["%s does not watch the switch: %s" % (watching.label, watching.remedy)]
    if seen.watch.is_stale and not seen.watch.has_room:
        return ["%s has no room for what %s says of the switch: make room there" % (
            seen.paths.rundir, watching.label)]
    if seen.watch.is_stale:
        return ["%s has written nothing for a while, it hangs and does not watch the switch: kill it with SIGKILL, "
                "which leaves the switch alone, and run %s" % (watching.label, START_WATCH)]
    return list(report.problems) if report is not None and report.pid == watching.pid else []


def _unfinished_problems(seen: Seen) -> List[str]:
    """What a restart, or a replacement of the kernel module, has left that failed or was killed."""
    if seen.start_under_way:
        return []
    problems = []
    if seen.lost_flows:
        problems.append("the flows that a restart kept of %s are not all put back, %s has them: run `ovsxen start`, "
                        "which tries again; to do without them, remove that file" % (
                            ", ".join(map(printable, seen.lost_flows)), seen.paths.kept_flows))
    if seen.interfaces_kept:
        problems.append("addresses and routes of internal ports that were lost with the kernel module are not all put "
                        "back, %s has them: run `ovsxen start`" % seen.paths.kept_interfaces)
    if seen.ha_stopped:
        problems.append("ovsxen has stopped the HA daemon of this host, and it does not run yet: run `ovsxen start`")
    return problems


def _update_problems(seen: Seen) -> List[str]:
    """XAPI tells nobody that its plugin failed."""
    if seen.update is None or seen.disabled is not None:
        return []
    problems = ["at the update of %s, %s" % (seen.update.when, problem) for problem in seen.update.problems]
    if not seen.update.error or seen.update.error == UNFINISHED and seen.update_under_way:
        return problems
    if seen.update.error == UNFINISHED:
        return problems + ["the update that began at %s was killed, so the switch may not agree with XAPI: run `ovsxen "
                           "update`" % seen.update.when]
    return problems + ["the switch may not agree with XAPI, the update at %s failed: %s; mend that, then run `ovsxen "
                       "update`" % (seen.update.when, seen.update.error)]


def _sync_problems(seen: Seen) -> List[str]:
    """One that was killed shows by its pidfile; one that never was, or was stopped, is the administrator's choice."""
    daemon, report = seen.sync.daemon, seen.sync.report
    if seen.disabled is not None:
        return []
    if daemon.health is Health.DEAD:
        return ["%s died, so controllers do not see ids of new interfaces: run %s" % (
            daemon.daemon.name, sync_report.START)]
    if daemon.health is Health.HUNG and daemon.daemon.process is not None and daemon.daemon.process.is_halted:
        return ["%s does not keep external_ids: %s" % (daemon.daemon.label, daemon.daemon.process.remedy)]
    if daemon.health is Health.HUNG:
        return ["%s: run `ovsxen sync --stop`, then %s" % (daemon.why_hung, sync_report.START)]
    if daemon.health is Health.STOPPED:
        return []
    if report is None:
        return ["%s is another program than the installed ovsxen, or of another version: `ovsxen sync --stop` ends it; "
                "then run %s" % (daemon.daemon.label, sync_report.START)]
    return list(report.problems)


def warnings_of(status: Status) -> Tuple[str, ...]:
    """What has no effect on the verdict, each once."""
    seen = status.seen
    sync = seen.sync.report
    said = seen.warnings + (sync.warnings if sync else ()) + (seen.report.warnings if seen.report else ()) + (
        tuple(note for note in seen.update.answer.notes if note not in seen.update.problems) if seen.update else ())
    return tuple(dict.fromkeys(said))


def _describe_backend(seen: Seen) -> str:
    if seen.disabled is None:
        return "openvswitch"
    return seen.disabled.problem or "bridge"


def _describe_module(seen: Seen) -> str:
    present = seen.modules.present
    if present is None:
        return "not loaded" if seen.modules.loadable else "none (this kernel loads no modules)"
    return "%s %s" % (present.name, "built in" if present.builtin else "loaded")


def _describe_database(seen: Seen) -> str:
    if seen.log.kind is not Kind.GOOD:
        return str(seen.log.kind.value)
    return "good, %d records, schema %s" % (seen.log.records, seen.log.schema.version if seen.log.schema else "")


def _describe_watch(seen: Seen) -> str:
    if seen.watch.process is None:
        return "nobody"
    events = seen.watch.report.events if seen.watch.report else ()
    last = "; last, at %s: %s" % (events[-1].when, printable(events[-1].text)) if events else ""
    return "pid %d%s" % (seen.watch.process.pid, last)


def _watch_as_json(seen: Seen) -> Optional[Dict[str, Any]]:
    if seen.watch.report is None:
        return None
    return dict(seen.watch.report.as_json(), alive=seen.watch.process is not None, stale=seen.watch.is_stale)


def _describe_sync(seen: Seen) -> str:
    report = seen.sync.report
    if report is None:
        return "nobody" if seen.sync.daemon.pid is None else "pid %d, %s" % (
            seen.sync.daemon.pid, seen.sync.daemon.health.value)
    return "pid %d, %s since %s" % (seen.sync.daemon.pid or 0, report.xapi, report.since)


def _sync_as_json(seen: Seen) -> Optional[Dict[str, Any]]:
    daemon, report = seen.sync.daemon, seen.sync.report
    if daemon.health is Health.STOPPED:
        return None
    return {"state": daemon.health.value, "pid": daemon.pid, "report": report.as_json() if report else None}


def as_json(status: Status) -> Dict[str, Any]:
    """The members that docs/status.md documents."""
    seen, switch = status.seen, status.seen.switch.switch
    return {"schema": SCHEMA, "verdict": status.verdict.value, "exit_code": status.verdict.exit_code,
            "backend": _describe_backend(seen), "module": _describe_module(seen), "database": _describe_database(seen),
            "daemons": {one.daemon.name: {"state": one.health.value, "pid": one.pid, "version": one.version,
                                          "problem": _daemon_problem(seen, one)}
                        for one in (seen.server, seen.vswitchd)},
            "link": seen.switch.link.value, "bridges": len(switch.bridges) if switch else None,
            "managers": list(switch.managers) if switch else [], "boot_id": seen.boot_id,
            "boot": seen.report.as_json() if seen.report else None,
            "watch": _watch_as_json(seen), "sync": _sync_as_json(seen),
            "update": seen.update.as_json() if seen.update else None,
            "problems": list(status.problems), "warnings": list(warnings_of(status))}


def unreadable_as_json(problem: str) -> Dict[str, Any]:
    """The object of a host that cannot be looked at."""
    return {"schema": SCHEMA, "verdict": Verdict.UNKNOWN.value, "exit_code": Verdict.UNKNOWN.exit_code,
            "problems": [problem]}


def as_text(status: Status) -> str:
    """The verdict for people: the verdict first, then what is wrong, then what there is."""
    seen, switch = status.seen, status.seen.switch.switch
    lines = ["Open vSwitch is %s" % status.verdict.value]
    lines += ["  problem: %s" % problem for problem in status.problems]
    lines += ["  warning: %s" % warning for warning in warnings_of(status)]
    rows = [(one.daemon.name, one.health.value + (" with pid %d" % one.pid if one.pid else "")
             + (", version %s" % one.version if one.version else "")) for one in (seen.server, seen.vswitchd)]
    rows += [("backend", _describe_backend(seen)), ("module", _describe_module(seen)),
             ("conf.db", _describe_database(seen)), ("link", seen.switch.link.value),
             ("bridges", str(len(switch.bridges)) if switch else "unknown"),
             ("managers", (", ".join(switch.managers) or "none") if switch else "unknown")]
    rows.append(("watched by", _describe_watch(seen)))
    rows.append(("ids kept by", _describe_sync(seen)))
    if seen.report:
        rows.append(("boot", "%d phases in %.0f ms, %d bridge(s) purged%s" % (
            len(seen.report.phases), sum(phase.ms for phase in seen.report.phases), len(seen.report.purged),
            ": " + ", ".join(map(printable, seen.report.purged)) if seen.report.purged else "")))
    if seen.update:
        rows.append(("update", "%s: %s" % (seen.update.when, printable(seen.update.error or seen.update.answer.text))))
    return "\n".join(lines + ["  %-14s %s" % row for row in rows])
