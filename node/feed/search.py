"""Finding a place in the change records of a partition by what they say of themselves."""

from __future__ import annotations

from collections.abc import Callable

from node.feed.records import stamp_of
from node.storage.sqlite import StateStore


def newest(store: StateStore, partition: int, low: int, high: int, passed: Callable[[int, int], bool]) -> int:
    """The sequence of the newest record of (low, high] that is `passed`, which gets its time (µs) and the bytes of all
    records up to it; `low` when there is none. Raises GroupDamaged.

    Neither ever decreases from one record to the next, so it is found by halving the span of sequences: at most 64
    records are read."""
    while low < high:
        middle = (low + high) // 2
        found = store.read_feed(partition, middle, 0, 1)
        if found and found[0][0] <= high and passed(*stamp_of(found[0][1])):
            low = found[0][0]
        else:
            high = middle
    return low
