"""The programs and scripts as the packages install them: each is run, and a sandbox of them has a switch and a XAPI."""

import fnmatch
import json
import re
from typing import Iterator, NamedTuple, Tuple

import pytest

from ovsxen.sandbox.xapi import wire
from tests.rpm import snapshot
from tests.rpm.conftest import Rpms, States, Step
from tests.rpm.root import PYTHONS, Root
from tests.rpm.snapshot import changes

OLDEST = "3.6"
NOT_RUN = (
    ("/usr/share/openvswitch/scripts/ovs-lib", "is read by other scripts"),
    ("/usr/share/openvswitch/scripts/ovs-bugtool-*", "collects what it is named after, and takes no option"),
    ("/usr/share/openvswitch/scripts/ovs-save", "takes no --help"),
    ("/usr/share/openvswitch/scripts/ovs-check-dead-ifs", "takes no option and looks at all processes"),
    ("/etc/xapi.d/plugins/*", "takes XAPI's calls alone: it is called below"),
    ("/etc/init.d/*", "starts and stops services"),
    ("/etc/bash_completion.d/*", "is read by the shell of a person"),
)
"""Scripts that have no harmless option: their interpreter only reads them through."""

WHOLE = """set -eu
ovsxen start
ovsxen status
cp /etc/xapi.d/plugins/openvswitch-cfg-update "$OVSXEN_ROOT/etc/xapi.d/plugins/openvswitch-config-update"
ovs-vsctl add-br xenbr0
echo "asked: $(xe host-call-plugin plugin=openvswitch-config-update fn=status)"
xe sdn-controller-introduce protocol=ssl address=127.0.0.1 port=6632
echo "manager: $(ovs-vsctl get-manager)"
ovsxen stop
"""


FIRST_LINES = """for each in "$@"; do
    [ ! -f "$each" ] || IFS= read -r line <"$each" || :
    case $line in "#!"*) echo "$each $line" ;; esac
    line=
done
"""


class Script(NamedTuple):
    """A file of a package whose first line names an interpreter, with the words of that line."""

    path: str
    interpreter: Tuple[str, ...]


def find_scripts(root: Root, rpms: Rpms) -> Iterator[Script]:
    files = root.rpm("-ql", *rpms.erase[1:]).out.split("\n")
    for line in root.tell("sh", "-c", FIRST_LINES, "sh", *files).split("\n"):
        path, _, words = line.partition(" #!")
        yield Script(path, tuple(words.split()))


def try_out(root: Root, script: Script) -> str:
    """What is wrong with a script, or ""."""
    if root.run("test", "-x", script.interpreter[0]).code != 0:
        return "there is no %s" % script.interpreter[0]
    if not any(fnmatch.fnmatch(script.path, each) for each, _ in NOT_RUN):
        done = root.run(script.path, "--help")
    elif "python" in script.interpreter[-1] or "python" in script.interpreter[0]:
        done = root.run(*script.interpreter, "-c", "compile(open(%r).read(), 'it', 'exec')" % script.path)
    else:
        done = root.run(*script.interpreter, "-n", script.path)
    return "" if done.code == 0 else done.err.strip().split("\n")[-1] or "exit code %d: %s" % (done.code, done.out)


def newest_of(version: str) -> str:
    found = sorted(PYTHONS.glob("%s.*/bin/python%s" % (version, version)))
    if not found:
        pytest.skip("Python %s is not on this machine" % version)
    return str(found[-1])


@pytest.fixture(params=["the system's", OLDEST])
def installed(request: pytest.FixtureRequest, states: States, rpms: Rpms) -> Root:
    """A host with the packages, and with the system's python3 or the oldest that is served in its place."""
    old: Tuple[Step, ...] = ()
    if request.param == OLDEST:
        old = (("ln", "-sf", newest_of(OLDEST), "/usr/bin/python3"),)
    root = states.after(*old, rpms.install)
    said = root.tell("/usr/bin/python3", "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    assert (said == OLDEST) == (request.param == OLDEST)
    return root


def test_every_script_runs_with_the_interpreter_that_it_names(installed: Root, rpms: Rpms) -> None:
    scripts = list(find_scripts(installed, rpms))
    assert {"/usr/bin/ovsxen", "/etc/xapi.d/plugins/openvswitch-cfg-update"} <= {script.path for script in scripts}
    wrong = {script.path: try_out(installed, script) for script in scripts}
    assert ["%s: %s" % (path, what) for path, what in wrong.items() if what] == []


def test_an_erase_after_every_script_was_run_leaves_nothing(states: States, rpms: Rpms) -> None:
    root = states.after(rpms.install)
    for script in find_scripts(root, rpms):
        try_out(root, script)
    root.transact(*rpms.erase)
    assert changes(states.seen_after(), snapshot.take(root)) == []


def test_no_script_names_an_interpreter_of_one_version_or_of_whoever_is_first_on_the_path(installed: Root,
                                                                                         rpms: Rpms) -> None:
    allowed = ("/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash", "/usr/bin/python3")
    assert [script for script in find_scripts(installed, rpms) if script.interpreter[0] not in allowed] == []


def test_every_program_finds_its_libraries_and_has_the_packages_version(installed: Root, rpms: Rpms) -> None:
    version = installed.rpm("-q", "--qf", "%{VERSION}", "openvswitch").out
    for program in ("ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ovs-ofctl", "ovs-appctl", "ovs-dpctl", "ovsdb-tool",
                    "ovsdb-client"):
        assert installed.tell(program, "--version").split("\n")[0].endswith(" " + version)


def test_the_sandbox_boots_a_switch_and_answers_xapi_and_nothing_of_the_package_is_written(installed: Root) -> None:
    before = snapshot.take(installed)
    said = installed.tell("ovsxen", "sandbox", "/tmp/h", "--", "sh", "-c", WHOLE)
    assert '"verdict"' in said and "running" in said, said
    assert "manager: ssl:127.0.0.1:6632" in said, said
    assert [line for line in changes(before, snapshot.take(installed)) if not line.startswith("+ /tmp/h")] == []


def test_the_plugin_answers_xapi_where_it_is_installed(installed: Root) -> None:
    call = wire.plugin_call("status", "OpaqueRef:x", {})
    for name in ("openvswitch-cfg-update", "openvswitch-config-update"):
        done = installed.run("env", "-i", "PATH=/usr/sbin:/usr/bin", "/etc/xapi.d/plugins/" + name, call)
        assert done.code == 0, done
        answer = wire.parse_response(done.out.encode())
        assert (answer["Status"], json.loads(answer["Value"])["verdict"]) == ("Success", "stopped")


def test_version_and_status_answer(installed: Root, rpms: Rpms) -> None:
    assert installed.tell("ovsxen", "version")
    stopped = installed.run("ovsxen", "status")
    assert stopped.code != 0 and "stopped" in stopped.out


def test_bytecode_is_made_where_the_package_is_installed_and_for_its_python_alone(installed: Root) -> None:
    tag = installed.tell("/usr/bin/python3", "-IS", "-c", "import sys; print(sys.implementation.cache_tag)")
    compiled = [path for path in snapshot.take(installed) if fnmatch.fnmatch(path, "/usr/lib/ovsxen/*/__pycache__/*")]
    assert compiled and all(path.endswith(".%s.pyc" % tag) for path in compiled)


def test_the_package_itself_brings_no_bytecode_and_names_no_version_of_python(installed: Root, rpms: Rpms) -> None:
    files = installed.rpm("-ql", "openvswitch").out
    assert ".pyc" not in files and "__pycache__" not in files
    assert not re.search(r"python3\.\d", files + installed.rpm("-q", "--requires", "openvswitch").out)
