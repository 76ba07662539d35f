"""The state of all groups of a node in one SQLite database; with node.storage.sqlite_* the only modules that
know SQLite.

Reads and the turn's one apply transaction run on the loop's thread (a thread hop costs more than they do); only
checkpoints, exports and the integrity check run in aiosqlite threads, each inside one long SQLite step.

Durability: WAL journal, synchronous=NORMAL. A commit is atomic at once and durable when a checkpoint that began after
it has completed; a crash loses a suffix of the commits, never a part of one. See node.storage.port for what that asks
of the log.

Rules that are easy to break:
- all writes come from one connection on one thread. SQLite before 3.51.3 can corrupt a database when a checkpoint
  starts while everything is checkpointed already and another connection's commit resets the WAL at that moment
  (sqlite.org/wal.html, "The WAL-Reset Bug"). So the background connection starts a checkpoint only when something
  has been committed since the last one ended; otherwise the checkpoint runs on the writing thread;
- a cursor that is read to its end holds no read mark; one that is not pins the WAL, so each is closed;
- nothing else in the process opens and closes the database file: that would drop SQLite's POSIX locks.

Tables have a rowid and a unique index: with 1 KB values WITHOUT ROWID costs 4 to 6 times as much per insert at random
keys (full rows in interior pages, overflow pages above 1,002 bytes); pages of 8 or 16 KB write two to four times the
WAL per overwrite and gain nothing.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite

from geodyne.wire.log_v1_pb2 import GroupState
from node.storage import schema, sqlite_expiries
from node.storage.checksums import (
    entry_matches,
    record_checksum,
    record_matches,
    row_checksum,
    row_matches,
    state_checksum,
    window_checksum,
)
from node.storage.condemned import condemn, condemned
from node.storage.disk import PosixDisk
from node.storage.port import (
    Derivation,
    GroupAbsent,
    GroupDamaged,
    GroupUpdate,
    LocalEntry,
    Row,
    StateDamaged,
    StateFailed,
    StorageError,
    StoredGroup,
    TooManyExports,
)
from node.storage.sqlite_connection import check_schema, configure, connect_background, state_errors, translated
from node.storage.sqlite_entries import EntryChanges, put_rows, reindex
from node.storage.sqlite_expiries import Series
from node.storage.sqlite_garbage import abandoned_space, collect, series_ended
from node.storage.sqlite_snapshots import FEED_COLUMNS, ITEM_COLUMNS, Export, Import, Snapshot, loaded

CACHED_STATEMENTS = 128
CACHE_KB = 16 * 1024  # of the loop's connection; the kernel caches the rest
WAL_BYTES_MAX = 64 << 20  # beyond, a checkpoint ends on the loop's thread, so that the WAL starts over
TRIM_STEP_RECORDS = 256  # change records deleted by one transaction; garbage collection takes the rest
EXPORTS_MAX = 2
GARBAGE_STEP_ROWS = 64
GARBAGE_STEPS_MAX = 64
GROUP_COLUMNS = 5
CHECKED_AT_START_BYTES_MAX = 32 << 20  # a full check of as much takes about 0.1 s
_FRAME_BYTES = schema.PAGE_BYTES + 24  # of the WAL (sqlite.org/fileformat2.html, "WAL Frame Header")


@dataclass(frozen=True, slots=True)
class StateSettings:
    cache_kb: int = CACHE_KB
    wal_bytes_max: int = WAL_BYTES_MAX


class _Group:
    """What must be known of a group without asking the database."""

    __slots__ = ("checked", "feed_floor", "series", "space", "window_index")

    def __init__(
        self, space: int, feed_floor: int, window_index: int, checked: bool = True, series: Series | None = None
    ) -> None:
        self.space = space
        self.series = series  # of what expires
        self.checked = checked  # all its rows have checksums
        self.feed_floor = feed_floor
        self.window_index = window_index


class _Uncovered(NamedTuple):
    """A group's newest commit, until a checkpoint covers it."""

    state: bytes
    window_index: int


class StateStore:
    """The database. All methods belong to the loop's thread; those that are not async answer at once.

    Everything raises StateDamaged when the database is damaged and StateFailed when it cannot be written; what reads
    rows raises GroupDamaged when one of them does not match its checksum. After a failed checkpoint the store refuses
    further writes: restart and recover.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, settings: StateSettings) -> None:
        self.path = path
        self._db = database
        database.text_factory = bytes  # nothing here is text: damage that makes a column so changes nothing then
        self._reader = database.cursor()
        self._settings = settings
        self._groups: dict[int, _Group] = {}
        self._stored: dict[int, StoredGroup] | None = {}
        self._importing: dict[int, Series | None] = {}  # by space
        self._backlog: set[int] = set()  # spaces with trimmed change records that are still there
        self._exports = 0
        self._background: aiosqlite.Connection | None = None
        self._checkpoint_lock = asyncio.Lock()
        self._uncovered: dict[int, _Uncovered] = {}
        self._window_covered: dict[int, int] = {}
        self._commits = 0
        self._commits_at_checkpoint_end = 0
        self._failure: Exception | None = None
        self.damage_found: Callable[[int, str], None] = _ignore  # told before GroupDamaged is raised

    @classmethod
    def open(cls, path: str | os.PathLike[str], settings: StateSettings | None = None) -> StateStore:
        """Create or recover the database; what is found is durable when this returns.

        Raises StateDamaged, StateFailed, WrongFormat."""
        file = Path(path).absolute()
        settings = settings or StateSettings()
        if condemned(file):
            raise StateDamaged(f"{file} was found to be damaged")
        fresh = not file.exists()
        with state_errors(file):
            database = sqlite3.connect(file, isolation_level=None, cached_statements=CACHED_STATEMENTS)
        try:
            with state_errors(file):
                configure(database, settings.cache_kb)
                check_schema(file, database)
                store = cls(file, database, settings)
                store._load()
                busy, frames, done = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy or frames != done:
                raise StateFailed(f"{file}: another connection keeps the database from being recovered")
            if fresh:
                PosixDisk().sync_directory(file.parent)
        except BaseException:
            database.close()
            raise
        return store

    def _load(self) -> None:
        stored: dict[int, StoredGroup] = {}
        series = sqlite_expiries.load_series(self._db)
        for found in map(loaded, self._db.execute(schema.LOAD_GROUPS).fetchall()):
            partition, floor = found.partition, found.feed_floor
            of_space = series.get(found.space)
            self._groups[partition] = _Group(found.space, floor, found.window_index, found.checked, of_space)
            self._window_covered[partition] = found.window_index
            stored[partition] = StoredGroup(found.state, found.window, found.window_index, found.damaged)
            if floor:
                self._backlog.add(found.space)
        self._stored = stored

    def structure_damage(self) -> str:
        """What is wrong with trees and indexes, "" when nothing is or the database is too large to look at while others
        wait. A damaged index hides rows, and no checksum of a row tells of those."""
        if self.path.stat().st_size > CHECKED_AT_START_BYTES_MAX:
            return ""
        try:
            found = self._db.execute("PRAGMA integrity_check(1)").fetchall()
        except sqlite3.DatabaseError as error:
            return str(error)
        return "" if found == [(b"ok",)] else found[0][0].decode("utf-8", "replace")

    def condemn(self) -> None:
        """What was met cannot be laid to one group: the database is not opened again. Raises OSError."""
        condemn(self.path)

    def groups(self) -> dict[int, StoredGroup]:
        """What was found at open, all of it durable; told once, then forgotten."""
        stored, self._stored = self._stored, None
        return stored or {}

    # --- reads --------------------------------------------------------------------------------------------

    def get(self, partition: int, key: bytes) -> Row | None:
        """The row of a key, tombstones included. Raises GroupAbsent, GroupDamaged."""
        group = self._group(partition)
        space = group.space
        try:
            found = self._reader.execute(schema.GET_ITEM, (space, key)).fetchone()
        except sqlite3.Error as error:  # here and not by _reading, which costs as much as a third of a read
            raise self._read_error(partition, error) from error
        if found is None:
            return None
        value, version, size, checksum = found
        if not row_matches(checksum, group.checked, space, key, value, version, size):
            raise self._damaged(partition, "a row")
        return Row(value, version, size)

    def range(
        self,
        partition: int,
        low: bytes,
        high: bytes,
        reverse: bool,
        limit: int,
        tombstones: bool = False,
        bytes_max: int = 0,
    ) -> list[tuple[bytes, Row]]:
        """Rows with low <= key < high in key order, at most `limit`; with `bytes_max` it stops at the row whose
        value reaches that many bytes in sum. Fewer rows than `limit` without that stop: the range is exhausted.
        Raises GroupDamaged at a damaged row."""
        group = self._group(partition)
        space = group.space
        rows: list[tuple[bytes, Row]] = []
        left = bytes_max or -1
        statement = schema.RANGES[reverse, tombstones]
        with self._reading(partition), closing(self._db.execute(statement, (space, low, high, limit))) as cursor:
            for key, value, version, size, checksum in cursor:
                if not row_matches(checksum, group.checked, space, key, value, version, size):
                    raise self._damaged(partition, "a row")
                rows.append((key, Row(value, version, size)))
                if left > 0:
                    left -= len(value or b"")
                    if left <= 0:
                        break
        return rows

    def entries(
        self, partition: int, slot: int, low: bytes, high: bytes, reverse: bool, limit: int
    ) -> list[LocalEntry]:
        """Entries of a local index with low <= key < high in key order, at most `limit`; fewer: there are no more."""
        group = self._group(partition)
        with self._reading(partition):
            position = (group.space, slot, low, high, limit)
            found = self._reader.execute(schema.ENTRIES[reverse], position).fetchall()
        entries: list[LocalEntry] = []
        for stored, key, value, size, checksum in found:
            if not entry_matches(checksum, group.checked, group.space, slot, key, value, size):
                raise self._damaged(partition, "an entry of a local index")
            entries.append(LocalEntry(stored, key, value, size))
        return entries

    def entry_counts(self, partition: int) -> dict[int, tuple[int, int]]:
        """Entries and their bytes by slot, of a group with local indexes."""
        space = self._group(partition).space
        with self._reading(partition):
            found = self._reader.execute(schema.GET_COUNTS, (space,)).fetchall()
        return {slot: (items, size) for slot, items, size in found}

    def collection_bytes(self, partition: int, prefix: bytes) -> int:
        """Bytes of the rows whose keys begin with `prefix`, that of an item collection, and of their entries."""
        space = self._group(partition).space
        with self._reading(partition):
            found = self._reader.execute(schema.GET_COLLECTION, (space, prefix)).fetchone()
        return 0 if found is None else int(found[0])

    def expiring(self, partition: int, after: tuple[int, bytes], through: int, limit: int) -> list[tuple[int, bytes]]:
        """What expires, as (second, key) in that order: after `after`, up to and including the second `through`, at
        most `limit`. While the index is being filled, some may be missing."""
        series = self._group(partition).series
        if series is None:
            return []
        with self._reading(partition):
            return sqlite_expiries.expiring(self._db, series, after, through, limit)

    def expires(self, partition: int, second: int | None, key: bytes) -> bool:
        """Whether a row that expires at `second` (None: it does not) has its entry."""
        series = self._group(partition).series
        with self._reading(partition):
            return second is None or (series is not None and sqlite_expiries.has(self._db, series, second, key))

    def expiries_filled(self, partition: int) -> bool:
        """Whether the index of what expires has all rows; also where there is none."""
        series = self._group(partition).series
        return series is None or series.filled is None

    def read_feed(self, partition: int, after: int, bytes_max: int, records_max: int) -> list[tuple[int, bytes]]:
        """Change records after a sequence, in order: at least one if there is any, then up to the bounds."""
        group = self._group(partition)
        records: list[tuple[int, bytes]] = []
        left = bytes_max
        position = (group.space, max(after, group.feed_floor), records_max)
        with self._reading(partition), closing(self._db.execute(schema.READ_FEED, position)) as cursor:
            for sequence, record, checksum in cursor:
                if not record_matches(checksum, group.checked, group.space, sequence, record):
                    raise self._damaged(partition, "a change record")
                left -= len(record)
                if left < 0 and records:
                    break
                records.append((sequence, record))
        return records

    # --- writes -------------------------------------------------------------------------------------------

    def apply(self, updates: Sequence[GroupUpdate]) -> None:
        """All updates in one transaction. A group appears at most once (ValueError): puts and deletes are gathered, so
        the order of two updates would be lost."""
        if len({update.partition for update in updates}) < len(updates):
            raise ValueError("a group has two updates in one transaction")
        items: list[Any] = []
        deletes: list[tuple[int, bytes]] = []
        feed: list[Any] = []
        states: list[Any] = []
        trims: list[tuple[_Group, int]] = []
        indexed: list[GroupUpdate] = []
        expiries: list[tuple[_Group, GroupUpdate]] = []
        for update in updates:
            partition, rows, records, trim_to, state, indexes, reindexed, expires_by = update
            if indexes is not None or reindexed:
                indexed.append(update)
            group = self._group(partition)
            if expires_by or group.series is not None:
                expiries.append((group, update))
            space = group.space
            for key, row in rows.items():
                if row is None:
                    deletes.append((space, key))
                else:
                    value, version, size = row
                    items += (space, key, value, version, size, row_checksum(space, key, value, version, size))
            for sequence, record in records:
                feed += (space, sequence, record, record_checksum(space, sequence, record))
            floor = group.feed_floor
            if trim_to is not None and trim_to > floor:
                floor = trim_to
                trims.append((group, floor))
            states += (partition, space, floor, state, state_checksum(partition, space, floor, state))
        with self._transaction():
            # Before the rows that they compare with go.
            entries = [self._entry_changes(update) for update in indexed]
            kept = [(group, self._expiry_changes(group, update)) for group, update in expiries]
            self._put(schema.PUT_ITEMS, ITEM_COLUMNS, items)
            for position in deletes:
                self._db.execute(schema.DELETE_ITEM, position)
            for changes in entries:
                changes()
            self._put(schema.PUT_FEED, FEED_COLUMNS, feed)
            for group, floor in trims:
                self._trim(group.space, floor, TRIM_STEP_RECORDS)
            self._put(schema.PUT_GROUPS, GROUP_COLUMNS, states)
        for group, floor in trims:
            group.feed_floor = floor
        for group, series in kept:
            group.series = series
        for update in updates:
            self._note(update.partition, update.state)

    def _entry_changes(self, update: GroupUpdate) -> Callable[[], None]:
        """What is to be done to the entries of a group once its rows are written."""
        space = self._group(update.partition).space
        if update.reindex or update.indexes is None:
            return lambda: reindex(self._db, space, update.indexes)
        changes = EntryChanges(space, update.indexes)
        for key, row in update.rows.items():
            changes.change(key, self.get(update.partition, key), row)
        return lambda: changes.write(self._db)

    def _expiry_changes(self, group: _Group, update: GroupUpdate) -> Series | None:
        """Write what changes of what expires; the series that the group has from now on."""
        series, attribute = group.series, update.expires_by
        if series is None or series.expiry.attribute != attribute:
            return sqlite_expiries.begin_series(self._db, group.space, attribute)
        sqlite_expiries.row_changes(series, update.rows, lambda key: self.get(update.partition, key)).write(self._db)
        return series

    def fill_expiries(self, partition: int, rows_max: int) -> bool:
        """Enter some more rows into the index of what expires; False when it has them all."""
        group = self._group(partition)
        if group.series is None or group.series.filled is None:
            return False
        with self._transaction():
            filled = sqlite_expiries.fill(self._db, group.space, group.series, rows_max)
        group.series = filled
        return filled.filled is not None

    def create(self, partition: int, state: bytes) -> None:
        """A new, empty group; durable when this returns (its first state is in no log)."""
        if partition in self._groups:
            raise ValueError(f"partition {partition} exists")
        with self._synchronous(), self._transaction():
            space = self._new_space(live=True)
            self._put_group(partition, space, 0, state)
        self._groups[partition] = _Group(space, 0, 0)
        self._note(partition, state)

    def destroy(self, partition: int) -> None:
        """Forget a group; its rows become garbage. Nothing happens when there is none."""
        group = self._groups.get(partition)
        if group is None:
            return
        with self._transaction():
            self._db.execute("UPDATE spaces SET live=0 WHERE space=?", (group.space,))
            self._db.execute("DELETE FROM groups WHERE partition=?", (partition,))
            self._db.execute("DELETE FROM windows WHERE partition=?", (partition,))
        del self._groups[partition]
        self._uncovered.pop(partition, None)
        self._window_covered.pop(partition, None)

    def save_window(self, partition: int, window: bytes, index: int) -> None:
        """Store the deduplication window as of a log index. Raises GroupDamaged."""
        group = self._group(partition)
        with self._transaction():
            found = loaded(self._db.execute(schema.LOAD_GROUP, (partition,)).fetchone())
            if found.damaged:
                raise self._damaged(partition, "the state")
            self._put_window(partition, window, index)
        group.window_index = index
        self._note(partition, found.state)

    def begin_import(
        self, partition: int, indexes_of: Callable[[bytes], Derivation | None] = lambda state: None
    ) -> Import:
        """Install a snapshot beside the current state, if any; `Import.commit` makes it current. `indexes_of` tells the
        local indexes of the snapshot from its serialised GroupState."""
        with self._transaction():
            space = self._new_space(live=False)
        self._importing[space] = None
        return Import(self, partition, space, indexes_of)

    # --- checkpoints --------------------------------------------------------------------------------------

    async def checkpoint(self) -> dict[int, int]:
        """Bring commits into the database file and fsync. Returns the applied log index of each group whose newest
        commit was covered for the first time: what the log may be compacted through (with `window_covered`).

        While an export reads an older state nothing new is covered, and the result is empty.
        """
        async with self._checkpoint_lock:
            self._check()
            if not self._uncovered and self._commits == self._commits_at_checkpoint_end:
                return {}
            taken, self._uncovered = self._uncovered, {}
            try:
                complete = await self._checkpoint_all()
            except BaseException as error:
                self._give_back(taken)
                if isinstance(error, StorageError):
                    self._failure = error
                raise
            if not complete:
                self._give_back(taken)
                return {}
            return {partition: self._cover(partition, newest) for partition, newest in taken.items()}

    def window_covered(self, partition: int) -> int:
        """The log index of the newest window that is durable; 0 when there is none. A log may be compacted only
        through the smaller of this and the applied index, for as long as its window matters."""
        return self._window_covered.get(partition, 0)

    async def _checkpoint_all(self) -> bool:
        """True when everything committed before the call is durable in the database file."""
        if self._commits == self._commits_at_checkpoint_end:
            return self._checkpoint_here()
        frames, done = await self._checkpoint_in_background()
        if frames == done and frames * _FRAME_BYTES > self._settings.wal_bytes_max:
            # Under steady writes a background checkpoint never reaches the WAL's end, and the WAL would grow for
            # ever. What was committed during a second, much shorter one is little enough to do here.
            if self._commits != self._commits_at_checkpoint_end:
                await self._checkpoint_in_background()
            self._checkpoint_here()
        return frames == done

    async def _checkpoint_in_background(self) -> tuple[int, int]:
        if self._background is None:
            self._background = await connect_background(self.path)
        with state_errors(self.path):
            async with self._background.execute("PRAGMA wal_checkpoint(PASSIVE)") as cursor:
                row = await cursor.fetchone()
        self._commits_at_checkpoint_end = self._commits
        assert row is not None
        return int(row[1]), int(row[2])

    def _checkpoint_here(self) -> bool:
        with state_errors(self.path):
            _, frames, done = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._commits_at_checkpoint_end = self._commits
        return bool(frames == done)

    def _cover(self, partition: int, newest: _Uncovered) -> int:
        if partition in self._groups:
            self._window_covered[partition] = newest.window_index
        return GroupState.FromString(newest.state).applied_index

    def _give_back(self, taken: Mapping[int, _Uncovered]) -> None:
        for partition, newest in taken.items():
            if partition in self._groups:
                self._uncovered.setdefault(partition, newest)

    # --- background work ----------------------------------------------------------------------------------

    async def export(self, partition: int, chunk_bytes: int, first: bool = False) -> Export:
        """A consistent snapshot of one group, read in the background. Raises GroupAbsent, TooManyExports. `first`: it
        waits for no other, because the others wait for it.

        The caller must iterate it or close it: an open one keeps the WAL from being reused."""
        self._group(partition)
        if self._exports >= EXPORTS_MAX and not first:
            raise TooManyExports(f"{EXPORTS_MAX} snapshots are being read already")
        self._exports += 1
        try:
            return await Export.begin(self.path, partition, chunk_bytes, self._export_closed)
        except BaseException:
            self._export_closed()
            raise

    def _export_closed(self) -> None:
        self._exports -= 1

    async def collect_garbage(self, step_rows: int = GARBAGE_STEP_ROWS) -> int:
        """Delete rows that nothing points to, in steps of `step_rows` with other work of the loop in between.
        Returns how many; stops after GARBAGE_STEPS_MAX steps, so call it again while it deletes something."""
        removed = 0
        for _ in range(GARBAGE_STEPS_MAX):
            step = self._collect_step(step_rows)
            if step == 0:
                break
            removed += step
            await asyncio.sleep(0)
        return removed

    def _collect_step(self, rows: int) -> int:
        while self._backlog:
            space = next(iter(self._backlog))
            floor = next((group.feed_floor for group in self._groups.values() if group.space == space), 0)
            self._backlog.discard(space)
            if floor:
                with self._transaction():
                    removed = self._trim(space, floor, rows)
                if removed:
                    return removed
        used = {group.space for group in self._groups.values()} | self._importing.keys()
        abandoned = abandoned_space(self._db, used)
        if abandoned is None and not series_ended(self._db):
            return 0
        with self._transaction():
            return collect(self._db, abandoned, rows)

    def discard(self) -> None:
        """Close a store that nothing was begun with, and write nothing more."""
        self._reader.close()
        self._db.close()

    async def close(self) -> None:
        """Checkpoint and close. Exports must have been closed."""
        try:
            if self._failure is None:
                await self.checkpoint()
        finally:
            if self._background is not None:
                await self._background.close()
                self._background = None
            self._reader.close()
            self._db.close()

    # --- inside -------------------------------------------------------------------------------------------

    def _group(self, partition: int) -> _Group:
        try:
            return self._groups[partition]
        except KeyError:
            raise GroupAbsent(f"partition {partition} has no state here") from None

    @contextmanager
    def _reading(self, partition: int) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._read_error(partition, error) from error

    def _read_error(self, partition: int, error: sqlite3.Error) -> Exception:
        """Damage that a read of one group's rows met is first of all that group's."""
        own = translated(self.path, error)
        return self._damaged(partition, f"the state ({error})") if isinstance(own, StateDamaged) else own

    def _damaged(self, partition: int, what: str) -> GroupDamaged:
        self.damage_found(partition, what)
        return GroupDamaged(partition, what)

    def _note(self, partition: int, state: bytes) -> None:
        self._uncovered[partition] = _Uncovered(state, self._groups[partition].window_index)

    def _check(self) -> None:
        if self._failure is not None:
            raise StateFailed(f"{self.path} failed earlier: {self._failure}") from self._failure

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._check()
        with state_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        self._commits += 1

    @contextmanager
    def _synchronous(self) -> Iterator[None]:
        """A transaction begun inside is durable when it has committed."""
        self._db.execute("PRAGMA synchronous=FULL")
        try:
            yield
        finally:
            self._db.execute("PRAGMA synchronous=NORMAL")

    def _put(self, statements: tuple[tuple[int, str], ...], columns: int, values: list[Any]) -> None:
        put_rows(self._db, statements, columns, values)

    def _trim(self, space: int, floor: int, step: int) -> int:
        arguments = {"space": space, "floor": floor, "step": step}
        removed = self._db.execute(schema.TRIM_FEED, arguments).rowcount
        if removed == step:
            self._backlog.add(space)
        return removed

    def _new_space(self, live: bool) -> int:
        space = self._db.execute("INSERT INTO spaces (live, checked) VALUES (?, 1)", (live,)).lastrowid
        assert space is not None
        return space

    def _put_group(self, partition: int, space: int, floor: int, state: bytes) -> None:
        checksum = state_checksum(partition, space, floor, state)
        self._put(schema.PUT_GROUPS, GROUP_COLUMNS, [partition, space, floor, state, checksum])

    def _put_window(self, partition: int, window: bytes, index: int) -> None:
        self._db.execute(schema.PUT_WINDOW, (partition, index, window, window_checksum(partition, index, window)))

    # --- for imports --------------------------------------------------------------------------------------

    def add_imported(
        self, space: int, items: list[Any], feed: list[Any], indexes: Derivation | None, expires_by: str
    ) -> None:
        """A part of a snapshot; its rows are new to the space, so entries are only added."""
        series = self._importing[space]
        with self._transaction():
            if series is None and expires_by:
                series = sqlite_expiries.begin_series(self._db, space, expires_by, None)
            if series is not None:
                sqlite_expiries.import_changes(series, items, ITEM_COLUMNS).write(self._db)
            self._put(schema.PUT_ITEMS, ITEM_COLUMNS, items)
            self._put(schema.PUT_FEED, FEED_COLUMNS, feed)
            if indexes is not None:
                changes = EntryChanges(space, indexes)
                for position in range(0, len(items), ITEM_COLUMNS):
                    _, key, value, version, size, _ = items[position : position + ITEM_COLUMNS]
                    changes.change(key, None, Row(value, version, size))
                changes.write(self._db)
        self._importing[space] = series

    async def install(self, partition: int, space: int, snapshot: Snapshot) -> None:
        """Make an imported space the current one; durable when this returns."""
        await self.checkpoint()  # so that the fsync on the loop's thread has little left to do
        state, window, index = snapshot
        parsed = GroupState.FromString(state)
        floor, expires_by = parsed.feed_floor, parsed.definition.ttl
        old = self._groups.get(partition)
        series = self._importing.get(space)
        with self._synchronous(), self._transaction():
            if (series.expiry.attribute if series is not None else "") != expires_by:
                series = sqlite_expiries.begin_series(self._db, space, expires_by)
            self._db.execute("UPDATE spaces SET live=1 WHERE space=?", (space,))
            if old is not None:
                self._db.execute("UPDATE spaces SET live=0 WHERE space=?", (old.space,))
            self._put_group(partition, space, floor, state)
            if window is None:
                self._db.execute("DELETE FROM windows WHERE partition=?", (partition,))
            else:
                self._put_window(partition, window, index)
        self._importing.pop(space, None)
        self._groups[partition] = _Group(space, floor, index, series=series)
        self._window_covered[partition] = index
        self._note(partition, state)

    def abandon(self, space: int) -> None:
        self._importing.pop(space, None)


def _ignore(partition: int, what: str) -> None:
    return None
