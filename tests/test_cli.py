"""The command line: exit codes, output that is gone or narrow, users who may not."""

import os
import subprocess
import sys
from typing import Tuple

import pytest

from ovsxen import __version__
from ovsxen.cli import VERBS
from tests.conftest import REPOSITORY, UNPRIVILEGED, MakeHost, SandboxHost


@pytest.mark.parametrize("arguments, code", [
    ((), 2), (("frobnicate",), 2), (("start", "--frobnicate"), 2), (("start", "--", "true"), 2), (("help",), 0),
    (("--help",), 0), (("start", "extra"), 2), (("sandbox",), 2), (("stop", "--dry-run"), 2),
])
def test_usage_has_its_code(host: SandboxHost, arguments: Tuple[str, ...], code: int) -> None:
    done = host.ovsxen(*arguments)
    assert done.code == code
    assert "usage" in (done.out if code == 0 else done.err)


def test_help_and_readme_name_every_verb(host: SandboxHost) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for verb in VERBS:
        assert verb in host.ovsxen("help").out
        assert "`%s" % verb in readme or "ovsxen %s" % verb in readme, verb


def test_version_tells_what_is_installed_and_what_runs(host: SandboxHost) -> None:
    assert "not" not in host.ovsxen("version").out
    out = host.ovsxen("version").out
    assert "ovsxen %s" % __version__ in out and "installed, stopped" in out
    host.start()
    assert host.ovsxen("version").out.count("running") == 2


def test_the_root_is_taken_from_the_option_before_the_environment(make_host: MakeHost) -> None:
    one, other = make_host(), make_host()
    assert one.ovsxen("--root", str(other.paths.root), "start").code == 0
    assert (one.ovsxen("status").code, other.ovsxen("status").code) == (3, 0)


@pytest.mark.parametrize("root", ["", "/nonexistent"])
def test_a_root_that_is_no_directory_is_a_usage_error(host: SandboxHost, root: str) -> None:
    assert host.ovsxen("--root", root, "start").code == 2


def test_closed_outputs_change_nothing(host: SandboxHost) -> None:
    done = subprocess.run(["sh", "-c", "exec %s -m ovsxen start <&- >&- 2>&-" % sys.executable],
                          env=host.environment(), timeout=60)
    assert done.returncode == 0
    assert host.status()["verdict"] == "running"


def test_an_odd_umask_changes_no_mode(host: SandboxHost) -> None:
    done = subprocess.run(["sh", "-c", "umask 0; exec %s -m ovsxen start" % sys.executable], env=host.environment(),
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0
    assert host.paths.pidfile("ovs-vswitchd").stat().st_mode & 0o022 == 0
    assert host.paths.logdir.stat().st_mode & 0o777 == 0o750


def test_a_relative_root_is_made_absolute(host: SandboxHost) -> None:
    done = subprocess.run([sys.executable, "-m", "ovsxen", "--root", "h0", "start"], cwd=str(host.paths.root.parent),
                          env=host.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0
    assert host.status()["verdict"] == "running"


@pytest.mark.parametrize("verb", ["start", "status", "stop"])
def test_an_output_that_nobody_reads_changes_nothing(host: SandboxHost, verb: str) -> None:
    if verb != "start":
        host.start()
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([sys.executable, "-m", "ovsxen", verb], env=host.environment(), stdin=subprocess.DEVNULL,
                              stdout=write, stderr=write, timeout=60)
    finally:
        os.close(write)
    assert done.returncode == 0
    assert host.ovsxen("status").code == (3 if verb == "stop" else 0)


def test_a_full_device_for_output_changes_nothing(host: SandboxHost) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "ovsxen", "start"], env=host.environment(),
                              stdin=subprocess.DEVNULL, stdout=full, stderr=full, timeout=60)
    assert done.returncode == 0
    assert host.status()["verdict"] == "running"


def test_names_that_the_terminal_cannot_show_do_not_stop_a_start(host: SandboxHost) -> None:
    host.start()
    host.vsctl("add-br", "br\u00fccke")
    host.reboot()
    done = host.ovsxen("start", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert done.code == 0 and "br\\xfccke" in done.out


def test_a_start_does_not_keep_the_callers_pipe_open(host: SandboxHost) -> None:
    """`ssh host ovsxen start` returns when the start does: no daemon inherits its output (openvswitch a34779bcb)."""
    done = host.ovsxen("start", limit_s=30)
    assert done.code == 0
    for name in ("ovsdb-server", "ovs-vswitchd"):
        links = {os.readlink("/proc/%d/fd/%d" % (host.pid(name), fd)) for fd in range(3)}
        assert links == {"/dev/null"}


def test_a_user_who_may_not_is_told_so(host: SandboxHost) -> None:
    host.start()
    for directory, _, names in os.walk(str(host.paths.root)):
        for path in [directory] + [os.path.join(directory, name) for name in names]:
            os.chown(path, 12345, 12345)
    for verb in ("start", "status", "stop"):
        done = subprocess.run(UNPRIVILEGED + [sys.executable, "-m", "ovsxen", verb], env=host.environment(),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 4, (verb, done)
        assert b"as root" in done.stdout + done.stderr
    assert host.status()["verdict"] == "running"
