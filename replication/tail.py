"""One partition's feed to one destination region: performs what `replication.progress` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from geodyne.catalog import PartitionRecord, TableRecord, replica_consumer
from geodyne.errors import ApiError
from geodyne.messages import AdvanceCursor, Applied, FeedPage, ReadFeed
from geodyne.ports import Clock
from replication.backfill import EveryRegionBut, PartitionScan, ScanGate, ScanMovedError, ScanStats
from replication.link import DestinationLink
from replication.ports import Region
from replication.progress import Batch, Commit, Progress, ProgressSettings, Read, Scan, Send
from replication.values import Outcome, Receipt

FEED_WAIT_MS = 10_000  # how long a node holds a read of a quiet feed
READ_SLACK_MS = 5_000  # beyond that: an election, a resend
COMMIT_TIMEOUT_MS = 5_000


@dataclass(slots=True)
class Shipped:
    """What went to one destination since the process started. `latency` observes seconds from write to receipt."""

    changes: int = 0
    batches: int = 0
    latency: Callable[[float], None] = field(default=lambda _seconds: None)


class Tail:
    """Follows one partition for one destination until it is closed."""

    def __init__(
        self,
        table: TableRecord,
        partition: PartitionRecord,
        *,
        own_region: str,
        region: Region,
        link: DestinationLink,
        clock: Clock,
        shipped: Shipped,
        scans: ScanStats,
        settings: ProgressSettings,
    ) -> None:
        self.table = table
        self.partition = partition
        self.progress = Progress(own_region, settings)
        self._own_region = own_region
        self._region = region
        self._link = link
        self._clock = clock
        self._shipped = shipped
        self._scans = scans
        self._settings = settings
        self._gate = ScanGate()
        self._consumer = replica_consumer(link.region)
        self._tasks: set[asyncio.Task[None]] = set()  # bounded: reads_max reads, one commit, one scan
        self._timer: asyncio.TimerHandle | None = None
        self._started = self._closed = False

    def start(self) -> None:
        self._started = True
        self._link.subscribe(self)
        self._pump()

    async def close(self) -> None:
        """Stop without a last commit: what was acknowledged and not committed is shipped again some day."""
        self._closed = True
        self._link.unsubscribe(self)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set_paused(self, paused: bool) -> None:
        """Ship nothing until it is called again with False; the feed keeps the changes meanwhile."""
        if paused != self.progress.paused:
            self.progress.paused = paused
            self._gate.set_paused(paused)
            if self._started:
                self._pump()

    def set_fence(self, fence_us: int) -> None:
        """Of what is read from now on, ship no change of a larger version: the replica here leaves the table."""
        self.progress.fence_us = fence_us

    # --- link events

    def on_connected(self) -> None:
        self.progress.on_connected()
        self._pump()

    def on_disconnected(self) -> None:
        self.progress.on_disconnected(self._clock.lease_ms())
        self._pump()

    def on_room(self) -> None:
        self._pump()

    # --- performing

    def _pump(self) -> None:
        if self._closed:
            return
        now_ms = self._clock.lease_ms()
        for instruction in self.progress.decide(now_ms, may_read=self._link.has_room):
            match instruction:
                case Send(batch):
                    self._send(batch)
                case Read(after, safe_us):
                    self._perform(self._read(after, safe_us))
                case Commit(sequence):
                    self._perform(self._commit(sequence))
                case Scan(number):
                    self._perform(self._scan(number))
        self._set_timer(self.progress.wake_ms(now_ms), now_ms)

    def _set_timer(self, wake_ms: int | None, now_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake_ms is not None:
            # One millisecond more, so that rounding never wakes it just before the time.
            delay_s = (max(wake_ms - now_ms, 0) + 1) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump)

    def _perform(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send(self, batch: Batch) -> None:
        def done(receipt: Receipt) -> None:
            self._on_receipt(batch, receipt)

        self._link.ship(self.table.name, self.table.id, batch.changes, batch.size, done)

    def _on_receipt(self, batch: Batch, receipt: Receipt) -> None:
        if receipt.outcome is Outcome.APPLIED:
            self.progress.on_applied(batch.number)
            self._shipped.changes += len(batch.changes)
            self._shipped.batches += 1
            self._shipped.latency(max(self._clock.wall_us() - batch.newest_us, 0) / 1e6)
        else:
            self.progress.on_refused(
                batch.number,
                self._clock.lease_ms(),
                receipt.reason,
                receipt.retry_after_ms,
                held=receipt.outcome is Outcome.HELD,
            )
        self._pump()

    async def _read(self, after: int, safe_us: int) -> None:
        call = ReadFeed(
            self.partition.id,
            self.partition.epoch,
            self._consumer,
            after,
            min(self._settings.page_bytes, self._link.page_bytes),
            FEED_WAIT_MS,
            self._own_region,
            safe_us,
        )
        reason = ""
        try:
            answer = await self._region.call(call, timeout_ms=FEED_WAIT_MS + READ_SLACK_MS)
        except ApiError as error:
            reason = f"feed: {error.reason}"
        else:
            if isinstance(answer, FeedPage):
                self.progress.on_page(after, answer)
            else:
                reason = f"feed: {type(answer).__name__}"
        if reason:
            self.progress.on_read_failed(after, self._clock.lease_ms(), reason)
        self._pump()

    async def _commit(self, sequence: int) -> None:
        call = AdvanceCursor(self.partition.id, self.partition.epoch, self._consumer, sequence)
        committed = False
        try:
            committed = isinstance(await self._region.call(call, timeout_ms=COMMIT_TIMEOUT_MS), Applied)
        except ApiError as error:
            self.progress.trouble = f"cursor: {error.reason}"
        if committed:
            self.progress.on_committed(sequence)
        else:
            self.progress.on_commit_failed(self._clock.lease_ms())
        self._pump()

    async def _scan(self, number: int) -> None:
        """The feed no longer holds all changes since the cursor: ship the rows instead. Those of third regions as well:
        what hides a change of this region must not come later than the watermark that passes the change."""
        origins = EveryRegionBut(self._link.region)
        scan = PartitionScan(
            self.table,
            self.partition,
            origins,
            region=self._region,
            link=self._link,
            stats=self._scans,
            gate=self._gate,
        )
        try:
            await scan.run()
        except ScanMovedError:
            return  # the catalog will replace this tail by those of the new partitions
        self.progress.on_scanned(number)
        self._pump()
