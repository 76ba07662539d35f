"""The bytes of a group's snapshot: numbered, checksummed chunks that can be read one at a time; pure.

    chunk    magic 4 | number u32 | crc32 u32 | records          (crc over number and records)
    record   kind u8, then
      STATE    length u32 | GroupState                            first; its applied index and term are the snapshot's
      WINDOW   log index u64 | length u32 | part of the window    in order, any number
      ROW      key length u32 | value length i32 (-1: tombstone) | version length u16 | size u32 | key | value | version
      FEED     sequence u64 | length u32 | change record
      END      rows u64 | change records u64                      last; how many there were

Format version is the magic's last byte; a reader refuses what it does not know.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from node.storage.port import Row, SnapshotDamaged

MAGIC = b"GDS\x01"

_HEAD = struct.Struct("<4sII")
_NUMBER = struct.Struct("<I")
_STATE = struct.Struct("<BI")
_WINDOW = struct.Struct("<BQI")
_ROW = struct.Struct("<BIiHI")
_FEED = struct.Struct("<BQI")
_END = struct.Struct("<BQQ")

STATE, WINDOW, ROW, FEED, END = range(1, 6)


class StatePart(NamedTuple):
    state: bytes


class WindowPart(NamedTuple):
    log_index: int
    data: bytes


class RowPart(NamedTuple):
    key: bytes
    row: Row


class FeedPart(NamedTuple):
    sequence: int
    record: bytes


class EndPart(NamedTuple):
    rows: int
    feed: int


Part = StatePart | WindowPart | RowPart | FeedPart | EndPart


class ChunkWriter:
    """Collects records; `take` gives what was collected as the next chunk."""

    def __init__(self) -> None:
        self._number = 0
        self._pieces: list[bytes] = []
        self.size = 0
        self.rows = 0
        self.feed = 0

    def state(self, state: bytes) -> None:
        self._add(_STATE.pack(STATE, len(state)), state)

    def window(self, index: int, part: bytes) -> None:
        self._add(_WINDOW.pack(WINDOW, index, len(part)), part)

    def row(self, key: bytes, value: bytes | None, version: bytes, size: int) -> None:
        self.rows += 1
        length = -1 if value is None else len(value)
        self._add(_ROW.pack(ROW, len(key), length, len(version), size), key, value or b"", version)

    def record(self, sequence: int, record: bytes) -> None:
        self.feed += 1
        self._add(_FEED.pack(FEED, sequence, len(record)), record)

    def end(self) -> None:
        self._add(_END.pack(END, self.rows, self.feed))

    def take(self) -> bytes:
        body = b"".join(self._pieces)
        self._pieces = []
        self.size = 0
        number = self._number
        self._number += 1
        return _HEAD.pack(MAGIC, number, crc32(body, crc32(_NUMBER.pack(number)))) + body

    def _add(self, *pieces: bytes) -> None:
        self._pieces.extend(pieces)
        self.size += sum(map(len, pieces))


def read_chunk(chunk: bytes, number: int) -> Iterator[Part]:
    """The records of chunk `number`. Raises SnapshotDamaged before the first one if anything is wrong with it."""
    if len(chunk) < _HEAD.size:
        raise SnapshotDamaged(f"snapshot chunk {number} has {len(chunk)} bytes, fewer than its header")
    magic, found, checksum = _HEAD.unpack_from(chunk)
    if magic != MAGIC:
        raise SnapshotDamaged(f"snapshot chunk {number} has format {magic.hex()}, this version reads {MAGIC.hex()}")
    if found != number:
        raise SnapshotDamaged(f"snapshot chunk {found} arrived where chunk {number} was expected")
    if crc32(memoryview(chunk)[_HEAD.size :], crc32(_NUMBER.pack(number))) != checksum:
        raise SnapshotDamaged(f"snapshot chunk {number} does not match its checksum")
    return _read_parts(chunk)


def _read_parts(chunk: bytes) -> Iterator[Part]:
    position = _HEAD.size
    while position < len(chunk):
        kind = chunk[position]
        if kind == ROW:
            _, key_length, value_length, version_length, size = _ROW.unpack_from(chunk, position)
            position += _ROW.size
            key = chunk[position : position + key_length]
            position += key_length
            value = None
            if value_length >= 0:
                value = chunk[position : position + value_length]
                position += value_length
            version = chunk[position : position + version_length]
            position += version_length
            yield RowPart(key, Row(value, version, size))
        elif kind == FEED:
            _, sequence, length = _FEED.unpack_from(chunk, position)
            position += _FEED.size
            yield FeedPart(sequence, chunk[position : position + length])
            position += length
        elif kind == STATE:
            _, length = _STATE.unpack_from(chunk, position)
            position += _STATE.size
            yield StatePart(chunk[position : position + length])
            position += length
        elif kind == WINDOW:
            _, index, length = _WINDOW.unpack_from(chunk, position)
            position += _WINDOW.size
            yield WindowPart(index, chunk[position : position + length])
            position += length
        elif kind == END:
            _, rows, feed = _END.unpack_from(chunk, position)
            position += _END.size
            yield EndPart(rows, feed)
        else:
            raise SnapshotDamaged(f"snapshot holds a record of unknown kind {kind}")
