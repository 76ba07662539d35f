"""Carrying out a transaction over the partitions that hold its items.

Several partitions: prepare all at once, decide by one conditional write of the ledger, tell all how it ended; the
client is answered when every one of them has taken it. One partition: it evaluates and commits in a single entry of its
log; the ledger then only claims the token for the request, beside it. What a coordinator that dies leaves behind, the
participants bring to its end from the ledger (node.transactions).

Must hold:
- Nobody is told to commit before the ledger says so; whoever may have prepared is told of a release.
- No decision is asked for later than DECIDE_WITHIN_MS after the beginning: the ledger keeps cancellations for longer.
- An attempt is never used again: what is tried anew has another number.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

import orjson

from geodyne import ledger
from geodyne.catalog import ControlOperation, PartitionRecord, TableRecord, TableStatus
from geodyne.errors import ApiError, validation
from geodyne.ledger import CONFLICT, DECIDE_WITHIN_MS, LEDGER_TABLE, MISMATCH, TOO_LARGE, LedgerKey, LedgerRow
from geodyne.limits import TRANSACTION_BYTES_MAX
from geodyne.messages import (
    NO_NAMES,
    NO_VALUES,
    Answer,
    AttributeValue,
    Call,
    Control,
    ControlDone,
    Found,
    Image,
    Images,
    Moved,
    Prepare,
    Prepared,
    PrepareRefused,
    ReadTogether,
    Refused,
    Write,
    WriteKind,
    Written,
)
from router.api.context import Context
from router.api.dispatch import refusal, unexpected
from router.api.tablerecords import Table

READ_ROUNDS_MAX = 4  # of reads over several partitions: two are needed, more when items change in between
LEDGER_WAITS_MAX = 50  # changes of the catalog until a new ledger serves
CANCELLED = "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]"
# A refusal of one item as a reason of the whole (API reference, TransactionCanceledException).
_REASONS = {
    "ConditionalCheckFailedException": "ConditionalCheckFailed",
    "ItemCollectionSizeLimitExceededException": "ItemCollectionSizeLimitExceeded",
    "ProvisionedThroughputExceededException": "ProvisionedThroughputExceeded",
    "ThrottlingException": "ThrottlingError",
    "TransactionConflictException": "TransactionConflict",
    "ValidationException": "ValidationError",
}


class WriteAction(NamedTuple):
    """One action of a transaction that writes. `invalid`: the text of what is wrong with it that only the table's
    schema could tell; such an action cancels the transaction, and its key means nothing."""

    table_name: str  # as the request has it
    table: Table
    kind: WriteKind
    key: bytes
    item: bytes  # PUT: the whole item; UPDATE: its key attributes; else empty
    size: int  # DynamoDB size of the item, or of the key attributes
    condition: str | None = None
    update: str | None = None
    names: Mapping[str, str] = NO_NAMES
    values: Mapping[str, AttributeValue] = NO_VALUES
    return_on_failure: bool = False
    invalid: str | None = None

    def write(self, capacity: bool) -> Write:
        """The action as it travels in a Prepare."""
        return Write(
            0, 0, self.kind, self.key, self.item, self.size, self.condition, self.update, self.names, self.values,
            return_on_failure=self.return_on_failure, capacity=capacity,
        )  # fmt: skip


class GetAction(NamedTuple):
    """One read of a transaction that reads. `invalid`: as of WriteAction."""

    table_name: str
    table: Table
    key: bytes
    invalid: str | None = None


class Action(Protocol):
    """What places an action."""

    @property
    def table(self) -> Table: ...

    @property
    def key(self) -> bytes: ...


class Writes(NamedTuple):
    """What became of the actions, in their order. `replayed`: an earlier request under the same token did it."""

    outcomes: tuple[Written, ...]
    replayed: bool = False


class Part(NamedTuple):
    """What falls to one partition: the positions of its actions in the request."""

    partition: PartitionRecord
    positions: tuple[int, ...]


class _Attempt(NamedTuple):
    name: bytes
    number: int
    digest: bytes
    began_ms: int


class _MovedError(Exception):
    """A partition is elsewhere, and nothing has been decided."""

    def __init__(self, revision: int) -> None:
        super().__init__(revision)
        self.revision = revision


def plan(actions: Sequence[Action]) -> list[Part]:
    """The parts of a transaction, by the first of their actions."""
    positions: dict[PartitionRecord, list[int]] = {}
    for position, action in enumerate(actions):
        positions.setdefault(action.table.partition(action.key), []).append(position)
    return [Part(partition, tuple(where)) for partition, where in positions.items()]


def cancelled(reasons: Sequence[Refused | None]) -> ApiError:
    """TransactionCanceledException with a reason for each action, None for one that is not to blame."""
    codes = [_REASONS.get(reason.code, reason.code) if reason is not None else "None" for reason in reasons]
    listed: list[dict[str, object]] = []
    for code, reason in zip(codes, reasons, strict=True):
        entry: dict[str, object] = {"Code": code}
        if reason is not None:
            if reason.item is not None:
                entry["Item"] = orjson.loads(reason.item)
            entry["Message"] = reason.message
        listed.append(entry)
    return ApiError("TransactionCanceledException", CANCELLED.format(", ".join(codes)), CancellationReasons=listed)


# --- writing --------------------------------------------------------------------------------------------


async def write_together(
    actions: Sequence[WriteAction], context: Context, *, token: str | None, digest: bytes, capacity: bool
) -> Writes:
    """Carry out all actions or none. No two are on one item, none is `invalid`. Raises ApiError."""
    name = _hashed(16, context.account_id, token) if token is not None else _hashed(16, *_own(context))
    for number in range(context.settings.moved_retries_max + 1):
        attempt = _Attempt(name, _number(context, number), digest, context.now_ms())
        try:
            parts = plan(actions)
            if len(parts) > 1:
                return await _over_several(actions, parts, context, attempt, token is not None, capacity)
            return await _in_one(actions, parts[0], context, attempt, token is not None, capacity)
        except _MovedError as moved:
            actions = await _renewed(actions, context, moved)
    raise ApiError("ServiceUnavailable", "A partition of the transaction is moving. Try again.")


async def _in_one(
    actions: Sequence[WriteAction], part: Part, context: Context, attempt: _Attempt, by_token: bool, capacity: bool
) -> Writes:
    """All items lie in one partition: it decides."""
    claim: Awaitable[Answer] | None = None
    if by_token:
        table = await _ledger(context)
        at = ledger.ledger_key(table, attempt.name)
        row = await _row(context, at)
        now_us = context.now_ms() * 1_000
        known = row is not None and bool(row.digest) and not row.forgotten(now_us)
        if known and row is not None:
            if row.digest != attempt.digest:
                raise refusal(MISMATCH)
            if row.committed is not None:
                return await _replayed(actions, [part], context)
        else:
            claim = _send(context, ledger.claim(at, attempt.digest, now_us, part.partition.id))
    sent = _send(context, _prepare(actions, part, attempt, capacity, commit=True))
    claimed = await _settled(claim) if claim is not None else None
    answer = await sent
    if isinstance(answer, Prepared):
        return Writes(answer.outcomes, answer.replayed)
    if isinstance(claimed, Written):
        _send(context, ledger.unclaim(at, attempt.digest, now_us))
    if isinstance(answer, PrepareRefused):
        raise cancelled(answer.reasons)
    if isinstance(answer, Moved):
        raise _MovedError(answer.revision)
    raise refusal(answer) if isinstance(answer, Refused) else unexpected(answer)


async def _over_several(
    actions: Sequence[WriteAction],
    parts: Sequence[Part],
    context: Context,
    attempt: _Attempt,
    by_token: bool,
    capacity: bool,
) -> Writes:
    """Two phases, with the ledger's decision between them."""
    at = ledger.ledger_key(await _ledger(context), attempt.name)
    sent = [_send(context, _prepare(actions, part, attempt, capacity, commit=False)) for part in parts]
    answers = [await _settled(reply) for reply in sent]
    prepared = [answer for answer in answers if isinstance(answer, Prepared) and not answer.replayed]
    try:
        if len(prepared) == len(parts):
            outcomes = _in_order(len(actions), parts, [answer.outcomes for answer in prepared])
            if ledger.total_bytes(outcomes) > TRANSACTION_BYTES_MAX:
                raise validation(TOO_LARGE)
            if context.now_ms() - attempt.began_ms > DECIDE_WITHIN_MS:
                raise ApiError("ServiceUnavailable", "The transaction could not be prepared in time")
            if await _decided(context, at, attempt, parts):
                await _finish(context, parts, attempt)
                return Writes(outcomes)
        elif not any(isinstance(answer, Prepared) and answer.replayed for answer in answers):
            if by_token and any(isinstance(answer, PrepareRefused) for answer in answers):
                await _check_token(context, at, attempt)
            raise _failure(len(actions), parts, answers)
    except _ReplayedError:
        pass
    except _UncertainError as error:
        raise error.cause from None  # the ledger may say either: the participants will ask it
    except (ApiError, _MovedError):
        _release(context, parts, answers, attempt)
        raise
    _release(context, parts, answers, attempt)
    return await _replayed(actions, parts, context)


class _ReplayedError(Exception):
    """The same request has been carried out before."""


class _UncertainError(Exception):
    """Whether the ledger took the decision is not known."""

    def __init__(self, cause: ApiError) -> None:
        super().__init__(cause)
        self.cause = cause


async def _decided(context: Context, at: LedgerKey, attempt: _Attempt, parts: Sequence[Part]) -> bool:
    """Have the ledger commit the attempt. False when an earlier one of the same request is committed already."""
    call = ledger.commit(
        at, attempt.number, attempt.digest, context.now_ms() * 1_000, (part.partition.id for part in parts)
    )
    try:
        answer = await _send(context, call)
    except ApiError as error:
        if error.kind.definite:
            raise
        raise _UncertainError(error) from None
    if isinstance(answer, Written):
        return True
    row = ledger.standing_row(answer) if isinstance(answer, Refused) else None
    if row is None or attempt.number in row.cancelled:
        # Somebody waited for this attempt for so long that it was given up.
        raise ApiError("ServiceUnavailable", "The transaction could not be prepared in time")
    if row.committed == attempt.number:
        return True
    if row.digest != attempt.digest:
        raise refusal(MISMATCH)
    return False


async def _check_token(context: Context, at: LedgerKey, attempt: _Attempt) -> None:
    """A part was refused: perhaps because the request has been carried out before. Raises what that means."""
    row = await _row(context, at)
    if row is None or not row.digest or row.forgotten(context.now_ms() * 1_000):
        return
    if row.digest != attempt.digest:
        raise refusal(MISMATCH)
    if row.committed is not None:
        raise _ReplayedError


def _failure(count: int, parts: Sequence[Part], answers: Sequence[Answer | ApiError]) -> Exception:
    """Why not all parts are prepared: what concerns the whole first, then the reasons of the items."""
    for answer in answers:
        if isinstance(answer, Refused):
            return refusal(answer)
    for answer in answers:
        if isinstance(answer, Moved):
            return _MovedError(answer.revision)
    reasons: list[Refused | None] = [None] * count
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, PrepareRefused):
            for position, reason in zip(part.positions, answer.reasons, strict=True):
                reasons[position] = reason
    if any(reasons):
        return cancelled(reasons)
    # Nothing was decided, so nothing happened, whatever became of the preparations.
    return ApiError("ServiceUnavailable", "The service is temporarily unable to handle the request")


def _release(context: Context, parts: Sequence[Part], answers: Sequence[Answer | ApiError], attempt: _Attempt) -> None:
    """Have what may be prepared let go of. Nobody waits for it: what is not reached asks the ledger."""
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, ApiError) or (isinstance(answer, Prepared) and not answer.replayed):
            _send(context, ledger.finish(part.partition, attempt.name, attempt.number, committed=False))


async def _finish(context: Context, parts: Sequence[Part], attempt: _Attempt) -> None:
    """Tell the participants, and wait until each has it. One that cannot be reached asks the ledger by itself."""
    calls = [ledger.finish(part.partition, attempt.name, attempt.number, committed=True) for part in parts]
    for reply in [_send(context, call) for call in calls]:
        await _settled(reply)


async def _replayed(actions: Sequence[WriteAction], parts: Sequence[Part], context: Context) -> Writes:
    """The request has been done before: what is charged now is reading what it wrote."""
    calls = [_reading(actions, part) for part in parts]
    answers = [await _settled(reply) for reply in [_send(context, call) for call in calls]]
    sizes = [0] * len(actions)
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, Images):
            for position, image in zip(part.positions, answer.images, strict=True):
                sizes[position] = image.size
    return Writes(tuple(Written(size, size) for size in sizes), replayed=True)


def _in_order(count: int, parts: Sequence[Part], outcomes: Sequence[Sequence[Written]]) -> tuple[Written, ...]:
    ordered = [Written(0, 0)] * count
    for part, of_part in zip(parts, outcomes, strict=True):
        for position, outcome in zip(part.positions, of_part, strict=True):
            ordered[position] = outcome
    return tuple(ordered)


def _prepare(actions: Sequence[WriteAction], part: Part, attempt: _Attempt, capacity: bool, *, commit: bool) -> Prepare:
    partition = part.partition
    items = tuple(actions[position].write(capacity) for position in part.positions)
    return Prepare(partition.id, partition.epoch, attempt.name, attempt.number, attempt.digest, items, commit)


# --- reading --------------------------------------------------------------------------------------------


async def read_together(actions: Sequence[GetAction], context: Context) -> tuple[Found, ...]:
    """The items as they were at one moment. Raises ApiError: TransactionCanceledException for those that are being
    written.

    One partition answers of one moment by itself. Several are read again and again until nothing has changed
    between two rounds: then all of it held at any moment between the two."""
    for _ in range(context.settings.moved_retries_max + 1):
        try:
            return await _read(actions, plan(actions), context)
        except _MovedError as moved:
            await context.region_client.wait_revision(moved.revision, context.settings.catalog_timeout_ms)
            tables = context.region_client.catalog.tables
            actions = [a._replace(table=a.table.renewed(context.tables, tables)) for a in actions]
    raise ApiError("ServiceUnavailable", "A partition of the transaction is moving. Try again.")


async def _read(actions: Sequence[GetAction], parts: Sequence[Part], context: Context) -> tuple[Found, ...]:
    images = await _round(actions, parts, context)
    if len(parts) == 1:
        return _found(images)
    changed: list[Refused | None] = []
    for _ in range(READ_ROUNDS_MAX - 1):
        before, images = images, await _round(actions, parts, context)
        changed = [None if old.stamp == new.stamp else CONFLICT for old, new in zip(before, images, strict=True)]
        if not any(changed):
            return _found(images)
    raise cancelled(changed)


async def _round(actions: Sequence[GetAction], parts: Sequence[Part], context: Context) -> list[Image]:
    """The images of all items, each of its own moment. Raises TransactionCanceledException for locked ones."""
    timeout_ms = context.settings.read_timeout_ms
    sent = [_send(context, _reading(actions, part), timeout_ms) for part in parts]
    images: list[Image | None] = [None] * len(actions)
    for part, answer in zip(parts, [await _settled(reply) for reply in sent], strict=True):
        if isinstance(answer, ApiError):
            raise answer
        if isinstance(answer, Moved):
            raise _MovedError(answer.revision)
        if not isinstance(answer, Images):
            raise refusal(answer) if isinstance(answer, Refused) else unexpected(answer)
        for position, image in zip(part.positions, answer.images, strict=True):
            images[position] = image
    read = [image for image in images if image is not None]
    locked = [CONFLICT if image.locked else None for image in read]
    if any(locked):
        raise cancelled(locked)
    return read


def _found(images: Sequence[Image]) -> tuple[Found, ...]:
    if sum(image.size for image in images) > TRANSACTION_BYTES_MAX:
        raise validation(TOO_LARGE)
    return tuple(Found(image.item, image.size) for image in images)


def _reading(actions: Sequence[Action], part: Part) -> ReadTogether:
    keys = tuple(actions[position].key for position in part.positions)
    return ReadTogether(part.partition.id, part.partition.epoch, keys)


# --- the ledger -----------------------------------------------------------------------------------------


async def _ledger(context: Context) -> TableRecord:
    """The ledger, made if there is none yet. Raises ApiError."""
    client = context.region_client
    table = client.catalog.tables.get(LEDGER_TABLE)
    if table is not None and table.status is not TableStatus.CREATING:
        return table
    control = Control(ControlOperation.ENSURE_LEDGER, {})
    done = await client.call(control, timeout_ms=context.settings.control_timeout_ms, request_id=context.request_id)
    if not isinstance(done, ControlDone):
        raise refusal(done) if isinstance(done, Refused) else unexpected(done)
    revision = done.revision
    for _ in range(LEDGER_WAITS_MAX):
        await client.wait_revision(revision, context.settings.catalog_timeout_ms)
        table = client.catalog.tables.get(LEDGER_TABLE)
        if table is not None and table.status is not TableStatus.CREATING:
            return table
        revision += 1
    raise ApiError("ServiceUnavailable", "The ledger of transactions is being made. Try again.")


async def _row(context: Context, at: LedgerKey) -> LedgerRow | None:
    found = await _send(context, ledger.look_up(at), context.settings.read_timeout_ms)
    if not isinstance(found, Found):
        raise unexpected(found)
    return ledger.row_of(found.item) if found.item is not None else None


# --- sending --------------------------------------------------------------------------------------------


def _send(context: Context, call: Call, timeout_ms: int = 0) -> Awaitable[Answer]:
    timeout_ms = timeout_ms or context.settings.write_timeout_ms
    return context.region_client.call(call, timeout_ms=timeout_ms, request_id=context.request_id)


async def _settled(reply: Awaitable[Answer]) -> Answer | ApiError:
    """The answer, or why there is none: nothing that was sent may be forgotten for the failure of another."""
    try:
        return await reply
    except ApiError as error:
        return error


async def _renewed(actions: Sequence[WriteAction], context: Context, moved: _MovedError) -> list[WriteAction]:
    await context.region_client.wait_revision(moved.revision, context.settings.catalog_timeout_ms)
    tables = context.region_client.catalog.tables
    return [action._replace(table=action.table.renewed(context.tables, tables)) for action in actions]


def _own(context: Context) -> tuple[str, ...]:
    """What no other request has in common with this one."""
    return (context.request_id, str(context.now_ms()))


def _number(context: Context, number: int) -> int:
    return int.from_bytes(_hashed(8, *_own(context), str(number)), "big") >> 1


def _hashed(size: int, *parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=size).digest()
