"""The flows that keep management traffic, remembered for whoever starts ovs-vswitchd again."""

from pathlib import Path

import pytest

from ovsxen.errors import AdministratorError
from ovsxen.host.paths import Paths, paths_under
from ovsxen.ovs.guard import Guard, forget_guard, read_guard, write_guard
from ovsxen.ovs.management import Flow

GUARD = Guard("xenbr0", (Flow("in_port=1,arp", "LOCAL"), Flow("in_port=LOCAL", "1")), (("eth0", 1), ("xenbr0", 65534)))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = paths_under(tmp_path, {})
    made.rundir.mkdir(parents=True)
    return made


def test_what_is_remembered_is_read_again(paths: Paths) -> None:
    assert read_guard(paths) is None
    write_guard(paths, GUARD)
    assert read_guard(paths) == GUARD


def test_the_last_one_is_remembered(paths: Paths) -> None:
    write_guard(paths, GUARD._replace(bridge="xenbr1"))
    write_guard(paths, GUARD)
    assert read_guard(paths) == GUARD


def test_only_the_bridge_that_has_none_any_more_is_forgotten(paths: Paths) -> None:
    write_guard(paths, GUARD)
    forget_guard(paths, "xenbr1")
    assert read_guard(paths) == GUARD
    for _ in range(2):
        forget_guard(paths, "xenbr0")
        assert read_guard(paths) is None and not paths.guard.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"bridge": "xenbr0", "flows": [["one"]], "ports": []}',
                                  '{"bridge": "xenbr0", "flows": [], "ports": [["eth0", "one"]]}'])
def test_a_file_that_makes_no_sense_is_named_and_gone_once_it_is_not_needed(paths: Paths, text: str) -> None:
    paths.guard.write_text(text)
    with pytest.raises(AdministratorError, match=str(paths.guard)):
        read_guard(paths)
    forget_guard(paths, "xenbr0")
    assert not paths.guard.exists()
