"""`ovsxen daemon` over a switch that runs, started as systemd starts it, and what it costs while nothing happens."""

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, NamedTuple

from bench import restart_site
from bench.host import BenchFailed
from bench.restart_site import Site
from ovsxen.host import files
from ovsxen.host.clock import MACHINE_CLOCK, Deadline
from ovsxen.sandbox import sandbox

READY_WITHIN_S = 60.0
WATCHDOG_USEC = "180000000"
PROC = Path("/proc")
CPU_CLOCK_OF_PROCESS = 2
KIB_PER_MIB = 1024.0
SETTLED_S = 5.0
"""After it is ready: its first looks are no idling."""


class Idle(NamedTuple):
    """Of the daemon alone: its memory at the end, and its share of one core, with that of the children it waited for.

    `private_mib` would be free without it; `pss_mib` has also its share of what other processes map too.
    """

    seconds: float
    resident_mib: float
    pss_mib: float
    private_mib: float
    cpu_percent: float


@contextmanager
def watching(site: Site) -> Iterator[int]:
    """The daemon, in the foreground and ready; gives its pid. At the end it is killed, and the switch goes on."""
    notify, output = site.paths.root / "notify", site.paths.root / "daemon.log"
    files.remove_if_there(notify)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard, open(str(output), "wb") as stream:
        heard.bind(str(notify))
        child = subprocess.Popen(
            restart_site.as_inside(site, restart_site.ovsxen_argv(site, "daemon")), cwd="/",
            env=dict(sandbox.environment(site.paths), NOTIFY_SOCKET=str(notify), WATCHDOG_USEC=WATCHDOG_USEC),
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True)
        try:
            if not _becomes_ready(heard, child):
                raise BenchFailed("ovsxen daemon was not ready within %g s (its exit code: %s)\n%s" % (
                    READY_WITHIN_S, child.poll(), output.read_text(errors="replace")[-2000:]))
            yield child.pid
        finally:
            child.kill()
            child.wait()


def _becomes_ready(heard: socket.socket, child: "subprocess.Popen[bytes]") -> bool:
    deadline = Deadline(READY_WITHIN_S)
    heard.settimeout(0.1)
    while child.poll() is None and not deadline.has_passed():
        try:
            if b"READY=1" in heard.recv(4096).splitlines():
                return True
        except socket.timeout:
            continue
    return False


def measure(site: Site, for_s: float) -> Idle:
    with watching(site) as pid:
        MACHINE_CLOCK.sleep(SETTLED_S)
        before_s = cpu_s(pid)
        MACHINE_CLOCK.sleep(for_s)
        used_s = cpu_s(pid) - before_s
        kib = sizes_kib("".join((PROC / str(pid) / name).read_text() for name in ("status", "smaps_rollup")))
    return Idle(for_s, kib["VmRSS"] / KIB_PER_MIB, kib["Pss"] / KIB_PER_MIB,
                (kib["Private_Clean"] + kib["Private_Dirty"]) / KIB_PER_MIB, 100.0 * used_s / for_s)


def cpu_s(pid: int) -> float:
    """What a process used, by the scheduler's own count, as clock_getcpuclockid(3) names it: in ticks, 15 s of an idle
    daemon are none, one or four. And what the children used that it waited for, which is told in ticks only.
    """
    return time.clock_gettime(~pid << 3 | CPU_CLOCK_OF_PROCESS) + children_s((PROC / str(pid) / "stat").read_text())


def children_s(stat: str) -> float:
    """cutime and cstime of /proc/PID/stat (proc(5)), behind a name that may hold anything."""
    fields = stat[stat.rindex(")") + 2:].split()
    return sum(int(ticks) for ticks in fields[13:15]) / float(os.sysconf("SC_CLK_TCK"))


def sizes_kib(text: str) -> Dict[str, int]:
    """The sizes in /proc/PID/status or smaps_rollup, by name."""
    lines = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) for name, size, _ in lines}
