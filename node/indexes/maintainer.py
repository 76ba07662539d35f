"""Keeping the global indexes of one partition of a table: change records and, for a new index, rows go out as entries.

One sequential task for a partition, on its leader, only while its table has global indexes; it sleeps while nothing
changes. Must hold (docs/decisions/0008-global-indexes.md):
- to each partition of an index one batch is under way at a time, and the next is numbered only when it was taken;
- all entries of one change record for one partition of an index are in one batch;
- rows are read, and their batch is taken, between two pages of the feed: they are then never older than any change
  that was sent before, and every later change is sent after;
- the cursor is committed only over what all indexes have taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from geodyne.catalog import INDEX_CONSUMER, ControlOperation, IndexRecord, IndexStatus, PartitionRecord, TableRecord
from geodyne.errors import ApiError
from geodyne.messages import (
    INDEX_FENCED,
    AdvanceCursor,
    Applied,
    ApplyIndex,
    Control,
    ControlDone,
    FeedPage,
    IndexEntry,
    Moved,
    ReadFeed,
    Refused,
)
from geodyne.model import version as versions
from geodyne.model.keys import HASH_BYTES
from geodyne.model.values import loads
from node.feed.pages import read_page
from node.group import Group
from node.indexes.entries import BACKFILLED, differences, kept
from node.regionlink import RegionCalls
from node.state import IndexDefinition
from node.storage.port import GroupDamaged, StorageError
from node.storage.sqlite import StateStore

logger = logging.getLogger("geodyne.node.indexes")

PAGE_BYTES_MAX = 256 * 1024  # of change records, both images counted
RECORDS_AT_ONCE = 32  # evaluated before other work gets its turn: about 2 ms
FILL_ROWS = 64  # of a backfill's step
FILL_BYTES_MAX = 256 * 1024
FILL_REST_S_MAX = 0.05  # after a step a backfill rests for as long as the step took, at most this long
CURSOR_RECORDS_MAX = 1_024  # the cursor is committed after so many records,
CURSOR_S_MAX = 1.0  # or when a record has been passed for so long
CALL_MS_MAX = 10_000
RETRY_S_MIN = 0.05
RETRY_S_MAX = 2.0
FENCED_S = 1.0
_KEYS_END = b"\xff" * 64


class Host(Protocol):
    """What a maintainer needs of its node."""

    def table_of(self, partition: int) -> TableRecord | None: ...

    @property
    def catalog_revision(self) -> int: ...

    def region(self) -> RegionCalls: ...

    def submit(self, call: AdvanceCursor) -> None:
        """Hand this node a call whose answer does not matter."""

    def sent(self, entries: int) -> None:
        """Entries were taken by their indexes."""

    def retried(self) -> None:
        """Batches could not be delivered and are sent again."""

    def fail(self, reason: str) -> None: ...


class Target(NamedTuple):
    """An index as the partition's log defines it, and as the catalog places it."""

    definition: IndexDefinition
    record: IndexRecord

    @property
    def mark(self) -> tuple[str, int]:
        return self.record.name, self.record.revision


class _FencedError(Exception):
    """Another node leads the partition."""


_Batches = dict[PartitionRecord, list[IndexEntry]]


class Maintainer:
    """Of one partition, during one term of its leader. `numbers`: of the newest batch by destination; they must go
    on growing for as long as the term lasts, over maintainers that come and go."""

    def __init__(self, group: Group, store: StateStore, host: Host, numbers: dict[int, int]) -> None:
        self.term = group.raft.term
        self.oldest_us: int | None = None  # time of the oldest change that is not in all indexes, as far as known
        self._group = group
        self._store = store
        self._host = host
        self._numbers = numbers
        self._news = asyncio.Event()
        self._passed = group.state.cursors.get(INDEX_CONSUMER, group.state.feed_floor)
        self._passed_records = 0  # since the cursor was committed
        self._passed_since_s: float | None = None
        self._known: tuple[int, int] = (-1, -1)
        self._targets: tuple[Target, ...] = ()
        self._filled: set[tuple[str, int]] = set()
        self._fill: tuple[tuple[str, int], bytes] | None = None  # the index being filled, and the last key sent

    def wake(self) -> None:
        """The feed, the partition's definition or the catalog has changed."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        retry_s = RETRY_S_MIN
        while True:
            self._news.clear()
            try:
                if not await self._step():
                    await self._rest()
                retry_s = RETRY_S_MIN
            except _FencedError:
                logger.info("fenced", extra={"partition": self._group.partition, "term": self.term})
                await asyncio.sleep(FENCED_S)  # the end of this leadership will be known here before long
            except ApiError as error:
                logger.info("no answer", extra={"partition": self._group.partition, "reason": str(error)})
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, RETRY_S_MAX)
            except GroupDamaged as error:  # the replica heals, or this is refused until an operator has seen to it
                logger.warning("damaged", extra={"partition": self._group.partition, "reason": str(error)})
                await asyncio.sleep(RETRY_S_MAX)
            except StorageError as error:
                self._host.fail(f"the state cannot be read: {error}")
                return
            except Exception:  # the feed stays, and with it all that is needed to go on once the cause is gone
                logger.exception("index maintenance failed", extra={"partition": self._group.partition})
                self._host.retried()
                await asyncio.sleep(RETRY_S_MAX)

    async def _step(self) -> bool:
        """One page of the feed, then some rows for a new index. False when there was nothing to do."""
        if not self._look_up_targets():
            return False
        page = self._read()
        if page.records:
            self.oldest_us = versions.time_us(page.records[0].change.version)
            await self._deliver(await self._entries_of(page))
            self._pass(page)
        else:
            self.oldest_us = None
        self._commit_if_due()
        target = self._to_fill()
        if target is not None:
            await self._fill_some(target)
        return bool(page.records) or target is not None

    def _look_up_targets(self) -> bool:
        """Find the indexes' partitions. False while the catalog here is older than what the log defines: then an index
        that is not in it may be one that has just been made, and nothing may be passed."""
        state, host = self._group.state, self._host
        known = state.definition.revision, host.catalog_revision
        if known == self._known:
            return True
        if host.catalog_revision < state.definition.revision:
            return False
        table = host.table_of(self._group.partition)
        found = []
        for definition in state.definition.global_indexes:
            record = table.index(definition.name) if table is not None else None
            if record is None or record.revision != definition.revision or record.status is IndexStatus.DELETING:
                continue  # it has been removed
            found.append(Target(definition, record))
        self._targets, self._known = tuple(found), known
        return True

    # --- the feed ----------------------------------------------------------------------------------------

    def _read(self) -> FeedPage:
        state = self._group.state
        self._passed = max(self._passed, state.feed_floor)
        call = ReadFeed(self._group.partition, state.epoch, INDEX_CONSUMER, self._passed, PAGE_BYTES_MAX, 0)
        page = read_page(self._store, state, call, late=True)
        assert page is not None
        return page

    async def _entries_of(self, page: FeedPage) -> _Batches:
        targets = self._targets  # those that were defined when the page was read
        batches: _Batches = {}
        for number, record in enumerate(page.records, 1):
            old = loads(record.old_image) if record.old_image is not None else None
            new = loads(record.change.image) if record.change.image is not None else None
            for target in targets:
                _put(batches, target.record, differences(target.definition, record, old, new))
            if number % RECORDS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return batches

    def _pass(self, page: FeedPage) -> None:
        self._passed = page.next
        self._passed_records += len(page.records)
        if self._passed_since_s is None:
            self._passed_since_s = self._now_s()

    def _commit_if_due(self) -> None:
        since = self._passed_since_s
        if since is not None and (self._passed_records >= CURSOR_RECORDS_MAX or self._now_s() - since >= CURSOR_S_MAX):
            self._commit()

    def _commit(self) -> None:
        """Commit the cursor; now and then, for each time is an entry in the log."""
        state = self._group.state
        self._host.submit(AdvanceCursor(self._group.partition, state.epoch, INDEX_CONSUMER, self._passed))
        self._passed_records = 0
        self._passed_since_s = None

    async def _rest(self) -> None:
        """Until there is news, or the cursor is to be committed."""
        if self._passed_since_s is None:
            await self._news.wait()
            return
        try:
            async with asyncio.timeout_at(self._passed_since_s + CURSOR_S_MAX):
                await self._news.wait()
        except TimeoutError:
            self._commit()

    # --- delivery ----------------------------------------------------------------------------------------

    async def _deliver(self, batches: _Batches) -> None:
        """Send each batch to its partition until all are taken. A batch that is sent again keeps its number."""
        calls = [self._call(partition, entries) for partition, entries in batches.items()]
        retry_s = RETRY_S_MIN
        while calls:
            calls = await self._send(calls)
            if calls:
                self._host.retried()
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, RETRY_S_MAX)
                calls = [call for call in calls if self._still_there(call.partition)]

    def _call(self, partition: PartitionRecord, entries: Iterable[IndexEntry]) -> ApplyIndex:
        number = self._numbers[partition.id] = self._numbers.get(partition.id, 0) + 1
        return ApplyIndex(partition.id, partition.epoch, self._group.partition, self.term, number, tuple(entries))

    async def _send(self, calls: list[ApplyIndex]) -> list[ApplyIndex]:
        """Send all at once; returns those that are not known to be taken. Raises _FencedError."""
        region = self._host.region()
        replies = [(call, region.call(call, timeout_ms=CALL_MS_MAX)) for call in calls]
        left = []
        for call, reply in replies:
            try:
                answer = await reply
            except ApiError:
                left.append(call)
                continue
            if isinstance(answer, Applied):
                self._host.sent(len(call.entries))
            elif isinstance(answer, Refused) and answer.code == INDEX_FENCED:
                raise _FencedError
            else:
                if not isinstance(answer, Moved):
                    logger.warning("refused", extra={"partition": call.partition, "answer": str(answer)[:200]})
                left.append(call)
        return left

    def _still_there(self, partition: int) -> bool:
        """Whether the partition belongs to an index, as far as the catalog here knows."""
        self._look_up_targets()
        return any(partition == own.id for target in self._targets for own in target.record.partitions)

    # --- backfill ----------------------------------------------------------------------------------------

    def _to_fill(self) -> Target | None:
        for target in self._targets:
            record = target.record
            if record.backfilling and self._group.partition not in record.filled and target.mark not in self._filled:
                return target
        return None

    async def _fill_some(self, target: Target) -> None:
        """Send the next rows to a new index; after the last ones say so. Begun anew by each leader."""
        began_s = self._now_s()
        after = self._fill[1] if self._fill is not None and self._fill[0] == target.mark else b""
        low = after + b"\x00" if after else b""
        rows = self._store.range(self._group.partition, low, _KEYS_END, False, FILL_ROWS, bytes_max=FILL_BYTES_MAX)
        if not rows:
            await self._report_filled(target)
            return
        batches: _Batches = {}
        for key, row in rows:
            if row.value is not None:
                entry = kept(target.definition, key, row.value, loads(row.value), row.size)
                if entry is not None:
                    _put(batches, target.record, [IndexEntry(entry.key, BACKFILLED, entry.image, entry.size)])
        await self._deliver(batches)
        self._fill = target.mark, rows[-1][0]
        await asyncio.sleep(min(self._now_s() - began_s, FILL_REST_S_MAX))

    async def _report_filled(self, target: Target) -> None:
        """Raises ApiError when the metadata leader cannot be asked now."""
        table = self._host.table_of(self._group.partition)
        if table is not None:
            body = {
                "name": table.name,
                "table_id": table.id,
                "index": target.record.name,
                "revision": target.record.revision,
                "partition": self._group.partition,
            }
            answer = await self._host.region().call(
                Control(ControlOperation.INDEX_FILLED.value, body), timeout_ms=CALL_MS_MAX
            )
            gone = isinstance(answer, Refused) and answer.code == "ResourceNotFoundException"
            if not gone and not isinstance(answer, ControlDone):
                raise ApiError("ServiceUnavailable", str(answer))
        logger.info("filled", extra={"partition": self._group.partition, "index": target.record.name})
        self._filled.add(target.mark)
        self._fill = None

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()


def _put(batches: _Batches, index: IndexRecord, entries: Iterable[IndexEntry]) -> None:
    for entry in entries:
        partition = index.partition_of(int.from_bytes(entry.key[:HASH_BYTES], "big"))
        batches.setdefault(partition, []).append(entry)
