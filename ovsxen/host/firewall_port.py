"""One TCP port of dom0's firewall, for controllers that connect to this host (protocol pssl): opened, and closed again.

Only what ovsxen opened is ever closed. A note on disk says what that was; a port that the historic plugin or the
administrator opened before is found open, and stays so. The note is believed until the next boot, so that a run that
changes nothing starts no program; the first run of a boot looks whether the port is still open.

Whether a port was open before is told by looking before and after opening it: did the answer change? The answer itself
tells nothing with `firewall-port check`, which exits with 0 in either case and says the opposite of what is the case
(xen-api#6073). Opening what is open changes nothing with any of the programs.

Nothing here waits its turn: the caller holds the lock of an update.
"""

import json
import os
from enum import Enum
from pathlib import Path
from typing import Dict, NamedTuple, NoReturn, Optional, Tuple

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError
from ovsxen.host import files, identity, proc
from ovsxen.host.clock import Deadline
from ovsxen.host.paths import Paths

FIREWALL_CMD = ("firewall-cmd",)
STATE_WITHIN_S = 5.0
XTABLES_LOCK = "xtables lock"
"""What iptables complains of when another one is at work; firewall-port does not have it wait (`-w`)."""
LOCK_EVERY_S = 0.2


class Opener(Enum):
    """Through what a port is opened; the values are those of the setting FIREWALL."""

    FIREWALL_PORT = "firewall-port"
    FIREWALLD = "firewalld"
    NONE = "none"


class PortResult(Enum):
    """What became of the port."""

    OPENED = "opened"
    OPENED_FOR_NOW = "opened until the next boot, since it could not be saved; ovsxen will open it again then"
    OPEN_ALREADY = "was open already"
    NO_OPENER = "nothing to open it with"
    CLOSED = "closed"
    NOT_OURS = "was not opened by ovsxen, and stays as it is"
    OPENER_GONE = "what opened it is not on this host any more"


class RuleState(Enum):
    """What the note says of a rule."""

    OPENING = "opening"
    OPENED = "opened"
    FOUND = "found open"


class Rule(NamedTuple):
    """One rule of a firewall in the note. `said` is what a look at it gave: when OPENING before that, else after it."""

    name: str
    state: RuleState
    said: str


class Note(NamedTuple):
    """What ovsxen did to the firewall, as the file says. `boot_id` is the boot in which all of it was last seen."""

    port: int
    opener: Opener
    boot_id: str
    rules: Tuple[Rule, ...]

    def rule(self, name: str) -> Optional[Rule]:
        return next((rule for rule in self.rules if rule.name == name), None)

    def with_rule(self, rule: Rule) -> "Note":
        return self._replace(rules=self.without_rule(rule.name).rules + (rule,))

    def without_rule(self, name: str) -> "Note":
        return self._replace(rules=tuple(rule for rule in self.rules if rule.name != name))


class Way(NamedTuple):
    """The commands for one rule. `answers` are the exit codes of a look that is none otherwise; empty: any."""

    name: str
    look: Tuple[str, ...]
    open: Tuple[str, ...]
    close: Tuple[str, ...]
    answers: Tuple[int, ...] = ()


def find_opener(setting: str, paths: Paths, firewall_cmd: Tuple[str, ...] = FIREWALL_CMD) -> Opener:
    """What the setting FIREWALL stands for here: by `auto` XAPI's firewall-port, else a running firewalld, else none.

    A host in a directory never touches the machine's firewalld. Raises NoAnswer when firewalld does not say.
    """
    if setting == "auto":
        if _is_there(Opener.FIREWALL_PORT, paths, firewall_cmd):
            return Opener.FIREWALL_PORT
        if _is_there(Opener.FIREWALLD, paths, firewall_cmd) and _firewalld_runs(firewall_cmd):
            return Opener.FIREWALLD
        return Opener.NONE
    opener = Opener(setting)
    return Opener.NONE if opener is Opener.FIREWALLD and not _may_ask(paths, firewall_cmd) else opener


def open_port(paths: Paths, setting: str, port: int, within_s: float,
              firewall_cmd: Tuple[str, ...] = FIREWALL_CMD) -> PortResult:
    """Let TCP connections to `port` in; may be repeated, also after it was killed.

    What was opened through something else or on another port is closed first. Raises OvsxenError that says how to open
    it by hand.
    """
    note, boot_id = read_note(paths), identity.read_boot_id(paths)
    if note is not None and _settles(note, setting, port, boot_id, paths):
        return PortResult.OPEN_ALREADY
    opener = find_opener(setting, paths, firewall_cmd)
    if opener is Opener.NONE:
        return PortResult.NO_OPENER
    if not _is_there(opener, paths, firewall_cmd):
        raise AdministratorError("TCP port %d is not opened, because %s is not there to do it" % (
            port, _ways(opener, paths, port, firewall_cmd)[0].open[0]),
            "let it in by hand, and set FIREWALL=none in %s" % paths.sysconfig)
    deadline = Deadline(within_s)
    if note is not None and (note.port != port or note.opener is not opener):
        _close_noted(paths, note, firewall_cmd, deadline)
        note = None
    note = note or Note(port, opener, "", ())
    results = set()
    for way in _ways(opener, paths, port, firewall_cmd):
        note, result = _open_one(paths, note, way, deadline)
        results.add(result)
    _write_note(paths, note._replace(boot_id=boot_id))
    return next(result for result in (PortResult.OPENED_FOR_NOW, PortResult.OPENED, PortResult.OPEN_ALREADY)
                if result in results)


def close_port(paths: Paths, port: int, within_s: float,
               firewall_cmd: Tuple[str, ...] = FIREWALL_CMD) -> PortResult:
    """Close `port` where ovsxen opened it, through what it was opened with; may be repeated, also after it was killed.

    Raises OvsxenError that says how to close it by hand; then the note stays, and the next call tries again.
    """
    note = read_note(paths)
    if note is None or note.port != port:
        return PortResult.NOT_OURS
    return _close_noted(paths, note, firewall_cmd, Deadline(within_s))


def read_note(paths: Paths) -> Optional[Note]:
    """What was done before. A note that makes no sense is none: then nothing is ever closed. Raises AdministratorError.
    """
    try:
        text = json.loads(files.read_small(paths.opened_port).decode("utf-8"))
        rules = tuple(Rule(str(rule["name"]), RuleState(rule["state"]), str(rule["said"])) for rule in text["rules"])
        if Opener(text["through"]) is Opener.NONE:
            return None
        return Note(int(text["port"]), Opener(text["through"]), str(text["boot_id"]), rules)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AdministratorError("cannot read %s (%s)" % (paths.opened_port, error.strerror),
                                 "remove it, and close by hand what should not be open") from error
    except files.NONSENSE:
        return None


def _write_note(paths: Paths, note: Note) -> None:
    """Durable: after a power cut it must still be known what was opened."""
    if read_note(paths) == note:
        return
    rules = [{"name": rule.name, "state": rule.state.value, "said": rule.said} for rule in note.rules]
    text = json.dumps({"port": note.port, "through": note.opener.value, "boot_id": note.boot_id, "rules": rules},
                      indent=1)
    try:
        files.write_file(paths.opened_port, [text.encode() + b"\n"])
    except OSError as error:
        raise AdministratorError("cannot write %s (%s)" % (paths.opened_port, error.strerror),
                                 "make room there; without it no port is opened") from error


def _remove_note(paths: Paths) -> None:
    try:
        if files.remove_if_there(paths.opened_port):
            files.sync_directory(paths.opened_port.parent)
    except OSError as error:
        raise AdministratorError("cannot remove %s (%s)" % (paths.opened_port, error.strerror),
                                 "remove it by hand: nothing of ovsxen's is open any more") from error


def _settles(note: Note, setting: str, port: int, boot_id: str, paths: Paths) -> bool:
    """The note says that this port is open through what the setting stands for, and that was seen in this boot."""
    if note.port != port or note.boot_id != boot_id:
        return False
    if setting != "auto":
        return note.opener.value == setting
    has_firewall_port = _is_there(Opener.FIREWALL_PORT, paths, FIREWALL_CMD)
    return note.opener is (Opener.FIREWALL_PORT if has_firewall_port else Opener.FIREWALLD)


def _may_ask(paths: Paths, firewall_cmd: Tuple[str, ...]) -> bool:
    return paths.is_machine or firewall_cmd != FIREWALL_CMD


def _is_there(opener: Opener, paths: Paths, firewall_cmd: Tuple[str, ...]) -> bool:
    if opener is Opener.FIREWALL_PORT:
        return _is_executable(paths.plugins / opener.value)
    return _may_ask(paths, firewall_cmd) and proc.find_program(firewall_cmd[0]) is not None


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(str(path), os.X_OK)


def _firewalld_runs(firewall_cmd: Tuple[str, ...]) -> bool:
    return proc.run(firewall_cmd + ("--state",), STATE_WITHIN_S).returncode == 0


def _ways(opener: Opener, paths: Paths, port: int, firewall_cmd: Tuple[str, ...]) -> Tuple[Way, ...]:
    """The commands, in the order of opening. firewalld keeps what is now and what is after its next start apart."""
    if opener is Opener.FIREWALL_PORT:
        program, what = str(paths.plugins / opener.value), (str(port), "tcp")
        return (Way("firewall-port", (program, "check") + what, (program, "open") + what, (program, "close") + what),)
    scopes: Dict[str, Tuple[str, ...]] = {"runtime": (), "permanent": ("--permanent",)}
    ways = []
    for name, scope in scopes.items():
        look, add, remove = (firewall_cmd + scope + ("--%s-port=%d/tcp" % (verb, port),)
                             for verb in ("query", "add", "remove"))
        ways.append(Way(name, look, add, remove, answers=(0, 1)))
    return tuple(ways)


def _open_one(paths: Paths, note: Note, way: Way, deadline: Deadline) -> Tuple[Note, PortResult]:
    """Open by one rule; gives the note as it is on disk then. It is noted first, so that a kill leaves nothing unknown.
    """
    said, noted = _look(way, deadline), note.rule(way.name)
    if noted is not None and noted.state is RuleState.OPENED and noted.said == said:
        return note, PortResult.OPEN_ALREADY
    before = noted.said if noted is not None and noted.state is RuleState.OPENING else said
    note = note.with_rule(Rule(way.name, RuleState.OPENING, before))
    _write_note(paths, note)
    done = _run(way.open, "opened", deadline)
    after = _look(way, deadline)
    if after == before and done.returncode != 0:
        _forget(paths, note.without_rule(way.name))
        _fail(way.open, "open", done.complaint)
    state = RuleState.FOUND if after == before else RuleState.OPENED
    note = note.with_rule(Rule(way.name, state, after))
    _write_note(paths, note)
    if state is RuleState.FOUND:
        return note, PortResult.OPEN_ALREADY
    return note, PortResult.OPENED if done.returncode == 0 else PortResult.OPENED_FOR_NOW


def _close_noted(paths: Paths, note: Note, firewall_cmd: Tuple[str, ...], deadline: Deadline) -> PortResult:
    """Close what the note says that ovsxen opened, and then remove the note."""
    ours = [rule for rule in note.rules if rule.state is not RuleState.FOUND]
    result = PortResult.NOT_OURS
    if ours and not _is_there(note.opener, paths, firewall_cmd):
        result = PortResult.OPENER_GONE
    elif ours:
        ways = {way.name: way for way in _ways(note.opener, paths, note.port, firewall_cmd)}
        closed = [_close_one(ways[rule.name], rule, deadline) for rule in ours if rule.name in ways]
        result = PortResult.CLOSED if any(closed) else PortResult.NOT_OURS
    _remove_note(paths)
    return result


def _close_one(way: Way, rule: Rule, deadline: Deadline) -> bool:
    """Close by one rule; tells whether there was anything to close."""
    if rule.state is RuleState.OPENING and _look(way, deadline) == rule.said:
        return False  # killed before it was opened, or it had been open: nothing was changed
    done = _run(way.close, "closed", deadline)
    if done.returncode != 0:
        said_as_noted = _look(way, deadline) == rule.said
        if said_as_noted == (rule.state is RuleState.OPENED):
            _fail(way.close, "close", done.complaint)
    return True


def _look(way: Way, deadline: Deadline) -> str:
    """What there is to see of a rule, to be compared with another look at it and with nothing else."""
    done = _run(way.look, "looked at", deadline)
    if XTABLES_LOCK in done.stderr or way.answers and done.returncode not in way.answers:
        raise OvsxenError("%s does not say whether the port is open (%s)" % (way.look[0], done.complaint),
                          "try `%s`, or set FIREWALL=none" % " ".join(way.look))
    return "%d %s" % (done.returncode, done.stdout.strip())


def _run(argv: Tuple[str, ...], done_to: str, deadline: Deadline) -> proc.Finished:
    """Run a firewall's program, and again while another one is at work there."""
    try:
        done = proc.run(argv, deadline.remaining_s())
        while XTABLES_LOCK in done.stderr and deadline.remaining_s() > LOCK_EVERY_S:
            deadline.clock.sleep(LOCK_EVERY_S)
            done = proc.run(argv, deadline.remaining_s())
        return done
    except NoAnswer as error:
        raise NoAnswer("the port was not %s (%s)" % (done_to, error.problem),
                       "do it by hand: `%s`" % " ".join(argv)) from error


def _forget(paths: Paths, note: Note) -> None:
    """Keep what is left of a note, if anything is."""
    if note.rules:
        _write_note(paths, note)
    else:
        _remove_note(paths)


def _fail(argv: Tuple[str, ...], verb: str, complaint: str) -> NoReturn:
    raise AdministratorError("%s did not %s the port (%s)" % (argv[0], verb, complaint),
                             "%s it by hand: `%s`" % (verb, " ".join(argv)))
