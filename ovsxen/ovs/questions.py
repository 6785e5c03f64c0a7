"""What Open vSwitch's own programs are asked ahead of time: they answer while ovsxen does something else."""

from contextlib import contextmanager
from typing import Iterator, Optional, Tuple

from ovsxen.errors import OvsxenError
from ovsxen.host.paths import Paths
from ovsxen.host.proc import Child
from ovsxen.ovs import dbtool

VERSION_ARGV = ("ovs-vswitchd", "--version")


class Questions:
    """Programs that were asked, or None where nobody was or could be: then whoever needs the answer asks again."""

    def __init__(self) -> None:
        self.conversion: Optional[Child] = None
        self.version: Optional[Child] = None

    def ask_version(self) -> None:
        """Ask for the version of the installed ovs-vswitchd."""
        self.version = start_if_possible(VERSION_ARGV)

    def ask_conversion(self, paths: Paths) -> None:
        """Ask whether conf.db has another schema than the installed one."""
        if paths.conf_db.is_file():
            self.conversion = start_if_possible(dbtool.ask_conversion_argv(paths.conf_db, paths.schema))


def start_if_possible(argv: Tuple[str, ...]) -> Optional[Child]:
    """A program that was asked; None where it cannot be, which the phase that needs it will say."""
    try:
        return Child(argv)
    except OvsxenError:
        return None


@contextmanager
def asking() -> Iterator[Questions]:
    """Questions whose answers nobody waits for in the end, unless somebody took them."""
    questions = Questions()
    try:
        yield questions
    finally:
        for child in (questions.conversion, questions.version):
            if child is not None:
                child.abandon()
