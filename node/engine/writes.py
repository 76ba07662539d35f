"""Evaluation of a write: request + newest image -> the resulting image, or a refusal.

Pure, and run on the leader only: what it decides goes into the log as an image, so that followers and consumers
never evaluate anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from geodyne.errors import ApiError
from geodyne.expressions.evaluate import evaluate_condition
from geodyne.expressions.parse import parse_condition, parse_update
from geodyne.expressions.update import UpdateResult, apply_update, updated_attributes
from geodyne.limits import ITEM_BYTES_MAX
from geodyne.messages import Item, Refused, ReturnValues, Write, WriteKind, Written
from geodyne.model.indexchecks import check_updated_index_keys, exceeds_item_size
from geodyne.model.indexkeys import Index
from geodyne.model.values import dumps, item_size, loads
from node.engine.writemode import WriteRule, barred, unfit
from node.storage.port import Row

CONDITION_FAILED = "The conditional request failed"
UPDATED_TOO_LARGE = "Item size to update has exceeded the maximum allowed size"


class Verdict(NamedTuple):
    """`changed` False: nothing to log; the answer then rests on the image that was read."""

    answer: Written | Refused
    changed: bool
    image: bytes | None
    size: int


def evaluate(write: Write, prior: Row | None, indexes: Sequence[Index] = (), rule: WriteRule | None = None) -> Verdict:
    """Decide one PutItem, UpdateItem, DeleteItem or ConditionCheck against the newest image of its key.

    `indexes` are those of the table: what an update makes of their key attributes is checked here, a put item's were by
    the router. `rule` says which writes the table's replica takes (None: all); a check is none.
    A tombstone counts as absent. Never raises for what a client sent: errors of evaluation become `Refused`.
    """
    stored = prior.value if prior is not None else None
    size_before = prior.size if prior is not None and stored is not None else 0
    if rule is not None and write.kind is not WriteKind.CHECK:
        if (refused := barred(rule, stored)) is not None:
            return Verdict(refused._replace(size=size_before), False, None, 0)
        verdict = evaluate(write, prior, indexes)
        refused = unfit(rule, stored, verdict.image) if verdict.changed else None
        return verdict if refused is None else Verdict(refused._replace(size=size_before), False, None, 0)
    before: Item | None = None
    if stored is not None and (write.condition is not None or write.kind is WriteKind.UPDATE):
        before = loads(stored)
    try:
        if write.condition is not None and not _holds(write, before):
            return Verdict(_condition_failed(write, stored, size_before), False, None, 0)
        if write.kind is WriteKind.CHECK:
            return Verdict(Written(size_before, size_before), False, None, 0)
        if write.kind is WriteKind.PUT:
            return _put(write, stored, size_before)
        if write.kind is WriteKind.DELETE:
            return _delete(write, stored, size_before)
        return _update(write, stored, before, size_before, indexes)
    except ApiError as error:
        return Verdict(Refused(error.kind.code, error.message or "", None, size_before), False, None, 0)


def _holds(write: Write, before: Item | None) -> bool:
    assert write.condition is not None
    return evaluate_condition(parse_condition(write.condition), before, write.names, write.values)


def _condition_failed(write: Write, stored: bytes | None, size_before: int) -> Refused:
    item = stored if write.return_on_failure else None
    return Refused("ConditionalCheckFailedException", CONDITION_FAILED, item, max(size_before, write.size))


def _put(write: Write, stored: bytes | None, size_before: int) -> Verdict:
    attributes = stored if write.returns is ReturnValues.ALL_OLD else None
    return Verdict(Written(size_before, write.size, attributes), write.item != stored, write.item, write.size)


def _delete(write: Write, stored: bytes | None, size_before: int) -> Verdict:
    attributes = stored if write.returns is ReturnValues.ALL_OLD else None
    return Verdict(Written(size_before, 0, attributes), stored is not None, None, 0)


def _update(
    write: Write, stored: bytes | None, before: Item | None, size_before: int, indexes: Sequence[Index]
) -> Verdict:
    start = before if before is not None else loads(write.item)
    if write.update is None:
        result = UpdateResult(start, (), 0)
    else:
        update = parse_update(write.update)
        result = apply_update(update, start, write.names, write.values)
        if before is None and not update.sets and not update.adds:
            return Verdict(Written(0, 0), False, None, 0)  # taking attributes away makes no item
    if indexes:
        check_updated_index_keys(indexes, result.item)
    image = dumps(result.item)
    size = item_size(result.item)
    if size > ITEM_BYTES_MAX or (indexes and exceeds_item_size(indexes, result.item, size)):
        return Verdict(Refused("ValidationException", UPDATED_TOO_LARGE, None, size_before), False, None, 0)
    answer = Written(size_before, size, _returned(write.returns, result, stored, before, image))
    return Verdict(answer, image != stored, image, size)


def _returned(
    returns: ReturnValues, result: UpdateResult, stored: bytes | None, before: Item | None, image: bytes
) -> bytes | None:
    if returns is ReturnValues.NONE:
        return None
    if returns is ReturnValues.ALL_NEW:
        return image
    if returns is ReturnValues.ALL_OLD:
        return stored
    attributes = updated_attributes(result, before, returns)
    return dumps(attributes) if attributes else None
