"""What systemd hears of a service, on a socket like its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, Optional

import pytest

from ovsxen.host.notify import LONGEST_BEAT_S, STATUS_CHARACTERS, beat_s, open_notifier
from ovsxen.host.sockets import as_bound
from tests.conftest import REPOSITORY


class Listener:
    """systemd's end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def heard(self) -> str:
        return self._end.recv(65536).decode()


@pytest.fixture(params=["package", "no package"])
def sender(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has the package for systemd, as where tests run; or it has none, as on a host."""
    if request.param == "no package":
        monkeypatch.setitem(sys.modules, "systemd", None)


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, sender: None, tmp_path: Path,
            monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """A systemd that listens to this process; it is looked for in the environment and nowhere else."""
    address = str(tmp_path / "notify") if request.param == "file" else "@ovsxen-test-%d" % os.getpid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(as_bound(address))
        end.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield Listener(end)


def test_every_message_is_what_sd_notify_documents(systemd: Listener) -> None:
    notifier = open_notifier()
    notifier.ready("the switch is up")
    notifier.status("a daemon hangs")
    notifier.extend(1.5)
    notifier.watchdog()
    notifier.reloading()
    notifier.stopping("stopping")
    assert [systemd.heard() for _ in range(6)] == [
        "READY=1\nSTATUS=the switch is up", "STATUS=a daemon hangs", "EXTEND_TIMEOUT_USEC=1500000", "WATCHDOG=1",
        "RELOADING=1", "STOPPING=1\nSTATUS=stopping"]


@pytest.mark.parametrize("text, shown", [
    ("one\nREADY=1\n", "one READY=1"), ("", ""), ("\x1b[31mred\0", "?[31mred?"), ("bridge \udcff", "bridge ?"),
    ("Brücke", "Brücke"), ("x" * 5000, "x" * STATUS_CHARACTERS),
    ("\U0001d538" * 5000, "\U0001d538" * STATUS_CHARACTERS)])
def test_a_status_is_one_short_line_whatever_is_in_it(systemd: Listener, text: str, shown: str) -> None:
    open_notifier().status(text)
    assert systemd.heard() == "STATUS=" + shown


def test_where_nobody_listens_nothing_is_said_and_nothing_imported() -> None:
    code = ("import sys\nfrom ovsxen.host.notify import open_notifier\n"
            "notifier = open_notifier()\nnotifier.ready('')\nnotifier.watchdog()\nnotifier.stopping('')\n"
            "print([name for name in sys.modules if name.split('.')[0] == 'systemd'])")
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    assert subprocess.check_output([sys.executable, "-c", code], cwd=str(REPOSITORY), env=environment) == b"[]\n"


def test_a_systemd_that_is_gone_ends_nothing(sender: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    open_notifier().watchdog()
    assert [record.getMessage() for record in caplog.records] == [
        "systemd was not told WATCHDOG=1 (No such file or directory): look whether it still answers, "
        "with `systemctl status`"]


def test_a_process_that_runs_itself_anew_is_still_heard(systemd: Listener) -> None:
    code = ("import os, sys\nfrom ovsxen.host.notify import open_notifier\n"
            "open_notifier().status('%d' % os.getpid())\n"
            "if 'AGAIN' not in os.environ: os.execve(sys.executable, [sys.executable] + sys.argv[1:], "
            "dict(os.environ, AGAIN='1'))")
    subprocess.check_call([sys.executable, "-c", code, "-c", code], cwd=str(REPOSITORY))
    assert systemd.heard() == systemd.heard()


@pytest.mark.parametrize("environ, seconds", [
    ({}, None),
    ({"WATCHDOG_USEC": "180000000"}, LONGEST_BEAT_S),
    ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}, 0.125),
    ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, None),
    ({"WATCHDOG_USEC": "0"}, None),
    ({"WATCHDOG_USEC": "soon"}, None)])
def test_the_watchdog_is_for_this_process_or_for_nobody(environ: Dict[str, str], seconds: Optional[float]) -> None:
    assert beat_s(environ, 7) == seconds
