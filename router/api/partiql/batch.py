"""BatchExecuteStatement: up to 25 statements, all of them reads or all of them writes, each on its own.

The request as a whole fails only if it is not well formed; what is wrong with one statement is told in its response
(API reference, BatchExecuteStatement).
"""

from __future__ import annotations

from typing import Any

import orjson

from geodyne.errors import ApiError, validation
from geodyne.messages import Item
from router.api.capacity import wants_capacity
from router.api.context import Context
from router.api.parameters import Body
from router.api.partiql.execute import ONLY_IN_TRANSACTIONS, Bound, bind, common_members, read_one, write
from router.api.partiql.parse import parse_statement
from router.api.partiql.plan import names_one_item
from router.api.partiql.read import Capacity, added
from router.api.partiql.tree import Exists, Select, Statement
from router.api.shapes import validator
from router.api.together import together

_check = validator("BatchExecuteStatement")

_NOT_ONE_ITEM = "Select statements within BatchExecuteStatement must specify the primary key in the where clause."
ERROR_CODES = {
    "ConditionalCheckFailedException": "ConditionalCheckFailed",
    "ItemCollectionSizeLimitExceededException": "ItemCollectionSizeLimitExceeded",
    "RequestLimitExceeded": "RequestLimitExceeded",
    "ValidationException": "ValidationError",
    "SerializationException": "ValidationError",
    "ProvisionedThroughputExceededException": "ProvisionedThroughputExceeded",
    "TransactionConflictException": "TransactionConflict",
    "ThrottlingException": "ThrottlingError",
    "ResourceNotFoundException": "ResourceNotFound",
    "AccessDeniedException": "AccessDenied",
    "DuplicateItemException": "DuplicateItem",
}
_INTERNAL = "InternalServerError"


async def batch_execute_statement(body: Body, context: Context) -> bytes:
    """BatchExecuteStatement. Raises ApiError."""
    _check(body)
    elements: list[Body] = body["Statements"]
    statements = [_parsed(element) for element in elements]
    _refuse_mixture(statements)
    capacities: dict[str, Capacity] = {}
    detail = body.get("ReturnConsumedCapacity")
    outcomes = await together(
        [_one(statement, element, context, detail) for statement, element in zip(statements, elements, strict=True)]
    )
    for _, capacity in outcomes:
        if capacity is not None:
            name = str(capacity["TableName"])
            capacities[name] = added(capacities.get(name), capacity) or capacity
    answer: dict[str, Any] = {"Responses": [response for response, _ in outcomes]}
    if wants_capacity(detail):
        answer["ConsumedCapacity"] = list(capacities.values())
    return orjson.dumps(answer)


def _parsed(element: Body) -> Statement | ApiError:
    """A statement's tree, or why there is none: its own response says so."""
    try:
        return parse_statement(element["Statement"])
    except ApiError as error:
        return error


def _refuse_mixture(statements: list[Statement | ApiError]) -> None:
    if len({isinstance(each, Select) for each in statements if not isinstance(each, ApiError)}) > 1:
        raise validation("Batch requests cannot mix read and write statements")


async def _one(
    statement: Statement | ApiError, element: Body, context: Context, detail: str | None
) -> tuple[dict[str, Any], Capacity | None]:
    """The response of one statement, and what it consumed."""
    response: dict[str, Any] = {}
    try:
        if isinstance(statement, ApiError):
            raise statement
        response["TableName"] = statement.table
        bound = bind(statement, element, context)
        response["TableName"] = bound.table.record.name
        attributes, capacity = await _carried_out(bound, common_members(bound, element, detail), context)
        if attributes:
            response["Item"] = attributes
        return response, capacity
    except ApiError as error:
        response["Error"] = _error(error)
        return response, None


async def _carried_out(bound: Bound, common: Body, context: Context) -> tuple[Item | None, Capacity | None]:
    """The item that was read, or what RETURNING asked for. Raises ApiError."""
    statement = bound.statement
    if isinstance(statement, Exists):
        raise validation(ONLY_IN_TRANSACTIONS)
    if not isinstance(statement, Select):
        return await write(bound, common, context)
    if not names_one_item(statement, bound.table, bound.parameters):
        raise validation(_NOT_ONE_ITEM)
    page = await read_one(bound, common, context)
    return (page.items[0] if page.items else None), page.capacity


def _error(error: ApiError) -> dict[str, Any]:
    described: dict[str, Any] = {"Code": ERROR_CODES.get(error.kind.code, _INTERNAL), "Message": error.message or ""}
    if "Item" in error.details:
        described["Item"] = error.details["Item"]
    return described
