"""Batches of the stream between regions, compressed where that saves bytes.

One deflate context (RFC 1951) for each stream and direction: what earlier batches held need not travel again, so a
lone change of a few hundred bytes shrinks as well as one among many. What must hold:

- the two contexts see the same bytes in the same order. A packed batch therefore carries a checksum of what was packed,
  beside the stream's own, which covers what travels;
- nobody gets memory by a small message that unpacks to a large one: the size is told, bounded, and held to exactly;
- a batch that is packed must be sent: the context has taken it in, whether it shrank or not.

Contents that do not shrink (pictures, ciphertext) cost most and save nothing. They are noticed over JUDGED_BYTES; then
packing rests for RESTED_BYTES and tries again.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from geodyne.rpc.codecparts import CodecError
from geodyne.rpc.stream import BATCH_BYTES_MAX, sealed, verify
from geodyne.wire import replication_v1_pb2 as wire

LEVEL: Final = 1  # 160 MB/s of JSON to 0.28 of its size; level 6 takes 2.5 times as long for 0.23
PACKED_BYTES_MIN: Final = 256  # smaller ones are watermarks and commands
UNPACKED_BYTES_MAX: Final = 2 * BATCH_BYTES_MAX  # larger ones, which weights missed by far, travel as they are
PIECE_BYTES: Final = 256 * 1024  # packed without a break: 2 to 5 ms, in which nothing else of the process runs
JUDGED_BYTES: Final = 64 * 1024
RESTED_BYTES: Final = 16 * JUDGED_BYTES
WORTH_PART: Final = 0.8  # of the size that is left at most, else packing rests

_FLUSHED: Final = b"\x00\x00\xff\xff"  # how Z_SYNC_FLUSH ends
_RAW_DEFLATE: Final = -zlib.MAX_WBITS  # a header and a checksum of its own would only come with the end of the context


class Packer:
    """The sending end of one stream. Not to be used by two at a time."""

    __slots__ = ("_context", "_judged", "_judged_packed", "_resting")

    def __init__(self) -> None:
        self._context = zlib.compressobj(LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
        self._judged = self._judged_packed = 0  # bytes before and after, since the last judgement
        self._resting = 0  # bytes that still travel as they are

    async def pack(self, data: bytes) -> bytes:
        """A SourceBatch that holds the encoded one in `data`, or `data` itself. What is returned must be sent."""
        if len(data) < PACKED_BYTES_MIN:
            return data
        if self._resting > 0:
            self._resting -= len(data)
            return data
        whole = memoryview(sealed(data))
        if len(whole) > UNPACKED_BYTES_MAX:
            return data
        compress = self._context.compress
        pieces = [compress(whole[:PIECE_BYTES])]
        for start in range(PIECE_BYTES, len(whole), PIECE_BYTES):
            await asyncio.sleep(0)
            pieces.append(compress(whole[start : start + PIECE_BYTES]))
        pieces.append(self._context.flush(zlib.Z_SYNC_FLUSH))
        packed = b"".join(pieces)
        self._judge(len(data), len(packed))
        return wire.SourceBatch(packed=packed, unpacked_bytes=len(whole)).SerializeToString()

    def _judge(self, before: int, after: int) -> None:
        self._judged += before
        self._judged_packed += after
        if self._judged >= JUDGED_BYTES:
            if self._judged_packed > WORTH_PART * self._judged:
                self._resting = RESTED_BYTES
            self._judged = self._judged_packed = 0


class Unpacker:
    """The receiving end of one stream. After an error it is of no more use, and the stream must end."""

    __slots__ = ("_context",)

    def __init__(self) -> None:
        self._context = zlib.decompressobj(_RAW_DEFLATE)

    def unpack(self, packed: bytes, size: int) -> bytes:
        """The encoded batch, checksum included, that `Packer.pack` was given; `size` is what it told. Raises
        CodecError unless it is exactly that; never makes more than UNPACKED_BYTES_MAX, however much is packed."""
        if not 0 < size <= UNPACKED_BYTES_MAX:
            raise CodecError(f"a packed batch of {size} bytes, not of at most {UNPACKED_BYTES_MAX}")
        try:
            # One byte more than it may be: then whatever is left over shows.
            data = self._context.decompress(packed, size + 1)
        except zlib.error as error:
            raise CodecError(f"a packed batch does not unpack: {error}") from None
        if len(data) != size or self._context.eof or not packed.endswith(_FLUSHED):
            raise CodecError(f"a packed batch does not unpack to the {size} bytes that it tells")
        verify(data)
        return data
