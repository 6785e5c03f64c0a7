"""The house as docs/architecture.md shows it: imports point one way, and the map names every room."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, Set, Tuple

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "ovsxen"
MAY_IMPORT: Dict[str, Tuple[str, ...]] = {
    "host": ("errors", "host"),
    "ovs": ("errors", "host", "ovs"),
    "xapi": ("errors", "host", "xapi"),
    "sandbox": ("errors", "host", "ovs", "sandbox"),
    "plan_watch": ("ovs",),
    "watch_report": ("host", "ovs"),
    "log": ("host", "report"),
    "news": ("host", "log", "report", "sequence", "watch_report"),
    "observe": ("errors", "gate", "host", "ovs", "plan_watch", "report", "sequence"),
    "mend": ("boot", "errors", "host", "news", "ovs", "plan_watch", "report", "sequence", "upkeep"),
    "upkeep": ("errors", "ovs", "phases_offline", "phases_online", "report", "sequence"),
    "take_over": ("errors", "gate", "host", "ovs", "phases_offline", "phases_online", "reloading", "report",
                  "sequence"),
    "supervise": ("boot", "boot_record", "errors", "gate", "host", "late", "lifecycle", "log", "mend", "news",
                  "observe", "ovs", "plan_watch", "report", "sequence", "watch_report"),
    "gate": ("host", "report", "sequence"),
    "boots": ("host", "report"),
    "late": ("host", "ovs", "report", "sequence"),
    "boot_record": ("boots", "errors", "host", "news", "ovs", "report", "sequence"),
    "boot_look": ("boots", "errors", "host", "report", "sequence"),
    "boot_chart": ("boots", "host", "report"),
    "boot_chart_svg": ("boot_chart", "report"),
    "boot_chart_text": ("boot_chart", "report"),
    "boot": ("gate", "host", "phases_offline", "phases_online", "report", "sequence"),
    "phases_offline": ("errors", "host", "ovs", "phases_online", "report", "sequence"),
    "phases_online": ("errors", "host", "left_over", "ovs", "phases_offline", "plan_boot", "report", "sequence"),
    "left_over": ("errors", "host", "ovs", "report", "sequence"),
    "look": ("answer", "divert", "errors", "gate", "host", "ovs", "report", "sequence", "sync_report", "watch_report"),
    "versions": ("look", "ovs", "sequence"),
    "replace_kmod": ("errors", "gate", "host", "left_over", "ovs", "phases_online", "report", "restart", "sequence"),
    "host_setup": ("divert", "errors", "host", "phases_offline", "report", "sequence", "take_over"),
    "lifecycle": ("gate", "host", "ovs", "phases_offline", "report", "sequence"),
    "reloading": ("errors", "gate", "host", "ovs", "phases_offline", "phases_online", "report", "restart", "sequence"),
    "restart": ("boot", "errors", "gate", "host", "left_over", "lifecycle", "ovs", "phases_offline", "phases_online",
                "report", "sequence", "upkeep"),
    "plan_boot": ("ovs",),
    "plan": ("errors", "ovs", "plan_reset", "wishes", "xapi"),
    "plan_reset": ("ovs",),
    "answer": ("errors", "host"),
    "secure": ("errors", "host", "ovs", "plan_reset", "xapi"),
    "job": ("answer", "errors", "host", "ovs", "plan", "sequence", "xapi"),
    "trust": ("errors", "host", "job", "ovs", "plan", "sequence"),
    "guards": ("errors", "host", "job", "ovs", "plan", "plan_reset", "secure", "sequence", "xapi"),
    "emergency": ("answer", "errors", "gate", "host", "job", "ovs", "plan_reset", "sequence"),
    "update": ("answer", "errors", "gate", "guards", "host", "job", "ovs", "plan", "secure", "sequence", "trust",
               "wishes", "xapi"),
    "plugin": ("answer", "emergency", "errors", "host", "look", "sequence", "status", "update", "xapi"),
    "plan_sync": ("ovs", "wishes", "xapi"),
    "wishes": ("ovs", "xapi"),
    "questions": ("host", "xapi"),
    "agreeing": ("errors", "host", "ovs", "plan_sync", "sequence", "xapi"),
    "sync_report": ("errors", "ovs"),
    "sync": ("agreeing", "errors", "gate", "host", "log", "ovs", "plan_sync", "presence", "questions", "report",
             "sequence", "sync_report", "telling", "writing", "xapi"),
    "telling": ("host", "log", "ovs", "report", "sync_report"),
    "writing": ("host", "ovs"),
    "presence": ("errors", "host", "ovs", "sequence"),
    "report": ("host",),
    "sequence": ("errors", "host", "ovs", "report"),
    "status": ("answer", "look", "ovs", "plan_boot", "report", "sync_report", "watch_report"),
    "divert": ("errors", "host", "known_plugins", "sequence"),
    "known_plugins": (),
    "errors": (),
}
AHEAD = {("phases_offline", "phases_online")}
"""Imported for those who come later, while there is time; nothing of it is used."""

DOORS = {"subprocess": {"host/proc.py"}, "ovs": {"ovs/jsonrpc.py", "ovs/replica.py", "ovs/control.py"},
         "XenAPI": {"xapi/session.py"}, "tenacity": {"xapi/session.py"}, "systemd": {"host/notify.py"},
         "syslog": {"host/syslog.py"}}


def modules() -> Iterator[Path]:
    return PACKAGE.rglob("*.py")


def outside_the_sandbox() -> Iterator[Path]:
    return (path for path in modules() if "sandbox" not in path.relative_to(PACKAGE).parts)


def imported(path: Path) -> Set[str]:
    """The names of all modules that a file imports, wherever in it."""
    names: Set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update("%s.%s" % (node.module, alias.name) for alias in node.names)
    return names


def rooms(names: Set[str]) -> Set[str]:
    """The first room of the package that each of its modules is in."""
    return {name.split(".")[1] for name in names if name.startswith("ovsxen.")}


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_point_one_way(room: str) -> None:
    paths = list((PACKAGE / room).rglob("*.py")) or [PACKAGE / (room + ".py")]
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    for path in paths:
        assert rooms(imported(path)) & there <= set(MAY_IMPORT[room]), path


def in_circles(imports: Dict[str, Set[str]]) -> Set[str]:
    """What is left of the rooms when those go, again and again, that import none of the others or that none imports."""
    left = dict(imports)
    while True:
        wanted = {other for room in left for other in left[room] - {room}}
        ends = {room for room in left if room not in wanted or not (left[room] - {room}) & set(left)}
        if not ends:
            return set(left)
        left = {room: others for room, others in left.items() if room not in ends}


def test_no_rooms_import_each_other_in_a_circle_be_it_late_or_for_types_alone() -> None:
    imports: Dict[str, Set[str]] = {}
    for path in modules():
        room = path.relative_to(PACKAGE).parts[0].replace(".py", "")
        imports.setdefault(room, set()).update(rooms(imported(path)))
    for room, other in AHEAD:
        imports[room].remove(other)
    assert in_circles(imports) == set()


def test_a_circle_is_found() -> None:
    assert in_circles({"a": {"a", "b"}, "b": {"c"}, "c": {"d", "b"}, "d": set()}) == {"b", "c"}


def test_the_daemon_imports_nothing_of_xapi() -> None:
    code = ("import sys, ovsxen.cli, ovsxen.boot, ovsxen.supervise, ovsxen.restart, ovsxen.phases_online\n"
            "print([name for name in sys.modules if name.startswith(('ovsxen.xapi', 'XenAPI', 'tenacity', 'http'))])")
    assert subprocess.check_output([sys.executable, "-c", code], cwd=str(REPOSITORY)) == b"[]\n"


def test_only_the_cli_imports_the_sandbox() -> None:
    users = {path.name for path in outside_the_sandbox() if "sandbox" in rooms(imported(path))}
    assert users == {"cli.py"}


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_door_to_the_world_is_one_module(library: str) -> None:
    users = {str(path.relative_to(PACKAGE)) for path in outside_the_sandbox()
             if any(name.split(".")[0] == library for name in imported(path))}
    assert users == DOORS[library]


def test_only_the_cli_prints() -> None:
    printing = {path.name for path in modules() for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"}
    assert printing == {"cli.py"}


def test_the_map_names_every_module() -> None:
    shown = (REPOSITORY / "docs/architecture.md").read_text()
    missing = [path.name for path in outside_the_sandbox() if path.name not in shown and not path.name.startswith("__")]
    assert missing == []
