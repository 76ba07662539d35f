"""A region's nodes as one object: the real catalog machine over dictionaries of rows, with a feed of each partition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from geodyne.catalog import TableRecord, TableStatus
from geodyne.errors import ApiError
from geodyne.messages import (
    AdvanceCursor,
    Answer,
    Applied,
    ApplyChanges,
    Call,
    Change,
    Control,
    ControlDone,
    Digested,
    DigestRows,
    FeedPage,
    FeedRecord,
    Moved,
    ReadFeed,
    ReadRows,
    Refused,
    Renew,
    RowDigest,
    Rows,
)
from geodyne.ports import Clock
from node.catalog.machine import ACTIVATE, FORGET, Catalog, Surroundings, evaluate
from node.catalog.placement import rings_by_zone
from node.digests import row_digest
from node.state import outdated
from node.storage.port import Row

ROWS_A_PAGE = 5


class FakeClock:
    """Both clocks, moved by hand; the wall clock may be set apart."""

    def __init__(self, wall_us: int = 1_000_000_000_000) -> None:
        self._wall_us = wall_us
        self._lease_ms = 0

    def wall_us(self) -> int:
        return self._wall_us

    def lease_ms(self) -> int:
        return self._lease_ms

    def advance(self, ms: int) -> None:
        self._wall_us += ms * 1000
        self._lease_ms += ms


def version(us: int, region: str) -> bytes:
    return us.to_bytes(8) + region.encode()


def key_of(number: int) -> bytes:
    """A key whose hash spreads over the partitions."""
    return ((number * 0x9E3779B97F4A7C15) % (1 << 64)).to_bytes(8) + b"k%d" % number


@dataclass
class FakePartition:
    rows: dict[bytes, Change] = field(default_factory=dict)
    feed: list[FeedRecord] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    head: int = 0
    floor: int = 0
    safe_us: int = 0
    arrived: dict[str, int] = field(default_factory=dict)  # what collecting rests on

    def store(self, change: Change) -> bool:
        """Last writer wins; what wins is also recorded in the feed, as in a node."""
        stored = self.rows.get(change.key)
        prior = Row(stored.image, stored.version, stored.size) if stored is not None else None
        if outdated(change, prior, self.arrived):
            return False
        self.rows[change.key] = change
        self.head += 1 << 16
        self.feed.append(FeedRecord(self.head, change, None))
        return True

    def page(self, call: ReadFeed) -> FeedPage:
        after = self.cursors.get(call.consumer, self.floor) if call.after == -1 else call.after
        if after < self.floor:
            return FeedPage((), after, self.head, True)
        taken: list[FeedRecord] = []
        size = 0
        following = after
        for record in self.feed:
            if record.sequence <= after:
                continue
            if size >= call.max_bytes:
                break
            following = record.sequence
            size += len(record.change.image or b"") + len(record.change.key)
            if not call.origin or record.change.version[8:].decode() == call.origin:
                taken.append(record)
        safe_us = self.safe_us if following >= self.head else 0
        return FeedPage(tuple(taken), following, self.head, False, safe_us)

    def digested(self, call: DigestRows) -> Digested:
        """As node.digests, with smaller slices."""
        keys = sorted(key for key in self.rows if call.low <= key < call.high)
        found = [(key, Row(change.image, change.version, change.size)) for key in keys for change in (self.rows[key],)]
        rows = [RowDigest(key, row.version, row_digest(key, row)) for key, row in found]
        live = [row for row in rows if row.digest]
        taken = (rows if call.listed else live)[:ROWS_A_PAGE]
        digests = [int.from_bytes(row.digest) for row in taken if row.digest]
        last_key = taken[-1].key if len(taken) == ROWS_A_PAGE else None
        total = (sum(digests) % (1 << 128)).to_bytes(16)
        return Digested(len(digests), total, last_key, tuple(taken) if call.listed else ())

    def trim(self, through: int) -> None:
        self.feed = [record for record in self.feed if record.sequence > through]
        self.floor = max(self.floor, through)


class FakeRegion:
    """Implements replication.ports.Region."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.catalog = Catalog()
        self.parts: dict[int, FakePartition] = {}
        self.down = False  # no leader anywhere
        self.calls: list[Call] = []
        self._changed: asyncio.Event = asyncio.Event()
        self._ids = 0
        self.on_change: Callable[[], None] = lambda: None

    # --- what a router would do

    def create(self, table: str) -> TableRecord:
        self._control("create_table", {"definition": {"name": table, "hash_key": "pk", "hash_type": "S"}})
        return self.table(table)

    def control(self, operation: str, **body: object) -> None:
        self._control(operation, body)

    def table(self, name: str) -> TableRecord:
        return self.catalog.tables[name]

    def write(self, table: str, key: bytes, image: bytes | None, at_us: int = 0) -> Change:
        part = self.parts[self.table(table).partition_of(int.from_bytes(key[:8])).id]
        stored = part.rows.get(key)
        newest = int.from_bytes(stored.version[:8]) if stored is not None else 0
        change = Change(
            key, version(at_us or max(self.clock.wall_us(), newest + 1), self.name), image, len(image or b"")
        )
        assert part.store(change)
        self._changed.set()
        return change

    def promise(self, table: str, us: int) -> None:
        """All that is written from now on has larger versions."""
        for partition in self.table(table).partitions:
            self.parts[partition.id].safe_us = us
        self._changed.set()

    def items(self, table: str) -> dict[bytes, tuple[bytes, bytes | None]]:
        return {
            key: (change.version, change.image)
            for partition in self.table(table).partitions
            for key, change in self.parts[partition.id].rows.items()
        }

    # --- the port

    async def call(self, call: Call, *, timeout_ms: int) -> Answer:
        self.calls.append(call)
        if self.down:
            raise ApiError("ServiceUnavailable", "no leader")
        await asyncio.sleep(0)
        if isinstance(call, Control):
            try:
                return ControlDone(self.catalog.revision, self._control(call.operation, call.body))
            except ApiError as error:
                return Refused(error.kind.code, error.message or "")
        assert isinstance(call, ReadFeed | ReadRows | ApplyChanges | AdvanceCursor | DigestRows | Renew)
        part = self.parts.get(call.partition)
        if part is None:
            return Moved(call.partition, self.catalog.revision)
        match call:
            case ApplyChanges():
                applied = sum(part.store(change) for change in call.changes)
                self._changed.set()
                return Applied(applied)
            case AdvanceCursor():
                if not call.stable_us:
                    part.cursors[call.consumer] = max(part.cursors.get(call.consumer, 0), call.sequence)
                return Applied(0)
            case ReadRows():
                keys = sorted(key for key in part.rows if key > call.after)
                rows = tuple(part.rows[key] for key in keys[:ROWS_A_PAGE])
                return Rows(rows, rows[-1].key if len(keys) > ROWS_A_PAGE else None)
            case DigestRows():
                return part.digested(call)
            case Renew():
                renewed = [part.rows[row.key] for row in call.rows if row.key in part.rows]
                wanted = {row.key: row.version for row in call.rows}
                renewed = [row for row in renewed if row.version == wanted[row.key]]
                for row in renewed:
                    us = max(self.clock.wall_us(), int.from_bytes(row.version[:8]) + 1)
                    part.store(row._replace(version=version(us, self.name)))
                self._changed.set()
                return Applied(len(renewed))
            case ReadFeed():
                return await self._read_feed(part, call)

    async def _read_feed(self, part: FakePartition, call: ReadFeed) -> FeedPage:
        while True:
            page = part.page(call)
            if page.records or page.trimmed or page.next > call.after or 0 < call.safe_us < page.safe_us:
                return page
            self._changed = self._changed if not self._changed.is_set() else asyncio.Event()
            await self._changed.wait()

    def _control(self, operation: str, body: dict[str, object]) -> dict[str, object]:
        around = Surroundings(
            self.name, self.clock.wall_us() // 1000, rings_by_zone({"a": "a", "b": "b", "c": "c"}), self._new_id, str
        )
        changes, answer = evaluate(self.catalog, operation, body, around)
        if changes:
            self.catalog.apply(self.catalog.revision + 1, changes)
            self.on_change()
        for table in list(self.catalog.tables.values()):
            for partition in table.partitions:
                self.parts.setdefault(partition.id, FakePartition())
            if table.status in (TableStatus.CREATING, TableStatus.UPDATING) and table.leaving is None:
                self._control(ACTIVATE, {"name": table.name, "revision": table.revision})
            elif table.status is TableStatus.DELETING:
                self._control(FORGET, {"name": table.name, "id": table.id})
        return answer

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self.name}-{self._ids}"
