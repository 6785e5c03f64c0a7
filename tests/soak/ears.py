"""Frames through the switch all the time. Run as a program inside the namespace, this file sends and hears them."""

import subprocess
import sys
import threading
import time
from typing import List, Tuple

from bench import namespaces
from bench.traffic import Line, Pair
from tests.frames import Wire

EVERY_S = 0.01


class Ears:
    """Frames that are sent and heard inside the namespace, 100 a second each way, and how many arrived."""

    def __init__(self, wire: Wire, pairs: Tuple[Pair, ...]) -> None:
        self._pairs = pairs
        self._heard_s = dict.fromkeys(pairs, 0.0)
        self.sent = self.received = 0
        argv = (sys.executable, "-m", "tests.soak.ears") + tuple(":".join(pair) for pair in pairs)
        self._child = subprocess.Popen(namespaces.inside(wire.name, *argv), env=wire.host.environment(),
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, universal_newlines=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        self._reader.join()
        assert self._child.stdout is not None
        self._child.stdout.close()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            words = line.split()
            self.sent, self.received = int(words[0]), int(words[1])
            self._heard_s.update(zip(self._pairs, map(float, words[2:])))

    def hears(self, pairs: Tuple[Pair, ...], since_s: float) -> bool:
        """A frame of each of these has arrived since then."""
        assert self._child.poll() is None, "the prober ended: the soak itself is wrong"
        return all(self._heard_s[pair] > since_s for pair in pairs)


def probe(pairs: List[Pair]) -> None:
    """Says again and again how many were sent and received, and when each pair was heard, or 0 where it never was."""
    lines = [Line(pair, number) for number, pair in enumerate(pairs)]
    while True:
        for line in lines:
            line.send()
        time.sleep(EVERY_S)
        for line in lines:
            line.hear()
        print(sum(line.sent for line in lines), sum(line.received for line in lines),
              *(line.last_heard_s if line.received else 0.0 for line in lines), flush=True)


if __name__ == "__main__":
    probe([Pair(*pair.split(":")) for pair in sys.argv[1:]])
