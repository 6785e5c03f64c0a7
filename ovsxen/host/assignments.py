"""Files of shell assignments (`KEY='value'`), read as data: nothing in them is ever run or expanded."""

import re
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError, NotPermitted
from ovsxen.host import files

ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
PLAIN_VALUE = re.compile(r"""'([^'\\$`]*)'|"([^"\\$`]*)"|([^\s'"\\$`#;&|()<>]*)""")
BYTE_ORDER_MARK = "\ufeff"


class Assignments(NamedTuple):
    """What a file assigns, the last value of a key winning, and the lines that were left out, each with its reason."""

    values: Dict[str, str]
    problems: Tuple[str, ...]


def read_text(path: Path) -> str:
    """The text of a small file, its byte order mark kept. Raises FileNotFoundError, else one that says who must act."""
    try:
        return files.read_small(path).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise NotPermitted("cannot read %s" % path, "run ovsxen as root") from error
    except OSError as error:
        raise AdministratorError("cannot read %s (%s)" % (path, error.strerror),
                                 "look at the file and at the disk that it is on") from error


def parse_assignments(text: str, source: str) -> Assignments:
    """Read the assignments of `text`; `source` names the file in the problems."""
    values: Dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.lstrip(BYTE_ORDER_MARK).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = ASSIGNMENT.match(line)
        value = parse_value(found.group(2)) if found else None
        if found is None or value is None:
            problems.append("%s line %d is not a plain KEY=value and is ignored" % (source, number))
        elif not is_text(value):
            problems.append("%s line %d, %s, is ignored, because it holds a control character or is not UTF-8" % (
                source, number, found.group(1)))
        else:
            values[found.group(1)] = value
    return Assignments(values, tuple(problems))


def is_text(value: str) -> bool:
    """No control characters, and nothing that was not UTF-8: the database takes neither."""
    return not any(ord(character) < 32 or "\ud800" <= character <= "\udfff" for character in value)


def parse_value(text: str) -> Optional[str]:
    """One shell word, quotes removed; None when it is more than one, unbalanced, or would need a shell to expand."""
    plain = PLAIN_VALUE.fullmatch(text.strip())
    if plain:
        return next((group for group in plain.groups() if group is not None), "")
    import shlex  # only an unusual line pays for it

    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return None
    unquoted = re.sub(r"'[^']*'", "", text)
    return words[0] if len(words) == 1 and "$" not in unquoted and "`" not in unquoted else None
