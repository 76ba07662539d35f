"""A node comes back with an empty directory while the only other node that has a write is away: nobody goes on without
the write."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from geodyne.cli.datadir import ClusterDirectory
from tests.cluster.clusters import Cluster
from tests.cluster.tables import create_table, partition_with_items
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

REGION = "us-east-1"
TABLE = "lost-disk"
KEY = {"pk": {"S": "kept"}}
WATCHED_S = 6.0  # several elections


def test_a_write_outlives_the_disk_of_one_holder_while_the_other_one_is_away(world: Cluster) -> None:
    client = world.client(REGION)
    create_table(client, TABLE)
    client.put_item(TableName=TABLE, Item={**KEY, "n": {"N": "1"}})
    home = until("the item is where it belongs", lambda: partition_with_items(world, REGION, TABLE))
    lacking, emptied = (node for node in home.replicas if node != home.leader)
    world.stop_processes([lacking])
    client.put_item(TableName=TABLE, Item={**KEY, "n": {"N": "2"}})
    world.stop_processes([home.leader, emptied])
    shutil.rmtree(ClusterDirectory(world.data_dir).node_data(emptied))
    impatient = world.client(REGION, retries={"max_attempts": 0}, read_timeout=4)
    refused = 0
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(world.start_processes, [lacking, emptied])  # done when they are healthy
        try:
            watched_until = time.monotonic() + WATCHED_S
            while time.monotonic() < watched_until:
                with pytest.raises((ClientError, BotoCoreError)):
                    impatient.get_item(TableName=TABLE, Key=KEY, ConsistentRead=True)
                refused += 1
            assert not started.done()
        finally:
            world.start_processes([home.leader])
        started.result()
    world.await_running()
    found = until("the item is read", lambda: client.get_item(TableName=TABLE, Key=KEY, ConsistentRead=True))
    assert found["Item"]["n"]["N"] == "2"
    assert refused > 0
    # The emptied node is as good as any: with it, another one can be spared.
    until("the emptied node has the item", lambda: _holds(world, emptied))
    world.stop_processes([home.leader])
    client.put_item(TableName=TABLE, Item={**KEY, "n": {"N": "3"}})
    world.start_processes([home.leader])
    world.await_running()
    assert client.get_item(TableName=TABLE, Key=KEY, ConsistentRead=True)["Item"]["n"]["N"] == "3"
    impatient.close()
    client.close()


def _holds(world: Cluster, node: str) -> bool:
    near = world.client(REGION, zone=world.process(node).zone)
    try:
        item = near.get_item(TableName=TABLE, Key=KEY, ConsistentRead=False).get("Item")
        return bool(item and item["n"]["N"] == "2")
    finally:
        near.close()
