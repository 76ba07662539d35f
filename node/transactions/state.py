"""What a partition has prepared, and what it has lately committed: replicated state, beside its rows.

It follows from the entries of the log alone, travels with the deduplication window (node.window) in checkpoints and
snapshots, and is equal on all replicas at equal index. A transaction is here from the entry that prepares it to the
entry that ends it. What was committed is remembered for RETAINED_US, so that the same request under the same token is
recognised; the bound COMMITTED_MAX cuts that short where a partition commits more than 218 transactions a second.
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


class Transactions:
    """Mutable only through applying steps."""

    __slots__ = ("committed", "prepared")

    def __init__(self) -> None:
        self.prepared: dict[bytes, Prepared] = {}
        self.committed: dict[bytes, Committed] = {}  # in the order of their commits

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
            self.committed.pop(transaction, None)
            self.committed[transaction] = Committed(step.attempt, step.digest, _outcomes(step), wall_us)
            self._forget(wall_us)

    def _forget(self, wall_us: int) -> None:
        committed = self.committed
        while committed:
            oldest = next(iter(committed))
            if wall_us - committed[oldest].wall_us <= RETAINED_US and len(committed) <= COMMITTED_MAX:
                return
            del committed[oldest]

    def to_wire(self) -> Iterator[log.TransactionStep]:
        """Steps that lead to this state, in an order that keeps that of the commits."""
        for transaction, done in self.committed.items():
            step = done.to_wire(transaction)
            step.wall_us = done.wall_us
            yield step
        for held in self.prepared.values():
            step = held.to_wire()
            step.wall_us = held.wall_us
            yield step


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
