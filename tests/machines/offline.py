"""A disk whose machine is off: its file system recovered as the next boot's kernel would, and our files read from it.

Nothing is mounted: e2fsck replays the journal, and debugfs reads the files.
"""

import subprocess
from pathlib import Path
from typing import NamedTuple, Tuple

from tests.machines.rootfs import run

OURS = ("/etc/openvswitch", "/etc/sysconfig", "/etc/xapi.d/plugins", "/var/lib/ovsxen", "/var/xapi",
        "/var/log/openvswitch/ovsxen")
"""All places that ovsxen writes to and that outlive a boot, but for what its package brings."""

THERE_WITHIN_S = 300
RECOVERED = (0, 1)  # e2fsck(8): nothing was wrong, or was put right


class Disk(NamedTuple):
    """A disk as a file of its very bytes."""

    image: Path

    def recover(self) -> None:
        """What a kernel does with the journal when it mounts the file system after a power cut."""
        done = subprocess.run(["e2fsck", "-y", str(self.image)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True, timeout=THERE_WITHIN_S)
        assert done.returncode in RECOVERED, done.stdout

    def read_out(self, into: Path, names: Tuple[str, ...] = OURS) -> Path:
        """Copy these files and directories, as far as they are there, to their places below `into`; gives that."""
        requests = []
        for name in names:
            parent = into / name[1:].rpartition("/")[0]
            parent.mkdir(parents=True, exist_ok=True)
            requests.append("rdump %s %s\n" % (name, parent))
        said = subprocess.run(["debugfs", "-f", "-", str(self.image)], input="".join(requests), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=THERE_WITHIN_S)
        complaints = [line for line in said.stderr.splitlines()[1:] if "File not found by ext2_lookup" not in line]
        assert said.returncode == 0 and not complaints, said
        return into


def look_into(overlay: Path, work: Path, names: Tuple[str, ...] = OURS) -> Path:
    """These files on a machine's disk that was switched off anyhow, which stays as it is; they lie in `work`."""
    image = work / "recovered.img"
    work.mkdir()
    run("qemu-img", "convert", "-O", "raw", str(overlay), str(image))
    try:
        Disk(image).recover()
        return Disk(image).read_out(work / "files", names)
    finally:
        image.unlink()
