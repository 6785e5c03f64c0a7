"""A wire server on XAPI's socket for each test that asks for one."""

from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from tests.xapi.wire import Serve, Wire, short_directory

MakeWire = Callable[[Serve], Wire]


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@pytest.fixture
def make_wire(directory: Path) -> Iterator[MakeWire]:
    """Serve XAPI's socket by a function that gets each connection and its question."""
    made: List[Wire] = []

    def make(serve: Serve) -> Wire:
        made.append(Wire(directory / "xapi_sock", serve))
        return made[-1]

    yield make
    for wire in made:
        wire.stop()
