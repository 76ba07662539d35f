"""A table that one region at a time writes (geodyne.writemodes), that region changed again and again under faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from geodyne.errors import ApiError
from geodyne.messages import Control
from geodyne.model import version as versions
from geodyne.sim.faults import Fault
from geodyne.sim.globalchecks import GlobalChecks, Place
from geodyne.sim.globalfaults import OF_LIFE
from geodyne.sim.globalregions import TABLE, Regions
from geodyne.sim.network import Violation
from geodyne.writemodes import Stage, WriteMode, write_mode

MOVING_CHANCE = 0.1  # of a run in which no region leaves
MOVE_MS_MAX = 15_000
AGREED_S = 30.0  # within this all regions have the mode, at first
SETTLED_S = 60.0  # within this of the last fault a move that nothing is in the way of is over
PAUSES_S = (0.1, 3.0)
SECOND_THOUGHTS_CHANCE = 0.1
CONTROL_MS = 5_000
LOOK_S = 0.2
ASK_AGAIN_S = 5.0


def moving(seed: int, plan: Sequence[Fault]) -> bool:
    """Whether the table of a seed is written in one region at a time."""
    return Random(f"moves in {seed}").random() < MOVING_CHANCE and not any(fault.kind in OF_LIFE for fault in plan)


class Terms:
    """Which region wrote last, seen where entries are applied. A region that begins to write holds all that the one
    before wrote; so one that goes on, though another has begun, is found as well."""

    def __init__(self, checks: GlobalChecks, first: str) -> None:
        self._checks = checks
        self._change = checks._change
        self.writes = first
        self.count = 0
        checks._change = self._applied  # type: ignore[method-assign]

    def _applied(self, place: Place, sequence: int, key: bytes, version: bytes, image: bytes | None) -> None:
        region = place.region
        if versions.region(version) == region and region != self.writes:
            self._begins(region)
        self._change(place, sequence, key, version, image)

    def _begins(self, region: str) -> None:
        before, self.writes = self.writes, region
        self.count += 1
        held = self._checks.of(region)
        for place, own in self._checks._own.items():
            for key, version in own.changes if place.region == before else ():
                if key not in held or held[key].version < version:
                    self._checks.problem(f"{region} takes a write and lacks one that {before} took before: {key!r}")
                    return


class Moves:
    """Somebody who has the active region changed, and now and then thinks better of it."""

    def __init__(self, all_: Regions, checks: GlobalChecks, seed: int) -> None:
        self._regions = all_
        self._checks = checks
        self._random = Random(f"moves of {seed}")
        self._stopped = False
        self._moving: asyncio.Task[None] | None = None
        self.terms: Terms | None = None

    async def begin(self) -> None:
        """The first region alone writes. Before anybody does. Raises Violation."""
        active = next(iter(self._regions.by_name))
        await self._ask(active, {"mode": "one", "active": active})
        await self._until(self._everywhere, AGREED_S)
        self.terms = Terms(self._checks, active)
        self._moving = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Once more, with nothing in the way. Raises Violation."""
        self._stopped = True
        if self._moving is not None:
            await self._moving
        await self._until(self._everywhere, SETTLED_S)
        wanted = self._another(self._mode().active)
        asking = asyncio.create_task(self._keep_asking(wanted))  # a wrong clock may end the first
        try:
            await self._until(lambda: self._everywhere() and self._mode().active == wanted, SETTLED_S)
        finally:
            asking.cancel()

    # --- inside -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopped:
            await asyncio.sleep(self._random.uniform(*PAUSES_S))
            mode = self._mode()
            stays = mode.moving and self._random.random() < SECOND_THOUGHTS_CHANCE
            await self._ask(mode.active, {"active": mode.active if stays else self._another(mode.active)})

    async def _keep_asking(self, wanted: str) -> None:
        while True:
            await self._ask(self._mode().active, {"mode": "one", "active": wanted})
            await asyncio.sleep(ASK_AGAIN_S)

    async def _until(self, what: Callable[[], bool], within_s: float) -> None:
        until = self._regions.loop.time() + within_s
        while not what():
            if self._regions.loop.time() > until:
                raise Violation(f"not within {within_s} s: {self._modes()}")
            await self._regions.run_for(LOOK_S)

    def _everywhere(self) -> bool:
        modes = self._modes()
        return len({mode.rank for mode in modes}) == 1 and all(mode.stage is Stage.SPREAD for mode in modes)

    def _modes(self) -> list[WriteMode]:
        tables = [self._regions.table(name) for name in self._regions.by_name]
        return [write_mode(table) for table in tables if table is not None]

    def _mode(self) -> WriteMode:
        return max(self._modes(), key=lambda mode: mode.rank)

    def _another(self, region: str) -> str:
        return self._random.choice([name for name in self._regions.by_name if name != region])

    async def _ask(self, at: str, change: dict[str, Any]) -> None:
        """Whatever it comes to: a region may be away, or the move be refused."""
        client = self._regions.by_name[at].client
        try:
            await client.call(Control("set_writes", {"name": TABLE, **change}), timeout_ms=CONTROL_MS)
        except ApiError:
            return
