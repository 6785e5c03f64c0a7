"""Power cuts at chosen moments: what a machine did when its power went, what its disk had then, and its next boot.

Each cut begins with a machine's saved state just before the phase, so that only the boot after the cut is a whole one.
That boot is without XAPI, the sync, and whatever the switch does not wait for: openvswitch.service, and what makes the
networks after it, are as ever.

Moments are parts of a phase's length, which is measured once on the machine that runs the tests: 0 is the phase's
beginning, 1 its end. Past that, what has been done is about to reach the disk. Others are chosen by the environment:

    CUTS="update=0.4 restart=1.5s"    just these; with an s, seconds after the beginning
    CUT_SEED=7                        as many as usual, at random moments that follow from the number
"""

import os
import random
import re
import time
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from tests.machines import offline, verdict
from tests.machines.configuration import Configuration, Torn, find_staged, find_torn, read_configuration
from tests.machines.rootfs import write
from tests.machines.verdict import Seen
from tests.machines.vm import RUN_WITHIN_S, Setup, Vm

EACH = 8
REACH = 1.25
"""So much of a phase's length is cut into."""

HOLD_WORD = "hold-the-switch"
HOLDING = "[Service]\nExecStartPre=/bin/sh -c 'until [ -e %s ] || ! grep -qw %s /proc/cmdline; do sleep 0.1; done'\n"
LEFT_OUT = (
    "xapi.service", "openvswitch-xapi-sync.service", "systemd-logind.service", "dbus.service", "dbus.socket",
    "systemd-udev-trigger.service", "systemd-sysusers.service", "systemd-user-sessions.service",
    "systemd-journal-flush.service", "systemd-sysctl.service", "systemd-tmpfiles-clean.timer", "e2scrub_reap.service",
    "uuidd.service", "uuidd.socket", "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount")
SMALLER = " ".join("systemd.mask=" + unit for unit in LEFT_OUT)
CHOICE = re.compile(r"(?P<phase>\w+)=(?P<at>\d+(\.\d+)?)(?P<seconds>s?)")
CONF_DB = "etc/openvswitch/conf.db"
SCHEMA = "usr/share/openvswitch/vswitch.ovsschema"
BEFORE_AN_UPDATE = (
    "systemctl stop openvswitch-xapi-sync.service",  # it would do the same update, at a time of its own
    "ovs-vsctl set-manager ssl:192.0.2.10:6640",
    "ovs-ofctl add-flow xenbr1 priority=7,ip,actions=drop",
    "xe pool-param-set other-config:vswitch-controller-fail-mode=secure",
    "sync")
UPDATE = "xe sdn-controller-introduce protocol=ssl address=192.0.2.77 port=6640"
"""XAPI has the plugin exchange the manager, and turn bridges secure."""


class Phase(NamedTuple):
    """Something that a host does: the machine that is about to, and commands that last until its end and, where it does
    not begin as soon as it may, until its beginning.
    """

    machine: str
    until_over: str
    until_begun: str = ""


class Held(NamedTuple):
    """A command of the host's that has begun, and waits for its turn; and how the process that waits is called."""

    turn: str
    command: str
    process: str


GO = "/run/go"
SWITCH_IS_UP = "systemctl start openvswitch.service"
FIRST_PHASE_IS_OVER = "until systemctl show -p StatusText openvswitch.service | grep -q =.; do sleep 0.05; done"
"""Python's own start takes half of a boot's length here, and nothing is written in it."""

COMMAND_IS_OVER = "until [ -e /run/over ]; do sleep 0.05; done"
PHASES: Mapping[str, Phase] = {
    "boot": Phase("fresh", "systemctl start xcp-networkd.service"),
    "conversion": Phase("older", SWITCH_IS_UP, FIRST_PHASE_IS_OVER),
    "purge": Phase("stale", SWITCH_IS_UP, FIRST_PHASE_IS_OVER),
    "update": Phase("updating", COMMAND_IS_OVER),
    "restart": Phase("restarting", COMMAND_IS_OVER)}
HELD: Mapping[str, Held] = {
    "updating": Held("/run/ovsxen-update.lock", UPDATE, "python3.*plugins/openvswitch-config-update"),
    "restarting": Held("/run/ovsxen.lock", "ovsxen restart --save-flows", "python3.*ovsxen restart")}


class Moment(NamedTuple):
    """When the power goes."""

    phase: str
    at: float
    in_seconds: bool = False

    def __str__(self) -> str:
        return "%s-%.3f%s" % (self.phase, self.at, "s" if self.in_seconds else "")

    def after_s(self, length_s: float) -> float:
        """Seconds after the beginning of a phase of this length."""
        return self.at if self.in_seconds else self.at * length_s


def choose(environ: Mapping[str, str] = os.environ) -> Tuple[Moment, ...]:
    """The moments: those that somebody asks for, else as many of each phase, spread evenly or at random."""
    if environ.get("CUTS", "").strip():
        return tuple(_read_choice(word) for word in environ["CUTS"].split())
    if environ.get("CUT_SEED"):
        rolled = random.Random(_read_seed(environ["CUT_SEED"]))
        return tuple(Moment(phase, rolled.uniform(0, REACH)) for phase in PHASES for _ in range(EACH))
    return tuple(Moment(phase, (number + 0.5) / EACH * REACH) for phase in PHASES for number in range(EACH))


def _read_seed(word: str) -> int:
    if not word.isdecimal():
        raise ValueError("CUT_SEED: %r is no number; say one, such as 7" % word)
    return int(word)


def _read_choice(word: str) -> Moment:
    match = CHOICE.fullmatch(word)
    if match is None or match.group("phase") not in PHASES:
        raise ValueError("CUTS: %r is no moment; say PHASE=PART or PHASE=SECONDSs, with a phase of: %s" % (
            word, ", ".join(PHASES)))
    return Moment(match.group("phase"), float(match.group("at")), bool(match.group("seconds")))


def selection(moments: Tuple[Moment, ...]) -> Tuple[Moment, ...]:
    """One of each phase, from its middle: what is tested where time is short."""
    by_phase: Dict[str, List[Moment]] = {}
    for moment in moments:
        by_phase.setdefault(moment.phase, []).append(moment)
    return tuple(found[len(found) // 2] for found in by_phase.values())


class Prepared(NamedTuple):
    """A phase that is about to begin in a saved machine: how long it takes undisturbed, and what its disk configures
    before and after.
    """

    phase: Phase
    machine: Vm
    length_s: float
    old: Optional[Configuration]
    new: Configuration


class NextBoot(NamedTuple):
    """The boot from a disk as a power cut has left it, and its files after that."""

    seen: Seen
    then: Configuration
    torn: Tuple[Torn, ...]
    staged: Tuple[str, ...]


class Cut(NamedTuple):
    """A moment's cut: what the machine last said, what its disk had then, and the next boot with its disk."""

    moment: Moment
    after_s: float
    last_said: str
    configuration: Optional[Configuration]
    torn: Tuple[Torn, ...]
    staged: Tuple[str, ...]
    next: NextBoot

    def __str__(self) -> str:
        """A line of a table."""
        had = self.configuration.describe() if self.configuration else "no conf.db"
        return "%s (%.2f s) | %s | %s%s%s | %s" % (
            self.moment, self.after_s, self.last_said, had, "".join("; torn: %s (%s)" % torn for torn in self.torn),
            "".join("; staged: " + name for name in self.staged), self.next.seen.status.get("verdict"))


def put_hold(layer: Path) -> None:
    """Have the switch's unit wait, in a machine with this word on its kernel's command line, before it starts."""
    write(layer / "etc/systemd/system/openvswitch.service.d/hold.conf", HOLDING % (GO, HOLD_WORD))


def hold_boot(vm: Vm) -> Vm:
    """Boot a machine up to the start of the switch, and save it there."""
    vm.setup = Setup(append=HOLD_WORD + " " + SMALLER)
    vm.power_on(until_booted=False)
    vm.tell("until systemctl show -p ControlPID openvswitch.service | grep -q '=[1-9]'; do sleep 0.2; done; sync",
            RUN_WITHIN_S * 2)
    vm.save()
    return vm


def hold_command(vm: Vm, held: Held) -> Vm:
    """Start a command in a machine that is up, let it get as far as where it waits for its turn, and save it there.

    What it says is seen on the console, and by that how far it came.
    """
    vm.tell("flock --close %s sh -c 'until [ -e %s ]; do sleep 0.02; done' >/dev/null 2>&1 &" % (held.turn, GO))
    vm.tell("(%s; touch /run/over) >/dev/console 2>&1 &" % held.command)
    # Between two tries it sleeps, and before the first it never does.
    vm.tell("until cat $(pgrep -f '%s' | sed 's,.*,/proc/&/wchan,') </dev/null 2>&1 | grep -q nanosleep; "
            "do sleep 0.1; done" % held.process)
    vm.save()
    return vm


def rehearse(phase: Phase, machine: Vm, work: Path) -> Prepared:
    """Have it done once, undisturbed."""
    work.mkdir()
    old = read_configuration(offline.look_into(machine.disk, work / "before") / CONF_DB)
    vm = machine.copy_saved(work / "vm")
    try:
        began = _begin(phase, vm)
        vm.tell(phase.until_over)
        length_s = time.monotonic() - began
        vm.tell("sync")
        vm.power_cut()
        new = read_configuration(offline.look_into(vm.disk, work / "after") / CONF_DB)
        assert new is not None, vm.describe()
    finally:
        vm.remove()
    return Prepared(phase, machine, length_s, old, new)


def cut(moment: Moment, prepared: Prepared, work: Path) -> Cut:
    """Cut the power at that moment, look at the disk, boot from it, and look again."""
    work.mkdir()
    vm = prepared.machine.copy_saved(work / "vm")
    try:
        after_s = _run_until(moment.after_s(prepared.length_s), prepared.phase, vm)
        last_said = _last_words(vm.console)
        at_cut = offline.look_into(vm.disk, work / "at-cut")
        vm.setup = Setup(append=SMALLER)
        return Cut(moment, after_s, last_said, read_configuration(at_cut / CONF_DB), find_torn(at_cut),
                   find_staged(at_cut), boot_and_look(vm, work / "then"))
    finally:
        vm.remove()


def boot_and_look(vm: Vm, work: Path) -> NextBoot:
    """Boot a machine from its disk, look at it when it is up, and at its files once it is off again."""
    vm.power_on()
    seen = verdict.look(vm)
    vm.tell("sync")
    vm.power_cut()
    files = offline.look_into(vm.disk, work)
    then = read_configuration(files / CONF_DB)
    assert then is not None, vm.describe()
    return NextBoot(seen, then, find_torn(files), find_staged(files))


def _begin(phase: Phase, vm: Vm) -> float:
    """Have it go on from where it is held; gives when it began, on the monotonic clock."""
    vm.power_on()
    began = time.monotonic()
    vm.tell("touch " + GO)
    if phase.until_begun:
        vm.tell(phase.until_begun)
        began = time.monotonic()
    return began


def _run_until(after_s: float, phase: Phase, vm: Vm) -> float:
    """Not before it has begun; gives when the power went, in seconds after the beginning."""
    began = _begin(phase, vm)
    time.sleep(max(0.0, began + after_s - time.monotonic()))
    vm.power_cut()
    return time.monotonic() - began


def _last_words(console: str) -> str:
    """The last whole line that says something, without colours."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", console)
    lines = [" ".join(line.split()) for line in plain.split("\n")[:-1]]
    return next((line for line in reversed(lines) if re.search(r"[a-z]{3}", line)), "nothing yet")
