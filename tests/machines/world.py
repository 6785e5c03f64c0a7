"""The file system of a XenServer host with ovsxen on it, as layers: Debian's tree below, what we put there on top."""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple, Tuple

from ovsxen.sandbox import certificates, contents
from tests.conftest import REPOSITORY
from tests.machines import loader, networks, rootfs
from tests.machines.rootfs import Rootfs, link, run, write

HOST = Path(__file__).resolve().parent / "host"
STAND_INS = "usr/lib/stand-ins"
PLUG_GUEST = "/%s/plug-guest" % STAND_INS
KILL_AND_MEND = "/%s/kill-and-mend" % STAND_INS
DISK_BYTES = 1500 << 20
XAPIS_PLUGIN = "#!/bin/sh\necho 'XAPI has called its own plugin' >&2\nexit 1\n"


class World(NamedTuple):
    """A host's file system: `layers`, the topmost first; the last is a suite's tree. `work` has what is made of it."""

    rootfs: Rootfs
    layers: Tuple[Path, ...]
    work: Path

    def with_layer(self, layer: Path) -> "World":
        """Another world, with this layer on top; what is made of it goes beside that."""
        return self._replace(layers=(layer,) + self.layers, work=layer.parent)

    def after(self, script: str) -> "World":
        """Another world: this one after a script for its shell, in which nothing may fail, before any boot.

        There may be several of one world, each with a disk of its own.
        """
        work = Path(tempfile.mkdtemp(prefix="after-", dir=str(self.work)))
        upper, merged, scratch = (work / name for name in ("upper", "merged", "scratch"))
        for directory in (upper, merged, scratch):
            directory.mkdir(mode=0o755)
        own = ",upperdir=%s,workdir=%s" % (upper, scratch)
        in_private_mounts(mount_command(self.layers, merged, own), "chroot %s sh -ec '%s'" % (merged, script))
        merged.rmdir()
        return self._replace(layers=(upper,) + self.layers, work=work)

    @property
    def image(self) -> Path:
        """Its disk, an ext4 file system; made when it is first asked for."""
        made = self.work / "disk.img"
        if not made.exists():
            make_image(self.layers, made)
        return made

    @property
    def loader(self) -> Path:
        made = self.work / "loader"
        if not made.exists():
            loader.make(self.rootfs.tree, self.rootfs.release, made, self.work / "loader.d")
        return made


def make(suite: str, work: Path) -> World:
    """A host of today with ovsxen as `make install` lays it out and its package prepares it, that never was booted."""
    base = rootfs.make(suite)
    layer = work / "layer"
    run("make", "-s", "-C", str(REPOSITORY), "install", "DESTDIR=%s" % layer)
    put_host(layer)
    return World(base, (layer, base.tree), work).after("ovsxen host-setup install")


def put_host(layer: Path) -> None:
    """All that is XenServer's: its inventory and settings, and what stands in for its services."""
    write(layer / "etc/xensource-inventory", contents.INVENTORY)
    write(layer / "etc/xensource/network.conf", "openvswitch\n")
    write(layer / "var/lib/xcp/networkd.db", json.dumps(networks.networkd_db()))
    certificates.make_host_pem(layer / "etc/xensource/xapi-ssl.pem")
    controller = layer / "var/lib/controller"
    controller.mkdir(parents=True)
    certificates.make_controller(controller)
    for path in HOST.iterdir():
        if path.suffix == ".service":
            units = layer / "etc/systemd/system"
            write(units / path.name, path.read_text())
            wanted_by = path.read_text().partition("WantedBy=")[2].strip()
            link(units / (wanted_by + ".wants") / path.name, "/etc/systemd/system/" + path.name)
        else:
            write(layer / STAND_INS / path.name, path.read_text(), 0o755)
    link(layer / "usr/bin/xe", "/%s/xe" % STAND_INS)
    # As the package's trigger has it, once XAPI's own plugin is there.
    write(layer / "var/lib/ovsxen/openvswitch-config-update", XAPIS_PLUGIN, 0o755)
    link(layer / "etc/xapi.d/plugins/openvswitch-config-update", "openvswitch-cfg-update")


def mount_command(layers: Tuple[Path, ...], where: Path, upper: str = "") -> str:
    """For a shell in a mount namespace of its own: with its end the mount is gone."""
    return "mount -t overlay overlay -o lowerdir=%s%s %s" % (":".join(map(str, layers)), upper, where)


def in_private_mounts(*commands: str) -> None:
    run("unshare", "--mount", "--propagation=private", "sh", "-ec", "\n".join(commands))


def make_image(layers: Tuple[Path, ...], image: Path) -> None:
    merged, making = image.parent / "merged", image.parent / "disk.making"
    merged.mkdir()
    with making.open("wb") as disk:
        disk.truncate(DISK_BYTES)
    options = "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"
    in_private_mounts(mount_command(layers, merged), "mke2fs -q -F -t ext4 -E %s -d %s %s" % (options, merged, making))
    merged.rmdir()
    making.rename(image)
