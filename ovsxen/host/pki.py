"""What a manager of protocol ssl or pssl needs on disk: the host's key and certificate, and the controller's CA.

Looked at before the switch is told to use them: Open vSwitch itself takes any file, and complains in its log only. It
never prompts, writes nothing but the pinned CA, and no key leaves it. OpenSSL says whether something parses and belongs
together; only the dates are read here, because `ssl` has no public way to those of a leaf.

Of the dates only the end counts: dom0's clock may say 1970 at boot, and then everything is yet to become valid. How
strong a key or a signature must be is left to the switch, which may link another OpenSSL than this Python.

`ssl` is imported where it is used: it takes as long as a small boot.
"""

import base64
import binascii
import calendar
import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Iterable, List, NamedTuple, NoReturn, Optional, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import clock, files

CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's words for a key of another certificate: with other numbers, or of another kind."""
KEY_LABEL_END = "PRIVATE KEY"
BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\Z")
END = re.compile(r"-----END ([A-Z0-9 ]{1,40})-----[ \t]*\Z")

SEQUENCE, SET, INTEGER, UTC_TIME, GENERALIZED_TIME = 0x30, 0x31, 0x02, 0x17, 0x18
EXPLICIT_VERSION = 0xa0
NAMES = {b"\x55\x04\x03": "CN", b"\x55\x04\x0a": "O", b"\x55\x04\x0b": "OU"}
"""The parts of a subject that tell people whose it is, by their object identifiers (RFC 5280, appendix A.1)."""
SHOWN_SUBJECT = 120

HOST_REMEDY = "have XAPI make it anew with `xe host-refresh-server-certificate`, or restore it from a backup"
CA_REMEDY = "install the controller's CA again"


class Certificate(NamedTuple):
    """What is read of a certificate. `not_after_s` is in seconds since 1970."""

    der: bytes
    subject: str
    not_after_s: int


class Malformed(Exception):
    """Bytes that are no certificate as far as they are read here."""


def check_host_pem(path: Path, now_s: float) -> None:
    """The host's key and certificate, in one file, are there, readable, of one pair and not expired at `now_s`.

    Raises AdministratorError with the name of the file.
    """
    blocks = _read_blocks(path, HOST_REMEDY)
    if not any(block.is_certificate for block in blocks):
        _refuse(path, "has no certificate in it", HOST_REMEDY)
    if not any(block.is_key for block in blocks):
        _refuse(path, "has no private key in it", HOST_REMEDY)
    # The switch presents the first one (SSL_CTX_use_certificate_file), so only that one's end counts.
    certificate = _read_certificates(path, blocks, HOST_REMEDY)[0]
    _check_pair(path)
    if certificate.not_after_s < now_s:
        _refuse(path, "expired on %s (%s)" % (_day(certificate), certificate.subject), HOST_REMEDY)


def check_ca(path: Path, now_s: float) -> None:
    """The file holds certificates and nothing that only looks like one, and not all of them have expired at `now_s`.

    One that has expired beside one that has not is how a CA is replaced. Raises AdministratorError with the name of
    the file.
    """
    _check_ca_content(path, _read(path, CA_REMEDY), now_s)


def fingerprint(path: Path) -> str:
    """SHA-256 of the first certificate in the file, as `openssl x509 -fingerprint` shows it: for people and logs.

    Raises AdministratorError.
    """
    certificates = _read_certificates(path, _read_blocks(path, CA_REMEDY), CA_REMEDY)
    if not certificates:
        _refuse(path, "has no certificate in it", CA_REMEDY)
    return fingerprint_of(certificates[0].der)


def fingerprint_of(der: bytes) -> str:
    """SHA-256 of a certificate, colons between its bytes."""
    digest = hashlib.sha256(der).hexdigest().upper()
    return ":".join(digest[index:index + 2] for index in range(0, len(digest), 2))


def adopt_ca(historic: Path, pinned: Path, now_s: float = 0.0) -> bool:
    """Keep the CA that the historic plugin let the switch trust at first sight; tells whether there was one to keep.

    Nothing happens where `pinned` is there already, or where `historic` is not there or would not pass `check_ca`:
    then the switch takes the controller's CA at first sight once more. The historic file does not say which controller
    it is of, so the caller must know that it is of this one. May be repeated. Raises AdministratorError when `pinned`
    cannot be written.
    """
    if pinned.is_symlink() or pinned.exists():
        return False
    try:
        content = _read(historic, CA_REMEDY)
        _check_ca_content(historic, content, now_s)
    except AdministratorError:
        return False
    try:
        files.write_file(pinned, [content], 0o444)
    except OSError as error:
        raise AdministratorError("cannot write %s (%s)" % (pinned, error.strerror),
                                 "make room there and see that it is writable") from error
    return True


def remove_other_pins(pins: Iterable[Path], keep: Optional[Path]) -> Tuple[str, ...]:
    """Remove these pinned CAs, but for `keep`; gives the names of the files that it removed.

    May be repeated. Raises AdministratorError when one cannot be removed.
    """
    removed = []
    for path in sorted(path for path in pins if not (keep and path.name == keep.name) and not path.is_dir()):
        try:
            if files.remove_if_there(path):
                removed.append(path.name)
                files.sync_directory(path.parent)
        except OSError as error:
            raise AdministratorError("cannot remove %s (%s)" % (path, error.strerror),
                                     "remove it by hand: its controller is not in charge any more") from error
    return tuple(removed)


def parse_certificate(der: bytes) -> Certificate:
    """Read subject and end of a certificate that `der` begins with (RFC 5280, 4.1). Raises Malformed."""
    size = _Reader(der).skip(SEQUENCE)
    body = _Reader(der).enter(SEQUENCE).enter(SEQUENCE)
    if body.next_tag() == EXPLICIT_VERSION:
        body.skip(EXPLICIT_VERSION)
    body.skip(INTEGER)  # the serial number
    body.skip(SEQUENCE)  # how it is signed
    body.skip(SEQUENCE)  # the issuer
    validity = body.enter(SEQUENCE)
    validity.skip(validity.next_tag())
    not_after_s = _seconds(*validity.take())
    return Certificate(der[:size], _subject(body.enter(SEQUENCE)), not_after_s)


class _Block(NamedTuple):
    """A block of a PEM file: what its BEGIN line says it is, and the lines below."""

    label: str
    text: str

    @property
    def is_certificate(self) -> bool:
        return self.label in CERTIFICATE_LABELS

    @property
    def is_key(self) -> bool:
        return self.label.endswith(KEY_LABEL_END)


class _Reader:
    """Elements of DER one after the other, never past the end of what it was given. Raises Malformed."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def next_tag(self) -> int:
        if self._at >= len(self._content):
            raise Malformed("it ends too early")
        return self._content[self._at]

    def take(self) -> Tuple[int, bytes]:
        """The next element: its tag and its content."""
        tag, begin = self.next_tag(), self._at + 2
        size = self._content[self._at + 1] if begin <= len(self._content) else 0x80
        if size >= 0x80:
            count = size & 0x7f
            if not 1 <= count <= 3:  # 16 MB are more than any file that is read here
                raise Malformed("an element has no length that makes sense")
            size = int.from_bytes(self._content[begin:begin + count], "big")
            begin += count
        if begin + size > len(self._content):
            raise Malformed("it ends too early")
        self._at = begin + size
        return tag, self._content[begin:self._at]

    def enter(self, tag: int) -> "_Reader":
        """A reader of what is inside the next element, which must be a `tag`."""
        found, content = self.take()
        if found != tag:
            raise Malformed("it has not the form of a certificate")
        return _Reader(content)

    def skip(self, tag: int) -> int:
        """Pass over the next element, which must be a `tag`; gives how many bytes have been passed in all."""
        self.enter(tag)
        return self._at

    def has_more(self) -> bool:
        return self._at < len(self._content)


def _read(path: Path, remedy: str) -> bytes:
    try:
        content = files.read_small(path)
    except FileNotFoundError as error:
        raise AdministratorError("%s is not there" % path, remedy) from error
    except OSError as error:
        raise AdministratorError("%s cannot be read (%s)" % (path, error.strerror), remedy) from error
    if not content.strip():
        _refuse(path, "is empty", remedy)
    return content


def _read_blocks(path: Path, remedy: str) -> List[_Block]:
    return _blocks(_read(path, remedy))


def _blocks(content: bytes) -> List[_Block]:
    """The blocks of a PEM file; what is between them is for people, and passed over, as OpenSSL does."""
    blocks: List[_Block] = []
    label = ""
    lines: List[str] = []
    for line in content.decode("latin-1").splitlines():
        begun, ended = BEGIN.match(line), END.match(line)
        if begun:
            label, lines = begun.group(1), []
        elif ended and label and ended.group(1) == label:
            blocks.append(_Block(label, "".join(lines)))
            label = ""
        elif label:
            lines.append(line)
    return blocks


def _check_ca_content(path: Path, content: bytes, now_s: float) -> None:
    certificates = _read_certificates(path, _blocks(content), CA_REMEDY)
    if not certificates:
        _refuse(path, "has no certificate in it", CA_REMEDY)
    if all(certificate.not_after_s < now_s for certificate in certificates):
        ends = ", ".join("%s on %s" % (one.subject, _day(one)) for one in certificates[:5])
        _refuse(path, "holds nothing that has not expired (%s)" % ends, CA_REMEDY)


def _read_certificates(path: Path, blocks: List[_Block], remedy: str) -> List[Certificate]:
    """All certificates of the file, each of which OpenSSL can read too."""
    certificates = []
    for number, block in enumerate((block for block in blocks if block.is_certificate), 1):
        try:
            certificate = parse_certificate(base64.b64decode("".join(block.text.split()), validate=True))
            _check_with_openssl(certificate.der)
        except (Malformed, binascii.Error, ValueError) as error:
            raise AdministratorError("certificate %d in %s cannot be read (%s)" % (number, path, error),
                                     remedy) from error
        certificates.append(certificate)
    return certificates


def _check_with_openssl(der: bytes) -> None:
    """Raises Malformed where OpenSSL does not take it for a certificate.

    It gets PEM again, because old Pythons do not see the end of DER with a new OpenSSL.
    """
    import ssl
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(der))
    except ssl.SSLError as error:
        raise Malformed(error.reason or "OpenSSL does not take it") from error


def _check_pair(path: Path) -> None:
    """The first certificate of the file and its first key belong together, and no password is needed."""
    import ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
    except ssl.SSLError:
        pass  # OpenSSL before 1.1 has no levels
    asked: List[bool] = []

    def answer() -> str:
        """Stands where OpenSSL would prompt at the terminal and wait. Not an exception: old Pythons mistake it."""
        asked.append(True)
        return "-"

    problem = ""
    try:
        context.load_cert_chain(str(path), password=answer)
    except ssl.SSLError as error:
        problem = "has a key that OpenSSL does not take (%s)" % (error.reason or error)
        if error.reason in MISMATCH:
            problem = "has a key and a certificate that do not belong together"
    except (OSError, ValueError) as error:  # it was there a moment ago
        problem = "cannot be read (%s)" % error
    if asked:
        _refuse(path, "has a key that only a password opens, and nobody can give it to the switch",
                "store the key without one")
    if problem:
        _refuse(path, problem, HOST_REMEDY)


def _seconds(tag: int, content: bytes) -> int:
    """A time of a certificate in seconds since 1970: always UTC, to the second (RFC 5280, 4.1.2.5)."""
    text = content.decode("latin-1")
    if tag == UTC_TIME and re.match(r"[0-9]{12}Z\Z", text):
        text = ("19" if text >= "50" else "20") + text
    elif tag != GENERALIZED_TIME or not re.match(r"[0-9]{14}Z\Z", text):
        raise Malformed("its dates are none")
    try:
        moment = datetime(int(text[:4]), *(int(text[at:at + 2]) for at in range(4, 14, 2)))  # type: ignore[arg-type]
    except ValueError as error:
        raise Malformed("its dates are none") from error
    return calendar.timegm(moment.timetuple())


def _subject(names: _Reader) -> str:
    """The parts of a subject that people know it by. Whatever else is in it does not matter here."""
    shown = []
    while names.has_more():
        part = names.enter(SET).enter(SEQUENCE)
        known = NAMES.get(part.take()[1])
        value = part.take()[1]
        if known is not None:
            text = ascii(value.decode("utf-8", "replace"))[1:-1]
            shown.append("%s=%s" % (known, text))
    return (", ".join(shown) or "no name")[:SHOWN_SUBJECT]


def _day(certificate: Certificate) -> str:
    return clock.utc_text(certificate.not_after_s * 1000)


def _refuse(path: Path, problem: str, remedy: str) -> NoReturn:
    raise AdministratorError("%s %s" % (path, problem), remedy)
