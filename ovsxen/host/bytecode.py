"""What Python makes of the package to start faster: made when it is installed, for the Python that this host has.

No version of Python is known where the package is built, so it brings none of this. Python would make it by itself at
the first start, which is a boot.

All of the package is on the disk then. rpm leaves that to the kernel, for half a minute and more, and after a power cut
in it a module could be empty, and what Python has compiled half there, which it does not notice.
"""

import os
import shutil
from pathlib import Path

from ovsxen.host import files

CACHE = "__pycache__"


def make(library: Path) -> bool:
    """Compile every module below `library` anew; false where one cannot be. A power cut leaves it whole then.

    Raises OSError.
    """
    import compileall  # once in the life of a package

    remove(library)
    compiled = bool(compileall.compile_dir(str(library), quiet=2, force=True))
    for name, _, modules in os.walk(str(library)):
        for path in [os.path.join(name, module) for module in modules] + [name]:
            files.sync_file(Path(path))
    return compiled


def remove(library: Path) -> None:
    """Remove what any Python has compiled, and directories that held nothing else: of modules that are gone.

    Raises OSError.
    """
    for name, directories, modules in os.walk(str(library), topdown=False):
        if CACHE in directories:
            shutil.rmtree(os.path.join(name, CACHE))
        if not modules and not os.listdir(name) and name != str(library):
            os.rmdir(name)
