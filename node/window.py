"""The deduplication window: what a resent write is answered.

Part of the replicated state: filled while entries are applied, from the entries alone, so that every replica holds the
same window at the same index. Bounded in three ways, all decided by the log: a router's `low` mark drops what it no
longer waits for, a router unheard of for ROUTER_IDLE_US is forgotten, and a router keeps at most OUTCOMES_MAX outcomes.
How long ago a router was heard of is told by the clocks of several leaders, one of which may be minutes off: so the
ROUTERS_MIN last heard of stay, or a resend could find its router forgotten and be done again.
"""

from __future__ import annotations

from enum import Enum

from geodyne.messages import WriteId, Written
from geodyne.wire import log_v1_pb2 as log
from node.outcomes import outcome_from_wire, outcome_to_wire
from node.transactions.state import Transactions

ROUTER_IDLE_US = 600 * 1_000_000
ROUTERS_MIN = 64  # more than a region runs at once, as a rule
OUTCOMES_MAX = 16_384


class Standing(Enum):
    """How a write id relates to the window."""

    NEW = 1
    FINISHED = 2  # below the router's low mark: answered long ago, must not run again


class _RouterWindow:
    __slots__ = ("last_us", "low", "outcomes")

    def __init__(self, low: int, last_us: int) -> None:
        self.low = low
        self.last_us = last_us
        self.outcomes: dict[int, Written] = {}


class Window:
    """The outcomes of one partition's recent writes, and its transactions under way and lately done."""

    __slots__ = ("_routers", "transactions")

    def __init__(self) -> None:
        self._routers: dict[int, _RouterWindow] = {}
        self.transactions = Transactions()

    def lookup(self, write_id: WriteId) -> Written | Standing:
        """The remembered answer, or how the write stands."""
        router = self._routers.get(write_id.router)
        if router is None:
            return Standing.NEW
        if write_id.sequence < router.low:
            return Standing.FINISHED
        return router.outcomes.get(write_id.sequence, Standing.NEW)

    def remember(self, write_id: WriteId, outcome: Written, wall_us: int) -> None:
        """Note an applied write. `wall_us` is the entry's own time: what expires, expires by the log."""
        number, sequence, low = write_id
        router = self._routers.get(number)
        if router is None:
            router = self._routers[number] = _RouterWindow(low, wall_us)
            self._forget_idle(wall_us)
        router.last_us = max(router.last_us, wall_us)
        outcomes = router.outcomes
        outcomes[sequence] = outcome
        router.low = max(router.low, low)
        while outcomes:
            oldest = next(iter(outcomes))
            if oldest >= router.low and len(outcomes) <= OUTCOMES_MAX:
                break
            del outcomes[oldest]
            # What the bound pushed out can no longer be told from new: refuse it from now on.
            router.low = max(router.low, oldest + 1)

    def _forget_idle(self, wall_us: int) -> None:
        if len(self._routers) <= ROUTERS_MIN:
            return
        oldest_first = sorted(self._routers.items(), key=lambda each: each[1].last_us)
        for number, router in oldest_first[:-ROUTERS_MIN]:
            if wall_us - router.last_us > ROUTER_IDLE_US:
                del self._routers[number]

    def to_bytes(self) -> bytes:
        message = log.Window()
        for number, router in self._routers.items():
            kept = message.routers.add(router=number, low=router.low, last_us=router.last_us)
            for sequence, outcome in router.outcomes.items():
                kept.outcomes.add(sequence=sequence, outcome=outcome_to_wire(outcome))
        # Serialized messages one after the other are one: what a field repeats is appended.
        return b"".join((message.SerializeToString(deterministic=True), *self.transactions.to_bytes()))

    @staticmethod
    def from_bytes(data: bytes) -> Window:
        window = Window()
        message = log.Window.FromString(data)
        for step in message.transactions:
            window.transactions.apply(step, step.wall_us)
        for stored in message.routers:
            router = window._routers[stored.router] = _RouterWindow(stored.low, stored.last_us)
            for remembered in stored.outcomes:
                router.outcomes[remembered.sequence] = outcome_from_wire(remembered.outcome)
        return window
