"""Reading a stream from one partition, and what its leader has it give up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodyne.messages import (
    FROM_COMMITTED,
    FROM_LATEST,
    Change,
    FeedPage,
    FeedRecord,
    Item,
    ListShards,
    ReadFeed,
    ReadStream,
    Refused,
    StreamPage,
)
from geodyne.model.keys import KeySchema, encode_key
from geodyne.model.values import dumps
from geodyne.streams import VIEWS, stream_record
from geodyne.wire import log_v1_pb2 as log
from node.applying import Outcome
from node.entries import Decided, Effect
from node.feed.duty import kind_of
from node.feed.pages import read_page
from node.feed.retention import FeedReader, FeedSettings, Upkeep, standing, upkeep
from node.feed.shards import StreamDefinition
from node.feed.streams import changes, list_shards, read_stream, shown
from node.state import Definition, GroupState
from node.storage.port import GroupUpdate, Row
from node.storage.sqlite import StateStore
from node.window import Window

LABEL, STREAM = "label", "stream/label"
PARTITION, EPOCH = 5, 1
SECOND = 1_000_000
T = 1_790_000_000 * SECOND
DAY = 86_400 * SECOND
SETTINGS = FeedSettings(bytes_max=1 << 30)
NAMES = st.sampled_from(["a", "b", "ab", "ba"])
VALUES = st.sampled_from([{"S": "ab"}, {"S": "ba"}, {"N": "1"}, {"M": {"a": {"N": "1"}, "b": {"N": "2"}}}])


class Partition:
    """A feed in a real store, one record an entry, written a second apart."""

    def __init__(self, path: Path, *bookmarks: str, consumers: tuple[str, ...] = ()) -> None:
        self.store = StateStore.open(path / "state.db")
        self.state = GroupState()
        self.store.create(PARTITION, self.state.to_bytes())
        self.index = 0
        self.define(False, bookmarks, consumers)

    def define(
        self,
        ended: bool,
        bookmarks: tuple[str, ...] = (),
        consumers: tuple[str, ...] = (),
        view: str = "NEW_AND_OLD_IMAGES",
    ) -> None:
        streams = (StreamDefinition(LABEL, view, ended),)
        definition = Definition(1, True, True, consumers=(STREAM, *consumers), streams=streams, bookmarks=bookmarks)
        self.state.define(definition, T + self.index * SECOND)

    def log(self, payload: log.EntryPayload, *effects: Effect) -> None:
        self.index += 1
        outcome = Outcome()
        outcome.apply(self.state, Window(), Decided(self.index, 1, payload, list(effects)))
        self.store.apply([GroupUpdate(PARTITION, outcome.rows, outcome.feed, outcome.trim, self.state.to_bytes())])

    def write(self, image: bytes | None = b'{"a":{"N":"1"}}', old: bytes | None = None, **more: bool) -> int:
        """Returns the sequence of the record."""
        payload = log.EntryPayload(wall_us=T + (self.index + 1) * SECOND)
        wire = payload.effects.add(key=b"k", version=b"v" * 9, old_image=old, image=image, **more)
        row = Row(wire.image, wire.version, wire.size) if image is not None else None
        self.log(payload, Effect(wire.key, row, wire.version, 0, 0, None, None))
        return self.state.feed_head

    def keep(self, due: Upkeep, at_us: int) -> None:
        payload = log.EntryPayload(wall_us=at_us, cursors=due.cursors)
        if due.roll:
            payload.roll.label = due.roll
        self.log(payload)

    def roll(self) -> None:
        self.keep(Upkeep((), LABEL), T + (self.index + 1) * SECOND)

    @property
    def reader(self) -> FeedReader:
        return FeedReader(self.store, PARTITION, self.state)

    def due(self, at_us: int, settings: FeedSettings = SETTINGS, bounded: bool = True) -> Upkeep:
        held = standing(self.state, self.reader, settings).bytes
        return upkeep(self.state, self.reader, held, at_us, settings, bounded)

    def read(
        self, after: int, *, limit: int = 100, shard: int = 0, since_us: int = 0, consumer: str = "", wait_ms: int = 0
    ) -> StreamPage:
        call = ReadStream(PARTITION, EPOCH, LABEL, shard, after, limit, 1 << 20, wait_ms, since_us, consumer)
        page = read_stream(self.store, self.state, call, late=True)
        assert isinstance(page, StreamPage), page
        return page

    def sequences(self, after: int, **more: int) -> list[int]:
        return [record.sequence for record in self.read(after, **more).records]  # type: ignore[arg-type]

    def spans(self) -> list[tuple[int, int | None]]:
        found = list_shards(self.state, ListShards(PARTITION, EPOCH, LABEL))
        assert not isinstance(found, Refused)
        return [(shard.after, shard.last) for shard in found.shards]


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Partition]:
    partition = Partition(tmp_path)
    yield partition
    partition.store.discard()


def made(path: Path, *bookmarks: str, consumers: tuple[str, ...] = ()) -> Partition:
    return Partition(path, *bookmarks, consumers=consumers)


def test_pages_go_on_after_each_other_and_every_record_comes_once(feed: Partition) -> None:
    written = [feed.write() for _ in range(7)]
    read, after = [], 0
    while (page := feed.read(after, limit=3)).records:
        assert (page.closed, page.trimmed) == (False, False)
        read += [record.sequence for record in page.records]
        after = page.next
    assert read == written
    assert after == feed.state.feed_head


def test_what_changed_nothing_is_left_out_and_passed_over(feed: Partition) -> None:
    feed.write(b'{"a":{"N":"1"},"b":{"N":"2"}}', b'{"b":{"N":"2"},"a":{"N":"1"}}')
    feed.write(b"{}", b"{}")
    feed.write(None, None)
    page = feed.read(0)
    assert (page.records, page.next) == ((), feed.state.feed_head)
    removed = feed.write(None, b"{}", expired=True)
    (record,) = feed.read(page.next).records
    assert (record.sequence, record.change.image, record.old_image, record.expired) == (removed, None, b"{}", True)


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.dictionaries(NAMES, VALUES, max_size=4), st.randoms())
def test_what_changed_nothing_is_what_has_the_same_attributes_with_the_same_values(
    new: dict[str, Item], old: dict[str, Item], random: Random
) -> None:
    def record(image: dict[str, Item]) -> FeedRecord:
        return FeedRecord(1, Change(b"k", b"v", dumps(image), 1), dumps(old))

    assert changes(record(new)) == (new != old)
    assert not changes(record(dict(random.sample(list(old.items()), len(old)))))


def test_the_same_bytes_in_another_order_may_be_another_item(feed: Partition) -> None:
    written = feed.write(b'{"a":{"S":"xy"}}', b'{"a":{"S":"yx"}}')
    assert feed.sequences(0) == [written]


@pytest.mark.parametrize(
    ("view", "new", "old"),
    [
        ("KEYS_ONLY", b"", b""),
        ("NEW_IMAGE", b"{}", b""),
        ("OLD_IMAGE", b"", b'{"a":1}'),
        ("NEW_AND_OLD_IMAGES", b"{}", b'{"a":1}'),
    ],
)
def test_images_that_the_view_does_not_show_are_not_sent_but_told_of(
    feed: Partition, view: str, new: bytes, old: bytes
) -> None:
    feed.define(False, view=view)
    feed.write(b"{}", b'{"a":1}')
    feed.write(b"{}", None)
    feed.write(None, b'{"a":1}')
    images = [(record.change.image, record.old_image) for record in feed.read(0).records]
    assert images == [(new, old), (new, None), (None, old)]


@pytest.mark.parametrize("view", VIEWS)
def test_a_record_without_what_its_view_does_not_show_is_shown_like_the_whole_one(view: str) -> None:
    key, schema = {"pk": {"S": "a"}}, KeySchema("pk", "S")
    before, after = dumps({**key, "old": {"S": "x"}}), dumps({**key, "n": {"N": "17"}})
    for new, old in ((after, before), (after, None), (None, before)):
        whole = FeedRecord(1 << 16, Change(encode_key(schema, key), b"v", new, 9), old, T)

        def told(record: FeedRecord) -> dict[str, Any]:
            return stream_record(record, schema=schema, view=view, epoch=1, arn="arn", region="r")

        assert told(shown(whole, view)) == told(whole)


def test_a_page_ends_with_its_shard_and_a_closed_shard_says_so(feed: Partition) -> None:
    first = [feed.write() for _ in range(3)]
    feed.roll()
    second = [feed.write() for _ in range(2)]
    assert feed.spans() == [(0, first[-1]), (first[-1], None)]
    one, two = (shard.opened_us for shard in feed.state.shards[LABEL])
    page = feed.read(0, shard=one)
    assert [record.sequence for record in page.records] == first
    assert (page.next, page.closed) == (first[-1], True)
    assert feed.read(first[0], shard=one, limit=1).closed is False
    assert feed.sequences(0, shard=two) == second
    assert feed.read(0, shard=two).closed is False
    assert feed.read(FROM_LATEST, shard=one) == StreamPage((), first[-1], True, False)
    assert feed.sequences(0) == first + second, "0: all shards"
    feed.define(ended=True)
    assert feed.read(second[-1], shard=two).closed
    assert feed.read(0).closed


def test_an_empty_shard_that_was_closed_is_at_its_end(feed: Partition) -> None:
    feed.roll()
    opened = feed.state.shards[LABEL][0].opened_us
    assert feed.read(0, shard=opened) == StreamPage((), 0, True, False)


def test_the_newest_position_is_after_all_records_and_a_time_finds_the_first_record_since(feed: Partition) -> None:
    written = [feed.write() for _ in range(20)]
    assert feed.read(FROM_LATEST, limit=0) == StreamPage((), written[-1], False, False)
    for number, sequence in enumerate(written, 1):
        at_us = T + number * SECOND
        assert feed.sequences(0, since_us=at_us, limit=1) == [sequence]
        assert feed.sequences(0, since_us=at_us - 1, limit=1) == [sequence]
        assert feed.read(0, since_us=at_us + 1, limit=0).next == sequence
    assert feed.read(0, since_us=T + DAY) == StreamPage((), written[-1], False, False)
    assert feed.sequences(written[5], since_us=T) == written[6:]


def test_a_read_waits_only_where_something_may_come(feed: Partition) -> None:
    feed.write()
    waiting = ReadStream(PARTITION, EPOCH, LABEL, 0, FROM_LATEST, 10, 1 << 20, 1_000)
    assert read_stream(feed.store, feed.state, waiting, late=False) is None
    assert read_stream(feed.store, feed.state, waiting._replace(wait_ms=0), late=False) is not None
    assert read_stream(feed.store, feed.state, waiting._replace(limit=0), late=False) is not None
    feed.define(ended=True)
    page = read_stream(feed.store, feed.state, waiting, late=False)
    assert isinstance(page, StreamPage)
    assert page.closed


@pytest.mark.parametrize(
    "call",
    [
        ReadStream(PARTITION, EPOCH, "another", 0, 0, 1, 1),
        ReadStream(PARTITION, EPOCH, LABEL, T + 1, 0, 1, 1),
        ReadStream(PARTITION, EPOCH, LABEL, 0, FROM_COMMITTED, 1, 1, consumer="trigger/unknown"),
    ],
)
def test_what_is_not_there_is_refused(feed: Partition, call: ReadStream) -> None:
    found = read_stream(feed.store, feed.state, call, late=True)
    assert isinstance(found, Refused)
    assert found.code == "ResourceNotFoundException"
    if call.label != LABEL:
        assert isinstance(list_shards(feed.state, ListShards(PARTITION, EPOCH, call.label)), Refused)


def test_bookmarks_read_from_where_they_were_committed(tmp_path: Path) -> None:
    feed = made(tmp_path, "trigger/new", "trigger-oldest/old")
    written = [feed.write() for _ in range(4)]
    assert feed.read(FROM_COMMITTED, consumer="trigger-oldest/old").next == written[-1]
    feed.state.advance("trigger-oldest/old", written[1] - 1)
    page = feed.read(FROM_COMMITTED, consumer="trigger-oldest/old")
    assert [record.sequence for record in page.records] == written[1:]
    feed.state.advance(STREAM, written[2])
    assert feed.read(FROM_COMMITTED, consumer="trigger-oldest/old") == StreamPage((), written[2], False, True)
    feed.store.discard()


def test_one_that_has_not_begun_is_never_told_that_it_lost_something(tmp_path: Path) -> None:
    feed = made(tmp_path, "trigger-oldest/old")
    written = [feed.write() for _ in range(4)]
    feed.state.advance(STREAM, written[2])
    page = feed.read(FROM_COMMITTED, consumer="trigger-oldest/old")
    assert ([record.sequence for record in page.records], page.trimmed) == (written[3:], False)
    feed.store.discard()


# --- retention --------------------------------------------------------------------------------------------


def test_records_go_a_day_after_they_were_written_and_readers_that_lag_are_told(feed: Partition) -> None:
    written = [feed.write() for _ in range(100)]
    assert feed.due(T + DAY) == Upkeep((), "label")
    at_us = T + DAY + 80 * SECOND
    due = feed.due(at_us)
    assert [(one.consumer, one.sequence) for one in due.cursors] == [(STREAM, written[78])]
    feed.keep(due, at_us)
    assert feed.state.feed_floor == written[78]
    assert feed.read(written[10]) == StreamPage((), written[78], False, True)
    assert feed.sequences(written[78]) == written[79:]
    assert feed.due(at_us).cursors == (), "once a minute is enough"


def test_another_consumer_holds_records_but_not_the_stream(tmp_path: Path) -> None:
    feed = made(tmp_path, consumers=("index",))
    written = [feed.write() for _ in range(100)]
    feed.keep(feed.due(T + DAY + 80 * SECOND), T + DAY + 80 * SECOND)
    assert feed.state.feed_floor == 0
    assert feed.read(0).trimmed
    assert feed.sequences(written[78]) == written[79:]
    feed.store.discard()


def test_closed_shards_are_listed_for_a_day_and_an_idle_stream_drops_them_too(feed: Partition) -> None:
    for _ in range(3):
        at_us = T + feed.index * SECOND
        feed.write()
        feed.roll()
    assert len(feed.spans()) == 4
    later_us = at_us + DAY + 3_600 * SECOND
    due = feed.due(later_us)
    feed.keep(due, later_us)
    assert feed.spans()[:-1] == [(feed.state.feed_head, feed.state.feed_head)], "the open one, closed by its age"
    assert feed.due(later_us) == Upkeep((), "")


def test_a_stream_gets_a_new_shard_when_the_open_one_has_lived_long_enough(feed: Partition) -> None:
    settings = FeedSettings(shard_life_s=10.0)
    assert feed.due(T + 9 * SECOND, settings).roll == ""
    assert feed.due(T + 10 * SECOND, settings).roll == LABEL
    feed.keep(feed.due(T + 10 * SECOND, settings), T + 10 * SECOND)
    assert feed.due(T + 19 * SECOND, settings).roll == ""
    feed.define(ended=True)
    assert feed.due(T + 100 * SECOND, settings).roll == ""


def test_the_shards_of_a_stream_are_bounded(feed: Partition) -> None:
    settings = FeedSettings(shard_life_s=1.0)
    at_us = T
    for _ in range(200):
        at_us += SECOND
        feed.keep(feed.due(at_us, settings), at_us)
    assert len(feed.spans()) == 64


def test_beyond_the_bound_streams_lose_the_oldest_and_replicas_their_place(tmp_path: Path) -> None:
    feed = made(tmp_path, consumers=("index", "replica/a", "replica/b"))
    written = [feed.write() for _ in range(64)]
    record = feed.state.feed_total // 64
    settings = FeedSettings(bytes_max=32 * record)
    feed.state.advance("index", written[60])
    feed.state.advance("replica/b", written[50])
    assert [one.consumer for one in feed.due(T, settings, bounded=False).cursors] == [STREAM]
    due = feed.due(T, settings)
    assert [(one.consumer, one.sequence, one.lost) for one in due.cursors] == [
        (STREAM, written[35], False),
        ("replica/a", written[35], True),
    ]
    feed.keep(due, T)
    assert feed.state.feed_floor == written[35]
    assert standing(feed.state, feed.reader, settings).bytes == 28 * record
    assert feed.due(T, settings).cursors == ()
    call = ReadFeed(PARTITION, EPOCH, "replica/a", FROM_COMMITTED, 1 << 20, 0)
    assert read_page(feed.store, feed.state, call, True) == FeedPage((), written[35], written[-1], True)
    page = read_page(feed.store, feed.state, call._replace(consumer="replica/b"), True)
    assert page is not None
    assert [each.sequence for each in page.records] == written[51:]
    feed.store.discard()


def test_the_indexes_are_never_trimmed_away_from_and_tell_that_they_are_too_far_behind(tmp_path: Path) -> None:
    feed = made(tmp_path, consumers=("index",))
    written = [feed.write() for _ in range(64)]
    record = feed.state.feed_total // 64
    settings = FeedSettings(bytes_max=32 * record)
    feed.keep(feed.due(T, settings), T)
    assert feed.state.feed_floor == 0
    found = standing(feed.state, feed.reader, settings)
    assert found.full
    assert found.waiting == {"index": (64 * record, T + SECOND)}
    feed.state.advance("index", written[32])
    found = standing(feed.state, feed.reader, settings)
    assert (found.full, found.waiting["index"]) == (False, (31 * record, T + 34 * SECOND))
    feed.state.advance("index", written[-1])
    assert standing(feed.state, feed.reader, settings).waiting == {"index": (0, 0)}
    feed.store.discard()


@pytest.mark.parametrize(
    ("consumer", "kind"),
    [("replica/eu", "replica"), ("index", "index"), ("trigger-oldest/x", "trigger"), ("whatever/x", "other")],
)
def test_metrics_know_a_few_kinds_of_consumers(consumer: str, kind: str) -> None:
    assert kind_of(consumer) == kind


# --- what is held for a consumer without a stream -----------------------------------------------------------


def test_what_is_held_for_a_consumer_is_read_without_a_stream_and_without_what_changed_nothing(tmp_path: Path) -> None:
    feed = Partition(tmp_path, consumers=("kinesis/a",))

    def read(after: int, *, limit: int = 100, consumer: str = "kinesis/a") -> StreamPage | Refused | None:
        call = ReadStream(PARTITION, EPOCH, "", 0, after, limit, 1 << 20, 10, consumer=consumer)
        return read_stream(feed.store, feed.state, call, late=False)

    first = feed.write()
    feed.write(b'{"a":{"N":"1"}}', b'{"a":{"N":"1"}}')
    last = feed.write(b'{"a":{"N":"2"}}', b'{"a":{"N":"1"}}')
    page = read(FROM_COMMITTED)
    assert isinstance(page, StreamPage)
    assert ([record.sequence for record in page.records], page.next) == ([first, last], last)
    assert read(FROM_COMMITTED, limit=1) == StreamPage(page.records[:1], first, False, False)
    assert read(FROM_COMMITTED, limit=0) == StreamPage((), 0, False, False), "only where it is"
    assert read(last) is None, "it waits"
    assert isinstance(read(FROM_COMMITTED, consumer="kinesis/b"), Refused)
    feed.state.advance("kinesis/a", first)
    feed.state.advance(STREAM, last)
    feed.state.trim_to()
    assert read(0) == StreamPage((), first, False, True)
    feed.store.discard()
