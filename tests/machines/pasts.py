"""Hosts that have been up before: conf.db as its last boot left it, in a layer for a world, with a schema of choice."""

import json
import shutil
import tempfile
from pathlib import Path

from ovsxen.host.paths import Paths
from ovsxen.sandbox import contents

STALE_BRIDGES = 40
OLDER, WITHOUT = "8.2.0", "rstp_enable"


def put_past(layer: Path, schema: Path) -> None:
    """Put a conf.db of this schema into a layer: stale bridges, a manager, SSL and the id of another boot."""
    scratch = Path(tempfile.mkdtemp(prefix="oxp-", dir="/tmp"))
    try:
        paths = Paths(scratch, schema.parent)
        paths.dbdir.mkdir(parents=True)
        contents.make_conf_db(paths, STALE_BRIDGES)
        (layer / "etc/openvswitch").mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(paths.conf_db), str(layer / "etc/openvswitch"))
    finally:
        shutil.rmtree(str(scratch))


def write_older_schema(schema: Path, older: Path) -> Path:
    """An older version of a schema, which lacks a column of bridges; it lies in the directory `older`."""
    content = json.loads(schema.read_text())
    content.update(version=OLDER, cksum="1 2")
    del content["tables"]["Bridge"]["columns"][WITHOUT]
    older.mkdir()
    (older / schema.name).write_text(json.dumps(content))
    return older / schema.name
