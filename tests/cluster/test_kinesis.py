"""A Kinesis destination and an archive with real processes: what they get ends equal to the table, whoever dies."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.cluster.awsstubs import THROTTLED, KinesisStub, S3Stub
from tests.cluster.clusters import Cluster, canonical
from tests.cluster.traffic import Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TOPOLOGY = f"[regions.{REGION}]\n"
SEED = 20_261_124
ARN = f"arn:aws:kinesis:{REGION}:000000000000:stream/changes"
DELIVERY = f"{REGION}/delivery-1"
KEYS = 40
STEPS_BETWEEN_KILLS = 60
CAUGHT_UP_S_MAX = 90.0
EXPIRING = 25
EXPECTED = frozenset({"InternalServerError", "ServiceUnavailable"})  # a write that may have happened, or not


@pytest.fixture(scope="module")
def kinesis() -> Iterator[KinesisStub]:
    with KinesisStub("changes") as stub:
        yield stub


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, kinesis: KinesisStub) -> Iterator[Cluster]:
    options = ("--kinesis-endpoint", kinesis.endpoint, "--ttl-interval", "0.2")
    cluster = Cluster(tmp_path_factory.mktemp("kinesis") / "data", TOPOLOGY, *options)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "of-the-endpoint")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-endpoint-too")
            cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def client(region: Cluster) -> Iterator[Any]:
    client = region.client(REGION, retries={"total_max_attempts": 10, "mode": "standard"})
    yield client
    client.close()


def create(client: Any, name: str, **more: Any) -> None:
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        **more,
    )
    client.get_waiter("table_exists").wait(TableName=name)


def destination(client: Any, table: str) -> dict[str, Any]:
    found: dict[str, Any] = client.describe_kinesis_streaming_destination(TableName=table)[
        "KinesisDataStreamDestinations"
    ][-1]
    return found


def await_status(client: Any, table: str, status: str) -> None:
    until(f"the destination is {status}", lambda: destination(client, table)["DestinationStatus"] == status)


class Writer:
    """Puts and deletes a few keys; each item is another one than before."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table
        self._random = Random(SEED)

    def step(self, number: int) -> None:
        key = {"pk": {"S": f"key-{self._random.randrange(KEYS)}"}}
        try:
            if self._random.random() < 0.2:
                self._client.delete_item(TableName=self._table, Key=key)
            else:
                self._client.put_item(TableName=self._table, Item={**key, "n": {"N": str(number)}})
        except ClientError as error:
            if error.response["Error"]["Code"] not in EXPECTED:
                raise
        except BotoCoreError as error:
            print(f"step {number}: {error!r}")


def wrote(writing: Traffic, steps: int) -> bool:
    return writing.check() and writing.steps >= steps


def took(kinesis: KinesisStub, records: int) -> bool:
    return len(kinesis.streams["changes"]) > records


def mirrored(kinesis: KinesisStub) -> dict[str, str]:
    """What a reader ends with that takes records in the order of their arrival."""
    items: dict[str, str] = {}
    with kinesis.lock:
        for record in kinesis.streams["changes"]:
            name, image = record["dynamodb"]["Keys"]["pk"]["S"], record["dynamodb"].get("NewImage")
            items.pop(name, None)
            if image is not None:
                items[name] = canonical(image)
    return items


def gaps(kinesis: KinesisStub) -> list[str]:
    """Changes whose old image is nobody's new one: something before them is missing."""
    with kinesis.lock:
        changes = [record["dynamodb"] for record in kinesis.streams["changes"]]
    images = {canonical(change["NewImage"]) for change in changes if "NewImage" in change}
    return [
        text for change in changes if "OldImage" in change and (text := canonical(change["OldImage"])) not in images
    ]


def table_of(client: Any, name: str) -> dict[str, str]:
    pages = client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
    return {item["pk"]["S"]: canonical(item) for page in pages for item in page["Items"]}


def test_a_data_stream_misses_nothing_though_processes_are_killed_and_the_endpoint_fails(
    region: Cluster, client: Any, kinesis: KinesisStub
) -> None:
    create(client, "streamed")
    client.enable_kinesis_streaming_destination(TableName="streamed", StreamArn=ARN)
    await_status(client, "streamed", "ACTIVE")
    kinesis.entry_faults = 2
    random = Random(SEED)
    nodes = [process.id for process in region.processes(REGION, "node")]
    with Traffic("writer", Writer(client, "streamed").step) as writing:
        for victim in (random.choice(nodes), DELIVERY, random.choice(nodes), DELIVERY):
            steps, taken = writing.steps + STEPS_BETWEEN_KILLS, len(kinesis.streams["changes"])
            kinesis.faults.extend([THROTTLED, "InternalFailure", ""] * 3)
            until("writes go on", partial(wrote, writing, steps))
            until("records arrive", partial(took, kinesis, taken))
            region.kill(victim)
            region.await_running()
    until("the mirror equals the table", lambda: mirrored(kinesis) == table_of(client, "streamed"), CAUGHT_UP_S_MAX)
    print(f"{writing.steps} writes, missing when the mirror first was equal: {gaps(kinesis)}")
    # A record that was put off may still be on its way, behind a later one of its item.
    until("what was put off has arrived", lambda: not gaps(kinesis))
    assert all(len(keys) == 1 for keys in kinesis.keys.values()), "all changes of an item go to one shard"
    events = [record["eventID"] for record in kinesis.streams["changes"]]
    print(f"{writing.steps} writes, {len(set(events))} changes, {len(events)} records, {kinesis.put_off} put off")
    kinesis.entry_faults = 0
    client.disable_kinesis_streaming_destination(TableName="streamed", StreamArn=ARN)
    await_status(client, "streamed", "DISABLED")
    client.put_item(TableName="streamed", Item={"pk": {"S": "afterwards"}})
    client.enable_kinesis_streaming_destination(TableName="streamed", StreamArn=ARN)
    await_status(client, "streamed", "ACTIVE")
    client.put_item(TableName="streamed", Item={"pk": {"S": "again"}})
    until("it goes on from there", lambda: "again" in mirrored(kinesis))
    assert "afterwards" not in mirrored(kinesis)


def test_what_time_to_live_deletes_is_archived_each_once_though_the_store_fails(
    region: Cluster, client: Any, tmp_path: Path
) -> None:
    stream = {"StreamEnabled": True, "StreamViewType": "OLD_IMAGE"}
    create(client, "sessions", StreamSpecification=stream)
    client.update_time_to_live(
        TableName="sessions", TimeToLiveSpecification={"Enabled": True, "AttributeName": "until"}
    )
    with S3Stub() as stub:
        for place, more in (
            (f"s3://bucket/old?endpoint={stub.endpoint}", ()),
            (str(tmp_path / "archive"), ("--function", "in-a-directory")),
        ):
            made = region.run("ttl", "archive", "sessions", "--to", place, *more)
            assert made.returncode == 0, made.stderr
        stub.faults = 2
        past = str(int(time.time()) - 10)
        for number in range(EXPIRING):
            client.put_item(TableName="sessions", Item={"pk": {"S": f"s{number}"}, "until": {"N": past}})
            client.put_item(TableName="sessions", Item={"pk": {"S": f"kept{number}"}})
        client.delete_item(TableName="sessions", Key={"pk": {"S": "kept0"}})

        def names(bodies: list[bytes]) -> list[str]:
            found = [json.loads(line) for body in bodies for line in gzip.decompress(body).splitlines()]
            return sorted(record["dynamodb"]["OldImage"]["pk"]["S"] for record in found)

        expected = sorted(f"s{number}" for number in range(EXPIRING))
        files = tmp_path / "archive"
        until("the store has all", lambda: names(list(stub.objects.values())) == expected, CAUGHT_UP_S_MAX)
        until("so has the directory", lambda: names([f.read_bytes() for f in files.rglob("*.gz")]) == expected)
        refused = region.run("ttl", "archive", "sessions", "--to", "s3://another", "--function", "in-a-directory")
        assert refused.returncode == 1
        assert "there is a function in-a-directory already" in refused.stderr
