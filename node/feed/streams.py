"""Serving the streams of a table from one partition: their shards, and records within a shard.

What a stream retains begins after its cursor, which retention moves, or after the floor of the feed if that is newer:
another consumer may hold records that the stream has given up.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import adler32

from geodyne.catalog import TRIGGER_OLDEST_PREFIX, stream_consumer
from geodyne.messages import (
    FROM_COMMITTED,
    FROM_LATEST,
    FeedRecord,
    ListShards,
    ReadStream,
    Refused,
    Shards,
    ShardSpan,
    StreamPage,
)
from geodyne.model.values import loads
from geodyne.streams import NEW_VIEWS, OLD_VIEWS
from node.feed.records import decoded
from node.feed.search import newest
from node.feed.shards import Shard
from node.state import GroupState
from node.storage.sqlite import StateStore

RECORDS_MAX = 1024  # a page; decoded on the loop's thread
_WHOLE = "NEW_AND_OLD_IMAGES"


class _Span(NamedTuple):
    """What is read: records with low < sequence <= high. `closed`: there will never be more of them."""

    low: int
    high: int
    closed: bool


def list_shards(state: GroupState, call: ListShards) -> Shards | Refused:
    shards = state.shards.get(call.label)
    if shards is None:
        return _unknown("stream", call.label)
    spans = tuple(ShardSpan(shard.opened_us, shard.after, shard.last) for shard in shards)
    return Shards(spans, _floor(state, call.label))


def read_stream(store: StateStore, state: GroupState, call: ReadStream, late: bool) -> StreamPage | Refused | None:
    """Records of a stream, or None when there is nothing to say yet (and the call is not `late`)."""
    if not call.label:
        return _read_held(store, state, call, late)
    shards = state.shards.get(call.label)
    if shards is None:
        return _unknown("stream", call.label)
    span = _span(state, shards, call.shard)
    if isinstance(span, Refused):
        return span
    floor = _floor(state, call.label)
    after = _position(state, call, span, floor)
    if after is None:
        return _unknown("consumer", call.consumer)
    after = max(after, span.low)
    if after < min(floor, span.high):
        return StreamPage((), min(floor, span.high), False, True)
    if call.since_us:
        after = newest(store, call.partition, after, span.high, lambda at_us, _: at_us < call.since_us)
    if after >= span.high or not call.limit:
        page = StreamPage((), after, span.closed and after >= span.high, False)
        return page if late or page.closed or not call.limit or call.wait_ms == 0 else None
    view = next((stream.view for stream in state.definition.streams if stream.label == call.label), _WHOLE)
    return _page(store, call, after, span, view)


def _read_held(store: StateStore, state: GroupState, call: ReadStream, late: bool) -> StreamPage | Refused | None:
    """Records that are held for a consumer, whatever streams the table has."""
    if call.consumer not in state.definition.consumers:
        return _unknown("consumer", call.consumer)
    after = state.cursors.get(call.consumer, -1) if call.after == FROM_COMMITTED else call.after
    if after < state.feed_floor:
        return StreamPage((), state.feed_floor, False, True)
    if after >= state.feed_head or not call.limit:
        page = StreamPage((), after, False, False)
        return page if late or not call.limit or call.wait_ms == 0 else None
    return _page(store, call, after, _Span(after, state.feed_head, False), _WHOLE)


def changes(record: FeedRecord) -> bool:
    """Whether a record of a feed with old images has anything to tell. An item's attributes have no order: the same
    ones in another order are as many bytes, and the same item."""
    new, old = record.change.image, record.old_image
    if new is None or old is None or len(new) != len(old):
        return new is not old
    return new != old and (_byte_sum(new) != _byte_sum(old) or loads(new) != loads(old))


def _byte_sum(image: bytes) -> int:
    """The same for the same bytes in another order, and far cheaper than decoding them (RFC 1950: the low half of
    Adler-32 is the sum of the bytes)."""
    return adler32(image) & 0xFFFF


def shown(record: FeedRecord, view: str) -> FeedRecord:
    """A record without the images that a stream of this view does not show: what is not read need not travel. Empty
    ones stand for them, because a record tells in any case whether there was an item before and after."""
    sequence, change, old_image, wall_us, expired, old_size = record
    if change.image is not None and view not in NEW_VIEWS:
        change = change._replace(image=b"")
    if old_image is not None and view not in OLD_VIEWS:
        old_image = b""
    return FeedRecord(sequence, change, old_image, wall_us, expired, old_size)


def _page(store: StateStore, call: ReadStream, after: int, span: _Span, view: str) -> StreamPage:
    stored = store.read_feed(call.partition, after, call.max_bytes, min(call.limit, RECORDS_MAX))
    within = [(sequence, data) for sequence, data in stored if sequence <= span.high]
    records = [record for sequence, data in within if changes(record := decoded(sequence, data))]
    if view != _WHOLE:
        records = [shown(record, view) for record in records]
    following = within[-1][0] if within and len(within) == len(stored) else span.high
    return StreamPage(tuple(records), following, span.closed and following >= span.high, False)


def _span(state: GroupState, shards: tuple[Shard, ...], opened_us: int) -> _Span | Refused:
    if not opened_us:
        if not shards:
            return _Span(state.feed_head, state.feed_head, True)  # it has ended, and all of it is trimmed
        first, last = shards[0], shards[-1]
    else:
        found = next((shard for shard in shards if shard.opened_us == opened_us), None)
        if found is None:
            return _unknown("shard", str(opened_us))
        first = last = found
    if last.last is None:
        return _Span(first.after, state.feed_head, False)
    return _Span(first.after, last.last, True)


def _position(state: GroupState, call: ReadStream, span: _Span, floor: int) -> int | None:
    """Where to read from; None for a bookmark that the partition does not have."""
    if call.after == FROM_LATEST:
        return span.high
    if call.after != FROM_COMMITTED:
        return call.after
    committed = state.cursors.get(call.consumer)
    if committed == 0 and call.consumer.startswith(TRIGGER_OLDEST_PREFIX):
        return floor  # it has not begun yet
    return committed


def _floor(state: GroupState, label: str) -> int:
    return max(state.feed_floor, state.cursors.get(stream_consumer(label), 0))


def _unknown(what: str, name: str) -> Refused:
    return Refused("ResourceNotFoundException", f"Requested resource not found: no {what} {name} in this partition")
