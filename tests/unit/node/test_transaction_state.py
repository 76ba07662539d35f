"""The replicated state of transactions, and the stamps of absent items."""

from __future__ import annotations

import tracemalloc

from geodyne.ledger import RETAINED_US
from geodyne.messages import WriteId, Written
from node.transactions import deletions
from node.transactions import state as state_module
from node.transactions.deletions import Deletions
from node.transactions.state import Committed, Prepared, PreparedItem, Transactions, released
from node.window import Window

ITEMS = (PreparedItem(b"a", True, b"{}", 2), PreparedItem(b"b", True, None, 0), PreparedItem(b"c", False, None, 0))
OUTCOMES = (Written(0, 2), Written(7, 0, None, (("index", 3),), 99), Written(1, 1))
HELD = Prepared(b"t" * 16, 2**63, b"d" * 16, ITEMS, OUTCOMES, 5)


def applied(*steps):
    state = Transactions()
    for step, wall_us in steps:
        state.apply(step, wall_us)
    return state


def test_what_is_prepared_is_held_until_its_end():
    state = applied((HELD.to_wire(), 5))
    assert state.prepared == {HELD.transaction: HELD}
    state.apply(released(HELD.transaction, HELD.attempt), 6)
    assert (state.prepared, state.committed(HELD.transaction)) == ({}, None)


def test_the_end_of_another_attempt_does_not_concern_it():
    state = applied((HELD.to_wire(), 5), (released(HELD.transaction, 1), 6))
    assert HELD.transaction in state.prepared


def test_what_is_committed_is_remembered_for_ten_minutes(monkeypatch):
    monkeypatch.setattr(state_module, "COMMITTED_MIN", 1)
    done = Committed(HELD.attempt, HELD.digest, OUTCOMES, 7)
    state = applied((HELD.to_wire(), 5), (done.to_wire(HELD.transaction), 7))
    assert (state.prepared, state.committed(HELD.transaction)) == ({}, done)
    later = Committed(1, b"", (), 7 + RETAINED_US)
    state.apply(later.to_wire(b"u" * 16), later.wall_us)
    assert None not in (state.committed(HELD.transaction), state.committed(b"u" * 16))
    state.apply(later.to_wire(b"v" * 16), later.wall_us + 1)
    assert state.committed(HELD.transaction) is None


def test_the_newest_commits_are_remembered_however_old_they_look(monkeypatch):
    monkeypatch.setattr(state_module, "COMMITTED_MIN", 3)
    wrong_us = 10 * RETAINED_US
    one = Committed(1, b"d" * 16, (), 0)
    state = applied(*((one.to_wire(b"%016d" % number), wrong_us * number) for number in range(5)))
    assert [number for number in range(5) if state.committed(b"%016d" % number) is not None] == [2, 3, 4]
    again = Window.from_bytes(b"".join(state.to_bytes())).transactions
    assert list(again.to_bytes()) == list(state.to_bytes())


def test_what_is_remembered_of_commits_is_bounded_in_bytes(monkeypatch):
    one = Committed(1, b"d" * 16, OUTCOMES * 33, 7)
    monkeypatch.setattr(state_module, "COMMITTED_BYTES_MAX", 5 * one.to_wire(b"0" * 16).ByteSize())
    state = applied(*((one.to_wire(b"%016d" % number), 7) for number in range(20)))
    assert sum(map(len, state.to_bytes())) <= state_module.COMMITTED_BYTES_MAX
    kept = [number for number in range(20) if state.committed(b"%016d" % number) is not None]
    assert kept == [16, 17, 18, 19]


def test_a_commit_of_a_hundred_items_is_remembered_in_little_memory():
    steps = [Committed(1, b"d" * 16, (Written(500, 1_200),) * 100, 7).to_wire(b"%016d" % n) for n in range(100)]
    tracemalloc.start()
    state = applied(*((step, 7) for step in steps))
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert state.committed(b"%016d" % 99) is not None
    assert held_bytes < 100 * 2_000


def test_the_window_carries_transactions_and_their_times():
    window = Window()
    window.transactions.apply(HELD.to_wire(), 5)
    window.transactions.apply(Committed(1, b"d", OUTCOMES, 0).to_wire(b"u" * 16), 9)
    window.remember(WriteId(1, 2, 1), Written(3, 4), 9)
    again = Window.from_bytes(window.to_bytes())
    assert again.transactions.prepared == window.transactions.prepared
    assert again.transactions.committed(b"u" * 16) == Committed(1, b"d", OUTCOMES, 9)
    assert again.lookup(WriteId(1, 2, 1)) == Written(3, 4)
    assert again.to_bytes() == window.to_bytes()


def test_an_absent_item_has_the_same_stamp_until_it_is_deleted():
    marks = Deletions()
    before = marks.stamp(b"k", 1)
    assert marks.stamp(b"k", 1) == before
    marks.note(b"other")
    assert marks.stamp(b"k", 1) == before
    marks.note(b"k")
    assert marks.stamp(b"k", 1) != before
    assert marks.stamp(b"k", 2) != marks.stamp(b"k", 1)


def test_a_deletion_is_not_forgotten_when_there_are_many():
    marks = Deletions()
    before = marks.stamp(b"k", 1)
    marks.note(b"k")
    for number in range(deletions.KEYS_MAX + 1):
        marks.note(b"%d" % number)
    assert marks.stamp(b"k", 1) != before
