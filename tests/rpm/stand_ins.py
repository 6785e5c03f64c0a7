"""Packages that stand in for a host's own: XAPI's, XCP-ng's Open vSwitch, a kernel, and the rest of a dom0.

They have the names, paths, modes and scriptlets that matter to ours. Every text in them is written for these tests.
"""

from typing import Iterable, Tuple

from tests.rpm.packages import File, Package

PLUGINS = "/etc/xapi.d/plugins/"
CFG_UPDATE = PLUGINS + "openvswitch-cfg-update"
CONFIG_UPDATE = PLUGINS + "openvswitch-config-update"
KEPT = "/var/lib/ovsxen/openvswitch-config-update"  # by ovsxen, while its own has the name above
SYSCONFIG = "/etc/sysconfig/openvswitch"
NETWORK_CONF = "/etc/xensource/network.conf"
SWITCH_BACKEND = "/opt/xensource/bin/xe-switch-network-backend"
SCRIPTS = "/usr/share/openvswitch/scripts/"
UNITS = "/usr/lib/systemd/system/"
UNIT, SYNC_UNIT, IPSEC_UNIT = "openvswitch.service", "openvswitch-xapi-sync.service", "openvswitch-ipsec.service"
SHARED = ("/etc/bash_completion.d", "/etc/logrotate.d", "/etc/modprobe.d", "/etc/sysconfig", "/etc/systemd/system",
          "/etc/xapi.d/plugins", "/usr/lib/depmod.d", "/usr/share/licenses", "/var/xen")
"""Directories that many packages of a host put files in, and that none of them ends."""
XAPI_VERSIONS = ("24.19.2", "25.6.0", "26.1.4")

INVENTORY = """PRODUCT_BRAND='XCP-ng'
PRODUCT_VERSION='8.3.0'
BUILD_NUMBER='cloud'
INSTALLATION_UUID='3a2c8f5e-7d41-4b6a-9c0e-5f1d2b3a4c6d'
"""

XE_SWITCH = """#!/bin/sh
# Chooses the network backend of the next boot.
set -e
blacklist=/etc/modprobe.d/blacklist-bridge.conf
case $1 in
    bridge) rm -f $blacklist; verb=disable ;;
    openvswitch | vswitch) mkdir -p /etc/modprobe.d; echo "install bridge /bin/true" >$blacklist; verb=enable ;;
    *) echo "Usage: $0 bridge|openvswitch|vswitch" >&2; exit 1 ;;
esac
systemctl $verb openvswitch.service openvswitch-xapi-sync.service
echo "$1" >/etc/xensource/network.conf
echo "You *MUST* now reboot your system"
"""

CONFIG_UPDATE_TEXT = """#!/usr/bin/env python3
# Stands in for XAPI's plugin of version %s.
import sys
sys.exit("this plugin is not to be called")
"""

CFG_UPDATE_TEXT = """#!/usr/bin/env python3
# Stands in for a plugin that was never made ready for Python 3.
print "Successfully reset configuration"
"""

OLD_UNIT = """[Unit]
Description=%s
Before=xapi.service xcp-networkd.service network.target

[Service]
Type=%s
ExecStart=%s

[Install]
WantedBy=multi-user.target
"""

OLD_SYSCONFIG = """# What an administrator may choose.
# FORCE_COREFILES=yes
# VSWITCHD_PRIORITY=-10
# OVS_CTL_OPTS=""
"""

OLD_LOGROTATE = """/var/log/openvswitch/*.log {
    daily
    missingok
}
"""


def dom0(provides: Iterable[str]) -> Package:
    """All that is on a host and that nobody tests: it provides whatever packages ask for."""
    files = (
        File("/etc/xensource-inventory", INVENTORY),
        File(SWITCH_BACKEND, XE_SWITCH, 0o755),
        File("/usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n"),
        File(NETWORK_CONF, "bridge\n", marks="%config(noreplace)"),
    )
    return Package("dom0", "8.3", "1", files, tuple("Provides: " + each for each in provides), (), SHARED)


def xapi_core(version: str) -> Package:
    files = (File(CONFIG_UPDATE, CONFIG_UPDATE_TEXT % version, 0o755), File(PLUGINS + "echo", "#!/bin/sh\n", 0o755),
             File("/opt/xensource/bin/xapi", "#!/bin/sh\n", 0o755))
    return Package("xapi-core", version, "1", files)


def kernel(version: str, provides: Iterable[str]) -> Package:
    """A kernel without modules of its own, and with its index of them."""
    directory = "/lib/modules/%s/" % version
    names = ("modules.builtin", "modules.builtin.modinfo", "modules.order", "kernel/net/bridge/bridge.txt")
    return Package("kernel", "1", "1", tuple(File(directory + name) for name in names),
                   tuple("Provides: " + each for each in provides), (("%posttrans", "depmod " + version),),
                   (directory.rstrip("/"),))


def xcpng_openvswitch(release: str = "4.1") -> Package:
    """XCP-ng 8.3's: it starts nothing when it is installed, and restarts nothing on upgrade."""
    programs = ["/usr/bin/" + name for name in (
        "ovs-vsctl", "ovs-ofctl", "ovs-appctl", "ovs-dpctl", "ovs-pki", "ovsdb-client", "ovsdb-tool", "ovs-xcpng-only")]
    programs += ["/usr/sbin/ovs-vswitchd", "/usr/sbin/ovsdb-server"]
    programs += [SCRIPTS + name for name in ("ovs-ctl", "ovs-kmod-ctl", "ovs-lib", "ovs-save", "ovs-start",
                                             "ovs-xapi-sync", "ovs-monitor-ipsec")]
    files = tuple(File(path, "#!/bin/sh\necho 2.17.7\n", 0o755) for path in programs) + (
        File("/usr/share/openvswitch/vswitch.ovsschema", "{}\n"),
        File("/usr/share/openvswitch/python/ovs/__init__.py", ""),
        File(SYSCONFIG, OLD_SYSCONFIG, 0o755, marks="%config"),
        File("/etc/logrotate.d/openvswitch", OLD_LOGROTATE, marks="%config"),
        File(CFG_UPDATE, CFG_UPDATE_TEXT, 0o755),
        File(UNITS + UNIT, OLD_UNIT % ("Open vSwitch", "forking", SCRIPTS + "ovs-start")),
        File(UNITS + SYNC_UNIT, OLD_UNIT % ("Open vSwitch sync", "simple", SCRIPTS + "ovs-xapi-sync")),
    )
    return Package("openvswitch", "2.17.7", release, files, (), unit_scriptlets((UNIT, SYNC_UNIT)), (
        "/etc/openvswitch", "/var/xen/openvswitch", "/var/lib/openvswitch", "/var/log/openvswitch"))


def xcpng_ipsec(release: str = "4.1") -> Package:
    """Its subpackage: a unit, and the wish for that very build of the rest."""
    unit = File(UNITS + IPSEC_UNIT, OLD_UNIT % ("Open vSwitch IPsec", "forking", SCRIPTS + "ovs-monitor-ipsec"))
    return Package("openvswitch-ipsec", "2.17.7", release, (unit,), ("Requires: openvswitch = 2.17.7-" + release,),
                   unit_scriptlets((IPSEC_UNIT,)))


def bystander(release: str, **scripts: str) -> Package:
    """A package that has nothing to do with ours, for the same transaction."""
    return Package("bystander", "1", release, (File("/usr/share/bystander", release),), (),
                   tuple(("%" + name, text) for name, text in scripts.items()))


def unit_scriptlets(units: Tuple[str, ...]) -> Tuple[Tuple[str, str], ...]:
    """What systemd's macros come to: the preset at first, an end at the erase, and no restart in between."""
    named = " ".join(units)
    return (
        ("%post", "if [ $1 -eq 1 ]; then systemctl --no-reload preset %s || :; fi" % named),
        ("%preun", "if [ $1 -eq 0 ]; then systemctl --no-reload disable --now %s || :; fi" % named),
        ("%postun", "systemctl daemon-reload || :"),
    )
