"""What clients do in a simulated region while it is in trouble, and whether it was right when the trouble is over.

Every run has clients of items, in a table with indexes in some; some have transactions on lists, a consumer of the
changes, tables that come and go. Faults are not made here: the caller makes them between `start` and `stop`, and
calls `judge` when they are over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from random import Random
from typing import Any

from geodyne.checkers.serializability import Transaction
from geodyne.errors import ApiError
from geodyne.ledger import LEDGER_TABLE
from geodyne.messages import ControlDone
from geodyne.sim.feeds import OTHER_REGION, Feed
from geodyne.sim.histories import Histories, value_of
from geodyne.sim.itemclients import GLOBAL_INDEX, TABLE, ItemClient, definition
from geodyne.sim.mirror import Mirror
from geodyne.sim.network import Violation
from geodyne.sim.peace import check_nothing_is_left_over
from geodyne.sim.region import Region
from geodyne.sim.routers import Body, SimRouter
from geodyne.sim.sdk import Sdk
from geodyne.sim.transactions import RECOVERED_S, Lists, held, number_of
from geodyne.sim.transactions import judge as judge_lists

CLIENTS = 4
PAUSES_S = (0.0, 0.002, 0.05, 0.5, 1.8)  # between two operations of a client
LISTS_TABLE, LISTS, LIST_WORKERS = "T", ("a", "b", "c", "d"), 2
LIST_CALLS_MAX = 12  # of one transaction: a coordinator that dies does so at one of them
LIST_PAUSES_S = (0.05, 0.4, 2.0)
OTHER_TABLE = "U"
PATIENCE_S = 30.0  # of the client that makes the tables and looks at them at the end
END_S = 60.0  # within this all that is under way has ended, however it ends
CONVERGE_S = 40.0  # within this, in peace, all replicas are equal and all have a leader
INDEX_S = 20.0  # and within this the global index holds what the items say


class Families:
    """Which of the parts a run has."""

    __slots__ = ("feed", "indexed", "lists", "mirror", "tables", "together")

    def __init__(self, random: Random) -> None:
        self.indexed = random.random() < 0.25
        self.together = random.random() < 0.2
        self.lists = random.random() < 0.15
        self.feed = random.random() < 0.3
        self.tables = random.random() < 0.3
        self.mirror = random.random() < 0.3


class Workload:
    """The clients of one run, and their routers: one in the place of each of the region's clients."""

    def __init__(self, here: Region, random: Random, counts: Counter[str], families: Families | None = None) -> None:
        """`counts` is added to: "operations", what became of them, "retries" ..."""
        self.routers = [SimRouter(here, number) for number in range(len(here.clients))]
        self.families = families or Families(random)
        self._here = here
        self._random = random
        self._counts = counts
        self._histories = Histories()
        self._lists: list[Transaction] = []
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._feed = Feed(here, TABLE, Random(random.getrandbits(64)), counts)
        self._mirror = Mirror(here, TABLE, Random(random.getrandbits(64)), counts)
        self._last = self._sdk(0, PATIENCE_S)

    def _sdk(self, first: int, timeout_s: float = 0.0) -> Sdk:
        routers = self.routers[first:] + self.routers[:first]
        return Sdk(routers, Random(self._random.getrandbits(64)), self._counts, self._here.loop.time, timeout_s)

    async def prepare(self) -> None:
        """The tables. Raises Violation when they cannot be made."""
        for router in self.routers:
            await router.start()
        table = definition(self.families.indexed)
        if self.families.mirror:
            table["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        await self._ask("CreateTable", table)
        await self._here.active(TABLE)
        if self.families.lists:
            await self._here.create_table(LISTS_TABLE)

    async def _ask(self, operation: str, body: Body) -> Body:
        """In peace. Raises Violation when it fails."""
        last = (await self._last.call(operation, body))[-1]
        if last.code != "":
            raise Violation(f"{operation} in peace: {last}")
        return last.body

    def start(self) -> None:
        """Clients at work, from now until `stop`."""
        for number in range(CLIENTS):
            self._begin(self._client(number))
        families = self.families
        if families.lists:
            for number in range(LIST_WORKERS):
                self._begin(self._list_worker(number))
        if families.feed:
            self._begin(self._make_global())
            self._begin(self._feed.run(self._stop))
        if families.mirror:
            self._begin(self._mirror.run(self._stop))
        if families.tables:
            self._begin(self._come_and_go())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def stop(self) -> None:
        """No new operations; those under way come to their end. Raises whatever went wrong in a client."""
        self._stop.set()
        _, running = await asyncio.wait(self._tasks, timeout=END_S)
        if running:
            raise Violation(f"not ended within {END_S} s: {running}")
        await asyncio.gather(*self._tasks)

    async def kill_router(self, number: int, down_s: float) -> None:
        """A router dies in the middle of what it does; another takes its place after a while. Not where lists are:
        those coordinators die at calls of their own choice."""
        router = self.routers[number]
        if not router.alive or self.families.lists:
            return
        await router.kill()
        self._counts["router deaths"] += 1
        await asyncio.sleep(down_s)
        await router.start()

    # --- clients ------------------------------------------------------------------------------------------

    async def _client(self, number: int) -> None:
        random = Random(self._random.getrandbits(64))
        families = self.families
        sdk = self._sdk(number % len(self.routers))
        client = ItemClient(sdk, random, self._histories, f"{number}", families.indexed, families.together)
        while not self._stop.is_set():
            await asyncio.sleep(random.choice(PAUSES_S))
            await client.step()

    async def _list_worker(self, number: int) -> None:
        random = Random(self._random.getrandbits(64))
        turn = 0
        while not self._stop.is_set():
            await asyncio.sleep(random.choice(LIST_PAUSES_S))
            turn += 1
            own, other = (
                self._lists_of((number + one) % len(self.routers), f"{number}.{turn}.{one}") for one in (0, 1)
            )
            keys = random.sample(LISTS, random.randint(1, 3))
            dies_at = random.randrange(LIST_CALLS_MAX) if random.random() < 0.15 else 1 << 30
            kind = random.choice(("write", "token", "single", "read", "one"))
            if kind == "write":
                await own.append(number_of(random), keys, dies_at=dies_at)
            elif kind == "token":
                await own.append_once(number_of(random), keys, [other, own], dies_at=dies_at)
            elif kind == "single":
                await own.append_alone(number_of(random), keys[0])
            else:
                await own.read(keys if kind == "read" else keys[:1])
            self._counts["operations"] += 1

    def _lists_of(self, number: int, name: str) -> Lists:
        return Lists(self._here, self._here.clients[number].region, self._lists, self._counts, name)

    async def _make_global(self) -> None:
        """Until it is done: from then on changes are kept for another region."""
        while not self._stop.is_set():
            await asyncio.sleep(1.0)
            if await self._control("update_table", {"name": TABLE, "replicas_add": [OTHER_REGION]}):
                return

    async def _come_and_go(self) -> None:
        """Another table is made and deleted, again and again."""
        random = Random(self._random.getrandbits(64))
        key = {"hash_key": "pk", "hash_type": "S", "range_key": None, "range_type": None}
        while not self._stop.is_set():
            await asyncio.sleep(random.uniform(0.1, 6.0))
            if OTHER_TABLE in self._here.client.catalog.tables:
                await self._control("delete_table", {"name": OTHER_TABLE})
            else:
                await self._control("create_table", {"definition": {"name": OTHER_TABLE, **key}})

    async def _control(self, operation: str, body: Body) -> bool:
        try:
            answer = await self._here.control(operation, body)
        except ApiError:
            self._counts["control unknown"] += 1
            return False
        self._counts[f"control {type(answer).__name__}"] += 1
        return isinstance(answer, ControlDone)

    # --- at the end ---------------------------------------------------------------------------------------

    async def judge(self) -> None:
        """Faults are over, the clients have stopped: everything converges, and what was told can be. Raises Violation,
        and leaves "unknown" in the counts."""
        here = self._here
        for router in self.routers:
            if not router.alive:
                await router.start()
        await here.until(lambda: all(client.region.ready for client in here.clients), "routers are ready", CONVERGE_S)
        await here.active(TABLE)
        if self.families.lists:
            await here.until(lambda: not held(here), "nothing is prepared", RECOVERED_S)
        await here.settle(self._partitions(), CONVERGE_S)
        await self._read_everything()
        self._histories.judge()
        if self.families.indexed:
            await self._judge_index()
        if self.families.lists:
            final = await self._lists_of(0, "last").final(LISTS)
            judge_lists(self._lists, final)
        await self._feed.finish()
        if self.families.mirror:
            await self._mirror.finish()
        await check_nothing_is_left_over(here)
        await here.settle(self._partitions(), CONVERGE_S)
        self._counts["unknown"] += self._histories.unknown

    def _partitions(self) -> list[int]:
        tables = self._here.client.catalog.tables
        names = [name for name in (TABLE, LISTS_TABLE, LEDGER_TABLE) if name in tables]
        return [partition.id for name in names for partition in tables[name].all_partitions]

    async def _read_everything(self) -> None:
        """What was acknowledged is there: the last reads are part of the histories."""
        reader = ItemClient(self._last, self._random, self._histories, "last", False, False)
        if not await reader.read_all():
            raise Violation("the items cannot be read in peace")

    async def _judge_index(self) -> None:
        """When writes pause a global index holds exactly what the items say."""
        items = await self._scan({"TableName": TABLE, "ConsistentRead": True})
        wanted = {item: value for item, value in items.items() if not value.isdigit()}
        until = self._here.loop.time() + INDEX_S
        while (found := await self._scan({"TableName": TABLE, "IndexName": GLOBAL_INDEX})) != wanted:
            if self._here.loop.time() > until:
                raise Violation(f"not within {INDEX_S} s: the global index holds {found}, the items say {wanted}")
            await asyncio.sleep(0.1)

    async def _scan(self, body: Body) -> dict[str, str]:
        answer = await self._ask("Scan", body)
        return {f"{one['pk']['S']}/{one['sk']['S']}": value_of(one) for one in answer["Items"]}
