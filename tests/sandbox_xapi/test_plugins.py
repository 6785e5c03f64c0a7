"""host.call_plugin: what a plugin is given, and what XAPI makes of each way in which it can end."""

import ast
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ovsxen.host.clock import Deadline
from ovsxen.sandbox.xapi import wire
from ovsxen.sandbox.xapi.server import FakeXapi
from ovsxen.sandbox.xapi.world import ref_of
from tests.sandbox_xapi.conftest import LIMIT_S, Host, MakeXapi, details, other_root

ANSWER = "<methodResponse><params><param><value>%s</value></param></params></methodResponse>"
SUCCESS = ANSWER % ("<struct><member><name>Status</name><value>Success</value></member>"
                    "<member><name>Value</name><value>%s</value></member></struct>")
PROBE = """#!%s
import os, resource, signal, stat, sys
try:
    os.read(0, 1)
    stdin = "read"
except OSError as error:
    stdin = error.strerror
seen = {"argv": sys.argv, "environ": dict(os.environ), "cwd": os.getcwd(), "stdin": stdin,
        "files": [stat.S_ISREG(os.fstat(fd).st_mode) for fd in (1, 2)], "leads": os.getsid(0) == os.getpid(),
        "sigpipe": signal.getsignal(signal.SIGPIPE) != signal.SIG_DFL, "mask": len(signal.pthread_sigmask(0, [])),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "fds": sorted(map(int, os.listdir("/proc/self/fd")))}
with open("@/seen", "w") as stream:
    stream.write(repr(seen))
""" % sys.executable


def call(client: Any, function: str = "update", arguments: Any = None, plugin: str = "probe") -> str:
    return str(client.host.call_plugin(ref_of("host", "host0"), plugin, function, arguments or {}))


def saying(stdout: str, then: str = "") -> str:
    return "#!/bin/sh\ncat <<'END'\n%s\nEND\n%s\n" % (stdout, then)


def seen_by_probe(host: Host) -> Dict[str, Any]:
    return dict(ast.literal_eval((host.paths.root / "seen").read_text()))


def test_a_plugin_gets_two_arguments_and_next_to_no_environment(xapi: FakeXapi, host: Host, client: Any) -> None:
    path = host.plugin("probe", PROBE)
    details(lambda: call(client))
    seen = seen_by_probe(host)
    assert seen["argv"] == [str(path), (
        "<methodCall><methodName>update</methodName><params><param><value>%s</value></param><param><value><struct/>"
        "</value></param></params></methodCall>" % xapi.sessions[0])]
    assert seen["environ"].pop("PATH") == "/sbin:/usr/sbin:/bin:/usr/bin"
    assert not {"HOME", "LANG", "USER", "PYTHONPATH", "OVSXEN_ROOT"} & set(seen["environ"])
    assert set(seen["environ"]) <= {"LC_CTYPE"}  # Python's own, from 3.7 on
    assert (seen["cwd"], seen["stdin"], seen["files"]) == ("/", "Bad file descriptor", [True, True])
    assert (seen["leads"], seen["sigpipe"], seen["mask"], seen["nofile"]) == (True, True, 0, 1024)
    assert seen["fds"][:3] == [0, 1, 2] and len(seen["fds"]) <= 5, seen["fds"]


def test_arguments_are_escaped_and_have_no_types(xapi: FakeXapi, host: Host, client: Any) -> None:
    host.plugin("probe", PROBE)
    details(lambda: call(client, "a<b", {"k&": 'v"<>', "empty": ""}))
    document = seen_by_probe(host)["argv"][1]
    assert document.startswith("<methodCall><methodName>a&lt;b</methodName>")
    assert document.endswith(
        "<param><value><struct><member><name>k&amp;</name><value>v&quot;&lt;&gt;</value></member>"
        "<member><name>empty</name><value/></member></struct></value></param></params></methodCall>")
    assert wire.parse_call(document.encode()).params[1] == {"k&": 'v"<>', "empty": ""}


@pytest.mark.parametrize("script, answer", [
    (saying(SUCCESS % "text"), "text"), (saying(SUCCESS % "<string>text</string>"), "text"),
    (saying(SUCCESS % ""), ""), (saying(SUCCESS % "  \n "), ""), (saying(SUCCESS % "a  b "), "a  b "),
    (saying("\n \n" + SUCCESS % "x" + "\n\n"), "x"), (saying("<?xml version='1.0'?>" + SUCCESS % "x"), "x"),
    (saying(SUCCESS % "b\u00fccher &lt;&#13;"), "b\u00fccher <\r"), (saying(SUCCESS % "x", "echo noise >&2"), "x"),
])
def test_a_success_is_its_text(xapi: FakeXapi, host: Host, client: Any, script: str, answer: str) -> None:
    host.plugin("probe", script)
    # XAPI writes a carriage return as it is, and XML has it read as a line feed
    assert call(client) == answer.replace("\r", "\n")
    assert xapi.plugin_runs == [("probe", "update", answer)]


FAILURE = ANSWER % ("<struct><member><name>Status</name><value>Failure</value></member><member>"
                    "<name>ErrorDescription</name><value><array><data><value>VSWITCH_CONFIG_MOD_FAILURE</value>"
                    "<value><string>1</string></value></data></array></value></member></struct>")
FAULT = ("<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>7</int></value></member>"
         "<member><name>faultString</name><value>why</value></member></struct></value></fault></methodResponse>")


@pytest.mark.parametrize("script, error", [
    (saying("out", "echo err >&2; exit 3"), ["XENAPI_PLUGIN_FAILURE", "non-zero exit", "out\n", "err\n"]),
    (saying(SUCCESS % "x", "exit 1"), ["XENAPI_PLUGIN_FAILURE", "non-zero exit", SUCCESS % "x" + "\n", ""]),
    (saying("out", "kill -TERM $$"), ["XENAPI_PLUGIN_FAILURE", "signal: SIGTERM", "out\n", ""]),
    (saying("", "kill -KILL $$"), ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL", "\n", ""]),
    (saying("out", "kill -STOP $$"), ["XENAPI_PLUGIN_FAILURE", "task stopped", "out\n", ""]),
    (saying(FAILURE), ["VSWITCH_CONFIG_MOD_FAILURE", "1"]),
    (saying(FAULT), ["XENAPI_PLUGIN_FAILURE", "fault", "7", "why"]),
    ("#!/no/such/interpreter\n", ["XENAPI_PLUGIN_FAILURE", "non-zero exit", "", ""]),
])
def test_every_end_has_its_failure(
        xapi: FakeXapi, host: Host, client: Any, script: str, error: List[str]) -> None:
    host.plugin("probe", script)
    assert details(lambda: call(client)) == error
    assert str(xapi.plugin_runs[0].outcome) == "%s %s" % (error[0], error[1:])


@pytest.mark.parametrize("stdout", [
    "", "noise" + SUCCESS % "x", SUCCESS % "x" + "noise", (SUCCESS % "x")[:60], SUCCESS % "\x1b[31m", "<unclosed>",
    "<html></html>",
], ids=["empty", "before", "after", "truncated", "escape", "unclosed", "other"])
def test_what_is_not_only_xml_is_a_failure_with_all_of_it(
        xapi: FakeXapi, host: Host, client: Any, stdout: str) -> None:
    host.plugin("probe", saying(stdout))
    failed = details(lambda: call(client))
    assert failed[:2] == ["XENAPI_PLUGIN_FAILURE", "failed to parse plugin output"]
    assert failed[2] == stdout.replace("\x1b", "") + "\n" and failed[3]


@pytest.mark.parametrize("value", [
    "<boolean>1</boolean>", "<int>5</int>", "<array><data/></array>", "<struct/>", "<nil/>",
])
def test_a_value_of_another_type_is_an_internal_error(xapi: FakeXapi, host: Host, client: Any, value: str) -> None:
    host.plugin("probe", saying(SUCCESS % value))
    assert details(lambda: call(client))[0] == "INTERNAL_ERROR"


def test_only_a_name_in_the_directory_is_a_plugin(xapi: FakeXapi, host: Host, client: Any) -> None:
    assert details(lambda: call(client)) == ["XENAPI_MISSING_PLUGIN", "probe"]
    host.plugin("probe", saying(SUCCESS % "x"), mode=0o644)
    assert details(lambda: call(client)) == ["XENAPI_PLUGIN_FAILURE", "non-zero exit", "", ""]
    for name in ("../plugins/probe", "", ".", "/bin/true"):
        assert details(lambda name=name: call(client, plugin=name)) == [  # type: ignore[misc]
            "XENAPI_MISSING_PLUGIN", name]


def test_an_argument_too_long_for_exec_fails(xapi: FakeXapi, host: Host, client: Any) -> None:
    host.plugin("probe", saying(SUCCESS % "x"))
    assert call(client, arguments={"k": "v" * 100000}) == "x"
    assert details(lambda: call(client, arguments={"k": "v" * 140000}))[:2] == [
        "XENAPI_PLUGIN_FAILURE", "non-zero exit"]


def test_a_host_that_is_not_live_is_offline(root: Path, make_xapi: MakeXapi, host: Host) -> None:
    make_xapi(hosts=2)
    client = host.client().xenapi
    offline = ref_of("host", "host1")
    assert details(lambda: client.host.call_plugin(offline, "probe", "update", {})) == ["HOST_OFFLINE", offline]
    assert details(lambda: client.host.call_plugin("none", "probe", "update", {})) == [
        "HANDLE_INVALID", "host", "none"]
    assert details(lambda: client.host.call_plugin(offline, "probe", "update", {"k": ["v"]})) == [
        "FIELD_TYPE_ERROR", "args"]


def test_a_slaves_plugin_gets_a_session_that_ends_with_the_call(make_xapi: MakeXapi, host: Host) -> None:
    xapi = make_xapi(slave=True, hosts=2, master=1)
    host.plugin("probe", PROBE)
    client = host.client().xenapi
    details(lambda: call(client))
    given = wire.parse_call(seen_by_probe(host)["argv"][1].encode()).params[0]
    assert given.startswith("OpaqueRef:") and given not in xapi.sessions and len(xapi.sessions) == 1


def test_a_plugin_on_another_live_host_is_that_hosts_own(root: Path, make_xapi: MakeXapi, host: Host) -> None:
    other = Host(other_root(root, "other").root)
    other.plugin("probe", saying(SUCCESS % "other"))
    host.plugin("probe", saying(SUCCESS % "this"))
    uuid = make_xapi(hosts=2).database.get("host", ref_of("host", "host1"))["uuid"]
    xapi = make_xapi(hosts=2, hosts_roots={uuid: other.paths})
    client = host.client().xenapi
    assert client.host.call_plugin(ref_of("host", "host1"), "probe", "update", {}) == "other"
    assert call(client) == "this" and len(xapi.plugin_runs) == 2


def test_a_hanging_plugin_ends_with_the_server_and_nothing_of_it_is_left(make_xapi: MakeXapi, host: Host) -> None:
    xapi = make_xapi()
    host.plugin("probe", "#!/bin/sh\nsleep 60 &\necho $! $$ >@/pids.new; mv @/pids.new @/pids\nwait\n")
    pids = host.paths.root / "pids"
    body = ("<methodCall><methodName>host.call_plugin</methodName><params>%s<param><value><struct/></value></param>"
            "</params></methodCall>" % "".join("<param><value>%s</value></param>" % text for text in (
                host.client().handle, ref_of("host", "host0"), "probe", "update")))
    with host.connect() as connection:
        connection.sendall(("POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)).encode())
        assert Deadline(LIMIT_S).wait_until(pids.exists)
        assert len(host.client().xenapi.pool.get_all()) == 1  # others are served meanwhile
        began = time.monotonic()
        xapi.close()
        assert time.monotonic() - began < LIMIT_S / 2
    for pid in pids.read_text().split():
        assert Deadline(LIMIT_S).wait_until(lambda pid=pid: not _runs(int(pid)))  # type: ignore[misc]


def _runs(pid: int) -> bool:
    """It runs; what is dead and has not been waited for by its new parent does not."""
    assert pid > 1
    try:
        os.kill(pid, 0)
        state = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
