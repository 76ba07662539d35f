"""Values of the wrong JSON type: how the service's parser names them, and where one hides in an attribute value.

The service parses a whole request into typed objects before it looks at anything else, so a number where a text
belongs is a SerializationException whatever else is wrong. `geodyne.model.values` meets such a value on its one walk;
`check_types` looks for nothing else, for requests that are refused before that walk.
"""

from __future__ import annotations

from typing import Any, NoReturn

from geodyne.errors import ApiError

JAVA_PACKAGE = "com.amazonaws.dynamodb.v20120810."
ATTRIBUTE_MAP = f"java.util.Map<java.lang.String, {JAVA_PACKAGE}AttributeValue>"

_SCALAR_NAMES = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "DECIMAL_VALUE"}


def refuse_type(value: Any, expected: str, name: str) -> NoReturn:
    """Raises the SerializationException for a value of the wrong JSON type.

    `expected` is a kind of shape of the service model ("string", "blob", "list" ...) or "element", a structure inside
    a list or map; `name` is what the service calls the type.
    """
    raise ApiError("SerializationException", _type_message(value, expected, name))


def _type_message(value: Any, expected: str, name: str) -> str:
    kind = type(value)
    if kind is dict:
        return "Start of structure or map found where not expected"
    if kind is list:
        return f"Unrecognized collection type {_collection_name(expected, name)}"
    if expected == "element":
        return "Unexpected value type in payload"
    if expected in ("list", "map", "structure"):
        return "Unexpected field type"
    if expected == "blob":
        return "only base-64-encoded strings are convertible to bytes"
    if expected == "boolean" and kind is str:
        return "Unexpected token received from parser"
    if kind is bool:
        found = "TRUE_VALUE" if value else "FALSE_VALUE"
    else:
        found = _SCALAR_NAMES.get(kind, "NULL_VALUE")
    return f"{found} cannot be converted to {name}"


def _collection_name(expected: str, name: str) -> str:
    if expected == "map":
        return name
    if expected in ("structure", "element"):
        return f"class {JAVA_PACKAGE}{name}"
    if expected == "blob":
        return "class java.nio.ByteBuffer"
    return f"class java.lang.{name}"


# --- inside attribute values -----------------------------------------------------------------------------


def check_types(value: Any) -> None:
    """Raises SerializationException unless all of an attribute value has the JSON types that its tags ask for.

    Walks with a stack of its own: nesting is not bounded yet.
    """
    pending = [value]
    while pending:
        found = pending.pop()
        if type(found) is not dict:
            refuse_type(found, "element", "AttributeValue")
        for tag, content in found.items():
            scalar = _SCALARS.get(tag)
            if scalar is not None:  # most of them: a refused body may hold a million
                if type(content) is not scalar[0] and content is not None:
                    refuse_type(content, scalar[1], scalar[2])
            elif content is None:
                continue
            elif tag == "L":
                _check(content, list, "list", "List")
                pending += content
            elif tag == "M":
                _check(content, dict, "map", ATTRIBUTE_MAP)
                pending += content.values()
            elif tag in _SETS:
                _check(content, list, "list", "List")
                wanted, expected, name = _SETS[tag]
                for element in content:
                    if type(element) is not wanted:
                        refuse_type(element, expected, name)


def _check(content: Any, wanted: type, expected: str, name: str) -> None:
    if type(content) is not wanted:
        refuse_type(content, expected, name)


_TEXT = (str, "string", "String")
_BLOB = (str, "blob", "ByteBuffer")
_FLAG = (bool, "boolean", "Boolean")
_SCALARS = {"S": _TEXT, "N": _TEXT, "B": _BLOB, "BOOL": _FLAG, "NULL": _FLAG}
_SETS = {"SS": _TEXT, "NS": _TEXT, "BS": _BLOB}
