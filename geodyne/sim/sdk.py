"""A client as SDKs are: it waits for so long, tries again what may be tried again, and knows when it does not know."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from geodyne.errors import CATALOGUE
from geodyne.sim.routers import Body, NoAnswer, SimRouter

ATTEMPTS_MAX = 4  # boto3's standard mode makes three, DynamoDB's own clients up to ten
TIMEOUTS_S = (1.0, 3.0, 6.0, 12.0)  # what a client waits for an answer; the router's own deadline for writes is ten
BACK_OFF_S = 0.05  # doubles at each attempt; at most so much, by chance


class Attempt(NamedTuple):
    """One request and what came of it. `code` None: no answer that says whether it took effect."""

    start: float
    end: float
    code: str | None
    body: Body


class Sdk:
    """One client with its routers, the nearest first."""

    def __init__(
        self,
        routers: Sequence[SimRouter],
        random: Random,
        counts: Counter[str],
        now_s: Callable[[], float],
        timeout_s: float = 0.0,
    ) -> None:
        """`timeout_s` 0: one of TIMEOUTS_S, by chance."""
        self.now_s = now_s
        self._routers = routers
        self._random = random
        self._counts = counts
        self._timeout_s = timeout_s or random.choice(TIMEOUTS_S)

    async def call(self, operation: str, body: Body, first: int = 0, attempts_max: int = ATTEMPTS_MAX) -> list[Attempt]:
        """All attempts, the first one at that router; of each but the last it is unknown, or certain, that it had no
        effect."""
        attempts: list[Attempt] = []
        for number in range(first, first + attempts_max):
            if number > first:
                self._counts["retries"] += 1
                await asyncio.sleep(self._random.uniform(0.0, BACK_OFF_S * 2 ** (number - first)))
            attempt = await self._attempt(operation, body, number)
            attempts.append(attempt)
            kind = CATALOGUE.get(attempt.code) if attempt.code else None
            if attempt.code == "" or (kind is not None and not kind.retryable):
                break
        self._counts["operations"] += 1
        self._counts[f"{operation} {'unknown' if attempt.code is None else attempt.code or 'ok'}"] += 1
        return attempts

    async def _attempt(self, operation: str, body: Body, number: int) -> Attempt:
        routers = [router for router in self._routers if router.alive] or self._routers
        router = routers[number % len(routers)]
        start = self.now_s()
        try:
            response = await router.request(operation, body, self._timeout_s)
        except NoAnswer:
            return Attempt(start, self.now_s(), None, {})
        kind = CATALOGUE.get(response.code)
        code = None if kind is not None and not kind.definite else response.code
        return Attempt(start, self.now_s(), code, response.body)
