"""One process of a Python function, and the bounded set of them that a function's calls share.

A process has one call at a time. Whatever is wrong with it - it crashed, overran its time, ran out of memory, sent
something that is no answer - it is killed, with everything that it started, and the next call gets a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import orjson

from delivery.functionhost import RESPONSE_BYTES_MAX
from delivery.verdict import NotReached, Raised, Reply, Returned
from geodyne.triggers.functions import FunctionSpec

log = logging.getLogger(__name__)
printed = logging.getLogger("delivery.output")  # what functions print, a record a line; `geodyne dev` shows it as it is

HOST = Path(__file__).with_name("functionhost.py")
INIT_S_MAX = 10.0  # to load the module: Lambda's limit of the phase before the first call
ANSWER_BYTES_MAX = RESPONSE_BYTES_MAX + 64 * 1024  # with an error's trace, or what is around the response
OUTPUT_LINES_MAX = 100  # logged of one call; the rest is counted and dropped
OUTPUT_LINE_BYTES_MAX = 1024
IDLE_S_MAX = 300.0  # of a process, before it is ended
LAST_OUTPUT_S_MAX = 2.0  # to read what an ended process has printed


class _Output:
    """What a process prints, to the log, with bounds."""

    def __init__(self, function: str) -> None:
        self._function = function
        self.request_id = ""
        self._lines = 0
        self._dropped = 0

    def begin(self, request_id: str) -> None:
        if self._dropped:
            log.warning("output of a function dropped", extra={"function": self._function, "lines": self._dropped})
        self.request_id = request_id
        self._lines = self._dropped = 0

    async def follow(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(OUTPUT_LINE_BYTES_MAX):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._log(line)
            if len(rest) > OUTPUT_LINE_BYTES_MAX:
                self._log(rest)
                rest = b""
        if rest:
            self._log(rest)

    def _log(self, line: bytes) -> None:
        if self._lines >= OUTPUT_LINES_MAX:
            self._dropped += 1
            return
        self._lines += 1
        text = line[:OUTPUT_LINE_BYTES_MAX].decode(errors="replace")
        extra = {"function": self._function, "request_id": self.request_id, "line": text}
        printed.info("output of a function", extra=extra)


class _Pipe:
    """What a process writes, read on the loop. Ours to close: who has inherited the other end may live on."""

    def __init__(self, limit: int, failed: contextlib.ExitStack, begun: contextlib.ExitStack) -> None:
        """It is closed with `failed`, and `theirs` already once the process has `begun`. Raises OSError."""
        self._ours, self.theirs = os.pipe()
        failed.callback(self.close)
        begun.callback(os.close, self.theirs)
        self.reader = asyncio.StreamReader(limit=limit)
        self._transport: asyncio.BaseTransport | None = None

    async def begin(self) -> None:
        """Once the process has its end."""
        file = os.fdopen(self._ours, "rb")
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.reader), file
        )

    def close(self) -> None:
        """The reader comes to its end."""
        if self._transport is not None:
            self._transport.close()
        else:
            os.close(self._ours)


class _Worker:
    """A process. After `broken` it must be ended."""

    def __init__(self, process: asyncio.subprocess.Process, answers: _Pipe, printed: _Pipe, output: _Output) -> None:
        self._process = process
        self._answers = answers
        self._printed = printed
        self._output = output
        self._follower = asyncio.get_running_loop().create_task(output.follow(printed.reader))
        self.broken = False
        self.idle_since = 0.0

    @classmethod
    async def start(cls, spec: FunctionSpec, arn: str, region: str) -> _Worker:
        """Raises OSError when no process can be started, WorkerFailure when the function cannot be loaded."""
        with contextlib.ExitStack() as failed:
            with contextlib.ExitStack() as begun:
                answers, printed = _Pipe(ANSWER_BYTES_MAX, failed, begun), _Pipe(OUTPUT_LINE_BYTES_MAX, failed, begun)
                process = await _run(spec, region, answers.theirs, printed.theirs)
            await answers.begin()
            await printed.begin()
            failed.pop_all()
        worker = cls(process, answers, printed, _Output(spec.name))
        setup = {
            "answers": answers.theirs,
            "directory": spec.directory,
            "handler": spec.handler,
            "memory_mb": spec.memory_mb,
            "name": spec.name,
            "arn": arn,
        }
        try:
            async with asyncio.timeout(INIT_S_MAX):
                ready = await worker._exchange(orjson.dumps(setup))
        except TimeoutError:
            await worker.end()
            raise WorkerFailure(f"the function was not loaded within {INIT_S_MAX:.0f} s") from None
        except (WorkerFailure, asyncio.CancelledError):
            await worker.end()
            raise
        if not ready.get("ready"):
            await worker.end()
            raise WorkerFailure(_said(ready))
        return worker

    async def call(self, event: bytes, request_id: str, timeout_s: float) -> Reply:
        """`broken` is set when the process must not be used again, also when this is cancelled."""
        self._output.begin(request_id)
        self.broken = True  # until the answer is there
        head = orjson.dumps({"id": request_id, "remaining_ms": int(timeout_s * 1000)})
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchange(head[:-1] + b',"event":' + event + b"}")
        except TimeoutError:
            return Raised(f"the function did not return within {timeout_s:g} s")
        except WorkerFailure as failure:
            return Raised(str(failure))
        if answer.get("id") != request_id:
            return Raised("the process of the function answered what it was not asked")
        self.broken = bool(answer.get("spoilt"))
        return Raised(_said(answer)) if "error" in answer else Returned(answer.get("response"))

    async def end(self) -> None:
        """Kill the process and what it started, and collect it. Something that it started in a session of its own lives
        on, but nobody waits for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        self._answers.close()
        await asyncio.wait([self._follower], timeout=LAST_OUTPUT_S_MAX)
        self._printed.close()
        await asyncio.gather(self._follower, return_exceptions=True)

    async def _exchange(self, line: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            await self._process.stdin.drain()
            said = await self._answers.reader.readline()
            answer = orjson.loads(said) if said.endswith(b"\n") else None
        except (ConnectionError, ValueError) as error:  # the pipe broke; the line is too long, or not JSON
            raise WorkerFailure(f"the process of the function failed: {error}") from None
        if answer is None:
            code = await self._process.wait()
            how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
            raise WorkerFailure(f"the process of the function {how}")
        if not isinstance(answer, dict):
            raise WorkerFailure("the process of the function sent no answer")
        return answer


class WorkerFailure(Exception):
    """The process of a function is of no more use; the text says why."""


class PythonFunction:
    """Implements delivery.functions.Function. `workers_max` bounds its processes: further calls wait for one."""

    def __init__(self, spec: FunctionSpec, *, arn: str, region: str, workers_max: int) -> None:
        assert workers_max >= 1
        self._spec = spec
        self._arn = arn
        self._region = region
        self._slots = asyncio.Semaphore(workers_max)
        self._idle: list[_Worker] = []  # the most recently used last
        self._ending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.started = 0  # processes, since this was made

    async def call(self, event: bytes, request_id: str) -> Reply:
        async with self._slots:
            try:
                worker = self._idle.pop() if self._idle else await self._start()
            except OSError as error:
                return NotReached(f"no process can be started: {error.strerror}")
            except WorkerFailure as failure:
                return Raised(str(failure))
            try:
                return await worker.call(event, request_id, self._spec.timeout_s)
            finally:
                await self._release(worker)

    @property
    def idle(self) -> int:
        """Processes that wait for a call."""
        return len(self._idle)

    async def close(self) -> None:
        """End the processes that wait; one that still has a call ends with it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        workers, self._idle = self._idle, []
        await asyncio.gather(*(worker.end() for worker in workers), *self._ending)

    async def _start(self) -> _Worker:
        self.started += 1
        return await _Worker.start(self._spec, self._arn, self._region)

    async def _release(self, worker: _Worker) -> None:
        if worker.broken or self._closed:
            await asyncio.shield(self._end(worker))
            return
        loop = asyncio.get_running_loop()
        worker.idle_since = loop.time()
        self._idle.append(worker)
        if self._timer is None:
            self._timer = loop.call_later(IDLE_S_MAX, self._reap)

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_S_MAX
        for worker in [worker for worker in self._idle if worker.idle_since <= oldest]:
            self._idle.remove(worker)
            self._end(worker)
        wait_s = self._idle[0].idle_since - oldest if self._idle else 0.0
        self._timer = loop.call_later(wait_s, self._reap) if self._idle else None

    def _end(self, worker: _Worker) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task


async def _run(spec: FunctionSpec, region: str, answers: int, printed: int) -> asyncio.subprocess.Process:
    """Start the program with these descriptors to write to. Raises OSError."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(HOST),
        stdin=asyncio.subprocess.PIPE,
        stdout=printed,
        stderr=printed,
        pass_fds=(answers,),
        env=_environment(spec, region),
        start_new_session=True,
    )


def _environment(spec: FunctionSpec, region: str) -> dict[str, str]:
    """Nothing of this process's own: it may know credentials that the function must not."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "MALLOC_ARENA_MAX": "1",  # an arena a thread would count towards the address space
        **spec.environment,
        "AWS_REGION": region,
        "AWS_LAMBDA_FUNCTION_NAME": spec.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
        "LAMBDA_TASK_ROOT": spec.directory,
        "_HANDLER": spec.handler,
    }


def _said(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    if not isinstance(error, dict):
        return "the function failed"
    return f"{error.get('errorType', 'Error')}: {error.get('errorMessage', '')}"
