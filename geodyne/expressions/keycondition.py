"""Key conditions: the part of the condition language that a Query can look up.

    key condition = term [ AND term ]
    term          = name comparator :value | :value comparator name
                  | name BETWEEN :value AND :value
                  | begins_with "(" name "," :value ")"

One term is equality on the partition key, the other, if any, anything but "<>" on the sort key. An index may have
several attributes of either kind: equality on all of the partition key, and on those of the sort key from the left, of
which the last may have any operator. Sources: Developer Guide, "Key condition expressions for the Query operation",
"Multi-attribute keys pattern"; messages as the service has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from geodyne.errors import ApiError, validation
from geodyne.expressions.tree import (
    And,
    Between,
    Call,
    Comparison,
    Condition,
    ConditionNode,
    Membership,
    Not,
    Operand,
    Or,
    Path,
    Value,
    resolved,
)
from geodyne.messages import AttributeValue
from geodyne.model.indexkeys import IndexSchema, SortCondition
from geodyne.model.keys import KeySchema, check_key_length
from geodyne.model.ranges import KeyCondition

_MIRRORED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_UNSUPPORTED = "Query key condition not supported"
_TERMS_MAX = 2  # of a key of one attribute, or two


class Term(NamedTuple):
    """One condition on one attribute, the attribute on the left; `operator` as in KeyCondition."""

    operator: str
    low: str  # placeholders of values
    high: str | None = None


def key_terms(tree: Condition, names: Mapping[str, str]) -> dict[str, Term]:
    """The terms of a key condition by attribute name. Raises ApiError for what no key condition may hold."""
    terms: dict[str, Term] = {}
    for node in _conjuncts(tree.root):
        name, term = _term(node, names)
        if name in terms:
            raise validation("KeyConditionExpressions must only contain one condition per key")
        terms[name] = term
    return terms


def key_condition(
    tree: Condition, names: Mapping[str, str], values: Mapping[str, AttributeValue], schema: KeySchema
) -> KeyCondition:
    """The condition on the keys of a table or index. `values` are canonical. Raises ApiError (ValidationException)."""
    terms = key_terms(tree, names)
    if len(terms) > _TERMS_MAX:
        raise validation("Conditions can be of length 1 or 2 only")
    on_hash = terms.pop(schema.hash_name, None)
    if on_hash is None:
        raise _missed(schema.hash_name)
    if on_hash.operator != "=":
        raise validation(_UNSUPPORTED)
    hash_value = _key_value((schema.hash_name, schema.hash_type), values[on_hash.low], is_hash=True)
    if not terms:
        return KeyCondition(hash_value)
    if schema.range_name is None:
        raise validation(_UNSUPPORTED)
    on_range = terms.get(schema.range_name)
    if on_range is None:
        raise _missed(schema.range_name)
    low, high = _bounds((schema.range_name, schema.range_type or ""), on_range, values)
    return KeyCondition(hash_value, on_range.operator, low, high)


def index_condition(
    tree: Condition, names: Mapping[str, str], values: Mapping[str, AttributeValue], schema: IndexSchema
) -> tuple[list[AttributeValue], SortCondition]:
    """The values of an index's hash attributes, in order, and the condition on its sort attributes.

    `values` are canonical. Raises ApiError (ValidationException)."""
    terms = key_terms(tree, names)
    if len(terms) > max(_TERMS_MAX, len(schema.hash_keys) + len(schema.range_keys)):
        raise validation("Conditions can be of length 1 or 2 only")
    hash_values = []
    for name, key_type in schema.hash_keys:
        term = terms.pop(name, None)
        if term is None:
            raise _missed(name)
        if term.operator != "=":
            raise validation(_UNSUPPORTED)
        hash_values.append(_key_value((name, key_type), values[term.low], is_hash=True))
    equal: list[AttributeValue] = []
    for name, key_type in schema.range_keys:
        if not terms:
            break
        term = terms.pop(name, None)
        if term is None:
            skipped = any(other in terms for other, _ in schema.range_keys)
            raise validation(_UNSUPPORTED) if skipped else _missed(name)
        low, high = _bounds((name, key_type), term, values)
        if term.operator != "=":
            if terms:
                raise validation(_UNSUPPORTED)
            return hash_values, SortCondition(tuple(equal), term.operator, low, high)
        equal.append(low)
    if terms:
        raise validation(_UNSUPPORTED)
    return hash_values, SortCondition(tuple(equal))


def _missed(name: str) -> ApiError:
    return validation(f"Query condition missed key schema element: {name}")


def _bounds(
    key: tuple[str, str], term: Term, values: Mapping[str, AttributeValue]
) -> tuple[AttributeValue, AttributeValue | None]:
    low = _key_value(key, values[term.low], is_hash=False)
    return low, None if term.high is None else _key_value(key, values[term.high], is_hash=False)


def _key_value(key: tuple[str, str], value: AttributeValue, *, is_hash: bool) -> AttributeValue:
    name, key_type = key
    if key_type not in value:
        raise validation(
            "One or more parameter values were invalid: Condition parameter type does not match schema type"
        )
    check_key_length(name, key_type, value, is_hash=is_hash)
    return value


def _conjuncts(node: ConditionNode) -> Iterator[ConditionNode]:
    if isinstance(node, And):
        for part in node.parts:
            yield from _conjuncts(part)
    else:
        yield node


def _term(node: ConditionNode, names: Mapping[str, str]) -> tuple[str, Term]:
    if isinstance(node, Comparison) and node.operator in _MIRRORED:
        operator, left, right = node.operator, node.left, node.right
        if isinstance(left, Value):
            operator, left, right = _MIRRORED[operator], right, left
        return _attribute(left, names, right), Term(operator, _placeholder(right))
    if isinstance(node, Between):
        name = _attribute(node.operand, names, node.low, node.high)
        return name, Term("BETWEEN", _placeholder(node.low), _placeholder(node.high))
    if isinstance(node, Call) and node.function == "begins_with":
        first, second = node.arguments
        return _attribute(first, names, second), Term("begins_with", _placeholder(second))
    raise validation(f"Invalid operator used in KeyConditionExpression: {_operator_name(node)}")


def _operator_name(node: ConditionNode) -> str:
    if isinstance(node, Comparison):
        return node.operator
    if isinstance(node, Call):
        return node.function
    return {Or: "OR", Not: "NOT", Membership: "IN"}[type(node)]


def _attribute(operand: Operand, names: Mapping[str, str], *others: Operand) -> str:
    """The attribute that a term is about."""
    if any(isinstance(each, Call) for each in (operand, *others)):
        raise validation("KeyConditionExpressions cannot contain nested operations")
    if not isinstance(operand, Path):
        raise validation("Invalid condition in KeyConditionExpression: No key attribute specified")
    if any(isinstance(other, Path) for other in others):
        raise validation("Invalid condition in KeyConditionExpression: Multiple attribute names used in one condition")
    path = resolved(operand, names)
    if len(path) > 1:
        raise validation(
            "Invalid KeyConditionExpression: KeyConditionExpressions cannot have conditions on nested attributes"
        )
    return str(path[0])


def _placeholder(operand: Operand) -> str:
    assert isinstance(operand, Value)  # _attribute has refused everything else
    return operand.name
