"""What the daemon decides: every combination of what it may see and remember, and worlds that change under it."""

import itertools
from typing import Iterator, List, NamedTuple, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.ovs.lease import Lease
from ovsxen.plan_watch import (
    LEASE_RETRY_S,
    LONGEST_LEASE_S,
    NOBODY,
    STOPPED_S,
    WAKES,
    Act,
    Course,
    Decision,
    Limits,
    Look,
    Memory,
    Sign,
    count_attempt,
    course_of,
    decide,
    is_resting,
    may_start,
)

LIMITS = Limits(hang_s=15.0, busy_s=90.0, foreign_lease_s=60.0, attempts=5, rest_s=60.0, window_s=600.0)
NOW_S = 10000.0
KEY = (77, 1)


class Case(NamedTuple):
    """One daemon, as it is seen and remembered; and what may be done to it."""

    what: str
    sign: Sign
    course: Course
    may: Tuple[Act, ...]


def case(what: str, *may: Act, key: Tuple[int, int] = KEY, silent_s: Optional[float] = None, idle_s: float = 0.0,
         stopped_s: Optional[float] = None, wakes: int = 0, traced: bool = False, lost: bool = False) -> Case:
    sign = Sign("", key, None if silent_s is None else NOW_S - silent_s, cpu_s=5.0,
                is_stopped=stopped_s is not None, is_traced=traced, is_lost=lost)
    course = Course(key, cpu_s=5.0, cpu_at_s=NOW_S - 1.0, busy_at_s=NOW_S - idle_s,
                    stopped_since_s=None if stopped_s is None else NOW_S - stopped_s, wakes=(NOW_S - 1.0,) * wakes)
    return Case(what, sign, course, may)


CASES = (
    case("well"),
    case("gone", Act.START, key=NOBODY),
    case("slow", silent_s=14.0, idle_s=14.0),
    case("hung", Act.REPLACE, silent_s=16.0, idle_s=16.0),
    case("busy", silent_s=80.0, idle_s=2.0),
    case("busy for too long", Act.REPLACE, silent_s=91.0, idle_s=2.0),
    case("just stopped", stopped_s=STOPPED_S / 2, silent_s=4.0, idle_s=4.0),
    case("stopped", Act.WAKE, stopped_s=STOPPED_S, silent_s=4.0, idle_s=4.0),
    case("stopped again and again", Act.REPLACE, stopped_s=STOPPED_S, wakes=WAKES, silent_s=16.0, idle_s=16.0),
    case("in a debugger", traced=True, silent_s=1000.0, idle_s=1000.0),
    case("out of reach", lost=True),
)
LEASES = (None, Lease(NOW_S + 10.0), Lease(NOW_S - 0.1), Lease(None))
TRIED = (0, 1, LIMITS.attempts)
JUST_NOW_S = 0.5
SERVER = Sign(OVSDB_SERVER, KEY)
SWITCH = Sign(VSWITCHD, KEY)


def all_looks() -> Iterator[Tuple[Memory, Look, Case, Case]]:
    """Every pair of daemons, with and without attempts just made, others at work, leases, a switch that is behind."""
    for server, vswitchd, tried, hands_off, lease, behind_s in itertools.product(
            CASES, CASES, itertools.product(TRIED, TRIED), ("", "another ovsxen works on the switch"), LEASES,
            (None, 10.0, 91.0)):
        courses = [one.course._replace(attempts=(NOW_S - JUST_NOW_S,) * count)
                   for one, count in zip((server, vswitchd), tried)]
        memory = Memory(courses[0], courses[1], cur_cfg=4, leased_since_s=NOW_S - 61.0 if lease else None,
                        behind_since_s=None if behind_s is None else NOW_S - behind_s)
        look = Look(NOW_S, server.sign._replace(name=OVSDB_SERVER), vswitchd.sign._replace(name=VSWITCHD),
                    hands_off=hands_off, configured=(4, 4 if behind_s is None else 5), lease=lease)
        yield memory, look, server, vswitchd


def test_every_combination_is_answered_as_it_should_be() -> None:
    for memory, look, server, vswitchd in all_looks():
        decision = decide(memory, look, LIMITS)
        complaint = complain(memory, look, {OVSDB_SERVER: server, VSWITCHD: vswitchd}, decision)
        assert not complaint, "%s: %s is %s, %s is %s, %s, %s → %s" % (
            complaint, OVSDB_SERVER, server.what, VSWITCHD, vswitchd.what, look, memory, decision)


def complain(memory: Memory, look: Look, cases: "dict[str, Case]", decision: Decision) -> str:
    """What is wrong with a decision, or ""."""
    behind = memory.behind_since_s is not None and NOW_S - memory.behind_since_s > LIMITS.busy_s
    if look.hands_off and decision.act not in (Act.WAIT, Act.END_LEASE):
        return "hands were to be kept off"
    if decision.act is Act.END_LEASE:
        return complain_of_lease(look)
    for name in decision.names:
        may = cases[name].may + ((Act.REPLACE,) if behind and name == VSWITCHD and cases[name].what == "well" else ())
        if decision.act not in may:
            return "%s was to be left alone" % name
        course = course_of(memory, name)
        if decision.act is not Act.WAKE and not may_start(course, NOW_S, LIMITS):
            return "%s was to rest" % name
        if decision.act is not Act.WAKE and len(course_of(decision.memory, name).attempts) != len(course.attempts) + 1:
            return "the attempt was not counted"
    if decision.act is Act.REPLACE and len(decision.names) != 1:
        return "one at a time"
    if decision.act is Act.START and VSWITCHD in decision.names and cases[OVSDB_SERVER].what != "well" \
            and OVSDB_SERVER not in decision.names:
        return "there is no server to start against"
    if decision.act is Act.WAIT and not look.hands_off:
        return complain_of_idleness(memory, look, cases)
    return ""


def complain_of_lease(look: Look) -> str:
    if look.lease is None:
        return "there is no lease"
    if not look.server.answers:
        return "there is no server to end it in"
    if look.hands_off and look.lease.until_s is not None and look.lease.until_s > NOW_S:
        return "its holder is at work and has time left"
    return ""


def complain_of_idleness(memory: Memory, look: Look, cases: "dict[str, Case]") -> str:
    if look.lease is not None and look.server.answers:
        return "a lease was left, though its holder is gone"
    for name, one in cases.items():
        helpless = name == VSWITCHD and one.what == "gone" and cases[OVSDB_SERVER].what != "well"
        if Act.WAKE in one.may or one.may and may_start(course_of(memory, name), NOW_S, LIMITS) and not helpless:
            return "%s was left as it is" % name
    return ""


def look_at(now_s: float, server: Sign = SERVER, vswitchd: Sign = SWITCH,
            lease: Optional[Lease] = None, configured: Optional[Tuple[int, int]] = (1, 1), hands_off: str = "",
            late_s: float = 0.0) -> Look:
    return Look(now_s, server, vswitchd, hands_off=hands_off, late_s=late_s, configured=configured, lease=lease)


def acts(looks: List[Look]) -> List[Tuple[float, Act]]:
    """What is done, and when, besides waiting."""
    memory = Memory()
    done: List[Tuple[float, Act]] = []
    for look in looks:
        decision = decide(memory, look, LIMITS)
        memory = decision.memory
        if decision.act is not Act.WAIT:
            done.append((look.now_s, decision.act))
    return done


def test_a_daemon_that_dies_at_once_each_time_is_started_with_growing_pauses_and_then_rests() -> None:
    gone = Sign(VSWITCHD)
    starts = [at_s for at_s, act in acts([look_at(1000.0 + tick / 4.0, vswitchd=gone) for tick in range(800)])
              if act is Act.START]
    assert [round(later - sooner) for sooner, later in zip(starts, starts[1:])][:6] == [1, 2, 4, 8, 60, 60]


def test_a_rest_is_a_problem_that_status_shows_until_the_daemon_has_lived_for_a_while() -> None:
    memory = Memory(vswitchd=Course(attempts=tuple(NOW_S - tenth / 10.0 for tenth in range(LIMITS.attempts))))
    decision = decide(memory, look_at(NOW_S + 1.0, vswitchd=Sign(VSWITCHD)), LIMITS)
    assert decision.act is Act.WAIT and "left alone for 60 s" in decision.problems[0]
    assert decide(memory, look_at(NOW_S + LIMITS.window_s + 1.0), LIMITS).problems == ()


def test_what_uses_the_cpu_is_overloaded_and_not_hung() -> None:
    silent = [look_at(NOW_S + second, vswitchd=Sign(VSWITCHD, KEY, silent_since_s=NOW_S, cpu_s=0.9 * second))
              for second in range(120)]
    assert acts(silent)[0] == (NOW_S + LIMITS.busy_s, Act.REPLACE)
    idle = [look._replace(vswitchd=look.vswitchd._replace(cpu_s=0.0)) for look in silent]
    assert acts(idle)[0] == (NOW_S + LIMITS.hang_s, Act.REPLACE)


def test_silence_while_the_host_did_not_let_us_run_either_does_not_count() -> None:
    silent = Sign(VSWITCHD, KEY, silent_since_s=NOW_S)
    looks = [look_at(NOW_S + 1.0, vswitchd=silent), look_at(NOW_S + 41.0, vswitchd=silent, late_s=39.0)]
    assert acts(looks) == []
    assert acts(looks + [look_at(NOW_S + 60.0, vswitchd=silent)]) == [(NOW_S + 60.0, Act.REPLACE)]


def test_a_switch_that_gets_on_is_not_replaced_however_far_it_is_behind() -> None:
    looks = [look_at(NOW_S + second, configured=(second // 60, 1000)) for second in range(600)]
    assert acts(looks) == []
    stuck = [look_at(NOW_S + second, configured=(7, 8)) for second in range(100)]
    assert acts(stuck)[0] == (NOW_S + LIMITS.busy_s, Act.REPLACE)


def test_a_lease_of_ours_ends_with_its_holder_or_its_time_and_anothers_after_a_while() -> None:
    ours, others = Lease(NOW_S + 20.0), Lease(None)
    at_work = [look_at(NOW_S + second, lease=ours, hands_off="a restart") for second in range(30)]
    assert acts(at_work)[0] == (NOW_S + 20.0, Act.END_LEASE)
    assert acts([look_at(NOW_S, lease=ours)]) == [(NOW_S, Act.END_LEASE)]
    assert acts([look_at(NOW_S + second, lease=others) for second in range(70)])[0] == (NOW_S + 60.0, Act.END_LEASE)


def test_a_start_that_was_killed_is_finished_once_a_while_and_not_over_and_over() -> None:
    looks = [look_at(NOW_S + second)._replace(unfinished=True) for second in range(100)]
    assert acts(looks) == [(NOW_S, Act.FINISH), (NOW_S + LIMITS.rest_s, Act.FINISH)]
    assert acts([look._replace(hands_off="a restart") for look in looks]) == []


@pytest.mark.parametrize("name", [OVSDB_SERVER, VSWITCHD])
def test_a_new_process_begins_with_a_clean_slate_but_for_the_attempts(name: str) -> None:
    old = Course(KEY, attempts=(NOW_S - 5.0,), wakes=(NOW_S - 5.0,), stopped_since_s=NOW_S - 4.0, excused_s=3.0)
    look = look_at(NOW_S, Sign(OVSDB_SERVER, (78, 2)), Sign(VSWITCHD, (79, 2)))
    course = course_of(decide(Memory(old, old), look, LIMITS).memory, name)
    assert (course.attempts, course.wakes, course.stopped_since_s, course.excused_s) == ((NOW_S - 5.0,), (), None, 0.0)


class World:
    """Two daemons that obey what is decided, after a second, and suffer what a test does to them."""

    def __init__(self) -> None:
        self.now_s = NOW_S
        self.pids = {OVSDB_SERVER: 1, VSWITCHD: 2}
        self.state = {OVSDB_SERVER: "well", VSWITCHD: "well"}
        self.since_s = {OVSDB_SERVER: NOW_S, VSWITCHD: NOW_S}
        self.memory = Memory()

    def suffer(self, name: str, state: str) -> None:
        if self.state[name] != "gone":
            self.state[name], self.since_s[name] = state, self.now_s

    def sign(self, name: str) -> Sign:
        state = self.state[name]
        key = NOBODY if state == "gone" else (self.pids[name], 1)
        silent = state in ("stopped", "hung") and self.now_s - self.since_s[name] > 3.0
        return Sign(name, key, self.since_s[name] if silent else None, is_stopped=state == "stopped")

    def step(self) -> None:
        decision = decide(self.memory, look_at(self.now_s, self.sign(OVSDB_SERVER), self.sign(VSWITCHD)), LIMITS)
        self.memory = decision.memory
        for name in decision.names:
            self.pids[name] += 0 if decision.act is Act.WAKE else 10
            self.state[name] = "well"
        self.now_s += 1.0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([OVSDB_SERVER, VSWITCHD]), st.sampled_from(["gone", "stopped", "hung"]),
                          st.integers(0, 40)), max_size=25))
def test_whatever_befalls_the_daemons_both_are_well_in_the_end_and_none_was_tried_too_often(
        blows: List[Tuple[str, str, int]]) -> None:
    world = World()
    for name, state, seconds in blows:
        world.suffer(name, state)
        for _ in range(seconds):
            world.step()
            for course in (world.memory.server, world.memory.vswitchd):
                assert len(course.attempts) <= LIMITS.attempts + LIMITS.window_s / LIMITS.rest_s
    for _ in range(int(LIMITS.rest_s + LIMITS.hang_s) * 2):
        world.step()
    assert world.state == {OVSDB_SERVER: "well", VSWITCHD: "well"}


def course_after(looks: List[Look]) -> Course:
    """What is remembered of ovs-vswitchd."""
    memory = Memory()
    for look in looks:
        memory = decide(memory, look, LIMITS).memory
    return memory.vswitchd


def silent_at(now_s: float, cpu_s: float = 0.0, **more: bool) -> Look:
    return look_at(now_s, vswitchd=Sign(VSWITCHD, KEY, silent_since_s=NOW_S, cpu_s=cpu_s, **more))


def test_a_twentieth_of_a_core_is_work_and_less_is_not() -> None:
    busy = course_after([silent_at(NOW_S), silent_at(NOW_S + 10.0, cpu_s=0.6)])
    idle = course_after([silent_at(NOW_S), silent_at(NOW_S + 10.0, cpu_s=0.4)])
    assert (busy.busy_at_s, idle.busy_at_s) == (NOW_S + 10.0, NOW_S)


def test_a_look_that_is_a_little_late_excuses_nothing() -> None:
    late = [silent_at(NOW_S), silent_at(NOW_S + 3.0)._replace(late_s=1.9)]
    assert course_after(late).excused_s == 0.0
    assert course_after([late[0], late[1]._replace(late_s=2.1)]).excused_s == pytest.approx(2.1)


def test_a_switch_is_not_behind_while_others_work_on_it_nor_a_new_one_from_the_beginning() -> None:
    behind = look_at(NOW_S, configured=(1, 2))
    at_work = [behind, behind._replace(now_s=NOW_S + 80.0, hands_off="a restart"), behind._replace(now_s=NOW_S + 100.0)]
    assert acts(at_work) == []
    new = Sign(VSWITCHD, (78, 2))
    assert acts([behind, behind._replace(now_s=NOW_S + 80.0, vswitchd=new),
                 behind._replace(now_s=NOW_S + 100.0, vswitchd=new)]) == []


def test_a_switch_is_not_behind_for_want_of_an_answer_from_the_server() -> None:
    looks = [look_at(NOW_S, configured=(1, 2)),
             look_at(NOW_S + 100.0, server=Sign(OVSDB_SERVER, KEY, silent_since_s=NOW_S + 95.0), configured=(1, 2))]
    assert acts(looks) == []


def test_one_that_is_stopped_again_right_after_it_was_woken_gets_its_time_again() -> None:
    looks = [silent_at(NOW_S + second, is_stopped=True) for second in (0.0, STOPPED_S, STOPPED_S + 1.0)]
    assert acts(looks) == [(NOW_S + STOPPED_S, Act.WAKE)]


def test_wakes_of_long_ago_do_not_count() -> None:
    memory = Memory(vswitchd=Course(KEY, wakes=(NOW_S - LIMITS.window_s - 1.0,) * WAKES, stopped_since_s=NOW_S - 4.0))
    assert decide(memory, silent_at(NOW_S, is_stopped=True), LIMITS).act is Act.WAKE


def test_only_starts_of_the_two_daemons_are_attempts() -> None:
    assert count_attempt(Memory(), "firewall", NOW_S) == Memory()
    assert count_attempt(Memory(), OVSDB_SERVER, NOW_S).server.attempts == (NOW_S,)


@pytest.mark.parametrize("look, said", [
    (look_at(NOW_S, lease=Lease(None)), "another program has set other_config:flow-restore-wait"),
    (look_at(NOW_S, lease=Lease(NOW_S + LONGEST_LEASE_S + 1.0)), "another program has set other_config"),
    (look_at(NOW_S, vswitchd=Sign(VSWITCHD, KEY, is_traced=True)), "held by a debugger"),
    (look_at(NOW_S, server=Sign(OVSDB_SERVER, KEY, is_lost=True)), "pidfile or control socket is gone"),
    (look_at(NOW_S)._replace(trouble="no way"), "cannot be watched: no way"),
])
def test_what_cannot_be_mended_is_a_problem(look: Look, said: str) -> None:
    decision = decide(Memory(), look, LIMITS)
    assert decision.act is Act.WAIT and len(decision.problems) == 1 and said in decision.problems[0]


def test_a_lease_that_cannot_be_ended_is_tried_again_after_a_pause() -> None:
    looks = [look_at(NOW_S + second, lease=Lease(NOW_S - 1.0)) for second in range(8)]
    assert acts(looks) == [(NOW_S, Act.END_LEASE), (NOW_S + LEASE_RETRY_S, Act.END_LEASE)]


def test_a_resting_daemon_is_one_that_was_tried_to_the_limit() -> None:
    tired = Course(attempts=(NOW_S,) * LIMITS.attempts)
    assert is_resting(tired, NOW_S, LIMITS) and not is_resting(tired, NOW_S + LIMITS.rest_s, LIMITS)
    assert not is_resting(Course(attempts=(NOW_S,)), NOW_S, LIMITS)
