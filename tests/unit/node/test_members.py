"""What an operator may ask of a region's nodes."""

from __future__ import annotations

from typing import Any

import pytest

from geodyne.catalog import HASH_SPACE, MemberRecord, MemberState, PartitionRecord
from geodyne.errors import ApiError
from geodyne.messages import METADATA_PARTITION
from node.catalog.machine import MOVE_BEGIN, MOVE_DONE, NODE_STATE, NODES_SEEN, Catalog, Surroundings, evaluate
from node.catalog.placement import rings_by_zone

THREE = {"a1": "a", "b1": "b", "c1": "c"}
AROUND = Surroundings("r", 1, rings_by_zone(THREE), lambda: "id", str)


class Region:
    def __init__(self, **nodes: str) -> None:
        self.catalog = Catalog()
        named = {**THREE, **nodes}
        self.do(NODES_SEEN, members=named, formats=dict.fromkeys(named, 3), voters=["a1", "b1", "c1"])

    def do(self, operation: str, **body: Any) -> dict[str, Any]:
        changes, answer = evaluate(self.catalog, operation, body, AROUND)
        if changes:
            self.catalog.apply(self.catalog.revision + 1, changes)
        return answer

    def refused(self, operation: str, **body: Any) -> str:
        revision = self.catalog.revision
        with pytest.raises(ApiError) as caught:
            self.do(operation, **body)
        assert self.catalog.revision == revision
        return caught.value.message or ""

    def state(self, node: str) -> MemberState:
        return self.catalog.members[node].state


def test_the_nodes_of_the_launch_file_become_members_once() -> None:
    region = Region()
    assert region.catalog.members["a1"] == MemberRecord("a1", "a", MemberState.ACTIVE, 3)
    assert region.catalog.metadata == PartitionRecord(METADATA_PARTITION, 1, 0, HASH_SPACE, ("a1", "b1", "c1"))
    revision = region.catalog.revision
    region.do(NODES_SEEN, members=THREE, formats={}, voters=["b1"])
    assert region.catalog.revision == revision


def test_a_catalog_is_read_back_with_its_members() -> None:
    region = Region()
    again = Catalog()
    _, records = region.catalog.since(-1)
    again.restore(5, {key: (1, record) for key, record in records if record is not None})
    assert (again.members, again.metadata) == (region.catalog.members, region.catalog.metadata)


@pytest.mark.parametrize("operation", ["node_drain", "node_activate", "node_remove"])
def test_an_unknown_node_is_refused_with_the_names_there_are(operation: str) -> None:
    assert "a1, b1, c1" in Region().refused(operation, node="x")


def test_the_last_node_of_a_zone_is_drained_by_force_only() -> None:
    region = Region()
    assert "two replicas; add a node to zone a first" in region.refused("node_drain", node="a1")
    region.do("node_drain", node="a1", force=True)
    assert region.state("a1") is MemberState.DRAINING


def test_a_second_zone_of_three_is_not_given_up_even_by_force() -> None:
    region = Region()
    region.do("node_drain", node="a1", force=True)
    assert "fewer than 2 zones" in region.refused("node_drain", node="b1", force=True)
    assert "fewer than 2 zones" in region.refused("node_remove", node="b1", force=True)


def test_one_of_two_nodes_of_a_zone_is_drained_and_a_drain_can_be_taken_back() -> None:
    region = Region(a2="a")
    answer = region.do("node_drain", node="a1")
    assert answer == {"member": {"node": "a1", "zone": "a", "state": "DRAINING", "replicas": 1, "joining": 0}}
    region.do("node_activate", node="a1")
    assert region.state("a1") is MemberState.ACTIVE


def test_a_node_is_drained_before_it_is_removed() -> None:
    region = Region(a2="a")
    assert "drain it first" in region.refused("node_remove", node="a1")
    region.do("node_drain", node="a1")
    assert "1 replicas are still on node a1" in region.refused("node_remove", node="a1")
    region.do(MOVE_BEGIN, partition=0, voters=["a1", "b1", "c1"], target=["a2", "b1", "c1"])
    region.do(MOVE_DONE, partition=0, voters=["a2", "b1", "c1"], configuration=9)
    region.do("node_remove", node="a1")
    assert region.state("a1") is MemberState.LEFT
    assert "was removed" in region.refused("node_drain", node="a1")


def test_a_dead_node_is_removed_at_once_where_its_zone_has_another() -> None:
    region = Region(a2="a")
    region.do(NODE_STATE, node="a1", expected="ACTIVE", state="DOWN")
    region.do("node_remove", node="a1")
    alone = Region()
    alone.do(NODE_STATE, node="a1", expected="ACTIVE", state="DOWN")
    assert "two replicas" in alone.refused("node_remove", node="a1")
    alone.do("node_remove", node="a1", force=True)
    assert (region.state("a1"), alone.state("a1")) == (MemberState.LEFT, MemberState.LEFT)


def test_a_dead_node_stays_while_groups_could_not_be_rebuilt_without_it_whatever_the_operator_says() -> None:
    region = Region(b2="b", c2="c")
    for node in ("b1", "c1"):
        region.do(NODE_STATE, node=node, expected="ACTIVE", state="DOWN")
    for force in (False, True):
        for node in ("b1", "c1"):
            assert "would have no majority" in region.refused("node_remove", node=node, force=force)
    region.do(NODE_STATE, node="c1", expected="DOWN", state="ACTIVE")
    region.do("node_remove", node="b1")
    assert "would have no majority" in region.refused("node_remove", node="c1", force=True), "b1 is not rebuilt yet"
    region.do(MOVE_BEGIN, partition=0, voters=["a1", "b1", "c1"], target=["a1", "b2", "c1"])
    assert "would have no majority" in region.refused("node_remove", node="c1", force=True)
    region.do(MOVE_DONE, partition=0, voters=["a1", "b2", "c1"], configuration=9)
    region.do("node_remove", node="c1", force=True)
    assert (region.state("b1"), region.state("c1")) == (MemberState.LEFT, MemberState.LEFT)


def test_a_node_that_left_is_not_taken_in_again_by_the_launch_file_and_is_by_the_operator() -> None:
    region = Region(a2="a")
    region.do(NODE_STATE, node="a2", expected="ACTIVE", state="DOWN")
    region.do("node_remove", node="a2")
    region.do(NODES_SEEN, members={"a2": "a"}, formats={"a2": 3}, voters=["a1"])
    region.do(NODE_STATE, node="a2", expected="DOWN", state="ACTIVE")
    assert region.state("a2") is MemberState.LEFT
    region.do("node_activate", node="a2")
    assert region.state("a2") is MemberState.ACTIVE


def test_the_list_of_nodes_counts_what_is_on_each_and_what_is_coming() -> None:
    region = Region(a2="a")
    region.do(MOVE_BEGIN, partition=0, voters=["a1", "b1", "c1"], target=["a2", "b1", "c1"])
    listed = region.do("node_list")
    assert listed["moves"] == 1
    counts = {one["node"]: (one["replicas"], one["joining"]) for one in listed["members"]}
    assert counts == {"a1": (1, 0), "a2": (0, 1), "b1": (1, 0), "c1": (1, 0)}


def test_a_move_of_a_partition_keeps_the_definition_of_its_table() -> None:
    region = Region(a2="a")
    definition = {"name": "T", "hash_key": "pk", "hash_type": "S"}
    region.do("create_table", definition=definition)
    before = region.catalog.tables["T"]
    moved = next(p for p in before.partitions)
    target = [{"a1": "a2"}.get(voter, voter) for voter in moved.voters]
    region.do(MOVE_BEGIN, partition=moved.id, voters=list(moved.voters), target=target)
    after = region.catalog.tables["T"]
    assert (after.revision, after.status) == (before.revision, before.status)
    assert after.partitions[0].incoming == ("a2",)
    assert after.partitions[1:] == before.partitions[1:]


def test_what_is_planned_for_a_partition_that_is_gone_does_nothing() -> None:
    region = Region()
    revision = region.catalog.revision
    region.do(MOVE_BEGIN, partition=99, voters=["a1"], target=["a2"])
    region.do(MOVE_DONE, partition=99, voters=["a1"], configuration=3)
    region.do(NODE_STATE, node="x", expected="ACTIVE", state="DOWN")
    assert region.catalog.revision == revision
