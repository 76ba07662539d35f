"""What a request must look like before anyone thinks about what it means: types, then constraints.

`validator(operation)` compiles the operation's entry of the generated table `shapes.json` into closures, once.  A
validator returns nothing, or raises what DynamoDB answers:

- a value of the wrong JSON type: SerializationException, at the first one found;
- broken constraints: ValidationException "N validation errors detected: Value 'x' at 'tableName' failed to satisfy
  constraint: ...", all of them, in the order of the model, members in camel case, list positions from 1.

Unknown members are ignored, and `null` is an absent member, as in the service.  Attribute values are opaque here:
`geodyne.model.values` checks and normalises them in one walk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from geodyne.errors import validation
from geodyne.limits import TABLE_ARN_LENGTH_MAX, TABLE_NAME_LENGTH_MAX, TABLE_NAME_LENGTH_MIN, TABLE_NAME_PATTERN
from geodyne.model.jsontypes import JAVA_PACKAGE, refuse_type

Check = Callable[[Any, str, list[str]], None]
Validator = Callable[[Any], None]
Rule = Mapping[str, Any]

SHAPES_FILE = Path(__file__).with_name("shapes.json")

SHOWN_CHARACTERS_MAX = 2048  # of a refused value that is repeated in the answer

# Shapes that hold a table's name or its ARN.
TABLE_SHAPE = "TableArn"
# The control plane checks names before everything else, with sentences of its own.
NAME_FIRST: dict[str, tuple[str, bool]] = {
    "CreateTable": ("TableName", True),
    "DescribeTable": ("TableName", True),
    "UpdateTable": ("TableName", True),
    "DeleteTable": ("TableName", True),
    "ListTables": ("ExclusiveStartTableName", False),
}
# Batches answer these before the rest of their constraints.
ITEMS_FIRST = frozenset({"BatchGetItem", "BatchWriteItem"})

_name_matches = re.compile(TABLE_NAME_PATTERN).fullmatch
# Parts of patterns that mean something else to Python: a class, and a range from one surrogate pair to another.
_JAVA_PARTS = {"\\p{Print}": r"[^\x00-\x1f\x7f]", r"\uD800\uDC00-\uDBFF\uDFFF": r"\U00010000-\U0010FFFF"}


class ShapesMissing(RuntimeError):
    """The generated table is not there."""


def validator(operation: str) -> Validator:
    """The check of an operation's input. Raises KeyError for an operation that the model does not have."""
    found = _VALIDATORS.get(operation)
    if found is None:
        found = _VALIDATORS[operation] = _compile_operation(operation)
    return found


def input_shape(operation: str) -> str:
    """The name of the shape of an operation's input. Raises KeyError for an operation that the model does not have."""
    name: str = _TABLE["operations"][operation]
    return name


def shape_rule(shape_name: str) -> Rule:
    """The model's entry of a shape. Raises KeyError for an unknown one."""
    return _SHAPES[shape_name]


def _load() -> dict[str, Any]:
    try:
        text = SHAPES_FILE.read_bytes()
    except FileNotFoundError:
        raise ShapesMissing("router/api/shapes.json has not been generated: run `make setup`") from None
    table: dict[str, Any] = json.loads(text)
    return table


_TABLE = _load()
_SHAPES: dict[str, Rule] = _TABLE["shapes"]
_VALIDATORS: dict[str, Validator] = {}  # bounded by the operations of the model
_CHECKS: dict[str, Check] = {}  # bounded by the shapes of the model


# --- an operation's input -------------------------------------------------------------------------------


def _compile_operation(operation: str) -> Validator:
    shape = shape_rule(input_shape(operation))
    rules = {name: (_check(member), _camel(name)) for name, member in shape.get("members", {}).items()}
    required = tuple(shape.get("required", ()))
    name_first = NAME_FIRST.get(operation)
    items_first = operation in ITEMS_FIRST
    rule_of = rules.get

    def validate(body: Any) -> None:
        if type(body) is not dict:
            refuse_type(body, "structure", f"{operation}Input")
        errors: list[str] = []
        for name, value in body.items():
            rule = rule_of(name)
            if rule is not None and value is not None:
                rule[0](value, rule[1], errors)
        if name_first is not None:
            _check_name_first(body.get(name_first[0]), name_first[0], name_first[1])
        if items_first and not body.get("RequestItems"):
            raise validation(f"The requestItems parameter is required for {operation}")
        for name in required:
            if body.get(name) is None:
                errors.append(_null(_camel(name)))
        if errors:
            _refuse(_in_model_order(body, rules, required))

    return validate


def _in_model_order(
    body: dict[str, Any], rules: Mapping[str, tuple[Check, str]], required: tuple[str, ...]
) -> list[str]:
    errors: list[str] = []
    for name, (check, path) in rules.items():
        value = body.get(name)
        if value is not None:
            check(value, path, errors)
        elif name in required:
            errors.append(_null(path))
    return errors


def _check_name_first(name: str | None, member: str, required: bool) -> None:
    if name is None:
        if required:
            raise validation(f"The parameter '{member}' is required but was not present in the request")
        return
    if name.startswith("arn:"):
        return
    if not TABLE_NAME_LENGTH_MIN <= len(name) <= TABLE_NAME_LENGTH_MAX:
        raise validation(
            f"{member} must be at least {TABLE_NAME_LENGTH_MIN} characters long "
            f"and at most {TABLE_NAME_LENGTH_MAX} characters long"
        )


def _refuse(errors: list[str]) -> NoReturn:
    noun = "error" if len(errors) == 1 else "errors"
    raise validation(f"{len(errors)} validation {noun} detected: {'; '.join(errors)}")


# --- one shape ------------------------------------------------------------------------------------------


def _check(shape_name: str) -> Check:
    """The compiled check of a shape. A shape that contains itself is reached through the table at run time."""
    found = _CHECKS.get(shape_name)
    if found is not None:
        return found

    def later(value: Any, path: str, errors: list[str]) -> None:
        _CHECKS[shape_name](value, path, errors)

    _CHECKS[shape_name] = later
    rule = _SHAPES[shape_name]
    if shape_name == TABLE_SHAPE:
        check: Check = _table_check
    else:
        check = _COMPILERS[rule["type"]](shape_name, rule)
    _CHECKS[shape_name] = check
    return check


def _table_check(value: Any, path: str, errors: list[str]) -> None:
    """A table's name or ARN. The model bounds the ARN; a name keeps the pattern and length of names."""
    if type(value) is not str:
        refuse_type(value, "string", "String")
    if len(value) <= TABLE_NAME_LENGTH_MAX and _name_matches(value):
        return
    bounds = _SHAPES[TABLE_SHAPE]
    if value.startswith("arn:"):
        _length(value, (bounds.get("min"), bounds.get("max")), path, errors)
        return
    _length(value, (bounds.get("min"), TABLE_NAME_LENGTH_MAX), path, errors)
    if value and not _name_matches(value):
        errors.append(_pattern_error(value, TABLE_NAME_PATTERN, path))


def _string(shape_name: str, rule: Rule) -> Check:
    bounds = (rule.get("min"), rule.get("max"))
    enum, pattern = rule.get("enum"), rule.get("pattern")
    allowed = None if enum is None else frozenset(enum)
    listed = "" if enum is None else ", ".join(enum)
    matches = None if pattern is None else re.compile(_python_pattern(pattern)).fullmatch
    plain = bounds == (None, None) and matches is None

    def check(value: Any, path: str, errors: list[str]) -> None:
        if type(value) is not str:
            refuse_type(value, "string", "String")
        if allowed is not None:
            if value not in allowed:
                errors.append(_error(value, path, f"Member must satisfy enum value set: [{listed}]"))
        elif not plain:
            _length(value, bounds, path, errors)
            if matches is not None and not matches(value):
                errors.append(_pattern_error(value, str(pattern), path))

    return check


def _number(shape_name: str, rule: Rule) -> Check:
    low, high, kind = rule.get("min"), rule.get("max"), rule["type"]
    java = {"integer": "Integer", "long": "Long", "float": "Float"}.get(kind, "Double")
    limit = 1 << {"integer": 31, "long": 63}.get(kind, 1023)
    fractions = kind not in ("integer", "long")  # a whole number is counted with: no fraction may come further

    def check(value: Any, path: str, errors: list[str]) -> None:
        if type(value) is not int and not (fractions and type(value) is float):
            refuse_type(value, "number", java)
        if not -limit <= value < limit:
            refuse_type(value, "number", java)
        if low is not None and value < low:
            errors.append(_error(value, path, f"Member must have value greater than or equal to {low}"))
        if high is not None and value > high:
            errors.append(_error(value, path, f"Member must have value less than or equal to {high}"))

    return check


def _boolean(shape_name: str, rule: Rule) -> Check:
    def check(value: Any, path: str, errors: list[str]) -> None:
        if type(value) is not bool:
            refuse_type(value, "boolean", "Boolean")

    return check


def _blob(shape_name: str, rule: Rule) -> Check:
    def check(value: Any, path: str, errors: list[str]) -> None:
        if type(value) is not str:
            refuse_type(value, "blob", "ByteBuffer")

    return check


def _list(shape_name: str, rule: Rule) -> Check:
    bounds, element_name = (rule.get("min"), rule.get("max")), rule["member"]
    element = None if _opaque(element_name) else _check(element_name)

    def check(value: Any, path: str, errors: list[str]) -> None:
        if type(value) is not list:
            refuse_type(value, "list", shape_name)
        _length(value, bounds, path, errors, shape_name)
        if element is not None:
            for position, item in enumerate(value, 1):
                if item is None:
                    errors.append(_null(f"{path}.{position}.member"))
                else:
                    element(item, f"{path}.{position}.member", errors)

    return check


def _map(shape_name: str, rule: Rule) -> Check:
    bounds, value_name = (rule.get("min"), rule.get("max")), rule["value"]
    member, bounded, constraint = _map_value(value_name)
    plain = bounds == (None, None)
    of_tables = rule["key"] == TABLE_SHAPE
    java = f"java.util.Map<java.lang.String, {_java_name(value_name)}>"

    def check(value: Any, path: str, errors: list[str]) -> None:
        if type(value) is not dict:
            refuse_type(value, "map", java)
        if not plain:
            _length(value, bounds, path, errors, shape_name)
        if of_tables and not all(map(_is_table, value)):
            errors.append(_error(value, path, _TABLE_KEYS, shape_name))
        if member is None:
            return
        for key, item in value.items():
            if item is None:
                errors.append(_null(f"{path}.{key}.member"))
            else:
                member(item, f"{path}.{key}.member", errors)
        if bounded is not None and not all(map(bounded, value.values())):
            errors.append(_error(value, path, constraint, shape_name))

    return check


def _map_value(shape_name: str) -> tuple[Check | None, Callable[[Any], bool] | None, str]:
    """How a map's values are checked. Bounds of lists in a map are broken constraints of the map itself."""
    if _opaque(shape_name):
        return None, None, ""
    rule = _SHAPES[shape_name]
    low, high = rule.get("min", 0), rule.get("max")
    if rule["type"] != "list" or high is None:
        return _check(shape_name), None, ""

    def bounded(value: Any) -> bool:
        return value is None or low <= len(value) <= high

    unbounded = {key: part for key, part in rule.items() if key not in ("min", "max")}
    return (
        _list(shape_name, unbounded),
        bounded,
        f"Map value must satisfy constraint: [Member must have length less than or equal to {high}, "
        f"Member must have length greater than or equal to {low}]",
    )


def _structure(shape_name: str, rule: Rule) -> Check:
    rules = {name: (_check(shape), _camel(name)) for name, shape in rule.get("members", {}).items()}
    required = frozenset(rule.get("required", ()))

    def check(value: Any, path: str, errors: list[str]) -> None:
        if type(value) is not dict:
            refuse_type(value, _place(path), shape_name)
        for name, (member, camel) in rules.items():
            item = value.get(name)
            if item is not None:
                member(item, f"{path}.{camel}", errors)
            elif name in required:
                errors.append(_null(f"{path}.{camel}"))

    return check


def _value(shape_name: str, rule: Rule) -> Check:
    """An attribute value, or another opaque structure: a JSON object, and no more is asked here."""

    def check(value: Any, path: str, errors: list[str]) -> None:
        if type(value) is not dict:
            refuse_type(value, _place(path), shape_name)

    return check


def _place(path: str) -> str:
    """Where a structure stands: the parser has other words for one inside a list or map than for a member."""
    return "element" if path.endswith(".member") else "structure"


def _structure_or_value(shape_name: str, rule: Rule) -> Check:
    return _value(shape_name, rule) if _opaque(shape_name) else _structure(shape_name, rule)


_COMPILERS: dict[str, Callable[[str, Rule], Check]] = {
    "string": _string,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
    "timestamp": _number,
    "boolean": _boolean,
    "blob": _blob,
    "list": _list,
    "map": _map,
    "structure": _structure_or_value,
}


def _opaque(shape_name: str) -> bool:
    rule = _SHAPES[shape_name]
    return rule["type"] == "structure" and "members" not in rule


# --- the wording ----------------------------------------------------------------------------------------

_TABLE_KEYS = (
    f"Map keys must satisfy constraint: [Member must have length less than or equal to {TABLE_NAME_LENGTH_MAX}, "
    f"Member must have length greater than or equal to {TABLE_NAME_LENGTH_MIN}, "
    f"Member must satisfy regular expression pattern: {TABLE_NAME_PATTERN}]"
)


def is_table_name(name: str) -> bool:
    """Whether a table could have this name: its length and characters are those of names."""
    return TABLE_NAME_LENGTH_MIN <= len(name) <= TABLE_NAME_LENGTH_MAX and _name_matches(name) is not None


def _is_table(key: str) -> bool:
    if key.startswith("arn:"):
        return len(key) <= TABLE_ARN_LENGTH_MAX
    return is_table_name(key)


def _length(
    value: Any, bounds: tuple[int | None, int | None], path: str, errors: list[str], shape_name: str = ""
) -> None:
    low, high = bounds
    if low is not None and len(value) < low:
        errors.append(_error(value, path, f"Member must have length greater than or equal to {low}", shape_name))
    if high is not None and len(value) > high:
        errors.append(_error(value, path, f"Member must have length less than or equal to {high}", shape_name))


def _error(value: Any, path: str, constraint: str, shape_name: str = "") -> str:
    return f"Value '{_shown(value, shape_name)}' at '{path}' failed to satisfy constraint: {constraint}"


def _pattern_error(value: str, pattern: str, path: str) -> str:
    return _error(value, path, f"Member must satisfy regular expression pattern: {pattern}")


def _null(path: str) -> str:
    return f"Value null at '{path}' failed to satisfy constraint: Member must not be null"


def _shown(value: Any, shape_name: str) -> str:
    """The beginning of a value as the service's own language would print it, at most SHOWN_CHARACTERS_MAX of it.

    Without recursion, and without a look at what will not be shown: a refused value may be deep, and it may be large.
    """
    shown: list[str] = []
    length = 0
    pending: list[_Piece] = [(value, shape_name)]
    while pending and length < SHOWN_CHARACTERS_MAX:
        piece = pending.pop()
        if isinstance(piece, tuple):
            pending += reversed(_pieces(*piece))
        else:
            shown.append(piece)
            length += len(piece)
    return "".join(shown)[:SHOWN_CHARACTERS_MAX]


_Piece = str | tuple[Any, str]  # text, or a value still to be printed and its shape ("": not of the model)


def _pieces(value: Any, shape_name: str) -> list[_Piece]:
    """One level of a value. Lists and maps of the model likewise; structures by their names, with all members."""
    rule = _SHAPES[shape_name] if shape_name else {}
    kind = type(value)
    if kind is dict and "members" in rule:
        members = [(f"{_camel(name)}=", value.get(name), shape) for name, shape in rule["members"].items()]
        return _joined(f"{shape_name}(", members, ")")
    if kind is dict:
        below = rule["value"] if rule.get("type") == "map" else ""
        return _joined(
            "{", [(f"{key}=", item, below) for key, item in islice(value.items(), SHOWN_CHARACTERS_MAX)], "}"
        )
    if kind is list:
        below = rule["member"] if rule.get("type") == "list" else ""
        return _joined("[", [("", item, below) for item in islice(value, SHOWN_CHARACTERS_MAX)], "]")
    if kind is bool:
        return ["true" if value else "false"]
    return ["null" if value is None else str(value)]


def _joined(opening: str, entries: Iterable[tuple[str, Any, str]], closing: str) -> list[_Piece]:
    pieces: list[_Piece] = [opening]
    separator = ""
    for label, value, shape_name in entries:
        pieces += (separator + label, (value, shape_name))
        separator = ", "
    pieces.append(closing)
    return pieces


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


def _python_pattern(pattern: str) -> str:
    for java, python in _JAVA_PARTS.items():
        pattern = pattern.replace(java, python)
    return pattern


def _java_name(shape_name: str) -> str:
    scalar = {"string": "String", "boolean": "Boolean", "integer": "Integer", "long": "Long"}
    kind = _SHAPES[shape_name]["type"]
    return f"java.lang.{scalar[kind]}" if kind in scalar else f"{JAVA_PACKAGE}{shape_name}"
