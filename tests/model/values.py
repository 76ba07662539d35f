"""Attribute values as the documentation describes them: canonical form, order, equality and size.

Values are DynamoDB JSON. Written anew for the tests and plainly, so that it shares no mistake with the product.
"""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

Value = dict[str, Any]
Item = dict[str, Value]

DIGITS_MAX = 38
LARGEST = Decimal("9.9999999999999999999999999999999999999E+125")
SMALLEST = Decimal("1E-130")
ORDERED = ("S", "N", "B")
SETS = ("SS", "NS", "BS")
PLAIN_CHARACTERS_MAX = 45  # of a number; of longer ones the documentation does not say how they are written


class Invalid(Exception):
    """The request is refused with this code (ValidationException unless it says otherwise)."""

    def __init__(self, why: str, code: str = "ValidationException") -> None:
        super().__init__(why)
        self.code = code


def tag(value: Value) -> str:
    return next(iter(value))


def normal(value: Value) -> Value:
    """The value as the service keeps it. Raises Invalid."""
    kind = tag(value)
    content = value[kind]
    if kind == "N":
        return {"N": number_text(content)}
    if kind in SETS:
        if not content:
            raise Invalid("an empty set")
        elements = [normal({kind[0]: element})[kind[0]] for element in content]
        if len(set(elements)) != len(elements):
            raise Invalid("a set with duplicates")
        return {kind: sorted(elements)}
    if kind == "L":
        return {"L": [normal(element) for element in content]}
    if kind == "M":
        return {"M": {name: normal(element) for name, element in content.items()}}
    return {kind: content}


def normal_item(item: Item) -> Item:
    return {name: normal(value) for name, value in item.items()}


def number_text(text: str) -> str:
    """The canonical text of a number. Raises Invalid for one that the service cannot hold."""
    number = Decimal(text)
    if number == 0:
        return "0"
    if len(number.as_tuple().digits) > DIGITS_MAX and len(_significant(number)) > DIGITS_MAX:
        raise Invalid("more than 38 significant digits")
    if not SMALLEST <= number.copy_abs() <= LARGEST:
        raise Invalid("out of range")
    return format(_trimmed(number), "f")


def _significant(number: Decimal) -> str:
    return "".join(map(str, number.as_tuple().digits)).strip("0")


def _trimmed(number: Decimal) -> Decimal:
    """Without trailing zeros; exact, which Decimal.normalize is not beyond its context's precision."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    kept = list(digits)
    while len(kept) > 1 and kept[-1] == 0:
        kept.pop()
        exponent += 1
    return Decimal((sign, tuple(kept), exponent))


def seen(value: Value) -> Value:
    """A value of an answer, with the freedom that the documentation leaves: order in sets, form of long numbers."""
    kind = tag(value)
    content = value[kind]
    if kind == "N":
        return {"N": _seen_number(content)}
    if kind in SETS:
        return {kind: sorted(_seen_number(element) if kind == "NS" else element for element in content)}
    if kind == "L":
        return {"L": [seen(element) for element in content]}
    if kind == "M":
        return {"M": {name: seen(element) for name, element in content.items()}}
    return {kind: content}


def _seen_number(text: str) -> str:
    plain = len(text) <= PLAIN_CHARACTERS_MAX and "E" not in text.upper()
    return text if plain else number_text(text)


def order(value: Value) -> Any:
    """A key by which values of one scalar type sort: numbers by value, strings and binary by unsigned bytes."""
    kind = tag(value)
    if kind == "N":
        return Decimal(value["N"])
    return value["S"].encode() if kind == "S" else base64.b64decode(value["B"])


def compare(operator: str, left: Value, right: Value) -> bool:
    """left OPERATOR right; only values of one type compare, and only scalars have an order."""
    if operator == "=":
        return left == right
    if operator == "<>":
        return left != right
    if tag(left) != tag(right) or tag(left) not in ORDERED:
        return False
    one, other = order(left), order(right)
    return bool({"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[operator])


def item_size(item: Item) -> int:
    """Bytes of an item: names and values (developer guide, "DynamoDB item sizes and formats")."""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value: Value) -> int:
    kind = tag(value)
    content = value[kind]
    if kind == "S":
        return len(content.encode())
    if kind == "B":
        return len(base64.b64decode(content))
    if kind == "N":
        return _number_size(content)
    if kind in ("BOOL", "NULL"):
        return 1
    if kind in SETS:
        return sum(value_size({kind[0]: element}) for element in content)
    if kind == "L":
        return 3 + sum(1 + value_size(element) for element in content)
    return 3 + sum(1 + len(name.encode()) + value_size(element) for name, element in content.items())


def _number_size(text: str) -> int:
    """About a byte for two significant digits, and one more; another for a negative number."""
    digits = len(_significant(Decimal(text)))
    return (digits + 1) // 2 + 1 + (1 if text.startswith("-") else 0)
