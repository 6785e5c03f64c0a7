"""The files of a manager's TLS: which they are, whether they can be used, how long a CA stays pinned."""

import os
from pathlib import Path
from typing import Optional

from ovsxen.errors import OvsxenError
from ovsxen.host import clock, pki
from ovsxen.host.paths import Paths
from ovsxen.job import Job
from ovsxen.ovs.tables import Configuration, Ssl
from ovsxen.ovs.targets import Target, parse_target
from ovsxen.plan import Plan, Wanted
from ovsxen.sequence import explain


def ssl_for(paths: Paths, manager: Optional[Target]) -> Optional[Ssl]:
    """One file for key and certificate; a controller's CA is pinned at first sight, or comes through the pool."""
    if manager is None:
        return None
    pem = str(paths.xapi_ssl_pem)
    if manager.scheme == "pssl":
        return Ssl(pem, pem, str(paths.sdn_controller_ca), False)
    return Ssl(pem, pem, str(paths.pinned_ca(manager.host)), True)


def prepare_files(paths: Paths, wanted: Wanted, switch: Configuration, planned: Plan, *, dry_run: bool) -> None:
    """Before a manager or its TLS is written: its files can be used, and the CA that it was trusted by is pinned.

    Raises AdministratorError that names the file.
    """
    if wanted.ssl is None or not planned.edit.new_rows:
        return
    now_s = clock.wall_clock_s()
    pki.check_host_pem(Path(wanted.ssl.private_key), now_s)
    ca_cert = Path(wanted.ssl.ca_cert)
    if not wanted.ssl.bootstrap_ca_cert:
        pki.check_ca(ca_cert, now_s)
        return
    if _is_of_the_historic_plugin(paths, wanted, switch) and not dry_run:
        pki.adopt_ca(paths.historic_ca, ca_cert, now_s)
    if os.path.lexists(str(ca_cert)):
        pki.check_ca(ca_cert, now_s)


def _is_of_the_historic_plugin(paths: Paths, wanted: Wanted, switch: Configuration) -> bool:
    """The switch has this very manager already, and trusts it by the file that was the same for every controller."""
    return switch.ssl is not None and Path(switch.ssl.ca_cert) == paths.historic_ca and wanted.manager in {
        parse_target(manager.target) for manager in switch.managers}


def forget_other_pins(job: Job, ssl: Optional[Ssl]) -> None:
    """The CA of a controller that XAPI has no more: should it come back, it is trusted at first sight again."""
    try:
        for name in pki.remove_other_pins(job.paths.all_pinned_cas(), Path(ssl.ca_cert) if ssl else None):
            job.changes.append("%s removed" % (job.paths.dbdir / name))
    except (OvsxenError, OSError) as raised:
        job.note(str(explain(raised, "the CA of a former controller could not be removed")))
