"""A world in a container, with its power switch in the test's hand: systemd-nspawn, and a real systemd within a second.

It is used as a virtual machine is (vm.py), which it is not: the kernel is this machine's and has no datapath for it,
so bridges are in userspace, on real devices; and what the page cache has outlives a power cut. `boot_id` tells one boot
from the next.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import List, Optional, Tuple

from ovsxen.host.systemd import SWITCH_UNIT
from tests import container
from tests.container import Container
from tests.machines import rootfs
from tests.machines.vm import Ran
from tests.machines.world import World, mount_command

REBOOT = 133
"""What systemd-nspawn ends with where it is to be started again (systemd-nspawn(1))."""

ENDS_WITHIN_S = 300.0
SWITCH_ON = '%s\nexec "$@"'
WORDS = ("systemd.journald.forward_to_console=1", "systemd.show_status=0")
"""The journal on its console, which is there when the container is gone."""

VSCTL = """#!/bin/sh
# Every bridge that is made, but for those of VLANs, is one in userspace.
name='' last='' more=''
netdev() { more="$more -- set Bridge $name datapath_type=netdev"; }
for word; do
    if [ "$last" = add-br ]; then
        name=$word
    elif [ -n "$name" ]; then
        [ "$word" != -- ] || netdev
        name=''
    fi
    last=$word
done
[ -z "$name" ] || netdev
# shellcheck disable=SC2086
exec /usr/bin/ovs-vsctl "$@" $more
"""


def fit(world: World) -> World:
    """What a world needs in a container: a kernel that has Open vSwitch, and bridges in userspace."""
    layer = world.work / "container"
    container.build_module_in(layer / "usr")
    rootfs.write(layer / "usr/local/bin/ovs-vsctl", VSCTL, 0o755)
    return world.with_layer(layer)


class Nspawn:
    """A container, switched off at first. `work` is a directory for what it changes and what it says; `append` is
    more for its systemd, as a kernel's command line has it.
    """

    def __init__(self, world: World, work: Path, append: str = "") -> None:
        self.world = world
        self.work = work
        self.append = append
        self.boot_id = ""
        self.boots = 0
        self.changes = work / "changes"
        self._nspawn: "Optional[subprocess.Popen[bytes]]" = None
        self._groups: Tuple[Path, ...] = ()
        self._inside: Optional[Container] = None
        for path in (self.changes, work / "scratch", work / "root"):
            path.mkdir(parents=True)

    @property
    def console(self) -> str:
        """What the last boot said on its console: its journal."""
        return self._said.read_text(errors="replace").replace("\r", "")

    @property
    def _said(self) -> Path:
        return self.work / ("console.%d" % self.boots)

    def unit(self, name: str = SWITCH_UNIT) -> Container:
        """The running container, and one of its units."""
        assert self._inside is not None, "it is off"
        return Container(self._inside.leader, name)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of it, on or off."""
        rootfs.write((self._inside.root if self._inside else self.changes) / path, text, mode)

    def read(self, path: str) -> str:
        """A file of it; when it is off, one that it has changed."""
        return ((self._inside.root if self._inside else self.changes) / path).read_text()

    def power_on(self, *, until_booted: bool = True) -> "Nspawn":
        """Switch it on, and wait until systemd has started everything, or only until it runs."""
        assert self._nspawn is None, "it is on"
        self.boots += 1
        name = "oxn-%d-%s" % (os.getpid(), self.work.name)
        self._groups = container.make_cgroups(name)
        self._nspawn = container.start_container(switch_on_argv(self, name), self._said, self._groups)
        self._inside = container.wait_for_leader(self._nspawn, self._said)
        self.boot_id = self.tell("cat /proc/sys/kernel/random/boot_id")
        if until_booted:
            self.wait_booted()
        return self

    def wait_booted(self) -> str:
        """Until systemd has no job left: "running" or "degraded"."""
        state = self.unit().wait_booted()
        assert state, self.describe()
        return state

    def run(self, command: str) -> Ran:
        """A command for its shell, as root."""
        done = self.unit().run("sh", "-c", command)
        return Ran(done.code, done.out, done.err)

    def tell(self, command: str) -> str:
        """A command that must succeed; gives what it says."""
        done = self.run(command)
        assert done.code == 0, "%s: %r\n%s" % (command, done, self.describe())
        return done.out.strip()

    def describe(self) -> str:
        """What a person needs to see who asks why."""
        return "--- console of boot %d\n%s" % (self.boots, self.console[-6000:])

    def reboot(self) -> None:
        """As an administrator does it, in order."""
        self.run("systemctl --no-block reboot")
        code = self._wait_ended()
        assert code == REBOOT, "it ended with %r in place of a reboot\n%s" % (code, self.describe())
        self.power_on()

    def power_cut(self) -> None:
        """All that runs in it is killed at once. It is off then."""
        if self._nspawn is not None:
            container.kill_container(self._nspawn)
            self._close()

    def power_off(self) -> int:
        """In order, as the power button does it; gives nspawn's exit code. One that hangs is cut."""
        if self._inside is not None and self._nspawn is not None and self._nspawn.poll() is None:
            os.kill(self._inside.leader, container.POWER_OFF)
        return self._wait_ended()

    def _wait_ended(self) -> int:
        if self._nspawn is None:
            return 0
        try:
            return self._nspawn.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            container.kill_container(self._nspawn)
            return -signal.SIGKILL
        finally:
            self._close()

    def _close(self) -> None:
        container.remove_cgroups(self._groups)
        self._nspawn = self._inside = None
        self._groups = ()

    def remove(self) -> None:
        """Cut its power, and remove all that it has."""
        self.power_cut()
        shutil.rmtree(str(self.work))


def switch_on_argv(nspawn: Nspawn, name: str) -> List[str]:
    """Its file system is mounted for it alone. systemd-nspawn dies with whoever started it, however that ends. What it
    has started does not: it takes power_cut() to end that.
    """
    root, work = nspawn.work / "root", nspawn.work
    own = ",upperdir=%s,workdir=%s" % (nspawn.changes, work / "scratch")
    return ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation=private", "sh", "-ec",
            SWITCH_ON % mount_command(nspawn.world.layers, root, own), "sh"] + container.nspawn_argv(
        root, name, "--console=read-only", "--bind=/dev/net/tun", "--capability=CAP_IPC_LOCK", "--",
        *(WORDS + tuple(nspawn.append.split())))
