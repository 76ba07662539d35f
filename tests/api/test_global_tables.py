"""What a table of one region answers to requests that are about replicas."""

from __future__ import annotations

import pytest

from tests.api.service import Item, Service

INVALID = "One or more parameter values were invalid: "
LEAVE = {"RegionName": "us-east-1", "DisassociationMode": "WAIT_FOR_REPLICATION"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ReplicaUpdates": [{"Disassociate": LEAVE}]}, " is not a replica of a global table"),
        (
            {"ReplicaUpdates": [{"Disassociate": {**LEAVE, "RegionName": "eu-west-1"}}]},
            f"{INVALID}Disassociate must name the Region that the request is sent to, which is us-east-1",
        ),
        (
            {"ReplicaUpdates": [{"Disassociate": LEAVE}, {"Delete": {"RegionName": "eu-west-1"}}]},
            f"{INVALID}Disassociate must be the only replica update in the request",
        ),
        (
            {"DisassociationProtectionEnabled": False},
            f"{INVALID}DisassociationProtectionEnabled can be specified only for a replica of a global table",
        ),
        ({"MultiRegionConsistency": "STRONG"}, f"{INVALID}MultiRegionConsistency STRONG is not supported"),
        (
            {"MultiRegionConsistency": "EVENTUAL"},
            f"{INVALID}MultiRegionConsistency can be specified only when replicas are created through ReplicaUpdates",
        ),
        (
            {"GlobalTableWitnessUpdates": [{"Create": {"RegionName": "eu-west-1"}}]},
            f"{INVALID}GlobalTableWitnessUpdates is not supported",
        ),
    ],
)
def test_what_only_replicas_can_be_asked_is_refused(service: Service, table: str, change: Item, message: str) -> None:
    code, found = service.refused("UpdateTable", {"TableName": table, **change})
    assert code == "ValidationException"
    assert found is not None
    assert found.endswith(message)


def test_a_table_of_one_region_has_no_replicas_and_no_protection(service: Service, table: str) -> None:
    described = service.call("DescribeTable", {"TableName": table}).body["Table"]
    assert described.keys().isdisjoint({"Replicas", "GlobalTableVersion", "DisassociationProtectionEnabled"})


def test_no_table_is_known_to_the_operations_of_the_legacy_version(service: Service, table: str) -> None:
    assert service.call("ListGlobalTables", {}).body == {"GlobalTables": []}
    for operation in ("DescribeGlobalTable", "DescribeGlobalTableSettings"):
        assert service.refused(operation, {"GlobalTableName": table})[0] == "GlobalTableNotFoundException"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Update": {"RegionName": "eu-west-1", "TableClassOverride": "STANDARD"}}, "is not supported"),
        ({"Update": {"RegionName": "us-east-1", "TableClassOverride": "STANDARD"}}, "local region"),
    ],
)
def test_settings_of_replicas_are_for_regions_of_the_cluster(
    service: Service, table: str, change: Item, message: str
) -> None:
    code, found = service.refused("UpdateTable", {"TableName": table, "ReplicaUpdates": [change]})
    assert code == "ValidationException"
    assert found is not None
    assert message in found


@pytest.mark.parametrize("operation", ["DescribeTableReplicaAutoScaling", "UpdateTableReplicaAutoScaling"])
def test_there_is_no_auto_scaling_of_replicas(service: Service, table: str, operation: str) -> None:
    assert service.refused(operation, {"TableName": table})[0] == "UnknownOperationException"
