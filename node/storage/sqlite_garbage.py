"""What nothing in the state database points to any more, deleted in small steps: the spaces of groups that are gone or
were replaced by a snapshot, and the series of what expires that have ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Container

from node.storage import schema
from node.storage.sqlite_expiries import collect_ended, collect_series, known

_EVERYTHING = (1 << 63) - 1


def abandoned_space(database: sqlite3.Connection, used: Container[int]) -> int | None:
    """A space that is not in use, whatever damage says of `live`."""
    dead = database.execute("SELECT space FROM spaces WHERE live=0").fetchall()
    return next((space for (space,) in dead if space not in used), None)


def collect(database: sqlite3.Connection, space: int | None, rows: int) -> int:
    """Inside a transaction: delete up to `rows` rows of an abandoned space, and the space with the last of them; with
    None, entries of a series that has ended. How many went."""
    if space is None:
        return collect_ended(database, rows)
    step = {"space": space, "step": rows}
    removed = database.execute(schema.DROP_ITEMS, (space, rows)).rowcount
    for statement in schema.DROP_SOME_INDEXED:
        removed = removed or database.execute(statement, step).rowcount
    removed = removed or database.execute(schema.TRIM_FEED, {**step, "floor": _EVERYTHING}).rowcount
    removed = removed or collect_series(database, space, rows)
    return removed or database.execute("DELETE FROM spaces WHERE space=?", (space,)).rowcount


def series_ended(database: sqlite3.Connection) -> bool:
    return known(database) and database.execute(schema.ENDED_SERIES).fetchone() is not None
