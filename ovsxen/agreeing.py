"""The update, run by a sync: when XAPI's wishes change, and for a bridge that is seen for the first time.

It is the very program that XAPI's plugin is, under the same lock, as a process of its own: it may take its time, and
its memory goes with it.
"""

import threading
from typing import Callable, Dict, Optional, Set, Tuple

from ovsxen.errors import EXIT_OK, OvsxenError
from ovsxen.host import proc
from ovsxen.host.clock import MACHINE_CLOCK, Clock
from ovsxen.host.wakeup import Bell
from ovsxen.ovs.labels import Labels
from ovsxen.plan_sync import Demand, demand_of, differing_bridges
from ovsxen.sequence import explain
from ovsxen.xapi.records import Known

WITHIN_S = 60.0
"""More than an update gives itself."""

SHORTEST_REST_S, LONGEST_REST_S = 2.0, 60.0
AGAIN = "again"
END_WITHIN_S, LOG_OUT_WITHIN_S, KILLED_WITHIN_S = 2.0, 1.5, 0.5


class _Run:
    """One update under way, in a thread that waits for it. `tried`: the bridges that it is to make agree."""

    def __init__(self, command: Tuple[str, ...], root: str, demand: Demand, tried: Set[str], bell: Bell) -> None:
        """Raises OvsxenError where it cannot be begun."""
        self.demand, self.tried = demand, tried
        self.counts = True
        self.problem: Optional[str] = None
        self._child = proc.Child(command, {"OVSXEN_ROOT": root})
        self._bell = bell
        self._thread = threading.Thread(target=self._wait, name="wait for an update", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        try:
            ended = self._child.read_all(WITHIN_S)
            problem = "" if ended.returncode == EXIT_OK else ended.complaint
        except Exception as raised:  # whatever it is: the run has ended
            problem = str(raised) or type(raised).__name__
        self.problem = problem
        self._bell.ring()

    def end(self) -> None:
        """Let it come to its end; or have it end at least its session with XAPI; or kill it."""
        self._thread.join(END_WITHIN_S)
        self._child.terminate()
        self._thread.join(LOG_OUT_WITHIN_S)
        self._child.kill()
        self._thread.join(KILLED_WITHIN_S)


class Agreeing:
    """`done` rings when an update has ended. `problem` says why the last one failed; "" where it did not.

    A bridge is agreed once it has been seen to be as XAPI wants it. From then on it is the administrator's to change,
    until XAPI wants something else.
    """

    def __init__(self, command: Callable[[], Tuple[str, ...]], root: str, clock: Clock = MACHINE_CLOCK) -> None:
        self.done = Bell()
        self.problem = ""
        self._command = command
        self._root = root
        self._clock = clock
        self._run: Optional[_Run] = None
        self._wanted: Optional[Demand] = None
        self._done: Optional[Demand] = None
        self._agreed: Set[str] = set()
        self._tried: Set[str] = set()
        self._next_rest_s = SHORTEST_REST_S
        self._not_before_s = 0.0

    @property
    def is_under_way(self) -> bool:
        return self._run is not None

    def take_end(self) -> Optional[str]:
        """Why the update that has ended failed, "" where it did not; None where none has."""
        self.done.silence()
        run = self._run
        if run is None or run.problem is None:
            return None
        self._run = None
        self.problem = run.problem
        if run.counts:
            self._tried = run.tried
            if not self.problem:
                self._done = run.demand
            if self.problem or self._tried:  # what it has left as it was is tried again, but not at once
                self._rest()
        return self.problem

    def consider(self, labels: Labels, known: Known) -> str:
        """Begin an update where one is due, none is under way, and the last did not just try the same; gives the
        reason, or "".
        """
        if self._run is not None:
            return ""
        demand = demand_of(known)
        is_new = demand != self._wanted
        if is_new:
            self._wanted = demand
            self._agreed.clear()
            self._tried.clear()
            self._stop_resting()
        differing = differing_bridges(labels, known, self._agreed)
        if demand == self._done and not differing:
            self._agree(labels, known)
            return ""
        new = set(differing) - self._tried
        if self.rest_s > 0 and not new:
            return ""
        reason = "for the first time" if self._done is None and is_new else "XAPI asks for something else"
        return self._begin(demand, differing, reason if is_new else "new: %s" % ", ".join(
            sorted(differing[uuid] for uuid in new)) if new else AGAIN)

    def _begin(self, demand: Demand, differing: Dict[str, str], reason: str) -> str:
        try:
            self._run = _Run(self._command(), self._root, demand, set(differing), self.done)
        except (OvsxenError, OSError) as error:
            self.problem = str(explain(error, "an update could not be begun"))
            self._tried = set(differing)
            self._rest()
            return ""
        return reason

    def _agree(self, labels: Labels, known: Known) -> None:
        named = {network.bridge for network in known.networks}
        self._agreed = {bridge.uuid for bridge in labels.bridges
                        if bridge.uuid in self._agreed or bridge.name in named}
        self._tried.clear()
        self._stop_resting()
        self.problem = ""

    def _rest(self) -> None:
        self._not_before_s = self._clock.monotonic() + self._next_rest_s
        self._next_rest_s = min(2 * self._next_rest_s, LONGEST_REST_S)

    def _stop_resting(self) -> None:
        self._next_rest_s, self._not_before_s = SHORTEST_REST_S, 0.0

    @property
    def rest_s(self) -> float:
        """Seconds until what was tried last may be tried again; 0 without."""
        return max(0.0, self._not_before_s - self._clock.monotonic()) if self._run is None else 0.0

    def forget(self) -> None:
        """Have an update run as at the start, also after one that is under way."""
        self._wanted = self._done = None
        if self._run is not None:
            self._run.counts = False

    def end(self) -> None:
        if self._run is not None:
            self._run.end()
