"""Two virtual machines on a host in a container, and the frames that they send each other through its switch."""

from contextlib import contextmanager
from typing import Iterator

from bench.traffic import Pair, Prober, probing_by
from tests.machines.nspawn import Nspawn
from tests.machines.world import PLUG_GUEST

BRIDGE = "xenbr0"
NAMESPACE = "guest1"
BOTH_WAYS = (Pair("eth0", "eth1"), Pair("eth1", "eth0"))
EVERY_S = 0.02
"""Some 60 frames wait at a port for a switch in userspace that gets no CPU: for a second that is no loss."""


def plug_in(host: Nspawn) -> None:
    """Two of them, both of which have their ends in one namespace, the prober's; until the sync knows both."""
    for number in (1, 2):
        host.tell("%s %d %s" % (PLUG_GUEST, number, BRIDGE))
    active = "ovs-vsctl --bare --columns=name find Interface external_ids:iface-status=active"
    host.unit().wait_until(lambda: sorted(host.run(active).out.split()) == ["vif1.0", "vif2.0"])
    host.tell("ip -n guest2 link set eth0 netns %s name eth1 && ip -n %s link set eth1 up" % (NAMESPACE, NAMESPACE))


@contextmanager
def exchanging(host: Nspawn) -> Iterator[Prober]:
    """Both send steadily until the end of the block, or the prober's `stop()`, which says what became of the frames.

    It is the test's own program, which enters nothing of the container but that namespace.
    """
    namespace = host.unit().root / "run/netns" / NAMESPACE
    with probing_by(("nsenter", "--net=%s" % namespace), BOTH_WAYS, every_s=EVERY_S) as prober:
        yield prober


def assert_frames_pass(host: Nspawn) -> None:
    """They come through both ways, within the prober's patience."""
    with exchanging(host) as prober:
        assert not prober.stop().silent


def assert_none_lost(prober: Prober) -> None:
    traffic = prober.stop()
    assert traffic.sent > 0 and (traffic.lost, traffic.silent) == (0, ()), traffic
