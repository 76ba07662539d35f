"""Keys: which values may be one, how long they may be, and how a Key parameter must fit the schema."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.service import Item, Service

MISMATCH = "The provided key element does not match the schema"
INVALID = "One or more parameter values were invalid: "
HASH_TOO_LONG = f"{INVALID}Size of hashkey has exceeded the maximum size limit of2048 bytes"
RANGE_TOO_LONG = f"{INVALID}Aggregated size of all range keys has exceeded the size limit of 1024 bytes"


@pytest.fixture(scope="session")
def binary_table(make_table: Callable[..., str]) -> str:
    return make_table("B")


def with_key_calls(table: str, key: Item) -> list[tuple[str, Item]]:
    return [
        ("GetItem", {"TableName": table, "Key": key}),
        ("DeleteItem", {"TableName": table, "Key": key}),
        ("UpdateItem", {"TableName": table, "Key": key}),
        ("BatchGetItem", {"RequestItems": {table: {"Keys": [key]}}}),
        ("BatchWriteItem", {"RequestItems": {table: [{"DeleteRequest": {"Key": key}}]}}),
    ]


@pytest.mark.parametrize(
    "key",
    [
        {},
        {"pk": {"S": "a"}},
        {"sk": {"S": "a"}},
        {"pk": {"S": "a"}, "other": {"S": "b"}},
        {"pk": {"S": "a"}, "sk": {"S": "b"}, "more": {"S": "c"}},
        {"pk": {"N": "1"}, "sk": {"S": "b"}},
        {"pk": {"S": "a"}, "sk": {"NULL": True}},
    ],
)
def test_a_key_must_have_the_schemas_attributes_and_types(service: Service, sorted_table: str, key: Item) -> None:
    for operation, body in with_key_calls(sorted_table, key):
        assert service.invalid(operation, **body) == MISMATCH, operation


def test_an_empty_key_value_is_refused(service: Service, sorted_table: str, binary_table: str) -> None:
    text = (
        "One or more parameter values are not valid. "
        "The AttributeValue for a key attribute cannot contain an empty {} value. Key: {}"
    )
    for key, name in (({"pk": {"S": ""}, "sk": {"S": "a"}}, "pk"), ({"pk": {"S": "a"}, "sk": {"S": ""}}, "sk")):
        for operation, body in with_key_calls(sorted_table, key):
            assert service.invalid(operation, **body) == text.format("string", name), operation
        assert service.invalid("PutItem", TableName=sorted_table, Item=key) == text.format("string", name)
    for operation, body in with_key_calls(binary_table, {"pk": {"B": ""}}):
        assert service.invalid(operation, **body) == text.format("binary", "pk"), operation


def test_a_partition_key_has_at_most_2048_bytes(service: Service, table: str, binary_table: str) -> None:
    service.do("PutItem", TableName=table, Item={"pk": {"S": "x" * 2048}})
    assert service.get(table, {"pk": {"S": "x" * 2048}}) is not None
    service.do("PutItem", TableName=table, Item={"pk": {"S": "é" * 1024}})
    for key in ({"pk": {"S": "x" * 2049}}, {"pk": {"S": "é" * 1024 + "x"}}):
        assert service.invalid("PutItem", TableName=table, Item=key) == HASH_TOO_LONG
        for operation, body in with_key_calls(table, key):
            assert service.invalid(operation, **body) == HASH_TOO_LONG, operation
    longest = base64.b64encode(b"\xff" * 2048).decode()
    service.do("PutItem", TableName=binary_table, Item={"pk": {"B": longest}})
    too_long = base64.b64encode(b"\xff" * 2049).decode()
    assert service.invalid("PutItem", TableName=binary_table, Item={"pk": {"B": too_long}}) == HASH_TOO_LONG


def test_a_sort_key_has_at_most_1024_bytes(service: Service, sorted_table: str) -> None:
    key = {"pk": {"S": service.unique()}, "sk": {"S": "x" * 1024}}
    service.do("PutItem", TableName=sorted_table, Item=key)
    key["sk"] = {"S": "x" * 1025}
    assert service.invalid("PutItem", TableName=sorted_table, Item=key) == RANGE_TOO_LONG
    assert service.invalid("GetItem", TableName=sorted_table, Key=key) == RANGE_TOO_LONG


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({}, f"{INVALID}Missing the key pk in the item"),
        ({"v": {"S": "x"}}, f"{INVALID}Missing the key pk in the item"),
        ({"pk": {"S": "a"}}, f"{INVALID}Missing the key sk in the item"),
        ({"pk": {"N": "1"}, "sk": {"S": "a"}}, f"{INVALID}Type mismatch for key pk expected: S actual: N"),
        ({"pk": {"S": "a"}, "sk": {"NULL": True}}, f"{INVALID}Type mismatch for key sk expected: S actual: NULL"),
        ({"pk": {"S": "a"}, "sk": {"M": {}}}, f"{INVALID}Type mismatch for key sk expected: S actual: M"),
    ],
)
def test_an_item_must_have_the_keys_of_its_table(service: Service, sorted_table: str, item: Item, message: str) -> None:
    assert service.invalid("PutItem", TableName=sorted_table, Item=item) == message
    batch = {sorted_table: [{"PutRequest": {"Item": item}}]}
    assert service.invalid("BatchWriteItem", RequestItems=batch) == MISMATCH


@pytest.mark.parametrize(("one", "same"), [("1", "1.0"), ("1000", "1e3"), ("0", "-0"), ("0.5", ".50")])
def test_equal_numbers_are_the_same_key(service: Service, sorted_by_number: str, one: str, same: str) -> None:
    pk = {"S": service.unique()}
    service.do("PutItem", TableName=sorted_by_number, Item={"pk": pk, "sk": {"N": one}, "v": {"S": "x"}})
    assert service.get(sorted_by_number, {"pk": pk, "sk": {"N": same}}) == {
        "pk": pk,
        "sk": {"N": one},
        "v": {"S": "x"},
    }


def test_keys_that_run_together_stay_apart(service: Service, sorted_table: str) -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("a\x00", "b"), ("a", "\x00b"), ("é", "e"), ("e", "é")]
    stem = service.unique()
    for position, (pk, sk) in enumerate(pairs):
        item = {"pk": {"S": stem + pk}, "sk": {"S": sk}, "v": {"N": str(position)}}
        service.do("PutItem", TableName=sorted_table, Item=item)
    for position, (pk, sk) in enumerate(pairs):
        found: Any = service.get(sorted_table, {"pk": {"S": stem + pk}, "sk": {"S": sk}})
        assert found["v"] == {"N": str(position)}


def test_a_key_attribute_cannot_be_updated(service: Service, sorted_table: str) -> None:
    key = {"pk": {"S": service.unique()}, "sk": {"S": "s"}}
    for update, values in (
        ("SET pk = :v", {":v": {"S": "x"}}),
        ("REMOVE sk", None),
        ("ADD sk :v", {":v": {"N": "1"}}),
        ("DELETE pk :v", {":v": {"SS": ["a"]}}),
        ("SET pk.x = :v", {":v": {"S": "x"}}),
    ):
        body: Item = {"TableName": sorted_table, "Key": key, "UpdateExpression": update}
        if values:
            body["ExpressionAttributeValues"] = values
        name = "sk" if "sk" in update else "pk"
        expected = f"{INVALID}Cannot update attribute {name}. This attribute is part of the key"
        assert service.invalid("UpdateItem", **body) == expected
