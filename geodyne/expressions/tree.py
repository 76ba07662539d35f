"""Parsed expressions as values.

Trees hold placeholders ("#name", ":value") as they were written, so that one tree serves every request with the same
text. A path element is a text or a list index; a text that begins with "#" stands for an attribute name of the
request, any other is the name itself (an identifier cannot begin with "#").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from geodyne.errors import ApiError

PathElement = str | int
ResolvedPath = tuple[PathElement, ...]  # with attribute names in place of placeholders


class ExpressionError(ApiError):
    """What is wrong with an expression, without the prefix that names the parameter it was given in."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)


@dataclass(frozen=True, slots=True)
class Path:
    elements: tuple[PathElement, ...]


@dataclass(frozen=True, slots=True)
class Value:
    name: str  # with its colon


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[Operand, ...]


Operand = Path | Value | Call


@dataclass(frozen=True, slots=True)
class Comparison:
    operator: str  # = <> < <= > >=
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class Between:
    operand: Operand
    low: Operand
    high: Operand


@dataclass(frozen=True, slots=True)
class Membership:
    operand: Operand
    choices: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[ConditionNode, ...]  # two or more


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[ConditionNode, ...]  # two or more


@dataclass(frozen=True, slots=True)
class Not:
    part: ConditionNode


Predicate = Comparison | Between | Membership | Call  # a Call here is a boolean function
ConditionNode = Predicate | And | Or | Not


class Condition(NamedTuple):
    """A condition, filter or key condition.

    `names` and `values` are the placeholders used, in order of use; `predicates` the leaves of the tree from left to
    right, kept so that the checks of each request need not walk it; `operators` how many operators and functions.
    """

    root: ConditionNode
    names: tuple[str, ...]
    values: tuple[str, ...]
    predicates: tuple[Predicate, ...]
    operators: int = 0


def predicates(node: ConditionNode) -> Iterator[Predicate]:
    """The leaves of a condition, from left to right."""
    if isinstance(node, And | Or):
        for part in node.parts:
            yield from predicates(part)
    elif isinstance(node, Not):
        yield from predicates(node.part)
    else:
        yield node


@dataclass(frozen=True, slots=True)
class Arithmetic:
    operator: str  # + -
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class Assignment:
    """SET path = value."""

    path: Path
    value: Operand | Arithmetic


@dataclass(frozen=True, slots=True)
class Accumulation:
    """ADD or DELETE path :value."""

    path: Path
    value: Value


class Update(NamedTuple):
    sets: tuple[Assignment, ...]
    removes: tuple[Path, ...]
    adds: tuple[Accumulation, ...]
    deletes: tuple[Accumulation, ...]
    names: tuple[str, ...]
    values: tuple[str, ...]
    operators: int = 0

    def targets(self) -> Iterator[Path]:
        """The paths that the update writes, section by section."""
        for assignment in self.sets:
            yield assignment.path
        yield from self.removes
        for accumulation in self.adds:
            yield accumulation.path
        for accumulation in self.deletes:
            yield accumulation.path


class Projection(NamedTuple):
    paths: tuple[Path, ...]
    names: tuple[str, ...]


def resolved(path: Path, names: Mapping[str, str]) -> ResolvedPath:
    """A path with its placeholders replaced. All of them are defined: `check_expressions` has seen to it."""
    return tuple(
        names[element] if isinstance(element, str) and element[0] == "#" else element for element in path.elements
    )


def path_text(path: ResolvedPath) -> str:
    """A path as the service shows it in messages: [a, [0], b]."""
    return f"[{', '.join(f'[{element}]' if isinstance(element, int) else element for element in path)}]"
