"""Load the kernel module, or say why it cannot be loaded; take it out, or say what holds it.

The `bridge` module may stand in the way of an old one; it is removed only while it holds no bridge.
"""

import os
import re
from enum import Enum
from pathlib import Path
from typing import Tuple

from ovsxen.errors import AdministratorError, NotInstalled
from ovsxen.host import kmod, proc
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths

WITHIN_S = 30.0
UNUSED_WITHIN_S = 2.0
"""The kernel frees the last of a deleted datapath a while after it said that it is gone."""
RMMOD_EVERY_S = 0.2
PROGRAMS = ("modprobe", "rmmod")
CONF = ".conf"
VPORT = "vport_"
"""Each kind of tunnel is a module of its own, which uses openvswitch's."""

Parameters = Tuple[Tuple[str, str], ...]


class Cause(Enum):
    """Why a module cannot be loaded, and what to do about it."""

    NO_MODULE = "no such module for this kernel: install the package that holds openvswitch.ko for it"
    WRONG_KERNEL = "built for another kernel: install the modules of the running one, or boot the other one"
    SIGNATURE = "the kernel rejected its signature: install a module signed with a key that this kernel trusts"
    SYMBOL = "it needs a symbol that this kernel does not have: module and kernel do not fit, see `dmesg`"
    BLACKLIST = "it is blacklisted in %s: remove the entry and run `ovsxen load-kmod`"
    COMMAND_LINE = "the kernel was started with it blacklisted (%s): take module_blacklist= out of what the boot " \
                   "loader gives the kernel, and reboot"
    INSTALL_COMMAND = "modprobe runs another command in place of loading it, which failed: mend or remove the " \
                      "`install openvswitch` in %s and run `ovsxen load-kmod`"
    IN_THE_WAY = "the bridge module stands in its way and holds bridges: delete them, or boot in switch mode"
    OTHER = "see `dmesg`"


class ModuleRefused(AdministratorError):
    """The module cannot be loaded: `cause`, with modprobe's own words in the problem."""

    def __init__(self, cause: Cause, problem: str, where: str = "") -> None:
        super().__init__(problem, cause.value % where if "%s" in cause.value else cause.value)
        self.cause = cause


class ModuleStays(AdministratorError):
    """The module cannot be taken out of the kernel."""


def load(paths: Paths, release: str, parameters: Parameters = ()) -> str:
    """Load the module into a kernel that has none yet; says how. Raises ModuleRefused.

    As ovs-kmod-ctl (2.17) does: openvswitch, then bridge out of the way when it is empty, and once more. A kernel from
    3.11 on ignores parameters that the module does not know.
    """
    try:
        return _load_any_name(paths, release, parameters)
    except ModuleRefused as refused:
        modules = kmod.observe(paths, release)
        if refused.cause is not Cause.OTHER or not modules.bridge_loaded:
            raise
        if modules.bridges:
            raise ModuleRefused(Cause.IN_THE_WAY, "%s; bridges: %s" % (
                refused.problem, ", ".join(modules.bridges))) from refused
    removed = proc.run(("rmmod", "bridge"), WITHIN_S)
    if removed.returncode != 0:
        raise ModuleRefused(Cause.OTHER, "the bridge module is in the way and stays (rmmod: %s)" % removed.complaint)
    return _load_any_name(paths, release, parameters) + " after the empty bridge module was removed"


def _load_any_name(paths: Paths, release: str, parameters: Parameters) -> str:
    """Try each name; the first name's failure is the one that tells, since the old name is rarely there at all."""
    refusals = []
    for name in kmod.NAMES:
        tried = proc.run(("modprobe", name) + tuple("%s=%s" % parameter for parameter in parameters), WITHIN_S)
        if tried.returncode == 0 and kmod.observe(paths, release).present:
            return "loaded"
        said = tried.complaint if tried.returncode else "modprobe %s reports success, yet it is not there" % name
        blacklist = find_blacklist(paths)
        cause = classify(tried.stderr, blacklist, find_kernels_with_module(paths), release)
        refusals.append(ModuleRefused(cause, "the kernel module %s cannot be loaded into %s (%s)" % (
            name, release, said), blacklist or find_install_command(paths)))
    raise refusals[0]


def require_loadable(paths: Paths, release: str) -> None:
    """Raises ModuleRefused or NotInstalled for what can be known before the module that is loaded is given up."""
    for program in PROGRAMS:
        if proc.find_program(program) is None:
            raise NotInstalled("the program %s is not on this host" % program, "install the package kmod")
    kernels, blacklist = find_kernels_with_module(paths), find_blacklist(paths)
    if blacklist:
        raise ModuleRefused(_blacklisted(blacklist), "no openvswitch could be loaded after this one", blacklist)
    if release not in kernels:
        raise ModuleRefused(Cause.WRONG_KERNEL if kernels else Cause.NO_MODULE,
                            "there is no openvswitch.ko for the running kernel %s" % release)


def unload(paths: Paths, name: str) -> Tuple[str, ...]:
    """Take the module out, and before it those that are there for it alone; gives all that went. Raises ModuleStays."""
    went = tuple(holder for holder in kmod.read_use(paths, name).holders if holder.startswith(VPORT)) + (name,)
    for module in went:
        _rmmod(paths, module)
    return went


def _rmmod(paths: Paths, name: str) -> None:
    """`modprobe -r` would take other modules along. A module that is in use is tried again, for a while."""
    complaints = []

    def try_it() -> bool:
        tried = proc.run(("rmmod", name), WITHIN_S)
        if tried.returncode == 0 and not (paths.sys_module / name).exists():
            return True
        complaints.append(tried.complaint if tried.returncode else "rmmod reports success, yet it is there")
        return False

    if not Deadline(UNUSED_WITHIN_S).wait_until(try_it, RMMOD_EVERY_S):
        raise ModuleStays(
            "the kernel module %s stays (%s; %s)" % (name, complaints[-1], kmod.read_use(paths, name)),
            "see to what uses it, which may be a datapath in another network namespace, then do this again")


def classify(stderr: str, blacklist: str, kernels: Tuple[str, ...], release: str) -> Cause:
    """Why modprobe failed, from its words in the C locale (kmod 20 to 34), the blacklists and what is installed.

    Of a module that its index has and the disk has not, it says what it says of an unknown symbol.
    """
    if re.search(r"Key was rejected|Required key not available|signature|Loading of unsigned", stderr, re.IGNORECASE):
        return Cause.SIGNATURE
    if re.search(r"Unknown symbol|disagrees about version of symbol", stderr) and release in kernels:
        return Cause.SYMBOL
    if re.search(r"Exec format error|[Ii]nvalid module format", stderr):
        return Cause.WRONG_KERNEL
    runs_another = "install command" in stderr
    if re.search(r"not found|No such file|Unknown symbol", stderr) and not (runs_another and release in kernels):
        return Cause.WRONG_KERNEL if kernels and release not in kernels else Cause.NO_MODULE
    if blacklist:
        return _blacklisted(blacklist)
    return Cause.INSTALL_COMMAND if runs_another else Cause.OTHER


def _blacklisted(where: str) -> Cause:
    return Cause.BLACKLIST if where.endswith(CONF) else Cause.COMMAND_LINE


def find_blacklist(paths: Paths) -> str:
    """Where the module is kept from loading: a file of modprobe.d or the kernel's command line; empty when nowhere.

    A plain `blacklist` line does not count: it holds for aliases only, and modprobe is asked by name (modprobe.d(5)).
    """
    found = _find_in_modprobe_dirs(paths, r"^\s*install\s+openvswitch\s+\S*/(false|true)\b")
    if found:
        return found
    try:
        words = paths.kernel_command_line.read_text(errors="replace").split()
    except OSError:
        return ""
    lists = [word.partition("=")[2].split(",") for word in words if word.startswith("module_blacklist=")]
    return str(paths.kernel_command_line) if any("openvswitch" in names for names in lists) else ""


def find_install_command(paths: Paths) -> str:
    """The file of modprobe.d that has a command run in place of loading the module; empty when none has."""
    return _find_in_modprobe_dirs(paths, r"^\s*install\s+openvswitch\s")


def _find_in_modprobe_dirs(paths: Paths, line: str) -> str:
    for directory in paths.modprobe_dirs:
        for path in sorted(directory.glob("*" + CONF)):
            try:
                text = path.read_text(errors="replace")
            except OSError:
                continue
            if re.search(line, text, re.MULTILINE):
                return str(path)
    return ""


def find_kernels_with_module(paths: Paths) -> Tuple[str, ...]:
    """The kernel releases for which an openvswitch.ko is installed; a link that leads nowhere is none."""
    return tuple(sorted({path.parts[len(paths.lib_modules.parts)]
                         for path in _module_files(paths.lib_modules)}))


def _module_files(lib_modules: Path) -> Tuple[Path, ...]:
    return tuple(Path(directory) / name for directory, _, names in os.walk(str(lib_modules)) for name in names
                 if name.startswith("openvswitch.ko") and (Path(directory) / name).exists())
