"""The kernel module of the RPM in the kernel that it was built for: Debian's, booted in a virtual machine that has the
files of the RPMs, what their programs are linked with, python3, kmod, ip and a busybox, and nothing else.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, NamedTuple, Tuple

import pytest

from ovsxen.errors import EXIT_FAILED
from ovsxen.host.modprobe import Cause
from ovsxen.sandbox import contents
from tests.rpm import built, kernel
from tests.rpm.kernel import run
from tests.rpm.machine import Ended, Step, boot, copy_libraries, copy_programs, copy_python, make_root
from tests.rpm.packages import unpack

EXTRA = "extra/openvswitch"
MAIN = "openvswitch.ko"

FOREIGN = """
mv %s/openvswitch.ko /tmp/ours && cp /foreign.ko %s/openvswitch.ko || exit 99
ovsxen load-kmod
code=$?
mv /tmp/ours %s/openvswitch.ko
exit $code"""

PLUG_IN = """
ip link add vif%d.0 type veth peer name eth0 && ip link set vif%d.0 up || exit 1
ip netns add guest%d && ip link set eth0 netns guest%d && ip -n guest%d link set eth0 up || exit 1
ip -n guest%d address add 192.0.2.%d/24 dev eth0 || exit 1"""


AWAIT_HANDLERS = "while read -r uptime _ </proc/uptime && [ ${uptime%.*} -lt 11 ]; do sleep 0.2; done"
"""An ovs-vswitchd 3.1 that is started sooner after the kernel counts no CPU, and so has no thread that takes a frame
from the datapath: it looks at most every 10 s, and takes the kernel's start for the last look (lib/ovs-thread.c,
count_cpu_cores).
"""


class Packages(NamedTuple):
    """The RPMs, the release of the kernel that the second is for, and the names of its modules."""

    userspace: Path
    module: Path
    release: str
    modules: Tuple[str, ...]

    @property
    def extra(self) -> str:
        return "/lib/modules/%s/%s" % (self.release, EXTRA)


class Site(NamedTuple):
    """What was booted, how that went, and the build ids of the modules that there were to choose from."""

    packages: Packages
    ended: Ended
    ours: Tuple[str, ...]
    kernels_own: Tuple[str, ...]


def find_packages() -> Packages:
    """What `make rpm` made. The kernel is the one in whose directory the module lies."""
    userspace, module, _ = built.find()
    listed = run("rpm", "-qlp", str(module))
    found = re.search(r"^/lib/modules/([^/]+)/%s/%s$" % (EXTRA, MAIN), listed, re.MULTILINE)
    assert found, "%s has no %s/%s:\n%s" % (module, EXTRA, MAIN, listed)
    stems = re.findall(r"([^/\n]+)\.ko$", listed, re.MULTILINE)
    return Packages(userspace, module, found.group(1), tuple(stems))


def lay_out(root: Path, image: Path, packages: Packages) -> None:
    """A host on which the RPMs have just been unpacked.

    The kernel's modules come behind ours, and memory lists a directory from its end: depmod sees them first.
    """
    make_root(root)
    for rpm in (packages.userspace, packages.module):
        unpack(rpm, root)
    copy_libraries(root, [path for name in ("usr/bin", "usr/sbin") for path in (root / name).glob("ov*")])
    copy_python(root)
    copy_programs(root, ["ip"])
    ours = (root / packages.extra.lstrip("/")).glob("*.ko")
    kernel.copy_modules(image, packages.release, ours, root / "lib/modules")
    (root / "etc/xensource").mkdir()
    (root / "etc/xensource-inventory").write_text(contents.INVENTORY)
    (root / "etc/xensource/network.conf").write_text("vswitch\n")


def steps(packages: Packages) -> Tuple[Step, ...]:
    modules = " ".join(packages.modules)
    notes = " ".join("/sys/module/%s/notes/%s" % (name.replace("-", "_"), kernel.BUILD_ID) for name in packages.modules)
    ports = " ".join("-- add-port xenbr0 vif%d.0" % guest for guest in (1, 2))
    return (
        Step("release", "uname -r"),
        Step("posttrans", run("rpm", "-qp", "--queryformat", "%{POSTTRANS}", str(packages.module))),
        Step("found", "modinfo -n " + modules),
        Step("foreign", FOREIGN % ((packages.extra,) * 3)),
        Step("load", "modprobe -a " + modules),
        Step("loaded", "for note in %s; do xxd -p -c 999 $note; done" % notes),
        Step("unload", "modprobe -r -a " + " ".join(reversed(packages.modules))),
        Step("handlers", AWAIT_HANDLERS),
        Step("start", "ovsxen start"),
        Step("guests", "\n".join(PLUG_IN % ((guest,) * 7) for guest in (1, 2))),
        Step("bridge", "ovs-vsctl --timeout=30 add-br xenbr0 -- set Bridge xenbr0 datapath_type=system " + ports),
        Step("datapath", "ovs-dpctl show"),
        Step("ping", "ip netns exec guest1 ping -c 3 -W 10 192.0.2.2"),
        Step("flows", "ovs-dpctl dump-flows"),
        Step("status", "ovsxen status"))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    packages = find_packages()
    image = kernel.fetch(packages.release)
    base = Path(tempfile.mkdtemp(prefix="oxm-", dir="/tmp"))
    try:
        (base / "root").mkdir()
        (base / "work").mkdir()
        yield run_site(image, base / "root", base / "work", packages)
    finally:
        shutil.rmtree(str(base))


def run_site(image: Path, root: Path, work: Path, packages: Packages) -> Site:
    lay_out(root, image, packages)
    ours = root / packages.extra.lstrip("/")
    kernel.make_foreign(ours / MAIN, root / "foreign.ko")
    ended = boot(image / ("boot/vmlinuz-" + packages.release), root, steps(packages), work)
    own = image / "lib/modules" / packages.release / kernel.OWN
    return Site(packages, ended, tuple(kernel.read_build_id(ours / (name + ".ko")) for name in packages.modules),
                tuple(kernel.read_build_id(path) for path in own.glob("*.ko")))


def test_the_kernel_is_the_one_that_the_module_was_built_for(site: Site) -> None:
    assert site.ended.tell("release") == site.packages.release


def test_each_module_comes_before_the_kernels_own(site: Site) -> None:
    assert site.ended.tell("posttrans") == "", site.ended
    ours = ["%s/%s.ko" % (site.packages.extra, name) for name in site.packages.modules]
    assert site.ended.tell("found").split() == ours, site.ended


def test_what_is_loaded_are_the_modules_of_the_rpm(site: Site) -> None:
    site.ended.tell("load")
    loaded = tuple(site.ended.tell("loaded").split())
    assert loaded == site.ours, site.ended
    assert not set(loaded) & set(site.kernels_own), site.ended
    site.ended.tell("unload")


def test_a_module_that_was_built_for_another_kernel_is_refused_and_the_reason_is_said(site: Site) -> None:
    refused = site.ended.answer("foreign")
    assert refused.code == EXIT_FAILED, site.ended
    assert "could not insert 'openvswitch'" in refused.said and Cause.WRONG_KERNEL.value in refused.said, site.ended


def test_ovsxen_boots_the_switch_with_it(site: Site) -> None:
    assert re.search("^module +done .* loaded$", site.ended.tell("start"), re.MULTILINE), site.ended
    assert site.ended.tell("status").startswith("Open vSwitch is running\n"), site.ended


def test_the_bridge_is_in_the_kernels_datapath(site: Site) -> None:
    for name in ("guests", "bridge"):
        site.ended.tell(name)
    shown = site.ended.tell("datapath")
    assert shown.startswith("system@ovs-system:\n"), site.ended
    assert set(re.findall(r"port \d+: (\S+)", shown)) == {"ovs-system", "xenbr0", "vif1.0", "vif2.0"}, site.ended


def test_frames_pass_from_guest_to_guest_by_flows_of_the_datapath(site: Site) -> None:
    assert " 0% packet loss" in site.ended.tell("ping"), site.ended
    flow = r"eth_type\(0x0800\).* packets:[1-9]\d*, .* actions:\d+$"
    assert re.search(flow, site.ended.tell("flows"), re.MULTILINE), site.ended


def test_the_kernel_complains_of_nothing_but_the_foreign_module(site: Site) -> None:
    assert site.ended.console.count("disagrees about version of symbol") == 1, site.ended
    assert not re.search(r"Oops|BUG:|WARNING:|Unknown symbol|Call Trace", site.ended.console), site.ended
