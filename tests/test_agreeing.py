"""When a sync runs an update, which here is any program; the rests by a clock that the test drives."""

import os
import select
import sys
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

import pytest

from ovsxen.agreeing import LONGEST_REST_S, SHORTEST_REST_S, Agreeing
from ovsxen.errors import AdministratorError
from ovsxen.host.clock import Clock, Deadline
from ovsxen.host.process import read_process
from ovsxen.ovs.labels import LabelledBridge, Labels
from ovsxen.xapi.records import Known, Network, Pool

WITHIN_S = 60.0
UNTIL_KILLED = "import os, signal; open(%r, 'w').write(str(os.getpid())); signal.pause()"


def bridge(name: str, fail_mode: str, uuid: str = "") -> LabelledBridge:
    return LabelledBridge(uuid or "row of " + name, name, {}, fail_mode, {})


def known(pool_fail_mode: str = "") -> Known:
    own = {"vswitch-controller-fail-mode": pool_fail_mode} if pool_fail_mode else {}
    network = Network("ref", "n0", "xenbr0", 1500, "", {}, ())
    return Known((Pool("ref", "p", "", own, ""),), (network,), (), {}, {})


AGREED = Labels((bridge("xenbr0", "standalone"),))


class Runs:
    """An Agreeing whose update is a piece of Python."""

    def __init__(self) -> None:
        self.program = ""
        self.now_s = 1000.0
        self.agreeing = Agreeing(self.command, "/nowhere", Clock(lambda: self.now_s, lambda _: None))
        self.begun = 0
        self.cannot: Optional[Exception] = None

    def command(self) -> Tuple[str, ...]:
        if self.cannot is not None:
            raise self.cannot
        self.begun += 1
        return sys.executable, "-c", self.program

    def consider(self, wanted: Known, labels: Labels = AGREED) -> str:
        return self.agreeing.consider(labels, wanted)

    def end(self) -> str:
        """Wait for the end of an update, as a loop does."""
        assert select.select([self.agreeing.done.fd], [], [], WITHIN_S)[0]
        problem = self.agreeing.take_end()
        assert problem is not None and not self.agreeing.is_under_way
        return problem

    def run(self, wanted: Known, labels: Labels = AGREED) -> str:
        """An update that must be due; gives why it failed."""
        assert self.consider(wanted, labels)
        return self.end()


@pytest.fixture
def runs() -> Iterator[Runs]:
    made = Runs()
    yield made
    made.agreeing.end()


def test_one_runs_at_the_start_and_then_when_xapi_asks_for_something_else(runs: Runs) -> None:
    assert runs.consider(known()) == "for the first time" and runs.agreeing.is_under_way
    assert runs.consider(known("secure")) == ""  # one at a time
    assert runs.end() == ""
    assert runs.consider(known()) == ""
    assert runs.consider(known("secure")) == "XAPI asks for something else"
    assert runs.end() == ""
    assert runs.consider(known("secure")) == "" and runs.begun == 2


def test_what_xapi_asks_for_while_one_runs_is_done_by_the_next(runs: Runs) -> None:
    assert runs.consider(known())
    assert runs.end() == ""
    assert runs.run(known("secure")) == ""
    assert runs.consider(known()) != ""


def test_a_bridge_that_is_new_has_a_run_and_is_left_alone_once_it_is_as_xapi_wants(runs: Runs) -> None:
    runs.run(known())
    new = Labels(AGREED.bridges + (bridge("br-int", "secure"),))
    assert runs.consider(known(), new) == ""
    made_anew = Labels((bridge("xenbr0", "", "another row"),))
    assert runs.consider(known(), made_anew) == "new: xenbr0"
    assert runs.end() == ""
    assert runs.consider(known(), Labels((bridge("xenbr0", "standalone", "another row"),))) == ""
    changed = Labels((bridge("xenbr0", "secure", "another row"),))  # by an administrator, or a controller
    for _ in range(2):
        assert runs.consider(known(), changed) == ""
    assert runs.consider(known(), AGREED._replace(bridges=())) == ""
    assert runs.begun == 2


def test_one_that_fails_is_tried_again_after_ever_longer_rests(runs: Runs) -> None:
    runs.program = "import sys; sys.exit('no room')"
    rests: List[float] = []
    assert "no room" in runs.run(known())
    for _ in range(8):
        assert "no room" in runs.agreeing.problem
        rests.append(runs.agreeing.rest_s)
        runs.now_s += rests[-1] - 0.1
        assert runs.consider(known()) == ""
        runs.now_s += 0.2
        assert "no room" in runs.run(known())
    assert rests[0] == SHORTEST_REST_S and rests == sorted(rests) and rests[-1] == LONGEST_REST_S
    runs.program = ""
    runs.now_s += LONGEST_REST_S
    assert runs.run(known()) == "" and runs.agreeing.problem == ""
    assert runs.agreeing.rest_s == 0
    runs.program = "import sys; sys.exit(1)"
    assert runs.run(known("secure")) != ""
    assert runs.agreeing.rest_s == SHORTEST_REST_S


def test_a_bridge_that_an_update_leaves_as_it_was_is_tried_again_after_ever_longer_rests(runs: Runs) -> None:
    runs.run(known("secure"))  # to its end and without a failure: it may have to wait for a port of the bridge
    for begun in range(2, 8):
        assert runs.consider(known("secure")) == "" and not runs.agreeing.is_under_way
        rest_s = runs.agreeing.rest_s
        assert 0 < rest_s <= LONGEST_REST_S
        runs.now_s += rest_s
        assert runs.consider(known("secure")) == "again" and runs.begun == begun
        assert runs.end() == ""
    assert runs.consider(known("secure"), Labels((bridge("xenbr0", "secure"),))) == ""
    runs.now_s += LONGEST_REST_S
    assert runs.consider(known("secure")) == "" and not runs.agreeing.is_under_way  # an administrator's doing


def test_what_xapi_asks_for_instead_of_what_failed_does_not_wait(runs: Runs) -> None:
    runs.program = "import sys; sys.exit(1)"
    for _ in range(3):
        runs.consider(known())
        runs.end()
        runs.now_s += runs.agreeing.rest_s
    runs.consider(known())
    runs.end()
    assert runs.agreeing.rest_s > 0
    runs.program = ""
    assert runs.run(known("secure")) == ""


def test_an_update_that_was_under_way_when_all_was_to_be_forgotten_does_not_count(runs: Runs) -> None:
    runs.run(known())
    assert runs.consider(known("secure"))
    runs.agreeing.forget()
    assert runs.end() == ""
    assert runs.run(known("secure")) == ""


@pytest.mark.parametrize("cannot", [OSError(2, "No such file"), AdministratorError("it cannot be found", "look")])
def test_one_that_cannot_be_begun_is_tried_again(runs: Runs, cannot: Exception) -> None:
    runs.cannot = cannot
    assert runs.consider(known()) == "" and not runs.agreeing.is_under_way
    assert runs.agreeing.problem != "" and runs.agreeing.rest_s == SHORTEST_REST_S
    runs.cannot = None
    assert runs.consider(known()) == ""
    runs.now_s += SHORTEST_REST_S
    assert runs.run(known()) == "" and runs.agreeing.problem == ""


def test_what_was_done_is_done_again_when_it_is_to_be_forgotten(runs: Runs) -> None:
    runs.run(known())
    runs.agreeing.forget()
    assert runs.run(known()) == ""
    runs.program = "import sys; sys.exit(1)"
    runs.agreeing.forget()
    runs.run(known())
    runs.agreeing.forget()
    assert runs.consider(known()) != ""  # at once
    runs.end()


def test_one_that_is_under_way_is_killed_at_the_end(runs: Runs, tmp_path: Path) -> None:
    runs.program = UNTIL_KILLED % str(tmp_path / "pid")
    assert runs.consider(known())

    def pid() -> Optional[int]:
        text = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""
        return int(text) if text else None

    child = Deadline(WITHIN_S).wait_for(pid)
    assert child is not None and child != os.getpid()
    runs.agreeing.end()
    assert Deadline(WITHIN_S).wait_until(lambda: read_process(child) is None)
