"""Global tables in the API: how a replica leaves, what is refused, and that of version 2017.11.29 there are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

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


@pytest.mark.parametrize("action", ["Create", "Update"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ProvisionedThroughputOverride", {"ReadCapacityUnits": 5}),
        ("OnDemandThroughputOverride", {"MaxReadRequestUnits": 5}),
        ("GlobalSecondaryIndexes", [{"IndexName": "one"}]),
        ("TableClassOverride", "STANDARD"),
    ],
)
def test_settings_of_one_replica_are_refused_by_name(client: Client, action: str, name: str, value: Any) -> None:
    updates = [{action: {"RegionName": "eu-west-1", name: value}}]
    assert f"ReplicaUpdates.{name} is not supported" in refusal(client, ReplicaUpdates=updates)
