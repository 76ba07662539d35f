"""What a statement asks of its table: bodies of the requests that the rest of the router carries out.

A SELECT whose WHERE names the whole key is one GetItem; one that confines the partition key to a few values, by
equality, IN or OR, is a Query for each of them; any other is a Scan (Developer Guide, "PartiQL select statements for
DynamoDB"). A write is one request for the item that WHERE names by its whole key, on the condition that the rest of
WHERE holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from geodyne.catalog import IndexRecord
from geodyne.errors import validation
from geodyne.limits import PARTIQL_HASH_CHOICES_MAX
from geodyne.messages import AttributeValue, Item
from geodyne.model.keys import encode_sort
from router.api.partiql.conditions import Writer, choices_of, too_many_choices
from router.api.partiql.tree import (
    And,
    Between,
    Binary,
    Call,
    Delete,
    Insert,
    MapOf,
    Membership,
    Node,
    Or,
    Parameter,
    Path,
    PathElement,
    Select,
    Update,
)
from router.api.partiql.values import Parameters, as_written, constant, is_constant, unsupported
from router.api.tablerecords import Table, no_index

Body = dict[str, Any]
Paths = tuple[tuple[PathElement, ...], ...]

_MIRRORED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_RANGE_OPERATORS = frozenset(("<", "<=", ">", ">="))
_NO_WHOLE_KEY = "Where clause does not contain a mandatory equality on all key attributes"


class Write(NamedTuple):
    """One write. `body` fits PutItem, UpdateItem or DeleteItem, as `operation` says."""

    operation: str
    body: Body


class Merge(NamedTuple):
    """How the items of several queries come in one order: by the sort attributes (name, type), ties as the queries are
    ordered."""

    ranges: tuple[tuple[str, str], ...]
    descending: bool


class Read(NamedTuple):
    """A SELECT. `key` is set when it names one item; `bodies` are Query requests, or one Scan request (`scans`).

    `shaped` are the paths that the answer's items are made of, when a projection expression alone does not do it.
    """

    bodies: tuple[Body, ...]
    scans: bool = False
    key: Item | None = None
    shaped: Paths | None = None
    merged: Merge | None = None
    paged: bool = False  # several values of the partition key: pages are short
    key_names: tuple[str, ...] = ()  # what an ExclusiveStartKey consists of


class _Keys(NamedTuple):
    """Names and types of the key attributes of what is read, and the names of the table's."""

    hashes: tuple[tuple[str, str], ...]
    ranges: tuple[tuple[str, str], ...]
    table: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in (*self.hashes, *self.ranges))


# --- writes ---------------------------------------------------------------------------------------------


def plan_insert(statement: Insert, table: Table, parameters: Parameters) -> Write:
    """A put on the condition that there is no such item. Raises ApiError."""
    if not isinstance(statement.value, MapOf | Parameter):
        raise unsupported(statement.value)
    item = as_written(statement.value, parameters).get("M")
    if item is None:
        raise unsupported(statement.value)
    names = {"#0": table.record.hash_key}
    condition = "attribute_not_exists(#0)"
    return Write("PutItem", {"Item": item, "ConditionExpression": condition, "ExpressionAttributeNames": names})


def plan_update(statement: Update, table: Table, parameters: Parameters) -> Write:
    """An update of the item if it exists and the rest of WHERE holds. Raises ApiError."""
    key, rest = _whole_key(statement.where, table, parameters)
    writer = Writer(parameters)
    body: Body = {
        "Key": key,
        "UpdateExpression": writer.update(statement.changes),
        "ConditionExpression": _existing(table, rest, writer),
        "ReturnValues": statement.returning,
    }
    return Write("UpdateItem", body | writer.members())


def plan_delete(statement: Delete, table: Table, parameters: Parameters) -> Write:
    """A delete of the item if the rest of WHERE holds; to delete what is not there succeeds. Raises ApiError."""
    if statement.returning not in ("NONE", "ALL_OLD"):
        raise validation("Delete statements only support RETURNING ALL OLD *")
    key, rest = _whole_key(statement.where, table, parameters)
    body: Body = {"Key": key, "ReturnValues": statement.returning}
    writer = Writer(parameters)
    condition = writer.conjunction(rest)
    if condition is not None:
        absent = f"attribute_not_exists({writer.name(table.record.hash_key)})"
        body["ConditionExpression"] = f"{absent} OR ({condition})"
        body |= writer.members()
    return Write("DeleteItem", body)


def plan_check(select: Select, table: Table, parameters: Parameters) -> Body:
    """The condition check of an EXISTS: the item exists and the rest of WHERE holds. Raises ApiError.

    Developer Guide, "Using the EXISTS function": the SELECT "must specify a full primary key and one other condition".
    """
    key, rest = _whole_key(select.where, table, parameters)
    if not rest or select.index is not None:
        raise validation("EXISTS must specify the full primary key of a table and one other condition")
    writer = Writer(parameters)
    return {"Key": key, "ConditionExpression": _existing(table, rest, writer)} | writer.members()


class Point(NamedTuple):
    """A SELECT of one item: its key, the condition under which it is found, the paths of the answer's item."""

    key: Item
    condition: str | None
    members: Body
    paths: Paths | None


def plan_point(select: Select, table: Table, parameters: Parameters) -> Point:
    """How to read the one item of a SELECT for which `names_one_item` holds. Raises ApiError."""
    key, rest = _bound_key(select.where, table.key_names, parameters)
    writer = Writer(parameters)
    condition = writer.conjunction(rest)
    return Point(key, condition, writer.members(), _projected(select))


def _existing(table: Table, rest: list[Node], writer: Writer) -> str:
    condition = f"attribute_exists({writer.name(table.record.hash_key)})"
    others = writer.conjunction(rest)
    if others is None:
        return condition
    return f"{condition} AND ({others})" if isinstance(rest[0], Or) and len(rest) == 1 else f"{condition} AND {others}"


def _whole_key(where: Node | None, table: Table, parameters: Parameters) -> tuple[Item, list[Node]]:
    key, rest = _bound_key(where, table.key_names, parameters)
    if len(key) != len(table.key_names):
        raise validation(_NO_WHOLE_KEY)
    return key, rest


def _bound_key(where: Node | None, names: tuple[str, ...], parameters: Parameters) -> tuple[Item, list[Node]]:
    """The attributes among `names` that WHERE equates with a constant, and what else it says."""
    key: Item = {}
    rest: list[Node] = []
    for node in _conjuncts(where):
        test = _comparison(node)
        if test is not None and test[0] == "=" and test[1] in names and test[1] not in key:
            key[test[1]] = constant(test[2], parameters)
        else:
            rest.append(node)
    return key, rest


# --- reads ----------------------------------------------------------------------------------------------


def plan_select(statement: Select, table: Table, parameters: Parameters) -> Read:
    """The requests that answer a SELECT. Raises ApiError."""
    keys = _keys_of(statement, table)
    paths = _projected(statement)
    order = _order(statement, keys)
    if statement.index is None and not statement.order:
        key, rest = _bound_key(statement.where, table.key_names, parameters)
        if len(key) == len(table.key_names) and not rest and _fits(keys, key):
            writer = Writer(parameters)
            body = {"Key": key} | _projection(writer, paths)
            return Read((body | writer.members(),), key=key, shaped=_shape(paths))
    conjuncts = list(_conjuncts(statement.where))
    choices = _hash_choices(conjuncts, keys, parameters)
    if choices is None:
        if statement.order:
            raise validation(
                "Must have at least one non-optional hash key condition in WHERE clause when using ORDER BY clause."
            )
        return _scan(statement, conjuncts, paths, parameters)
    return _queries(statement, conjuncts, choices, keys, order, paths, parameters)


def names_one_item(statement: Select, table: Table, parameters: Parameters) -> bool:
    """Whether WHERE equates the table's whole key with constants, which batches and transactions demand."""
    return statement.index is None and len(_bound_key(statement.where, table.key_names, parameters)[0]) == len(
        table.key_names
    )


def _keys_of(statement: Select, table: Table) -> _Keys:
    if statement.index is None:
        record = table.record
        ranges = () if record.range_key is None else ((record.range_key, record.range_type or ""),)
        return _Keys(((record.hash_key, record.hash_type),), ranges, table.key_names)
    index: IndexRecord | None = table.record.index(statement.index)
    if index is None:
        raise no_index(statement.index)
    return _Keys(index.hash_keys, index.range_keys, table.key_names)


def _fits(keys: _Keys, key: Item) -> bool:
    return all(key_type in key[name] for name, key_type in (*keys.hashes, *keys.ranges))


def _projected(statement: Select) -> Paths | None:
    if statement.projection is None:
        return None
    paths: dict[tuple[PathElement, ...], None] = {}
    for node in statement.projection:
        if not isinstance(node, Path):
            raise validation(f"Unexpected path component at {getattr(node, 'at', '1:8:1')}")
        paths[node.elements] = None
    return tuple(paths)


def _projection(writer: Writer, paths: Paths | None, more: tuple[str, ...] = ()) -> Body:
    """The projection of the attributes that the paths begin with, from which the answer's items are made."""
    if paths is None:
        return {}
    heads = dict.fromkeys((*(str(path[0]) for path in paths), *more))
    return {"ProjectionExpression": ", ".join(map(writer.name, heads))}


def _shape(paths: Paths | None) -> Paths | None:
    return None if paths is None or all(len(path) == 1 for path in paths) else paths


def _order(statement: Select, keys: _Keys) -> dict[str, bool]:
    """Whether descending, by key attribute."""
    order: dict[str, bool] = {}
    if statement.order and statement.where is None:
        raise validation("Must have WHERE clause in the statement when using ORDER BY clause.")
    for entry in statement.order:
        path = entry.path
        if not isinstance(path, Path):
            raise unsupported(path)
        name = ".".join(map(str, path.elements))
        if name not in keys.names:
            raise validation(
                f"Variable reference {name} in ORDER BY clause must be part of the primary key at {path.at}"
            )
        order[name] = entry.descending
    if len({order[name] for name, _ in keys.ranges if name in order}) > 1:
        raise validation("Sort key attributes in ORDER BY clause must have one direction")
    return order


def _scan(statement: Select, conjuncts: list[Node], paths: Paths | None, parameters: Parameters) -> Read:
    writer = Writer(parameters)
    body = _projection(writer, paths)
    condition = writer.conjunction(conjuncts)
    if condition is not None:
        body["FilterExpression"] = condition
    if statement.index is not None:
        body["IndexName"] = statement.index
    return Read((body | writer.members(),), scans=True, shaped=_shape(paths))


class _Choices(NamedTuple):
    """Values of the partition key, one for each attribute that makes it; `used` are the conjuncts they replace."""

    values: list[tuple[AttributeValue, ...]]
    used: list[Node]


def _hash_choices(conjuncts: list[Node], keys: _Keys, parameters: Parameters) -> _Choices | None:
    per_attribute: list[list[AttributeValue]] = []
    used: list[Node] = []
    for name, _ in keys.hashes:
        found: tuple[Node, list[AttributeValue]] | None = None
        for node in conjuncts:
            values = _values_of(node, name, parameters)
            if values is not None and (found is None or len(values) < len(found[1])):
                found = node, values
        if found is None:
            return None
        per_attribute.append(found[1])
        if _only_about(found[0], name):
            used.append(found[0])
    combined: list[tuple[AttributeValue, ...]] = [()]
    for options in per_attribute:
        if len(combined) * len(options) > PARTIQL_HASH_CHOICES_MAX:
            raise too_many_choices(len(combined) * len(options))
        combined = [(*head, option) for head in combined for option in options]
    return _Choices(combined, used)


def _values_of(node: Node, name: str, parameters: Parameters) -> list[AttributeValue] | None:
    """The values to which a condition confines an attribute, without repetition; None if it does not."""
    if isinstance(node, And):
        options = [values for part in node.parts if (values := _values_of(part, name, parameters)) is not None]
        return min(options, key=len, default=None)
    if isinstance(node, Or):
        found: list[AttributeValue] = []
        for part in node.parts:
            values = _values_of(part, name, parameters)
            if values is None:
                return None
            found += [value for value in values if value not in found]
        return found
    if isinstance(node, Membership):
        if not isinstance(node.operand, Path) or node.operand.elements != (name,):
            return None
        choices = choices_of(node)
        if len(choices) > PARTIQL_HASH_CHOICES_MAX:
            raise too_many_choices(len(choices))
        if not all(map(is_constant, choices)):
            return None
        return _distinct(constant(choice, parameters) for choice in choices)
    test = _comparison(node)
    if test is None or test[0] != "=" or test[1] != name:
        return None
    return [constant(test[2], parameters)]


def _distinct(values: Iterable[AttributeValue]) -> list[AttributeValue]:
    found: list[AttributeValue] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _only_about(node: Node, name: str) -> bool:
    """Whether a condition that confines an attribute says nothing else."""
    if isinstance(node, And):
        return False
    return all(_only_about(part, name) for part in node.parts) if isinstance(node, Or) else True


def _queries(
    statement: Select,
    conjuncts: list[Node],
    choices: _Choices,
    keys: _Keys,
    order: dict[str, bool],
    paths: Paths | None,
    parameters: Parameters,
) -> Read:
    """A Query for each value of the partition key. `order` is that of ORDER BY: whether descending, by attribute."""
    rest = [node for node in conjuncts if not any(node is used for used in choices.used)]
    on_sort = _sort_conditions(rest, keys)
    rest = [node for node in rest if not any(node is used for used in on_sort)]
    merged = _merge(order, keys) if len(choices.values) > 1 else None
    key_names = tuple(dict.fromkeys((*keys.names, *keys.table)))
    bodies = []
    for values in _ordered(choices.values, keys, order):
        writer = Writer(parameters)
        terms = [f"{writer.name(name)} = {writer.value(value)}" for (name, _), value in _pairs(keys, values)]
        terms += [writer.condition(node) for node in on_sort]
        body: Body = {"KeyConditionExpression": " AND ".join(terms)}
        body |= _projection(writer, paths, () if merged is None else key_names)
        condition = writer.conjunction(rest)
        if condition is not None:
            body["FilterExpression"] = condition
        if statement.index is not None:
            body["IndexName"] = statement.index
        if any(descending for name, descending in order.items() if name in dict(keys.ranges)):
            body["ScanIndexForward"] = False
        bodies.append(body | writer.members())
    shaped = _shape(paths) if merged is None else paths
    return Read(tuple(bodies), shaped=shaped, merged=merged, paged=len(bodies) > 1, key_names=key_names)


def _pairs(keys: _Keys, values: tuple[AttributeValue, ...]) -> Iterator[tuple[tuple[str, str], AttributeValue]]:
    return zip(keys.hashes, values, strict=True)


def _merge(order: dict[str, bool], keys: _Keys) -> Merge | None:
    """How several queries are merged: only when a sort attribute is what ORDER BY names first."""
    first = next(iter(order), None)
    if first is None or first not in dict(keys.ranges):
        return None
    return Merge(keys.ranges, order[first])


def _ordered(
    values: list[tuple[AttributeValue, ...]], keys: _Keys, order: dict[str, bool]
) -> list[tuple[AttributeValue, ...]]:
    """The values of the partition key in the order of ORDER BY, or as they were written."""
    named = [(at, name) for at, (name, _) in enumerate(keys.hashes) if name in order]
    for at, name in reversed(named):
        key_type = keys.hashes[at][1]
        if all(key_type in value[at] for value in values):
            values = sorted(values, key=lambda value: encode_sort(key_type, value[at]), reverse=order[name])
    return values


def _sort_conditions(rest: list[Node], keys: _Keys) -> list[Node]:
    """The conditions that a Query can look up: equality on leading sort attributes, then one range."""
    found: list[Node] = []
    for name, _ in keys.ranges:
        equal = next((node for node in rest if _sort_operator(node, name) == "="), None)
        if equal is not None:
            found.append(equal)
            continue
        ranged = next((node for node in rest if _sort_operator(node, name) not in (None, "=")), None)
        if ranged is not None:
            found.append(ranged)
        break
    return found


def _sort_operator(node: Node, name: str) -> str | None:
    test = _comparison(node)
    if test is not None:
        return test[0] if test[1] == name and (test[0] == "=" or test[0] in _RANGE_OPERATORS) else None
    if isinstance(node, Between) and _is_attribute(node.operand, name):
        return "BETWEEN" if is_constant(node.low) and is_constant(node.high) else None
    if isinstance(node, Call) and node.function == "begins_with" and len(node.arguments) == 2:
        first, second = node.arguments
        return "begins_with" if _is_attribute(first, name) and is_constant(second) else None
    return None


# --- reading WHERE --------------------------------------------------------------------------------------


def _conjuncts(node: Node | None) -> Iterator[Node]:
    if isinstance(node, And):
        for part in node.parts:
            yield from _conjuncts(part)
    elif node is not None:
        yield node


def _comparison(node: Node) -> tuple[str, str, Node] | None:
    """Operator, attribute and constant of a comparison between a top-level attribute and a constant."""
    if not isinstance(node, Binary) or node.operator not in _MIRRORED:
        return None
    for operator, left, right in (
        (node.operator, node.left, node.right),
        (_MIRRORED[node.operator], node.right, node.left),
    ):
        if isinstance(left, Path) and len(left.elements) == 1 and is_constant(right):
            return operator, str(left.elements[0]), right
    return None


def _is_attribute(node: Node, name: str) -> bool:
    return isinstance(node, Path) and node.elements == (name,)
