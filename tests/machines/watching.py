"""How a host in a container is, as far as its switch goes: who runs, what is plugged in, and whether it forwards."""

from typing import Dict, NamedTuple

from ovsxen.host.systemd import SWITCH_UNIT, SYNC_UNIT
from tests.container import DAEMONS
from tests.machines import verdict
from tests.machines.guests import assert_frames_pass
from tests.machines.nspawn import Nspawn

NETWORKD, XAPI = "xcp-networkd.service", "xapi.service"
UNITS = (SWITCH_UNIT, SYNC_UNIT, NETWORKD, XAPI)
BRIDGES = "for bridge in $(ovs-vsctl list-br); do echo $bridge: $(ovs-vsctl list-ports $bridge); done"
INTERFACES = "ovs-vsctl --no-headings --columns=name,ofport,error,external_ids list Interface | sort"


class Seen(NamedTuple):
    """Who runs, by process id, and what is plugged into what."""

    pids: Dict[str, str]
    bridges: str
    interfaces: str


def pids(host: Nspawn) -> Dict[str, str]:
    """Of the daemons of Open vSwitch, and of the units' main processes."""
    found = {unit: host.unit(unit).property("MainPID") for unit in UNITS}
    found.update((name, host.run("cat /run/openvswitch/%s.pid" % name).out.strip()) for name in DAEMONS)
    return found


def is_well(host: Nspawn) -> bool:
    """By its own word, and by systemd's."""
    return (host.run("ovsxen status").code == 0
            and host.run("systemctl is-system-running").out.strip() == "running")


def look(host: Nspawn) -> Seen:
    """Once it has come to rest."""
    host.unit().wait_until(lambda: is_well(host))
    return Seen(pids(host), host.tell(BRIDGES), host.tell(INTERFACES))


def assert_whole_again(host: Nspawn, before: Seen, *others: str) -> None:
    """As it was, which it says truly, and it forwards; of what ran, all but `others` goes on, and those are followed by
    others.
    """
    after = look(host)
    assert {name for name in after.pids if after.pids[name] != before.pids[name]} == set(others), (before, after)
    assert "0" not in after.pids.values()
    assert (after.bridges, after.interfaces) == (before.bridges, before.interfaces)
    assert verdict.find_lies(verdict.look(host)) == []
    assert_frames_pass(host)
