"""The older form of requests, which has lists of comparisons in the place of expressions.

Only trees that it can express: comparisons of whole attributes, each attribute once, all joined by one AND or OR.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.model.expressions import Path, Tree
from tests.model.values import Value

_COMPARISONS = {
    "=": "EQ",
    "<>": "NE",
    "<": "LT",
    "<=": "LE",
    ">": "GT",
    ">=": "GE",
    "exists": "NOT_NULL",
    "not_exists": "NULL",
    "begins": "BEGINS_WITH",
    "contains": "CONTAINS",
    "between": "BETWEEN",
    "in": "IN",
}


def conditions(member: str, tree: Tree | None) -> dict[str, Any]:
    """The member (Expected, QueryFilter ...) for a condition, with ConditionalOperator when that is an OR."""
    if tree is None:
        return {}
    joined = tree[0] in ("and", "or")
    terms = dict(map(term, tree[1:] if joined else (tree,)))
    return {member: terms, **({"ConditionalOperator": "OR"} if tree[0] == "or" else {})}


def term(tree: Tree) -> tuple[str, dict[str, Any]]:
    """The attribute's name and the comparison with it."""
    kind, left = tree[0], tree[1]
    name = left[1][0] if left[0] == "path" else left[0]
    values: list[Value] = []
    if kind in ("begins", "contains"):
        values = [tree[2]]
    elif kind == "in":
        values = [operand[1] for operand in tree[2]]
    elif kind not in ("exists", "not_exists"):
        values = [operand[1] for operand in tree[2:]]
    listed = {"AttributeValueList": values} if values else {}
    return name, {"ComparisonOperator": _COMPARISONS[kind], **listed}


def updates(changes: Sequence[Tree]) -> dict[str, Any]:
    """AttributeUpdates."""
    actions: dict[str, Any] = {}
    for change in changes:
        kind, name = change[0], change[1][0]
        if kind == "set":
            actions[name] = {"Action": "PUT", "Value": change[2][1]}
        elif kind == "remove":
            actions[name] = {"Action": "DELETE"}
        else:
            actions[name] = {"Action": kind.upper(), "Value": change[2]}
    return {"AttributeUpdates": actions}


def attributes(projection: Sequence[Path] | None) -> dict[str, Any]:
    return {} if projection is None else {"AttributesToGet": [path[0] for path in projection]}
