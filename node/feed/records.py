"""Change records: the effect of a log entry, with what the feed adds to it at its end."""

from __future__ import annotations

from struct import Struct

from geodyne.messages import Change, FeedRecord
from geodyne.wire import log_v1_pb2 as log

# Effect.wall_us and Effect.feed_total as protobuf writes them (fixed64, fields 13 and 14): appended to the bytes of an
# effect they belong to it. Written by hand, because the effect is not to be copied for them.
_STAMP = Struct("<BQBQ")
_WALL_US, _FEED_TOTAL = 13 << 3 | 1, 14 << 3 | 1
STAMP_BYTES = _STAMP.size


def stamped(effect: bytes, wall_us: int, feed_total: int) -> bytes:
    """The record of a serialised effect. `feed_total`: bytes of all records of the partition before this one."""
    return effect + _STAMP.pack(_WALL_US, wall_us, _FEED_TOTAL, feed_total + len(effect) + STAMP_BYTES)


def stamp_of(record: bytes) -> tuple[int, int]:
    """(wall_us, feed_total) of a record; (0, 0) of one that an earlier version has stored."""
    if len(record) < STAMP_BYTES:
        return 0, 0
    first, wall_us, second, total = _STAMP.unpack_from(record, len(record) - STAMP_BYTES)
    if first != _WALL_US or second != _FEED_TOTAL:
        return 0, 0
    return wall_us, total


def decoded(sequence: int, record: bytes) -> FeedRecord:
    """A stored record as consumers get it."""
    effect = log.Effect.FromString(record)
    image = effect.image if effect.HasField("image") else None
    old_image = effect.old_image if effect.HasField("old_image") else None
    size = effect.size
    old_size = size - effect.bytes_delta if old_image is not None else -1
    base = effect.base if effect.HasField("base") else None
    change = Change(effect.key, effect.version, image, size, base)
    return FeedRecord(sequence, change, old_image, effect.wall_us, effect.expired, old_size)
