"""What a plugin of XAPI is asked, and what it answers (ocaml/xapi/xapi_plugins.ml, XAPI 26).

XAPI runs the plugin with two words: its path, and a methodCall as one XML document. It takes all that is on stdout for
the answer, so one document goes there in one piece, and nothing else ever does: while a function runs, stdout is
stderr. stdin is never read: XAPI opens it for writing. There is no HOME, no LANG and no deadline; XAPI waits for the
exit.
"""

import fcntl
import os
import re
import sys
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple, cast
from xml.parsers import expat

from ovsxen.errors import OvsxenError

PLUGIN_FAILURE = "XENAPI_PLUGIN_FAILURE"
UNKNOWN_FUNCTION = "UNKNOWN_XENAPI_PLUGIN_FUNCTION"
EXIT_ANSWERED = 0
EXIT_UNANSWERED = 1
STDERR = 2

DOCUMENT = ("<?xml version='1.0'?><methodResponse><params><param><value><struct>"
            "<member><name>Status</name><value><string>%s</string></value></member>"
            "<member><name>%s</name><value>%s</value></member>"
            "</struct></value></param></params></methodResponse>\n")
NOT_PLAIN = re.compile("[^\t\n\x20-%'-;=?-~]")
"""What is not written as it is: markup, CR (a reader would make it LF), controls, and all that is not ASCII."""


class BadCall(OvsxenError):
    """The command line is not one that XAPI makes, so there is nobody to answer."""


class PluginFailure(OvsxenError):
    """Raised by a function: the code and the parameters that XAPI raises in its turn, verbatim."""

    def __init__(self, code: str, params: Sequence[str] = ()) -> None:
        super().__init__(code, ", ".join(params))
        self.code = code
        self.params = tuple(params)


class Call(NamedTuple):
    """What XAPI asks for. The session lives only until the answer: never keep it or log it."""

    function: str
    session: str
    arguments: Mapping[str, str]


Functions = Mapping[str, Callable[[Call], str]]


class _Element(NamedTuple):
    """An element while and after it is read."""

    tag: str
    children: List[Any]
    texts: List[str]


def run(argv: Sequence[str], functions: Functions, stdout_fd: int = 1) -> int:
    """Answer the call in `argv` by the function of that name. Returns the exit code of the process.

    0: answered, be it with a Failure. 1: not answered, because of an unusable command line or stdout; stderr says why.
    `stdout_fd` is gone then: nothing must follow the answer, at the exit neither.
    """
    try:
        answer_fd = _take_stdout(stdout_fd)
        try:
            document = answer(parse_call(argv), functions)
            _end_stdout(stdout_fd)
            _write(answer_fd, document)
        finally:
            os.close(answer_fd)
    except (BadCall, OSError) as error:
        _complain("%s: %s" % (os.path.basename(argv[0]) if argv else "plugin", error))
        return EXIT_UNANSWERED
    return EXIT_ANSWERED


def answer(call: Call, functions: Functions) -> bytes:
    """The document that answers a call; there is always one, whatever the function raises."""
    function = functions.get(call.function)
    if function is None:
        return failure(UNKNOWN_FUNCTION, (call.function,))
    try:
        text = function(call)
        if not isinstance(text, str):
            raise TypeError("the function gave %s, and XAPI takes only a text" % type(text).__name__)
        return success(text)
    except PluginFailure as error:
        return failure(error.code, error.params)
    except BaseException as error:  # also SystemExit and KeyboardInterrupt: without an answer nobody learns why
        return failure(PLUGIN_FAILURE, (call.function, type(error).__name__, _words_of(error)))


def success(text: str) -> bytes:
    """The whole document that says: done, and `text`."""
    return (DOCUMENT % ("Success", "Value", _string(text))).encode("ascii")


def failure(code: str, params: Sequence[str] = ()) -> bytes:
    """The whole document that says: not done; XAPI raises `code` with `params`."""
    values = "".join("<value>%s</value>" % _string(text) for text in (code,) + tuple(params))
    return (DOCUMENT % ("Failure", "ErrorDescription", "<array><data>%s</data></array>" % values)).encode("ascii")


def parse_call(argv: Sequence[str]) -> Call:
    """Read the two words that XAPI runs a plugin with. Raises BadCall."""
    if len(argv) != 2:
        raise BadCall("%d arguments instead of one" % max(0, len(argv) - 1),
                      "XAPI runs this plugin; use `xe host-call-plugin`")
    root = _parse(argv[1])
    name, values = _only(root, "methodCall", "methodName"), _values(root)
    if len(values) < 2:
        raise BadCall("%d parameters instead of a session and arguments" % len(values))
    return Call("".join(name.texts), _text(values[0]), _arguments(values[1]))


def _take_stdout(stdout_fd: int) -> int:
    """Keep stdout for the answer alone, and make it stderr, or nothing, for everything and everyone else."""
    # Above stderr: where that is closed, dup() would take its place.
    answer_fd = fcntl.fcntl(stdout_fd, fcntl.F_DUPFD_CLOEXEC, STDERR + 1)
    try:
        os.dup2(STDERR, stdout_fd)
    except OSError:
        _make_nothing(stdout_fd)
    return answer_fd


def _end_stdout(stdout_fd: int) -> None:
    """Let go what Python has still to write. One write that fails at the exit would make the exit code 120."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        pass  # it is noise, and there may be no stdout at all
    _make_nothing(stdout_fd)


def _make_nothing(fd: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    if nothing != fd:
        os.dup2(nothing, fd)
        os.close(nothing)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest):]


def _complain(text: str) -> None:
    try:
        _write(STDERR, (_safe(text) + "\n").encode("ascii", "backslashreplace"))
    except OSError:
        pass  # nobody is there to read it


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "an error that cannot be shown"


def _string(text: Any) -> str:
    return "<string>%s</string>" % NOT_PLAIN.sub(_reference, str(text))


def _reference(match: Any) -> str:
    shown = _visible(match.group())
    return shown if shown.startswith("\\") else "&#%d;" % ord(shown)


def _safe(text: str) -> str:
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    """A character, or how Python writes it where XML 1.0 cannot carry it (§2.2, Char)."""
    code = ord(character)
    if code < 0x20 and character not in "\t\n\r":
        return "\\x%02x" % code
    return "\\u%04x" % code if 0xd800 <= code <= 0xdfff or code in (0xfffe, 0xffff) else character


def _parse(document: str) -> _Element:
    """The document as elements. Raises BadCall, also for a DTD: no caller has one, and entities can grow."""
    top = _Element("", [], [])
    path = [top]

    def start(tag: str, _attributes: Dict[str, str]) -> None:
        element = _Element(tag, [], [])
        path[-1].children.append(element)
        path.append(element)

    def refuse(*_: object) -> None:
        raise BadCall("the call has a document type")

    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _tag: path.pop()
    parser.CharacterDataHandler = lambda text: path[-1].texts.append(text)
    parser.StartDoctypeDeclHandler = refuse
    try:
        # The bytes that XAPI gave, whatever Python took them for: there is no LANG.
        parser.Parse(document.encode("utf-8", "surrogateescape"), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise BadCall("the call is not XML (%s)" % error) from error
    return cast(_Element, top.children[0])


def _only(element: _Element, tag: str, child: str) -> _Element:
    """The one child of that tag of an element that must have this tag."""
    found: List[_Element] = [one for one in element.children if one.tag == child]
    if element.tag != tag or len(found) != 1:
        raise BadCall("the call is not a methodCall (one %s in a %s expected)" % (child, tag))
    return found[0]


def _values(root: _Element) -> Tuple[_Element, ...]:
    """The values of the parameters."""
    return tuple(_only(param, "param", "value") for param in _only(root, "methodCall", "params").children)


def _arguments(value: _Element) -> Dict[str, str]:
    """A struct of texts; of two members of one name the last counts."""
    members = _only(value, "value", "struct").children
    return {_text(_only(member, "member", "name")): _text(_only(member, "member", "value")) for member in members}


def _text(element: _Element) -> str:
    """The text of a name or a value, bare or in a <string>."""
    if not element.children:
        return "".join(element.texts)
    if len(element.children) == 1 and element.children[0].tag == "string" and not element.children[0].children:
        return "".join(element.children[0].texts)
    raise BadCall("the call has a %s where a text is expected" % element.children[0].tag)
