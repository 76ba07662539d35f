"""Virtual time for a whole region: the loop's clock jumps to the next timer, and a loop that spins is caught."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

TURNS_AT_ONE_TIME_MAX = 20_000  # of the loop without any time passing: more is a spin


class Stuck(Exception):
    """Nothing will ever happen, or the same instant never ends."""


class _JumpingSelector(selectors.DefaultSelector):
    loop: SimLoop
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("no timer and nothing ready")
        if timeout > 0:
            self.loop.now += timeout
            self.turns = 0
        else:
            self.turns += 1
            if self.turns > TURNS_AT_ONE_TIME_MAX:
                raise Stuck(f"{TURNS_AT_ONE_TIME_MAX} turns of the loop at {self.loop.now:.6f} s")
        return super().select(0)


class SimLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class SimClock:
    """A node's clocks on the loop's time: the lease clock runs at `rate`, the wall clock is off by `skew_us`."""

    def __init__(self, loop: SimLoop, *, rate: float, lease_offset_ms: int, skew_us: int) -> None:
        self._loop = loop
        self._rate = rate
        self._lease_offset_ms = lease_offset_ms
        self.skew_us = skew_us

    def wall_us(self) -> int:
        return 1_700_000_000_000_000 + int(self._loop.now * 1e6) + self.skew_us

    def lease_ms(self) -> int:
        return self._lease_offset_ms + int(self._loop.now * 1e3 * self._rate)


def run_simulated(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(coroutine)
