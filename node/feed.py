"""Serving change records and raw rows of one partition."""

from __future__ import annotations

from geodyne.messages import FROM_COMMITTED, Change, FeedPage, FeedRecord, ReadFeed, ReadRows, Rows
from geodyne.model import version as versions
from geodyne.wire import log_v1_pb2 as log
from node.state import GroupState
from node.storage.sqlite import StateStore

RECORDS_MAX = 1024  # a page of the feed; decoded on the loop's thread
ROWS_MAX = 512


def read_page(store: StateStore, state: GroupState, call: ReadFeed, late: bool) -> FeedPage | None:
    """Records after the cursor, or None when there is nothing to say yet (and the call is not `late`)."""
    after = call.after
    if after == FROM_COMMITTED:
        after = state.cursors.get(call.consumer, state.feed_floor)
    if after < state.feed_floor:
        return FeedPage((), after, state.feed_head, True)
    if after >= state.feed_head:
        return FeedPage((), after, state.feed_head, False) if late else None
    stored = store.read_feed(call.partition, after, call.max_bytes, RECORDS_MAX)
    records = []
    for sequence, data in stored:
        effect = log.Effect.FromString(data)
        version = effect.version
        if call.origin and versions.region(version) != call.origin:
            continue
        image = effect.image if effect.HasField("image") else None
        old_image = effect.old_image if effect.HasField("old_image") else None
        records.append(FeedRecord(sequence, Change(effect.key, version, image, effect.size), old_image))
    following = stored[-1][0] if stored else state.feed_head
    return FeedPage(tuple(records), following, state.feed_head, False)


def read_rows(store: StateStore, call: ReadRows) -> Rows:
    """Rows with their versions, tombstones included, after `call.after` in key order, up to about `max_bytes`."""
    low = call.after + b"\x00" if call.after else b""
    found = store.range(call.partition, low, b"\xff" * 64, False, ROWS_MAX, tombstones=True)
    rows: list[Change] = []
    size = 0
    for key, row in found:
        rows.append(Change(key, row.version, row.value, row.size))
        size += len(row.value or b"") + len(key)
        if size >= call.max_bytes:
            break
    exhausted = len(rows) == len(found) and len(found) < ROWS_MAX
    return Rows(tuple(rows), None if exhausted else rows[-1].key)
