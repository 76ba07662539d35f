"""One group's state out of the database and into another: the I/O side of node.storage.snapshots."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import aiosqlite

from geodyne.wire.log_v1_pb2 import GroupState
from node.storage import schema
from node.storage.checksums import (
    record_checksum,
    record_matches,
    row_checksum,
    row_matches,
    state_checksum,
    window_checksum,
)
from node.storage.port import Derivation, GroupAbsent, GroupDamaged, SnapshotDamaged, StorageError
from node.storage.snapshots import ChunkWriter, EndPart, FeedPart, RowPart, StatePart, WindowPart, read_chunk
from node.storage.sqlite_connection import connect_background, translated

EXPORT_ROWS_PER_HOP = 32  # at 400 KB each, 13 MB in memory
ITEM_COLUMNS = 6
FEED_COLUMNS = 4


class LoadedGroup(NamedTuple):
    """A row of schema.LOAD_GROUPS. `checked`: every row of the group has a checksum."""

    partition: int
    space: int
    feed_floor: int
    state: bytes
    window: bytes | None
    window_index: int
    checked: bool
    damaged: bool


def loaded(row: Sequence[Any]) -> LoadedGroup:
    """What was found of a group, and whether state and window match their checksums."""
    partition, space, floor, state, checksum, window, index, of_window, checked = row
    try:
        damaged = checksum != state_checksum(partition, space, floor, state)
        if index is not None or window is not None:
            damaged = damaged or of_window != window_checksum(partition, index, window)
    except TypeError:  # damage can change a column's type as well
        damaged = True
    return LoadedGroup(partition, space, floor, state, window, index or 0, checked != 0, damaged)


class Snapshot(NamedTuple):
    """What an import has brought beside its rows."""

    state: bytes
    window: bytes | None
    window_index: int


class ImportTarget(Protocol):
    """The store, as an import needs it. `space` is the import's private place for rows."""

    def add_imported(
        self, space: int, items: list[Any], feed: list[Any], indexes: Derivation | None, expires_by: str
    ) -> None: ...

    async def install(self, partition: int, space: int, snapshot: Snapshot) -> None: ...

    def abandon(self, space: int) -> None: ...


class Import:
    """A snapshot on its way in. A crash, or `abort`, leaves the old state and some garbage."""

    def __init__(
        self, store: ImportTarget, partition: int, space: int, indexes_of: Callable[[bytes], Derivation | None]
    ) -> None:
        """`indexes_of`: the local indexes that a serialised GroupState defines. Their entries are not in a snapshot but
        derived from its rows as those come in; the state comes before the rows."""
        self._store = store
        self._indexes_of = indexes_of
        self._indexes: Derivation | None = None
        self._expires_by = ""
        self._partition = partition
        self._space = space
        self._next = 0
        self._state: bytes | None = None
        self._window: list[bytes] = []
        self._window_index = 0
        self._rows = 0
        self._feed = 0
        self._ended = False

    def add(self, chunk: bytes) -> None:
        """The next chunk, in one transaction. Raises SnapshotDamaged; then abort."""
        if self._ended:
            raise SnapshotDamaged("a snapshot chunk arrived after the last one")
        items: list[Any] = []
        feed: list[Any] = []
        for part in read_chunk(chunk, self._next):
            if isinstance(part, RowPart):
                key, (value, version, size) = part.key, part.row
                items += (self._space, key, value, version, size)
                items.append(row_checksum(self._space, key, value, version, size))
            elif isinstance(part, FeedPart):
                feed += (self._space, part.sequence, part.record)
                feed.append(record_checksum(self._space, part.sequence, part.record))
            elif isinstance(part, StatePart):
                self._state = part.state
                self._indexes = self._indexes_of(part.state)
                self._expires_by = GroupState.FromString(part.state).definition.ttl
            elif isinstance(part, WindowPart):
                self._window_index = part.log_index
                self._window.append(part.data)
            elif isinstance(part, EndPart):
                self._ended = True
                expected = (part.rows, part.feed)
        self._next += 1
        self._rows += len(items) // ITEM_COLUMNS
        self._feed += len(feed) // FEED_COLUMNS
        if self._ended and expected != (self._rows, self._feed):
            raise SnapshotDamaged(f"the snapshot has {self._rows} rows and {self._feed} records, not {expected}")
        if items or feed:
            self._store.add_imported(self._space, items, feed, self._indexes, self._expires_by)

    async def commit(self, state: bytes | None = None) -> GroupState:
        """Make the snapshot (with `state` instead of its own, if given) the group's state. Durable when this
        returns; only then may the log be reset to the state's applied index and term. Raises SnapshotDamaged."""
        if not self._ended or self._state is None:
            raise SnapshotDamaged("the snapshot is incomplete")
        state = self._state if state is None else state
        window = b"".join(self._window) if self._window else None
        await self._store.install(self._partition, self._space, Snapshot(state, window, self._window_index))
        return GroupState.FromString(state)

    @property
    def state(self) -> bytes:
        """The imported GroupState, serialised; complete once the last chunk was added. Raises SnapshotDamaged."""
        if self._state is None:
            raise SnapshotDamaged("the snapshot is incomplete")
        return self._state

    @property
    def window(self) -> bytes:
        """The imported deduplication window, serialised; empty when there was none."""
        return b"".join(self._window)

    def abort(self) -> None:
        """Leave what was added to garbage collection."""
        self._store.abandon(self._space)


class Export:
    """A snapshot on its way out: an async iterator of chunks, closed by its end or by `close`.

    `applied_index` and `applied_term` are those of `state`, the group's serialised GroupState.
    """

    def __init__(
        self,
        path: Path,
        connection: aiosqlite.Connection,
        chunk_bytes: int,
        row: Sequence[Any],
        closed: Callable[[], None],
    ) -> None:
        self._path = path
        self._closed = closed
        self._connection: aiosqlite.Connection | None = connection
        self._chunk_bytes = chunk_bytes
        found = loaded(row)
        if found.damaged:
            raise GroupDamaged(found.partition, "the state")
        self._found = found
        self.state = found.state
        state = GroupState.FromString(self.state)
        self.applied_index = state.applied_index
        self.applied_term = state.applied_term

    @classmethod
    async def begin(cls, path: Path, partition: int, chunk_bytes: int, closed: Callable[[], None]) -> Export:
        """Open a connection and fix the state that is read. `closed` is called once, when the export is over."""
        connection = await connect_background(path)
        try:
            await connection.execute("BEGIN")
            async with connection.execute(schema.LOAD_GROUP, (partition,)) as cursor:
                row = await cursor.fetchone()
            if row is None:
                raise GroupAbsent(f"partition {partition} has no state here")
            return cls(path, connection, chunk_bytes, tuple(row), closed)
        except BaseException as error:
            await connection.close()
            if isinstance(error, sqlite3.Error):
                raise translated(path, error) from error
            raise

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            writer = ChunkWriter()
            writer.state(self.state)
            found = self._found
            partition, space, checked = found.partition, found.space, found.checked
            window = found.window or b""
            for start in range(0, len(window), self._chunk_bytes):
                writer.window(found.window_index, window[start : start + self._chunk_bytes])
                yield writer.take()
            # Closed by name: an abandoned generator would be finalised only after its connection is gone.
            async with aclosing(self._rows(schema.EXPORT_ITEMS, space)) as items:
                async for key, value, version, size, checksum in items:
                    if not row_matches(checksum, checked, space, key, value, version, size):
                        raise GroupDamaged(partition, "a row")
                    writer.row(key, value, version, size)
                    if writer.size >= self._chunk_bytes:
                        yield writer.take()
            async with aclosing(self._rows(schema.EXPORT_FEED, space, found.feed_floor)) as records:
                async for sequence, record, checksum in records:
                    if not record_matches(checksum, checked, space, sequence, record):
                        raise GroupDamaged(partition, "a change record")
                    writer.record(sequence, record)
                    if writer.size >= self._chunk_bytes:
                        yield writer.take()
            writer.end()
            yield writer.take()
        finally:
            await self.close()

    async def _rows(self, statement: str, *arguments: int) -> AsyncGenerator[sqlite3.Row, None]:
        if self._connection is None:
            raise StorageError("the export is closed")
        try:
            async with self._connection.execute(statement, arguments) as cursor:
                while rows := await cursor.fetchmany(EXPORT_ROWS_PER_HOP):
                    for row in rows:
                        yield row
        except sqlite3.Error as error:
            raise translated(self._path, error) from error

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._closed()
            await connection.close()
