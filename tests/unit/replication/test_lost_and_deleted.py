"""A replica that is deleted in its region, one that cannot be made, and a region that is lost."""

from __future__ import annotations

import pytest

from geodyne.catalog import LEAVING, TableStatus
from tests.unit.replication.fake_region import key_of
from tests.unit.replication.test_leaving import promise, three
from tests.unit.replication.test_replicator import Cluster, scenario, until


def gone(cluster: Cluster, name: str) -> bool:
    table = cluster.regions[name].catalog.tables.get("t")
    return table is None or table.status is TableStatus.DELETING


@scenario("a", "b", "c")
async def test_a_replica_is_deleted_once_the_others_have_what_was_written_there(cluster: Cluster) -> None:
    a, b, c = await three(cluster)
    b.control("delete_table", name="t")
    b.write("t", key_of(77), b"last")
    await until(lambda: key_of(77) in a.items("t") and key_of(77) in c.items("t"), "it is everywhere")
    assert not gone(cluster, "b"), "b has not said that it writes nothing older any more"
    await cluster.stop("b")  # nothing that it knows may be needed
    await cluster.start("b")
    promise(b)
    rest = dict.fromkeys("ac", "ACTIVE")
    await until(lambda: gone(cluster, "b") and [cluster.replicas(n) for n in "ac"] == [rest, rest], "b is deleted")
    assert len(a.items("t")) == len(c.items("t")) == 31


@scenario("a", "b", "c")
async def test_one_that_the_others_remove_meanwhile_does_not_wait_for_them(cluster: Cluster) -> None:
    a, b, _ = await three(cluster)
    b.control("delete_table", name="t")
    a.control("update_table", name="t", replicas_remove=["b"])
    rest = dict.fromkeys("ac", "ACTIVE")
    await until(lambda: cluster.replicas("c") == rest, "c has forgotten b")
    promise(b)
    await until(lambda: gone(cluster, "b") and [cluster.replicas(n) for n in "ac"] == [rest, rest], "b is deleted")


@scenario("a", "b", "c")
async def test_a_name_that_another_table_has_fails_the_replica_and_it_can_be_removed(cluster: Cluster) -> None:
    a, b, c = (cluster.regions[name] for name in "abc")
    a.create("t")
    a.control("update_table", name="t", replicas_add=["c"])
    both = dict.fromkeys("ac", "ACTIVE")
    await until(lambda: [cluster.replicas(n) for n in "ac"] == [both, both], "two are ACTIVE")
    b.create("t")
    b.write("t", key_of(1), b"its own")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a")["b"] == "CREATION_FAILED", "it has failed")
    assert "already existed as tables" in a.table("t").extra["replica_troubles"]["b"]
    a.write("t", key_of(2), b"two")
    await until(lambda: key_of(2) in c.items("t"), "the others go on")
    a.control("update_table", name="t", replicas_remove=["b"])
    await until(lambda: [cluster.replicas(n) for n in "ac"] == [both, both], "it is removed")
    assert list(b.items("t")) == [key_of(1)]


def test_why_a_replica_does_not_come_or_go_is_told_and_over_when_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.reconcile.TROUBLE_TOLD_MS", 50)

    @scenario("a", "b")
    async def test(cluster: Cluster) -> None:
        a = cluster.regions["a"]
        a.create("t")
        await cluster.stop("b")
        a.control("update_table", name="t", replicas_add=["b"])
        trouble = {"b": "Region b cannot be reached"}
        await until(lambda: a.table("t").extra.get("replica_troubles") == trouble, "it is told")
        assert cluster.replicas("a")["b"] == "CREATING"
        await cluster.start("b")
        await until(lambda: cluster.replicas("a")["b"] == "ACTIVE", "b is ACTIVE")
        assert "replica_troubles" not in a.table("t").extra
        cluster.regions["b"].control("update_table", name="t", deletion_protection=True)
        a.control("update_table", name="t", replicas_remove=["b"])
        await until(lambda: "protected" in a.table("t").extra.get("replica_troubles", {}).get("b", ""), "it is told")
        assert cluster.replicas("a")["b"] == "DELETING"
        cluster.regions["b"].control("update_table", name="t", deletion_protection=False)
        await until(lambda: cluster.replicas("a") == {} and gone(cluster, "b"), "b is deleted")

    test()


@scenario("a", "b", "c")
async def test_a_lost_region_is_forgotten_and_leaves_alone_when_it_is_back(cluster: Cluster) -> None:
    a, b, _ = await three(cluster)
    asked = {"table": "t", "lost": "b"}
    forgetting = cluster.replicators["a"].forgetting
    assert "answers a" in (await forgetting.administer({"operation": "forget", **asked}))["error"]
    await cluster.stop("b")
    links = [cluster.replicators[name].forgetting._links["b"] for name in "ac"]
    await until(lambda: not any(link.connected for link in links), "b is lost")
    assert (await forgetting.administer({"operation": "check", **asked}))["result"]["replicas"]["b"] == "ACTIVE"
    for name in "ac":
        forgetting = cluster.replicators[name].forgetting
        answer = await forgetting.administer({"operation": "forget", **asked})
        assert answer["result"]["replicas"] == dict.fromkeys("ac", "ACTIVE")
    absent = await forgetting.administer({"operation": "check", "table": "no", "lost": "b"})
    assert absent["result"]["replicas"] == {}
    assert "knows the regions" in (await forgetting.administer({"operation": "drop", **asked}))["error"]
    await cluster.start("b")
    b.control("update_table", name="t", extra={"disassociation_protection": False})
    b.control("update_table", name="t", leave=True)
    await until(lambda: cluster.replicas("b") == {}, "b is alone")
    assert b.table("t").status is TableStatus.ACTIVE
    assert LEAVING not in b.table("t").extra
    assert b.items("t"), "its rows stay"
    assert cluster.replicas("a") == dict.fromkeys("ac", "ACTIVE")
    assert a.table("t").status is TableStatus.ACTIVE


def test_a_forgotten_region_that_is_back_is_not_obeyed_and_made_no_replica_with_what_it_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it has may have been deleted everywhere else, and the tombstone collected."""
    for module in ("steps", "apply"):
        monkeypatch.setattr(f"replication.{module}.ADDED_CLOCKS_MS", 0)
    monkeypatch.setattr("replication.reconcile.TROUBLE_TOLD_MS", 50)

    @scenario("a", "b", "c")
    async def test(cluster: Cluster) -> None:
        a, b, _ = await three(cluster)
        await cluster.stop("b")
        b.write("t", key_of(77), b"late")
        for name in "ac":
            cluster.regions[name].control("drop_replica", name="t", region="b")
        both = dict.fromkeys("ac", "ACTIVE")
        await cluster.start("b")
        b.control("update_table", name="t", replicas_remove=["c"])
        await until(lambda: "no replica in b" in b.table("t").extra.get("replica_troubles", {}).get("c", ""), "refused")
        a.control("update_table", name="t", replicas_add=["b"])
        await until(lambda: cluster.replicas("a")["b"] == "CREATION_FAILED", "it has failed in a")
        assert key_of(77) not in a.items("t")
        a.control("update_table", name="t", replicas_remove=["b"])
        await until(lambda: [cluster.replicas(n) for n in "ac"] == [both, both], "it is removed")
        assert key_of(77) not in a.items("t")
        assert len(a.items("t")) == 30
        assert b.table("t").status is not TableStatus.DELETING, "the other table of that name is left alone"
        assert key_of(77) in b.items("t")

    test()
