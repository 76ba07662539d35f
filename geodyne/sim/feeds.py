"""A consumer of a table's changes in a simulated region, as a replicator is one."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from geodyne.errors import ApiError
from geodyne.messages import AdvanceCursor, Applied, FeedPage, Moved, ReadFeed
from geodyne.sim.network import Violation
from geodyne.sim.region import Region

OTHER_REGION = "eu-west-1"
CONSUMER = f"replica/{OTHER_REGION}"
RECORDS_MAX = 50  # a page
BYTES_MAX = 1 << 16


class Feed:
    """Reads every partition's changes and commits its cursors. Raises Violation when the feed is trimmed beyond them or
    goes back. That no change is missing is the mirror's to see (geodyne.sim.mirror)."""

    def __init__(self, here: Region, table: str, random: Random, counts: Counter[str]) -> None:
        self._here = here
        self._table = table
        self._random = random
        self._counts = counts
        self._cursors: dict[int, int] = {}
        self._seen: dict[int, dict[int, bytes]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self._random.uniform(0.05, 0.5))
            for partition, epoch in self._partitions():
                await self._read(partition, epoch)

    async def finish(self) -> None:
        """Nothing is written any more: read to the end."""
        for partition, epoch in self._partitions():
            while await self._read(partition, epoch):
                pass

    def _partitions(self) -> list[tuple[int, int]]:
        table = self._here.client.catalog.tables.get(self._table)
        if table is None or not table.is_global:
            return []
        return [(partition.id, partition.epoch) for partition in table.partitions]

    async def _read(self, partition: int, epoch: int) -> int:
        after = self._cursors.get(partition, -1)
        if after == -1:
            leader = self._here.leader(partition)
            held = self._here.group(leader, partition) if leader is not None else None
            if held is None or CONSUMER not in held.state.cursors:
                return 0
        call = ReadFeed(partition, epoch, CONSUMER, after, BYTES_MAX, RECORDS_MAX)
        try:
            page = await self._here.client.call(call, timeout_ms=2_000)
        except ApiError:
            return 0
        if isinstance(page, Moved):
            return 0
        assert isinstance(page, FeedPage)
        self._take(partition, after, page)
        if page.records and self._random.random() < 0.5:
            await self._advance(partition, epoch, page.next)
        return len(page.records)

    def _take(self, partition: int, after: int, page: FeedPage) -> None:
        if page.trimmed:
            raise Violation(f"partition {partition}: the feed was trimmed beyond its consumer's cursor {after}")
        seen = self._seen.setdefault(partition, {})
        for record in page.records:
            if record.sequence <= after:
                raise Violation(f"partition {partition}: record {record.sequence} after cursor {after}")
            after = record.sequence
            known = seen.setdefault(after, record.change.version)
            if known != record.change.version:
                raise Violation(f"partition {partition}: record {after} has changed")
        self._counts["feed records"] += len(page.records)
        if page.next >= 0:
            self._cursors[partition] = page.next

    async def _advance(self, partition: int, epoch: int, cursor: int) -> None:
        try:
            done = await self._here.client.call(AdvanceCursor(partition, epoch, CONSUMER, cursor), timeout_ms=2_000)
        except ApiError:
            return
        self._counts["feed cursors"] += isinstance(done, Applied)
