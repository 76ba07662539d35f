"""Shard iterators: a place in a shard as text that any router understands and none remembers.

    ARN of the stream | version | base64 of: time of issue, beginning of the shard, partition, place, checksum

The ARN stands in the clear, so that a request can be sent to the stream's region without a look inside.  The checksum
tells an iterator from a text that is none; it is no secret: whoever may read a stream may read it from anywhere.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from hashlib import blake2b
from typing import Final, NamedTuple

from geodyne.errors import ApiError, validation
from geodyne.streams import SEQUENCE_END

ITERATOR_LIFE_MS: Final = 15 * 60 * 1000  # API Reference, "GetShardIterator"

_VERSION = "1"
_FIELDS = struct.Struct(">QQQQ")
_CHECKSUM_BYTES = 8
_SHARD_END = 1 << 63
_PARTITION_END = 1 << 32
_INVALID = "Invalid ShardIterator"


class ShardIterator(NamedTuple):
    """Records of the shard that began at `shard` (us) in `partition`, beyond the place `after` in its feed."""

    arn: str
    partition: int
    shard: int
    after: int
    issued_ms: int

    def text(self) -> str:
        fields = _FIELDS.pack(self.issued_ms, self.shard, self.partition, self.after)
        packed = urlsafe_b64encode(fields + _checksum(self.arn, fields)).decode("ascii")
        return f"{self.arn}|{_VERSION}|{packed}"

    def check_age(self, now_ms: int) -> None:
        """Raises ExpiredIteratorException for one that is too old."""
        if now_ms - self.issued_ms > ITERATOR_LIFE_MS:
            raise ApiError("ExpiredIteratorException", "Shard iterator has expired")


def parse_iterator(text: str) -> ShardIterator:
    """The iterator of `ShardIterator.text`. Raises ValidationException for any other text."""
    parts = text.split("|")
    if len(parts) != 3 or parts[1] != _VERSION:
        raise validation(_INVALID)
    arn = parts[0]
    try:
        packed = urlsafe_b64decode(parts[2].encode("ascii"))
        same_text = urlsafe_b64encode(packed).decode("ascii") == parts[2]
        fields = packed[: _FIELDS.size]
        if not same_text or len(fields) != _FIELDS.size or packed[_FIELDS.size :] != _checksum(arn, fields):
            raise validation(_INVALID)
    except (Base64Error, UnicodeError):
        raise validation(_INVALID) from None
    issued_ms, shard, partition, after = _FIELDS.unpack(fields)
    if after >= SEQUENCE_END or not 0 < shard < _SHARD_END or partition >= _PARTITION_END:
        raise validation(_INVALID)  # nobody was given it
    return ShardIterator(arn, partition, shard, after, issued_ms)


def _checksum(arn: str, fields: bytes) -> bytes:
    return blake2b(arn.encode() + fields, digest_size=_CHECKSUM_BYTES).digest()
