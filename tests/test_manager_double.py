"""The manager double and a real ovsdb-server: TLS both ways, a CA that is learnt at first sight, and only then."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator

import pytest

from ovsxen.errors import NoAnswer, Refused
from ovsxen.host import pki
from ovsxen.host.clock import Deadline
from ovsxen.sandbox import certificates, contents
from ovsxen.sandbox.certificates import ControllerPki
from ovsxen.sandbox.manager import ManagerDouble, dial
from tests.conftest import SandboxHost

WITHIN_S = 30.0
ADDRESS = "127.0.0.1"


@pytest.fixture(scope="module")
def controllers(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, ControllerPki]:
    """Two controllers that do not know each other."""
    base = Path(str(tmp_path_factory.mktemp("controllers")))
    return {name: certificates.make_controller(base / name, name) for name in ("one", "other")}


@pytest.fixture
def switch(host: SandboxHost) -> Iterator[SandboxHost]:
    """A host that is up and has its certificate."""
    certificates.make_host_pem(host.paths.xapi_ssl_pem)
    host.start()
    yield host


def set_manager(switch: SandboxHost, target: str, ca: Path, *, bootstrap: bool = False) -> None:
    """What an update does to the switch, with short waits between the attempts to connect."""
    pem = str(switch.paths.xapi_ssl_pem)
    switch.vsctl("--no-wait", "--", "del-manager", "--", "del-ssl", "--", *(["--bootstrap"] if bootstrap else []),
                 "set-ssl", pem, pem, str(ca), "--", "--id=@m", "create", "Manager", 'target="%s"' % target,
                 "max_backoff=1000", "--", "set", "Open_vSwitch", ".", "manager_options=@m")


def listen(switch: SandboxHost, ca: Path) -> int:
    """Have the switch listen for its manager; gives the port."""
    set_manager(switch, "pssl:0:" + ADDRESS, ca)
    found = Deadline(WITHIN_S).wait_for(lambda: switch.vsctl(
        "--no-wait", "--if-exists", "get", "Manager", "pssl:0:" + ADDRESS, "status:bound_port").strip('"') or None, 0.2)
    assert found is not None
    return int(found)


def test_the_switch_learns_the_ca_at_first_sight_and_connects(
        switch: SandboxHost, controllers: Dict[str, ControllerPki]) -> None:
    pinned = switch.paths.pinned_ca(ADDRESS)
    with ManagerDouble(controllers["one"], (switch.paths.xapi_ssl_pem,)) as manager:
        set_manager(switch, manager.target, pinned, bootstrap=True)
        peer = manager.wait_connected(WITHIN_S)
        assert len(manager.failures) == 1, "the first connection only serves to learn the CA"
    assert peer.system_id == contents.INSTALLATION_UUID
    assert peer.fingerprint == pki.fingerprint(switch.paths.xapi_ssl_pem)
    assert pki.fingerprint(pinned) == pki.fingerprint(controllers["one"].ca)
    assert stat.S_IMODE(pinned.stat().st_mode) == 0o444


def test_another_controller_at_the_same_address_is_refused(
        switch: SandboxHost, controllers: Dict[str, ControllerPki]) -> None:
    pinned, known = switch.paths.pinned_ca(ADDRESS), (switch.paths.xapi_ssl_pem,)
    with ManagerDouble(controllers["one"], known) as manager:
        set_manager(switch, manager.target, pinned, bootstrap=True)
        manager.wait_connected(WITHIN_S)
        learnt = pinned.read_bytes()
    with ManagerDouble(controllers["other"], known, port=manager.port) as impostor:
        assert "unknown ca" in impostor.wait_failed(WITHIN_S)
        assert impostor.peers == ()
    assert pinned.read_bytes() == learnt


def test_a_controller_whose_ca_is_adopted_is_never_learnt_at_first_sight(
        switch: SandboxHost, controllers: Dict[str, ControllerPki]) -> None:
    pinned = switch.paths.pinned_ca(ADDRESS)
    switch.paths.historic_ca.write_bytes(controllers["one"].ca.read_bytes())
    assert pki.adopt_ca(switch.paths.historic_ca, pinned)
    with ManagerDouble(controllers["one"], (switch.paths.xapi_ssl_pem,)) as manager:
        set_manager(switch, manager.target, pinned, bootstrap=True)
        manager.wait_connected(WITHIN_S)
        assert manager.failures == ()


def test_a_switch_that_the_controller_does_not_know_is_told_so(
        switch: SandboxHost, controllers: Dict[str, ControllerPki], tmp_path: Path) -> None:
    certificates.make_host_pem(tmp_path / "stranger.pem", name="stranger.example")
    with ManagerDouble(controllers["one"], (tmp_path / "stranger.pem",)) as manager:
        set_manager(switch, manager.target, controllers["one"].ca)
        assert "certificate verify failed" in manager.wait_failed(WITHIN_S)
        with pytest.raises(NoAnswer, match="no switch has connected"):
            manager.wait_connected(0)


def test_a_controller_connects_to_a_switch_that_listens(
        switch: SandboxHost, controllers: Dict[str, ControllerPki]) -> None:
    port = listen(switch, controllers["one"].ca)
    peer = dial(ADDRESS, port, controllers["one"], WITHIN_S)
    assert (peer.system_id, peer.fingerprint) == (
        contents.INSTALLATION_UUID, pki.fingerprint(switch.paths.xapi_ssl_pem))
    with pytest.raises(Refused, match="does not talk to this controller"):
        dial(ADDRESS, port, controllers["other"], WITHIN_S)
    log = switch.paths.log("ovsdb-server")  # which is written after the controller has been told
    assert Deadline(WITHIN_S).wait_until(lambda: "certificate verify failed" in log.read_text(), every_s=0.05)


def test_nobody_at_the_port_is_no_answer(controllers: Dict[str, ControllerPki]) -> None:
    with ManagerDouble(controllers["one"]) as manager:
        port = manager.port
    with pytest.raises(NoAnswer):
        dial(ADDRESS, port, controllers["one"], 1)


def test_the_program_makes_its_pki_and_says_who_came(switch: SandboxHost, tmp_path: Path) -> None:
    place = tmp_path / "manager"
    program = subprocess.Popen([sys.executable, "-m", "ovsxen.sandbox.manager", str(place),
                                str(switch.paths.xapi_ssl_pem)], env=switch.environment(), stdin=subprocess.DEVNULL)
    try:
        assert Deadline(WITHIN_S).wait_until((place / "port").exists, every_s=0.05)
        set_manager(switch, "ssl:%s:%d" % (ADDRESS, int((place / "port").read_text())), place / "ca.pem")
        assert Deadline(WITHIN_S).wait_until(
            lambda: (place / "log").exists() and contents.INSTALLATION_UUID in (place / "log").read_text(), every_s=0.1)
        program.send_signal(signal.SIGTERM)
        assert program.wait(WITHIN_S) == 0
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()
    assert sorted(os.listdir(str(place))) == ["ca.pem", "chain.pem", "key.pem", "log"]
    assert pki.fingerprint(switch.paths.xapi_ssl_pem) in (place / "log").read_text()
