"""The flows of ours by which a secure bridge carries management traffic, kept in the run directory.

An update puts them in place. ovs-vswitchd forgets all flows when it ends, and the host may not reach its XAPI without
these, so whoever starts ovs-vswitchd again puts them back from here.
"""

import json
from typing import NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import files
from ovsxen.host.paths import Paths
from ovsxen.ovs.management import Flow


class Guard(NamedTuple):
    """The flows that a bridge must keep, and the interfaces whose OpenFlow ports they name."""

    bridge: str
    flows: Tuple[Flow, ...]
    ports: Tuple[Tuple[str, int], ...]


def write_guard(paths: Paths, guard: Guard) -> None:
    """Remember it. Raises OSError."""
    text = json.dumps({"bridge": guard.bridge, "flows": guard.flows, "ports": guard.ports})
    files.write_file(paths.guard, [text.encode()], durable=False)


def read_guard(paths: Paths) -> Optional[Guard]:
    """The one that is remembered, if any. Raises AdministratorError for a file that cannot be read."""
    try:
        text = json.loads(files.read_small(paths.guard).decode())
        return Guard(str(text["bridge"]), tuple(Flow(str(match), str(actions)) for match, actions in text["flows"]),
                     tuple((str(name), int(port)) for name, port in text["ports"]))
    except FileNotFoundError:
        return None
    except (OSError,) + files.NONSENSE as error:
        raise AdministratorError("%s, which has the management flows of a secure bridge, cannot be read (%s)" % (
            paths.guard, error), "run `ovsxen update`, which finds them anew") from error


def forget_guard(paths: Paths, bridge: str) -> None:
    """The bridge has no flows of ours any more. Raises OSError."""
    try:
        remembered = read_guard(paths)
    except AdministratorError:
        remembered = None
    if remembered is None or remembered.bridge == bridge:
        files.remove_if_there(paths.guard)
