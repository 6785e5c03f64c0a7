"""What the daemon decides: at one moment, in all combinations that all_scenes() tells of; and in worlds that change."""

import itertools
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

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
    Limits,
    Look,
    Memory,
    Sign,
    count_attempt,
    course_of,
    decide,
    is_resting,
)

LIMITS = Limits(hang_s=15.0, busy_s=90.0, foreign_lease_s=60.0, attempts=5, rest_s=60.0, window_s=600.0)
NOW_S = 10000.0
KEY = (77, 1)
SERVER = Sign(OVSDB_SERVER, KEY)
SWITCH = Sign(VSWITCHD, KEY)


class Case(NamedTuple):
    """One daemon, as it is seen and remembered; and what it needs."""

    what: str
    needs: Act
    sign: Sign
    course: Course


def case(what: str, needs: Act = Act.WAIT, key: Tuple[int, int] = KEY, silent_s: Optional[float] = None,
         idle_s: float = 0.0, stopped_s: Optional[float] = None, wakes: int = 0, traced: bool = False,
         lost: bool = False) -> Case:
    sign = Sign("", key, None if silent_s is None else NOW_S - silent_s, cpu_s=5.0,
                is_stopped=stopped_s is not None, is_traced=traced, is_lost=lost)
    course = Course(key, cpu_s=5.0, cpu_at_s=NOW_S - 1.0, busy_at_s=NOW_S - idle_s,
                    stopped_since_s=None if stopped_s is None else NOW_S - stopped_s, wakes=(NOW_S - 1.0,) * wakes)
    return Case(what, needs, sign, course)


class History(NamedTuple):
    """When a daemon was started again; and whether it may be once more."""

    attempts: Tuple[float, ...]
    may_start: bool


class Holding(NamedTuple):
    """flow-restore-wait, as it is seen and remembered; whether it is to end, and even while another ovsxen works."""

    lease: Optional[Lease] = None
    ends: bool = False
    ends_at_work: bool = False
    since_s: Optional[float] = None
    tried_s: Optional[float] = None


class Strain(NamedTuple):
    """What the host and the database suffer; whether that excuses silence, or condemns a switch that answers."""

    late_s: float = 0.0
    behind_s: Optional[float] = None
    refused: str = ""
    excuses: bool = False
    condemns: bool = False


class Unfinished(NamedTuple):
    """Whether the last start has failed, when another one was last tried for that, and whether one is due."""

    failed: bool = False
    tried_s: Optional[float] = None
    is_due: bool = False


class Scene(NamedTuple):
    """All that is seen and remembered."""

    server: Case
    vswitchd: Case
    histories: Tuple[History, History]
    hands_off: str
    holding: Holding
    strain: Strain
    unfinished: Unfinished

    @property
    def memory(self) -> Memory:
        server, vswitchd = (one.course._replace(attempts=history.attempts)
                            for one, history in zip((self.server, self.vswitchd), self.histories))
        behind_s = self.strain.behind_s
        return Memory(server, vswitchd, cur_cfg=4, behind_since_s=None if behind_s is None else NOW_S - behind_s,
                      leased_since_s=self.holding.since_s, finish_tried_s=self.unfinished.tried_s,
                      lease_end_tried_s=self.holding.tried_s)

    @property
    def look(self) -> Look:
        return Look(NOW_S, self.server.sign._replace(name=OVSDB_SERVER), self.vswitchd.sign._replace(name=VSWITCHD),
                    hands_off=self.hands_off, unfinished=self.unfinished.failed, late_s=self.strain.late_s,
                    configured=(4, 4 if self.strain.behind_s is None else 5), lease=self.holding.lease,
                    refused=self.strain.refused)


WELL = case("well")
CASES = (
    WELL,
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
NEVER_TRIED = History((), may_start=True)
HISTORIES = (
    NEVER_TRIED,
    History((NOW_S - 0.5,), may_start=False),
    History((NOW_S - 1.0,), may_start=True),
    History((NOW_S - 59.0,) * LIMITS.attempts, may_start=False),
    History((NOW_S - 60.0,) * LIMITS.attempts, may_start=True),
)
WORKS = "another ovsxen works on the switch"
FREE = Holding()
OVERDUE = Holding(Lease(NOW_S - 0.1), ends=True, ends_at_work=True)
HOLDINGS = (
    FREE,
    Holding(Lease(NOW_S + 10.0), ends=True),
    OVERDUE,
    Holding(Lease(NOW_S - 0.1), tried_s=NOW_S - LEASE_RETRY_S / 2),
    Holding(Lease(None), since_s=NOW_S - 59.0),
    Holding(Lease(None), ends=True, ends_at_work=True, since_s=NOW_S - 61.0),
)
AT_EASE = Strain()
LONG_BEHIND = Strain(behind_s=91.0, condemns=True)
STRAINS = (
    AT_EASE,
    Strain(late_s=39.0, excuses=True),
    Strain(behind_s=89.0),
    LONG_BEHIND,
    Strain(behind_s=91.0, refused="no space left on device"),
)
FINISHED = Unfinished()
FAILED = Unfinished(failed=True, is_due=True)
UNFINISHED = (FINISHED, FAILED, Unfinished(failed=True, tried_s=NOW_S - 59.0))


def all_scenes() -> Iterator[Scene]:
    """Every combination of the CASES and HISTORIES of both daemons, a switch that is long behind or not, and a failed
    start or none. And every combination of both CASES, others at work or not, HOLDINGS, STRAINS and UNFINISHED.

    The two are not multiplied: attempts matter only where a daemon would be started but for them.
    """
    for server, vswitchd in itertools.product(CASES, CASES):
        for histories, strain, unfinished in itertools.product(
                itertools.product(HISTORIES, HISTORIES), (AT_EASE, LONG_BEHIND), (FINISHED, FAILED)):
            yield Scene(server, vswitchd, histories, "", FREE, strain, unfinished)
        for rest in itertools.product(("", WORKS), HOLDINGS, STRAINS, UNFINISHED):
            yield Scene(server, vswitchd, (NEVER_TRIED, NEVER_TRIED), *rest)


def right_answers(scene: Scene) -> List[Tuple[Act, Tuple[str, ...]]]:
    """What is right to do, and to whom; where that is more than one thing, any may come first."""
    if scene.server is WELL and (scene.holding.ends_at_work if scene.hands_off else scene.holding.ends):
        return [(Act.END_LEASE, ())]
    if scene.hands_off:
        return [(Act.WAIT, ())]
    needs = what_is_needed(scene)
    answers: List[Tuple[Act, Tuple[str, ...]]] = [
        (act, (name,)) for name, act in needs.items() if act in (Act.WAKE, Act.REPLACE)]
    if Act.START in needs.values():
        answers.append((Act.START, tuple(name for name, act in needs.items() if act is Act.START)))
    all_well = scene.server is WELL and scene.vswitchd is WELL
    return answers or [(Act.FINISH if all_well and scene.unfinished.is_due else Act.WAIT, ())]


def what_is_needed(scene: Scene) -> Dict[str, Act]:
    """By each daemon, as far as it may have it now."""
    needs = {OVSDB_SERVER: scene.server.needs, VSWITCHD: scene.vswitchd.needs}
    if scene.server is WELL and scene.vswitchd is WELL and scene.strain.condemns:
        needs[VSWITCHD] = Act.REPLACE
    for name, history in zip((OVSDB_SERVER, VSWITCHD), scene.histories):
        must_rest = not history.may_start and needs[name] is not Act.WAKE
        if must_rest or needs[name] is Act.REPLACE and scene.strain.excuses:
            needs[name] = Act.WAIT
    if needs[VSWITCHD] is Act.START and scene.server is not WELL and needs[OVSDB_SERVER] is not Act.START:
        needs[VSWITCHD] = Act.WAIT  # there is no server to start against
        if scene.server.sign.is_lost and scene.histories[0].may_start:
            needs[OVSDB_SERVER] = Act.REPLACE  # nothing forwards that its end could interrupt
    return needs


def test_every_scene_is_answered_as_it_should_be() -> None:
    for scene in all_scenes():
        memory, look = scene.memory, scene.look
        decision = decide(memory, look, LIMITS)
        assert (decision.act, decision.names) in right_answers(scene), (scene, decision)
        for name in (OVSDB_SERVER, VSWITCHD):
            before, after = course_of(memory, name), course_of(decision.memory, name)
            now = (NOW_S,) if name in decision.names else ()
            woken, started = (now, ()) if decision.act is Act.WAKE else ((), now)
            assert (after.wakes, after.attempts) == (before.wakes + woken, before.attempts + started), (scene, decision)


@pytest.mark.parametrize("conf_db, copy_is_due, tried_s, right", [
    ("conf.db is gone", False, None, Act.REWRITE), ("conf.db is gone", True, NOW_S - LIMITS.rest_s, Act.REWRITE),
    ("conf.db is gone", False, NOW_S - LIMITS.rest_s + 1.0, Act.WAIT), ("", True, None, Act.COPY),
    ("", False, None, Act.WAIT)])
def test_conf_db_is_seen_to_where_a_server_answers_and_no_daemon_needs_more(
        conf_db: str, copy_is_due: bool, tried_s: Optional[float], right: Act) -> None:
    for server, vswitchd, hands_off in itertools.product(CASES, CASES, ("", WORKS)):
        scene = Scene(server, vswitchd, (NEVER_TRIED, NEVER_TRIED), hands_off, FREE, AT_EASE, FINISHED)
        decision = decide(scene.memory._replace(rewrite_tried_s=tried_s),
                          scene.look._replace(conf_db=conf_db, copy_is_due=copy_is_due), LIMITS)
        if server is WELL and not hands_off and Act.WAIT in [act for act, _ in right_answers(scene)]:
            assert (decision.act, decision.why) == (right, conf_db if right is Act.REWRITE else "")
            assert decision.memory.rewrite_tried_s == (NOW_S if right is Act.REWRITE else tried_s)
        else:
            assert (decision.act, decision.names) in right_answers(scene)


def test_where_nothing_can_be_seen_nothing_is_done_and_nothing_forgotten() -> None:
    for server, vswitchd in itertools.product(CASES, CASES):
        scene = Scene(server, vswitchd, (NEVER_TRIED, NEVER_TRIED), "", OVERDUE, LONG_BEHIND, FAILED)
        memory = scene.memory
        decision = decide(memory, scene.look._replace(trouble="no way"), LIMITS)
        assert (decision.act, decision.memory) == (Act.WAIT, memory), scene


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


def test_what_excused_one_silence_does_not_excuse_the_next() -> None:
    looks = [silent_at(NOW_S + 1.0), silent_at(NOW_S + 41.0)._replace(late_s=39.0), look_at(NOW_S + 45.0)]
    hung = Sign(VSWITCHD, KEY, silent_since_s=NOW_S + 50.0)
    looks += [look_at(NOW_S + 50.0 + second, vswitchd=hung) for second in range(4, 30)]
    assert acts(looks)[0] == (NOW_S + 50.0 + LIMITS.hang_s, Act.REPLACE)


def test_what_excused_an_idle_daemon_does_not_excuse_it_again_once_it_has_worked() -> None:
    looks = [silent_at(NOW_S), silent_at(NOW_S + 41.0)._replace(late_s=39.0), silent_at(NOW_S + 42.0, cpu_s=1.0)]
    looks += [silent_at(NOW_S + second, cpu_s=1.0) for second in range(43, 90)]
    assert acts(looks)[0] == (NOW_S + 42.0 + LIMITS.hang_s, Act.REPLACE)


@pytest.mark.parametrize("held_s", [10, 100, 1000])
def test_a_daemon_that_a_debugger_lets_go_has_its_time_to_answer(held_s: int) -> None:
    held = [silent_at(NOW_S + second, is_traced=True) for second in range(4, held_s)]
    last_s = held[-1].now_s
    let_go = [silent_at(last_s + second) for second in range(1, 30)]
    assert acts([look_at(NOW_S)] + held + let_go)[0] == (last_s + 1.0 + LIMITS.hang_s, Act.REPLACE)
    answered = [look_at(last_s + second) for second in range(1, 30)]
    assert acts([look_at(NOW_S)] + held + answered) == []


@pytest.mark.parametrize("name", [OVSDB_SERVER, VSWITCHD])
def test_a_switch_is_not_behind_while_a_debugger_holds_one_of_both(name: str) -> None:
    held = Sign(name, KEY, silent_since_s=NOW_S, is_traced=True)
    signs = {"server": held} if name == OVSDB_SERVER else {"vswitchd": held}
    looks = [look_at(NOW_S + second, configured=(1, 2), **signs) for second in range(4, 200)]  # type: ignore[arg-type]
    let_go = [look_at(NOW_S + second, configured=(1, 2)) for second in range(200, 300)]
    replaced = acts([look_at(NOW_S, configured=(1, 2))] + looks + let_go)[0]
    assert replaced[1] is Act.REPLACE and LIMITS.busy_s - 5.0 < replaced[0] - (NOW_S + 200.0) <= LIMITS.busy_s


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
    old = Course(KEY, attempts=(NOW_S - 5.0,), wakes=(NOW_S - 5.0,), stopped_since_s=NOW_S - 4.0,
                 silent_from_s=NOW_S - 4.0, was_traced=True)
    look = look_at(NOW_S, Sign(OVSDB_SERVER, (78, 2)), Sign(VSWITCHD, (79, 2)))
    course = course_of(decide(Memory(old, old), look, LIMITS).memory, name)
    assert course.attempts == (NOW_S - 5.0,)
    assert course._replace(attempts=()) == Course(course.key, 0.0, NOW_S, NOW_S)


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


@settings(max_examples=200)
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
    assert course_after(late).silent_from_s == NOW_S
    assert course_after([late[0], late[1]._replace(late_s=2.1)]).silent_from_s == pytest.approx(NOW_S + 2.1)


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


def test_a_switch_is_not_behind_while_the_host_let_nobody_run() -> None:
    behind = look_at(NOW_S, configured=(1, 2))
    looks = [behind, behind._replace(now_s=NOW_S + 100.0, late_s=99.0)]
    assert acts(looks) == []
    assert acts(looks + [behind._replace(now_s=NOW_S + 99.0 + LIMITS.busy_s)]) \
        == [(NOW_S + 99.0 + LIMITS.busy_s, Act.REPLACE)]


def test_one_that_is_stopped_again_right_after_it_was_woken_gets_its_time_again() -> None:
    looks = [silent_at(NOW_S + second, is_stopped=True) for second in (0.0, STOPPED_S, STOPPED_S + 1.0)]
    assert acts(looks) == [(NOW_S + STOPPED_S, Act.WAKE)]


def test_one_that_is_woken_late_has_its_time_to_answer() -> None:
    stopped = [silent_at(NOW_S + second, is_stopped=True)._replace(hands_off="a restart") for second in range(60)]
    woken = [silent_at(NOW_S + 60.0, is_stopped=True)] + [silent_at(NOW_S + 60.0 + second) for second in range(1, 20)]
    assert acts(stopped + woken)[:2] == [(NOW_S + 60.0, Act.WAKE), (NOW_S + 60.0 + LIMITS.hang_s, Act.REPLACE)]


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
    (look_at(NOW_S)._replace(refused="no space left on device"), "cannot write conf.db (no space left on device)"),
    (look_at(NOW_S)._replace(trouble="no way"), "cannot be watched: no way"),
])
def test_what_cannot_be_mended_is_a_problem(look: Look, said: str) -> None:
    decision = decide(Memory(), look, LIMITS)
    assert decision.act is Act.WAIT and len(decision.problems) == 1 and said in decision.problems[0]


@pytest.mark.parametrize("look, said", [
    (look_at(NOW_S, vswitchd=Sign(VSWITCHD)), "ovs-vswitchd: it is gone"),
    (look_at(NOW_S, Sign(OVSDB_SERVER), Sign(VSWITCHD)), "ovsdb-server and ovs-vswitchd: both are gone"),
    (look_at(NOW_S)._replace(unfinished=True),
     "the whole switch: the last start or restart was killed before its end, or failed"),
    (look_at(NOW_S, lease=Lease(NOW_S)), "other_config:flow-restore-wait: the restart that set it is gone"),
])
def test_a_decision_says_of_what_it_is_and_why(look: Look, said: str) -> None:
    decision = decide(Memory(), look, LIMITS)
    assert "%s: %s" % (decision.subject, decision.why) == said


def test_a_lease_that_cannot_be_ended_is_tried_again_after_a_pause() -> None:
    looks = [look_at(NOW_S + second, lease=Lease(NOW_S - 1.0)) for second in range(8)]
    assert acts(looks) == [(NOW_S, Act.END_LEASE), (NOW_S + LEASE_RETRY_S, Act.END_LEASE)]


def test_a_resting_daemon_is_one_that_was_tried_to_the_limit() -> None:
    tired = Course(attempts=(NOW_S,) * LIMITS.attempts)
    assert is_resting(tired, NOW_S, LIMITS) and not is_resting(tired, NOW_S + LIMITS.rest_s, LIMITS)
    assert not is_resting(Course(attempts=(NOW_S,)), NOW_S, LIMITS)
