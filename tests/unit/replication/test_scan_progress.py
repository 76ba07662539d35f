"""How far the scan of a table has come, by the hashes of keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from geodyne.catalog import HASH_SPACE, PartitionRecord
from replication.backfill import ScanProgress
from tests.unit.replication.test_replicator import Cluster, scenario, until


def test_a_part_of_the_hashes_is_a_part_of_the_rows() -> None:
    first = PartitionRecord(1, 1, 0, HASH_SPACE // 2, ())
    progress = ScanProgress([first, replace(first, id=2, low=HASH_SPACE // 2, high=HASH_SPACE)])
    assert progress.percent == 0
    progress.reached(2, (HASH_SPACE // 4 * 3).to_bytes(8) + b"more of the key")
    assert progress.percent == pytest.approx(25)
    progress.reached(1, None)
    assert progress.percent == pytest.approx(75)
    progress.reached(2, None)
    assert progress.percent == 100


@scenario("a", "b")
async def test_the_catalog_hears_of_it_and_forgets_it_once_the_replica_is_complete(cluster: Cluster) -> None:
    a = cluster.regions["a"]
    a.create("t")
    for number in range(400):
        a.write("t", number.to_bytes(2) + b"......k%d" % number, b"x")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a").get("b") == "ACTIVE", "b is ACTIVE")
    assert "replica_progress" not in a.table("t").extra
