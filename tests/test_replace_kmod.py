"""The kernel module replaced: real daemons, and programs in the place of the kernel, whose state is in the host's root.
Once with real interfaces, which go with a userspace datapath as they do with a kernel's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from ovsxen.host import identity, proc, process
from ovsxen.ovs.daemons import MANAGERS_REMOTE, VSWITCHD
from tests.conftest import SandboxHost
from tests.frames import Wire
from tests.watching import both_run, pids

FORCE_RELOAD = """
import json, os, sys
from pathlib import Path
from ovsxen.host.paths import paths_under
from ovsxen.host.settings import read_settings
from ovsxen.replace_kmod import force_reload_kmod
from ovsxen.sequence import Host
paths, phases, warnings = paths_under(Path(os.environ["OVSXEN_ROOT"]), os.environ), [], []
running = force_reload_kmod(Host(paths, read_settings(paths)), warnings.append, restart_ha="--ha" in sys.argv)
for phase in running:
    phases.append(phase.as_json())
    if phase.name == sys.argv[-1]:
        break
running.close()
print(json.dumps({"phases": phases, "warnings": warnings}))
"""

MEND = """
import os
from pathlib import Path
from ovsxen import left_over
from ovsxen.host.paths import paths_under
from ovsxen.host.settings import read_settings
from ovsxen.sequence import Host, Run
paths = paths_under(Path(os.environ["OVSXEN_ROOT"]), os.environ)
print(left_over.mend(Run(Host(paths, read_settings(paths)), print)).outcome.value)
"""

MODPROBE = """
refuse() { echo "modprobe: ERROR: could not insert '$1': $2" >&2; exit 1; }
[ ! -e "$root/refuse" ] || refuse "$1" "Exec format error"
[ ! -e "$root/refuse-parameters" ] || [ $# = 1 ] || refuse "$1" "Invalid argument"
[ "$1" = openvswitch ] || exit 1
mkdir -p "$sys/openvswitch/holders" "$sys/openvswitch/parameters"
echo 0 > "$sys/openvswitch/refcnt"; echo new > "$sys/openvswitch/version"
echo N > "$sys/openvswitch/parameters/offload"; echo '(null)' > "$sys/openvswitch/parameters/label"
shift
for one; do echo "${one#*=}" > "$sys/openvswitch/parameters/${one%%=*}"; done
"""
RMMOD = """
[ ! -e "$root/kill" ] || kill -9 $PPID
[ ! -e "$root/at-rmmod" ] || { . "$root/at-rmmod"; rm "$root/at-rmmod"; }
[ ! -s "$root/datapaths" ] && [ ! -e "$root/held" ] && [ -z "$(ls "$sys/$1/holders" 2>/dev/null)" ] ||
    { echo "rmmod: ERROR: Module $1 is in use" >&2; exit 1; }
[ -e "$sys/$1" ] || [ -e "$sys/openvswitch/holders/$1" ] || exit 1
rm -rf "$sys/$1" "$sys/openvswitch/holders/$1"
"""
DPCTL = """
case "$1" in
dump-dps) cat "$root/datapaths";;
del-dp) [ ! -e "$root/stuck" ] || { echo "ovs-dpctl: Device or resource busy" >&2; exit 1; }
    [ ! -e "$root/sticky" ] || exit 0
    sed -i "\\\\,^$2\\$,d" "$root/datapaths"
    for port in $(cat "$root/ports"); do ip link delete "$port"; done;;
esac
"""
XHAD = """
case "$0" in
*ha_stop_daemon) [ ! -e "$root/ha-stays" ] || { echo "cannot" >&2; exit 1; }; kill $(cat "$root/xhad.pid");;
*) "$root/xhad" 600 & echo $! > "$root/xhad.pid";;
esac
"""


class Kernel:
    """Programs in the place of a kernel that has the module loaded, and of HA. `calls` are those that changed
    something, each with whether ovs-vswitchd ran then.
    """

    def __init__(self, host: SandboxHost) -> None:
        self.host = host
        self.root = host.paths.root
        self.module = host.paths.sys_module / "openvswitch"
        bin_dir = self.root / "bin"
        host.env["PATH"] = os.pathsep.join([str(bin_dir)] + proc.search_path())
        for name, body in (("modprobe", MODPROBE), ("rmmod", RMMOD), ("ovs-dpctl", DPCTL)):
            self.script(bin_dir / name, body)
        host.write(host.paths.proc_modules, "")
        host.write(host.paths.lib_modules / identity.kernel_release() / "extra/openvswitch.ko", "")
        for name, text in (("version", "old"), ("refcnt", "2"), ("holders/vport_geneve", ""),
                           ("parameters/offload", "Y"), ("parameters/label", "(null)")):
            host.write(self.module / name, text + "\n")
        host.write(self.root / "datapaths", "system@ovs-system\nsystem@other\n")
        host.write(self.root / "ports", "")

    def script(self, path: Path, body: str) -> None:
        self.host.write(path, '#!/bin/sh\nroot="%s" sys="%s"\n' % (self.root, self.host.paths.sys_module) + (
            'ran=stopped; [ ! -e "%s" ] || ran=running\n' % self.host.paths.pidfile(VSWITCHD)
            + 'case "$1" in dump-dps) ;; *) echo "$ran: ${0##*/} $*" >> "$root/calls";; esac\n') + body)
        path.chmod(0o755)

    def arm_ha(self) -> None:
        """xhad runs, and has a configuration."""
        self.host.write(self.root / "etc/xensource/xhad.conf", "")
        (self.root / "xhad").symlink_to("/bin/sleep")
        for name in ("ha_stop_daemon", "ha_start_daemon"):
            self.script(self.root / "opt/xensource/xha" / name, XHAD)
        subprocess.run([str(self.root / "opt/xensource/xha/ha_start_daemon")], check=True, timeout=60,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (self.root / "calls").unlink()

    def xhad_runs(self) -> bool:
        path = self.root / "xhad.pid"
        return path.exists() and process.read_process(int(path.read_text())) is not None

    def kill_xhad(self) -> None:
        if self.xhad_runs():
            os.kill(int((self.root / "xhad.pid").read_text()), 9)

    def calls(self) -> List[str]:
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def version(self) -> str:
        return (self.module / "version").read_text().strip()

    def parameter(self, name: str) -> str:
        return (self.module / "parameters" / name).read_text().strip()


@pytest.fixture
def kernel(host: SandboxHost) -> Iterator[Kernel]:
    """A started host with the module of before in its kernel, and the new one on its disk."""
    made = Kernel(host)
    host.start()
    yield made
    made.kill_xhad()


def force_reload(host: SandboxHost, *options: str) -> Dict[str, Any]:
    return by_name(host.tool(sys.executable, "-c", FORCE_RELOAD, *options))


def by_name(text: str) -> Dict[str, Any]:
    """The phases by name, and the warnings."""
    said = json.loads(text)
    return dict({phase["name"]: phase for phase in said["phases"]}, warnings=said["warnings"])


def failed(said: Dict[str, Any]) -> Dict[str, str]:
    """Why each phase failed that did."""
    return {name: phase["reason"] for name, phase in said.items() if name != "warnings"
            and phase["outcome"] == "failed"}


def test_the_module_is_replaced_while_vswitchd_is_stopped_and_keeps_its_parameters(kernel: Kernel) -> None:
    before = pids(kernel.host)
    said = force_reload(kernel.host)
    assert failed(said) == {} and said["warnings"] == []
    assert kernel.calls() == ["stopped: ovs-dpctl del-dp system@ovs-system", "stopped: ovs-dpctl del-dp system@other",
                              "stopped: rmmod vport_geneve", "stopped: rmmod openvswitch",
                              "stopped: modprobe openvswitch offload=Y"]
    assert (kernel.version(), kernel.parameter("offload"), kernel.parameter("label")) == ("new", "Y", "(null)")
    assert not set(before.values()) & set(pids(kernel.host).values())
    assert kernel.host.status()["verdict"] == "running"


def test_it_may_be_repeated(kernel: Kernel) -> None:
    assert failed(force_reload(kernel.host)) == {}
    assert failed(force_reload(kernel.host)) == {}
    assert kernel.calls()[-2:] == ["stopped: rmmod openvswitch", "stopped: modprobe openvswitch offload=Y"]


@pytest.mark.parametrize("spoil, said", [
    (lambda kernel: kernel.host.paths.proc_modules.unlink(), "this kernel loads no modules"),
    (lambda kernel: kernel.host.write(kernel.host.paths.lib_modules / identity.kernel_release() / "modules.builtin",
                                      "kernel/net/openvswitch/openvswitch.ko\n"), "built into the kernel"),
    (lambda kernel: shutil.rmtree(str(kernel.host.paths.lib_modules)), "no openvswitch.ko for the running kernel"),
    (lambda kernel: kernel.host.write(kernel.host.paths.modprobe_dirs[0] / "off.conf",
                                      "install openvswitch /bin/false\n"), "off.conf"),
    (lambda kernel: kernel.host.write(kernel.host.paths.kept_interfaces, "nonsense"), "cannot be read"),
])
def test_what_would_fail_later_is_refused_before_anything_is_stopped(kernel: Kernel, spoil: Any, said: str) -> None:
    before = pids(kernel.host)
    spoil(kernel)
    reasons = " ".join(failed(force_reload(kernel.host)).values())
    assert said in reasons
    assert pids(kernel.host) == before and kernel.calls() == [] and kernel.version() == "old"


@pytest.mark.parametrize("program", ["modprobe", "rmmod", "ovs-dpctl"])
def test_a_missing_program_is_named_before_anything_is_stopped(kernel: Kernel, program: str, tmp_path: Path) -> None:
    before = pids(kernel.host)
    for directory in proc.search_path():
        for path in Path(directory).glob("*"):
            if path.name != program and not (tmp_path / path.name).is_symlink():
                (tmp_path / path.name).symlink_to(path)
    kernel.host.env["PATH"] = str(tmp_path)
    script = "from ovsxen.host import proc; proc.SYSTEM_DIRS = ()\n" + FORCE_RELOAD
    done = kernel.host.tool(sys.executable, "-c", script)
    assert "the program %s is not on this host" % program in done
    assert pids(kernel.host) == before


def test_a_module_that_stays_is_said_with_what_holds_it_and_used_again(kernel: Kernel) -> None:
    (kernel.root / "held").touch()
    said = failed(force_reload(kernel.host))
    assert list(said) == ["new module"]
    assert "vport_geneve stays" in said["new module"] and "in use" in said["new module"]
    assert kernel.version() == "old"
    status = kernel.host.status()
    assert status["verdict"] == "degraded" and any("vport_geneve stays" in problem for problem in status["problems"])
    kernel.host.start()
    assert kernel.host.status()["verdict"] == "running"


def test_a_holder_that_is_none_of_ours_is_named(kernel: Kernel) -> None:
    (kernel.module / "holders/stranger").touch()
    reason = failed(force_reload(kernel.host))["new module"]
    assert "openvswitch stays" in reason and "references: 2, held by stranger" in reason


@pytest.mark.parametrize("spoiler, why", [("stuck", "Device or resource busy"), ("sticky", "is still there")])
def test_a_datapath_that_stays_leaves_the_module_alone(kernel: Kernel, spoiler: str, why: str) -> None:
    (kernel.root / spoiler).touch()
    said = force_reload(kernel.host)
    assert list(failed(said)) == ["datapaths"] and why in said["datapaths"]["reason"]
    assert said["new module"]["outcome"] == "skipped"
    assert kernel.version() == "old" and both_run(kernel.host)


def test_a_new_module_that_does_not_load_fails_and_the_daemons_run(kernel: Kernel) -> None:
    (kernel.root / "refuse").touch()
    said = failed(force_reload(kernel.host))
    assert list(said) == ["new module"] and "Exec format error" in said["new module"]
    assert both_run(kernel.host)


def test_a_module_that_takes_no_such_parameters_is_loaded_without(kernel: Kernel) -> None:
    (kernel.root / "refuse-parameters").touch()
    said = force_reload(kernel.host)
    assert said["new module"]["outcome"] == "degraded" and said["new module"]["names"] == ["offload=Y"]
    assert (kernel.version(), kernel.parameter("offload")) == ("new", "N")


def test_nothing_is_replaced_in_bridge_mode(kernel: Kernel) -> None:
    kernel.host.write(kernel.host.paths.network_conf, "bridge\n")
    assert list(force_reload(kernel.host)) == ["gate", "warnings"] and kernel.calls() == []


def test_it_is_refused_while_ha_is_armed_and_says_what_to_do(kernel: Kernel) -> None:
    kernel.arm_ha()
    before = pids(kernel.host)
    said = failed(force_reload(kernel.host))
    assert "HA is armed" in said["replaceable"] and "--ha restart" in said["replaceable"]
    assert pids(kernel.host) == before and kernel.calls() == [] and kernel.xhad_runs()


def test_the_ha_daemon_is_stopped_around_it_where_that_is_asked_for(kernel: Kernel) -> None:
    kernel.arm_ha()
    assert failed(force_reload(kernel.host, "--ha")) == {}
    assert kernel.calls()[0].startswith("running: ha_stop_daemon")
    assert kernel.calls()[-1].startswith("running: ha_start_daemon") and kernel.calls()[-2].startswith("stopped: mod")
    assert kernel.xhad_runs()


@pytest.mark.parametrize("spoiler", ["held", "stuck", "refuse", "ha-stays"])
def test_the_ha_daemon_runs_again_on_every_path(kernel: Kernel, spoiler: str) -> None:
    kernel.arm_ha()
    (kernel.root / spoiler).touch()
    assert len(failed(force_reload(kernel.host, "--ha"))) == 1
    assert kernel.xhad_runs() and both_run(kernel.host)


def test_nothing_is_stopped_where_the_ha_daemon_does_not_stop(kernel: Kernel) -> None:
    kernel.arm_ha()
    (kernel.root / "ha-stays").touch()
    before = kernel.host.pid(VSWITCHD)
    assert "cannot" in failed(force_reload(kernel.host, "--ha"))["stop HA"]
    assert kernel.host.pid(VSWITCHD) == before and kernel.version() == "old"


def test_the_ha_daemon_runs_again_where_the_run_is_given_up(kernel: Kernel) -> None:
    kernel.arm_ha()
    said = force_reload(kernel.host, "--ha", "stop HA")
    assert said["stop HA"]["outcome"] == "done" and "start HA" not in said
    assert kernel.xhad_runs()


@pytest.mark.parametrize("active, outcome, restarts", [(0, "done", 1), (3, "unchanged", 0)])
def test_the_sync_service_is_restarted_where_it_runs(
        kernel: Kernel, active: int, outcome: str, restarts: int) -> None:
    kernel.host.write(kernel.root / "run/systemd/system/.keep", "")
    kernel.script(kernel.root / "bin/systemctl", 'case "$1" in is-active) exit %d;; esac\n' % active)
    assert force_reload(kernel.host)["sync"]["outcome"] == outcome
    restart = "running: systemctl --no-block try-restart openvswitch-xapi-sync.service"
    assert kernel.calls().count(restart) == restarts


def addresses(wire: Wire, device: str = "xenbr0") -> List[str]:
    return wire.inside("ip", "-br", "address", "show", "dev", device, "scope", "global").split()[2:]


@pytest.fixture
def kernel_inside(wire: Wire) -> Iterator[Kernel]:
    """The kernel of a host in a network namespace."""
    made = Kernel(wire.host)
    yield made
    made.kill_xhad()


@pytest.fixture
def wired(wire: Wire, kernel_inside: Kernel) -> Wire:
    """That host, whose bridge has an address and a route."""
    wire.host.write(kernel_inside.root / "datapaths", "system@ovs-system\n")
    wire.host.write(kernel_inside.root / "ports", "xenbr0\n")
    wire.inside("ip", "address", "add", "192.0.2.5/24", "dev", "xenbr0")
    wire.inside("ip", "route", "add", "default", "via", "192.0.2.1")
    return wire


def force_reload_inside(wire: Wire, *options: str) -> Dict[str, Any]:
    return by_name(wire.inside(sys.executable, "-c", FORCE_RELOAD, *options))


def test_the_bridges_of_the_host_have_their_addresses_and_routes_again(wired: Wire) -> None:
    before, routes = addresses(wired), wired.inside("ip", "route")
    said = force_reload_inside(wired)
    assert failed(said) == {} and said["keep"]["names"] == ["xenbr0"]
    assert said["interfaces"]["outcome"] == "done"  # they were gone
    assert addresses(wired) == before and wired.inside("ip", "route") == routes
    assert not wired.host.paths.kept_interfaces.exists()


def test_interfaces_are_put_back_once_the_switch_runs_and_before_managers_may_connect(wired: Wire) -> None:
    force_reload_inside(wired, "interfaces")  # and no further
    assert addresses(wired) == ["192.0.2.5/24"] and wired.host.pid(VSWITCHD)
    remotes = ("ovs-appctl", "-t", "ovsdb-server", "ovsdb-server/list-remotes")
    assert MANAGERS_REMOTE not in wired.host.tool(*remotes)
    wired.inside(sys.executable, "-m", "ovsxen", "start")
    assert MANAGERS_REMOTE in wired.host.tool(*remotes)


def test_the_ha_daemon_finds_the_addresses_when_it_starts(wired: Wire, kernel_inside: Kernel) -> None:
    kernel_inside.arm_ha()
    start = wired.host.paths.xha_dir / "ha_start_daemon"
    kernel_inside.script(start, 'ip -br address show dev xenbr0 > "$root/at-start"\n' + XHAD)
    assert failed(force_reload_inside(wired, "--ha")) == {}
    assert "192.0.2.5/24" in (kernel_inside.root / "at-start").read_text() and kernel_inside.xhad_runs()


@pytest.fixture
def killed(wired: Wire) -> Wire:
    """The same, after a run that was killed while the module was out, and a start of the switch."""
    killing = wired.host.paths.root / "kill"
    killing.touch()
    with pytest.raises(AssertionError):
        force_reload_inside(wired)
    killing.unlink()
    wired.inside(sys.executable, "-m", "ovsxen", "start")
    return wired


def test_what_a_killed_run_had_kept_is_put_back_by_the_next_one(killed: Wire) -> None:
    assert failed(force_reload_inside(killed)) == {}
    assert addresses(killed) == ["192.0.2.5/24"] and "default via 192.0.2.1" in killed.inside("ip", "route")


def test_what_a_killed_run_had_kept_is_put_back_after_a_start(killed: Wire) -> None:
    killed.inside(sys.executable, "-c", MEND)
    assert addresses(killed) == ["192.0.2.5/24"] and "default via 192.0.2.1" in killed.inside("ip", "route")
    assert killed.inside(sys.executable, "-c", MEND) == "unchanged"


def test_an_interface_that_does_not_come_back_is_named_and_what_it_had_stays_kept(wired: Wire) -> None:
    wired.host.vsctl("add-br", "xenbr1", "--", "set", "Bridge", "xenbr1", "datapath_type=netdev")
    wired.inside("ip", "address", "add", "198.51.100.5/24", "dev", "xenbr1")
    before = addresses(wired)
    wired.host.write(wired.host.paths.root / "ports", "xenbr0 xenbr1\n")
    wired.host.write(wired.host.paths.root / "at-rmmod", "ovs-vsctl --no-wait del-br xenbr1\n")
    said = failed(force_reload_inside(wired))
    assert list(said) == ["interfaces"] and "xenbr1 is not there" in said["interfaces"]
    assert addresses(wired) == before
    wired.host.vsctl("add-br", "xenbr1", "--", "set", "Bridge", "xenbr1", "datapath_type=netdev")
    assert failed(force_reload_inside(wired)) == {}
    assert addresses(wired, "xenbr1") == ["198.51.100.5/24"]


def test_what_is_refused_leaves_nothing_to_be_put_back(kernel: Kernel, tmp_path: Path) -> None:
    kernel.host.env["OVS_PKGDATADIR"] = str(tmp_path)
    assert list(failed(force_reload(kernel.host))) == ["host"]
    assert kernel.calls() == [] and not kernel.host.paths.kept_interfaces.exists()
