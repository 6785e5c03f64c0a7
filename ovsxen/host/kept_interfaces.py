"""The file of what interfaces had, which outlives a run that is killed: whoever starts the switch next puts it back.

Bytes of the kernel stand in it as hexadecimal digits.
"""

import json

from ovsxen.errors import AdministratorError
from ovsxen.host import files, interfaces
from ovsxen.host.interfaces import NOTHING, Interface, KeptInterfaces, PutBack, Route
from ovsxen.host.paths import Paths

SCHEMA = 1
LARGEST_BYTES = 64 << 20


def restore(paths: Paths) -> PutBack:
    """Put back what a run kept, also one that was killed; nothing where nothing is kept. May be repeated.

    What waits for an interface stays kept; what was refused does not, since it would be refused again, or would come as
    a surprise later. Raises AdministratorError, NoAnswer, OSError.
    """
    result = interfaces.put_back(read(paths))
    if result.left.interfaces:
        write(paths, result.left)
    else:
        files.remove_if_there(paths.kept_interfaces)
    return result


def write(paths: Paths, kept: KeptInterfaces) -> None:
    """Write it down, so that it outlives this run. Raises OSError."""
    content = {
        "schema": SCHEMA,
        "interfaces": [dict(one._asdict(), attributes=[(kind, value.hex()) for kind, value in one.attributes],
                            addresses=[body.hex() for body in one.addresses]) for one in kept.interfaces],
        "routes": [dict(route._asdict(), body=route.body.hex()) for route in kept.routes]}
    files.write_file(paths.kept_interfaces, [json.dumps(content).encode() + b"\n"], 0o600, durable=False)


def read(paths: Paths) -> KeptInterfaces:
    """What was written down; nothing where there is no file. Raises AdministratorError for one that makes no sense."""
    try:
        content = json.loads(files.read_small(paths.kept_interfaces, LARGEST_BYTES).decode())
        if content["schema"] != SCHEMA:
            raise ValueError("schema %s" % content["schema"])
        return KeptInterfaces(
            tuple(Interface(str(one["name"]), int(one["flags"]),
                            tuple((int(kind), bytes.fromhex(value)) for kind, value in one["attributes"]),
                            tuple((str(name), str(text)) for name, text in one["sysctls"]),
                            tuple(bytes.fromhex(body) for body in one["addresses"])) for one in content["interfaces"]),
            tuple(Route(bytes.fromhex(route["body"]),
                        tuple((int(index), str(name)) for index, name in route["through"]))
                  for route in content["routes"]))
    except FileNotFoundError:
        return NOTHING
    except (OSError,) + files.NONSENSE as error:
        raise AdministratorError("the addresses and routes kept in %s cannot be read (%s)" % (
            paths.kept_interfaces, error), "see to them by hand, and remove the file") from error
