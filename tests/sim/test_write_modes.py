"""The active region of a table is changed again and again while clients write in all regions and faults go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.errors import ApiError
from geodyne.messages import Control
from geodyne.model import version as versions
from geodyne.sim import globalrun
from geodyne.sim.faults import Fault
from geodyne.sim.globalchecks import GlobalChecks, Place
from geodyne.sim.globalfaults import OF_LIFE, draw
from geodyne.sim.globalinjector import GlobalInjector
from geodyne.sim.globalregions import TABLE, Regions
from geodyne.sim.globalrun import CALM_S, READY_S, run_seed
from geodyne.sim.globalworkload import Writers
from geodyne.sim.network import Violation
from geodyne.writemodes import Stage, WriteMode, write_mode
from node.catalog import writemodes
from node.engine.writemode import WriteRule
from replication.service import Replicator

SEEDS = range(1, 5)
LONG_SEEDS = range(5, 60)
MUTATION_SEEDS_MAX = 40
MOVE_MS_MAX = 15_000
SETTLED_S = 60.0  # within this of the last fault a move that nothing is in the way of is over
LOOK_S = 0.2
ASK_AGAIN_S = 5.0


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

    def __init__(self, all_: Regions, seed: int) -> None:
        self._regions = all_
        self._random = Random(f"moves of {seed}")
        self.stopped = False

    async def begin(self, active: str) -> None:
        await self._ask(active, {"mode": "one", "active": active})
        await self.until(self.everywhere, READY_S)

    async def run(self) -> None:
        while not self.stopped:
            await asyncio.sleep(self._random.uniform(0.1, 3.0))
            mode = self._mode()
            wanted = mode.active if mode.moving and self._random.random() < 0.1 else self._another(mode.active)
            await self._ask(mode.active, {"active": wanted})

    async def once_more(self) -> None:
        """With nothing in the way. Raises Violation."""
        await self.until(self.everywhere, SETTLED_S)
        wanted = self._another(self._mode().active)
        asked = asyncio.create_task(self._keep_asking(wanted))  # a wrong clock may end the first
        try:
            await self.until(lambda: self.everywhere() and self._mode().active == wanted, SETTLED_S)
        finally:
            asked.cancel()

    async def _keep_asking(self, wanted: str) -> None:
        while True:
            await self._ask(self._mode().active, {"mode": "one", "active": wanted})
            await asyncio.sleep(ASK_AGAIN_S)

    async def until(self, what: Callable[[], bool], within_s: float) -> None:
        until = self._regions.loop.time() + within_s
        while not what():
            if self._regions.loop.time() > until:
                raise Violation(f"not within {within_s} s: {self._modes()}")
            await self._regions.run_for(LOOK_S)

    def everywhere(self) -> bool:
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
            await client.call(Control("set_writes", {"name": TABLE, **change}), timeout_ms=5_000)
        except ApiError:
            return


def played(seed: int) -> tuple[str, Counter[str]]:
    """What went wrong ("": nothing), and how much happened."""
    seen: Counter[str] = Counter()

    async def events(
        all_: Regions, plan: Sequence[Fault], checks: GlobalChecks, injector: GlobalInjector, writers: Writers
    ) -> None:
        await writers.prepare(READY_S)
        first = next(iter(all_.by_name))
        moves = Moves(all_, seed)
        await moves.begin(first)
        terms = Terms(checks, first)
        writers.start()
        moving = asyncio.create_task(moves.run())
        await injector.run(plan)
        checks.check()
        await injector.end()
        moves.stopped = True
        await moving
        await moves.once_more()
        await all_.run_for(CALM_S)
        await writers.stop()
        await globalrun._equal(all_, checks, tuple(all_.by_name))
        writers.judge(checks)
        checks.check()
        seen.update(terms=terms.count, faults=len(plan))

    with ExitStack() as stack:
        stack.enter_context(patch.object(globalrun, "_events", events))
        stack.enter_context(patch.object(writemodes, "MOVE_MS_MAX", MOVE_MS_MAX))
        outcome = run_seed(seed, [fault for fault in draw(seed) if fault.kind not in OF_LIFE])
    return outcome.problem, seen


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_regions_take_writes_at_once_and_the_next_one_has_all_of_the_one_before(seed: int) -> None:
    problem, seen = played(seed)
    assert not problem
    assert seen["terms"] > 1


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_over_many_seeds_no_two_regions_take_writes_at_once(seed: int) -> None:
    problem, _ = played(seed)
    assert not problem


def what_was_written_is_not_waited_for() -> AbstractContextManager[Any]:
    return patch.object(Replicator, "_passed_revision", lambda *_: 1 << 62)


def a_region_that_stops_goes_on_with_the_writes_of_items() -> AbstractContextManager[Any]:
    return patch.object(WriteRule, "closed", property(lambda rule: not rule.home and rule.active != rule.own))


@pytest.mark.parametrize(
    "mutation",
    [what_was_written_is_not_waited_for, a_region_that_stops_goes_on_with_the_writes_of_items],
    ids=lambda mutation: mutation.__name__,
)
def test_a_rule_that_is_left_out_is_found(mutation: Callable[[], AbstractContextManager[Any]]) -> None:
    with mutation():
        for seed in range(1, MUTATION_SEEDS_MAX + 1):
            problem, _ = played(seed)
            if problem:
                print(f"seed {seed}: {problem[:200]}")
                return
    pytest.fail("no seed found it")
