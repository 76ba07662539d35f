"""Global tables in the API: how a replica leaves, what is refused, and that of version 2017.11.29 there are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import TableStatus
from geodyne.messages import Control
from tests.unit.router.fake_region import Client, table


@pytest.fixture
def client() -> Client:
    client = Client()
    table(client)
    return client


REGIONS = [{"RegionName": "us-east-1"}]
UPDATES = [{"Create": {"RegionName": "eu-west-1"}}]


def test_a_table_with_replicas_of_the_current_version_is_not_listed(client: Client) -> None:
    client("UpdateTable", TableName="things", ReplicaUpdates=UPDATES)
    assert client("ListGlobalTables") == {"GlobalTables": []}


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("DescribeGlobalTable", {}),
        ("UpdateGlobalTable", {"ReplicaUpdates": UPDATES}),
        ("DescribeGlobalTableSettings", {}),
        ("UpdateGlobalTableSettings", {"GlobalTableBillingMode": "PAY_PER_REQUEST"}),
    ],
)
def test_no_name_is_that_of_a_global_table(client: Client, operation: str, more: dict[str, Any]) -> None:
    assert client.refused(operation, GlobalTableName="things", **more)[0] == "GlobalTableNotFoundException"
    assert client.refused(operation, GlobalTableName="no", **more)[0] == "ValidationException"  # too short


def test_a_new_one_is_refused_and_needs_a_table(client: Client) -> None:
    code, message = client.refused("CreateGlobalTable", GlobalTableName="things", ReplicationGroup=REGIONS)
    assert code == "ValidationException"
    assert message is not None
    assert "2017.11.29 cannot be created" in message
    assert client.refused("CreateGlobalTable", GlobalTableName="absent", ReplicationGroup=REGIONS) == (
        "TableNotFoundException",
        "Table not found: Table: 'absent' not found in region: 'us-east-1'.",
    )


def update(client: Client, **change: Any) -> dict[str, Any]:
    """The body of the control operation that the change becomes."""
    client("UpdateTable", TableName="things", **change)
    call = client.region.calls[-1]
    assert isinstance(call, Control)
    return {name: value for name, value in call.body.items() if name != "name"}


def refusal(client: Client, **change: Any) -> str:
    code, message = client.refused("UpdateTable", TableName="things", **change)
    assert code == "ValidationException"
    return message or ""


def leave(region: str = "us-east-1") -> dict[str, Any]:
    return {"Disassociate": {"RegionName": region, "DisassociationMode": "WAIT_FOR_REPLICATION"}}


def test_the_replica_that_is_asked_can_be_disassociated(client: Client) -> None:
    client("UpdateTable", TableName="things", ReplicaUpdates=UPDATES)
    assert update(client, ReplicaUpdates=[leave()]) == {"leave": True}


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ([leave("eu-west-1")], "Disassociate must name the Region that the request is sent to, which is us-east-1"),
        ([leave(), *UPDATES], "Disassociate must be the only replica update in the request"),
        ([{**leave(), **UPDATES[0]}], "Disassociate must be the only replica update in the request"),
        ([leave(), leave()], "Disassociate must be the only replica update in the request"),
    ],
)
def test_disassociation_stands_alone_and_names_its_own_region(
    client: Client, updates: list[dict[str, Any]], message: str
) -> None:
    client("UpdateTable", TableName="things", ReplicaUpdates=UPDATES)
    assert message in refusal(client, ReplicaUpdates=updates)


def test_its_mode_has_to_be_given_and_there_is_one(client: Client) -> None:
    assert "disassociationMode" in refusal(client, ReplicaUpdates=[{"Disassociate": {"RegionName": "us-east-1"}}])
    other = {"Disassociate": {"RegionName": "us-east-1", "DisassociationMode": "AT_ONCE"}}
    assert "WAIT_FOR_REPLICATION" in refusal(client, ReplicaUpdates=[other])


def test_protection_against_it_is_on_until_it_is_switched_off_in_a_request_of_its_own(client: Client) -> None:
    assert "only for a replica" in refusal(client, DisassociationProtectionEnabled=False)
    assert "DisassociationProtectionEnabled" not in client("DescribeTable", TableName="things")["Table"]
    client("UpdateTable", TableName="things", ReplicaUpdates=UPDATES)
    assert client("DescribeTable", TableName="things")["Table"]["DisassociationProtectionEnabled"] is True
    both = {"DisassociationProtectionEnabled": False, "DeletionProtectionEnabled": True}
    assert "must be the only operation" in refusal(client, **both)
    update(client, DisassociationProtectionEnabled=False)
    assert client("DescribeTable", TableName="things")["Table"]["DisassociationProtectionEnabled"] is False
    update(client, DisassociationProtectionEnabled=True)
    assert client("DescribeTable", TableName="things")["Table"]["DisassociationProtectionEnabled"] is True


def test_eventual_consistency_may_be_named_when_replicas_are_added_and_strong_is_refused_by_name(
    client: Client,
) -> None:
    assert "MultiRegionConsistency STRONG is not supported" in refusal(
        client, ReplicaUpdates=UPDATES, MultiRegionConsistency="STRONG"
    )
    assert "only when replicas are created" in refusal(client, MultiRegionConsistency="EVENTUAL")
    change = update(client, ReplicaUpdates=UPDATES, MultiRegionConsistency="EVENTUAL")
    assert change == {"replicas_add": ["eu-west-1"]}


def test_the_progress_of_a_replica_shows_while_it_is_being_filled(client: Client) -> None:
    def replica() -> dict[str, Any]:
        return dict(client("DescribeTable", TableName="things")["Table"]["Replicas"][0])

    client("UpdateTable", TableName="things", ReplicaUpdates=UPDATES)
    assert replica()["ReplicaStatusPercentProgress"] == "0"
    tables = client.region.catalog.tables
    tables["things"] = replace(tables["things"], extra={"replica_progress": {"eu-west-1": 40}})
    assert replica()["ReplicaStatusPercentProgress"] == "40"
    tables["things"] = replace(tables["things"], replicas={"us-east-1": "ACTIVE", "eu-west-1": "ACTIVE"})
    assert "ReplicaStatusPercentProgress" not in replica()


def test_a_witness_is_refused_by_name(client: Client) -> None:
    witness = [{"Create": {"RegionName": "eu-west-1"}}]
    assert "GlobalTableWitnessUpdates is not supported" in refusal(client, GlobalTableWitnessUpdates=witness)


UNITS = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 6}


def provisioned() -> Client:
    client = Client()
    table(client, BillingMode="PROVISIONED", ProvisionedThroughput=UNITS)
    return client


def indexed() -> Client:
    client = Client()
    index = {"KeySchema": [{"AttributeName": "v", "KeyType": "HASH"}], "Projection": {"ProjectionType": "ALL"}}
    client(
        "CreateTable",
        TableName="things",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "v")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        ProvisionedThroughput=UNITS,
        GlobalSecondaryIndexes=[{"IndexName": "one", "ProvisionedThroughput": UNITS, **index}],
    )
    return client


def complete(client: Client, region: str = "eu-west-1") -> None:
    tables = client.region.catalog.tables
    replicas = {"us-east-1": "ACTIVE", **tables["things"].replicas, region: "ACTIVE"}
    tables["things"] = replace(tables["things"], replicas=replicas)


def replica(client: Client) -> dict[str, Any]:
    return dict(client("DescribeTable", TableName="things")["Table"]["Replicas"][0])


def of(region: str = "eu-west-1", **settings: Any) -> dict[str, Any]:
    return {"RegionName": region, **settings}


READ_9: dict[str, Any] = {"ProvisionedThroughputOverride": {"ReadCapacityUnits": 9}}


def test_a_replica_is_made_with_settings_of_its_own_and_they_are_described() -> None:
    client = indexed()
    index = {"IndexName": "one", "ProvisionedThroughputOverride": {"ReadCapacityUnits": 7}}
    own = of(**READ_9, TableClassOverride="STANDARD_INFREQUENT_ACCESS", GlobalSecondaryIndexes=[index])
    change = update(client, ReplicaUpdates=[{"Create": own}])
    assert change == {
        "replicas_add": ["eu-west-1"],
        "overrides": {
            "eu-west-1": {
                "read_units": 9,
                "table_class": "STANDARD_INFREQUENT_ACCESS",
                "indexes": {"one": {"read_units": 7}},
            }
        },
    }
    described = replica(client)
    assert described["ProvisionedThroughputOverride"] == {"ReadCapacityUnits": 9}
    assert described["ReplicaTableClassSummary"] == {"TableClass": "STANDARD_INFREQUENT_ACCESS"}
    assert described["GlobalSecondaryIndexes"] == [index]
    assert client("DescribeTable", TableName="things")["Table"]["ProvisionedThroughput"]["ReadCapacityUnits"] == 5


def test_the_region_of_the_replica_describes_them_as_the_settings_of_its_table() -> None:
    client = provisioned()
    complete(client)
    tables = client.region.catalog.tables
    own = {"us-east-1": {"read_units": 9, "table_class": "STANDARD_INFREQUENT_ACCESS"}}
    tables["things"] = replace(tables["things"], extra={"overrides": own})
    described = client("DescribeTable", TableName="things")["Table"]
    assert described["ProvisionedThroughput"]["ReadCapacityUnits"] == 9
    assert described["TableClassSummary"]["TableClass"] == "STANDARD_INFREQUENT_ACCESS"
    assert "ProvisionedThroughputOverride" not in replica(client)
    assert described["GlobalTableSettingsReplicationMode"] == "ENABLED_WITH_OVERRIDES"
    same = {"ReadCapacityUnits": 9, "WriteCapacityUnits": 6}
    assert "will not change" in refusal(client, ProvisionedThroughput=same)


def test_a_ceiling_of_on_demand_reads_is_set_changed_and_taken_off(client: Client) -> None:
    complete(client)
    for most in (8, 9):
        update(client, ReplicaUpdates=[{"Update": of(OnDemandThroughputOverride={"MaxReadRequestUnits": most})}])
        assert replica(client)["OnDemandThroughputOverride"] == {"MaxReadRequestUnits": most}
    off = {"Update": of(OnDemandThroughputOverride={"MaxReadRequestUnits": -1})}
    assert update(client, ReplicaUpdates=[off]) == {"overrides": {"eu-west-1": {"on_demand_read": None}}}
    assert "OnDemandThroughputOverride" not in replica(client)


def test_several_replicas_are_changed_at_once_each_once(client: Client) -> None:
    complete(client)
    complete(client, "ap-northeast-2")
    both = [{"Update": of(region, TableClassOverride="STANDARD")} for region in ("eu-west-1", "ap-northeast-2")]
    assert set(update(client, ReplicaUpdates=both)["overrides"]) == {"eu-west-1", "ap-northeast-2"}
    assert "Cannot target multiple regions" in refusal(client, ReplicaUpdates=[both[0], both[0]])


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({}, "KMSMasterKeyId must be specified for each replica"),
        ({"KMSMasterKeyId": "key"}, "ReplicaUpdates.KMSMasterKeyId is not supported"),
        (READ_9, "ProvisionedThroughputOverride cannot be specified when BillingMode is PAY_PER_REQUEST"),
        ({"ProvisionedThroughputOverride": {"ReadCapacityUnits": 0}}, "greater than or equal to 1"),
        ({"OnDemandThroughputOverride": {}}, "MaxReadRequestUnits must be specified"),
        ({"OnDemandThroughputOverride": {"MaxReadRequestUnits": 0}}, "must be greater than or equal to 1"),
        ({"OnDemandThroughputOverride": {"MaxReadRequestUnits": 10**15}}, "is out of bounds"),
        ({"TableClassOverride": "COLD"}, "STANDARD_INFREQUENT_ACCESS"),
        ({"GlobalSecondaryIndexes": [{"IndexName": "one"}]}, "does not have the specified index: one"),
        ({"GlobalSecondaryIndexes": []}, "length greater than or equal to 1"),
    ],
)
def test_what_no_replica_can_have_is_refused(client: Client, own: dict[str, Any], message: str) -> None:
    complete(client)
    assert message in refusal(client, ReplicaUpdates=[{"Update": of(**own)}])


def test_what_a_replica_has_already_is_no_change() -> None:
    client = provisioned()
    complete(client)
    update(client, ReplicaUpdates=[{"Update": of(**READ_9)}])
    assert "must be specified for each replica" in refusal(client, ReplicaUpdates=[{"Update": of(**READ_9)}])


def test_an_index_is_named_once_and_on_demand_ceilings_are_for_on_demand_tables() -> None:
    client = indexed()
    complete(client)
    twice = of(GlobalSecondaryIndexes=[{"IndexName": "one", **READ_9}, {"IndexName": "one", **READ_9}])
    assert "Duplicate index name: one" in refusal(client, ReplicaUpdates=[{"Update": twice}])
    ceiling = of(
        GlobalSecondaryIndexes=[{"IndexName": "one", "OnDemandThroughputOverride": {"MaxReadRequestUnits": 5}}]
    )
    assert "BillingMode is PROVISIONED" in refusal(client, ReplicaUpdates=[{"Update": ceiling}])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (None, "were not part of the global table"),
        ("CREATING", "not allowed while the replica is being added"),
        ("DELETING", "is DELETING and cannot be updated"),
        ("CREATION_FAILED", "is CREATION_FAILED and cannot be updated"),
    ],
)
def test_only_a_complete_replica_is_changed(client: Client, status: str | None, message: str) -> None:
    tables = client.region.catalog.tables
    replicas = {"us-east-1": "ACTIVE", "eu-west-1": status} if status else {}
    tables["things"] = replace(tables["things"], replicas=replicas)
    assert message in refusal(client, ReplicaUpdates=[{"Update": of(TableClassOverride="STANDARD")}])


def test_the_local_region_and_several_kinds_of_actions_are_refused(client: Client) -> None:
    complete(client)
    local = {"Update": of("us-east-1", TableClassOverride="STANDARD")}
    assert "local region through ReplicaUpdates" in refusal(client, ReplicaUpdates=[local])
    mixed = [{"Update": of(TableClassOverride="STANDARD")}, {"Create": of("ap-northeast-2")}]
    assert "more than one type of replica actions" in refusal(client, ReplicaUpdates=mixed)


def test_a_replica_that_could_not_be_made_says_why_and_can_be_removed(client: Client) -> None:
    tables = client.region.catalog.tables
    replicas = {"us-east-1": "ACTIVE", "eu-west-1": "CREATION_FAILED"}
    troubles = {"replica_troubles": {"eu-west-1": "the name is taken"}}
    tables["things"] = replace(tables["things"], replicas=replicas, extra=troubles)
    described = replica(client)
    assert (described["ReplicaStatus"], described["ReplicaStatusDescription"]) == (
        "CREATION_FAILED",
        "the name is taken",
    )
    assert update(client, ReplicaUpdates=[{"Delete": of()}]) == {"replicas_remove": ["eu-west-1"]}


def test_a_replica_that_is_being_deleted_says_so_and_can_be_asked_nothing(client: Client) -> None:
    complete(client)
    tables = client.region.catalog.tables
    leaving = {"stage": "fenced", "through_us": 1, "give_up_ms": 0, "deletes": True}
    tables["things"] = replace(tables["things"], status=TableStatus.UPDATING, extra={"leaving": leaving})
    described = client("DescribeTable", TableName="things")["Table"]
    assert described["TableStatus"] == "DELETING"
    assert "KeySchema" not in described
    assert client.refused("DeleteTable", TableName="things") == (
        "ResourceInUseException",
        "Table is being deleted: things",
    )
    assert client.refused("UpdateTable", TableName="things", DeletionProtectionEnabled=True)[0] == (
        "ResourceInUseException"
    )
