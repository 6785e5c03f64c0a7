"""What a method is: a function with named, typed parameters behind a name of XAPI."""

from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from ovsxen.sandbox.xapi.wire import ApiFailure


class Call(NamedTuple):
    """One call under way: its method's name, and the session that it came with ("" where it needs none)."""

    name: str
    session: str


class Method(NamedTuple):
    """`run(toolstack, call, *parameters)` gives the Value. `takes` has the parameters behind the session."""

    run: Callable[..., Any]
    takes: Tuple[Tuple[str, str], ...] = ()
    optional: int = 0
    needs_session: bool = True
    local: bool = False
    """A slave answers it itself, in emergency mode too."""


Methods = Dict[str, Method]


def takes(text: str) -> Tuple[Tuple[str, str], ...]:
    """Parameters as "name:kind name", a string where no kind is given."""
    pairs = (word.partition(":") for word in text.split())
    return tuple((name, kind or "string") for name, _, kind in pairs)


def converted(method: Method, name: str, values: Sequence[Any]) -> List[Any]:
    """The values as the parameters' kinds. Raises ApiFailure where there are too many, too few, or of another kind."""
    most = len(method.takes)
    if not most - method.optional <= len(values) <= most:
        raise ApiFailure("MESSAGE_PARAMETER_COUNT_MISMATCH", name, str(most), str(len(values)))
    return [_as_kind(kind, value, parameter) for (parameter, kind), value in zip(method.takes, values)]


def _as_kind(kind: str, value: Any, parameter: str) -> Any:
    """Text stands for a number or a truth too: XAPI's own numbers are text on the wire."""
    try:
        if kind == "int" and not isinstance(value, (bool, float)):
            return int(value)
        if kind == "float" and not isinstance(value, bool):
            return float(value)
        if kind == "bool" and isinstance(value, bool):
            return value
        if kind in ("string", "ref") and isinstance(value, str):
            return value
        if kind == "set" and isinstance(value, list):
            return value
        if kind == "map" and isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            return value
    except (TypeError, ValueError):
        pass
    raise ApiFailure("FIELD_TYPE_ERROR", parameter)
