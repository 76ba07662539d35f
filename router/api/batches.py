"""BatchGetItem and BatchWriteItem: many items at once, each on its own.

All calls are sent before the first answer is awaited, so that they travel together.  What could not be served for
want of capacity or of a reachable partition comes back as unprocessed; only when nothing at all was served does the
request fail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any, NamedTuple

import orjson

from geodyne.errors import ApiError, validation
from geodyne.expressions import project
from geodyne.limits import BATCH_GET_BYTES_MAX, BATCH_GET_KEYS_MAX, BATCH_WRITE_ITEMS_MAX, PAGE_BYTES
from geodyne.messages import Answer, Found, Get, Item, Write, WriteKind, Written
from geodyne.model.indexchecks import check_index_keys
from geodyne.model.keys import encode_key
from geodyne.model.values import canonical_item, check_item_size, dumps, loads
from router.api.answers import list_of, members_answer
from router.api.capacity import Capacity, Units, added, consumed, read_units, wants_capacity, written_units
from router.api.checks import Checked, check_projection
from router.api.context import Context
from router.api.dispatch import CallOf, settle, unexpected
from router.api.itemcollections import Metrics, collection_metrics, wants_metrics
from router.api.legacy import translate_read
from router.api.parameters import Body, check_parameters, parameters
from router.api.shapes import validator
from router.api.tablerecords import Table, not_found

_KEYS = parameters(expressions=["ProjectionExpression"], legacy=["AttributesToGet"])

_check_get = validator("BatchGetItem")
_check_write = validator("BatchWriteItem")

_DUPLICATES = "Provided list of item keys contains duplicates"


class _Part(NamedTuple):
    """One item of a batch: the table's name as the request has it, its request element, the item or its key, and how
    to call for it."""

    name: str
    element: dict[str, Any]
    table: Table
    item: Item
    key: bytes
    call_of: CallOf


# --- BatchGetItem ---------------------------------------------------------------------------------------


class _Reading(NamedTuple):
    table: Table
    strong: bool
    checked: Checked


async def batch_get_item(body: Body, context: Context) -> bytes:
    """BatchGetItem. Raises ApiError."""
    _check_get(body)
    request: dict[str, dict[str, Any]] = body["RequestItems"]
    if sum(len(block["Keys"]) for block in request.values()) > BATCH_GET_KEYS_MAX:
        raise validation("Too many items requested for the BatchGetItem call")
    readings: dict[str, _Reading] = {}
    parts: list[_Part] = []
    for name, block in request.items():
        readings[name] = _reading(name, block, context)
        parts += _get_parts(name, block, readings[name])
    _refuse_duplicates(parts)
    answers = await _call_all(context, parts, context.settings.read_timeout_ms)
    return _found_answer(body, readings, parts, answers)


def _reading(name: str, block: Body, context: Context) -> _Reading:
    translated = translate_read(block) if check_parameters(block, _KEYS) else None
    table = context.tables.find(context.region_client.catalog.tables, name)
    checked = check_projection(block) if translated is None else translated.checked
    if table is None or not table.serves:
        raise not_found()
    return _Reading(table, block.get("ConsistentRead") is True, checked)


def _get_parts(name: str, block: Body, reading: _Reading) -> Iterator[_Part]:
    for element in block["Keys"]:
        key_item, _ = canonical_item(element)
        key = encode_key(reading.table.schema, key_item, for_item=False)
        yield _Part(name, element, reading.table, key_item, key, _get_of(key, reading.strong))


def _get_of(key: bytes, strong: bool) -> CallOf:
    return lambda partition: Get(partition.id, partition.epoch, key, strong)


def _found_answer(
    body: Body, readings: dict[str, _Reading], parts: list[_Part], answers: list[Answer | ApiError]
) -> bytes:
    """Items up to the bounds of an answer; the keys beyond them, and those not served, are unprocessed."""
    items: dict[str, list[bytes]] = {name: [] for name in readings}
    units: dict[str, Units] = {}
    left: dict[str, list[dict[str, Any]]] = {}
    room = _Room()
    for part, answer in zip(parts, answers, strict=True):
        if type(answer) is not Found or not room.takes(part, answer.size):
            left.setdefault(part.name, []).append(part.element)
            continue
        reading = readings[part.name]
        _add(units, part.name, Units(read_units(answer.size, reading.strong)))
        if answer.item is not None:
            items[part.name].append(_projected(answer.item, reading.checked))
    unprocessed = {name: {**body["RequestItems"][name], "Keys": keys} for name, keys in left.items()}
    responses = b",".join(orjson.dumps(name) + b":" + list_of(found) for name, found in items.items())
    return members_answer(
        [
            b'"Responses":{' + responses + b"}",
            b'"UnprocessedKeys":' + orjson.dumps(unprocessed),
            _capacities(units, body.get("ReturnConsumedCapacity")),
        ]
    )


class _Room:
    """What still fits in an answer: 16 MB in all, and of one partition 1 MB, like a page of a Query: the item that
    reaches that bound still belongs (API reference, BatchGetItem: a partial result is returned if "more than 1MB
    per partition is requested")."""

    __slots__ = ("_by_partition", "_total")

    def __init__(self) -> None:
        self._total = 0
        self._by_partition: dict[int, int] = {}

    def takes(self, part: _Part, size: int) -> bool:
        """Whether an item of `size` bytes fits; its room is taken then."""
        if not size:
            return True
        partition = part.table.partition(part.key).id
        used = self._by_partition.get(partition, 0)
        if used >= PAGE_BYTES or self._total + size > BATCH_GET_BYTES_MAX:
            return False
        self._by_partition[partition] = used + size
        self._total += size
        return True


def _projected(item: bytes, checked: Checked) -> bytes:
    if checked.projection is None:
        return item
    return dumps(project(checked.projection, loads(item), checked.names))


# --- BatchWriteItem -------------------------------------------------------------------------------------


async def batch_write_item(body: Body, context: Context) -> bytes:
    """BatchWriteItem. Raises ApiError."""
    _check_write(body)
    request: dict[str, list[dict[str, Any]]] = body["RequestItems"]
    if sum(map(len, request.values())) > BATCH_WRITE_ITEMS_MAX:
        raise validation("Too many items requested for the BatchWriteItem call")
    parts: list[_Part] = []
    for name, elements in request.items():
        table = context.tables.serving(context.region_client.catalog.tables, name)
        capacity = bool(table.indexes) and wants_capacity(body.get("ReturnConsumedCapacity"))
        parts += [_write_part(name, element, table, capacity=capacity) for element in elements]
    _refuse_duplicates(parts)
    answers = await _call_all(context, parts, context.settings.write_timeout_ms)
    return _stored_answer(body, parts, answers)


def _stored_answer(body: Body, parts: list[_Part], answers: list[Answer | ApiError]) -> bytes:
    units: dict[str, Units] = {}
    left: dict[str, list[dict[str, Any]]] = {}
    collections: dict[str, dict[bytes, Metrics]] = {}
    for part, answer in zip(parts, answers, strict=True):
        if type(answer) is not Written:
            left.setdefault(part.name, []).append(part.element)
            continue
        _add(units, part.name, written_units(answer, part.table.local_indexes))
        if wants_metrics(body, part.table):
            metrics = collection_metrics(part.table, part.item, answer)
            if metrics is not None:  # the last write to a collection knows best how large it is
                collections.setdefault(part.name, {})[dumps(metrics["ItemCollectionKey"])] = metrics
    metrics_by_table = {name: list(found.values()) for name, found in collections.items()}
    return members_answer(
        [
            b'"UnprocessedItems":' + orjson.dumps(left),
            b'"ItemCollectionMetrics":' + orjson.dumps(metrics_by_table) if metrics_by_table else b"",
            _capacities(units, body.get("ReturnConsumedCapacity")),
        ]
    )


def _write_part(name: str, element: dict[str, Any], table: Table, *, capacity: bool) -> _Part:
    put, delete = element.get("PutRequest"), element.get("DeleteRequest")
    if (put is None) == (delete is None):
        raise validation("Supplied WriteRequest is invalid, must contain exactly one of PutRequest or DeleteRequest")
    if put is not None:
        item, size = canonical_item(put["Item"])
        check_item_size(size)
        # A batch tells no difference between a missing and a mistyped key of an item.
        key = _batch_item_key(table, item)
        if table.indexes:
            check_index_keys(table.record.indexes, table.schema, item, size)
        return _Part(name, element, table, item, key, _write_of(WriteKind.PUT, key, (dumps(item), size), capacity))
    key_item, _ = canonical_item((delete or {})["Key"])
    key = encode_key(table.schema, key_item, for_item=False)
    return _Part(name, element, table, key_item, key, _write_of(WriteKind.DELETE, key, (b"", 0), capacity))


def _batch_item_key(table: Table, item: dict[str, Any]) -> bytes:
    key = {name: item[name] for name in table.key_names if name in item}
    return encode_key(table.schema, key, for_item=False)


def _write_of(kind: WriteKind, key: bytes, image: tuple[bytes, int], capacity: bool) -> CallOf:
    return lambda partition: Write(partition.id, partition.epoch, kind, key, *image, capacity=capacity)


# --- both -----------------------------------------------------------------------------------------------


def _refuse_duplicates(parts: list[_Part]) -> None:
    if len({(part.table.record.name, part.key) for part in parts}) != len(parts):
        raise validation(_DUPLICATES)


async def _call_all(context: Context, parts: list[_Part], timeout_ms: int) -> list[Answer | ApiError]:
    """The answer of each part, or why there is none. Raises the first error if no part was answered."""
    sent = [_send(context, part, timeout_ms) for part in parts]
    answers: list[Answer | ApiError] = []
    for part, reply in zip(parts, sent, strict=True):
        if isinstance(reply, ApiError):
            answers.append(reply)
            continue
        try:
            answer = await settle(context, part.table, reply, (part.key, part.call_of, timeout_ms))
        except ApiError as error:
            answers.append(error)
            continue
        answers.append(answer if type(answer) in (Found, Written) else unexpected(answer))
    errors = [answer for answer in answers if isinstance(answer, ApiError)]
    if len(errors) == len(answers):
        raise errors[0]
    fatal = next((error for error in errors if not error.kind.retryable), None)
    if fatal is not None:
        raise fatal
    return answers


def _send(context: Context, part: _Part, timeout_ms: int) -> Awaitable[Answer] | ApiError:
    """The call on its way, or why it could not be sent: too much may be in flight already."""
    partition = part.table.partition(part.key)
    call = part.call_of(partition)
    try:
        return context.region_client.call(call, timeout_ms=timeout_ms, request_id=context.request_id)
    except ApiError as error:
        return error


def _add(units: dict[str, Units], name: str, more: Units) -> None:
    known = units.get(name)
    units[name] = more if known is None else added(known, more)


def _capacities(units: dict[str, Units], detail: str | None) -> bytes:
    if not wants_capacity(detail):
        return b""
    capacities: list[Capacity] = [consumed(name, amount, detail) for name, amount in units.items()]
    return b'"ConsumedCapacity":' + orjson.dumps(capacities)
