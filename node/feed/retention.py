"""What the leader of a partition has its feed give up, and when its streams get new shards.

Nothing is trimmed by a clock of its own: the leader logs which cursors move, so all replicas trim alike.
Streams lose what is older than the retention. Beyond the bound on bytes they lose what is oldest, and replicas that
have not passed it lose their place: they read `trimmed` and resynchronise with a scan. The cursor of the indexes is
never moved, since an index cannot be made whole from elsewhere: writes wait for it (`FeedStanding.full`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from geodyne.catalog import INDEX_CONSUMER, STREAM_PREFIX, STREAM_RETENTION_S, stream_consumer
from geodyne.settings import FEED_MB, SHARD_LIFE_S
from geodyne.wire import log_v1_pb2 as log
from node.feed.records import stamp_of
from node.feed.search import newest
from node.feed.shards import outlived
from node.state import GroupState
from node.storage.sqlite import StateStore

FEED_BYTES_MAX = int(FEED_MB * (1 << 20))  # of change records in one partition
SHARDS_MAX = 64  # of one stream in one partition; with more it goes on in the one that it has
TRIMMED_SHARE = 8  # one in so many bytes goes at once when there are too many: so that costs few entries as well
SLACK_S = 60.0  # records may be older than the retention by this much: so trimming costs an entry a minute


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """Bounds of the feeds of one node's partitions. `retention_s`: of the records of streams."""

    bytes_max: int = FEED_BYTES_MAX
    shard_life_s: float = SHARD_LIFE_S
    retention_s: float = STREAM_RETENTION_S
    slack_s: float = SLACK_S

    @staticmethod
    def of(shard_life_s: float, feed_mb: float) -> FeedSettings:
        """Of what an operator may set."""
        return FeedSettings(int(feed_mb * (1 << 20)), shard_life_s)


class FeedStanding(NamedTuple):
    """Where a feed is: `bytes` it retains, how many of them each consumer has not passed, and since when (µs) the
    oldest of those have waited for it. `full`: the indexes are so far behind that writes must wait."""

    bytes: int
    waiting: dict[str, tuple[int, int]]
    full: bool


class Upkeep(NamedTuple):
    """What is to be logged: cursors that move, and the stream that gets a new shard."""

    cursors: tuple[log.CursorAdvance, ...]
    roll: str


class FeedReader:
    """Looks things up in the change records of one partition. All methods raise GroupDamaged."""

    def __init__(self, store: StateStore, partition: int, state: GroupState) -> None:
        self._store = store
        self._partition = partition
        self._state = state

    def total(self, after: int) -> int:
        """Bytes of all records there ever were up to a sequence; what no record says is taken for little."""
        return self._first(after)[1]

    def wall_us(self, after: int) -> int:
        """When the first record after a sequence was written; 0 if there is none or it does not say."""
        return self._first(after)[0]

    def older(self, low: int, wall_us: int) -> int:
        """The newest record after `low` that was written before a time; `low` if none was."""
        return self._newest(low, lambda at_us, _: at_us < wall_us)

    def beyond(self, low: int, kept: int) -> int:
        """The newest record after `low` that is followed by so many bytes; `low` if there is none."""
        most = self._state.feed_total - kept
        return self._newest(low, lambda _, total: total <= most)

    def _first(self, after: int) -> tuple[int, int]:
        if after >= self._state.feed_head:
            return 0, self._state.feed_total
        found = self._store.read_feed(self._partition, after, 0, 1)
        if not found:
            return 0, self._state.feed_total
        wall_us, total = stamp_of(found[0][1])
        return wall_us, max(0, total - len(found[0][1]))

    def _newest(self, low: int, passed: Callable[[int, int], bool]) -> int:
        return newest(self._store, self._partition, low, self._state.feed_head, passed)


def standing(state: GroupState, reader: FeedReader, settings: FeedSettings) -> FeedStanding:
    """Reads a record for each consumer that is behind. Raises GroupDamaged."""
    held = state.feed_total - reader.total(state.feed_floor)
    waiting: dict[str, tuple[int, int]] = {}
    for name, cursor in state.cursors.items():
        if name.startswith(STREAM_PREFIX):
            continue  # retention alone moves it
        place = max(cursor, state.feed_floor)
        behind = place < state.feed_head
        waiting[name] = (state.feed_total - reader.total(place), reader.wall_us(place)) if behind else (0, 0)
    return FeedStanding(held, waiting, waiting.get(INDEX_CONSUMER, (0, 0))[0] > settings.bytes_max)


def upkeep(
    state: GroupState, reader: FeedReader, held: int, now_us: int, settings: FeedSettings, bounded: bool
) -> Upkeep:
    """What is due. `held`: bytes that the feed retains; `bounded`: all members know what trimming a replica's records
    means. Raises GroupDamaged."""
    cursors: list[log.CursorAdvance] = []
    through = 0
    if held > settings.bytes_max:
        through = reader.beyond(state.feed_floor, settings.bytes_max - settings.bytes_max // TRIMMED_SHARE)
    for stream in state.definition.streams:
        advance = _of_stream(state, reader, stream.label, through, now_us, settings)
        if advance is not None:
            cursors.append(advance)
    for name in state.definition.consumers:
        if name.startswith(STREAM_PREFIX) or name == INDEX_CONSUMER or not bounded:
            continue
        if state.cursors.get(name, through) < through:
            cursors.append(log.CursorAdvance(consumer=name, sequence=through, lost=True))
    return Upkeep(tuple(cursors), _to_roll(state, now_us, settings))


def _of_stream(
    state: GroupState, reader: FeedReader, label: str, through: int, now_us: int, settings: FeedSettings
) -> log.CursorAdvance | None:
    """How a stream's cursor moves, if it does."""
    consumer = stream_consumer(label)
    cursor = state.cursors.get(consumer)
    if cursor is None:
        return None
    retained_us = now_us - int(settings.retention_s * 1e6)
    oldest_us = reader.wall_us(cursor)
    closed_us = passed = 0
    if 0 < oldest_us < retained_us - int(settings.slack_s * 1e6):
        passed = reader.older(cursor, retained_us)
    passed = max(passed, through, cursor)
    if any(outlived(shard, passed, retained_us) for shard in state.shards.get(label, ())):
        closed_us = retained_us
    if passed == cursor and not closed_us:
        return None
    return log.CursorAdvance(consumer=consumer, sequence=passed, closed_us=closed_us)


def _to_roll(state: GroupState, now_us: int, settings: FeedSettings) -> str:
    """The stream whose open shard has lived long enough; "" for none."""
    for label, shards in state.shards.items():
        if not shards or shards[-1].last is not None or len(shards) >= SHARDS_MAX:
            continue
        if now_us - shards[-1].opened_us >= settings.shard_life_s * 1e6:
            return label
    return ""
