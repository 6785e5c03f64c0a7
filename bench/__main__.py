"""`python -m bench [--quick | --profile]`. Speed never fails a run: the exit code is 1 only when a start, an update, a
sync, a restart or a recovery was wrong.
"""

import argparse
import os
import platform
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, Tuple

from bench import costs, host, report, traffic
from bench.host import Host
from bench.report import Measured, Round
from ovsxen import __version__
from ovsxen.errors import OvsxenError
from ovsxen.ovs import daemons


class Size(NamedTuple):
    """How often to measure with so many stale bridges: ovs-ctl once a round, or left out where it takes too long."""

    bridges: int
    rounds: int
    ovsxen_per_round: int = 1
    compared: bool = True


FULL = (Size(0, 15), Size(10, 15), Size(100, 7), Size(1000, 2, ovsxen_per_round=3), Size(10000, 3, compared=False))
QUICK = (Size(0, 5), Size(10, 5), Size(100, 2), Size(1000, 2, compared=False))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench",
                                     description="Times `ovsxen start` and `restart` beside ovs-ctl, updates beside "
                                                 "ovs-vsctl, the sync, and the daemon.")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="fewer rounds, about three minutes")
    kind.add_argument("--profile", action="store_true",
                      help="say where a start without stale bridges and an update without a change spend their time")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        # A short name: the daemons' sockets lie below it, and Unix allows 107 bytes.
        with tempfile.TemporaryDirectory(prefix="oxb", dir="/tmp") as directory:
            print_versions()
            if options.profile:
                return profile(Path(directory))
            compare(Path(directory), QUICK if options.quick else FULL)
            from bench import update_rounds  # a child's peak memory begins at its parent's, and this one imports a lot
            update_rounds.compare(Path(directory), update_rounds.QUICK if options.quick else update_rounds.FULL, say)
            from bench import sync_rounds
            sync_rounds.compare(Path(directory), sync_rounds.QUICK if options.quick else sync_rounds.FULL, say)
            from bench import restart_rounds
            restart_rounds.compare(Path(directory), restart_rounds.QUICK if options.quick else restart_rounds.FULL, say)
            return 0
    except (host.BenchFailed, traffic.NoTraffic, OvsxenError, OSError) as error:
        print("bench: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1


def print_versions() -> None:
    say("ovsxen %s, Python %s, Open vSwitch %s, Linux %s, %d CPUs" % (
        __version__, platform.python_version(), daemons.read_installed_version(daemons.VSWITCHD), platform.release(),
        os.cpu_count() or 0))


def compare(directory: Path, sizes: Tuple[Size, ...]) -> None:
    with_ovs_ctl = host.OVS_CTL.exists()
    if not with_ovs_ctl:
        say("%s is not there: only ovsxen is timed" % host.OVS_CTL)
    say("Each round runs every start in turn: whole process, exec to exit. The floor is the two daemons alone and one "
        "raw\ndurable transaction, timed without the start of a program.\n\n" + report.HEADER)
    table: Tuple[Measured, ...] = ()
    for size in sizes:
        with host.making_host(directory, size.bridges) as made:
            table += (measure(made, size, with_ovs_ctl=with_ovs_ctl, warm=bool(table)),)
        say(report.as_row(table[-1]))
    left_out = ", ".join(str(size.bridges) for size in sizes if not size.compared)
    say("\nLeft out of this run, because ovs-ctl takes too long: its start with %s bridges.\n" % left_out)
    say("\n".join(report.verdicts(table)))


def measure(made: Host, size: Size, *, with_ovs_ctl: bool, warm: bool) -> Measured:
    """All rounds of a size; each begins with another start, so that none always comes after the same one."""
    starts = (host.start_ovsxen, host.start_ovs_ctl, host.start_floor)
    counts = (size.ovsxen_per_round, int(size.compared and with_ovs_ctl), 1)
    if not warm:  # byte code and page cache
        for start, count in zip(starts, counts):
            if count:
                start(made)
    rounds = []
    for number in range(size.rounds):
        taken = {}
        for at in (number % 3, (number + 1) % 3, (number + 2) % 3):
            taken[at] = tuple(starts[at](made) for _ in range(counts[at]))
        rounds.append(Round(taken[0], taken[1], taken[2]))
    return Measured(size.bridges, tuple(rounds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0)


def profile(directory: Path) -> int:
    with host.making_host(directory, 0) as made:
        say("A start without stale bridges:\n" + costs.profile(made))
    from bench import update_rounds
    say("\n" + update_rounds.profile(directory))
    return 0


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
