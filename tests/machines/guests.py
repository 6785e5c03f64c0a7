"""Two virtual machines on a host in a container, and the frames that they send each other through its switch."""

from contextlib import contextmanager
from typing import Iterator

from bench.traffic import Pair, Prober, probing_by
from tests.machines.nspawn import Nspawn

BRIDGE = "xenbr0"
NAMESPACE = "guest1"
BOTH_WAYS = (Pair("eth0", "eth1"), Pair("eth1", "eth0"))
PLUG = "/usr/lib/stand-ins/plug-guest"


def plug_in(host: Nspawn) -> None:
    """Two of them, both of which have their ends in one namespace: the prober's."""
    for number in (1, 2):
        host.tell("%s %d %s" % (PLUG, number, BRIDGE))
    host.tell("ip -n guest2 link set eth0 netns %s name eth1 && ip -n %s link set eth1 up" % (NAMESPACE, NAMESPACE))


@contextmanager
def exchanging(host: Nspawn) -> Iterator[Prober]:
    """Both send steadily until the end of the block, or the prober's `stop()`, which says what became of the frames.

    It is the test's own program, which enters nothing of the container but that namespace.
    """
    namespace = host.unit().root / "run/netns" / NAMESPACE
    with probing_by(("nsenter", "--net=%s" % namespace), BOTH_WAYS) as prober:
        yield prober


def assert_frames_pass(host: Nspawn) -> None:
    """They come through both ways, within the prober's patience."""
    with exchanging(host) as prober:
        assert not prober.stop().silent


def assert_none_lost(prober: Prober) -> None:
    traffic = prober.stop()
    assert (traffic.lost, traffic.silent) == (0, ()), traffic
