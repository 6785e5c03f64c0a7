"""Host off → switch up. boot_sequence() is what happens, in order; phases_offline.py and phases_online.py do it.

Every phase leaves alone what is already right, so that a start may be repeated at any time, also after one that was
killed. A dry run is the same sequence with the acts left out.
"""

from typing import Iterator

from ovsxen import phases_offline as offline
from ovsxen.gate import unless_disabled
from ovsxen.host import identity
from ovsxen.report import Phase
from ovsxen.sequence import Host, Run, Step, Warn, record, run_steps, take_turn


def boot_sequence() -> Iterator[Step]:
    """The phases, in order, and those that each needs to have gone well.

    Importing is half of a small boot's time, so the phases that talk to the server are imported while it starts, by
    start_ovsdb_server.
    """
    yield Step("host", offline.prepare_host)
    yield Step("module", offline.load_module, needs=("host",))
    yield Step("database", offline.prepare_database, needs=("host",))
    yield Step("ovsdb-server", offline.start_ovsdb_server, needs=("database",))

    from ovsxen import phases_online as online

    yield Step("configuration", online.configure, needs=("ovsdb-server",))
    yield Step("ovs-vswitchd", online.start_vswitchd, needs=("module", "configuration"))
    yield Step("management", online.guard_management, needs=("ovs-vswitchd",), vital=False)
    yield Step("interfaces", online.mend_interfaces, needs=("ovs-vswitchd",), vital=False)
    yield Step("managers", online.attach_managers, needs=("ovsdb-server",))
    yield Step("hostname", online.record_hostname, needs=("ovs-vswitchd",), vital=False)
    yield Step("firewall", online.open_firewall, needs=("host",), vital=False)


def start(host: Host, warn: Warn, *, dry_run: bool = False) -> Iterator[Phase]:
    """Boot the switch, giving each phase as it ends; `warn` takes what is wrong though no phase failed for it."""
    return unless_disabled(host, warn, lambda: _start(host, warn, dry_run=dry_run))


def _start(host: Host, warn: Warn, *, dry_run: bool) -> Iterator[Phase]:
    run = Run(host, warn, identity.read_boot_id(host.paths), dry_run=dry_run)
    if dry_run:
        yield from run_steps(run, boot_sequence())
        return
    with take_turn(host.paths):
        yield from record(run, run_steps(run, boot_sequence()))
