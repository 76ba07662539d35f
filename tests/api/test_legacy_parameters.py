"""The parameters from before expressions mean what the expressions that replaced them mean."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Item, Service

INVALID = "One or more parameter values were invalid: "
FAILED = ("ConditionalCheckFailedException", "The conditional request failed")


def condition(operator: str, *values: Item) -> Item:
    return {"ComparisonOperator": operator, **({"AttributeValueList": list(values)} if values else {})}


@pytest.fixture(scope="module")
def collection(service: Service, sorted_table: str) -> str:
    """The partition key of ten items in `sorted_table`, with sort keys "0" to "9"."""
    pk = service.unique("legacy")
    items: list[Item] = [
        {"pk": {"S": pk}, "sk": {"S": str(n)}, "n": {"N": str(n)}, "kind": {"S": f"kind-{n % 3}"}} for n in range(10)
    ]
    for item in items[::3]:
        item["tags"] = {"SS": ["third", item["sk"]["S"]]}
    service.do("BatchWriteItem", RequestItems={sorted_table: [{"PutRequest": {"Item": item}} for item in items]})
    return pk


@pytest.mark.parametrize(
    ("legacy", "expression", "values"),
    [
        (condition("EQ", {"N": "4"}), "#a = :a", [{"N": "4"}]),
        (condition("NE", {"N": "4"}), "#a <> :a", [{"N": "4"}]),
        (condition("LT", {"N": "4"}), "#a < :a", [{"N": "4"}]),
        (condition("LE", {"N": "4"}), "#a <= :a", [{"N": "4"}]),
        (condition("GT", {"N": "4"}), "#a > :a", [{"N": "4"}]),
        (condition("GE", {"N": "4"}), "#a >= :a", [{"N": "4"}]),
        (condition("BETWEEN", {"N": "2"}, {"N": "4"}), "#a BETWEEN :a AND :b", [{"N": "2"}, {"N": "4"}]),
        (condition("IN", {"N": "2"}, {"N": "11"}), "#a IN (:a, :b)", [{"N": "2"}, {"N": "11"}]),
        (condition("NULL"), "attribute_not_exists(#a)", []),
        (condition("NOT_NULL"), "attribute_exists(#a)", []),
        (condition("CONTAINS", {"S": "third"}), "contains(#a, :a)", [{"S": "third"}]),
        (
            condition("NOT_CONTAINS", {"S": "kind-1"}),
            "attribute_exists(#a) AND NOT contains(#a, :a)",
            [{"S": "kind-1"}],
        ),
        (condition("BEGINS_WITH", {"S": "kind-"}), "begins_with(#a, :a)", [{"S": "kind-"}]),
    ],
    ids=lambda value: value.get("ComparisonOperator") if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("attribute", ["n", "kind", "tags"])
def test_a_filter_selects_what_its_expression_selects(
    service: Service,
    sorted_table: str,
    collection: str,
    attribute: str,
    legacy: Item,
    expression: str,
    values: list[Item],
) -> None:
    query: Item = {"TableName": sorted_table, "ConsistentRead": True}
    keys = {"pk": condition("EQ", {"S": collection})}
    by_legacy = service.do("Query", **query, KeyConditions=keys, QueryFilter={attribute: legacy})
    by_expression = service.do(
        "Query", **query, KeyConditionExpression="pk = :pk", FilterExpression=expression,
        ExpressionAttributeNames={"#a": attribute},
        ExpressionAttributeValues={":pk": {"S": collection}, **dict(zip((":a", ":b"), values, strict=False))},
    )  # fmt: skip
    assert by_legacy == by_expression


def test_a_query_by_legacy_parameters_pages_and_turns(service: Service, sorted_table: str, collection: str) -> None:
    query: Item = {"TableName": sorted_table, "ConsistentRead": True, "AttributesToGet": ["n"]}
    query["KeyConditions"] = {
        "pk": condition("EQ", {"S": collection}),
        "sk": condition("BETWEEN", {"S": "2"}, {"S": "6"}),
    }
    first = service.do("Query", **query, Limit=3)
    assert [item["n"]["N"] for item in first["Items"]] == ["2", "3", "4"]
    second = service.do("Query", **query, Limit=3, ExclusiveStartKey=first["LastEvaluatedKey"])
    assert [item["n"]["N"] for item in second["Items"]] == ["5", "6"]
    backward = service.do("Query", **query, ScanIndexForward=False)
    assert [item["n"]["N"] for item in backward["Items"]] == ["6", "5", "4", "3", "2"]
    either = {"n": condition("EQ", {"N": "3"}), "kind": condition("EQ", {"S": "kind-2"})}
    found = service.do("Query", **query, QueryFilter=either, ConditionalOperator="OR")
    assert [item["n"]["N"] for item in found["Items"]] == ["2", "3", "5"]


def test_expected_guards_every_write(service: Service, table: str, key: Item) -> None:
    absent = {"pk": {"Exists": False}}
    assert service.do("PutItem", TableName=table, Item={**key, "n": {"N": "1"}}, Expected=absent) == {}
    assert service.refused("PutItem", {"TableName": table, "Item": key, "Expected": absent}) == FAILED
    two = {"n": {"Value": {"N": "2"}}}
    assert service.refused("DeleteItem", {"TableName": table, "Key": key, "Expected": two}) == FAILED
    update: Item = {"TableName": table, "Key": key, "AttributeUpdates": {"n": {"Value": {"N": "2"}}}}
    assert service.refused("UpdateItem", {**update, "Expected": two}) == FAILED
    assert service.do("UpdateItem", **update, Expected={"n": {"Value": {"N": "1.0"}}}) == {}
    assert service.do("DeleteItem", TableName=table, Key=key, Expected=two, ReturnValues="ALL_OLD") == {
        "Attributes": {**key, "n": {"N": "2"}}
    }


def test_attribute_updates_change_an_item(service: Service, table: str, key: Item) -> None:
    service.do("UpdateItem", TableName=table, Key=key, AttributeUpdates={
        "n": {"Action": "ADD", "Value": {"N": "2"}},
        "tags": {"Action": "ADD", "Value": {"SS": ["a", "b"]}},
        "list": {"Action": "ADD", "Value": {"L": [{"S": "x"}]}},
        "text": {"Value": {"S": "t"}},
    })  # fmt: skip
    changed = service.do("UpdateItem", TableName=table, Key=key, ReturnValues="UPDATED_NEW", AttributeUpdates={
        "n": {"Action": "ADD", "Value": {"N": "-5"}},
        "tags": {"Action": "DELETE", "Value": {"SS": ["a"]}},
        "list": {"Action": "ADD", "Value": {"L": [{"S": "y"}]}},
        "text": {"Action": "DELETE"},
    })  # fmt: skip
    assert changed["Attributes"] == {
        "n": {"N": "-3"},
        "tags": {"SS": ["b"]},
        "list": {"L": [{"S": "x"}, {"S": "y"}]},
    }
    assert service.get(table, key) == {**key, **changed["Attributes"]}
    wrong = {"n": {"Action": "ADD", "Value": {"SS": ["a"]}}}
    assert service.invalid("UpdateItem", TableName=table, Key=key, AttributeUpdates=wrong) == (
        "Type mismatch for attribute to update"
    )


def test_deleting_attributes_makes_no_item(service: Service, table: str, key: Item) -> None:
    update: Item = {"TableName": table, "Key": key, "AttributeUpdates": {"a": {"Action": "DELETE"}}}
    assert service.do("UpdateItem", **update, ReturnValues="ALL_OLD") == {}
    assert service.refused("UpdateItem", {**update, "Expected": {"b": {"Value": {"S": "x"}}}}) == FAILED
    assert service.get(table, key) is None
    service.do("UpdateItem", TableName=table, Key=key, AttributeUpdates={})
    assert service.get(table, key) == key


@pytest.mark.parametrize(
    ("operation", "parameters", "message"),
    [
        (
            "GetItem",
            {"AttributesToGet": ["a"], "ProjectionExpression": "b"},
            "Can not use both expression and non-expression parameters in the same request: "
            "Non-expression parameters: {AttributesToGet} Expression parameters: {ProjectionExpression}",
        ),
        ("GetItem", {"AttributesToGet": ["a", "a"]}, f"{INVALID}Duplicate value in attribute name: a"),
        (
            "GetItem",
            {"AttributesToGet": []},
            "1 validation error detected: Value '[]' at 'attributesToGet' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
        ),
        (
            "GetItem",
            {"AttributesToGet": ["a"], "ExpressionAttributeNames": {"#a": "a"}},
            "ExpressionAttributeNames can only be specified when using expressions",
        ),
        (
            "UpdateItem",
            {"AttributeUpdates": {"a": {"Action": "ADD"}}},
            f"1 validation error detected: {INVALID}Only DELETE action is allowed when no attribute value is specified",
        ),
        (
            "DeleteItem",
            {"Expected": {"a": {"Exists": True}}},
            f"1 validation error detected: {INVALID}Value must be provided when Exists is true for Attribute: a",
        ),
        (
            "DeleteItem",
            {"ConditionalOperator": "AND"},
            "1 validation error detected: ConditionalOperator cannot be used without Filter or Expected",
        ),
        (
            "UpdateItem",
            {"AttributeUpdates": {"pk": {"Value": {"S": "x"}}}},
            f"{INVALID}Cannot update attribute pk. This attribute is part of the key",
        ),
    ],
)
def test_what_is_wrong_is_told_in_the_services_words(
    service: Service, table: str, key: Item, operation: str, parameters: Item, message: str
) -> None:
    assert service.invalid(operation, TableName=table, Key=key, **parameters) == message


def test_boto3_sends_legacy_parameters(service: Service, table: str, key: Item) -> None:
    client: Any = service.boto3_client()
    client.update_item(TableName=table, Key=key, AttributeUpdates={"n": {"Value": {"N": "1"}, "Action": "ADD"}})
    request = {table: {"Keys": [key], "AttributesToGet": ["n"], "ConsistentRead": True}}
    assert client.batch_get_item(RequestItems=request)["Responses"] == {table: [{"n": {"N": "1"}}]}
