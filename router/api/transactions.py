"""TransactWriteItems and TransactGetItems.

The gates, in the service's order: shape, what an action may be, each action's values and expressions, the tables, then
what only their schemas can tell. The last cancels the transaction with a reason for the action instead of failing the
request; an empty key alone fails it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import orjson

from geodyne.errors import ApiError, validation
from geodyne.expressions import Checked, check_key_use, project
from geodyne.ledger import TOO_LARGE
from geodyne.limits import TRANSACTION_BYTES_MAX
from geodyne.messages import Found, Item, Refused, WriteKind
from geodyne.model.indexchecks import check_index_keys
from geodyne.model.keys import decode_key, encode_key
from geodyne.model.values import canonical_item, check_item_size, dumps, loads
from router.api.answers import list_of, members_answer
from router.api.capacity import Units, added, read_units, times, transact_consumed, wants_capacity, written_units
from router.api.checks import check_projection, check_request
from router.api.context import Context
from router.api.coordinator import (
    GetAction,
    WriteAction,
    Writes,
    cancelled,
    read_together,
    write_together,
)
from router.api.itemcollections import collection_metrics
from router.api.parameters import Body, check_parameters, parameters
from router.api.shapes import validator
from router.api.tablerecords import Table, not_found

# Times the units of the same operation alone (Developer Guide, "Capacity management for transactions").
TRANSACTIONAL = 2
DIGEST_BYTES = 16

_KINDS = {
    "ConditionCheck": WriteKind.CHECK,
    "Put": WriteKind.PUT,
    "Delete": WriteKind.DELETE,
    "Update": WriteKind.UPDATE,
}
_WRITES = {
    WriteKind.CHECK: parameters(expressions=["ConditionExpression"]),
    WriteKind.PUT: parameters(expressions=["ConditionExpression"]),
    WriteKind.DELETE: parameters(expressions=["ConditionExpression"]),
    WriteKind.UPDATE: parameters(expressions=["UpdateExpression", "ConditionExpression"]),
}
_GET = parameters(expressions=["ProjectionExpression"])
_NO_ACTION = "Invalid Request: TransactWriteRequest should contain Delete or Put or Update request"
_MANY_ACTIONS = "TransactItems can only contain one of Check, Put, Update or Delete"
_TWICE = "Transaction request cannot include multiple operations on one item"
_EMPTY_KEY = "cannot contain an empty"  # of the texts about keys, those that fail the request at once

_check_write = validator("TransactWriteItems")
_check_get = validator("TransactGetItems")


# --- TransactWriteItems -----------------------------------------------------------------------------------


async def transact_write_items(body: Body, context: Context) -> bytes:
    """TransactWriteItems. Raises ApiError."""
    _check_write(body)
    requests = [_only_action(element) for element in body["TransactItems"]]
    drafts = [_draft(kind, request, context) for kind, request in requests]
    for draft in drafts:
        if draft.table is None or not draft.table.serves:
            raise not_found()
    actions = [draft.action() for draft in drafts]
    detail = body.get("ReturnConsumedCapacity")
    writes = await transact_write(
        actions,
        context,
        token=body.get("ClientRequestToken"),
        digest=digest_of([body["TransactItems"], detail, body.get("ReturnItemCollectionMetrics")]),
        capacity=wants_capacity(detail),
    )
    metrics = body.get("ReturnItemCollectionMetrics") == "SIZE"
    return members_answer([write_capacities(actions, writes, detail), _metrics(actions, writes) if metrics else b""])


async def transact_write(
    actions: Sequence[WriteAction],
    context: Context,
    *,
    token: str | None,
    digest: bytes,
    capacity: bool = False,
) -> Writes:
    """Carry out all actions or none, once for each `token`. `digest`: 16 bytes that differ for different requests;
    `capacity`: say what the tables' indexes cost. Raises ApiError."""
    invalid = [_refused(action.invalid) for action in actions]
    if any(invalid):
        raise cancelled(invalid)
    _refuse_twice(actions)
    if sum(action.size for action in actions) > TRANSACTION_BYTES_MAX:
        raise validation(TOO_LARGE)
    return await write_together(actions, context, token=token, digest=digest, capacity=capacity)


def _only_action(element: dict[str, Any]) -> tuple[WriteKind, Body]:
    named = [(kind, element[name]) for name, kind in _KINDS.items() if element.get(name) is not None]
    if not named:
        raise validation(_NO_ACTION)
    if len(named) > 1:
        raise validation(_MANY_ACTIONS)
    return named[0]


class _Draft:
    """An action as far as it can be judged without its table."""

    __slots__ = ("checked", "item", "kind", "request", "size", "table")

    def __init__(
        self, kind: WriteKind, request: Body, item: dict[str, Any], size: int, checked: Checked, table: Table | None
    ) -> None:
        self.kind = kind
        self.request = request
        self.item = item
        self.size = size
        self.checked = checked
        self.table = table

    def action(self) -> WriteAction:
        """The action on its table, which serves. Raises ApiError for an empty key."""
        table, kind, request = self.table, self.kind, self.request
        assert table is not None
        key, invalid = written_key(kind, table, self.item, self.size, self.checked)
        return WriteAction(
            request["TableName"],
            table,
            kind,
            key,
            dumps(self.item) if kind in (WriteKind.PUT, WriteKind.UPDATE) else b"",
            self.size,
            request.get("ConditionExpression"),
            request.get("UpdateExpression"),
            self.checked.names,
            self.checked.values,
            request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD",
            invalid,
        )


def _draft(kind: WriteKind, request: Body, context: Context) -> _Draft:
    check_parameters(request, _WRITES[kind])
    item, size = canonical_item(request["Item" if kind is WriteKind.PUT else "Key"])
    check_item_size(size)
    condition, update = request.get("ConditionExpression"), request.get("UpdateExpression")
    checked = check_request(request, None, condition=condition, update=update)
    table = context.tables.find(context.region_client.catalog.tables, request["TableName"])
    return _Draft(kind, request, item, size, checked, table)


def written_key(kind: WriteKind, table: Table, item: Item, size: int, checked: Checked) -> tuple[bytes, str | None]:
    """The encoded key of what one action writes or checks; or no key, and what is wrong with the action that cancels
    all. `item`: of a put the whole item, else the key attributes. Raises ApiError for an empty key."""
    try:
        check_key_use(checked, table.schema)
        key = encode_key(table.schema, item, for_item=kind is WriteKind.PUT)
        if kind is WriteKind.PUT and table.indexes:
            check_index_keys(table.record.indexes, table.schema, item, size)
    except ApiError as error:
        return b"", _cancelling(error)
    return key, None


def _cancelling(error: ApiError) -> str:
    """The text of what is wrong with one action. Raises the error itself for what fails the request at once."""
    message = error.message or ""
    if error.kind.code != "ValidationException" or _EMPTY_KEY in message:
        raise error
    return message


def _refused(invalid: str | None) -> Refused | None:
    return Refused("ValidationException", invalid) if invalid is not None else None


def _refuse_twice(actions: Sequence[WriteAction] | Sequence[GetAction]) -> None:
    if len({(action.table.record.name, action.key) for action in actions}) != len(actions):
        raise validation(_TWICE)


def digest_of(elements: list[Any]) -> bytes:
    """What tells requests under one token apart: equal for those that differ in nothing but the order of members.

    Any other parameter counts (API reference, ClientRequestToken: "a change in other parameters")."""
    return blake2b(orjson.dumps(elements, option=orjson.OPT_SORT_KEYS), digest_size=DIGEST_BYTES).digest()


# --- TransactGetItems -------------------------------------------------------------------------------------


async def transact_get_items(body: Body, context: Context) -> bytes:
    """TransactGetItems. Raises ApiError."""
    _check_get(body)
    requests: list[Body] = [element["Get"] for element in body["TransactItems"]]
    drafts = [_get_draft(request, context) for request in requests]
    actions: list[GetAction] = []
    for request, (key_item, _, table) in zip(requests, drafts, strict=True):
        if table is None or not table.serves:
            raise not_found()
        actions.append(get_action(request["TableName"], table, key_item))
    found = await transact_get(actions, context)
    answers: list[bytes] = []
    for (_, checked, _), one in zip(drafts, found, strict=True):
        item = one.item
        if item is not None and checked.projection is not None:
            item = dumps(project(checked.projection, loads(item), checked.names))
        answers.append(b"{}" if item is None else b'{"Item":' + item + b"}")
    capacities = get_capacities(actions, found, body.get("ReturnConsumedCapacity"))
    return members_answer([capacities, b'"Responses":' + list_of(answers)])


async def transact_get(actions: Sequence[GetAction], context: Context) -> tuple[Found, ...]:
    """The whole items of all actions as they were at one moment, in order. Raises ApiError."""
    invalid = [_refused(action.invalid) for action in actions]
    if any(invalid):
        raise cancelled(invalid)
    _refuse_twice(actions)
    return await read_together(actions, context)


def _get_draft(request: Body, context: Context) -> tuple[dict[str, Any], Checked, Table | None]:
    check_parameters(request, _GET)
    key_item, _ = canonical_item(request["Key"])
    checked = check_projection(request)
    return key_item, checked, context.tables.find(context.region_client.catalog.tables, request["TableName"])


def get_action(name: str, table: Table, key_item: Item) -> GetAction:
    """The read of one item of a table that the request gave by `name`. Raises ApiError for an empty key."""
    try:
        return GetAction(name, table, encode_key(table.schema, key_item, for_item=False))
    except ApiError as error:
        return GetAction(name, table, b"", _cancelling(error))


# --- what it cost -----------------------------------------------------------------------------------------


def write_capacities(actions: Sequence[WriteAction], writes: Writes, detail: str | None) -> bytes:
    """The member `"ConsumedCapacity":[...]`, empty when `detail` (ReturnConsumedCapacity) does not ask for it. What an
    earlier request has done costs reads."""
    units: dict[str, Units] = {}
    for action, outcome in zip(actions, writes.outcomes, strict=True):
        if writes.replayed:
            one = Units(read_units(max(outcome.size_before, outcome.size_after), strong=True))
        else:
            one = written_units(outcome, action.table.local_indexes)
        units[action.table_name] = added(units.get(action.table_name, Units(0.0)), one)
    return _capacities(units, detail, "ReadCapacityUnits" if writes.replayed else "WriteCapacityUnits")


def get_capacities(actions: Sequence[GetAction], found: Sequence[Found], detail: str | None) -> bytes:
    """The same of a transaction that reads."""
    units: dict[str, Units] = {}
    for action, one in zip(actions, found, strict=True):
        own = Units(read_units(one.size, strong=True))
        units[action.table_name] = added(units.get(action.table_name, Units(0.0)), own)
    return _capacities(units, detail, "ReadCapacityUnits")


def _capacities(units: dict[str, Units], detail: str | None, member: str) -> bytes:
    if not wants_capacity(detail):
        return b""
    listed = [transact_consumed(name, times(part, TRANSACTIONAL), detail, member) for name, part in units.items()]
    return b'"ConsumedCapacity":' + orjson.dumps(listed)


def _metrics(actions: Sequence[WriteAction], writes: Writes) -> bytes:
    """ItemCollectionMetrics: each collection that was written to, once, by table."""
    by_table: dict[str, dict[bytes, Any]] = {}
    for action, outcome in zip(actions, writes.outcomes, strict=True):
        if action.kind is WriteKind.CHECK or not action.table.local_indexes:
            continue
        metrics = collection_metrics(action.table, decode_key(action.table.schema, action.key), outcome)
        if metrics is not None:
            collection = orjson.dumps(metrics["ItemCollectionKey"])
            by_table.setdefault(action.table_name, {})[collection] = metrics
    if not by_table:
        return b""
    listed = {name: list(metrics.values()) for name, metrics in by_table.items()}
    return b'"ItemCollectionMetrics":' + orjson.dumps(listed)
