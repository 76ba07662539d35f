"""Random schedules of a table with global indexes: writers and changes of indexes, faults beside them, then peace, and
the question whether each index holds exactly what the items say."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from geodyne.errors import ApiError
from geodyne.sim.indexes import BY_N, BY_V, IndexScene
from geodyne.sim.items import Items
from geodyne.sim.loop import run_simulated
from geodyne.sim.region import Region, region
from geodyne.sim.troubles import heal, troubles

WRITERS = 3
DEFINITIONS = (BY_V, BY_N, {**BY_V, "name": "by-v-keys", "projection": "KEYS_ONLY"})


def run_index_schedule(seed: int) -> Counter[str]:
    """One schedule; what happened in it, counted. Raises Violation or whatever broke."""
    with tempfile.TemporaryDirectory(prefix="geodyne-sim-") as path:
        return run_simulated(_schedule(seed, Path(path)))


async def _schedule(seed: int, path: Path) -> Counter[str]:
    async with region(seed, path) as here:
        random = Random(seed + 1)
        counts: Counter[str] = Counter()
        await here.create_table(indexes=[BY_V])
        scene = IndexScene(here)
        stop = asyncio.Event()
        tasks = [
            asyncio.ensure_future(_writer(scene, Items(here, {}, here.clients[number % 2].region), seed + number, stop))
            for number in range(WRITERS)
        ]
        tasks.append(asyncio.ensure_future(_change_indexes(here, Random(seed + 9), stop, counts)))
        try:
            await troubles(here, random, counts)
            heal(here)
            await here.run_for(1.0)
        finally:
            stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        await here.active()
        for index in scene.table.indexes:
            await scene.until_active(index.name, 60.0)
        await scene.settle()
        counts["entries"] = sum(map(len, scene.held().values()))
        for node in here.nodes:
            counts["sent"] += int(node.count("geodyne_index_entries_total"))
            counts["retries"] += int(node.count("geodyne_index_retries_total"))
        return counts


async def _writer(scene: IndexScene, items: Items, seed: int, stop: asyncio.Event) -> None:
    random = Random(seed)
    turn = 0
    while not stop.is_set():
        turn += 1
        await scene.write(1, random.getrandbits(30), items)
        await asyncio.sleep(random.choice((0.0, 0.001, 0.02, 0.1)))


async def _change_indexes(here: Region, random: Random, stop: asyncio.Event, counts: Counter[str]) -> None:
    """Indexes come and go, one step at a time; a step that is refused is tried again later."""
    client = here.clients[1].region
    while not stop.is_set():
        await asyncio.sleep(random.uniform(0.2, 1.5))
        definition = random.choice(DEFINITIONS)
        table = client.catalog.tables["T"]
        there = table.index(str(definition["name"])) is not None
        change = {"index_remove": definition["name"]} if there else {"index_add": definition}
        try:
            answer = await here.control("update_table", {"name": "T", **change}, client)
            counts[type(answer).__name__] += 1
        except ApiError:
            counts["lost"] += 1
