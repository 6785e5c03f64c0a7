"""A host's plugins in a directory, as xapi-core, rpm, people and ovsxen change them, and what must hold meanwhile."""

import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from ovsxen import divert
from ovsxen.divert import Diversion
from ovsxen.host import files
from ovsxen.host.paths import Paths, paths_under
from ovsxen.known_plugins import Version

OWN, FIRST, SECOND, STRANGE, BY_HAND = "own", "first", "second", "strange", "by hand"
KNOWN_HERE = {sha256(text.encode()).hexdigest(): Version("xapi " + text, "it is a test") for text in (FIRST, SECOND)}
MODE = 0o751
MTIME_NS = 1234567890123456789
OWNER = (12, 34)
"""Of a plugin as xapi-core brings it; unusual, so that what does not keep them shows."""


class Brought(NamedTuple):
    """What lies at the name by right: what was put there last, and whether xapi-core, with XAPI itself, is there."""

    text: Optional[str]
    has_xapi: bool


class Plugins:
    """The plugins of a host in a directory."""

    def __init__(self, root: Path) -> None:
        self.paths: Paths = paths_under(root, {})
        self.paths.plugins.mkdir(parents=True)
        self.paths.xapi_program.parent.mkdir(parents=True)
        self.put(self.paths.own_plugin, OWN)
        self.brought = Brought(None, False)

    def put(self, path: Path, text: str) -> None:
        """As rpm does: under another name, then renamed over what is there."""
        new = path.parent / (path.name + ";5f3759df")
        new.write_text(text)
        new.chmod(MODE)
        if os.geteuid() == 0:
            os.chown(str(new), OWNER[0], OWNER[1])
        os.utime(str(new), ns=(MTIME_NS, MTIME_NS))
        os.rename(str(new), str(path))

    def install_core(self, text: str) -> None:
        """An installation, an upgrade, a downgrade: to rpm they are the same."""
        self.put(self.paths.called_plugin, text)
        self.paths.xapi_program.write_text("xapi")
        self.brought = Brought(text, True)

    def erase_core(self) -> None:
        """Rpm removes what lies at the names of its files, whatever it is."""
        if self.brought.has_xapi:
            files.remove_if_there(self.paths.called_plugin)
            files.remove_if_there(self.paths.xapi_program)
            self.brought = Brought(None, False)

    def remove_by_hand(self) -> None:
        """What is kept is then all there is; without XAPI it looks like an erase."""
        self.brought = Brought(self.keeps() or None if self.brought.has_xapi else None, self.brought.has_xapi)
        files.remove_if_there(self.paths.called_plugin)

    def put_by_hand(self) -> None:
        self.put(self.paths.called_plugin, BY_HAND)
        self.brought = Brought(BY_HAND, self.brought.has_xapi)

    def divert(self, force: bool = False) -> Diversion:
        return divert.divert(self.paths, force=force)

    def restore(self) -> Diversion:
        return divert.restore(self.paths)

    def calls(self) -> str:
        """What XAPI gets: the text of a plugin, or "" where nothing can be executed."""
        path = self.paths.called_plugin
        return path.read_text() if os.access(str(path), os.X_OK) and path.is_file() else ""

    def keeps(self) -> str:
        return self.paths.diverted_plugin.read_text() if self.paths.diverted_plugin.exists() else ""

    def state(self) -> Tuple[object, ...]:
        """All that what happens next depends on."""
        same = files.identify(self.paths.called_plugin) == files.identify(self.paths.diverted_plugin)
        return (self.calls(), self.paths.called_plugin.is_symlink(), self.keeps(), same, self.brought)

    def leftovers(self) -> Tuple[str, ...]:
        return tuple(path.name for path in self.paths.root.rglob("*") if path.name.endswith((".staged", ";5f3759df")))


EVENTS: Dict[str, Callable[[Plugins], object]] = {
    "xapi-core with a known plugin": lambda plugins: plugins.install_core(FIRST),
    "xapi-core with another known plugin": lambda plugins: plugins.install_core(SECOND),
    "xapi-core with an unknown plugin": lambda plugins: plugins.install_core(STRANGE),
    "xapi-core erased": Plugins.erase_core,
    "the name removed by hand": Plugins.remove_by_hand,
    "a plugin put there by hand": Plugins.put_by_hand,
    "divert": Plugins.divert,
    "divert --force": lambda plugins: plugins.divert(force=True),
    "restore": Plugins.restore,
}


def assert_nothing_is_lost(plugins: Plugins) -> None:
    """What was brought last is there, and XAPI can run something wherever something was brought."""
    text = plugins.brought.text
    if text is None:
        return
    if text not in (plugins.calls(), plugins.keeps()):
        raise AssertionError("%s is lost: %r" % (text, plugins.state()))
    if plugins.calls() == "" and not _is_empty_by_hand(plugins):
        raise AssertionError("XAPI has nothing to run: %r" % (plugins.state(),))


def _is_empty_by_hand(plugins: Plugins) -> bool:
    """Somebody has removed our link, and xapi-core's plugin is kept."""
    return plugins.keeps() == plugins.brought.text and not os.path.lexists(str(plugins.paths.called_plugin))


def assert_as_xapi_core_brought_it(path: Path) -> None:
    """Mode, owner and time of the file are those that rpm gave it."""
    found = os.lstat(str(path))
    owner = OWNER if os.geteuid() == 0 else (found.st_uid, found.st_gid)
    wanted = (MODE, MTIME_NS, 1) + owner
    if (found.st_mode & 0o7777, found.st_mtime_ns, found.st_nlink, found.st_uid, found.st_gid) != wanted:
        raise AssertionError("%s is not as it was: %s" % (path, found))


def after(root: Path, events: Tuple[str, ...]) -> Plugins:
    """A host on which all this has happened."""
    shutil.rmtree(str(root), ignore_errors=True)
    plugins = Plugins(root)
    for event in events:
        EVENTS[event](plugins)
    return plugins
