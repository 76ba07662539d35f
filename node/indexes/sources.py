"""What a partition of a global index takes over from the partitions of its table, and what it leaves.

Per partition of the table there is one sender, the leader of its newest term, with one batch under way at a time; its
batches are numbered. So a batch that comes late is known by its term or its number, and entries that a new leader sends
once more are known by the sequence of their change record. Rows of a backfill have no sequence: they are taken as they
come, which is right because their sender read them later than every change record it had sent before.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from geodyne.messages import ApplyIndex, IndexEntry
from node.state import NO_SOURCE, GroupState, IndexSource


class BatchStanding(Enum):
    """How a batch relates to those before it."""

    NEWS = 1
    REPEATED = 2
    FENCED = 3  # a later leader of the sending partition has been heard


class Sources:
    """The newest batch of each sender, those in entries that are not applied yet included. On the serving leader."""

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        # By sender: the log index of the entry that takes its newest batch, and that batch.
        self._newest: dict[int, tuple[int, IndexSource]] = {}

    def clear(self) -> None:
        self._newest.clear()

    def newest(self, state: GroupState, sender: int) -> tuple[int, IndexSource]:
        """The log index of the entry that took the sender's newest batch (0: it is applied), and that batch."""
        return self._newest.get(sender) or (0, state.sources.get(sender, NO_SOURCE))

    def took(self, sender: int, index: int, source: IndexSource) -> None:
        self._newest[sender] = (index, source)


def standing(call: ApplyIndex, known: IndexSource) -> BatchStanding:
    if call.term < known.term:
        return BatchStanding.FENCED
    if (call.term, call.number) <= (known.term, known.number):
        return BatchStanding.REPEATED
    return BatchStanding.NEWS


def news(call: ApplyIndex, known: IndexSource) -> Iterator[IndexEntry]:
    """The entries that are not in the index yet."""
    return (entry for entry in call.entries if not 0 < entry.sequence <= known.sequence)


def after(call: ApplyIndex, known: IndexSource) -> IndexSource:
    """How far the index is with the sender once it has taken the batch."""
    newest = max((entry.sequence for entry in call.entries), default=0)
    return IndexSource(call.term, call.number, max(known.sequence, newest))
