"""Bits that change at rest: in the files of a dead node, and under the feet of a live one."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from random import Random

from node.storage.schema import PAGE_BYTES
from node.storage.wal_format import decode_header, mark_behind


def rot_value(database: sqlite3.Connection, random: Random) -> bool:
    """Change the value of one row of the state. False: there is none."""
    (count,) = database.execute("SELECT count(*) FROM items WHERE value IS NOT NULL").fetchone()
    if not count:
        return False
    found = database.execute(
        "SELECT rowid, value FROM items WHERE value IS NOT NULL ORDER BY rowid LIMIT 1 OFFSET ?",
        (random.randrange(count),),
    ).fetchone()
    value = bytearray(found[1])
    value[random.randrange(len(value))] ^= 1 << random.randrange(8)
    database.execute("UPDATE items SET value=? WHERE rowid=?", (bytes(value), found[0]))
    return True


def rot_page(path: Path, random: Random) -> bool:
    """Overwrite a page of a state database that nobody has open. False: there is none."""
    pages = path.stat().st_size // PAGE_BYTES if path.exists() else 0
    if not pages:
        return False
    with path.open("r+b") as file:
        file.seek(random.randrange(pages) * PAGE_BYTES)
        file.write(random.randbytes(PAGE_BYTES))
    return True


def rot_log(directory: Path, random: Random) -> bool:
    """Change one byte of a log that nobody has open, where it is known to be durable. False: nowhere is it."""
    places: list[tuple[Path, int]] = []
    for path in sorted(directory.iterdir()):
        reach = _durable_bytes(path.read_bytes()) if path.is_file() else 0
        if reach:
            places.append((path, reach))
    if not places:
        return False
    path, reach = random.choice(places)
    place = random.randrange(reach)
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, place)[0]
        os.pwrite(file.fileno(), bytes([byte ^ (1 << random.randrange(8))]), place)
    return True


def _durable_bytes(data: bytes) -> int:
    """How much of a segment lies before its last mark: what lies behind it looks like a torn end when it is damaged."""
    header = decode_header(data)
    if header is None:
        return 0
    last, place = 0, mark_behind(data, header.end - 1, header.nonce)
    while place is not None:
        last, place = place, mark_behind(data, place, header.nonce)
    return last
