"""Runs the plugin with clocks around its steps, and says on stderr how long each took, without those within it.

It is imported in the process that is timed, so it imports little. A step that is not there any more is not timed.
"""

import builtins
import gc
import importlib
import json
import os
import sys
from time import perf_counter
from typing import Any, Callable, Dict, List, NoReturn

IMPORTS = "imports"
STEPS = (
    ("ovsxen.plugin", "read_settings", "settings read"),
    ("ovsxen.xapi.transport", "UnixTransport.request", "XAPI asked, and waited for"),
    ("ovsxen.xapi.transport", "_read_answer", "XAPI asked, and waited for"),
    ("ovsxen.xapi.transport", "parse_values", "XML parsed"),
    ("ovsxen.xapi.records", "_parse", "records made of it"),
    ("ovsxen.ovs.jsonrpc", "Connection.call", "OVSDB asked, waited for, JSON parsed"),
    ("ovsxen.ovs.tables", "read_configuration", "rows made of it"),
    ("ovsxen.update", "plan", "the plan"),
    ("ovsxen.ovs.daemons", "find", "the daemons looked at"),
    ("ovsxen.update", "read_update_report", "the report read and written"),
    ("ovsxen.update", "write_update_report", "the report read and written"),
)


class Clocks:
    """How long each step took, less what other steps within it took."""

    def __init__(self) -> None:
        self.taken_ms: Dict[str, float] = {}
        self._within: List[float] = [0.0]

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            self._within.append(0.0)
            began_s = perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                took_s = perf_counter() - began_s
                self.taken_ms[name] = self.taken_ms.get(name, 0.0) + (took_s - self._within.pop()) * 1000.0
                self._within[-1] += took_s
        return timed


def run_and_end(argv: List[str], began_s: float) -> NoReturn:
    """The plugin with its own argv, as ovsxen.plugin.run_and_end() runs it. What this module imports, the plugin does
    too, so its import since `began_s` counts.
    """
    gc.disable()
    clocks = Clocks()
    clocks.taken_ms[IMPORTS] = (perf_counter() - began_s) * 1000.0
    builtins.__import__ = clocks.around(IMPORTS, builtins.__import__)
    from ovsxen import plugin
    clocks.around(IMPORTS, importlib.import_module)("ovsxen.update")
    for module, path, name in STEPS:
        _put_clock(clocks, module, path, name)
    code = plugin.main(argv)
    sys.stderr.write("\n%s\n" % json.dumps(sorted(clocks.taken_ms.items(), key=lambda pair: -pair[1])))
    sys.stderr.flush()
    os._exit(code)


def _put_clock(clocks: Clocks, module: str, path: str, name: str) -> None:
    owner: Any = sys.modules.get(module)
    *within, last = path.split(".")
    for part in within:
        owner = getattr(owner, part, None)
    if hasattr(owner, last):
        setattr(owner, last, clocks.around(name, getattr(owner, last)))
