"""One machine's way through its life, told stage by stage: boots are slow, so one journey serves many tests.

It is switched on for the first time, in a pool with a controller; guests are plugged in and send frames while the
switch's keepers come and go; what a boot has to clear away is left behind; it is rebooted, with a slow switch.
"""

import json
from typing import Any, Dict, List, NamedTuple, Tuple

from ovsxen.sandbox.contents import INSTALLATION_UUID
from ovsxen.sandbox.xapi.world import make_world
from tests.machines.networks import BRIDGES
from tests.machines.verdict import read_status
from tests.machines.vm import Vm
from tests.machines.world import KILL_AND_MEND, PLUG_GUEST, STAND_INS

UNITS = ("openvswitch.service", "xcp-networkd.service", "xapi.service")
WITH_CONTROLLER = "touch /etc/xensource/sdn-controller"
MADE_BY_HAND = 40
SLOW_START_S = 8
FLOW_COOKIE = "0x7e57"
HAPPENINGS = {
    "an update": "ovs-vsctl set Bridge xenbr0 other_config:disable-in-band=true && xe host-call-plugin host-uuid=%s "
                 "plugin=openvswitch-config-update fn=update" % INSTALLATION_UUID,
    "a restart of the toolstack": "systemctl restart xapi && cat /run/xapi.plugin-runs",
    "the death of the daemon": KILL_AND_MEND + " ovsxen",
    "the death of ovs-vswitchd": KILL_AND_MEND + " ovs-vswitchd",
    "a stop": "systemctl stop openvswitch && sleep 3",
    "a start": "systemctl start openvswitch",
    "a restart": "systemctl restart openvswitch",
    "a restart that keeps flows": "ovs-ofctl add-flow xenbr0 cookie=%s,priority=5,actions=normal && "
                                  "ovsxen restart --save-flows && ovs-ofctl dump-flows xenbr0" % FLOW_COOKIE}
"""What happens to a switch that forwards, in this order; each is over once the switch is as it shall be."""

GUEST_IDS = {"xs-vif-uuid": "VIF", "xs-vm-uuid": "VM"}


class Unit(NamedTuple):
    """When systemd began its start and when that was over, in µs since the kernel's; how often it started it again."""

    begun: int
    active: int
    restarts: int


class Seen(NamedTuple):
    """What there is to see of a machine that has booted."""

    state: str
    status: Dict[str, Any]
    datapath: str
    bridges: Dict[str, Dict[str, Any]]
    fake_bridges: Dict[str, str]
    found: List[str]
    failed: List[str]
    units: Dict[str, Unit]
    answers: str
    manager: Dict[str, Any]
    pinned: str
    signed_by: str
    resets: str


class Stream(NamedTuple):
    """Frames from guest to guest while something happened: those that were lost, and whether they arrive in the end."""

    sent: int
    lost: Tuple[int, ...]
    goes_on: bool


class Journey(NamedTuple):
    """What was seen, stage by stage; streams and what was said meanwhile by what happened."""

    first: Seen
    pinged: str
    guest: Dict[str, str]
    streams: Dict[str, Stream]
    said: Dict[str, str]
    left_behind: Tuple[str, ...]
    again: Seen


def travel(vm: Vm) -> Journey:
    """The whole of it, for a machine that is switched off."""
    vm.power_on()
    first = look(vm)
    plug_guests(vm)
    pinged = vm.tell("ip netns exec guest1 ping -c 3 -W 30 198.51.100.2")
    guest = read_guest(vm)
    streams, said = {}, {}
    for name, command in HAPPENINGS.items():
        streams[name], said[name] = stream_during(vm, command)
    left_behind = leave_behind(vm)
    vm.reboot()
    again = look(vm)
    plug_guests(vm)
    streams["nothing, after the reboot"], _ = stream_during(vm, "sleep 1")
    for name, stream in streams.items():
        print("%s: lost %d of %d frames, one every 50 ms" % (name, len(stream.lost), stream.sent))
    return Journey(first, pinged, guest, streams, said, left_behind, again)


def look(vm: Vm) -> Seen:
    """Once it has settled: the controller has answered."""
    state = vm.wait_booted()
    wait_for(vm, "ovs-vsctl get Manager . is_connected | grep true")
    wait_for(vm, "ovs-vsctl br-get-external-id xenbr1 bridge-id | grep .")
    return Seen(
        state, read_status(vm), vm.tell("ovs-dpctl show"),
        {row["name"]: row for row in read_rows(vm, "Bridge")},
        {name: vm.tell("ovs-vsctl br-to-parent %s" % name) for name in vm.tell("ovs-vsctl list-br").split()},
        read_names(vm, "/run/xcp-networkd.found.json"), read_names(vm, "/run/xcp-networkd.failed.json"),
        {name: read_unit(vm, name) for name in UNITS}, vm.tell("cat /run/xapi.plugin-runs"),
        read_rows(vm, "Manager")[0], read_fingerprint(vm, "/etc/openvswitch/vswitchd.cacert-127.0.0.1"),
        read_fingerprint(vm, "/var/lib/controller/ca.pem"),
        vm.tell("ls /etc/openvswitch/reset-*.json"))


def read_names(vm: Vm, path: str) -> List[str]:
    names: List[str] = json.loads(vm.tell("cat " + path))
    return names


def wait_for(vm: Vm, command: str) -> None:
    """Until a command succeeds."""
    vm.tell("for round in $(seq 240); do %s >/dev/null && exit 0; sleep 0.5; done; exit 1" % command, 240)


def read_fingerprint(vm: Vm, certificate: str) -> str:
    return vm.tell("openssl x509 -noout -fingerprint -sha256 -in " + certificate)


def read_unit(vm: Vm, name: str) -> Unit:
    asked = "systemctl show -p InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic,NRestarts " + name
    said = dict(line.split("=") for line in vm.tell(asked).split())
    return Unit(int(said["InactiveExitTimestampMonotonic"]), int(said["ActiveEnterTimestampMonotonic"]),
                int(said["NRestarts"]))


def read_rows(vm: Vm, table: str) -> List[Dict[str, Any]]:
    said = json.loads(vm.tell("ovs-vsctl --format=json list " + table))
    return [{name: read_value(value) for name, value in zip(said["headings"], row)} for row in said["data"]]


def read_value(value: Any) -> Any:
    """OVSDB's maps as such; what is none stays as OVSDB writes it."""
    return dict(value[1]) if isinstance(value, list) and value[0] == "map" else value


def guest_ids() -> Dict[str, str]:
    """What xenopsd writes to the VIF of the pool's first VM, as XAPI knows it."""
    uuids = {row.class_name: row.fields["uuid"] for row in make_world(networks=1).rows}
    return {key: uuids[class_name] for key, class_name in GUEST_IDS.items()}


def plug_guests(vm: Vm) -> None:
    ids = " ".join("%s=%s" % pair for pair in guest_ids().items())
    vm.tell("%s 1 xenbr0 %s && %s 2 xenbr0" % (PLUG_GUEST, ids, PLUG_GUEST))


def read_guest(vm: Vm) -> Dict[str, str]:
    """The external_ids of its VIF, once the sync has looked at it."""
    wait_for(vm, "ovs-vsctl get Interface vif1.0 external-ids:vm-id")
    ids: Dict[str, str] = next(row for row in read_rows(vm, "Interface") if row["name"] == "vif1.0")["external_ids"]
    return ids


def stream_during(vm: Vm, command: str) -> Tuple[Stream, str]:
    """Frames while a command runs; gives what that says, too."""
    vm.tell("systemd-run -q -p Type=notify --unit=stream /%s/stream guest1 guest2 /run/stream.json" % STAND_INS)
    said = vm.tell(command, 240)
    vm.tell("systemctl stop stream")
    heard = json.loads(vm.tell("cat /run/stream.json"))
    return Stream(heard["sent"], tuple(heard["lost"]), heard["goes_on"]), said


def leave_behind(vm: Vm) -> Tuple[str, ...]:
    """Bridges that the next boot must not have, one by the name of a VLAN's, one of networkd's as it never makes it."""
    names = ["by-hand%d" % number for number in range(MADE_BY_HAND)] + ["xapi0"]
    made = " ".join("-- add-br %s -- add-port %s gone-%s" % (name, name, name) for name in names)
    vm.tell("ovs-vsctl --no-wait del-br xapi0 %s -- set Bridge xenbr1 fail_mode=secure other_config:by=hand" % made)
    vm.tell("mkdir -p /etc/systemd/system/openvswitch.service.d && printf '[Service]\\nExecStartPre=/bin/sleep %d\\n'"
            " >/etc/systemd/system/openvswitch.service.d/slow.conf && sync" % SLOW_START_S)
    return tuple(names) + tuple(name for name in BRIDGES if name not in names)
