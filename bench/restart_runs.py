"""What is timed on such a site: restarts by ovsxen and by ovs-ctl, the least that one can take, and a recovery.

Frames cross the probed bridges meanwhile; what is left is checked after the clock.
"""

import signal
import subprocess
import time
from typing import Callable, NamedTuple, Tuple

from bench import host, idle, restart_site, traffic
from bench.host import DAEMONS, OVS_CTL, BenchFailed
from bench.restart_site import Site
from bench.traffic import Traffic
from ovsxen.host import files, process
from ovsxen.host.clock import Deadline
from ovsxen.ovs import launch
from ovsxen.ovs.daemons import VSWITCHD
from ovsxen.sandbox import sandbox


class Run(NamedTuple):
    """A restart or recovery that was right: its wall time, and what came of the frames meanwhile."""

    ms: float
    traffic: Traffic

    @property
    def gap_ms(self) -> float:
        return self.traffic.worst_silence_ms


def restart_ovsxen(site: Site) -> Run:
    argv = restart_site.ovsxen_argv(site, "restart", "--save-flows")
    return _probed(site, "ovsxen restart --save-flows", lambda: _run(site, argv), DAEMONS)


def restart_ovs_ctl(site: Site) -> Run:
    """With the options that ovsxen gives the daemons by the site's settings."""
    argv = (str(OVS_CTL), "--no-monitor", "--no-record-hostname", "--system-id=random", "--no-mlockall",
            "--ovs-vswitchd-options=" + " ".join(site.host.settings.vswitchd_options), "restart")
    return _probed(site, "ovs-ctl restart", lambda: _run(site, argv), DAEMONS)


def restart_floor(site: Site) -> Run:
    """What no wrapper can beat: ovs-vswitchd alone, SIGTERM, its end, a bare exec. No flows are kept."""
    return _probed(site, "the floor", lambda: _replace_vswitchd(site), (VSWITCHD,))


def _replace_vswitchd(site: Site) -> float:
    old = restart_site.find_daemon(site, VSWITCHD)
    began_s = time.perf_counter()
    process.send_signal(old, signal.SIGTERM)
    if not Deadline(restart_site.WITHIN_S).wait_until(lambda: process.has_ended(old), every_s=0.001):
        raise BenchFailed("%s did not end" % old.label)
    _run(site, launch.vswitchd_argv(site.paths, site.host.settings))
    return (time.perf_counter() - began_s) * 1000.0


def recover(site: Site) -> Run:
    """SIGKILL of ovs-vswitchd under a daemon that watches, until a new one has configured what the database says.

    A first death: the daemon waits before it mends another that follows soon.
    """
    files.remove_if_there(site.paths.watch_report)
    with idle.watching(site):
        return _probed(site, "the recovery", lambda: _kill_and_wait(site), (VSWITCHD,))


def _kill_and_wait(site: Site) -> float:
    old = restart_site.find_daemon(site, VSWITCHD)
    began_s = time.perf_counter()
    process.send_signal(old, signal.SIGKILL)
    restart_site.ask_to_configure(site.paths, [])  # what the dead one has answered counts no more
    restart_site.wait_configured(site.paths)
    return (time.perf_counter() - began_s) * 1000.0


def _probed(site: Site, who: str, act: Callable[[], float], replaced: Tuple[str, ...]) -> Run:
    """`act` gives its wall time. Raises BenchFailed, NoTraffic."""
    before = {name: restart_site.find_daemon(site, name) for name in replaced}
    with traffic.probing(site.outside, site.pairs) as prober:
        ms = act()
        found = prober.stop()
    for name, old in before.items():
        if restart_site.find_daemon(site, name) == old:
            raise BenchFailed("%s did not replace %s" % (who, old.label))
    if found.silent:
        raise BenchFailed("%s with %d bridges: nothing from %s arrives at %s any more" % (
            (who, site.bridges) + found.silent[0]))
    restart_site.check(site, who)
    return Run(ms, found)


def _run(site: Site, argv: Tuple[str, ...]) -> float:
    """Run a program in the host's namespace to its exit; its wall time. No pipes: the daemons would hold them."""
    root, complaint = str(site.paths.root), site.paths.root / "complaint"
    environ = dict(sandbox.environment(site.paths), TMPDIR=root)  # an ovs-ctl that is killed leaves its flows there
    with open(str(complaint), "wb") as stream:
        took, code = host.run_timed(restart_site.as_inside(site, argv), environ, cwd=root, stdin=subprocess.DEVNULL,
                                    stdout=stream, stderr=stream)
    if code != 0:
        raise BenchFailed("%s: exit code %d with %d bridges\n%s" % (
            " ".join(argv), code, site.bridges, complaint.read_bytes()[-2000:].decode("utf-8", "replace")))
    return took.ms
