"""The one door to ovsdb-tool: its command lines, how long it may take, and what its failures mean."""

from pathlib import Path
from typing import Tuple

from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.host import proc

DATABASE = "Open_vSwitch"
WITHIN_S = 10.0
BYTES_PER_S = 2 << 20
"""What ovsdb-tool and ovsdb-server handle at least on a slow host: 7 MB/s were measured where 100 MB took 15 s."""


def allowance_s(size_bytes: int) -> float:
    """What a database of that size may take longer than an empty one, for ovsdb-tool and for the server's start."""
    return size_bytes / BYTES_PER_S


def argv(*arguments: str) -> Tuple[str, ...]:
    """A command line that logs nowhere: what it has to say is on stdout and stderr."""
    return ("ovsdb-tool", "-vconsole:off", "-vsyslog:off") + arguments


def ask_conversion(path: Path, schema: Path) -> str:
    """Whether a database file has another schema than the one in the file `schema`: "yes", "no", or what the tool
    complained about.
    """
    try:
        answer = proc.run(argv("needs-conversion", str(path), str(schema)), WITHIN_S + allowance_s(path.stat().st_size))
    except NoAnswer as error:
        return str(error)
    return answer.stdout.strip() if answer.returncode == 0 else "ovsdb-tool needs-conversion: %s" % answer.complaint


def query(path: Path, transaction: str, size_bytes: int) -> str:
    """The results, as JSON, of a transaction that only reads, on a file that no server needs to have open.

    Raises AdministratorError, NoAnswer.
    """
    return _run(("query", str(path), transaction), size_bytes)


def find_refusal(path: Path, size_bytes: int) -> str:
    """What ovsdb-tool has against a record that passed its check; "" when it takes the whole file. Raises NoAnswer."""
    try:
        query(path, '["%s"]' % DATABASE, size_bytes)
    except AdministratorError as error:
        return error.problem
    return ""


def create(path: Path, schema: Path) -> None:
    """Make a database. Raises AdministratorError, NoAnswer."""
    _run(("create", str(path), str(schema)), 0)


def compact(path: Path, target: Path, size_bytes: int) -> None:
    """Write a compacted copy. Raises AdministratorError, NoAnswer."""
    _run(("compact", str(path), str(target)), size_bytes)


def convert(path: Path, schema: Path, target: Path, size_bytes: int) -> None:
    """Write a copy with another schema. Raises AdministratorError, NoAnswer."""
    _run(("convert", str(path), str(schema), str(target)), size_bytes)


def is_readable(path: Path) -> bool:
    """A file is a database that it can read. Raises NoAnswer."""
    return proc.run(argv("db-version", str(path)), WITHIN_S).returncode == 0


def _run(arguments: Tuple[str, ...], size_bytes: int) -> str:
    done = proc.run(argv(*arguments), WITHIN_S + allowance_s(size_bytes))
    if done.returncode != 0:
        remedy = "reinstall Open vSwitch" if done.died_of else "look at %s and at the space beside it" % arguments[1]
        raise AdministratorError("ovsdb-tool %s failed (%s)" % (arguments[0], done.complaint), remedy)
    return done.stdout
