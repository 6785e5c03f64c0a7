"""Frames through a switch, 1,000 a second unless told otherwise, and how long none arrived.

`probing` starts the prober, which is this file run as a program inside a network namespace: where the far ends of the
switch's ports are, so that every frame crosses the switch. It runs as a real-time process where it may, because a pause
of its own looks like a silence. Standard library only: tests of anything may use it, and the prober has no site.
"""

import errno
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

EVERY_S = 0.001
PATIENCE_S = 10.0
DRAIN_S = 0.2
EXIT_WITHIN_S = 20.0

ETHERTYPE = 0x88b5  # for local experiments (IEEE 802)
BROADCAST = b"\xff" * 6
BUFFER_BYTES = 1 << 23
SO_RCVBUFFORCE = 33  # socket(7); not in Python's socket module


class NoTraffic(Exception):
    """No frame came through, or the prober failed."""


class Pair(NamedTuple):
    """The device that frames are sent from, and the one at which they shall arrive."""

    sends: str
    hears: str


class Heard(NamedTuple):
    """What one pair came to. `forwards`: frames arrived up to the end."""

    pair: Pair
    sent: int
    received: int
    worst_silence_ms: float
    forwards: bool


class Traffic(NamedTuple):
    """What came of all pairs. `own_pause_ms`: the longest time between two frames that were sent into a pair, by which
    any silence may look longer than it was.
    """

    pairs: Tuple[Heard, ...]
    own_pause_ms: float

    @property
    def sent(self) -> int:
        return sum(heard.sent for heard in self.pairs)

    @property
    def received(self) -> int:
        return sum(heard.received for heard in self.pairs)

    @property
    def lost(self) -> int:
        return self.sent - self.received

    @property
    def worst_silence_ms(self) -> float:
        return max(heard.worst_silence_ms for heard in self.pairs)

    @property
    def silent(self) -> Tuple[Pair, ...]:
        """The pairs that nothing came through any more."""
        return tuple(heard.pair for heard in self.pairs if not heard.forwards)


class Prober:
    """The handle of a prober that runs."""

    def __init__(self, child: "subprocess.Popen[str]", pairs: Tuple[Pair, ...], patience_s: float) -> None:
        self._child = child
        self._pairs = pairs
        self._patience_s = patience_s

    def wait_ready(self) -> None:
        """Until every pair has been heard; what is counted begins here. Raises NoTraffic."""
        assert self._child.stdout is not None
        said = self._child.stdout.readline()
        if said != "ready\n":
            raise NoTraffic("the prober did not begin: %s" % (said + self._child.communicate()[0]).strip())

    def stop(self) -> Traffic:
        """As soon as every pair is heard again, or has been silent for `patience_s` more. Raises NoTraffic."""
        try:
            said = self._child.communicate(timeout=self._patience_s + EXIT_WITHIN_S)[0]
        except subprocess.TimeoutExpired:
            raise NoTraffic("the prober did not end") from None
        if self._child.returncode != 0:
            raise NoTraffic("the prober failed: %s" % said.strip())
        found = json.loads(said)
        return Traffic(tuple(Heard(pair, *one) for pair, one in zip(self._pairs, found["pairs"])),
                       found["own_pause_ms"])


@contextmanager
def probing(namespace: str, pairs: Tuple[Pair, ...], patience_s: float = PATIENCE_S) -> Iterator[Prober]:
    """A prober in that namespace, which is gone afterwards. Raises NoTraffic where a pair is silent from the start, for
    `patience_s`.
    """
    with probing_by(("ip", "netns", "exec", namespace), pairs, patience_s) as prober:
        yield prober


@contextmanager
def probing_by(enter: Tuple[str, ...], pairs: Tuple[Pair, ...], patience_s: float = PATIENCE_S,
               every_s: float = EVERY_S) -> Iterator[Prober]:
    """The same where the words of `enter` run a program. `every_s`: from one frame to the next of a pair."""
    words = (sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(patience_s), str(every_s))
    argv = enter + words + sum(pairs, ())
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, start_new_session=True) as child:
        try:
            prober = Prober(child, pairs, patience_s)
            prober.wait_ready()
            yield prober
        finally:
            child.kill()


class Line:
    """One pair while it is probed, from inside the namespace: frames of its own, sent and heard."""

    def __init__(self, pair: Pair, number: int) -> None:
        self.pair, self.number = pair, number
        self.mouth = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.mouth.bind((pair.sends, 0))
        self.ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # no protocol: it would hear every device's frames
        self.ear.setblocking(False)
        self.ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.ear.bind((pair.hears, ETHERTYPE))
        self.begin(0, time.monotonic())

    def begin(self, phase: int, now_s: float) -> None:
        """Count from here on; what is still under way of another phase counts no more."""
        self.marker = struct.pack(">IHH", os.getpid(), self.number, phase)
        self.frame = BROADCAST + struct.pack(">HIH", 0x0200, self.number, ETHERTYPE) + self.marker + bytes(40)
        self.sent = self.received = 0
        self.last_heard_s = now_s
        self.worst_silence_s = 0.0

    def send(self) -> None:
        try:
            self.mouth.send(self.frame)
        except OSError as error:
            if error.errno not in (errno.ENOBUFS, errno.ENETDOWN):
                raise
            return  # not sent, so not lost
        self.sent += 1

    def hear(self) -> None:
        """Take all that has arrived."""
        while True:
            try:
                frame, (_, _, kind, _, _) = self.ear.recvfrom(2048)
            except BlockingIOError:
                return
            if kind != socket.PACKET_OUTGOING and self.marker in frame:  # outgoing: what is sent here, not what arrives
                now_s = time.monotonic()
                self.received += 1
                self.note_silence(now_s)
                self.last_heard_s = now_s

    def note_silence(self, until_s: float) -> None:
        self.worst_silence_s = max(self.worst_silence_s, until_s - self.last_heard_s)


# What follows is the prober's own.

class _Probe:
    """All pairs, probed in one loop. It ends when its stdin does, so with whoever started it."""

    def __init__(self, pairs: List[Pair], patience_s: float, every_s: float) -> None:
        self.patience_s = patience_s
        self.every_s = every_s
        self.stopped_s = float("inf")
        self.lines = [Line(pair, number) for number, pair in enumerate(pairs)]
        self.by_ear: Dict[socket.socket, Line] = {line.ear: line for line in self.lines}

    def run(self) -> None:
        missing = self._until_heard()
        if missing:
            sys.exit("no frame from %s arrived at %s within %g s" % (missing.pair + (self.patience_s,)))
        own_pause_s = self._probe()
        for line in self.lines:
            line.note_silence(time.monotonic())
        self._listen(DRAIN_S)
        print(json.dumps({"own_pause_ms": own_pause_s * 1000.0, "pairs": [
            (line.sent, line.received, line.worst_silence_s * 1000.0, line.last_heard_s >= self.stopped_s)
            for line in self.lines]}))

    def _until_heard(self) -> Optional[Line]:
        """Every pair once, so that it is known to work; gives one that stays silent."""
        end_s = time.monotonic() + self.patience_s
        while time.monotonic() < end_s and not all(line.received for line in self.lines):
            self._tick(time.monotonic() + self.every_s)
        return next((line for line in self.lines if not line.received), None)

    def _probe(self) -> float:
        """Until stdin ends and every pair has been heard after that; gives the longest pause between two ticks."""
        next_s = last_s = time.monotonic()
        for line in self.lines:
            line.begin(1, next_s)
        print("ready", flush=True)
        longest_s = 0.0
        while not self._is_done():
            now_s = time.monotonic()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s
            if self.stopped_s > now_s and select.select([sys.stdin], [], [], 0)[0]:
                self.stopped_s = now_s
            next_s = max(next_s + self.every_s, now_s)  # what it was late for is not made up for
            self._tick(next_s)
        return longest_s

    def _is_done(self) -> bool:
        return (all(line.last_heard_s >= self.stopped_s for line in self.lines)
                or time.monotonic() > self.stopped_s + self.patience_s)

    def _tick(self, until_s: float) -> None:
        """A frame for each pair; then listen until it is time for the next."""
        for line in self.lines:
            line.send()
        self._listen(until_s - time.monotonic())

    def _listen(self, for_s: float) -> None:
        end_s = time.monotonic() + for_s
        while True:
            for ear in select.select(list(self.by_ear), [], [], max(0.0, end_s - time.monotonic()))[0]:
                self.by_ear[ear].hear()
            if time.monotonic() >= end_s:
                return


def _be_on_time() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:  # not permitted here: pauses of its own are longer, and said
        pass


if __name__ == "__main__":
    _be_on_time()
    patience, every, *devices = sys.argv[1:]
    _Probe([Pair(*pair) for pair in zip(devices[::2], devices[1::2])], float(patience), float(every)).run()
