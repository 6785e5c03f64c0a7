"""QEMU as every virtual machine of these tests has it: emulated, on its own, and gone with whoever started it.

KVM is never used, be it there or not: what this machine is may be a virtual machine itself.
"""

from typing import List


def emulator_argv(memory_mib: int) -> List[str]:
    """-svm: or the kernel would load a module for it. -cx16: kernels from 6.12 on fall over an emulated cmpxchg16b.

    setpriv: it dies with whoever started it, however that ends.
    """
    return ["setpriv", "--pdeathsig", "KILL", "--", "qemu-system-x86_64",
            "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "qemu64,-svm,-cx16", "-smp", "1",
            "-m", str(memory_mib), "-nodefaults", "-no-user-config", "-display", "none"]
