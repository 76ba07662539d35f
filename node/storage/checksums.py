"""Checksums of what the state database holds, one for each row of each table, over the row's place as well; pure.

SQLite has none of its own for pages: it notices a damaged structure now and then, and a damaged value never. A checksum
covers a row's key too, so that an index that leads to the wrong row is found, and the space or partition of the row.
CRC-32 finds every change of up to 32 bits in a row, and of any others all but one in four thousand million.
"""

from __future__ import annotations

from zlib import crc32

_MASK = 0xFFFFFFFF
_SIZE_BITS = 20  # sizes are below 1 << 20: what is folded in above them does not meet them


def row_checksum(space: int, key: bytes, value: bytes | None, version: bytes, size: int) -> int:
    """Of a row of `items`."""
    checksum = crc32(version, crc32(key, (space << _SIZE_BITS ^ size) & _MASK))
    return ~checksum & _MASK if value is None else crc32(value, checksum)


def row_matches(
    checksum: int | None, checked: bool, space: int, key: bytes, value: bytes | None, version: bytes, size: int
) -> bool:
    """Whether a row is as it was written. Without `checked`, one that has no checksum is from before there were any."""
    try:
        return checksum == row_checksum(space, key, value, version, size) or (checksum is None and not checked)
    except TypeError:  # damage can change a column's type as well
        return False


def entry_matches(
    checksum: int | None, checked: bool, space: int, slot: int, key: bytes, value: bytes | None, size: int
) -> bool:
    """`row_matches` for an entry of a local index."""
    try:
        return checksum == entry_checksum(space, slot, key, value, size) or (checksum is None and not checked)
    except TypeError:
        return False


def record_matches(checksum: int | None, checked: bool, space: int, sequence: int, record: bytes) -> bool:
    """`row_matches` for a change record."""
    try:
        return checksum == record_checksum(space, sequence, record) or (checksum is None and not checked)
    except TypeError:
        return False


def entry_checksum(space: int, slot: int, key: bytes, value: bytes | None, size: int) -> int:
    """Of an entry of a local index. Slots are below 8."""
    checksum = crc32(key, ((space << 3 | slot) << _SIZE_BITS ^ size) & _MASK)
    return ~checksum & _MASK if value is None else crc32(value, checksum)


def record_checksum(space: int, sequence: int, record: bytes) -> int:
    """Of a change record."""
    return crc32(record, _folded(space, sequence))


def state_checksum(partition: int, space: int, feed_floor: int, state: bytes) -> int:
    """Of a row of `groups`."""
    return crc32(state, crc32(b"%d %d" % (space, feed_floor), _folded(partition, 1)))


def window_checksum(partition: int, log_index: int, window: bytes) -> int:
    """Of a saved deduplication window."""
    return crc32(window, _folded(partition, log_index))


def _folded(owner: int, number: int) -> int:
    return crc32(b"%d %d" % (owner, number))
