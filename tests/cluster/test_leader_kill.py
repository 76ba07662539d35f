"""The leader of a partition is killed, again and again, under a client that never stops writing to it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table, partition_with_items
from tests.cluster.traffic import Attempts, Traffic, stalls
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "leader-kill"
KILLS = 4
GAP_S_MAX = 3.0  # beyond what the machine itself kept the client from running
STEPS_BETWEEN_KILLS = 40
HOT = {"pk": {"S": "hot"}}  # one partition key, so one partition: the one whose leader is killed
COUNTER = {**HOT, "sk": {"S": "counter"}}
TALLY = {**HOT, "sk": {"S": "tally"}}
ONE = {":one": {"N": "1"}}


def row(number: int) -> dict[str, dict[str, str]]:
    return {**HOT, "sk": {"S": f"row-{number:07d}"}}


class Writer:
    """Puts rows of its own and increments two counters, in turn; keeps what was acknowledged."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.rows: list[int] = []
        self.increments = 0
        self.returned: list[int] = []

    def step(self, number: int) -> None:
        self.client.put_item(TableName=TABLE, Item={**row(number), "v": {"N": str(number)}})
        self.rows.append(number)
        added = self.client.update_item(
            TableName=TABLE,
            Key=COUNTER,
            UpdateExpression="SET n = if_not_exists(n, :zero) + :one",
            ExpressionAttributeValues={**ONE, ":zero": {"N": "0"}},
            ReturnValues="UPDATED_NEW",
        )
        self.returned.append(int(added["Attributes"]["n"]["N"]))
        self.client.update_item(
            TableName=TABLE, Key=TALLY, UpdateExpression="ADD n :one", ExpressionAttributeValues=ONE
        )
        self.increments += 1


def rows_of(client: Any, *, strong: bool) -> list[int]:
    pages = client.get_paginator("query").paginate(
        TableName=TABLE,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :row)",
        ExpressionAttributeValues={":pk": HOT["pk"], ":row": {"S": "row-"}},
        ConsistentRead=strong,
    )
    return [int(item["v"]["N"]) for page in pages for item in page["Items"]]


def count_of(client: Any, key: dict[str, Any]) -> int:
    return int(client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)["Item"]["n"]["N"])


def kill_the_leader(cluster: Cluster, partition: int, traffic: Traffic) -> str:
    """One round: kill, see another lead and the killed node come back, let the client go on for a while."""
    leader = until("the partition has a leader", lambda: cluster.leader(REGION, TABLE, partition))
    starts = cluster.process(leader).starts
    killed = cluster.kill(leader)

    def is_back() -> bool:
        process = cluster.process(leader)
        return process.state == "running" and process.pid != killed and process.starts > starts

    until(f"{leader} was started again", lambda: traffic.check() and is_back(), poll_s=0.2)
    successor = until("there is a leader again", lambda: cluster.leader(REGION, TABLE, partition))
    enough = traffic.steps + STEPS_BETWEEN_KILLS
    until("the client goes on", lambda: traffic.check() and traffic.steps >= enough)
    print(f"killed {leader}, {successor} leads; gap so far {traffic.gap_s_max:.2f} s after {traffic.steps} steps")
    return leader


def test_a_client_sees_no_error_when_leaders_are_killed_and_every_write_counts_once(world: Cluster) -> None:
    client = world.client(REGION)
    create_table(client, TABLE, sort_key="sk")
    assert len(until("all partitions have leaders", lambda: world.partitions(REGION, TABLE))) >= 4
    attempts = Attempts(client)
    writer = Writer(client)
    killed: list[str] = []
    with stalls() as stalled, Traffic("writer", writer.step) as traffic:
        until("the first writes are there", lambda: traffic.check() and traffic.steps >= STEPS_BETWEEN_KILLS)
        partition = until("the partition is known", lambda: partition_with_items(world, REGION, TABLE)).id
        for _ in range(KILLS):
            killed.append(kill_the_leader(world, partition, traffic))
    print(
        f"{len(writer.rows)} rows; longest gap {traffic.gap_s_max:.2f} s, machine {stalled.gap_s_max:.2f} s; "
        f"attempts {dict(attempts.seen)}"
    )

    assert traffic.gap_s_max - stalled.gap_s_max < GAP_S_MAX
    # A 500 would mean that the outcome of a write is unknown, and the SDK's retry of an increment could count it twice.
    assert attempts.failed == {}
    assert rows_of(client, strong=True) == writer.rows
    assert writer.returned == list(range(1, writer.increments + 1))
    assert count_of(client, COUNTER) == writer.increments
    assert count_of(client, TALLY) == writer.increments
    for node in sorted(set(killed)):
        assert_rejoined(world, node, writer.rows)
    client.close()


def assert_rejoined(cluster: Cluster, node: str, rows: list[int]) -> None:
    """Its replica holds every row, and a majority that needs it commits."""
    zone = cluster.process(node).zone
    local = cluster.client(REGION, zone=zone)  # an eventual read is answered by the replica in the router's zone
    until(f"{node} has caught up", lambda: rows_of(local, strong=False) == rows)
    other = next(p.id for p in cluster.processes(REGION, "node") if p.id != node)
    cluster.stop_processes([other])
    try:
        local.put_item(TableName=TABLE, Item={**HOT, "sk": {"S": f"after {node}"}})
        assert rows_of(local, strong=True) == rows
    finally:
        cluster.start_processes([other])
        local.close()
