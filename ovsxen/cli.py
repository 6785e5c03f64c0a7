"""A verb → a function → an exit code. The only module that prints; everything said here is also in a value.

What costs time to import is imported by the verb that needs it.
"""

import argparse
import errno
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Callable, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Tuple

from ovsxen import __version__
from ovsxen.errors import EXIT_FAILED, EXIT_OK, OvsxenError, UsageError
from ovsxen.host.paths import paths_under
from ovsxen.host.settings import read_settings
from ovsxen.report import Outcome, Phase, printable
from ovsxen.sequence import Host, Warn, explain, refused_by_system

if TYPE_CHECKING:
    from ovsxen.answer import Answer
    from ovsxen.log import Log

SEQUENCE_SCHEMA = 1
ANSWER_SCHEMA = 1
PLUGIN_SCHEMA = 1
DEFAULT_STALE_BRIDGES = 3
HELP_WIDTH = 100  # given, because finding out the terminal's costs every boot 2 ms
LINE_CHARACTERS = 1000
"""In UTF-8 never more than a pipe that takes anything takes whole (pipe(7), PIPE_BUF)."""

OLD_SPELLINGS = {"--save-flows=yes": "--save-flows"}
"""What the old init script took."""

OPTIONS = ("argument", "json", "dry_run", "detach", "flush", "stop", "undo", "save_flows", "ha", "stale_bridges",
           "force", "output", "command")
NAMES = {"argument": "argument", "command": "command after --"}


class Verb(NamedTuple):
    """What a verb is for, the options and arguments that it takes, the function that it is, and the words of which it
    needs one as its argument, if any.
    """

    help: str
    takes: Tuple[str, ...]
    run: Callable[[argparse.Namespace], int]
    words: Tuple[str, ...] = ()

    @property
    def help_with_words(self) -> str:
        return "%s: %s" % ("|".join(self.words), self.help) if self.words else self.help


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command line; gives the exit code (errors.py, and status.py for `status`)."""
    os.umask(0o022)
    before, command = _split_command(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    options = parser.parse_args([OLD_SPELLINGS.get(word, word) for word in before])
    options.command = command
    wrong = _misused(options)
    if wrong:
        parser.error(wrong)
    try:
        return int(VERBS[options.verb].run(options))
    except KeyboardInterrupt:
        warn("interrupted: run `ovsxen %s` again" % options.verb)
        return EXIT_FAILED
    except Exception as raised:
        error = explain(raised, "ovsxen %s could not go on" % options.verb)
        warn(str(error))
        return error.exit_code


def run_and_end() -> NoReturn:
    """`main` as a whole process, which ends at once: tidying the interpreter up costs a tenth of a small boot."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # AttributeError: it was closed before we began, and is None
            pass
    os._exit(code)


def _split_command(arguments: List[str]) -> Tuple[List[str], List[str]]:
    """What comes before `--`, and the command after it, which argparse must not touch."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1:]


def build_parser() -> argparse.ArgumentParser:
    """The command line as README.md describes it. One parser: one for each verb would double its cost in every boot."""
    width = max(len(name) for name in VERBS)
    parser = argparse.ArgumentParser(
        prog="ovsxen", usage="ovsxen [--root DIR] VERB [OPTION...]",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=HELP_WIDTH),
        description="Boots Open vSwitch on a XenServer or XCP-ng host, makes it agree with XAPI, and tells the truth.",
        epilog="\n".join(["verbs:"] + ["  %-*s  %s" % (width, name, verb.help_with_words)
                                       for name, verb in VERBS.items()]))
    parser.add_argument("--root", default=os.environ.get("OVSXEN_ROOT", "/"), metavar="DIR",
                        help="the host's file system starts here (default: OVSXEN_ROOT, else /)")
    parser.add_argument("verb", metavar="VERB", choices=list(VERBS), help="what to do, see below")
    parser.add_argument("argument", nargs="?", metavar="ARGUMENT",
                        help="where sandbox makes its host; which of its words a verb that has words is to do")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and why; change nothing")
    parser.add_argument("--detach", action="store_true",
                        help="go on in the background; return when the switch is up (sync: when it answers)")
    parser.add_argument("--flush", action="store_true", help="have the sync that runs ask XAPI for everything anew")
    parser.add_argument("--stop", action="store_true", help="end the sync that runs, and wait for its end")
    parser.add_argument("--undo", action="store_true", help="bring back what the last reset cleared")
    parser.add_argument("--save-flows", action="store_true", help="keep flows, groups and meters over a restart")
    parser.add_argument("--ha", choices=("restart",),
                        help="stop the HA daemon around force-reload-kmod, and start it again")
    parser.add_argument("--force", action="store_true", help="divert a plugin of XAPI's whatever it is")
    parser.add_argument("-o", "--output", metavar="FILE",
                        help="draw the boot-chart as SVG into FILE; - is the standard output")
    parser.add_argument("--stale-bridges", type=int, metavar="N", help="bridges of a sandbox's last boot (default: 3)")
    return parser


def _misused(options: argparse.Namespace) -> str:
    """What was given to a verb that does not take it, or not given to one that needs it; "" when nothing."""
    verb = VERBS[options.verb]
    takes = verb.takes + (("argument",) if verb.words else ())
    for name in OPTIONS:
        if getattr(options, name) not in (None, False, []) and name not in takes:
            return "%s takes no %s" % (options.verb, NAMES.get(name, "--" + name.replace("_", "-")))
    if options.verb == "sync" and options.detach + options.flush + options.stop > 1:
        return "sync takes one of --detach, --flush and --stop"
    if verb.words and options.argument not in verb.words:
        return "%s needs one of %s" % (options.verb, ", ".join(verb.words))
    if options.force and options.argument != "divert":
        return "%s %s takes no --force" % (options.verb, options.argument)
    return "sandbox needs a directory" if "argument" in takes and not options.argument else ""


def warn(text: str) -> None:
    """One line to whoever reads stderr. An output that is gone or full never changes what is done."""
    _print("ovsxen: %s" % text, sys.stderr)


def _print(text: str, stream: Any) -> None:
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python fails at its end for the same reason


def find_host(options: argparse.Namespace) -> Host:
    """The host that the command line names. Raises UsageError where there is none."""
    if not os.path.isdir(options.root):
        raise UsageError("the root %s is not a directory" % (options.root or "(an empty name)"), "check --root")
    paths = paths_under(Path(options.root), os.environ)
    return Host(paths, read_settings(paths))


def run_sequence(options: argparse.Namespace) -> int:
    """Run a sequence of phases, printing each as it ends, or all of them as one JSON object."""
    warnings: List[str] = []
    as_json = options.json

    def note(text: str) -> None:
        warnings.append(text)
        if not as_json:
            warn("warning: %s" % text)

    phases: List[Phase] = []
    error: Optional[OvsxenError] = None
    try:
        for phase in _sequence(options, find_host(options), note):
            phases.append(phase)
            if not as_json:
                _print_phase(phase)
    except OvsxenError as raised:
        error = raised
    failed = [phase.exit_code for phase in phases if phase.outcome is Outcome.FAILED]
    exit_code = error.exit_code if error else failed[0] if failed else EXIT_OK
    if as_json:
        _print_json({"schema": SEQUENCE_SCHEMA, "verb": options.verb, "exit_code": exit_code,
                     "error": str(error) if error else "", "phases": [phase.as_json() for phase in phases],
                     "warnings": warnings})
    elif error:
        raise error
    return exit_code


def _sequence(options: argparse.Namespace, host: Host, note: Warn) -> Iterator[Phase]:
    if options.verb == "start":
        from ovsxen import boot
        return boot.start(host, note, dry_run=options.dry_run)
    if options.verb == "force-reload-kmod":
        from ovsxen.replace_kmod import force_reload_kmod
        return force_reload_kmod(host, note, restart_ha=options.ha == "restart")
    if options.verb == "restart":
        from ovsxen.restart import restart
        return restart(host, note, keep_flows=options.save_flows)
    if options.verb in ("reload", "force-reload"):
        from ovsxen.reloading import reload
        return reload(host, note)
    if options.verb == "host-setup":
        from ovsxen.host_setup import set_up
        return set_up(host, note, options.argument)
    from ovsxen import lifecycle
    return {"stop": lifecycle.stop, "load-kmod": lifecycle.load_kmod}[options.verb](host, note)


def run_daemon(options: argparse.Namespace) -> int:
    """Boot the switch, then watch and mend it, until it is stopped."""
    from ovsxen import supervise
    from ovsxen.host import detach, notify
    detach.open_standard_streams()
    host = find_host(options)
    ended = supervise.supervise(host, notify.open_notifier(), _daemon_log(), in_background=options.detach)
    if ended.anew:
        detach.run_anew(host.paths.root)
    return ended.code


def run_sync(options: argparse.Namespace) -> int:
    """Keep the external_ids that controllers look for, until it is stopped; or speak to the sync that does."""
    # Three libraries below import ssl where there is one. All sockets of a sync are Unix sockets, and this is 4 MiB.
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    from ovsxen import sync
    from ovsxen.host import detach, notify
    host = find_host(options)
    if options.stop:
        sync.stop(host)
        return EXIT_OK
    if options.flush:
        if not sync.flush(host, host.settings.answer_timeout_s):
            _print("no ovs-xapi-sync runs", sys.stdout)
        return EXIT_OK
    detach.open_standard_streams()
    return sync.sync(host, notify.open_notifier(), _daemon_log(), in_background=options.detach)


def _daemon_log() -> "Log":
    """To stdout and stderr, as far as they are taken."""
    from ovsxen.log import Log

    def say(text: str) -> None:
        _print_if_taken(text, sys.stdout)

    return Log(lambda phase: say(phase.as_text()), say,
               lambda text: _print_if_taken("ovsxen: warning: %s" % text, sys.stderr))


def _print_if_taken(text: str, stream: Any) -> None:
    """A line that nobody takes is lost: a daemon must not wait for who reads its output, a pipe or a frozen journal."""
    if stream is None:
        return
    import select

    poller = select.poll()
    poller.register(stream.fileno(), select.POLLOUT)
    if poller.poll(0):
        _print(text[:LINE_CHARACTERS], stream)


def _print_phase(phase: Phase) -> None:
    _print(phase.as_text(), sys.stdout)


def _print_json(value: Dict[str, Any]) -> None:
    import json
    _print(json.dumps(value, indent=1, sort_keys=True), sys.stdout)


def show_status(options: argparse.Namespace) -> int:
    """Print the verdict. A host that cannot be looked at is "unknown", whatever kept us from it."""
    from ovsxen import look, status
    try:
        judged = status.judge(look.look(find_host(options)))
    except UsageError:
        raise
    except Exception as raised:
        error = explain(raised, "this host cannot be looked at")
        if options.json:
            _print_json(status.unreadable_as_json(str(error)))
        else:
            warn(str(error))
        return status.Verdict.UNKNOWN.exit_code
    if options.json:
        _print_json(status.as_json(judged))
    else:
        _print(status.as_text(judged), sys.stdout)
    return judged.verdict.exit_code


def run_update(options: argparse.Namespace) -> int:
    """Make the switch agree with XAPI."""
    import signal

    from ovsxen.update import update
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as ^C: its session with XAPI is ended
    return _print_answer(options, lambda: update(find_host(options), dry_run=options.dry_run))


def run_emergency_reset(options: argparse.Namespace) -> int:
    """Clear what a controller may have set up, or bring that back."""
    from ovsxen.emergency import emergency_reset, undo_reset
    return _print_answer(options, lambda: (undo_reset if options.undo else emergency_reset)(find_host(options)))


def _print_answer(options: argparse.Namespace, ask: "Callable[[], Answer]") -> int:
    """Print what came of it, as text or as one JSON object."""
    from ovsxen.answer import Failed
    error: Optional[OvsxenError] = None
    try:
        answer = ask()
    except Failed as failed:
        answer, error = failed.answer, failed.error
    exit_code = error.exit_code if error else EXIT_OK
    if options.json:
        _print_json(dict(answer.as_json(), schema=ANSWER_SCHEMA, verb=options.verb, exit_code=exit_code,
                         error=str(error) if error else ""))
        return exit_code
    if not error:
        _print(answer.text.strip(), sys.stdout)
    for change in answer.changes:
        _print("  %s %s" % ("would change:" if options.dry_run else "changed:", printable(change)), sys.stdout)
    for note in answer.notes:
        warn("note: %s" % printable(note))
    if error:
        warn(str(error))
    return exit_code


def run_plugin(options: argparse.Namespace) -> int:
    """Have XAPI run ovsxen's plugin, or its own; or say which it runs (docs/update.md has the exit codes)."""
    from ovsxen import divert
    paths = find_host(options).paths
    acts: Dict[str, Callable[[], divert.Diversion]] = {
        "divert": lambda: divert.divert(paths, force=options.force),
        "restore": lambda: divert.restore(paths), "status": lambda: divert.status(paths)}
    body = {"schema": PLUGIN_SCHEMA, "verb": options.verb, "word": options.argument, "error": ""}
    try:
        done = acts[options.argument]()
    except Exception as raised:
        error = explain(raised, "which plugin XAPI runs cannot be told")
        exit_code = divert.Runs.UNKNOWN.exit_code if options.argument == "status" else error.exit_code
        if options.json:
            _print_json(dict(body, exit_code=exit_code, error=str(error), runs=divert.Runs.UNKNOWN.value))
        else:
            warn(str(error))
        return exit_code
    exit_code = EXIT_OK if options.argument == "restore" else divert.judge(done.found).exit_code
    if options.json:
        _print_json(dict(body, exit_code=exit_code, **done.as_json()))
        return exit_code
    for step in done.steps:
        _print("  changed: %s" % step.value, sys.stdout)
    if done.left_alone:
        warn(done.text)
    else:
        _print(divert.as_text(done.found, paths), sys.stdout)
    return exit_code


def show_boot_chart(options: argparse.Namespace) -> int:
    """Draw the last boots: for a terminal, or as SVG."""
    from ovsxen.boot_chart import make_chart
    from ovsxen.boot_look import look_at_boots
    seen = look_at_boots(find_host(options))
    chart = make_chart(seen.boots)
    if options.output is None:
        import shutil

        from ovsxen.boot_chart_text import draw_text
        _print(draw_text(chart, shutil.get_terminal_size().columns), sys.stdout)
    else:
        from ovsxen.boot_chart_svg import draw_svg
        _write_output(draw_svg(chart), options.output)
    for note in seen.notes:
        warn("note: %s" % printable(note))
    return EXIT_OK


def _write_output(text: str, name: str) -> None:
    """Into what has that name, be it a pipe or a device. Raises OvsxenError."""
    try:
        with _open_output(name) as stream:
            stream.write(text)
    except BrokenPipeError:
        return  # whoever reads it has seen enough
    except OSError as error:
        where = "standard output" if name == "-" else name
        raise refused_by_system("the chart cannot be written", OSError(error.errno, error.strerror, where)) from error


def _open_output(name: str) -> IO[str]:
    if name != "-":
        return open(name, "w", encoding="utf-8")
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)


def show_version(options: argparse.Namespace) -> int:
    """Print versions; those that run come from the daemons themselves."""
    from ovsxen.versions import read_versions
    _print("ovsxen %s" % __version__, sys.stdout)
    for line in read_versions(find_host(options)):
        _print(line, sys.stdout)
    return EXIT_OK


def run_sandbox(options: argparse.Namespace) -> int:
    """Make a host in a directory, run a command in it, take it down."""
    from ovsxen.sandbox import sandbox
    stale_bridges = DEFAULT_STALE_BRIDGES if options.stale_bridges is None else options.stale_bridges
    return sandbox.run(Path(options.argument), stale_bridges, options.command, warn)


def show_help(_options: argparse.Namespace) -> int:
    """Print what --help prints."""
    _print(build_parser().format_help(), sys.stdout)
    return EXIT_OK


VERBS: Dict[str, Verb] = {
    "daemon": Verb("boot the switch, then watch and mend it; what systemd and the SysV script run", ("detach",),
                   run_daemon),
    "start": Verb("boot the switch; repeat it as often as you like", ("json", "dry_run"), run_sequence),
    "stop": Verb("stop both daemons, and the daemon that watches them", ("json",), run_sequence),
    "restart": Verb("restart both daemons, the database first; --save-flows keeps flows, groups and meters",
                    ("json", "save_flows"), run_sequence),
    "reload": Verb("read inventory and settings again; restart, flows kept, only where a newer version is installed",
                   ("json",), run_sequence),
    "force-reload": Verb("the same as reload", ("json",), run_sequence),
    "update": Verb("make the switch agree with XAPI, as its plugin does", ("json", "dry_run"), run_update),
    "sync": Verb("keep the external_ids that controllers look for, from XAPI, and update the switch when XAPI's "
                 "wishes change", ("detach", "flush", "stop"), run_sync),
    "emergency-reset": Verb("clear what a controller set up, as ovs-vsctl emer-reset does; --undo brings it back",
                            ("json", "undo"), run_emergency_reset),
    "status": Verb("one verdict over the whole host", ("json",), show_status),
    "boot-chart": Verb("this boot and the last ones on a time line; -o FILE.svg draws it", ("output",),
                       show_boot_chart),
    "version": Verb("versions of ovsxen and of Open vSwitch, installed and running", (), show_version),
    "load-kmod": Verb("load the kernel module, or say why it cannot be", ("json",), run_sequence),
    "force-reload-kmod": Verb("replace the kernel module by the installed one; addresses, routes and flows are kept",
                              ("json", "ha"), run_sequence),
    "plugin": Verb("have XAPI run ovsxen's plugin in place of its own, its own again, or say which it runs",
                   ("json", "force"), run_plugin, ("divert", "restore", "status")),
    "host-setup": Verb("make this host ready for the ovsxen that was put on it, or give it back as it was; what the "
                       "scriptlets of a package call", ("json",), run_sequence, ("install", "upgrade", "erase")),
    "sandbox": Verb("make a XenServer host in DIR, run `-- COMMAND` (default: a shell) in it, take it down",
                    ("argument", "stale_bridges", "command"), run_sandbox),
    "help": Verb("this text", (), show_help),
}
