"""A switch that is up later in its boot than what comes after it: systemd holds nobody up for a start that has failed.

xcp-networkd has then found no switch, or last boot's bridges, which are gone by now; and it makes this host's networks,
the management network among them, at its own start alone. So it is started again, after the switch.
"""

from ovsxen.host import boot_times, systemd
from ovsxen.ovs import ovsdb
from ovsxen.ovs.daemons import OVSDB_SERVER, find
from ovsxen.ovs.jsonrpc import Connection
from ovsxen.report import Report
from ovsxen.sequence import Host

NETWORKD_UNIT = "xcp-networkd.service"
SAID = "an earlier start of this boot failed, and %s did not wait: it is begun again, to make this host's " \
       "networks. What XAPI could not bring up meanwhile it does at its next start: run `xe-toolstack-restart` where " \
       "a network is missing" % NETWORKD_UNIT


def make_up(host: Host, before: Report) -> str:
    """Have xcp-networkd begin again where it was too early for a switch that has just come up; gives what to say of it.

    To be called before systemd is told that the switch is up: what is begun again waits for that. `before`: the start
    before in this boot. Raises AdministratorError, NoAnswer, NotInstalled.
    """
    if before.went_well or not boot_times.is_there(host.paths):
        return ""
    within_s = host.settings.answer_timeout_s
    with Connection(host.paths.db_sock, find(host.paths, OVSDB_SERVER).label, within_s) as connection:
        if ovsdb.read_switch(connection, within_s).bridges:
            return ""
    return SAID if systemd.restart_unit(NETWORKD_UNIT, systemd.WITHIN_S) else ""
