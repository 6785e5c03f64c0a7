"""What `make rpm` has built: names, files, what is required and provided. tests/rpm/test_installed.py runs it."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple

import pytest

from tests.conftest import LIMIT_S, REPOSITORY, Finished
from tests.rpm import built
from tests.rpm.built import Built
from tests.rpm.packages import unpack

LINT = REPOSITORY / "rpm/rpmlint.toml"

OWN_FILES = {
    "/usr/bin/ovsxen": "-rwxr-xr-x",
    "/usr/lib/ovsxen": "drwxr-xr-x",
    "/usr/lib/ovsxen/XenAPI/__init__.py": "-rw-r--r--",
    "/usr/lib/ovsxen/ovs/db/idl.py": "-rw-r--r--",
    "/usr/lib/ovsxen/ovsxen/__main__.py": "-rw-r--r--",
    "/usr/lib/ovsxen/sortedcontainers/__init__.py": "-rw-r--r--",
    "/usr/lib/ovsxen/tenacity/__init__.py": "-rw-r--r--",
    "/etc/xapi.d/plugins/openvswitch-cfg-update": "-rwxr-xr-x",
    "/usr/lib/systemd/system/openvswitch.service": "-rw-r--r--",
    "/usr/lib/systemd/system/openvswitch.service.d/oom.conf": "-rw-r--r--",
    "/usr/lib/systemd/system/openvswitch-xapi-sync.service": "-rw-r--r--",
    "/etc/sysconfig/openvswitch": "-rw-r--r--",
    "/usr/share/openvswitch/scripts/sysconfig.template": "-rw-r--r--",
    "/etc/logrotate.d/openvswitch": "-rw-r--r--",
    "/usr/lib/sysctl.d/60-openvswitch-xen.conf": "-rw-r--r--",
    "/var/lib/ovsxen": "drwxr-xr-x",
    "/etc/openvswitch": "drwxr-xr-x",
    "/var/lib/openvswitch": "drwxr-xr-x",
    "/var/log/openvswitch": "drwxr-x---",
    "/var/xen/openvswitch": "drwxr-xr-x",
}
FILES_OF_OPEN_VSWITCH = (
    "/usr/sbin/ovs-vswitchd", "/usr/sbin/ovsdb-server", "/usr/sbin/ovs-bugtool", "/usr/bin/ovs-vsctl",
    "/usr/bin/ovs-pki", "/usr/bin/vtep-ctl", "/usr/share/openvswitch/vswitch.ovsschema",
    "/usr/share/openvswitch/vtep.ovsschema",
    "/usr/share/openvswitch/scripts/ovs-kmod-ctl", "/usr/share/openvswitch/scripts/ovs-lib",
    # What XCP-ng's openvswitch-ipsec starts, and the library that it names to it.
    "/usr/share/openvswitch/scripts/ovs-monitor-ipsec", "/usr/share/openvswitch/python/ovs/db/idl.py",
    "/usr/share/openvswitch/bugtool-plugins/network-status/openvswitch.xml",
    "/etc/bash_completion.d/ovs-vsctl-bashcomp.bash",
)


def run(*argv: str, cwd: Path = REPOSITORY, stdin: str = "") -> Finished:
    return Finished(subprocess.run(argv, cwd=str(cwd), input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   universal_newlines=True, timeout=LIMIT_S, env=dict(os.environ, LC_ALL="C")))


def output_of(*argv: str) -> str:
    done = run(*argv)
    assert done.code == 0, done
    return done.out


@pytest.fixture(scope="module")
def packages() -> Built:
    return built.find()


class Unpacked(NamedTuple):
    """The root of each package's files."""

    main: Path
    modules: Path
    debuginfo: Path


@pytest.fixture(scope="module")
def unpacked(packages: Built) -> Iterator[Unpacked]:
    base = Path(tempfile.mkdtemp(prefix="ox-rpm-", dir="/tmp"))
    roots = []
    for name, path in zip(Built._fields, packages):
        root = base / name
        root.mkdir()
        unpack(path, root)
        roots.append(root)
    yield Unpacked(*roots)
    shutil.rmtree(str(base))


def modes(package: Path) -> Dict[str, str]:
    """The files of a package with their modes; all of them belong to root."""
    lines = output_of("rpm", "-qp", "--qf", r"[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES}\n]",
                      str(package)).splitlines()
    split = [line.split(" ", 2) for line in lines]
    assert {owner for _, owner, _ in split} == {"root:root"}
    return {name: mode for mode, _, name in split}


def lines_of(tag: str, package: Path) -> List[str]:
    return output_of("rpm", "-qp", "--%s" % tag, str(package)).splitlines()


# What is in them

def test_ovsxens_files_have_their_modes(packages: Built) -> None:
    there = modes(packages.main)
    assert {name: there.get(name) for name in OWN_FILES} == OWN_FILES


def test_open_vswitchs_files_are_there(packages: Built) -> None:
    there = modes(packages.main)
    assert [name for name in FILES_OF_OPEN_VSWITCH if name not in there] == []


def test_what_an_administrator_edits_is_kept(packages: Built) -> None:
    assert lines_of("configfiles", packages.main) == ["/etc/logrotate.d/openvswitch", "/etc/sysconfig/openvswitch"]
    flags = output_of("rpm", "-qp", "--qf", r"[%{FILENAMES} %{FILEFLAGS:fflags}\n]", str(packages.main)).splitlines()
    assert "/etc/sysconfig/openvswitch cn" in flags and "/etc/logrotate.d/openvswitch cn" in flags


def test_nothing_is_compiled_for_one_version_of_python(packages: Built) -> None:
    there = modes(packages.main)
    assert [name for name in there if name.endswith((".pyc", ".pyo")) or "__pycache__" in name] == []
    assert [name for name in there if re.search(r"python\d\.|/python/.*\.so", name)] == []


def test_nothing_for_developers_and_nothing_of_openvswitch_ipsec_is_in_it(packages: Built) -> None:
    there = modes(packages.main)
    assert [name for name in there if re.search(r"/include/|\.(a|la|pc|h|c)$|ipsec\.service", name)] == []


def test_no_file_names_the_machine_that_built_it(unpacked: Unpacked) -> None:
    words = (b"pyenv", os.fsencode(str(REPOSITORY / "build")), b"BUILDROOT")
    files = [path for path in unpacked.main.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 100
    assert [str(path) for path in files if any(word in path.read_bytes() for word in words)] == []


# What they require and provide

def test_no_interpreters_version_and_no_builders_path_is_required(packages: Built) -> None:
    required = [line for path in packages for line in lines_of("requires", path)]
    assert "/usr/bin/python3" in required
    known = re.compile(r"/bin/(ba)?sh$|/usr/bin/(env|python3)$|/lib/modules/")
    assert [line for line in required if line.startswith("/") and not known.match(line)] == []
    assert [line for line in required if "python" in line and line != "/usr/bin/python3"] == []


def test_nothing_is_provided_by_accident(packages: Built) -> None:
    provided = {line.split(" ")[0] for line in lines_of("provides", packages.main)}
    assert {name for name in provided if not name.startswith("bundled(")} == {
        "openvswitch", "openvswitch(x86-64)", "config(openvswitch)"}
    (name,) = re.findall(r"(openvswitch-modules-.*)-[^-]*-[^-]*$", packages.modules.name)
    assert {line.split(" ")[0] for line in lines_of("provides", packages.modules)} == {
        "openvswitch.ko.0", "openvswitch-modules", name, name + "(x86-64)"}
    assert lines_of("conflicts", packages.main) == lines_of("obsoletes", packages.main) == []


# The module

def test_the_module_is_for_the_kernel_that_its_package_names(packages: Built, unpacked: Unpacked) -> None:
    (module,) = unpacked.modules.glob("lib/modules/*/extra/openvswitch/openvswitch.ko")
    uname = module.relative_to(unpacked.modules).parts[2]
    assert packages.modules.name.startswith("openvswitch-modules-%s-" % uname)
    assert output_of("modinfo", "-F", "vermagic", str(module)).split(" ")[0] == uname
    assert module.stat().st_mode & 0o777 == 0o755


# The debuginfo

def test_debuginfo_tells_an_addresss_function_and_line(unpacked: Unpacked) -> None:
    daemon = unpacked.main / "usr/sbin/ovs-vswitchd"
    assert ".debug_info" not in output_of("readelf", "-SW", str(daemon))
    debug = unpacked.debuginfo / "usr/lib/debug"
    (symbols,) = (debug / "usr/sbin").glob("ovs-vswitchd*.debug")
    (address,) = re.findall(r"^ *\d+: (\w+) .* bridge_run$", output_of("readelf", "-sW", str(symbols)), re.M)
    function, line = output_of("eu-addr2line", "-f", "-e", str(daemon), "--debuginfo-path=%s" % debug, "0x" + address
                               ).splitlines()
    assert function == "bridge_run"
    source, number = re.findall(r"^(/usr/src/debug/.*/vswitchd/bridge\.c):(\d+)", line)[0]
    text = (unpacked.debuginfo / source[1:]).read_text().splitlines()
    assert any(line.startswith("bridge_run(") for line in text[int(number) - 1:int(number) + 1])  # its type is above it


def test_the_module_has_debuginfo_too(unpacked: Unpacked) -> None:
    (module,) = unpacked.modules.glob("lib/modules/*/extra/openvswitch/openvswitch.ko")
    assert ".debug_info" not in output_of("readelf", "-SW", str(module))
    (debug,) = unpacked.debuginfo.glob("usr/lib/debug/lib/modules/*/extra/openvswitch/openvswitch.ko*.debug")
    assert ".debug_info" in output_of("readelf", "-SW", str(debug))


# The scriptlets

def scriptlets(package: Path) -> Dict[str, str]:
    found = {}
    for tag in ("PREIN", "POSTIN", "PREUN", "POSTUN", "PRETRANS", "POSTTRANS", "TRIGGERSCRIPTS"):
        text = output_of("rpm", "-qp", "--qf", "[%%{%s}\\n]" % tag, str(package)).replace("(none)", "").strip()
        if text:
            found[tag] = text
    return found


def test_the_scriptlets_are_the_ones_that_are_meant(packages: Built) -> None:
    assert set(scriptlets(packages.main)) == {"POSTIN", "PREUN", "POSTUN", "TRIGGERSCRIPTS"}
    assert set(scriptlets(packages.modules)) == {"POSTTRANS", "POSTUN"}
    assert scriptlets(packages.debuginfo) == {}


def test_shellcheck_has_nothing_to_say_of_the_scriptlets(packages: Built) -> None:
    for package in packages:
        for tag, text in scriptlets(package).items():
            done = run("shellcheck", "--shell=sh", "-", stdin=text + "\n")
            assert done.code == 0, (tag, done)


def test_rpmlint_has_nothing_to_say_of_the_packages(packages: Built) -> None:
    done = run("rpmlint", "-c", str(LINT), *map(str, packages))
    assert done.code == 0 and " 0 errors, 0 warnings" in done.out, done
