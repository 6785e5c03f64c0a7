"""What Python compiled, made and removed."""

import subprocess
import sys
from pathlib import Path
from typing import List

from ovsxen.host import bytecode


def make_library(root: Path) -> Path:
    library = root / "library"
    for name in ("one/__init__.py", "one/inner/__init__.py", "two/__init__.py"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text("NAME = %r\n" % name)
    return library


def compiled(library: Path) -> List[str]:
    return sorted(str(path.parent.parent.relative_to(library)) for path in library.rglob("*.pyc"))


def test_every_module_is_compiled_and_python_takes_it(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    assert bytecode.make(library)
    assert compiled(library) == ["one", "one/inner", "two"]
    before = {path: path.stat().st_mtime_ns for path in library.rglob("*.pyc")}
    code = "import sys; sys.path.append(%r); import one.inner, two" % str(library)
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)
    assert {path: path.stat().st_mtime_ns for path in library.rglob("*.pyc")} == before


def test_what_is_left_of_a_module_that_is_gone_goes_with_its_directory(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    bytecode.make(library)
    (library / "one/inner/__init__.py").unlink()
    (library / "two/__init__.py").unlink()
    bytecode.make(library)
    assert compiled(library) == ["one"]
    assert not (library / "one/inner").exists() and not (library / "two").exists()


def test_a_module_that_cannot_be_compiled_is_told_and_the_others_are(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    (library / "two/__init__.py").write_text("print 1\n")
    assert not bytecode.make(library)
    assert compiled(library) == ["one", "one/inner"]


def test_nothing_is_left_when_it_is_removed(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    before = sorted(library.rglob("*"))
    bytecode.make(library)
    for _ in range(2):
        bytecode.remove(library)
        assert sorted(library.rglob("*")) == before
