"""Connections to the state database: their settings, the check of what is in the file, SQLite's errors as ours."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiosqlite

from node.storage import schema
from node.storage.checksums import state_checksum, window_checksum
from node.storage.port import StateDamaged, StateFailed, WrongFormat

logger = logging.getLogger("geodyne.node.storage")

BACKGROUND_CACHE_KB = 2 * 1024
BUSY_TIMEOUT_MS = 5000
CHECKSUMS_SINCE = 3  # schema version

_FAILED_CODES = frozenset(
    (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
    )
)
_DAMAGED_CODES = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))


def translated(path: Path, error: sqlite3.Error) -> Exception:
    """SQLite's error as ours; a programming error stays what it is."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary result code
    if code in _DAMAGED_CODES:
        return StateDamaged(f"{path}: {error}")
    if code in _FAILED_CODES:
        return StateFailed(f"{path}: {error}")
    if "decode" in str(error):  # text that is none: nothing here is text, so damage has changed a column's type
        return StateDamaged(f"{path}: {error}")
    return error


@contextmanager
def state_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translated(path, error) from error.__cause__
    except UnicodeDecodeError as error:  # in what SQLite says of a name that damage has changed
        raise StateDamaged(f"{path}: {error}") from error


def configure(database: sqlite3.Connection, cache_kb: int) -> None:
    database.execute(f"PRAGMA page_size={schema.PAGE_BYTES}")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute("PRAGMA secure_delete=OFF")  # some distributions compile it in; it doubles the cost of deletes
    database.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    database.execute(f"PRAGMA cache_size=-{cache_kb}")


def check_schema(path: Path, database: sqlite3.Connection) -> None:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not application and not version and not tables:
        database.execute("BEGIN IMMEDIATE")
        for table in schema.TABLES:
            database.execute(table)
        for statements in schema.UPGRADES.values():
            for statement in statements:
                database.execute(statement)
        database.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
        database.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION}")
        database.execute("COMMIT")
        return
    if application != schema.APPLICATION_ID:
        raise WrongFormat(f"{path} is a database, but not one of Geodyne's. Choose another directory with --data-dir.")
    if not schema.OLDEST_VERSION <= version <= schema.NEWEST_VERSION:
        raise WrongFormat(
            f"{path} has state format {version}; this version reads formats {schema.OLDEST_VERSION} to "
            f"{schema.NEWEST_VERSION}. "
            "Use the Geodyne version that wrote it, or choose another directory with --data-dir."
        )
    try:
        if version < schema.SCHEMA_VERSION:
            _upgrade(database, version)
            upgraded = {"path": str(path), "from_format": version, "to_format": schema.SCHEMA_VERSION}
            logger.warning("state database upgraded", extra=upgraded)
        later = schema.EXPLAINED_EXPIRIES if version >= schema.EXPIRY_VERSION else ()
        for statement in (*schema.EXPLAINED, *later):
            database.execute(f"EXPLAIN {statement}", (None,) * statement.count("?")).fetchall()
    except sqlite3.OperationalError as error:
        own = translated(path, error)
        raise StateDamaged(f"{path}: {error}") if own is error else own from error


def _upgrade(database: sqlite3.Connection, version: int) -> None:
    """Bring an older database to the current format, all of it or nothing. There is no way back."""
    database.execute("BEGIN IMMEDIATE")
    for newer in range(version + 1, schema.SCHEMA_VERSION + 1):
        for statement in schema.UPGRADES[newer]:
            database.execute(statement)
        if newer == CHECKSUMS_SINCE:
            _check_states(database)
    database.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION}")
    database.execute("COMMIT")


def _check_states(database: sqlite3.Connection) -> None:
    """Give checksums to what there is one of for each group. Rows are many: they get theirs when they are written."""
    for partition, space, floor, state in database.execute(schema.UNCHECKED_STATES).fetchall():
        database.execute(schema.CHECK_STATE, (state_checksum(partition, space, floor, state), partition))
    for partition, index, window in database.execute(schema.UNCHECKED_WINDOWS).fetchall():
        database.execute(schema.CHECK_WINDOW, (window_checksum(partition, index, window), partition))


async def connect_background(path: Path) -> aiosqlite.Connection:
    """A connection with a thread of its own, for reading and checkpoints."""
    with state_errors(path):
        opening = aiosqlite.connect(path, isolation_level=None)
        opening._thread.daemon = True  # else a process that dies of an error would wait for it for ever
        connection = await opening
        await connection.execute("PRAGMA synchronous=NORMAL")
        await connection.execute("PRAGMA wal_autocheckpoint=0")
        await connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        await connection.execute(f"PRAGMA cache_size=-{BACKGROUND_CACHE_KB}")
    return connection


async def quick_check(path: Path) -> list[str]:
    """What SQLite's quick_check finds wrong; empty when nothing is."""
    connection = await connect_background(path)
    try:
        async with connection.execute("PRAGMA quick_check") as cursor:
            found = [str(line) for (line,) in await cursor.fetchall()]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    finally:
        await connection.close()
    return [] if found == ["ok"] else found
