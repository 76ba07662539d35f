"""Attribute values of the wrong JSON type in requests that are refused for another reason.

The validators leave attribute values to the one walk that also normalises them, and that walk comes after other
checks. A request refused by one of those is searched here first: the service would have stumbled over the type.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from geodyne.model.jsontypes import check_types
from router.api.shapes import input_shape, shape_rule

_VALUE = "AttributeValue"


def check_value_types(operation: str, body: Any) -> None:
    """Raises SerializationException if an attribute value anywhere in the body has a wrong JSON type.

    Whatever is not where the model expects it is passed over: the validator has said what there is to say about it.
    """
    _walk(input_shape(operation), body)


def _walk(shape_name: str, value: Any) -> None:
    if shape_name == _VALUE:
        check_types(value)
        return
    parts = _parts(shape_name)
    if isinstance(parts, str):
        elements = value.values() if type(value) is dict else value if type(value) is list else ()
        for element in elements:
            if element is not None:
                _walk(parts, element)
    elif type(value) is dict:
        for name, member in parts.items():
            element = value.get(name)
            if element is not None:
                _walk(member, element)


@cache  # bounded by the shapes of the model
def _parts(shape_name: str) -> str | dict[str, str]:
    """Below which parts of a shape there are attribute values: members of a structure, or all elements."""
    rule = shape_rule(shape_name)
    if rule["type"] == "list":
        return str(rule["member"]) if _holds_values(rule["member"]) else {}
    if rule["type"] == "map":
        return str(rule["value"]) if _holds_values(rule["value"]) else {}
    members = rule.get("members", {})
    return {name: member for name, member in members.items() if _holds_values(member)}


def _holds_values(shape_name: str) -> bool:
    return shape_name == _VALUE or bool(_parts(shape_name))
