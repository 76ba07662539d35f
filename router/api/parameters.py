"""Rules about a request's parameters that hold for several operations, before any table is looked at.

The order is the service's: parameters that exclude one another, then placeholders without an expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from geodyne.errors import validation
from geodyne.expressions import check_expressions

Body = dict[str, Any]


class Parameters(NamedTuple):
    """What an operation's parameters are: expressions and their legacy forms, in the order in which it lists them."""

    expressions: tuple[str, ...]
    with_values: tuple[str, ...]  # those expressions that can use ExpressionAttributeValues
    legacy: tuple[str, ...]
    attention: frozenset[str]  # a request without any of these needs no look at the rules below


def parameters(*, expressions: Iterable[str] = (), legacy: Iterable[str] = ()) -> Parameters:
    placeholders = ("ExpressionAttributeNames", "ExpressionAttributeValues") if expressions else ()
    return Parameters(
        tuple(expressions),
        tuple(name for name in expressions if name != "ProjectionExpression"),
        tuple(legacy),
        frozenset((*legacy, *placeholders)),
    )


def check_parameters(body: Mapping[str, Any], rules: Parameters) -> bool:
    """Whether there are legacy parameters. Raises ValidationException for parameters that exclude one another."""
    if rules.attention.isdisjoint(body):
        return False
    expressions = [name for name in rules.expressions if body.get(name) is not None]
    legacy = [name for name in rules.legacy if body.get(name) is not None]
    if body.get("KeyConditionExpression") is None:
        # As before there were key condition expressions: KeyConditions go with the other expressions.
        excluding = [name for name in legacy if name != "KeyConditions"]
    else:
        excluding = legacy
    if expressions and excluding:
        raise validation(
            "Can not use both expression and non-expression parameters in the same request: "
            f"Non-expression parameters: {{{', '.join(excluding)}}} Expression parameters: {{{', '.join(expressions)}}}"
        )
    if rules.expressions and not expressions:
        check_expressions(
            names=body.get("ExpressionAttributeNames"),
            values=body.get("ExpressionAttributeValues") if rules.with_values else None,
            offered=rules.with_values,
        )
    return bool(legacy)
