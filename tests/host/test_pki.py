"""Keys and certificates before the switch gets them: made by a real openssl, then spoilt in every way we know of."""

import base64
import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovsxen.errors import AdministratorError
from ovsxen.host import pki
from ovsxen.sandbox import certificates
from ovsxen.sandbox.certificates import ControllerPki

AT_1970_S = 60.0
NOW_S = 1785000000.0
AFTER_ALL_S = 4102444800.0  # the first second of 2100, one after the last that is valid


class Made(NamedTuple):
    """What openssl made once for all tests. They only read it."""

    host: bytes
    other_host: bytes
    expired_host: bytes
    ca: bytes
    expired_ca: bytes
    chain: bytes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    base = Path(str(tmp_path_factory.mktemp("pki")))
    certificates.make_host_pem(base / "host.pem")
    certificates.make_host_pem(base / "other.pem", name="other.example")
    certificates.make_host_pem(base / "expired.pem", certificates.EXPIRED)
    current: ControllerPki = certificates.make_controller(base / "current")
    expired = certificates.make_controller(base / "expired", "former", certificates.EXPIRED)
    return Made(*(path.read_bytes() for path in (
        base / "host.pem", base / "other.pem", base / "expired.pem", current.ca, expired.ca,
        current.certificate_chain)))


def key_of(pem: bytes) -> bytes:
    return pem[:pem.index(b"-----BEGIN CERTIFICATE")]


def certificate_of(pem: bytes) -> bytes:
    return pem[pem.index(b"-----BEGIN CERTIFICATE"):]


def der_of(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(certificate_of(pem).split(b"-----")[2].split()))


def pem_of(der: bytes, label: str = "CERTIFICATE") -> bytes:
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return ("-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, body, label)).encode()


def garbled(pem: bytes) -> bytes:
    """The same file with eight characters of its first block made others."""
    at = pem.index(b"\n") + 100
    return pem[:at] + b"!!!!!!!!" + pem[at + 8:]


GOOD_HOSTS: Dict[str, Callable[[Made], bytes]] = {
    "as XAPI makes it": lambda made: made.host,
    "certificate first": lambda made: certificate_of(made.host) + key_of(made.host),
    "lines of DOS": lambda made: made.host.replace(b"\n", b"\r\n"),
    "words between": lambda made: b"the key\n" + key_of(made.host) + b"the certificate\n" + certificate_of(made.host),
    "another certificate behind": lambda made: made.host + made.expired_ca,
}

BAD_HOSTS: Dict[str, Callable[[Made], bytes]] = {
    "is empty": lambda _made: b"\n",
    "has no certificate in it": lambda made: key_of(made.host),
    "has no private key in it": lambda made: certificate_of(made.host),
    "do not belong together": lambda made: key_of(made.other_host) + certificate_of(made.host),
    "expired on 2021-01-01T00:00:00Z .*CN=sandbox.example": lambda made: made.expired_host,
    "has a key that OpenSSL does not take": lambda made: garbled(made.host),
    "certificate 1 in .* cannot be read": lambda made: key_of(made.host) + garbled(certificate_of(made.host)),
    "certificate 1 in .* cannot be read .*ends too early":
        lambda made: key_of(made.host) + pem_of(der_of(made.host)[:-100]),
}

BAD_CAS: Dict[str, Callable[[Made], bytes]] = {
    "is empty": lambda _made: b"",
    "has no certificate in it": lambda _made: b"\x00\xff" * 1000,
    "has no certificate in it ": lambda made: key_of(made.host),
    "holds nothing that has not expired .*CN=former CA on 2021-01-01": lambda made: made.expired_ca,
    "certificate 2 in .* cannot be read": lambda made: made.ca + garbled(made.expired_ca),
    "certificate 1 in .* cannot be read .*form of a cert": lambda _made: pem_of(b"\x30\x03\x02\x01\x00"),
}


@pytest.mark.parametrize("kind", sorted(GOOD_HOSTS))
def test_a_good_host_file_passes(made: Made, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "xapi-ssl.pem"
    path.write_bytes(GOOD_HOSTS[kind](made))
    pki.check_host_pem(path, NOW_S)


@pytest.mark.parametrize("problem", sorted(BAD_HOSTS))
def test_a_bad_host_file_is_named_with_what_is_wrong(made: Made, tmp_path: Path, problem: str) -> None:
    path = tmp_path / "xapi-ssl.pem"
    path.write_bytes(BAD_HOSTS[problem](made))
    with pytest.raises(AdministratorError, match=problem.strip()) as caught:
        pki.check_host_pem(path, NOW_S)
    assert str(path) in caught.value.problem
    assert "xe host-refresh-server-certificate" in caught.value.remedy


@pytest.mark.parametrize("problem", sorted(BAD_CAS))
def test_a_bad_ca_file_is_named_with_what_is_wrong(made: Made, tmp_path: Path, problem: str) -> None:
    path = tmp_path / "sdn-controller-ca.pem"
    path.write_bytes(BAD_CAS[problem](made))
    with pytest.raises(AdministratorError, match=problem.strip()) as caught:
        pki.check_ca(path, NOW_S)
    assert str(path) in caught.value.problem
    assert "CA" in caught.value.remedy


@pytest.mark.parametrize("kind", ["nothing", "directory", "FIFO", "large"])
def test_what_is_no_small_file_is_an_error_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.pem"
    if kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(str(path))
    elif kind == "large":
        path.write_bytes(b"x" * (2 << 20))
    for check in (pki.check_host_pem, pki.check_ca):
        with pytest.raises(AdministratorError, match="file.pem"):
            check(path, NOW_S)


def test_a_ca_that_has_expired_beside_one_that_has_not_is_a_ca_being_replaced(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    for content in (made.expired_ca + made.ca, made.ca + made.expired_ca, made.chain):
        path.write_bytes(content)
        pki.check_ca(path, NOW_S)


def test_a_certificate_is_good_until_its_last_second_and_never_too_young(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "one.pem"
    path.write_bytes(made.host)
    for check in (pki.check_host_pem, pki.check_ca):
        for now_s in (AT_1970_S, AFTER_ALL_S - 1):
            check(path, now_s)
        with pytest.raises(AdministratorError, match="2099-12-31T23:59:59Z"):
            check(path, AFTER_ALL_S)


@pytest.mark.parametrize("password", ["-", "a password"])
def test_a_key_with_a_password_is_refused_and_nobody_is_asked(made: Made, tmp_path: Path, password: str) -> None:
    """In a process with a terminal of its own, where OpenSSL would prompt."""
    path = tmp_path / "xapi-ssl.pem"
    path.write_bytes(made.host)
    certificates.encrypt_key(path, password)
    code = ("import pathlib, sys; from ovsxen.host import pki; from ovsxen.errors import AdministratorError\n"
            "try: pki.check_host_pem(pathlib.Path(sys.argv[1]), 0)\n"
            "except AdministratorError as error: print(error)")
    master, terminal = os.openpty()
    try:
        done = subprocess.run([sys.executable, "-c", code, str(path)], stdin=terminal, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=30, start_new_session=True)
    finally:
        os.close(terminal)
        os.close(master)
    assert "has a key that only a password opens" in done.stdout
    assert done.stderr == ""


def test_the_strength_of_a_key_is_left_to_the_switch(tmp_path: Path) -> None:
    path = tmp_path / "xapi-ssl.pem"
    key = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak", "-keyout",
                          "-", "-out", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    path.write_bytes(key.stdout)
    pki.check_host_pem(path, time.time())


def test_the_fingerprint_is_the_one_that_openssl_shows(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "host.pem"
    path.write_bytes(made.host)
    shown = subprocess.run(["openssl", "x509", "-in", str(path), "-noout", "-fingerprint", "-sha256"],
                           stdout=subprocess.PIPE, universal_newlines=True, timeout=60).stdout
    assert shown.strip().partition("=")[2] == pki.fingerprint(path)


def test_a_subject_is_shown_on_one_line_whatever_is_in_it(made: Made) -> None:
    der = der_of(made.host)
    at = der.rindex(b"sandbox.example")
    assert pki.parse_certificate(der).subject == "CN=sandbox.example"
    assert pki.parse_certificate(der[:at] + b"sand\nbo\x1b.\xff\x00ample" + der[at + 15:]).subject.isprintable()


def test_the_ca_of_the_historic_plugin_is_kept_once(made: Made, tmp_path: Path) -> None:
    historic, pinned = tmp_path / "vswitchd.cacert", tmp_path / "vswitchd.cacert-192.0.2.10"
    assert pki.adopt_ca(historic, pinned) is False
    historic.write_bytes(made.ca)
    assert [pki.adopt_ca(historic, pinned, NOW_S) for _ in range(2)] == [True, False]
    assert pinned.read_bytes() == made.ca
    assert stat.S_IMODE(pinned.stat().st_mode) == 0o444
    historic.write_bytes(made.expired_ca)
    assert pki.adopt_ca(historic, pinned) is False
    assert pinned.read_bytes() == made.ca
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("content", ["garbage", "expired", "empty"])
def test_a_historic_ca_that_is_not_good_is_not_kept(made: Made, tmp_path: Path, content: str) -> None:
    historic, pinned = tmp_path / "vswitchd.cacert", tmp_path / "vswitchd.cacert-192.0.2.10"
    historic.write_bytes({"garbage": b"x", "expired": made.expired_ca, "empty": b""}[content])
    assert pki.adopt_ca(historic, pinned, NOW_S) is False
    assert not pinned.exists()


def test_a_pin_that_cannot_be_written_is_an_error_that_names_it(made: Made, tmp_path: Path) -> None:
    historic = tmp_path / "vswitchd.cacert"
    historic.write_bytes(made.ca)
    with pytest.raises(AdministratorError, match="cannot write .*nowhere/vswitchd.cacert-a"):
        pki.adopt_ca(historic, tmp_path / "nowhere/vswitchd.cacert-a")


def test_only_the_pins_of_others_are_removed(tmp_path: Path) -> None:
    kept = {"vswitchd.cacert", "vswitchd.cacert-192.0.2.1", "conf.db"}
    for name in kept | {"vswitchd.cacert-192.0.2.2", "vswitchd.cacert-192.0.2.11"}:
        (tmp_path / name).write_text("")
    (tmp_path / "vswitchd.cacert-directory").mkdir()
    keep = tmp_path / "vswitchd.cacert-192.0.2.1"
    removed = pki.remove_other_pins(tmp_path.glob("vswitchd.cacert-*"), keep)
    assert removed == ("vswitchd.cacert-192.0.2.11", "vswitchd.cacert-192.0.2.2")
    assert pki.remove_other_pins(tmp_path.glob("vswitchd.cacert-*"), keep) == ()
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == kept
    assert pki.remove_other_pins(tmp_path.glob("vswitchd.cacert-*"), None) == ("vswitchd.cacert-192.0.2.1",)


def refusals_of(path: Path, content: bytes) -> List[str]:
    """What is said against such a file, as the host's and as a controller's CA. Nothing else than that is raised."""
    path.write_bytes(content)
    refusals = []
    for check in (pki.check_host_pem, pki.check_ca):
        try:
            check(path, NOW_S)
        except AdministratorError as error:
            refusals.append(str(error))
    return refusals


def is_told(path: Path, refusal: str) -> bool:
    """In one line that names the file."""
    return str(path) in refusal and "\n" not in refusal


RELAXED = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(content=st.binary(max_size=300))
def test_no_bytes_in_a_certificate_give_another_exception(tmp_path: Path, made: Made, content: bytes) -> None:
    path = tmp_path / "x.pem"
    for bad in (key_of(made.host) + pem_of(content), content):
        refusals = refusals_of(path, bad)
        assert len(refusals) == 2 and all(is_told(path, refusal) for refusal in refusals)
    refusals = refusals_of(path, pem_of(content, "PRIVATE KEY") + certificate_of(made.host))
    assert all(is_told(path, refusal) for refusal in refusals)


@RELAXED
@given(at=st.integers(0, 900), byte=st.integers(0, 255), cut=st.integers(0, 900))
def test_no_spoilt_certificate_gives_another_exception(
        tmp_path: Path, made: Made, at: int, byte: int, cut: int) -> None:
    der = bytearray(der_of(made.host))
    der[at % len(der)] = byte
    path, key = tmp_path / "x.pem", key_of(made.host)
    assert all(is_told(path, refusal) for refusal in refusals_of(path, key + pem_of(bytes(der))))
    refusals = refusals_of(path, key + pem_of(bytes(der[:cut])))
    assert all(is_told(path, refusal) for refusal in refusals) and (len(refusals) == 2 or cut >= len(der))


@RELAXED
@given(content=st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_malformed_and_no_other_error(content: bytes) -> None:
    with pytest.raises(pki.Malformed):
        pki.parse_certificate(content)


def test_a_file_of_many_beginnings_is_read_in_time(tmp_path: Path) -> None:
    path = tmp_path / "many.pem"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" * 37000)
    began = time.monotonic()
    with pytest.raises(AdministratorError, match="has no certificate"):
        pki.check_ca(path, NOW_S)
    assert time.monotonic() - began < 5
