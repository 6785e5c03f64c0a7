"""Answers with thousands of records, of which few fields are wanted: read as they come, and let go record by record.

A record of a VM has a hundred fields. All of them at once would take, for a moment, more memory than a daemon has.
"""

from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser

from ovsxen.xapi.answers import (
    DOCUMENT_TYPE,
    NONSENSE,
    Values,
    check_encoding,
    member_of,
    no_xml_rpc,
    value_of,
    values_of,
)

VALUE = "Value"
PIECE_BYTES = 1 << 14


class Selection(NamedTuple):
    """Which fields are wanted, and where the records are in the answer: `within` names the member of its Value that is
    a list of structs with a record each (its member `record`); without one, the Value itself is a map of records.
    """

    fields: FrozenSet[str]
    within: str = ""
    record: str = ""


def select_values(blocks: Iterator[bytes], selection: Selection) -> Values:
    """What an answer holds that comes in blocks, as parse_values() has it, with the fields of `selection` alone.

    Raises what the blocks raise, and Refused.
    """
    selector, overlap = _Selector(selection), b""
    for block in blocks:
        check_encoding(overlap + block)
        overlap = (overlap + block)[1 - len(DOCUMENT_TYPE):]
        try:
            for at in range(0, len(block), PIECE_BYTES):
                selector.feed(block[at:at + PIECE_BYTES])
        except NONSENSE as error:
            raise no_xml_rpc(error) from error
    try:
        return selector.close()
    except NONSENSE as error:
        raise no_xml_rpc(error) from error


class _Selector:
    """An answer, fed piece by piece. Of a record only its value is left once it is whole."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        builder = TreeBuilder()
        self._all = builder.start("all", {})  # what is parsed is built below it, so that it can be seen meanwhile
        self._parser = XMLParser(target=builder, encoding="utf-8")
        self._by_name: Dict[str, Any] = {}
        self._listed: List[Any] = []

    def feed(self, piece: bytes) -> None:
        self._parser.feed(piece)
        self._take(but=1)

    def close(self) -> Values:
        self._parser.close()
        self._take(but=0)
        root, = self._all
        values = values_of(root)
        if len(values) == 1 and isinstance(values[0], dict) and isinstance(values[0].get(VALUE), dict):
            if self._selection.within and self._listed:
                values[0][VALUE][self._selection.within] = self._listed
            elif self._by_name:
                values[0][VALUE] = self._by_name
        return values

    def _take(self, *, but: int) -> None:
        """The records that are whole: all `but` the last, which may still grow."""
        items = self._items()
        if items is None or len(items) <= but:
            return
        end = len(items) - but
        for item in items[:end]:
            self._thin(item)
            if self._selection.within:
                if item.tag != "value":
                    raise ValueError("a %s in an array" % item.tag)
                self._listed.append(value_of(item))
            else:
                name, value = member_of(item)
                self._by_name[name] = value
        del items[:end]

    def _items(self) -> Optional[Element]:
        """The element whose children have a record each; None as long as it has not come."""
        reply = self._all.find("methodResponse/params/param/value/struct")
        found = None if reply is None else _typed(reply, VALUE)
        if found is None or found.tag != "struct" or not self._selection.within:
            return found if found is not None and found.tag == "struct" else None
        listed = _typed(found, self._selection.within)
        return None if listed is None else listed.find("data")

    def _thin(self, item: Element) -> None:
        """Take out of the record in `item` what is not wanted."""
        struct = item.find("value/struct") if item.tag == "member" else item.find("struct")
        if struct is not None and self._selection.record:
            struct = _typed(struct, self._selection.record)
        if struct is not None and struct.tag == "struct":
            struct[:] = [member for member in struct if _name(member) in self._selection.fields]


def _typed(struct: Element, name: str) -> Optional[Element]:
    """What is typed in the value of a member; None where there is none yet."""
    found: List[Any] = [member[1] for member in struct if _name(member) == name and len(member) > 1]
    return found[0][0] if found and len(found[0]) else None


def _name(member: Element) -> str:
    return member[0].text or "" if len(member) else ""
