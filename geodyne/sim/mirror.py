"""A consumer that keeps a copy of a table by its stream alone, parents before children, as a Kinesis-adapter style
application does. Whatever the faults, it must see each change once and in order, and end equal to the table."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from geodyne.errors import ApiError
from geodyne.messages import (
    Answer,
    FeedRecord,
    ListShards,
    ReadRows,
    ReadStream,
    Refused,
    Rows,
    Shards,
    ShardSpan,
    StreamPage,
)
from geodyne.model.values import loads
from geodyne.sim.network import Violation
from geodyne.sim.region import Region

LIMITS = (1, 5, 100)  # records a page
BYTES_MAX = 1 << 16
WAITS_MS = (0, 300)
CALL_MS = 2_000
END_S = 60.0  # within this, in peace, all that was written is read


class _Shard:
    """How far the consumer is with a shard."""

    __slots__ = ("after", "done", "span")

    def __init__(self, span: ShardSpan) -> None:
        self.span = span
        self.after = span.after
        self.done = False


class _Copy:
    """One partition's part of the copy."""

    def __init__(self, partition: int, counts: Counter[str]) -> None:
        self.partition = partition
        self.shards: dict[int, _Shard] = {}  # in the order in which they follow each other
        self.items: dict[bytes, bytes] = {}
        self.read: dict[int, FeedRecord] = {}
        self._counts = counts

    def listed(self, shards: tuple[ShardSpan, ...]) -> None:
        """Take over a list of shards; what was in an older one must still be so."""
        for before, span in zip((None, *shards), shards, strict=False):
            if before is not None and (span.after != before.last or span.opened_us <= before.opened_us):
                raise Violation(f"{self}: shard {span} does not follow {before}")
            known = self.shards.get(span.opened_us)
            if known is None:
                if self.shards and span.opened_us < max(self.shards):
                    raise Violation(f"{self}: shard {span} turns up behind {max(self.shards)}")
                self.shards[span.opened_us] = _Shard(span)
                self._counts["stream shards"] += 1
            elif known.span.after != span.after or known.span.last not in (None, span.last):
                raise Violation(f"{self}: shard {known.span} has become {span}")
            else:
                known.span = span

    def current(self) -> _Shard | None:
        """The oldest shard that is not read to its end."""
        return next((shard for shard in self.shards.values() if not shard.done), None)

    def take(self, shard: _Shard, page: StreamPage) -> None:
        """Records of a page that was asked for at the shard's position."""
        if page.trimmed:
            raise Violation(f"{self}: trimmed beyond {shard.after}")
        for record in page.records:
            if not shard.after < record.sequence <= page.next:
                raise Violation(f"{self}: record {record.sequence} on a page from {shard.after} to {page.next}")
            shard.after = record.sequence
            self._apply(record)
        shard.after = page.next
        shard.done = page.closed
        self._counts["stream records"] += len(page.records)

    def _apply(self, record: FeedRecord) -> None:
        key, image = record.change.key, record.change.image
        if not _same(self.items.get(key), record.old_image):
            raise Violation(
                f"{self}: record {record.sequence} replaces {record.old_image!r}, the copy has {self.items.get(key)!r}"
            )
        if record.sequence in self.read:
            raise Violation(f"{self}: record {record.sequence} comes again")
        self.read[record.sequence] = record
        if image is None:
            self.items.pop(key, None)
        else:
            self.items[key] = image

    def __str__(self) -> str:
        return f"the stream of partition {self.partition}"


class Mirror:
    """The consumer of one table's first stream, which came with the table."""

    def __init__(self, here: Region, table: str, random: Random, counts: Counter[str]) -> None:
        self._here = here
        self._table = table
        self._random = random
        self._counts = counts
        self._copies: dict[int, _Copy] = {}

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self._random.uniform(0.02, 0.6))
            for partition, epoch in self._partitions():
                await self._step(partition, epoch)

    async def finish(self) -> None:
        """Nothing is written any more: read to the end and compare. Raises Violation."""
        for partition, epoch in self._partitions():
            until = self._here.loop.time() + END_S
            while not await self._at_end(partition, epoch):
                if self._here.loop.time() > until:
                    raise Violation(f"the stream of partition {partition} is not read within {END_S} s")
                await self._step(partition, epoch)
            await self._compare(self._copies[partition], epoch)
            await self._read_again(self._copies[partition], epoch)

    def _partitions(self) -> list[tuple[int, int]]:
        table = self._here.client.catalog.tables.get(self._table)
        if table is None or not table.streams:
            return []
        return [(partition.id, partition.epoch) for partition in table.partitions]

    @property
    def _label(self) -> str:
        return self._here.client.catalog.tables[self._table].streams[0].label

    async def _step(self, partition: int, epoch: int) -> None:
        """A page of the shard that is being read, or a look at which there are."""
        copy = self._copies.setdefault(partition, _Copy(partition, self._counts))
        shard = copy.current()
        if shard is None or self._random.random() < 0.1:
            listed = await self._call(ListShards(partition, epoch, self._label))
            if isinstance(listed, Shards):
                copy.listed(listed.shards)
            return
        limit, wait_ms = self._random.choice(LIMITS), self._random.choice(WAITS_MS)
        opened_us = shard.span.opened_us
        page = await self._call(
            ReadStream(partition, epoch, self._label, opened_us, shard.after, limit, BYTES_MAX, wait_ms)
        )
        if isinstance(page, StreamPage):
            copy.take(shard, page)
        elif isinstance(page, Refused):
            raise Violation(f"{copy}: shard {shard.span} is refused: {page}")

    async def _call(self, call: ListShards | ReadStream | ReadRows) -> Answer | None:
        try:
            return await self._here.client.call(call, timeout_ms=CALL_MS)
        except ApiError:
            return None

    async def _at_end(self, partition: int, epoch: int) -> bool:
        """Whether the copy is where the newest shard ends now."""
        copy = self._copies.get(partition)
        shard = copy.current() if copy is not None else None
        if shard is None or shard.span.last is not None:
            return False
        newest = await self._call(ReadStream(partition, epoch, self._label, 0, -2, 0, BYTES_MAX))
        return isinstance(newest, StreamPage) and shard.after >= newest.next

    async def _compare(self, copy: _Copy, epoch: int) -> None:
        rows = await self._call(ReadRows(copy.partition, epoch, b"", 1 << 30))
        if not isinstance(rows, Rows):
            raise Violation(f"partition {copy.partition} cannot be read in peace")
        held = {row.key: row.image for row in rows.rows if row.image is not None}
        wrong = [key for key in held.keys() | copy.items.keys() if not _same(held.get(key), copy.items.get(key))]
        if wrong:
            shown = [(held.get(key), copy.items.get(key)) for key in sorted(wrong)[:3]]
            raise Violation(f"{copy}: {len(wrong)} items differ from the table, (table, copy) of some: {shown}")

    async def _read_again(self, copy: _Copy, epoch: int) -> None:
        """From the oldest on: the very same records."""
        after = 0
        again: list[FeedRecord] = []
        while True:
            page = await self._call(ReadStream(copy.partition, epoch, self._label, 0, after, 1_000, 1 << 24))
            if not isinstance(page, StreamPage) or page.trimmed:
                raise Violation(f"{copy}: cannot be read again: {page}")
            again += page.records
            if page.next == after:
                break
            after = page.next
        if again != list(copy.read.values()):
            raise Violation(f"{copy}: {len(again)} records when read again, {len(copy.read)} before, or other ones")


def _same(one: bytes | None, other: bytes | None) -> bool:
    return one == other or (one is not None and other is not None and loads(one) == loads(other))
