"""Rules about a request's parameters that hold for several operations, before any table is looked at.

The order is the service's: parameters that exclude one another, then placeholders without an expression, then
what is known but not supported here, which is refused by name and never ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from geodyne.errors import ApiError, validation

Body = dict[str, Any]

NO_VALUES_SUFFIX = {
    "PutItem": "ConditionExpression is null",
    "DeleteItem": "ConditionExpression is null",
    "UpdateItem": "UpdateExpression and ConditionExpression are null",
    "Query": "FilterExpression and KeyConditionExpression are null",
    "Scan": "FilterExpression is null",
}


class Parameters(NamedTuple):
    """What an operation's parameters are: expressions, their legacy forms, and what is refused by name."""

    operation: str
    expressions: tuple[str, ...]
    legacy: tuple[str, ...]
    refused: tuple[str, ...]
    attention: frozenset[str]  # a request without any of these needs no look at the rules below


def parameters(
    operation: str, *, expressions: Iterable[str] = (), legacy: Iterable[str] = (), refused: Iterable[str] = ()
) -> Parameters:
    placeholders = ("ExpressionAttributeNames", "ExpressionAttributeValues") if expressions else ()
    return Parameters(
        operation,
        tuple(expressions),
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
    if not expressions:
        _check_no_placeholders(body, rules)
    for name in (*legacy, *rules.refused):
        if body.get(name) is not None:
            raise not_supported(name)


def not_supported(name: str) -> ApiError:
    return validation(f"One or more parameter values were invalid: {name} is not supported")


def _check_no_placeholders(body: Mapping[str, Any], rules: Parameters) -> None:
    if not rules.expressions:
        return
    sentence = "can only be specified when using expressions"
    if body.get("ExpressionAttributeNames") is not None:
        raise validation(f"ExpressionAttributeNames {sentence}")
    suffix = NO_VALUES_SUFFIX.get(rules.operation)
    if suffix is not None and body.get("ExpressionAttributeValues") is not None:
        raise validation(f"ExpressionAttributeValues {sentence}: {suffix}")
