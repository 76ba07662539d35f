"""Finding attribute values of the wrong type anywhere in a request."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.errors import ApiError
from router.api.valuetypes import check_value_types

WRONG = {"S": 5}


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("PutItem", {"Item": {"pk": {"S": "x"}, "v": WRONG}}),
        ("PutItem", {"ExpressionAttributeValues": {":v": WRONG}}),
        ("GetItem", {"Key": {"pk": WRONG}}),
        ("UpdateItem", {"AttributeUpdates": {"a": {"Value": WRONG}}}),
        ("DeleteItem", {"Expected": {"a": {"AttributeValueList": [{"S": "x"}, WRONG]}}}),
        ("Query", {"ExclusiveStartKey": {"pk": {"L": [WRONG]}}}),
        ("BatchGetItem", {"RequestItems": {"t": {"Keys": [{"pk": WRONG}]}}}),
        ("BatchWriteItem", {"RequestItems": {"t": [{"PutRequest": {"Item": {"pk": WRONG}}}]}}),
        ("BatchWriteItem", {"RequestItems": {"t": [{"DeleteRequest": {"Key": {"pk": WRONG}}}]}}),
    ],
)
def test_a_wrong_type_is_found_wherever_values_may_stand(operation: str, body: Any) -> None:
    with pytest.raises(ApiError) as error:
        check_value_types(operation, body)
    assert error.value.kind.code == "SerializationException"


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("PutItem", {}),
        ("PutItem", {"TableName": 5, "Item": "x", "Nonsense": WRONG}),
        ("PutItem", {"Item": None, "ExpressionAttributeNames": {"#a": 5}}),
        ("BatchWriteItem", {"RequestItems": {"t": [None, {"PutRequest": None}]}}),
        ("ListTables", {"Limit": "x"}),
    ],
)
def test_everything_else_is_passed_over(operation: str, body: Any) -> None:
    check_value_types(operation, body)
