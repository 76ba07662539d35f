"""Attribute values and items: what is accepted, the one form in which a value is kept, and its size.

`canonical` walks a value as it was parsed from JSON once: it validates it, brings it into canonical form and measures
it. Canonical: exactly one type tag, numbers as geodyne.model.numbers has them, binary as padded base64, sets sorted
(strings by UTF-8, numbers by value, binary by bytes), NULL always true. Two values are equal in DynamoDB's sense
exactly when their canonical forms are equal as JSON.

Sizes (Developer Guide, "DynamoDB item sizes and formats"): attribute name in UTF-8, plus string UTF-8, binary raw,
boolean and null 1, number see number_size, sets the sum of elements, list and map 3 plus 1 an element plus contents.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from typing import Any

import orjson

from geodyne.errors import ApiError, validation
from geodyne.limits import ATTRIBUTE_NAME_BYTES_MAX, ITEM_BYTES_MAX, NESTING_MAX
from geodyne.messages import AttributeValue, Item
from geodyne.model.jsontypes import ATTRIBUTE_MAP, refuse_type
from geodyne.model.numbers import normalise, number_size, order

CONTAINER_BYTES = 3
ELEMENT_BYTES = 1

_EMPTY_VALUE = "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"
_MANY_TYPES = (
    "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes"
)
_INVALID = "One or more parameter values were invalid: "
TOO_DEEP = (
    "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit"
)
_NAME_TOO_LONG = f"Attribute name is too large, must be less than {ATTRIBUTE_NAME_BYTES_MAX + 1} bytes"

_Canonical = tuple[AttributeValue, int]


def dumps(item: Item) -> bytes:
    """Compact JSON of a canonical item: the form in which it is stored, shipped and answered."""
    return orjson.dumps(item)


def loads(data: bytes) -> Item:
    """The item of `dumps`."""
    item: Item = orjson.loads(data)
    return item


def canonical(value: Any) -> tuple[AttributeValue, int]:
    """Validate one attribute value and return its canonical form and size in bytes.

    May return the object it was given. Raises ApiError: SerializationException for a wrong JSON type,
    ValidationException for everything else.
    """
    return _canonical(value, 0)


def canonical_item(item: Any) -> tuple[Item, int]:
    """Validate a whole item and return its canonical form and size in bytes, attribute names included.

    The size limit is the caller's (`check_item_size`). Raises ApiError as `canonical` does.
    """
    if type(item) is not dict:
        refuse_type(item, "map", ATTRIBUTE_MAP)
    return _canonical_attributes(item, 0)


def _canonical_attributes(attributes: dict[str, Any], depth: int) -> tuple[Item, int]:
    result: Item = {}
    total = 0
    for name, value in attributes.items():
        total += len(name) if name.isascii() else utf8_length(name)
        if len(name) > _NAME_LENGTH_SURE or not name:
            _check_name(name)
        # Strings and numbers are most of what is stored; they are handled here to save a call each.
        if type(value) is dict and len(value) == 1:
            for tag, content in value.items():
                if type(content) is str:
                    if tag == "S":
                        total += len(content) if content.isascii() else utf8_length(content)
                        result[name] = value
                        break
                    if tag == "N":
                        text = normalise(content)
                        result[name] = value if text is content else {"N": text}
                        total += number_size(text)
                        break
                result[name], size = _canonical(value, depth)
                total += size
        else:
            result[name], size = _canonical(value, depth)
            total += size
    return result, total


_NAME_LENGTH_SURE = ATTRIBUTE_NAME_BYTES_MAX // 4  # characters that fit whatever their encoding


def _check_name(name: str) -> None:
    if not name:
        raise validation(f"{_INVALID}An attribute name may not be empty")
    if utf8_length(name) > ATTRIBUTE_NAME_BYTES_MAX:
        raise validation(_NAME_TOO_LONG)


def check_attribute_name(name: str) -> None:
    """Raises ApiError unless the name has 1 to 65535 bytes."""
    if len(name) > _NAME_LENGTH_SURE or not name:
        _check_name(name)


def check_item_size(size: int, *, updating: bool = False) -> None:
    """Raises ApiError when an item of `size` bytes is over the limit of 400 KB."""
    if size > ITEM_BYTES_MAX:
        raise validation(f"Item size {'to update ' if updating else ''}has exceeded the maximum allowed size")


def utf8_length(text: str) -> int:
    """Bytes of a text in UTF-8. Raises ApiError for a lone surrogate, which has no encoding."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ApiError("SerializationException", "Invalid UTF-16 surrogate in a string") from None


# --- one value -----------------------------------------------------------------------------------------------


def _canonical(value: Any, depth: int) -> _Canonical:
    if type(value) is not dict:
        refuse_type(value, "element", "AttributeValue")
    if len(value) != 1:
        # A null member is an absent one.
        value = {tag: content for tag, content in value.items() if content is not None}
        if sum(tag in _BY_TAG for tag in value) > 1:
            raise validation(_MANY_TYPES)
        value = {tag: content for tag, content in value.items() if tag in _BY_TAG}
    for tag, content in value.items():
        reader = _BY_TAG.get(tag)
        if reader is not None and content is not None:
            return reader(value, content, depth)
    raise validation(_EMPTY_VALUE)


def _string(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    if type(content) is not str:
        refuse_type(content, "string", "String")
    return value, utf8_length(content)


def _number(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    if type(content) is not str:
        refuse_type(content, "string", "String")
    text = normalise(content)
    return (value if text is content else {"N": text}), number_size(text)


def _binary(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    return value, len(_decode(content))


def _bool(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    if type(content) is not bool:
        refuse_type(content, "boolean", "Boolean")
    return value, 1


def _null(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    if type(content) is not bool:
        refuse_type(content, "boolean", "Boolean")
    if not content:
        raise validation(f"{_INVALID}Null attribute value types must have the value of true")
    return value, 1


def _string_set(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    size = 0
    for element in _elements(content):
        if type(element) is not str:
            refuse_type(element, "string", "String")
        size += utf8_length(element)
    if not content:
        raise validation(f"{_INVALID}An string set  may not be empty")
    if len(set(content)) != len(content):
        raise validation(f"{_INVALID}Input collection [{', '.join(content)}] contains duplicates.")
    # Code point order is UTF-8 byte order.
    return {"SS": sorted(content)}, size


def _number_set(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    for element in _elements(content):
        if type(element) is not str:
            refuse_type(element, "string", "String")
    if not content:
        raise validation(f"{_INVALID}An number set  may not be empty")
    texts = [normalise(element) for element in content]
    if len(set(texts)) != len(texts):
        raise validation("Input collection contains duplicates")
    return {"NS": sorted(texts, key=order)}, sum(map(number_size, texts))


def _binary_set(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    raw = [_decode(element) for element in _elements(content)]
    if not content:
        raise validation(f"{_INVALID}Binary sets should not be empty")
    if len(set(content)) != len(content):
        raise validation(f"{_INVALID}Input collection [{', '.join(content)}]of type BS contains duplicates.")
    return {"BS": sorted(content, key=a2b_base64)}, sum(map(len, raw))


def _list(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    size = CONTAINER_BYTES
    result = []
    if _elements(content) and depth + 1 >= NESTING_MAX:
        raise validation(TOO_DEEP)
    for element in content:
        item, element_size = _canonical(element, depth + 1)
        result.append(item)
        size += ELEMENT_BYTES + element_size
    return {"L": result}, size


def _map(value: AttributeValue, content: Any, depth: int) -> _Canonical:
    if type(content) is not dict:
        refuse_type(content, "map", ATTRIBUTE_MAP)
    if content and depth + 1 >= NESTING_MAX:
        raise validation(TOO_DEEP)
    result, size = _canonical_attributes(content, depth + 1)
    return {"M": result}, CONTAINER_BYTES + ELEMENT_BYTES * len(result) + size


_BY_TAG: dict[str, Callable[[AttributeValue, Any, int], _Canonical]] = {
    "S": _string,
    "N": _number,
    "B": _binary,
    "BOOL": _bool,
    "NULL": _null,
    "M": _map,
    "L": _list,
    "SS": _string_set,
    "NS": _number_set,
    "BS": _binary_set,
}


def _elements(content: Any) -> list[Any]:
    if type(content) is not list:
        refuse_type(content, "list", "List")
    return content


def _decode(content: Any) -> bytes:
    if type(content) is not str:
        refuse_type(content, "blob", "ByteBuffer")
    try:
        raw = a2b_base64(content, strict_mode=True)
        canonical_text = b2a_base64(raw, newline=False) == content.encode("ascii")
    except (Base64Error, ValueError):
        if len(content) % 4:
            text = f"Base64 encoded length is expected a multiple of 4 bytes but found: {len(content)}"
        else:
            text = "Invalid Base64 character"
        raise ApiError("SerializationException", text) from None
    if not canonical_text:
        raise ApiError("SerializationException", "Invalid last non-pad Base64 character detected")
    return raw


# --- sizes of canonical values -------------------------------------------------------------------------------


def item_size(item: Item) -> int:
    """Size in bytes of a canonical item."""
    total = 0
    for name, value in item.items():
        total += (len(name) if name.isascii() else len(name.encode())) + value_size(value)
    return total


def value_size(value: AttributeValue) -> int:
    """Size in bytes of a canonical attribute value."""
    for tag, content in value.items():
        if tag == "S":
            return len(content) if content.isascii() else len(content.encode())
        if tag == "N":
            return number_size(content)
        if tag == "M":
            return CONTAINER_BYTES + ELEMENT_BYTES * len(content) + item_size(content)
        if tag == "L":
            return CONTAINER_BYTES + sum(ELEMENT_BYTES + value_size(element) for element in content)
        if tag == "B":
            return _base64_size(content)
        if tag == "SS":
            return sum(map(utf8_length, content))
        if tag == "NS":
            return sum(map(number_size, content))
        if tag == "BS":
            return sum(map(_base64_size, content))
    return 1  # BOOL, NULL


def _base64_size(text: str) -> int:
    return len(text) // 4 * 3 - text.count("=", -2) if text else 0
