"""What markers, cursors and rolls make of a feed: shards, places, trimming. All of it follows from the entries."""

from __future__ import annotations

from geodyne.wire import log_v1_pb2 as log
from node.applying import Outcome
from node.entries import Decided, Effect
from node.feed.records import STAMP_BYTES, decoded, stamp_of
from node.feed.shards import Shard, StreamDefinition
from node.state import Definition, GroupState
from node.storage.port import Row
from node.window import Window

LABEL = "2026-11-24T03:44:12.123"
STREAM = f"stream/{LABEL}"
MS = 1_000
T = 1_790_000_000_000 * MS


def streaming(revision: int, *streams: tuple[str, bool], **more: object) -> Definition:
    found = tuple(StreamDefinition(label, "NEW_IMAGE", ended) for label, ended in streams)
    consumers = tuple(f"stream/{label}" for label, _ in streams)
    going = any(not ended for _, ended in streams)
    return Definition(revision, going, going, consumers=consumers, streams=found)._replace(**more)  # type: ignore[arg-type]


def entry(index: int, payload: log.EntryPayload, *keys: bytes) -> Decided:
    effects = []
    for key in keys:
        payload.effects.add(key=key, version=b"v" * 9, image=b"{}", size=2, old_image=b"{ }")
        effects.append(Effect(key, Row(b"{}", b"v" * 9, 2), b"v" * 9, 1, 2, None, None))
    return Decided(index, 1, payload, effects)


def applied(state: GroupState, *entries: Decided) -> Outcome:
    outcome = Outcome()
    for each in entries:
        outcome.apply(state, Window(), each)
    return outcome


def test_a_stream_opens_its_first_shard_at_the_marker_that_names_it_and_closes_it_at_the_one_that_ends_it() -> None:
    state = GroupState()
    state.feed_head = 7
    state.define(streaming(1, (LABEL, False)), T + 999)
    assert state.shards == {LABEL: (Shard(T, 7),)}
    assert state.cursors == {STREAM: 7}
    state.feed_head = 50
    state.define(streaming(2, (LABEL, True)), T + 5_000)
    assert state.shards == {LABEL: (Shard(T, 7, 50, T + 5_000),)}
    state.define(streaming(3, (LABEL, True)), T + 9_000)
    assert state.shards[LABEL][0].closed_us == T + 5_000
    state.define(Definition(4), T + 9_000)
    assert (state.shards, state.cursors) == ({}, {})


def test_shards_follow_each_other_without_a_gap_and_no_two_opened_at_once_whatever_the_clock_says() -> None:
    state = GroupState()
    state.define(streaming(1, (LABEL, False)), T)
    for head, wall_us in ((10, T), (10, T - 5_000_000), (20, T + 1), (30, T + 60_000_000)):
        state.feed_head = head
        state.roll(LABEL, wall_us)
    shards = state.shards[LABEL]
    assert [(shard.after, shard.last) for shard in shards] == [(0, 10), (10, 10), (10, 20), (20, 30), (30, None)]
    opened = [shard.opened_us for shard in shards]
    assert opened == [T, T + MS, T + 2 * MS, T + 3 * MS, T + 60_000_000]
    assert all(shard.closed_us >= shard.opened_us for shard in shards[:-1])


def test_a_second_stream_has_shards_of_its_own_beside_those_of_the_one_that_ended() -> None:
    state = GroupState()
    state.define(streaming(1, (LABEL, False)), T)
    state.define(streaming(2, (LABEL, True), ("later", False)), T)
    assert [shard.last for shard in state.shards[LABEL]] == [0]
    assert state.shards["later"] == (Shard(T + MS, 0),)


def test_closed_shards_go_once_their_records_are_trimmed_and_nobody_expects_them_in_the_list() -> None:
    state = GroupState()
    state.define(streaming(1, (LABEL, False)), T)
    state.feed_head = 10
    state.roll(LABEL, T + 1_000_000)
    state.feed_head = 20
    state.roll(LABEL, T + 2_000_000)
    state.advance(STREAM, 20)
    assert len(state.shards[LABEL]) == 3, "trimmed for want of room: they stay in the list"
    state.advance(STREAM, 20, T + 1_000_000)
    assert [shard.after for shard in state.shards[LABEL]] == [10, 20]
    state.advance(STREAM, 20, T + 3_000_000)
    assert [shard.after for shard in state.shards[LABEL]] == [20], "the open one stays"


def test_a_bookmark_does_not_hold_the_feed_and_begins_where_its_name_says() -> None:
    state = GroupState()
    state.feed_head = 9
    state.define(streaming(1, (LABEL, False), bookmarks=("trigger/a", "trigger-oldest/b")), T)
    assert state.cursors == {STREAM: 9, "trigger/a": 9, "trigger-oldest/b": 0}
    state.feed_head = 100
    state.advance("trigger/a", 40)
    state.advance("trigger/a", 30)
    state.define(streaming(2, (LABEL, False), bookmarks=("trigger/a",)), T)
    assert state.cursors == {STREAM: 9, "trigger/a": 40}
    state.advance(STREAM, 90)
    assert state.trim_to() == 90


def test_a_consumer_that_lost_its_place_holds_nothing_until_it_has_caught_up() -> None:
    state = GroupState()
    state.define(Definition(1, True, consumers=("index", "replica/a")), T)
    state.feed_head = 100
    state.advance("index", 60)
    state.lose("replica/a", 50)
    state.lose("index", 50)
    assert (state.cursors, state.trim_to()) == ({"index": 60}, 60)
    assert state.lost("replica/a")
    state.define(Definition(2, True, consumers=("index", "replica/a", "replica/b")), T)
    assert state.cursors == {"index": 60, "replica/b": 100}, "a marker gives no place back"
    state.advance("replica/a", 59)
    assert state.lost("replica/a"), "it has not read what was trimmed"
    state.advance("replica/a", 60)
    assert state.cursors["replica/a"] == 60
    state.define(Definition(3, True, consumers=("index",)), T)
    state.define(Definition(4, True, consumers=("index", "replica/a")), T)
    assert state.cursors["replica/a"] == 100, "a replica that was removed and added is a new consumer"


def test_records_carry_the_time_of_their_entry_and_the_bytes_so_far() -> None:
    state = GroupState()
    state.define(streaming(1, (LABEL, False)), T)
    found = applied(
        state,
        entry(3, log.EntryPayload(wall_us=T + 5), b"a", b"b"),
        entry(4, log.EntryPayload(wall_us=T - 9), b"c"),
    )
    assert [sequence for sequence, _ in found.feed] == [3 << 16, 3 << 16 | 1, 4 << 16]
    records = [decoded(*each) for each in found.feed]
    assert [(one.wall_us, one.change.key, one.old_image) for one in records] == [
        (T + 5, b"a", b"{ }"),
        (T + 5, b"b", b"{ }"),
        (T + 5, b"c", b"{ }"),
    ]
    totals, size = [stamp_of(data)[1] for _, data in found.feed], len(found.feed[0][1])
    assert totals == [size, 2 * size, 3 * size]
    assert (state.feed_us, state.feed_total) == (T + 5, 3 * size)


def test_a_record_of_an_earlier_version_has_no_time_and_no_total() -> None:
    effect = log.Effect(key=b"k" * 40, version=b"v" * 9, image=b"{}", size=2).SerializeToString()
    assert len(effect) > STAMP_BYTES
    assert stamp_of(effect) == (0, 0)
    assert stamp_of(b"") == (0, 0)
    assert decoded(7, effect).wall_us == 0


def test_in_one_entry_effects_come_before_the_roll_and_the_cursors() -> None:
    state = GroupState()
    state.define(streaming(1, (LABEL, False)), T)
    payload = log.EntryPayload(wall_us=T + 5)
    payload.roll.label = LABEL
    payload.cursors.add(consumer=STREAM, sequence=3 << 16 | 1)
    found = applied(state, entry(3, payload, b"a", b"b"))
    assert found.shards
    assert found.trim == 3 << 16 | 1
    assert [(one.after, one.last) for one in state.shards[LABEL]] == [(0, 3 << 16 | 1), (3 << 16 | 1, None)]


def test_a_table_without_consumers_makes_no_records() -> None:
    state = GroupState()
    found = applied(state, entry(3, log.EntryPayload(wall_us=T), b"a"))
    assert (found.feed, found.shards, found.trim, state.feed_total) == ([], False, None, 0)


def test_feed_shards_and_bookmarks_survive_the_states_bytes() -> None:
    state = GroupState(epoch=2)
    state.define(streaming(1, ("old", True), (LABEL, False), bookmarks=("trigger-oldest/b",), ttl="t"), T)
    applied(state, entry(3, log.EntryPayload(wall_us=T + 5), b"a", b"b"))
    state.roll(LABEL, T + 9_999_999)
    again = GroupState.from_bytes(state.to_bytes())
    assert again.shards == state.shards
    assert set(again.shards) == {"old", LABEL}
    assert (again.definition, again.cursors) == (state.definition, state.cursors)
    assert again.to_bytes() == state.to_bytes()


def test_a_state_of_an_earlier_version_is_read_as_it_was() -> None:
    old = log.GroupState(applied_index=9, feed_head=7 << 16, feed_floor=3, epoch=1)
    old.definition.CopyFrom(log.Definition(revision=4, feed=True, consumers=["replica/a"]))
    old.cursors.add(consumer="replica/a", sequence=5)
    state = GroupState.from_bytes(old.SerializeToString())
    assert (state.cursors, state.feed_total, state.shards) == ({"replica/a": 5}, 0, {})
    assert not state.lost("replica/a")
    assert state.to_bytes() == old.SerializeToString(), "fields that are not used cost nothing"
