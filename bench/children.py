"""How many processes a program starts, by the kernel's word: it runs under ptrace(2) and stops at each fork or clone.

Nothing that it starts is traced itself, and threads are not processes. Sources: ptrace(2), PTRACE_O_TRACECLONE.
"""

import ctypes
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

TRACEME, CONT, DETACH, SETOPTIONS, GETEVENTMSG = 0, 7, 17, 0x4200, 0x4201
NEW_PROCESS_EVENTS = (1, 2, 3)  # fork, vfork, clone; the option for an event is 1 << its number
EXITKILL = 1 << 20
WAIT_FOR_CLONES_TOO = 0x40000000  # __WALL


class CannotTrace(Exception):
    """This machine does not let a process trace its own child."""


def trace_me() -> None:
    """For `preexec_fn`: the program stops before its first instruction, for count_of()."""
    _ptrace(TRACEME, 0, 0)


def count_of(child: "subprocess.Popen[Any]") -> int:
    """Let a child that stopped by trace_me() run to its end; gives how many processes it started, and its returncode.
    """
    _wait(child.pid)
    _ptrace(SETOPTIONS, child.pid, sum(1 << event for event in NEW_PROCESS_EVENTS) | EXITKILL)
    count, deliver = 0, 0
    while True:
        _ptrace(CONT, child.pid, deliver)
        status = _wait(child.pid)
        if not os.WIFSTOPPED(status):
            child.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            return count
        deliver = os.WSTOPSIG(status)
        if status >> 16 in NEW_PROCESS_EVENTS:
            count += _let_go(child.pid)
        if deliver == signal.SIGTRAP:  # ptrace's own
            deliver = 0


def _let_go(parent: int) -> int:
    """Have what was just started run on by itself; 1 for a process, 0 for a thread."""
    message = ctypes.c_ulong()
    _ptrace(GETEVENTMSG, parent, ctypes.addressof(message))
    started = int(message.value)
    is_thread = Path("/proc/%d/task/%d" % (parent, started)).exists()
    _wait(started)
    _ptrace(DETACH, started, 0)
    return 0 if is_thread else 1


def _wait(pid: int) -> int:
    return os.waitpid(pid, WAIT_FOR_CLONES_TOO)[1]


def _ptrace(request: int, pid: int, data: int) -> None:
    """Raises CannotTrace."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    if ptrace(request, pid, None, data or None) == -1:
        raise CannotTrace(os.strerror(ctypes.get_errno()))
