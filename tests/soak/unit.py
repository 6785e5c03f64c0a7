"""systemd's part: the daemon is started again as its unit says (Restart=on-failure)."""

import signal
import subprocess
import threading
from typing import IO, Optional

from ovsxen.host import process
from ovsxen.host.process import Process
from tests.frames import Wire

CLEAN = (0, -signal.SIGTERM, -signal.SIGUSR2)
AGAIN_AFTER_S = 0.2


class Unit:
    """`ovsxen daemon` in the foreground inside the namespace. `is_down`: it ended in order, and nobody starts it."""

    def __init__(self, wire: Wire, output: "IO[bytes]") -> None:
        self._argv = wire.ovsxen_argv("daemon")
        self._environment, self._output = wire.host.environment(), output
        self._closed, self._asked = threading.Event(), threading.Event()
        self._child: "Optional[subprocess.Popen[bytes]]" = None
        self.is_down = True
        self._keeper = threading.Thread(target=self._keep)
        self._keeper.start()

    def start(self) -> None:
        """`systemctl start`: has no effect on one that runs."""
        self._asked.set()

    def close(self) -> None:
        """End the daemon, not the switch, and start no other."""
        self._closed.set()
        self._asked.set()
        while self._keeper.is_alive():
            if self._child is not None:
                self._child.kill()
            self._keeper.join(0.1)

    def process(self) -> Optional[Process]:
        child = self._child
        return None if child is None or child.returncode is not None else process.read_process(child.pid)

    def _keep(self) -> None:
        while not self._closed.is_set():
            self.is_down = True
            self._asked.wait()
            while not self._closed.is_set():
                self._asked.clear()
                self._child = subprocess.Popen(self._argv, env=self._environment, stdin=subprocess.DEVNULL,
                                               stdout=self._output, stderr=subprocess.STDOUT)
                self.is_down = False
                if self._child.wait() in CLEAN:
                    break
                self._closed.wait(AGAIN_AFTER_S)
