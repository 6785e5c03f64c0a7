"""A thousand random kills with traffic on: `python -m tests.soak --kills 1000 --seed 1`. Soak.step() is one round.

A watched host in a network namespace forwards frames through two userspace bridges. In each round verbs of ovsxen, its
daemon and those of Open vSwitch are killed, stopped, crashed and ended at random moments; then the switch must get well
by itself. What must never be is looked for all the time. draw_step() decides what is done: a seed repeats that, though
not its timing.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Callable, Deque, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

from bench.traffic import BROADCAST, ETHERTYPE, Pair
from ovsxen.errors import OvsxenError
from ovsxen.host import process
from ovsxen.host.clock import Deadline
from ovsxen.host.process import Process
from ovsxen.ovs import daemons
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.sandbox import sandbox
from tests.conftest import SandboxHost, processes_of
from tests.frames import Wire, plugged_in

DAEMON = "ovsxen daemon"
VERB = "verb"

SYSCONFIG = """VSWITCHD_MLOCKALL=no
FORCE_COREFILES=no
OVSXEN_START_TIMEOUT=8
OVSXEN_ANSWER_TIMEOUT=1
OVSXEN_HANG_TIMEOUT=2
OVSXEN_BUSY_TIMEOUT=20
OVSXEN_RESTART_WINDOW=1
OVSXEN_REST=1
"""
UNSEEN = "-"
"""For the state of a process that is only told from others."""

EASY, SECURE = "xenbr0", "xenbr1"
EASY_PAIRS = (Pair("lan0", "guest"), Pair("guest", "lan0"))
SECURE_PAIRS = (Pair("lan1", "guest2"), Pair("guest2", "lan1"))

WELL_WITHIN_S = 90.0
ENDS_WITHIN_S = 240.0
AGAIN_AFTER_S = 0.2
SILENT_S = 3.0
"""So long `ovsxen status` may say that all is well while no frame passes."""
TWO_AT_ONCE_S = 0.1
SLOWEST = 5
DESCRIPTORS = 32
FILES = 80
EVIDENCE_BYTES = 17 << 20

SIGNALS: Dict[str, Tuple[signal.Signals, ...]] = {
    OVSDB_SERVER: (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM),
    VSWITCHD: (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM),
    DAEMON: (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM, signal.SIGHUP),
    VERB: (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM),
}
SAVE_FLOWS = ("restart", "--save-flows")
VERBS = (SAVE_FLOWS, ("restart",), ("reload",), ("start",), ("stop",))


class Violation(Exception):
    """What must never be, was."""


class Blow(NamedTuple):
    """Who is signalled, and how long after the blow before it."""

    victim: str
    number: signal.Signals
    after_s: float

    def __str__(self) -> str:
        return "%s to %s after %.3f s" % (self.number.name, self.victim, self.after_s)


class Step(NamedTuple):
    """One round. `verb` is started first; `then_s`, `then`: what becomes of what SIGSTOP left."""

    rest_s: float
    verb: Tuple[str, ...]
    blows: Tuple[Blow, ...]
    then_s: float
    then: signal.Signals

    @property
    def keeps_flows(self) -> bool:
        """Nothing but a restart that keeps them replaces ovs-vswitchd. The daemon stops the switch at SIGTERM."""
        return self.verb == SAVE_FLOWS and not any(
            blow.victim == VSWITCHD or blow.victim == DAEMON and blow.number is signal.SIGTERM for blow in self.blows)

    def __str__(self) -> str:
        acts = (["`ovsxen %s`" % " ".join(self.verb)] if self.verb else []) + [str(blow) for blow in self.blows]
        return ", ".join(acts)


def draw_step(dice: random.Random) -> Step:
    """The next round. Blows come at once, while what they hit is being mended, or much later."""
    verb = dice.choice(VERBS) if dice.random() < 0.5 else ()
    victims = [OVSDB_SERVER, VSWITCHD, DAEMON] + ([VERB, VERB] if verb else [])
    blows = []
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3))):
        victim = dice.choice(victims)
        blows.append(Blow(victim, dice.choice(SIGNALS[victim]), dice.uniform(0.0, dice.choice((0.0, 0.1, 0.6, 1.5)))))
    return Step(dice.uniform(0.0, 0.5), verb, tuple(blows), dice.uniform(0.0, 4.0),
                dice.choice((signal.SIGCONT, signal.SIGKILL)))


# The far ends of the wire

class Ears:
    """Frames that are sent and heard inside the namespace all the time, 100 a second each way, and how many arrived."""

    def __init__(self, wire: Wire, pairs: Tuple[Pair, ...]) -> None:
        self._pairs = pairs
        self._heard_s = dict.fromkeys(pairs, 0.0)
        self.sent = self.received = 0
        argv = ["ip", "netns", "exec", wire.name, sys.executable, "-m", "tests.soak", "--probe"]
        self._child = subprocess.Popen(argv + [":".join(pair) for pair in pairs], env=wire.host.environment(),
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
        if self._child.poll() is not None:
            raise Violation("the prober ended: this test is wrong")
        return all(self._heard_s[pair] > since_s for pair in pairs)


def probe(pairs: List[Pair]) -> None:
    """Runs inside the namespace: says again and again how many were sent and received, and when each pair was heard."""
    mouths, ears, heard_s, sent, received = [], [], [0.0] * len(pairs), 0, 0
    for number, pair in enumerate(pairs):
        mouth, ear = (socket.socket(socket.AF_PACKET, socket.SOCK_RAW) for _ in range(2))
        mouth.bind((pair.sends, 0))
        ear.setblocking(False)
        ear.bind((pair.hears, ETHERTYPE))
        mouths.append(mouth)
        ears.append((ear, BROADCAST + struct.pack(">HIH", 0x0200, number, ETHERTYPE)))
    while True:
        for mouth, (_, frame) in zip(mouths, ears):
            mouth.send(frame + bytes(46))
        sent += len(mouths)
        time.sleep(0.01)
        for number, (ear, frame) in enumerate(ears):
            count = _count_arrived(ear, frame)
            if count:
                received, heard_s[number] = received + count, time.monotonic()
        print(sent, received, *heard_s, flush=True)


def _count_arrived(ear: socket.socket, frame: bytes) -> int:
    count = 0
    while True:
        try:
            data, (_, _, kind, _, _) = ear.recvfrom(2048)
        except BlockingIOError:
            return count
        count += kind != socket.PACKET_OUTGOING and data.startswith(frame)


# systemd's part

class Unit:
    """`ovsxen daemon` in the foreground inside the namespace, started again as the unit says (Restart=on-failure)."""

    CLEAN = (0, -signal.SIGTERM, -signal.SIGUSR2)

    def __init__(self, wire: Wire, output: "IO[bytes]") -> None:
        self._argv = ["ip", "netns", "exec", wire.name, sys.executable, "-u", "-m", "ovsxen", "daemon"]
        self._environment, self._output = wire.host.environment(), output
        self._closed, self._asked = threading.Event(), threading.Event()
        self._child: "Optional[subprocess.Popen[bytes]]" = None
        self.is_down = True
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()

    def start(self) -> None:
        """`systemctl start`: has no effect on one that runs."""
        self._asked.set()

    def close(self) -> None:
        """End the daemon, not the switch, and start no other."""
        self._closed.set()
        self._asked.set()
        while self._keeper.is_alive():
            if self._child is not None:
                self._child.kill()
            self._keeper.join(0.1)

    def process(self) -> Optional[Process]:
        child = self._child
        return None if child is None or child.returncode is not None else process.read_process(child.pid)

    def _keep(self) -> None:
        while not self._closed.is_set():
            self.is_down = True
            self._asked.wait()
            while not self._closed.is_set():
                self._asked.clear()
                self._child = subprocess.Popen(self._argv, env=self._environment, stdin=subprocess.DEVNULL,
                                               stdout=self._output, stderr=subprocess.STDOUT)
                self.is_down = False
                if self._child.wait() in self.CLEAN:
                    break
                self._closed.wait(AGAIN_AFTER_S)


# What must never be

class Sentry:
    """Looks for two daemons of a kind, and for a stranger that was signalled, all the time."""

    def __init__(self, host: SandboxHost, strangers: "Tuple[subprocess.Popen[bytes], ...]") -> None:
        self._rundir = str(host.paths.rundir)
        self._strangers = strangers
        self.found = ""
        self.longest_overlap_s = 0.0
        self._since_s: Dict[FrozenSet[Process], float] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._stand)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _stand(self) -> None:
        while not self._closed.wait(0.02):
            self._note_overlaps({couple for name in (OVSDB_SERVER, VSWITCHD) for couple in self._couples(name)})
            for stranger in self._strangers:
                seen = process.read_process(stranger.pid)
                if seen is None or seen.is_stopped:
                    self.found = self.found or "a stranger was signalled: pid %d" % stranger.pid

    def _couples(self, name: str) -> Iterator[FrozenSet[Process]]:
        """Two of this host that are not one that starts and the parent that waits for it."""
        alive = {one.pid: one._replace(state=UNSEEN) for one in process.find_processes(name)
                 if self._rundir in " ".join(process.read_command_line(one.pid)) and not is_ending(one.pid)}
        parents = {parent_of(pid) for pid in alive}
        apart = [one for pid, one in alive.items() if pid not in parents]
        for number, one in enumerate(apart):
            for other in apart[number + 1:]:
                yield frozenset((one, other))

    def _note_overlaps(self, couples: Set[FrozenSet[Process]]) -> None:
        now_s = time.monotonic()
        self._since_s = {couple: self._since_s.get(couple, now_s) for couple in couples}
        for couple, since_s in self._since_s.items():
            self.longest_overlap_s = max(self.longest_overlap_s, now_s - since_s)
            if now_s - since_s >= TWO_AT_ONCE_S:
                self.found = self.found or "two at once: %s" % " and ".join(sorted(one.label for one in couple))


def _fields(path: Path) -> List[str]:
    """proc(5), /proc/PID/stat, from the state on."""
    return path.read_text(errors="replace").rpartition(")")[2].split()


def parent_of(pid: int) -> int:
    try:
        return int(_fields(Path("/proc/%d/stat" % pid))[1])
    except OSError:
        return 0


def is_ending(pid: int) -> bool:
    """Every thread is in the kernel's do_exit (PF_EXITING): it does nothing any more."""
    try:
        return all(int(_fields(task / "stat")[6]) & 4 for task in Path("/proc/%d/task" % pid).iterdir())
    except OSError:
        return True


# The rounds

class Tally(NamedTuple):
    """What came of it all. `rounds`: how long it took until all was well, after what."""

    hits: Dict[Tuple[str, str], int]
    missed: int
    rounds: Tuple[Tuple[float, str], ...]
    sent: int
    received: int
    most_descriptors: int
    most_resident_kib: int
    longest_overlap_s: float

    def __str__(self) -> str:
        lines = ["%-14s %-8s %4d" % (victim, number, count) for (victim, number), count in sorted(self.hits.items())]
        lines.append("%d blows, %d found nobody to hit" % (sum(self.hits.values()), self.missed))
        slowest = sorted(self.rounds, reverse=True)
        lines.append("well again after %.1f s (median of %d rounds); the slowest:" % (
            slowest[len(slowest) // 2][0], len(slowest)))
        lines += ["  %.1f s: %s" % one for one in slowest[:SLOWEST]]
        lines.append("%d frames sent, %d lost (%.1f %%)" % (
            self.sent, self.sent - self.received, 100.0 * (self.sent - self.received) / max(self.sent, 1)))
        lines.append("the daemon had at most %d descriptors and %d KiB" % (
            self.most_descriptors, self.most_resident_kib))
        lines.append("two of a kind were seen together for at most %.3f s" % self.longest_overlap_s)
        return "\n".join(lines)


class Soak:
    """The host under fire, from its first start to its last stop."""

    def __init__(self, wire: Wire, unit: Unit, sentry: Sentry, ears: Ears, output: "IO[bytes]") -> None:
        self.wire, self.unit, self.sentry, self.ears, self.output = wire, unit, sentry, ears, output
        self.host = wire.host
        self.story: Deque[str] = deque(maxlen=40)
        self.hits: "Counter[Tuple[str, str]]" = Counter()
        self.missed = 0
        self.rounds: List[Tuple[float, str]] = []
        self.most_descriptors = self.most_resident_kib = 0
        self._lying_since_s: Optional[float] = None
        self._flows = ""

    def begin(self) -> None:
        """The first time that all is well, and the first flows."""
        self.unit.start()
        self.wait_well()
        self._play_controller()

    def step(self, step: Step) -> None:
        """One round: the blows, and all well again, with the flows that had to stay."""
        before = self._find(VSWITCHD)
        self.tell("-- " + str(step))
        verb = self._spawn(step.verb) if step.verb else None
        hit = [(blow, self._strike(blow, verb)) for blow in step.blows]
        self._see_to_the_stopped(step, hit)
        began_s = time.monotonic()
        code = self._end_of(verb) if verb else 0
        mortal = [target for blow, target in hit
                  if target and blow.number not in (signal.SIGSTOP, signal.SIGHUP) and blow.victim != VERB]
        self._until("%s end" % mortal, lambda: all(map(process.has_ended, mortal)), ENDS_WITHIN_S)
        self.wait_well()
        self.rounds.append((time.monotonic() - began_s, str(step)))
        if before == self._find(VSWITCHD) or code == 0 and step.keeps_flows:
            self._require_flows()
        self._play_controller()
        self._measure()
        self.tell("well after %.1f s" % self.rounds[-1][0])

    def rest(self, for_s: float) -> None:
        """What is well stays as it is."""
        before = {name: self._find(name) for name in (OVSDB_SERVER, VSWITCHD)}
        time.sleep(for_s)
        if before != {name: self._find(name) for name in before}:
            raise Violation("what was well was replaced: %s" % sorted(one.label for one in before.values() if one))

    def end(self) -> None:
        """An orderly stop, after which nothing runs."""
        done = self.wire.inside(sys.executable, "-m", "ovsxen", "stop")
        self.tell(done)
        self._until("the daemon has ended in order", lambda: self.unit.is_down, ENDS_WITHIN_S)
        left = processes_of(self.host.paths.root)
        others = [pid for pid in pids_inside(self.wire) if pid != self.ears.pid]
        if left or others:
            raise Violation("left behind: %s %s" % (left, others))

    def tell(self, text: str) -> None:
        """For the story, and among what ovsxen says at that time."""
        line = "%s.%03d %s" % (time.strftime("%H:%M:%S", time.gmtime()), time.time() % 1 * 1000, text)
        self.story.append(line)
        self.output.write(("## %s\n" % line).encode())

    def _spawn(self, verb: Tuple[str, ...]) -> "subprocess.Popen[bytes]":
        argv = ["ip", "netns", "exec", self.wire.name, sys.executable, "-u", "-m", "ovsxen"]
        return subprocess.Popen(argv + list(verb), env=self.host.environment(), stdin=subprocess.DEVNULL,
                                stdout=self.output, stderr=subprocess.STDOUT)

    def _strike(self, blow: Blow, verb: "Optional[subprocess.Popen[bytes]]") -> Optional[Process]:
        """Signal the victim, if it is there at that moment; gives it."""
        time.sleep(blow.after_s)
        pid_of_verb = verb.pid if verb else 0
        target = process.read_process(pid_of_verb) if blow.victim == VERB else self._find(blow.victim)
        if target is None or not process.send_signal(target, blow.number):
            self.missed += 1
            return None
        self.tell("%s to %s (pid %d)" % (blow.number.name, blow.victim, target.pid))
        self.hits[blow.victim, blow.number.name] += 1
        return target._replace(state=UNSEEN)

    def _find(self, name: str) -> Optional[Process]:
        if name == DAEMON:
            return self.unit.process()
        try:
            found = daemons.find(self.host.paths, name).process
        except OvsxenError as error:
            raise Violation("%s is not itself: %s" % (name, error)) from error
        return found and found._replace(state=UNSEEN)

    def _see_to_the_stopped(self, step: Step, hit: List[Tuple[Blow, Optional[Process]]]) -> None:
        """Nobody watches a verb but who typed it, and the daemon has systemd's watchdog."""
        stopped = [(blow.victim, target) for blow, target in hit if blow.number is signal.SIGSTOP and target
                   and blow.victim in (VERB, DAEMON)]
        if stopped:
            time.sleep(step.then_s)
        for victim, target in stopped:
            number = signal.SIGKILL if victim == DAEMON else step.then
            if process.send_signal(target, number):
                self.tell("then %s to %s (pid %d)" % (number.name, victim, target.pid))

    def _end_of(self, verb: "subprocess.Popen[bytes]") -> int:
        try:
            code = verb.wait(timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise Violation("the verb (pid %d) has not ended for %g s" % (
                verb.pid, ENDS_WITHIN_S)) from None  # killed with all that is in the namespace
        self.tell("the verb ended with %d" % code)
        return code

    def wait_well(self) -> None:
        self._lying_since_s = None
        self._until("all is well", self._is_well, WELL_WITHIN_S)

    def _until(self, what: str, holds: Callable[[], bool], within_s: float) -> None:
        def look() -> bool:
            if self.sentry.found:
                raise Violation(self.sentry.found)
            return holds()

        if not Deadline(within_s).wait_until(look, every_s=0.02):
            raise Violation("%s: not within %g s" % (what, within_s))

    def _is_well(self) -> bool:
        """By the word of `ovsxen status`, which frames must bear out, and by the database's."""
        if self.unit.is_down:
            self.unit.start()
        code = subprocess.call(
            ["ip", "netns", "exec", self.wire.name, sys.executable, "-m", "ovsxen", "status"],
            env=self.host.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.output)
        now_s = time.monotonic()
        if code != 0:
            self._lying_since_s = None
            return False
        if not Deadline(0.3).wait_until(lambda: self.ears.hears(EASY_PAIRS, now_s), every_s=0.01):
            self._lying_since_s = self._lying_since_s or now_s
            if now_s - self._lying_since_s > SILENT_S:
                raise Violation("status says running, and no frame passes for %.1f s" % (now_s - self._lying_since_s))
            return False
        self._lying_since_s = None
        if "flow-restore-wait" in self.host.column("other_config"):
            raise Violation("status says running, and flow-restore-wait is set")
        if sorted(self.host.bridges()) != [EASY, SECURE]:
            raise Violation("the bridges are %s" % self.host.bridges())
        return not self.unit.is_down

    # Flows

    def _dump_flows(self) -> str:
        return self.host.tool("ovs-ofctl", "--no-stats", "--sort", "dump-flows",
                              "unix:%s" % self.host.paths.bridge_socket(SECURE))

    def _require_flows(self) -> None:
        """They are there as they were, and they forward: those that name ports mean the same ports."""
        began_s = time.monotonic()
        if self._dump_flows() != self._flows:
            raise Violation("the flows of %s were\n%s\nand are\n%s" % (SECURE, self._flows, self._dump_flows()))
        self._until("the flows of %s forward" % SECURE, lambda: self.ears.hears(SECURE_PAIRS, began_s), 10.0)

    def _play_controller(self) -> None:
        """Put there what a death of ovs-vswitchd may take: only a controller can put it back."""
        near, far = self.wire.ofport("eth1"), self.wire.ofport("vif2.0")
        bridge = "unix:%s" % self.host.paths.bridge_socket(SECURE)
        wanted = self.host.paths.root / "flows"
        wanted.write_text("".join("cookie=0x%x,priority=%d,in_port=%d,actions=output:%d\n" % flow for flow in (
            (1, 7, near, far), (2, 8, far, near))))
        self.host.tool("ovs-ofctl", "-O", "OpenFlow14", "--bundle", "replace-flows", bridge, str(wanted))
        self._flows = self._dump_flows()
        self._require_flows()

    # Size

    def _measure(self) -> None:
        """Nothing grows without end."""
        daemon = self._find(DAEMON)
        paths = self.host.paths
        if daemon is not None:
            self._measure_daemon(daemon)
        for directory in (paths.rundir, paths.dbdir, paths.root / "run"):
            names = sorted(path.name for path in directory.iterdir())
            if len(names) > FILES:
                raise Violation("%d files in %s: %s" % (len(names), directory, " ".join(names)))
        kept = sum(path.stat().st_size for path in paths.evidence.rglob("*")) if paths.evidence.exists() else 0
        if kept > EVIDENCE_BYTES:
            raise Violation("%d bytes of evidence" % kept)

    def _measure_daemon(self, daemon: Process) -> None:
        try:
            descriptors = len(os.listdir("/proc/%d/fd" % daemon.pid))
            resident = int(Path("/proc/%d/statm" % daemon.pid).read_text().split()[1]) * resource.getpagesize() // 1024
        except OSError:
            return  # it runs itself anew, or was ended meanwhile
        self.most_descriptors = max(self.most_descriptors, descriptors)
        self.most_resident_kib = max(self.most_resident_kib, resident)
        if descriptors > DESCRIPTORS:
            raise Violation("%d descriptors: %s" % (descriptors, sorted(process.open_files(daemon.pid))))
        self._until("the daemon has no children", lambda: not children_of(daemon.pid), 20.0)

    def tally(self) -> Tally:
        return Tally(dict(self.hits), self.missed, tuple(self.rounds), self.ears.sent, self.ears.received,
                     self.most_descriptors, self.most_resident_kib, self.sentry.longest_overlap_s)

    def explain(self) -> str:
        """All that tells how it came to this."""
        paths = self.host.paths
        parts = [("what was done last (UTC)", "\n".join(self.story)),
                 ("what ovsxen said", tail(Path(self.output.name), 100)),
                 ("the watch report", tail(paths.watch_report, 60)),
                 ("who runs", "\n".join(processes_of(paths.root)))]
        parts += [(str(paths.log(name)), tail(paths.log(name), 25)) for name in (OVSDB_SERVER, VSWITCHD)]
        status = "%s -m ovsxen status; echo exit code $?" % sys.executable
        parts.append(("status", self.wire.inside("sh", "-c", status)))
        return "\n".join("=== %s\n%s" % part for part in parts)


def children_of(pid: int) -> str:
    try:
        return Path("/proc/%d/task/%d/children" % (pid, pid)).read_text()
    except OSError:
        return ""


def tail(path: Path, lines: int) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)


# The site

@contextmanager
def soaking(directory: Path) -> Iterator[Soak]:
    """A host under watch with both bridges forwarding; afterwards nothing of it is left, which is a violation too."""
    host = SandboxHost(sandbox.make(directory / "h", 0))
    with ExitStack() as stack:
        output = stack.enter_context(open(str(directory / "output"), "ab", buffering=0))
        wire = stack.enter_context(plugged_in(host))
        host.write(host.paths.sysconfig, SYSCONFIG)
        _plug_in_the_second_bridge(wire)
        ears = Ears(wire, EASY_PAIRS + SECURE_PAIRS)
        stack.callback(ears.close)
        strangers = tuple(stack.enter_context(_stranger(directory, name)) for name in (OVSDB_SERVER, VSWITCHD))
        sentry = Sentry(host, strangers)
        stack.callback(sentry.close)
        stack.callback(_kill_all_inside, wire)
        unit = Unit(wire, output)
        stack.callback(unit.close)
        yield Soak(wire, unit, sentry, ears, output)


def _plug_in_the_second_bridge(wire: Wire) -> None:
    """eth1 and vif2.0 in a bridge that forwards by nothing but its flows; the first one forwards by itself."""
    wire.inside("ip", "link", "add", "vif2.0", "type", "veth", "peer", "name", "guest2")
    for device in ("vif2.0", "guest2"):
        wire.inside("ip", "link", "set", device, "up")
    wire.host.vsctl("set", "Bridge", EASY, "fail_mode=standalone", "--", "add-port", EASY, "eth0",
                    "--", "add-br", SECURE, "--", "set", "Bridge", SECURE, "datapath_type=netdev", "fail_mode=secure",
                    "--", "add-port", SECURE, "eth1", "--", "add-port", SECURE, "vif2.0")


@contextmanager
def _stranger(directory: Path, name: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A process with the name of a daemon of Open vSwitch, which is nobody's business."""
    program = directory / name
    shutil.copy(str(shutil.which("sleep")), str(program))
    with subprocess.Popen([str(program), "1000000"]) as child:
        try:
            yield child
        finally:
            child.kill()


def _kill_all_inside(wire: Wire) -> None:
    """What a violation has left, such as a verb that hangs."""
    for pid in pids_inside(wire):
        left = process.read_process(pid)
        if left is not None:
            process.send_signal(left, signal.SIGKILL)


def pids_inside(wire: Wire) -> Tuple[int, ...]:
    return tuple(map(int, wire.host.tool("ip", "netns", "pids", wire.name).split()))


def run(kills: int, seed: int) -> Tally:
    """So many blows; gives what came of them. Raises Violation, which tells all."""
    dice = random.Random(seed)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with tempfile.TemporaryDirectory(prefix="ox-", dir="/tmp") as directory:
        with soaking(Path(directory)) as soak:
            try:
                soak.begin()
                while sum(soak.hits.values()) < kills:
                    step = draw_step(dice)
                    soak.rest(step.rest_s)
                    soak.step(step)
                soak.end()
            except Exception as raised:
                raise Violation("%s: %s\nwith seed %d, at blow %d\n%s" % (
                    type(raised).__name__, raised, seed, sum(soak.hits.values()), soak.explain())) from raised
            tally = soak.tally()
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.monotonic()))
    parser.add_argument("--probe", nargs="+", metavar="DEVICE:DEVICE", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.probe:
        probe([Pair(*pair.split(":")) for pair in chosen.probe])
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
