"""What the daemon does to the switch, on plan_watch's word: carry_out() starts, wakes, replaces, ends a lease.

A start is a boot's own sequence, which leaves alone what is right and so asserts configuration and managers again; but
--delete-bridges does not count: guests run on the bridges.
"""

import signal
from typing import Iterator, Tuple

from ovsxen import boot, upkeep
from ovsxen.host import identity, process
from ovsxen.news import News
from ovsxen.ovs import daemons, lease
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD, Daemon, State
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.plan_watch import Act, Decision
from ovsxen.report import BAD, Outcome, Phase
from ovsxen.sequence import Host, Run, Warn, record, run_steps


def carry_out(host: Host, decision: Decision, news: News) -> None:
    """Do it, and tell. To be called with the turn taken, except for END_LEASE: that may be of whoever has the turn.

    Raises OvsxenError, OSError.
    """
    if decision.act is Act.END_LEASE:
        if end_lease(host):
            news.note("other_config:%s cleared: %s" % (lease.FLOW_RESTORE_WAIT, decision.why))
    elif decision.act is Act.REWRITE:
        done = upkeep.rewrite_database(Run(host, news.log.warn))
        news.note("%s; %s: %s" % (decision.why, done.outcome.value, done.reason))
    elif decision.act is Act.COPY:
        upkeep.keep_live_copy(Run(host, news.log.warn))
    elif decision.act is Act.WAKE:
        for name in decision.names:
            if wake(host, name):
                news.note("%s continued: %s" % (name, decision.why))
    else:
        _bring_back(host, decision, news)


def _bring_back(host: Host, decision: Decision, news: News) -> None:
    """End what hangs, start what is gone, assert everything, and keep what tells why."""
    news.note("%s: %s" % (decision.subject, decision.why))
    if decision.act is Act.REPLACE:
        for name in decision.names:
            if name == OVSDB_SERVER:
                done = upkeep.prepare_to_end_server(Run(host, news.log.warn))
                if done.outcome is not Outcome.UNCHANGED:
                    news.note(done.reason)
            keep_evidence(host, daemons.find_anywhere(host.paths, name), decision, news)
            daemons.stop(host.paths, name, ask_first=False)
    for phase in start(host, news.log.warn, decision.names):
        if phase.outcome is not Outcome.UNCHANGED:
            news.phase(phase)
        if phase.name in decision.names or phase.outcome in BAD:
            news.note("%s %s: %s" % (phase.name, phase.outcome.value, phase.reason))
    if decision.act is Act.START:  # the network first
        for name in decision.names:
            keep_evidence(host, Daemon(name, State.DEAD, None), decision, news)


def keep_evidence(host: Host, daemon: Daemon, decision: Decision, news: News) -> None:
    """Of why it hung or died, before that is gone."""
    from ovsxen.ovs import evidence  # a watch that never needs it stays small
    from ovsxen.ovs.evidence_sources import Kind

    kind = Kind.HANG if decision.act is Act.REPLACE else Kind.DEATH
    kept = evidence.collect(host.paths, daemon, kind, decision.why)
    if kept.directory is not None:
        news.note("what tells of it is kept in %s" % kept.directory)
    for problem in kept.problems:
        news.log.warn(problem)


def start(host: Host, warn: Warn, names: Tuple[str, ...]) -> Iterator[Phase]:
    """Start those of `names` that do not run, and assert everything. To be called with the turn taken.

    ovs-vswitchd is left alone where it is not among them and does not run: it rests.
    """
    rests = VSWITCHD not in names and daemons.find_anywhere(host.paths, VSWITCHD).process is None
    run = Run(host.unasked(), warn, identity.read_boot_id(host.paths))
    steps = (step for step in boot.boot_sequence() if not (rests and VSWITCHD in (step.name,) + step.needs))
    return record(run, run_steps(run, steps))


def wake(host: Host, name: str) -> bool:
    """Continue a daemon that was stopped by a signal: it loses nothing. Tells whether it was there."""
    target = daemons.find_anywhere(host.paths, name).process
    return target is not None and process.send_signal(target, signal.SIGCONT)


def end_lease(host: Host) -> bool:
    """Let ovs-vswitchd forward; tells whether it was kept from it. Raises OvsxenError."""
    within_s = host.settings.answer_timeout_s
    with Connection(host.paths.db_sock, daemons.OVSDB_SERVER, within_s) as connection:
        return lease.end(connection, within_s) is not None
