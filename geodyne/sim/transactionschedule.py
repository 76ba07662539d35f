"""Random schedules of transactions: coordinators at work and dying, faults of the region beside them, then peace; the
history must be strictly serializable, and nothing may stay locked."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from geodyne.checkers.serializability import Transaction
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import Violation
from geodyne.sim.region import Region, region
from geodyne.sim.transactions import RECOVERED_S, Lists, held, judge, number_of, partitions_of, settled
from geodyne.sim.troubles import heal, troubles

KEYS = ("a", "b", "c", "d", "e", "f")
WORKERS = 5
CALM_S = 2.0
CALLS_MAX = 12  # of one transaction: a coordinator that dies does so at one of them


def run_transaction_schedule(seed: int) -> Counter[str]:
    """One schedule; what happened in it, counted. Raises Violation or whatever broke, with the line that replays it."""
    with tempfile.TemporaryDirectory(prefix="geodyne-sim-") as path:
        try:
            return run_simulated(_schedule(seed, Path(path)))
        except Exception as error:
            error.add_note(f"replay: GEODYNE_SIM_SEEDS={seed} pytest tests/sim/test_transaction_schedules.py")
            raise


async def _schedule(seed: int, path: Path) -> Counter[str]:
    async with region(seed, path) as here:
        random = Random(seed + 1)
        counts: Counter[str] = Counter()
        history: list[Transaction] = []
        await here.create_table()
        stop = asyncio.Event()
        workers: list[asyncio.Task[None]] = []
        for number in range(WORKERS):
            own, other = (
                Lists(here, here.clients[(number + turn) % 2].region, history, counts, f"{number}.{turn}")
                for turn in range(2)
            )
            workers.append(asyncio.ensure_future(_worker(own, other, Random(seed + 2 + number), stop)))
        try:
            await troubles(here, random, counts)
            heal(here)
            await here.run_for(CALM_S)
        finally:
            stop.set()
        await settled(workers)
        await _everything_ends(here)
        await here.settle(partitions_of(here))
        judge(history, await Lists(here, here.clients[1].region, history, counts, "last").final(KEYS))
        counts["transactions"] += len(history)
        return counts


async def _everything_ends(here: Region) -> None:
    try:
        await here.until(lambda: not held(here), "", RECOVERED_S)
    except Violation as violation:
        raise Violation("; ".join([str(violation), *held(here)])) from None


async def _worker(lists: Lists, other: Lists, random: Random, stop: asyncio.Event) -> None:
    seen: dict[str, tuple[str, ...]] = {}
    while not stop.is_set():
        await asyncio.sleep(random.choice((0.0, 0.002, 0.02, 0.1)))
        value = number_of(random)
        keys = random.sample(KEYS, random.randint(1, 3))
        kind = random.choice(("write", "write", "checked", "token", "single", "read", "read", "one"))
        dies_at = random.randrange(CALLS_MAX) if random.random() < 0.15 else 1 << 30
        if kind == "write":
            await lists.append(value, keys, dies_at=dies_at)
        elif kind == "checked":
            others = [key for key in seen if key not in keys][:2]
            await lists.append(value, keys, {key: len(seen[key]) for key in others}, dies_at=dies_at)
        elif kind == "token":
            await lists.append_once(value, keys, [other, lists], dies_at=dies_at)
        elif kind == "single":
            await lists.append_alone(value, keys[0])
        else:
            seen.update(await lists.read(random.sample(KEYS, 3) if kind == "read" else keys[:1]) or {})
