"""A port for controllers, with a firewall-port and a firewall-cmd that keep their rules in files and list their calls.

The firewall-port is as odd as XAPI's: its `check` exits with 0 whatever it finds, and says the opposite of it.
"""

import json
import os
from pathlib import Path
from typing import List, Tuple

import pytest

from ovsxen.errors import AdministratorError, NoAnswer, OvsxenError
from ovsxen.host.firewall_port import Opener, PortResult, close_port, find_opener, open_port
from ovsxen.host.paths import Paths
from ovsxen.sandbox import contents

PORT = 6640
WITHIN_S = 20.0

FIREWALL_PORT = """#!/bin/sh
cd '{0}'
echo "$*" >>calls
[ ! -e busy ] || {{ rm busy; echo "Another app is currently holding the xtables lock." >&2
                   [ $1 = check ] && echo "Port $2 open: true" && exit 0; exit 4; }}
kill_caller() {{ [ $PPID -le 1 ] || kill -9 $PPID; exit 1; }}
[ ! -e dies-before ] || [ $1 != open ] || kill_caller
[ ! -e broken ] || [ $1 = check ] || {{ echo "iptables: Permission denied (you must be root)." >&2; exit 4; }}
case $1 in
    open) touch rule-$2; [ ! -e dies-after ] || kill_caller; [ ! -e hangs ] || sleep 60
          [ ! -e unsaved ] || exit 1 ;;
    close) rm -f rule-$2 ;;
    check) if [ -e rule-$2 ]; then echo "Port $2 open: false"; else echo "Port $2 open: true"; fi ;;
esac
exit 0
"""

PLAIN_FIREWALL_PORT = """#!/bin/sh
cd '{0}'
echo "$*" >>calls
case $1 in
    open) touch rule-$2 ;;
    close) rm -f rule-$2 ;;
    check) [ -e rule-$2 ] ;;
esac
"""

FIREWALL_CMD = """#!/bin/sh
cd '{0}'
echo "$*" >>calls
[ -e runs ] || {{ echo "FirewallD is not running" >&2; exit 252; }}
scope=runtime
[ "$1" != --permanent ] || {{ scope=permanent; shift; }}
rule=$scope-$(echo "${{1#*=}}" | tr / -)
[ ! -e refuses-$scope ] || case $1 in --query*) ;; *) echo "Error: NOT_AUTHORIZED" >&2; exit 251 ;; esac
case $1 in
    --state) echo running ;;
    --query-port=*) if [ -e $rule ]; then echo yes; else echo no; exit 1; fi ;;
    --add-port=*) touch $rule; echo success ;;
    --remove-port=*) rm -f $rule; echo success ;;
esac
"""


class Firewall:
    """A host's directory, and a place where the fakes keep their rules."""

    def __init__(self, base: Path) -> None:
        self.paths = Paths(base / "host", Path("/usr/share/openvswitch"))
        contents.write_files(self.paths)
        self.place = base / "firewall"
        self.place.mkdir()
        self.command: Tuple[str, ...] = (str(base / "firewall-cmd"),)

    def install(self, path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script.format(self.place))
        path.chmod(0o755)

    def open(self, setting: str = "auto", port: int = PORT, within_s: float = WITHIN_S) -> PortResult:
        return open_port(self.paths, setting, port, within_s, self.command)

    def close(self, port: int = PORT) -> PortResult:
        return close_port(self.paths, port, WITHIN_S, self.command)

    def calls(self) -> List[str]:
        """What was called since the last time."""
        path = self.place / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return lines

    def rules(self) -> List[str]:
        return sorted(name for name in os.listdir(str(self.place)) if str(PORT) in name or "6641" in name)

    def switch(self, name: str, *, on: bool = True) -> None:
        """Change how the fakes behave."""
        if on:
            (self.place / name).write_text("")
        else:
            (self.place / name).unlink()

    def note(self) -> str:
        return self.paths.opened_port.read_text() if self.paths.opened_port.exists() else ""


@pytest.fixture
def bare(tmp_path: Path) -> Firewall:
    """A host without any firewall."""
    return Firewall(tmp_path)


@pytest.fixture
def firewall(bare: Firewall) -> Firewall:
    """A host with XAPI's firewall-port."""
    bare.install(bare.paths.plugins / "firewall-port", FIREWALL_PORT)
    return bare


@pytest.fixture
def firewalld(bare: Firewall) -> Firewall:
    """A host with a firewalld that runs."""
    bare.install(Path(bare.command[0]), FIREWALL_CMD)
    bare.switch("runs")
    return bare


def die_opening(firewall: Firewall, when: str) -> None:
    """Open the port in a process of its own, which firewall-port kills."""
    firewall.switch(when)
    child = os.fork()
    if child == 0:
        try:
            firewall.open()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 9
    firewall.switch(when, on=False)
    assert '"opening"' in firewall.note()


@pytest.mark.parametrize("script", [FIREWALL_PORT, PLAIN_FIREWALL_PORT])
def test_a_port_is_opened_once_and_closed_once(bare: Firewall, script: str) -> None:
    bare.install(bare.paths.plugins / "firewall-port", script)
    assert bare.open() is PortResult.OPENED
    assert bare.rules() == ["rule-6640"]
    bare.calls()
    assert bare.open() is PortResult.OPEN_ALREADY
    assert bare.calls() == []
    assert bare.close() is PortResult.CLOSED
    assert (bare.rules(), bare.note()) == ([], "")
    bare.calls()
    assert bare.close() is PortResult.NOT_OURS
    assert bare.calls() == []


def test_a_port_that_was_open_before_stays_open(firewall: Firewall) -> None:
    firewall.switch("rule-6640")
    assert [firewall.open(), firewall.open()] == [PortResult.OPEN_ALREADY] * 2
    firewall.calls()
    assert firewall.close() is PortResult.NOT_OURS
    assert (firewall.rules(), firewall.calls(), firewall.note()) == (["rule-6640"], [], "")


def test_a_rule_that_is_lost_in_a_reboot_is_opened_again(firewall: Firewall) -> None:
    firewall.switch("unsaved")
    assert firewall.open() is PortResult.OPENED_FOR_NOW
    assert firewall.open() is PortResult.OPEN_ALREADY
    firewall.switch("rule-6640", on=False)
    contents.write_boot_id(firewall.paths)
    assert firewall.open() is PortResult.OPENED_FOR_NOW
    assert firewall.close() is PortResult.CLOSED
    assert firewall.rules() == []


def test_after_a_reboot_one_look_tells_that_the_port_is_still_open(firewall: Firewall) -> None:
    firewall.open()
    contents.write_boot_id(firewall.paths)
    firewall.calls()
    assert firewall.open() is PortResult.OPEN_ALREADY
    assert firewall.calls() == ["check 6640 tcp"]
    assert firewall.open() is PortResult.OPEN_ALREADY
    assert firewall.calls() == []
    assert firewall.close() is PortResult.CLOSED


def test_a_port_found_open_that_a_reboot_closed_is_opened(firewall: Firewall) -> None:
    firewall.switch("rule-6640")
    firewall.open()
    firewall.switch("rule-6640", on=False)
    contents.write_boot_id(firewall.paths)
    assert firewall.open() is PortResult.OPENED
    assert firewall.close() is PortResult.CLOSED


@pytest.mark.parametrize("again", ["open", "close"])
def test_what_was_opened_when_ovsxen_was_killed_is_closed_in_the_end(firewall: Firewall, again: str) -> None:
    die_opening(firewall, "dies-after")
    assert firewall.rules() == ["rule-6640"]
    if again == "open":
        assert firewall.open() is PortResult.OPENED
    assert firewall.close() is PortResult.CLOSED
    assert (firewall.rules(), firewall.note()) == ([], "")


def test_what_was_not_yet_opened_when_ovsxen_was_killed_is_not_closed(firewall: Firewall) -> None:
    firewall.switch("rule-6640")
    die_opening(firewall, "dies-before")
    assert firewall.close() is PortResult.NOT_OURS
    assert (firewall.rules(), firewall.note()) == (["rule-6640"], "")


def test_an_opener_that_hangs_is_ended_and_what_it_did_is_still_ours(firewall: Firewall) -> None:
    firewall.switch("hangs")
    with pytest.raises(NoAnswer, match="do it by hand: .*firewall-port open 6640 tcp"):
        firewall.open(within_s=1.0)
    assert firewall.rules() == ["rule-6640"]
    firewall.switch("hangs", on=False)
    assert firewall.close() is PortResult.CLOSED
    assert firewall.rules() == []


def test_a_refusal_says_what_to_do_by_hand_and_what_is_opened_then_is_not_ours(firewall: Firewall) -> None:
    firewall.switch("broken")
    with pytest.raises(AdministratorError, match="you must be root.*open it by hand: `.*open 6640 tcp`"):
        firewall.open()
    assert (firewall.rules(), firewall.note()) == ([], "")
    firewall.switch("broken", on=False)
    firewall.switch("rule-6640")
    assert firewall.open() is PortResult.OPEN_ALREADY
    assert firewall.close() is PortResult.NOT_OURS


def test_a_port_that_cannot_be_closed_is_tried_again(firewall: Firewall) -> None:
    firewall.open()
    firewall.switch("broken")
    with pytest.raises(AdministratorError, match="you must be root.*close it by hand: `.*close 6640 tcp`"):
        firewall.close()
    firewall.switch("broken", on=False)
    assert firewall.close() is PortResult.CLOSED


def test_another_one_at_work_in_the_firewall_is_waited_for(firewall: Firewall) -> None:
    firewall.switch("busy")
    assert firewall.open() is PortResult.OPENED
    assert firewall.calls() == ["check 6640 tcp"] * 2 + ["open 6640 tcp", "check 6640 tcp"]
    firewall.switch("busy")
    assert firewall.close() is PortResult.CLOSED


def test_another_port_takes_the_place_of_the_first(firewall: Firewall) -> None:
    assert [firewall.open(), firewall.open(port=6641)] == [PortResult.OPENED] * 2
    assert firewall.rules() == ["rule-6641"]
    assert [firewall.close(), firewall.close(port=6641)] == [PortResult.NOT_OURS, PortResult.CLOSED]


def test_firewalld_is_opened_now_and_for_good_and_closed_in_both(firewalld: Firewall) -> None:
    assert firewalld.open() is PortResult.OPENED
    assert firewalld.rules() == ["permanent-6640-tcp", "runtime-6640-tcp"]
    firewalld.calls()
    assert firewalld.open() is PortResult.OPEN_ALREADY
    assert firewalld.calls() == []
    assert firewalld.close() is PortResult.CLOSED
    assert firewalld.rules() == []


def test_of_firewalld_only_the_half_that_was_missing_is_closed_again(firewalld: Firewall) -> None:
    firewalld.switch("runtime-6640-tcp")
    assert firewalld.open() is PortResult.OPENED
    assert firewalld.close() is PortResult.CLOSED
    assert firewalld.rules() == ["runtime-6640-tcp"]


def test_a_half_that_is_refused_fails_and_the_other_is_still_ours(firewalld: Firewall) -> None:
    firewalld.switch("refuses-permanent")
    for _ in range(2):
        with pytest.raises(AdministratorError, match="NOT_AUTHORIZED.*--permanent --add-port=6640/tcp"):
            firewalld.open()
    assert firewalld.rules() == ["runtime-6640-tcp"]
    assert firewalld.close() is PortResult.CLOSED
    assert firewalld.rules() == []


def test_a_firewalld_that_stopped_has_not_closed_anything(firewalld: Firewall) -> None:
    firewalld.open()
    firewalld.switch("runs", on=False)
    with pytest.raises(OvsxenError, match="not running"):
        firewalld.close()
    firewalld.switch("runs")
    assert firewalld.close() is PortResult.CLOSED
    assert firewalld.rules() == []


def test_the_setting_decides_and_auto_looks(firewall: Firewall, tmp_path: Path) -> None:
    def found(setting: str) -> Opener:
        return find_opener(setting, firewall.paths, firewall.command)
    settings = ("auto", "firewall-port", "firewalld", "none")
    assert tuple(map(found, settings)) == (
        Opener.FIREWALL_PORT, Opener.FIREWALL_PORT, Opener.FIREWALLD, Opener.NONE)
    (firewall.paths.plugins / "firewall-port").chmod(0o644)
    assert found("auto") is Opener.NONE
    firewall.install(Path(firewall.command[0]), FIREWALL_CMD)
    assert found("auto") is Opener.NONE
    firewall.switch("runs")
    assert found("auto") is Opener.FIREWALLD


def test_a_host_in_a_directory_leaves_the_machines_firewalld_alone(bare: Firewall) -> None:
    assert [find_opener(setting, bare.paths) for setting in ("auto", "firewalld")] == [Opener.NONE] * 2
    assert open_port(bare.paths, "firewalld", PORT, WITHIN_S) is PortResult.NO_OPENER


def test_without_a_firewall_nothing_is_opened_or_noted(bare: Firewall) -> None:
    assert bare.open() is PortResult.NO_OPENER
    assert bare.note() == ""
    assert bare.close() is PortResult.NOT_OURS


@pytest.mark.parametrize("setting", ["firewall-port", "firewalld"])
def test_an_opener_that_is_set_and_not_there_is_an_error(bare: Firewall, setting: str) -> None:
    with pytest.raises(AdministratorError, match="is not there to do it: .*FIREWALL=none"):
        bare.open(setting)


def test_the_setting_none_leaves_what_is_open_to_be_closed_later(firewall: Firewall) -> None:
    firewall.open()
    assert firewall.open("none") is PortResult.NO_OPENER
    assert firewall.rules() == ["rule-6640"]
    assert firewall.close() is PortResult.CLOSED


def test_another_opener_closes_what_the_first_one_opened(firewall: Firewall) -> None:
    firewall.install(Path(firewall.command[0]), FIREWALL_CMD)
    firewall.switch("runs")
    assert [firewall.open(), firewall.open("firewalld")] == [PortResult.OPENED] * 2
    assert firewall.rules() == ["permanent-6640-tcp", "runtime-6640-tcp"]


def test_an_opener_that_is_gone_ends_the_matter(firewall: Firewall) -> None:
    firewall.open()
    (firewall.paths.plugins / "firewall-port").unlink()
    assert firewall.close() is PortResult.OPENER_GONE
    assert firewall.note() == ""


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100000, '{"port": 6640}', json.dumps(
    {"port": PORT, "through": "none", "boot_id": "", "rules": []})])
def test_a_note_that_makes_no_sense_closes_nothing(firewall: Firewall, text: str) -> None:
    firewall.switch("rule-6640")
    firewall.paths.opened_port.write_text(text)
    assert firewall.close() is PortResult.NOT_OURS
    assert firewall.rules() == ["rule-6640"]
    assert firewall.open() is PortResult.OPEN_ALREADY


def test_where_nothing_can_be_noted_nothing_is_opened(firewall: Firewall) -> None:
    firewall.paths.opened_port.mkdir()
    with pytest.raises(AdministratorError, match="ovsxen-opened-port.json"):
        firewall.open()
    assert firewall.rules() == []
