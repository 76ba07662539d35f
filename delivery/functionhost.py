"""The program of a function's own process: loads `module:function` and answers calls until its standard input ends.

It is started by `delivery/worker.py` as a script, with the standard library alone, so that a function sees nothing of
the database and starts quickly. Lines of JSON in both directions: the setup and then calls on standard input; "ready",
then one answer a call, on the descriptor that the setup names. The function's own standard input is empty, its output
goes where the process's output goes. When the parent is gone the input ends, and the process with it, also in the
middle of a call.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from typing import Any

RESPONSE_BYTES_MAX = 6 * 1024 * 1024  # Lambda's quota for synchronous calls
THREAD_STACK_BYTES = 1024 * 1024  # of the thread that reads: it counts towards the address space
TRACE_LINES_MAX = 50
TEXT_MAX = 4096  # characters of an error's message


class Context:
    """What Lambda passes as `context`, as far as it means something here."""

    function_version = "$LATEST"
    identity = None
    client_context = None

    def __init__(self, setup: dict[str, Any], request_id: str, deadline: float) -> None:
        self.function_name = setup["name"]
        self.invoked_function_arn = setup["arn"]
        self.memory_limit_in_mb = str(setup["memory_mb"])
        self.log_group_name = f"/aws/lambda/{setup['name']}"
        self.log_stream_name = str(os.getpid())
        self.aws_request_id = request_id
        self._deadline = deadline

    def get_remaining_time_in_millis(self) -> int:
        return max(int((self._deadline - time.monotonic()) * 1000), 0)


def _described(error: BaseException, kind: str | None = None) -> dict[str, Any]:
    trace = [line.rstrip("\n") for line in traceback.format_tb(error.__traceback__)[-TRACE_LINES_MAX:]]
    return {"errorMessage": str(error)[:TEXT_MAX], "errorType": kind or type(error).__name__, "stackTrace": trace}


def _take_input() -> tuple[queue.SimpleQueue[bytes], int]:
    """Lines of the real standard input, and its descriptor; the function gets an empty one."""
    source = os.fdopen(os.dup(0), "rb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # bounded by the parent: one call at a time

    def read() -> None:
        for line in source:
            lines.put(line)
        if os.getpgrp() == os.getpid():  # what the function has started goes as well
            os.killpg(0, signal.SIGKILL)
        os._exit(0)

    threading.stack_size(THREAD_STACK_BYTES)
    threading.Thread(target=read, daemon=True).start()
    return lines, source.fileno()


def _close_all_but(kept: set[int]) -> None:
    """Whoever started this process may have left it descriptors of its own (uvloop closes none before it starts a
    program): they are not the function's to use, nor to keep open."""
    beginning = 3  # the standard ones stay
    for number in (*sorted(kept), os.sysconf("SC_OPEN_MAX")):
        if beginning < number:
            os.closerange(beginning, number)
        beginning = number + 1


def _limit_memory(limit: int) -> None:
    """Of the address space: what a process may map, its libraries included."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ValueError, OSError) as error:  # macOS has the limit and does not let it be set
        print(f"no memory limit: {error}", file=sys.stderr)


def _load(setup: dict[str, Any]) -> Any:
    sys.path.insert(0, setup["directory"])
    os.chdir(setup["directory"])
    module, _, name = setup["handler"].partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{setup['handler']} is not callable")
    return found


def _answer(function: Any, setup: dict[str, Any], call: dict[str, Any]) -> bytes:
    deadline = time.monotonic() + call["remaining_ms"] / 1000
    try:
        response = function(call["event"], Context(setup, call["id"], deadline))
    except MemoryError as error:
        # What is left of such a process is not to be relied on.
        return _line({"id": call["id"], "error": _described(error), "spoilt": True})
    except (Exception, SystemExit) as error:
        return _line({"id": call["id"], "error": _described(error), "spoilt": isinstance(error, SystemExit)})
    try:
        text = json.dumps(response, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return _line({"id": call["id"], "error": _described(error, "Runtime.MarshalError")})
    if len(text) > RESPONSE_BYTES_MAX:
        too_large = ValueError(f"the response has {len(text)} bytes, more than {RESPONSE_BYTES_MAX}")
        return _line({"id": call["id"], "error": _described(too_large, "Function.ResponseSizeTooLarge")})
    return _line({"id": call["id"]})[:-2] + b', "response": ' + text + b"}\n"


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def main() -> None:
    lines, source = _take_input()
    setup = json.loads(lines.get())
    _close_all_but({source, setup["answers"]})
    os.set_inheritable(setup["answers"], False)
    answers = os.fdopen(setup["answers"], "wb")

    def say(line: bytes) -> None:
        answers.write(line)
        answers.flush()

    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _limit_memory(setup["memory_mb"] * 1024 * 1024)
    try:
        function = _load(setup)
    except (Exception, SystemExit) as error:
        say(_line({"ready": False, "error": _described(error)}))
        return
    say(_line({"ready": True}))
    while True:
        say(_answer(function, setup, json.loads(lines.get())))


if __name__ == "__main__":
    main()
