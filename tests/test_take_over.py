"""A switch that XCP-ng's own package has started, taken over while it runs; real daemons, with their monitors."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Dict, Iterator, Optional

import pytest

from ovsxen import take_over
from ovsxen.host import process
from ovsxen.host.settings import read_settings
from ovsxen.ovs import confdb_move, daemons, monitors
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from ovsxen.report import Outcome, Phase
from ovsxen.sequence import Host, Run, run_steps
from tests.conftest import MakeHost, SandboxHost
from tests.watching import BOTH, pids

OVS_CTL = "/usr/share/openvswitch/scripts/ovs-ctl"


def boot_as_xcp_ng(host: SandboxHost, *options: str) -> None:
    """What its ovs-start does: the database in the run directory, monitors, and the mark that its purge is done."""
    host.env["OVS_DBDIR"] = str(host.paths.rundir)
    host.paths.historic_booted_marker.touch()
    host.tool(OVS_CTL, "start", "--system-id=random", "--system-type=XCP-ng", "--system-version=8.3", "--no-mlockall",
              "--no-record-hostname", "--no-ovs-vswitchd" if "--no-ovs-vswitchd" in options else
              "--ovs-vswitchd-options=--enable-dummy=override", *options)


def kill_monitors(host: SandboxHost) -> None:
    for name in BOTH:
        monitor = monitors.find_monitor(daemons.find(host.paths, name))
        if monitor is not None:
            process.send_signal(monitor, signal.SIGKILL)


@pytest.fixture
def old(make_host: MakeHost) -> Iterator[SandboxHost]:
    """A host with two bridges and a manager that another package has booted; it has no conf.db of its own."""
    host = make_host(stale_bridges=0)
    host.paths.conf_db.unlink()
    boot_as_xcp_ng(host)
    host.vsctl("add-br", "xenbr0", "--", "add-br", "xenbr1", "--", "set-manager", "ptcp:0:127.0.0.1")
    yield host
    kill_monitors(host)


def the_run(host: SandboxHost, *, dry_run: bool = False) -> Run:
    return Run(Host(host.paths, read_settings(host.paths)), lambda _: None, dry_run=dry_run)


def taken_over(host: SandboxHost, *, dry_run: bool = False) -> Dict[str, Phase]:
    return {phase.name: phase for phase in run_steps(the_run(host, dry_run=dry_run), take_over.TAKE_OVER)}


def moved(host: SandboxHost) -> Phase:
    return next(run_steps(the_run(host), take_over.TAKE_OVER[:1]))


def served(host: SandboxHost) -> Optional[Path]:
    """The file that the server has its database in."""
    return next((path for path in (host.paths.conf_db, host.paths.run_conf_db, confdb_move.moving_name(host.paths))
                 if process.has_open(host.pid(OVSDB_SERVER), path)), None)


def held(host: SandboxHost) -> str:
    """What the file says that it holds, by ovsdb-tool's word."""
    return host.tool("ovsdb-tool", "query", str(host.paths.conf_db),
                     '["Open_vSwitch",{"op":"select","table":"Bridge","where":[],"columns":["name"]}]')


def assert_is_moved(host: SandboxHost) -> None:
    assert served(host) == host.paths.conf_db
    assert os.readlink(str(host.paths.run_conf_db)) == str(host.paths.conf_db)
    assert not confdb_move.moving_name(host.paths).exists()
    assert "xenbr0" in held(host) and "xenbr1" in held(host)


def test_the_database_moves_under_the_server_and_nobody_is_interrupted(old: SandboxHost) -> None:
    before = pids(old)
    port = old.vsctl("get", "Interface", "xenbr0", "ofport")
    with open(str(old.paths.root / "heard"), "wb") as heard:
        client = subprocess.Popen(["ovsdb-client", "monitor", "unix:%s" % old.paths.db_sock, "Bridge", "name"],
                                  env=old.environment(), stdout=heard, stderr=heard)
    try:
        phase = moved(old)
        assert phase.outcome is Outcome.DONE, phase
        assert_is_moved(old)
        assert old.vsctl("get", "Interface", "xenbr0", "ofport") == port  # which is in memory alone
        old.vsctl("add-br", "xenbr2")
        assert "xenbr2" in held(old)
        assert client.poll() is None
    finally:
        client.kill()
        client.wait()
    assert pids(old) == before
    log = old.paths.log(VSWITCHD).read_text()
    assert "reconnect|INFO" in log and "connection closed" not in log and "timed out" not in log
    assert old.beside("good")


def test_a_move_may_be_repeated_and_does_nothing_then(old: SandboxHost) -> None:
    moved(old)
    inode = old.paths.conf_db.stat().st_ino
    assert moved(old).outcome is Outcome.UNCHANGED
    assert old.paths.conf_db.stat().st_ino == inode
