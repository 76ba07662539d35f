"""WHERE, SET and REMOVE as texts of the expression language, with generated placeholders for every name and value.

What both languages have in common is only written anew; PartiQL's own become what they mean: IS MISSING is
attribute_not_exists, IS NULL a type test, set_add and set_delete the sections ADD and DELETE. Sources: Developer
Guide, "Use PartiQL functions with DynamoDB", "PartiQL arithmetic, comparison, and logical operators for DynamoDB".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geodyne.errors import validation
from geodyne.limits import IN_OPERANDS_MAX
from geodyne.messages import AttributeValue
from router.api.partiql.tree import (
    And,
    Assignment,
    Between,
    Binary,
    Call,
    Like,
    ListOf,
    Membership,
    Missing,
    Node,
    Not,
    Or,
    Path,
    SetOf,
    TypeTest,
)
from router.api.partiql.values import Parameters, constant, is_constant, unsupported

_COMPARATORS = frozenset(("=", "<>", "<", "<=", ">", ">="))
_CONDITION_FUNCTIONS = frozenset(("begins_with", "contains", "attribute_type"))
_SET_FUNCTIONS = {"set_add": "ADD", "set_delete": "DELETE"}

# Types that IS can name, by the type of the attribute.
_TYPES = {
    "NULL": "NULL", "BOOL": "BOOL", "BOOLEAN": "BOOL", "STRING": "S", "VARCHAR": "S", "NUMBER": "N", "NUMERIC": "N",
    "DECIMAL": "N", "INT": "N", "INTEGER": "N", "BLOB": "B", "LIST": "L", "STRUCT": "M", "TUPLE": "M", "MAP": "M",
}  # fmt: skip


class Writer:
    """Writes the expressions of one request; `members` are its names and values."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._names: dict[str, str] = {}
        self._values: dict[str, AttributeValue] = {}

    def members(self) -> dict[str, Any]:
        """ExpressionAttributeNames and ExpressionAttributeValues, those of them that are used."""
        members: dict[str, Any] = {}
        if self._names:
            members["ExpressionAttributeNames"] = {placeholder: name for name, placeholder in self._names.items()}
        if self._values:
            members["ExpressionAttributeValues"] = dict(self._values)
        return members

    def name(self, attribute: str) -> str:
        return self._names.setdefault(attribute, f"#{len(self._names)}")

    def value(self, value: AttributeValue) -> str:
        placeholder = f":{len(self._values)}"
        self._values[placeholder] = value
        return placeholder

    def path(self, path: Path) -> str:
        text = self.name(str(path.elements[0]))
        for element in path.elements[1:]:
            text += f"[{element}]" if isinstance(element, int) else "." + self.name(element)
        return text

    # --- conditions ----------------------------------------------------------------------------------------

    def conjunction(self, parts: Sequence[Node]) -> str | None:
        """The condition that all parts hold; None when there are none. Raises ApiError."""
        if not parts:
            return None
        return self.condition(parts[0] if len(parts) == 1 else And(tuple(parts)))

    def condition(self, node: Node) -> str:
        if isinstance(node, And | Or):
            word = " AND " if isinstance(node, And) else " OR "
            return word.join(self._part(part) for part in node.parts)
        if isinstance(node, Not):
            return "NOT " + self._part(node.part)
        if isinstance(node, Binary) and node.operator in _COMPARATORS:
            return self._comparison(node)
        if isinstance(node, Between):
            return f"{self._operand(node.operand)} BETWEEN {self._operand(node.low)} AND {self._operand(node.high)}"
        if isinstance(node, Membership):
            return self._membership(node)
        if isinstance(node, TypeTest):
            return self._type_test(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, Like):
            raise validation(f"Unsupported operator: LIKE at {node.at}")
        raise unsupported(node)

    def _part(self, node: Node) -> str:
        text = self.condition(node)
        return f"({text})" if isinstance(node, And | Or | Not) else text

    def _comparison(self, node: Binary) -> str:
        left, right = node.left, node.right
        if isinstance(left, Missing):
            left, right = right, left
        if isinstance(right, Missing):
            if node.operator not in ("=", "<>") or not isinstance(left, Path):
                raise unsupported(node)
            return f"attribute_{'not_' if node.operator == '=' else ''}exists({self.path(left)})"
        return f"{self._operand(left)} {node.operator} {self._operand(right)}"

    def _membership(self, node: Membership) -> str:
        choices = choices_of(node)
        if len(choices) > IN_OPERANDS_MAX:
            raise too_many_choices(len(choices))
        operand = self._operand(node.operand)
        return f"{operand} IN ({', '.join(self._operand(choice) for choice in choices)})"

    def _type_test(self, node: TypeTest) -> str:
        if not isinstance(node.operand, Path):
            raise unsupported(node.operand)
        path = self.path(node.operand)
        if node.type_name == "MISSING":
            return f"attribute_not_exists({path})"
        tag = _TYPES.get(node.type_name)
        if tag is None:
            raise validation(f"Unsupported type: {node.type_name}")
        return f"attribute_type({path}, {self.value({'S': tag})})"

    def _call(self, node: Call) -> str:
        if node.function not in _CONDITION_FUNCTIONS:
            raise _unsupported_function(node)
        return f"{node.function}({', '.join(map(self._operand, node.arguments))})"

    def _operand(self, node: Node) -> str:
        if isinstance(node, Path):
            return self.path(node)
        if isinstance(node, Call):
            if node.function != "size":
                raise _unsupported_function(node)
            return f"size({', '.join(map(self._operand, node.arguments))})"
        if is_constant(node):
            return self.value(constant(node, self.parameters))
        raise unsupported(node)

    # --- updates -------------------------------------------------------------------------------------------

    def update(self, changes: Sequence[Assignment]) -> str:
        """The update expression of all SET and REMOVE clauses. Raises ApiError."""
        sections: dict[str, list[str]] = {}
        for change in changes:
            section, text = self._change(change.path, change.value)
            sections.setdefault(section, []).append(text)
        return " ".join(f"{section} {', '.join(texts)}" for section, texts in sections.items())

    def _change(self, path: Path, value: Node | None) -> tuple[str, str]:
        target = self.path(path)
        if value is None:
            return "REMOVE", target
        if isinstance(value, Call) and value.function in _SET_FUNCTIONS:
            if len(value.arguments) != 2 or not is_constant(value.arguments[1]):
                raise unsupported(value)
            first = value.arguments[0]
            if not isinstance(first, Path) or first.elements != path.elements:
                raise unsupported(value)
            operand = constant(value.arguments[1], self.parameters)
            if not any(tag in operand for tag in ("SS", "NS", "BS")):
                raise validation(
                    "Incorrect operand type for operator or function; "
                    f"operator or function: {value.function}, operand type: {next(iter(operand))}"
                )
            return _SET_FUNCTIONS[value.function], f"{target} {self.value(operand)}"
        return "SET", f"{target} = {self._assigned(value)}"

    def _assigned(self, node: Node) -> str:
        if isinstance(node, Binary) and node.operator in ("+", "-"):
            return f"{self._term(node.left)} {node.operator} {self._term(node.right)}"
        return self._term(node)

    def _term(self, node: Node) -> str:
        if isinstance(node, Path):
            return self.path(node)
        if isinstance(node, Call):
            if node.function != "list_append":
                raise _unsupported_function(node)
            return f"list_append({', '.join(map(self._term, node.arguments))})"
        if is_constant(node):
            return self.value(constant(node, self.parameters))
        raise unsupported(node)


def choices_of(node: Membership) -> tuple[Node, ...]:
    """What IN chooses from. Raises ApiError when that is no list."""
    if not isinstance(node.choices, ListOf | SetOf) or not node.choices.elements:
        raise unsupported(node.choices)
    return node.choices.elements


def too_many_choices(count: int) -> Exception:
    return validation(f"The IN operator is provided with too many operands; number of operands: {count}")


def _unsupported_function(call: Call) -> Exception:
    return validation(f"Unsupported function: {call.function} at {call.at}")
