"""Fills a replica: reads the rows of a partition in key order and ships them as changes, tombstones included.

Tombstones belong to it: without one, an older change that is still on its way from a third region would bring a
deleted item back. What is written during the scan reaches the destination through the feed, whose consumer exists
before the scan begins; order between the two does not matter, versions decide.

A scan survives broken streams and elections by going on after the last acknowledged key. A restarted process begins
anew: idempotent, and rare.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass

from geodyne.catalog import PartitionRecord, TableRecord
from geodyne.errors import ApiError
from geodyne.messages import Change, Moved, ReadRows, Rows
from geodyne.model import version as versions
from geodyne.model.keys import hash_of
from replication.link import DestinationLink
from replication.ports import Region
from replication.values import Outcome, Receipt, change_bytes

PAGE_BYTES_MAX = 256 * 1024
PAGES_IN_FLIGHT_MAX = 4  # of one partition
PARTITIONS_AT_ONCE_MAX = 4  # of one table and destination
READ_TIMEOUT_MS = 10_000
RETRY_S = 0.5


class ScanGate:
    """What is asked of all scans of one table to one destination: to rest, until they are told to go on."""

    __slots__ = ("_open",)

    def __init__(self, paused: bool = False) -> None:
        self._open = asyncio.Event()
        self.set_paused(paused)

    def set_paused(self, paused: bool) -> None:
        """What was shipped arrives; a page that was read waits here."""
        if paused:
            self._open.clear()
        else:
            self._open.set()

    @property
    def paused(self) -> bool:
        return not self._open.is_set()

    async def passed(self) -> None:
        """Returns when scans may ship."""
        await self._open.wait()


class ScanMovedError(Exception):
    """The partition is another one by now: scan again with the newer catalog."""


@dataclass(slots=True)
class ScanStats:
    """Of all scans to one destination since the process started."""

    rows: int = 0  # acknowledged
    running: int = 0


class ScanProgress:
    """How far the scan of a table has come. A scan follows the hashes of keys, over which rows are spread evenly."""

    def __init__(self, partitions: Iterable[PartitionRecord]) -> None:
        self._spans = {partition.id: (partition.low, partition.high) for partition in partitions}
        self._done = dict.fromkeys(self._spans, 0.0)

    def reached(self, partition: int, key: bytes | None) -> None:
        """All rows of the partition up to that key are there; None: all."""
        low, high = self._spans[partition]
        self._done[partition] = 1.0 if key is None else (hash_of(key) - low) / (high - low)

    @property
    def percent(self) -> float:
        return 100 * sum(self._done.values()) / max(len(self._done), 1)


class _LostError(Exception):
    """Ship again from the last acknowledged key; the text says why."""


class EveryRegion(Container[str]):
    """The set of all regions."""

    def __contains__(self, region: object) -> bool:
        return True


class EveryRegionBut(Container[str]):
    """The set of all regions but one."""

    def __init__(self, region: str) -> None:
        self._region = region

    def __contains__(self, region: object) -> bool:
        return region != self._region


async def scan_table(
    table: TableRecord,
    origins: Container[str],
    *,
    region: Region,
    link: DestinationLink,
    stats: ScanStats,
    gate: ScanGate | None = None,
    progress: ScanProgress | None = None,
) -> None:
    """Ship all rows of a table whose version was made in one of `origins`; returns when all have been applied.

    Raises ScanMovedError.
    """
    slots = asyncio.Semaphore(PARTITIONS_AT_ONCE_MAX)

    async def scan(partition: PartitionRecord) -> None:
        async with slots:
            scan = PartitionScan(
                table, partition, origins, region=region, link=link, stats=stats, gate=gate, progress=progress
            )
            await scan.run()

    scans = [asyncio.create_task(scan(partition)) for partition in table.partitions]
    try:
        await asyncio.gather(*scans)
    finally:
        for task in scans:
            task.cancel()
        await asyncio.gather(*scans, return_exceptions=True)


class PartitionScan:
    """The scan of one partition to one destination."""

    def __init__(
        self,
        table: TableRecord,
        partition: PartitionRecord,
        origins: Container[str],
        *,
        region: Region,
        link: DestinationLink,
        stats: ScanStats,
        gate: ScanGate | None = None,
        progress: ScanProgress | None = None,
    ) -> None:
        self._table = table
        self._partition = partition
        self._origins = origins
        self._region = region
        self._link = link
        self._stats = stats
        self._gate = gate or ScanGate()
        self._progress = progress
        self._acknowledged = b""
        self._changed = asyncio.Event()  # something about the link or a receipt
        self._in_flight: deque[asyncio.Future[None]] = deque()

    async def run(self) -> None:
        """Until every row has been applied at the destination. Raises ScanMovedError."""
        self._stats.running += 1
        self._link.subscribe(self)
        try:
            while True:
                try:
                    return await self._ship_rest()
                except _LostError:
                    self._abandon("to be shipped again")
                    await asyncio.sleep(RETRY_S)
        finally:
            self._stats.running -= 1
            self._link.unsubscribe(self)
            self._abandon("closed")

    # --- link events

    def on_connected(self) -> None:
        self._changed.set()

    def on_disconnected(self) -> None:
        self._abandon("disconnected")
        self._changed.set()

    def on_room(self) -> None:
        self._changed.set()

    # --- inside

    async def _ship_rest(self) -> None:
        after: bytes | None = self._acknowledged
        keys: deque[tuple[bytes | None, int]] = deque()
        self._in_flight = deque()
        while after is not None or keys:
            while after is not None and len(keys) < PAGES_IN_FLIGHT_MAX:
                await self._wait_for_link()
                page = await self._read(after)
                await self._gate.passed()
                changes = tuple(row for row in page.rows if versions.region(row.version) in self._origins)
                self._ship(changes)
                keys.append((page.last_key, len(changes)))
                after = page.last_key
            await self._in_flight[0]
            self._in_flight.popleft()
            last_key, count = keys.popleft()
            self._stats.rows += count
            if last_key is not None:
                self._acknowledged = last_key
            if self._progress is not None:
                self._progress.reached(self._partition.id, last_key)

    async def _wait_for_link(self) -> None:
        while not (self._link.connected and self._link.has_room):
            self._changed.clear()
            await self._changed.wait()

    async def _read(self, after: bytes) -> Rows:
        call = ReadRows(self._partition.id, self._partition.epoch, after, min(PAGE_BYTES_MAX, self._link.page_bytes))
        try:
            answer = await self._region.call(call, timeout_ms=READ_TIMEOUT_MS)
        except ApiError as error:
            raise _LostError(error.message) from None
        if isinstance(answer, Moved):
            raise ScanMovedError(f"partition {self._partition.id}")
        if not isinstance(answer, Rows):
            raise _LostError(type(answer).__name__)
        return answer

    def _ship(self, changes: tuple[Change, ...]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight.append(future)
        if not changes:
            future.set_result(None)
            return
        if not self._link.connected:  # it broke while the page was read
            raise _LostError("disconnected")

        def done(receipt: Receipt) -> None:
            if future.done():
                return
            if receipt.outcome is Outcome.APPLIED:
                future.set_result(None)
            else:
                future.set_exception(_LostError(receipt.reason))

        self._link.ship(self._table.name, self._table.id, changes, sum(map(change_bytes, changes)), done)

    def _abandon(self, reason: str) -> None:
        for future in self._in_flight:
            if not future.done():
                future.set_exception(_LostError(reason))
            if not future.cancelled():
                future.exception()  # seen: a page that nobody waits for any more is no error
