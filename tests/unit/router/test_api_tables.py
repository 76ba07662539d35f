"""CreateTable, UpdateTable, DeleteTable, and what DescribeTable, ListTables and the rest tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import TableStatus
from geodyne.messages import Control, Refused
from router.api.context import ApiSettings
from router.api.describe import CHANGE_WAITS_MAX
from router.api.registry import OPERATIONS
from tests.unit.router.fake_region import NOW_MS, REGIONS, Client, table

INVALID = "One or more parameter values were invalid: "
NO_TABLE = ("ResourceNotFoundException", "Requested resource not found: Table: absent not found")
UNITS = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 6}


def attribute(name: str, kind: str = "S") -> dict[str, str]:
    return {"AttributeName": name, "AttributeType": kind}


def element(name: str, kind: str = "HASH") -> dict[str, str]:
    return {"AttributeName": name, "KeyType": kind}


def create(**more: Any) -> dict[str, Any]:
    body = {
        "TableName": "things",
        "AttributeDefinitions": [attribute("pk")],
        "KeySchema": [element("pk")],
        "BillingMode": "PAY_PER_REQUEST",
    }
    return {name: value for name, value in (body | more).items() if value is not None}


@pytest.fixture
def client() -> Client:
    client = Client()
    table(client)
    return client


# --- CreateTable ----------------------------------------------------------------------------------------


def test_create_sends_the_definition_and_describes_the_table() -> None:
    client = Client()
    answer = client(
        "CreateTable",
        **create(
            AttributeDefinitions=[attribute("sk", "N"), attribute("pk")],
            KeySchema=[element("pk"), element("sk", "RANGE")],
            BillingMode=None,
            ProvisionedThroughput=UNITS,
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
            Tags=[{"Key": "team", "Value": "a"}],
            DeletionProtectionEnabled=True,
            TableClass="STANDARD_INFREQUENT_ACCESS",
        ),
    )
    assert client.region.calls == [
        Control(
            "create_table",
            {
                "definition": {
                    "name": "things",
                    "hash_key": "pk",
                    "hash_type": "S",
                    "range_key": "sk",
                    "range_type": "N",
                    "billing_mode": "PROVISIONED",
                    "read_units": 5,
                    "write_units": 6,
                    "deletion_protection": True,
                    "table_class": "STANDARD_INFREQUENT_ACCESS",
                    "stream_view": "NEW_IMAGE",
                    "tags": {"team": "a"},
                    "indexes": [],
                    "extra": {"table_class_named": True},
                }
            },
        )
    ]
    assert client.region.waited == [1]
    arn = "arn:aws:dynamodb:us-east-1:000000000000:table/things"
    assert answer["TableDescription"] == {
        "AttributeDefinitions": [attribute("pk"), attribute("sk", "N")],
        "TableName": "things",
        "KeySchema": [element("pk"), element("sk", "RANGE")],
        "TableStatus": "ACTIVE",
        "CreationDateTime": NOW_MS / 1000,
        "ProvisionedThroughput": {"NumberOfDecreasesToday": 0, **UNITS},
        "TableSizeBytes": 0,
        "ItemCount": 0,
        "TableArn": arn,
        "TableId": "0d8a8b6e-6e5c-4d0e-8f53-5a5a5a5a5a5a",
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        "LatestStreamLabel": "2026-06-01T00:00:00.000",
        "LatestStreamArn": f"{arn}/stream/2026-06-01T00:00:00.000",
        "TableClassSummary": {"TableClass": "STANDARD_INFREQUENT_ACCESS"},
        "DeletionProtectionEnabled": True,
        "WarmThroughput": {"ReadUnitsPerSecond": 5, "WriteUnitsPerSecond": 6, "Status": "ACTIVE"},
    }


def test_an_on_demand_table_says_so(client: Client) -> None:
    described = client("DescribeTable", TableName="things")["Table"]
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert described["ProvisionedThroughput"]["ReadCapacityUnits"] == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"BillingMode": None},
            f"{INVALID}ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED",
        ),
        (
            {"ProvisionedThroughput": UNITS},
            f"{INVALID}Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is "
            "PAY_PER_REQUEST",
        ),
        (
            {"BillingMode": None, "ProvisionedThroughput": {"ReadCapacityUnits": 10**12 + 1, "WriteCapacityUnits": 1}},
            "Given value 1000000000001 for ReadCapacityUnits is out of bounds",
        ),
        ({"AttributeDefinitions": []}, "Invalid KeySchema: Some index key attribute have no definition"),
        (
            {"KeySchema": [element("pk"), element("sk", "RANGE")]},
            "Invalid KeySchema: Some index key attribute have no definition",
        ),
        (
            {
                "KeySchema": [element("pk"), element("sk", "RANGE")],
                "AttributeDefinitions": [attribute("pk"), attribute("x")],
            },
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. "
            "Keys: [pk, sk], AttributeDefinitions: [pk, x]",
        ),
        (
            {"AttributeDefinitions": [attribute("x")]},
            f"{INVALID}Some index key attributes are not defined in AttributeDefinitions. "
            "Keys: [pk], AttributeDefinitions: [x]",
        ),
        (
            {"AttributeDefinitions": [attribute("pk"), attribute("x")]},
            f"{INVALID}Number of attributes in KeySchema does not exactly match number of attributes defined in "
            "AttributeDefinitions",
        ),
        (
            {"KeySchema": [element("pk", "RANGE")]},
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
        ),
        (
            {
                "AttributeDefinitions": [attribute("pk"), attribute("sk")],
                "KeySchema": [element("pk"), element("sk")],
            },
            "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type",
        ),
        (
            {
                "AttributeDefinitions": [attribute("pk"), attribute("sk")],
                "KeySchema": [element("pk"), element("pk", "RANGE")],
            },
            "Both the Hash Key and the Range Key element in the KeySchema have the same name",
        ),
        (
            {"StreamSpecification": {"StreamEnabled": True}},
            f"{INVALID}Table is being created with a stream enabled, UpdateViewType is required",
        ),
        (
            {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]},
            "Duplicate Tag Keys provided as input: Duplicate Tag Key found a",
        ),
        ({"GlobalTableSourceArn": "arn:x"}, f"{INVALID}GlobalTableSourceArn is not supported"),
        ({"VectorIndexes": []}, f"{INVALID}VectorIndexes is not supported"),
        ({"SSESpecification": {"SSEType": "AES256"}}, f"{INVALID}SSEType AES256 is not supported"),
        (
            {"SSESpecification": {"KMSMasterKeyId": "k"}},
            f"{INVALID}SSEType KMS is required if KMSMasterKeyId is specified",
        ),
        ({"SSESpecification": {"Enabled": True}}, f"{INVALID}SSESpecification is not supported"),
        ({"ResourcePolicy": "{}"}, f"{INVALID}ResourcePolicy is not supported"),
    ],
)
def test_a_definition_must_be_consistent(more: dict[str, Any], message: str) -> None:
    client = Client()
    assert client.refused("CreateTable", **create(**more)) == ("ValidationException", message)
    assert client.region.calls == []


def test_a_name_is_taken_once(client: Client) -> None:
    assert client.refused("CreateTable", **create()) == ("ResourceInUseException", "Table already exists: things")


def test_a_refusal_of_the_metadata_group_is_the_answer() -> None:
    client = Client()
    client.region.forced = [Refused("LimitExceededException", "too many tables")]
    assert client.refused("CreateTable", **create()) == ("LimitExceededException", "too many tables")


# --- DeleteTable, states --------------------------------------------------------------------------------


def test_delete_describes_the_table_as_deleting(client: Client) -> None:
    described = client("DeleteTable", TableName="things")["TableDescription"]
    assert described["TableStatus"] == "DELETING"
    assert "KeySchema" not in described
    assert client.refused("DeleteTable", TableName="absent") == NO_TABLE


def test_a_protected_table_is_not_deleted(client: Client) -> None:
    client("UpdateTable", TableName="things", DeletionProtectionEnabled=True)
    assert client.refused("DeleteTable", TableName="things") == (
        "ValidationException",
        "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.",
    )


@pytest.mark.parametrize(
    ("status", "doing"), [("CREATING", "created"), ("UPDATING", "updated"), ("DELETING", "deleted")]
)
def test_a_table_changes_one_step_at_a_time(client: Client, status: str, doing: str) -> None:
    record = replace(client.region.catalog.tables["things"], status=TableStatus(status))
    client.region.catalog.tables["things"] = record
    code, message = client.refused("UpdateTable", TableName="things", DeletionProtectionEnabled=True)
    assert code == "ResourceInUseException"
    assert message is not None
    assert f"Table is being {doing}: things" in message
    assert client.refused("DeleteTable", TableName="things")[0] == "ResourceInUseException"


def test_a_table_that_is_about_to_be_active_is_described_as_it_is_then(client: Client) -> None:
    tables = client.region.catalog.tables
    active = tables["things"]
    tables["things"] = replace(active, status=TableStatus.CREATING)
    client.region.catalog.revision = 7
    client.region.on_wait = [lambda: None, lambda: tables.update(things=active)]
    assert client("DescribeTable", TableName="things")["Table"]["TableStatus"] == "ACTIVE"
    assert client.region.waited[-2:] == [8, 8]


def test_a_table_that_is_about_to_be_gone_is_not_described(client: Client) -> None:
    tables = client.region.catalog.tables
    tables["things"] = replace(tables["things"], status=TableStatus.DELETING)
    client.region.on_wait = [tables.clear]
    assert client.refused("DescribeTable", TableName="things")[0] == "ResourceNotFoundException"


def test_a_table_that_stays_busy_is_described_after_a_bounded_number_of_waits(client: Client) -> None:
    tables = client.region.catalog.tables
    tables["things"] = replace(tables["things"], status=TableStatus.UPDATING)
    before = len(client.region.waited)
    assert client("DescribeTable", TableName="things")["Table"]["TableStatus"] == "UPDATING"
    assert len(client.region.waited) - before == CHANGE_WAITS_MAX


@pytest.mark.parametrize(("status", "serves"), [("CREATING", False), ("UPDATING", True), ("DELETING", False)])
def test_items_are_served_while_a_table_is_active_or_updating(client: Client, status: str, serves: bool) -> None:
    record = replace(client.region.catalog.tables["things"], status=TableStatus(status))
    client.region.catalog.tables["things"] = record
    request = {"TableName": "things", "Key": {"pk": {"S": "a"}}}
    if serves:
        assert client("GetItem", **request) == {}
    else:
        assert client.refused("GetItem", **request) == ("ResourceNotFoundException", "Requested resource not found")


# --- UpdateTable ----------------------------------------------------------------------------------------


def update(client: Client, **change: Any) -> dict[str, Any]:
    """The body of the control operation that a change becomes, without the table's name."""
    client("UpdateTable", TableName="things", **change)
    call = client.region.calls[-1]
    assert isinstance(call, Control)
    assert call.operation == "update_table"
    assert call.body["name"] == "things"
    return {name: value for name, value in call.body.items() if name != "name"}


def test_throughput_and_billing_mode_change_together(client: Client) -> None:
    provisioned = {"billing_mode": "PROVISIONED", "read_units": 5, "write_units": 6}
    since = {"on_demand_since_ms": NOW_MS}
    assert update(client, BillingMode="PROVISIONED", ProvisionedThroughput=UNITS) == provisioned | {"extra": since}
    more = {"ReadCapacityUnits": 7, "WriteCapacityUnits": 6}
    times = {"last_increase_ms": NOW_MS}
    assert update(client, ProvisionedThroughput=more) == provisioned | {"read_units": 7, "extra": times}
    code, message = client.refused("UpdateTable", TableName="things", ProvisionedThroughput=more)
    assert code == "ValidationException"
    assert message is not None
    assert message.startswith(
        "The provisioned throughput for the table will not change. The requested value equals the current value. "
        "Current ReadCapacityUnits provisioned for the table: 7. Requested ReadCapacityUnits: 7. "
    )
    on_demand = {"billing_mode": "PAY_PER_REQUEST", "read_units": 0, "write_units": 0}
    assert update(client, BillingMode="PAY_PER_REQUEST") == on_demand | {"extra": since}


def test_a_stream_is_switched_on_and_off(client: Client) -> None:
    on = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    assert update(client, StreamSpecification=on) == {"stream": "KEYS_ONLY"}
    assert client.refused("UpdateTable", TableName="things", StreamSpecification=on) == (
        "ValidationException",
        "Table already has an enabled stream: TableName: things",
    )
    assert update(client, StreamSpecification={"StreamEnabled": False}) == {"stream": None}
    assert client.refused("UpdateTable", TableName="things", StreamSpecification={"StreamEnabled": False}) == (
        "ValidationException",
        "Table has no stream to disable: TableName: things",
    )


def test_replicas_are_added_and_removed(client: Client) -> None:
    creates = [{"Create": {"RegionName": region}} for region in REGIONS[1:]]
    assert update(client, ReplicaUpdates=creates) == {"replicas_add": list(REGIONS[1:])}
    described = client("DescribeTable", TableName="things")["Table"]
    assert described["GlobalTableVersion"] == "2019.11.21"
    assert [(each["RegionName"], each["ReplicaStatus"]) for each in described["Replicas"]] == [
        ("ap-northeast-2", "CREATING"),
        ("eu-west-1", "CREATING"),
    ]
    record = client.region.catalog.tables["things"]
    active = dict.fromkeys(record.replicas, "ACTIVE")
    client.region.catalog.tables["things"] = replace(record, replicas=active)
    assert update(client, ReplicaUpdates=[{"Delete": {"RegionName": "eu-west-1"}}]) == {
        "replicas_remove": ["eu-west-1"]
    }


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ([{"Create": {"RegionName": "mars-1"}}], "Region mars-1 is not supported."),
        ([{"Create": {"RegionName": "us-east-1"}}], "Cannot add, delete, or update the local region"),
        ([{"Delete": {"RegionName": "eu-west-1"}}], "one or more replicas were not part of the global table."),
        ([{"Create": {"RegionName": "eu-west-1"}}] * 2, "Cannot target multiple regions with the same action"),
        (
            [{"Create": {"RegionName": "eu-west-1"}}, {"Delete": {"RegionName": "ap-northeast-2"}}],
            "more than one type of replica actions not allowed",
        ),
        ([{}], "There are no actions specified"),
        ([{"Create": {"RegionName": "eu-west-1", "KMSMasterKeyId": "k"}}], "ReplicaUpdates.KMSMasterKeyId is not"),
        ([{"Update": {"RegionName": "eu-west-1"}}], "one or more replicas were not part of the global table."),
    ],
)
def test_replica_updates_are_checked(client: Client, updates: list[dict[str, Any]], message: str) -> None:
    code, found = client.refused("UpdateTable", TableName="things", ReplicaUpdates=updates)
    assert code == "ValidationException"
    assert found is not None
    assert message in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "At least one of ProvisionedThroughput, BillingMode"),
        ({"AttributeDefinitions": []}, "At least one of ProvisionedThroughput, BillingMode"),
        (
            {"TableClass": "STANDARD", "DeletionProtectionEnabled": True},
            "TableClass modification must be the only operation in the request",
        ),
        (
            {"ProvisionedThroughput": UNITS, "StreamSpecification": {"StreamEnabled": False}},
            "You cannot modify stream status while updating table IOPS",
        ),
        ({"MultiRegionConsistency": "STRONG"}, "MultiRegionConsistency STRONG is not supported"),
        ({"OnDemandThroughput": {}}, "At least one of ProvisionedThroughput, BillingMode"),
        ({"GlobalSecondaryIndexUpdates": []}, "At least one of ProvisionedThroughput, BillingMode"),
        ({"ProvisionedThroughput": UNITS}, "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when"),
        ({"SSESpecification": {"Enabled": False}}, "Table is already encrypted by default"),
        ({"BillingMode": "PROVISIONED"}, "ProvisionedThroughput must be specified when BillingMode is PROVISIONED"),
    ],
)
def test_one_kind_of_change_at_a_time(client: Client, change: dict[str, Any], message: str) -> None:
    code, found = client.refused("UpdateTable", TableName="things", **change)
    assert code == "ValidationException"
    assert found is not None
    assert message in found


def test_a_change_of_nothing_is_not_sent(client: Client) -> None:
    sent = len(client.region.calls)
    client("UpdateTable", TableName="things", BillingMode="PAY_PER_REQUEST")
    assert len(client.region.calls) == sent


# --- telling --------------------------------------------------------------------------------------------


def test_describe_takes_an_arn_and_names_what_is_missing(client: Client) -> None:
    arn = client("DescribeTable", TableName="things")["Table"]["TableArn"]
    assert client("DescribeTable", TableName=arn)["Table"]["TableName"] == "things"
    assert client.refused("DescribeTable", TableName="absent") == NO_TABLE
    assert client.refused("DescribeTable", TableName=arn.replace("us-east-1", "mars-1"))[1] == (
        f"1 validation error detected: Invalid AWS region in '{arn.replace('us-east-1', 'mars-1')}'"
    )


def test_sizes_are_the_sums_of_what_the_partitions_told(client: Client) -> None:
    first, second, *_ = client.region.catalog.tables["things"].partitions
    client.region.catalog.told = {(first.id, 0): (1, 9), (second.id, 0): (2, 90), (first.id, 1): (7, 7)}
    described = client("DescribeTable", TableName="things")["Table"]
    assert (described["ItemCount"], described["TableSizeBytes"]) == (3, 99)


def test_names_are_listed_in_order_and_by_page() -> None:
    client = Client()
    for name in ("ccc", "aaa", "ddd", "bbb"):
        table(client, name)
    assert client("ListTables") == {"TableNames": ["aaa", "bbb", "ccc", "ddd"]}
    page = client("ListTables", Limit=3)
    assert page == {"TableNames": ["aaa", "bbb", "ccc"], "LastEvaluatedTableName": "ccc"}
    assert client("ListTables", ExclusiveStartTableName="ccc") == {"TableNames": ["ddd"]}
    assert client("ListTables", ExclusiveStartTableName="bba", Limit=1)["TableNames"] == ["bbb"]
    assert client("ListTables", Limit=4) == {"TableNames": ["aaa", "bbb", "ccc", "ddd"]}


def test_limits_and_endpoints() -> None:
    client = Client(ApiSettings(endpoint="127.0.0.1:8000"))
    assert client("DescribeLimits")["TableMaxReadCapacityUnits"] == 40_000
    assert client("DescribeEndpoints") == {"Endpoints": [{"Address": "127.0.0.1:8000", "CachePeriodInMinutes": 1440}]}


def test_the_registry_tells_which_tables_a_body_is_about() -> None:
    assert OPERATIONS["GetItem"].table_names({"TableName": "a"}) == ["a"]
    assert OPERATIONS["GetItem"].table_names({"TableName": 3}) == []
    assert OPERATIONS["BatchGetItem"].table_names({"RequestItems": {"a": {}, "b": {}}}) == ["a", "b"]
    assert OPERATIONS["ListTables"].table_names({}) == []
    writes = {name for name, operation in OPERATIONS.items() if operation.is_write}
    assert writes >= {
        "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "CreateTable", "UpdateTable", "DeleteTable",
        "TagResource", "UntagResource",
    }  # fmt: skip
    assert writes.isdisjoint({"GetItem", "BatchGetItem", "Query", "Scan", "DescribeTable", "ListTagsOfResource"})
