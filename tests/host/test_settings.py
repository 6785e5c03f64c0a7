"""Every setting of the template, every option of ovs-ctl that matters, and names for what is neither."""

from typing import Any

import pytest

from ovsxen.host.assignments import parse_assignments
from ovsxen.host.settings import NO, YES, Settings, parse_settings


def settings(text: str) -> Settings:
    return parse_settings(parse_assignments(text, "f"), "f")


def test_nothing_set_means_the_defaults_of_ovs_ctl() -> None:
    assert settings("") == Settings()
    assert Settings()[:5] == (True, -10, -10, True, True)


@pytest.mark.parametrize("name, field", [("FORCE_COREFILES", "force_corefiles"), ("VSWITCHD_MLOCKALL", "mlockall")])
def test_a_boolean_has_many_spellings(name: str, field: str) -> None:
    for words, value in ((YES, True), (NO, False)):
        for word in words + tuple(word.upper() for word in words):
            read = settings("%s=%s\n" % (name, word))
            assert getattr(read, field) is value
            assert read.problems == ()


@pytest.mark.parametrize("line, field, value", [
    ("OVSDB_SERVER_PRIORITY=-5", "ovsdb_server_priority", -5),
    ("VSWITCHD_PRIORITY=19", "vswitchd_priority", 19),
    ("OVSXEN_START_TIMEOUT=90", "start_timeout_s", 90.0),
    ("OVSXEN_ANSWER_TIMEOUT=0.5", "answer_timeout_s", 0.5),
    ("OVSXEN_HANG_TIMEOUT=30", "hang_timeout_s", 30.0),
    ("OVSXEN_BUSY_TIMEOUT=300", "busy_timeout_s", 300.0),
    ("OVSXEN_FLOW_RESTORE_TIMEOUT=5", "flow_restore_timeout_s", 5.0),
    ("OVSXEN_ROUND_TRIP=60", "round_trip_s", 60.0),
    ("OVSXEN_RESTART_LIMIT=3", "restart_limit", 3),
    ("OVSXEN_RESTART_WINDOW=60", "restart_window_s", 60.0),
    ("OVSXEN_REST=10", "rest_s", 10.0),
    ("OVS_CTL_OPTS=--ovs-user=openvswitch:hugetlbfs", "ovs_user", "openvswitch:hugetlbfs"),
    ("OVS_CTL_OPTS=--no-mlockall", "mlockall", False),
    ("OVS_CTL_OPTS=--mlockall=no", "mlockall", False),
    ("OVS_CTL_OPTS=--no-self-confinement", "self_confinement", False),
    ("OVS_CTL_OPTS='--extra-dbs=\"a.db /b.db\"'", "extra_dbs", ("a.db", "/b.db")),
    ("OVS_CTL_OPTS=\"--ovsdb-server-options='-vjsonrpc:warn --ssl-protocols=TLSv1.2'\"", "ovsdb_server_options",
     ("-vjsonrpc:warn", "--ssl-protocols=TLSv1.2")),
    ("OVS_CTL_OPTS=--ovs-vswitchd-options=--enable-dummy", "vswitchd_options", ("--enable-dummy",)),
    ("OVS_CTL_OPTS=--ovs-vswitchd-priority=0", "vswitchd_priority", 0),
    ("OVS_CTL_OPTS='--external-id=a=b --external-id=c=d=e'", "external_ids", (("a", "b"), ("c", "d=e"))),
    ("OVS_CTL_OPTS=--delete-bridges", "delete_bridges", True),
    ("OVS_CTL_OPTS=--no-record-hostname", "record_hostname", False),
    ("OVS_CTL_OPTS=--system-id=abc", "system_id", "abc"),
])
def test_a_setting_or_option_takes_effect(line: str, field: str, value: Any) -> None:
    read = settings(line + "\n")
    assert getattr(read, field) == value
    assert read.problems == ()


def test_options_win_over_settings() -> None:
    assert settings("OVS_CTL_OPTS=--ovs-vswitchd-priority=3\nVSWITCHD_PRIORITY=5\n").vswitchd_priority == 3


@pytest.mark.parametrize("line, named", [
    ("FORCE_COREFILES=perhaps", "FORCE_COREFILES"), ("VSWITCHD_PRIORITY=-30", "VSWITCHD_PRIORITY"),
    ("OVSXEN_START_TIMEOUT=nan", "OVSXEN_START_TIMEOUT"), ("OVSXEN_START_TIMEOUT=0", "OVSXEN_START_TIMEOUT"),
    ("OVSXEN_RESTART_LIMIT=0", "OVSXEN_RESTART_LIMIT"), ("OVSXEN_RESTART_LIMIT=x", "OVSXEN_RESTART_LIMIT"),
    ("VSWITCHD_MLOCKAL=no", "VSWITCHD_MLOCKAL"), ("ENABLE_BRCOMPAT=y", "ENABLE_BRCOMPAT"),
    ("OVS_CTL_OPTS=--frobnicate", "--frobnicate"), ("OVS_CTL_OPTS=stop", "stop"),
    ("OVS_CTL_OPTS=--ovsdb-server-wrapper=valgrind", "--ovsdb-server-wrapper"),
    ("OVS_CTL_OPTS=--ovs-user", "--ovs-user"), ("OVS_CTL_OPTS=--external-id=a", "--external-id"),
    ("OVS_CTL_OPTS=\"--a='\"", "OVS_CTL_OPTS"), ("OVS_CTL_OPTS=--monitor", "--monitor"),
    ("OVS_CTL_OPTS=--system-id=random", "--system-id=random"), ("OVS_CTL_OPTS=--no-ovs-user", "--no-ovs-user"),
    ("VSWITCHD_PRIORITY=$NICE", "line 1"),
])
def test_what_has_no_effect_is_named_and_changes_nothing(line: str, named: str) -> None:
    read = settings(line + "\n")
    assert len(read.problems) == 1 and named in read.problems[0]
    assert read._replace(problems=()) == Settings()


def test_no_monitor_is_what_is_done_anyway() -> None:
    assert settings("OVS_CTL_OPTS=--no-monitor\n") == Settings()


@pytest.mark.parametrize("text", ["0", "65536", "x", "\u00b2", "\u0663\u0663\u0663\u0663\u0663\u0663", ""])
def test_a_port_that_is_none_is_a_problem_and_never_keeps_a_host_from_booting(text: str) -> None:
    chosen = settings("VSWITCH_CONTROLLER_PORT=%s" % text)
    assert chosen.vswitch_controller_port == 6640
    assert len(chosen.problems) == (1 if text else 0)
