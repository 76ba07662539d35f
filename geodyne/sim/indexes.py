"""Global indexes in a simulated region: a table that has some, and whether they hold what its items say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from geodyne.catalog import IndexStatus, TableRecord
from geodyne.messages import ApplyIndex, ControlDone
from geodyne.model.indexkeys import IndexSchema, encode_index_key, projected
from geodyne.model.values import dumps, item_size, loads
from geodyne.sim.items import SCHEMA, Items
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import Violation
from geodyne.sim.region import Region, SimNode, region
from node.group import Asker, Group

BY_V = {"name": "by-v", "is_global": True, "hash_keys": [["v", "S"]], "range_keys": [], "projection": "ALL"}
BY_N = {
    "name": "by-n",
    "is_global": True,
    "hash_keys": [["n", "N"]],
    "range_keys": [["pk", "S"]],
    "projection": "KEYS_ONLY",
}
PKS = [f"item-{number}" for number in range(12)]
VALUES = ["red", "green", "blue", "amber"]


class IndexScene:
    """A region with table T and its indexes."""

    def __init__(self, here: Region) -> None:
        self.here = here
        self.items = Items(here, {}, here.clients[0].region)
        self.other_items = Items(here, self.items.histories, here.clients[1].region)

    @property
    def table(self) -> TableRecord:
        return self.items.table()

    def base(self, number: int = 0) -> int:
        return self.table.partitions[number].id

    def index_partition(self, number: int = 0, name: str = "by-v") -> int:
        index = self.table.index(name)
        assert index is not None
        return index.partitions[number].id

    def leader(self, partition: int) -> SimNode:
        leader = self.here.leader(partition)
        assert leader is not None
        return leader

    async def write(self, count: int, seed: int, items: Items | None = None) -> None:
        """So many writes, one after the other: values come, change and go."""
        random = Random(seed)
        items = items or self.items
        for _ in range(count):
            pk = random.choice(PKS)
            kind = random.random()
            if kind < 0.6:
                await items.put(pk, random.choice(VALUES))
            elif kind < 0.8:
                await items.add(pk + "-counter")
            else:
                await items.delete(pk)

    async def add_index(self, definition: dict[str, Any]) -> None:
        answer = await self.here.control("update_table", {"name": "T", "index_add": definition})
        assert isinstance(answer, ControlDone), answer

    async def until_active(self, name: str = "by-v", timeout_s: float = 30.0) -> None:
        def active() -> bool:
            index = self.table.index(name)
            return index is not None and index.status is IndexStatus.ACTIVE

        await self.here.until(active, f"index {name} is active", timeout_s)

    # --- looking inside ---------------------------------------------------------------------------------

    def rows(self, partition: int) -> dict[bytes, bytes]:
        leader = self.leader(partition)
        assert leader.node is not None
        rows = leader.node._store.range(partition, b"", b"\xff" * 64, False, 100_000)
        return {key: row.value for key, row in rows if row.value is not None}

    def wanted(self) -> dict[str, dict[bytes, bytes]]:
        """What each index should hold, computed from the items themselves."""
        wanted: dict[str, dict[bytes, bytes]] = {index.name: {} for index in self.table.indexes}
        for partition in self.table.partitions:
            for item_key, image in self.rows(partition.id).items():
                item = loads(image)
                for index in self.table.indexes:
                    schema = IndexSchema(index.hash_keys, index.range_keys, SCHEMA)
                    key = encode_index_key(schema, item, item_key)
                    if key is not None:
                        wanted[index.name][key] = dumps(projected(schema, index.projection, index.included, item))
        return wanted

    def held(self) -> dict[str, dict[bytes, bytes]]:
        held: dict[str, dict[bytes, bytes]] = {}
        for index in self.table.indexes:
            entries = held[index.name] = {}
            for partition in index.partitions:
                for key, image in self.rows(partition.id).items():
                    if index.partition_of(int.from_bytes(key[:8], "big")) is not partition:
                        raise Violation(f"an entry of {index.name} is in the wrong partition")
                    entries[key] = image
        return held

    def differences(self) -> list[str]:
        held, found = self.held(), []
        for name, entries in self.wanted().items():
            found += [f"{name} lacks {image!r}" for key, image in entries.items() if key not in held[name]]
            found += [f"{name} still has {image!r}" for key, image in held[name].items() if key not in entries]
            found += [
                f"{name} has {held[name][key]!r} for {image!r}"
                for key, image in entries.items()
                if held[name].get(key, image) != image
            ]
        return found

    async def settle(self) -> None:
        """No faults any more: until nothing moves, and then compare replicas, and indexes with items."""
        here = self.here
        here.world.heal()
        partitions = [partition.id for partition in self.table.all_partitions]

        def caught_up() -> bool:
            if any(here.leader(partition) is None for partition in partitions):
                return False
            for partition in self.table.partitions:
                group = here.group(self.leader(partition.id), partition.id)
                if group is None or group.state.feed_floor < group.state.feed_head:
                    return False
            return True

        await here.until(caught_up, "the indexes have passed all changes", 60.0, 0.05)
        await here.settle(partitions)
        differences = self.differences()
        if differences:
            raise Violation("; ".join(differences)[:4000])
        for index in self.table.indexes:
            for partition in index.partitions:
                group = here.group(self.leader(partition.id), partition.id)
                assert group is not None
                rows = self.rows(partition.id)
                if (group.state.items, group.state.bytes) != (
                    len(rows),
                    sum(item_size(loads(image)) for image in rows.values()),
                ):
                    raise Violation(f"partition {partition.id} of {index.name} counts wrong")


@contextmanager
def sent_batches() -> Iterator[list[ApplyIndex]]:
    """The batches that reach partitions of indexes meanwhile."""
    batches: list[ApplyIndex] = []
    real = Group.apply_index

    def note(group: Group, call: ApplyIndex, asker: Asker, wall_us: int) -> None:
        batches.append(call)
        real(group, call, asker, wall_us)

    with patch.object(Group, "apply_index", note):
        yield batches


def play_indexed(
    path: Path,
    scenario: Callable[[IndexScene], Awaitable[None]],
    seed: int = 1,
    *,
    indexes: tuple[dict[str, Any], ...] = (BY_V, BY_N),
    small: bool = False,
) -> None:
    async def run() -> None:
        async with region(seed, path, small=small) as here:
            await here.create_table(indexes=list(indexes))
            scene = IndexScene(here)
            ids = [partition.id for partition in scene.table.all_partitions]
            await here.until(lambda: all(here.leader(p) is not None for p in ids), "leaders")
            await here.settle(ids)
            await asyncio.wait_for(scenario(scene), 600)
            here.check()

    run_simulated(run())
