"""ExecuteStatement: one statement, one answer.

Order of the gates: shape, the statement's text, its parameters, the table, then what the statement says of its keys,
and then those of the operation that carries it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from geodyne.errors import ApiError, validation
from geodyne.limits import PARTIQL_STATEMENT_LENGTH_MAX
from geodyne.messages import Item
from router.api import items
from router.api.context import Context
from router.api.parameters import Body
from router.api.partiql.pages import Tokens
from router.api.partiql.parse import parse_statement
from router.api.partiql.plan import Write, plan_delete, plan_insert, plan_select, plan_update
from router.api.partiql.read import Capacity, ReadPage, read_page
from router.api.partiql.tree import Delete, Exists, Insert, Select, Statement, Update
from router.api.partiql.values import Parameters, bound_parameters
from router.api.shapes import validator
from router.api.tablerecords import Table

_check = validator("ExecuteStatement")

DUPLICATE = "Duplicate primary key exists in table"
ONLY_IN_TRANSACTIONS = "EXISTS is only supported in ExecuteTransaction"
_OPERATIONS = {"PutItem": items.put_item, "UpdateItem": items.update_item, "DeleteItem": items.delete_item}
# Messages of the expression language begin with the parameter that a PartiQL request does not have.
_PARAMETER = re.compile(r"Invalid (?:Filter|Condition|Update|Projection|KeyCondition)Expression: ")


class Bound(NamedTuple):
    """A statement with its parameters and its table."""

    statement: Statement
    parameters: Parameters
    table: Table

    @property
    def is_read(self) -> bool:
        return isinstance(self.statement, Select)


async def execute_statement(body: Body, context: Context) -> bytes:
    """ExecuteStatement. Raises ApiError."""
    _check(body)
    bound = bind(parse_statement(body["Statement"]), body, context)
    if isinstance(bound.statement, Exists):
        raise validation(ONLY_IN_TRANSACTIONS)
    common = common_members(bound, body, body.get("ReturnConsumedCapacity"))
    if not isinstance(bound.statement, Select):
        attributes, capacity = await write(bound, common, context)
        return _answer(ReadPage([attributes] if attributes else [], capacity=capacity), None)
    tokens = Tokens(body["Statement"], bound.parameters, bound.table.record.id)
    given = body.get("NextToken")
    position = None if given is None else tokens.read(given)
    plan = plan_select(bound.statement, bound.table, bound.parameters)
    with reworded():
        page = await read_page(plan, common, context, int(body.get("Limit") or 0), position)
    return _answer(page, None if page.position is None else tokens.write(page.position))


def bind(statement: Statement, body: Body, context: Context) -> Bound:
    """A statement with the parameters that stand beside it in a request. Raises ApiError."""
    parameters = bound_parameters(statement, body.get("Parameters"))
    table = context.tables.serving(context.region_client.catalog.tables, statement.table)
    return Bound(statement, parameters, table)


def table_names(body: Body) -> list[str]:
    """The table of a request's statement, if it has one; does not raise."""
    statement = body.get("Statement")
    if not isinstance(statement, str) or len(statement) > PARTIQL_STATEMENT_LENGTH_MAX:
        return []
    try:
        return [parse_statement(statement).table]
    except ApiError:
        return []


def table_names_of(elements: Any) -> list[str]:
    """The tables of a list of statements, those that can be read; does not raise."""
    if not isinstance(elements, list):
        return []
    named = [name for element in elements if isinstance(element, dict) for name in table_names(element)]
    return list(dict.fromkeys(named))


def common_members(bound: Bound, body: Body, capacity_detail: str | None) -> Body:
    """The members that all requests of a statement share."""
    common: Body = {"TableName": bound.statement.table}
    if capacity_detail is not None:
        common["ReturnConsumedCapacity"] = capacity_detail
    if bound.is_read:
        if body.get("ConsistentRead") is not None:
            common["ConsistentRead"] = body["ConsistentRead"]
    elif body.get("ReturnValuesOnConditionCheckFailure") is not None:
        common["ReturnValuesOnConditionCheckFailure"] = body["ReturnValuesOnConditionCheckFailure"]
    return common


def plan_write(bound: Bound) -> Write:
    """Raises ApiError. The statement is no SELECT and no EXISTS."""
    statement = bound.statement
    if isinstance(statement, Insert):
        return plan_insert(statement, bound.table, bound.parameters)
    if isinstance(statement, Update):
        return plan_update(statement, bound.table, bound.parameters)
    assert isinstance(statement, Delete)
    return plan_delete(statement, bound.table, bound.parameters)


async def write(bound: Bound, common: Body, context: Context) -> tuple[Item | None, Capacity | None]:
    """Carry out a write; what RETURNING asked for, and the capacity consumed. Raises ApiError."""
    plan = plan_write(bound)
    try:
        with reworded():
            answer = orjson.loads(await _OPERATIONS[plan.operation]({**plan.body, **common}, context))
    except ApiError as error:
        if isinstance(bound.statement, Insert) and error.kind.code == "ConditionalCheckFailedException":
            raise ApiError("DuplicateItemException", DUPLICATE) from None
        raise
    return answer.get("Attributes"), answer.get("ConsumedCapacity")


async def read_one(bound: Bound, common: Body, context: Context) -> ReadPage:
    """Carry out a SELECT of at most one item. Raises ApiError."""
    assert isinstance(bound.statement, Select)
    plan = plan_select(bound.statement, bound.table, bound.parameters)
    with reworded():
        return await read_page(plan, common, context, 0, None)


@contextmanager
def reworded() -> Iterator[None]:
    """Errors of the operations on which a statement rests do not name parameters of those."""
    try:
        yield
    except ApiError as error:
        if error.message is None or not _PARAMETER.match(error.message):
            raise
        raise ApiError(error.kind.code, _PARAMETER.sub("", error.message, count=1), **error.details) from None


def _answer(page: ReadPage, token: str | None) -> bytes:
    answer: dict[str, Any] = {"Items": page.items}
    if token is not None:
        answer["NextToken"] = token
    if page.last_key is not None:
        answer["LastEvaluatedKey"] = page.last_key
    if page.capacity is not None:
        answer["ConsumedCapacity"] = page.capacity
    return orjson.dumps(answer)
