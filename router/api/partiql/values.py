"""Constants of a statement as attribute values: literals, and the request's parameters in the place of question marks.

Developer Guide, "Data types in PartiQL for DynamoDB": 'text', numbers, TRUE, FALSE, NULL, [list], {'name': value} and
<<set>> of texts or of numbers; binary comes only as a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geodyne.errors import ApiError, validation
from geodyne.messages import AttributeValue
from geodyne.model.values import canonical
from router.api.partiql.tree import Boolean, ListOf, MapOf, Node, Null, Number, Parameter, SetOf, Statement, Text

Parameters = Sequence[AttributeValue]  # canonical

_SET_OF = {"S": "SS", "N": "NS", "B": "BS"}
_CONSTANTS = (Text, Number, Boolean, Null, Parameter, ListOf, SetOf, MapOf)


def bound_parameters(statement: Statement, given: Sequence[Any] | None) -> Parameters:
    """The canonical values of a request's parameters. Raises ApiError unless there is one for each question mark."""
    values = [canonical(value)[0] for value in given or ()]
    if len(values) != statement.parameters:
        raise validation("Number of parameters in request and statement don't match.")
    return values


def is_constant(node: Node) -> bool:
    """Whether a node is a value by itself. The elements of a list, map or set are looked at by `constant`."""
    return isinstance(node, _CONSTANTS)


def constant(node: Node, parameters: Parameters) -> AttributeValue:
    """The canonical value of a constant. Raises ApiError for one that holds something else than constants."""
    if isinstance(node, Parameter):
        return parameters[node.index]
    return canonical(as_written(node, parameters))[0]


def as_written(node: Node, parameters: Parameters) -> AttributeValue:
    """The value of a constant for something that makes it canonical itself. Raises ApiError as `constant` does for
    what is none."""
    if isinstance(node, Parameter):
        return parameters[node.index]
    if isinstance(node, Text):
        return {"S": node.content}
    if isinstance(node, Number):
        return {"N": node.content}
    if isinstance(node, Boolean):
        return {"BOOL": node.content}
    if isinstance(node, Null):
        return {"NULL": True}
    if isinstance(node, ListOf):
        return {"L": [as_written(element, parameters) for element in node.elements]}
    if isinstance(node, MapOf):
        return {"M": _members(node, parameters)}
    if isinstance(node, SetOf):
        return _set(node, parameters)
    raise unsupported(node)


def _members(node: MapOf, parameters: Parameters) -> dict[str, AttributeValue]:
    members: dict[str, AttributeValue] = {}
    for name, value in node.members:
        if not isinstance(name, Text):
            raise validation(f"Map keys must be strings at {node.at}")
        if name.content in members:
            raise validation(f"Duplicate key in a map: {name.content} at {node.at}")
        members[name.content] = as_written(value, parameters)
    return members


def _set(node: SetOf, parameters: Parameters) -> AttributeValue:
    values = [as_written(element, parameters) for element in node.elements]
    if not values:
        raise validation("One or more parameter values were invalid: An string set  may not be empty")
    tags = {next(iter(value)) for value in values}
    tag = tags.pop()
    if tags or tag not in _SET_OF:
        raise validation(f"Elements of a set must all be strings, all numbers or all binary at {node.at}")
    return {_SET_OF[tag]: [value[tag] for value in values]}


def unsupported(node: Node) -> ApiError:
    """The error for something well formed that may not stand where it does."""
    at = getattr(node, "at", "")
    return validation(f"Unsupported expression at {at}" if at else "Unsupported expression")
