"""`python -m tests.soak --kills 1000 --seed 1`: says what came of it; exit code 1 where that must never be."""

import argparse
import signal
import sys
import time

from tests.soak.rounds import run
from tests.soak.story import Violation


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Random kills with traffic on.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.monotonic()))
    chosen = parser.parse_args()
    print("seed %d" % chosen.seed, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and nothing is left behind
    try:
        print(run(chosen.kills, chosen.seed))
    except Violation as violation:
        print("VIOLATION: %s" % violation)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
