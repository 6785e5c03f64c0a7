"""Keys and certificates for the sandbox and the tests, made by the `openssl` program. None of them protects anything.

The host's are as XAPI makes them: an RSA key of 2048 bits and a certificate that it signed itself, in one file. The
controller's certificate comes with the CA behind it, because the switch learns a CA at first sight from the last
certificate that is sent to it.
"""

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NamedTuple, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host import files, proc

WITHIN_S = 60.0
KEY_BITS = 2048
VALID = ("20200101000000Z", "20991231235959Z")
EXPIRED = ("20200101000000Z", "20210101000000Z")
HOST_NAME = "sandbox.example"

CONFIGURATION = """[req]
distinguished_name = name
prompt = no
[name]
[ca]
default_ca = one
[one]
database = {0}/index.txt
new_certs_dir = {0}
default_md = sha256
policy = any
rand_serial = yes
unique_subject = no
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:false
subjectKeyIdentifier = hash
"""


class ControllerPki(NamedTuple):
    """The files of a controller. `certificate_chain` is its own certificate, then its CA's."""

    ca: Path
    key: Path
    certificate_chain: Path


def make_host_pem(path: Path, valid: Tuple[str, str] = VALID, name: str = HOST_NAME) -> None:
    """Make the host's key and certificate (`xapi-ssl.pem`), valid from and until these times (YYYYMMDDhhmmssZ).

    Raises NotInstalled without openssl, AdministratorError when it fails.
    """
    with _workshop() as workshop:
        key = workshop.make_key("host")
        certificate = workshop.sign(key, name, valid, "leaf")
        files.make_directory(path.parent, 0o755)
        files.write_file(path, [key.read_bytes(), certificate.read_bytes()], 0o400, durable=False)


def make_controller(directory: Path, name: str = "controller", valid: Tuple[str, str] = VALID) -> ControllerPki:
    """Make a CA of its own for a controller, and a certificate signed by it. What is there already is replaced.

    Raises NotInstalled without openssl, AdministratorError when it fails.
    """
    pki = controller_pki(directory)
    with _workshop() as workshop:
        ca_key, key = workshop.make_key("ca"), workshop.make_key("controller")
        ca = workshop.sign(ca_key, name + " CA", valid, "authority")
        leaf = workshop.sign(key, name, valid, "leaf", ca, ca_key)
        files.make_directory(directory, 0o755)
        files.write_file(pki.ca, [ca.read_bytes()], durable=False)
        files.write_file(pki.key, [key.read_bytes()], 0o400, durable=False)
        files.write_file(pki.certificate_chain, [leaf.read_bytes(), ca.read_bytes()], durable=False)
    return pki


def controller_pki(directory: Path) -> ControllerPki:
    """Where `make_controller` puts the files of the controller in `directory`."""
    return ControllerPki(directory / "ca.pem", directory / "key.pem", directory / "chain.pem")


def encrypt_key(path: Path, password: str) -> None:
    """Make the key in `path` one that needs a password; the certificates in the file stay."""
    content = path.read_bytes()
    begin = content.index(b"-----BEGIN CERTIFICATE-----")
    with _workshop() as workshop:
        key = workshop.directory / "encrypted.pem"
        workshop.openssl("pkcs8", "-topk8", "-in", str(path), "-out", str(key), "-passout", "pass:" + password)
        files.write_file(path, [key.read_bytes(), content[begin:]], 0o400, durable=False)


class _Workshop:
    """A directory in which openssl works: its configuration, the list that `openssl ca` keeps, what is in the making.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._configuration = directory / "openssl.cnf"
        self._configuration.write_text(CONFIGURATION.format(directory))
        (directory / "index.txt").write_text("")
        self._made = 0

    def make_key(self, name: str) -> Path:
        key = self.directory / (name + ".key")
        self.openssl("genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:%d" % KEY_BITS,
                     "-out", str(key))
        return key

    def sign(self, key: Path, name: str, valid: Tuple[str, str], kind: str, *issuer: Path) -> Path:
        """A certificate for `key`, signed by an issuer (certificate and key) or by itself.

        By `openssl ca`, because of all its commands that is the one which takes any dates (before 3.4).
        """
        self._made += 1
        request, made = (self.directory / ("%d.%s" % (self._made, suffix)) for suffix in ("csr", "pem"))
        configuration = ("-config", str(self._configuration))
        self.openssl("req", "-new", "-key", str(key), "-subj", "/CN=" + name, "-out", str(request), *configuration)
        signer: Tuple[str, ...] = ("-selfsign", "-keyfile", str(key))
        if issuer:
            signer = ("-cert", str(issuer[0]), "-keyfile", str(issuer[1]))
        self.openssl("ca", "-batch", "-notext", "-in", str(request), "-out", str(made), "-extensions", kind,
                     "-startdate", valid[0], "-enddate", valid[1], *(signer + configuration))
        return made

    def openssl(self, *arguments: str) -> None:
        done = proc.run(("openssl",) + arguments, WITHIN_S)
        if done.returncode != 0:
            raise AdministratorError("openssl %s failed (%s)" % (arguments[0], done.complaint),
                                     "see what `openssl version` says, and install it anew")


@contextmanager
def _workshop() -> Iterator[_Workshop]:
    directory = Path(tempfile.mkdtemp(prefix="ovsxen-pki-"))
    try:
        yield _Workshop(directory)
    finally:
        shutil.rmtree(str(directory), ignore_errors=True)
