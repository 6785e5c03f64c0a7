"""The rounds: blows, and all well again."""

import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import List, Optional, Tuple

from bench.namespaces import pids_inside
from ovsxen.host import process
from ovsxen.host.process import Process
from ovsxen.ovs.daemons import VSWITCHD
from tests.conftest import processes_of
from tests.soak.draw import DAEMON, VERB, Blow, Step, draw_step
from tests.soak.flows import Flows
from tests.soak.health import wait_well
from tests.soak.site import Site, soaking
from tests.soak.size import Size
from tests.soak.story import Tally, Violation, tail
from tests.watching import BOTH, regardless_of_state

ENDS_WITHIN_S = 240.0


def run(kills: int, seed: int) -> Tally:
    """So many blows; gives what came of them. Raises Violation, which tells all."""
    dice = random.Random(seed)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with tempfile.TemporaryDirectory(prefix="ox-", dir="/tmp") as directory:
        with soaking(Path(directory)) as site:
            soak = Soak(site)
            try:
                soak.begin()
                while soak.blows < kills:
                    step = draw_step(dice)
                    soak.rest(step.rest_s)
                    soak.step(step)
                soak.end()
            except Exception as raised:
                raise Violation("%s: %s\nwith seed %d, at blow %d\n%s" % (
                    type(raised).__name__, raised, seed, soak.blows, explain(site))) from raised
            return soak.tally()


class Soak:
    """A site from its first start to its last stop."""

    def __init__(self, site: Site) -> None:
        self._site, self._flows, self._size = site, Flows(site), Size(site)
        self._tell = site.story.tell
        self._hits: "Counter[Tuple[str, str]]" = Counter()
        self._missed = 0
        self._rounds: List[Tuple[float, str]] = []

    @property
    def blows(self) -> int:
        """How many hit."""
        return sum(self._hits.values())

    def begin(self) -> None:
        """The first time that all is well, and the first flows."""
        self._site.unit.start()
        wait_well(self._site)
        self._flows.put()

    def step(self, step: Step) -> None:
        """One round: the blows, and all well again, with the flows that had to stay."""
        before = self._site.find(VSWITCHD)
        self._tell("-- " + str(step))
        verb = self._spawn(step.verb) if step.verb else None
        hit = [(blow, self._strike(blow, verb)) for blow in step.blows]
        self._see_to_the_stopped(step, hit)
        began_s = time.monotonic()
        code = self._end_of(verb) if verb else 0
        mortal = [target for blow, target in hit
                  if target and blow.number not in (signal.SIGSTOP, signal.SIGHUP) and blow.victim != VERB]
        self._site.sentry.wait_until("%s end" % mortal, lambda: all(map(process.has_ended, mortal)), ENDS_WITHIN_S)
        wait_well(self._site)
        self._rounds.append((time.monotonic() - began_s, str(step)))
        if before == self._site.find(VSWITCHD) or code == 0 and step.keeps_flows:
            self._flows.require()
        self._flows.put()
        self._size.measure()
        self._tell("well after %.1f s" % self._rounds[-1][0])

    def rest(self, for_s: float) -> None:
        """What is well stays as it is."""
        before = [self._site.find(name) for name in BOTH]
        time.sleep(for_s)
        if before != [self._site.find(name) for name in BOTH]:
            raise Violation("what was well was replaced: %s" % [one.label for one in before if one])

    def end(self) -> None:
        """An orderly stop, after which nothing runs."""
        site = self._site
        self._tell(site.wire.inside(sys.executable, "-m", "ovsxen", "stop"))
        site.sentry.wait_until("the daemon has ended in order", lambda: site.unit.is_down, ENDS_WITHIN_S)
        left = processes_of(site.host.paths.root)
        others = [pid for pid in pids_inside(site.wire.name) if pid != site.ears.pid]
        if left or others:
            raise Violation("left behind: %s %s" % (left, others))

    def tally(self) -> Tally:
        return Tally(dict(self._hits), self._missed, tuple(self._rounds), self._site.ears.sent,
                     self._site.ears.received, self._size.most_descriptors, self._size.most_resident_kib,
                     self._site.sentry.longest_overlap_s)

    def _spawn(self, verb: Tuple[str, ...]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._site.wire.ovsxen_argv(*verb), env=self._site.host.environment(),
                                stdin=subprocess.DEVNULL, stdout=self._site.story.output, stderr=subprocess.STDOUT)

    def _strike(self, blow: Blow, verb: "Optional[subprocess.Popen[bytes]]") -> Optional[Process]:
        """Signal the victim, if it is there at that moment; gives it."""
        time.sleep(blow.after_s)
        if blow.victim == VERB:
            target = process.read_process(verb.pid) if verb else None
        else:
            target = self._site.find(blow.victim)
        if target is None or not process.send_signal(target, blow.number):
            self._missed += 1
            return None
        self._tell("%s to %s (pid %d)" % (blow.number.name, blow.victim, target.pid))
        self._hits[blow.victim, blow.number.name] += 1
        return regardless_of_state(target)

    def _see_to_the_stopped(self, step: Step, hit: List[Tuple[Blow, Optional[Process]]]) -> None:
        """Nobody watches a verb but who typed it, and the daemon has systemd's watchdog."""
        stopped = [(blow.victim, target) for blow, target in hit if blow.number is signal.SIGSTOP and target
                   and blow.victim in (VERB, DAEMON)]
        if stopped:
            time.sleep(step.then_s)
        for victim, target in stopped:
            number = signal.SIGKILL if victim == DAEMON else step.then
            if process.send_signal(target, number):
                self._tell("then %s to %s (pid %d)" % (number.name, victim, target.pid))

    def _end_of(self, verb: "subprocess.Popen[bytes]") -> int:
        try:
            code = verb.wait(timeout=ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise Violation("the verb (pid %d) has not ended for %g s" % (
                verb.pid, ENDS_WITHIN_S)) from None  # killed with all that is in the namespace
        self._tell("the verb ended with %d" % code)
        return code


def explain(site: Site) -> str:
    """All that tells how it came to this."""
    paths = site.host.paths
    parts = list(site.story.parts())
    parts += [("the watch report", tail(paths.watch_report, 60)), ("who runs", "\n".join(processes_of(paths.root)))]
    parts += [(str(paths.log(name)), tail(paths.log(name), 25)) for name in BOTH]
    parts.append(("status", site.wire.inside("sh", "-c", "%s -m ovsxen status; echo exit code $?" % sys.executable)))
    return "\n".join("=== %s\n%s" % part for part in parts)
