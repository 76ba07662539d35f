"""A region that takes little or nothing, under writers that do not stop: the source's clients do not notice, what is
kept for it is bounded, and it is made whole afterwards."""

from __future__ import annotations

import http.client
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from geodyne.cli.verify import EXIT_EQUAL
from tests.cluster.clusters import Cluster
from tests.cluster.memory import resident_bytes
from tests.cluster.tables import await_same_everywhere, create_table, make_global, process_status
from tests.cluster.traffic import Attempts, Traffic
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

EAST, WEST = REGIONS = ("us-east-1", "eu-west-1")
TOPOLOGY = """
round_trip_ms = 10

[regions.us-east-1]
zones = ["a"]

[regions.eu-west-1]
zones = ["a"]
"""
FEED_MB = 1.0  # the least that may be set
PARTITIONS = 4
WRITERS = 3
ITEM_BYTES = 20_000
PAUSE_S = 0.03  # of each writer after a write: some 100 writes, 2 MB, a second, whatever the machine can do
ITEMS = 300  # that are written again and again
FEED_BYTES_MAX = PARTITIONS * 4 * int(FEED_MB * (1 << 20))  # with what is written between two looks, each second
GROWTH_BYTES_MAX = 96 << 20  # of the replicator: pages, batches, gRPC's buffers, the path's 8 MB
NARROW_MBIT = "0.08"  # 10 KB/s


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "data", TOPOLOGY, "--feed-mb", str(FEED_MB))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@contextmanager
def narrow(cluster: Cluster) -> Iterator[None]:
    """The path between the two regions is of 10 KB/s."""
    assert cluster.run("network", "set", EAST, WEST, "--bandwidth-mbit", NARROW_MBIT).returncode == 0
    try:
        yield
    finally:
        assert cluster.run("network", "set", EAST, WEST, "--bandwidth-mbit", "0").returncode == 0


@contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    """The destination's nodes do not run; its replicator does."""
    with ExitStack() as stack:
        for node in cluster.processes(WEST, "node"):
            stack.enter_context(cluster.paused(node.id))
        yield


@pytest.mark.parametrize("fault", [narrow, stopped])
def test_a_region_that_takes_little_costs_the_others_clients_nothing_and_is_made_whole(
    pair: Cluster, fault: Callable[[Cluster], AbstractContextManager[None]]
) -> None:
    client = pair.client(EAST, max_pool_connections=WRITERS)
    node, replicator = pair.processes(EAST, "node")[0], pair.processes(EAST, "replicator")[0]
    create_table(client, "slow")
    make_global(pair, EAST, "slow", REGIONS)
    attempts, numbers = Attempts(client), random.Random(3)
    written: set[str] = set()

    def step(number: int) -> None:
        key = f"item-{numbers.randrange(ITEMS)}"
        client.put_item(TableName="slow", Item={"pk": {"S": key}, "b": {"B": numbers.randbytes(ITEM_BYTES)}})
        written.add(key)
        time.sleep(PAUSE_S)

    before = resident_bytes(replicator.pid)
    growth = feed_bytes = 0.0
    with fault(pair):
        began = time.monotonic()
        with ExitStack() as stack:
            writers = [stack.enter_context(Traffic(f"writer-{number}", step)) for number in range(WRITERS)]

            def outgrown() -> bool:
                """Whether a partition has trimmed what the destination lacks, and some more was written then."""
                nonlocal growth, feed_bytes
                assert all(one.check() for one in writers)
                growth = max(growth, resident_bytes(replicator.pid) - before)
                feed_bytes = max(feed_bytes, metric(node.metrics, "geodyne_feed_bytes"))
                return metric(node.metrics, "geodyne_feed_places_lost_total") >= PARTITIONS // 2

            until("the feeds have outgrown their bound", outgrown)
        took_s, count = time.monotonic() - began, sum(one.steps for one in writers)
        figures = process_status(replicator.metrics)["destinations"][WEST]
        assert figures["caught_up"] < figures["partitions"], "it was too fast to be slow"
    gap_s = max(one.gap_s_max for one in writers)
    print(f"{count / took_s:.0f} puts/s, longest gap {gap_s:.2f} s, replicator {growth / 1e6:.0f} MB more")
    assert attempts.failed == {}, "a write was refused"
    assert growth <= GROWTH_BYTES_MAX
    assert feed_bytes <= FEED_BYTES_MAX
    healed = time.monotonic()
    with ExitStack() as stack:
        clients = {region: pair.client(region) for region in REGIONS}
        for one in clients.values():
            stack.callback(one.close)
        assert len(await_same_everywhere(clients, "slow")) == len(written)
    print(f"whole after {time.monotonic() - healed:.1f} s")
    assert process_status(replicator.metrics)["destinations"][WEST]["backfill_rows"] > 0, "no scan replaced the feed"
    until("digests are equal", lambda: pair.run("verify", "slow").returncode == EXIT_EQUAL, poll_s=0.5)
    client.close()


def metric(address: str, name: str) -> float:
    """The sum of its samples."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
    finally:
        connection.close()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))
