"""Where a sync is found, from its start to its end: the name of its process, its pidfile, its control socket."""

import os
from typing import Dict

from ovsxen import __version__
from ovsxen.errors import AdministratorError, OvsxenError
from ovsxen.host import detach
from ovsxen.host.detach import ServicePidfile
from ovsxen.host.paths import Paths
from ovsxen.ovs.control import Command, Control
from ovsxen.ovs.daemons import XAPI_SYNC
from ovsxen.sequence import explain, refused_by_system

STOP_OTHER = "`ovsxen sync --stop` ends it"


class Replaced(Exception):
    """Another sync has taken over: this one is to end."""


class Presence:
    """There is one sync of a host. `problem` says why it cannot be found; "" where it can."""

    control: Control

    def __init__(self, paths: Paths, commands: Dict[str, Command]) -> None:
        self.problem = ""
        self._paths = paths
        self._commands = commands
        self._pidfile = ServicePidfile(paths.pidfile(XAPI_SYNC))

    def __enter__(self) -> "Presence":
        """Be found, by the pid of now. Raises AdministratorError, also where there is another sync."""
        detach.take_name(XAPI_SYNC)
        try:
            self._pidfile.keep()
        except BlockingIOError as error:
            raise AdministratorError("another %s runs: its pidfile %s is locked" % (XAPI_SYNC, self._pidfile.path),
                                     STOP_OTHER) from error
        except OSError as error:
            raise refused_by_system("the pidfile %s cannot be made" % self._pidfile.path, error) from error
        try:
            self.control = Control(self._paths.control_socket(XAPI_SYNC, os.getpid()), XAPI_SYNC, __version__,
                                   self._commands)
            self.control.keep()
        except BaseException:
            self._pidfile.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        self._pidfile.remove()

    def keep(self) -> None:
        """Go on being found: somebody may have emptied the run directory. Raises Replaced."""
        try:
            self._pidfile.keep()
            self.control.keep()
            self.problem = ""
        except BlockingIOError as error:
            raise Replaced from error
        except (OSError, OvsxenError) as error:
            self.problem = "`ovs-appctl` cannot find %s: %s" % (XAPI_SYNC, explain(error, "its pidfile was refused"))
