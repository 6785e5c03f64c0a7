"""The file of flows that a restart keeps, which outlives one that fails or is killed: the next start puts them back.

Its first line says which ovs-vswitchd has them, and which bridges they are of: while that one runs, nothing is lost.
Then comes a line for each bridge, with bytes of OpenFlow as hexadecimal digits.
"""

import json
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import files
from ovsxen.host.paths import Paths
from ovsxen.host.process import Process
from ovsxen.ovs.kept_flows import Kept

SCHEMA = 1
MESSAGES = Kept._fields[2:]
"""Of these a bridge has any number; before them come its name and the version."""


class Holder(NamedTuple):
    """An ovs-vswitchd, told apart from all others, also from those of other boots."""

    boot_id: str
    pid: int
    start_ticks: int


class KeptFile(NamedTuple):
    """What is written down: the flows, and who had them when they were saved."""

    holder: Holder
    kept: Tuple[Kept, ...]


def holder_of(boot_id: str, vswitchd: Optional[Process]) -> Holder:
    """`vswitchd` as it is now; None where none runs, or none that can be seen."""
    return Holder(boot_id, vswitchd.pid, vswitchd.start_ticks) if vswitchd else Holder(boot_id, 0, 0)


def write(paths: Paths, written: KeptFile) -> None:
    """Write it down in place of what was; nothing kept is no file. Raises OSError."""
    if written.kept:
        files.write_file(paths.kept_flows, _lines(written), 0o600, durable=False)
    else:
        forget(paths)


def forget(paths: Paths) -> None:
    """Raises OSError."""
    files.remove_if_there(paths.kept_flows)


def forget_unless_lost(paths: Paths, now: Holder) -> None:
    """What a restart wrote down that was killed before it stopped anything would come back as a surprise later.

    Raises OSError.
    """
    try:
        lost = find_lost(paths, now)
    except AdministratorError:
        return  # whoever is to put it back says so
    if not lost:
        forget(paths)


def read(paths: Paths) -> Optional[KeptFile]:
    """What is written down; None where there is no file. Raises AdministratorError for one that makes no sense."""
    try:
        with files.open_regular(paths.kept_flows) as stream:
            holder, bridges = _head_from(stream.readline())
            kept = tuple(_kept_from(json.loads(line.decode())) for line in stream)
        if tuple(one.bridge for one in kept) != bridges:
            raise ValueError("%d of %d bridges" % (len(kept), len(bridges)))
        return KeptFile(holder, kept)
    except FileNotFoundError:
        return None
    except (OSError,) + files.NONSENSE as error:
        raise _unreadable(paths, error) from error


def find_lost(paths: Paths, now: Holder) -> Tuple[str, ...]:
    """The bridges whose flows went with the ovs-vswitchd that had them. Raises AdministratorError as `read` does."""
    try:
        with files.open_regular(paths.kept_flows) as stream:
            holder, bridges = _head_from(stream.readline())
    except FileNotFoundError:
        return ()
    except (OSError,) + files.NONSENSE as error:
        raise _unreadable(paths, error) from error
    return bridges if is_lost(holder, now) else ()


def is_lost(holder: Holder, now: Holder) -> bool:
    """What `holder` had went with it. What another boot had is no loss: its bridges are gone too."""
    return holder.boot_id == now.boot_id and holder != now


def _lines(written: KeptFile) -> Iterator[bytes]:
    head = {"schema": SCHEMA, "holder": written.holder, "bridges": [one.bridge for one in written.kept]}
    yield json.dumps(head).encode() + b"\n"
    for one in written.kept:
        content: Dict[str, Any] = {name: [message.hex() for message in getattr(one, name)] for name in MESSAGES}
        yield json.dumps(dict(content, bridge=one.bridge, version=one.version)).encode() + b"\n"


def _head_from(line: bytes) -> Tuple[Holder, Tuple[str, ...]]:
    head = json.loads(line.decode())
    if head["schema"] != SCHEMA:
        raise ValueError("schema %s" % head["schema"])
    boot_id, pid, start_ticks = head["holder"]
    return Holder(str(boot_id), int(pid), int(start_ticks)), tuple(map(str, head["bridges"]))


def _kept_from(content: Dict[str, Any]) -> Kept:
    return Kept(str(content["bridge"]), int(content["version"]),
                *(tuple(bytes.fromhex(message) for message in content[name]) for name in MESSAGES))


def _unreadable(paths: Paths, error: Exception) -> AdministratorError:
    return AdministratorError("the flows kept in %s cannot be read (%s)" % (paths.kept_flows, error),
                              "have the controllers set their bridges up again, and remove the file")
