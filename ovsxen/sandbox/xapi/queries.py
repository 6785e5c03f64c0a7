"""The little language of get_all_records_where, as a pure function of the text and a row.

`and` and `or` bind alike, from the left, and `not` takes everything to its right: that is what XAPI's grammar says
(ocaml/database/db_filter_parse.mly), whatever one would expect.
"""

import re
from typing import Any, Callable, List

from ovsxen.sandbox.xapi.wire import ApiFailure, Record

TOKEN = re.compile(r'\s*(?:(=|\(|\)|true|false|field|and|or|not)|"([^"]*)"|(\S))')
Holds = Callable[[Record], bool]
Reads = Callable[[Record], str]


def parse(text: str) -> Holds:
    """A predicate over rows. Raises ApiFailure (INTERNAL_ERROR) for anything that is not of the grammar."""
    parser = _Parser(_tokens(text), text)
    holds = parser.expression()
    parser.expect("")
    return holds


def as_text(value: Any) -> str:
    """A field's value as the database compares it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "(%s)" % " ".join("'%s'" % item for item in value)
    if isinstance(value, dict):
        return "(%s)" % " ".join("('%s' '%s')" % item for item in value.items())
    return str(value)


def _tokens(text: str) -> List[str]:
    """Words and signs; a literal keeps a quotation mark before it, to be told from a word."""
    found = []
    for word, literal, stray in TOKEN.findall(text):
        if stray:
            raise _not_understood(text)
        found.append(word or '"' + literal)
    return found + [""]


def _not_understood(text: str) -> ApiFailure:
    return ApiFailure("INTERNAL_ERROR", "Db_filter: %s is no expression" % text)


class _Parser:
    """Reads the tokens of one expression, from the left."""

    def __init__(self, tokens: List[str], text: str) -> None:
        self._tokens = tokens
        self._text = text

    def expression(self) -> Holds:
        left = self._term()
        while self._tokens[0] in ("and", "or"):
            left = _both(left, self._term()) if self._tokens.pop(0) == "and" else _either(left, self._term())
        return left

    def expect(self, token: str) -> None:
        if self._tokens.pop(0) != token:
            raise _not_understood(self._text)

    def _term(self) -> Holds:
        if self._tokens[0] in ("true", "false"):
            constant = self._tokens.pop(0) == "true"
            return lambda _row: constant
        if self._tokens[0] == "not":
            self._tokens.pop(0)
            denied = self.expression()
            return lambda row: not denied(row)
        if self._tokens[0] == "(":
            self._tokens.pop(0)
            inner = self.expression()
            self.expect(")")
            return inner
        left = self._operand()
        self.expect("=")
        right = self._operand()
        return lambda row: left(row) == right(row)

    def _operand(self) -> Reads:
        token = self._tokens.pop(0)
        if token == "field" and self._tokens[0].startswith('"'):
            return _field(self._tokens.pop(0)[1:])
        if token.startswith('"'):
            return lambda _row: token[1:]
        raise _not_understood(self._text)


def _field(name: str) -> Reads:
    def read(row: Record) -> str:
        known = name.replace("__", "_")  # the database's own name for name_label is name__label
        if known not in row:
            raise ApiFailure("INTERNAL_ERROR", "Db_filter: no field %s" % name)
        return as_text(row[known])
    return read


def _both(left: Holds, right: Holds) -> Holds:
    return lambda row: left(row) and right(row)


def _either(left: Holds, right: Holds) -> Holds:
    return lambda row: left(row) or right(row)
