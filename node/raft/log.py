"""The part of one group's log that is held in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter

from geodyne.peermessages import Entry

_entry_term = attrgetter("term")


class RaftLog:
    """Consecutive entries first_index..last_index, after a compacted position (offset_index, offset_term).

    Three positions divide it: entries up to `persisted_index` are durable on this node; entries up to
    `written_index` have been handed to the disk (`take_unwritten`); the rest is new. Terms never decrease.
    """

    __slots__ = ("_entries", "bytes", "offset_index", "offset_term", "persisted_index", "written_index")

    def __init__(self, offset_index: int = 0, offset_term: int = 0, entries: Iterable[Entry] = ()) -> None:
        """`entries` are what the disk holds after the offset. Raises ValueError if they have a gap."""
        self.offset_index = offset_index
        self.offset_term = offset_term
        self._entries = list(entries)
        term = offset_term
        for index, entry in enumerate(self._entries, offset_index + 1):
            if entry.index != index or entry.term < term:
                raise ValueError(f"log entry {entry.index} of term {entry.term} cannot stand at {index} after {term}")
            term = entry.term
        self.bytes = sum(len(entry.payload) for entry in self._entries)  # of payload held
        self.written_index = self.persisted_index = self.last_index

    @property
    def first_index(self) -> int:
        return self.offset_index + 1

    @property
    def last_index(self) -> int:
        return self.offset_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.offset_term

    def term(self, index: int) -> int:
        """The term of the entry at offset_index..last_index. Raises LookupError outside of that."""
        position = index - self.offset_index
        if position == 0:
            return self.offset_term
        if position < 0 or position > len(self._entries):
            raise LookupError(f"entry {index} is not in {self.first_index}..{self.last_index}")
        return self._entries[position - 1].term

    def holds(self, index: int, term: int) -> bool:
        """True when this log has (or compacted) an entry of that term at exactly that index."""
        return self.offset_index <= index <= self.last_index and self.term(index) == term

    def entries(self, low: int, high: int, bytes_max: int) -> tuple[Entry, ...]:
        """Entries low..high inclusive, cut where their payload would exceed `bytes_max`, but at least one.

        Raises LookupError when `low` is compacted.
        """
        if low <= self.offset_index:
            raise LookupError(f"entry {low} is compacted; the log starts at {self.first_index}")
        start = low - self.first_index
        stop = min(high, self.last_index) - self.offset_index
        if stop - start == 1:  # the usual append: what one loop turn proposed
            return (self._entries[start],)
        size = 0
        for position in range(start, stop):
            size += len(self._entries[position].payload)
            if size > bytes_max and position > start:
                return tuple(self._entries[start:position])
        return tuple(self._entries[start:stop])

    def after(self, index: int) -> Sequence[Entry]:
        """All entries beyond `index`, which is offset_index or later."""
        return self._entries[index - self.offset_index :]

    def extend(self, entry: Entry) -> None:
        """Add a leader's own new entry at last_index + 1."""
        assert entry.index == self.last_index + 1
        self._entries.append(entry)
        self.bytes += len(entry.payload)

    def append(self, entries: Sequence[Entry]) -> int:
        """Make the log hold `entries`, which follow one that is known to match.

        What is already there is skipped; at the first entry of another term the log is cut and the rest added.
        Returns the index of the first entry added, 0 when nothing was. Raises ValueError on a gap, or at an
        attempt to change what is compacted.
        """
        if not entries:
            return 0
        first = entries[0].index
        if first <= self.offset_index or first > self.last_index + 1:
            raise ValueError(f"entry {first} does not follow {self.first_index}..{self.last_index}")
        held = min(len(entries), self.last_index + 1 - first)
        base = first - self.first_index
        for position in range(held):
            if self._entries[base + position].term != entries[position].term:
                self._cut(base + position)
                held = position
                break
        new = entries[held:]
        if not new:
            return 0
        for index, entry in enumerate(new, first + held):
            if entry.index != index:
                raise ValueError(f"entry {entry.index} stands where {index} belongs")
            self.bytes += len(entry.payload)
        self._entries.extend(new)
        return first + held

    def disputed(self, previous: int, previous_term: int, entries: Sequence[Entry], through: int) -> int:
        """The last entry up to `through` that is in this log and in one with `entries` after (previous,
        previous_term), when the two do not agree in it; 0 when they do, and so in all before it (Raft, section 5.3),
        or when it is compacted here."""
        last = min(previous + len(entries), through)
        if last < self.offset_index:
            return 0
        term = entries[last - previous - 1].term if last > previous else previous_term
        return 0 if self.holds(last, term) else last

    def conflict_before(self, index: int, term: int) -> int:
        """The largest index up to `index` whose term is at most `term`: nothing after it can be in a log that
        has `term` at `index`. offset_index - 1 when that lies in what is compacted. (Raft, section 5.3, the
        optimisation that skips a term at a time.)
        """
        if index < self.offset_index:
            return index
        high = min(index - self.offset_index, len(self._entries))
        position = bisect_right(self._entries, term, 0, high, key=_entry_term)
        if position == 0 and self.offset_term > term:
            return self.offset_index - 1
        return self.offset_index + position

    def take_unwritten(self) -> tuple[Entry, ...]:
        """The entries to append to the disk now (truncating it from the first one's index); counts them as written."""
        start = self.written_index - self.offset_index
        self.written_index = self.last_index
        return tuple(self._entries[start:])

    def persisted(self, index: int, term: int) -> bool:
        """Everything up to this entry is durable. False, and no effect, when the entry has been cut since."""
        if index <= self.persisted_index or not self.holds(index, term):
            return False
        self.persisted_index = min(index, self.written_index)
        return True

    def compact(self, through_index: int) -> None:
        """Forget entries up to `through_index`, which a durable checkpoint of the state covers."""
        count = through_index - self.offset_index
        if count <= 0:
            return
        if through_index > self.persisted_index:
            raise ValueError(f"cannot compact up to {through_index}: only {self.persisted_index} is durable")
        self.offset_term = self.term(through_index)
        self.bytes -= sum(len(entry.payload) for entry in self._entries[:count])
        del self._entries[:count]
        self.offset_index = through_index

    def tail_start(self, bytes_max: int) -> int:
        """The lowest index such that the entries beyond it hold at most `bytes_max` of payload."""
        size = 0
        for entry in reversed(self._entries):
            size += len(entry.payload)
            if size > bytes_max:
                return entry.index
        return self.offset_index

    def reset(self, index: int, term: int) -> None:
        """Forget everything: a durable snapshot at (index, term) takes the log's place."""
        self._entries.clear()
        self.bytes = 0
        self.offset_index = self.written_index = self.persisted_index = index
        self.offset_term = term

    def _cut(self, position: int) -> None:
        self.bytes -= sum(len(entry.payload) for entry in self._entries[position:])
        del self._entries[position:]
        self.written_index = min(self.written_index, self.last_index)
        self.persisted_index = min(self.persisted_index, self.last_index)
