"""A replica leaves its global table with its rows: not before all has arrived, and the others stay alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import LEAVING, Leaving, LeavingStage, News, TableRecord, TableStatus
from geodyne.messages import Change, FeedPage, FeedRecord
from replication.lifecycle import (
    Action,
    Drop,
    Exchanged,
    Forget,
    LeaveResult,
    Look,
    Peer,
    TellNews,
    in_transition,
    plan,
)
from replication.progress import Progress, ProgressSettings, Read, Send
from replication.reconcile import Reconciler
from tests.unit.replication.fake_region import FakeClock, FakeRegion, key_of, version
from tests.unit.replication.test_replicator import Cluster, scenario, until

FAR_US = 3_600_000_000


def leaving(stage: LeavingStage, **more: Any) -> TableRecord:
    table = FakeRegion("a", FakeClock()).create("t")
    extra = {LEAVING: Leaving(stage, 100, 9_000).to_json()}
    return replace(table, status=TableStatus.UPDATING, replicas=dict.fromkeys("abc", "ACTIVE"), extra=extra, **more)


def planned(
    table: TableRecord, exchanged: dict[str, Exchanged], said: dict[str, Peer] | None = None, now_ms: int = 0
) -> list[Action]:
    assert in_transition(table, "a")
    return plan("a", table, said or {}, {}, {}, exchanged, now_ms)


ALL = Exchanged(100, 100)


@pytest.mark.parametrize("late", [Exchanged(99, 100), Exchanged(100, 99), None])
def test_it_waits_until_all_has_gone_out_and_come_in_of_every_region(late: Exchanged | None) -> None:
    waiting = leaving(LeavingStage.WAITING)
    exchanged = {"b": ALL} | ({"c": late} if late is not None else {})
    assert planned(waiting, exchanged) == [Look("c")]
    assert planned(waiting, exchanged, {"c": Peer(False)}) == [LeaveResult(100, arrived=True)], "it was forgotten"
    assert planned(waiting, {"b": ALL, "c": ALL}) == [LeaveResult(100, arrived=True)]


def test_it_gives_up_in_time_and_changes_of_settings_go_first() -> None:
    waiting = leaving(LeavingStage.WAITING)
    assert planned(waiting, {}, now_ms=8_999) == [Look("b"), Look("c")]
    assert planned(waiting, {}, now_ms=9_000) == [Look("b"), Look("c"), LeaveResult(100, arrived=False)]
    news = leaving(LeavingStage.WAITING, index_news=(News(5, {"index_remove": "x"}, ("b",)),))
    assert planned(news, {"b": ALL, "c": ALL}) == [TellNews("b", 5)]


def test_each_region_forgets_it_once_it_has_all_that_may_still_come_and_is_dropped_after_that() -> None:
    fenced = leaving(LeavingStage.FENCED)
    assert planned(fenced, {"b": Exchanged(100, 0), "c": Exchanged(99, 0)}, now_ms=99_999) == [
        Forget("b", "a"),
        Look("c"),
    ]
    said = {"b": Peer(True, "ACTIVE", dict.fromkeys("bc", "ACTIVE")), "c": Peer(False)}
    assert planned(fenced, {}, said) == [Drop("b"), Drop("c")]
    knows_it = {"b": Peer(True, "ACTIVE", dict.fromkeys("abc", "ACTIVE")), "c": Peer(False, error="E")}
    assert planned(fenced, {}, knows_it) == [Look("b"), Look("c")]


def test_beyond_the_fence_nothing_is_shipped_and_an_older_version_is_not_lost_to_a_newer_one() -> None:
    progress = Progress("a", ProgressSettings())
    progress.fence_us = 100
    progress.on_connected()
    (read,) = (one for one in progress.decide(0, may_read=True) if isinstance(one, Read))
    changes = [Change(b"k", version(us, "a"), b"%d" % us, 3) for us in (99, 100, 101)]
    records = tuple(FeedRecord(number, change, None) for number, change in enumerate(changes, 1))
    progress.on_page(read.after, FeedPage(records, 3, 3, False))
    (batch,) = (one.batch for one in progress.decide(0, may_read=True) if isinstance(one, Send))
    assert [change.image for change in batch.changes] == [b"100"]
    assert batch.next == 3


async def three(cluster: Cluster) -> list[FakeRegion]:
    regions = [cluster.regions[name] for name in "abc"]
    regions[0].create("t")
    regions[0].control("update_table", name="t", replicas_add=["b", "c"])
    everywhere = dict.fromkeys("abc", "ACTIVE")
    await until(lambda: all(cluster.replicas(n) == everywhere for n in "abc"), "all replicas become ACTIVE everywhere")
    for number in range(30):
        regions[number % 3].write("t", key_of(number), b"%d" % number)
    return regions


def ask(region: FakeRegion) -> None:
    region.control("update_table", name="t", extra={"disassociation_protection": False})
    region.control("update_table", name="t", leave=True)


def promise(region: FakeRegion) -> None:
    region.promise("t", region.clock.wall_us() + FAR_US)


@scenario("a", "b", "c")
async def test_of_three_one_leaves_with_all_rows_and_the_others_go_on(cluster: Cluster) -> None:
    a, b, c = await three(cluster)
    ask(b)
    promise(a)
    promise(b)
    await until(cluster.same, "all rows are everywhere")
    assert cluster.replicas("b") == dict.fromkeys("abc", "ACTIVE"), "c has not said that all it wrote is out"
    assert b.table("t").status is TableStatus.UPDATING
    await cluster.stop("b")  # nothing that it knows may be needed
    await cluster.start("b")
    promise(c)
    rest = dict.fromkeys("ac", "ACTIVE")
    await until(lambda: [cluster.replicas(n) for n in "abc"] == [rest, {}, rest], "b has left")
    assert b.table("t").status is TableStatus.ACTIVE
    assert len(b.items("t")) == 30
    at_us = a.clock.wall_us() + 2 * FAR_US
    a.write("t", key_of(77), b"later", at_us=a.clock.wall_us())
    b.write("t", key_of(78), b"alone", at_us=at_us)
    await until(lambda: key_of(77) in c.items("t"), "a and c exchange changes")
    assert key_of(77) not in b.items("t")
    assert key_of(78) not in a.items("t")


@scenario("a", "b")
async def test_of_two_both_become_tables_of_their_own_and_neither_can_take_the_other_again(cluster: Cluster) -> None:
    a, b = cluster.regions["a"], cluster.regions["b"]
    a.create("t")
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a").get("b") == "ACTIVE", "b is ACTIVE")
    a.write("t", key_of(1), b"one")
    ask(b)
    promise(a)
    promise(b)
    await until(lambda: cluster.replicas("a") == cluster.replicas("b") == {}, "both are alone")
    assert a.items("t") == b.items("t")
    assert len(b.items("t")) == 1
    a.control("update_table", name="t", replicas_add=["b"])
    await until(lambda: cluster.replicas("a").get("b") == "CREATION_FAILED", "it is refused")
    a.control("update_table", name="t", replicas_remove=["b"])
    await until(lambda: cluster.replicas("a") == {}, "it is given up")
    assert len(b.items("t")) == 1, "a table that has left is not deleted as a replica"


def test_settings_wait_for_a_region_of_an_older_version(monkeypatch: pytest.MonkeyPatch) -> None:
    @scenario("a", "b")
    async def test(cluster: Cluster) -> None:
        a, b = cluster.regions["a"], cluster.regions["b"]
        a.create("t")
        a.control("update_table", name="t", replicas_add=["b"])
        await until(lambda: cluster.replicas("a").get("b") == "ACTIVE", "b is ACTIVE")
        with monkeypatch.context() as patch:
            patch.setattr("replication.link.SETTINGS_FROM", 99)
            a.control("update_table", name="t", read_units=5, write_units=6)

            def errors() -> list[dict[str, str]]:
                reconciler: Reconciler = cluster.replicators["a"]._reconciler
                return [one["errors"] for one in reconciler.status()]  # type: ignore[misc]

            await until(lambda: any("no settings" in each.get("b", "") for each in errors()), "they wait")
            assert a.table("t").index_news
        await until(lambda: not a.table("t").index_news, "b was told")
        assert b.table("t").read_units == 5

    test()
