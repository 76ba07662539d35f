"""Tells the partitions of this region up to when everything has arrived everywhere: they collect tombstones by it."""

from __future__ import annotations

import asyncio
import logging

from geodyne.catalog import TableRecord, replica_consumer
from geodyne.errors import ApiError
from geodyne.messages import AdvanceCursor
from geodyne.ports import Clock
from replication.ports import Region
from replication.watermarks import Watermarks, settled, sources_of

log = logging.getLogger(__name__)

TELL_EVERY_MS = 5_000
CALLS_AT_ONCE_MAX = 8
CALL_TIMEOUT_MS = 2_000


class Collecting:
    """Of one replicator. At most one round over all partitions is under way."""

    def __init__(self, own_region: str, region: Region, watermarks: Watermarks, clock: Clock) -> None:
        self._own = own_region
        self._region = region
        self._watermarks = watermarks
        self._clock = clock
        self._due_ms = clock.lease_ms() + TELL_EVERY_MS
        self._round: asyncio.Task[None] | None = None

    def step(self) -> None:
        """With each look at the catalog."""
        now_ms = self._clock.lease_ms()
        if now_ms < self._due_ms or (self._round is not None and not self._round.done()):
            return
        self._due_ms = now_ms + TELL_EVERY_MS
        if calls := self.calls():
            self._round = asyncio.get_running_loop().create_task(self._tell(calls))

    async def close(self) -> None:
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)

    def calls(self) -> list[AdvanceCursor]:
        """What there is to tell now: of each table whose replicas are all complete and heard of."""
        return [
            call for table in self._region.catalog.tables.values() if settled(table) for call in self._of_table(table)
        ]

    def _of_table(self, table: TableRecord) -> list[AdvanceCursor]:
        sources = sources_of(table, self._own)
        stable_us = self._watermarks.stable_us(table.id, sources)
        if not stable_us:
            return []
        arrived = tuple((source, self._watermarks.us(table.id, source)) for source in sources)
        consumer = replica_consumer(sources[0])
        return [
            AdvanceCursor(partition.id, partition.epoch, consumer, 0, stable_us, arrived)
            for partition in table.partitions
        ]

    async def _tell(self, calls: list[AdvanceCursor]) -> None:
        slots = asyncio.Semaphore(CALLS_AT_ONCE_MAX)

        async def tell(call: AdvanceCursor) -> None:
            async with slots:
                try:
                    await self._region.call(call, timeout_ms=CALL_TIMEOUT_MS)
                except ApiError as error:
                    log.debug("not told", extra={"partition": call.partition, "reason": error.message})

        await asyncio.gather(*(tell(call) for call in calls))
