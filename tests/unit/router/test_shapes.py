"""The generated table of shapes, and the words in which broken ones are refused."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.errors import ApiError
from router.api import shapes
from router.api.generate_shapes import ModelsDifferError, together
from router.api.registry import OPERATIONS, STREAM_OPERATIONS
from router.api.shapes import ShapesMissing, validator


def refused(operation: str, body: Any) -> tuple[str, str | None]:
    with pytest.raises(ApiError) as caught:
        validator(operation)(body)
    return caught.value.kind.code, caught.value.message


@pytest.mark.parametrize("operation", sorted({**OPERATIONS, **STREAM_OPERATIONS}))
def test_every_operation_of_the_registry_has_a_shape(operation: str) -> None:
    assert validator(operation) is validator(operation)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (23, "NUMBER_VALUE cannot be converted to String"),
        (2.5, "DECIMAL_VALUE cannot be converted to String"),
        (True, "TRUE_VALUE cannot be converted to String"),
        (False, "FALSE_VALUE cannot be converted to String"),
        ([], "Unrecognized collection type class java.lang.String"),
        ({}, "Start of structure or map found where not expected"),
    ],
)
def test_a_text_member_takes_nothing_but_text(value: Any, message: str) -> None:
    assert refused("GetItem", {"TableName": value}) == ("SerializationException", message)


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("Limit", "1", "STRING_VALUE cannot be converted to Integer"),
        ("Limit", True, "TRUE_VALUE cannot be converted to Integer"),
        ("ConsistentRead", "true", "Unexpected token received from parser"),
        ("ConsistentRead", 1, "NUMBER_VALUE cannot be converted to Boolean"),
        ("AttributesToGet", "a", "Unexpected field type"),
        ("AttributesToGet", {}, "Start of structure or map found where not expected"),
        ("ExpressionAttributeNames", "a", "Unexpected field type"),
        (
            "ExclusiveStartKey",
            [],
            "Unrecognized collection type "
            "java.util.Map<java.lang.String, com.amazonaws.dynamodb.v20120810.AttributeValue>",
        ),
    ],
)
def test_the_first_wrong_type_is_refused_in_the_parsers_words(member: str, value: Any, message: str) -> None:
    assert refused("Query", {"TableName": "abc", member: value}) == ("SerializationException", message)


def test_a_wrong_type_comes_before_any_broken_constraint() -> None:
    code, _ = refused("Query", {"TableName": "a;", "Limit": 0, "ConsistentRead": "no"})
    assert code == "SerializationException"


def test_all_broken_constraints_are_listed_in_the_order_of_the_model() -> None:
    code, message = refused("PutItem", {"ReturnConsumedCapacity": "x", "ReturnValues": "y", "TableName": "a;"})
    assert code == "ValidationException"
    assert message == (
        "4 validation errors detected: "
        "Value 'a;' at 'tableName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; "
        "Value null at 'item' failed to satisfy constraint: Member must not be null; "
        "Value 'y' at 'returnValues' failed to satisfy constraint: "
        "Member must satisfy enum value set: [ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]; "
        "Value 'x' at 'returnConsumedCapacity' failed to satisfy constraint: "
        "Member must satisfy enum value set: [INDEXES, TOTAL, NONE]"
    )


def test_positions_in_lists_count_from_one() -> None:
    body = {
        "TableName": "abc",
        "AttributeDefinitions": [{"AttributeName": "a", "AttributeType": "S"}, {"AttributeType": "SS"}],
        "KeySchema": [{"AttributeName": "a", "KeyType": "HASH"}],
    }
    _, message = refused("CreateTable", body)
    assert message == (
        "2 validation errors detected: "
        "Value null at 'attributeDefinitions.2.member.attributeName' failed to satisfy constraint: "
        "Member must not be null; "
        "Value 'SS' at 'attributeDefinitions.2.member.attributeType' failed to satisfy constraint: "
        "Member must satisfy enum value set: [B, N, S]"
    )


def test_a_table_has_at_most_two_key_attributes() -> None:
    element = {"AttributeName": "a", "KeyType": "HASH"}
    _, message = refused("CreateTable", {"TableName": "abc", "AttributeDefinitions": [], "KeySchema": [element] * 3})
    assert message is not None
    assert message.endswith(
        "at 'keySchema' failed to satisfy constraint: Member must have length less than or equal to 2"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "The parameter 'TableName' is required but was not present in the request"),
        ("ab", "TableName must be at least 3 characters long and at most 255 characters long"),
        ("a" * 256, "TableName must be at least 3 characters long and at most 255 characters long"),
    ],
)
def test_the_control_plane_checks_the_name_before_all_else(name: str | None, message: str) -> None:
    assert refused("CreateTable", {"TableName": name}) == ("ValidationException", message)
    assert refused("DescribeTable", {"TableName": name}) == ("ValidationException", message)


def test_a_table_name_is_bounded_like_a_name_and_an_arn_like_an_arn() -> None:
    _, message = refused("GetItem", {"TableName": "a" * 256, "Key": {}})
    assert message is not None
    assert message.endswith("Member must have length less than or equal to 255")
    validator("GetItem")({"TableName": "arn:aws:dynamodb:us-east-1:000000000000:table/" + "a" * 250, "Key": {}})
    _, message = refused("GetItem", {"TableName": "arn:" + "a" * 1100, "Key": {}})
    assert message is not None
    assert message.endswith("Member must have length less than or equal to 1024")


def test_null_is_absent_and_unknown_members_are_ignored() -> None:
    validator("GetItem")({"TableName": "abc", "Key": {}, "ConsistentRead": None, "Nonsense": [1]})
    assert refused("GetItem", {"TableName": "abc", "Key": None})[1] == (
        "1 validation error detected: Value null at 'key' failed to satisfy constraint: Member must not be null"
    )


def test_the_bounds_of_a_batch_are_constraints_of_its_map() -> None:
    write: dict[str, Any] = {"PutRequest": {"Item": {}}}
    _, message = refused("BatchWriteItem", {"RequestItems": {"abc": [write] * 26}})
    assert message is not None
    assert message.endswith(
        "at 'requestItems' failed to satisfy constraint: Map value must satisfy constraint: "
        "[Member must have length less than or equal to 25, Member must have length greater than or equal to 1]"
    )
    _, message = refused("BatchGetItem", {"RequestItems": {"a!": {}}})
    assert message is not None
    assert "Map keys must satisfy constraint: [Member must have length less than or equal to 255" in message
    assert "Value null at 'requestItems.a!.member.keys' failed to satisfy" in message


@pytest.mark.parametrize("operation", ["BatchGetItem", "BatchWriteItem"])
def test_an_empty_batch_is_refused_by_a_sentence_of_its_own(operation: str) -> None:
    message = f"The requestItems parameter is required for {operation}"
    assert refused(operation, {"RequestItems": {}}) == ("ValidationException", message)
    assert refused(operation, {}) == ("ValidationException", message)


def test_a_refused_value_is_not_repeated_at_any_length() -> None:
    _, message = refused("Query", {"TableName": "abc", "Select": "x" * 1_000_000})
    assert message is not None
    assert len(message) < 5_000


def test_attribute_values_are_left_to_the_model_of_values() -> None:
    validator("PutItem")({"TableName": "abc", "Item": {"a": {"Z": 1}, "b": 3}})


def test_without_the_generated_table_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "SHAPES_FILE", shapes.SHAPES_FILE.with_name("absent.json"))
    with pytest.raises(ShapesMissing, match="make setup"):
        shapes._load()


@pytest.mark.parametrize("tag", ["L", "M", "["])
@pytest.mark.parametrize("depth", [2, 200, 400])
def test_a_refused_value_is_shown_however_deep_it_is(tag: str, depth: int) -> None:
    value: Any = {"S": "x"}
    for _ in range(depth):
        value = {"L": [value]} if tag == "L" else {"M": {"a": value}} if tag == "M" else [value]
    code, message = refused("BatchGetItem", {"RequestItems": {"abc": {"Keys": [{"pk": value}] * 101}}})
    assert code == "ValidationException"
    assert message is not None
    assert message.startswith("1 validation error detected: Value '[{pk=")
    assert len(message) < shapes.SHOWN_CHARACTERS_MAX + 1000


def test_only_the_beginning_of_a_large_refused_value_is_looked_at() -> None:
    assert len(shapes._shown([list(range(100))] * 1000, "")) == shapes.SHOWN_CHARACTERS_MAX
    assert shapes._pieces([1, 2], "") == ["[", "", (1, ""), ", ", (2, ""), "]"]
    assert len(shapes._pieces(["x"] * 100_000, "")) < 3 * shapes.SHOWN_CHARACTERS_MAX


def test_models_that_mean_two_things_by_one_name_are_not_put_together() -> None:
    def model(operation: str, most: int) -> dict[str, Any]:
        members = {"Limit": {"shape": "Limit"}}
        shapes = {
            f"{operation}Input": {"type": "structure", "members": members},
            "Limit": {"type": "integer", "max": most},
        }
        return {"operations": {operation: {"input": {"shape": f"{operation}Input"}}}, "shapes": shapes}

    assert set(together([model("One", 5), model("Other", 5)])["operations"]) == {"One", "Other"}
    with pytest.raises(ModelsDifferError, match="Limit"):
        together([model("One", 5), model("Other", 6)])
