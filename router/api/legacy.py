"""The parameters from before expressions, translated into the one expression language.

Expected, QueryFilter, ScanFilter and KeyConditions become conditions, AttributeUpdates an update, AttributesToGet a
projection, with placeholders "#0", ":0" in the order of use; what reads them afterwards, here and in the nodes, knows
expressions only. API reference, "Legacy conditional parameters"; messages as the service has them.

Where the meanings differ from what the same words mean in an expression:

- NOT_CONTAINS needs the attribute to be there.
- ADD also appends a list to a list.
- They are not bound by an expression's size and number of operators, only by LEGACY_ELEMENTS_MAX, which is ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from geodyne.errors import ApiError, validation
from geodyne.expressions import Checked, parse_condition, parse_key_condition, parse_projection, parse_update
from geodyne.expressions.evaluate import order_values
from geodyne.expressions.tree import Value
from geodyne.limits import IN_OPERANDS_MAX, LEGACY_ELEMENTS_MAX
from geodyne.messages import AttributeValue, Item
from geodyne.model.values import canonical, check_attribute_name
from router.api.refusals import INVALID

_DETECTED: Final = "1 validation error detected: "  # before what is wrong with a write, not with a read

# What the service says of an update that does not fit the item, in an expression and in AttributeUpdates.
_UNFIT_OPERAND: Final = "An operand in the update expression has an incorrect data type"
_UNFIT_ATTRIBUTE: Final = "Type mismatch for attribute to update"

_SCALARS: Final = frozenset(("S", "N", "B"))
_SETS: Final = frozenset(("SS", "NS", "BS"))
_COMPARATORS: Final = {"EQ": "=", "NE": "<>", "LE": "<=", "LT": "<", "GE": ">=", "GT": ">"}
_CONTAINED: Final = frozenset(("S", "N", "B", "BOOL", "NULL"))
_VALUE_TYPES: Final = {  # of the values that an operator takes; any where nothing is said
    "LE": _SCALARS,
    "LT": _SCALARS,
    "GE": _SCALARS,
    "GT": _SCALARS,
    "BETWEEN": _SCALARS,
    "IN": _SCALARS,
    "CONTAINS": _CONTAINED,
    "NOT_CONTAINS": _CONTAINED,
    "BEGINS_WITH": frozenset(("S", "B")),
}
_INDEXABLE: Final = frozenset(("EQ", "LE", "LT", "GE", "GT", "BETWEEN", "BEGINS_WITH"))


class Translated(NamedTuple):
    """The expressions that stand for a request's legacy parameters, as texts and checked."""

    condition: str | None = None
    update: str | None = None
    filter: str | None = None
    projection: str | None = None
    key_condition: str | None = None
    checked: Checked = Checked()


class _Condition(NamedTuple):
    """One condition on one attribute, with the canonical values it takes."""

    name: str
    operator: str
    values: tuple[AttributeValue, ...]


def translate_write(body: Mapping[str, Any]) -> Translated:
    """AttributeUpdates, Expected and ConditionalOperator of a write. Raises ApiError."""
    try:
        return _translated_write(body)
    except ApiError as error:
        if error.kind.code != "ValidationException":
            raise
        raise validation(f"{_DETECTED}{error.message}") from None


def _translated_write(body: Mapping[str, Any]) -> Translated:
    places = _Placeholders()
    updates: Mapping[str, Any] | None = body.get("AttributeUpdates")
    _check_elements("AttributeUpdates", len(updates or ()))
    update = _update(updates, places) if updates else None
    condition = _conjunction(body, "Expected", places)
    checked = Checked(
        places.names,
        places.values,
        update=None if update is None else parse_update(update),
        condition=None if condition is None else parse_condition(condition),
    )
    return Translated(condition=condition, update=update, checked=checked)


def translate_read(body: Mapping[str, Any], filter_name: str | None = None) -> Translated:
    """AttributesToGet and, of a Query or Scan, KeyConditions and the filter of that name. Raises ApiError."""
    places = _Placeholders()
    projection = _projection(body.get("AttributesToGet"), places)
    filter_text = None if filter_name is None else _conjunction(body, filter_name, places)
    key_condition = _key_condition(body.get("KeyConditions"), places) if filter_name is not None else None
    checked = Checked(
        places.names,
        places.values,
        filter=None if filter_text is None else parse_condition(filter_text),
        projection=None if projection is None else parse_projection(projection),
        key_condition=None if key_condition is None else parse_key_condition(key_condition),
    )
    return Translated(filter=filter_text, projection=projection, key_condition=key_condition, checked=checked)


def put_values(translated: Translated) -> Item:
    """The attributes that PUT actions set, for what can be said of their values before the item is looked at."""
    update, names, values = translated.checked.update, translated.checked.names, translated.checked.values
    if update is None:
        return {}
    return {
        names[str(assignment.path.elements[0])]: values[assignment.value.name]
        for assignment in update.sets
        if isinstance(assignment.value, Value)
    }


def in_legacy_words(error: ApiError) -> ApiError:
    """A refusal of an update as it is worded for AttributeUpdates."""
    return validation(_UNFIT_ATTRIBUTE) if error.message == _UNFIT_OPERAND else error


class _Placeholders:
    """Names and values of the generated expressions; an attribute has one placeholder however often it is used."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.values: dict[str, AttributeValue] = {}
        self._by_name: dict[str, str] = {}

    def name(self, attribute: str) -> str:
        placeholder = self._by_name.get(attribute)
        if placeholder is None:
            placeholder = self._by_name[attribute] = f"#{len(self.names)}"
            self.names[placeholder] = attribute
        return placeholder

    def value(self, value: AttributeValue) -> str:
        placeholder = f":{len(self.values)}"
        self.values[placeholder] = value
        return placeholder


# --- conditions -----------------------------------------------------------------------------------------


def _conjunction(body: Mapping[str, Any], parameter: str, places: _Placeholders) -> str | None:
    """The conditions of one parameter, joined by the request's ConditionalOperator."""
    conditions = _conditions(parameter, body.get(parameter) or {})
    joined = body.get("ConditionalOperator")
    if joined is not None:
        if not conditions:
            raise validation("ConditionalOperator cannot be used without Filter or Expected")
        if len(conditions) == 1:
            raise validation("ConditionalOperator can only be used when Filter or Expected has two or more elements")
    if not conditions:
        return None
    return f" {joined or 'AND'} ".join(_text(condition, places) for condition in conditions)


def _key_condition(given: Mapping[str, Any] | None, places: _Placeholders) -> str | None:
    if given is None:
        return None
    conditions = _conditions("KeyConditions", given)
    if not conditions:
        raise validation("Conditions can be of length 1 or 2 only")
    if any(condition.operator not in _INDEXABLE for condition in conditions):
        raise validation("Attempted conditional constraint is not an indexable operation")
    return " AND ".join(_text(condition, places) for condition in conditions)


def _conditions(parameter: str, given: Mapping[str, Any]) -> list[_Condition]:
    """The checked conditions: first all values, then how each operator uses its own."""
    listed = sum(len(one.get("AttributeValueList") or ()) for one in given.values())
    _check_elements(parameter, len(given) + listed)
    if parameter == "Expected":
        values = {name: _values(name, one) for name, one in given.items()}
        return [_expected(name, one, values[name]) for name, one in given.items()]
    values = {name: _listed(name, one) for name, one in given.items()}
    return [_compared(name, one["ComparisonOperator"], values[name]) for name, one in given.items()]


def _check_elements(parameter: str, count: int) -> None:
    if count > LEGACY_ELEMENTS_MAX:
        raise validation(f"{INVALID}{parameter} has more than {LEGACY_ELEMENTS_MAX} attributes and values")


def _listed(name: str, given: Mapping[str, Any]) -> tuple[AttributeValue, ...]:
    check_attribute_name(name)
    return tuple(canonical(each)[0] for each in given.get("AttributeValueList") or ())


def _values(name: str, given: Mapping[str, Any]) -> tuple[AttributeValue, ...]:
    value, listed = given.get("Value"), given.get("AttributeValueList")
    if value is not None and listed is not None:
        raise validation(f"{INVALID}Value and AttributeValueList cannot be used together for Attribute: {name}")
    if value is None:
        return _listed(name, given)
    check_attribute_name(name)
    return (canonical(value)[0],)


def _expected(name: str, given: Mapping[str, Any], values: tuple[AttributeValue, ...]) -> _Condition:
    """One element of Expected, in either form."""
    operator: str | None = given.get("ComparisonOperator")
    if operator is None:
        return _expectation(name, given, values)
    if given.get("Exists") is not None:
        raise validation(f"{INVALID}Exists and ComparisonOperator cannot be used together for Attribute: {name}")
    given_none = given.get("Value") is None and given.get("AttributeValueList") is None
    if given_none and operator not in ("NULL", "NOT_NULL"):
        raise validation(
            f"{INVALID}Value or AttributeValueList must be used with ComparisonOperator: {operator} "
            f"for Attribute: {name}"
        )
    return _compared(name, operator, values)


def _compared(name: str, operator: str, values: tuple[AttributeValue, ...]) -> _Condition:
    _check_count(operator, len(values))
    _check_types(operator, values)
    return _Condition(name, operator, values)


def _expectation(name: str, given: Mapping[str, Any], values: tuple[AttributeValue, ...]) -> _Condition:
    """The first form of Expected: a value that is there, or no attribute at all."""
    if given.get("AttributeValueList") is not None:
        raise validation(
            f"{INVALID}AttributeValueList can only be used with a ComparisonOperator for Attribute: {name}"
        )
    exists = given.get("Exists")
    if exists is False:
        if values:
            raise validation(f"{INVALID}Value cannot be used when Exists is false for Attribute: {name}")
        return _Condition(name, "NULL", ())
    if not values:
        shown = "null" if exists is None else "true"
        raise validation(f"{INVALID}Value must be provided when Exists is {shown} for Attribute: {name}")
    return _Condition(name, "EQ", values)


def _check_count(operator: str, count: int) -> None:
    if operator == "IN":
        fits = count >= 1
    elif operator == "BETWEEN":
        fits = count == 2
    else:
        fits = count == (0 if operator in ("NULL", "NOT_NULL") else 1)
    if not fits:
        raise validation(f"{INVALID}Invalid number of argument(s) for the {operator} ComparisonOperator")


def _check_types(operator: str, values: tuple[AttributeValue, ...]) -> None:
    types = [next(iter(value)) for value in values]
    if len(set(types)) > 1:
        raise validation(f"{INVALID}AttributeValues inside AttributeValueList must be of same type")
    allowed = _VALUE_TYPES.get(operator)
    if allowed is not None and types[0] not in allowed:
        raise validation(f"{INVALID}ComparisonOperator {operator} is not valid for {types[0]} AttributeValue type")
    if operator == "BETWEEN" and (order_values(*values) or 0) > 0:
        raise validation(
            "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound"
        )


def _text(condition: _Condition, places: _Placeholders) -> str:
    name = places.name(condition.name)
    values = [places.value(value) for value in condition.values]
    operator = condition.operator
    comparator = _COMPARATORS.get(operator)
    if comparator is not None:
        return f"{name} {comparator} {values[0]}"
    if operator == "IN":
        return _membership(name, values)
    if operator == "BETWEEN":
        return f"{name} BETWEEN {values[0]} AND {values[1]}"
    if operator == "NULL":
        return f"attribute_not_exists({name})"
    if operator == "NOT_NULL":
        return f"attribute_exists({name})"
    if operator == "NOT_CONTAINS":
        return f"(attribute_exists({name}) AND NOT contains({name}, {values[0]}))"
    return f"{'contains' if operator == 'CONTAINS' else 'begins_with'}({name}, {values[0]})"


def _membership(name: str, values: list[str]) -> str:
    """IN over as many values as there are: an expression takes a hundred at a time."""
    parts = [
        f"{name} IN ({', '.join(values[start : start + IN_OPERANDS_MAX])})"
        for start in range(0, len(values), IN_OPERANDS_MAX)
    ]
    return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"


# --- updates and projections ----------------------------------------------------------------------------


def _action(given: Mapping[str, Any]) -> str:
    return given.get("Action") or "PUT"


def _update(updates: Mapping[str, Any], places: _Placeholders) -> str:
    """An update expression with a section for each kind of change."""
    sections: dict[str, list[str]] = {"SET": [], "REMOVE": [], "ADD": [], "DELETE": []}
    for name, given in updates.items():
        check_attribute_name(name)
        value = given.get("Value")
        section, change = _change(name, _action(given), None if value is None else canonical(value)[0], places)
        sections[section].append(change)
    return " ".join(f"{section} {', '.join(changes)}" for section, changes in sections.items() if changes)


def _change(name: str, action: str, value: AttributeValue | None, places: _Placeholders) -> tuple[str, str]:
    """The section of one change and what stands there."""
    if value is None:
        if action != "DELETE":
            raise validation(f"{INVALID}Only DELETE action is allowed when no attribute value is specified")
        return "REMOVE", places.name(name)
    value_type = next(iter(value))
    if action == "DELETE" and value_type not in _SETS:
        raise validation(f"{INVALID}DELETE action with value is not supported for the type {value_type}")
    if action == "ADD" and value_type not in _SETS and value_type not in ("N", "L"):
        raise validation(f"{INVALID}ADD action is not supported for the type {value_type}")
    target = places.name(name)
    if action == "PUT":
        return "SET", f"{target} = {places.value(value)}"
    if value_type == "L":
        none = places.value({"L": []})
        return "SET", f"{target} = list_append(if_not_exists({target}, {none}), {places.value(value)})"
    return action, f"{target} {places.value(value)}"


def _projection(names: Collection[str] | None, places: _Placeholders) -> str | None:
    if names is None:
        return None
    _check_elements("AttributesToGet", len(names))
    seen: set[str] = set()
    for name in names:
        check_attribute_name(name)
        if name in seen:
            raise validation(f"{INVALID}Duplicate value in attribute name: {name}")
        seen.add(name)
    return ", ".join(places.name(name) for name in names)
