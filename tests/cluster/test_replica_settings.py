"""Two regions: settings of one replica, a taken name, a lost region, and DeleteTable of a replica under writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.tables import contents, create_table, make_global
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

TOPOLOGY = """
[regions.us-east-1]
zones = ["a"]

[regions.eu-west-1]
zones = ["a"]
"""
HOME, OTHER = REGIONS = ("us-east-1", "eu-west-1")
INFREQUENT = "STANDARD_INFREQUENT_ACCESS"
TABLE, TAKEN, LOST = "shared", "taken", "lost"
GONE_S_MAX = 40.0  # the others are to have versions 11 s ahead


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("settings") / "data", TOPOLOGY)
    try:
        cluster.start()
        home = cluster.client(HOME)
        create_table(home, TABLE)
        make_global(cluster, HOME, TABLE, REGIONS)
        home.close()
        yield cluster
    finally:
        cluster.close()


def described(client: Any, table: str = TABLE) -> dict[str, Any]:
    return dict(client.describe_table(TableName=table)["Table"])


def replica(client: Any, table: str = TABLE) -> dict[str, Any]:
    return dict((described(client, table).get("Replicas") or [{}])[0])


def ceiling(table: dict[str, Any]) -> int | None:
    found: int | None = table.get("OnDemandThroughput", {}).get("MaxReadRequestUnits")
    return found


def test_an_override_is_seen_from_both_regions_until_the_setting_is_edited_in_one(regions: Cluster) -> None:
    home, other = (regions.client(region) for region in REGIONS)
    own = {
        "OnDemandThroughputOverride": {"MaxReadRequestUnits": 70},
        "TableClassOverride": INFREQUENT,
    }
    home.update_table(TableName=TABLE, ReplicaUpdates=[{"Update": {"RegionName": OTHER, **own}}])
    until("it holds in its region", lambda: ceiling(described(other)) == 70)
    assert described(other)["TableClassSummary"]["TableClass"] == INFREQUENT
    assert replica(home)["OnDemandThroughputOverride"] == {"MaxReadRequestUnits": 70}
    assert replica(home)["ReplicaTableClassSummary"] == {"TableClass": INFREQUENT}
    assert ceiling(described(home)) is None
    until("both are ready", lambda: all(described(one)["TableStatus"] == "ACTIVE" for one in (home, other)))
    other.update_table(TableName=TABLE, OnDemandThroughput={"MaxReadRequestUnits": 90})
    until("an edit holds in both", lambda: ceiling(described(home)) == ceiling(described(other)) == 90)
    until("no override is left", lambda: "OnDemandThroughputOverride" not in replica(home))
    assert replica(home)["ReplicaTableClassSummary"] == {"TableClass": INFREQUENT}
    until("both are ready", lambda: all(described(one)["TableStatus"] == "ACTIVE" for one in (home, other)))
    home.close()
    other.close()


def test_a_name_that_is_taken_fails_the_replica_says_why_and_the_replica_can_be_removed(regions: Cluster) -> None:
    home, other = (regions.client(region) for region in REGIONS)
    for client in (home, other):
        create_table(client, TAKEN)
    other.put_item(TableName=TAKEN, Item={"pk": {"S": "its own"}})
    home.update_table(TableName=TAKEN, ReplicaUpdates=[{"Create": {"RegionName": OTHER}}])
    until("it has failed", lambda: replica(home, TAKEN).get("ReplicaStatus") == "CREATION_FAILED")
    assert "already existed as tables" in replica(home, TAKEN)["ReplicaStatusDescription"]
    until("the table is ready", lambda: described(home, TAKEN)["TableStatus"] == "ACTIVE")
    home.update_table(TableName=TAKEN, ReplicaUpdates=[{"Delete": {"RegionName": OTHER}}])
    until("it is removed", lambda: "Replicas" not in described(home, TAKEN))
    assert contents(other, TAKEN), "the other table is untouched"
    home.close()
    other.close()


def test_a_region_that_is_lost_is_forgotten_and_has_a_table_of_its_own_when_it_is_back(regions: Cluster) -> None:
    home, other = (regions.client(region) for region in REGIONS)
    create_table(home, LOST)
    make_global(regions, HOME, LOST, REGIONS)
    switched = regions.run("writes", LOST, "--mode", "one", "--active", OTHER)
    assert switched.returncode == 0, switched.stderr
    other.put_item(TableName=LOST, Item={"pk": {"S": "kept"}})
    refused = regions.run("forget", LOST, OTHER)
    assert refused.returncode != 0
    assert "answers" in refused.stderr
    replicators = [process.id for process in regions.processes(OTHER, "replicator")]
    regions.stop_processes(replicators)
    until("its link is down", lambda: _forget(regions))
    until("home is alone", lambda: "Replicas" not in described(home, LOST))
    regions.start_processes(replicators)
    with pytest.raises(other.exceptions.ClientError, match="depend on its replica"):
        other.delete_table(TableName=LOST)
    until("it is told that it was forgotten", lambda: _forget(regions))
    until("it is alone", lambda: "Replicas" not in described(other, LOST))
    until("it is ready", lambda: described(other, LOST)["TableStatus"] == "ACTIVE")
    assert contents(other, LOST)
    other.delete_table(TableName=LOST)
    until("its table is gone", lambda: LOST not in other.list_tables()["TableNames"])
    home.close()
    other.close()


def _forget(cluster: Cluster) -> bool:
    return cluster.run("forget", LOST, OTHER).returncode == 0


def test_a_replica_is_deleted_in_its_region_and_the_other_has_what_was_written_there(regions: Cluster) -> None:
    home, other = (regions.client(region) for region in REGIONS)
    with pytest.raises(home.exceptions.ClientError, match="acted as a source region"):
        home.delete_table(TableName=TABLE)
    other.update_table(TableName=TABLE, DeletionProtectionEnabled=True)
    until("it is protected", lambda: described(other)["TableStatus"] == "ACTIVE")
    with pytest.raises(other.exceptions.ClientError, match="protected against deletion"):
        other.delete_table(TableName=TABLE)
    assert described(home)["DeletionProtectionEnabled"] is False
    other.update_table(TableName=TABLE, DeletionProtectionEnabled=False)
    until("it is not protected", lambda: described(other)["TableStatus"] == "ACTIVE")
    written: list[str] = []
    asked = threading.Event()

    def write() -> None:
        while not asked.is_set():
            other.put_item(TableName=TABLE, Item={"pk": {"S": f"{len(written)}"}})
            written.append(f"{len(written)}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until("there are writes", lambda: len(written) > 100)
        answer = other.delete_table(TableName=TABLE)
    finally:
        asked.set()
        writer.join()
    assert answer["TableDescription"]["TableStatus"] == "DELETING"
    until("the other has forgotten it", lambda: "Replicas" not in described(home), GONE_S_MAX)

    def is_gone() -> bool:
        try:
            described(other)
        except other.exceptions.ResourceNotFoundException:
            return True
        return False

    until("it is gone", is_gone)
    found = {
        item["pk"]["S"] for item in home.get_paginator("scan").paginate(TableName=TABLE).build_full_result()["Items"]
    }
    assert set(written) <= found, "an acknowledged write was lost"
    until("the other is ready", lambda: described(home)["TableStatus"] == "ACTIVE")
    home.delete_table(TableName=TABLE)
    home.close()
    other.close()
