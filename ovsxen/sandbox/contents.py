"""The files of a believable XenServer host, and a conf.db as its last boot left it, made by a real ovsdb-server."""

import sys
import uuid
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import files
from ovsxen.host.paths import Paths
from ovsxen.host.settings import Settings
from ovsxen.ovs import daemons, dbtool, launch
from ovsxen.ovs.jsonrpc import Connection

WITHIN_S = 60.0
PACKAGE = str(Path(__file__).resolve().parents[2])
PLUGINS = Path(PACKAGE) / "xapi.d/plugins"
PLUGIN_NAMES = ("openvswitch-cfg-update", "openvswitch-config-update")
INSTALLATION_UUID = "3a2c8f5e-7d41-4b6a-9c0e-5f1d2b3a4c6d"
MANAGER = "ssl:192.0.2.10:6640"

INVENTORY = """PRODUCT_BRAND='XCP-ng'
PRODUCT_NAME='xenenterprise'
PRODUCT_VERSION='8.3.0'
PRODUCT_VERSION_TEXT='8.3'
PLATFORM_NAME='XCP'
PLATFORM_VERSION='3.4.0'
BUILD_NUMBER='cloud'
KERNEL_VERSION='4.19.0+1'
MANAGEMENT_INTERFACE='xenbr0'
MANAGEMENT_ADDRESS_TYPE='IPv4'
DOM0_MEM='2048'
PRIMARY_DISK='/dev/disk/by-id/nvme-sandbox'
INSTALLATION_UUID='%s'
CONTROL_DOMAIN_UUID='9b7e2d10-44c3-4f0b-8a55-0c6f1e9d7b21'
""" % INSTALLATION_UUID

SYSCONFIG = """# Settings of Open vSwitch in this sandbox. Dummy datapaths need neither root nor a kernel module.
VSWITCHD_MLOCKALL=no
OVS_CTL_OPTS="--ovs-vswitchd-options=--enable-dummy=override"
"""


class Port(NamedTuple):
    """A port of a stale bridge, with one interface of the same name."""

    name: str
    interface_type: str
    external_ids: Dict[str, str]


def write_files(paths: Paths, sysconfig: str = SYSCONFIG) -> None:
    """Everything but conf.db: inventory, network.conf, sysconfig, var/run as a link to ../run, and a boot id."""
    contents = ((paths.inventory, INVENTORY), (paths.network_conf, "vswitch\n"), (paths.sysconfig, sysconfig))
    for path, text in contents:
        files.make_directory(path.parent, 0o755)
        files.write_file(path, [text.encode()], durable=False)
    for directory in (paths.dbdir, paths.root / "run", paths.root / "var"):
        files.make_directory(directory, 0o755)
    var_run = paths.root / "var/run"
    if not var_run.is_symlink():
        var_run.symlink_to("../run")
    install_plugins(paths)
    write_boot_id(paths)


def install_plugins(paths: Paths, interpreter: str = sys.executable, python_path: Tuple[str, ...] = (PACKAGE,)) -> None:
    """The plugin as the package has it, under both names, with this interpreter and what it shall import from."""
    text = (PLUGINS if PLUGINS.is_dir() else Path("/etc/xapi.d/plugins")).joinpath(PLUGIN_NAMES[0]).read_text()
    lines = text.split("\n", 1)[1].replace("import sys\n", "import sys\n\nsys.path[:0] = %r\n" % list(python_path), 1)
    files.make_directory(paths.plugins, 0o755)
    for name in PLUGIN_NAMES:
        files.write_file(paths.plugins / name, [("#!%s -I\n%s" % (interpreter, lines)).encode()], 0o755,
                         durable=False)


def write_boot_id(paths: Paths) -> None:
    """Give the host a new boot: the kernel's id, and an empty /run."""
    path = paths.root / "proc/sys/kernel/random/boot_id"
    files.make_directory(path.parent, 0o755)
    files.write_file(path, [("%s\n" % uuid.uuid4()).encode()], durable=False)


def make_conf_db(paths: Paths, stale_bridges: int) -> None:
    """Write conf.db as last boot left it: `stale_bridges` bridges of two ports, identity, hostname, a manager and SSL.

    Raises AdministratorError when the server does not take it.
    """
    dbtool.create(paths.conf_db, paths.schema)
    for directory, mode in ((paths.rundir, 0o755), (paths.logdir, 0o750), (paths.daemon_cwd, 0o755)):
        files.make_directory(directory, mode)
    server = daemons.start(paths, launch.ovsdb_server_argv(paths, Settings(), ()), 0, WITHIN_S)
    try:
        with Connection(paths.db_sock, server.label, WITHIN_S) as connection:
            results = connection.call("transact", [dbtool.DATABASE] + last_boot(paths, stale_bridges), WITHIN_S)
        failed = [result for result in results if "error" in result]
        if failed:
            raise AdministratorError("the sandbox's database was refused (%s)" % failed[0], "report this")
    finally:
        daemons.stop(paths, daemons.OVSDB_SERVER)


def last_boot(paths: Paths, stale_bridges: int) -> List[Dict[str, Any]]:
    """The operations that make the database of a host that has been up before."""
    bridges = [operation for number in range(stale_bridges) for operation in _bridge(number)]
    ids = {"system-id": INSTALLATION_UUID, "xs-system-uuid": INSTALLATION_UUID, "hostname": "sandbox.example",
           "rundir": str(paths.rundir), "ovsxen-boot-id": str(uuid.uuid4())}
    row = {"external_ids": _map(ids), "system_type": "XCP-ng", "next_cfg": 7, "cur_cfg": 7,
           "bridges": ["set", [["named-uuid", "bridge%d" % number] for number in range(stale_bridges)]],
           "manager_options": ["named-uuid", "manager"], "ssl": ["named-uuid", "ssl"]}
    pki = "/etc/xensource/xapi-ssl.pem"
    return bridges + [
        _insert("Manager", "manager", {"target": MANAGER, "inactivity_probe": 30000}),
        _insert("SSL", "ssl", {"private_key": pki, "certificate": pki, "bootstrap_ca_cert": True,
                               "ca_cert": "/etc/openvswitch/vswitchd.cacert"}),
        _insert("Open_vSwitch", "switch", row)]


def _bridge(number: int) -> List[Dict[str, Any]]:
    name = "xenbr%d" % number
    network = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    mac = "00:16:3e:%02x:%02x:%02x" % (number >> 16 & 255, number >> 8 & 255, number & 255)
    vif_ids = {"attached-mac": mac, "xs-network-uuid": network,
               "xs-vif-uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, mac)),
               "xs-vm-uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, mac))}
    ports = (Port(name, "internal", {}), Port("vif%d.0" % (number + 1), "", vif_ids))
    operations = []
    for index, port in enumerate(ports):
        key = "%d_%d" % (number, index)
        operations.append(_insert("Interface", "interface" + key, {
            "name": port.name, "type": port.interface_type, "external_ids": _map(port.external_ids)}))
        operations.append(_insert("Port", "port" + key, {
            "name": port.name, "interfaces": ["named-uuid", "interface" + key]}))
    operations.append(_insert("Bridge", "bridge%d" % number, {
        "name": name, "fail_mode": "standalone", "other_config": _map({"hwaddr": mac}),
        "ports": ["set", [["named-uuid", "port%d_%d" % (number, index)] for index in range(len(ports))]],
        "external_ids": _map({"bridge-id": name, "xs-network-uuids": network})}))
    return operations


def _insert(table: str, name: str, row: Dict[str, Any]) -> Dict[str, Any]:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


def _map(values: Dict[str, str]) -> List[Any]:
    return ["map", sorted(values.items())]
