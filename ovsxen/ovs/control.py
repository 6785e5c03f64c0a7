"""The door to Open vSwitch's control sockets from the inside: a socket on which this process answers `ovs-appctl`.

Source: ovs.unixctl of python-ovs, 2.17 to 4.0. It answers only while run() is called, and waits in replica.block(). The
library takes over signals that nobody handles yet (ovs.fatal_signal): whoever wants them is there first.
"""

from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional

import ovs.unixctl
import ovs.unixctl.server
import ovs.util

from ovsxen.errors import AdministratorError


class Command(NamedTuple):
    """What `ovs-appctl help` shows of its arguments, how many it takes at most, and the answer to them."""

    usage: str
    most_arguments: int
    answer: Callable[..., str]


class Control:
    """A control socket, from the first keep() to close()."""

    def __init__(self, path: Path, program: str, version: str, commands: Dict[str, Command]) -> None:
        self._path = path
        self._program = program
        self._version = version
        self._commands = commands
        self._server: Optional[Any] = None

    def keep(self) -> None:
        """Be there: where somebody removed the socket, it is made again. Raises AdministratorError."""
        if self._server is not None and self._path.exists():
            return
        self.close()
        ovs.util.PROGRAM_NAME = self._program
        for name, command in self._commands.items():
            ovs.unixctl.commands.pop(name, None)
            ovs.unixctl.command_register(name, command.usage, 0, command.most_arguments, _answer, command.answer)
        error, self._server = ovs.unixctl.server.UnixctlServer.create(str(self._path), self._version)
        if error:
            raise AdministratorError("the control socket %s cannot be made (error %d)" % (self._path, error),
                                     "look whether its directory is there and has room")

    def run(self) -> None:
        """Answer what has come."""
        if self._server is not None:
            self._server.run()

    def wait(self, poller: Any) -> None:
        if self._server is not None:
            self._server.wait(poller)

    def close(self) -> None:
        """Remove the socket."""
        server, self._server = self._server, None
        if server is not None:
            server.close()


def _answer(connection: Any, arguments: Any, answer: Callable[..., str]) -> None:
    try:
        connection.reply(answer(*arguments))
    except Exception as raised:  # whoever asks is told, and nobody else is concerned
        connection.reply_error("%s: %s" % (type(raised).__name__, raised))
