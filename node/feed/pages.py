"""Change records and raw rows of one partition, a page at a time, for replication and global indexes."""

from __future__ import annotations

from geodyne.messages import FROM_COMMITTED, Change, FeedPage, ReadFeed, ReadRows, Rows
from geodyne.model import version as versions
from node.feed.records import decoded
from node.state import GroupState
from node.storage.sqlite import StateStore

RECORDS_MAX = 1024  # a page of the feed; decoded on the loop's thread
ROWS_MAX = 512


def read_page(store: StateStore, state: GroupState, call: ReadFeed, late: bool) -> FeedPage | None:
    """Records after the cursor, or None when there is nothing to say yet (and the call is not `late`). Raises
    GroupDamaged."""
    after = call.after
    if after == FROM_COMMITTED:
        if state.lost(call.consumer):
            return FeedPage((), state.feed_floor, state.feed_head, True)
        after = state.cursors.get(call.consumer, state.feed_floor)
    if after < state.feed_floor:
        return FeedPage((), after, state.feed_head, True)
    if after >= state.feed_head:
        news = 0 < call.safe_us < state.safe_us
        if not late and not news:
            return None
        return FeedPage((), after, state.feed_head, False, state.safe_us, state.definition.revision)
    stored = store.read_feed(call.partition, after, call.max_bytes, RECORDS_MAX)
    records = []
    for sequence, data in stored:
        record = decoded(sequence, data)
        if not call.origin or versions.region(record.change.version) == call.origin:
            records.append(record)
    following = stored[-1][0] if stored else state.feed_head
    # State and records are of the same applied index, on any replica: nothing is missing up to the head.
    ends = (state.safe_us, state.definition.revision) if following >= state.feed_head else (0, 0)
    return FeedPage(tuple(records), following, state.feed_head, False, *ends)


def read_rows(store: StateStore, call: ReadRows) -> Rows:
    """Rows with their versions, tombstones included, after `call.after` in key order, up to about `max_bytes`.
    Raises GroupDamaged."""
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
