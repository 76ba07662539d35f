"""Where the log's live entries lie, group by group and segment by segment; pure.

A segment file may be deleted when it is not the newest and holds no live entry of any group: everything else in it
is repeated by the GROUPS record at the start of the next segment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from node.storage.wal_format import GroupFacts


class Place(NamedTuple):
    """A record's place in its segment file, in bytes."""

    position: int
    length: int


class Run:
    """Consecutive live entries of one group in one segment."""

    __slots__ = ("first_index", "places", "segment")

    def __init__(self, segment: int, first_index: int) -> None:
        self.segment = segment
        self.first_index = first_index
        self.places: list[Place] = []

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.places) - 1


class GroupIndex:
    """One group's position and hard state; its live entries are offset_index + 1 .. last_index."""

    __slots__ = ("last_index", "offset_index", "offset_term", "runs", "term", "vote")

    def __init__(self) -> None:
        self.term = 0
        self.vote = ""
        self.offset_index = 0
        self.offset_term = 0
        self.last_index = 0
        self.runs: deque[Run] = deque()

    def live_bytes(self) -> int:
        return sum(place.length for run in self.runs for place in run.places)


class LogIndex:
    """All groups, and for each segment how many groups have live entries in it."""

    def __init__(self) -> None:
        self.groups: dict[int, GroupIndex] = {}
        self._pins: dict[int, int] = {}

    def group(self, group: int) -> GroupIndex:
        found = self.groups.get(group)
        if found is None:
            found = self.groups[group] = GroupIndex()
        return found

    def pinned(self, segment: int) -> bool:
        return segment in self._pins

    def facts(self) -> Iterator[GroupFacts]:
        for number, group in self.groups.items():
            yield GroupFacts(number, group.term, group.vote, group.offset_index, group.offset_term, group.last_index)

    def add(self, group: GroupIndex, index: int, segment: int, position: int, length: int) -> None:
        """One more entry behind the group's last."""
        runs = group.runs
        if not runs or runs[-1].segment != segment:
            runs.append(Run(segment, index))
            self._pins[segment] = self._pins.get(segment, 0) + 1
        runs[-1].places.append(Place(position, length))
        group.last_index = index

    def truncate(self, group: GroupIndex, index: int) -> None:
        """Forget the entries from `index` on."""
        runs = group.runs
        while runs and runs[-1].first_index >= index:
            self._unpin(runs.pop())
        if runs:
            del runs[-1].places[index - runs[-1].first_index :]
        group.last_index = index - 1

    def compact(self, group: GroupIndex, through_index: int, term: int) -> bool:
        """Forget the entries through an index; true when that left some segment without live entries."""
        group.offset_index = through_index
        group.offset_term = term
        group.last_index = max(group.last_index, through_index)
        freed = False
        runs = group.runs
        while runs and runs[0].last_index <= through_index:
            freed = self._unpin(runs.popleft()) or freed
        if runs and runs[0].first_index <= through_index:
            del runs[0].places[: through_index + 1 - runs[0].first_index]
            runs[0].first_index = through_index + 1
        return freed

    def clear(self, group: GroupIndex, index: int, term: int) -> bool:
        """Forget all entries; the log goes on after `index`."""
        freed = self.compact(group, max(index, group.last_index), term)
        group.offset_index = group.last_index = index
        return freed

    def destroy(self, number: int) -> bool:
        group = self.groups.pop(number)
        return self.compact(group, group.last_index, 0)

    def _unpin(self, run: Run) -> bool:
        left = self._pins[run.segment] - 1
        if left:
            self._pins[run.segment] = left
            return False
        del self._pins[run.segment]
        return True
