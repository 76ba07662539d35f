"""Running a request's coroutine without an asyncio task, and the light awaitable that answers arrive in.

A task and its futures cost a loop turn at each step.  `drive` steps a coroutine in place instead: whoever brings the
answer runs the coroutine to its next wait.  The protocol between the two is small:

- a coroutine awaits a `Reply`; unless the reply is already there, the driver receives the Reply itself from `send`;
- the driver sets `reply.resume`; `reply.succeed(value)` or `reply.fail(error)` calls `reply.resume(reply)`, once.

A driven coroutine may also await asyncio futures and tasks, `asyncio.sleep`, locks and events.  It is not a task, so
what asks for the current task (`asyncio.timeout`, `asyncio.wait_for`) is out of bounds for it.  A `Reply` may
also be awaited by an ordinary task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

_log = logging.getLogger(__name__)

# True while a driver steps a coroutine. The loop runs one thing at a time, so one flag tells whether the code that
# awaits a Reply was stepped by a driver or by a task; the current task would not tell, since a task may call `drive`.
_driving = False


class Reply(Generic[T]):
    """An answer that one coroutine waits for. Belongs to one loop, is not thread-safe, has one waiter."""

    __slots__ = ("error", "ready", "resume", "value")

    def __init__(self) -> None:
        self.resume: Callable[[Any], None] | None = None
        self.ready = False
        self.value: T | None = None
        self.error: BaseException | None = None

    def succeed(self, value: T) -> None:
        """Deliver the answer; ignored when there already is one."""
        if self.ready:
            return
        self.ready = True
        self.value = value
        resume = self.resume
        if resume is not None:
            self.resume = None
            resume(self)

    def fail(self, error: BaseException) -> None:
        """Deliver an exception to the waiter; ignored when there already is an answer."""
        if self.ready:
            return
        self.ready = True
        self.error = error
        resume = self.resume
        if resume is not None:
            self.resume = None
            resume(self)

    def result(self) -> T:
        """The value, or the exception raised."""
        if self.error is not None:
            raise self.error
        if not self.ready:
            raise RuntimeError("the answer has not arrived")
        return cast(T, self.value)

    def __await__(self) -> Generator[Any, Any, T]:
        if not self.ready:
            if self.resume is not None:
                raise RuntimeError("a Reply has one waiter")
            if _driving:
                yield self
            else:
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self.resume = _Waker(future)
                try:
                    yield from future
                finally:
                    self.resume = None
        if self.error is not None:
            raise self.error
        if not self.ready:
            raise RuntimeError("the driver resumed before the answer arrived")
        return cast(T, self.value)


class _Waker:
    """Wakes the task that waits for a Reply; a task that was cancelled meanwhile is left alone."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def __call__(self, reply: object) -> None:
        if not self._future.done():
            self._future.set_result(None)


class Drive(Generic[T]):
    """A coroutine under way. `cancel` throws CancelledError into it at the point where it waits."""

    __slots__ = ("_coroutine", "_on_done", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T], on_done: Callable[[T | None, BaseException | None], None]):
        self._coroutine: Coroutine[Any, Any, T] | None = coroutine
        self._on_done = on_done
        self._waits_for: object = None

    @property
    def done(self) -> bool:
        return self._coroutine is None

    def cancel(self) -> None:
        """End the coroutine early; it may clean up, and `on_done` still runs."""
        if self._coroutine is None:
            return
        waits_for, self._waits_for = self._waits_for, None
        if isinstance(waits_for, Reply):
            waits_for.resume = None
        elif isinstance(waits_for, asyncio.Future):
            waits_for.remove_done_callback(self._on_future)
        self._step(asyncio.CancelledError())

    def _step(self, error: BaseException | None) -> None:
        global _driving  # noqa: PLW0603 - see its declaration
        coroutine = self._coroutine
        while coroutine is not None:
            outer, _driving = _driving, True
            try:
                awaited = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                _driving = outer
                self._finish(stop.value, None)
                return
            except BaseException as raised:
                _driving = outer
                self._finish(None, raised)
                if isinstance(raised, (KeyboardInterrupt, SystemExit)):
                    raise
                return
            _driving = outer
            if isinstance(awaited, Reply):
                if awaited.ready:
                    error = None
                    continue
                self._waits_for = awaited
                awaited.resume = self._on_reply
                return
            error = self._wait_outside(awaited)
            if error is None:
                return

    def _wait_outside(self, awaited: Any) -> BaseException | None:
        """Arrange to be woken by something of asyncio's. Returns an error to throw when it cannot be waited for."""
        if awaited is None:  # asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(self._on_turn)
            return None
        if getattr(awaited, "_asyncio_future_blocking", None):
            # What an asyncio task does with a future it receives: acknowledge, then wait for its callback.
            awaited._asyncio_future_blocking = False
            self._waits_for = awaited
            awaited.add_done_callback(self._on_future)
            return None
        return RuntimeError(f"a driven coroutine cannot await {awaited!r}")

    def _on_reply(self, reply: object) -> None:
        self._waits_for = None
        self._step(None)

    def _on_future(self, future: asyncio.Future[Any]) -> None:
        self._waits_for = None
        self._step(None)  # the future itself raises or returns inside its own __await__

    def _on_turn(self) -> None:
        self._step(None)

    def _finish(self, value: T | None, error: BaseException | None) -> None:
        self._coroutine = None
        try:
            self._on_done(value, error)
        except Exception:
            # Whoever delivered the answer delivers others after it and must not stop here.
            _log.exception("the end of a driven coroutine raised")


def drive(coroutine: Coroutine[Any, Any, T], on_done: Callable[[T | None, BaseException | None], None]) -> Drive[T]:
    """Run a coroutine, in place, to its end or its first wait; `on_done(result, exception)` is called once.

    When the coroutine needs no wait, `on_done` has been called by the time this returns.
    """
    driven = Drive(coroutine, on_done)
    driven._step(None)
    return driven


def completed(value: T) -> Reply[T]:
    """A Reply that is already there."""
    reply: Reply[T] = Reply()
    reply.ready = True
    reply.value = value
    return reply


def failed(error: BaseException) -> Reply[Any]:
    """A Reply that raises."""
    reply: Reply[Any] = Reply()
    reply.ready = True
    reply.error = error
    return reply


def gather(replies: Sequence[Reply[T]]) -> Reply[list[T]]:
    """Wait for all; values in the order given. Raises the first error in that order, once all are there."""
    return cast("Reply[list[T]]", _Gathered(replies))


class _Gathered(Reply[list[Any]]):
    __slots__ = ("_missing", "_replies")

    def __init__(self, replies: Sequence[Reply[Any]]) -> None:
        super().__init__()
        self._replies = replies
        self._missing = 1  # held by this loop, so that no answer completes the whole before all are counted
        for reply in replies:
            if not reply.ready:
                if reply.resume is not None:
                    raise RuntimeError("a Reply has one waiter")
                self._missing += 1
                reply.resume = self._one_more
        self._one_more(None)

    def _one_more(self, reply: object) -> None:
        self._missing -= 1
        if self._missing:
            return
        for one in self._replies:
            if one.error is not None:
                self.fail(one.error)
                return
        self.succeed([one.value for one in self._replies])
