"""Tables with secondary indexes: made, described, changed, and refused where a definition does not hold together."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from tests.api.service import Item, Service

INVALID = "One or more parameter values were invalid: "
UNITS = {"ReadCapacityUnits": 2, "WriteCapacityUnits": 3}
ALL = {"ProjectionType": "ALL"}


def attributes(names: str) -> list[Item]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names.split()]


def keys(hashes: str, ranges: str = "") -> list[Item]:
    return [{"AttributeName": name, "KeyType": "HASH"} for name in hashes.split()] + [
        {"AttributeName": name, "KeyType": "RANGE"} for name in ranges.split()
    ]


def index(name: str, hashes: str, ranges: str = "", **more: object) -> Item:
    return {"IndexName": name, "KeySchema": keys(hashes, ranges), "Projection": ALL, **more}


def creation(name: str, names: str = "pk sk a", **more: object) -> Item:
    return {
        "TableName": name,
        "KeySchema": keys("pk", "sk"),
        "AttributeDefinitions": attributes(names),
        "BillingMode": "PAY_PER_REQUEST",
        **more,
    }


@pytest.fixture
def fresh(service: Service) -> Iterator[str]:
    name = service.unique("api-indexes")
    yield name
    service.call("DeleteTable", {"TableName": name})


def wait_indexes(service: Service, table: str) -> list[Item]:
    """The global indexes, once table and indexes are ACTIVE; asks as fast as answers come."""
    for _ in range(2000):
        found = service.wait_active(table).get("GlobalSecondaryIndexes", [])
        if all(each["IndexStatus"] == "ACTIVE" for each in found):
            return list(found)
    raise AssertionError("an index did not become ACTIVE")


def test_a_table_is_made_with_indexes_of_both_kinds(service: Service, fresh: str) -> None:
    some = {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["x"]}
    made = service.do(
        "CreateTable",
        **creation(
            fresh,
            "pk sk a b c",
            LocalSecondaryIndexes=[index("near", "pk", "a") | {"Projection": some}],
            GlobalSecondaryIndexes=[index("far", "a b", "c sk")],
        ),
    )["TableDescription"]
    assert made["GlobalSecondaryIndexes"][0]["IndexStatus"] == "CREATING"
    (far,) = wait_indexes(service, fresh)
    assert far["KeySchema"] == keys("a b", "c sk")
    assert far["IndexArn"].endswith(f":table/{fresh}/index/far")
    assert "Backfilling" not in far
    table = service.do("DescribeTable", TableName=fresh)["Table"]
    (near,) = table["LocalSecondaryIndexes"]
    assert near["KeySchema"] == keys("pk", "a")
    assert near["Projection"] == some
    assert (near["ItemCount"], near["IndexSizeBytes"]) == (0, 0)
    assert sorted(each["AttributeName"] for each in table["AttributeDefinitions"]) == ["a", "b", "c", "pk", "sk"]


def test_an_index_comes_and_goes(service: Service, fresh: str) -> None:
    service.create(fresh, "S", "S")
    service.do("PutItem", TableName=fresh, Item={"pk": {"S": "p"}, "sk": {"S": "s"}, "a": {"S": "x"}})
    later = {"Create": index("later", "a")}
    started = service.do(
        "UpdateTable",
        TableName=fresh,
        AttributeDefinitions=attributes("a"),
        GlobalSecondaryIndexUpdates=[later],
    )["TableDescription"]
    assert started["TableStatus"] == "UPDATING"
    assert started["GlobalSecondaryIndexes"][0]["IndexStatus"] == "CREATING"
    assert [each["IndexName"] for each in wait_indexes(service, fresh)] == ["later"]
    again = {"AttributeDefinitions": attributes("a"), "GlobalSecondaryIndexUpdates": [later]}
    taken = service.invalid("UpdateTable", TableName=fresh, **again)
    assert "already exists" in taken
    drop = {"GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": "later"}}]}
    service.do("UpdateTable", TableName=fresh, **drop)
    active = service.wait_active(fresh)
    assert "GlobalSecondaryIndexes" not in active
    assert [each["AttributeName"] for each in active["AttributeDefinitions"]] == ["pk", "sk"]
    assert service.refused("UpdateTable", {"TableName": fresh, **drop})[0] == "ResourceNotFoundException"


def test_units_of_an_index_change(service: Service, fresh: str) -> None:
    service.do(
        "CreateTable",
        **creation(
            fresh,
            BillingMode="PROVISIONED",
            ProvisionedThroughput=UNITS,
            GlobalSecondaryIndexes=[index("far", "a", ProvisionedThroughput=UNITS)],
        ),
    )
    wait_indexes(service, fresh)
    same = {"Update": {"IndexName": "far", "ProvisionedThroughput": UNITS}}
    assert service.invalid("UpdateTable", TableName=fresh, GlobalSecondaryIndexUpdates=[same]).startswith(
        "The provisioned throughput for the index far will not change."
    )
    more = {"Update": {"IndexName": "far", "ProvisionedThroughput": UNITS | {"ReadCapacityUnits": 7}}}
    service.do("UpdateTable", TableName=fresh, GlobalSecondaryIndexUpdates=[more])
    (far,) = wait_indexes(service, fresh)
    assert far["ProvisionedThroughput"]["ReadCapacityUnits"] == 7
    service.do("UpdateTable", TableName=fresh, BillingMode="PAY_PER_REQUEST")
    (far,) = wait_indexes(service, fresh)
    assert far["ProvisionedThroughput"]["ReadCapacityUnits"] == 0
    assert "Both ReadCapacityUnits and WriteCapacityUnits must be specified for index: far" in service.invalid(
        "UpdateTable", TableName=fresh, BillingMode="PROVISIONED", ProvisionedThroughput=UNITS
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"LocalSecondaryIndexes": []}, f"{INVALID}List of LocalSecondaryIndexes is empty"),
        ({"GlobalSecondaryIndexes": []}, f"{INVALID}List of GlobalSecondaryIndexes is empty"),
        (
            {"LocalSecondaryIndexes": [index("idx", "pk")]},
            f"{INVALID}Index KeySchema does not have a range key for index: idx",
        ),
        (
            {"GlobalSecondaryIndexes": [index("idx", "a")] * 2},
            f"{INVALID}Duplicate index name: idx",
        ),
        (
            {"GlobalSecondaryIndexes": [index("idx", "x")]},
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. Keys: [x], "
            "AttributeDefinitions: [pk, sk, a]",
        ),
        (
            {"GlobalSecondaryIndexes": [index("idx", "sk")]},
            f"{INVALID}Some AttributeDefinitions are not used. AttributeDefinitions: [pk, sk, a], keys used: [pk, sk]",
        ),
        (
            {"GlobalSecondaryIndexes": [index("no", "a"), index("no spaces", "a")]},
            "3 validation errors detected: Value 'no' at 'globalSecondaryIndexes.1.member.indexName' failed to satisfy "
            "constraint: Member must have length greater than or equal to 3; "
            "Value 'no spaces' at 'globalSecondaryIndexes.2.member.indexName' failed to satisfy constraint: Member "
            "must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; "
            "Value 'FREE' at 'billingMode' failed to satisfy constraint: Member must satisfy enum value set: "
            "[PROVISIONED, PAY_PER_REQUEST]",
        ),
    ],
)
def test_a_wrong_definition_is_refused(service: Service, change: Item, message: str) -> None:
    if "3 validation" in message:
        change = change | {"BillingMode": "FREE"}
    body = creation(service.unique("api-wrong"), **copy.deepcopy(change))
    assert service.invalid("CreateTable", **body) == message
