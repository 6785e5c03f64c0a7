"""The rows whose external_ids a sync sees to, as values, and edits of them, key by key.

replica.py reads and writes them.
"""

from typing import Dict, NamedTuple, Tuple

BRIDGE, INTERFACE = "Bridge", "Interface"
SECURE, STANDALONE = "secure", "standalone"
"""The words of a bridge's fail_mode."""


class LabelledBridge(NamedTuple):
    """A real bridge. Field names are column names; a fail mode that is not set is ""."""

    uuid: str
    name: str
    external_ids: Dict[str, str]
    fail_mode: str
    other_config: Dict[str, str]


class LabelledInterface(NamedTuple):
    """An interface. Field names are column names."""

    uuid: str
    name: str
    external_ids: Dict[str, str]


class Labels(NamedTuple):
    """A snapshot of both tables, each in the order of the names."""

    bridges: Tuple[LabelledBridge, ...] = ()
    interfaces: Tuple[LabelledInterface, ...] = ()


class Relabelling(NamedTuple):
    """What becomes of one row's external_ids: keys to set, and keys to remove. All others stay as they are."""

    table: str
    uuid: str
    name: str
    sets: Tuple[Tuple[str, str], ...]
    drops: Tuple[str, ...] = ()

    def __str__(self) -> str:
        words = ["%s=%s" % pair for pair in self.sets] + ["-%s" % key for key in self.drops]
        return "%s %s external_ids: %s" % (self.table, self.name, " ".join(words))
