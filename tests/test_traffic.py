"""Frames through a userspace bridge, a thousand a second, while its keepers come and go."""

import signal
import sys
from typing import Callable, Iterator

import pytest

from bench.traffic import Pair, Traffic, probing
from ovsxen.host import process
from ovsxen.host.clock import Deadline
from ovsxen.ovs.daemons import OVSDB_SERVER, VSWITCHD
from tests.conftest import MakeHost, SandboxHost
from tests.frames import Wire, plugged_in
from tests.watching import eventually, has_new

PAIRS = (Pair("lan0", "guest"), Pair("guest", "lan0"))


@pytest.fixture
def switch(make_host: MakeHost) -> Iterator[Wire]:
    """A host in a network namespace whose bridge forwards as it likes, between lan0 and guest; it is watched."""
    with plugged_in(make_host(stale_bridges=0)) as made:
        made.host.vsctl("set", "Bridge", "xenbr0", "fail_mode=standalone", "--", "add-port", "xenbr0", "eth0")
        daemon(made)
        yield made


def daemon(wire: Wire) -> None:
    wire.inside(sys.executable, "-m", "ovsxen", "daemon", "--detach")


def traffic_during(wire: Wire, act: Callable[[], None]) -> Traffic:
    with probing(wire.name, PAIRS) as prober:
        act()
        return prober.stop()


def end_watcher(host: SandboxHost, number: int) -> None:
    watching = host.watcher()
    assert watching is not None and process.send_signal(watching, number)
    assert Deadline(30).wait_until(lambda: process.has_ended(watching))


def test_the_end_of_the_daemon_and_the_next_one_lose_no_frame(switch: Wire) -> None:
    def befall() -> None:
        for number in (signal.SIGKILL, signal.SIGSEGV):
            end_watcher(switch.host, number)
            daemon(switch)
        switch.inside(sys.executable, "-m", "ovsxen", "reload")

    traffic = traffic_during(switch, befall)
    assert (traffic.lost, traffic.silent) == (0, ())


def test_forwarding_survives_the_death_of_the_database_server(switch: Wire) -> None:
    """ovs-vswitchd, its own datapath here, pauses until it has a database again (vswitchd/bridge.c, bridge_run)."""
    keeps = switch.host.pid(VSWITCHD)

    def befall() -> None:
        old = switch.host.pid(OVSDB_SERVER)
        switch.host.signal(OVSDB_SERVER, signal.SIGKILL)
        assert eventually(lambda: has_new(switch.host, OVSDB_SERVER, old))

    assert traffic_during(switch, befall).silent == ()
    assert switch.host.pid(VSWITCHD) == keeps


def test_forwarding_comes_back_with_an_ovs_vswitchd_that_died(switch: Wire) -> None:
    traffic = traffic_during(switch, lambda: switch.host.signal(VSWITCHD, signal.SIGKILL))
    assert traffic.silent == () and traffic.received > 0


def test_flows_that_name_ports_forward_after_a_restart_as_before(switch: Wire) -> None:
    """In a secure bridge with these two flows alone: other port numbers would forward nothing."""
    bridge = "unix:%s" % switch.host.paths.bridge_socket("xenbr0")
    switch.host.vsctl("set", "Bridge", "xenbr0", "fail_mode=secure")
    near, far = switch.ofport("eth0"), switch.ofport("vif1.0")
    for here, there in ((near, far), (far, near)):
        switch.host.tool("ovs-ofctl", "add-flow", bridge, "in_port=%d,actions=output:%d" % (here, there))

    def restart() -> None:
        switch.inside(sys.executable, "-m", "ovsxen", "restart", "--save-flows")

    assert traffic_during(switch, restart).silent == ()
    assert (switch.ofport("eth0"), switch.ofport("vif1.0")) == (near, far)
    assert len(switch.host.tool("ovs-ofctl", "dump-flows", bridge).splitlines()) == 3
    assert switch.host.column("other_config") == "{}"
