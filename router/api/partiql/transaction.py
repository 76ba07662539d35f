"""ExecuteTransaction: up to 100 statements that take effect together, all of them reads or all of them writes.

EXISTS(SELECT ...) counts as a write: it is a condition check. A statement that is not well formed fails the request;
what only the table's schema can tell of an item cancels the transaction (API reference, ExecuteTransaction; Developer
Guide, "Performing transactions with PartiQL for DynamoDB").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geodyne.errors import ApiError, validation
from geodyne.expressions import evaluate_condition
from geodyne.messages import Found, WriteKind
from geodyne.model.values import canonical_item, check_item_size, dumps, loads
from router.api.answers import list_of, members_answer
from router.api.capacity import wants_capacity
from router.api.checks import check_request
from router.api.context import Context
from router.api.coordinator import CANCELLED, WriteAction
from router.api.parameters import Body
from router.api.partiql.execute import DUPLICATE, Bound, bind, plan_write, reworded
from router.api.partiql.parse import parse_statement
from router.api.partiql.plan import Point, names_one_item, plan_check, plan_point
from router.api.partiql.read import shaped
from router.api.partiql.tree import Exists, Insert, Select
from router.api.shapes import validator
from router.api.transactions import (
    digest_of,
    get_action,
    get_capacities,
    transact_get,
    transact_write,
    write_capacities,
    written_key,
)

_check = validator("ExecuteTransaction")

_NOT_ONE_ITEM = "Select statements within ExecuteTransaction must specify the primary key in the where clause."
_KINDS = {"PutItem": WriteKind.PUT, "UpdateItem": WriteKind.UPDATE, "DeleteItem": WriteKind.DELETE}


async def execute_transaction(body: Body, context: Context) -> bytes:
    """ExecuteTransaction. Raises ApiError."""
    _check(body)
    elements: list[Body] = body["TransactStatements"]
    bounds = [bind(parse_statement(element["Statement"]), element, context) for element in elements]
    reads = sum(bound.is_read for bound in bounds)
    if reads not in (0, len(bounds)):
        raise validation("Transaction requests cannot mix read and write statements")
    detail = body.get("ReturnConsumedCapacity")
    if reads:
        return await _read(bounds, context, detail)
    return await _write(bounds, elements, context, body.get("ClientRequestToken"), detail)


# --- reads ----------------------------------------------------------------------------------------------


async def _read(bounds: Sequence[Bound], context: Context, detail: str | None) -> bytes:
    points = [_point(bound) for bound in bounds]
    actions = [
        get_action(bound.statement.table, bound.table, point.key) for bound, point in zip(bounds, points, strict=True)
    ]
    found = await transact_get(actions, context)
    responses = [_response(point, one) for point, one in zip(points, found, strict=True)]
    return members_answer([b'"Responses":' + list_of(responses), get_capacities(actions, found, detail)])


def _point(bound: Bound) -> Point:
    statement = bound.statement
    assert isinstance(statement, Select)
    if not names_one_item(statement, bound.table, bound.parameters):
        raise validation(_NOT_ONE_ITEM)
    return plan_point(statement, bound.table, bound.parameters)


def _response(point: Point, found: Found) -> bytes:
    if found.item is None:
        return b"{}"
    if point.condition is None and point.paths is None:
        return b'{"Item":' + found.item + b"}"
    item = loads(found.item)
    if point.condition is not None:
        with reworded():
            checked = check_request(point.members, None, filter=point.condition)
        assert checked.filter is not None
        if not evaluate_condition(checked.filter, item, checked.names, checked.values):
            return b"{}"
    return b'{"Item":' + dumps(shaped([item], point.paths)[0]) + b"}"


# --- writes ---------------------------------------------------------------------------------------------


async def _write(
    bounds: Sequence[Bound], elements: Sequence[Body], context: Context, token: str | None, detail: str | None
) -> bytes:
    actions = [_write_action(bound, element) for bound, element in zip(bounds, elements, strict=True)]
    said = [[element["Statement"], bound.parameters] for bound, element in zip(bounds, elements, strict=True)]
    try:
        writes = await transact_write(
            actions, context, token=token, digest=digest_of([said, detail]), capacity=wants_capacity(detail)
        )
    except ApiError as error:
        raise _told_of_duplicates(error, bounds) from None
    responses = list_of([b"{}"] * len(actions))
    return members_answer([b'"Responses":' + responses, write_capacities(actions, writes, detail)])


def _write_action(bound: Bound, element: Body) -> WriteAction:
    """Raises ApiError for what is wrong with the statement itself."""
    statement = bound.statement
    if isinstance(statement, Exists):
        kind, plan = WriteKind.CHECK, plan_check(statement.select, bound.table, bound.parameters)
    else:
        write = plan_write(bound)
        kind, plan = _KINDS[write.operation], write.body
    condition, update = plan.get("ConditionExpression"), plan.get("UpdateExpression")
    with reworded():
        checked = check_request(plan, None, condition=condition, update=update)
    item, size = canonical_item(plan["Item" if kind is WriteKind.PUT else "Key"])
    check_item_size(size)
    key, invalid = written_key(kind, bound.table, item, size, checked)
    on_failure = element.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and kind is not WriteKind.PUT
    image = dumps(item) if kind in (WriteKind.PUT, WriteKind.UPDATE) else b""
    return WriteAction(
        statement.table, bound.table, kind, key, image, size, condition, update, checked.names, checked.values,
        on_failure, invalid,
    )  # fmt: skip


def _told_of_duplicates(error: ApiError, bounds: Sequence[Bound]) -> ApiError:
    """An INSERT that met an item is cancelled as a duplicate, not for the condition that it became."""
    reasons: list[dict[str, Any]] | None = error.details.get("CancellationReasons")
    if reasons is None:
        return error
    told = [
        {"Code": "DuplicateItem", "Message": DUPLICATE}
        if isinstance(bound.statement, Insert) and reason["Code"] == "ConditionalCheckFailed"
        else reason
        for bound, reason in zip(bounds, reasons, strict=True)
    ]
    codes = ", ".join(reason["Code"] for reason in told)
    return ApiError(error.kind.code, CANCELLED.format(codes), CancellationReasons=told)
