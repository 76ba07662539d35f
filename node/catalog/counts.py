"""How many items the partitions hold that this node leads, for those who describe tables.

Not in the log: the counts follow from the state that every replica has. A leader publishes what has changed, at most
PUBLISHED_MAX partitions at a time, and watchers are told what is newer than they know. No change, no work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from geodyne.messages import Count
from node.group import Group
from node.storage.sqlite import StateStore

PUBLISHED_MAX = 512  # partitions looked at in one step


class Counts:
    """Counts by partition, each with the version at which it was published. Versions begin anew at each start."""

    def __init__(self) -> None:
        self.version = 0
        self._published: dict[int, tuple[int, tuple[Count, ...]]] = {}
        self._changed: dict[int, None] = {}

    def touch(self, partition: int) -> None:
        """The partition has applied something."""
        self._changed[partition] = None

    def forget(self, partition: int) -> None:
        """It has another leader, here or elsewhere: what was published here is no longer what watchers know."""
        self._published.pop(partition, None)
        self._changed[partition] = None

    def publish(self, group_of: Callable[[int], Group | None], store: StateStore) -> bool:
        """Look at what has changed. True when watchers have something to hear."""
        news = False
        for partition in list(self._changed)[:PUBLISHED_MAX]:
            del self._changed[partition]
            group = group_of(partition)
            if group is None or not group.serving:
                continue  # its leader, if there is one, publishes it
            counts = _counts(group, store)
            known = self._published.get(partition)
            if known is None or known[1] != counts:
                self._published[partition] = (self.version + 1, counts)
                news = True
        self.version += news
        return news

    def since(self, version: int, led: Iterable[int]) -> tuple[Count, ...]:
        """What was published later of the partitions that are led here."""
        if version >= self.version:
            return ()
        found = [self._published[partition] for partition in led if partition in self._published]
        return tuple(count for published, counts in found if published > version for count in counts)


def _counts(group: Group, store: StateStore) -> tuple[Count, ...]:
    own = Count(group.partition, 0, group.state.items, group.state.bytes)
    if group.local_indexes is None:
        return (own,)
    entries = store.entry_counts(group.partition)
    return own, *(Count(group.partition, slot, items, size) for slot, (items, size) in sorted(entries.items()))
