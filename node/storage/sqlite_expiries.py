"""Which items of a group expire, in the order in which they do: an index beside the rows.

It follows from the rows and the table's TTL attribute, so it is neither logged nor shipped: what changes a row changes
its entry in the same transaction. The entries for one attribute are a series. A table that gets another attribute gets
another series, which is filled from the rows in small steps; the old one is garbage. How far a series is filled is
stored with it, so filling goes on after a restart.

Must hold: a series has the entry of each row up to `filled` (of every row, when that is None), and of no row that does
not expire; beyond `filled` it may have entries, because a row that changes is entered at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from geodyne.model.expiry import Expiry
from node.storage import schema
from node.storage.checksums import row_matches
from node.storage.port import Row
from node.storage.sqlite_entries import put_rows

EXPIRY_COLUMNS = 3
NOTHING_FILLED = b""
FILL_BYTES_MAX = 64 << 10  # of items that a step of filling decodes; exceeded by one item


class Series(NamedTuple):
    """The entries of a space under one attribute. `filled`: the last key whose entry is there for certain; None: all
    are."""

    number: int
    expiry: Expiry
    filled: bytes | None


def known(database: sqlite3.Connection) -> bool:
    """Whether the database has, or ever had, something that expires."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return bool(version >= schema.EXPIRY_VERSION)


def load_series(database: sqlite3.Connection) -> dict[int, Series]:
    """The series in use, by space."""
    if not known(database):
        return {}
    found = database.execute(schema.LOAD_SERIES).fetchall()
    return {space: Series(number, Expiry(name.decode()), filled) for number, space, name, filled in found}


def begin_series(
    database: sqlite3.Connection, space: int, attribute: str, filled: bytes | None = NOTHING_FILLED
) -> Series | None:
    """Inside a transaction: end the series of the space, and begin another one unless the attribute is ""."""
    if not known(database):
        for statement in schema.EXPIRY_TABLES:
            database.execute(statement)
        database.execute(f"PRAGMA user_version={schema.EXPIRY_VERSION}")
    database.execute(schema.END_SERIES, (space,))
    if not attribute:
        return None
    number = database.execute(schema.BEGIN_SERIES, (space, attribute.encode(), filled)).lastrowid
    assert number is not None
    return Series(number, Expiry(attribute), filled)


class ExpiryChanges:
    """What changed rows change in a series; `write` executes it."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._put: list[Any] = []
        self._deleted: list[tuple[int, int, bytes]] = []

    def change(self, key: bytes, old: Row | None, new: Row | None) -> None:
        """A row of this key is replaced; each key once."""
        number, expiry, _ = self._series
        before = expiry.second(old.value) if old is not None else None
        after = expiry.second(new.value) if new is not None else None
        if before != after and before is not None:
            self._deleted.append((number, before, key))
        if after is not None:  # entered even if it is there already: beyond `filled` it may not be
            self._put += (number, after, key)

    def write(self, database: sqlite3.Connection) -> None:
        """Inside a transaction."""
        for entry in self._deleted:
            database.execute(schema.DELETE_EXPIRY, entry)
        put_rows(database, schema.PUT_EXPIRIES, EXPIRY_COLUMNS, self._put)


def row_changes(
    series: Series, rows: Mapping[bytes, Row | None], stored: Callable[[bytes], Row | None]
) -> ExpiryChanges:
    """What rows that are about to be written change. `stored` reads the present row of a key."""
    changes = ExpiryChanges(series)
    for key, row in rows.items():
        changes.change(key, stored(key), row)
    return changes


def import_changes(series: Series, items: Sequence[Any], columns: int) -> ExpiryChanges:
    """What rows of a snapshot, as the values of their columns, add."""
    changes = ExpiryChanges(series)
    for position in range(0, len(items), columns):
        _, key, value, version, size, _ = items[position : position + columns]
        changes.change(key, None, Row(value, version, size))
    return changes


def fill(database: sqlite3.Connection, space: int, series: Series, rows_max: int) -> Series:
    """Inside a transaction: enter the next rows, at most `rows_max`."""
    assert series.filled is not None
    changes = ExpiryChanges(series)
    last, rows, read = series.filled, 0, 0
    found = database.execute(schema.ROWS_AFTER, (space, series.filled, rows_max))
    for key, value, version, size, checksum in found:
        # A damaged row is refused whenever it is read; it is healed together with its entry.
        if row_matches(checksum, False, space, key, value, version, size):
            changes.change(key, None, Row(value, version, size))
        last, rows, read = key, rows + 1, read + len(value or b"")
        if read >= FILL_BYTES_MAX:
            break
    found.close()
    changes.write(database)
    filled = last if rows == rows_max or read >= FILL_BYTES_MAX else None
    database.execute(schema.SERIES_FILLED, (filled, series.number))
    return series._replace(filled=filled)


def expiring(
    database: sqlite3.Connection, series: Series, after: tuple[int, bytes], through: int, limit: int
) -> list[tuple[int, bytes]]:
    """The next (second, key) after `after`, up to and including the second `through`, at most `limit`."""
    position = (series.number, *after, through, limit)
    found: list[tuple[int, bytes]] = database.execute(schema.EXPIRING, position).fetchall()
    return found


def has(database: sqlite3.Connection, series: Series, second: int, key: bytes) -> bool:
    return database.execute(schema.HAS_EXPIRY, (series.number, second, key)).fetchone() is not None


def collect_series(database: sqlite3.Connection, space: int, rows: int) -> int:
    """Inside a transaction: delete some of what is left of the series of a space that nothing points to any more."""
    if not known(database):
        return 0
    database.execute(schema.END_SERIES, (space,))
    return collect_ended(database, rows)


def collect_ended(database: sqlite3.Connection, rows: int) -> int:
    """Inside a transaction: delete some entries of a series that has ended, and the series with its last."""
    found = database.execute(schema.ENDED_SERIES).fetchone()
    if found is None:
        return 0
    removed = database.execute(schema.DROP_EXPIRIES, {"series": found[0], "step": rows}).rowcount
    return removed or database.execute(schema.DROP_SERIES, found).rowcount
