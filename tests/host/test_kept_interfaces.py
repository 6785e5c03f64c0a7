"""The file of what interfaces had: written, read again, and refused where it makes no sense."""

from pathlib import Path

import pytest

from ovsxen.errors import AdministratorError
from ovsxen.host import kept_interfaces
from ovsxen.host.interfaces import NOTHING, Interface, KeptInterfaces, Route
from ovsxen.host.paths import Paths, paths_under

NO_SUCH = Interface("no-such-one", 1, ((1, b"\0\x16>"),), (("ipv6/autoconf", "0"),), (b"\x02abc",))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = paths_under(tmp_path, {})
    made.rundir.mkdir(parents=True)
    return made


def test_what_is_written_down_is_read_again(paths: Paths) -> None:
    kept = KeptInterfaces((NO_SUCH,), (Route(b"\0\xff", ((7, "no-such-one"),)),))
    assert kept_interfaces.read(paths) == NOTHING
    kept_interfaces.write(paths, kept)
    assert kept_interfaces.read(paths) == kept and paths.kept_interfaces.stat().st_mode & 0o777 == 0o600


def test_what_waits_for_its_interface_stays_kept(paths: Paths) -> None:
    kept = KeptInterfaces((NO_SUCH,), (Route(b"\0\xff", ((7, "no-such-one"),)),))
    kept_interfaces.write(paths, kept)
    for _ in range(2):
        assert kept_interfaces.restore(paths).left == kept
        assert kept_interfaces.read(paths) == kept


def test_where_nothing_is_kept_nothing_is_put_back_and_nothing_made(paths: Paths) -> None:
    assert kept_interfaces.restore(paths) == ((), (), NOTHING)
    assert not paths.kept_interfaces.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "interfaces": [{}], "routes": []}',
                                  '{"schema": 1, "interfaces": [], "routes": [{"body": "x", "through": []}]}'])
def test_a_file_that_makes_no_sense_is_named(paths: Paths, text: str) -> None:
    paths.kept_interfaces.write_text(text)
    with pytest.raises(AdministratorError, match=str(paths.kept_interfaces)):
        kept_interfaces.restore(paths)
    assert paths.kept_interfaces.read_text() == text
