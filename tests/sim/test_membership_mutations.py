"""Nodes that move replicas with one rule taken out: the scenarios must see every one of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from geodyne.catalog import PartitionRecord
from geodyne.errors import ApiError
from geodyne.sim.network import Violation
from node.catalog.moves import MovePlan
from node.groups import Groups
from node.membership import Membership
from node.raft.core import ConsensusViolation
from tests.sim import test_membership as scenes

SEEN = (Violation, ConsensusViolation, AssertionError, ApiError)
Mutation = Callable[[], AbstractContextManager[Any]]


def old_replicas_go_before_the_new_ones_vote() -> AbstractContextManager[Any]:
    """As soon as the move has begun, the catalog's word counts, whatever consensus says."""
    return patch.object(PartitionRecord, "holders", property(lambda record: record.target or record.voters))


def replicas_that_come_back_are_trusted() -> AbstractContextManager[Any]:
    """What a node gave up leaves no mark, and what it holds again counts at once."""
    real = Groups.hold

    def hold(groups: Groups, *arguments: Any, original: bool = True, **more: Any) -> None:
        real(groups, *arguments, original=True, **more)

    def give_up(groups: Groups, partition: int) -> None:
        groups._let_go(partition)
        groups._log.destroy(partition)
        groups._when_durable(lambda: groups._store.destroy(partition))

    return patch.multiple(Groups, _give_up=give_up, hold=hold)


def two_voters_in_one_zone() -> AbstractContextManager[Any]:
    real = MovePlan._wanted

    def wanted(plan: MovePlan, record: PartitionRecord, members: Any) -> tuple[str, ...]:
        chosen = real(plan, record, members)
        twins = [node for node in sorted(members) if node not in chosen and members[node].state == "ACTIVE"]
        zone = members[twins[0]].zone if twins else ""
        return (*(node for node in chosen if members[node].zone == zone), *twins[:1], *chosen)[:3] if twins else chosen

    return patch.object(MovePlan, "_wanted", wanted)


def moves_are_never_reported() -> AbstractContextManager[Any]:
    return patch.object(Membership, "_report", lambda membership, group, now_ms: None)


def nobody_is_missed() -> AbstractContextManager[Any]:
    return patch.object(Membership, "_watch_members", lambda membership, now_ms: None)


def hunt(scene: Callable[[Path], None], mutation: Mutation, path: Path) -> None:
    with mutation(), pytest.raises(SEEN):
        scene(path)


@pytest.mark.parametrize(
    ("mutation", "scene"),
    [
        (old_replicas_go_before_the_new_ones_vote, scenes.test_the_old_voter_counts_until_the_new_one_votes),
        (replicas_that_come_back_are_trusted, scenes.test_a_drain_that_is_taken_back_fills_the_node_again),
        (two_voters_in_one_zone, scenes.test_a_node_more_takes_its_share_and_no_call_fails),
        (moves_are_never_reported, scenes.test_a_node_more_takes_its_share_and_no_call_fails),
        (nobody_is_missed, scenes.test_a_dead_node_without_another_in_its_zone_keeps_its_place),
    ],
)
def test_a_rule_taken_out_is_noticed(mutation: Mutation, scene: Callable[[Path], None], tmp_path: Path) -> None:
    hunt(scene, mutation, tmp_path)
