"""Carrying out the faults of a run of several regions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

from geodyne.catalog import DISASSOCIATION_PROTECTION
from geodyne.errors import ApiError
from geodyne.messages import Control, ControlDone
from geodyne.sim.checks import Checks
from geodyne.sim.faults import Fault
from geodyne.sim.globalchecks import GlobalChecks
from geodyne.sim.globalfaults import FAULTY_S
from geodyne.sim.globalregions import TABLE, Regions, SimReplicator, live, skew
from geodyne.sim.network import NEUTRAL, Violation
from geodyne.sim.region import Region, SimClient

SKEWS_US = (-30_000_000, -12_000_000, -2_000_000, 0, 2_000_000, 12_000_000, 30_000_000)
FELT_US = 1_000_000  # a clock that is set by less changes nothing
PEACE_SKEW_US = 100_000
LIFE_S = 120.0  # within this, from the end of the faults on, a region that left is back
LOOK_S = 0.3
CONTROL_MS = 5_000
REFUSED_S = 0.5


class GlobalInjector:
    """The faults of one run. `counts` is by kind: faults that had an effect."""

    def __init__(self, regions: Regions, checks: GlobalChecks) -> None:
        self.counts: Counter[str] = Counter()
        self._regions = regions
        self._checks = checks
        self._blocked: Counter[tuple[str, str]] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._living = False  # a region leaves and comes back: one at a time
        self.removed: set[str] = set()  # regions that do not come back

    async def run(self, plan: Sequence[Fault]) -> None:
        """All of them, each at its time, and FAULTY_S in all."""
        began = self._regions.loop.now
        for fault in plan:
            await self._regions.run_for(max(0.0, began + fault.at_s - self._regions.loop.now))
            self._tasks.append(self._regions.loop.create_task(self._one(fault), context=NEUTRAL.copy()))
        await self._regions.run_for(max(0.0, began + FAULTY_S - self._regions.loop.now))

    async def end(self) -> None:
        """Whatever still goes on ends now, and everything comes back; clocks are right again."""
        self._over.set()
        regions = self._regions
        for number, (name, here) in enumerate(regions.by_name.items()):
            self._set_clocks(here, regions.replicators[name], PEACE_SKEW_US * (number - 1))
        regions.world.far.clear()
        regions.world.heal()
        if self._tasks:
            done, late = await asyncio.wait(self._tasks, timeout=LIFE_S)
            for task in sorted(done, key=self._tasks.index):
                task.result()
            if late:
                raise Violation(f"a region is not back after {LIFE_S} s: {regions.told()}")
        for here in regions.all:
            await here.revived()

    async def _one(self, fault: Fault) -> None:
        method: Callable[..., Coroutine[Any, Any, bool]] = getattr(self, f"_{fault.kind}")
        here = self._regions.by_name[fault.target]
        if await method(fault, here, Random(fault.number)):
            self.counts[fault.kind] += 1

    async def _wait(self, seconds: float) -> None:
        """So long, or until all faults are to end."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return

    def _other(self, here: Region, random: Random) -> Region:
        return random.choice([one for one in self._regions.all if one is not here])

    # --- network ----------------------------------------------------------------------------------------

    async def _link(self, fault: Fault, here: Region, random: Random) -> bool:
        other = self._other(here, random)
        world, count = self._regions.world, len(self._regions.world.streams)
        world.cut(self._at(here).id, self._at(other).id)
        return len(world.streams) < count

    async def _block(self, ways: Sequence[tuple[str, str]], for_s: float) -> bool:
        world = self._regions.world
        held = world.held
        for way in ways:
            self._blocked[way] += 1
            world.block(*way)
        await self._wait(for_s)
        for way in ways:
            self._blocked[way] -= 1
            if not self._blocked[way]:
                world.unblock(*way)
        return world.held > held

    async def _oneway(self, fault: Fault, here: Region, random: Random) -> bool:
        return await self._block([(self._at(here).id, self._at(self._other(here, random)).id)], fault.for_s)

    async def _apart(self, fault: Fault, here: Region, random: Random) -> bool:
        one, two = self._at(here).id, self._at(self._other(here, random)).id
        return await self._block([(one, two), (two, one)], fault.for_s)

    async def _alone(self, fault: Fault, here: Region, random: Random) -> bool:
        own = self._at(here).id
        others = [self._at(other).id for other in self._regions.all if other is not here]
        return await self._block([way for other in others for way in ((own, other), (other, own))], fault.for_s)

    async def _blind(self, fault: Fault, here: Region, random: Random) -> bool:
        own = self._at(here).id
        return await self._block([way for node in here.nodes for way in ((own, node.id), (node.id, own))], fault.for_s)

    async def _far(self, fault: Fault, here: Region, random: Random) -> bool:
        world, pair = self._regions.world, frozenset((here.name, self._other(here, random).name))
        slowed = world.slowed
        world.far.add(pair)
        await self._wait(fault.for_s)
        world.far.discard(pair)
        return world.slowed > slowed

    # --- processes --------------------------------------------------------------------------------------

    def _at(self, here: Region) -> SimReplicator:
        return self._regions.replicators[here.name]

    async def _replicator(self, fault: Fault, here: Region, random: Random) -> bool:
        one = self._at(here)
        if not one.alive or self._regions.loop.stopped(one.id):
            return False
        one.kill()
        await one.buried()
        await self._wait(fault.for_s)
        if not one.alive:
            await one.start()
        return True

    async def _frozen(self, fault: Fault, here: Region, random: Random) -> bool:
        one, loop = self._at(here), self._regions.loop
        if not one.alive or loop.stopped(one.id):
            return False
        loop.stop_process(one.id)
        await self._wait(fault.for_s)
        missed = loop.continue_process(one.id)
        self._regions.world.release()
        return missed > 0

    async def _kill(self, fault: Fault, here: Region, random: Random, power: bool = False) -> bool:
        nodes = live(here)
        if not nodes:
            return False
        node = random.choice(nodes)
        node.crash(power)
        await self._wait(fault.for_s)
        if not node.alive:
            await node.revive(0.0)
        return True

    async def _power(self, fault: Fault, here: Region, random: Random) -> bool:
        return await self._kill(fault, here, random, power=True)

    # --- clocks -----------------------------------------------------------------------------------------

    def _set_clocks(self, here: Region, one: SimReplicator, skew_us: int) -> None:
        skew(here, one, skew_us)
        self._checks.clock_set(here.name, skew_us)

    async def _skew(self, fault: Fault, here: Region, random: Random) -> bool:
        before_us, skew_us = self._at(here).clock.skew_us, random.choice(SKEWS_US) + random.randint(-500_000, 500_000)
        self._set_clocks(here, self._at(here), skew_us)
        return abs(skew_us - before_us) > FELT_US

    async def _jump(self, fault: Fault, here: Region, random: Random) -> bool:
        before_us, skew_us = self._at(here).clock.skew_us, random.choice(SKEWS_US)
        self._at(here).clock.skew_us = skew_us
        self._checks.clock_set(here.name, skew_us)
        return self._at(here).alive and abs(skew_us - before_us) > FELT_US

    # --- regions ----------------------------------------------------------------------------------------

    async def _leave(self, fault: Fault, here: Region, random: Random) -> bool:
        return await self._come_and_go(here, random, fault.for_s, wiped=False)

    async def _wipe(self, fault: Fault, here: Region, random: Random) -> bool:
        return await self._come_and_go(here, random, fault.for_s, wiped=True)

    async def _remove(self, fault: Fault, here: Region, random: Random) -> bool:
        if self._living or len(self._regions.all) < 3:
            return False
        self._living = True  # and stays so: the two others are the rest
        self._checks.gone.add(here.name)
        self.removed.add(here.name)
        rest = [one.name for one in self._regions.all if one is not here]
        by = self._other(here, random)
        await self._change(by, {"replicas_remove": [here.name]}, lambda: self._regions.steady(rest))
        return True

    async def _part(self, fault: Fault, here: Region, random: Random) -> bool:
        if self._living:
            return False
        self._living = True
        self._checks.gone.add(here.name)
        rest = [one.name for one in self._regions.all if one is not here]
        await self._change(here, {"extra": {DISASSOCIATION_PROTECTION: False}}, lambda: True)
        await self._change(here, {"leave": True}, lambda: self._regions.steady(rest, alone=here.name))
        await self._wait(fault.for_s)
        await self._ask(here, "delete_table", {})
        while self._regions.table(here.name) is not None:
            await self._regions.run_for(LOOK_S)
        everywhere = list(self._regions.by_name)
        by = self._other(here, random)
        await self._change(by, {"replicas_add": [here.name]}, lambda: self._regions.steady(everywhere))
        self._living = False
        return True

    async def _come_and_go(self, here: Region, random: Random, for_s: float, *, wiped: bool) -> bool:
        if self._living:
            return False
        self._living = True
        self._checks.gone.add(here.name)
        by = self._other(here, random)
        if wiped:
            await self._lose_everything(here, for_s)
        rest = [one.name for one in self._regions.all if one is not here]
        await self._change(by, {"replicas_remove": [here.name]}, lambda: self._regions.steady(rest))
        await self._wait(for_s)
        everywhere = list(self._regions.by_name)
        await self._change(by, {"replicas_add": [here.name]}, lambda: self._regions.steady(everywhere))
        self._living = False
        return True

    async def _change(self, by: Region, change: dict[str, Any], done: Callable[[], bool]) -> None:
        """Ask until it is taken, then wait for it; the caller bounds the time."""
        await self._ask(by, "update_table", change)
        while not done():
            await self._regions.run_for(LOOK_S)

    async def _ask(self, by: Region, operation: str, body: dict[str, Any]) -> None:
        while True:
            try:
                answer = await by.client.call(Control(operation, {"name": TABLE, **body}), timeout_ms=CONTROL_MS)
            except ApiError as error:
                if error.kind.definite:
                    raise
                answer = None
            if isinstance(answer, ControlDone):
                return
            await asyncio.sleep(REFUSED_S)

    async def _lose_everything(self, here: Region, for_s: float) -> None:
        """All disks of a region at once; what starts there afterwards knows nothing."""
        one = self._at(here)
        self._regions.loop.continue_process(one.id)
        if one.alive:
            one.kill()
        await one.buried()
        for node in here.nodes:
            if node.alive:
                node.crash()
            await node.buried()
            node.lose_disk()
        self._checks.lives[here.name] += 1
        here.checks = Checks(here.problems, here.loop.time)
        await here.clients[0].region.close()
        here.clients[0] = SimClient(here, 0)
        for node in here.nodes:
            if not node.alive:
                node.start()
        here.clients[0].region.start()
        await here.clients[0].region.wait_ready()
        if not one.alive:
            await one.start()
