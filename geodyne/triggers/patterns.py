"""Filter patterns of event source mappings: parsed once, then matched against each event record.

A pattern is a JSON object. Its fields are names of the record's fields, all of which must match; a leaf is an array of
alternatives, one of which must. An alternative is a string, number, boolean or null that must be equal, or an operator.
The operators are those that the Lambda developer guide lists ("Filter rule syntax"); EventBridge knows more of them.
Rules that are easily forgotten (the same page, and EventBridge, "Comparison operators"):

- a number equals only what is spelt alike: 300, 300.0 and 3.0e2 are three numbers. `numeric` compares by value, and
  only JSON numbers: DynamoDB's numbers are strings in a record, and are no numbers here;
- a field that holds an array matches when one of its elements does; fields below an array of objects must match in
  one and the same element;
- `exists` looks at leaves only: an object is not a leaf.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

FILTERS_MAX = 5  # of one mapping: Lambda's default quota
PATTERN_LENGTH_MAX = 4096
PATTERN_DEPTH_MAX = 40  # of objects: a record is no deeper than an item's 32 levels and a few around them
PATTERN_NUMBER_MAX = Decimal("5.0e9")  # EventBridge compares numbers between -5.0e9 and 5.0e9
_OR = "$or"

Test = Callable[[Any], bool]  # of one leaf of the record


class PatternError(ValueError):
    """Why a text is not a filter pattern, for its author."""


class Pattern(NamedTuple):
    """A parsed pattern; `matches` judges a record."""

    node: _Node

    def matches(self, record: Any) -> bool:
        return self.node.matches(record)


class _Leaf(NamedTuple):
    """Alternatives for one field. `absent`: one of them is that the field is not there."""

    tests: tuple[Test, ...]
    absent: bool

    def matches(self, value: Any) -> bool:
        there = False
        for leaf in _leaves(value):
            there = True
            if any(test(leaf) for test in self.tests):
                return True
        return self.absent and not there


class _Fields(NamedTuple):
    """All fields must match, and one alternative of each `$or`."""

    fields: tuple[tuple[str, _Node], ...]
    choices: tuple[tuple[_Node, ...], ...]

    def matches(self, value: Any) -> bool:
        if isinstance(value, list):
            return any(self.matches(element) for element in value)
        members: dict[str, Any] = value if isinstance(value, dict) else {}
        return all(node.matches(members.get(name, _MISSING)) for name, node in self.fields) and all(
            any(node.matches(value) for node in nodes) for nodes in self.choices
        )


_Node = _Leaf | _Fields


class _Number(NamedTuple):
    """A number of a pattern as it was spelt."""

    text: str


_MISSING = object()


def parse_pattern(text: str) -> Pattern:
    """Raises PatternError, whose text says what is wrong and where."""
    if len(text) > PATTERN_LENGTH_MAX:
        raise PatternError(f"A pattern is at most {PATTERN_LENGTH_MAX} characters long.")
    try:
        parsed = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)
    except RecursionError:
        raise PatternError("The pattern is nested too deeply.") from None
    except ValueError as error:
        raise PatternError(f"The pattern is not valid JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise PatternError("A pattern is a JSON object.")
    return Pattern(_parse_fields(parsed, "", 1))


def passes(patterns: Sequence[Pattern], record: Any) -> bool:
    """Whether a mapping with these filters sends the record: any of them matches, or there is none."""
    return not patterns or any(pattern.matches(record) for pattern in patterns)


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            yield from _leaves(element)
    elif value is not _MISSING and not isinstance(value, dict):
        yield value


# --- parsing


def _parse_fields(members: dict[str, Any], path: str, depth: int) -> _Fields:
    if not members:
        raise PatternError(f"{path or 'The pattern'} is an empty object.")
    if depth > PATTERN_DEPTH_MAX:
        raise PatternError("The pattern is nested too deeply.")
    fields: list[tuple[str, _Node]] = []
    choices: list[tuple[_Node, ...]] = []
    for name, value in members.items():
        here = f"{path}.{name}" if path else name
        if name == _OR:
            choices.append(_parse_or(value, here, depth))
        elif isinstance(value, dict):
            fields.append((name, _parse_fields(value, here, depth + 1)))
        elif isinstance(value, list):
            fields.append((name, _parse_leaf(value, here)))
        else:
            raise PatternError(f"{here} must be an object or an array of alternatives.")
    return _Fields(tuple(fields), tuple(choices))


def _parse_or(value: Any, path: str, depth: int) -> tuple[_Node, ...]:
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(one, dict) for one in value):
        raise PatternError(f"{path} must be an array of at least two objects.")
    return tuple(_parse_fields(one, path, depth + 1) for one in value)


def _parse_leaf(alternatives: list[Any], path: str) -> _Leaf:
    if not alternatives:
        raise PatternError(f"{path} is an empty array.")
    tests: list[Test] = []
    absent = False
    for alternative in alternatives:
        if isinstance(alternative, dict):
            name, operand = _operator(alternative, path)
            if name == "exists":
                if not isinstance(operand, bool):
                    raise PatternError(f"{path}: exists takes true or false.")
                if operand:
                    tests.append(_anything)
                else:
                    absent = True
            else:
                tests.append(_OPERATORS[name](operand, path))
        else:
            tests.append(_equal_to(alternative, path))
    return _Leaf(tuple(tests), absent)


def _operator(alternative: dict[str, Any], path: str) -> tuple[str, Any]:
    if len(alternative) != 1:
        raise PatternError(f"{path}: an operator is an object of exactly one member.")
    [(name, operand)] = alternative.items()
    if name != "exists" and name not in _OPERATORS:
        raise PatternError(f"{path}: {name!r} is not an operator.")
    return name, operand


def _anything(_leaf: Any) -> bool:
    return True


def _equal_to(expected: Any, path: str) -> Test:
    if isinstance(expected, _Number):
        text = expected.text
        return lambda leaf: _is_number(leaf) and _spelt(leaf) == text
    if expected is None or isinstance(expected, bool):
        return lambda leaf: leaf is expected
    if isinstance(expected, str):
        return lambda leaf: isinstance(leaf, str) and leaf == expected
    raise PatternError(f"{path}: an alternative is a string, a number, true, false, null or an operator.")


def _prefix(operand: Any, path: str) -> Test:
    start = _string(operand, "prefix", path)
    return lambda leaf: isinstance(leaf, str) and leaf.startswith(start)


def _suffix(operand: Any, path: str) -> Test:
    end = _string(operand, "suffix", path)
    return lambda leaf: isinstance(leaf, str) and leaf.endswith(end)


def _ignore_case(operand: Any, path: str) -> Test:
    folded = _string(operand, "equals-ignore-case", path).casefold()
    return lambda leaf: isinstance(leaf, str) and leaf.casefold() == folded


def _anything_but(operand: Any, path: str) -> Test:
    refused = operand if isinstance(operand, list) else [operand]
    strings = all(isinstance(one, str) for one in refused)
    if not refused or not (strings or all(isinstance(one, _Number) for one in refused)):
        raise PatternError(f"{path}: anything-but takes strings or numbers, and not both.")
    if strings:
        return lambda leaf: not (isinstance(leaf, str) and leaf in refused)
    spelt = frozenset(one.text for one in refused)
    return lambda leaf: not (_is_number(leaf) and _spelt(leaf) in spelt)


def _numeric(operand: Any, path: str) -> Test:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise PatternError(f"{path}: numeric takes one or two comparisons, each an operator and a number.")
    comparisons = [_comparison(operand[i], operand[i + 1], path) for i in range(0, len(operand), 2)]
    if len(comparisons) == 2:
        (first, low, _), (second, high, _) = comparisons
        if first not in (">", ">=") or second not in ("<", "<=") or low >= high:
            raise PatternError(f'{path}: a range is written [">", 1, "<=", 2], the smaller bound first.')
    return lambda leaf: _is_number(leaf) and all(holds(Decimal(_spelt(leaf)), b) for _, b, holds in comparisons)


def _comparison(symbol: Any, bound: Any, path: str) -> tuple[str, Decimal, Callable[[Decimal, Decimal], bool]]:
    holds = _COMPARISONS.get(symbol) if isinstance(symbol, str) else None
    if holds is None:
        raise PatternError(f"{path}: numeric compares with {', '.join(_COMPARISONS)}.")
    if not isinstance(bound, _Number):
        raise PatternError(f"{path}: numeric compares with a number.")
    try:
        value = Decimal(bound.text)
    except ArithmeticError:  # an exponent beyond any that decimals have
        value = Decimal("Infinity")
    if abs(value) > PATTERN_NUMBER_MAX:
        raise PatternError(f"{path}: numeric compares with numbers between -5.0e9 and 5.0e9.")
    assert isinstance(symbol, str)
    return symbol, value, holds


def _string(operand: Any, operator: str, path: str) -> str:
    if not isinstance(operand, str):
        raise PatternError(f"{path}: {operator} takes a string.")
    return operand


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, int | float) and not isinstance(leaf, bool)


def _spelt(leaf: float) -> str:
    """As it stands in the event's JSON."""
    return orjson.dumps(leaf).decode()


_COMPARISONS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "=": Decimal.__eq__,
    "<": Decimal.__lt__,
    "<=": Decimal.__le__,
    ">": Decimal.__gt__,
    ">=": Decimal.__ge__,
}
_OPERATORS: dict[str, Callable[[Any, str], Test]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignore_case,
    "anything-but": _anything_but,
    "numeric": _numeric,
}
