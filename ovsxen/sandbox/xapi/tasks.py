"""Async.CLASS.METHOD: the same call in a thread of its own, and a task that tells how it went."""

import threading
from typing import Any, Callable, Dict

from ovsxen.sandbox.xapi import wire
from ovsxen.sandbox.xapi.method import Call, Method, Methods, takes
from ovsxen.sandbox.xapi.toolstack import Toolstack
from ovsxen.sandbox.xapi.wire import ApiFailure

PREFIX = "Async."


def start(xapi: Toolstack, name: str, run: Callable[[], Any]) -> str:
    """Run a call in the background; gives its task's ref."""
    task = xapi.database.add("task", name_label=PREFIX + name, resident_on=xapi.host)
    threading.Thread(target=_run, args=(xapi, task, run), name=PREFIX + name, daemon=True).start()
    return task


def _run(xapi: Toolstack, task: str, run: Callable[[], Any]) -> None:
    try:
        value = run()
        result = "" if value is None else wire.serialise(value)
        outcome: Dict[str, Any] = {"status": "success", "result": result}
    except ApiFailure as failure:
        outcome = {"status": "failure", "error_info": wire.error_description(failure)}
    with xapi.database.changed:
        if xapi.database.has("task", task):
            xapi.database.set("task", task, progress=1.0, **outcome)


def _destroy(xapi: Toolstack, _call: Call, task: str) -> None:
    xapi.database.remove("task", task)


METHODS: Methods = {"task.destroy": Method(_destroy, takes("self:ref"))}
