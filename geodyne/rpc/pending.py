"""What a region's client keeps of a call on its way."""

from __future__ import annotations

from typing import Final

from geodyne.messages import (
    METADATA_PARTITION,
    Answer,
    Call,
    Control,
    Get,
    Moved,
    Prepare,
    Range,
    ReadRows,
    Write,
    WriteId,
)
from geodyne.rpc.drive import Reply
from geodyne.rpc.nodelink import NodeLink

NEVER: Final = float("inf")  # as a time

_MAYBE_EVENTUAL: Final = frozenset({Get, Range, ReadRows})
_WRITES: Final = frozenset({Write, Prepare, Control})  # what has an effect that must not happen twice


class PendingCall(Reply[Answer]):
    """A call on its way: its own awaitable."""

    __slots__ = (
        "at_leader",
        "backoff_ms",
        "call",
        "deadline",
        "hops",
        "id",
        "is_write",
        "last",
        "moved",
        "node",
        "partition",
        "request_id",
        "retry_at",
        "stuck_since",
        "uncertain",
        "write_id",
    )

    def __init__(self, call: Call, request_id: str, deadline: float) -> None:
        # The members of Reply, without the cost of a second call.
        self.resume = None
        self.ready = False
        self.value = None
        self.error = None
        kind = type(call)
        self.call = call
        self.request_id = request_id
        self.deadline = deadline  # loop time, seconds; so are the other times
        self.partition: int = METADATA_PARTITION if kind is Control else call.partition  # type: ignore[union-attr]
        self.at_leader: bool = call.strong if kind in _MAYBE_EVENTUAL else True  # type: ignore[union-attr]
        self.is_write = kind in _WRITES
        self.write_id: WriteId | None = None
        self.id = 0
        self.node: NodeLink | None = None  # where it is, while it is sent
        self.last: NodeLink | None = None  # where it was sent last
        self.hops = 0
        self.backoff_ms = 0
        self.retry_at = -NEVER
        self.stuck_since = 0.0  # since when it makes no progress; means nothing before the first wait
        self.uncertain = False  # an attempt was lost: it may have taken effect
        self.moved: Moved | None = None  # the answer, while the catalog catches up with it


class RevisionWaiter(Reply[bool]):
    __slots__ = ("deadline", "revision")

    def __init__(self, revision: int, deadline: float) -> None:
        super().__init__()
        self.revision = revision
        self.deadline = deadline


class WriteSequences:
    """The sequences of this router's writes to one partition, and the smallest that still awaits its answer."""

    __slots__ = ("_low", "_next", "_open")

    def __init__(self) -> None:
        self._next = 1
        self._low = 1
        self._open: set[int] = set()

    def begin(self, router: int) -> WriteId:
        """The identity of a new write."""
        sequence = self._next
        self._next = sequence + 1
        self._open.add(sequence)
        return WriteId(router, sequence, self._low)

    def end(self, sequence: int) -> None:
        """The write was answered or given up: it will not be sent again."""
        self._open.discard(sequence)
        low = self._low
        while low < self._next and low not in self._open:
            low += 1
        self._low = low
