"""A virtual machine for one list of commands: it boots, runs each of them, and powers off.

Its file system is a directory of this machine that becomes its memory (an initramfs), so that nothing is mounted, and
nothing that it does is left behind. It has no network device. What it says comes out at two serial ports: the kernel's
console, and the answers.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple

from tests.emulator import emulator_argv

LIMIT_S = 180
STEP_LIMIT_S = 60
MEMORY_MIB = 512
CONSOLE, ANSWERS = "console", "answers"
DIRECTORIES = ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64")
MOUNT_POINTS = ("dev", "proc", "sys", "run", "tmp", "etc", "var", "busybox", "steps")
UNUSED_OF_PYTHON = ("test", "idlelib", "tkinter", "lib2to3", "ensurepip", "pydoc_data", "dist-packages", "config-*")
KMOD = ("depmod", "insmod", "lsmod", "modinfo", "modprobe", "rmmod")

INIT = """#!/usr/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/busybox LC_ALL=C
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t proc proc /proc
/usr/bin/busybox --install -s /busybox
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
exec </dev/null >/dev/console 2>&1
for step in /steps/*; do
    echo "step: ${step##*/}"
    timeout %d /usr/bin/sh "$step" >/tmp/said 2>&1
    { echo "${step##*/} $?"; sed 's/^/ /' /tmp/said; echo; } >/dev/ttyS1
done
poweroff -f
""" % STEP_LIMIT_S
"""As PID 1 it must not end, which would be a panic; -no-reboot makes an end of that as well."""


class Step(NamedTuple):
    """A command for the machine's shell, and the name by which its answer is found."""

    name: str
    command: str


class Answer(NamedTuple):
    """The exit code of a step, and what it said, stderr too."""

    code: int
    said: str


class Ended(NamedTuple):
    """A machine that ran: what its kernel and its steps said, and how it ended. Its repr is all of that."""

    console: str
    said: str
    end: str

    def __repr__(self) -> str:
        return "the machine: %s\n--- console\n%s--- answers\n%s" % (self.end, self.console, self.said)

    @property
    def answers(self) -> Dict[str, Answer]:
        return parse_answers(self.said)

    def answer(self, name: str) -> Answer:
        found = self.answers.get(name)
        assert found is not None, "%r was not done by %r" % (name, self)
        return found

    def tell(self, name: str) -> str:
        """What a step said, which must have succeeded."""
        found = self.answer(name)
        assert found.code == 0, "%r failed with %d in %r" % (name, found.code, self)
        return found.said.strip()


def make_root(root: Path) -> None:
    """The directories of a file system, a shell, busybox, and kmod with the names that it goes by.

    The steps have the machine's sh: busybox's takes its own modprobe for any that is on the PATH.
    """
    for name in DIRECTORIES + MOUNT_POINTS:
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to("usr/" + name)
    (root / "var/run").symlink_to("../run")
    copy_programs(root, ["busybox", "kmod", "sh"])
    for name in KMOD:
        (root / "usr/sbin" / name).symlink_to("../bin/kmod")


def copy_programs(root: Path, names: Iterable[str]) -> None:
    """Programs of this machine, to where they are here, and the libraries that they need."""
    for name in names:
        program = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert program is not None, "%s is not installed here: run tools/install-packages rpm" % name
        copy_file(root, Path(program))
        copy_libraries(root, [Path(program)])


def copy_python(root: Path) -> None:
    """This machine's own python3 (not a version manager's), and the standard library as a distribution has it."""
    copy_programs(root, ["python3"])
    asked = ["/usr/bin/python3", "-ISc", "import os; print(os.path.dirname(os.__file__))"]
    library = Path(subprocess.check_output(asked, universal_newlines=True).strip())
    unused = shutil.ignore_patterns(*UNUSED_OF_PYTHON)
    shutil.copytree(str(library), str(root / library.relative_to("/")), ignore=unused)
    copy_libraries(root, (library / "lib-dynload").glob("*.so"))


def copy_libraries(root: Path, programs: Iterable[Path]) -> None:
    """What programs are linked with and this machine has; none for a script or a static one."""
    listed = subprocess.run(["ldd"] + [str(program) for program in programs], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, universal_newlines=True).stdout
    assert "not found" not in listed, "something that is needed is not installed here:\n%s" % listed
    for library in re.findall(r"(/\S+) \(0x", listed):
        copy_file(root, Path(library))


def copy_file(root: Path, path: Path) -> None:
    """A file of this machine, links followed, to the same place below `root`, unless there is one."""
    to = root / path.relative_to("/")
    if not to.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(path), str(to))


def boot(kernel: Path, root: Path, steps: Iterable[Step], work: Path, limit_s: float = LIMIT_S) -> Ended:
    """Have a machine with this kernel and file system run the steps; files of its run go to the directory `work`.

    A step that fails keeps none of the later ones from running. Past the limit the machine is killed.
    """
    for number, step in enumerate(steps):
        (root / "steps" / ("%02d-%s" % (number, step.name))).write_text(step.command + "\n")
    write_executable(root / "init", INIT)
    write_image(root, work / "initramfs")
    for name in (CONSOLE, ANSWERS):
        (work / name).write_bytes(b"")
    end = run_emulator(machine_argv(kernel, work), limit_s)
    console, said = ((work / name).read_text(errors="replace") for name in (CONSOLE, ANSWERS))
    return Ended(console, said, end)


def write_executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def write_image(root: Path, image: Path) -> None:
    """The directory as a cpio archive, the kernel's format; packed it would cost an emulated machine seconds."""
    names = [str(path.relative_to(root)) for path in sorted(root.rglob("*"))]
    with image.open("wb") as archive:
        subprocess.run(["cpio", "--create", "--null", "--format=newc", "--owner=0:0", "--quiet"], cwd=str(root),
                       input="\0".join(names).encode(), stdout=archive, check=True, timeout=LIMIT_S)


def machine_argv(kernel: Path, work: Path) -> List[str]:
    return emulator_argv(MEMORY_MIB) + [
        "-no-reboot", "-serial", "file:%s" % (work / CONSOLE), "-serial", "file:%s" % (work / ANSWERS),
        "-kernel", str(kernel), "-initrd", str(work / "initramfs"),
        "-append", "console=ttyS0 loglevel=5 panic=-1 mitigations=off"]


def run_emulator(argv: List[str], limit_s: float) -> str:
    """Run it to its end, or kill it; says which and when, with its complaints."""
    began = time.monotonic()
    emulator = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                universal_newlines=True)
    try:
        complaints, _ = emulator.communicate(timeout=limit_s)
        return "ended with %d after %.1f s %s" % (emulator.returncode, time.monotonic() - began, complaints)
    except subprocess.TimeoutExpired:
        return "killed, as it had not ended after %d s" % limit_s
    finally:
        if emulator.poll() is None:
            emulator.kill()
            emulator.communicate()


def parse_answers(text: str) -> Dict[str, Answer]:
    """A step's name and exit code, then its lines, each behind a space."""
    found = {}
    for name, code, said in re.findall(r"^\d+-(\S+) (\d+)\n((?: .*\n)*)$", text, re.MULTILINE):
        found[name] = Answer(int(code), re.sub(r"^ ", "", said, flags=re.MULTILINE))
    return found
