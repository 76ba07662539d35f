"""Quotas as the documentation states them: whatever asks for more than DynamoDB allows is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.service import Item, Service, schema

TABLE_MAX = 40_000
ACCOUNT_MAX = 80_000
INDEX_KEY = {"AttributeName": "other", "KeyType": "HASH"}


def units(read: int, write: int) -> Item:
    return {"ProvisionedThroughput": {"ReadCapacityUnits": read, "WriteCapacityUnits": write}}


def definition(service: Service, read: int, write: int, **more: Any) -> Item:
    keys, types = schema()
    return (
        {"TableName": service.unique("quota"), "KeySchema": keys, "AttributeDefinitions": types}
        | units(read, write)
        | more
    )


@pytest.fixture
def provisioned(service: Service) -> Iterator[str]:
    """A table of one read and one write unit."""
    body = definition(service, 1, 1)
    service.do("CreateTable", **body)
    name = body["TableName"]
    service.wait_active(name)
    yield name
    service.call("DeleteTable", {"TableName": name})


# API reference, DescribeLimits: the table quota restricts the sum of a new table and all its global indexes.


@pytest.mark.parametrize(("read", "write"), [(TABLE_MAX + 1, 1), (1, TABLE_MAX + 1)])
def test_a_new_table_has_no_more_units_than_the_table_quota(service: Service, read: int, write: int) -> None:
    code, _ = service.refused("CreateTable", definition(service, read, write))
    assert code == "LimitExceededException"


def test_units_of_global_indexes_count_in_the_table_quota(service: Service) -> None:
    body = definition(service, TABLE_MAX, 1)
    body["AttributeDefinitions"].append({"AttributeName": "other", "AttributeType": "S"})
    index = {"IndexName": "index", "KeySchema": [INDEX_KEY], "Projection": {"ProjectionType": "ALL"}}
    code, _ = service.refused("CreateTable", body | {"GlobalSecondaryIndexes": [index | units(1, 1)]})
    assert code == "LimitExceededException"


# API reference, DescribeLimits: for existing tables the only quota is that of the account.


def test_a_table_that_exists_is_bounded_by_the_account_quota(service: Service, provisioned: str) -> None:
    code, _ = service.refused("UpdateTable", {"TableName": provisioned} | units(ACCOUNT_MAX + 1, 1))
    assert code == "LimitExceededException"
    service.do("UpdateTable", TableName=provisioned, **units(TABLE_MAX + 1, 1))


# "Constraints", expression parameters: 2 MB is the sum of all ExpressionAttributeNames and ExpressionAttributeValues.


def test_placeholder_names_count_with_the_values(service: Service, table: str, key: Item) -> None:
    names = {f"#n{number}": f"{number:02}" + "x" * 60_000 for number in range(30)}
    paths = " AND ".join(f"attribute_not_exists({name})" for name in names)
    body = {"TableName": table, "Key": key, "ConditionExpression": f"{paths} AND :v = :v"}
    body |= {"ExpressionAttributeNames": names, "ExpressionAttributeValues": {":v": {"S": "v" * 300_000}}}
    assert "exceeds the maximum allowed size" in service.invalid("DeleteItem", **body)
    body["ExpressionAttributeValues"] = {":v": {"S": "v" * 200_000}}
    service.do("DeleteItem", **body)
