"""The one hole that XenServer's cross-host internal networks need in dom0's firewall: GRE. No other hole is opened.

The old init script opened it at every start (`ovs-ctl --protocol=gre enable-protocol`, 2.17).
"""

from enum import Enum
from typing import Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import proc

WITHIN_S = 5.0
GRE = ("gre", "47")


class GreRule(Enum):
    """What became of the rule that lets GRE in."""

    THERE = "INPUT already has a rule for GRE"
    ADDED = "INPUT now accepts GRE"
    NO_FIREWALL = "iptables is not there, nothing to open"


def has_gre_rule(listing: str) -> bool:
    """`iptables -n -L INPUT` shows a rule about GRE, by name or number; whatever it does is the admin's will."""
    rows = [line.split() for line in listing.splitlines()[2:]]
    return any(len(row) > 1 and row[1] in GRE for row in rows)


def allow_gre(command: Tuple[str, ...] = ("iptables",), *, dry_run: bool = False) -> GreRule:
    """Make INPUT accept GRE unless it has a rule for it. Raises NoAnswer, or AdministratorError when refused."""
    if proc.find_program(command[0]) is None:
        return GreRule.NO_FIREWALL
    listed = proc.run(command + ("-w", "-n", "-L", "INPUT"), WITHIN_S)
    if listed.returncode != 0:
        raise AdministratorError("iptables cannot list INPUT (%s)" % listed.complaint,
                                 "look whether GRE may come in, where cross-host internal networks are used")
    if has_gre_rule(listed.stdout):
        return GreRule.THERE
    if not dry_run:
        added = proc.run(command + ("-w", "-I", "INPUT", "-p", "gre", "-j", "ACCEPT"), WITHIN_S)
        if added.returncode != 0:
            raise AdministratorError("iptables did not accept a rule for GRE (%s)" % added.complaint,
                                     "add it by hand where cross-host internal networks are used")
    return GreRule.ADDED
