"""The plugin protocol, side by side with XAPI's own XenAPIPlugin, as processes that run as XAPI runs them."""

import os
import subprocess
import sys
import tempfile
import xmlrpc.client
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple
from xml.parsers.expat import ExpatError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.xapi import protocol
from ovsxen.xapi.protocol import BadCall, Call, parse_call
from tests.xapi.wire import element

ORACLE = Path(sys.prefix) / "share/XenAPIPlugin.py"
XAPI_PATH = "/sbin:/usr/sbin:/bin:/usr/bin"

FUNCTIONS = '''
import os, sys

class Odd(Exception):
    def __str__(self):
        raise ValueError

def run_python(arguments):
    scope = {"Odd": Odd, "FAIL": FAIL, "os": os, "sys": sys}
    exec(arguments["code"], scope)
    return scope.get("result", "")

TABLE = {
    "echo": lambda arguments: arguments["text"],
    "fail": lambda arguments: fail(arguments),
    "python": run_python,
}

def fail(arguments):
    raise FAIL(arguments["code"], [arguments[key] for key in sorted(arguments) if key != "code"])
'''
OURS = '''
from ovsxen.xapi import protocol
FAIL = protocol.PluginFailure
%s
def without_call(function):
    return lambda call: function(call.arguments)

sys.exit(protocol.run(sys.argv, {name: without_call(function) for name, function in TABLE.items()}))
''' % FUNCTIONS
THEIRS = '''
import sys
sys.path.insert(0, %r)
import XenAPIPlugin
FAIL = XenAPIPlugin.Failure
%s
def without_session(function):
    return lambda session, arguments: function(arguments)

XenAPIPlugin.dispatch({name: without_session(function) for name, function in TABLE.items()})
''' % (str(ORACLE.parent), FUNCTIONS)


CARRIED = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"))


class Said(NamedTuple):
    """How a plugin ended, and what an XML-RPC reader makes of its stdout (None where that is empty)."""

    exit_code: int
    answer: Any
    stdout: bytes
    stderr: bytes

    @property
    def compared(self) -> Tuple[int, Any]:
        return self.exit_code, self.answer


def run_as_xapi(program: str, arguments: Sequence[str]) -> Said:
    """Run a plugin with XAPI's environment, directory and files (ocaml/libs/forkexec, XAPI 26)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull, "wb") as nothing:
        done = subprocess.run([sys.executable, "-c", program] + list(arguments), stdin=nothing, stdout=out, stderr=err,
                              env={"PATH": XAPI_PATH}, cwd="/", start_new_session=True, timeout=60)
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read(), err.read()
    return Said(done.returncode, read_answer(stdout), stdout, stderr)


def read_answer(stdout: bytes) -> Any:
    try:
        return xmlrpc.client.loads(stdout)[0][0] if stdout else None
    except (ExpatError, ValueError, xmlrpc.client.Error):
        return "what XAPI cannot parse"


def call(function: str, **arguments: str) -> str:
    """A call in the words of XAPI."""
    return "<methodCall><methodName>%s</methodName><params><param>%s</param><param>%s</param></params></methodCall>" % (
        function, element("OpaqueRef:s"), element(arguments))


def python(code: str) -> List[str]:
    """Have the plugin run some Python; what that calls `result` is what the function gives."""
    return [call("python", code=code)]


SAME: Dict[str, List[str]] = {
    "a text": [call("echo", text="No change to configuration")],
    "an empty text": [call("echo", text="")],
    "spaces": [call("echo", text="Updated fail_mode.  ")],
    "lines": [call("echo", text="one\ntwo\tthree\n")],
    "markup": [call("echo", text="<a> & \"b\" ]]> 'c' &amp;")],
    "a long text": python("result = 'x' * 3000000"),
    "a failure": [call("fail", code="VSWITCH_CONFIG_MOD_FAILURE", a="1", b="('--timeout=5',)")],
    "a failure without parameters": [call("fail", code="NO_POOL_FOR_HOST")],
    "a failure with odd parameters": [call("fail", code="X", a="", b=" ", c="<&>", d="one\ntwo")],
    "an exception": python("raise ValueError('broken <&>')"),
    "an exception without words": python("raise RuntimeError"),
    "an exception of several words": python("raise OSError(2, 'No such file or directory', '/nowhere')"),
    "a missing argument": [call("echo")],
    "an unknown function": [call("emergency")],
    "an empty function": [call("")],
    "stdin": python("result = os.read(0, 1)"),
    "no argument": [],
    "an empty argument": [""],
    "two arguments": [call("echo", text="x"), call("echo", text="x")],
    "no XML": ["update"],
    "half a call": [call("echo", text="x")[:-10]],
    "no parameters": ["<methodCall><methodName>echo</methodName><params/></methodCall>"],
    "one parameter": ["<methodCall><methodName>echo</methodName><params><param><value>s</value></param></params>"
                      "</methodCall>"],
    "a text that has a type": [call("echo", text="x").replace("<value>x</value>", "<value><string>x</string></value>")],
    "a text in CDATA": [call("echo", text="x").replace("<value>x<", "<value><![CDATA[<x>]]><")],
    "white space between the elements": [call("echo", text="x").replace("><", ">\n <").replace(">x\n <", ">x<")],
}
"""Where both say the same, to the letter."""

DIFFERENT = {
    # A reader makes LF of a CR that is not a reference (XML 1.0 §2.11).
    "a carriage return": (python("result = 'a' + chr(13) + 'b'"), {"Status": "Success", "Value": "a\rb"}),
    # XAPI cannot parse control bytes, and there the answer is lost.
    "control characters": (python("result = ''.join(map(chr, (0, 27, 8, 0xd800, 0xfffe)))"),
                           {"Status": "Success", "Value": "\\x00\\x1b\\x08\\ud800\\ufffe"}),
    # Python 3.6 has only ASCII where there is no LANG, and theirs fails there.
    "other scripts": (python("result = chr(0xe9) + chr(0x1f310)"), {"Status": "Success", "Value": "\xe9\U0001f310"}),
    # The same in other words.
    "an object": (python("result = object()"), ["XENAPI_PLUGIN_FAILURE", "python", "TypeError"]),
    "nothing": (python("result = None"), ["XENAPI_PLUGIN_FAILURE", "python", "TypeError"]),
    # Theirs answers with a boolean, and XAPI, which takes only a text, with INTERNAL_ERROR.
    "a flag": (python("result = True"), ["XENAPI_PLUGIN_FAILURE", "python", "TypeError"]),
    "a number": (python("result = 1"), ["XENAPI_PLUGIN_FAILURE", "python", "TypeError"]),
    "a list": (python("result = ['a']"), ["XENAPI_PLUGIN_FAILURE", "python", "TypeError"]),
    # Theirs ends without an answer.
    "an exit": (python("sys.exit(3)"), ["XENAPI_PLUGIN_FAILURE", "python", "SystemExit", "3"]),
    "an exit in peace": (python("sys.exit()"), ["XENAPI_PLUGIN_FAILURE", "python", "SystemExit", ""]),
    "an interrupt": (python("raise KeyboardInterrupt"), ["XENAPI_PLUGIN_FAILURE", "python", "KeyboardInterrupt", ""]),
    "an error that cannot be shown": (python("raise Odd"), ["XENAPI_PLUGIN_FAILURE", "python", "Odd"]),
    # With theirs, this comes before the answer, and XAPI cannot parse that.
    "noise of Python": (python("print('noise')"), {"Status": "Success", "Value": ""}),
    "noise at the exit": (python("import atexit; atexit.register(print, 'noise')"), {"Status": "Success", "Value": ""}),
    "noise of a child": (python("os.system('echo noise')"), {"Status": "Success", "Value": ""}),
    "noise on the file": (python("os.write(1, b'noise')"), {"Status": "Success", "Value": ""}),
}
"""Where ours is better on purpose, with what it says."""


@pytest.fixture(scope="module", autouse=True)
def oracle() -> None:
    assert ORACLE.exists(), "%s is missing: run `make clean test`, or tools/make-venv, which gets it from PyPI" % ORACLE


@pytest.mark.parametrize("name", sorted(SAME))
def test_an_answer_is_that_of_the_original(name: str) -> None:
    ours, theirs = run_as_xapi(OURS, SAME[name]), run_as_xapi(THEIRS, SAME[name])
    assert ours.compared == theirs.compared
    if ours.exit_code:
        assert ours.stderr and not ours.stdout


@pytest.mark.parametrize("name", sorted(DIFFERENT))
def test_an_answer_is_better_than_that_of_the_original(name: str) -> None:
    arguments, expected = DIFFERENT[name]
    said = run_as_xapi(OURS, arguments)
    assert said.exit_code == 0
    answer = said.answer if isinstance(expected, dict) else said.answer["ErrorDescription"][:len(expected)]
    assert answer == expected
    assert said.stderr.strip() == (b"noise" if "noise" in name and "exit" not in name else b"")
    if name != "other scripts" or sys.version_info < (3, 7):
        assert said.compared != run_as_xapi(THEIRS, arguments).compared


@pytest.mark.parametrize("name", sorted(SAME) + sorted(DIFFERENT))
def test_an_answer_is_one_document_of_ascii(name: str) -> None:
    stdout = run_as_xapi(OURS, SAME.get(name) or DIFFERENT.get(name, ([],))[0]).stdout
    assert all(byte in b"\t\n" or 32 <= byte < 127 for byte in stdout)
    assert stdout.count(b"<methodResponse>") <= 1


def run_with(redirection: str, code: str = "result = 'yes'") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["sh", "-c", 'exec "$@" ' + redirection, "sh", sys.executable, "-c", OURS] + python(code),
                          env={"PATH": XAPI_PATH}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60)


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_an_answer_that_cannot_be_written_is_a_failed_exit(redirection: str) -> None:
    done = run_with(redirection)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"-c: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&-"])
def test_an_answer_needs_neither_stderr_nor_stdin(redirection: str) -> None:
    done = run_with(redirection, "os.system('echo noise'); print('noise'); result = 'yes'")
    assert (done.returncode, read_answer(done.stdout)) == (0, {"Status": "Success", "Value": "yes"})


def test_the_import_costs_no_client() -> None:
    program = ("import sys, ovsxen.xapi.protocol\n"
               "print([name for name in ('xmlrpc.client', 'http.client', 'socket', 'XenAPI', 'XenAPIPlugin') "
               "if name in sys.modules])")
    assert subprocess.check_output([sys.executable, "-c", program], timeout=60) == b"[]\n"


def test_a_document_type_is_refused() -> None:
    bomb = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + call("echo", text="x").replace(">x<", ">&b;<")
    with pytest.raises(BadCall, match="document type"):
        parse_call(("plugin", bomb))


@pytest.mark.parametrize("document", [
    "<methodCall/>", "<methodResponse/>", "<a>" * 20000 + "</a>" * 20000, "\ud800", "\udcff\udcfe<a/>",
    call("echo", a="b").replace(">b<", "><int>1</int><"), call("echo", a="b").replace("<name>a</name>", ""),
    call("echo").replace("<struct/>", "x")], ids=range(8))
def test_what_is_not_a_call_is_named(document: str) -> None:
    with pytest.raises(BadCall, match="the call (is|has)"):
        parse_call(("plugin", document))


def test_a_call_in_the_words_of_xapi_is_read() -> None:
    assert parse_call(("/etc/xapi.d/plugins/x", call("update"))) == Call("update", "OpaqueRef:s", {})
    assert parse_call(("x", call("update", a="1", b=""))) == Call("update", "OpaqueRef:s", {"a": "1", "b": ""})


def test_arguments_are_read_as_python_gets_them_without_a_locale() -> None:
    as_without_locale = call("echo", text="br\u00fccke").encode("utf-8").decode("ascii", "surrogateescape")
    assert parse_call(("x", as_without_locale)).arguments == {"text": "br\u00fccke"}


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_text_gives_an_answer_that_xml_can_carry(text: str, params: List[str]) -> None:
    for document, shown in ((protocol.success(text), [text]), (protocol.failure(text, params), [text] + params)):
        answer = read_answer(document)
        found = [answer["Value"]] if "Value" in answer else answer["ErrorDescription"]
        assert [one.replace("\\", "") for one in found] == [visible(one) for one in shown]


def visible(text: str) -> str:
    """The text, with what XML 1.0 cannot carry as its number, and without any backslash."""
    return "".join(
        "x%02x" % ord(one) if one < " " and one not in "\t\r\n" else
        "u%04x" % ord(one) if "\ud800" <= one <= "\udfff" or one in "\ufffe\uffff" else
        "" if one == "\\" else one for one in text)


@given(st.dictionaries(CARRIED, CARRIED, max_size=4))
def test_any_arguments_are_read(arguments: Dict[str, str]) -> None:
    document = call("update").replace("<value><struct/></value>", element(arguments))
    assert parse_call(("x", document)).arguments == arguments


@given(st.text() | st.text("<>/&;![]\"' a") | st.text().map(lambda text: call("a", b="c").replace("c", text)))
def test_any_words_are_a_call_or_named(words: str) -> None:
    try:
        assert isinstance(parse_call(("x", words)), Call)
    except BadCall:
        pass
