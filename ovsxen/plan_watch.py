"""Pure: what to do about the switch, from what is seen of it now and what is remembered: (Memory, Look) → Decision.

A daemon that is gone is started again, alone. One that is silent is hung when it has not used the CPU for a while: a
busy one is given longer. One that was stopped by a signal is only woken. All of it with a back-off, a limit, and then a
rest. Nothing is done while another ovsxen works on the switch, but for a lease that it has let run out.
"""

from enum import Enum
from typing import NamedTuple, Optional, Tuple

from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.ovs.lease import FLOW_RESTORE_WAIT, Lease
from ovsxen.ovs.probe import CANNOT_WRITE

BACK_OFF_S = (1.0, 2.0, 4.0, 8.0)
"""Between a start and the next; the first comes at once."""

LEASE_RETRY_S = 5.0
LONGEST_LEASE_S = 3600.0
"""A longer one is none of ours."""

NOBODY = (0, 0)
"""In place of a process's key."""

STOPPED_S = 3.0
WAKES = 3
LATE_S = 2.0
BUSY_SHARE = 0.05
"""Of a core, used by a daemon's main thread. A dead-locked one uses none."""


class Limits(NamedTuple):
    """What the administrator may choose, in /etc/sysconfig/openvswitch.

    `hang_s`: how long a daemon may be silent and idle. `busy_s`: how long silent or behind, however busy.
    `foreign_lease_s`: how long another program may hold flows back. `attempts`: that many starts of a daemon within
    `window_s`, then a rest of `rest_s` before each further one.
    """

    hang_s: float
    busy_s: float
    foreign_lease_s: float
    attempts: int
    rest_s: float
    window_s: float


class Sign(NamedTuple):
    """One daemon at one moment. `key` tells a process from its successor.

    `silent_since_s`: the moment of a question that has not been answered in its time. `cpu_s`: what its main thread has
    used. `is_stopped`: by a signal; `is_traced`: by a debugger. `is_lost`: it runs, and what it is reached by is gone.
    """

    name: str
    key: Tuple[int, int] = NOBODY
    silent_since_s: Optional[float] = None
    cpu_s: float = 0.0
    is_stopped: bool = False
    is_traced: bool = False
    is_lost: bool = False

    @property
    def runs(self) -> bool:
        return self.key != NOBODY

    @property
    def answers(self) -> bool:
        """As far as is known: a question that is under way counts as answered until its time is over."""
        return self.runs and self.silent_since_s is None and not (self.is_lost or self.is_stopped or self.is_traced)


class Look(NamedTuple):
    """All that is seen at one moment, in seconds of the monotonic clock.

    `trouble`: why nothing could be seen, or "". Where it is set, the rest means nothing. `hands_off`: why nothing may
    be done, or "". `unfinished`: the last start or restart was killed, or failed. `late_s`: by how much this look came
    later than it was meant to, as on a host that is short of CPU. `configured`: cur_cfg and next_cfg, where the
    database answered. `lease`: flow-restore-wait. `refused`: why the database cannot be written, or "". `conf_db`: what
    of it is not as its server left it, or "". `copy_is_due`: of conf.db.
    """

    now_s: float
    server: Sign
    vswitchd: Sign
    trouble: str = ""
    hands_off: str = ""
    unfinished: bool = False
    late_s: float = 0.0
    configured: Optional[Tuple[int, int]] = None
    lease: Optional[Lease] = None
    refused: str = ""
    conf_db: str = ""
    copy_is_due: bool = False


class Course(NamedTuple):
    """What is remembered of one daemon.

    `cpu_s`: what it had used at `cpu_at_s`, the last look. `busy_at_s`: when it last used the CPU, or was not silent.
    `silent_from_s`: from when on its silence counts. Both are later by what was not its own doing. `was_traced`: a
    debugger held it at the last look. `stopped_since_s`: since when it is stopped by a signal; a wake begins that anew.
    `wakes`, `attempts`: when it was woken, or started again, in the last `window_s`, oldest first.
    """

    key: Tuple[int, int] = NOBODY
    cpu_s: float = 0.0
    cpu_at_s: float = 0.0
    busy_at_s: float = 0.0
    silent_from_s: Optional[float] = None
    was_traced: bool = False
    stopped_since_s: Optional[float] = None
    wakes: Tuple[float, ...] = ()
    attempts: Tuple[float, ...] = ()


class Memory(NamedTuple):
    """What is remembered from look to look.

    `cur_cfg`: as last read. `behind_since_s`: since when the same ovs-vswitchd leaves it as it is, below next_cfg.
    `leased_since_s`: since when flow-restore-wait is seen set. `finish_tried_s`, `lease_end_tried_s`: when a FINISH or
    an END_LEASE was last decided, whatever came of it.
    """

    server: Course = Course()
    vswitchd: Course = Course()
    cur_cfg: int = 0
    behind_since_s: Optional[float] = None
    leased_since_s: Optional[float] = None
    finish_tried_s: Optional[float] = None
    lease_end_tried_s: Optional[float] = None
    rewrite_tried_s: Optional[float] = None


class Act(Enum):
    """What to do now. REPLACE keeps evidence, ends a daemon, starts another. FINISH repeats a start that was killed or
    failed. REWRITE has ovsdb-server write conf.db from its memory; COPY keeps a good copy of it.
    """

    WAIT = "wait"
    START = "start"
    WAKE = "wake"
    REPLACE = "replace"
    FINISH = "finish"
    END_LEASE = "end lease"
    REWRITE = "write anew"
    COPY = "copy"


class Decision(NamedTuple):
    """What to do, to which daemons and why; what to remember; and what is wrong, for `ovsxen status`."""

    memory: Memory
    act: Act
    names: Tuple[str, ...] = ()
    why: str = ""
    problems: Tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """What `act` is done to, for people."""
        if self.act is Act.END_LEASE:
            return "other_config:%s" % FLOW_RESTORE_WAIT
        if self.act in (Act.REWRITE, Act.COPY):
            return "conf.db"
        return " and ".join(self.names) or "the whole switch"


def decide(memory: Memory, look: Look, limits: Limits) -> Decision:
    """One step. A START and a REPLACE are counted as attempts here, so that a caller that dies has counted too."""
    if look.trouble:
        return Decision(memory, Act.WAIT, problems=("the switch cannot be watched: %s" % look.trouble,))
    memory = _remember(memory, look, limits)
    decision = _decide(memory, look, limits)
    memory = decision.memory
    for name in decision.names:
        course = course_of(memory, name)
        if decision.act is Act.WAKE:
            memory = _with_course(memory, name, course._replace(
                wakes=course.wakes + (look.now_s,), stopped_since_s=look.now_s, silent_from_s=look.now_s))
        else:
            memory = count_attempt(memory, name, look.now_s)
    return decision._replace(memory=memory, problems=find_problems(memory, look, limits))


def _decide(memory: Memory, look: Look, limits: Limits) -> Decision:
    why = _why_end_lease(memory, look, limits)
    if why and look.server.answers and _is_due(memory.lease_end_tried_s, look.now_s, LEASE_RETRY_S):
        return Decision(memory._replace(lease_end_tried_s=look.now_s), Act.END_LEASE, why=why)
    if look.hands_off:
        return Decision(memory, Act.WAIT)
    pairs = ((look.server, memory.server), (look.vswitchd, memory.vswitchd))
    for sign, course in pairs:
        if _is_to_be_woken(sign, course, look.now_s):
            return Decision(memory, Act.WAKE, (sign.name,), "it was stopped by a signal")
    gone = tuple(sign.name for sign, course in pairs if not sign.runs and may_start(course, look.now_s, limits))
    if gone and (look.server.answers or OVSDB_SERVER in gone):
        return Decision(memory, Act.START, gone, "both are gone" if len(gone) > 1 else "it is gone")
    if gone and _is_lost_for_good(look.server, look.now_s, limits) and may_start(memory.server, look.now_s, limits):
        return Decision(memory, Act.REPLACE, (OVSDB_SERVER,),
                        "its pidfile or control socket is gone, so ovs-vswitchd, which is gone too, cannot be started")
    for sign, course in pairs:
        why = _why_hung(memory, look, sign, limits)
        if why and may_start(course, look.now_s, limits):
            return Decision(memory, Act.REPLACE, (sign.name,), why)
    if look.conf_db and look.server.answers and _is_due(memory.rewrite_tried_s, look.now_s, limits.rest_s):
        return Decision(memory._replace(rewrite_tried_s=look.now_s), Act.REWRITE, why=look.conf_db)
    if look.copy_is_due and look.server.answers:
        return Decision(memory, Act.COPY)
    both_answer = look.server.answers and look.vswitchd.answers
    if look.unfinished and both_answer and _is_due(memory.finish_tried_s, look.now_s, limits.rest_s):
        return Decision(memory._replace(finish_tried_s=look.now_s), Act.FINISH, (),
                        "the last start or restart was killed before its end, or failed")
    return Decision(memory, Act.WAIT)


def _is_lost_for_good(sign: Sign, now_s: float, limits: Limits) -> bool:
    """One that begins has a pidfile before it has sockets."""
    return sign.is_lost and (sign.silent_since_s is None or now_s - sign.silent_since_s >= limits.hang_s)


def _is_due(last_s: Optional[float], now_s: float, pause_s: float) -> bool:
    return last_s is None or now_s - last_s >= pause_s


def _remember(memory: Memory, look: Look, limits: Limits) -> Memory:
    behind_since_s, cur_cfg = memory.behind_since_s, memory.cur_cfg
    if look.configured is not None:
        now_cfg, next_cfg = look.configured
        if now_cfg >= next_cfg or look.hands_off:
            behind_since_s = None
        elif behind_since_s is None or now_cfg != cur_cfg or look.vswitchd.key != memory.vswitchd.key:
            behind_since_s = look.now_s
        else:
            behind_since_s = _later(behind_since_s, look, _excused_s(memory.vswitchd, look.vswitchd, look)
                                    if look.server.answers else look.now_s - memory.server.cpu_at_s)
        cur_cfg = now_cfg
    leased_since_s = None
    if look.lease is not None:
        leased_since_s = look.now_s if memory.leased_since_s is None else memory.leased_since_s
    return memory._replace(server=_follow(memory.server, look.server, look, limits),
                           vswitchd=_follow(memory.vswitchd, look.vswitchd, look, limits), cur_cfg=cur_cfg,
                           behind_since_s=behind_since_s, leased_since_s=leased_since_s)


def _excused_s(course: Course, sign: Sign, look: Look) -> float:
    """How much of the time since the last look a daemon could do nothing, and that is no fault of its own: a debugger
    held it, or the host let nobody run.
    """
    if sign.is_traced or course.was_traced:
        return look.now_s - course.cpu_at_s
    return look.late_s if look.late_s > LATE_S else 0.0


def _later(since_s: float, look: Look, excused_s: float) -> float:
    return min(since_s + excused_s, look.now_s)


def _follow(course: Course, sign: Sign, look: Look, limits: Limits) -> Course:
    attempts, wakes = (tuple(at_s for at_s in times if at_s > look.now_s - limits.window_s)
                       for times in (course.attempts, course.wakes))
    if sign.key != course.key:
        return Course(sign.key, sign.cpu_s, look.now_s, look.now_s, sign.silent_since_s, sign.is_traced,
                      look.now_s if sign.is_stopped else None, attempts=attempts)
    used = sign.cpu_s - course.cpu_s > BUSY_SHARE * (look.now_s - course.cpu_at_s)
    excused_s = _excused_s(course, sign, look)
    silent_from_s, busy_at_s = None, look.now_s
    if sign.silent_since_s is not None:
        silent_from_s = _later(max(sign.silent_since_s, course.silent_from_s or 0.0), look, excused_s)
        busy_at_s = look.now_s if used else _later(course.busy_at_s, look, excused_s)
    stopped_since_s = None
    if sign.is_stopped:
        stopped_since_s = look.now_s if course.stopped_since_s is None else course.stopped_since_s
    return Course(sign.key, sign.cpu_s, look.now_s, busy_at_s, silent_from_s, sign.is_traced, stopped_since_s, wakes,
                  attempts)


def course_of(memory: Memory, name: str) -> Course:
    return memory.server if name == OVSDB_SERVER else memory.vswitchd


def _with_course(memory: Memory, name: str, course: Course) -> Memory:
    return memory._replace(server=course) if name == OVSDB_SERVER else memory._replace(vswitchd=course)


def count_attempt(memory: Memory, name: str, now_s: float) -> Memory:
    """A daemon is started now; other phases of a boot are not counted."""
    if name not in (OVSDB_SERVER, VSWITCHD):
        return memory
    course = course_of(memory, name)
    return _with_course(memory, name, course._replace(attempts=course.attempts + (now_s,)))


def may_start_at_s(course: Course, limits: Limits) -> float:
    """From when on a daemon may be started again: at once, then later and later; beyond the limit after a rest."""
    tried = len(course.attempts)
    if tried == 0:
        return 0.0
    if tried >= limits.attempts:
        return course.attempts[-1] + limits.rest_s
    return course.attempts[-1] + BACK_OFF_S[min(tried, len(BACK_OFF_S)) - 1]


def may_start(course: Course, now_s: float, limits: Limits) -> bool:
    return now_s >= may_start_at_s(course, limits)


def is_resting(course: Course, now_s: float, limits: Limits) -> bool:
    return len(course.attempts) >= limits.attempts and not may_start(course, now_s, limits)


def _why_end_lease(memory: Memory, look: Look, limits: Limits) -> str:
    """Ours ends with its holder, or when it runs out; another program's when it has lasted too long."""
    lease = look.lease
    if lease is None:
        return ""
    ends_s = _own_end_s(lease, look.now_s)
    if ends_s is None:
        since_s = look.now_s if memory.leased_since_s is None else memory.leased_since_s
        too_long = look.now_s - since_s >= limits.foreign_lease_s
        return "another program has set it for %.0f s" % (look.now_s - since_s) if too_long else ""
    if not look.hands_off:
        return "the restart that set it is gone"
    return "the restart that set it takes too long" if look.now_s >= ends_s else ""


def _own_end_s(lease: Lease, now_s: float) -> Optional[float]:
    """When a lease of ours ends; None for another program's."""
    return None if lease.until_s is None or lease.until_s > now_s + LONGEST_LEASE_S else lease.until_s


def _is_to_be_woken(sign: Sign, course: Course, now_s: float) -> bool:
    return (sign.is_stopped and course.stopped_since_s is not None and len(course.wakes) < WAKES
            and now_s - course.stopped_since_s >= STOPPED_S)


def _why_hung(memory: Memory, look: Look, sign: Sign, limits: Limits) -> str:
    """Why a daemon that runs has to be replaced, or ""."""
    course = course_of(memory, sign.name)
    if not sign.runs or sign.is_traced or sign.is_lost:
        return ""
    if course.silent_from_s is not None:
        silent_s = look.now_s - course.silent_from_s
        idle_s = look.now_s - max(course.busy_at_s, course.silent_from_s)
        if idle_s >= limits.hang_s:
            return "it has neither answered nor used the CPU for %.0f s" % idle_s
        if silent_s >= limits.busy_s:
            return "it has not answered for %.0f s, though it uses the CPU" % silent_s
    elif sign.name == VSWITCHD and memory.behind_since_s is not None and look.server.answers and not look.refused:
        behind_s = look.now_s - memory.behind_since_s
        if behind_s >= limits.busy_s:
            return "it answers, but has not configured what the database says for %.0f s" % behind_s
    return ""


def describe_rest(name: str, course: Course, limits: Limits) -> str:
    """What is wrong with a daemon that is left alone."""
    return ("%s was started %d times in %.0f s and is left alone for %.0f s at a time: see its log and the evidence "
            "beside it; `ovsxen start` tries at once" % (name, len(course.attempts), limits.window_s, limits.rest_s))


def find_problems(memory: Memory, look: Look, limits: Limits) -> Tuple[str, ...]:
    """What is wrong with the switch as it is watched, each with its remedy. Stable while nothing changes."""
    problems = []
    for sign in (look.server, look.vswitchd):
        course = course_of(memory, sign.name)
        if not sign.answers and is_resting(course, look.now_s, limits):
            problems.append(describe_rest(sign.name, course, limits))
        if sign.is_traced:
            problems.append("%s is held by a debugger and so left alone: end the debugger" % sign.name)
        if sign.is_lost and not look.hands_off:
            problems.append("%s runs, but its pidfile or control socket is gone, so it cannot be watched: run `ovsxen "
                            "restart`" % sign.name)
    if look.refused:
        problems.append("%s (%s), so nothing that is changed is kept or configured: make room on its disk, and see "
                        "that it is writable" % (CANNOT_WRITE, look.refused))
    if look.lease is not None and _own_end_s(look.lease, look.now_s) is None:
        problems.append("another program has set other_config:%s, so new flows are held back: it is cleared after "
                        "%.0f s" % (FLOW_RESTORE_WAIT, limits.foreign_lease_s))
    return tuple(problems)
