"""Where an update without a change spends its time: its phases, timed from within, and its imports."""

import json
import subprocess
from pathlib import Path
from statistics import median
from typing import Dict, List, NamedTuple, Tuple

from bench import costs, host, update_site
from bench.update_site import Site

RUNS = 7
STUB = """from time import perf_counter
began_s = perf_counter()
import sys
sys.path += %r
from bench.update_phases import run_and_end
run_and_end(sys.argv[1:], began_s)
"""


class Taken(NamedTuple):
    """Wall times of processes that ran in turn: the plugin, an empty program, and the plugin with clocks within it."""

    plain_ms: float
    bare_ms: float
    timed_ms: float
    phases: Dict[str, float]


def profile(site: Site) -> str:
    """Two texts: phases with the rest of the process, then the costliest imports (Python 3.7 and later)."""
    update_site.set_back(site, networkd=True)
    update_site.first_update(site)
    stub = site.paths.root / "phases"
    stub.write_text(STUB % update_site.library_directories())
    taken = [Taken(update_site.unchanged_update(site).ms, run(site, host.python_argv() + ("-c", "pass"))[0],
                   *timed_phases(site, stub)) for _ in range(RUNS)]
    bare_ms, timed_ms = median(one.bare_ms for one in taken), median(one.timed_ms for one in taken)
    names = list(dict.fromkeys(name for one in taken for name in one.phases))
    phases = sorted(((median(one.phases.get(name, 0.0) for one in taken), name) for name in names), reverse=True)
    phases += [(bare_ms, "the interpreter alone"),
               (timed_ms - bare_ms - sum(ms for ms, _ in phases), "the rest: exit, and the clocks themselves")]
    lines = ["%8.1f ms  %s" % phase for phase in phases]
    lines += ["%8.1f ms  in all; %.1f ms where nobody times its phases" % (
        timed_ms, median(one.plain_ms for one in taken))]
    return "\n".join(lines + [""] + costs.as_lines(import_times(site)))


def timed_phases(site: Site, stub: Path) -> Tuple[float, Dict[str, float]]:
    """The wall time of a process that times its own phases, and those, the longest first."""
    ms, complaint = run(site, host.python_argv() + (str(stub),) + update_site.plugin_argv(site))
    return ms, {str(name): float(took) for name, took in json.loads(complaint.splitlines()[-1])}


def run(site: Site, argv: Tuple[str, ...]) -> Tuple[float, str]:
    """Wall time, and what the program says on stderr."""
    complaint = site.paths.root / "complaint"
    with open(str(complaint), "wb") as stream:
        took, code = host.run_timed(argv, {"PATH": update_site.PATH}, cwd="/", stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=stream)
    if code != 0:
        raise host.BenchFailed("%s: exit code %d\n%s" % (" ".join(argv[:-1]), code, complaint.read_text()[-400:]))
    return took.ms, complaint.read_text()


def import_times(site: Site) -> List[Tuple[int, int, str]]:
    """Microseconds of each import, own and with what it imports, from `-X importtime`."""
    argv = host.python_argv() + ("-X", "importtime") + update_site.plugin_argv(site)
    return costs.parse_import_times(run(site, argv)[1])
