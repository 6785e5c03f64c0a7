"""What the administrator may choose: /etc/sysconfig/openvswitch and, in it, the options of ovs-ctl (OVS_CTL_OPTS).

Both are tables below. A name that no table knows is a problem, named in a warning and in `status`: a misspelt setting
must not be silently without effect (openvswitch 9a2e19532).
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ovsxen.errors import AdministratorError
from ovsxen.host.assignments import Assignments, parse_assignments, read_text
from ovsxen.host.paths import Paths

YES = ("yes", "y", "true", "1", "on")
NO = ("no", "n", "false", "0", "off")


class Settings(NamedTuple):
    """Every choice, with ovs-ctl's default (utilities/ovs-ctl.in, 2.17)."""

    force_corefiles: bool = True
    ovsdb_server_priority: int = -10
    vswitchd_priority: int = -10
    mlockall: bool = True
    self_confinement: bool = True
    ovs_user: str = ""
    extra_dbs: Tuple[str, ...] = ()
    ovsdb_server_options: Tuple[str, ...] = ()
    vswitchd_options: Tuple[str, ...] = ()
    system_id: str = ""
    system_type: str = ""
    system_version: str = ""
    external_ids: Tuple[Tuple[str, str], ...] = ()
    record_hostname: bool = True
    full_hostname: bool = True
    delete_bridges: bool = False
    start_timeout_s: float = 20.0
    answer_timeout_s: float = 3.0
    hang_timeout_s: float = 15.0
    busy_timeout_s: float = 90.0
    flow_restore_timeout_s: float = 60.0
    round_trip_s: float = 300.0
    restart_limit: int = 5
    restart_window_s: float = 600.0
    rest_s: float = 60.0
    emer_reset: str = "on-change"
    dbcache: str = "auto"
    firewall: str = "auto"
    vswitch_controller_port: int = 6640
    neutron_port_uuid: str = "no"
    problems: Tuple[str, ...] = ()

    def writes_dbcache(self, *, networkd_db_exists: bool) -> bool:
        """Whether ovsxen itself writes network.dbcache. With "exec" interface-reconfigure does."""
        return self.dbcache == "always" or self.dbcache == "auto" and not networkd_db_exists


class Invalid(Exception):
    """A value that cannot be read; the text says what was expected."""


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in YES:
        return True
    if word in NO:
        return False
    raise Invalid("expected yes or no")


def _number(kind: Callable[[str], Any], lowest: float, highest: float, what: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not lowest <= value <= highest:
            raise Invalid("expected %s from %g to %g" % (what, lowest, highest))
        return value
    return parse


_priority = _number(int, -20, 19, "a nice value")
_seconds = _number(float, 0.1, 3600, "seconds")
_count = _number(int, 1, 1000, "a number")
_port = _number(int, 1, 65535, "a port")


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise Invalid("expected one of %s" % ", ".join(words))
        return text
    return parse


def _words(text: str) -> Tuple[str, ...]:
    if not set("\"'\\#") & set(text):
        return tuple(text.split())
    import shlex  # few hosts pay for it

    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise Invalid("expected words with balanced quotes") from error


def _external_id(text: str) -> Tuple[Tuple[str, str], ...]:
    key, equals, value = text.partition("=")
    if not key or not equals or not value:
        raise Invalid("expected KEY=VALUE")
    return ((key, value),)


def _system_id(text: str) -> str:
    if text == "random":
        raise Invalid("the host's INSTALLATION_UUID is its identity, a random one would change what controllers know")
    return text


class Choice(NamedTuple):
    """Which field of Settings a name sets, and how its text is read."""

    field: str
    parse: Callable[[str], Any]


SYSCONFIG: Dict[str, Choice] = {
    "FORCE_COREFILES": Choice("force_corefiles", _boolean),
    "OVSDB_SERVER_PRIORITY": Choice("ovsdb_server_priority", _priority),
    "VSWITCHD_PRIORITY": Choice("vswitchd_priority", _priority),
    "VSWITCHD_MLOCKALL": Choice("mlockall", _boolean),
    "OVSXEN_START_TIMEOUT": Choice("start_timeout_s", _seconds),
    "OVSXEN_ANSWER_TIMEOUT": Choice("answer_timeout_s", _seconds),
    "OVSXEN_HANG_TIMEOUT": Choice("hang_timeout_s", _seconds),
    "OVSXEN_BUSY_TIMEOUT": Choice("busy_timeout_s", _seconds),
    "OVSXEN_FLOW_RESTORE_TIMEOUT": Choice("flow_restore_timeout_s", _seconds),
    "OVSXEN_ROUND_TRIP": Choice("round_trip_s", _seconds),
    "OVSXEN_RESTART_LIMIT": Choice("restart_limit", _count),
    "OVSXEN_RESTART_WINDOW": Choice("restart_window_s", _seconds),
    "OVSXEN_REST": Choice("rest_s", _seconds),
    "EMER_RESET": Choice("emer_reset", _one_of("on-change", "never")),
    "DBCACHE": Choice("dbcache", _one_of("auto", "always", "never", "exec")),
    "FIREWALL": Choice("firewall", _one_of("auto", "firewall-port", "firewalld", "none")),
    "VSWITCH_CONTROLLER_PORT": Choice("vswitch_controller_port", _port),
    "NEUTRON_PORT_UUID": Choice("neutron_port_uuid", _one_of("no", "publish", "iface-id")),
}

OVS_CTL_OPTIONS: Dict[str, Choice] = {
    "force-corefiles": Choice("force_corefiles", _boolean),
    "ovsdb-server-priority": Choice("ovsdb_server_priority", _priority),
    "ovs-vswitchd-priority": Choice("vswitchd_priority", _priority),
    "mlockall": Choice("mlockall", _boolean),
    "self-confinement": Choice("self_confinement", _boolean),
    "ovs-user": Choice("ovs_user", str),
    "extra-dbs": Choice("extra_dbs", _words),
    "ovsdb-server-options": Choice("ovsdb_server_options", _words),
    "ovs-vswitchd-options": Choice("vswitchd_options", _words),
    "system-id": Choice("system_id", _system_id),
    "system-type": Choice("system_type", str),
    "system-version": Choice("system_version", str),
    "external-id": Choice("external_ids", _external_id),
    "record-hostname": Choice("record_hostname", _boolean),
    "full-hostname": Choice("full_hostname", _boolean),
    "delete-bridges": Choice("delete_bridges", _boolean),
}
"""The options of ovs-ctl that matter on a XenServer host. The wrappers (valgrind, strace) are left out."""

BOOLEAN_OPTIONS = tuple(name for name, choice in OVS_CTL_OPTIONS.items() if choice.parse is _boolean)


def read_settings(paths: Paths) -> Settings:
    """The settings of this host: the defaults without a file, and, with a problem, where it cannot be read.

    A host must be stopped, looked at, and even booted without it.
    """
    try:
        text = read_text(paths.sysconfig)
    except FileNotFoundError:
        return Settings()
    except AdministratorError as error:
        return Settings(problems=("the defaults are used, because of this: %s" % error,))
    return parse_settings(parse_assignments(text, str(paths.sysconfig)), str(paths.sysconfig))


def parse_settings(read: Assignments, source: str) -> Settings:
    """Turn assignments into settings: the file's own first, then OVS_CTL_OPTS over them, as the init script did."""
    chosen: Dict[str, Any] = {}
    problems = list(read.problems)
    for name, text in read.values.items():
        if name in SYSCONFIG and text:
            _choose(chosen, problems, SYSCONFIG[name], text, "%s in %s" % (name, source))
        elif name not in SYSCONFIG and name != "OVS_CTL_OPTS":
            problems.append("%s in %s is not a setting and has no effect" % (name, source))
    _choose_ovs_ctl_options(chosen, problems, read.values.get("OVS_CTL_OPTS", ""), source)
    return Settings(**chosen)._replace(problems=tuple(problems))


def _choose_ovs_ctl_options(chosen: Dict[str, Any], problems: List[str], text: str, source: str) -> None:
    try:
        words = _words(text) if text else ()
    except Invalid as error:
        problems.append("OVS_CTL_OPTS in %s has no effect: %s" % (source, error))
        return
    for word in words:
        where = "%s of OVS_CTL_OPTS in %s" % (word, source)
        name, value = split_option(word)
        if name == "monitor":
            if value != "no":
                problems.append("%s has no effect: the daemons run without a monitor of their own" % where)
        elif name not in OVS_CTL_OPTIONS:
            problems.append("%s is not an option that ovsxen knows and has no effect" % where)
        elif value is None:
            problems.append("%s has no effect: it needs a value" % where)
        else:
            _choose(chosen, problems, OVS_CTL_OPTIONS[name], value, where)


def split_option(word: str) -> Tuple[str, Optional[str]]:
    """`--name=value`, `--name` (yes) and `--no-name` (no) as name and value; the value is None where one is missing."""
    name, equals, value = word.partition("=")
    name = name[2:] if name.startswith("--") else ""
    if equals:
        return name, value
    if name.startswith("no-") and name[3:] in BOOLEAN_OPTIONS + ("monitor",):
        return name[3:], "no"
    return name, "yes" if name in BOOLEAN_OPTIONS + ("monitor",) else None


def _choose(chosen: Dict[str, Any], problems: List[str], choice: Choice, text: str, where: str) -> None:
    try:
        value = choice.parse(text)
    except Invalid as error:
        problems.append("%s has no effect: %s" % (where, error))
        return
    if choice.parse is _external_id:
        value = chosen.get(choice.field, ()) + value
    chosen[choice.field] = value
