"""What a daemon says, line by line."""

from typing import Callable, NamedTuple

from ovsxen.report import Phase


class Log(NamedTuple):
    """Where lines go: the journal, a terminal, or syslog."""

    phase: Callable[[Phase], None]
    say: Callable[[str], None]
    warn: Callable[[str], None]


def log_to_syslog() -> Log:
    """For a daemon in the background."""
    from ovsxen.host.syslog import open_syslog  # systemd's own has the journal

    to = open_syslog("ovsxen")
    return Log(lambda phase: to.say(phase.as_text()), to.say, to.warn)
