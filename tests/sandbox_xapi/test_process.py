"""The fake XAPI as a process, and the small xe that speaks to it."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

import pytest

from ovsxen.host.clock import Deadline
from ovsxen.sandbox.xapi.faults import FAULTS
from ovsxen.sandbox.xapi.server import FakeXapi
from tests.sandbox_xapi.conftest import LIMIT_S, Host, MakeXapi, environment_of_repository
from tests.sandbox_xapi.test_plugins import SUCCESS, saying


class Process:
    """`python -m ovsxen.sandbox.xapi` for a host, its output a pipe."""

    def __init__(self, host: Host, *options: str) -> None:
        self.host = host
        self.child = subprocess.Popen(
            [sys.executable, "-m", "ovsxen.sandbox.xapi", str(host.paths.root)] + list(options),
            env=environment_of_repository(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def wait_until_it_serves(self) -> None:
        assert Deadline(LIMIT_S).wait_until(self._serves), self.child.poll()

    def _serves(self) -> bool:
        try:
            self.host.connect().close()
        except OSError:
            return False
        return True

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def processes() -> Iterator[List[Process]]:
    """Whatever is put into it is ended."""
    started: List[Process] = []
    yield started
    for process in started:
        process.end()


def start(processes: List[Process], host: Host, *options: str) -> Process:
    processes.append(Process(host, *options))
    processes[-1].wait_until_it_serves()
    return processes[-1]


def xe(host: Host, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "ovsxen.sandbox.xapi.xe", str(host.socket)] + list(words),
                          env=environment_of_repository(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60)


def test_the_process_serves_until_a_signal_and_holds_no_pipe(host: Host, processes: List[Process]) -> None:
    process = start(processes, host, "--networks", "5", "--vlans", "2", "--bond")
    client = host.client().xenapi
    assert len(client.network.get_all()) == 5 + 1 + 2 + 1
    assert [pif["device"] for pif in client.PIF.get_all_records_where('field "management"="true"').values()] == [
        "bond0"]
    assert process.child.stdout is not None
    assert process.child.stdout.read() == b""  # ends while the process goes on: nobody holds the other end
    assert process.child.poll() is None
    assert [path.name for path in host.paths.root.rglob("*")] == ["var", "lib", "xcp", "xapi"]
    assert stat.S_IMODE(host.socket.parent.stat().st_mode) == 0o700
    process.child.send_signal(signal.SIGTERM)
    assert process.child.wait(timeout=LIMIT_S) == 0
    assert not host.socket.exists()


def test_it_is_the_host_of_the_inventory_and_a_slave_on_request(host: Host, processes: List[Process]) -> None:
    host.paths.inventory.parent.mkdir(parents=True)
    host.paths.inventory.write_text("INSTALLATION_UUID='11111111-2222-3333-4444-555555555555'\n")
    start(processes, host, "--slave", "--without-sdn-controller")
    client = host.client().xenapi
    this = client.host.get_by_uuid("11111111-2222-3333-4444-555555555555")
    assert client.pool.get_master(client.pool.get_all()[0]) != this
    assert "SDN_controller" in xe(host, "sdn-controller-list").stderr


def test_a_place_where_it_cannot_listen_is_said(host: Host, processes: List[Process]) -> None:
    (host.paths.root / "var").write_text("")
    process = Process(host)
    processes.append(process)
    assert process.child.wait(timeout=LIMIT_S) == 1
    assert process.child.stdout is not None and b"cannot listen" in process.child.stdout.read()


def test_a_socket_that_a_killed_one_left_is_taken_over(host: Host, processes: List[Process]) -> None:
    start(processes, host).end()
    assert host.socket.is_socket()
    start(processes, host)


def test_xe_introduces_lists_and_forgets_a_controller(xapi: FakeXapi, host: Host) -> None:
    done = xe(host, "sdn-controller-introduce", "protocol=ssl", "address=192.0.2.1", "port=6640")
    uuid = done.stdout.strip()
    assert done.returncode == 0 and xapi.database.find("SDN_controller", uuid=uuid)
    assert xe(host, "sdn-controller-list").stdout == (
        "uuid=%s protocol=ssl address=192.0.2.1 port=6640\n" % uuid)
    again = xe(host, "sdn-controller-introduce", "address=192.0.2.1")
    assert again.returncode == 1 and again.stderr.count("\n") == 1 and "OPERATION_NOT_ALLOWED" in again.stderr
    assert xe(host, "sdn-controller-forget", "uuid=" + uuid).returncode == 0
    assert xapi.database.rows("SDN_controller") == {} and xapi.sessions == []


def test_xe_sets_and_removes_keys_and_leaves_the_others(xapi: FakeXapi, host: Host) -> None:
    network = xapi.database.find("network", bridge="xenbr0")
    xapi.database.set("network", network, other_config={"kept": "1"})
    assert xe(host, "network-param-set", "bridge=xenbr0", "other-config:a=b=c").returncode == 0
    assert xapi.database.get("network", network)["other_config"] == {"kept": "1", "a": "b=c"}
    assert xe(host, "network-param-remove", "bridge=xenbr0", "param-key=kept").returncode == 0
    assert xapi.database.get("network", network)["other_config"] == {"a": "b=c"}
    assert xe(host, "pool-param-set", "other-config:vswitch-controller-fail-mode=secure").returncode == 0
    assert xapi.database.find("pool", other_config={"vswitch-controller-fail-mode": "secure"})
    assert "no network has the bridge br7" in xe(host, "network-param-set", "bridge=br7", "other-config:a=b").stderr
    assert "nothing to set" in xe(host, "pool-param-set").stderr


def test_xe_calls_plugins_and_restarts_the_toolstack(xapi: FakeXapi, host: Host) -> None:
    host.plugin("openvswitch-config-update", saying(SUCCESS % "No change"))
    assert xe(host, "host-call-plugin", "plugin=openvswitch-config-update", "fn=update", "args:k=v").stdout == (
        "No change\n")
    assert xe(host, "toolstack-restart").stdout == "openvswitch-config-update: No change\n"
    assert [run.outcome for run in xapi.plugin_runs] == ["No change"] * 2
    failed = xe(host, "host-call-plugin", "plugin=none", "fn=update")
    assert (failed.returncode, failed.stderr) == (1, "xe: host.call_plugin failed: XENAPI_MISSING_PLUGIN none\n")


def test_xe_turns_faults_on_and_off(xapi: FakeXapi, host: Host) -> None:
    listed = xe(host, "fault-list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(FAULTS)
    assert xe(host, "fault", "html_500", "times=1", "method=pool.get_all").returncode == 0
    assert xapi.faults.active() == ["html_500"]
    assert "(on)" in xe(host, "fault-list").stdout
    assert "no sound answer" in xe(host, "pool-param-set", "other-config:a=b").stderr
    assert xapi.faults.active() == []
    assert xe(host, "fault", "silence").returncode == 0  # its own way in stays open
    assert xe(host, "fault-clear").returncode == 0 and xapi.faults.active() == []
    for words in (["fault", "fire"], ["fault"], ["fault", "refuse"], ["fault", "drip", "colour=red"]):
        done = xe(host, *words)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert xe(host, "fault", "absent", "seconds=60").returncode == 0
    assert not host.socket.exists()


def test_xe_says_in_a_line_what_it_wants(make_xapi: MakeXapi, host: Host) -> None:
    for words in ([], ["vm-start"], ["sdn-controller-list"]):
        done = xe(host, *words)  # no XAPI is there
        assert done.returncode == 1 and done.stderr.startswith("xe: ") and done.stderr.count("\n") == 1
    make_xapi()
    assert "uuid= is missing" in xe(host, "sdn-controller-forget").stderr


def test_a_server_can_be_opened_and_closed_again_and_again(make_xapi: MakeXapi, host: Host) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        xapi = make_xapi()
        assert len(host.client().xenapi.pool.get_all()) == 1
        xapi.close()
        xapi.close()
    assert Deadline(LIMIT_S).wait_until(lambda: len(os.listdir("/proc/self/fd")) <= fds + 1)
    assert Path(str(host.socket.parent)).is_dir()
