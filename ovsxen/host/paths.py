"""Where everything lies. Every path of a host is made here, below one root, so that a whole host fits in a directory.

Programs (ovsdb-server, modprobe, …) are the machine's, found on the PATH; files are the host's.
"""

import os
from pathlib import Path
from typing import Mapping, NamedTuple, Tuple

SOCKET_PATH_LIMIT = 107  # sockaddr_un.sun_path holds 108 bytes with its final NUL (unix(7))
CONTROL_SOCKET_ROOM = len("/ovsdb-server.4194304.ctl")


class Paths(NamedTuple):
    """The files of the host whose file system starts at `root`."""

    root: Path
    schema_dir: Path

    @property
    def is_machine(self) -> bool:
        """The root is this machine's own, so its kernel and firewall are ours to change."""
        return self.root == Path("/")

    @property
    def inventory(self) -> Path:
        return self.root / "etc/xensource-inventory"

    @property
    def network_conf(self) -> Path:
        return self.root / "etc/xensource/network.conf"

    @property
    def sysconfig(self) -> Path:
        return self.root / "etc/sysconfig/openvswitch"

    @property
    def dbdir(self) -> Path:
        return self.root / "etc/openvswitch"

    @property
    def conf_db(self) -> Path:
        return self.dbdir / "conf.db"

    @property
    def rundir(self) -> Path:
        return self.root / "run/openvswitch"

    @property
    def run_conf_db(self) -> Path:
        """Where some builds of Open vSwitch keep their database, XCP-ng's own among them: it is gone with the boot."""
        return self.rundir / "conf.db"

    @property
    def moving_conf_db(self) -> Path:
        """The second name of that file while it is moved."""
        return self.rundir / "conf.db.moving"

    @property
    def db_sock(self) -> Path:
        return self.rundir / "db.sock"

    @property
    def turn(self) -> Path:
        """Whoever starts or stops this host's switch holds the lock on this file."""
        return self.root / "run/ovsxen.lock"

    @property
    def boot_report(self) -> Path:
        """What the last start of this boot did; `ovsxen status` reads it."""
        return self.rundir / "ovsxen-boot.json"

    @property
    def watch_report(self) -> Path:
        """What the daemon last wrote; `ovsxen status` reads it."""
        return self.rundir / "ovsxen-watch.json"

    @property
    def daemon_pidfile(self) -> Path:
        """The daemon holds a lock on this file, and its pid is in it."""
        return self.rundir / "ovsxen.pid"

    @property
    def historic_booted_marker(self) -> Path:
        """The old init script's mark that this boot's purge is done."""
        return self.root / "run/openvswitch.booted"

    @property
    def logdir(self) -> Path:
        return self.root / "var/log/openvswitch"

    @property
    def evidence(self) -> Path:
        """One directory for each time that a daemon hung or died: what tells why."""
        return self.logdir / "ovsxen"

    @property
    def daemon_cwd(self) -> Path:
        """Where core files of the daemons land."""
        return self.root / "var/xen/openvswitch"

    @property
    def schema(self) -> Path:
        return self.schema_dir / "vswitch.ovsschema"

    @property
    def boot_id(self) -> Path:
        own = self.root / "proc/sys/kernel/random/boot_id"
        return own if own.exists() else Path("/proc/sys/kernel/random/boot_id")

    @property
    def proc_modules(self) -> Path:
        return self.root / "proc/modules"

    @property
    def kernel_command_line(self) -> Path:
        return self.root / "proc/cmdline"

    @property
    def sys_module(self) -> Path:
        return self.root / "sys/module"

    @property
    def sys_class_net(self) -> Path:
        return self.root / "sys/class/net"

    @property
    def lib_modules(self) -> Path:
        return self.root / "lib/modules"

    @property
    def modprobe_dirs(self) -> Tuple[Path, ...]:
        return tuple(self.root / name for name in ("etc/modprobe.d", "run/modprobe.d", "lib/modprobe.d"))

    @property
    def xapi_socket(self) -> Path:
        """Where XAPI answers; whoever reaches it is root to XAPI."""
        return self.root / "var/lib/xcp/xapi"

    @property
    def plugins(self) -> Path:
        """Where XAPI looks for plugins, by file name."""
        return self.root / "etc/xapi.d/plugins"

    @property
    def own_plugin(self) -> Path:
        return self.plugins / "openvswitch-cfg-update"

    @property
    def called_plugin(self) -> Path:
        """What XAPI runs. The name belongs to the package xapi-core (helpers.ml, update_vswitch_controller)."""
        return self.plugins / "openvswitch-config-update"

    @property
    def diverted_plugin(self) -> Path:
        """XAPI's own plugin, while ovsxen's has its name."""
        return self.root / "var/lib/ovsxen/openvswitch-config-update"

    @property
    def boot_history(self) -> Path:
        """What the last boots were like; `ovsxen boot-chart` reads it."""
        return self.root / "var/lib/ovsxen/boots.json"

    @property
    def setup_turn(self) -> Path:
        """Whoever makes the host ready for a package, or gives it back, holds the lock on this file."""
        return self.root / "run/ovsxen-host-setup.lock"

    @property
    def plugin_turn(self) -> Path:
        """Whoever diverts XAPI's plugin, or restores it, holds the lock on this file."""
        return self.root / "run/ovsxen-plugin.lock"

    @property
    def xapi_program(self) -> Path:
        """XAPI itself, of the package xapi-core like its plugin."""
        return self.root / "opt/xensource/bin/xapi"

    @property
    def xapi_ssl_pem(self) -> Path:
        """The host's key and certificate, both in one file."""
        return self.root / "etc/xensource/xapi-ssl.pem"

    @property
    def sdn_controller_ca(self) -> Path:
        """The CA that a controller of protocol pssl has installed through the pool."""
        return self.root / "etc/stunnel/certs/sdn-controller-ca.pem"

    @property
    def historic_ca(self) -> Path:
        """The CA that the historic plugins let the switch trust at first sight, whichever controller it was of."""
        return self.dbdir / "vswitchd.cacert"

    def pinned_ca(self, address: str) -> Path:
        """The CA of the controller at `address`, as it was at first sight."""
        return self.dbdir / ("%s-%s" % (self.historic_ca.name, address))

    def all_pinned_cas(self) -> Tuple[Path, ...]:
        """Those that are there, of whichever controller."""
        return tuple(self.dbdir.glob(self.pinned_ca("*").name))

    @property
    def network_dbcache(self) -> Path:
        return self.root / "var/xapi/network.dbcache"

    @property
    def networkd_db(self) -> Path:
        """xcp-networkd's own file: where it is, the host does not boot from network.dbcache."""
        return self.root / "var/lib/xcp/networkd.db"

    @property
    def interface_reconfigure(self) -> Path:
        return self.root / "opt/xensource/libexec/interface-reconfigure"

    @property
    def update_turn(self) -> Path:
        """Whoever makes the switch agree with XAPI holds the lock on this file."""
        return self.root / "run/ovsxen-update.lock"

    @property
    def update_report(self) -> Path:
        """What the last update of this boot came to; `ovsxen status` reads it."""
        return self.rundir / "ovsxen-update.json"

    @property
    def guarded_bridge(self) -> Path:
        """On which bridge an update that is under way has placed management flows."""
        return self.rundir / "ovsxen-guarded-bridge"

    @property
    def guard(self) -> Path:
        """The management flows that ovsxen has put in place, for whoever starts ovs-vswitchd again."""
        return self.rundir / "ovsxen-management-flows.json"

    @property
    def kept_interfaces(self) -> Path:
        """What internal ports had before the kernel module was replaced, until they have it again."""
        return self.rundir / "ovsxen-interfaces-kept.json"

    @property
    def kept_flows(self) -> Path:
        """What bridges had before a restart that keeps flows, until they have it again."""
        return self.rundir / "ovsxen-flows-kept.json"

    @property
    def ha_stopped(self) -> Path:
        """ovsxen has stopped the HA daemon, and is to start it again."""
        return self.rundir / "ovsxen-ha-stopped"

    @property
    def xhad_conf(self) -> Path:
        return self.root / "etc/xensource/xhad.conf"

    @property
    def xha_dir(self) -> Path:
        """Where the commands of the HA daemon are."""
        return self.root / "opt/xensource/xha"

    @property
    def library(self) -> Path:
        """The package itself and the libraries that came with it, where a package of the host's has put them."""
        return self.root / "usr/lib/ovsxen"

    @property
    def sysconfig_template(self) -> Path:
        """What the administrator may choose, as this version knows it."""
        return self.root / "usr/share/openvswitch/scripts/sysconfig.template"

    @property
    def switch_backend(self) -> Path:
        """XAPI's own way to choose the network backend. Hosts that know only Open vSwitch have none."""
        return self.root / "opt/xensource/bin/xe-switch-network-backend"

    @property
    def unit_dir(self) -> Path:
        return self.root / "usr/lib/systemd/system"

    @property
    def init_scripts(self) -> Path:
        return self.root / "etc/init.d"

    @property
    def systemd_running(self) -> Path:
        """There while systemd runs this host (sd_booted(3))."""
        return self.root / "run/systemd/system"

    @property
    def opened_port(self) -> Path:
        """Which port ovsxen has opened in the firewall, and through what: no other is ever closed."""
        return self.dbdir / "ovsxen-opened-port.json"

    def bridge_socket(self, bridge: str) -> Path:
        """Where ovs-vswitchd takes OpenFlow for a bridge."""
        return self.rundir / (bridge + ".mgmt")

    def pidfile(self, daemon: str) -> Path:
        return self.rundir / (daemon + ".pid")

    def control_socket(self, daemon: str, pid: int) -> Path:
        return self.rundir / ("%s.%d.ctl" % (daemon, pid))

    def log(self, daemon: str) -> Path:
        return self.logdir / (daemon + ".log")


def paths_under(root: Path, environ: Mapping[str, str]) -> Paths:
    """The paths of the host at `root`; the schema is the host's own copy, else the machine's.

    OVS_PKGDATADIR names another directory for the schema, as it does for ovs-ctl (utilities/ovs-lib.in, 2.17).
    """
    root = Path(os.path.abspath(str(root)))
    if environ.get("OVS_PKGDATADIR"):
        return Paths(root, Path(environ["OVS_PKGDATADIR"]))
    own = root / "usr/share/openvswitch"
    return Paths(root, own if own.is_dir() else Path("/usr/share/openvswitch"))


def longest_socket_path(paths: Paths) -> int:
    """Bytes that the longest socket of this host needs; at most SOCKET_PATH_LIMIT of them fit."""
    return len(os.fsencode(str(paths.rundir))) + CONTROL_SOCKET_ROOM
