"""A table is mirrored from its stream, whose shards are short-lived, while leaders, routers and at last all nodes at
once are killed: the mirror loses nothing, takes nothing twice, and ends equal to the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.cluster.clusters import Cluster, canonical
from tests.cluster.mirrors import Mirror
from tests.cluster.traffic import Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TOPOLOGY = f"[regions.{REGION}]\nrouters = 2\n"
TABLE = "mirrored"
SHARD_LIFE_S = 2
KEYS = 40
KILLS = 4
STEPS_BETWEEN_KILLS = 60
SEED = 20_261_124
CAUGHT_UP_S_MAX = 60.0
# What a client may hear while a leader is away: the write may have happened, or not.
EXPECTED = frozenset({"InternalServerError", "ServiceUnavailable", "TransactionInProgressException"})
CANCELLED = "TransactionCanceledException"


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("mirror") / "data", TOPOLOGY, "--shard-life", str(SHARD_LIFE_S))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


class Writer:
    """Writes of every kind to a few keys: many that change an item again, some that change nothing."""

    def __init__(self, client: Any, seed: int) -> None:
        self.client = client
        self._random = Random(seed)
        self._acts = (self._put, self._put, self._update, self._update, self._delete, self._batch, self._transaction)

    def step(self, number: int) -> None:
        try:
            self._random.choice(self._acts)(number)
        except ClientError as error:
            if error.response["Error"]["Code"] not in (*EXPECTED, CANCELLED):
                raise
        except BotoCoreError as error:
            print(f"step {number}: {error!r}")

    def _key(self) -> dict[str, Any]:
        return {"pk": {"S": f"key-{self._random.randrange(KEYS)}"}}

    def _item(self, number: int) -> dict[str, Any]:
        return {**self._key(), "n": {"N": str(number)}, "text": {"S": "x" * self._random.randrange(300)}}

    def _put(self, number: int) -> None:
        self.client.put_item(TableName=TABLE, Item=self._item(number))

    def _update(self, number: int) -> None:
        """Adds, or (0) only makes sure that there is an item."""
        self.client.update_item(
            TableName=TABLE,
            Key=self._key(),
            UpdateExpression="ADD c :n",
            ExpressionAttributeValues={":n": {"N": str(number % 3)}},
        )

    def _delete(self, number: int) -> None:
        self.client.delete_item(TableName=TABLE, Key=self._key())

    def _batch(self, number: int) -> None:
        items = {canonical(self._key()): None for _ in range(5)}
        puts = [{"PutRequest": {"Item": {**_parsed(key), "n": {"N": str(number)}}}} for key in items]
        self.client.batch_write_item(RequestItems={TABLE: puts})

    def _transaction(self, number: int) -> None:
        keys = list({canonical(self._key()): None for _ in range(3)})
        actions: list[dict[str, Any]] = [
            {"Put": {"TableName": TABLE, "Item": {**_parsed(key), "n": {"N": str(number)}}}} for key in keys[1:]
        ]
        actions.append({"Delete": {"TableName": TABLE, "Key": _parsed(keys[0])}})
        self.client.transact_write_items(TransactItems=actions)


def _parsed(key: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(key)
    return parsed


def table_of(client: Any) -> dict[str, str]:
    """The table as a mirror has it, strongly read."""
    pages = client.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True)
    return {canonical({"pk": item["pk"]}): canonical(item) for page in pages for item in page["Items"]}


def test_a_mirror_ends_equal_to_its_table(region: Cluster) -> None:
    client = region.client(REGION)
    made = client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    client.get_waiter("table_exists").wait(TableName=TABLE)
    arn = made["TableDescription"]["LatestStreamArn"]
    retries = {"total_max_attempts": 10, "mode": "standard"}
    writer = Writer(region.client(REGION, retries=retries), SEED)
    mirror = Mirror(region.client(REGION, service="dynamodbstreams", retries=retries), arn, SEED)
    random = Random(SEED)
    with Traffic("mirror", mirror.step) as reading, Traffic("writer", writer.step) as writing:

        def go_on() -> None:
            steps, records = writing.steps + STEPS_BETWEEN_KILLS, mirror.records + STEPS_BETWEEN_KILLS // 2
            both = (reading, writing)
            until(
                "both go on",
                lambda: (
                    all(traffic.check() for traffic in both) and writing.steps >= steps and mirror.records >= records
                ),
            )

        go_on()
        nodes = [process.id for process in region.processes(REGION, "node")]
        routers = [process.id for process in region.processes(REGION, "router")]
        for victims in [[random.choice(nodes)] for _ in range(KILLS)] + [[random.choice(routers)], nodes]:
            for victim in victims:
                region.kill(victim)
            print(f"killed {victims}: {writing.steps} writes, {mirror.records} records, {len(mirror.shards)} shards")
            region.await_running()
            go_on()
        restarted = region.run("restart")
        assert restarted.returncode == 0, restarted.stderr
        go_on()
        writing.end()
        until("the mirror has caught up", lambda: reading.check() and mirror.items == table_of(client), CAUGHT_UP_S_MAX)
        client.update_table(TableName=TABLE, StreamSpecification={"StreamEnabled": False})
        until("all shards have ended", lambda: reading.check() and mirror.ended, CAUGHT_UP_S_MAX)
    print(
        f"{writing.steps} writes, {mirror.records} records, {len(mirror.shards)} shards, "
        f"{mirror.interruptions} interruptions"
    )
    assert mirror.items == table_of(client)
    partitions = {name.rpartition("-")[2] for name in mirror.shards}
    assert len(mirror.shards) >= 3 * len(partitions), "the shards did not roll over"
    assert sum(shard.parent is None for shard in mirror.shards.values()) == len(partitions)
    client.close()
