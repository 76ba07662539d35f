"""Tables and statements of the state database; text only.

`space` is a private number for the rows of one incarnation of a partition's state: a snapshot is installed into a new
space beside the old one and becomes current by one row of `groups`; what no group points to is garbage.
"""

from __future__ import annotations

APPLICATION_ID = 0x47454F44  # "GEOD", told by file(1) and checked at open
SCHEMA_VERSION = 3  # of a new database, and of an older one once it is opened
EXPIRY_VERSION = 4  # of one that knows what expires: older versions would leave that index behind the rows
NEWEST_VERSION = EXPIRY_VERSION
OLDEST_VERSION = 1  # that is upgraded when it is opened
PAGE_BYTES = 4096

# Format 1. What later formats added is in UPGRADES, which a new database goes through as well: one shape for all.
TABLES = (
    """CREATE TABLE items (space INTEGER NOT NULL, key BLOB NOT NULL, value BLOB, version BLOB NOT NULL,
       size INTEGER NOT NULL, PRIMARY KEY (space, key))""",
    # Databases of earlier builds have this one WITHOUT ROWID, which the same statements read and write at three times
    # the cost: records with both images of an item lie on overflow pages there.
    """CREATE TABLE feed (space INTEGER NOT NULL, sequence INTEGER NOT NULL, record BLOB NOT NULL,
       PRIMARY KEY (space, sequence))""",
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
# `checked`: every row of the space has a checksum. Rows that format 2 wrote have none until they are written again.
CHECKSUM_COLUMNS = (
    *(
        f"ALTER TABLE {table} ADD COLUMN checksum INTEGER"
        for table in ("items", "feed", "entries", "groups", "windows")
    ),
    "ALTER TABLE spaces ADD COLUMN checked INTEGER NOT NULL DEFAULT 0",
)
# Of what expires (node.storage.sqlite_expiries); follows from `items` and the definitions in `groups` (decision 0019).
# Made when a table here first has Time to Live, so that until then an older version can go back to the database.
EXPIRY_TABLES = (
    """CREATE TABLE expiries (series INTEGER NOT NULL, second INTEGER NOT NULL, key BLOB NOT NULL,
       PRIMARY KEY (series, second, key)) WITHOUT ROWID""",
    """CREATE TABLE expiry_series (series INTEGER PRIMARY KEY AUTOINCREMENT, space INTEGER NOT NULL,
       live INTEGER NOT NULL, attribute BLOB NOT NULL, filled BLOB)""",
)
# Version -> what turns a database of the version before it into one of it.
UPGRADES = {2: INDEX_TABLES, 3: CHECKSUM_COLUMNS}
UNCHECKED_STATES = "SELECT partition, space, feed_floor, state FROM groups"
CHECK_STATE = "UPDATE groups SET checksum=? WHERE partition=?"
UNCHECKED_WINDOWS = "SELECT partition, log_index, window FROM windows"
CHECK_WINDOW = "UPDATE windows SET checksum=? WHERE partition=?"

# Statements of several rows come in powers of two, so that a batch of any size uses few, cached statements.
ROWS_PER_STATEMENT = (64, 32, 16, 8, 4, 2, 1)


def _of_sizes(head: str, columns: int, tail: str = "") -> tuple[tuple[int, str], ...]:
    row = "(" + ",".join("?" * columns) + ")"
    return tuple((rows, f"{head} VALUES {','.join([row] * rows)} {tail}") for rows in ROWS_PER_STATEMENT)


# An upsert overwrites in place; REPLACE would delete and insert, and write twice the WAL.
PUT_ITEMS = _of_sizes(
    "INSERT INTO items (space, key, value, version, size, checksum)",
    6,
    "ON CONFLICT (space, key) DO UPDATE SET value=excluded.value, version=excluded.version, size=excluded.size, "
    "checksum=excluded.checksum",
)
PUT_FEED = _of_sizes("INSERT INTO feed (space, sequence, record, checksum)", 4)
PUT_GROUPS = _of_sizes(
    "INSERT INTO groups (partition, space, feed_floor, state, checksum)",
    5,
    "ON CONFLICT (partition) DO UPDATE SET space=excluded.space, feed_floor=excluded.feed_floor, "
    "state=excluded.state, checksum=excluded.checksum",
)
PUT_WINDOW = """INSERT INTO windows (partition, log_index, window, checksum) VALUES (?, ?, ?, ?)
    ON CONFLICT (partition) DO UPDATE SET log_index=excluded.log_index, window=excluded.window,
    checksum=excluded.checksum"""

GET_ITEM = "SELECT value, version, size, checksum FROM items WHERE space=? AND key=?"
DELETE_ITEM = "DELETE FROM items WHERE space=? AND key=?"
READ_FEED = "SELECT sequence, record, checksum FROM feed WHERE space=? AND sequence>? ORDER BY sequence LIMIT ?"
TRIM_FEED = """DELETE FROM feed WHERE space=:space AND sequence<=:floor AND sequence<=(SELECT max(sequence) FROM
    (SELECT sequence FROM feed WHERE space=:space ORDER BY sequence LIMIT :step))"""
DROP_ITEMS = "DELETE FROM items WHERE rowid IN (SELECT rowid FROM items WHERE space=? LIMIT ?)"

PUT_ENTRIES = _of_sizes(
    "INSERT INTO entries (space, slot, key, value, size, checksum)",
    6,
    "ON CONFLICT (space, slot, key) DO UPDATE SET value=excluded.value, size=excluded.size, checksum=excluded.checksum",
)
ROWS_AFTER = "SELECT key, value, version, size, checksum FROM items WHERE space=? AND key>? ORDER BY key LIMIT ?"
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

PUT_EXPIRIES = _of_sizes("INSERT INTO expiries (series, second, key)", 3, "ON CONFLICT DO NOTHING")
DELETE_EXPIRY = "DELETE FROM expiries WHERE series=? AND second=? AND key=?"
EXPIRING = """SELECT second, key FROM expiries WHERE series=? AND (second, key)>(?, ?) AND second<=?
    ORDER BY second, key LIMIT ?"""
DROP_EXPIRIES = """DELETE FROM expiries WHERE series=:series AND (second, key) IN
    (SELECT second, key FROM expiries WHERE series=:series LIMIT :step)"""
HAS_EXPIRY = "SELECT 1 FROM expiries WHERE series=? AND second=? AND key=?"
LOAD_SERIES = "SELECT series, space, attribute, filled FROM expiry_series WHERE live<>0 ORDER BY series"
BEGIN_SERIES = "INSERT INTO expiry_series (space, live, attribute, filled) VALUES (?, 1, ?, ?)"
SERIES_FILLED = "UPDATE expiry_series SET filled=? WHERE series=?"
END_SERIES = "UPDATE expiry_series SET live=0 WHERE space=? AND live<>0"
ENDED_SERIES = "SELECT series FROM expiry_series WHERE live=0 LIMIT 1"
DROP_SERIES = "DELETE FROM expiry_series WHERE series=?"

LOAD_GROUPS = """SELECT partition, space, feed_floor, state, groups.checksum, window, log_index, windows.checksum,
    checked FROM groups LEFT JOIN windows USING (partition) LEFT JOIN spaces USING (space)"""
LOAD_GROUP = LOAD_GROUPS + " WHERE partition=?"
EXPORT_ITEMS = "SELECT key, value, version, size, checksum FROM items WHERE space=? ORDER BY key"
EXPORT_FEED = "SELECT sequence, record, checksum FROM feed WHERE space=? AND sequence>? ORDER BY sequence"


def _range(visible: str, order: str) -> str:
    columns = "SELECT key, value, version, size, checksum FROM items WHERE space=? AND key>=? AND key<?"
    return " ".join((columns, visible, "ORDER BY key", order, "LIMIT ?"))


# By (reverse, tombstones). A tombstone's size is 0: a row whose value damage has made NULL is not taken for one.
RANGES = {
    (reverse, tombstones): _range(
        "" if tombstones else "AND (value IS NOT NULL OR size<>0)", "DESC" if reverse else "ASC"
    )
    for reverse in (False, True)
    for tombstones in (False, True)
}


def _entries(order: str) -> str:
    columns = "SELECT slot, key, value, size, checksum FROM entries WHERE space=? AND slot=? AND key>=? AND key<?"
    return " ".join((columns, "ORDER BY key", order, "LIMIT ?"))


# By reverse.
ENTRIES = {False: _entries("ASC"), True: _entries("DESC")}

# Each kind once: a database in which one of them cannot be compiled is not of the shape that its version says.
EXPLAINED = (
    *(statements[-1][1] for statements in (PUT_ITEMS, PUT_FEED, PUT_GROUPS, PUT_ENTRIES)),
    *(PUT_WINDOW, GET_ITEM, DELETE_ITEM, READ_FEED, DROP_ITEMS, ROWS_AFTER, DELETE_ENTRY, LOAD_GROUP),
    *(ADD_COUNTS, ADD_COLLECTION, DROP_EMPTY_COLLECTION, GET_COLLECTION, GET_COUNTS, *DROP_INDEXES),
    *(EXPORT_ITEMS, EXPORT_FEED, *RANGES.values(), *ENTRIES.values()),
    "INSERT INTO spaces (space, live, checked) VALUES (?, ?, ?)",
)
EXPLAINED_EXPIRIES = (
    *(PUT_EXPIRIES[-1][1], DELETE_EXPIRY, EXPIRING, LOAD_SERIES, BEGIN_SERIES, SERIES_FILLED, END_SERIES),
    *(HAS_EXPIRY, ENDED_SERIES, DROP_SERIES),
)
