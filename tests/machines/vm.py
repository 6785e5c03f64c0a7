"""A virtual machine with its power switch in the test's hand, and a disk of its own over a world's.

There is no network device. `boot_id` tells one boot from the next. What the console said is kept boot by boot, and is
shown where something fails.
"""

import base64
import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from tests.emulator import emulator_argv
from tests.machines.loader import DISK
from tests.machines.world import World

BOOT_WITHIN_S = 300.0
RUN_WITHIN_S = 120.0
MEMORY_MIB = 768
EARLY_FAULTS = ("Oops", "BUG:", "Kernel panic")
FIRST_OF_SYSTEMD = "systemd[1]: "
SAVED = "booted"
COMMAND_LINE = "root=%s rw console=ttyS0 panic=-1 net.ifnames=0 mitigations=off systemd.show_status=1" % DISK


class GuestError(AssertionError):
    """The machine did not do as it was told; with what it said."""


class Ran(NamedTuple):
    """A command that ended in the machine."""

    code: Optional[int]
    out: str
    err: str


class Setup(NamedTuple):
    """What a machine is switched on with: more for the kernel's command line, and another kernel or loader."""

    append: str = ""
    kernel: Optional[Path] = None
    loader: Optional[Path] = None
    memory_mib: int = MEMORY_MIB
    saved: bool = False
    """Whether it goes on from the state that its disk has, in place of a boot."""

    logged: bool = False
    """Whether its disk is a plain copy of the world's, and every write to it is logged beside it (write_log.py)."""


class Vm:
    """A machine, switched off at first. `work` is a directory for its disk and what it says."""

    def __init__(self, world: World, work: Path, setup: Setup = Setup()) -> None:  # noqa: B008
        self.world = world
        self.work = work
        self.setup = setup
        self.boot_id = ""
        self.boots = 0
        self.disk = work / ("disk.img" if setup.logged else "disk.qcow2")
        self._emulator: "Optional[subprocess.Popen[bytes]]" = None
        self._line: Optional[socket.socket] = None
        self._heard = b""
        self._answers: Dict[int, Dict[str, Any]] = {}
        self._asked = 0
        work.mkdir(parents=True, exist_ok=True)
        if not self.disk.exists():
            make_disk(self)

    @property
    def console(self) -> str:
        """What the last boot said on its console."""
        return (self.work / ("console.%d" % self.boots)).read_text(errors="replace")

    def power_on(self, *, until_booted: bool = True) -> "Vm":
        """Switch it on, and wait until systemd has started everything, or only until it answers.

        A kernel that falls over before systemd begins, which is QEMU's fault, is told of and gets another chance, once.
        """
        self._switch_on()
        try:
            self.wait_answering()
        except GuestError:
            said = self.console
            if FIRST_OF_SYSTEMD in said or not any(fault in said for fault in EARLY_FAULTS):
                raise
            print("the kernel fell over before systemd began, and is started once more:\n" + said[-2000:])
            self.power_off()
            self._switch_on()
            self.wait_answering()
        if until_booted and not self.setup.saved:
            self.wait_booted()
        return self

    def _switch_on(self) -> None:
        assert self._emulator is None, "it is on"
        self.boots += 1
        self.boot_id = ""
        self._heard, self._answers = b"", {}
        for name in ("agent", "monitor"):
            if (self.work / name).exists():
                (self.work / name).unlink()
        with (self.work / "emulator").open("wb") as complaints:
            self._emulator = subprocess.Popen(machine_argv(self), stdin=subprocess.DEVNULL, stdout=complaints,
                                              stderr=complaints)
        self._line = self._connect("agent")

    def _connect(self, name: str) -> socket.socket:
        end = time.monotonic() + 30
        while True:
            opened = socket.socket(socket.AF_UNIX)
            try:
                opened.connect(str(self.work / name))
                return opened
            except OSError:
                opened.close()
                if self.has_ended() or time.monotonic() > end:
                    raise GuestError("no emulator:\n" + (self.work / "emulator").read_text()) from None
                time.sleep(0.01)

    def has_ended(self) -> bool:
        """It is off, or has switched itself off."""
        return self._emulator is None or self._emulator.poll() is not None

    def wait_answering(self, not_in: str = "") -> None:
        """Until it answers, in another boot than `not_in`. One that goes on from a saved state is asked which it is."""
        end = time.monotonic() + BOOT_WITHIN_S
        if self.setup.saved and not self.boot_id:
            self.boot_id = self.tell("cat /proc/sys/kernel/random/boot_id")
        while self.boot_id in ("", not_in):
            self._listen(end, "answer")

    def wait_booted(self) -> str:
        """Until systemd has no job left: "running" or "degraded"."""
        return self.run("systemctl is-system-running --wait", BOOT_WITHIN_S).out.strip()

    def run(self, command: str, within_s: float = RUN_WITHIN_S) -> Ran:
        """A command for its shell, as root. Past the limit its code is None."""
        assert self._line is not None, "it is off"
        self._asked += 1
        number = self._asked
        self._line.sendall(json.dumps({"id": number, "command": command, "limit_s": within_s}).encode() + b"\n")
        end = time.monotonic() + within_s + 60
        while number not in self._answers:
            self._listen(end, "answer to: " + command)
        answer = self._answers.pop(number)
        out, err = (base64.b64decode(answer[name]).decode(errors="replace") for name in ("out", "err"))
        return Ran(answer["code"], out, err)

    def tell(self, command: str, within_s: float = RUN_WITHIN_S) -> str:
        """A command that must succeed; gives what it says."""
        done = self.run(command, within_s)
        if done.code != 0:
            raise GuestError("%s: %r\n%s" % (command, done, self.describe()))
        return done.out.strip()

    def _listen(self, end: float, what: str) -> None:
        assert self._line is not None
        left = end - time.monotonic()
        self._line.settimeout(max(0.01, min(left, 1.0)))
        try:
            data = self._line.recv(1 << 20)
        except socket.timeout:
            if left <= 0:
                raise GuestError("the machine did not %s in time\n%s" % (what, self.describe())) from None
            return
        if not data:
            raise GuestError("the machine is gone, and did not %s\n%s" % (what, self.describe()))
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        """A line may have been cut by a reset, and begin with what the port said before."""
        try:
            message = json.loads(line[line.index(b"{"):].decode())
        except ValueError:
            return
        self.boot_id = message["boot_id"]
        if "id" in message:
            self._answers[message["id"]] = message

    def describe(self) -> str:
        """What a person needs to see who asks why."""
        return "--- console of boot %d\n%s" % (self.boots, self.console[-6000:])

    def reboot(self) -> None:
        """As an administrator does it, in order."""
        before = self.boot_id
        self.run("systemctl --no-block reboot")
        self.wait_answering(not_in=before)
        self.wait_booted()

    def power_cut(self) -> None:
        """What the machine had not flushed to its disk is lost. It is off then."""
        if self._emulator is not None:
            self._emulator.kill()
        self._close()

    def power_off(self) -> int:
        """In order, as the power button does it; gives the emulator's exit code. One that hangs is cut."""
        if self._emulator is None:
            return 0
        if not self.has_ended() and self.boot_id:
            self.monitor("system_powerdown")
        try:
            return self._emulator.wait(BOOT_WITHIN_S if self.boot_id else 0.1)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            self.power_cut()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._emulator is not None:
            self._emulator.wait()
        self._line = self._emulator = None

    def monitor(self, command: str, **arguments: Any) -> Any:
        """A command for the emulator itself (QMP); gives what it returns."""
        with self._connect("monitor") as opened, opened.makefile("rwb") as lines:
            lines.readline()
            for name, given in (("qmp_capabilities", {}), (command, arguments)):
                lines.write(json.dumps({"execute": name, "arguments": given}).encode() + b"\n")
                lines.flush()
                answer: Dict[str, Any] = {}
                while not {"return", "error"} & set(answer):
                    answer = json.loads(lines.readline().decode())
                assert "error" not in answer, answer
        return answer["return"]

    def save(self) -> None:
        """Keep its state in its disk; it is off then. Other machines go on from copies of that."""
        said = self.monitor("human-monitor-command", **{"command-line": "savevm " + SAVED})
        assert said == "", said
        self.power_cut()

    def copy_saved(self, work: Path) -> "Vm":
        """Another machine, switched off, which goes on from where this one was saved."""
        work.mkdir(parents=True)
        copy_sparsely(self.disk, work / self.disk.name)
        return Vm(self.world, work, self.setup._replace(saved=True))

    def remove(self) -> None:
        """Cut its power, and remove all that it has."""
        self.power_cut()
        shutil.rmtree(str(self.work))


def make_disk(vm: Vm) -> None:
    if vm.setup.logged:
        copy_sparsely(vm.world.image, vm.disk)
        write_log_of(vm).touch()
    else:
        make_overlay(vm.world.image, vm.disk)


def write_log_of(vm: Vm) -> Path:
    return vm.work / "writes"


def copy_sparsely(image: Path, copy: Path) -> None:
    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)


def make_overlay(image: Path, overlay: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "raw", str(overlay)], check=True)


def machine_argv(vm: Vm) -> List[str]:
    world, setup, work = vm.world, vm.setup, vm.work
    argv = emulator_argv(setup.memory_mib) + [
        "-serial", "file:%s" % (work / ("console.%d" % vm.boots)),
        "-chardev", "socket,id=agent,path=%s,server=on,wait=off" % (work / "agent"), "-serial", "chardev:agent",
        "-qmp", "unix:%s,server=on,wait=off" % (work / "monitor"),
        "-kernel", str(setup.kernel or world.rootfs.kernel), "-initrd", str(setup.loader or world.loader),
        "-append", (COMMAND_LINE + " " + setup.append).strip()]
    return argv + disk_argv(vm) + (["-loadvm", SAVED] if setup.saved else [])


def disk_argv(vm: Vm) -> List[str]:
    backend = "file=%s,format=qcow2" % vm.disk
    if vm.setup.logged:
        backend = "driver=blklogwrites,file.driver=file,file.filename=%s,log.driver=file,log.filename=%s" % (
            vm.disk, write_log_of(vm))
    return ["-drive", backend + ",if=none,id=disk,cache=writeback", "-device", "virtio-blk-pci,drive=disk"]
