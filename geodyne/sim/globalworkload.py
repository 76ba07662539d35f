"""Clients of several regions that write the same items of one table, and what they are told."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import orjson

from geodyne.catalog import CONFLICT_LOG
from geodyne.errors import ApiError
from geodyne.messages import Answer, Moved, Refused, Write, WriteKind, Written
from geodyne.model.keys import hash_of
from geodyne.sim.globalchecks import GlobalChecks
from geodyne.sim.globalregions import TABLE, Regions
from geodyne.sim.items import addition, key_of, putting
from geodyne.sim.loop import SimClock
from geodyne.sim.network import Violation
from geodyne.sim.region import Region
from router.api.context import Api
from router.api.registry import OPERATIONS

ITEMS = tuple(f"k{number}" for number in range(10))
COUNTERS = ("n0", "n1")
KEYS = tuple(key_of(pk) for pk in (*ITEMS, *COUNTERS))
WRITERS_A_REGION = 2
PAUSES_S = (0.02, 0.5)  # in two regions; with more, longer: each write is applied in all of them, and that is the cost
TIMEOUT_MS = 4_000
NO_TABLE_S = 0.3
TRANSACTING_CHANCE = 0.3  # of a run in which transactions are written too
CONFLICTS_CHANCE = 0.3  # of a run whose table keeps its conflicts


class Writers:
    """The clients of one run."""

    def __init__(self, regions: Regions, seed: int, counts: Counter[str]) -> None:
        self._regions = regions
        self._random = Random(f"writers of {seed}")
        self._counts = counts
        self._transacting = self._random.random() < TRANSACTING_CHANCE
        self._keeping = Random(f"conflicts of {seed}").random() < CONFLICTS_CHANCE
        self._clock = SimClock(regions.loop, rate=1.0, lease_offset_ms=0, skew_us=0)
        self._stop = asyncio.Event()
        self._pauses_s = tuple(pause * len(regions.all) / 2 for pause in PAUSES_S)
        self._tasks: list[asyncio.Task[None]] = []
        self._values = 0
        self.acknowledged: list[tuple[str, bytes, str]] = []  # region, key, value

    async def prepare(self, within_s: float) -> None:
        """The table in all regions, with some items that are older than its replicas."""
        first, *others = self._regions.all
        await first.create_table(TABLE)
        for pk in ITEMS[::3]:
            await self.put(first, pk, Random(0))
        await first.control("update_table", {"name": TABLE, "replicas_add": [other.name for other in others]})
        names = [here.name for here in self._regions.all]
        await self._regions.until_steady(names, within_s)
        if self._keeping:
            await first.control("update_table", {"name": TABLE, "extra": {CONFLICT_LOG: True}})
            await self._regions.until_steady(names, within_s)

    def start(self) -> None:
        for here in self._regions.all:
            for _ in range(WRITERS_A_REGION):
                random = Random(self._random.getrandbits(32))
                self._tasks.append(asyncio.create_task(self._write_on(here, random)))

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def put(self, here: Region, pk: str, random: Random) -> None:
        """Write an item once, and note that it was acknowledged. Raises ApiError."""
        value = self._new_value(random)
        if isinstance(await self._do(here, putting(0, pk, value)), Written):
            self._acknowledge(here, pk, value)

    async def delete(self, here: Region, pk: str) -> None:
        """Raises ApiError."""
        await self._do(here, putting(0, pk, "")._replace(kind=WriteKind.DELETE, item=b"", size=0))

    def judge(self, checks: GlobalChecks) -> None:
        """What was acknowledged was written, where nobody took the table away since. Raises Violation."""
        for region, key, value in self.acknowledged:
            if region not in checks.gone and not any(_value(image) == value for image in checks.made.get(key, ())):
                raise Violation(f"{region} acknowledged {value} of {key[8:]!r} and never applied it")

    # --- inside -----------------------------------------------------------------------------------------

    async def _write_on(self, here: Region, random: Random) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(random.uniform(*self._pauses_s))
            draw = random.random()
            try:
                if self._transacting and draw < 0.15:
                    await self._transact(here, random)
                elif draw < 0.65:
                    await self.put(here, random.choice(ITEMS), random)
                elif draw < 0.85:
                    await self.delete(here, random.choice(ITEMS))
                else:
                    await self._do(here, addition(0, random.choice(COUNTERS)))
            except ApiError as error:
                self._counts["operations" if error.kind.definite else "unknown"] += 1

    async def _do(self, here: Region, write: Write) -> Answer | None:
        table = here.client.catalog.tables.get(TABLE)
        if table is None:
            await asyncio.sleep(NO_TABLE_S)
            return None
        partition = table.partition_of(hash_of(write.key))
        write = write._replace(partition=partition.id, epoch=partition.epoch)
        answer = await here.client.call(write, timeout_ms=TIMEOUT_MS)
        self._counts["operations"] += 1
        if not isinstance(answer, Written | Moved | Refused):
            raise Violation(f"{write}: {answer}")
        return answer

    async def _transact(self, here: Region, random: Random) -> None:
        pks = random.sample(ITEMS, 2)
        value = self._new_value(random)
        items = [{"Put": {"TableName": TABLE, "Item": {"pk": {"S": pk}, "v": {"S": value}}}} for pk in pks]
        body: dict[str, Any] = {"TransactItems": items}
        api = Api(here.client, region=here.name, now_ms=lambda: self._clock.wall_us() // 1000)
        orjson.loads(await OPERATIONS["TransactWriteItems"].handler(body, api.context(value)))
        self._counts["operations"] += 1
        for pk in pks:
            self._acknowledge(here, pk, value)

    def _new_value(self, random: Random) -> str:
        """Of sizes that make some changes share a page and others not."""
        self._values += 1
        return f"{self._values}-" + "x" * random.choice((0, 20, 300))

    def _acknowledge(self, here: Region, pk: str, value: str) -> None:
        self.acknowledged.append((here.name, key_of(pk), value))


def _value(image: bytes) -> str:
    return str(orjson.loads(image).get("v", {}).get("S", ""))
