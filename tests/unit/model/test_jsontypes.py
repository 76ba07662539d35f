"""Wrong JSON types inside attribute values."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.errors import ApiError
from geodyne.model.jsontypes import check_types
from geodyne.model.values import canonical


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"S": None},
        {"S": "x", "N": "y"},
        {"N": "not a number"},
        {"SS": []},
        {"NULL": False},
        {"B": "not base64"},
        {"L": [{"M": {"": {"S": ""}}}]},
        {"Unknown": 5},
    ],
)
def test_only_types_are_looked_at(value: Any) -> None:
    check_types(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "Unexpected value type in payload"),
        ([], "Unrecognized collection type class com.amazonaws.dynamodb.v20120810.AttributeValue"),
        ({"S": 5}, "NUMBER_VALUE cannot be converted to String"),
        ({"N": 1.5}, "DECIMAL_VALUE cannot be converted to String"),
        ({"S": []}, "Unrecognized collection type class java.lang.String"),
        ({"S": {}}, "Start of structure or map found where not expected"),
        ({"B": 5}, "only base-64-encoded strings are convertible to bytes"),
        ({"BOOL": "true"}, "Unexpected token received from parser"),
        ({"NULL": 1}, "NUMBER_VALUE cannot be converted to Boolean"),
        ({"SS": "x"}, "Unexpected field type"),
        ({"NS": [1]}, "NUMBER_VALUE cannot be converted to String"),
        ({"L": "x"}, "Unexpected field type"),
        ({"M": "x"}, "Unexpected field type"),
    ],
)
def test_a_wrong_type_has_the_same_words_at_any_depth_and_on_either_walk(value: Any, message: str) -> None:
    for wrapped in (value, {"L": [{"S": "x"}, value]}, {"M": {"a": {"M": {"b": value}}}}):
        for walk in (check_types, canonical):
            with pytest.raises(ApiError) as error:
                walk(wrapped)
            assert (error.value.kind.code, error.value.message) == ("SerializationException", message)


def test_depth_is_no_obstacle() -> None:
    value: Any = {"S": 5}
    for _ in range(20_000):
        value = {"L": [value]}
    with pytest.raises(ApiError, match="NUMBER_VALUE"):
        check_types(value)
