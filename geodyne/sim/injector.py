"""Carrying out the faults of a run: each begins at its time, ends at its own, and tells whether it had any effect."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from random import Random
from typing import Protocol

from geodyne.sim import rot
from geodyne.sim.disorder import Disorder
from geodyne.sim.exchanges import Exchanges
from geodyne.sim.faults import FAULTY_S, LEADER, Fault
from geodyne.sim.growth import Growth
from geodyne.sim.network import NEUTRAL
from geodyne.sim.region import Region, SimNode

# What a fault does: it waits for so many seconds at each `yield`, and returns whether anything came of it.
Course = Generator[float, None, bool]

STEPS_MAX = 400  # callbacks of the loop until a process dies
WRITES_MAX = 8  # writes until it dies in the middle of one
DRIFT = 0.008  # two clocks apart by this much twice stay within the allowance of a lease
JUMPS_US = (2_000, 500_000, 2_000_000, 600_000_000)
LOOK_S = 0.25
GLIMPSE_S = 0.6  # more than a heartbeat and its answer take
WHOLE_S = 3.0  # more than a slow disk takes to keep what makes a newcomer a member
SECOND_DEATH_CHANCE = 0.35  # of a process while another one is dead


def _end_of(course: Course) -> bool:
    """Of one that is at its last wait."""
    try:
        next(course)
    except StopIteration as end:
        return bool(end.value)
    raise AssertionError("it goes on")


class Routers(Protocol):
    async def kill_router(self, number: int, down_s: float) -> None: ...


class Injector:
    """The faults of one run. `counts` is by kind: faults that had an effect."""

    def __init__(self, here: Region, routers: Routers, partitions: Callable[[], Sequence[int]], growth: Growth) -> None:
        """`partitions`: those of which a leader may be meant."""
        self.counts: Counter[str] = Counter()
        self._here = here
        self._routers = routers
        self._partitions = partitions
        self._courses: dict[Course, Fault] = {}
        self._blocked: Counter[tuple[str, str]] = Counter()
        self._slow: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._members = Exchanges(growth)
        self._moving: asyncio.Task[None] | None = None
        self._whole_since: dict[str, float] = {node.id: here.loop.now for node in here.nodes}
        self._rotten = ""  # the one node whose disk changes bits in this run

    async def run(self, plan: Sequence[Fault]) -> None:
        """All of them, each at its time, and FAULTY_S in all."""
        began = self._here.loop.now
        for fault in plan:
            while (left := began + fault.at_s - self._here.loop.now) > 0:
                await self._here.run_for(min(LOOK_S, left))
                self._look()
            self._begin(fault)
        await self._here.run_for(max(LOOK_S, began + FAULTY_S - self._here.loop.now))

    async def end(self) -> None:
        """Whatever still goes on ends now, and every process comes back."""
        for course in list(self._courses):
            while course in self._courses:
                self._go_on(course)
        for node in self._here.nodes:
            node.trouble.clear()
        self._here.world.heal()
        await asyncio.gather(*self._tasks)
        await self._here.revived()

    def _begin(self, fault: Fault) -> None:
        node = self._target(fault)
        course: Course = getattr(self, f"_{fault.kind}")(fault, node, Random(fault.number))
        self._courses[course] = fault
        self._go_on(course)

    def _go_on(self, course: Course) -> None:
        if course not in self._courses:
            return
        try:
            wait_s = next(course)
        except StopIteration as end:
            fault = self._courses.pop(course)
            self.counts[fault.kind] += bool(end.value)
        else:
            self._here.loop.call_later(wait_s, self._go_on, course, context=NEUTRAL)

    def _target(self, fault: Fault) -> SimNode:
        here = self._here
        if fault.target == LEADER:
            partitions = self._partitions()
            leader = here.leader(partitions[fault.number % len(partitions)])
            return leader or here.nodes[fault.number % len(here.nodes)]
        return next(node for node in here.nodes if node.zone == fault.target)

    # --- processes --------------------------------------------------------------------------------------

    def _may_die(self, node: SimNode, random: Random) -> bool:
        others = all(other.alive for other in self._here.others(node))
        return node.alive and (others or random.random() < SECOND_DEATH_CHANCE)

    def _kill(self, fault: Fault, node: SimNode, random: Random, power: bool = False) -> Course:
        if not self._may_die(node, random):
            return False
        life = node.life

        def die() -> None:
            if node.alive and node.life == life:
                node.crash(power)
                self._here.revive_soon(node, fault.for_s)

        self._here.loop.after_steps(random.randrange(STEPS_MAX), die)
        return True
        yield

    def _power(self, fault: Fault, node: SimNode, random: Random) -> Course:
        return self._kill(fault, node, random, power=True)

    def _tear(self, fault: Fault, node: SimNode, random: Random) -> Course:
        if not self._may_die(node, random):
            return False
        life, power = node.life, random.random() < 0.5

        def die() -> None:
            """Of a process that is just starting or stopping, whoever does that takes care."""
            if node.alive:
                node.crash(power)
                self._here.revive_soon(node, fault.for_s)

        node.trouble.on_death = die
        node.trouble.writes_left = random.randrange(WRITES_MAX)
        yield max(1.0, fault.for_s)
        node.trouble.writes_left = -1
        return node.life > life or not node.alive

    def _blackout(self, fault: Fault, node: SimNode, random: Random) -> Course:
        for one in self._here.nodes:
            if one.alive:
                one.crash(power_loss=True)
                self._here.revive_soon(one, fault.for_s * random.random())
        return True
        yield

    def _stop(self, fault: Fault, node: SimNode, random: Random) -> Course:
        if not self._may_die(node, random) or self._here.loop.stopped(node.id) or node.trouble.failing:
            return False
        self._tasks.append(asyncio.ensure_future(self._stop_and_start(node, fault.for_s)))
        return True
        yield

    async def _stop_and_start(self, node: SimNode, after_s: float) -> None:
        if await node.stop():
            self._here.revive_soon(node, after_s)

    def _pause(self, fault: Fault, node: SimNode, random: Random) -> Course:
        loop = self._here.loop
        if not node.alive or loop.stopped(node.id):
            return False
        loop.stop_process(node.id)
        yield fault.for_s
        waited = loop.continue_process(node.id)
        self._here.world.release()
        return waited > 0

    def _member(self, fault: Fault, node: SimNode, random: Random) -> Course:
        if self._moving is not None and not self._moving.done():
            return False
        removes = random.random() < 0.5
        self._moving = asyncio.ensure_future(self._members.exchange(node.zone, removes=removes))
        self._tasks.append(self._moving)
        return True
        yield

    def _router(self, fault: Fault, node: SimNode, random: Random) -> Course:
        number = random.randrange(len(self._here.clients))
        self._tasks.append(asyncio.ensure_future(self._routers.kill_router(number, fault.for_s)))
        return True
        yield

    # --- network ----------------------------------------------------------------------------------------

    def _cut(self, fault: Fault, node: SimNode, random: Random) -> Course:
        before = len(self._here.world.streams)
        other = random.choice([None, *self._here.others(node), *self._here.clients])
        self._here.world.cut(node.id, other.id if other is not None else None)
        return len(self._here.world.streams) < before
        yield

    def _partition(self, fault: Fault, node: SimNode, random: Random) -> Course:
        others = [other.id for other in self._here.others(node)]
        if random.random() < 0.4:
            others += [client.id for client in self._here.clients]
        return self._blocking(fault, [(node.id, other) for other in others] + [(other, node.id) for other in others])

    def _oneway(self, fault: Fault, node: SimNode, random: Random) -> Course:
        others = random.sample(self._here.others(node), random.choice((1, 2)))
        ends = [(node.id, other.id) for other in others]
        return self._blocking(fault, ends if random.random() < 0.5 else [(two, one) for one, two in ends])

    def _glimpse(self, fault: Fault, node: SimNode, random: Random) -> Course:
        """A leader that is cut off and heard again by one that may have voted for another meanwhile, while that other
        cannot tell it so."""
        heard, *others = random.sample(self._here.others(node), len(self._here.others(node)))
        courses = [
            self._blocking(fault, [(node.id, heard.id), (heard.id, node.id)]),
            self._blocking(
                fault._replace(for_s=fault.for_s + GLIMPSE_S),
                [ends for other in others for ends in ((node.id, other.id), (other.id, node.id))],
            ),
        ]
        waits = [next(course) for course in courses]
        yield waits[0]
        held = [_end_of(courses[0])]
        yield waits[1] - waits[0]
        held.append(_end_of(courses[1]))
        return any(held)

    def _corner(self, fault: Fault, node: SimNode, random: Random) -> Course:
        others = [other.id for other in self._here.others(node)]
        alone = random.choice(self._here.clients).id
        ends = [(one, other) for one in (node.id, alone) for other in others]
        return self._blocking(fault, ends + [(two, one) for one, two in ends])

    def _blocking(self, fault: Fault, ends: Sequence[tuple[str, str]]) -> Course:
        world = self._here.world
        held = world.held
        for one in ends:
            self._blocked[one] += 1
            world.blocked.add(one)
        yield fault.for_s
        for one in ends:
            self._blocked[one] -= 1
            if not self._blocked[one]:
                world.blocked.discard(one)
        world.release()
        return world.held > held

    def _disorder(self, fault: Fault, node: SimNode, random: Random) -> Course:
        world = self._here.world
        other = random.choice(self._here.others(node))
        ends = ((node.id, other.id), (other.id, node.id))
        chances = (random.choice((0.0, 0.05, 0.3)), random.choice((0.05, 0.3)), random.choice((0.05, 0.3)))
        disorders = [
            Disorder(Random(random.getrandbits(64)), lost=chances[0], doubled=chances[1], late=chances[2]) for _ in ends
        ]
        world.disorders.update(zip(ends, disorders, strict=True))
        yield fault.for_s
        for one, disorder in zip(ends, disorders, strict=True):
            if world.disorders.get(one) is disorder:
                del world.disorders[one]
        world.cut(node.id, other.id, "lost a message")
        return any(disorder.disturbed for disorder in disorders)

    def _slow_network(self, fault: Fault, node: SimNode, random: Random) -> Course:
        world = self._here.world
        self._slow[node.id] += 1
        world.slow.add(node.id)
        yield fault.for_s
        self._slow[node.id] -= 1
        if not self._slow[node.id]:
            world.slow.discard(node.id)
        return True

    # --- disks ------------------------------------------------------------------------------------------

    def _slow_disk(self, fault: Fault, node: SimNode, random: Random) -> Course:
        trouble = node.trouble
        delays = trouble.delays
        trouble.slow_until = self._here.loop.now + fault.for_s
        yield fault.for_s
        return trouble.delays > delays

    def _full_disk(self, fault: Fault, node: SimNode, random: Random) -> Course:
        return self._failing(fault, node, errno.ENOSPC, 0)

    def _read_only(self, fault: Fault, node: SimNode, random: Random) -> Course:
        return self._failing(fault, node, errno.EROFS, 0)

    def _failed_sync(self, fault: Fault, node: SimNode, random: Random) -> Course:
        return self._failing(fault, node, 0, errno.EIO)

    def _failing(self, fault: Fault, node: SimNode, write: int, sync: int) -> Course:
        if any(other.trouble.failing or not other.alive for other in self._here.nodes):
            return False
        trouble = node.trouble
        failures = trouble.failures
        trouble.write_error, trouble.sync_error = write, sync
        yield fault.for_s
        trouble.write_error = trouble.sync_error = 0
        return trouble.failures > failures

    def _lost_disk(self, fault: Fault, node: SimNode, random: Random) -> Course:
        if not self._may_be_emptied(node):
            return False
        node.crash(power_loss=True)
        node.lose_disk()
        self._whole_since.pop(node.id, None)
        self._here.revive_soon(node, fault.for_s)
        return True
        yield

    def _rot_state(self, fault: Fault, node: SimNode, random: Random) -> Course:
        if not self._may_rot(node) or not node.alive or node.node is None:
            return False
        return rot.rot_value(node.node._store._db, random)
        yield

    def _rot_page(self, fault: Fault, node: SimNode, random: Random) -> Course:
        if not node.alive or not self._may_rot(node):
            return False
        node.crash(power_loss=random.random() < 0.5)
        found = rot.rot_page(node.data / "state.db", random)
        self._here.checks.disk_lost(node.id)  # without its state it may begin again as a newcomer
        self._whole_since.pop(node.id, None)
        self._here.revive_soon(node, fault.for_s)
        return found
        yield

    def _rot_log(self, fault: Fault, node: SimNode, random: Random) -> Course:
        if not self._may_be_emptied(node) or not self._may_rot(node):
            return False
        node.crash()
        found = rot.rot_log(node.data / "log", random)
        self._whole_since.pop(node.id, None)
        self._here.revive_soon(node, fault.for_s)
        return found
        yield

    def _may_rot(self, node: SimNode) -> bool:
        """Damage that nobody has met yet may lie on one node only: two of three would be a majority."""
        if self._rotten not in ("", node.id) or not self._others_whole(node):
            return False
        self._rotten = node.id
        node.rotten = True
        return True

    def _may_be_emptied(self, node: SimNode) -> bool:
        return node.alive and self._rotten in ("", node.id) and self._others_whole(node)

    def _others_whole(self, node: SimNode) -> bool:
        """A majority of the replicas stays whole: both others have been for a while."""
        now = self._here.loop.now
        return all(now - self._whole_since.get(other.id, now) >= WHOLE_S for other in self._here.others(node))

    def _look(self) -> None:
        for node in self._here.nodes:
            if node.node is None or not node.alive:
                continue
            groups = list(node.handler.groups)
            if any(group.raft.newcomer or group.damaged for group in groups):
                self._whole_since.pop(node.id, None)
            else:
                self._whole_since.setdefault(node.id, self._here.loop.now)

    # --- clocks -----------------------------------------------------------------------------------------

    def _jump(self, fault: Fault, node: SimNode, random: Random) -> Course:
        node.clock.skew_us = random.randint(-1, 1) * random.choice(JUMPS_US)
        return True
        yield

    def _drift(self, fault: Fault, node: SimNode, random: Random) -> Course:
        node.clock.drift(1 + random.uniform(-DRIFT, DRIFT))
        return True
        yield
