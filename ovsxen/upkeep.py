"""conf.db under a server that runs: what only its memory has is written, checked before that is lost, and copied."""

from ovsxen import phases_online as online
from ovsxen.errors import NoAnswer, Refused
from ovsxen.ovs import confdb, confdb_move, daemons, dblog, dbtool, generations, losses
from ovsxen.ovs.daemons import OVSDB_SERVER, State
from ovsxen.ovs.dblog import Kind
from ovsxen.phases_offline import compaction_within_s
from ovsxen.report import Outcome
from ovsxen.sequence import Result, Run


def rewrite_database(run: Run) -> Result:
    """What its file has lost, a server that runs still knows and writes anew when asked; once stopped it is gone.

    What it has in the run directory it writes where ovsxen has conf.db. Raises AdministratorError where it cannot,
    NoAnswer.
    """
    server = daemons.find_anywhere(run.paths, OVSDB_SERVER)
    if server.state is not State.RUNNING:
        return Result(Outcome.SKIPPED, "ovsdb-server does not run")
    moved = confdb_move.move_served(run.paths, server, compaction_within_s(run))
    if moved:
        return Result(Outcome.DONE, moved)
    path = confdb.real_path(run.paths.conf_db)
    log = dblog.check(path, dbtool.DATABASE)
    if log.kind is Kind.GOOD:
        return Result(Outcome.UNCHANGED, "%s is whole" % path)
    try:
        daemons.ask(run.paths, server, "ovsdb-server/compact", (),
                    run.settings.answer_timeout_s + dbtool.allowance_s(log.size_bytes))
    except (NoAnswer, Refused) as error:
        return Result(Outcome.DEGRADED, "%s is %s, and ovsdb-server does not write it anew: %s" % (
            path, log.kind.value, error))
    return Result(Outcome.DONE, "%s was %s: ovsdb-server has written it anew" % (path, log.kind.value))


def prepare_to_end_server(run: Run) -> Result:
    """Write what only its memory has. Where that cannot be, and bridges that forward would go with it, it must not end.

    Raises AdministratorError that names them, NoAnswer.
    """
    try:
        result = rewrite_database(run)
    except NoAnswer as error:
        if confdb_move.find_left(run.paths) is None:
            raise
        return Result(Outcome.DEGRADED, "%s; the next start takes it over" % error.problem)
    if result.outcome is not Outcome.UNCHANGED:
        losses.require_bridges(run.paths, confdb.assess(run.paths.conf_db), run.settings.answer_timeout_s)
    return result


def keep_live_copy(run: Run) -> None:
    """Copy conf.db as it is now, with what the host has made since the start; where that fails, a warning."""
    online.keep_copy(run, generations.keep_live)
