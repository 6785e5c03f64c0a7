"""XenServer's own files: who the host is, and which backend it has."""

from pathlib import Path

import pytest

from ovsxen.host.inventory import Backend, read_inventory, read_network_conf
from ovsxen.sandbox.contents import INSTALLATION_UUID, INVENTORY


def test_an_inventory_gives_uuid_brand_and_version_with_build(tmp_path: Path) -> None:
    (tmp_path / "i").write_text(INVENTORY)
    read = read_inventory(tmp_path / "i")
    assert tuple(read) == (INSTALLATION_UUID, "XCP-ng", "8.3.0-cloud", (), "xenbr0")


def test_a_missing_inventory_is_a_problem_that_names_the_file(tmp_path: Path) -> None:
    read = read_inventory(tmp_path / "i")
    assert read[:3] == ("", "", "")
    assert len(read.problems) == 1 and str(tmp_path / "i") in read.problems[0]


@pytest.mark.parametrize("key", ["INSTALLATION_UUID", "PRODUCT_BRAND", "PRODUCT_VERSION", "BUILD_NUMBER"])
def test_each_key_that_is_missing_or_empty_is_named(tmp_path: Path, key: str) -> None:
    kept = [line for line in INVENTORY.splitlines() if not line.startswith(key + "=")]
    for text in ("\n".join(kept), "\n".join(kept + ["%s=''" % key])):
        (tmp_path / "i").write_text(text)
        read = read_inventory(tmp_path / "i")
        assert [key in problem for problem in read.problems] == [True]


@pytest.mark.parametrize("content, backend, problem", [
    (b"vswitch\n", Backend.OPENVSWITCH, ""), (b"openvswitch", Backend.OPENVSWITCH, ""),
    (b"  vswitch \r\n\n", Backend.OPENVSWITCH, ""), (b"bridge\n", Backend.BRIDGE, ""),
    (b"", Backend.INVALID, "empty"), (b"\n", Backend.INVALID, "empty"), (b"ovs\n", Backend.INVALID, "'ovs'"),
    (b"vswitch bridge\n", Backend.INVALID, "'vswitch bridge'"), (b"Bridge\n", Backend.INVALID, "'Bridge'"),
    (b"\xef\xbb\xbfvswitch\n", Backend.INVALID, "byte order mark"), (b"\xff\xfe\x00", Backend.INVALID, "says"),
    (b"x" * 10000, Backend.INVALID, "says"),
])
def test_network_conf_has_three_ways(tmp_path: Path, content: bytes, backend: Backend, problem: str) -> None:
    (tmp_path / "n").write_bytes(content)
    read = read_network_conf(tmp_path / "n")
    assert read.backend is backend
    assert problem in read.problem and len(read.problem) < 300


def test_a_missing_network_conf_is_invalid(tmp_path: Path) -> None:
    assert read_network_conf(tmp_path / "n").backend is Backend.INVALID
