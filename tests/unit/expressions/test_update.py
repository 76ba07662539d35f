"""What updates and projections do to items."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from geodyne.errors import ApiError
from geodyne.expressions.check import check_expressions
from geodyne.expressions.projection import project
from geodyne.expressions.update import UpdateResult, apply_update, updated_attributes
from geodyne.messages import ReturnValues

KEY: dict[str, Any] = {"pk": {"S": "k"}}


def number(value: int) -> dict[str, str]:
    return {"N": str(value)}


def listed(*values: int) -> dict[str, Any]:
    return {"L": [number(value) for value in values]}


def run(text: str, item: dict[str, Any], **values: Any) -> UpdateResult:
    before = copy.deepcopy(item)
    checked = check_expressions(update=text, values={f":{name}": value for name, value in values.items()} or None)
    assert checked.update is not None
    result = apply_update(checked.update, item, checked.names, checked.values)
    assert item == before
    return result


@pytest.mark.parametrize(
    ("before", "text", "values", "after"),
    [
        ({}, "SET a = :v", {"v": number(1)}, {"a": number(1)}),
        ({"a": number(1), "b": number(2)}, "SET a = b, b = a", {}, {"a": number(2), "b": number(1)}),
        ({"a": number(1)}, "SET a = a + :v", {"v": {"N": "1.5"}}, {"a": {"N": "2.5"}}),
        ({"a": number(1)}, "SET a = :v - a", {"v": number(3)}, {"a": number(2)}),
        ({}, "SET a = if_not_exists(a, :z) + :v", {"z": number(0), "v": number(1)}, {"a": number(1)}),
        ({"a": number(5)}, "SET a = if_not_exists(a, :z) + :v", {"z": number(0), "v": number(1)}, {"a": number(6)}),
        ({"a": number(5)}, "SET b = if_not_exists(b, a)", {}, {"a": number(5), "b": number(5)}),
        ({"l": listed(1)}, "SET l = list_append(l, :v)", {"v": listed(2)}, {"l": listed(1, 2)}),
        ({"l": listed(1)}, "SET l = list_append(:v, l)", {"v": listed(2)}, {"l": listed(2, 1)}),
        ({}, "SET l = list_append(if_not_exists(l, :e), :v)", {"e": listed(), "v": listed(2)}, {"l": listed(2)}),
        ({"m": {"M": {}}}, "SET m.a = :v", {"v": number(1)}, {"m": {"M": {"a": number(1)}}}),
        ({"l": listed(1, 2)}, "SET l[1] = :v", {"v": number(9)}, {"l": listed(1, 9)}),
        ({"l": listed(1, 2)}, "SET l[9] = :v, l[7] = :w", {"v": number(9), "w": number(7)}, {"l": listed(1, 2, 7, 9)}),
        ({"l": listed(1, 2, 3, 4)}, "REMOVE l[0], l[2]", {}, {"l": listed(2, 4)}),
        ({"l": listed(1, 2, 3)}, "REMOVE l[0] SET l[2] = :v", {"v": number(9)}, {"l": listed(2, 9)}),
        ({"l": listed(1, 2)}, "SET l[5] = :v REMOVE l[0]", {"v": number(9)}, {"l": listed(2, 9)}),
        ({"l": listed(*range(12))}, "REMOVE l[10], l[9], l[2]", {}, {"l": listed(0, 1, 3, 4, 5, 6, 7, 8, 11)}),
        ({"l": listed(1)}, "REMOVE l[4]", {}, {"l": listed(1)}),
        ({"a": number(1)}, "REMOVE a, b", {}, {}),
        ({"m": {"M": {"a": number(1), "b": number(2)}}}, "REMOVE m.a", {}, {"m": {"M": {"b": number(2)}}}),
        ({}, "ADD n :v", {"v": number(3)}, {"n": number(3)}),
        ({"n": number(3)}, "ADD n :v", {"v": number(-4)}, {"n": number(-1)}),
        ({}, "ADD s :v", {"v": {"SS": ["b", "a"]}}, {"s": {"SS": ["a", "b"]}}),
        ({"s": {"SS": ["b"]}}, "ADD s :v", {"v": {"SS": ["a", "b"]}}, {"s": {"SS": ["a", "b"]}}),
        ({"s": {"NS": ["2", "10"]}}, "ADD s :v", {"v": {"NS": ["3"]}}, {"s": {"NS": ["2", "3", "10"]}}),
        ({"s": {"BS": ["/w=="]}}, "ADD s :v", {"v": {"BS": ["AQ=="]}}, {"s": {"BS": ["AQ==", "/w=="]}}),
        ({"s": {"SS": ["a", "b"]}}, "DELETE s :v", {"v": {"SS": ["a", "z"]}}, {"s": {"SS": ["b"]}}),
        ({"s": {"SS": ["a"]}}, "DELETE s :v", {"v": {"SS": ["a"]}}, {}),
        ({}, "DELETE s :v", {"v": {"SS": ["a"]}}, {}),
    ],
)
def test_updates_do_what_the_guide_says(before: Any, text: str, values: Any, after: Any) -> None:
    assert run(text, {**KEY, **before}, **values).item == {**KEY, **after}


MISSING = "The provided expression refers to an attribute that does not exist in the item"
INVALID = "The document path provided in the update expression is invalid for update"
TYPE = "An operand in the update expression has an incorrect data type"


@pytest.mark.parametrize(
    ("before", "text", "values", "message"),
    [
        ({}, "SET a = b", {}, MISSING),
        ({}, "SET a = a + :v", {"v": number(1)}, MISSING),
        ({}, "SET l = list_append(l, :v)", {"v": listed(1)}, MISSING),
        ({"a": {"S": "x"}}, "SET a = a + :v", {"v": number(1)}, TYPE),
        ({"a": {"S": "x"}}, "SET a = list_append(a, :v)", {"v": listed(1)}, TYPE),
        ({"a": {"S": "x"}}, "ADD a :v", {"v": number(1)}, TYPE),
        ({"a": {"SS": ["x"]}}, "ADD a :v", {"v": {"NS": ["1"]}}, TYPE),
        ({"a": number(1)}, "DELETE a :v", {"v": {"SS": ["x"]}}, TYPE),
        ({}, "SET a.b = :v", {"v": number(1)}, INVALID),
        ({"a": number(1)}, "SET a.b = :v", {"v": number(1)}, INVALID),
        ({"a": {"M": {}}}, "SET a[0] = :v", {"v": number(1)}, INVALID),
        ({"a": listed(1)}, "SET a.b = :v", {"v": number(1)}, INVALID),
        ({"a": listed(1)}, "SET a[1].b = :v", {"v": number(1)}, INVALID),
        ({}, "REMOVE a.b", {}, INVALID),
        ({}, "REMOVE a[0]", {}, INVALID),
        ({}, "ADD a.b :v", {"v": number(1)}, INVALID),
        ({}, "DELETE a.b :v", {"v": {"SS": ["x"]}}, INVALID),
    ],
)
def test_an_item_that_lacks_what_is_needed_is_left_alone(before: Any, text: str, values: Any, message: str) -> None:
    with pytest.raises(ApiError) as error:
        run(text, {**KEY, **before}, **values)
    assert error.value.kind.code == "ValidationException"
    assert error.value.message == message


def test_an_update_cannot_nest_deeper_than_an_item_may() -> None:
    deep: dict[str, Any] = {"M": {}}
    for _ in range(31):
        deep = {"M": {"a": deep}}
    run("SET m = :v", KEY, v=deep)
    with pytest.raises(ApiError, match="Nesting Levels have exceeded supported limits"):
        run("SET m.b = :v", {**KEY, "m": {"M": {}}}, v=deep)


def test_updated_attributes_are_the_touched_parts() -> None:
    before = {**KEY, "m": {"M": {"a": number(1), "b": number(2)}}, "x": number(1), "l": listed(1), "y": number(5)}
    result = run("SET m.a = :v, l[7] = :v, neu = :v REMOVE x", before, v=number(9))
    assert updated_attributes(result, before, ReturnValues.UPDATED_OLD) == {
        "m": {"M": {"a": number(1)}},
        "x": number(1),
    }
    assert updated_attributes(result, before, ReturnValues.UPDATED_NEW) == {
        "m": {"M": {"a": number(9)}},
        "l": listed(9),
        "neu": number(9),
    }
    assert updated_attributes(result, before, ReturnValues.ALL_OLD) == before
    assert updated_attributes(result, before, ReturnValues.ALL_NEW) == result.item
    assert updated_attributes(result, before, ReturnValues.NONE) == {}
    assert updated_attributes(result, None, ReturnValues.UPDATED_OLD) == {}


PROJECTED: dict[str, Any] = {
    "pk": {"S": "k"},
    "a": {"M": {"b": {"S": "bb"}, "c": {"L": [{"M": {"d": number(1), "e": number(2)}}]}}},
    "l": listed(0, 1, 2, 3),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pk", {"pk": {"S": "k"}}),
        ("pk, gone", {"pk": {"S": "k"}}),
        ("a.b", {"a": {"M": {"b": {"S": "bb"}}}}),
        ("a.b, a.gone", {"a": {"M": {"b": {"S": "bb"}}}}),
        ("a.c[0].e", {"a": {"M": {"c": {"L": [{"M": {"e": number(2)}}]}}}}),
        ("l[2], l[0], l[9]", {"l": listed(0, 2)}),
        ("l[9]", {}),
        ("a.gone", {}),
        ("pk.x", {}),
        ("l.x", {}),
        ("a[0]", {}),
    ],
)
def test_projections_keep_the_place_of_parts_and_compact_lists(text: str, expected: Any) -> None:
    checked = check_expressions(projection=text)
    assert checked.projection is not None
    assert project(checked.projection, PROJECTED, checked.names) == expected
