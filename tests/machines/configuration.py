"""What conf.db configures, as a value, read by Open vSwitch's own tool from a file that no server has open; and whether
files of ours are whole. Nothing here goes by ovsxen's own word.
"""

import hashlib
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

BOOT_ID = "ovsxen-boot-id"
IDENTITY_KEYS = {"system-id", "xs-system-uuid", "rundir", BOOT_ID}
"""What the one transaction of a boot sets together with its purge."""

LOCK_FILE = re.compile(r"\..*\.~lock~")
"""Open vSwitch's: it is locked, and always empty."""

STAGED = re.compile(r"\.{1,2}.*\.\d+\.staged.*|conf\.db\.tmp")
"""What has not become a file of ours yet. It may be torn, and nobody reads it."""

ASIDE = re.compile(r"conf\.db\.aside-.*")
"""A conf.db that was not whole, kept as it was found."""

DATABASE = re.compile(r"conf\.db(\.(good|live)-.*)?")
TOOL_WITHIN_S = 60
Map = Tuple[Tuple[str, str], ...]


class Bridge(NamedTuple):
    """A bridge with the names of its ports."""

    name: str
    fail_mode: str
    other_config: Map
    external_ids: Map
    ports: Tuple[str, ...]


class Configuration(NamedTuple):
    """All that a database configures. `row`: it has its Open_vSwitch row."""

    schema: str
    row: bool
    external_ids: Map
    other_config: Map
    managers: Tuple[str, ...]
    ssl: Tuple[str, ...]
    bridges: Tuple[Bridge, ...]

    @property
    def boot_id(self) -> str:
        return dict(self.external_ids).get(BOOT_ID, "")

    def describe(self) -> str:
        """For a table."""
        return "schema %s, boot %s, manager %s, bridges %s" % (
            self.schema, self.boot_id[:8] or "none", ", ".join(self.managers) or "none",
            " ".join("%s(%s)" % (bridge.name, bridge.fail_mode) for bridge in self.bridges[:4])
            + (" and %d more" % (len(self.bridges) - 4) if len(self.bridges) > 4 else "") or "none")


def read_configuration(conf_db: Path) -> Optional[Configuration]:
    """None where there is no file. Of one whose end is torn, what its good part configures."""
    if not conf_db.exists():
        return None
    with tempfile.TemporaryDirectory(prefix="good-", dir=str(conf_db.parent)) as directory:
        good = Path(directory) / conf_db.name
        good.write_bytes(good_part(conf_db.read_bytes()))
        return _read_configuration(good)


def good_part(content: bytes) -> bytes:
    """The records up to the first that is not whole: "OVSDB JSON length sha1", a line end, and that many bytes."""
    end = 0
    while True:
        header = re.compile(rb"OVSDB JSON (\d+) ([0-9a-f]{40})\n").match(content, end)
        if header is None:
            return content[:end]
        body = content[header.end():header.end() + int(header.group(1))]
        if hashlib.sha1(body).hexdigest().encode() != header.group(2):
            return content[:end]
        end = header.end() + len(body)


def _read_configuration(conf_db: Path) -> Configuration:
    schema = _tool("db-version", str(conf_db)).strip()
    tables = ("Open_vSwitch", "Manager", "SSL", "Bridge", "Port")
    asked = ["Open_vSwitch"] + [{"op": "select", "table": table, "where": []} for table in tables]
    answers = json.loads(_tool("query", str(conf_db), json.dumps(asked)))
    rows = dict(zip(tables, (answer["rows"] for answer in answers)))
    row: Dict[str, Any] = rows["Open_vSwitch"][0] if rows["Open_vSwitch"] else {}
    ports = {port["_uuid"][1]: port["name"] for port in rows["Port"]}
    bridges = tuple(sorted(_bridge(bridge, ports) for bridge in rows["Bridge"]))
    return Configuration(schema, bool(row), _map(row.get("external_ids")), _map(row.get("other_config")),
                         tuple(sorted(manager["target"] for manager in rows["Manager"])),
                         tuple(sorted(ssl["ca_cert"] for ssl in rows["SSL"])), bridges)


def _bridge(row: Dict[str, Any], ports: Dict[str, str]) -> Bridge:
    return Bridge(row["name"], "".join(_set(row["fail_mode"])), _map(row["other_config"]), _map(row["external_ids"]),
                  tuple(sorted(ports[uuid[1]] for uuid in _set(row["ports"]))))


def _set(value: Any) -> List[Any]:
    return value[1] if isinstance(value, list) and value[0] == "set" else [value]


def _map(value: Any) -> Map:
    return tuple(sorted((key, text) for key, text in value[1])) if value else ()


def _tool(*arguments: str) -> str:
    done = subprocess.run(("ovsdb-tool", "-vconsole:off", "-vsyslog:off") + arguments, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                          timeout=TOOL_WITHIN_S)
    assert done.returncode == 0, "ovsdb-tool %s: %s" % (" ".join(arguments), done.stderr)
    return done.stdout


class Torn(NamedTuple):
    """A file that is empty or torn, by its path on the host, and what says so."""

    path: str
    problem: str


def find_torn(root: Path) -> Tuple[Torn, ...]:
    """Among the files of a host that lie below `root`."""
    found = (Torn("/%s" % path.relative_to(root), _problem(path)) for path in _files(root)
             if not any(other.fullmatch(path.name) for other in (LOCK_FILE, STAGED, ASIDE)))
    return tuple(sorted(torn for torn in found if torn.problem))


def is_of_update(staged: str) -> bool:
    """What an update had staged goes with the next update, not with a boot: XAPI runs that in its own start."""
    return "/.reset-" in staged


def find_staged(root: Path) -> Tuple[str, ...]:
    """What was about to become a file of ours."""
    return tuple(sorted("/%s" % path.relative_to(root) for path in _files(root) if STAGED.fullmatch(path.name)))


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def _problem(path: Path) -> str:
    content = path.read_bytes()
    if not content:
        return "empty"
    if DATABASE.fullmatch(path.name):
        return _database_problem(path)
    if b"\0" in content:
        return "has NUL bytes"
    if path.suffix in (".json", ".undone"):
        try:
            json.loads(content.decode())
        except ValueError as error:
            return "no JSON (%s)" % error
    elif not content.endswith(b"\n"):
        return "has no last line end"
    return ""


def _database_problem(path: Path) -> str:
    """show-log reads every record with its checksum; query replays them."""
    for arguments in (("show-log", str(path)), ("query", str(path), '["Open_vSwitch"]')):
        done = subprocess.run(("ovsdb-tool", "-vsyslog:off") + arguments, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                              timeout=TOOL_WITHIN_S)
        if done.returncode != 0 or done.stderr:
            complaint = done.stderr.strip().replace(str(path), path.name) or "exit code %d" % done.returncode
            return "ovsdb-tool %s: %s" % (arguments[0], complaint)
    return ""
