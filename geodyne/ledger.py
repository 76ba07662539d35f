"""The ledger of transactions: a table of the region like any other, whose name no user's table can have.

A row is the one place where a transaction is decided, by a conditional write. Its key is the transaction's name; it
holds

    digest      of the request that claimed the name first
    decided     when the name was last claimed or the transaction carried out, in microseconds of the writer's clock
    committed   the attempt that was carried out; absent while none was
    cancelled   the attempts that must never be carried out
    parts       the partitions that have one in it
    touched     when anything of the row last changed: what keeps it from being swept

A transaction of several partitions is committed by the write of `committed`; a participant that has waited too long
writes its attempt into `cancelled`; the two exclude each other. A transaction of one partition is decided by that
partition's own log, and its row only claims the token for the request. Routers and nodes both speak of these rows:
hence this module, pure, with the calls, what their answers mean, and what both sides refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from geodyne.catalog import SYSTEM_PREFIX, PartitionRecord, TableRecord
from geodyne.messages import AttributeValue, Finish, Get, Refused, Write, WriteKind, Written
from geodyne.model.keys import KeySchema, encode_key, hash_of
from geodyne.model.values import dumps, item_size, loads

LEDGER_TABLE = SYSTEM_PREFIX + "transactions"
LEDGER_SCHEMA = KeySchema("id", "S")
RETAINED_US = 600 * 1_000_000  # how long a token is remembered (API reference, ClientRequestToken: ten minutes)
DECIDE_WITHIN_MS = 30_000  # a coordinator that took longer gives up: far below RETAINED_US, when rows may be swept
TOO_LARGE = "The aggregate size of the items in the transaction exceeds 4 MB"
CONFLICT = Refused("TransactionConflictException", "Transaction is ongoing for the item")
MISMATCH = Refused(
    "IdempotentParameterMismatchException",
    "DynamoDB rejected the request because you retried a request with a different payload but with an idempotent token "
    "that was already used.",
)


def total_bytes(outcomes: Iterable[Written]) -> int:
    """What the items of a transaction count together: each as it is or as it becomes, whichever is larger."""
    return sum(max(outcome.size_before, outcome.size_after) for outcome in outcomes)


class LedgerRow(NamedTuple):
    """What a row says. `committed` None: by no attempt (so far)."""

    digest: bytes
    decided_us: int
    touched_us: int
    committed: int | None
    cancelled: frozenset[int]
    partitions: tuple[int, ...]

    def forgotten(self, now_us: int) -> bool:
        """The token may be used again."""
        return now_us - self.decided_us > RETAINED_US


class LedgerKey(NamedTuple):
    """Where the row of one transaction lies."""

    partition: PartitionRecord
    key: bytes
    item: bytes
    size: int


def ledger_key(table: TableRecord, transaction: bytes) -> LedgerKey:
    """The place of a transaction's row in the ledger that the catalog has."""
    item: dict[str, AttributeValue] = {"id": {"S": transaction.hex()}}
    key = encode_key(LEDGER_SCHEMA, item)
    return LedgerKey(table.partition_of(hash_of(key)), key, dumps(item), item_size(item))


def look_up(at: LedgerKey) -> Get:
    """A strong read of the row; see `row_of`."""
    return Get(at.partition.id, at.partition.epoch, at.key, True)


def commit(at: LedgerKey, attempt: int, digest: bytes, now_us: int, partitions: Iterable[int]) -> Write:
    """The decision to carry out an attempt: Written, or Refused with the row that stands against it."""
    return _update(
        at,
        "SET digest = :digest, decided = :now, touched = :now, committed = :attempt, parts = :parts",
        "(attribute_not_exists(decided) OR decided < :forgotten "
        "OR (attribute_not_exists(committed) AND (attribute_not_exists(digest) OR digest = :digest))) "
        "AND NOT contains(cancelled, :attempt)",
        {
            ":digest": {"S": digest.hex()},
            ":now": _number(now_us),
            ":forgotten": _number(now_us - RETAINED_US),
            ":attempt": {"S": str(attempt)},
            ":parts": {"NS": [str(partition) for partition in partitions]},
        },
    )


def claim(at: LedgerKey, digest: bytes, now_us: int, partition: int) -> Write:
    """Note that the token stands for this request, which one partition decides by itself."""
    return _update(
        at,
        "SET digest = :digest, decided = :now, touched = :now, parts = :parts REMOVE committed",
        "attribute_not_exists(digest) OR decided < :forgotten",
        {
            ":digest": {"S": digest.hex()},
            ":now": _number(now_us),
            ":forgotten": _number(now_us - RETAINED_US),
            ":parts": {"NS": [str(partition)]},
        },
    )


def unclaim(at: LedgerKey, digest: bytes, now_us: int) -> Write:
    """Take a claim back: the request was cancelled, its token is free. `now_us` is that of the claim."""
    return _update(
        at,
        "REMOVE digest",
        "digest = :digest AND decided = :now AND attribute_not_exists(committed)",
        {":digest": {"S": digest.hex()}, ":now": _number(now_us)},
    )


def cancel(at: LedgerKey, attempt: int, now_us: int) -> Write:
    """The decision of a participant that an attempt must never be carried out: Written, or Refused because it was."""
    return _update(
        at,
        "SET touched = :now ADD cancelled :attempts",
        "attribute_not_exists(committed) OR committed <> :attempt",
        {":now": _number(now_us), ":attempt": {"S": str(attempt)}, ":attempts": {"SS": [str(attempt)]}},
    )


def sweep(row: LedgerRow, key: bytes, partition: int, epoch: int) -> Write:
    """Remove a row that has not changed since it was read."""
    values = {":touched": _number(row.touched_us)}
    return Write(partition, epoch, WriteKind.DELETE, key, b"", 0, "touched = :touched", None, {}, values)


def finish(partition: PartitionRecord, transaction: bytes, attempt: int, committed: bool) -> Finish:
    """The end of an attempt, told to a participant."""
    return Finish(partition.id, partition.epoch, transaction, attempt, committed)


def row_of(item: bytes) -> LedgerRow:
    """A row of the ledger. Raises KeyError or ValueError for bytes that are none."""
    attributes = loads(item)
    committed = attributes.get("committed")
    return LedgerRow(
        bytes.fromhex(attributes["digest"]["S"]) if "digest" in attributes else b"",
        int(attributes["decided"]["N"]) if "decided" in attributes else 0,
        int(attributes["touched"]["N"]),
        int(committed["S"]) if committed is not None else None,
        frozenset(map(int, attributes["cancelled"]["SS"])) if "cancelled" in attributes else frozenset(),
        tuple(map(int, attributes["parts"]["NS"])) if "parts" in attributes else (),
    )


def name_of(item: bytes) -> bytes:
    """The name of the transaction that a row is about."""
    return bytes.fromhex(loads(item)["id"]["S"])


def standing_row(refused: Refused) -> LedgerRow | None:
    """The row against which a conditional write failed."""
    return row_of(refused.item) if refused.item is not None else None


def _update(at: LedgerKey, update: str, condition: str, values: dict[str, AttributeValue]) -> Write:
    return Write(
        at.partition.id, at.partition.epoch, WriteKind.UPDATE, at.key, at.item, at.size, condition, update,
        {}, values, return_on_failure=True,
    )  # fmt: skip


def _number(value: int) -> AttributeValue:
    return {"N": str(value)}
