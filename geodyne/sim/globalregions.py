"""Several regions in one thread: each a node or three of the real code with its disks, clients and a replicator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest.mock import patch

from geodyne.catalog import PartitionRecord, ReplicaStatus, TableRecord, TableStatus
from geodyne.peermessages import Hello
from geodyne.rpc.region import RegionClient
from geodyne.sim.globalwire import Wire
from geodyne.sim.loop import PROCESS, SimClock, SimLoop
from geodyne.sim.network import NEUTRAL, SimConnector, Violation, World
from geodyne.sim.region import Region, SimNode, _patched
from geodyne.sim.storage import DurableStates, simulated_storage
from node.catalog import machine
from node.catalog.machine import PARTITIONS_OF_A_TABLE
from node.feed.retention import FeedSettings
from replication.progress import ProgressSettings
from replication.service import PeerReplicator, Replicator
from replication.values import FORMAT

NAMES = ("us-east-1", "eu-west-1", "ap-south-1")
DISTANCE_S = (0.01, 0.09)  # one way between two regions
JITTER = 0.1
FAR = 10  # times as long
CLOCKS_APART_US = 20_000  # of the processes of one region
SETTINGS = ProgressSettings(page_bytes=600, batches_max=3, commit_every_ms=300, idle_commit_every_ms=1_500)
FEED_BYTES = 12_000  # of a seed whose feeds give up changes within seconds
TABLE = "T"


class Shape(NamedTuple):
    """What a seed's regions are like: nodes of each, by region; bounds of the feeds; partitions of a table."""

    nodes: tuple[int, ...]
    feed_bytes: int
    partitions: int = PARTITIONS_OF_A_TABLE


class GlobalWorld(World):
    """A network in which regions are far from each other."""

    def __init__(self, loop: SimLoop, random: Random) -> None:
        super().__init__(loop, random)
        self._distances: dict[frozenset[str], float] = {}
        self.far: set[frozenset[str]] = set()  # pairs of regions between which everything takes ten times as long
        self.slowed = 0  # messages that this has met

    def delay_s(self, source: str, target: str) -> float:
        delay = super().delay_s(source, target)
        here, there = source.partition("/")[0], target.partition("/")[0]
        if here == there:
            return delay
        pair = frozenset((here, there))
        distance = self._distances.get(pair)
        if distance is None:
            distance = self._distances[pair] = self.random.uniform(*DISTANCE_S)
        delay += distance * (1 + JITTER * self.random.random())
        if pair not in self.far:
            return delay
        self.slowed += 1
        return delay * FAR


class SimReplicator:
    """The replicator of one region: it keeps nothing, so a kill is an end and a start another one."""

    def __init__(self, regions: Regions, here: Region) -> None:
        self.id = f"{here.name}/replicator-1"
        self.here = here
        self.life = 0
        self.alive = False
        self.replicator: Replicator | None = None
        self.client: RegionClient | None = None
        node = here.nodes[0].clock
        skew_us = node.skew_us + here.random.randint(-CLOCKS_APART_US, CLOCKS_APART_US)
        self.clock = SimClock(here.loop, rate=1.0, lease_offset_ms=here.random.randrange(10_000_000), skew_us=skew_us)
        self._regions = regions
        self._burial: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin a life."""
        assert not self.alive
        here, regions = self.here, self._regions
        self.life += 1
        self.alive = True
        context = Context()
        context.run(PROCESS.set, self.id)
        regions.world.contexts[self.id] = context
        random = Random(here.random.getrandbits(64))
        connector = SimConnector(regions.world, here.ledger, self.id, here.nodes_by_id)
        zone = here.nodes[0].zone
        client = RegionClient(
            here.name, zone, here.node_addresses(), connector, router_incarnation=random.getrandbits(63)
        )
        peers = {
            name: PeerReplicator(name, f"{name}/replicator-1", f"{name}/replicator-1")
            for name in regions.by_name
            if name != here.name
        }
        replicator = Replicator(
            Hello("sim", here.name, self.id, self.life, FORMAT, 1),
            self.id,
            peers,
            region=client,
            clock=self.clock,
            random=random,
            settings=SETTINGS,
        )
        self.client, self.replicator = client, replicator

        async def begin() -> None:
            client.subscribe(replicator.wake)
            client.start()
            await replicator.start()

        await here.loop.create_task(begin(), context=context.copy())

    def kill(self) -> None:
        """The process is gone, and so is what was on its way from it or to it."""
        assert self.client is not None
        assert self.replicator is not None
        self.alive = False
        self._regions.wire.handlers.pop(self.id, None)
        self._regions.world.cut(self.id, reason="the replicator died")
        self._burial = self.here.loop.create_task(self._bury(self.client, self.replicator), context=NEUTRAL.copy())

    async def _bury(self, client: RegionClient, replicator: Replicator) -> None:
        await client.close()
        await replicator.close()

    async def buried(self) -> None:
        if self._burial is not None:
            await self._burial
            self._burial = None


class Regions:
    """All regions of a run."""

    def __init__(self, seed: int, path: Path, loop: SimLoop, durable: DurableStates, random: Random, shape: Shape):
        self.seed = seed
        self.loop = loop
        self.random = random
        self.world = GlobalWorld(loop, random)
        self.wire = Wire(self.world)
        feed = FeedSettings(shape.feed_bytes, shard_life_s=600.0)
        self.by_name: dict[str, Region] = {}
        for number, nodes in enumerate(shape.nodes):
            name = NAMES[number]
            directory = path / name
            directory.mkdir()
            founders = {f"{name}/node-{zone}": zone for zone in "abc"[:nodes]}
            self.by_name[name] = Region(
                seed * 8 + number,
                directory,
                loop,
                durable,
                1,
                name=name,
                founders=founders,
                world=self.world,
                feed=feed,
            )
        self.replicators = {name: SimReplicator(self, here) for name, here in self.by_name.items()}
        self.wire.processes.update({one.id: one for one in self.replicators.values()})

    @property
    def all(self) -> Sequence[Region]:
        return tuple(self.by_name.values())

    async def start(self) -> None:
        for here in self.all:
            await here.start()
        for one in self.replicators.values():
            await one.start()

    async def close(self) -> None:
        for one in self.replicators.values():
            if one.alive:
                one.kill()
            await one.buried()
        for here in self.all:
            await here.close()

    def check(self) -> None:
        """Raises Violation."""
        for here in self.all:
            here.check()

    async def run_for(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            await asyncio.sleep(min(0.5, max(0.001, until - self.loop.time())))
            self.check()

    @property
    def leader_changes(self) -> int:
        """Beyond the first leader of each partition; of the present life of each region."""
        changes = 0
        for here in self.all:
            groups = {group.partition for node in here.nodes if node.node for group in node.handler.groups}
            changes += max(0, here.checks.elections.leaderships - len(groups))
        return changes

    def table(self, name: str) -> TableRecord | None:
        """The table as that region's metadata leader has it, or as its client knows it."""
        here = self.by_name[name]
        return here.client.catalog.tables.get(TABLE)

    def members(self) -> tuple[str, ...]:
        """The regions in which the table is."""
        return tuple(name for name in self.by_name if self.table(name) is not None)

    def members_of(self, name: str) -> frozenset[str]:
        """The regions that have the table as that region knows it."""
        table = self.table(name)
        return frozenset(table.replicas) if table is not None else frozenset()

    def steady(self, wanted: Sequence[str], alone: str = "") -> bool:
        """Exactly these regions have the table, and each knows it of each. `alone`: has one of its own."""
        everywhere = dict.fromkeys(wanted, ReplicaStatus.ACTIVE.value) if len(wanted) > 1 else {}
        for name in self.by_name:
            table = self.table(name)
            if (table is None) != (name not in wanted and name != alone):
                return False
            replicas = everywhere if name in wanted else {}
            if table is not None and (table.status is not TableStatus.ACTIVE or dict(table.replicas) != replicas):
                return False
        return True

    def told(self) -> str:
        """What each region thinks of the table, for the text of a problem."""
        texts = []
        for name in self.by_name:
            table = self.table(name)
            texts.append(f"{name}: {table.status.value} {dict(table.replicas)}" if table else f"{name}: no table")
        return "; ".join(texts)

    async def until_steady(self, wanted: Sequence[str], timeout_s: float) -> None:
        """Raises Violation."""
        until = self.loop.time() + timeout_s
        while not self.steady(wanted):
            if self.loop.time() > until:
                raise Violation(f"not within {timeout_s} s: the table is in {', '.join(wanted)}; {self.told()}")
            await self.run_for(0.2)


def skew(here: Region, replicator: SimReplicator, skew_us: int) -> None:
    """Set all wall clocks of a region."""
    for node in here.nodes:
        node.clock.skew_us = skew_us
    replicator.clock.skew_us = skew_us


def live(here: Region) -> list[SimNode]:
    return [node for node in here.nodes if node.alive]


@contextmanager
def _quiet() -> Iterator[None]:
    """What replicators and nodes log in trouble is no news here."""
    levels = {name: logging.getLogger(name).level for name in ("replication", "node", "router")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _tables_of(partitions: int) -> Iterator[None]:
    """Tables have no more partitions than that."""
    real = machine._Draft.new_partitions

    def new_partitions(draft: machine._Draft, count: int) -> tuple[PartitionRecord, ...]:
        return real(draft, min(count, partitions))

    with patch.object(machine._Draft, "new_partitions", new_partitions):
        yield


@asynccontextmanager
async def regions(seed: int, path: Path, shape: Shape, close_s_max: float) -> AsyncIterator[Regions]:
    """Started regions without tables; checked and closed at the end, within a bound."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    random = Random(f"regions of {seed}")
    with simulated_storage(random) as durable, _patched(True, random), _quiet(), _tables_of(shape.partitions):
        all_ = Regions(seed, path, loop, durable, random, shape)
        with all_.wire.replaced():
            try:
                await all_.start()
                yield all_
                all_.check()
            finally:
                async with asyncio.timeout(close_s_max):
                    await all_.close()
