"""Where one start spends its time: its phases, as it reports them, and its imports, as the interpreter times them."""

from pathlib import Path
from typing import List, Tuple

from bench import host
from bench.host import Host
from ovsxen.host import identity
from ovsxen.report import read_report

SHOWN = 15


def profile(made: Host) -> str:
    """Two texts: phases with the rest of the process, then the costliest imports (Python 3.7 and later)."""
    host.start_ovsxen(made)  # byte code and page cache
    took = host.start_ovsxen(made)
    report = read_report(made.paths.boot_report, identity.read_boot_id(made.paths))
    phases = [(phase.ms, phase.name) for phase in (report.phases if report else ())]
    bare_ms = host.run(host.python_argv() + ("-c", "pass"), made).ms
    phases.append((bare_ms, "the interpreter alone"))
    phases.append((took.ms - sum(ms for ms, _ in phases), "the rest: imports, command line, exit"))
    lines = ["%8.1f ms  %s" % phase for phase in phases] + ["%8.1f ms  in all" % took.ms]
    return "\n".join(lines + [""] + as_lines(import_times(made.paths.root / "importtime", made)))


def as_lines(imports: List[Tuple[int, int, str]]) -> List[str]:
    """The costliest imports, for people."""
    lines = ["costliest imports (slower than usual, since they are timed):", "    self     with what it imports"]
    lines += [] if imports else ["    not told: -X importtime needs Python 3.7"]
    return lines + ["%8.1f %8.1f ms  %s" % (self_us / 1000.0, whole_us / 1000.0, name)
                    for self_us, whole_us, name in sorted(imports, reverse=True)[:SHOWN]]


def import_times(output: Path, made: Host) -> List[Tuple[int, int, str]]:
    """Microseconds of each import, own and with what it imports, from `-X importtime`."""
    host.reboot(made)
    with open(str(output), "w") as stream:
        host.run(host.ovsxen_argv(made, "-X", "importtime"), made, stream.fileno())
    return parse_import_times(output.read_text())


def parse_import_times(text: str) -> List[Tuple[int, int, str]]:
    rows = [line[len("import time:"):].split("|") for line in text.splitlines() if line.startswith("import time:")]
    return [(int(own), int(whole), name.strip()) for own, whole, name in rows if own.strip().isdigit()]
