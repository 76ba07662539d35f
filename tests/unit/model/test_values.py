"""Attribute values and items: what is accepted, canonical form, size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodyne.errors import ApiError
from geodyne.limits import ITEM_BYTES_MAX, NESTING_MAX
from geodyne.model.values import (
    canonical,
    canonical_item,
    check_item_size,
    dumps,
    item_size,
    loads,
    value_size,
)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"S": "x"}
    for level in range(levels):
        value = {"L": [value]} if level % 2 else {"M": {"a": value}}
    return value


@pytest.mark.parametrize(
    ("given_value", "expected", "size"),
    [
        ({"S": ""}, {"S": ""}, 0),
        ({"S": "héé"}, {"S": "héé"}, 5),
        ({"N": "1.0"}, {"N": "1"}, 2),
        ({"B": ""}, {"B": ""}, 0),
        ({"B": "AQ=="}, {"B": "AQ=="}, 1),
        ({"B": "AQID"}, {"B": "AQID"}, 3),
        ({"BOOL": False}, {"BOOL": False}, 1),
        ({"NULL": True}, {"NULL": True}, 1),
        ({"L": []}, {"L": []}, 3),
        ({"M": {}}, {"M": {}}, 3),
        ({"L": [{"S": "a"}, {"N": "01"}]}, {"L": [{"S": "a"}, {"N": "1"}]}, 3 + 1 + 1 + 1 + 2),
        ({"M": {"ab": {"N": "1e1"}}}, {"M": {"ab": {"N": "10"}}}, 3 + 1 + 2 + 2),
        ({"SS": ["b", "a", "é"]}, {"SS": ["a", "b", "é"]}, 4),
        ({"NS": ["10", "9.0", "-1"]}, {"NS": ["-1", "9", "10"]}, 3 + 2 + 2),
        ({"BS": ["/w==", "AQ=="]}, {"BS": ["AQ==", "/w=="]}, 2),
        ({"SS": ["", "a"]}, {"SS": ["", "a"]}, 1),
        ({"S": "a", "N": None}, {"S": "a"}, 1),
    ],
)
def test_a_value_has_one_form_and_a_size(given_value: Any, expected: Any, size: int) -> None:
    assert canonical(given_value) == (expected, size)
    assert value_size(expected) == size
    assert canonical_item({"name": given_value}) == ({"name": expected}, size + 4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"NULL": False},
            "One or more parameter values were invalid: Null attribute value types must have the value of true",
        ),
        ({}, "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
        ({"X": "a"}, "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
        ({"S": None}, "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
        (
            {"S": "a", "N": "1"},
            "Supplied AttributeValue has more than one datatypes set, "
            "must contain exactly one of the supported datatypes",
        ),
        ({"SS": []}, "One or more parameter values were invalid: An string set  may not be empty"),
        ({"NS": []}, "One or more parameter values were invalid: An number set  may not be empty"),
        ({"BS": []}, "One or more parameter values were invalid: Binary sets should not be empty"),
        (
            {"SS": ["a", "a"]},
            "One or more parameter values were invalid: Input collection [a, a] contains duplicates.",
        ),
        ({"NS": ["1", "1.0"]}, "Input collection contains duplicates"),
        (
            {"BS": ["AQ==", "AQ=="]},
            "One or more parameter values were invalid: Input collection [AQ==, AQ==]of type BS contains duplicates.",
        ),
        ({"N": "x"}, "The parameter cannot be converted to a numeric value: x"),
        (
            {"M": {"a": {"L": [{"SS": []}]}}},
            "One or more parameter values were invalid: An string set  may not be empty",
        ),
    ],
)
def test_invalid_values_are_refused_with_the_services_words(value: Any, message: str) -> None:
    for attempt in (lambda: canonical(value), lambda: canonical_item({"a": value})):
        with pytest.raises(ApiError) as error:
            attempt()
        assert error.value.kind.code == "ValidationException"
        assert error.value.message == message


@pytest.mark.parametrize(
    "value",
    [
        1,
        None,
        [],
        "a",
        {"S": 1},
        {"S": True},
        {"S": ["a"]},
        {"S": {}},
        {"N": 1},
        {"BOOL": "true"},
        {"BOOL": 1},
        {"NULL": "true"},
        {"L": {}},
        {"L": "a"},
        {"M": []},
        {"SS": "a"},
        {"SS": [1]},
        {"NS": [1]},
        {"BS": [1]},
        {"B": 1},
        {"B": "A"},
        {"B": "AQ="},
        {"B": "A*=="},
        {"B": "AR=="},
        {"B": "é==="},
        {"S": "\ud800"},
    ],
)
def test_wrong_json_types_are_serialization_errors(value: Any) -> None:
    for attempt in (lambda: canonical(value), lambda: canonical_item({"a": value})):
        with pytest.raises(ApiError) as error:
            attempt()
        assert error.value.kind.code == "SerializationException"


def test_the_guides_example_item_has_23_bytes() -> None:
    item, size = canonical_item({"shirt-color": {"S": "R"}, "shirt-size": {"S": "M"}})
    assert size == item_size(item) == 23


def test_thirty_two_levels_are_allowed_and_not_one_more() -> None:
    canonical(nested(NESTING_MAX - 1))  # the scalar in the middle is the thirty-second
    with pytest.raises(ApiError, match="Nesting Levels have exceeded supported limits"):
        canonical(nested(NESTING_MAX))
    with pytest.raises(ApiError, match="Nesting Levels"):
        canonical(nested(900))


def test_attribute_names_have_1_to_65535_bytes() -> None:
    canonical_item({"a" * 65_535: {"S": ""}})
    for name in ("", "a" * 65_536, "é" * 32_768):
        with pytest.raises(ApiError):
            canonical_item({name: {"S": ""}})


def test_an_item_is_limited_to_400_kb_whatever_its_use() -> None:
    check_item_size(ITEM_BYTES_MAX)
    with pytest.raises(ApiError, match="Item size has exceeded the maximum allowed size"):
        check_item_size(ITEM_BYTES_MAX + 1)
    with pytest.raises(ApiError, match="Item size to update has exceeded the maximum allowed size"):
        check_item_size(ITEM_BYTES_MAX + 1, updating=True)


values = st.recursive(
    st.one_of(
        st.text(max_size=5).map(lambda text: {"S": text}),
        st.integers(-(10**9), 10**9).map(lambda number: {"N": str(number)}),
        st.booleans().map(lambda flag: {"BOOL": flag}),
        st.lists(st.text(max_size=3), min_size=1, max_size=4, unique=True).map(lambda items: {"SS": items}),
        st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1, max_size=4, unique=True).map(
            lambda items: {"NS": [str(i) for i in items]}
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: {"L": items}),
        st.dictionaries(st.text(min_size=1, max_size=3), inner, max_size=3).map(lambda items: {"M": items}),
    ),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=4))
def test_canonical_form_is_stable_measured_once_and_survives_storage(item: Any) -> None:
    first, size = canonical_item(item)
    assert canonical_item(first) == (first, size)
    assert item_size(first) == size
    assert loads(dumps(first)) == first


@settings(max_examples=50, deadline=None)
@given(st.permutations(["a", "b", "é", "\U0001f600", "\uffff", ""]))
def test_equal_sets_are_equal_bytes_in_utf8_order(order: list[str]) -> None:
    value, _ = canonical({"SS": order})
    assert [text.encode() for text in value["SS"]] == sorted(text.encode() for text in order)
