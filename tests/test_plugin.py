"""The plugin as a process of XAPI's: its file, its names, its answers. What an update does is in test_update.py."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ovsxen.errors import XapiFailure
from ovsxen.plugin import find_root
from ovsxen.sandbox import certificates
from ovsxen.sandbox.xapi.server import FakeXapi
from tests.conftest import REPOSITORY, SandboxHost, ask_xapi

PLUGIN = REPOSITORY / "xapi.d/plugins/openvswitch-cfg-update"
NAMES = ("openvswitch-cfg-update", "openvswitch-config-update")


def call(xapi: FakeXapi, host: SandboxHost, function: str, plugin: str = NAMES[0]) -> Any:
    """host.call_plugin, as the official client calls it; gives the text, or the words of the failure."""
    try:
        return ask_xapi(host, "host.call_plugin", xapi.database.find("host"), plugin, function, {})
    except XapiFailure as failure:
        return (failure.code,) + failure.params


def test_the_file_is_what_xapi_can_run() -> None:
    assert os.access(str(PLUGIN), os.X_OK)
    assert PLUGIN.read_text().startswith("#!/usr/bin/python3 -IS\n")
    compile(PLUGIN.read_text(), str(PLUGIN), "exec")


@pytest.mark.parametrize("program, root", [
    ("/etc/xapi.d/plugins/x", "/"), ("/tmp/h/etc/xapi.d/plugins/x", "/tmp/h"), ("/opt/x", "/"), ("", "/"),
])
def test_the_plugin_serves_the_host_whose_plugin_it_is(program: str, root: str) -> None:
    assert find_root(program) == Path(root)


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_under_both_names(host: SandboxHost, xapi: FakeXapi, name: str) -> None:
    host.start()
    host.vsctl("--no-wait", "del-manager")
    host.write(host.paths.networkd_db, "{}")
    assert call(xapi, host, "update", name) == "No change to configuration"


def test_status_is_the_verdict_as_json_whatever_it_is(host: SandboxHost, xapi: FakeXapi) -> None:
    assert json.loads(call(xapi, host, "status"))["verdict"] == "stopped"
    host.start()
    assert json.loads(call(xapi, host, "status"))["verdict"] == "running"


def test_an_emergency_reset_clears_what_a_controller_set_and_the_next_update_sets_it(host: SandboxHost,
                                                                                    xapi: FakeXapi) -> None:
    host.start()
    certificates.make_host_pem(host.paths.xapi_ssl_pem)
    xapi.database.add("SDN_controller", protocol="ssl", address="127.0.0.1", port=6632)
    call(xapi, host, "update")
    answer = call(xapi, host, "emergency_reset")
    assert answer.startswith("Successfully reset configuration  Note: ")
    assert host.vsctl("--no-wait", "get-manager") == ""
    assert "Successfully set controller to ssl:127.0.0.1:6632." in call(xapi, host, "update")


def test_failures_have_the_codes_that_callers_know(host: SandboxHost, xapi: FakeXapi) -> None:
    assert call(xapi, host, "frobnicate") == ("UNKNOWN_XENAPI_PLUGIN_FUNCTION", "frobnicate")
    code, returncode, text = call(xapi, host, "emergency_reset")
    assert (code, returncode) == ("VSWITCH_EMER_RESET_FAILURE", "1") and "ovsdb-server" in text
    code, function, kind, text = call(xapi, host, "update")
    assert (code, function, kind) == ("XENAPI_PLUGIN_FAILURE", "update", "NoAnswer") and "ovsdb-server" in text
    xapi.faults.set("no_pool")
    assert call(xapi, host, "update") == ("NO_POOL_FOR_HOST",)


def test_a_session_that_ends_in_the_middle_is_told_and_nothing_is_changed(host: SandboxHost, xapi: FakeXapi) -> None:
    host.start()
    before = host.vsctl("--no-wait", "list", "Open_vSwitch")
    xapi.faults.set("session_invalid", method="network.get_all_records")
    assert call(xapi, host, "update")[0] == "SESSION_INVALID"
    assert host.vsctl("--no-wait", "list", "Open_vSwitch") == before


def test_without_the_client_of_xapi_it_still_answers(host: SandboxHost, xapi: FakeXapi) -> None:
    for name in NAMES:
        path = host.paths.plugins / name
        path.write_text(path.read_text().replace("import sys\n", "import sys\nsys.modules['XenAPI'] = None\n", 1))
    host.start()
    code, function, kind, text = call(xapi, host, "update")
    assert (code, function, kind) == ("XENAPI_PLUGIN_FAILURE", "update", "AdministratorError")
    assert "XenAPI cannot be imported" in text


def test_the_package_itself_missing_is_an_exit_code_and_words_on_stderr(host: SandboxHost) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(PLUGIN), "<x/>"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1 and done.stdout == b"" and b"ovsxen" in done.stderr
