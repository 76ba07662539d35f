"""What arrives for partitions that a node has not been told of is kept for a while, and never without bound."""

from __future__ import annotations

from geodyne.peermessages import Append, Entry, SnapshotChunk, TimeoutNow
from node.early import EarlyMessages


def append(partition: int, payload: bytes) -> Append:
    return Append(partition, 1, 0, 0, (Entry(1, 1, payload),), 0)


def test_a_partition_gets_what_came_for_it_in_order_and_once() -> None:
    early = EarlyMessages()
    early.add("a", 1, append(1, b"x"))
    early.add("b", 2, TimeoutNow(2, 1))
    early.add("a", 1, TimeoutNow(1, 1))
    assert early.take(1) == [("a", append(1, b"x")), ("a", TimeoutNow(1, 1))]
    assert early.take(1) == []
    assert (len(early), early.bytes) == (1, 0)


def test_what_came_on_a_stream_that_is_over_is_not_kept() -> None:
    early = EarlyMessages()
    early.add("a", 1, append(1, b"xyz"))
    early.add("b", 1, TimeoutNow(1, 1))
    early.forget("a")
    assert early.take(1) == [("b", TimeoutNow(1, 1))]
    assert early.bytes == 0


def test_the_number_of_messages_is_bounded_and_the_newest_stay() -> None:
    early = EarlyMessages(messages_max=3)
    for number in range(10):
        early.add("a", number, TimeoutNow(number, 1))
    assert [number for number in range(10) if early.take(number)] == [7, 8, 9]


def test_the_bytes_of_messages_that_are_kept_are_bounded() -> None:
    early = EarlyMessages(bytes_max=1_000)
    for number in range(100):
        early.add("a", 1 << 40, append(1 << 40, bytes(300)))
        early.add("a", number, SnapshotChunk(number, 1, 1, 1, 0, bytes(100), False))
        assert early.bytes <= 1_000
    assert len(early) == 5
