"""How many VIFs are plugged in at once, how often, what is measured of the sync then, and what is said of it."""

from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

from bench import idle, sync_report, sync_site, sync_vifs
from bench.sync_report import Burst, Idle, Kind, Measured
from bench.sync_site import Site, Watch
from ovsxen.host.clock import MACHINE_CLOCK

LAG_S = 3.0
SETTLED_S = 1.0
BETWEEN_S = 0.3


class Size(NamedTuple):
    """How often so many VIFs are plugged in, with XAPI's events before and with them after."""

    vifs: int
    rounds: int


class Extent(NamedTuple):
    """What a run measures. `singles`: VIFs that are plugged in one by one, after the burst, in each round."""

    sizes: Tuple[Size, ...]
    singles: int
    idle_s: float


FULL = Extent((Size(100, 3), Size(1000, 5)), 5, 60.0)
QUICK = Extent((Size(1000, 1),), 7, 15.0)

HEAD = """
Bursts: VIFs, each with a tap and a VM of its own, plugged in by one transaction; then the time from its answer until
every key of every vif and tap is right, by a monitor of the bench's own. Beside `ovsxen sync` run ovsdb-server and the
sandbox's XAPI, each a process of its own, and no ovs-vswitchd. Told: XAPI has told of the VIFs by its events before.
Not yet: XAPI has them, and its events come %g s later, so that sync must ask. Each burst has a sync of its own.

""" % LAG_S + sync_report.HEADER


class _Round(NamedTuple):
    """One sync's life."""

    burst: Burst
    singles_ms: Tuple[float, ...]
    idle: Optional[Idle]


def compare(directory: Path, extent: Extent, say: Callable[[str], None]) -> None:
    say(HEAD)
    table: Tuple[Measured, ...] = ()
    idled = None
    for size in extent.sizes:
        rounds = []
        for number in range(size.rounds):
            is_last = size is extent.sizes[-1] and number == size.rounds - 1
            rounds.append((measure(directory, size.vifs, Kind.TOLD, extent.singles, extent.idle_s if is_last else 0.0),
                           measure(directory, size.vifs, Kind.NOT_YET, 0, 0.0)))
            idled = rounds[-1][0].idle or idled
        for index, kind in enumerate((Kind.TOLD, Kind.NOT_YET)):
            table += (_joined(size.vifs, kind, [pair[index] for pair in rounds]),)
            say(sync_report.as_row(table[-1]))
    say("")
    for measured in table:
        if measured.vifs == sync_report.GOALS_AT:
            say(sync_report.as_calls(measured))
    if idled is not None:
        say(sync_report.as_idle(idled))
    say("\n" + "\n".join(sync_report.verdicts(table, idled)))


def _joined(vifs: int, kind: Kind, rounds: List[_Round]) -> Measured:
    return Measured(vifs, kind, tuple(one.burst for one in rounds), sum((one.singles_ms for one in rounds), ()))


def measure(directory: Path, count: int, kind: Kind, singles: int, idle_s: float) -> _Round:
    """A burst, `singles` more VIFs one by one, and the sync at rest, where there is time for it."""
    together, others = sync_vifs.vifs(0, count), sync_vifs.vifs(count, singles)
    with sync_site.making_site(directory) as site, sync_site.syncing(site) as pid, Watch(site) as watch:
        if kind is Kind.TOLD:
            sync_site.tell_of(site, together + others)
            MACHINE_CLOCK.sleep(SETTLED_S)
        else:
            _have_xapi_lag(site)
            site.pool.introduce_vifs(together + others)
        burst = _measure_burst(site, pid, watch, together, kind)
        singles_ms = tuple(_measure_single(site, watch, vif) for vif in others)
        sync_site.check(site, together + others)
        return _Round(burst, singles_ms, _measure_idle(pid, len(together + others), idle_s) if idle_s else None)


def _have_xapi_lag(site: Site) -> None:
    """Until sync waits in a call whose answer comes late."""
    site.pool.take_calls()
    site.pool.lag(LAG_S)
    sync_site.wait_for_calls(site, (sync_site.EVENTS,))


def _measure_burst(site: Site, pid: int, watch: Watch, plugged: Tuple[sync_vifs.Vif, ...], kind: Kind) -> Burst:
    """Calls, transactions and CPU are counted until nothing more comes of it, the late events included."""
    wanted = sync_vifs.wanted_ids(plugged)
    before = sync_site.read_report(site).transactions
    site.pool.take_calls()
    used_s = idle.cpu_s(pid)
    answered_s = sync_site.plug(site, plugged)
    right_s = watch.wait_until_right(wanted)
    MACHINE_CLOCK.sleep(SETTLED_S + (LAG_S if kind is Kind.NOT_YET else 0.0))
    calls, used_s = site.pool.take_calls(), idle.cpu_s(pid) - used_s
    transactions = sync_site.read_report(site).transactions - before
    sync_site.check(site, plugged)
    return Burst(right_s - answered_s, used_s, calls, transactions, sync_site.read_memory(pid))


def _measure_single(site: Site, watch: Watch, vif: sync_vifs.Vif) -> float:
    MACHINE_CLOCK.sleep(BETWEEN_S)
    answered_s = sync_site.plug(site, (vif,))
    return (watch.wait_until_right(sync_vifs.wanted_ids((vif,))) - answered_s) * 1000.0


def _measure_idle(pid: int, vifs: int, for_s: float) -> Idle:
    MACHINE_CLOCK.sleep(idle.SETTLED_S)
    before_s = idle.cpu_s(pid)
    MACHINE_CLOCK.sleep(for_s)
    return Idle(vifs, for_s, 100.0 * (idle.cpu_s(pid) - before_s) / for_s)
