"""A very small xe for the sandbox: `python -m ovsxen.sandbox.xapi.xe SOCKET COMMAND [key=value…]`.

The commands are xe's own as far as xe has them; toolstack-restart and the faults are the sandbox's. One line of an
error, and exit code 1.
"""

import http.client
import socket
import sys
import threading
import xmlrpc.client
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from ovsxen.sandbox.xapi.hosts import UPDATE_PLUGIN

WITHIN_S = 120.0
ORIGINATOR = "sandbox-xe"
OTHER_CONFIG = "other-config:"
Words = Dict[str, str]


class XeError(Exception):
    """One line for the user."""


class Client:
    """A session with the XAPI at a socket. Everything it does has to be over within `WITHIN_S`."""

    def __init__(self, path: str) -> None:
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._watchdog = threading.Timer(WITHIN_S, self._give_up)
        self._watchdog.daemon = True
        self._session = ""
        try:
            self._connection.sock.connect(path)
        except OSError as error:
            self._connection.close()
            raise XeError("no XAPI answers at %s (%s): is the sandbox up?" % (path, error.strerror)) from error

    def __enter__(self) -> "Client":
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._session:
                self.plain("session.logout", self._session)
        except XeError:
            pass  # the answer is known, and the session ends with the sandbox at the latest
        finally:
            self._watchdog.cancel()
            self._connection.close()

    @property
    def session(self) -> str:
        """Its session, opened when it is first needed. Raises XeError."""
        if not self._session:
            self._session = self.plain("session.login_with_password", "root", "", "1.0", ORIGINATOR)
        return self._session

    def call(self, method: str, *params: Any) -> Any:
        """A call with the session. Raises XeError."""
        return self.plain(method, self.session, *params)

    def plain(self, method: str, *params: Any) -> Any:
        """A call without a session. Raises XeError."""
        try:
            self._connection.request("POST", "/", xmlrpc.client.dumps(params, method), {"Content-Type": "text/xml"})
            answer: Any = xmlrpc.client.loads(self._connection.getresponse().read())[0][0]
            if answer["Status"] == "Success":
                return answer["Value"]
            raise XeError("%s failed: %s" % (method, " ".join(answer["ErrorDescription"])))
        except XeError:
            raise
        except Exception as error:  # a XAPI that is told to fail fails in every way there is
            raise XeError("%s got no sound answer (%s: %s)" % (method, type(error).__name__, error)) from error

    def _give_up(self) -> None:
        if self._connection.sock is not None:
            self._connection.sock.shutdown(socket.SHUT_RDWR)


class Command(NamedTuple):
    """A command: what it takes, and what it does; `run` gives what there is to say."""

    takes: str
    run: Callable[[Client, Words], str]


def _call_plugin(client: Client, words: Words) -> str:
    host = client.call("host.get_by_uuid", words["host-uuid"]) if words.get("host-uuid") else _this_host(client)
    return str(client.call("host.call_plugin", host, _needed(words, "plugin"), _needed(words, "fn"),
                           _with_prefix(words, "args:")))


def _this_host(client: Client) -> str:
    """The host whose XAPI this is: a session knows it."""
    return str(client.call("session.get_this_host", client.session))


def _introduce(client: Client, words: Words) -> str:
    ref = client.call("SDN_controller.introduce", words.get("protocol", "ssl"), words.get("address", ""),
                      words.get("port", "0"))
    return str(client.call("SDN_controller.get_uuid", ref))


def _forget(client: Client, words: Words) -> str:
    client.call("SDN_controller.forget", client.call("SDN_controller.get_by_uuid", _needed(words, "uuid")))
    return ""


def _list_controllers(client: Client, _words: Words) -> str:
    return _listed(client, "SDN_controller", "uuid", "protocol", "address", "port")


def _list_networks(client: Client, _words: Words) -> str:
    return _listed(client, "network", "uuid", "bridge", "name_label", "other_config")


def _listed(client: Client, class_name: str, *fields: str) -> str:
    records = client.call(class_name + ".get_all_records").values()
    return "\n".join(" ".join("%s=%s" % (field, record[field]) for field in fields) for record in records)


def _set_vswitch_controller(client: Client, words: Words) -> str:
    client.call("pool.set_vswitch_controller", words.get("address", ""))
    return ""


def _set_pool(client: Client, words: Words) -> str:
    return _set_other_config(client, "pool", client.call("pool.get_all")[0], words)


def _set_network(client: Client, words: Words) -> str:
    return _set_other_config(client, "network", _network(client, words), words)


def _remove_pool(client: Client, words: Words) -> str:
    return _remove_other_config(client, "pool", client.call("pool.get_all")[0], words)


def _remove_network(client: Client, words: Words) -> str:
    return _remove_other_config(client, "network", _network(client, words), words)


def _network(client: Client, words: Words) -> str:
    if words.get("uuid"):
        return str(client.call("network.get_by_uuid", words["uuid"]))
    bridge = _needed(words, "bridge")
    for ref, record in client.call("network.get_all_records").items():
        if record["bridge"] == bridge:
            return str(ref)
    raise XeError("no network has the bridge %s" % bridge)


def _set_other_config(client: Client, class_name: str, ref: str, words: Words) -> str:
    """Keys that are not named stay, as with xe."""
    given = _with_prefix(words, OTHER_CONFIG)
    if not given:
        raise XeError("nothing to set: give %sKEY=VALUE" % OTHER_CONFIG)
    there = client.call(class_name + ".get_other_config", ref)
    client.call(class_name + ".set_other_config", ref, dict(there, **given))
    return ""


def _remove_other_config(client: Client, class_name: str, ref: str, words: Words) -> str:
    client.call(class_name + ".remove_from_other_config", ref, _needed(words, "param-key"))
    return ""


def _restart_toolstack(client: Client, _words: Words) -> str:
    client.plain("sandbox.start_toolstack")
    return "%s: %s" % (UPDATE_PLUGIN, client.plain("sandbox.plugin_runs")[-1][2])


def _set_fault(client: Client, words: Words) -> str:
    name = words.pop("", "")
    if not name:
        raise XeError("which fault? fault-list lists them")
    client.plain("sandbox.set_fault", name, words)
    return ""


def _clear_faults(client: Client, words: Words) -> str:
    client.plain("sandbox.clear_faults", words.get("", ""))
    return ""


def _list_faults(client: Client, _words: Words) -> str:
    return "\n".join("%-24s %s" % item for item in client.plain("sandbox.list_faults").items())


COMMANDS: Dict[str, Command] = {
    "host-call-plugin": Command("[host-uuid=] plugin= fn= [args:KEY=VALUE]", _call_plugin),
    "sdn-controller-introduce": Command("[protocol=ssl|pssl] [address=] [port=]", _introduce),
    "sdn-controller-forget": Command("uuid=", _forget),
    "sdn-controller-list": Command("", _list_controllers),
    "pool-set-vswitch-controller": Command("address=", _set_vswitch_controller),
    "pool-param-set": Command("other-config:KEY=VALUE", _set_pool),
    "pool-param-remove": Command("param-key=", _remove_pool),
    "network-list": Command("", _list_networks),
    "network-param-set": Command("uuid=|bridge= other-config:KEY=VALUE", _set_network),
    "network-param-remove": Command("uuid=|bridge= param-key=", _remove_network),
    "toolstack-restart": Command("", _restart_toolstack),
    "fault": Command("NAME [times=] [method=] [after=] [KEY=VALUE]", _set_fault),
    "fault-clear": Command("[NAME]", _clear_faults),
    "fault-list": Command("", _list_faults),
}


def main(arguments: List[str]) -> int:
    """Run one command; gives the exit code."""
    try:
        said = _run(arguments)
    except XeError as error:
        sys.stderr.write("xe: %s\n" % " ".join(str(error).split()))
        return 1
    if said:
        sys.stdout.write(said + "\n")
    return 0


def _run(arguments: List[str]) -> str:
    if len(arguments) < 2 or arguments[1] not in COMMANDS:
        raise XeError("give a socket and one of: " + ", ".join(
            ("%s %s" % (name, command.takes)).strip() for name, command in COMMANDS.items()))
    with Client(arguments[0]) as client:
        return COMMANDS[arguments[1]].run(client, dict(_word(text) for text in arguments[2:]))


def _word(text: str) -> Tuple[str, str]:
    """key=value; a word alone is the value of no key."""
    key, equals, value = text.partition("=")
    return (key, value) if equals else ("", text)


def _needed(words: Words, key: str) -> str:
    if key not in words:
        raise XeError("%s= is missing" % key)
    return words[key]


def _with_prefix(words: Words, prefix: str) -> Words:
    return {key[len(prefix):]: value for key, value in words.items() if key.startswith(prefix)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
