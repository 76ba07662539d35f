"""Attribute values: what is accepted, what comes back, and every bound exactly at its edge."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.api.service import Item, Service

ITEM_BYTES_MAX = 400 * 1024
CONTAINERS_MAX = 31  # around a scalar: 32 levels
TOO_DEEP = (
    "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels beyond supported limit"
)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def put(service: Service, table: str, key: Item, value: Any) -> None:
    service.do("PutItem", TableName=table, Item={**key, "v": value})


def invalid(service: Service, table: str, key: Item, value: Any) -> str:
    return service.invalid("PutItem", TableName=table, Item={**key, "v": value})


def nested(levels: int, kind: str) -> Item:
    value: Item = {"S": "leaf"}
    for _ in range(levels):
        value = {"L": [value]} if kind == "L" else {"M": {"m": value}}
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"S": "text"},
        {"S": ""},
        {"S": 'žluťoučký 🐎 \x00 \n \\ "'},
        {"N": "0"},
        {"N": "-1.5"},
        {"B": b64(b"\x00\xff")},
        {"B": ""},
        {"BOOL": True},
        {"BOOL": False},
        {"NULL": True},
        {"L": []},
        {"M": {}},
        {"L": [{"S": "a"}, {"N": "1"}, {"L": [{"M": {"x": {"NULL": True}}}]}]},
        {"M": {"a": {"L": []}, "b": {"SS": ["x"]}}},
    ],
)
def test_a_value_comes_back_as_it_was_put(service: Service, table: str, key: Item, value: Item) -> None:
    put(service, table, key, value)
    assert service.get(table, key) == {**key, "v": value}


@pytest.mark.parametrize(
    ("tag", "elements"),
    [
        ("SS", ["b", "a", ""]),
        ("NS", ["3", "-1", "0.5"]),
        ("BS", [b64(b"\xff"), b64(b"\x01"), ""]),
    ],
)
def test_a_set_comes_back_with_the_same_elements(
    service: Service, table: str, key: Item, tag: str, elements: list[str]
) -> None:
    put(service, table, key, {tag: elements})
    found = service.get(table, key)
    assert found is not None
    assert sorted(found["v"][tag]) == sorted(elements)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("1", "1"),
        ("+1", "1"),
        ("007", "7"),
        ("1.500", "1.5"),
        ("1.0", "1"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-0", "0"),
        ("0.000", "0"),
        ("1e3", "1000"),
        ("1E+3", "1000"),
        ("12.5e-3", "0.0125"),
        ("-1.20E2", "-120"),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("0.12345678901234567890123456789012345678", "0.12345678901234567890123456789012345678"),
        ("1234567890123456789.0123456789012345678", "1234567890123456789.0123456789012345678"),
        ("9.9999999999999999999999999999999999999E+125", "9" * 38 + "0" * 88),
        ("-9.9999999999999999999999999999999999999E+125", "-" + "9" * 38 + "0" * 88),
        ("1E-130", "0." + "0" * 129 + "1"),
        ("-1E-130", "-0." + "0" * 129 + "1"),
        ("1" + "0" * 50, "1" + "0" * 50),  # zeros at the end are not significant
        ("0" * 60 + "1", "1"),
    ],
)
def test_a_number_is_normalised(service: Service, table: str, key: Item, given: str, stored: str) -> None:
    put(service, table, key, {"N": given})
    assert service.get(table, key) == {**key, "v": {"N": stored}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("1" * 39, "Attempting to store more than 38 significant digits in a Number"),
        ("1." + "1" * 38, "Attempting to store more than 38 significant digits in a Number"),
        ("1E126", "Number overflow. Attempting to store a number with magnitude larger than supported range"),
        ("-1E126", "Number overflow. Attempting to store a number with magnitude larger than supported range"),
        ("1E-131", "Number underflow. Attempting to store a number with magnitude smaller than supported range"),
        ("1E99999999999", "Number overflow. Attempting to store a number with magnitude larger than supported range"),
        ("abc", "The parameter cannot be converted to a numeric value: abc"),
        ("", "The parameter cannot be converted to a numeric value"),
        (" 1", "The parameter cannot be converted to a numeric value:  1"),
        ("1 ", "The parameter cannot be converted to a numeric value: 1 "),
        ("1_000", "The parameter cannot be converted to a numeric value: 1_000"),
        ("0x10", "The parameter cannot be converted to a numeric value: 0x10"),
        ("NaN", "The parameter cannot be converted to a numeric value: NaN"),
        ("Infinity", "The parameter cannot be converted to a numeric value: Infinity"),
        ("1e", "The parameter cannot be converted to a numeric value: 1e"),
        ("--1", "The parameter cannot be converted to a numeric value: --1"),
        ("١", "The parameter cannot be converted to a numeric value: ١"),
    ],
)
def test_what_is_no_number_is_refused(service: Service, table: str, key: Item, given: str, message: str) -> None:
    assert invalid(service, table, key, {"N": given}) == message
    assert invalid(service, table, key, {"NS": [given]}) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"SS": []}, "One or more parameter values were invalid: An string set  may not be empty"),
        ({"NS": []}, "One or more parameter values were invalid: An number set  may not be empty"),
        ({"BS": []}, "One or more parameter values were invalid: Binary sets should not be empty"),
        (
            {"SS": ["a", "b", "a"]},
            "One or more parameter values were invalid: Input collection [a, b, a] contains duplicates.",
        ),
        ({"NS": ["1", "1.0"]}, "Input collection contains duplicates"),
        (
            {"BS": ["AQ==", "AQ=="]},
            "One or more parameter values were invalid: Input collection [AQ==, AQ==]of type BS contains duplicates.",
        ),
        (
            {"NULL": False},
            "One or more parameter values were invalid: Null attribute value types must have the value of true",
        ),
        ({}, "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
        ({"S": None}, "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
        ({"X": "y"}, "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"),
        (
            {"S": "a", "N": "1"},
            "Supplied AttributeValue has more than one datatypes set, "
            "must contain exactly one of the supported datatypes",
        ),
    ],
)
def test_what_is_no_value_is_refused_at_any_depth(
    service: Service, table: str, key: Item, value: Item, message: str
) -> None:
    assert invalid(service, table, key, value) == message
    assert invalid(service, table, key, {"L": [{"M": {"x": value}}]}) == message


@pytest.mark.parametrize("kind", ["L", "M"])
def test_values_nest_to_32_levels_and_no_deeper(service: Service, table: str, key: Item, kind: str) -> None:
    deepest = nested(CONTAINERS_MAX, kind)
    put(service, table, key, deepest)
    assert service.get(table, key) == {**key, "v": deepest}
    assert invalid(service, table, key, nested(CONTAINERS_MAX + 1, kind)) == TOO_DEEP
    body: Item = {"TableName": table, "Key": key, "ConditionExpression": "a = :v"}
    too_deep = {":v": nested(CONTAINERS_MAX + 1, kind)}
    assert TOO_DEEP in service.invalid("DeleteItem", **body, ExpressionAttributeValues=too_deep)
    allowed = {":v": deepest}
    assert service.refused("DeleteItem", {**body, "ExpressionAttributeValues": allowed})[0].startswith("Conditional")


def test_an_update_cannot_nest_deeper_than_32_levels(service: Service, table: str, key: Item) -> None:
    put(service, table, key, nested(CONTAINERS_MAX, "M"))
    path = "v" + ".m" * (CONTAINERS_MAX - 1)

    def update(value: Item) -> Item:
        return {
            "TableName": table,
            "Key": key,
            "UpdateExpression": f"SET {path} = :v",
            "ExpressionAttributeValues": {":v": value},
        }

    assert service.invalid("UpdateItem", **update({"M": {"x": {"L": [{"S": "y"}]}}})) == TOO_DEEP
    service.do("UpdateItem", **update({"M": {"x": {"S": "y"}}}))


def test_an_item_may_have_400_kilobytes_and_not_one_byte_more(service: Service, table: str, key: Item) -> None:
    room = ITEM_BYTES_MAX - len("pk") - len(key["pk"]["S"]) - len("v")
    put(service, table, key, {"S": "x" * room})
    assert invalid(service, table, key, {"S": "x" * (room + 1)}) == "Item size has exceeded the maximum allowed size"
    put(service, table, key, {"B": b64(b"x" * room)})
    assert invalid(service, table, key, {"B": b64(b"x" * (room + 1))}).startswith("Item size has exceeded")
    put(service, table, key, {"S": "é" * (room // 2)})  # bytes count, not characters
    assert invalid(service, table, key, {"S": "é" * (room // 2 + 1)}).startswith("Item size has exceeded")


def test_an_update_cannot_grow_an_item_beyond_400_kilobytes(service: Service, table: str, key: Item) -> None:
    room = ITEM_BYTES_MAX - len("pk") - len(key["pk"]["S"]) - len("v")
    put(service, table, key, {"S": "x" * (room - 3)})

    def update(value: str) -> Item:
        return {
            "TableName": table,
            "Key": key,
            "UpdateExpression": "SET w = :w",
            "ExpressionAttributeValues": {":w": {"S": value}},
        }

    message = "Item size to update has exceeded the maximum allowed size"
    assert service.invalid("UpdateItem", **update("xyz")) == message
    service.do("UpdateItem", **update("xy"))


@pytest.mark.parametrize(
    ("value", "code_text"),
    [
        ({"S": 5}, "NUMBER_VALUE cannot be converted to String"),
        ({"S": True}, "TRUE_VALUE cannot be converted to String"),
        ({"N": 5}, "NUMBER_VALUE cannot be converted to String"),
        ({"BOOL": "true"}, "Unexpected token received from parser"),
        ({"SS": "a"}, "Unexpected field type"),
        ({"SS": [1]}, "NUMBER_VALUE cannot be converted to String"),
        ({"M": "a"}, "Unexpected field type"),
        ({"L": "a"}, "Unexpected field type"),
        ("bare", "Unexpected value type in payload"),
        ({"B": "not base64!!"}, None),
        ({"B": "AQI"}, None),
    ],
)
def test_a_wrong_json_type_in_a_value_is_a_serialization_error(
    service: Service, table: str, key: Item, value: Any, code_text: str | None
) -> None:
    code, message = service.refused("PutItem", {"TableName": table, "Item": {**key, "v": value}})
    assert code == "SerializationException"
    assert code_text is None or message == code_text
    code, _ = service.refused("PutItem", {"TableName": table, "Item": {**key, "v": {"L": [{"M": {"x": value}}]}}})
    assert code == "SerializationException"


def test_a_wrong_json_type_in_a_value_comes_before_broken_constraints(service: Service, key: Item) -> None:
    for body in (
        {"TableName": "x!", "Item": {**key, "v": {"S": 5}}},
        {"Item": {**key, "v": {"S": 5}}},
        {"TableName": "x", "Item": {**key, "v": {"L": [{"M": {"x": {"N": 5}}}]}}},
        {"TableName": "missing-table", "Item": {"pk": {"N": "x"}, "v": {"SS": "a"}}},
        {
            "TableName": "missing-table",
            "Item": key,
            "ConditionExpression": "(",
            "ExpressionAttributeValues": {":v": {"S": 1}},
        },
        {"TableName": "missing-table", "Item": key, "ExpressionAttributeValues": {":v": {"S": 1}}},
    ):
        assert service.refused("PutItem", body)[0] == "SerializationException", body
    write = {"RequestItems": {"x!": [{"PutRequest": {"Item": {"pk": {"S": 1}}}}]}}
    assert service.refused("BatchWriteItem", write)[0] == "SerializationException"
    get = {"RequestItems": {"x!": {"Keys": [{"pk": {"S": 1}}]}}}
    assert service.refused("BatchGetItem", get)[0] == "SerializationException"
    query = {"TableName": "x!", "ExclusiveStartKey": {"pk": {"S": 1}}}
    assert service.refused("Query", query)[0] == "SerializationException"


def test_an_empty_attribute_name_is_refused(service: Service, table: str, key: Item) -> None:
    assert "empty" in service.invalid("PutItem", TableName=table, Item={**key, "": {"S": "x"}})


def test_an_attribute_name_may_be_64_kilobytes_long_and_no_longer(service: Service, table: str, key: Item) -> None:
    service.do("PutItem", TableName=table, Item={**key, "n" * 65535: {"S": "x"}})
    service.invalid("PutItem", TableName=table, Item={**key, "n" * 65536: {"S": "x"}})


def test_boto3_reads_back_every_type_that_it_wrote(service: Service, table: str, key: Item) -> None:
    client = service.boto3_client()
    item = {
        **key,
        "s": {"S": "ü"},
        "n": {"N": "12345678901234567890.5"},
        "b": {"B": b"\x00\x01"},
        "t": {"BOOL": True},
        "z": {"NULL": True},
        "l": {"L": [{"N": "1"}, {"B": b""}]},
        "m": {"M": {"k": {"S": ""}}},
        "ss": {"SS": ["a"]},
        "ns": {"NS": ["1"]},
        "bs": {"BS": [b"\xff"]},
    }
    client.put_item(TableName=table, Item=item)
    assert client.get_item(TableName=table, Key=key)["Item"] == item
    client.close()
