from node.state import Definition, GroupState


def consuming(*consumers: str) -> Definition:
    return Definition(revision=3, feed=True, tombstones=True, consumers=consumers)


def test_a_new_consumer_starts_at_the_marker_and_an_old_one_where_it_was() -> None:
    state = GroupState()
    state.define(consuming("replica/a"))
    state.feed_head = 100
    state.advance("replica/a", 40)
    state.define(consuming("replica/a", "replica/b"))
    assert state.cursors == {"replica/a": 40, "replica/b": 100}


def test_the_feed_is_trimmed_to_the_slowest_consumer() -> None:
    state = GroupState()
    state.define(consuming("replica/a", "replica/b"))
    state.feed_head = 100
    state.advance("replica/a", 90)
    assert state.trim_to() is None
    state.advance("replica/b", 70)
    assert state.trim_to() == 70
    assert state.feed_floor == 70
    assert state.trim_to() is None


def test_a_cursor_neither_goes_back_nor_beyond_the_head() -> None:
    state = GroupState()
    state.define(consuming("replica/a"))
    state.feed_head = 100
    state.advance("replica/a", 90)
    state.advance("replica/a", 10)
    assert state.cursors["replica/a"] == 90
    state.advance("replica/a", 1_000)
    assert state.cursors["replica/a"] == 100
    state.advance("replica/unknown", 5)
    assert "replica/unknown" not in state.cursors


def test_state_survives_its_bytes() -> None:
    state = GroupState(epoch=4)
    state.define(consuming("replica/a"))
    state.applied_index, state.applied_term, state.last_us = 7, 2, 123
    state.items, state.bytes, state.feed_head, state.feed_floor, state.catalog_revision = 5, -6, 8, 3, 9
    state.arrived = {"a": 1 << 60, "b": 1}
    state.promise(1 << 61)
    restored = GroupState.from_bytes(state.to_bytes())
    assert restored.to_bytes() == state.to_bytes()
    assert (restored.safe_us, restored.last_us, restored.arrived) == (1 << 61, 1 << 61, {"a": 1 << 60, "b": 1})


def test_the_mark_of_a_region_goes_with_its_replica() -> None:
    state = GroupState()
    state.define(consuming("replica/a", "replica/b"))
    state.arrived = {"a": 5, "b": 7}
    state.define(consuming("replica/b"))
    state.define(consuming("replica/a", "replica/b"))
    assert state.arrived == {"b": 7}
