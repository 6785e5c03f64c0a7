"""What XAPI's plugin does, as functions by name; the answers and error codes are those that callers have always got.

The file that XAPI runs is xapi.d/plugins/openvswitch-cfg-update. The host that it serves is the one whose
/etc/xapi.d/plugins it lies in, so that a whole host fits in a directory: XAPI gives a plugin no environment to say so.
"""

import gc
import os
from pathlib import Path
from typing import Callable, Dict, NoReturn, Sequence

from ovsxen.answer import Failed
from ovsxen.errors import CodedError, OvsxenError
from ovsxen.host.paths import paths_under
from ovsxen.host.settings import read_settings
from ovsxen.sequence import Host
from ovsxen.xapi import protocol
from ovsxen.xapi.protocol import Call, PluginFailure


def run_and_end(argv: Sequence[str]) -> NoReturn:
    """`main` as a whole process, without collecting garbage, and without tidying up: XAPI waits for it."""
    gc.disable()
    os._exit(main(argv))


def main(argv: Sequence[str]) -> int:
    """Answer one call; gives the exit code of the process."""
    os.umask(0o022)
    functions: Dict[str, Callable[[Host, Call], str]] = {"update": _update, "emergency_reset": _emergency_reset,
                                                   "status": _status}
    bound = {name: _bind(function, find_root(argv[0] if argv else "")) for name, function in functions.items()}
    return protocol.run(argv, bound)


def find_root(program: str) -> Path:
    """Where the host's file system starts, by the plugin's own path; / for one that lies elsewhere."""
    directory = os.path.dirname(os.path.abspath(program))
    suffix = str(paths_under(Path("/"), {}).plugins)
    return Path(directory[:-len(suffix)] or "/") if directory.endswith(suffix) else Path("/")


def _bind(function: Callable[[Host, Call], str], root: Path) -> Callable[[Call], str]:
    """A function of a call alone, whose errors are those that XAPI's callers know: a code where there is one for it,
    else the error's own name.
    """
    def bound(call: Call) -> str:
        try:
            paths = paths_under(root, {})
            return function(Host(paths, read_settings(paths)), call)
        except Failed as failed:
            error = failed.error
        if isinstance(error, CodedError):
            raise PluginFailure(error.code, error.params) from error
        raise error
    return bound


def _update(host: Host, call: Call) -> str:
    from ovsxen.update import update  # a status asks for nothing of it
    return update(host, call.session).line


def _emergency_reset(host: Host, _call: Call) -> str:
    from ovsxen.emergency import emergency_reset
    return emergency_reset(host).line


def _status(host: Host, _call: Call) -> str:
    """The verdict as JSON (docs/status.md), whatever it is: that it could be told is the success."""
    import json

    from ovsxen import look, status
    try:
        verdict = status.as_json(status.judge(look.look(host)))
    except OvsxenError as error:
        verdict = status.unreadable_as_json(str(error))
    return json.dumps(verdict, sort_keys=True)
