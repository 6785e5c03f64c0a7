"""What Python makes of the package to start faster: made when it is installed, for the Python that this host has.

No version of Python is known where the package is built, so it brings none of this. Python would make it by itself at
the first start, which is a boot.
"""

import os
import shutil
from pathlib import Path

CACHE = "__pycache__"


def make(library: Path) -> bool:
    """Compile every module below `library` anew; false where one cannot be. Raises OSError."""
    import compileall  # once in the life of a package

    remove(library)
    return bool(compileall.compile_dir(str(library), quiet=2, force=True))


def remove(library: Path) -> None:
    """Remove what any Python has compiled, and directories that held nothing else: of modules that are gone.

    Raises OSError.
    """
    for name, directories, files in os.walk(str(library), topdown=False):
        if CACHE in directories:
            shutil.rmtree(os.path.join(name, CACHE))
        if not files and not os.listdir(name) and name != str(library):
            os.rmdir(name)
