"""Parsed PartiQL statements as values: hashable, without parameters' values, so that one tree serves every request
with the same text.

`at` is where something was written.
"""

from __future__ import annotations

from dataclasses import dataclass

from router.api.partiql.tokens import Place

PathElement = str | int


@dataclass(frozen=True, slots=True)
class Path:
    elements: tuple[PathElement, ...]  # the first is an attribute name
    at: Place


@dataclass(frozen=True, slots=True)
class Text:
    content: str


@dataclass(frozen=True, slots=True)
class Number:
    content: str  # as written, with its sign


@dataclass(frozen=True, slots=True)
class Boolean:
    content: bool


@dataclass(frozen=True, slots=True)
class Null:
    pass


@dataclass(frozen=True, slots=True)
class Missing:
    pass


@dataclass(frozen=True, slots=True)
class Parameter:
    index: int  # from 0, in the order of the question marks


@dataclass(frozen=True, slots=True)
class ListOf:
    elements: tuple[Node, ...]
    at: Place


@dataclass(frozen=True, slots=True)
class SetOf:
    elements: tuple[Node, ...]
    at: Place


@dataclass(frozen=True, slots=True)
class MapOf:
    members: tuple[tuple[Node, Node], ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Call:
    function: str  # in lower case
    arguments: tuple[Node, ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Binary:
    """A comparison (= <> < <= > >=), or arithmetic (+ - and what is refused: * / % ||)."""

    operator: str
    left: Node
    right: Node
    at: Place


@dataclass(frozen=True, slots=True)
class Between:
    operand: Node
    low: Node
    high: Node


@dataclass(frozen=True, slots=True)
class Membership:
    operand: Node
    choices: Node  # a ListOf, or a parameter


@dataclass(frozen=True, slots=True)
class TypeTest:
    operand: Node
    type_name: str  # in upper case


@dataclass(frozen=True, slots=True)
class Like:
    at: Place


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


Constant = Text | Number | Boolean | Null | Parameter | ListOf | SetOf | MapOf
Node = Path | Constant | Missing | Call | Binary | Between | Membership | TypeTest | Like | And | Or | Not


@dataclass(frozen=True, slots=True)
class OrderKey:
    path: Node
    descending: bool


@dataclass(frozen=True, slots=True)
class Select:
    """`projection` None is "*"."""

    table: str
    index: str | None
    projection: tuple[Node, ...] | None
    where: Node | None
    order: tuple[OrderKey, ...]
    parameters: int


@dataclass(frozen=True, slots=True)
class Insert:
    table: str
    value: Node
    parameters: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """SET path = value; a REMOVE has no value."""

    path: Path
    value: Node | None


@dataclass(frozen=True, slots=True)
class Update:
    """`returning` is the name that ReturnValues has for it."""

    table: str
    changes: tuple[Assignment, ...]
    where: Node | None
    returning: str
    parameters: int


@dataclass(frozen=True, slots=True)
class Delete:
    table: str
    where: Node | None
    returning: str
    parameters: int


@dataclass(frozen=True, slots=True)
class Exists:
    """EXISTS(SELECT ...): a condition check, in transactions only."""

    select: Select

    @property
    def table(self) -> str:
        return self.select.table

    @property
    def parameters(self) -> int:
        return self.select.parameters


Statement = Select | Insert | Update | Delete | Exists
