"""Requests with one value of the wrong JSON type, for every member of every operation of botocore's model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import botocore.session

MAP_KEY = "abc"  # a table's name where a map is keyed by tables
PACKAGE = "com.amazonaws.dynamodb.v20120810."
NOT_EXPECTED = "Start of structure or map found where not expected"
NO_FIELD = "Unexpected field type"
NO_ELEMENT = "Unexpected value type in payload"
NOT_BASE64 = "only base-64-encoded strings are convertible to bytes"

# What the service says of a JSON value where a scalar of its model stands.
SCALARS: dict[str, list[tuple[Any, str]]] = {
    "string": [
        (5, "NUMBER_VALUE cannot be converted to String"),
        (1.5, "DECIMAL_VALUE cannot be converted to String"),
        (True, "TRUE_VALUE cannot be converted to String"),
        (False, "FALSE_VALUE cannot be converted to String"),
        ([], "Unrecognized collection type class java.lang.String"),
        ({}, NOT_EXPECTED),
    ],
    "boolean": [
        (5, "NUMBER_VALUE cannot be converted to Boolean"),
        (1.5, "DECIMAL_VALUE cannot be converted to Boolean"),
        ("true", "Unexpected token received from parser"),
        ([], "Unrecognized collection type class java.lang.Boolean"),
        ({}, NOT_EXPECTED),
    ],
    "blob": [
        (5, NOT_BASE64),
        (True, NOT_BASE64),
        ([], "Unrecognized collection type class java.nio.ByteBuffer"),
        ({}, NOT_EXPECTED),
    ],
    **{
        kind: [
            ("5", f"STRING_VALUE cannot be converted to {java}"),
            (True, f"TRUE_VALUE cannot be converted to {java}"),
            (False, f"FALSE_VALUE cannot be converted to {java}"),
            ([], f"Unrecognized collection type class java.lang.{java}"),
            ({}, NOT_EXPECTED),
            *((value, f"DECIMAL_VALUE cannot be converted to {java}") for value in decimal),
        ]
        for kind, java, decimal in (
            ("integer", "Integer", [1.5, 1.0]),
            ("long", "Long", [1.5, 1.0]),
            ("double", "Double", []),
        )
    },
}


class WrongType(NamedTuple):
    path: str
    body: Any
    message: str


@cache
def model(service: str = "dynamodb") -> Any:
    return botocore.session.Session().get_service_model(service)


def operation_names() -> list[str]:
    return list(model().operation_names)


def wrong_types(operation: str, service: str = "dynamodb") -> Iterator[WrongType]:
    """Bodies that are right but for one value; members of a shape inside itself are left out."""
    shape = model(service).operation_model(operation).input_shape
    for name, member in shape.members.items():
        for found in _below(member, name, in_collection=False, above=()):
            yield found._replace(body={name: found.body})


def _below(shape: Any, path: str, *, in_collection: bool, above: tuple[str, ...]) -> Iterator[WrongType]:
    """`body` is the value of this shape alone."""
    for value, message in _wrong(shape, in_collection):
        yield WrongType(path, value, message)
    if shape.name in above:
        return
    above = (*above, shape.name)
    if shape.type_name == "list":
        for found in _below(shape.member, f"{path}[]", in_collection=True, above=above):
            yield found._replace(body=[found.body])
    elif shape.type_name == "map":
        for found in _below(shape.value, f"{path}.*", in_collection=True, above=above):
            yield found._replace(body={MAP_KEY: found.body})
    elif shape.type_name == "structure":
        for name, member in shape.members.items():
            for found in _below(member, f"{path}.{name}", in_collection=False, above=above):
                yield found._replace(body={name: found.body})


def _wrong(shape: Any, in_collection: bool) -> list[tuple[Any, str]]:
    kind = shape.type_name
    if kind == "structure":
        text = NO_ELEMENT if in_collection else NO_FIELD
        return [("x", text), (5, text), (True, text), ([], f"Unrecognized collection type class {PACKAGE}{shape.name}")]
    if kind == "list":
        return [("x", NO_FIELD), (5, NO_FIELD), (True, NO_FIELD), ({}, NOT_EXPECTED)]
    if kind == "map":
        return [("x", NO_FIELD), (5, NO_FIELD), (True, NO_FIELD), ([], f"Unrecognized collection type {_java(shape)}")]
    return SCALARS.get(kind, [])


def _java(shape: Any) -> str:
    """The name of a map's class, keys and values included."""
    value = {"string": "java.lang.String", "boolean": "java.lang.Boolean"}.get(
        shape.value.type_name, PACKAGE + shape.value.name
    )
    return f"java.util.Map<java.lang.String, {value}>"
