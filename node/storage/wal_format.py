"""Bytes of the log on disk, format 1; pure.

    segment   header, then records
    header    magic 8 | version u16 | identity length u16 | segment number u64 | nonce 8 | identity | crc32 u32
    record    payload length u32 | crc32 u32 | type u8 | group u64 | payload      (crc over type, group and payload)

    ENTRY       index u64 | term u64 | data        truncates the group's log from `index`, then appends
    HARD_STATE  term u64 | vote utf-8
    OFFSET      index u64 | term u64               entries through `index` are no longer needed
    RESET       index u64 | term u64               the whole log is replaced by an empty one after `index`
    DESTROY                                        the group is gone
    GROUPS      (group, term, offset index, offset term, last index u64, vote length u16, vote)*
                                                   all groups there are; first record of every segment but the first
    MARK        nonce 8 | own position u64         everything before this position was durable when it was written

All integers are little-endian.  A write that was never confirmed may leave any mixture of its bytes behind, valid
records after invalid ones included, so a bad record proves damage only when a mark *behind* it says that the place
had been durable before; otherwise it is a torn tail.  The nonce keeps stored user data from posing as a mark.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from zlib import crc32

from geodyne.peermessages import Entry

SEGMENT_MAGIC = b"GEODYNWL"
SEGMENT_VERSION = 1
NONCE_BYTES = 8

ENTRY, HARD_STATE, OFFSET, RESET, DESTROY, GROUPS, MARK = range(1, 8)

_HEADER = struct.Struct("<8sHHQ8s")
_FRAME = struct.Struct("<II")
_TAIL = struct.Struct("<BQ")
_ENTRY_TAIL = struct.Struct("<BQQQ")
_PAIR = struct.Struct("<QQ")
_TERM = struct.Struct("<Q")
_GROUP = struct.Struct("<QQQQQH")
_MARK = struct.Struct("<8sQ")
_CRC = struct.Struct("<I")

RECORD_BYTES = _FRAME.size + _TAIL.size  # before the payload
ENTRY_BYTES = _PAIR.size
_MARK_LENGTH = _MARK.size.to_bytes(4, "little")
_MARK_TAIL = _TAIL.pack(MARK, 0)


class GroupFacts(NamedTuple):
    """One group in a GROUPS record."""

    group: int
    term: int
    vote: str
    offset_index: int
    offset_term: int
    last_index: int


class Record(NamedTuple):
    """A valid record; `end` is where the next one begins."""

    position: int
    end: int
    type: int
    group: int
    payload: bytes


class SegmentHeader(NamedTuple):
    version: int
    number: int
    nonce: bytes
    identity: bytes
    end: int


def identity_of(cluster_id: str, process_id: str) -> bytes:
    return f"{cluster_id}\n{process_id}".encode()


def encode_header(number: int, nonce: bytes, identity: bytes) -> bytes:
    head = _HEADER.pack(SEGMENT_MAGIC, SEGMENT_VERSION, len(identity), number, nonce) + identity
    return head + _CRC.pack(crc32(head))


def decode_header(data: bytes) -> SegmentHeader | None:
    """The header of a segment file, None when torn or damaged (a newer version is returned as it is)."""
    if len(data) < _HEADER.size:
        return None
    magic, version, length, number, nonce = _HEADER.unpack_from(data)
    end = _HEADER.size + length
    if magic != SEGMENT_MAGIC or len(data) < end + _CRC.size or _CRC.unpack_from(data, end)[0] != crc32(data[:end]):
        return None
    return SegmentHeader(version, number, nonce, data[_HEADER.size : end], end + _CRC.size)


def encode_record(type: int, group: int, payload: bytes = b"") -> bytes:
    tail = _TAIL.pack(type, group)
    return _FRAME.pack(len(payload), crc32(payload, crc32(tail))) + tail + payload


def encode_entry(group: int, entry: Entry) -> tuple[bytes, bytes]:
    """An ENTRY record in two pieces, so that the payload is copied once, when the batch is joined."""
    index, term, data = entry
    tail = _ENTRY_TAIL.pack(ENTRY, group, index, term)
    return _FRAME.pack(ENTRY_BYTES + len(data), crc32(data, crc32(tail))) + tail, data


def decode_entry(payload: bytes) -> Entry:
    index, term = _PAIR.unpack_from(payload)
    return Entry(index, term, payload[ENTRY_BYTES:])


def encode_hard_state(group: int, term: int, vote: str) -> bytes:
    return encode_record(HARD_STATE, group, _TERM.pack(term) + vote.encode())


def decode_hard_state(payload: bytes) -> tuple[int, str]:
    return _TERM.unpack_from(payload)[0], payload[_TERM.size :].decode()


def encode_position(type: int, group: int, index: int, term: int) -> bytes:
    """An OFFSET or RESET record."""
    return encode_record(type, group, _PAIR.pack(index, term))


def decode_position(payload: bytes) -> tuple[int, int]:
    index, term = _PAIR.unpack(payload)
    return index, term


def encode_groups(groups: Iterable[GroupFacts]) -> bytes:
    parts = []
    for facts in groups:
        vote = facts.vote.encode()
        numbers = (facts.group, facts.term, facts.offset_index, facts.offset_term, facts.last_index)
        parts.append(_GROUP.pack(*numbers, len(vote)) + vote)
    return encode_record(GROUPS, 0, b"".join(parts))


def decode_groups(payload: bytes) -> Iterator[GroupFacts]:
    position = 0
    while position < len(payload):
        group, term, offset_index, offset_term, last_index, length = _GROUP.unpack_from(payload, position)
        position += _GROUP.size
        vote = payload[position : position + length].decode()
        position += length
        yield GroupFacts(group, term, vote, offset_index, offset_term, last_index)


def encode_mark(nonce: bytes, position: int) -> bytes:
    return encode_record(MARK, 0, _MARK.pack(nonce, position))


def record_at(data: bytes, position: int) -> Record | None:
    """The record at a position, None when there is no valid one."""
    start = position + _FRAME.size
    if start + _TAIL.size > len(data):
        return None
    length, checksum = _FRAME.unpack_from(data, position)
    end = start + _TAIL.size + length
    if end > len(data):
        return None
    if crc32(memoryview(data)[start:end]) != checksum:
        return None
    type, group = _TAIL.unpack_from(data, start)
    return Record(position, end, type, group, data[start + _TAIL.size : end])


def mark_behind(data: bytes, position: int, nonce: bytes | None) -> int | None:
    """The position of the first true mark after `position`, None when there is none. Without a nonce (the header
    that held it is damaged) any mark that tells its own position counts."""
    found = data.find(_MARK_LENGTH, position + 1)
    while found != -1:
        if data[found + _FRAME.size : found + RECORD_BYTES] == _MARK_TAIL:
            record = record_at(data, found)
            if record is not None:
                written_nonce, own_position = _MARK.unpack(record.payload)
                if own_position == found and nonce in (None, written_nonce):
                    return found
        found = data.find(_MARK_LENGTH, found + 1)
    return None
