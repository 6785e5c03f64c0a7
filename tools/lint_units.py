"""Says of every line of a unit file whether systemd 219 takes it: that is what XCP-ng 8.3 and XenServer 8 have.

`make lint` runs it. No systemd of that age runs where this project is developed, and a newer one knows more, so what
219 knows is written down here, from its man pages.
"""

import re
import sys
from pathlib import Path
from typing import List, NamedTuple, Tuple


class Directive(NamedTuple):
    """A line of a unit, and its number in the file."""

    line: int
    section: str
    name: str
    value: str

    def __str__(self) -> str:
        return "[%s] %s=%s" % (self.section, self.name, self.value)


KNOWN_TO_219 = {
    "Unit": """Description Documentation Requires Requisite Wants BindsTo PartOf Conflicts Before After OnFailure
        OnFailureJobMode PropagatesReloadTo ReloadPropagatedFrom JoinsNamespaceOf RequiresMountsFor StopWhenUnneeded
        RefuseManualStart RefuseManualStop AllowIsolate DefaultDependencies IgnoreOnIsolate JobTimeoutSec
        JobTimeoutAction ConditionPathExists ConditionPathExistsGlob ConditionPathIsDirectory
        ConditionPathIsMountPoint ConditionFileNotEmpty ConditionFileIsExecutable ConditionDirectoryNotEmpty
        ConditionKernelCommandLine ConditionVirtualization ConditionFirstBoot AssertPathExists""",
    "Service": """Type RemainAfterExit GuessMainPID PIDFile BusName ExecStart ExecStartPre ExecStartPost ExecReload
        ExecStop ExecStopPost RestartSec TimeoutStartSec TimeoutStopSec TimeoutSec WatchdogSec Restart
        SuccessExitStatus RestartPreventExitStatus RestartForceExitStatus PermissionsStartOnly NonBlocking
        NotifyAccess Sockets StartLimitInterval StartLimitBurst StartLimitAction FailureAction
        FileDescriptorStoreMax
        WorkingDirectory RootDirectory User Group SupplementaryGroups Nice OOMScoreAdjust IOSchedulingClass
        IOSchedulingPriority CPUSchedulingPolicy CPUSchedulingPriority CPUAffinity UMask Environment EnvironmentFile
        StandardInput StandardOutput StandardError SyslogIdentifier SyslogFacility SyslogLevel SyslogLevelPrefix
        LimitCPU LimitFSIZE LimitDATA LimitSTACK LimitCORE LimitRSS LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK
        LimitLOCKS LimitSIGPENDING LimitMSGQUEUE LimitNICE LimitRTPRIO LimitRTTIME CapabilityBoundingSet SecureBits
        NoNewPrivileges SystemCallFilter SystemCallErrorNumber SystemCallArchitectures RestrictAddressFamilies
        ReadWriteDirectories ReadOnlyDirectories InaccessibleDirectories PrivateTmp PrivateDevices PrivateNetwork
        ProtectSystem ProtectHome MountFlags RuntimeDirectory RuntimeDirectoryMode IgnoreSIGPIPE
        KillMode KillSignal SendSIGHUP SendSIGKILL
        Slice CPUAccounting CPUShares MemoryAccounting MemoryLimit DeviceAllow DevicePolicy BlockIOAccounting
        BlockIOWeight Delegate""",
    "Install": "Alias WantedBy RequiredBy Also DefaultInstance",
}
"""Directives per section, from the man pages of systemd 219: systemd.unit, .service, .exec, .kill, .resource-control.

A subset: obsolete ones are left out, and so are those that Red Hat's later builds of 219 took from newer versions
(PassEnvironment, AmbientCapabilities, TasksAccounting, TasksMax), which not every dom0 has.
"""

BOOLEAN = "yes|no|true|false|on|off|1|0"
SPAN = r"[0-9]+(us|ms|s|sec|min|m|h)?( ?[0-9]+(us|ms|s|sec|min|m|h))*"
COMMAND = r"[-@]{0,2}/.*"
VALUES_OF_219 = {
    "Type": "simple|forking|oneshot|dbus|notify|idle",
    "KillMode": "control-group|process|mixed|none",
    "Restart": "no|always|on-success|on-failure|on-abnormal|on-abort|on-watchdog",
    "NotifyAccess": "none|main|all",
    "ProtectSystem": BOOLEAN + "|full",
    "ProtectHome": BOOLEAN + "|read-only",
    "RemainAfterExit": BOOLEAN, "DefaultDependencies": BOOLEAN, "PrivateTmp": BOOLEAN, "NoNewPrivileges": BOOLEAN,
    "TimeoutStartSec": SPAN, "TimeoutStopSec": SPAN, "TimeoutSec": SPAN, "RestartSec": SPAN, "WatchdogSec": SPAN,
    "StartLimitInterval": SPAN,
    "OOMScoreAdjust": r"-?[0-9]{1,4}",
    "StandardOutput": r"(inherit|null|tty|(journal|syslog|kmsg)(\+console)?|socket)",
    "StandardError": r"(inherit|null|tty|(journal|syslog|kmsg)(\+console)?|socket)",
    "ExecStart": COMMAND, "ExecStartPre": COMMAND, "ExecStartPost": COMMAND, "ExecReload": COMMAND, "ExecStop": COMMAND,
    "ExecStopPost": COMMAND,
}
"""Values that 219 takes, as regular expressions, where newer versions take more. A program needs its full path (until
239) and has only the prefixes - and @. For the limits see LIMIT."""

LIMIT = "[0-9]+|infinity"
"""No suffix (228) and no soft:hard pair (229)."""


SPECIFIERS = re.compile("%[^nNpPiIfcrRtuUhsmbHv]|%$")
"""What stands for something else in newer versions, and for itself in 219 (systemd.unit(5), SPECIFIERS)."""


class Refusal(NamedTuple):
    """What 219 would make of a directive that it does not take, and what to do about it."""

    directive: Directive
    why: str
    remedy: str


def parse_unit(text: str) -> Tuple[Directive, ...]:
    """All lines of a unit file that say something, with their sections."""
    section, found = "", []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            heading = line.strip()
            section = heading[1:-1] if heading.endswith("]") else heading
        elif line.strip() and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.append(Directive(number, section, name.strip(), value.strip()))
    return tuple(found)


def find_refusals(directives: Tuple[Directive, ...]) -> List[Refusal]:
    """What of a unit systemd 219 would ignore or refuse."""
    found = [refusal for directive in directives for refusal in _refuse(directive)]
    if any((one.section, one.name, one.value) == ("Service", "Type", "oneshot") for one in directives):
        found += [Refusal(one, "a oneshot cannot be restarted (until 244): the unit would not be loaded",
                          "leave it out, or have another Type=")
                  for one in directives if one.name == "Restart" and one.value != "no"]
    return found


def _refuse(directive: Directive) -> List[Refusal]:
    _, section, name, value = directive
    allowed = LIMIT if name.startswith("Limit") else VALUES_OF_219.get(name, ".*")
    if name not in KNOWN_TO_219.get(section, "").split():
        others = [each for each, names in sorted(KNOWN_TO_219.items()) if name in names.split()]
        return [Refusal(directive, "%s= is not known in [%s]: it would be ignored" % (name, section),
                        "move it to [%s]" % others[0] if others else "do without it, or say it by what 219 knows")]
    if not re.fullmatch(allowed, value):
        return [Refusal(directive, "%s is not a value of %s=: it would be ignored, or the unit not loaded" % (
            value, name), "give it one that matches %s" % allowed)]
    if SPECIFIERS.search(value.replace("%%", "")):
        return [Refusal(directive, "%s has a specifier that it does not know: it would be left as it is" % value,
                        "write out what it stands for")]
    if " #" in value or value.endswith("\\"):
        return [Refusal(directive, "no comment and no continuation on a line: it would be part of the value",
                        "put the comment on a line of its own, the value on one")]
    return []


def lint(path: Path) -> bool:
    """Says each directive of a unit file on a line; tells whether all of them are known."""
    directives = parse_unit(path.read_text())
    refusals = {refusal.directive: refusal for refusal in find_refusals(directives)}
    for directive in directives:
        refusal = refusals.get(directive)
        print("%s: %s: known to 219" % (path.name, directive) if refusal is None else
              "%s:%d: %s: not for 219. %s; %s." % (path, directive.line, directive, refusal.why, refusal.remedy))
    return not refusals


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("Usage: lint_units UNIT-FILE...")
    known = [lint(Path(name)) for name in sys.argv[1:]]
    if not all(known):
        sys.exit("Hosts of XCP-ng 8.3 and XenServer 8 have systemd 219: change the lines above that are not for it.")
