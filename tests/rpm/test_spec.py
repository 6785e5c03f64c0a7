"""What the spec makes of its macros, as rpm reads it: nothing is built here."""

import hashlib
import io
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import pytest

import ovsxen
from tests.conftest import LIMIT_S, REPOSITORY, Finished

SPEC = REPOSITORY / "rpm/openvswitch-xen.spec"
PINS = REPOSITORY / "rpm/bundled.txt"
LINT = REPOSITORY / "rpm/rpmlint.toml"

VERSION = {"openvswitch_version": "3.1.0"}
THREE = {"kernel_name": "kernel-xen", "kernel_version": "2.6.32.43-0.4.1", "kernel_flavor": "xen"}
KDUMP = dict(THREE, kernel_flavor="kdump")
UNAME = {"kernel_uname": "4.19.0+1"}
DASHES = {"kernel_uname": "6.1.0-56-amd64"}

LATER_THAN_4_11 = (
    r"^%elif", r"^%bcond\s", r"^(Build)?(Requires|Conflicts|Provides)[^:]*:\s*\(", r"^(Recommends|Suggests|Supplements"
    r"|Enhances|BuildSystem|BuildOption|TranslationURL)\b", r"^%(trans)?filetrigger", r"^%(pre|post)untrans",
    r"^%(generate_buildrequires|conf|sourcelist|patchlist|autosetup|autopatch|load)\b", r"%dnl\b",
    r"%make_(build|install)\b", r"%\[",
    r"%\{(expr|quote|shrink|gsub|upper|lower|len|sub|rep|reverse|contains|exists|macrobody|getncpus|dirname_of"
    r"|getconfdir|span|xdg):?", r"%patch\s*\d", r'\bv"', r"\brpm\.(execute|spawn|isdefined|load|glob|open)\b",
    r"\bmacros\.",
)
"""What rpm 4.11 (XCP-ng 8.3) does not know, and what is done otherwise from 4.19 on."""


class Package(NamedTuple):
    """A package that the spec would make."""

    provides: Tuple[str, ...]
    requires: Tuple[str, ...]


class Workshop:
    """A directory with SOURCES, an rpm database and what stands for a kernel."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.add_tarball("3.1.0", "configure")

    def add_tarball(self, version: str, *members: str) -> None:
        (self.top / "SOURCES").mkdir(exist_ok=True)
        with tarfile.open(str(self.top / "SOURCES" / ("openvswitch-%s.tar.gz" % version)), "w:gz") as tarball:
            for member in members:
                tarball.addfile(tarfile.TarInfo("openvswitch-%s/%s" % (version, member)), io.BytesIO())

    def kernel_source(self) -> Dict[str, str]:
        source = self.top / "linux/net/openvswitch"
        source.mkdir(parents=True, exist_ok=True)
        (source / "Makefile").touch()
        return {"openvswitch_kmod_source": str(self.top / "linux")}

    def headers(self, uname: str) -> Dict[str, str]:
        headers = self.top / "headers"
        (headers / "include/generated").mkdir(parents=True, exist_ok=True)
        (headers / "Makefile").touch()
        (headers / "include/generated/utsrelease.h").write_text('#define UTS_RELEASE "%s"\n' % uname)
        return {"kernel_builddir": str(headers)}

    def install(self, name: str, version: str, release: str, *relations: str) -> None:
        """Have the database say that a package is installed."""
        spec = self.top / (name + ".spec")
        spec.write_text("Name: %s\nVersion: %s\nRelease: %s\nSummary: stand-in\nLicense: none\nBuildArch: noarch\n%s\n"
                        "%%description\nstand-in\n%%files\n" % (name, version, release, "\n".join(relations)))
        assert_done(self.run("rpmbuild", "-bb", str(spec)))
        (built,) = self.top.glob("RPMS/noarch/%s-%s-%s.noarch.rpm" % (name, version, release))
        assert_done(self.run("rpm", "--dbpath", str(self.top / "db"), "--justdb", "--nodeps", "-i", str(built)))

    def run(self, command: str, *arguments: str, **macros: str) -> Finished:
        argv = [command] + list(arguments)
        if command != "rpm":
            macros = dict(macros, _topdir=str(self.top), _dbpath=str(self.top / "db"), _tmppath=str(self.top))
            argv[1:1] = [word for name, value in macros.items() for word in ("-D", "%s %s" % (name, value))]
        return Finished(subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       universal_newlines=True, timeout=LIMIT_S, env=dict(os.environ, LC_ALL="C")))

    def refusal(self, macros: Dict[str, str], *arguments: str) -> str:
        """What the build says; it must end before it has begun."""
        done = self.run("rpmbuild", "--nodeps", "-bb", str(SPEC), *arguments, **macros)
        assert done.code != 0
        assert "Executing" not in done.out + done.err
        return done.err

    def parsed(self, macros: Dict[str, str], *arguments: str) -> str:
        done = self.run("rpmspec", "-P", str(SPEC), *arguments, **dict(VERSION, **macros))
        assert_done(done)
        return done.out

    def packages(self, macros: Dict[str, str], *arguments: str) -> Dict[str, Package]:
        query = "=%{NAME}\\n[+%{PROVIDENEVRS}\\n][-%{REQUIRENEVRS}\\n]"
        done = self.run("rpmspec", "-q", "--qf", query, str(SPEC), *arguments, **dict(VERSION, **macros))
        assert_done(done)
        found = {}
        for block in done.out.split("=", 1)[1].split("\n="):
            name, *lines = block.splitlines()
            found[name] = Package(*(tuple(line[1:] for line in lines if line[0] == sign) for sign in "+-"))
        return found


def assert_done(done: Finished) -> None:
    assert done.code == 0, done


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


# What is refused

@pytest.mark.parametrize("macros, sentence", [
    ({}, "openvswitch_version is not set: pass the version in the tarball's name"),
    ({"openvswitch_version": "latest"}, "openvswitch_version is 'latest', which cannot be an RPM's version"),
    ({"openvswitch_version": "3.1-0"}, "openvswitch_version is '3.1-0', which cannot be an RPM's version"),
    ({"openvswitch_version": "3.1.1"}, "SOURCES has openvswitch-3.1.0.tar.gz: pass the version in the tarball's name"),
    (dict(VERSION, openvswitch_stands_for="2.17.7"), "openvswitch_stands_for is '2.17.7': pass VERSION-RELEASE"),
    (dict(VERSION, openvswitch_stands_for="2.17.7-4.2 , foo"), "openvswitch_stands_for is '2.17.7-4.2 , foo': pass"),
    (dict(VERSION, kernel_name="kernel-xen"), "kernel_version is not set: kernel_name, kernel_version and"),
    (dict(VERSION, kernel_name="kernel-xen", kernel_version="2.6.32-1"), "kernel_flavor is not set"),
    (dict(VERSION, kernel_version="2.6.32-1", kernel_flavor="xen"), "kernel_name is not set"),
    (dict(VERSION, **dict(THREE, kernel_flavor="smp")), "kernel_flavor is 'smp': pass xen or kdump"),
    (dict(VERSION, **dict(THREE, kernel_version="(none)")), "kernel_version is '(none)': pass VERSION-RELEASE"),
    (dict(VERSION, **dict(THREE, kernel_version="6.1.0-56-amd64")), "kernel_version is '6.1.0-56-amd64': pass VERSION"),
    (dict(VERSION, **dict(THREE, kernel_version="2.6.32-1xen")), "ends in the flavor: pass it without 'xen'"),
    (dict(VERSION, **dict(THREE, kernel_name="kernel-xen-devel")), "with kernel- or without it, but without -devel"),
    (dict(VERSION, **dict(THREE, kernel_name="linux-image")), "kernel_name is 'linux-image': pass the name"),
    (dict(VERSION, kernel_uname="xen"), "kernel_uname is 'xen', which no kernel is called: pass what `uname -r` says"),
    (dict(VERSION, kernel_uname="4.19.0+1; reboot"), "kernel_uname is '4.19.0+1; reboot', which no kernel is called"),
    (dict(VERSION, kernel_uname="%{unknown}"), "kernel_uname is '??unknown?', which no kernel is called"),
    (dict(VERSION, kernel_flavor="xen", **UNAME), "kernel_uname stands for kernel_name, kernel_version and"),
    (dict(VERSION, openvswitch_kmod_source="/nonexistent", **UNAME), "which has no net/openvswitch/Makefile: pass"),
    (dict(VERSION, openvswitch_kmod_source="linux", **UNAME), "openvswitch_kmod_source is 'linux': pass the absolute"),
])
def test_a_macro_that_makes_no_sense_is_refused_with_a_sentence(workshop: Workshop, macros: Dict[str, str],
                                                                sentence: str) -> None:
    assert sentence in workshop.refusal(macros)


def test_a_macro_without_a_value_is_refused(workshop: Workshop) -> None:
    assert "kernel_version" in workshop.refusal(dict(VERSION, **dict(THREE, kernel_version="")))


def test_a_module_for_no_kernel_is_refused(workshop: Workshop) -> None:
    said = workshop.refusal(dict(VERSION, **workshop.kernel_source()))
    assert "no kernel is named, and no kernel-*-devel is installed: pass kernel_uname, or kernel_name" in said


def test_a_module_without_headers_is_refused(workshop: Workshop) -> None:
    said = workshop.refusal(dict(VERSION, **dict(THREE, **workshop.kernel_source())))
    assert "no headers of the kernel 2.6.32.43-0.4.1xen in /lib/modules/2.6.32.43-0.4.1xen/build: install its" in said


def test_headers_of_another_kernel_are_refused(workshop: Workshop) -> None:
    macros = dict(VERSION, **dict(UNAME, **workshop.kernel_source()))
    said = workshop.refusal(dict(macros, **workshop.headers("4.19.0+2")))
    assert "are of the kernel 4.19.0+2, not of 4.19.0+1: pass the macros that belong to them" in said


# Names, Provides and Requires

def modules_for(workshop: Workshop, kernel: Dict[str, str], uname: str) -> Tuple[str, Package]:
    """The package of modules, and what openvswitch itself requires beside it."""
    macros = dict(kernel, **workshop.kernel_source())
    found = workshop.packages(dict(macros, **workshop.headers(uname)))
    assert "openvswitch.ko.0" in found["openvswitch"].requires
    (name,) = (name for name in found if name.startswith("openvswitch-modules"))
    return name, found[name]


@pytest.mark.parametrize("kernel, uname, name, provided, required", [
    (THREE, "2.6.32.43-0.4.1xen", "openvswitch-modules-xen-2.6.32.43-0.4.1",
     "openvswitch-modules-xen = 2.6.32.43-0.4.1", "kernel-xen = 2.6.32.43-0.4.1"),
    (KDUMP, "2.6.32.43-0.4.1kdump", "openvswitch-modules-kdump-2.6.32.43-0.4.1",
     "openvswitch-modules-kdump = 2.6.32.43-0.4.1", "kernel-kdump = 2.6.32.43-0.4.1"),
    (UNAME, "4.19.0+1", "openvswitch-modules-4.19.0+1", "openvswitch-modules = 4.19.0+1", "kernel-uname-r = 4.19.0+1"),
    (DASHES, "6.1.0-56-amd64", "openvswitch-modules-6.1.0-56-amd64", "openvswitch-modules = 6.1.0-56_amd64",
     "/lib/modules/6.1.0-56-amd64"),
])
def test_modules_are_named_for_their_kernel_and_require_it(workshop: Workshop, kernel: Dict[str, str], uname: str,
                                                           name: str, provided: str, required: str) -> None:
    found, package = modules_for(workshop, kernel, uname)
    assert found == name
    assert {provided, "openvswitch.ko.0"} < set(package.provides)
    assert required in package.requires


@pytest.mark.parametrize("kernel, required", [
    ({}, "kernel-uname-r >= 3.3"), (UNAME, "kernel-uname-r >= 3.3"), (THREE, "kernel-xen >= 3.3"),
    (dict(THREE, kernel_name="xen"), "kernel-xen >= 3.3"), (dict(THREE, kernel_name="NAME-xen"), "kernel-xen >= 3.3"),
])
def test_without_modules_a_kernel_that_has_one_is_required(workshop: Workshop, kernel: Dict[str, str],
                                                           required: str) -> None:
    found = workshop.packages(kernel)
    assert set(found) <= {"openvswitch", "openvswitch-debuginfo"}
    assert required in found["openvswitch"].requires
    assert "openvswitch.ko.0" not in found["openvswitch"].requires


def test_the_tarballs_own_module_is_built_unless_it_is_not_wanted(workshop: Workshop) -> None:
    workshop.add_tarball("2.17.0", "datapath/linux/Kbuild.in")
    macros = dict(UNAME, openvswitch_version="2.17.0", **workshop.headers("4.19.0+1"))
    assert "openvswitch-modules-4.19.0+1" in workshop.packages(macros)
    assert "openvswitch-modules-4.19.0+1" not in workshop.packages(macros, "--without", "datapath")


def test_what_is_bundled_is_said(workshop: Workshop) -> None:
    said = set(workshop.packages({})["openvswitch"].provides)
    assert said >= {"bundled(python3-%s) = %s" % (name.lower(), version) for name, version in pins()}


# The kernel that is installed

def test_the_one_kernel_that_is_installed_is_taken(workshop: Workshop) -> None:
    workshop.install("kernel-xen-devel", "2.6.32.43", "0.4.1")
    assert modules_for(workshop, {}, "2.6.32.43-0.4.1xen")[0] == "openvswitch-modules-xen-2.6.32.43-0.4.1"


def test_a_kernel_that_is_named_wins_over_the_one_that_is_installed(workshop: Workshop) -> None:
    workshop.install("kernel-xen-devel", "2.6.32.43", "0.4.1")
    assert modules_for(workshop, UNAME, "4.19.0+1")[0] == "openvswitch-modules-4.19.0+1"


@pytest.mark.parametrize("others", [(), ("kernel-devel", "kernel-debug-devel")])
def test_modules_are_for_the_one_xen_kernel_that_is_installed(workshop: Workshop, others: Tuple[str, ...]) -> None:
    workshop.install("kernel-NAME-xen-devel", "3.10.41", "1")
    for other in others:
        workshop.install(other, "4.19.19", "8", "Provides: kernel-devel-uname-r = 4.19.0+1")
    assert modules_for(workshop, {}, "3.10.41-1xen")[0] == "openvswitch-modules-xen-3.10.41-1"
    assert "kernel-xen >= 3.3" in workshop.packages({})["openvswitch"].requires


def test_modules_are_for_the_one_kernel_without_a_flavor_that_is_installed(workshop: Workshop) -> None:
    workshop.install("kernel-devel", "4.19.19", "8.0.38", "Provides: kernel-devel-uname-r = 4.19.0+1")
    assert modules_for(workshop, {}, "4.19.0+1")[0] == "openvswitch-modules-4.19.0+1"
    assert "kernel-uname-r >= 3.3" in workshop.packages({})["openvswitch"].requires


def test_a_kernel_that_does_not_say_its_uname_is_to_be_named(workshop: Workshop) -> None:
    workshop.install("kernel-lt-devel", "4.19.19", "8")
    said = workshop.refusal(dict(VERSION, **workshop.kernel_source()))
    assert "kernel-lt-devel 4.19.19-8, which is installed, does not say what `uname -r` says: pass kernel_uname" in said


@pytest.mark.parametrize("names", [
    ("kernel-xen-devel", "kernel-NAME-xen-devel"), ("kernel-devel", "kernel-debug-devel"),
])
def test_of_two_kernels_that_are_installed_one_is_to_be_named(workshop: Workshop, names: Tuple[str, ...]) -> None:
    for name in names:
        workshop.install(name, "3.10.41", "1", "Provides: kernel-devel-uname-r = 3.10.0+1")
    said = workshop.refusal(dict(VERSION, **workshop.kernel_source()))
    assert "more than one kernel-*-devel is installed (" in said
    assert names[0] + " 3.10.41-1" in said and "pass kernel_uname" in said


# What is built, and how

def test_units_or_init_scripts_are_installed(workshop: Workshop) -> None:
    units, scripts = workshop.parsed({}, "--with", "systemd"), workshop.parsed({}, "--without", "systemd")
    assert re.search(r"tools/install-tree \S+ systemd$", units, re.M) and "/system/openvswitch.service" in units
    assert re.search(r"tools/install-tree \S+ sysv$", scripts, re.M) and "/etc/init.d/openvswitch" in scripts
    assert "init.d" not in units and "/system/openvswitch.service" not in scripts


@pytest.mark.parametrize("version, init", [("219", "systemd-219"), ("242", "systemd-219"), ("243", "systemd")])
def test_a_systemd_gets_what_it_knows(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str,
                                      init: str) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\necho 'systemd %s (%s-78.el7)'\n" % (version, version))
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", "%s:%s" % (tmp_path, os.environ["PATH"]))
    spec = workshop.parsed({}, "--with", "systemd")
    assert re.search(r"tools/install-tree \S+ %s$" % init, spec, re.M)
    assert ("/system/openvswitch.service.d" in spec) == (init == "systemd")


def test_open_vswitchs_tests_run_unless_they_are_not_wanted(workshop: Workshop) -> None:
    flags = {"openvswitch_testsuiteflags": "-j4 1-100"}
    assert re.search(r"make \S+ \S+ check RECHECK=yes .*\n *TESTSUITEFLAGS='-j4 1-100'", workshop.parsed(flags))
    assert "RECHECK" not in workshop.parsed(flags, "--without", "check")


def test_a_compiler_of_two_words_stays_one_value(workshop: Workshop) -> None:
    macros = dict(dict(UNAME, openvswitch_cc="ccache gcc"), **workshop.kernel_source())
    build = workshop.parsed(dict(macros, **workshop.headers("4.19.0+1")))
    assert 'export CC="ccache gcc"' in build and '${CC:+CC="$CC"}' in build


def test_debuginfo_is_left_to_a_platform_that_has_it(workshop: Workshop) -> None:
    assert set(workshop.packages({"_enable_debug_packages": "1"})) == {"openvswitch"}


# The spec itself

def test_the_spec_builds_this_ovsxen() -> None:
    assert re.findall(r"^%global ovsxen_version (.*)$", SPEC.read_text(), re.M) == [ovsxen.__version__]
    told = (REPOSITORY / "docs/packages.md").read_text()
    assert set(re.findall(r"ovsxen-([0-9.]+)(?:/|\.tar)", told)) == {ovsxen.__version__}


def pins() -> List[Tuple[str, str]]:
    return re.findall(r"^([\w-]+)==(\S+)", PINS.read_text(), re.M)


def test_what_is_bundled_is_pinned_by_version_and_checksum() -> None:
    stated = PINS.read_text().replace("\\\n", " ").splitlines()
    for line in (line for line in stated if line and line[0] not in "#-"):
        assert re.match(r"^[\w-]+==[\d.]+ +--hash=sha256:[0-9a-f]{64}$", line), line
    spec = SPEC.read_text()
    for name, version in pins():
        macro = "ovs_python" if name == "ovs" else name.lower()
        assert re.findall(r"^%%global %s_version (.*)$" % macro, spec, re.M) == [version]


def test_the_spec_keeps_to_what_rpm_4_11_knows() -> None:
    code = "\n".join(line for line in SPEC.read_text().splitlines() if not line.startswith("#"))
    found = [match.group(0) for pattern in LATER_THAN_4_11 for match in re.finditer(pattern, code, re.M)]
    assert found == []


def test_every_build_option_is_explained_at_the_top() -> None:
    spec = SPEC.read_text()
    head = spec[:spec.index("%bcond")]
    read = set(re.findall(r'(?:macro|directory)\("(\w+)"\)', spec) + re.findall(r"%\{\?(openvswitch_\w+)", spec))
    assert {name for name in read if name not in head} == set()


def test_shellcheck_has_nothing_to_say_of_any_script() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=str(REPOSITORY), stdout=subprocess.PIPE, universal_newlines=True,
                            check=True, timeout=LIMIT_S).stdout.split()
    scripts = [name for name in listed if name.startswith("demo/")
               or (REPOSITORY / name).read_bytes().startswith((b"#!/bin/sh", b"#!/bin/bash"))]
    assert {".ci/run", "initscripts/openvswitch", "tools/build-rpm"} < set(scripts)
    done = Finished(subprocess.run(["shellcheck"] + scripts, cwd=str(REPOSITORY), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                                   timeout=LIMIT_S))
    assert done.code == 0, done


def test_rpmlint_has_nothing_to_say_of_the_spec(workshop: Workshop) -> None:
    (workshop.top / ".rpmmacros").write_text("%%openvswitch_version 3.1.0\n%%_topdir %s\n" % workshop.top)
    done = Finished(subprocess.run(["rpmlint", "-c", str(LINT), str(SPEC)],
                                   env=dict(os.environ, HOME=str(workshop.top)), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   universal_newlines=True, timeout=LIMIT_S))
    assert done.code == 0 and " 0 errors, 0 warnings" in done.out, done


def test_what_was_fetched_is_what_is_pinned() -> None:
    """Only where it was: `make rpm` fetches it."""
    sources = REPOSITORY / "build/rpm/SOURCES"
    assert sources.is_dir(), "%s is not there: run `make rpm`" % sources
    pinned = re.findall(r"sha256:([0-9a-f]{64})", PINS.read_text())
    fetched = [path for path in sources.iterdir() if path.suffix == ".whl" or re.match(r"ovs-\d", path.name)]
    assert sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in fetched) == sorted(pinned)
