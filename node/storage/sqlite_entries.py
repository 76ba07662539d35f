"""What changed rows change in the entries, counts and collection sizes of a group's local indexes: the statements that
go into the transaction of the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from node.storage import schema
from node.storage.checksums import entry_checksum, row_matches
from node.storage.port import Derivation, LocalEntry, Row

ENTRY_COLUMNS = 6
REINDEX_ROWS_PER_STEP = 64


class EntryChanges:
    """Collects the changes of one space; `write` executes them. Counts and sizes are summed up here: one statement for
    each slot and collection."""

    def __init__(self, space: int, indexes: Derivation) -> None:
        self._space = space
        self._indexes = indexes
        self._deleted: dict[tuple[int, bytes], None] = {}
        self._put: dict[tuple[int, bytes], LocalEntry] = {}
        self._counts: dict[int, list[int]] = {}  # slot -> items, bytes
        self._collections: dict[bytes, int] = {}

    def change(self, key: bytes, old: Row | None, new: Row | None) -> None:
        """A row of this key is replaced; each key once."""
        before, after = self._indexes.derive(key, old), self._indexes.derive(key, new)
        kept = {(entry.slot, entry.key): entry for entry in before.entries}
        for entry in after.entries:
            place = (entry.slot, entry.key)
            if kept.pop(place, None) != entry:
                self._put[place] = entry
        for place in kept:
            self._deleted[place] = None
        delta = (new.size if new is not None else 0) - (old.size if old is not None else 0)
        delta += self._count(before.entries, before.sizes, -1) + self._count(after.entries, after.sizes, 1)
        if delta:
            prefix = self._indexes.collection(key)
            self._collections[prefix] = self._collections.get(prefix, 0) + delta

    def _count(self, entries: Iterable[LocalEntry], sizes: Iterable[int], sign: int) -> int:
        total = 0
        for entry, size in zip(entries, sizes, strict=True):
            counts = self._counts.setdefault(entry.slot, [0, 0])
            counts[0] += sign
            counts[1] += sign * size
            total += sign * size
        return total

    def write(self, database: sqlite3.Connection) -> None:
        """Inside a transaction."""
        space = self._space
        for slot, key in self._deleted:
            database.execute(schema.DELETE_ENTRY, (space, slot, key))
        entries: list[Any] = []
        for entry in self._put.values():
            slot, key, value, size = entry
            entries += (space, slot, key, value, size, entry_checksum(space, slot, key, value, size))
        put_rows(database, schema.PUT_ENTRIES, ENTRY_COLUMNS, entries)
        for slot, (items, size) in self._counts.items():
            if items or size:
                database.execute(schema.ADD_COUNTS, (space, slot, items, size))
        for prefix, delta in self._collections.items():
            database.execute(schema.ADD_COLLECTION, (space, prefix, delta))
            if delta < 0:
                database.execute(schema.DROP_EMPTY_COLLECTION, (space, prefix))


def reindex(database: sqlite3.Connection, space: int, indexes: Derivation | None) -> None:
    """Make all entries of a space anew from its rows, inside a transaction. Local indexes come with their table, so
    there are few rows, if any: only those that came before the marker that names the indexes."""
    for statement in schema.DROP_INDEXES:
        database.execute(statement, (space,))
    if indexes is None:
        return
    after = b""
    while True:
        rows = database.execute(schema.ROWS_AFTER, (space, after, REINDEX_ROWS_PER_STEP)).fetchall()
        changes = EntryChanges(space, indexes)
        for key, value, version, size, checksum in rows:
            # A damaged row is refused whenever it is read, so nothing asks for its entries either.
            if row_matches(checksum, False, space, key, value, version, size):
                changes.change(key, None, Row(value, version, size))
        changes.write(database)
        if len(rows) < REINDEX_ROWS_PER_STEP:
            return
        after = rows[-1][0]


def put_rows(
    database: sqlite3.Connection, statements: tuple[tuple[int, str], ...], columns: int, values: list[Any]
) -> None:
    """Execute the statement of so many rows as often as needed (`schema.ROWS_PER_STATEMENT`)."""
    position = 0
    left = len(values) // columns
    for rows, statement in statements:
        while left >= rows:
            end = position + rows * columns
            database.execute(statement, values[position:end])
            position = end
            left -= rows
