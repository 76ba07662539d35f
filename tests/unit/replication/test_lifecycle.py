"""Replicas come into being and go, from any state that a crash may leave behind."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from geodyne.catalog import News, ReplicaStatus, TableRecord, TableStatus, merged_members
from replication.lifecycle import (
    Action,
    Delete,
    Drop,
    Ensure,
    Forget,
    MarkActive,
    MarkFailed,
    Peer,
    ScanState,
    StartScan,
    TellNews,
    TellProgress,
    TellTrouble,
    definition_of,
    in_transition,
    plan,
    progress_news,
    trouble_news,
)
from tests.unit.replication.fake_region import FakeClock, FakeRegion


def table(status: TableStatus = TableStatus.ACTIVE, **replicas: str) -> TableRecord:
    region = FakeRegion("a", FakeClock())
    return replace(region.create("t"), status=status, replicas=replicas)


def peer(status: str = "ACTIVE", **members: str) -> Peer:
    return Peer(True, status, members)


def test_a_settled_table_needs_nothing() -> None:
    settled = table(a="ACTIVE", b="ACTIVE", c="ACTIVE")
    assert not in_transition(settled, "a")
    assert plan("a", settled, {}, {}, {}) == []


def test_changes_of_indexes_are_told_one_after_the_other() -> None:
    news = (News(5, {"index_remove": "x"}, ("b",)), News(7, {"index_remove": "y"}, ("b", "c")))
    changed = replace(table(a="ACTIVE", b="ACTIVE", c="ACTIVE"), index_news=news)
    assert in_transition(changed, "a")
    assert set(plan("a", changed, {}, {}, {})) == {TellNews("b", 5), TellNews("c", 7)}


def test_a_member_does_nothing_about_its_own_creation() -> None:
    assert plan("b", table(a="ACTIVE", b="CREATING"), {}, {}, {}) == []


def test_a_new_replica_is_first_made_and_made_known_to_all_members() -> None:
    actions = plan("a", table(a="ACTIVE", b="CREATING", c="ACTIVE"), {}, {}, {})
    assert {type(a) for a in actions} == {Ensure}
    assert {a.at for a in actions if isinstance(a, Ensure)} == {"b", "c"}
    assert all(dict(a.members)["b"] == "CREATING" for a in actions if isinstance(a, Ensure))


def test_no_scan_before_every_partition_has_logged_the_marker() -> None:
    said = {"b": peer(a="ACTIVE", b="CREATING")}
    assert plan("a", table(TableStatus.UPDATING, a="ACTIVE", b="CREATING"), said, {}, {}) == []
    assert plan("a", table(a="ACTIVE", b="CREATING"), said, {}, {}) == [StartScan("b", everything=True)]


def test_a_helping_member_ships_only_its_own_rows() -> None:
    said = {"b": peer(a="ACTIVE", b="CREATING", c="ACTIVE"), "a": peer(a="ACTIVE", b="CREATING", c="ACTIVE")}
    actions = plan("c", table(a="ACTIVE", b="CREATING", c="ACTIVE"), said, {}, {"b": "a"})
    assert actions == [StartScan("b", everything=False)]


def test_the_own_record_says_active_last() -> None:
    adding = table(a="ACTIVE", b="CREATING", c="ACTIVE")
    done = {"b": ScanState.DONE}
    aware = {"c": peer(a="ACTIVE", b="CREATING", c="ACTIVE")}
    fresh = {"b": peer(a="ACTIVE", b="CREATING", c="ACTIVE")}
    told = {"b": peer(a="ACTIVE", b="ACTIVE", c="ACTIVE")}
    assert plan("a", adding, {**fresh, **aware}, done, {}) == [
        Ensure("b", (("a", "ACTIVE"), ("b", "ACTIVE"), ("c", "ACTIVE")))
    ]
    assert not any(isinstance(a, MarkActive) for a in plan("a", adding, told, done, {}))
    assert plan("a", adding, {**told, **aware}, done, {}) == [MarkActive("b")]


def test_members_forget_a_replica_before_its_table_is_deleted() -> None:
    removing = table(a="ACTIVE", b="DELETING", c="ACTIVE")
    assert plan("a", removing, {}, {}, {}) == [Forget("c", "b")]
    aware = {"c": peer(a="ACTIVE", c="ACTIVE")}
    assert plan("a", removing, aware, {}, {}) == [Delete("b")]
    assert plan("a", removing, {**aware, "b": peer("DELETING")}, {}, {}) == [Delete("b")]
    assert plan("a", removing, {**aware, "b": Peer(False)}, {}, {}) == [Drop("b")]


def test_progress_is_told_in_steps_of_replicas_that_are_being_filled() -> None:
    filling = table(a="ACTIVE", b="CREATING", c="ACTIVE")
    assert progress_news(filling, {"b": 9.9}) == []
    assert progress_news(filling, {"b": 49.9, "c": 50.0}) == [TellProgress("b", 40)]
    told = replace(filling, extra={"replica_progress": {"b": 40}})
    assert progress_news(told, {"b": 49.9}) == []
    assert progress_news(told, {"b": 5.0}) == [TellProgress("b", 0)], "the scan began anew"


def test_a_name_that_another_table_has_fails_the_replica_and_one_that_is_going_does_not() -> None:
    adding = table(a="ACTIVE", b="CREATING")
    assert plan("a", adding, {"b": Peer(False, error="TableAlreadyExistsException")}, {}, {}) == [MarkFailed("b")]
    actions = plan("a", adding, {"b": Peer(False, error="ResourceInUseException")}, {}, {})
    assert [type(a) for a in actions] == [Ensure]


def test_nothing_is_done_for_a_replica_that_failed_and_no_other_is_told_of_it() -> None:
    failed = table(a="ACTIVE", b="CREATION_FAILED")
    assert not in_transition(failed, "a")
    with_another = table(a="ACTIVE", b="CREATION_FAILED", c="CREATING")
    (ensure,) = plan("a", with_another, {}, {}, {})
    assert isinstance(ensure, Ensure)
    assert (ensure.at, set(dict(ensure.members))) == ("c", {"a", "c"})


def test_a_failed_replica_that_is_removed_is_forgotten_where_another_table_has_its_name() -> None:
    removing = table(a="ACTIVE", b="DELETING")
    assert plan("a", removing, {"b": Peer(False, error="TableAlreadyExistsException")}, {}, {}) == [Delete("b")]
    assert plan("a", removing, {"b": Peer(False)}, {}, {}) == [Drop("b")]


def test_trouble_is_told_of_replicas_under_way_once_and_when_it_is_over() -> None:
    waiting = table(a="ACTIVE", b="CREATING", c="DELETING", d="ACTIVE")
    troubles = {"b": "not reached", "d": "not reached"}
    assert trouble_news(waiting, troubles) == [TellTrouble("b", "not reached")]
    told = replace(waiting, extra={"replica_troubles": {"b": "not reached"}})
    assert trouble_news(told, troubles) == []
    assert trouble_news(told, {"c": "refused"}) == [TellTrouble("b", ""), TellTrouble("c", "refused")]


def test_members_are_merged_and_never_lost_or_set_back() -> None:
    assert merged_members("b", {}, {"a": "ACTIVE", "b": "CREATING", "c": "CREATING"}) == {
        "a": "ACTIVE",
        "b": "CREATING",
        "c": "ACTIVE",
    }
    current = {"a": "ACTIVE", "c": "ACTIVE", "d": "CREATING"}
    merged = merged_members("c", current, {"a": "CREATING", "b": "ACTIVE", "c": "CREATING"})
    assert merged == {**current, "b": "CREATING"}
    assert merged_members("c", merged, {"a": "CREATING", "b": "ACTIVE", "c": "CREATING"}) == merged


class World:
    """Three regions' catalogs; any message may be lost, any replicator forget everything at any time."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        clock = FakeClock()
        self.regions = {name: FakeRegion(name, clock) for name in "abc"}
        self.forget_all()
        self.scanned: set[tuple[str, str]] = set()

    def forget_all(self) -> None:
        for name in self.regions:
            self.forget(name)

    def forget(self, name: str) -> None:
        if not hasattr(self, "said"):
            self.said: dict[str, dict[str, Peer]] = {}
            self.scans: dict[str, dict[str, ScanState]] = {}
            self.helps: dict[str, dict[str, str]] = {}
        self.said[name], self.scans[name], self.helps[name] = {}, {}, {}

    def step(self, faults: bool) -> None:
        own = self.rng.choice("abc")
        record = self.regions[own].catalog.tables.get("t")
        if faults and self.rng.random() < 0.1:
            self.forget(self.rng.choice("abc"))
        if record is None:
            return
        for region in list(self.scans[own]):
            if record.replicas.get(region) != "CREATING":
                del self.scans[own][region]
                self.helps[own].pop(region, None)
        if not in_transition(record, own):
            self.said[own] = {}
        actions = plan(own, record, self.said[own], self.scans[own], self.helps[own])
        self.rng.shuffle(actions)
        for action in actions[: self.rng.randrange(1, 3)]:
            lost_before, lost_after = (faults and self.rng.random() < 0.2 for _ in range(2))
            if not lost_before:
                self.act(own, record, action, heard=not lost_after)

    def act(self, own: str, record: TableRecord, action: Action, *, heard: bool) -> None:
        region = self.regions[own]
        match action:
            case StartScan(to):
                self.scanned.add((own, to))
                self.scans[own][to] = ScanState.DONE
            case MarkActive(member):
                region.control("set_replica", name="t", region=member, status="ACTIVE")
            case Drop(member):
                region.control("drop_replica", name="t", region=member)
            case Ensure(at, members):
                there = self.regions[at]
                before = dict(there.table("t").replicas) if "t" in there.catalog.tables else {}
                wanted = merged_members(at, before, dict(members))
                there.control("ensure_replica", definition=definition_of(record), members=wanted, table_id=record.id)
                if before:
                    self.helps[at].update(dict.fromkeys(wanted.keys() - before.keys(), own))
                self.hear(own, at, heard)
            case Forget(at, member):
                if "t" in self.regions[at].catalog.tables:
                    self.regions[at].control("drop_replica", name="t", region=member)
                self.hear(own, at, heard)
            case Delete(at):
                if "t" in self.regions[at].catalog.tables:
                    self.regions[at].control("delete_table", name="t", as_replica=True)
                self.hear(own, at, heard)

    def hear(self, own: str, at: str, heard: bool) -> None:
        there = self.regions[at].catalog.tables.get("t")
        if heard:
            self.said[own][at] = Peer(False) if there is None else Peer(True, there.status, there.replicas)

    def settle(self) -> None:
        for _ in range(400):
            self.step(faults=False)

    def replicas(self) -> dict[str, Any]:
        return {
            name: dict(region.table("t").replicas) if "t" in region.catalog.tables else None
            for name, region in self.regions.items()
        }


ALL = dict.fromkeys("abc", ReplicaStatus.ACTIVE.value)


@pytest.mark.parametrize("seed", range(20))
def test_adding_and_removing_replicas_converges_through_any_crash(seed: int) -> None:
    world = World(seed)
    home = world.regions["a"]
    home.create("t")
    home.control("update_table", name="t", replicas_add=["b"])
    for _ in range(world.rng.randrange(60)):
        world.step(faults=True)
    home.control("update_table", name="t", replicas_add=["c"])
    for _ in range(60):
        world.step(faults=True)
    world.settle()
    assert world.replicas() == {"a": ALL, "b": ALL, "c": ALL}
    assert {("a", "b"), ("a", "c")} <= world.scanned, "the region that was asked has shipped its rows to both"

    world.regions["c"].control("update_table", name="t", replicas_remove=["b"])
    for _ in range(60):
        world.step(faults=True)
    world.settle()
    rest = dict.fromkeys("ac", "ACTIVE")
    assert world.replicas() == {"a": rest, "b": None, "c": rest}
