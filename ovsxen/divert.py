"""Which plugin XAPI runs: its own, of package xapi-core, or ovsxen's in its place; its own is kept meanwhile.

XAPI calls a file by its name, openvswitch-config-update, and for rpm that name is xapi-core's: an upgrade of xapi-core
renames its file over our link, an erase removes what lies there. So what is kept is current only while our link is in
place, and is never put over anything else. The name is never empty in between, and what is kept is on disk before.
"""

import os
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.host import files
from ovsxen.host.files import Identity
from ovsxen.host.paths import Paths
from ovsxen.known_plugins import KNOWN
from ovsxen.sequence import refused_by_system, take_plugin_turn

ATTEMPTS = 5
"""Each but the last may have met another program that put something at a name just then, such as rpm."""


class Lies(Enum):
    """What lies at a name."""

    NOTHING = "nothing"
    OUR_LINK = "ovsxen's link"
    FILE = "a file"
    LINK = "a link"
    OTHER = "neither a file nor a link"


class Entry(NamedTuple):
    """What lies at a name. `content`: of a file its SHA-256, of a link where it leads. `runs`: it can be executed."""

    lies: Lies
    content: str = ""
    identity: Optional[Identity] = None
    runs: bool = False

    @property
    def is_plugin(self) -> bool:
        """It is, or may be, a plugin of somebody else."""
        return self.lies in (Lies.FILE, Lies.LINK)


class Found(NamedTuple):
    """What XAPI calls, what is kept, whether ovsxen's own plugin can be run, and whether XAPI itself is there."""

    called: Entry
    kept: Entry
    own_runs: bool
    has_xapi: bool


class Change(Enum):
    """One change that is made as a whole or not at all; each leaves a plugin at the name where there was one."""

    KEEP = "XAPI's own plugin is kept"
    LINK = "XAPI's calls lead to ovsxen's plugin"
    PUT_BACK = "XAPI's own plugin is back in its place"
    FORGET = "what was kept is removed"
    UNLINK = "ovsxen's link is removed"


class Runs(Enum):
    """What XAPI gets when it calls the name."""

    OURS = "ours"
    ANOTHER = "another"
    NOTHING = "nothing"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        return {Runs.OURS: 0, Runs.NOTHING: 1, Runs.ANOTHER: 3, Runs.UNKNOWN: 4}[self]


class Diversion(NamedTuple):
    """What was done, and what is there now. `left_alone`: XAPI's plugin is one that was not to be touched unasked."""

    steps: Tuple[Change, ...]
    found: Found
    left_alone: bool = False

    @property
    def text(self) -> str:
        """One line: what XAPI runs now, and what to do where that is not ovsxen's."""
        return _describe_called(self.found)

    def as_json(self) -> Dict[str, Any]:
        found = self.found
        return {"runs": judge(found).value, "called": _entry_as_json(found.called), "kept": _entry_as_json(found.kept),
                "own_plugin_runs": found.own_runs, "left_alone": self.left_alone,
                "steps": [step.name.lower() for step in self.steps]}


def divert(paths: Paths, *, force: bool = False) -> Diversion:
    """Have XAPI run ovsxen's plugin; an unknown version of its own is only diverted by `force`, and left alone else.

    May be repeated, also after it was killed. Raises OvsxenError.
    """
    done = _settle(paths, lambda found: plan_divert(found, paths, force=force))
    return done._replace(left_alone=done.found.called.is_plugin)


def restore(paths: Paths) -> Diversion:
    """Have XAPI run its own plugin, the one that xapi-core brought last. May be repeated. Raises OvsxenError."""
    return _settle(paths, plan_restore)


def status(paths: Paths) -> Diversion:
    """What is there, with nothing done. Raises OSError."""
    return Diversion((), find(paths))


def warn_of_another(paths: Paths) -> Tuple[str, ...]:
    """That XAPI runs a plugin of its own, on a host on which a package has put ovsxen's; nothing where that is not so,
    or not to be known.
    """
    if not paths.diverted_plugin.parent.is_dir():
        return ()
    try:
        called = _look(paths.called_plugin)
        return (_describe_called(find(paths)),) if called.is_plugin else ()
    except OSError:
        return ()


def plan_divert(found: Found, paths: Paths, *, force: bool) -> Tuple[Change, ...]:
    """The steps to ovsxen's plugin; none where it is in place, or where XAPI's is unknown and nobody forces it."""
    if not found.own_runs:
        raise AdministratorError("ovsxen's own plugin %s is missing or not executable" % paths.own_plugin,
                                 "install ovsxen again; what XAPI runs was left as it is")
    called, kept = found.called, found.kept
    if called.lies is Lies.OUR_LINK:
        return ()
    if called.lies is Lies.NOTHING:
        return ((Change.FORGET,) if _is_of_a_package_that_is_gone(found) else ()) + (Change.LINK,)
    if called.lies is Lies.OTHER:
        raise AdministratorError("%s is %s" % (paths.called_plugin, called.lies.value),
                                 "move it away, then do it again")
    if not force and not _may_be_diverted(found):
        return ()
    if kept.lies is Lies.OTHER:
        raise AdministratorError("%s, where XAPI's own plugin is to be kept, is %s" % (
            paths.diverted_plugin, kept.lies.value), "move it away, then do it again")
    return (Change.LINK,) if kept.identity == called.identity else (Change.KEEP, Change.LINK)


def _may_be_diverted(found: Found) -> bool:
    """The version is known, or somebody has had this very one diverted before: it came again with a reinstallation."""
    return (found.called.lies is Lies.FILE and found.called.content in KNOWN
            or found.kept[:2] == found.called[:2])


def _is_of_a_package_that_is_gone(found: Found) -> bool:
    """With xapi-core its plugin's name went, and what we keep belongs to nothing any more. Where XAPI is still there,
    somebody has removed our link by hand, and what we keep is the only copy.
    """
    return found.called.lies is Lies.NOTHING and found.kept.is_plugin and not found.has_xapi


def plan_restore(found: Found) -> Tuple[Change, ...]:
    """The steps to what xapi-core brought last: what we keep, but only where nothing else came to lie at the name."""
    if not found.kept.is_plugin:
        return (Change.UNLINK,) if found.called.lies is Lies.OUR_LINK else ()
    if found.called.lies is Lies.OUR_LINK or (found.called.lies is Lies.NOTHING and found.has_xapi):
        return (Change.PUT_BACK, Change.FORGET)
    return (Change.FORGET,)


def find(paths: Paths) -> Found:
    """What is there. Raises OSError."""
    return Found(_look(paths.called_plugin), _look(paths.diverted_plugin), _runs(paths.own_plugin),
                 paths.xapi_program.exists())


def _look(path: Path) -> Entry:
    identity = files.identify(path)
    if identity is None:
        return Entry(Lies.NOTHING)
    if path.is_symlink():
        target = os.readlink(str(path))
        return Entry(Lies.OUR_LINK if _leads_to_ours(target) else Lies.LINK, target, identity, _runs(path))
    if path.is_file():
        return Entry(Lies.FILE, files.sha256(path), identity, _runs(path))
    return Entry(Lies.OTHER, "", identity)


def _leads_to_ours(target: str) -> bool:
    """By its words alone: a link to a plugin of ours that is gone is our link."""
    host = Paths(Path("/"), Path("/"))
    return os.path.normpath(str(host.plugins / target)) == str(host.own_plugin)


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(str(path), os.X_OK)


def _settle(paths: Paths, plan: Callable[[Found], Tuple[Change, ...]]) -> Diversion:
    """Look, plan, act, look again; all of it anew where somebody else changed something in between."""
    with take_plugin_turn(paths):
        try:
            for path in (paths.called_plugin, paths.diverted_plugin):
                files.remove_staged(path.parent, path.name)
            for _ in range(ATTEMPTS):
                found = find(paths)
                steps = plan(found)
                try:
                    for step in steps:
                        _ACTIONS[step](paths, found)
                except files.ChangedMeanwhile:
                    continue
                return Diversion(steps, find(paths))
        except OSError as error:
            raise refused_by_system("which plugin XAPI runs cannot be changed", error) from error
    raise NoAnswer("another program keeps changing %s" % paths.called_plugin, "when it has ended, do it again")


def _keep(paths: Paths, found: Found) -> None:
    def make(staged: Path) -> None:
        files.clone(paths.called_plugin, staged)
        files.expect(paths.called_plugin, found.called.identity)

    if files.make_directory(paths.diverted_plugin.parent, 0o755):
        files.sync_directory(paths.diverted_plugin.parent.parent)
    files.replace(paths.diverted_plugin, make, found.kept.identity)


def _link(paths: Paths, found: Found) -> None:
    files.replace(paths.called_plugin, lambda staged: os.symlink(paths.own_plugin.name, str(staged)),
                  found.called.identity)


def _put_back(paths: Paths, found: Found) -> None:
    files.replace(paths.called_plugin, lambda staged: files.clone(paths.diverted_plugin, staged), found.called.identity)


def _forget(paths: Paths, _found: Found) -> None:
    files.remove_if_there(paths.diverted_plugin)
    files.sync_directory(paths.diverted_plugin.parent)


def _unlink(paths: Paths, found: Found) -> None:
    files.expect(paths.called_plugin, found.called.identity)
    files.remove_if_there(paths.called_plugin)
    files.sync_directory(paths.plugins)


_ACTIONS: Dict[Change, Callable[[Paths, Found], None]] = {
    Change.KEEP: _keep, Change.LINK: _link, Change.PUT_BACK: _put_back, Change.FORGET: _forget, Change.UNLINK: _unlink}


def judge(found: Found) -> Runs:
    """What XAPI gets."""
    if found.called.lies is Lies.OUR_LINK:
        return Runs.OURS if found.own_runs else Runs.NOTHING
    return Runs.ANOTHER if found.called.runs else Runs.NOTHING


def as_text(found: Found, paths: Paths) -> str:
    """What XAPI runs and what is kept, a line each."""
    kept = _describe_kept(found)
    return _describe_called(found) + ("\nkept as %s: %s" % (paths.diverted_plugin, kept) if kept else "")


def _describe_called(found: Found) -> str:
    """One line: what XAPI gets when it calls the name, and what to do where that is not ovsxen's plugin."""
    called = found.called
    if called.lies is Lies.OUR_LINK:
        return ("XAPI runs ovsxen's plugin as openvswitch-config-update" if found.own_runs else
                "XAPI has nothing to run as openvswitch-config-update: it leads to ovsxen's plugin, which is missing "
                "or not executable: install ovsxen again, or `ovsxen plugin restore`")
    if called.lies is Lies.NOTHING:
        return "XAPI has no plugin openvswitch-config-update: `ovsxen plugin divert` gives it ovsxen's"
    if called.lies is Lies.OTHER:
        return "XAPI has no plugin openvswitch-config-update but %s of that name: move it away" % called.lies.value
    can_be_diverted = _may_be_diverted(found)
    return "XAPI %s openvswitch-config-update%s: %s; `ovsxen plugin divert%s` has it run ovsxen's" % (
        "runs its own plugin" if called.runs else "cannot execute its own plugin",
        "" if can_be_diverted else ", which is left alone", _name(called), "" if can_be_diverted else " --force")


def _describe_kept(found: Found) -> str:
    """What is kept, and whether it is of use; "" for nothing."""
    if found.kept.lies is Lies.NOTHING:
        return ""
    return _name(found.kept) + ("" if not found.called.is_plugin else
                                "; xapi-core has brought another since, so this is not put back")


def _name(entry: Entry) -> str:
    """What it is, as far as that is known."""
    if entry.lies is not Lies.FILE:
        return "%s to %s" % (entry.lies.value, entry.content) if entry.content else entry.lies.value
    version = KNOWN.get(entry.content)
    return "SHA-256 %s, %s" % (entry.content, "that of %s: %s" % version if version else
                               "a version that ovsxen does not know")


def _entry_as_json(entry: Entry) -> Dict[str, Any]:
    version = KNOWN.get(entry.content)
    return {"is": entry.lies.name.lower(), "content": entry.content, "known_as": version.of if version else ""}
