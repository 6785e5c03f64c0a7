"""This boot and this host's name."""

import os

from ovsxen.errors import AdministratorError, NoAnswer, NotInstalled
from ovsxen.host import files, proc
from ovsxen.host.paths import Paths

HOSTNAME_WITHIN_S = 2.0


def read_boot_id(paths: Paths) -> str:
    """The kernel's random id of this boot (random(4)): the same until the next boot, never the same again."""
    try:
        boot_id = files.read_small(paths.boot_id).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AdministratorError("cannot read %s (%s)" % (paths.boot_id, getattr(error, "strerror", error)),
                                 "mount /proc and run `ovsxen start`") from error
    if not boot_id:
        raise AdministratorError("%s is empty" % paths.boot_id, "mount /proc and run `ovsxen start`")
    return boot_id


def find_hostname(*, full: bool) -> str:
    """The host's name, with its domain when `full` and the resolver answers in time.

    Only for when the switch forwards: `hostname -f` asks the network, and may hang 40 s without it (openvswitch
    6ff726467).
    """
    short = os.uname().nodename
    if not full or "." in short:
        return short
    try:
        answer = proc.run(("hostname", "-f"), HOSTNAME_WITHIN_S)
    except (NoAnswer, NotInstalled):
        return short
    return answer.stdout.strip() or short if answer.returncode == 0 else short


def kernel_release() -> str:
    """The running kernel, as `uname -r` says."""
    return os.uname().release
