"""What is done in a round, drawn by lot: a seed repeats that, though not its timing."""

import random
import signal
from typing import Dict, NamedTuple, Tuple

from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD

DAEMON = "ovsxen daemon"
VERB = "verb"

ENDS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM)
SIGNALS: Dict[str, Tuple[signal.Signals, ...]] = {
    OVSDB_SERVER: ENDS, VSWITCHD: ENDS, DAEMON: ENDS + (signal.SIGHUP,), VERB: ENDS}
SAVE_FLOWS = ("restart", "--save-flows")
VERBS = (SAVE_FLOWS, ("restart",), ("reload",), ("start",), ("stop",))


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
