"""Random schedules: clients at work, faults beside them, then peace, and a look at everything.

`python -m geodyne.sim SEED ...` runs schedules again by their seeds.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

from geodyne.catalog import TableStatus
from geodyne.checkers.linearizability import Operation
from geodyne.errors import ApiError
from geodyne.messages import AdvanceCursor, Applied, FeedPage, Moved, ReadFeed
from geodyne.rpc.region import RegionClient
from geodyne.sim.items import Items, Step, judge
from geodyne.sim.localindexes import BY_V, LOCAL_INDEXES
from geodyne.sim.loop import run_simulated
from geodyne.sim.network import ANSWER_WITHIN_S, Violation
from geodyne.sim.region import Region, SimNode, region

FAULTY_S = 8.0
DISK_LOSS_CHANCE = 0.3  # of a death
WHOLE_S = 2.5  # more than a slow disk takes to keep what makes a newcomer a member
CALM_S = 2.0
REGISTERS = ("r0", "r1", "r2", "r3")
COUNTERS = ("c0", "c1", "c2")
OTHER_REGION = "eu-west-1"
CONSUMER = f"replica/{OTHER_REGION}"
FAULTS = (
    *("kill", "kill", "power", "stop", "cut", "cut", "cut_clients", "isolate", "corner", "one_way"),
    *("slow_disk", "slow", "jump", "heal"),
)


def replay_line(seed: int) -> str:
    return f"replay: .venv/bin/python -m geodyne.sim {seed}"


def run_schedule(seed: int) -> Counter[str]:
    """One schedule; what happened in it, counted. Raises Violation or whatever broke, with the line that replays it."""
    with tempfile.TemporaryDirectory(prefix="geodyne-sim-") as path:
        try:
            return run_simulated(_schedule(seed, Path(path)))
        except Exception as error:
            error.add_note(replay_line(seed))
            raise


async def _schedule(seed: int, path: Path) -> Counter[str]:
    async with region(seed, path) as here:
        random = Random(seed + 1)
        counts: Counter[str] = Counter()
        await here.create_table(indexes=LOCAL_INDEXES)
        histories: dict[str, list[Operation[Step]]] = {}
        stop = asyncio.Event()
        feed = Feed(here, here.client, random, counts)
        jobs = [
            _worker(
                here, Items(here, histories, here.clients[number % 2].region), Random(seed + 2 + number), stop, counts
            )
            for number in range(4)
        ]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        tasks.append(asyncio.ensure_future(feed.run(stop)))
        tasks.append(asyncio.ensure_future(_tables(here, Random(seed + 9), stop, counts)))
        try:
            await _faults(here, random, counts)
            await _peace(here, counts)
            await here.run_for(CALM_S)
        finally:
            stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
        here.check()
        table = await here.active()
        partitions = [partition.id for partition in table.partitions]
        await here.settle(partitions)
        await _final_reads(here, histories)
        judge(histories)
        await feed.finish(partitions)
        await here.settle(partitions)
        await _nothing_is_left_over(here)
        for node in here.nodes:
            counts["snapshots"] += int(node.count("geodyne_snapshots_total", direction="received", result="ok"))
            counts["checkpoints"] += int(node.count("geodyne_checkpoints_total"))
            counts["role_changes"] += int(node.count("geodyne_raft_term_changes_total"))
        counts["operations"] += sum(map(len, histories.values()))
        counts["virtual_ms"] += int(here.loop.time() * 1000)
        return counts


# --- clients ------------------------------------------------------------------------------------------------


async def _worker(here: Region, items: Items, random: Random, stop: asyncio.Event, counts: Counter[str]) -> None:
    number = 0
    last: dict[str, str] = {}
    while not stop.is_set():
        number += 1
        await asyncio.sleep(random.choice((0.0, 0.001, 0.02, 0.1)))
        kind = random.choice(("add", "add", "put", "cas", "cas", "read", "read", "read", "delete", "scan"))
        value = f"{random.randrange(1 << 30):x}.{number}"
        pk = random.choice(COUNTERS if kind == "add" else REGISTERS)
        if kind == "add":
            done = await items.add(pk)
        elif kind == "put":
            done = await items.put(pk, value, old=random.random() < 0.5)
            last[pk] = value
        elif kind == "cas":
            done = await items.cas(pk, last.get(pk, ""), value)
            last[pk] = value if done == "ok" else last.get(pk, "")
        elif kind == "delete":
            done = await items.delete(pk, old=random.random() < 0.5)
            last[pk] = ""
        elif kind == "scan":
            if number % 2:
                await items.scan([*REGISTERS, *COUNTERS])
            else:
                await items.scan([*REGISTERS], BY_V)
            done = "ok"
        else:
            done = await items.read(pk, strong=random.random() < 0.8)
            last[pk] = done
        counts["unknown" if done == "unknown" else "done"] += 1


async def _tables(here: Region, random: Random, stop: asyncio.Event, counts: Counter[str]) -> None:
    """Another table comes and goes; the one under test becomes global, so that its changes are kept."""
    client = here.clients[1].region
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: here.control("update_table", {"name": "T", "replicas_add": [OTHER_REGION]}, client),
        lambda: here.control("create_table", {"definition": _definition("U")}, client),
        lambda: here.control("delete_table", {"name": "U"}, client),
    ]
    turn = 0
    while not stop.is_set():
        await asyncio.sleep(random.uniform(0.1, 1.5))
        try:
            answer = await steps[turn % len(steps)]()
            counts[type(answer).__name__ + "_control"] += 1
        except ApiError:
            counts["lost_control"] += 1
        turn += 1


def _definition(name: str) -> dict[str, object]:
    return {"name": name, "hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None}


class Feed:
    """A consumer that reads every partition's changes and commits its cursors, as a replicator does."""

    def __init__(self, here: Region, client: RegionClient, random: Random, counts: Counter[str]) -> None:
        self._here = here
        self._client = client
        self._random = random
        self._counts = counts
        self._cursors: dict[int, int] = {}
        self._seen: dict[int, dict[int, bytes]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self._random.uniform(0.01, 0.2))
            table = self._client.catalog.tables.get("T")
            if table is None or not table.is_global:
                continue
            for partition in table.partitions:
                await self._read(partition.id, partition.epoch)

    async def finish(self, partitions: list[int]) -> None:
        """Read to the end; the newest record of each key must be what the replicas hold."""
        table = self._client.catalog.tables["T"]
        if not table.is_global:
            return
        for partition in table.partitions:
            while await self._read(partition.id, partition.epoch):
                pass
        self._here.check()

    async def _read(self, partition: int, epoch: int) -> int:
        after = self._cursors.get(partition, -1)
        if after == -1:
            group = self._here.leader(partition)
            held = self._here.group(group, partition) if group is not None else None
            if held is None or CONSUMER not in held.state.cursors:
                return 0
        call = ReadFeed(partition, epoch, CONSUMER, after, 1 << 16, 50)
        try:
            page = await self._client.call(call, timeout_ms=2_000)
        except ApiError:
            return 0
        if isinstance(page, Moved):
            return 0
        assert isinstance(page, FeedPage)
        if page.trimmed:
            raise Violation(f"partition {partition}: the feed was trimmed beyond its consumer's cursor {after}")
        seen = self._seen.setdefault(partition, {})
        for record in page.records:
            if record.sequence <= after:
                raise Violation(f"partition {partition}: record {record.sequence} after cursor {after}")
            after = record.sequence
            known = seen.get(record.sequence)
            if known is not None and known != record.change.version:
                raise Violation(f"partition {partition}: record {record.sequence} has changed")
            seen[record.sequence] = record.change.version
        self._counts["feed_records"] += len(page.records)
        if page.next >= 0:
            self._cursors[partition] = page.next
        if page.records and self._random.random() < 0.5:
            try:
                done = await self._client.call(AdvanceCursor(partition, epoch, CONSUMER, page.next), timeout_ms=2_000)
                self._counts["cursors"] += isinstance(done, Applied)
            except ApiError:
                pass
        return len(page.records)


# --- faults -------------------------------------------------------------------------------------------------


async def _faults(here: Region, random: Random, counts: Counter[str]) -> None:
    until = here.loop.time() + FAULTY_S
    revivals: list[asyncio.Task[None]] = []
    disks = Disks(here, Random(~here.seed))
    while here.loop.time() < until:
        await here.run_for(random.choice((0.02, 0.1, 0.3, 0.8, 1.5)))
        disks.look()
        node = random.choice(here.nodes)
        kind = random.choice(FAULTS)
        if kind in {"kill", "power", "stop"}:
            if sum(other.alive for other in here.nodes) < 3 and random.random() < 0.8:
                continue
            if not node.alive:
                continue
            if kind == "stop":
                await node.stop()
            else:
                await node.kill(power_loss=kind == "power")
                counts["lost_disk"] += disks.lose(node)
            revivals.append(asyncio.ensure_future(_revive(node, random.choice((0.0, 0.3, 1.0, 2.5)))))
        elif kind == "isolate":
            here.isolate(node, from_clients=random.random() < 0.4)
        elif kind == "corner":
            _corner(here, node)
        elif kind == "one_way":
            here.world.block(node.id, random.choice(here.others(node)).id)
        elif kind == "cut":
            here.world.cut(node.id, random.choice(here.others(node)).id)
        elif kind == "cut_clients":
            for client in here.clients:
                here.world.cut(node.id, client.id)
        elif kind == "slow_disk":
            if node.disk is not None:
                node.disk.slow_until = here.loop.time() + random.uniform(0.5, 2.0)
        elif kind == "slow":
            here.world.slow.add(node.id)
        elif kind == "jump":
            node.clock.skew_us = random.randint(-500_000, 500_000)
        else:
            here.world.heal()
        counts[kind] += 1
    await asyncio.gather(*revivals)


class Disks:
    """A majority of the replicas stays whole: a disk is lost only if both other nodes have been whole for a while."""

    def __init__(self, here: Region, random: Random) -> None:
        self._here = here
        self._random = random
        self._whole_since: dict[str, float] = {node.id: here.loop.time() for node in here.nodes}

    def look(self) -> None:
        for node in self._here.nodes:
            if node.node is None:
                continue
            if any(group.raft.newcomer for group in node.handler.groups):
                self._whole_since.pop(node.id, None)
            else:
                self._whole_since.setdefault(node.id, self._here.loop.time())

    def lose(self, node: SimNode) -> bool:
        """Perhaps: the dead node comes back with nothing."""
        now = self._here.loop.time()
        if self._random.random() >= DISK_LOSS_CHANCE:
            return False
        if any(now - self._whole_since.get(other.id, now) < WHOLE_S for other in self._here.others(node)):
            return False
        node.lose_disk()
        self._whole_since.pop(node.id, None)
        return True


def _corner(here: Region, node: SimNode) -> None:
    """One client sees nothing but this node, which sees no other node."""
    here.isolate(node, from_clients=False)
    alone = here.clients[0].id
    for other in here.others(node):
        here.world.block(alone, other.id)
        here.world.block(other.id, alone)


async def _revive(node: SimNode, after_s: float) -> None:
    await asyncio.sleep(after_s)
    node.start()


async def _peace(here: Region, counts: Counter[str]) -> None:
    here.world.heal()
    for node in here.nodes:
        if node.disk is not None:
            node.disk.slow_until = 0.0


# --- at the end ---------------------------------------------------------------------------------------------


async def _final_reads(here: Region, histories: dict[str, list[Operation[Step]]]) -> None:
    """Everything acknowledged is there: the last reads are part of the histories."""
    items = Items(here, histories, here.clients[1].region)
    for pk in (*REGISTERS, *COUNTERS):
        if await items.read(pk) == "unknown":
            raise Violation(f"{pk} cannot be read in peace")
    await items.scan([*REGISTERS, *COUNTERS])
    await items.scan([*REGISTERS], BY_V)


async def _nothing_is_left_over(here: Region) -> None:
    """No table is on its way, everybody has the same catalog, and every node holds exactly the replicas that it assigns
    to it, in memory and on disk."""
    await here.run_for(ANSWER_WITHIN_S + 1.0)

    def left() -> list[str]:
        catalogs = {
            party: (view.revision, tuple((t.name, t.status.value, t.revision) for t in view.tables.values()))
            for party, view in (
                *((client.id, client.region.catalog) for client in here.clients),
                *((node.id, node.handler.catalog.catalog) for node in here.nodes),
            )
        }
        found = (
            [f"{party} has {catalog}" for party, catalog in catalogs.items()] if len({*catalogs.values()}) > 1 else []
        )
        tables = here.nodes[0].handler.catalog.catalog.tables
        found += [
            f"{table.name} is {table.status}" for table in tables.values() if table.status is not TableStatus.ACTIVE
        ]
        wanted = {0, *(partition.id for table in tables.values() for partition in table.partitions)}
        for node in here.nodes:
            assert node.node is not None
            for where, ids in (
                ("memory", {group.partition for group in node.node.service.groups}),
                ("state", set(node.node._store._groups)),
                ("log", set(node.node._log._index.groups)),
            ):
                if ids != wanted:
                    found.append(f"{node.id} {where}: {sorted(ids)}, not {sorted(wanted)}")
        return found

    try:
        await here.until(lambda: not left(), "everything is in its place", 10.0)
    except Violation:
        leads = [f"{node.id} leads {node.handler.catalog.leads()}" for node in here.nodes]
        raise Violation("; ".join([*left(), *leads])) from None
