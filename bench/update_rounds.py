"""How many updates of how many bridges are measured, in which order, and what is said of them."""

from pathlib import Path
from typing import Callable, NamedTuple, Tuple

from bench import update_costs, update_report, update_site
from bench.update_report import Kind, Measured, Round
from bench.update_site import Site


class Size(NamedTuple):
    """How often to measure with so many bridges: ovs-vsctl once a round, or left out where it takes too long."""

    bridges: int
    rounds: int
    unchanged_per_round: int = 3
    compared: bool = True


FULL = (Size(2, 9), Size(10, 9), Size(100, 7), Size(1000, 5, compared=False))
QUICK = (Size(2, 3), Size(10, 3), Size(100, 2), Size(1000, 1, compared=False))
PROFILED_BRIDGES = 100

HEAD = """
Updates: XAPI's plugin, exec to exit, and the processes of ovs-vsctl alone that the historic plugin runs instead.
First: XAPI has another controller, no bridge has its fail mode. The goals are for hosts with networkd.db, as today's
are; on the others network.dbcache is written or compared too. The XAPI is the sandbox's.

""" + update_report.HEADER


def compare(directory: Path, sizes: Tuple[Size, ...], say: Callable[[str], None]) -> None:
    say(HEAD)
    table: Tuple[Measured, ...] = ()
    for size in sizes:
        with update_site.making_site(directory, size.bridges) as site:
            table += (measure(site, size),)
        say(update_report.as_rows(table[-1]))
    left_out = ", ".join(str(size.bridges) for size in sizes if not size.compared)
    say("\nLeft out of this run, because it takes too long: the sequence of ovs-vsctl with %s bridges.\n" % left_out)
    say("\n".join(update_report.verdicts(table)))


def measure(site: Site, size: Size) -> Measured:
    """All rounds of a size, each beginning with another kind; before them, for byte code and page cache, the runs that
    count child processes.
    """
    counts = [update_site.count_children(site, networkd=networkd) for networkd in (True, False)]
    known = [count for count in counts if count is not None]
    kinds = (measure_networkd, measure_dbcache, measure_sequence)
    rounds = []
    for number in range(size.rounds):
        taken = {}
        for at in (number % 3, (number + 1) % 3, (number + 2) % 3):
            taken[at] = kinds[at](site, size)
        rounds.append(Round(taken[0], taken[1], taken[2]))
    return Measured(size.bridges, tuple(rounds), max(known) if known else None)


def measure_networkd(site: Site, size: Size) -> Kind:
    update_site.set_back(site, networkd=True)
    return _measure_plugin(site, size)


def measure_dbcache(site: Site, size: Size) -> Kind:
    update_site.set_back(site, networkd=False)
    return _measure_plugin(site, size)


def _measure_plugin(site: Site, size: Size) -> Kind:
    first = update_site.first_update(site)
    return Kind((first,), tuple(update_site.unchanged_update(site) for _ in range(size.unchanged_per_round)))


def measure_sequence(site: Site, size: Size) -> Kind:
    if not size.compared:
        return Kind((), ())
    update_site.set_back(site, networkd=True)
    first = update_site.first_sequence(site)
    return Kind((first,), (update_site.unchanged_sequence(site),))


def profile(directory: Path) -> str:
    with update_site.making_site(directory, PROFILED_BRIDGES) as site:
        return "An update without a change, %d bridges, with networkd.db:\n%s" % (
            PROFILED_BRIDGES, update_costs.profile(site))
