"""The steps of a sequence, as values, and the requests that they are sent as.

`repr` of a step is Python that makes it again: a failing sequence is printed that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.model import legacy, statements
from tests.model.expressions import Path, Tree, Writer
from tests.model.schema import TABLES
from tests.model.values import Item, Value

Body = dict[str, Any]


class Put(NamedTuple):
    table: str
    item: Item
    condition: Tree | None = None
    returns: str = "NONE"
    show_failed: bool = False  # ReturnValuesOnConditionCheckFailure=ALL_OLD
    legacy: bool = False  # sent with Expected and the like; see tests.model.legacy


class Update(NamedTuple):
    table: str
    key: Item
    changes: tuple[Tree, ...]
    condition: Tree | None = None
    returns: str = "NONE"
    show_failed: bool = False
    legacy: bool = False


class Delete(NamedTuple):
    table: str
    key: Item
    condition: Tree | None = None
    returns: str = "NONE"
    show_failed: bool = False
    legacy: bool = False


class Check(NamedTuple):
    """ConditionCheck, only inside a transaction."""

    table: str
    key: Item
    condition: Tree
    show_failed: bool = False


Write = Put | Update | Delete | Check


class Get(NamedTuple):
    table: str
    key: Item
    projection: tuple[Path, ...] | None = None
    legacy: bool = False


class Query(NamedTuple):
    """All pages.

    `more` are equalities on the keys after the first, in their order; `sort` is a comparison, "between" or "begins"
    with its values, on the next key.
    """

    table: str
    index_name: str | None
    partition: Value
    sort: tuple[Any, ...] | None = None
    filter: Tree | None = None
    projection: tuple[Path, ...] | None = None
    backward: bool = False
    limit: int = 0
    select: str | None = None
    more: tuple[Value, ...] = ()
    legacy: bool = False


class Scan(NamedTuple):
    """All pages of all segments."""

    table: str
    index_name: str | None = None
    filter: Tree | None = None
    projection: tuple[Path, ...] | None = None
    limit: int = 0
    segments: int = 1
    legacy: bool = False


class BatchGet(NamedTuple):
    keys: tuple[tuple[str, Item], ...]


class BatchWrite(NamedTuple):
    """Puts and deletes, without conditions."""

    writes: tuple[Put | Delete, ...]


class TransactWrite(NamedTuple):
    writes: tuple[Write, ...]


class TransactGet(NamedTuple):
    gets: tuple[Get, ...]


class Statement(NamedTuple):
    """PartiQL for one item: a Put inserts, a Get selects, an Update or Delete has at most a comparison as condition."""

    of: Put | Get | Update | Delete


Step = Put | Update | Delete | Get | Query | Scan | BatchGet | BatchWrite | TransactWrite | TransactGet | Statement
CAPACITY = {"ReturnConsumedCapacity": "INDEXES"}


def request_of(step: Step) -> tuple[str, Body]:
    """Operation and body; of a Query or Scan the first page of the first segment."""
    if isinstance(step, Put | Update | Delete):
        returns = {"ReturnValues": step.returns} if step.returns != "NONE" else {}
        return f"{type(step).__name__}Item", {**_write(step), **returns, **CAPACITY}
    if isinstance(step, Get):
        return "GetItem", {**_get(step), "ConsistentRead": True, **CAPACITY}
    if isinstance(step, Query):
        return "Query", _query(step)
    if isinstance(step, Scan):
        return "Scan", _scan(step)
    if isinstance(step, BatchGet):
        tables: Body = {}
        for table, key in step.keys:
            tables.setdefault(table, {"Keys": [], "ConsistentRead": True})["Keys"].append(key)
        return "BatchGetItem", {"RequestItems": tables, **CAPACITY}
    if isinstance(step, BatchWrite):
        writes: dict[str, list[Body]] = {}
        for write in step.writes:
            put = {"PutRequest": {"Item": write.item}} if isinstance(write, Put) else None
            element = put or {"DeleteRequest": {"Key": write.key}}  # type: ignore[union-attr]
            writes.setdefault(write.table, []).append(element)
        return "BatchWriteItem", {"RequestItems": writes, **CAPACITY}
    if isinstance(step, TransactWrite):
        names = {Put: "Put", Update: "Update", Delete: "Delete", Check: "ConditionCheck"}
        return "TransactWriteItems", {"TransactItems": [{names[type(w)]: _write(w)} for w in step.writes], **CAPACITY}
    if isinstance(step, Statement):
        return "ExecuteStatement", _statement(step.of)
    return "TransactGetItems", {"TransactItems": [{"Get": _get(get)} for get in step.gets], **CAPACITY}


def _statement(step: Put | Get | Update | Delete) -> Body:
    if isinstance(step, Put):
        return statements.insert(step.table, step.item)
    if isinstance(step, Get):
        return statements.select(step.table, step.key, step.projection)
    if isinstance(step, Update):
        return statements.update(step.table, step.key, step.changes, step.condition, step.returns)
    return statements.delete(step.table, step.key, step.condition, step.returns)


def _write(step: Write) -> Body:
    writer = Writer()
    body: Body = {"TableName": step.table}
    body |= {"Item": step.item} if isinstance(step, Put) else {"Key": step.key}
    if not isinstance(step, Check) and step.legacy:
        changes = legacy.updates(step.changes) if isinstance(step, Update) else {}
        return {**body, **changes, **legacy.conditions("Expected", step.condition)}
    if isinstance(step, Update) and step.changes:
        body["UpdateExpression"] = writer.update(step.changes)
    if step.condition is not None:
        body["ConditionExpression"] = writer.condition(step.condition)
    if step.show_failed:
        body["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return {**body, **writer.members()}


def _get(step: Get) -> Body:
    if step.legacy:
        return {"TableName": step.table, "Key": step.key, **legacy.attributes(step.projection)}
    writer = Writer()
    shown = {} if step.projection is None else {"ProjectionExpression": writer.projection(step.projection)}
    return {"TableName": step.table, "Key": step.key, **shown, **writer.members()}


def _query(step: Query) -> Body:
    keys = keys_of(step)
    writer = Writer()
    trees: list[Tree] = [("=", ("path", (keys[0],)), ("value", step.partition)), *key_conditions(step)]
    body: Body = {"KeyConditions": dict(map(legacy.term, trees))}
    if not step.legacy:
        body = {"KeyConditionExpression": " AND ".join(map(writer.condition, trees))}
    body |= _search(step, writer)
    if step.backward:
        body["ScanIndexForward"] = False
    if step.select is not None:
        body["Select"] = step.select
    return {**body, **writer.members()}


def keys_of(step: Query) -> tuple[str, ...]:
    """The keys of what is queried, the partition's first."""
    table = TABLES[step.table]
    return table.keys if step.index_name is None else table.find_index(step.index_name).keys


def key_conditions(step: Query) -> list[Tree]:
    """The trees of the conditions on the keys after the first."""
    keys = keys_of(step)[1:]
    trees: list[Tree] = [("=", ("path", (key,)), ("value", value)) for key, value in zip(keys, step.more, strict=False)]
    return trees if step.sort is None else [*trees, _sort_condition(keys[len(step.more)], step.sort)]


def _sort_condition(key: str, sort: tuple[Any, ...]) -> Tree:
    kind, *values = sort
    if kind == "begins":
        return ("begins", (key,), values[0])
    return (kind, ("path", (key,)), *(("value", value) for value in values))


def _scan(step: Scan) -> Body:
    writer = Writer()
    body = _search(step, writer)
    if step.segments > 1:
        body |= {"Segment": 0, "TotalSegments": step.segments}
    return {**body, **writer.members()}


def _search(step: Query | Scan, writer: Writer) -> Body:
    body: Body = {"TableName": step.table, **CAPACITY}
    if step.index_name is not None:
        body["IndexName"] = step.index_name
    if step.index_name is None or not TABLES[step.table].find_index(step.index_name).is_global:
        body["ConsistentRead"] = True
    if step.legacy:
        conditions = legacy.conditions("QueryFilter" if isinstance(step, Query) else "ScanFilter", step.filter)
        shown = legacy.attributes(step.projection)
        return {**body, **conditions, **shown, **({"Limit": step.limit} if step.limit else {})}
    if step.filter is not None:
        body["FilterExpression"] = writer.condition(step.filter)
    if step.projection is not None:
        body["ProjectionExpression"] = writer.projection(step.projection)
    if step.limit:
        body["Limit"] = step.limit
    return body


def reads_a_global_index(step: Step) -> bool:
    """Whether the answer follows the table only after a while."""
    return (
        isinstance(step, Query | Scan)
        and step.index_name is not None
        and TABLES[step.table].find_index(step.index_name).is_global
    )


def shown(steps: Sequence[Step]) -> str:
    """A sequence as text, one step a line."""
    return "[\n" + "".join(f"    {step!r},\n" for step in steps) + "]"
