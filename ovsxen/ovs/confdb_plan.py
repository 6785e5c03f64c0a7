"""Pure: what is done about conf.db. The rule: a host that had a configuration never silently comes up with less."""

from enum import Enum
from typing import NamedTuple, Optional, Tuple

from ovsxen.host import clock
from ovsxen.ovs.confdb import Found, Source
from ovsxen.ovs.dblog import Kind, Log, Schema
from ovsxen.ovs.generations import Recovery

SPARE_BYTES = 1 << 20


class Repair(Enum):
    """What is done to conf.db, in this order."""

    RECOVER = "recover"
    CREATE = "create"
    CONVERT = "convert"


class Plan(NamedTuple):
    """What will be done and why. `degraded` says why the host comes up with less than it should, if it does."""

    steps: Tuple[Repair, ...]
    source: Optional[Source]
    recovery: Optional[Recovery]
    reason: str
    degraded: str


def plan(found: Found) -> Plan:
    """Decide, from what was found."""
    if found.log.kind is Kind.GOOD:
        return _plan_conversion(found, Plan((), None, None, _good_text(found.log), ""))
    if found.fallbacks:
        source = found.fallbacks[0]
        recovery = _recovery(found, source)
        return _plan_conversion(found, Plan((Repair.RECOVER,), source, recovery, "", recovery.problem))
    if found.log.kind is Kind.ABSENT and not found.had_history:
        return Plan((Repair.CREATE,), None, None, "%s is not there: a new one with schema %s" % (
            found.path, found.installed.version), "")
    recovery = _recovery(found, None)
    return Plan((Repair.RECOVER, Repair.CREATE), None, recovery, "", recovery.problem)


def _good_text(log: Log) -> str:
    return "%d records, schema %s" % (log.records, log.schema.version if log.schema else "unknown")


def _recovery(found: Found, source: Optional[Source]) -> Recovery:
    """What is said of it; confdb_apply adds when, and where the file is kept."""
    what = "%s is %s%s" % (found.path, found.log.kind.value, " (%s)" % found.log.problem if found.log.problem else "")
    kept = "the file as it was found, beside it"
    if source is None:
        return Recovery("", what, "an EMPTY database: there is no good copy to go back to", kept,
                        "everything that it configured (managers, SSL, bridges): set it again")
    dated = clock.utc_text(source.last_date_ms) if source.last_date_ms else "an unknown time"
    lost = "what was changed after its %d records, the newest of which says %s" % (source.records, dated)
    if source.path == found.path:
        lost += " (%d bytes from byte %d on)" % (found.log.size_bytes - source.size_bytes, source.size_bytes)
        return Recovery("", what, "its good part, %d bytes" % source.size_bytes, kept, lost)
    return Recovery("", what, str(source.path), kept, lost)


def _plan_conversion(found: Found, so_far: Plan) -> Plan:
    """Add the conversion when ovsdb-tool says yes, and only then (openvswitch dbb5ecb4b)."""
    if found.conversion == "no":
        return so_far
    if found.conversion != "yes":
        return _with_trouble(so_far, "left as it is, because %s: reinstall Open vSwitch" % found.conversion)
    size = so_far.source.size_bytes if so_far.source else found.log.size_bytes
    if found.free_bytes < 3 * size + SPARE_BYTES:
        return _with_trouble(so_far, "not converted to schema %s: %s has %d bytes free and the conversion needs %d: "
                             "make room and restart" % (found.installed.version, found.path.parent, found.free_bytes,
                                                        3 * size + SPARE_BYTES))
    old = found.log.schema.version if found.log.schema else "unknown"
    converting = so_far._replace(steps=so_far.steps + (Repair.CONVERT,), reason="; ".join(filter(None, (
        so_far.reason, "convert from schema %s to %s" % (old, found.installed.version)))))
    if so_far.source is None and _is_older(found.installed, found.log.schema):
        return _with_trouble(converting, "the installed schema is OLDER: what only %s knows is dropped, and kept in "
                             "the last good generation; install the newer Open vSwitch to have it back" % old)
    return converting


def _with_trouble(so_far: Plan, trouble: str) -> Plan:
    return so_far._replace(reason="; ".join(filter(None, (so_far.reason, trouble))),
                           degraded="; ".join(filter(None, (so_far.degraded, trouble))))


def _is_older(installed: Schema, present: Optional[Schema]) -> bool:
    def numbers(version: str) -> Tuple[int, ...]:
        return tuple(int(part) for part in version.split(".") if part.isdigit())
    return present is not None and numbers(installed.version) < numbers(present.version)
