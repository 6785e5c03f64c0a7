"""What the kernel starts first: it loads what the disk needs, and hands over to the system on it. A megabyte.

The disk is a virtio one, whose driver is a module, because it alone does as the kernel says: what is flushed is on it,
and the machine's state can be kept. QEMU's NVMe (7.2) takes a write that is to be durable for any other.
"""

import lzma
import shutil
from pathlib import Path
from typing import List

from tests.rpm.kernel import read_paths, run
from tests.rpm.machine import write_executable, write_image

DRIVERS = ("virtio_pci", "virtio_blk", "ext4")
DISK = "/dev/vda"

INIT = """#!/busybox sh
export PATH=/
busybox mount -t devtmpfs devtmpfs /dev
for module in %s; do busybox insmod /$module; done
until [ -b %s ]; do busybox usleep 20000; done
busybox mount -t ext4 %s /system
busybox mount -o move /dev /system/dev
exec busybox switch_root /system /sbin/init
"""


def make(modules_root: Path, release: str, image: Path, work: Path) -> None:
    """The image for a kernel whose modules lie below `modules_root`/lib/modules; it is made in the directory `work`."""
    for name in ("dev", "system"):
        (work / name).mkdir(parents=True)
    shutil.copy2("/usr/bin/busybox", str(work / "busybox"))
    listed = run("modprobe", "--dirname", str(modules_root), "--set-version", release, "--show-depends", "--all",
                 *DRIVERS)
    names: List[str] = []
    for path in read_paths(listed):
        name = path.name.replace(".xz", "")
        if name not in names:
            (work / name).write_bytes(lzma.open(str(path)).read() if path.suffix == ".xz" else path.read_bytes())
            names.append(name)
    write_executable(work / "init", INIT % (" ".join(names), DISK, DISK))
    write_image(work, image)
