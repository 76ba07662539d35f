"""What a region's items come to, for comparing regions with each other (replication.verify), and writing them anew.

A digest is a sum over live rows, so it depends neither on how the range was cut into calls nor on how the table was cut
into partitions. Tombstones are left out: regions collect them at different times. Where rows are listed they are
named, because a tombstone may be what the other region lacks.

A call looks at one slice, within one turn (node.scans); the caller goes on after its last key.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from geodyne.messages import DIGEST_BYTES, DIGEST_MODULUS, Applied, Busy, Digested, DigestRows, Renew, RowDigest
from node.storage.port import Row
from node.storage.sqlite import StateStore

if TYPE_CHECKING:
    from node.group import Asker, Group

SLICE_ROWS = 256  # with their values read: about 3 ms
SLICE_BYTES = 256 * 1024  # likewise; the item that reaches the bound still belongs to it
LISTED_MAX = 128  # rows of an answer that lists them; a key is up to 3 KB


def digest_rows(store: StateStore, call: DigestRows) -> Digested:
    """One slice. Raises GroupAbsent, GroupDamaged."""
    rows_max = LISTED_MAX if call.listed else SLICE_ROWS
    found = store.range(call.partition, call.low, call.high, False, rows_max, call.listed, SLICE_BYTES)
    total = rows = size = 0
    listed: list[RowDigest] = []
    for key, row in found:
        digest = row_digest(key, row)
        if digest:
            rows += 1
            total += int.from_bytes(digest, "big")
        size += len(row.value or b"")
        if call.listed:
            listed.append(RowDigest(key, row.version, digest))
    exhausted = len(found) < rows_max and size < SLICE_BYTES
    digest = (total % DIGEST_MODULUS).to_bytes(DIGEST_BYTES, "big")
    return Digested(rows, digest, None if exhausted else found[-1][0], tuple(listed))


def row_digest(key: bytes, row: Row) -> bytes:
    """Of key, version and image; b"" for a tombstone."""
    if row.value is None:
        return b""
    head = len(key).to_bytes(4, "big") + key + len(row.version).to_bytes(4, "big") + row.version
    return blake2b(head + row.value, digest_size=DIGEST_BYTES).digest()


def renew_rows(group: Group, call: Renew, asker: Asker, wall_us: int) -> None:
    """On the serving leader: log the rows that still have the version named, as they are, under new versions."""
    if group.participant.locks and any(group.participant.blocks(row.key) for row in call.rows):
        asker.answer(Busy("a transaction is ongoing for one of the items"))
        return
    newest_index = renewed = 0
    for key, version, _ in call.rows:
        index, row = group.newest(key)
        if row is not None and row.version == version:
            index = group.renew(key, row, wall_us)
            renewed += 1
        newest_index = max(newest_index, index)
    group.wait_for(newest_index, asker, Applied(renewed))
