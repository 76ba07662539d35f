"""The destination's side of replication: takes shipped batches apart and applies them at the partitions' leaders.

Each partition of this region has one lane: a queue whose changes are applied in the order of their arrival, all that
wait in one call, one call at a time. So changes of one item stay in order, and a partition without a leader delays
nobody but itself. A receipt says APPLIED only when every change of its batch has been committed here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from geodyne.catalog import ADDED_CLOCKS_MS, REPLICA_ADDED, PartitionRecord, ReplicaStatus, TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.messages import Applied, ApplyChanges, Change
from geodyne.model import version as versions
from geodyne.model.keys import hash_of
from geodyne.ports import Clock
from replication.ports import Region
from replication.values import CLOCK_SKEW_MS_MAX, Outcome, Receipt, Ship, change_bytes

log = logging.getLogger(__name__)

Reply = Callable[[Receipt], None]

APPLY_BYTES_MAX = 1024 * 1024  # changes of one call to a leader; the item that reaches the bound still belongs to it
APPLY_TIMEOUT_MS = 10_000  # longer than an election; after that the source ships again


@dataclass(slots=True)
class Counts:
    """Since the process started."""

    received: int = 0
    applied: int = 0  # were newer than what was stored
    held_batches: int = 0
    failed_batches: int = 0


class _Pending:
    """A shipped batch that waits for some lanes."""

    __slots__ = ("applied", "parts", "reason", "reply", "ship", "source", "stream")

    def __init__(self, ship: Ship, reply: Reply, source: str, stream: object, parts: int) -> None:
        self.ship = ship
        self.source = source
        self.stream = stream
        self.reply = reply
        self.parts = parts
        self.applied = 0
        self.reason = ""


class _Lane:
    """What waits for one partition, and the task that applies it while there is anything."""

    __slots__ = ("queue", "task")

    def __init__(self) -> None:
        self.queue: deque[tuple[_Pending, list[Change]]] = deque()
        self.task: asyncio.Task[None] | None = None


class Applier:
    """Applies what other regions ship. Its memory is bounded by what the streams let in (replication.server)."""

    def __init__(self, region: Region, clock: Clock, on_held: Callable[[Ship, int], None]) -> None:
        """`on_held(ship, ahead_ms)` raises the alarm about a batch from the future."""
        self._region = region
        self._clock = clock
        self._on_held = on_held
        self._lanes: dict[int, _Lane] = {}
        self.counts = Counts()

    def submit(self, ship: Ship, reply: Reply, source: str, stream: object = None) -> None:
        """Apply a batch of the region `source` that came on `stream`; `reply` is called once, possibly at once."""
        self.counts.received += len(ship.changes)
        if refusal := self._refusal(ship, source):
            reply(Receipt(ship.id, Outcome.NO_TABLE, reason=refusal))
            return
        if not ship.changes:
            reply(Receipt(ship.id, Outcome.APPLIED))
            return
        ahead_ms = versions.time_us(max(c.version for c in ship.changes)) // 1000 - self._clock.wall_us() // 1000
        if ahead_ms > CLOCK_SKEW_MS_MAX:
            # Never dropped and never applied early: applied, it would shadow every honest write until time catches up.
            self.counts.held_batches += 1
            self._on_held(ship, ahead_ms)
            wait_ms = ahead_ms - CLOCK_SKEW_MS_MAX
            reply(
                Receipt(ship.id, Outcome.HELD, retry_after_ms=min(wait_ms, _RETRY_AFTER_MAX), reason="from the future")
            )
            return
        self._enqueue(self._region.catalog.tables[ship.table], ship, reply, source, stream)

    def withdraw(self, stream: object) -> None:
        """A stream has ended: of what came on it, nothing that still waits is applied. Its source ships it again, and
        what waits for a partition without a leader must not grow with each stream that breaks."""
        for lane in self._lanes.values():
            lane.queue = deque(part for part in lane.queue if part[0].stream is not stream)

    async def close(self) -> None:
        """Stop; batches without a receipt stay without one."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _refusal(self, ship: Ship, source: str) -> str:
        """Why a batch is not applied as the catalog is now; "" if it is."""
        table = self._region.catalog.tables.get(ship.table)
        if table is None or table.id != ship.table_id or table.status is TableStatus.DELETING:
            return f"table {ship.table} is not here"
        if not table.is_global:  # its replica has left; the source has yet to see that it is dropped
            return f"table {ship.table} is no replica here"
        if table.replicas.get(source) in (None, ReplicaStatus.CREATION_FAILED):
            # Tombstones that hide what a removed region has not sent yet may be gone: it would bring items back.
            return f"table {ship.table} has no replica in {source}"
        added_ms = table.extra.get(REPLICA_ADDED, {}).get(source, 0)
        if added_ms and _oldest_us(ship, source) < (added_ms - ADDED_CLOCKS_MS) * 1_000:
            return f"{source} wrote that before its replica was added"  # likewise; it waits until that one is complete
        return ""

    def _enqueue(self, table: TableRecord, ship: Ship, reply: Reply, source: str, stream: object) -> None:
        groups: dict[int, tuple[PartitionRecord, list[Change]]] = {}
        for change in ship.changes:
            partition = table.partition_of(hash_of(change.key))
            group = groups.get(partition.id)
            if group is None:
                group = groups[partition.id] = (partition, [])
            group[1].append(change)
        pending = _Pending(ship, reply, source, stream, len(groups))
        for partition, changes in groups.values():
            lane = self._lanes.setdefault(partition.id, _Lane())
            lane.queue.append((pending, changes))
            if lane.task is None:
                lane.task = asyncio.create_task(self._drain(partition, lane))

    async def _drain(self, partition: PartitionRecord, lane: _Lane) -> None:
        try:
            while lane.queue:
                taken = _take(lane.queue)
                refusals = [self._refusal(pending.ship, pending.source) for pending, _ in taken]  # it may have waited
                parts = [part for part, refusal in zip(taken, refusals, strict=True) if not refusal]
                changes = [change for _, part in parts for change in part]
                applied, reason = await self._apply(partition, changes) if changes else (0, "")
                for position, (pending, _) in enumerate(parts):
                    self._finish_part(pending, applied if position == 0 else 0, reason)
                for (pending, _), refusal in zip(taken, refusals, strict=True):
                    if refusal:
                        self._finish_part(pending, 0, refusal)
        finally:
            lane.task = None
            if self._lanes.get(partition.id) is lane:
                del self._lanes[partition.id]

    async def _apply(self, partition: PartitionRecord, changes: list[Change]) -> tuple[int, str]:
        """(how many were newer, why it failed or "")."""
        call = ApplyChanges(partition.id, partition.epoch, tuple(changes))
        try:
            answer = await self._region.call(call, timeout_ms=APPLY_TIMEOUT_MS)
        except ApiError as error:
            return 0, f"partition {partition.id}: {error.reason}"
        except Exception as error:  # a fault of ours must not leave the source waiting for a receipt
            log.exception("apply failed", extra={"partition": partition.id})
            return 0, f"partition {partition.id}: {error!r}"
        if isinstance(answer, Applied):
            return answer.applied, ""
        return 0, f"partition {partition.id}: {type(answer).__name__}"

    def _finish_part(self, pending: _Pending, applied: int, reason: str) -> None:
        pending.parts -= 1
        pending.applied += applied
        pending.reason = pending.reason or reason
        if pending.parts:
            return
        self.counts.applied += pending.applied
        if pending.reason:
            self.counts.failed_batches += 1
            pending.reply(Receipt(pending.ship.id, Outcome.FAILED, pending.applied, reason=pending.reason))
        else:
            pending.reply(Receipt(pending.ship.id, Outcome.APPLIED, pending.applied))


def _oldest_us(ship: Ship, source: str) -> int:
    """Of what the source wrote itself."""
    times = (versions.time_us(each.version) for each in ship.changes if versions.region(each.version) == source)
    return min(times, default=1 << 64)


_RETRY_AFTER_MAX = (1 << 32) - 1  # the field's width on the wire


def _take(queue: deque[tuple[_Pending, list[Change]]]) -> list[tuple[_Pending, list[Change]]]:
    """The next parts, in order, up to APPLY_BYTES_MAX; at least one."""
    parts: list[tuple[_Pending, list[Change]]] = []
    size = 0
    while queue and size < APPLY_BYTES_MAX:
        part = queue.popleft()
        parts.append(part)
        size += sum(map(change_bytes, part[1]))
    return parts
