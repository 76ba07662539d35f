"""Everything that can be wrong with the expressions of a request before any item is looked at.

`check_expressions` runs once per request, at the router. A node that gets the same texts, names and values afterwards
may evaluate them without checking again. Order of the checks and messages follow the service as far as they are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from geodyne.errors import ApiError, validation
from geodyne.expressions.evaluate import order_values
from geodyne.expressions.keycondition import key_terms
from geodyne.expressions.parse import parse_condition, parse_key_condition, parse_projection, parse_update
from geodyne.expressions.tree import (
    Arithmetic,
    Between,
    Call,
    Comparison,
    Condition,
    ExpressionError,
    Membership,
    Operand,
    Path,
    PathElement,
    Predicate,
    Projection,
    ResolvedPath,
    Update,
    Value,
    path_text,
    resolved,
)
from geodyne.limits import (
    EXPRESSION_BYTES_MAX,
    EXPRESSION_OPERATORS_MAX,
    EXPRESSION_VALUES_BYTES_MAX,
    PLACEHOLDER_BYTES_MAX,
)
from geodyne.messages import NO_NAMES, NO_VALUES, AttributeValue
from geodyne.model.keys import KeySchema
from geodyne.model.values import canonical, check_attribute_name

_Names = Mapping[str, str]
_Values = Mapping[str, AttributeValue]

_NAMES = "ExpressionAttributeNames"
_VALUES = "ExpressionAttributeValues"
_NAME = re.compile(r"#[A-Za-z0-9_]+")
_VALUE = re.compile(r":[A-Za-z0-9_]+")


class Checked(NamedTuple):
    """The expressions of a request as trees, with the names and canonical values that they use."""

    names: _Names = NO_NAMES
    values: _Values = NO_VALUES
    condition: Condition | None = None
    filter: Condition | None = None
    update: Update | None = None
    projection: Projection | None = None
    key_condition: Condition | None = None


_NOTHING = Checked()


def check_expressions(
    *,
    condition: str | None = None,
    filter: str | None = None,
    update: str | None = None,
    projection: str | None = None,
    key_condition: str | None = None,
    names: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    schema: KeySchema | None = None,
    offered: tuple[str, ...] = (),
) -> Checked:
    """Parse and check all expressions of one request together.

    Without a schema, what depends on the keys is left to `check_key_use`, for requests whose table is looked up
    later. `offered` names the parameters of the operation that could use values ("ConditionExpression" ...); the
    message for values without any expression lists them. Raises ApiError: ValidationException, or
    SerializationException for a wrong JSON type among names and values.
    """
    uses_values = not (condition is filter is update is key_condition is None)
    if not uses_values and projection is None and names is None and values is None:
        return _NOTHING
    if names is not None and not uses_values and projection is None:
        raise validation(f"{_NAMES} can only be specified when using expressions")
    if values is not None and not uses_values:
        null = f": {' and '.join(offered)} {'are' if len(offered) > 1 else 'is'} null" if offered else ""
        raise validation(f"{_VALUES} can only be specified when using expressions{null}")
    given_names = NO_NAMES if names is None else _checked_names(names)
    names_size = _names_size(given_names) if given_names else 0
    given_values = NO_VALUES if values is None else _checked_values(values, names_size)

    bound = _Bound(given_names, given_values)
    checked = Checked(
        given_names,
        given_values,
        update=bound.read("UpdateExpression", update, parse_update, _check_update),
        condition=bound.read("ConditionExpression", condition, parse_condition, _check_condition),
        filter=bound.read("FilterExpression", filter, parse_condition, _check_condition),
        key_condition=bound.read("KeyConditionExpression", key_condition, parse_key_condition, _check_condition),
        projection=bound.read("ProjectionExpression", projection, parse_projection, _check_projection),
    )
    bound.check_all_used()
    if checked.key_condition is not None:
        key_terms(checked.key_condition, given_names)
    if schema is not None:
        check_key_use(checked, schema)
    return checked


def check_key_use(checked: Checked, schema: KeySchema) -> None:
    """Keys are neither updated nor, in a Query, filtered on. Raises ApiError (ValidationException)."""
    if checked.update is not None:
        for path in checked.update.targets():
            name = resolved(path, checked.names)[0]
            if name in schema.names:
                raise validation(
                    "One or more parameter values were invalid: "
                    f"Cannot update attribute {name}. This attribute is part of the key"
                )
    if checked.filter is not None and checked.key_condition is not None:
        check_filter_use(checked.filter, checked.names, schema.names)


def check_filter_use(
    tree: Condition, names: Mapping[str, str], keys: Collection[str], parameter: str = "Filter Expression"
) -> None:
    """The filter of a Query names no attribute of the key that it queries. Raises ApiError (ValidationException)."""
    for name in condition_attributes(tree, names):
        if name in keys:
            raise validation(f"{parameter} can only contain non-primary key attributes: Primary key attribute: {name}")


def condition_attributes(tree: Condition, names: Mapping[str, str]) -> Iterator[str]:
    """The top-level attributes that a condition looks at."""
    for path in _paths(tree):
        yield str(resolved(path, names)[0])


_Tree = TypeVar("_Tree", Condition, Update, Projection)


class _Bound:
    """Reads the expressions of one request and keeps account of the names and values they use."""

    def __init__(self, names: _Names, values: _Values) -> None:
        self._names = names
        self._values = values
        self._unused_names = set(names)
        self._unused_values = set(values)

    def read(
        self,
        parameter: str,
        text: str | None,
        parse: Callable[[str], _Tree],
        check: Callable[[_Tree, _Names, _Values], None],
    ) -> _Tree | None:
        if text is None:
            return None
        try:
            _check_length(text)
            tree = parse(text)
            if not isinstance(tree, Projection) and tree.operators > EXPRESSION_OPERATORS_MAX:
                # The service stops counting at the first one too many.
                raise ExpressionError(
                    f"The expression contains too many operators; operator count: {EXPRESSION_OPERATORS_MAX + 1}"
                )
            self._use(tree)
            check(tree, self._names, self._values)
        except ExpressionError as error:
            raise validation(f"Invalid {parameter}: {error.reason}") from None
        return tree

    def _use(self, tree: Condition | Update | Projection) -> None:
        for name in tree.names:
            if name not in self._names:
                raise ExpressionError(
                    f"An expression attribute name used in the document path is not defined; attribute name: {name}"
                )
            self._unused_names.discard(name)
        if isinstance(tree, Projection):
            return
        for value in tree.values:
            if value not in self._values:
                raise ExpressionError(
                    f"An expression attribute value used in expression is not defined; attribute value: {value}"
                )
            self._unused_values.discard(value)

    def check_all_used(self) -> None:
        for parameter, given, unused in (
            (_NAMES, self._names, self._unused_names),
            (_VALUES, self._values, self._unused_values),
        ):
            if unused:
                keys = ", ".join(key for key in given if key in unused)
                raise validation(f"Value provided in {parameter} unused in expressions: keys: {{{keys}}}")


def _check_length(text: str) -> None:
    size = len(text) if text.isascii() else len(text.encode(errors="replace"))
    if size > EXPRESSION_BYTES_MAX:
        raise ExpressionError(f"Expression size has exceeded the maximum allowed size; expression size: {size}")


# --- names and values ----------------------------------------------------------------------------------------


def _checked_names(names: Mapping[str, Any]) -> _Names:
    _check_keys(_NAMES, names, _NAME)
    for key, name in names.items():
        if type(name) is not str:
            raise ApiError("SerializationException", "Unexpected field type")
        if not name:
            raise validation(f"{_NAMES} contains invalid value: Empty attribute name for key {key}")
        check_attribute_name(name)
    return names


def _names_size(names: _Names) -> int:
    """Bytes of the names that stand in for placeholders. Raises ApiError when they alone are too many."""
    total = 0
    for name in names.values():
        total += len(name) if name.isascii() else len(name.encode())
    if total > EXPRESSION_VALUES_BYTES_MAX:
        raise validation(
            f"{_NAMES} exceeds the maximum allowed size; size: {total}, maximum: {EXPRESSION_VALUES_BYTES_MAX}"
        )
    return total


def _checked_values(values: Mapping[str, Any], total: int) -> _Values:
    """`total` are the bytes of the names, which count with those of the values (Constraints: "2 MB is the sum")."""
    _check_keys(_VALUES, values, _VALUE)
    result: dict[str, AttributeValue] = {}
    for key, value in values.items():
        try:
            result[key], size = canonical(value)
        except ApiError as error:
            if error.kind.code != "ValidationException":
                raise
            raise validation(f"{_VALUES} contains invalid value: {error.message} for key {key}") from None
        total += size
    if total > EXPRESSION_VALUES_BYTES_MAX:
        raise validation(
            f"{_VALUES} exceeds the maximum allowed size; size: {total}, maximum: {EXPRESSION_VALUES_BYTES_MAX}"
        )
    return result


def _check_keys(parameter: str, given: Mapping[str, Any], form: re.Pattern[str]) -> None:
    if not isinstance(given, dict):
        raise ApiError("SerializationException", "Unexpected field type")
    if not given:
        raise validation(f"{parameter} must not be empty")
    for key in given:
        if form.fullmatch(key) is None:
            raise validation(f'{parameter} contains invalid key: Syntax error; key: "{key}"')
        if len(key) > PLACEHOLDER_BYTES_MAX:
            raise validation(f'{parameter} contains invalid key: The key is too long; key: "{key}"')


# --- conditions ----------------------------------------------------------------------------------------------

_ORDERED = frozenset(("S", "N", "B"))
_TYPE_NAMES = ("B", "NULL", "SS", "BOOL", "L", "BS", "N", "NS", "S", "M")


def _check_condition(tree: Condition, names: _Names, values: _Values) -> None:
    for node in tree.predicates:
        _check_distinct(node, names)
    for node in tree.predicates:
        _check_types(node, values)


def _operands(node: Predicate) -> tuple[Operand, ...]:
    if isinstance(node, Comparison):
        return (node.left, node.right)
    if isinstance(node, Between):
        return (node.operand, node.low, node.high)
    if isinstance(node, Membership):
        return (node.operand, *node.choices)
    return node.arguments


def _paths(tree: Condition) -> Iterable[Path]:
    for node in tree.predicates:
        for operand in _operands(node):
            yield from _paths_of(operand)


def _paths_of(operand: Operand) -> Iterable[Path]:
    if isinstance(operand, Path):
        yield operand
    elif isinstance(operand, Call):
        for argument in operand.arguments:
            yield from _paths_of(argument)


def _check_distinct(node: Predicate, names: _Names) -> None:
    if isinstance(node, Comparison):
        operator, first, second = node.operator, node.left, node.right
    elif isinstance(node, Call) and len(node.arguments) == 2:
        operator = node.function
        first, second = node.arguments
    else:
        return
    if isinstance(first, Path) and isinstance(second, Path):
        path = resolved(first, names)
        if path == resolved(second, names):
            raise ExpressionError(
                "The first operand must be distinct from the remaining operands for this operator or function; "
                f"operator: {operator}, first operand: {path_text(path)}"
            )


def _check_types(node: Predicate, values: _Values) -> None:
    operands = _operands(node)
    for operand in operands:
        if isinstance(operand, Call):
            _check_types(operand, values)
    if isinstance(node, Comparison):
        if node.operator not in ("=", "<>"):
            _require(node.operator, operands, values, _ORDERED)
    elif isinstance(node, Between):
        _require("BETWEEN", operands, values, _ORDERED)
        _check_bounds(node, values)
    elif isinstance(node, Call):
        if node.function == "begins_with":
            _require("begins_with", operands, values, frozenset(("S", "B")))
        elif node.function == "size":
            _require("size", operands, values, frozenset(("S", "B", "SS", "NS", "BS", "L", "M")))
        elif node.function == "attribute_type":
            _check_type_name(operands[1], values)


def _require(operator: str, operands: Iterable[Operand], values: _Values, allowed: frozenset[str]) -> None:
    for operand in operands:
        found = _static_type(operand, values)
        if found is not None and found not in allowed:
            raise _wrong_operand(operator, found)


def _wrong_operand(operator: str, found: str) -> ExpressionError:
    return ExpressionError(
        f"Incorrect operand type for operator or function; operator or function: {operator}, operand type: {found}"
    )


def _static_type(operand: Operand, values: _Values) -> str | None:
    """The type of an operand where the item does not matter, else None."""
    if isinstance(operand, Value):
        return next(iter(values[operand.name]))
    if isinstance(operand, Call):
        if operand.function == "if_not_exists":
            return None  # the attribute's, if it is there
        return {"size": "N", "list_append": "L"}.get(operand.function)
    return None


def _check_bounds(node: Between, values: _Values) -> None:
    if not (isinstance(node.low, Value) and isinstance(node.high, Value)):
        return
    low, high = values[node.low.name], values[node.high.name]
    order = order_values(low, high)
    if order is None:
        rule = "same data type for lower and upper bounds"
    elif order > 0:
        rule = "upper bound to be greater than or equal to lower bound"
    else:
        return
    raise ExpressionError(
        f"The BETWEEN operator requires {rule}; "
        f"lower bound operand: {_value_text(low)}, upper bound operand: {_value_text(high)}"
    )


def _value_text(value: AttributeValue) -> str:
    tag, content = next(iter(value.items()))
    return f"AttributeValue: {{{tag}:{content}}}"


def _check_type_name(operand: Operand, values: _Values) -> None:
    found = _static_type(operand, values)
    if found != "S":
        raise _wrong_operand("attribute_type", found or "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}")
    assert isinstance(operand, Value)
    name = values[operand.name]["S"]
    if name not in _TYPE_NAMES:
        raise ExpressionError(
            f"Invalid attribute type name found; type: {name}, valid types: {{{','.join(_TYPE_NAMES)}}}"
        )


# --- updates and projections ---------------------------------------------------------------------------------

_LONG_NAMES = {
    "S": "STRING",
    "N": "NUMBER",
    "B": "BINARY",
    "NULL": "NULL",
    "BOOL": "BOOLEAN",
    "L": "LIST",
    "M": "MAP",
    "SS": "STRING_SET",
    "NS": "NUMBER_SET",
    "BS": "BINARY_SET",
}
_NUMBER = frozenset("N")
_LIST = frozenset("L")


def _check_update(tree: Update, names: _Names, values: _Values) -> None:
    _check_overlap(resolved(path, names) for path in tree.targets())
    for section, accumulations in (("ADD", tree.adds), ("DELETE", tree.deletes)):
        for accumulation in accumulations:
            found = next(iter(values[accumulation.value.name]))
            if found not in ("SS", "NS", "BS") and not (section == "ADD" and found == "N"):
                raise ExpressionError(
                    f"Incorrect operand type for operator or function; operator: {section}, "
                    f"operand type: {_LONG_NAMES[found]}, typeSet: ALLOWED_FOR_{section}_OPERAND"
                )
    for assignment in tree.sets:
        value = assignment.value
        if isinstance(value, Arithmetic):
            _require(value.operator, (value.left, value.right), values, _NUMBER)
            _check_calls(value.left, values)
            _check_calls(value.right, values)
        else:
            _check_calls(value, values)


def _check_calls(operand: Operand, values: _Values) -> None:
    if isinstance(operand, Call):
        if operand.function == "list_append":
            _require("list_append", operand.arguments, values, _LIST)
        for argument in operand.arguments:
            _check_calls(argument, values)


def _check_projection(tree: Projection, names: _Names, values: _Values) -> None:
    _check_overlap(resolved(path, names) for path in tree.paths)


class _Node:
    """A point of the tree of all paths of an expression."""

    __slots__ = ("below", "path")

    def __init__(self) -> None:
        self.below: dict[PathElement, _Node] = {}
        self.path: ResolvedPath | None = None  # the path that ends here


def _check_overlap(paths: Iterable[ResolvedPath]) -> None:
    """No path may begin with another, nor treat as a list what another treats as a map. Linear in their length."""
    root = _Node()
    for path in paths:
        node = root
        for element in path:
            if node.path is not None:
                raise _clash("overlap", node.path, path)
            child = node.below.get(element)
            if child is None:
                if node.below and isinstance(next(iter(node.below)), int) is not isinstance(element, int):
                    raise _clash("conflict", _any_path(node), path)
                child = node.below[element] = _Node()
            node = child
        if node.path is not None or node.below:
            raise _clash("overlap", _any_path(node), path)
        node.path = path


def _any_path(node: _Node) -> ResolvedPath:
    while node.path is None:
        node = next(iter(node.below.values()))
    return node.path


def _clash(how: str, one: ResolvedPath, two: ResolvedPath) -> ExpressionError:
    return ExpressionError(
        f"Two document paths {how} with each other; must remove or rewrite one of these paths; "
        f"path one: {path_text(one)}, path two: {path_text(two)}"
    )
