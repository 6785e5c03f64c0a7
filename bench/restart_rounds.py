"""How often which restart of how many bridges is measured, in which order, and what is said of them."""

import os
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Tuple

from bench import host, idle, restart_report, restart_runs, restart_site
from bench.restart_report import Measured, Round, Runs
from bench.restart_site import Site

Say = Callable[[str], None]


class Size(NamedTuple):
    """How often to measure with so many bridges: first with NORMAL alone, then with flows on some of them."""

    bridges: int
    rounds: int
    rounds_with_flows: int
    ovsxen_per_round: int = 3


class Extent(NamedTuple):
    """What a run measures."""

    sizes: Tuple[Size, ...]
    recoveries: int
    idle_s: float


FULL = Extent((Size(10, 3, 2), Size(50, 3, 1), Size(100, 1, 1)), 3, 60.0)
QUICK = Extent((Size(10, 1, 0), Size(50, 1, 0)), 1, 15.0)
RECOVERED_BRIDGES, IDLE_BRIDGES = 50, 100

HEAD = """
Restarts, exec to exit, with `ip netns exec` before each: `ovsxen restart --save-flows`, and `ovs-ctl restart`, which
saves flows by itself. The gap is the longest time in which nothing crossed one of three bridges, the first, the middle
and the last, each probed 1,000 times a second. Each bridge has %d ports. Two are veths on those three; the others are
dummies, because Linux takes 12 ms to close the socket of a userspace datapath's veth, which no dom0 has. With flows
means %d on each of %d bridges. The floor is ovs-vswitchd alone: SIGTERM, its end, a bare exec; it keeps no flows.

""" % (restart_site.PORTS, restart_site.FLOWS, restart_site.FLOW_BRIDGES) + restart_report.HEADER


def compare(directory: Path, extent: Extent, say: Say) -> None:
    if os.geteuid() != 0:
        say("\nRestarts are left out of this run: their network namespaces need root.")
        return
    say(HEAD)
    table: Tuple[Measured, ...] = ()
    for size in extent.sizes:
        with restart_site.making_site(directory, size.bridges) as site:
            restart_runs.restart_ovsxen(site)  # byte code and page cache
            table += (_measure_and_say(site, size.rounds, size, say),)
            if size.rounds_with_flows:
                table += (_measure_and_say(restart_site.with_flows(site), size.rounds_with_flows, size, say),)
    say("\n" + restart_report.own_pause(table))
    with restart_site.making_site(directory, RECOVERED_BRIDGES) as site:
        restart_runs.recover(site)  # byte code and page cache
        recoveries = tuple(restart_runs.recover(site) for _ in range(extent.recoveries))
    say(restart_report.as_recoveries(RECOVERED_BRIDGES, recoveries))
    with restart_site.making_site(directory, IDLE_BRIDGES) as site:
        idled = idle.measure(site, extent.idle_s)
    say(restart_report.as_idle(IDLE_BRIDGES, IDLE_BRIDGES * restart_site.PORTS, idled) + "\n")
    say("\n".join(restart_report.verdicts(table, recoveries, idled)))


def _measure_and_say(site: Site, rounds: int, size: Size, say: Say) -> Measured:
    measured = Measured(site.bridges, site.flows, tuple(measure_round(site, number, size) for number in range(rounds)))
    say(restart_report.as_row(measured))
    return measured


def measure_round(site: Site, number: int, size: Size) -> Round:
    """Each of a site's rounds begins with another kind, so that none always comes after the same one."""
    restarts = (restart_runs.restart_ovsxen, restart_runs.restart_ovs_ctl, restart_runs.restart_floor)
    counts = (size.ovsxen_per_round, int(host.OVS_CTL.exists()), int(not site.flows))
    taken: Dict[int, Runs] = {}
    for at in (number % 3, (number + 1) % 3, (number + 2) % 3):
        taken[at] = tuple(restarts[at](site) for _ in range(counts[at]))
    return Round(taken[0], taken[1], taken[2])
