"""What a partition has prepared, and what it has lately committed: replicated state, beside its rows.

It follows from the entries of the log alone, travels with the deduplication window (node.window) in checkpoints and
snapshots, and is equal on all replicas at equal index. A transaction is here from the entry that prepares it to the
entry that ends it. What was committed is remembered for RETAINED_US, so that the same request under the same token is
recognised; the bounds COMMITTED_MAX and COMMITTED_BYTES_MAX cut that short where a partition commits more than 218
transactions a second, or fewer that are large. Times are those of the leaders that made the entries, and one of their
clocks may be minutes off: so the newest COMMITTED_MIN are kept however old they look, for their calls may come again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from geodyne.ledger import RETAINED_US
from geodyne.messages import Written
from geodyne.wire import log_v1_pb2 as log
from node.outcomes import outcome_from_wire, outcome_to_wire
from node.storage.port import Row

COMMITTED_MAX = 131_072
COMMITTED_MIN = 4_096  # more than a partition commits while one call is sent again and again, which is ten seconds
COMMITTED_BYTES_MAX = 32 * 1024 * 1024  # of their steps, as they travel; a hundred items take about 900
ITEM_OVERHEAD_BYTES = 256  # of a prepared item beside its key and image; an estimate


class PreparedItem(NamedTuple):
    """What a commit makes of one item. `written` False: its condition was checked, and that is all."""

    key: bytes
    written: bool
    image: bytes | None
    size: int

    def row(self, version: bytes, tombstones: bool) -> Row | None:
        if self.image is not None:
            return Row(self.image, version, self.size)
        return Row(None, version, 0) if tombstones else None


class Prepared(NamedTuple):
    """A part of a transaction that waits for its end. `wall_us`: the leader's clock when it was prepared."""

    transaction: bytes
    attempt: int
    digest: bytes
    items: tuple[PreparedItem, ...]
    outcomes: tuple[Written, ...]
    wall_us: int

    @property
    def held_bytes(self) -> int:
        """About how much memory it takes, for bounds."""
        return sum(ITEM_OVERHEAD_BYTES + len(item.key) + len(item.image or b"") for item in self.items)

    def to_wire(self) -> log.TransactionStep:
        step = _step(self.transaction, self.attempt, log.TRANSACTION_STAGE_PREPARED, self.digest, self.outcomes)
        for key, written, image, size in self.items:
            item = step.items.add(key=key, written=written, size=size)
            if image is not None:
                item.image = image
        return step


class Committed(NamedTuple):
    """A transaction that has taken effect here."""

    attempt: int
    digest: bytes
    outcomes: tuple[Written, ...]
    wall_us: int

    def to_wire(self, transaction: bytes) -> log.TransactionStep:
        return _step(transaction, self.attempt, log.TRANSACTION_STAGE_COMMITTED, self.digest, self.outcomes)


def released(transaction: bytes, attempt: int) -> log.TransactionStep:
    """The step that lets go of what an attempt has prepared."""
    return _step(transaction, attempt, log.TRANSACTION_STAGE_RELEASED, b"", ())


class _Remembered(NamedTuple):
    """A commit as bytes: outcomes as objects take twenty times as much memory, and a checkpoint writes all of them.
    `window`: a serialized log.Window that holds its step alone, for such messages one after the other are one."""

    window: bytes
    wall_us: int


class Transactions:
    """Mutable only through applying steps."""

    __slots__ = ("_committed", "_committed_bytes", "prepared")

    def __init__(self) -> None:
        self.prepared: dict[bytes, Prepared] = {}
        self._committed: dict[bytes, _Remembered] = {}  # in the order of their commits
        self._committed_bytes = 0

    def committed(self, transaction: bytes) -> Committed | None:
        """What is remembered of a commit."""
        remembered = self._committed.get(transaction)
        if remembered is None:
            return None
        step = log.Window.FromString(remembered.window).transactions[0]
        return Committed(step.attempt, step.digest, _outcomes(step), step.wall_us)

    def apply(self, step: log.TransactionStep, wall_us: int) -> None:
        """Take over one step of an entry made at `wall_us`."""
        transaction = step.transaction
        if step.stage == log.TRANSACTION_STAGE_PREPARED:
            self.prepared[transaction] = _prepared(step, wall_us)
            return
        held = self.prepared.get(transaction)
        if held is not None and held.attempt == step.attempt:
            del self.prepared[transaction]
        if step.stage == log.TRANSACTION_STAGE_COMMITTED:
            self._remember(step, wall_us)

    def _remember(self, step: log.TransactionStep, wall_us: int) -> None:
        self._drop(step.transaction)
        window = _window(step, wall_us)
        self._committed[step.transaction] = _Remembered(window, wall_us)
        self._committed_bytes += len(window)
        committed = self._committed
        while committed:
            oldest = next(iter(committed))
            within = len(committed) <= COMMITTED_MAX and self._committed_bytes <= COMMITTED_BYTES_MAX
            old = len(committed) > COMMITTED_MIN and wall_us - committed[oldest].wall_us > RETAINED_US
            if within and not old:
                return
            self._drop(oldest)

    def _drop(self, transaction: bytes) -> None:
        remembered = self._committed.pop(transaction, None)
        if remembered is not None:
            self._committed_bytes -= len(remembered.window)

    def to_bytes(self) -> Iterator[bytes]:
        """Serialized log.Windows of steps that lead to this state, in an order that keeps that of the commits."""
        for remembered in self._committed.values():
            yield remembered.window
        for held in self.prepared.values():
            yield _window(held.to_wire(), held.wall_us)


def _window(step: log.TransactionStep, wall_us: int) -> bytes:
    window = log.Window(transactions=[step])
    window.transactions[0].wall_us = wall_us
    return window.SerializeToString(deterministic=True)


def _step(
    transaction: bytes, attempt: int, stage: log.TransactionStage, digest: bytes, outcomes: tuple[Written, ...]
) -> log.TransactionStep:
    step = log.TransactionStep(transaction=transaction, attempt=attempt, digest=digest, stage=stage)
    step.outcomes.extend(outcome_to_wire(outcome) for outcome in outcomes)
    return step


def _prepared(step: log.TransactionStep, wall_us: int) -> Prepared:
    items = tuple(
        PreparedItem(item.key, item.written, item.image if item.HasField("image") else None, item.size)
        for item in step.items
    )
    return Prepared(step.transaction, step.attempt, step.digest, items, _outcomes(step), wall_us)


def _outcomes(step: log.TransactionStep) -> tuple[Written, ...]:
    return tuple(outcome_from_wire(outcome) for outcome in step.outcomes)
