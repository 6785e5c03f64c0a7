"""The processes of ovs-vsctl that the historic plugin runs one after the other, where its queries work.

Only those: not the plugin's own start, nor its questions to XAPI, nor the other plugin that it has close a port. So the
sequence is timed as faster than that plugin is. Source: openvswitch-config-update of XAPI, with its query helper mended
so that it sees more of an answer than the first character.
"""

from typing import Iterator, Tuple

from ovsxen.host.paths import Paths

Argv = Tuple[str, ...]

QUERY: Argv = ("ovs-vsctl", "-vconsole:off")
RESET: Argv = ("ovs-vsctl", "--timeout=5")
MODIFY: Argv = ("ovs-vsctl", "--timeout=5", "-vconsole:off", "--")


def unchanged(bridges: Tuple[str, ...]) -> Iterator[Argv]:
    """Nothing differs: all is asked, each thing by a process of its own."""
    yield QUERY + ("get-manager",)
    yield QUERY + ("list-br",)
    for bridge in bridges:
        yield from _questions(bridge)


def first(paths: Paths, target: str, bridges: Tuple[str, ...]) -> Iterator[Argv]:
    """Another controller: a reset, TLS and the manager; then each bridge's fail mode, which the reset has cleared.

    The pool is not secure, so that no flows are added.
    """
    pem = str(paths.xapi_ssl_pem)
    yield QUERY + ("get-manager",)
    yield RESET + ("emer-reset",)
    yield MODIFY + ("del-manager", "--", "del-ssl", "--", "--bootstrap", "set-ssl", pem, pem, str(paths.historic_ca),
                    "--", "set-manager", target)
    yield QUERY + ("list-br",)
    for bridge in bridges:
        yield from _questions(bridge)
        yield MODIFY + ("set", "Bridge", bridge, "fail_mode=standalone")


def _questions(bridge: str) -> Iterator[Argv]:
    yield QUERY + ("br-to-parent", bridge)
    yield QUERY + ("--", "--if-exists", "get", "Bridge", bridge, "other_config:disable-in-band")
    yield QUERY + ("get", "Bridge", bridge, "fail_mode")
