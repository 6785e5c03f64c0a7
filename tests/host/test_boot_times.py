"""What systemd says of the boot, as values."""

import pytest

from ovsxen.host.boot_times import BootTimes, UnitTimes, parse_times

MANAGER = "UserspaceTimestampMonotonic=4812345\nFinishTimestampMonotonic=43210000\n"
UNITS = ("Id=network.target\nInactiveExitTimestampMonotonic=0\nActiveEnterTimestampMonotonic=0\n\n"
         "ActiveEnterTimestampMonotonic=12960000\nId=openvswitch.service\nInactiveExitTimestampMonotonic=12500000\n\n"
         "Id=xapi.service\nInactiveExitTimestampMonotonic=14000000\nActiveEnterTimestampMonotonic=0\n")


def test_units_that_have_begun_have_their_times_in_any_order() -> None:
    assert parse_times(MANAGER, UNITS) == BootTimes(4.8123, 43.21, (
        UnitTimes("openvswitch.service", 12.5, 12.96), UnitTimes("xapi.service", 14.0, 0.0)))


@pytest.mark.parametrize("manager, units", [
    ("", ""), ("\n", "\n\n\n"), ("UserspaceTimestampMonotonic=\n", "InactiveExitTimestampMonotonic=\n"),
    ("UserspaceTimestampMonotonic=soon\n", "Id=a\nInactiveExitTimestampMonotonic=-5\n"),
])
def test_what_systemd_does_not_say_is_not_known(manager: str, units: str) -> None:
    assert parse_times(manager, units) == BootTimes(0.0, 0.0, ())
