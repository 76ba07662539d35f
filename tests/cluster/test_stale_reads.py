"""An eventual read is answered by the nearest replica, however far behind that is; a strong read never is behind."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table, partition_with_items
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "stale-reads"
KEY = {"pk": {"S": "watched"}}
STALE_ROUNDS = 3
ROUNDS_MAX = 20  # the follower may happen to catch up before it answers
PAUSE_S_MAX = 1.0  # links to a process that is silent for longer are given up: then other replicas would answer
BACKLOG_ITEMS = 40
BALLAST = {"S": "x" * 300_000}  # what the follower has to catch up with


def value_of(client: Any, *, strong: bool) -> int:
    found = client.get_item(TableName=TABLE, Key=KEY, ConsistentRead=strong, ProjectionExpression="n")
    return int(found["Item"]["n"]["N"])


def await_fresh(client: Any, written: int) -> None:
    until("the nearest replica is fresh", lambda: value_of(client, strong=False) == written)


def test_a_follower_that_was_paused_answers_stale_and_a_strong_read_is_never_stale(world: Cluster) -> None:
    client = world.client(REGION)
    create_table(client, TABLE)
    client.put_item(TableName=TABLE, Item={**KEY, "n": {"N": "0"}, "ballast": BALLAST})
    home = until("the item is where it belongs", lambda: partition_with_items(world, REGION, TABLE))
    follower = next(node for node in home.replicas if node != home.leader)
    # Its own zone's router reads from the follower; what that router writes and reads strongly goes to the leader.
    local = world.client(REGION, zone=world.process(follower).zone)
    written = rounds = 0
    behind: list[int] = []
    while len(behind) < STALE_ROUNDS and rounds < ROUNDS_MAX:
        rounds += 1
        await_fresh(local, written)
        with world.paused(follower):
            deadline = time.monotonic() + PAUSE_S_MAX
            for _ in range(BACKLOG_ITEMS):
                client.put_item(TableName=TABLE, Item={**KEY, "n": {"N": str(written + 1)}, "ballast": BALLAST})
                written += 1
                assert value_of(local, strong=True) == written
                if time.monotonic() > deadline:
                    break
        seen = value_of(local, strong=False)
        assert value_of(local, strong=True) == written
        assert seen <= written
        if seen < written:
            behind.append(written - seen)
    print(f"{len(behind)} of {rounds} eventual reads were stale, by {behind} writes")
    await_fresh(local, written)
    local.close()
    client.close()
    assert len(behind) == STALE_ROUNDS
