"""`ovsxen host-setup`: what the scriptlets of a package call. A host is made ready for the ovsxen that was put on it,
or given back as it was before.

INSTALL, UPGRADE and ERASE list the steps. Each may be repeated and none needs another: where one fails it is told, and
the rest is done all the same.
"""

import re
import sys
from typing import Iterator, Tuple

from ovsxen import divert, phases_offline, take_over
from ovsxen.errors import AdministratorError
from ovsxen.host import backend, bytecode, files
from ovsxen.host.assignments import read_text
from ovsxen.report import Outcome, Phase
from ovsxen.sequence import Host, Result, Run, Step, Warn, run_steps, take_setup_turn

SETTING = re.compile(r"#?([A-Z][A-Z0-9_]*)=")


def prepare_settings(run: Run) -> Result:
    """The administrator's file, made where there is none and else never edited: what is new in this version is told."""
    path, template = run.paths.sysconfig, run.paths.sysconfig_template
    try:
        newest = read_text(template)
    except FileNotFoundError:
        raise AdministratorError("%s is missing" % template, "reinstall the package that ovsxen is from") from None
    try:
        own = read_text(path)
    except FileNotFoundError:
        files.make_directory(path.parent, 0o755)
        files.write_file(path, [newest.encode("utf-8", "surrogateescape")])
        return Result(Outcome.DONE, "%s made, with every default as a comment" % path)
    unknown = find_new_settings(newest, own)
    if unknown:
        return Result(Outcome.UNCHANGED, "%s is left as it is. It does not mention %s: their defaults hold, and %s "
                      "explains them" % (path, ", ".join(unknown), template))
    return Result(Outcome.UNCHANGED, "%s mentions every setting that there is" % path)


def find_new_settings(template: str, own: str) -> Tuple[str, ...]:
    """The settings of a template whose names occur nowhere in the administrator's file, each once."""
    names = (found.group(1) for found in map(SETTING.match, template.splitlines()) if found)
    return tuple(dict.fromkeys(name for name in names if not re.search(r"\b%s\b" % name, own)))


def compile_package(run: Run) -> Result:
    """So that the next boot is not the first start."""
    library = run.paths.library
    if not library.is_dir():
        return Result(Outcome.SKIPPED, "%s is not there: this ovsxen came by another way" % library)
    if not bytecode.make(library):
        return Result(Outcome.DEGRADED, "not every module below %s could be compiled, so starts are slower: look "
                      "whether there is room, then run `ovsxen host-setup upgrade`" % library)
    return Result(Outcome.DONE, "%s compiled for this host's Python" % library)


def forget_bytecode(run: Run) -> Result:
    """Nothing else knows of it, so nothing else would remove it."""
    sys.dont_write_bytecode = True  # of what this process imports from here on
    bytecode.remove(run.paths.library)
    return Result(Outcome.DONE, "what Python had compiled below %s is gone" % run.paths.library)


def choose_vswitch(run: Run) -> Result:
    """A first installation is for hosts that want the switch."""
    why_not = backend.why_not_vswitch(run.paths)
    if why_not:
        return Result(Outcome.SKIPPED, "%s, so Open vSwitch is not enabled: write openvswitch into it, then run "
                      "`ovsxen host-setup install`" % why_not)
    return Result(Outcome.DONE, backend.choose_vswitch(run.paths))


def give_up_vswitch(run: Run) -> Result:
    """The next boot finds no Open vSwitch."""
    return Result(Outcome.DONE, backend.give_up_vswitch(run.paths))


def divert_plugin(run: Run) -> Result:
    """XAPI's own plugin resets the switch at each start of XAPI; one that nobody knows is left alone."""
    done = divert.divert(run.paths)
    if done.left_alone:
        return Result(Outcome.DEGRADED, done.text)
    return Result(Outcome.DONE if done.steps else Outcome.UNCHANGED, done.text)


def restore_plugin(run: Run) -> Result:
    """What XAPI's own package has brought is XAPI's again."""
    done = divert.restore(run.paths)
    if not done.steps:
        return Result(Outcome.UNCHANGED, "XAPI's own plugin was not diverted")
    return Result(Outcome.DONE, "; ".join(step.value for step in done.steps))


PREPARE = (
    Step("directories", phases_offline.make_lasting_directories),
    Step("settings", prepare_settings),
    Step("bytecode", compile_package),
    Step("plugin", divert_plugin),
)
INSTALL = PREPARE + (Step("backend", choose_vswitch),) + take_over.TAKE_OVER
UPGRADE = PREPARE + take_over.TAKE_OVER
ERASE = (Step("plugin", restore_plugin), Step("backend", give_up_vswitch)) + take_over.RELEASE + (
    Step("bytecode", forget_bytecode),)
"""A switch that runs is taken over, or let go, when all else is done: nothing of it is restarted, and the daemon that
watches it begins with what is there by then. What was compiled goes last, because every step before may import a module
more, which compiles it.
"""

SEQUENCES = {"install": INSTALL, "upgrade": UPGRADE, "erase": ERASE}


def set_up(host: Host, warn: Warn, word: str) -> Iterator[Phase]:
    """Make the host ready after an installation or an upgrade of the package, or before its erasure. Raises NoAnswer
    where another one does for too long.
    """
    with take_setup_turn(host.paths):
        yield from run_steps(Run(host, warn), SEQUENCES[word])
