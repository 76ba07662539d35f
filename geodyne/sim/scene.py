"""One table in a simulated region, and one partition of it to look at: the stage of the scenarios."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from geodyne.messages import Get
from geodyne.model.keys import hash_of
from geodyne.sim.items import Items, judge, key_of
from geodyne.sim.loop import run_simulated
from geodyne.sim.region import Region, SimNode, region
from node.group import Group

PK = "one"
REPLICA = "replica/eu-west-1"


class Scene:
    """A region with table T; the partition of item PK, its leader and its followers."""

    def __init__(self, here: Region) -> None:
        self.here = here
        self.items = Items(here, {}, here.clients[0].region)
        self.other_items = Items(here, self.items.histories, here.clients[1].region)
        table = self.items.table()
        self.partitions = [partition.id for partition in table.partitions]
        self.partition = table.partition_of(hash_of(key_of(PK))).id

    @property
    def leader(self) -> SimNode:
        leader = self.here.leader(self.partition)
        assert leader is not None
        return leader

    @property
    def followers(self) -> list[SimNode]:
        return self.here.others(self.leader)

    def group(self, node: SimNode) -> Group:
        group = self.here.group(node, self.partition)
        assert group is not None
        return group

    async def new_leader(self, old: SimNode) -> SimNode:
        await self.here.until(lambda: self.here.leader(self.partition) not in (None, old), "another leader serves")
        return self.leader

    async def settle(self) -> None:
        self.here.world.heal()
        await self.here.settle(self.partitions)
        judge(self.items.histories)

    def get(self, strong: bool = True) -> Get:
        return Get(self.partition, 1, key_of(PK), strong)

    async def write_until_compacted(self, node: SimNode) -> None:
        """Until the leader's log begins beyond where `node` is: it will need a snapshot."""
        reached = self.group(node).raft.log.last_index if node.alive else self.reached
        for number in range(400):
            await self.items.put(PK, f"{number:0>200}")
            if self.group(self.leader).raft.log.offset_index > reached:
                return
            await self.here.run_for(0.05)
        raise AssertionError("the log was never compacted")

    reached = 0


def play(path: Path, scenario: Callable[[Scene], Awaitable[None]], seed: int = 1, *, small: bool = False) -> None:
    async def run() -> None:
        async with region(seed, path, small=small) as here:
            await here.create_table()
            scene = Scene(here)
            await here.until(lambda: all(here.leader(p) is not None for p in scene.partitions), "leaders")
            await here.settle(scene.partitions)
            await scenario(scene)
            here.check()

    run_simulated(run())
