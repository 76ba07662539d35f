"""Tables and statements of the state database; text only.

`space` is a private number for the rows of one incarnation of a partition's state: a snapshot is installed into a new
space beside the old one and becomes current by one row of `groups`; what no group points to is garbage.
"""

from __future__ import annotations

APPLICATION_ID = 0x47454F44  # "GEOD", told by file(1) and checked at open
SCHEMA_VERSION = 2
OLDEST_VERSION = 1  # that is upgraded when it is opened
PAGE_BYTES = 4096

TABLES = (
    """CREATE TABLE items (space INTEGER NOT NULL, key BLOB NOT NULL, value BLOB, version BLOB NOT NULL,
       size INTEGER NOT NULL, PRIMARY KEY (space, key))""",
    """CREATE TABLE feed (space INTEGER NOT NULL, sequence INTEGER NOT NULL, record BLOB NOT NULL,
       PRIMARY KEY (space, sequence)) WITHOUT ROWID""",
    """CREATE TABLE groups (partition INTEGER PRIMARY KEY, space INTEGER NOT NULL, feed_floor INTEGER NOT NULL,
       state BLOB NOT NULL)""",
    # Apart from groups: a window is large and changes seldom, a state is small and changes every turn.
    "CREATE TABLE windows (partition INTEGER PRIMARY KEY, log_index INTEGER NOT NULL, window BLOB NOT NULL)",
    # AUTOINCREMENT: a number is never used again, so half-collected garbage cannot come back as data.
    "CREATE TABLE spaces (space INTEGER PRIMARY KEY AUTOINCREMENT, live INTEGER NOT NULL)",
)

# Of the local indexes; all of it follows from `items` and the definitions in `groups` (decision 0009).
INDEX_TABLES = (
    """CREATE TABLE entries (space INTEGER NOT NULL, slot INTEGER NOT NULL, key BLOB NOT NULL, value BLOB,
       size INTEGER NOT NULL, PRIMARY KEY (space, slot, key))""",
    """CREATE TABLE entry_counts (space INTEGER NOT NULL, slot INTEGER NOT NULL, items INTEGER NOT NULL,
       bytes INTEGER NOT NULL, PRIMARY KEY (space, slot)) WITHOUT ROWID""",
    """CREATE TABLE collections (space INTEGER NOT NULL, prefix BLOB NOT NULL, bytes INTEGER NOT NULL,
       PRIMARY KEY (space, prefix)) WITHOUT ROWID""",
)
# Version -> what turns a database of the version before it into one of it.
UPGRADES = {2: INDEX_TABLES}

# Statements of several rows come in powers of two, so that a batch of any size uses few, cached statements.
ROWS_PER_STATEMENT = (64, 32, 16, 8, 4, 2, 1)


def _of_sizes(head: str, columns: int, tail: str = "") -> tuple[tuple[int, str], ...]:
    row = "(" + ",".join("?" * columns) + ")"
    return tuple((rows, f"{head} VALUES {','.join([row] * rows)} {tail}") for rows in ROWS_PER_STATEMENT)


# An upsert overwrites in place; REPLACE would delete and insert, and write twice the WAL.
PUT_ITEMS = _of_sizes(
    "INSERT INTO items (space, key, value, version, size)",
    5,
    "ON CONFLICT (space, key) DO UPDATE SET value=excluded.value, version=excluded.version, size=excluded.size",
)
PUT_FEED = _of_sizes("INSERT INTO feed (space, sequence, record)", 3)
PUT_GROUPS = _of_sizes(
    "INSERT INTO groups (partition, space, feed_floor, state)",
    4,
    "ON CONFLICT (partition) DO UPDATE SET space=excluded.space, feed_floor=excluded.feed_floor, state=excluded.state",
)
PUT_WINDOW = """INSERT INTO windows (partition, log_index, window) VALUES (?, ?, ?)
    ON CONFLICT (partition) DO UPDATE SET log_index=excluded.log_index, window=excluded.window"""

GET_ITEM = "SELECT value, version, size FROM items WHERE space=? AND key=?"
DELETE_ITEM = "DELETE FROM items WHERE space=? AND key=?"
READ_FEED = "SELECT sequence, record FROM feed WHERE space=? AND sequence>? ORDER BY sequence LIMIT ?"
TRIM_FEED = """DELETE FROM feed WHERE space=:space AND sequence<=:floor AND sequence<=(SELECT max(sequence) FROM
    (SELECT sequence FROM feed WHERE space=:space ORDER BY sequence LIMIT :step))"""
DROP_ITEMS = "DELETE FROM items WHERE rowid IN (SELECT rowid FROM items WHERE space=? LIMIT ?)"

PUT_ENTRIES = _of_sizes(
    "INSERT INTO entries (space, slot, key, value, size)",
    5,
    "ON CONFLICT (space, slot, key) DO UPDATE SET value=excluded.value, size=excluded.size",
)
ROWS_AFTER = "SELECT key, value, version, size FROM items WHERE space=? AND key>? ORDER BY key LIMIT ?"
DELETE_ENTRY = "DELETE FROM entries WHERE space=? AND slot=? AND key=?"
ADD_COUNTS = """INSERT INTO entry_counts (space, slot, items, bytes) VALUES (?, ?, ?, ?)
    ON CONFLICT (space, slot) DO UPDATE SET items=items+excluded.items, bytes=bytes+excluded.bytes"""
ADD_COLLECTION = """INSERT INTO collections (space, prefix, bytes) VALUES (?, ?, ?)
    ON CONFLICT (space, prefix) DO UPDATE SET bytes=bytes+excluded.bytes"""
DROP_EMPTY_COLLECTION = "DELETE FROM collections WHERE space=? AND prefix=? AND bytes<=0"
GET_COLLECTION = "SELECT bytes FROM collections WHERE space=? AND prefix=?"
GET_COUNTS = "SELECT slot, items, bytes FROM entry_counts WHERE space=?"
DROP_INDEXES = (
    "DELETE FROM entries WHERE space=?",
    "DELETE FROM entry_counts WHERE space=?",
    "DELETE FROM collections WHERE space=?",
)
DROP_SOME_INDEXED = (
    "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries WHERE space=:space LIMIT :step)",
    "DELETE FROM entry_counts WHERE space=:space AND :step>0",
    """DELETE FROM collections WHERE space=:space AND prefix IN
       (SELECT prefix FROM collections WHERE space=:space LIMIT :step)""",
)

LOAD_GROUPS = """SELECT partition, space, feed_floor, state, window, log_index
    FROM groups LEFT JOIN windows USING (partition)"""
LOAD_GROUP = LOAD_GROUPS + " WHERE partition=?"
EXPORT_ITEMS = "SELECT key, value, version, size FROM items WHERE space=? ORDER BY key"
EXPORT_FEED = "SELECT sequence, record FROM feed WHERE space=? AND sequence>? ORDER BY sequence"


def _range(visible: str, order: str) -> str:
    columns = "SELECT key, value, version, size FROM items WHERE space=? AND key>=? AND key<?"
    return " ".join((columns, visible, "ORDER BY key", order, "LIMIT ?"))


# By (reverse, tombstones).
RANGES = {
    (reverse, tombstones): _range("" if tombstones else "AND value IS NOT NULL", "DESC" if reverse else "ASC")
    for reverse in (False, True)
    for tombstones in (False, True)
}


def _entries(order: str) -> str:
    columns = "SELECT slot, key, value, size FROM entries WHERE space=? AND slot=? AND key>=? AND key<?"
    return " ".join((columns, "ORDER BY key", order, "LIMIT ?"))


# By reverse.
ENTRIES = {False: _entries("ASC"), True: _entries("DESC")}
