"""Builds RPMs of a few files in a fraction of a second, and an RPM again under another release number."""

import shutil
import stat
import subprocess
from pathlib import Path
from typing import Callable, List, NamedTuple, Tuple

LIMIT_S = 120
GHOST, CONFIG, NOREPLACE = 1 << 6, 1 << 0, 1 << 4  # RPMFILE_*, rpmfiles.h
SCRIPTS = (("pre", "PREIN"), ("post", "POSTIN"), ("preun", "PREUN"), ("postun", "POSTUN"), ("pretrans", "PRETRANS"),
           ("posttrans", "POSTTRANS"))
"""What a spec and what a package's header call them."""
MARK = "\1"

SPEC = """Name: {name}
Version: {version}
Release: {release}
Summary: A package for tests
License: none
AutoReqProv: no
%global __os_install_post %{{nil}}
%global debug_package %{{nil}}
%global _build_id_links none
%global _binary_payload w1.gzdio
{relations}
%description
A package for tests.
%install
mkdir -p %{{buildroot}}
cp -a {tree}/. %{{buildroot}}
{scripts}
%files
%defattr(-,root,root)
{files}
"""


class File(NamedTuple):
    """A file of a package; with a `link` a symbolic link. `marks` are what %files says before the path."""

    path: str
    text: str = ""
    mode: int = 0o644
    marks: str = ""
    link: str = ""


class Package(NamedTuple):
    """`relations` are lines such as "Requires: x"; `scripts` are pairs such as ("%post", "exit 0")."""

    name: str
    version: str
    release: str
    files: Tuple[File, ...] = ()
    relations: Tuple[str, ...] = ()
    scripts: Tuple[Tuple[str, str], ...] = ()
    directories: Tuple[str, ...] = ()


def build(package: Package, workshop: Path) -> Path:
    """The RPM's path."""
    tree = _fresh(workshop / ("%s-%s-%s.tree" % package[:3]))
    for file in package.files:
        there = tree / file.path[1:]
        there.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            there.symlink_to(file.link)
        else:
            there.write_text(file.text)
            there.chmod(file.mode)
    for directory in package.directories:
        (tree / directory[1:]).mkdir(parents=True, exist_ok=True)
    lines = ["%%attr(%04o,root,root) %s %s" % (file.mode, file.marks, file.path) if not file.link else file.path
             for file in package.files] + ["%dir " + directory for directory in package.directories]
    scripts = "".join("%s\n%s\n" % script for script in package.scripts)
    return _rpmbuild(package[:3], "\n".join(package.relations), scripts, "\n".join(lines), tree, workshop)


def leave(tree: Path) -> None:
    """Changes nothing."""


def build_again(rpm: Path, release: str, workshop: Path, change: Callable[[Path], None] = leave,
                more: Tuple[str, ...] = ()) -> Path:
    """The same package under another release, from its RPM alone: files, scriptlets, triggers and relations.

    `change` may write other text into the files of the tree that it is called with; `more` are relations to add.
    """
    name, version, old = ask(rpm, "%{NAME}\n%{VERSION}\n%{RELEASE}\n").split("\n")[:3]
    tree = _fresh(workshop / ("%s-%s-%s.tree" % (name, version, release)))
    unpack(rpm, tree)
    change(tree)
    its_own = "%s-%s" % (version, old)
    left_out = ("Provides: %s = %s\n" % (name, its_own), "Provides: %s(" % name, "Requires: rpmlib(")
    relations = [line.replace(its_own, "%s-%s" % (version, release)) for line in _relations(rpm)
                 if not (line + "\n").startswith(left_out)] + list(more)
    return _rpmbuild((name, version, release), "\n".join(relations), _scripts(rpm), "\n".join(_files(rpm)), tree,
                     workshop)


def unpack(rpm: Path, root: Path) -> None:
    """A package's files, below a directory that is there."""
    with subprocess.Popen(["rpm2cpio", str(rpm)], stdout=subprocess.PIPE) as unpacking:
        subprocess.run(["cpio", "--quiet", "-idm", "--no-absolute-filenames"], stdin=unpacking.stdout, cwd=str(root),
                       check=True, timeout=LIMIT_S)


def ask(rpm: Path, query: str) -> str:
    """What rpm says of a package file."""
    return subprocess.run(["rpm", "-qp", "--qf", query, str(rpm)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          universal_newlines=True, check=True, timeout=LIMIT_S).stdout


def relations(rpm: Path, tag: str) -> List[str]:
    """What a package requires (REQUIRE), provides (PROVIDE), conflicts with (CONFLICT) or obsoletes (OBSOLETE)."""
    return [line for line in ask(rpm, "[%%{%sNEVRS}\n]" % tag).split("\n") if line]


def _relations(rpm: Path) -> List[str]:
    return ["%s: %s" % (word, each) for word, tag in (
        ("Requires", "REQUIRE"), ("Provides", "PROVIDE"), ("Conflicts", "CONFLICT"), ("Obsoletes", "OBSOLETE"))
        for each in relations(rpm, tag)]


def _scripts(rpm: Path) -> str:
    """Scriptlets and triggers in the spec's words. A percent sign is written twice there."""
    said = []
    for script, tag in SCRIPTS:
        program, text = ask(rpm, "%%{%sPROG}%s%%{%s}" % (tag, MARK, tag)).split(MARK)
        if program != "(none)":
            said.append("%%%s -p %s\n%s\n" % (script, program, "" if text == "(none)" else text.replace("%", "%%")))
    fields = MARK.join("%%{TRIGGER%s}" % field for field in ("TYPE", "CONDS", "SCRIPTPROG", "SCRIPTS"))
    for trigger in ask(rpm, "[%s%s]" % (fields, 2 * MARK)).split(2 * MARK):
        if trigger.count(MARK) == 3:
            kind, names, program, text = trigger.split(MARK)
            said.append("%%trigger%s -p %s -- %s\n%s\n" % (kind, program, names, text.replace("%", "%%")))
    return "".join(said)


def _files(rpm: Path) -> List[str]:
    rows = ask(rpm, "[%{FILEMODES}\t%{FILEFLAGS}\t%{FILEUSERNAME}\t%{FILEGROUPNAME}\t%{FILENAMES}\n]").split("\n")
    lines = []
    for mode, flags, user, group, path in (row.split("\t") for row in rows if row):
        number, marks = int(mode) & 0xffff, int(flags)
        words = ["%dir"] if stat.S_ISDIR(number) else []
        words += ["%ghost"] if marks & GHOST else []
        words += ["%config(noreplace)" if marks & NOREPLACE else "%config"] if marks & CONFIG else []
        said = "-" if stat.S_ISLNK(number) else "%04o" % stat.S_IMODE(number)
        lines.append("%%attr(%s,%s,%s) %s \"%s\"" % (said, user, group, " ".join(words), path))
    return lines


def _rpmbuild(nevr: Tuple[str, str, str], relations: str, scripts: str, files: str, tree: Path, workshop: Path) -> Path:
    name, version, release = nevr
    spec = workshop / ("%s-%s-%s.spec" % nevr)
    spec.write_text(SPEC.format(name=name, version=version, release=release, relations=relations, tree=tree,
                                scripts=scripts, files=files))
    done = subprocess.run(["rpmbuild", "-bb", "--quiet", "--nodeps", "-D", "_topdir %s" % (workshop / "rpmbuild"),
                           "-D", "_rpmdir %s" % workshop, "-D", "_tmppath %s" % _there(workshop / "tmp"), str(spec)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=LIMIT_S)
    made = workshop / "x86_64" / ("%s-%s-%s.x86_64.rpm" % nevr)
    assert done.returncode == 0 and made.exists(), "%s:\n%s\n%s" % (spec, done.stdout, spec.read_text())
    shutil.rmtree(str(tree))
    return made


def _there(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _fresh(directory: Path) -> Path:
    if directory.exists():
        shutil.rmtree(str(directory))
    return _there(directory)
