"""Rules about a request's parameters that hold for several operations, before any table is looked at.

The order is the service's: parameters that exclude one another, then placeholders without an expression, then
what is known but not supported here, which is refused by name and never ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from geodyne.errors import ApiError, validation
from geodyne.expressions import check_expressions

Body = dict[str, Any]


class Parameters(NamedTuple):
    """What an operation's parameters are: expressions, their legacy forms, and what is refused by name."""

    expressions: tuple[str, ...]
    with_values: tuple[str, ...]  # those expressions that can use ExpressionAttributeValues
    legacy: tuple[str, ...]
    refused: tuple[str, ...]
    attention: frozenset[str]  # a request without any of these needs no look at the rules below


def parameters(
    *, expressions: Iterable[str] = (), legacy: Iterable[str] = (), refused: Iterable[str] = ()
) -> Parameters:
    placeholders = ("ExpressionAttributeNames", "ExpressionAttributeValues") if expressions else ()
    return Parameters(
        tuple(expressions),
        tuple(name for name in expressions if name != "ProjectionExpression"),
        tuple(legacy),
        tuple(refused),
        frozenset((*legacy, *refused, *placeholders)),
    )


def check_parameters(body: Mapping[str, Any], rules: Parameters) -> None:
    """Raises ValidationException for parameters that exclude one another, or that are not supported."""
    if rules.attention.isdisjoint(body):
        return
    expressions = [name for name in rules.expressions if body.get(name) is not None]
    legacy = [name for name in rules.legacy if body.get(name) is not None]
    if expressions and legacy:
        raise validation(
            "Can not use both expression and non-expression parameters in the same request: "
            f"Non-expression parameters: {{{', '.join(legacy)}}} Expression parameters: {{{', '.join(expressions)}}}"
        )
    if rules.expressions and not expressions:
        check_expressions(
            names=body.get("ExpressionAttributeNames"),
            values=body.get("ExpressionAttributeValues") if rules.with_values else None,
            offered=rules.with_values,
        )
    for name in (*legacy, *rules.refused):
        if body.get(name) is not None:
            raise not_supported(name)


def not_supported(name: str) -> ApiError:
    return validation(f"One or more parameter values were invalid: {name} is not supported")
