"""A node that takes nothing any more while the others go on writing: what they keep for it is bounded, and it comes
back."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from tests.cluster.clusters import Cluster
from tests.cluster.memory import resident_bytes
from tests.cluster.tables import create_table
from tests.cluster.traffic import Attempts, Traffic

pytestmark = [pytest.mark.cluster, pytest.mark.long]

REGION = "us-east-1"
TABLE = "slow-follower"
WRITERS = 4
KEYS = 40
ITEM_BYTES = 300_000
STOPPED_S = 15.0
WRITTEN_BYTES_MIN = 256 << 20  # four times what a queue towards a peer may hold
GROWTH_BYTES_MAX = 384 << 20  # a queue, what is uncommitted, and the part of the log that is in memory


def test_what_is_kept_for_a_node_that_does_not_read_is_bounded(world: Cluster) -> None:
    client = world.client(REGION, max_pool_connections=WRITERS)
    create_table(client, TABLE)
    attempts = Attempts(client)
    slow, *others = world.processes(REGION, "node")

    def step(number: int) -> None:
        client.put_item(TableName=TABLE, Item={"pk": {"S": f"key-{number % KEYS}"}, "v": {"B": bytes(ITEM_BYTES)}})

    with world.paused(slow.id), ExitStack() as stack:
        writers = [stack.enter_context(Traffic(f"writer-{number}", step)) for number in range(WRITERS)]
        before = {node.id: resident_bytes(node.pid) for node in others}
        growth, until_s = 0, time.monotonic() + STOPPED_S
        while time.monotonic() < until_s or ITEM_BYTES * sum(one.steps for one in writers) < WRITTEN_BYTES_MIN:
            assert all(one.check() for one in writers)
            growth = max(growth, *(resident_bytes(node.pid) - before[node.id] for node in others))
            time.sleep(0.1)
    assert growth <= GROWTH_BYTES_MAX, f"{growth >> 20} MB more"
    world.await_running()
    assert [world.process(node.id).pid for node in (slow, *others)] == [node.pid for node in (slow, *others)]
    assert attempts.failed == {}
    client.close()
