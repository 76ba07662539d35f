"""Whether an item satisfies a condition.

Rules (Developer Guide, "Condition and filter expressions, operators, and functions"): values of different types are
never equal and have no order; only strings, numbers and binary are ordered; an attribute that is absent equals
nothing and differs from everything; no error can arise from an item's content. Canonical values are equal exactly
when they are equal as JSON.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Any

from geodyne.expressions.tree import (
    And,
    Between,
    Call,
    Comparison,
    Condition,
    Membership,
    Not,
    Operand,
    Or,
    Path,
    Value,
)
from geodyne.messages import AttributeValue, Item
from geodyne.model.numbers import compare

_Names = Mapping[str, str]
_Values = Mapping[str, AttributeValue]

_NO_ITEM: Item = {}


def evaluate_condition(tree: Condition, item: Item | None, names: _Names, values: _Values) -> bool:
    """Evaluate a checked condition against an item (None: no such item)."""
    root = tree.root
    return _EVALUATE[type(root)](root, _NO_ITEM if item is None else item, names, values)


def resolve(path: Path, item: Item, names: _Names) -> AttributeValue | None:
    """The value at a document path, None where there is none."""
    elements = path.elements
    head = elements[0]
    value = item.get(names[head] if head[0] == "#" else head)  # type: ignore[index, arg-type]
    if len(elements) == 1:
        return value
    for element in elements[1:]:
        if value is None:
            return None
        if isinstance(element, int):
            content = value.get("L")
            value = content[element] if content is not None and element < len(content) else None
        else:
            content = value.get("M")
            value = None if content is None else content.get(names[element] if element[0] == "#" else element)
    return value


def operand_value(operand: Operand, item: Item, names: _Names, values: _Values) -> AttributeValue | None:
    """The value of an operand of a condition; None for an absent attribute or a size that is not defined."""
    if type(operand) is Path:
        return resolve(operand, item, names)
    if type(operand) is Value:
        return values[operand.name]
    assert isinstance(operand, Call)
    argument = operand_value(operand.arguments[0], item, names, values)
    size = None if argument is None else value_length(argument)
    return None if size is None else {"N": str(size)}


def value_length(value: AttributeValue) -> int | None:
    """What size() gives: UTF-16 units of a string, bytes of binary, elements of a set, list or map."""
    for tag, content in value.items():
        if tag == "S":
            return len(content) if content.isascii() else len(content.encode("utf-16-le")) // 2
        if tag == "B":
            return len(a2b_base64(content))
        if tag in ("L", "M", "SS", "NS", "BS"):
            return len(content)
    return None


def order_values(left: AttributeValue, right: AttributeValue) -> int | None:
    """-1, 0 or 1; None when the two have no order: different types, or a type that has none."""
    for tag, content in left.items():
        other = right.get(tag)
        if other is None:
            return None
        if tag == "N":
            return compare(content, other)
        if tag == "S":  # code point order is UTF-8 byte order
            return int(content > other) - int(content < other)
        if tag == "B":
            first, second = a2b_base64(content), a2b_base64(other)
            return (first > second) - (first < second)
    return None


# --- nodes ---------------------------------------------------------------------------------------------------


def _and(node: And, item: Item, names: _Names, values: _Values) -> bool:
    return all(_EVALUATE[type(part)](part, item, names, values) for part in node.parts)


def _or(node: Or, item: Item, names: _Names, values: _Values) -> bool:
    return any(_EVALUATE[type(part)](part, item, names, values) for part in node.parts)


def _not(node: Not, item: Item, names: _Names, values: _Values) -> bool:
    return not _EVALUATE[type(node.part)](node.part, item, names, values)


def _comparison(node: Comparison, item: Item, names: _Names, values: _Values) -> bool:
    left = operand_value(node.left, item, names, values)
    right = operand_value(node.right, item, names, values)
    operator = node.operator
    if operator == "=":
        return left is not None and left == right
    if operator == "<>":
        return left is None or left != right
    if left is None or right is None:
        return False
    order = order_values(left, right)
    if order is None:
        return False
    if operator == "<":
        return order < 0
    if operator == "<=":
        return order <= 0
    if operator == ">":
        return order > 0
    return order >= 0


def _between(node: Between, item: Item, names: _Names, values: _Values) -> bool:
    value = operand_value(node.operand, item, names, values)
    low = operand_value(node.low, item, names, values)
    high = operand_value(node.high, item, names, values)
    if value is None or low is None or high is None:
        return False
    above, below = order_values(value, low), order_values(value, high)
    return above is not None and below is not None and above >= 0 and below <= 0


def _membership(node: Membership, item: Item, names: _Names, values: _Values) -> bool:
    value = operand_value(node.operand, item, names, values)
    return value is not None and any(value == operand_value(choice, item, names, values) for choice in node.choices)


def _call(node: Call, item: Item, names: _Names, values: _Values) -> bool:
    return _FUNCTIONS[node.function](node.arguments, item, names, values)


_EVALUATE: dict[type, Callable[[Any, Item, _Names, _Values], bool]] = {
    And: _and,
    Or: _or,
    Not: _not,
    Comparison: _comparison,
    Between: _between,
    Membership: _membership,
    Call: _call,
}


# --- boolean functions ---------------------------------------------------------------------------------------


def _attribute_exists(arguments: tuple[Operand, ...], item: Item, names: _Names, values: _Values) -> bool:
    return operand_value(arguments[0], item, names, values) is not None


def _attribute_not_exists(arguments: tuple[Operand, ...], item: Item, names: _Names, values: _Values) -> bool:
    return operand_value(arguments[0], item, names, values) is None


def _attribute_type(arguments: tuple[Operand, ...], item: Item, names: _Names, values: _Values) -> bool:
    value = operand_value(arguments[0], item, names, values)
    wanted = operand_value(arguments[1], item, names, values)
    return value is not None and wanted is not None and wanted.get("S") in value


def _begins_with(arguments: tuple[Operand, ...], item: Item, names: _Names, values: _Values) -> bool:
    value = operand_value(arguments[0], item, names, values)
    start = operand_value(arguments[1], item, names, values)
    if value is None or start is None:
        return False
    if "S" in value and "S" in start:
        return bool(value["S"].startswith(start["S"]))
    if "B" in value and "B" in start:
        return a2b_base64(value["B"]).startswith(a2b_base64(start["B"]))
    return False


_ELEMENT_OF = {"SS": "S", "NS": "N", "BS": "B"}


def _contains(arguments: tuple[Operand, ...], item: Item, names: _Names, values: _Values) -> bool:
    value = operand_value(arguments[0], item, names, values)
    sought = operand_value(arguments[1], item, names, values)
    if value is None or sought is None:
        return False
    for tag, content in value.items():
        if tag == "S":
            return "S" in sought and sought["S"] in content
        if tag == "B":
            return "B" in sought and a2b_base64(sought["B"]) in a2b_base64(content)
        if tag == "L":
            return sought in content
        element = _ELEMENT_OF.get(tag)
        return element is not None and element in sought and sought[element] in content
    return False


_FUNCTIONS: dict[str, Callable[[tuple[Operand, ...], Item, _Names, _Values], bool]] = {
    "attribute_exists": _attribute_exists,
    "attribute_not_exists": _attribute_not_exists,
    "attribute_type": _attribute_type,
    "begins_with": _begins_with,
    "contains": _contains,
}
