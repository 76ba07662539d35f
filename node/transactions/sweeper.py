"""Rows of the ledger that nobody needs any more, removed by the leaders of its partitions.

A row goes once it has not been touched for RETAINED_US and every participant has taken the end it tells of: each is
told again, which costs nothing where it was told before, and a row whose participants do not all answer stays. Runs
only on a node that leads a partition of the ledger.

When a row was touched is told by somebody's wall clock, which may be minutes off. A cancellation that went too early
could be followed by the commit of the same attempt. So a row goes only if the sweep before, longer ago than any
coordinator may still decide, found it as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from geodyne import ledger
from geodyne.catalog import PartitionRecord, TableRecord
from geodyne.errors import ApiError
from geodyne.ledger import DECIDE_WITHIN_MS, LEDGER_TABLE, RETAINED_US, LedgerRow
from geodyne.messages import Answer, Applied, Finish, Moved, Refused, Written
from geodyne.model.keys import hash_bound
from geodyne.rpc.drive import Drive, drive
from node.group import Group
from node.storage.sqlite import StateStore

if TYPE_CHECKING:
    from node.service import NodeService

logger = logging.getLogger("geodyne.node.transactions")

INTERVAL_S = 60.0
CHUNK_ROWS = 64  # looked at, and swept at once, before other work gets its turn
PAUSE_S = 0.01  # between chunks
FINISH_MS = 5_000
SEEN_MAX = 65_536  # rows that are remembered from one sweep to the next; what is beyond waits for a later one
DECISION_MS = 10_000  # a router waits no longer for the ledger to take one

assert INTERVAL_S * 1_000 > DECIDE_WITHIN_MS + DECISION_MS


class _Due(NamedTuple):
    """A row that nobody has touched for long."""

    transaction: bytes
    key: bytes
    row: LedgerRow


class Sweeper:
    """The duty of one node. At most one sweep runs at a time."""

    def __init__(self, service: NodeService, store: StateStore) -> None:
        self._service = service
        self._store = store
        self._timer: asyncio.TimerHandle | None = None
        self._sweep: Drive[None] | None = None
        self._seen: dict[bytes, int] = {}  # key -> when touched: rows that the last sweep found old
        self._found: dict[bytes, int] = {}  # those of the sweep that is going on
        self._closed = False

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        sweep, self._sweep = self._sweep, None
        if sweep is not None:
            sweep.cancel()

    def led(self, group: Group) -> None:
        """A group serves here from now on."""
        if self._timer is None and self._sweep is None and not self._closed and self._record(group) is not None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._begin)

    def _record(self, group: Group) -> PartitionRecord | None:
        """The partition of the ledger that a group is, if it leads one."""
        table = self._service.catalog.catalog.tables.get(LEDGER_TABLE)
        if table is None or not group.serving:
            return None
        return next((record for record in table.partitions if record.id == group.partition), None)

    def _begin(self) -> None:
        self._timer = None
        driven = drive(self._sweep_all(), self._ended)
        if not driven.done:
            self._sweep = driven

    def _ended(self, result: None, error: BaseException | None) -> None:
        self._sweep = None
        if error is not None and not isinstance(error, asyncio.CancelledError):
            logger.error("the ledger could not be swept", exc_info=error)
        for group in self._service.groups:
            self.led(group)

    async def _sweep_all(self) -> None:
        self._seen, self._found = self._found, {}
        for group in self._service.groups:
            record = self._record(group)
            if record is not None:
                await self._sweep_partition(group, record)

    async def _sweep_partition(self, group: Group, record: PartitionRecord) -> None:
        low, high = hash_bound(record.low), hash_bound(record.high)
        while group.serving and not self._closed:
            rows = self._store.range(record.id, low, high, False, CHUNK_ROWS)
            now_us = self._service.clock.wall_us()
            due = []
            for key, stored in rows:
                low = key + b"\0"
                if stored.value is None:
                    continue
                row = ledger.row_of(stored.value)
                if now_us - row.touched_us > RETAINED_US and self._seen_before(key, row.touched_us):
                    due.append(_Due(ledger.name_of(stored.value), key, row))
            await self._sweep_rows(due, record)
            if len(rows) < CHUNK_ROWS:
                return
            await asyncio.sleep(PAUSE_S)

    def _seen_before(self, key: bytes, touched_us: int) -> bool:
        """Whether the sweep before found the row as it is; if not, the next one will know that this one did."""
        if self._seen.get(key) == touched_us:
            return True
        if len(self._found) < SEEN_MAX:
            self._found[key] = touched_us
        return False

    async def _sweep_rows(self, due: list[_Due], record: PartitionRecord) -> None:
        """All at once: what they write then shares entries of the log, or a busy ledger would outgrow its sweeper."""
        client = self._service.region_link.client()
        known = self._service.catalog.catalog.partitions()
        told = [(each, [client.call(call, timeout_ms=FINISH_MS) for call in _ends(each, known)]) for each in due]
        removals = []
        for each, replies in told:
            answers = [await _settled(reply) for reply in replies]
            if all(isinstance(answer, (Applied, Moved)) for answer in answers):
                removal = ledger.sweep(each.row, each.key, record.id, record.epoch)
                removals.append(client.call(removal, timeout_ms=FINISH_MS))
        for reply in removals:
            swept = await _settled(reply)
            # Refused: it was touched meanwhile. None: it stays for now.
            assert swept is None or isinstance(swept, (Written, Refused, Moved)), swept


def _ends(due: _Due, known: Mapping[int, TableRecord]) -> Iterator[Finish]:
    """How the transaction ended, for each participant that is still there."""
    if due.row.committed is None:
        return
    for partition in due.row.partitions:
        table = known.get(partition)
        if table is not None:  # else it is deleted
            part = next(one for one in table.all_partitions if one.id == partition)
            yield ledger.finish(part, due.transaction, due.row.committed, committed=True)


async def _settled(reply: Awaitable[Answer]) -> Answer | None:
    """The answer, None when there is none."""
    try:
        return await reply
    except ApiError as error:
        logger.warning("a row of the ledger stays for now", extra={"error": str(error)})
        return None
