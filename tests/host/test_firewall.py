"""The GRE rule, with an iptables that keeps its rules in a file."""

import os
from pathlib import Path
from typing import Tuple

import pytest

from ovsxen.errors import AdministratorError
from ovsxen.host.firewall import GreRule, allow_gre, has_gre_rule

HEADER = "Chain INPUT (policy ACCEPT)\ntarget     prot opt source               destination\n"


def rule(protocol: str) -> str:
    return "ACCEPT     %s   --  0.0.0.0/0            0.0.0.0/0\n" % protocol


@pytest.fixture
def iptables(tmp_path: Path) -> Tuple[str, ...]:
    """An iptables whose INPUT chain is tmp_path/rules; it fails when tmp_path/broken is there."""
    (tmp_path / "rules").write_text("")
    program = tmp_path / "iptables"
    program.write_text("""#!/bin/sh
[ ! -e '{0}/broken' ] || {{ echo "iptables: Permission denied (you must be root)" >&2; exit 4; }}
shift
case $1 in
    -n) printf 'Chain INPUT (policy ACCEPT)\\ntarget prot opt source destination\\n'; cat '{0}/rules' ;;
    -I) [ ! -e '{0}/full' ] || {{ echo "iptables: Memory allocation problem." >&2; exit 3; }}
        echo "ACCEPT $4 -- 0.0.0.0/0 0.0.0.0/0" >>'{0}/rules' ;;
esac
""".format(tmp_path))
    program.chmod(0o755)
    return (str(program),)


def test_the_rule_is_added_once(iptables: Tuple[str, ...], tmp_path: Path) -> None:
    assert allow_gre(iptables, dry_run=True) is GreRule.ADDED
    assert (tmp_path / "rules").read_text() == ""
    assert [allow_gre(iptables) for _ in range(3)] == [GreRule.ADDED, GreRule.THERE, GreRule.THERE]
    assert (tmp_path / "rules").read_text().count("gre") == 1


def test_a_host_without_iptables_needs_no_rule(tmp_path: Path) -> None:
    assert allow_gre((str(tmp_path / "nothing"),)) is GreRule.NO_FIREWALL


def test_a_table_that_cannot_be_listed_is_not_an_empty_one(iptables: Tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("")
    with pytest.raises(AdministratorError, match="you must be root"):
        allow_gre(iptables)


def test_a_refused_rule_is_an_error_with_iptables_own_words(iptables: Tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "full").write_text("")
    with pytest.raises(AdministratorError, match="Memory allocation problem"):
        allow_gre(iptables)
    assert os.path.getsize(str(tmp_path / "rules")) == 0


@pytest.mark.parametrize("listing, there", [
    (HEADER, False), (HEADER + rule("tcp"), False), (HEADER + rule("gre"), True), (HEADER + rule("47"), True),
    (HEADER + rule("all") + rule("gre").replace("ACCEPT", "DROP  "), True), ("", False),
])
def test_a_rule_is_recognised_by_its_protocol(listing: str, there: bool) -> None:
    assert has_gre_rule(listing) is there
