"""What `ovsxen status` says of a machine, beside what others say of the same: systemd, ovs-vsctl, /proc, the kernel."""

import json
from typing import Any, Dict, List, NamedTuple, Tuple, Union

from tests.container import DAEMONS
from tests.machines.configuration import Configuration
from tests.machines.networks import NETWORKS
from tests.machines.nspawn import Nspawn
from tests.machines.vm import Vm

Machine = Union[Vm, Nspawn]
RUNNING, DEGRADED = "running", "degraded"
CODES = {RUNNING: 0, DEGRADED: 150}
MODULE = """grep -q '^openvswitch ' /proc/modules && echo openvswitch loaded ||
    ! grep -q /openvswitch.ko /lib/modules/$(uname -r)/modules.builtin || echo openvswitch built in"""
NOTES = "/etc/openvswitch/conf.db.recovery-*.json"


class Seen(NamedTuple):
    """A machine that is up: the verdict with its exit code, and what is the case by the word of others."""

    systemd: str
    unit: str
    boot_id: str
    status: Dict[str, Any]
    code: int
    pids: Dict[str, List[int]]
    bridges: Tuple[str, ...]
    managers: Tuple[str, ...]
    generations: Tuple[str, ...]
    module: str
    datapaths: str
    notes: Tuple[str, ...]


def read_status(vm: Vm) -> Dict[str, Any]:
    """What `ovsxen status --json` says."""
    status: Dict[str, Any] = json.loads(vm.run("ovsxen status --json").out)
    return status


def look(machine: Machine) -> Seen:
    """A machine that is up, from all sides. What cannot be had is "" or nothing, which no test takes for good."""
    def words(command: str) -> Tuple[str, ...]:
        return tuple(sorted(machine.run(command).out.split()))

    systemd = machine.wait_booted()
    status = machine.run("ovsxen status --json")
    return Seen(
        systemd=systemd, boot_id=machine.boot_id,
        unit=machine.run("systemctl is-active openvswitch.service").out.strip(),
        status=json.loads(status.out or "{}"), code=-1 if status.code is None else status.code,
        pids={name: [int(pid) for pid in words("pidof " + name)] for name in DAEMONS},
        bridges=words("ovs-vsctl --bare --columns=name list Bridge"), managers=words("ovs-vsctl get-manager"),
        generations=tuple(machine.run("ovs-vsctl get Open_vSwitch . next_cfg cur_cfg").out.split()),
        module=machine.run(MODULE).out.strip(),
        datapaths=machine.run("ovs-dpctl dump-dps").out.strip(), notes=words("ls " + NOTES))


def find_lies(seen: Seen) -> List[str]:
    """Where the verdict is not what is the case."""
    said = seen.status
    verdict = DEGRADED if seen.notes else RUNNING
    follows = len(set(seen.generations)) == 1 and len(seen.generations) == 2
    is_so = {"verdict": verdict, "exit_code": CODES[verdict], "boot_id": seen.boot_id, "bridges": len(seen.bridges),
             "managers": list(seen.managers), "module": seen.module,
             "link": "up" if follows else "behind"}
    said_of_daemons = {name: [said["daemons"][name]["pid"]] for name in DAEMONS}
    lies = ["%s: it says %r, and it is %r" % (name, said[name], there) for name, there in is_so.items()
            if said[name] != there]
    if seen.code != said["exit_code"]:
        lies.append("it ends with %d and says %d" % (seen.code, said["exit_code"]))
    if said_of_daemons != seen.pids:
        lies.append("pids: it says %r, and they are %r" % (said_of_daemons, seen.pids))
    return lies + (["problems: %s" % said["problems"]] if bool(said["problems"]) != bool(seen.notes) else [])


def networks_made(*, with_xapi: bool) -> Dict[str, Tuple[str, ...]]:
    """The bridges of networkd.db with their ports: without XAPI only those that are dom0's own. Those of a last boot
    have the same names, and other ports.
    """
    made = [network for network in NETWORKS if network.dom0s or with_xapi]
    vlans = [(network.vlan[0], network.bridge) for network in made if network.vlan]
    return {network.bridge: tuple(sorted((network.bridge,) + network.ports + tuple(
        vlan for parent, vlan in vlans if parent == network.bridge))) for network in made if not network.vlan}


def assert_came_up(seen: Seen, then: Configuration, *, with_xapi: bool) -> None:
    """A boot came to its end, its verdict is true, and the database has this boot's networks and no other."""
    assert (seen.systemd, seen.unit) == ("running", "active")
    assert find_lies(seen) == []
    assert then.boot_id == seen.boot_id
    assert seen.datapaths == "system@ovs-system"
    assert {bridge.name: bridge.ports for bridge in then.bridges} == networks_made(with_xapi=with_xapi)
