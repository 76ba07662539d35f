"""Virtual time for a whole region: the loop's clock jumps to the next timer, and a loop that spins is caught.

The loop runs callbacks in an order that nothing but the callbacks decides: timers by their time, those of one time in
the order in which they were made. Each callback belongs to a process of the region, told by the context that it was
scheduled in; those of a stopped process (SIGSTOP) wait until it goes on.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TURNS_AT_ONE_TIME_MAX = 20_000  # of the loop without any time passing: more is a spin
PROCESS: ContextVar[str] = ContextVar("PROCESS", default="")  # whose callback this is


class Stuck(Exception):
    """Nothing will ever happen, or the same instant never ends."""


class _Soon(asyncio.Handle):
    """A callback of this turn or the next. Made by the hundred thousand: asyncio's own asks for the debug mode."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: Sequence[Any], loop: SimLoop, context: Context | None
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self._repr = self._source_traceback = None


class _Timer(asyncio.TimerHandle):
    """A callback of a later time."""

    __slots__ = ()

    def __init__(
        self, when: float, callback: Callable[..., object], args: Sequence[Any], loop: SimLoop, context: Context | None
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = self._scheduled = False
        self._repr = self._source_traceback = None
        self._when = when


class SimLoop(asyncio.BaseEventLoop):
    """No selector and no sockets: there is nothing outside to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0  # callbacks that have run
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0
        self._turns = 0
        self._stopped: dict[str, deque[asyncio.Handle]] = {}
        self._interruptions: list[tuple[int, int, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    # --- scheduling -------------------------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Soon(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Timer(when, callback, args, self, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        when = self.now + delay
        handle = _Timer(when, callback, args, self, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    # --- faults -----------------------------------------------------------------------------------------

    def after_steps(self, steps: int, interruption: Callable[[], None]) -> None:
        """Call `interruption` between two callbacks, when so many more have run."""
        self._made += 1
        heapq.heappush(self._interruptions, (self.steps + steps, self._made, interruption))

    def stop_process(self, process: str) -> None:
        """From now on nothing of it runs."""
        self._stopped.setdefault(process, deque())

    def stopped(self, process: str) -> bool:
        return process in self._stopped

    def continue_process(self, process: str) -> int:
        """What should have run meanwhile runs now, in order. Returns how much that is."""
        handles = self._stopped.pop(process, ())
        self._ready.extend(handles)  # type: ignore[attr-defined]
        return len(handles)

    # --- running ----------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        """Turn after turn until the loop is to stop: asyncio's own would call this for each."""
        while True:
            self._gather()
            self._run_ready()
            if self._stopping:  # type: ignore[attr-defined]
                return

    def _gather(self) -> None:
        """Make ready what is due; when nothing is, it gets later."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        timers = self._timers
        if ready:
            self._turns += 1
            if self._turns > TURNS_AT_ONE_TIME_MAX:
                raise Stuck(f"{TURNS_AT_ONE_TIME_MAX} turns of the loop at {self.now:.6f} s")
        else:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise Stuck("no timer and nothing ready")
            if timers[0][0] > self.now:
                self.now = timers[0][0]
                self._turns = 0
        now = self.now
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            if not handle._cancelled:
                ready.append(handle)

    def _run_ready(self) -> None:
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        stopped, interruptions = self._stopped, self._interruptions
        for _ in range(len(ready)):
            one: Any = ready.popleft()
            if one._cancelled:
                continue
            if stopped:
                waiting = stopped.get(one._context.get(PROCESS, ""))
                if waiting is not None:
                    waiting.append(one)
                    continue
            self.steps += 1
            try:  # as asyncio.Handle._run does
                one._context.run(one._callback, *one._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self.call_exception_handler({"message": f"in {one}", "exception": error, "handle": one})
            if interruptions and interruptions[0][0] <= self.steps:
                heapq.heappop(interruptions)[2]()

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


class SimClock:
    """A node's clocks on the loop's time: the lease clock runs at a rate of its own, the wall clock is off by
    `skew_us`."""

    def __init__(self, loop: SimLoop, *, rate: float, lease_offset_ms: int, skew_us: int) -> None:
        self._loop = loop
        self._rate = rate
        self._lease_base_ms = float(lease_offset_ms)
        self._since = 0.0
        self.skew_us = skew_us

    def wall_us(self) -> int:
        return 1_700_000_000_000_000 + int(self._loop.now * 1e6) + self.skew_us

    def lease_ms(self) -> int:
        return int(self._lease_base_ms + (self._loop.now - self._since) * 1e3 * self._rate)

    def drift(self, rate: float) -> None:
        """From now on the lease clock runs at another rate."""
        now = self._loop.now
        self._lease_base_ms += (now - self._since) * 1e3 * self._rate
        self._since, self._rate = now, rate


def run_simulated(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(coroutine)
