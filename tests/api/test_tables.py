"""The life of a table: made, described, listed, changed, deleted; and every way to ask wrongly for it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.service import Item, Service, schema

INVALID = "One or more parameter values were invalid: "
KEYS, TYPES = schema()


def creation(name: str, **more: Any) -> Item:
    return {
        "TableName": name,
        "KeySchema": KEYS,
        "AttributeDefinitions": TYPES,
        "BillingMode": "PAY_PER_REQUEST",
        **more,
    }


def without(body: Item, *names: str) -> Item:
    return {name: value for name, value in body.items() if name not in names}


@pytest.fixture
def fresh(service: Service) -> Iterator[str]:
    """A name of a table that the test may make; removed afterwards."""
    name = service.unique("api-fresh")
    yield name
    service.call("UpdateTable", {"TableName": name, "DeletionProtectionEnabled": False})
    service.call("DeleteTable", {"TableName": name})


def test_a_table_becomes_active_and_describes_itself(service: Service, fresh: str) -> None:
    keys, types = schema("S", "N")
    body = {"TableName": fresh, "KeySchema": keys, "AttributeDefinitions": types}
    made = service.do("CreateTable", **body, ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 3})[
        "TableDescription"
    ]
    assert made["TableStatus"] == "CREATING"
    assert made["TableName"] == fresh
    active = service.wait_active(fresh)
    assert active["KeySchema"] == keys
    assert sorted(active["AttributeDefinitions"], key=lambda each: str(each["AttributeName"])) == types
    throughput = active["ProvisionedThroughput"]
    assert (throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]) == (5, 3)
    assert throughput["NumberOfDecreasesToday"] == 0
    assert active["TableArn"].endswith(f":table/{fresh}")
    assert active["TableArn"].startswith(f"arn:aws:dynamodb:{service.region}:")
    assert (active["ItemCount"], active["TableSizeBytes"]) == (0, 0)
    assert active["DeletionProtectionEnabled"] is False
    assert isinstance(active["CreationDateTime"], int | float)
    assert len(active["TableId"]) == 36
    assert "BillingModeSummary" not in active
    assert made["TableId"] == active["TableId"]


def test_an_on_demand_table_says_so(service: Service, table: str) -> None:
    found = service.do("DescribeTable", TableName=table)["Table"]
    assert found["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert found["ProvisionedThroughput"]["ReadCapacityUnits"] == 0


def test_a_name_is_taken_once_and_free_again_after_deletion(service: Service, fresh: str) -> None:
    service.do("CreateTable", **creation(fresh))
    code, message = service.refused("CreateTable", creation(fresh))
    assert (code, message) == ("ResourceInUseException", f"Table already exists: {fresh}")
    service.wait_active(fresh)
    assert service.refused("CreateTable", creation(fresh))[0] == "ResourceInUseException"
    service.do("PutItem", TableName=fresh, Item={"pk": {"S": "a"}})
    deleted = service.do("DeleteTable", TableName=fresh)["TableDescription"]
    assert deleted["TableStatus"] == "DELETING"
    service.wait_gone(fresh)
    service.create(fresh)
    assert service.get(fresh, {"pk": {"S": "a"}}) is None


def test_a_missing_table_is_named_by_the_control_plane_only(service: Service) -> None:
    name = service.unique("missing")
    named = ("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found")
    assert service.refused("DescribeTable", {"TableName": name}) == named
    assert service.refused("DeleteTable", {"TableName": name}) == named
    assert service.refused("UpdateTable", {"TableName": name, "DeletionProtectionEnabled": True}) == named
    plain = ("ResourceNotFoundException", "Requested resource not found")
    key = {"pk": {"S": "a"}}
    assert service.refused("GetItem", {"TableName": name, "Key": key}) == plain
    assert service.refused("PutItem", {"TableName": name, "Item": key}) == plain
    assert service.refused("UpdateItem", {"TableName": name, "Key": key}) == plain
    assert service.refused("DeleteItem", {"TableName": name, "Key": key}) == plain
    assert service.refused("Scan", {"TableName": name}) == plain
    values = {":v": {"S": "x"}}
    query = {"TableName": name, "KeyConditionExpression": "pk = :v", "ExpressionAttributeValues": values}
    assert service.refused("Query", query) == plain


def test_a_protected_table_is_not_deleted(service: Service, fresh: str) -> None:
    service.create(fresh, DeletionProtectionEnabled=True)
    assert service.do("DescribeTable", TableName=fresh)["Table"]["DeletionProtectionEnabled"] is True
    assert service.invalid("DeleteTable", TableName=fresh) == (
        "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first."
    )
    service.do("UpdateTable", TableName=fresh, DeletionProtectionEnabled=False)
    service.wait_active(fresh)
    service.do("DeleteTable", TableName=fresh)


# --- CreateTable ----------------------------------------------------------------------------------------

TWO = [*KEYS, {"AttributeName": "sk", "KeyType": "RANGE"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"TableName": "ab"}, "TableName must be at least 3 characters long and at most 255 characters long"),
        ({"TableName": "a" * 256}, "TableName must be at least 3 characters long and at most 255 characters long"),
        (
            {"TableName": "no spaces"},
            "1 validation error detected: Value 'no spaces' at 'tableName' failed to satisfy constraint: Member must "
            "satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
        ),
        (
            {"KeySchema": []},
            "1 validation error detected: Value '[]' at 'keySchema' failed to satisfy constraint: Member must have "
            "length greater than or equal to 1",
        ),
        (
            {"KeySchema": [{"AttributeName": "pk", "KeyType": "SORT"}]},
            "1 validation error detected: Value 'SORT' at 'keySchema.1.member.keyType' failed to satisfy constraint: "
            "Member must satisfy enum value set: [HASH, RANGE]",
        ),
        (
            {"AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "SS"}]},
            "1 validation error detected: Value 'SS' at 'attributeDefinitions.1.member.attributeType' failed to "
            "satisfy constraint: Member must satisfy enum value set: [B, N, S]",
        ),
        (
            {"KeySchema": [*TWO, {"AttributeName": "x", "KeyType": "RANGE"}]},
            "1 validation error detected: Value '[KeySchemaElement(attributeName=pk, keyType=HASH), "
            "KeySchemaElement(attributeName=sk, keyType=RANGE), KeySchemaElement(attributeName=x, keyType=RANGE)]' at "
            "'keySchema' failed to satisfy constraint: Member must have length less than or equal to 2",
        ),
        ({"KeySchema": TWO}, "Invalid KeySchema: Some index key attribute have no definition"),
        (
            {"AttributeDefinitions": [{"AttributeName": "x", "AttributeType": "S"}]},
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. Keys: [pk], "
            "AttributeDefinitions: [x]",
        ),
        (
            {"AttributeDefinitions": [*TYPES, {"AttributeName": "x", "AttributeType": "S"}]},
            f"{INVALID}Number of attributes in KeySchema does not exactly match number of attributes defined in "
            "AttributeDefinitions",
        ),
        (
            {"AttributeDefinitions": [*TYPES, *TYPES]},
            f"{INVALID}Duplicate AttributeName in AttributeDefinitions: pk",
        ),
        (
            {"KeySchema": [{"AttributeName": "pk", "KeyType": "RANGE"}]},
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
        ),
        (
            {
                "KeySchema": [*KEYS, {"AttributeName": "sk", "KeyType": "HASH"}],
                "AttributeDefinitions": [*TYPES, {"AttributeName": "sk", "AttributeType": "S"}],
            },
            "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type",
        ),
        (
            {
                "KeySchema": [*KEYS, {"AttributeName": "pk", "KeyType": "RANGE"}],
                "AttributeDefinitions": [*TYPES, {"AttributeName": "sk", "AttributeType": "S"}],
            },
            "Both the Hash Key and the Range Key element in the KeySchema have the same name",
        ),
        (
            {"ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}},
            f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is "
            "PAY_PER_REQUEST",
        ),
        (
            {"BillingMode": "FREE"},
            "1 validation error detected: Value 'FREE' at 'billingMode' failed to satisfy constraint: Member must "
            "satisfy enum value set: [PROVISIONED, PAY_PER_REQUEST]",
        ),
        (
            {"BillingMode": "PROVISIONED"},
            f"{INVALID}ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED",
        ),
        (
            {
                "BillingMode": "PROVISIONED",
                "ProvisionedThroughput": {"ReadCapacityUnits": 0, "WriteCapacityUnits": 1},
            },
            "1 validation error detected: Value '0' at 'provisionedThroughput.readCapacityUnits' failed to satisfy "
            "constraint: Member must have value greater than or equal to 1",
        ),
        (
            {"BillingMode": "PROVISIONED", "ProvisionedThroughput": {"ReadCapacityUnits": 1}},
            "1 validation error detected: Value null at 'provisionedThroughput.writeCapacityUnits' failed to satisfy "
            "constraint: Member must not be null",
        ),
        (
            {"StreamSpecification": {"StreamEnabled": False, "StreamViewType": "KEYS_ONLY"}},
            f"{INVALID}Table is being created with a stream disabled, UpdateViewType should not be specified",
        ),
    ],
)
def test_a_wrong_definition_is_refused(service: Service, change: Item, message: str) -> None:
    body = creation(service.unique("api-wrong"), **copy.deepcopy(change))
    assert service.invalid("CreateTable", **body) == message


@pytest.mark.parametrize("missing", ["TableName", "KeySchema", "AttributeDefinitions"])
def test_a_definition_must_be_complete(service: Service, missing: str) -> None:
    message = service.invalid("CreateTable", **without(creation(service.unique("api-wrong")), missing))
    if missing == "TableName":
        assert message == "The parameter 'TableName' is required but was not present in the request"


@pytest.mark.parametrize(
    "more",
    [
        {"SSESpecification": {"Enabled": True, "SSEType": "KMS"}},
        {"ResourcePolicy": "{}"},
        {"VectorIndexes": []},
    ],
)  # fmt: skip
def test_what_is_not_supported_yet_is_refused_by_name(service: Service, more: Item) -> None:
    message = service.invalid("CreateTable", **creation(service.unique("api-wrong"), **more))
    assert next(iter(more)) in message
    assert "not supported" in message


# --- UpdateTable ----------------------------------------------------------------------------------------


def test_an_update_must_change_something(service: Service, table: str) -> None:
    assert "is required" in service.invalid("UpdateTable", TableName=table)


def test_throughput_and_billing_mode_change(service: Service, fresh: str) -> None:
    service.create(fresh, ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5})
    message = service.invalid(
        "UpdateTable", TableName=fresh, ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
    )
    assert message.startswith("The provisioned throughput for the table will not change.")
    more = {"ReadCapacityUnits": 7, "WriteCapacityUnits": 5}
    updating = service.do("UpdateTable", TableName=fresh, ProvisionedThroughput=more)["TableDescription"]
    assert updating["TableStatus"] == "UPDATING"
    assert updating["ProvisionedThroughput"]["ReadCapacityUnits"] == 5  # until it is ACTIVE again
    assert service.wait_active(fresh)["ProvisionedThroughput"]["ReadCapacityUnits"] == 7
    service.do("UpdateTable", TableName=fresh, BillingMode="PAY_PER_REQUEST")
    active = service.wait_active(fresh)
    assert active["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert active["ProvisionedThroughput"]["ReadCapacityUnits"] == 0
    units = {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}
    service.invalid("UpdateTable", TableName=fresh, ProvisionedThroughput=units)
    service.invalid("UpdateTable", TableName=fresh, BillingMode="PROVISIONED")
    service.do("UpdateTable", TableName=fresh, BillingMode="PROVISIONED", ProvisionedThroughput=units)
    assert service.wait_active(fresh)["ProvisionedThroughput"]["WriteCapacityUnits"] == 1


def test_one_kind_of_change_at_a_time(service: Service, table: str) -> None:
    assert "must be the only operation" in service.invalid(
        "UpdateTable", TableName=table, DeletionProtectionEnabled=True, TableClass="STANDARD"
    )


@pytest.mark.parametrize(
    "more",
    [
        {"MultiRegionConsistency": "STRONG"},
        {"GlobalTableSettingsReplicationMode": "ENABLED"},
    ],
)
def test_a_change_that_is_not_supported_yet_is_refused_by_name(service: Service, table: str, more: Item) -> None:
    assert "not supported" in service.invalid("UpdateTable", TableName=table, **more)


# --- listing --------------------------------------------------------------------------------------------


def test_tables_are_listed_in_order_and_in_pages(service: Service, make_table: Callable[..., str]) -> None:
    stem = service.unique("api-list")
    names = [service.create(f"{stem}-{letter}") for letter in "abc"]
    try:
        page = service.do("ListTables", ExclusiveStartTableName=stem, Limit=2)
        assert page == {"TableNames": names[:2], "LastEvaluatedTableName": names[1]}
        rest = service.do("ListTables", ExclusiveStartTableName=names[1], Limit=100)
        assert rest["TableNames"][0] == names[2]
        everything: list[str] = []
        start: Item = {}
        while True:
            page = service.do("ListTables", Limit=1, **start)
            everything += page["TableNames"]
            if "LastEvaluatedTableName" not in page:
                break
            start = {"ExclusiveStartTableName": page["LastEvaluatedTableName"]}
        assert set(names) <= set(everything)
        assert everything == sorted(everything)
    finally:
        for name in names:
            service.call("DeleteTable", {"TableName": name})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"Limit": 0},
         "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value "
         "greater than or equal to 1"),
        ({"Limit": 101},
         "1 validation error detected: Value '101' at 'limit' failed to satisfy constraint: Member must have value "
         "less than or equal to 100"),
        ({"ExclusiveStartTableName": "x"},
         "ExclusiveStartTableName must be at least 3 characters long and at most 255 characters long"),
        ({"ExclusiveStartTableName": "x y z"},
         "1 validation error detected: Value 'x y z' at 'exclusiveStartTableName' failed to satisfy constraint: "
         "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"),
    ],
)  # fmt: skip
def test_a_wrong_listing_is_refused(service: Service, more: Item, message: str) -> None:
    assert service.invalid("ListTables", **more) == message


# --- ARNs -----------------------------------------------------------------------------------------------


def test_an_arn_names_a_table_wherever_a_name_does(service: Service, table: str, key: Item) -> None:
    arn = service.do("DescribeTable", TableName=table)["Table"]["TableArn"]
    assert service.do("DescribeTable", TableName=arn)["Table"]["TableName"] == table
    item = {**key, "v": {"S": "x"}}
    service.do("PutItem", TableName=arn, Item=item)
    got = service.do("GetItem", TableName=arn, Key=key, ConsistentRead=True, ReturnConsumedCapacity="TOTAL")
    assert got["Item"] == item
    assert got["ConsumedCapacity"]["TableName"] == arn
    batch = service.do("BatchGetItem", RequestItems={arn: {"Keys": [key]}})
    assert batch["Responses"] == {arn: [item]}
    service.do("BatchWriteItem", RequestItems={arn: [{"DeleteRequest": {"Key": key}}]})
    values = {":pk": key["pk"]}
    found = service.do("Query", TableName=arn, KeyConditionExpression="pk = :pk", ExpressionAttributeValues=values)
    assert found["Count"] == 0


def test_an_arn_of_something_else_is_refused(service: Service, table: str, key: Item) -> None:
    arn = service.do("DescribeTable", TableName=table)["Table"]["TableArn"]
    missing = arn.rpartition("/")[0] + "/" + service.unique("missing")
    assert service.refused("GetItem", {"TableName": missing, "Key": key})[0] == "ResourceNotFoundException"
    for wrong in (
        arn.replace(service.region, "xx-none-9"),
        arn.replace(":dynamodb:", ":s3:"),
        arn + "/index/idx",
        "arn:aws",
        "arn:",
    ):
        assert service.call("GetItem", {"TableName": wrong, "Key": key}).status == 400, wrong


def test_an_arn_names_a_table_to_the_control_plane(service: Service, fresh: str) -> None:
    service.create(fresh)
    arn = service.do("DescribeTable", TableName=fresh)["Table"]["TableArn"]
    service.do("UpdateTable", TableName=arn, DeletionProtectionEnabled=True)
    service.wait_active(arn)
    service.do("UpdateTable", TableName=arn, DeletionProtectionEnabled=False)
    service.wait_active(fresh)
    assert service.do("DeleteTable", TableName=arn)["TableDescription"]["TableName"] == fresh
    service.wait_gone(fresh)
    again = service.do("CreateTable", **creation(arn))["TableDescription"]
    assert (again["TableName"], again["TableArn"]) == (fresh, arn)
    service.wait_active(fresh)
    missing = {"TableName": f"{arn}-gone"}
    assert service.refused("DescribeTable", missing) == (
        "ResourceNotFoundException",
        f"Requested resource not found: Table: {fresh}-gone not found",
    )
    assert service.invalid("DescribeTable", TableName=arn.replace(service.region, "xx-none-9")).endswith(
        f"Invalid AWS region in '{arn.replace(service.region, 'xx-none-9')}'"
    )


def test_limits_and_endpoints_are_described(service: Service) -> None:
    limits = service.do("DescribeLimits")
    assert all(isinstance(limits[name], int) for name in (
        "AccountMaxReadCapacityUnits", "AccountMaxWriteCapacityUnits",
        "TableMaxReadCapacityUnits", "TableMaxWriteCapacityUnits",
    ))  # fmt: skip
    endpoints = service.do("DescribeEndpoints")["Endpoints"]
    assert endpoints[0]["CachePeriodInMinutes"] > 0
