"""The kernel's part of the switch: is the module there, and what else is. modprobe.py loads it.

VIF plugging takes /sys/module/openvswitch to mean that the switch is the host's backend: never load it in bridge mode.
"""

from typing import NamedTuple, Optional, Tuple

from ovsxen.host.paths import Paths

NAMES = ("openvswitch", "openvswitch_mod")
"""Today's name, then the one before Open vSwitch 1.5."""


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
