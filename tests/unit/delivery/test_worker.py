"""Python functions in processes of their own: answers, limits, crashes, output."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from delivery import worker as worker_module
from delivery.verdict import NotReached, Raised, Reply, Returned
from delivery.worker import PythonFunction
from geodyne.triggers.functions import FunctionSpec
from tests.unit.delivery.fakes import until

SOURCE = """
import json, os, sys, threading, time

calls = 0

def echo(event, context):
    return event

def count(event, context):
    global calls
    calls += 1
    return {"calls": calls, "pid": os.getpid()}

def fail(event, context):
    raise LookupError("no such thing")

def leave(event, context):
    os._exit(3)

def exits(event, context):
    sys.exit(4)

def hang(event, context):
    while True:
        pass

def greedy(event, context):
    return len(bytearray(1 << 30))

def odd(event, context):
    return {"not": {1, 2}}

def huge(event, context):
    return "x" * (7 << 20)

def chatty(event, context):
    for number in range(300):
        print("line", number)
    print("x" * 5000, file=sys.stderr)

def about(event, context):
    return {
        "name": context.function_name, "arn": context.invoked_function_arn, "id": context.aws_request_id,
        "memory": context.memory_limit_in_mb, "left": context.get_remaining_time_in_millis(),
        "environment": dict(os.environ), "input": sys.stdin.read(), "cwd": os.getcwd(),
    }

def slow(event, context):
    time.sleep(0.05)
    return os.getpid()

def detached(event, context):
    if os.fork() == 0:
        os.setsid()
        with open(event + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(event + ".new", event)
        time.sleep(600)
    time.sleep(600)

def forked(event, context):
    if os.fork() == 0:
        with open(event + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(event + ".new", event)
    time.sleep(600)

def child(event, context):
    import subprocess
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(event, "w") as file:
        file.write(str(process.pid))
    time.sleep(600)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text("raise ImportError('not this one')")
    (tmp_path / "functions.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("import no_such_module")
    return tmp_path


def with_function(
    directory: Path,
    name: str,
    use: Callable[[PythonFunction], Awaitable[None]],
    *,
    module: str = "functions",
    workers_max: int = 2,
    **members: Any,
) -> None:
    async def run() -> None:
        spec = FunctionSpec("named", "python", str(directory), f"{module}:{name}", **{"timeout_s": 10.0, **members})
        function = PythonFunction(spec, arn="arn:function", region="us-east-1", workers_max=workers_max)
        try:
            await use(function)
        finally:
            await function.close()

    asyncio.run(run())


def call_once(directory: Path, name: str, event: Any = None, **members: Any) -> Reply:
    replies: list[Reply] = []

    async def use(function: PythonFunction) -> None:
        replies.append(await function.call(json.dumps(event).encode(), "request-1"))

    with_function(directory, name, use, **members)
    return replies[0]


def test_the_response_is_what_the_function_returns(directory: Path) -> None:
    event = {"Records": [{"a": 1.5, "b": None, "c": "ü"}]}
    assert call_once(directory, "echo", event) == Returned(event)


def test_events_and_responses_may_be_as_large_as_lambdas(directory: Path) -> None:
    text = "x" * (6 * 1024 * 1024 - 100)
    assert call_once(directory, "echo", text) == Returned(text)


def test_a_call_that_outlives_its_function_leaves_no_process_behind(directory: Path) -> None:
    async def use(function: PythonFunction) -> None:
        call = asyncio.create_task(function.call(b"{}", "r1"))
        await until(lambda: function.started == 1)
        await function.close()
        reply = await call
        assert isinstance(reply, Returned)
        with pytest.raises(ProcessLookupError):
            os.kill(reply.response, 0)

    with_function(directory, "slow", use)


def test_one_process_serves_many_calls(directory: Path) -> None:
    async def use(function: PythonFunction) -> None:
        answers = [await function.call(b"{}", f"r{number}") for number in range(3)]
        assert [answer.response["calls"] for answer in answers if isinstance(answer, Returned)] == [1, 2, 3]
        assert function.started == 1

    with_function(directory, "count", use)


def test_calls_at_once_have_a_process_each_up_to_the_bound(directory: Path) -> None:
    async def use(function: PythonFunction) -> None:
        answers = await asyncio.gather(*(function.call(b"{}", f"r{number}") for number in range(6)))
        assert len({answer.response for answer in answers if isinstance(answer, Returned)}) == 2
        assert function.started == 2

    with_function(directory, "slow", use)


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("fail", "LookupError: no such thing"),
        ("leave", "ended with status 3"),
        ("exits", "SystemExit: 4"),
        ("greedy", "MemoryError"),
        ("odd", "Runtime.MarshalError"),
        ("huge", "Function.ResponseSizeTooLarge"),
    ],
)
def test_what_goes_wrong_in_a_function_is_its_failure_and_the_next_call_is_served(
    directory: Path, name: str, detail: str
) -> None:
    async def use(function: PythonFunction) -> None:
        for _ in range(2):
            reply = await function.call(b"{}", "request-1")
            assert isinstance(reply, Raised)
            assert detail in reply.detail
            assert reply.error == "Unhandled"

    with_function(directory, name, use)


def alive(pid: int) -> bool:
    """Not so what has ended and was not collected by whoever adopted it."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize(("module", "name"), [("broken", "echo"), ("functions", "nowhere"), ("functions", "calls")])
def test_a_function_that_cannot_be_loaded_fails(directory: Path, module: str, name: str) -> None:
    assert isinstance(call_once(directory, name, module=module), Raised)


def test_a_function_that_overruns_its_time_is_killed_with_what_it_started(directory: Path) -> None:
    noted = directory / "pid"
    reply = call_once(directory, "child", str(noted), timeout_s=1.0)
    assert isinstance(reply, Raised)
    assert "within 1 s" in reply.detail
    pid = int(noted.read_text())
    end = time.monotonic() + 10.0
    while alive(pid):  # it was told to end, and a busy host may take its time
        assert time.monotonic() < end, "it lives on"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_call_ends_though_the_function_left_a_process_in_a_session_of_its_own(directory: Path, loop: str) -> None:
    """Such a process lives on, and holds what the function's process wrote to: nobody may wait for that."""
    factory = asyncio.new_event_loop if loop == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    noted = directory / "pid"
    spec = FunctionSpec("named", "python", str(directory), "functions:detached", timeout_s=1.0)

    async def run() -> None:
        function = PythonFunction(spec, arn="arn:function", region="us-east-1", workers_max=1)
        async with asyncio.timeout(10):
            assert isinstance(await function.call(json.dumps(str(noted)).encode(), "r1"), Raised)
            await function.close()

    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(run())
    finally:
        os.kill(int(noted.read_text()), signal.SIGKILL)


def test_a_function_that_loops_is_killed(directory: Path) -> None:
    assert isinstance(call_once(directory, "hang", timeout_s=0.3), Raised)


def test_a_cancelled_call_leaves_no_process_behind(directory: Path) -> None:
    async def use(function: PythonFunction) -> None:
        first = await function.call(b"{}", "r0")
        assert isinstance(first, Returned)
        task = asyncio.create_task(function.call(b"{}", "r1"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(ProcessLookupError):
            os.kill(first.response, 0)
        assert isinstance(await function.call(b"{}", "r2"), Returned)

    with_function(directory, "slow", use)


def test_the_context_is_that_of_lambda_and_the_environment_is_the_functions_own(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the server")
    reply = call_once(directory, "about", environment={"STAGE": "test"}, timeout_s=5.0)
    assert isinstance(reply, Returned)
    about = reply.response
    assert (about["name"], about["arn"], about["id"], about["memory"]) == ("named", "arn:function", "request-1", "128")
    assert 0 < about["left"] <= 5_000
    assert (about["input"], about["cwd"]) == ("", str(directory))
    assert about["environment"]["STAGE"] == "test"
    assert about["environment"]["AWS_LAMBDA_FUNCTION_NAME"] == "named"
    assert "AWS_SECRET_ACCESS_KEY" not in about["environment"]


def test_output_goes_to_the_log_with_a_bound(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="delivery.output")

    async def use(function: PythonFunction) -> None:
        assert await function.call(b"{}", "r1") == Returned(None)
        await function.call(b"{}", "r2")

    with_function(directory, "chatty", use)
    lines = [record.__dict__["line"] for record in caplog.records if record.message == "output of a function"]
    assert "line 0" in lines
    assert max(len(line) for line in lines) <= worker_module.OUTPUT_LINE_BYTES_MAX
    assert len(lines) <= 2 * worker_module.OUTPUT_LINES_MAX


def test_without_a_process_the_function_was_not_reached(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module.sys, "executable", "/no/such/python")
    assert isinstance(call_once(directory, "echo"), NotReached)


def test_idle_processes_are_ended(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "IDLE_S_MAX", 0.0)

    async def use(function: PythonFunction) -> None:
        reply = await function.call(b"{}", "r1")
        assert isinstance(reply, Returned)
        await until(lambda: not function.idle)
        again = await function.call(b"{}", "r2")
        assert isinstance(again, Returned)
        assert again.response != reply.response

    with_function(directory, "slow", use)


def test_it_works_on_the_loop_that_processes_use(directory: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def run() -> None:
        spec = FunctionSpec("named", "python", str(directory), "functions:echo", timeout_s=10.0)
        function = PythonFunction(spec, arn="arn:function", region="us-east-1", workers_max=1)
        try:
            assert await function.call(b'{"a":1}', "r1") == Returned({"a": 1})
        finally:
            await function.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@pytest.mark.parametrize("name", ["hang", "forked"])
def test_a_process_ends_when_its_parent_is_gone_also_in_the_middle_of_a_call(directory: Path, name: str) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", str(worker_module.HOST)],
        stdin=subprocess.PIPE,
        pass_fds=(write,),
        env={},
        start_new_session=True,
    )
    os.close(write)
    assert process.stdin is not None
    setup = {
        "answers": write,
        "directory": str(directory),
        "handler": f"functions:{name}",
        "memory_mb": 128,
        "name": "n",
        "arn": "a",
    }
    noted = directory / "pid"
    call = {"id": "r", "remaining_ms": 1000, "event": str(noted)}
    process.stdin.write(json.dumps(setup).encode() + b"\n")
    process.stdin.flush()
    with os.fdopen(read, "rb") as answers:
        assert json.loads(answers.readline()) == {"ready": True}
        process.stdin.write(json.dumps(call).encode() + b"\n")
        process.stdin.flush()
        while name == "forked" and not noted.exists():
            assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=10) == -signal.SIGKILL
        assert answers.read() == b"", "what it forked has ended too"
