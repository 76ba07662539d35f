"""Secondary indexes as CreateTable and UpdateTable define them, and as DescribeTable tells of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import IndexStatus, TableStatus
from geodyne.messages import Control
from tests.unit.router.fake_region import NOW_MS, Client

INVALID = "One or more parameter values were invalid: "
UNITS = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 6}
ALL = {"ProjectionType": "ALL"}
ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/things"


def attributes(names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names.split()]


def keys(hashes: str, ranges: str = "") -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": "HASH"} for name in hashes.split()] + [
        {"AttributeName": name, "KeyType": "RANGE"} for name in ranges.split()
    ]


def index(hashes: str, ranges: str = "", name: str = "idx", **more: Any) -> dict[str, Any]:
    return {"IndexName": name, "KeySchema": keys(hashes, ranges), "Projection": ALL, **more}


def creation(
    *, local: list[Any] | None = None, wide: list[Any] | None = None, names: str = "pk sk a", **more: Any
) -> dict[str, Any]:
    body = {
        "TableName": "things",
        "KeySchema": keys("pk", "sk"),
        "AttributeDefinitions": attributes(names),
        "BillingMode": "PAY_PER_REQUEST",
        "LocalSecondaryIndexes": local,
        "GlobalSecondaryIndexes": wide,
        **more,
    }
    return {name: value for name, value in body.items() if value is not None}


def sent(client: Client) -> dict[str, Any]:
    call = client.region.calls[-1]
    assert isinstance(call, Control)
    return call.body


# --- CreateTable ----------------------------------------------------------------------------------------


def test_definitions_travel_with_their_key_types_and_projection() -> None:
    client = Client()
    include = {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["x", "pk"]}
    client(
        "CreateTable",
        **creation(
            local=[index("pk", "a", "near") | {"Projection": include}],
            wide=[index("a b", "sk c", "far", WarmThroughput={"ReadUnitsPerSecond": 13_000})],
            names="pk sk a b c",
        ),
    )
    near, far = sent(client)["definition"]["indexes"]
    assert near == {
        "name": "near",
        "is_global": False,
        "hash_keys": [["pk", "S"]],
        "range_keys": [["a", "S"]],
        "projection": "INCLUDE",
        "included": ["x", "pk"],
        "read_units": 0,
        "write_units": 0,
        "extra": {},
    }
    assert far["is_global"]
    assert far["hash_keys"] == [["a", "S"], ["b", "S"]]
    assert far["range_keys"] == [["sk", "S"], ["c", "S"]]
    assert far["extra"] == {"warm": {"read": 13_000, "write": 4_000}}


EIGHT = "a b c d e f g h"
INCLUDES_20 = {"ProjectionType": "INCLUDE", "NonKeyAttributes": [f"n{number}" for number in range(20)]}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"local": []}, f"{INVALID}List of LocalSecondaryIndexes is empty"),
        ({"wide": []}, f"{INVALID}List of GlobalSecondaryIndexes is empty"),
        (
            {"local": [index("pk", "a")], "KeySchema": keys("pk"), "names": "pk a"},
            f"{INVALID}Table KeySchema does not have a range key, which is required when specifying a "
            "LocalSecondaryIndex",
        ),
        (
            {"local": [index("pk")]},
            f"{INVALID}Index KeySchema does not have a range key for index: idx",
        ),
        (
            {"local": [index("a", "sk")]},
            f"{INVALID}Index KeySchema does not have the same leading hash key as table KeySchema for index: idx. "
            "index hash key: a, table hash key: pk",
        ),
        (
            {"local": [index("pk", "x")]},
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. Keys: [pk, x], "
            "AttributeDefinitions: [pk, sk, a]",
        ),
        (
            {"wide": [index("x")]},
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. Keys: [x], "
            "AttributeDefinitions: [pk, sk, a]",
        ),
        (
            {"local": [index("pk", "pk")]},
            "Both the Hash Key and the Range Key element in the KeySchema have the same name",
        ),
        (
            {"wide": [index("a", "a")]},
            "Both the Hash Key and the Range Key element in the KeySchema have the same name",
        ),
        (
            {"local": [index("", "a")]},
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
        ),
        (
            {"local": [index("pk a")]},
            "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type",
        ),
        (
            {"wide": [index("", "a")]},
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
        ),
        (
            {"wide": [index("a") | {"KeySchema": [*keys("a", "sk"), *keys("pk")]}]},
            "Invalid KeySchema: All HASH key attributes must precede RANGE key attributes in the KeySchema",
        ),
        (
            {"wide": [index("a b c d e", "f")], "names": f"pk sk {EIGHT}"},
            "Invalid KeySchema: The KeySchema exceeds the maximum allowed number of HASH key attributes",
        ),
        (
            {"wide": [index("a", "b c d e f")], "names": f"pk sk {EIGHT}"},
            "Invalid KeySchema: The KeySchema exceeds the maximum allowed number of RANGE key attributes",
        ),
        (
            {"wide": [index("a a", "sk")]},
            "Invalid KeySchema: Some index key attributes are repeated in the KeySchema: a",
        ),
        ({"wide": [index("a") | {"Projection": {}}]}, f"{INVALID}Unknown ProjectionType: null"),
        (
            {"wide": [index("a") | {"Projection": {"ProjectionType": "INCLUDE"}}]},
            f"{INVALID}ProjectionType is INCLUDE, but NonKeyAttributes is not specified",
        ),
        (
            {"local": [index("pk", "a") | {"Projection": ALL | {"NonKeyAttributes": ["x"]}}]},
            f"{INVALID}ProjectionType is ALL, but NonKeyAttributes is specified",
        ),
        (
            {"wide": [index("a") | {"Projection": {"ProjectionType": "KEYS_ONLY", "NonKeyAttributes": ["x"]}}]},
            f"{INVALID}ProjectionType is KEYS_ONLY, but NonKeyAttributes is specified",
        ),
        (
            {"wide": [index("a") | {"Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["x", "x"]}}]},
            f"{INVALID}Duplicate attribute name in NonKeyAttributes: x",
        ),
        (
            {"local": [index("pk", "a")], "wide": [index("a")]},
            f"{INVALID}Duplicate index name: idx",
        ),
        (
            {"local": [index("pk", "a", f"idx{number}") for number in range(6)]},
            f"{INVALID}Number of LocalSecondaryIndexes exceeds per-table limit of 5",
        ),
        (
            {"wide": [index("a", name=f"idx{number}") for number in range(21)]},
            f"{INVALID}GlobalSecondaryIndex count exceeds the per-table limit of 20",
        ),
        (
            {"wide": [index("a", name=f"idx{number}") | {"Projection": INCLUDES_20} for number in range(6)]},
            f"{INVALID}Number of NonKeyAttributes projected into all secondary indexes exceeds the per-table limit of "
            "100",
        ),
        (
            {"wide": [index("a")], "names": "pk sk a b"},
            f"{INVALID}Some AttributeDefinitions are not used. AttributeDefinitions: [pk, sk, a, b], "
            "keys used: [pk, sk, a]",
        ),
        (
            {"wide": [index("a", ProvisionedThroughput=UNITS)]},
            f"{INVALID}ProvisionedThroughput should not be specified for index: idx when BillingMode is "
            "PAY_PER_REQUEST",
        ),
        (
            {"wide": [index("a")], "BillingMode": "PROVISIONED", "ProvisionedThroughput": UNITS},
            f"{INVALID}ProvisionedThroughput is not specified for index: idx",
        ),
        (
            {
                "wide": [index("a", ProvisionedThroughput=UNITS | {"ReadCapacityUnits": 10**12 + 1})],
                "BillingMode": "PROVISIONED",
                "ProvisionedThroughput": UNITS,
            },
            "Given value 1000000000001 for ReadCapacityUnits is out of bounds for index idx",
        ),
        (
            {"wide": [index("a", WarmThroughput={"WriteUnitsPerSecond": 3_999})]},
            f"{INVALID}Requested WriteUnitsPerSecond for WarmThroughput for index idx is lower than current "
            "WarmThroughput, decreasing WarmThroughput is not supported",
        ),
    ],
)
def test_a_wrong_definition_is_refused(more: dict[str, Any], message: str) -> None:
    client = Client()
    assert client.refused("CreateTable", **creation(**more)) == ("ValidationException", message)
    assert client.region.calls == []


def test_the_key_of_a_local_index_has_at_most_two_elements() -> None:
    code, message = Client().refused("CreateTable", **creation(local=[index("pk", "a sk")]))
    assert code == "ValidationException"
    assert message is not None
    assert message.endswith(
        "at 'localSecondaryIndexes.1.member.keySchema' failed to satisfy constraint: Member must have length less "
        "than or equal to 2"
    )


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"IndexName": "ab"}, "globalSecondaryIndexes.1.member.indexName"),
        ({"IndexName": "no spaces"}, "globalSecondaryIndexes.1.member.indexName"),
        ({"KeySchema": []}, "globalSecondaryIndexes.1.member.keySchema"),
        ({"Projection": {"ProjectionType": "SOME"}}, "globalSecondaryIndexes.1.member.projection.projectionType"),
        (
            {"Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": []}},
            "globalSecondaryIndexes.1.member.projection.nonKeyAttributes",
        ),
        (
            {"ProvisionedThroughput": {"ReadCapacityUnits": 0, "WriteCapacityUnits": 1}},
            "globalSecondaryIndexes.1.member.provisionedThroughput.readCapacityUnits",
        ),
    ],
)
def test_constraints_of_the_model_name_the_member(wrong: dict[str, Any], path: str) -> None:
    code, message = Client().refused("CreateTable", **creation(wide=[index("a") | wrong]))
    assert code == "ValidationException"
    assert message is not None
    assert message.startswith("1 validation error detected: ")
    assert f" at '{path}' failed to satisfy constraint: " in message


# --- DescribeTable --------------------------------------------------------------------------------------


def indexed(**more: Any) -> Client:
    client = Client()
    client(
        "CreateTable",
        **creation(local=[index("pk", "a", "near")], wide=[index("a", name="far")], **more),
    )
    return client


def described(client: Client) -> dict[str, Any]:
    table: dict[str, Any] = client("DescribeTable", TableName="things")["Table"]
    return table


def test_indexes_are_described_with_sizes_of_their_own() -> None:
    client = indexed()
    record = client.region.catalog.tables["things"]
    near, far = record.indexes
    client.region.catalog.told = {(record.partitions[0].id, near.slot): (3, 30), (far.partitions[1].id, 0): (2, 20)}
    table = described(client)
    assert table["AttributeDefinitions"] == attributes("a pk sk")
    assert table["LocalSecondaryIndexes"] == [
        {
            "IndexName": "near",
            "KeySchema": keys("pk", "a"),
            "Projection": ALL,
            "IndexArn": f"{ARN}/index/near",
            "ItemCount": 3,
            "IndexSizeBytes": 30,
        }
    ]
    assert table["GlobalSecondaryIndexes"] == [
        {
            "IndexName": "far",
            "KeySchema": keys("a"),
            "Projection": ALL,
            "IndexArn": f"{ARN}/index/far",
            "ItemCount": 2,
            "IndexSizeBytes": 20,
            "IndexStatus": "ACTIVE",
            "ProvisionedThroughput": {"NumberOfDecreasesToday": 0, "ReadCapacityUnits": 0, "WriteCapacityUnits": 0},
            "WarmThroughput": {"ReadUnitsPerSecond": 12_000, "WriteUnitsPerSecond": 4_000, "Status": "ACTIVE"},
        }
    ]
    assert (table["ItemCount"], table["TableSizeBytes"]) == (0, 0)


def test_an_index_is_creating_with_its_table_and_backfills_when_it_comes_later() -> None:
    client = indexed()
    record = client.region.catalog.tables["things"]
    client.region.catalog.tables["things"] = replace(record, status=TableStatus.CREATING)
    (far,) = described(client)["GlobalSecondaryIndexes"]
    assert far["IndexStatus"] == "CREATING"
    assert "Backfilling" not in far
    filling = tuple(replace(each, status=IndexStatus.CREATING, backfilling=True) for each in record.indexes)
    client.region.catalog.tables["things"] = replace(record, indexes=filling)
    (far,) = described(client)["GlobalSecondaryIndexes"]
    assert (far["IndexStatus"], far["Backfilling"]) == ("CREATING", True)


# --- UpdateTable ----------------------------------------------------------------------------------------


def update(client: Client, **change: Any) -> dict[str, Any]:
    client("UpdateTable", TableName="things", **change)
    return {name: value for name, value in sent(client).items() if name != "name"}


def refusal(client: Client, *updates: dict[str, Any], **more: Any) -> tuple[str, str | None]:
    return client.refused("UpdateTable", TableName="things", GlobalSecondaryIndexUpdates=list(updates), **more)


def test_an_index_is_added_with_definitions_of_all_its_key_attributes() -> None:
    client = indexed()
    change = update(
        client,
        GlobalSecondaryIndexUpdates=[{"Create": index("b", "sk", "later")}],
        AttributeDefinitions=attributes("b sk"),
    )
    assert set(change) == {"index_add"}
    assert change["index_add"]["hash_keys"] == [["b", "S"]]
    assert change["index_add"]["range_keys"] == [["sk", "S"]]
    assert [each["IndexName"] for each in described(client)["GlobalSecondaryIndexes"]] == ["far", "later"]
    assert update(client, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "later"}}]) == {"index_remove": "later"}


LIMIT = "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table"
ACTIONS = "GlobalSecondaryIndexUpdate.Update, GlobalSecondaryIndexUpdate.Create, GlobalSecondaryIndexUpdate.Delete"


@pytest.mark.parametrize(
    ("updates", "more", "code", "message"),
    [
        ([{}], {}, "ValidationException", f"{INVALID}One of {ACTIONS} must not be null"),
        (
            [{"Create": index("a", name="new"), "Delete": {"IndexName": "far"}}],
            {},
            "ValidationException",
            f"{INVALID}Only one of {ACTIONS} can be specified",
        ),
        (
            [{"Delete": {"IndexName": "far"}}, {"Delete": {"IndexName": "far"}}],
            {},
            "ValidationException",
            f"{INVALID}Only one global secondary index update per index is allowed simultaneously. Index: far",
        ),
        (
            [{"Create": index("a", name="one")}, {"Delete": {"IndexName": "far"}}],
            {"AttributeDefinitions": attributes("a")},
            "LimitExceededException",
            LIMIT,
        ),
        ([{"Delete": {"IndexName": "gone"}}], {}, "ResourceNotFoundException", "Requested resource not found"),
        ([{"Delete": {"IndexName": "near"}}], {}, "ResourceNotFoundException", "Requested resource not found"),
        (
            [{"Update": {"IndexName": "gone", "ProvisionedThroughput": UNITS}}],
            {},
            "ResourceNotFoundException",
            "Requested resource not found",
        ),
        (
            [{"Create": index("a", name="far")}],
            {"AttributeDefinitions": attributes("pk sk a")},
            "ValidationException",
            "Attempting to create an index which already exists",
        ),
        (
            [{"Create": index("b", "sk", name="new")}],
            {"AttributeDefinitions": attributes("b")},
            "ValidationException",
            "Invalid KeySchema: Some index key attribute have no definition",
        ),
        (
            [{"Create": index("a", name="new")}],
            {},
            "ValidationException",
            "Invalid KeySchema: Some index key attribute have no definition",
        ),
        (
            [{"Create": index("b", name="new")}],
            {"AttributeDefinitions": attributes("c")},
            "ValidationException",
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. Keys: [b], "
            "AttributeDefinitions: [c]",
        ),
        (
            [{"Create": index("a", name="new")}],
            {"AttributeDefinitions": [{"AttributeName": "a", "AttributeType": "N"}]},
            "ValidationException",
            f"{INVALID}Attribute type of an existing key attribute cannot be changed. "
            "Attribute: a, current type: S, requested type: N",
        ),
        (
            [{"Create": index("b", name="new")}],
            {"AttributeDefinitions": attributes("b c")},
            "ValidationException",
            f"{INVALID}Some AttributeDefinitions are not used. AttributeDefinitions: [b, c], keys used: [pk, sk, a, b]",
        ),
        (
            [{"Create": index("a", name="new", ProvisionedThroughput=UNITS)}],
            {"AttributeDefinitions": attributes("a")},
            "ValidationException",
            f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified for index: new when "
            "BillingMode is PAY_PER_REQUEST",
        ),
        (
            [{"Update": {"IndexName": "far", "ProvisionedThroughput": UNITS}}],
            {},
            "ValidationException",
            f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified for index: far when "
            "BillingMode is PAY_PER_REQUEST",
        ),
        (
            [],
            {"BillingMode": "PROVISIONED", "ProvisionedThroughput": UNITS},
            "ValidationException",
            f"{INVALID}Both ReadCapacityUnits and WriteCapacityUnits must be specified for index: far",
        ),
    ],
)
def test_index_updates_are_checked(
    updates: list[dict[str, Any]], more: dict[str, Any], code: str, message: str
) -> None:
    assert refusal(indexed(), *updates, **more) == (code, message)


def test_no_index_is_made_while_another_one_fills() -> None:
    client = indexed()
    record = client.region.catalog.tables["things"]
    filling = tuple(replace(each, status=IndexStatus.CREATING) for each in record.indexes if each.is_global)
    client.region.catalog.tables["things"] = replace(record, indexes=filling)
    new = {"Create": index("a", name="new")}
    assert refusal(client, new, AttributeDefinitions=attributes("a")) == ("LimitExceededException", LIMIT)
    assert update(client, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "far"}}]) == {"index_remove": "far"}


def test_a_billing_mode_is_that_of_every_index() -> None:
    client = indexed()
    units = {"IndexName": "far", "ProvisionedThroughput": UNITS}
    change = update(
        client,
        BillingMode="PROVISIONED",
        ProvisionedThroughput=UNITS,
        GlobalSecondaryIndexUpdates=[{"Update": units}],
    )
    assert change["index_update"] == {"far": {"read_units": 5, "write_units": 6, "extra": {}}}
    code, message = refusal(client, {"Update": units})
    assert code == "ValidationException"
    assert message == (
        "The provisioned throughput for the index far will not change. The requested value equals the current value. "
        "Current ReadCapacityUnits provisioned for the index: 5. Requested ReadCapacityUnits: 5. "
        "Current WriteCapacityUnits provisioned for the index: 6. Requested WriteCapacityUnits: 6. "
        "Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits."
    )
    fewer = {"IndexName": "far", "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 6}}
    update(client, GlobalSecondaryIndexUpdates=[{"Update": fewer}])
    (far,) = described(client)["GlobalSecondaryIndexes"]
    assert far["ProvisionedThroughput"] == {
        "NumberOfDecreasesToday": 1,
        "LastDecreaseDateTime": NOW_MS / 1000,
        "ReadCapacityUnits": 1,
        "WriteCapacityUnits": 6,
    }
    change = update(client, BillingMode="PAY_PER_REQUEST")
    assert change["index_update"]["far"] == {"read_units": 0, "write_units": 0, "extra": {}}


def test_an_index_that_is_going_needs_no_units() -> None:
    client = indexed()
    record = client.region.catalog.tables["things"]
    going = tuple(replace(each, status=IndexStatus.DELETING) for each in record.indexes if each.is_global)
    client.region.catalog.tables["things"] = replace(record, indexes=going)
    assert "index_update" not in update(client, BillingMode="PROVISIONED", ProvisionedThroughput=UNITS)
    (far,) = described(client)["GlobalSecondaryIndexes"]
    assert far["IndexStatus"] == "DELETING"
    assert refusal(client, {"Delete": {"IndexName": "far"}}) == (
        "ResourceNotFoundException",
        "Requested resource not found",
    )


def test_ceilings_and_warm_throughput_of_an_index_change_by_themselves() -> None:
    client = indexed()
    settings = {
        "IndexName": "far",
        "OnDemandThroughput": {"MaxWriteRequestUnits": 7},
        "WarmThroughput": {"WriteUnitsPerSecond": 5_000},
    }
    change = update(client, GlobalSecondaryIndexUpdates=[{"Update": settings}])
    extra = {"on_demand_max": {"write": 7}, "warm": {"read": 12_000, "write": 5_000}}
    assert change == {"index_update": {"far": {"read_units": 0, "write_units": 0, "extra": extra}}}
    (far,) = described(client)["GlobalSecondaryIndexes"]
    assert far["OnDemandThroughput"] == {"MaxWriteRequestUnits": 7}
    assert far["WarmThroughput"] == {"ReadUnitsPerSecond": 12_000, "WriteUnitsPerSecond": 5_000, "Status": "ACTIVE"}
    lower = {"IndexName": "far", "WarmThroughput": {"WriteUnitsPerSecond": 4_999}}
    assert "decreasing WarmThroughput is not supported" in str(refusal(client, {"Update": lower})[1])
    change = update(
        client,
        BillingMode="PROVISIONED",
        ProvisionedThroughput=UNITS,
        GlobalSecondaryIndexUpdates=[{"Update": {"IndexName": "far", "ProvisionedThroughput": UNITS}}],
    )
    assert change["index_update"]["far"]["extra"] == {"on_demand_max": None}
    (far,) = described(client)["GlobalSecondaryIndexes"]
    assert "OnDemandThroughput" not in far


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"GlobalSecondaryIndexUpdates": [{}]}, f"{INVALID}One of {ACTIONS} must not be null"),
        (
            {"GlobalSecondaryIndexUpdates": [{"Create": index("a") | {"Projection": {}}}]}
            | {"AttributeDefinitions": attributes("a")},
            f"{INVALID}Unknown ProjectionType: null",
        ),
        (
            {"BillingMode": "PAY_PER_REQUEST", "ProvisionedThroughput": UNITS},
            f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is "
            "PAY_PER_REQUEST",
        ),
        (
            {"ProvisionedThroughput": UNITS | {"WriteCapacityUnits": 10**12 + 1}},
            "Given value 1000000000001 for WriteCapacityUnits is out of bounds",
        ),
    ],
)
def test_what_is_wrong_by_itself_is_said_before_the_table_is_looked_at(change: dict[str, Any], message: str) -> None:
    assert Client().refused("UpdateTable", TableName="absent", **change) == ("ValidationException", message)
