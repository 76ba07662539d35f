"""The operations of global tables of version 2017.11.29: there are none of that version, and none can be made."""

from __future__ import annotations

from typing import Any

import pytest

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
