"""A few places for many: who comes when all are taken waits in line, and what is urgent goes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Places:
    """Taken and given back on one loop. Must hold: while somebody waits, every place is taken."""

    __slots__ = ("_places", "_taken", "_waiting")

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0
        # In the order in which they came; bound: the caller's.
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    async def take(self, urgent: Callable[[], bool]) -> None:
        """Wait for a place, which must be given back. `urgent` is asked when one becomes free."""
        if self._taken < self._places:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = urgent
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # it came at the same time
            raise
        finally:
            self._waiting.pop(turn, None)

    def take_now(self) -> None:
        """For one that cannot wait: a place more than there are, if need be."""
        self._taken += 1

    def give_back(self) -> None:
        self._taken -= 1
        if self._taken >= self._places:
            return
        waiting = [turn for turn in self._waiting if not turn.done()]
        turn = next((turn for turn in waiting if self._waiting[turn]()), None) or next(iter(waiting), None)
        if turn is not None:
            self._taken += 1
            turn.set_result(None)
