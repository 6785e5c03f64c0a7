"""The kernel's part of the switch: is the module there, and what else is. modprobe.py loads it and takes it out.

VIF plugging takes /sys/module/openvswitch to mean that the switch is the host's backend: never load it in bridge mode.
"""

from typing import NamedTuple, Optional, Tuple

from ovsxen.host.paths import Paths

NAMES = ("openvswitch", "openvswitch_mod")
"""Today's name, then the one before Open vSwitch 1.5."""
UNSET = "(null)"
"""What the kernel shows for a text that has no value."""


class Module(NamedTuple):
    """A module that is in the kernel. `builtin`: it is part of the kernel image."""

    name: str
    builtin: bool


class KernelModules(NamedTuple):
    """What /proc and /sys say. `loadable`: this kernel can load modules at all."""

    present: Optional[Module]
    loadable: bool
    bridge_loaded: bool
    bridges: Tuple[str, ...]


class Use(NamedTuple):
    """What keeps a module in the kernel: how many references, and the modules that hold some of them."""

    references: int
    holders: Tuple[str, ...]

    def __str__(self) -> str:
        return "references: %d%s" % (self.references, ", held by %s" % ", ".join(self.holders) if self.holders else "")


def observe(paths: Paths, release: str) -> KernelModules:
    """Look, without changing anything. `release` is the running kernel's (uname -r)."""
    devices = sorted(entry.parent.name for entry in paths.sys_class_net.glob("*/bridge"))
    return KernelModules(_find_present(paths, release), paths.proc_modules.exists(),
                         (paths.sys_module / "bridge").exists(), tuple(devices))


def _find_present(paths: Paths, release: str) -> Optional[Module]:
    for name in NAMES:
        if (paths.sys_module / name).exists():
            return Module(name, _is_builtin(paths, release, name))
        if _is_builtin(paths, release, name):
            return Module(name, True)
    return None


def _is_builtin(paths: Paths, release: str, name: str) -> bool:
    """The kernel's own list of what is linked into it (kernel, Documentation/kbuild/kbuild.rst, modules.builtin)."""
    try:
        lines = (paths.lib_modules / release / "modules.builtin").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.rpartition("/")[2] == name + ".ko" for line in lines)


def read_parameters(paths: Paths, name: str) -> Tuple[Tuple[str, str], ...]:
    """The parameters that a loaded module shows, with values as modprobe takes them; not those that have none."""
    found = []
    for path in sorted((paths.sys_module / name / "parameters").glob("*")):
        try:
            value = path.read_text(errors="replace").rstrip("\n")
        except OSError:
            continue  # one that can only be written
        if value != UNSET and value.isprintable() and '"' not in value:
            found.append((path.name, value))
    return tuple(found)


def read_use(paths: Paths, name: str) -> Use:
    """What keeps a loaded module in the kernel."""
    module = paths.sys_module / name
    try:
        references = int((module / "refcnt").read_text())
    except (OSError, ValueError):
        references = 0
    return Use(references, tuple(sorted(path.name for path in (module / "holders").glob("*"))))
